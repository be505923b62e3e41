"""The order of the rows of a forest plot."""

from __future__ import annotations

from typing import Any

from alliance_meta.notes import Note
from alliance_meta.plots.forests.cells import Order, sort_values


def sort_rows(fit: Any, order: Order) -> tuple[list[int], list[Note]]:
    """Return the positions of the studies in drawing order, and notes on rows that lack a sort value."""
    keys = [order] if isinstance(order, str) else list(order)
    positions = list(range(fit.effects.k))
    notes: list[Note] = []
    for key in reversed(keys):
        reverse = key.startswith("-") and key not in fit.effects.moderators
        name = key[1:] if reverse else key
        values = sort_values(fit, name)
        present = [i for i in positions if values[i] is not None]
        absent = [i for i in positions if values[i] is None]
        present.sort(key=lambda i: values[i], reverse=reverse)
        positions = present + absent
        if absent:
            listed = f"{len(absent)} of {len(positions)} studies have"
            notes.insert(0, Note("forest-order", f"{listed} no {name!r} and are listed last."))
    return positions, notes
