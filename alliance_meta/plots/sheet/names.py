"""Names beside points, as many as have room."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.plots.sheet.chart import GROUND, SMALL, Chart
from alliance_meta.plots.sheet.measure import line_height, text_width
from alliance_meta.tables.document import shortened

if TYPE_CHECKING:
    import pandas as pd

# A name is cut only where the whole has no room.
MOST_NAMED, LONGEST = 15, (50, 30)
GAP, DOT = 0.06, 0.03


def looks(n: int) -> dict[str, Any]:
    """Return how points are drawn, the smaller and paler the more there are."""
    diameter = float(np.clip(26.0 / math.sqrt(max(n, 1)) + 1.6, 2.0, 5.8))
    return {"s": diameter**2, "alpha": 0.85 if n <= 60 else 0.6 if n <= 400 else 0.35, "zorder": 5}


def name_points(chart: Chart, rows: pd.DataFrame, size: Any, many: pd.DataFrame) -> None:
    """Write labels beside the points (`x`, `y`) of `rows`, those of the largest `size` first.

    A name that would cover a point of `many`, another name or the edge of the panel takes another side or none.
    """
    width, height = chart.panel_size()
    (left, right), (low, high) = chart.ax.get_xlim(), chart.ax.get_ylim()

    def inches(x: Any, y: Any) -> Array:
        return np.column_stack([(x - left) / (right - left) * width, (y - low) / (high - low) * height])

    points = inches(many["x"].to_numpy(), many["y"].to_numpy())
    at = inches(rows["x"].to_numpy(), rows["y"].to_numpy())
    taken: list[tuple[float, float, float, float]] = []
    for i in np.argsort(-np.asarray(size), kind="stable")[:MOST_NAMED]:
        name, tall = str(rows["label"].iloc[i]), line_height(SMALL)
        sides = ((GAP, 0, "left"), (-GAP, 0, "right"), (0, GAP + tall / 2, "center"), (0, -GAP - tall / 2, "center"),
                 (GAP, tall / 2, "left"), (GAP, -tall / 2, "left"), (-GAP, tall / 2, "right"),
                 (-GAP, -tall / 2, "right"))  # fmt: skip
        for text, (dx, dy, ha) in product(dict.fromkeys(shortened(name, most) for most in LONGEST), sides):
            wide = text_width(text, SMALL) + 0.04
            x0 = at[i, 0] + dx - {"left": 0.0, "right": wide, "center": wide / 2}[ha]
            box = (x0, x0 + wide, at[i, 1] + dy - tall / 2, at[i, 1] + dy + tall / 2)
            if box[0] < 0 or box[1] > width or box[2] < 0 or box[3] > height or _covers(box, taken, points):
                continue
            taken.append(box)
            x, y = float(rows["x"].iloc[i]), float(rows["y"].iloc[i])
            base = chart.moved(dx, dy, chart.ax.transData)
            chart.words(x, y, text, base, ha=ha, va="center", fontsize=SMALL, clip_on=True, zorder=6, bbox=GROUND)
            break


def _covers(box: tuple[float, ...], taken: list[tuple[float, float, float, float]], points: Array) -> bool:
    x0, x1, y0, y1 = box
    if any(x0 < b1 and b0 < x1 and y0 < c1 and c0 < y1 for b0, b1, c0, c1 in taken):
        return True
    x, y = points.T
    inside = (x > x0 - DOT) & (x < x1 + DOT) & (y > y0 - DOT) & (y < y1 + DOT)
    return bool(inside.any())
