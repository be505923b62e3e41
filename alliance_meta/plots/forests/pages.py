"""What one page of a forest shows, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alliance_meta.plots.forests.parts import effect_text, records
from alliance_meta.plots.sheet.measure import is_correlation
from alliance_meta.tables.format import format_number

if TYPE_CHECKING:
    import pandas as pd

# Rows of what was found; groups and summaries speak of these.
FOUND = ("study", "effect")


def page_said(frame: pd.DataFrame, rows: Sequence[int], number: tuple[int, int]) -> str:
    """Return the text alternative of one page: that of the whole plot, and what is on this page."""
    measure = str(frame.attrs["measure"])
    own = [row for row in records(frame.iloc[list(rows)]) if row["kind"] in FOUND]
    said = f"{frame.attrs['description']} Page {number[0]} of {number[1]}"
    if not own:
        return f"{said}: summaries."
    first, last = (f"{_named(row)} {row['text'] or effect_text(measure, row)}" for row in (own[0], own[-1]))
    correlation = is_correlation(measure)
    values = [one for row in own if math.isfinite(one := row["r" if correlation else "yi"])]
    ends = [format_number(end, leading_zero=not correlation) for end in (min(values), max(values))] if values else []
    between = f" between {' and '.join(ends)}" if ends else ""
    return f"{said}: {len(own)} results{between}, from {first} to {last}."


def _named(row: dict[str, Any]) -> str:
    """Return the label of a result, with its study before that of one of several."""
    return f"{row['group']}, {row['label']}" if row["kind"] == "effect" and row["group"] else str(row["label"])
