"""Bubble plots of a meta-regression: effects against one moderator, with the fitted line or means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.plots.bubble_rows import bubble_data
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.forests.pages import TICK
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import (
    CI_BAND,
    DASHED,
    PI_BAND,
    POINT,
    SIZE,
    SMALL,
    Chart,
    Sheet,
    across,
    left_margin,
    make_sheet,
    render,
    upright,
)
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, with_beyond
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import FAINT, SUMMARY
from alliance_meta.plots.sheet.swarm import swarm
from alliance_meta.plots.sheet.text import line_height, text_width, wrap
from alliance_meta.tables.format import format_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 6.5, 4.6
# The panel of a figure of our own; the figure grows where long labels would make it lower.
LOWEST = 2.6
SMALLEST, LARGEST = 0.028, 0.13
COLUMN = 0.95
MEAN_SHARE = 0.36
SWARM_SHARE = 0.4


def bubble(
    fit_or_frame: Any,
    by: str | None = None,
    *,
    ax: Axes | None = None,
    ylim: tuple[float, float] | None = None,
    **data: Any,
) -> NotebookFigure | Axes:
    """Draw effects against one moderator of a meta-regression, with what the model says of it.

    The larger a bubble, the more that effect weighs. For a numeric moderator the line is the mean effect that the
    model expects, the inner band its confidence interval, the outer band the prediction interval: where the true
    effect of one new study lies. For a categorical one each level has its column, with the mean beside it.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults or DataFrame
        A fitted meta-regression, or a frame from `bubble_data`.
    by : str, optional
        The moderator on the horizontal axis; with a frame it is known.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 6.5 x 4.6 inches, wider for many levels.
    ylim : (float, float), optional
        Limits of the effects as their labels read; by default as far as |r| = .95.
    **data
        Passed to `bubble_data` when a fitted model is given: ``at``, ``level``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        An unknown moderator, or an `ax` that is too small.

    Notes
    -----
    The line is drawn for given values of the other moderators, which the lines under the plot name, and never
    beyond the values that effects have.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="meanage").fit()
    >>> figure = plots.bubble(fit, "meanage")
    >>> figure.plot_description
    'Bubble plot of 16 effects against meanage. The fitted mean goes from .22 [.07, .36] at 22 to .09 ...'
    """
    if by is not None:
        data = {"by": by, **data}
    frame = as_frame(fit_or_frame, "bubble", bubble_data, data)
    columns = bool(frame.attrs["levels"])
    width = max(WIDTH, MARGIN + 0.8 + _least_column(frame) * len(frame.attrs["levels"])) if columns else WIDTH

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        return (_plan_columns if columns else plan_line)(frame, width, height, ylim, LOWEST if ax is None else None)

    return render(frame, ax, plan, _draw_columns if columns else draw_line, width=width, height=HEIGHT)


def _effects_axis(frame: pd.DataFrame, sheet: Sheet, ylim: tuple[float, float] | None) -> Axis:
    means = frame.loc[frame["kind"] != "study", list(EFFECT)].to_numpy().ravel()
    length = sheet.panel[3] - sheet.panel[2]
    values = np.concatenate([means, _roomy(frame.loc[frame["kind"] == "study", "yi"].to_numpy(), length)])
    return value_axis(values, measure=frame.attrs["measure"], length=length, room=upright, lim=ylim)


def _roomy(values: Array, length: float) -> Array:
    """Return the ends of the values with room for a bubble at each."""
    room = float(np.ptp(values)) * LARGEST / max(length - 2 * LARGEST, LARGEST)
    return np.array([values.min() - room, values.max() + room])


def plan_line(
    frame: pd.DataFrame, width: float, height: float, ylim: tuple[float, float] | None, least: float | None
) -> tuple[Sheet, Axis | None, Axis | None]:
    """Lay out effects against a numeric moderator."""
    sheet, yaxis = _sheet(frame, width, height, ylim, least, 1)
    x = frame.loc[frame["kind"] == "study", "x"].to_numpy()
    length = sheet.panel[1] - sheet.panel[0]
    whole = bool(frame.attrs["whole"] and np.ptp(x) >= 3)
    xaxis = value_axis(_roomy(x, length), measure="GEN", length=length, room=across, zero=False, whole=whole)
    return sheet, xaxis, yaxis


def _plan_columns(
    frame: pd.DataFrame, width: float, height: float, ylim: tuple[float, float] | None, least: float | None
) -> tuple[Sheet, Axis | None, Axis | None]:
    first, _ = _sheet(frame, width, height, ylim, least, 2)
    lines = max(len(cell) for cell in _labels(frame, first)) + 1
    sheet, yaxis = _sheet(frame, width, height, ylim, least, lines)
    return sheet, None, yaxis


def _sheet(
    frame: pd.DataFrame, width: float, height: float, ylim: tuple[float, float] | None, least: float | None, lines: int
) -> tuple[Sheet, Axis]:
    """Lay out twice: the lines under the plot and the left margin depend on the axis of effects."""

    def sheet(attrs: Mapping[Any, Any], left: float) -> Sheet:
        return make_sheet(attrs, width=width, height=height, left=left, tick_lines=lines, least=least)

    attrs = with_beyond(frame, _effects_axis(frame, sheet(frame.attrs, MARGIN), ylim))
    yaxis = _effects_axis(frame, sheet(attrs, MARGIN), ylim)
    return sheet(attrs, left_margin(yaxis)), yaxis


def _least_column(frame: pd.DataFrame) -> float:
    words = [word for level in frame.attrs["levels"] for word in level.split()]
    return max([COLUMN, *(text_width(word, SMALL) + 0.15 for word in words)])


def _labels(frame: pd.DataFrame, sheet: Sheet) -> list[tuple[str, ...]]:
    room = (sheet.panel[1] - sheet.panel[0]) / len(frame.attrs["levels"]) - 0.1
    return [wrap(level, SMALL, room) for level in frame.attrs["levels"]]


def _radii(studies: pd.DataFrame) -> Array:
    """Return radii whose squares stand for the weights, none too small to see."""
    weight = studies["weight"].to_numpy()
    largest = max(SMALLEST + 0.012, min(LARGEST, 0.55 / math.sqrt(len(weight)) + 0.035))
    return np.maximum(SMALLEST, largest * np.sqrt(weight / weight.max()))


def _bubbles(chart: Chart, studies: pd.DataFrame, x: Array, radii: Array) -> None:
    order = np.argsort(-radii, kind="stable")
    y = chart.y(studies["yi"].to_numpy())
    alpha = 0.75 if len(studies) <= 60 else 0.6 if len(studies) <= 300 else 0.3
    chart.circles(x[order], y[order], radii[order], fill=POINT, alpha=alpha, zorder=3)


def _no_effect(chart: Chart) -> None:
    assert chart.yaxis is not None
    if chart.yaxis.lo <= 0 <= chart.yaxis.hi:
        y = float(chart.y(0.0))
        chart.rule(chart.left, chart.right, y, y, colour=FAINT, zorder=1)


def draw_line(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the bubbles, the line of means and its bands."""
    _no_effect(chart)
    studies, line = frame[frame["kind"] == "study"], frame[frame["kind"] == "line"]
    x, y = chart.x(line["x"].to_numpy()), {name: chart.y(line[name].to_numpy()) for name in EFFECT}
    there = np.isfinite(line["yi"].to_numpy())
    for low, high, fill in (("pi_lb", "pi_ub", PI_BAND), ("ci_lb", "ci_ub", CI_BAND)):
        usable = there & np.isfinite(line[low].to_numpy())
        if usable.any():
            chart.area(x[usable], y[low][usable], y[high][usable], fill)
    _bubbles(chart, studies, chart.x(studies["x"].to_numpy()), _radii(studies))
    inside = line["inside"].to_numpy() > 0
    for mask, style in ((there & inside, "solid"), (there & ~inside, DASHED)):
        for run in _runs(mask):
            chart.curve(x[run], y["yi"][run], points=1.6, style=style)


def _runs(mask: Any) -> list[slice]:
    """Return the unbroken stretches of a mask, each reaching to the point where the next begins."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [slice(int(a), min(int(b) + 1, len(mask))) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _draw_columns(chart: Chart, frame: pd.DataFrame) -> None:
    _no_effect(chart)
    studies, levels = frame[frame["kind"] == "study"], frame[frame["kind"] == "level"]
    pitch = (chart.right - chart.left) / len(levels)
    radii = _radii(studies)
    x = np.zeros(len(studies))
    for i in range(len(levels)):
        rows = np.flatnonzero(studies["x"].to_numpy() == i)
        offsets = swarm(chart.y(studies["yi"].to_numpy()[rows]), radii[rows], half=SWARM_SHARE * pitch)
        x[rows] = chart.left + (i + 0.44) * pitch + offsets
    _bubbles(chart, studies, x, radii)
    labels = _labels(frame, chart.sheet)
    for i, row in enumerate(levels.to_dict("records")):
        centre = chart.left + (i + 0.5) * pitch
        _mean(chart, row, chart.left + (i + 0.5 + MEAN_SHARE + 0.06) * pitch)
        base = chart.bottom + TICK + 0.75 * line_height(SIZE)
        texts = [*labels[i], f"k = {format_count(row['k'])}"]
        for j, text in enumerate(texts):
            chart.text(centre, base + j * line_height(SIZE), text, align="center", size=SMALL)


def _mean(chart: Chart, row: dict[Any, Any], x: float) -> None:
    """Draw a mean with its thick confidence and thin prediction interval; hollow where no effect supports it."""
    if not math.isfinite(row["yi"]):
        return
    for low, high, points in (("pi_lb", "pi_ub", 1.0), ("ci_lb", "ci_ub", 3.2)):
        if math.isfinite(row[low]) and math.isfinite(row[high]):
            y0, y1 = float(chart.y(row[low])), float(chart.y(row[high]))
            chart.rule(x, x, y0, y1, colour=SUMMARY, points=points, zorder=4)
            chart.arrows(row[low], row[high], x)
    fill = SUMMARY if row["inside"] else "white"
    chart.circles([x], [float(chart.y(row["yi"]))], [0.058], fill=fill, edge="white" if row["inside"] else SUMMARY,
                  zorder=5)  # fmt: skip
