"""Where points stand in a swarm, names beside them, and steps on an axis."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.plots.sheet.chart import GROUND, SMALL, Chart
from alliance_meta.plots.sheet.measure import line_height, text_width
from alliance_meta.tables.document import shortened

# A name is cut only where the whole has no room.
MOST_NAMED, LONGEST = 15, (50, 30)
NEAR, DOT = 0.06, 0.03


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
        sides = ((NEAR, 0, "left"), (-NEAR, 0, "right"), (0, NEAR + tall / 2, "center"),
                 (0, -NEAR - tall / 2, "center"), (NEAR, tall / 2, "left"), (NEAR, -tall / 2, "left"),
                 (-NEAR, tall / 2, "right"), (-NEAR, -tall / 2, "right"))  # fmt: skip
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


# Above this many points a swarm takes long and would not fit.
MOST_SWARM = 250
GAP = 0.006
SMALLEST, LARGEST = 0.028, 0.13


def radii_of(weight: Array) -> Array:
    """Return radii in inches whose squares stand for the weights, none too small to see."""
    largest = max(SMALLEST + 0.012, min(LARGEST, 0.55 / math.sqrt(len(weight)) + 0.035))
    return np.maximum(SMALLEST, largest * np.sqrt(weight / weight.max()))


def see_through(k: int) -> float:
    """Return how opaque so many points are drawn."""
    return 0.75 if k <= 60 else 0.6 if k <= 300 else 0.3


def swarm(y: Array, radii: Array, *, half: float) -> Array:
    """Return sideways offsets, all within `half` of 0, at which the points of one column stand.

    As a bee swarm, in which no two points overlap; where that would be too wide, in the width of their density.
    """
    offsets = without_overlap(y, radii, half=half)
    return _by_density(y, half=half - float(radii.max())) if offsets is None else offsets


def without_overlap(y: Array, radii: Array, *, half: float) -> Array | None:
    """Return offsets at which no two points overlap, or None where these would not be within `half` of 0."""
    if len(y) > MOST_SWARM:
        return None
    offsets = _bees(y, radii)
    return offsets if not len(y) or (np.abs(offsets) + radii).max() <= half else None


def _bees(y: Array, radii: Array) -> Array:
    """Place points in order of size, each as near to the middle as those already placed allow."""
    offsets = np.zeros(len(y))
    placed: list[int] = []
    for i in np.lexsort((y, -radii)):
        others = np.array(placed, dtype=int)
        reach = radii[i] + radii[others] + GAP
        gap = np.abs(y[i] - y[others])
        near = others[gap < reach]
        reach, gap = reach[gap < reach], gap[gap < reach]
        side = np.sqrt(reach**2 - gap**2)
        places = np.concatenate([[0.0], offsets[near] + side, offsets[near] - side])
        free = (np.abs(places[:, None] - offsets[near]) >= side - 1e-12).all(axis=1)
        usable = places[free]
        offsets[i] = usable[np.lexsort((usable, np.round(np.abs(usable), 9)))[0]]
        placed.append(int(i))
    return offsets


def _by_density(y: Array, *, half: float) -> Array:
    """Spread points by the van der Corput sequence over the width of a kernel estimate of their density."""
    n = len(y)
    order = np.argsort(y, kind="stable")
    spread = max(float(np.ptp(y)), 1e-9)
    edges = np.linspace(y.min() - 0.1 * spread, y.max() + 0.1 * spread, 65)
    counts = np.histogram(y, bins=edges)[0].astype(float)
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.5) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    density = np.interp(y[order], 0.5 * (edges[1:] + edges[:-1]), smooth)
    sequence = np.zeros(n)
    index, base = np.arange(1, n + 1), 0.5
    while index.any():
        sequence += base * (index % 2)
        index, base = index // 2, base / 2
    offsets = np.zeros(n)
    offsets[order] = (2.0 * sequence - 1.0) * max(half, 0.0) * density / density.max()
    return offsets


def rising_numbers(at: pd.Series[Any]) -> Array | None:
    """Return what the steps are ordered by where these are rising numbers, each once."""
    if not pd.api.types.is_numeric_dtype(at) or pd.api.types.is_bool_dtype(at):
        return None
    values = at.to_numpy(dtype=float)
    return values if (np.diff(values) > 0).all() else None


def step_axis(chart: Chart, x: Array, *, whole: bool) -> None:
    """Scale the horizontal axis for steps."""
    chart.numbers("x", [x.min() - _margin(x), x.max() + _margin(x)], whole=whole)
    if len(x) == 1:
        chart.ax.set_xticks(x)


def held_steps(steps: pd.DataFrame) -> tuple[Array, dict[str, Array]]:
    """Return where each step begins, the last holding a little longer, and the numbers that hold from there on."""
    x = steps["x"].to_numpy()
    numbers = steps.select_dtypes("number")
    held = {str(name): np.append(numbers[name], numbers[name].iloc[-1]) for name in numbers}
    return np.append(x, x[-1] + _margin(x)), held


def _margin(x: Array) -> float:
    """Return how far the last step is drawn on: a little, but no longer than steps usually are."""
    usual = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    return min(max(0.04 * float(np.ptp(x)), 0.5 * usual), usual)
