"""Densities over one axis: the plan of their sheet, and the curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import STROKES, Chart, Sheet, across, left_margin, make_sheet, render, upright
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.tables.format import format_interval, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = 321


def draw_densities(
    frame: pd.DataFrame,
    ax: Axes | None,
    draw: Callable[[Chart, pd.DataFrame], None],
    *,
    width: float,
    height: float,
    top: float | None = None,
    lim: tuple[float, float] | None = None,
) -> NotebookFigure | Axes:
    """Lay out a frame with ``x density`` and draw it; `top` is the highest density that must fit."""
    highest = float(frame["density"].max()) if top is None else top

    def plan(wide: float, high: float) -> tuple[Sheet, Axis | None, Axis | None]:
        first = make_sheet(frame.attrs, width=wide, height=high, left=MARGIN)
        length = first.panel[3] - first.panel[2]
        yaxis = value_axis([0.0, highest], measure="GEN", length=length, room=upright, zero=False, floor=0.0)
        sheet = make_sheet(frame.attrs, width=wide, height=high, left=left_margin(yaxis))
        length = sheet.panel[1] - sheet.panel[0]
        measure = frame.attrs["measure"]
        shown = frame.loc[~frame["kind"].isin(["quantile"]), "x"]
        xaxis = value_axis(shown, measure=measure, length=length, room=across, zero=lim is None, lim=lim)
        return sheet, xaxis, yaxis

    return render(frame, ax, plan, draw, width=width, height=height)


def stroke(chart: Chart, x: Array, density: Array, mark: str) -> None:
    """Draw a density as the key shows it; where it leaves the panel the line stops at the edge."""
    assert chart.xaxis is not None
    assert chart.yaxis is not None
    colour, points, style = STROKES[mark]
    inside = (density <= chart.yaxis.hi) & (x >= chart.xaxis.lo) & (x <= chart.xaxis.hi)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    for start, stop in zip(ends[::2], ends[1::2], strict=True):
        # One step beyond the edge, which is where the line is clipped.
        part = slice(max(start - 1, 0), stop + 1)
        if stop - start > 1:
            chart.curve(chart.x(x[part]), chart.y(density[part]), colour=colour, points=points, style=style)


def words(values: list[float], *, correlation: bool) -> str:
    """Return ``.33``, or ``[-.33, .33]`` of two values; small numbers have more decimals, large ones none."""
    largest = max(abs(value) for value in values)
    digits = 0 if largest >= 100 and not correlation else 2 if correlation or largest >= 0.095 else 3
    if len(values) == 1:
        return format_number(values[0], digits, leading_zero=not correlation)
    return format_interval(values[0], values[1], digits, leading_zero=not correlation)


# Above this many points a swarm takes long and would not fit.
MOST_SWARM = 250
GAP = 0.006


def swarm(y: Array, radii: Array, *, half: float) -> Array:
    """Return sideways offsets, all within `half` of 0, at which the points of one column stand.

    As a bee swarm, in which no two points overlap; where that would be too wide, in the width of their density.
    """
    if len(y) <= MOST_SWARM:
        offsets = _bees(y, radii)
        if not len(y) or (np.abs(offsets) + radii).max() <= half:
            return offsets
    return _by_density(y, half=half - float(radii.max()))


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
