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
