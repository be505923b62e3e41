"""The forest of very many effects: a page of its own, as a table that draws each interval in its row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from alliance_meta.reporting.html import environment, style
from alliance_meta.tables.format import format_count, format_interval, format_weight

# A forest of more rows stands in its supplement; the pages show the caterpillar.
MOST_IN_FOREST = 500
# Sizes of the drawing in one row.
WIDTH, HEIGHT, TICK_SPACE, MOST_SQUARE, LEAST_SQUARE = 260, 14, 45, 9, 2


def is_large(rows: int) -> bool:
    """Return whether a forest has too many rows for the pages of a report."""
    return rows > MOST_IN_FOREST


def render_supplement(figure: Mapping[str, Any]) -> str:
    """Return the page of a figure's forest."""
    from alliance_meta.plots import frame_from_dict
    from alliance_meta.plots.forests.text import effect_text
    from alliance_meta.plots.sheet.axis import BOUNDS, SHOWN_KINDS, value_axis

    frame = frame_from_dict(figure["supplement"])
    meta = frame.attrs
    shown = frame.loc[frame["kind"].isin(SHOWN_KINDS), list(BOUNDS)].to_numpy(dtype=float)
    axis = value_axis(shown, measure=meta["measure"], length=WIDTH, room=lambda _: TICK_SPACE)
    heaviest = float(frame["weight"].max())

    def at(value: float) -> float:
        return round(WIDTH * min(max(axis.share(value), 0.0), 1.0), 1)

    def row(one: Mapping[Any, Any]) -> dict[str, Any]:
        predicted = one["kind"] == "prediction"
        ends = ("pi_lb", "pi_ub") if predicted else ("ci_lb", "ci_ub")
        text = effect_text(meta["measure"], one)
        if predicted:
            names = ("r_pi_lb", "r_pi_ub") if math.isfinite(one["r_pi_lb"]) else ends
            text = format_interval(*(one[name] for name in names), leading_zero=names == ends)
        drawn = all(math.isfinite(one[name]) for name in ends)
        share = math.sqrt(one["weight"] / heaviest) if one["weight"] > 0 and heaviest > 0 else 0.0
        return {
            "kind": one["kind"],
            "label": one["label"],
            "cells": [one[column["key"]] for column in meta["columns"]],
            "n": format_count(one["ni"]) if math.isfinite(one["ni"]) else "",
            "line": [at(one[name]) for name in ends] if drawn else None,
            "middle": at(one["yi"]) if drawn and not predicted else None,
            "side": round(LEAST_SQUARE + (MOST_SQUARE - LEAST_SQUARE) * share, 1),
            "text": text if drawn else "",
            "weight": format_weight(one["weight"]) if math.isfinite(one["weight"]) else "",
        }

    return (
        environment()
        .get_template("supplement.html.j2")
        .render(
            meta=meta,
            rows=[row(one) for one in frame[frame["kind"] != "blank"].to_dict("records")],
            ticks=[(at(value), label) for value, label in axis.ticks],
            zero=at(0.0),
            width=WIDTH,
            height=HEIGHT,
            css=style(),
        )
    )
