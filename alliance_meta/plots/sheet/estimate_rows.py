"""Estimates one below the other: what stands beside the panel, and the intervals in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.sheet.axis import Axis, is_correlation, value_axis
from alliance_meta.plots.sheet.chart import SIZE, Chart, Sheet, across, make_sheet, render
from alliance_meta.plots.sheet.chart_frame import EFFECT
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import FAINT, SUMMARY
from alliance_meta.plots.sheet.text import line_height, text_width, wrap
from alliance_meta.tables.format import format_count, format_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = 3.2
WIDEST_LABEL = 2.4
PITCH = 0.27
COLUMN_GAP = 0.2


def draw_rows(frame: pd.DataFrame, ax: Axes | None, xlim: tuple[float, float] | None) -> NotebookFigure | Axes:
    """Draw a frame with ``label k`` and estimates: the dot is the estimate, thick its CI, thin its PI."""
    columns = _Columns(frame)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        sheet = make_sheet(
            frame.attrs, width=width, height=height, left=columns.left, right=columns.right, least=columns.height
        )
        length = sheet.panel[1] - sheet.panel[0]
        values = frame[list(EFFECT)].to_numpy()
        return sheet, value_axis(values, measure=frame.attrs["measure"], length=length, room=across, lim=xlim), None

    def draw(chart: Chart, frame: pd.DataFrame) -> None:
        _draw(chart, frame, columns)

    return render(frame, ax, plan, draw, width=columns.left + PANEL + columns.right, height=0.0)


class _Columns:
    """Texts beside the panel, how wide they are, and how high the rows."""

    def __init__(self, frame: pd.DataFrame) -> None:
        measure = frame.attrs["measure"]
        rows = frame.to_dict("records")
        self.labels = [wrap(str(label), SIZE, WIDEST_LABEL) for label in frame["label"]]
        self.counts = [format_count(k) if k == k else "" for k in frame["k"]]
        self.estimates = [forest_text.effect_text(measure, {str(n): v for n, v in row.items()}) for row in rows]
        self.letters = frame["letters"].tolist() if "letters" in frame else [""] * len(frame)
        name = "r" if is_correlation(measure) else "Effect"
        self.header = frame.attrs.get("value_label", f"{name} [{format_level(frame.attrs['level'])} CI]")
        widest = max(
            [text_width(frame.attrs["axis_label"], SIZE)] + [_width(line) for one in self.labels for line in one]
        )
        self.counted = any(self.counts)
        count = COLUMN_GAP + max(_width(text) for text in ("k", *self.counts)) if self.counted else 0.0
        self.k_end = MARGIN + widest + count
        self.left = self.k_end + COLUMN_GAP
        self.estimate = max(_width(text) for text in (self.header, *self.estimates))
        letter = max(_width(text) for text in self.letters)
        self.right = COLUMN_GAP + self.estimate + (COLUMN_GAP + letter if letter else 0.0) + MARGIN
        self.heights = np.array([max(PITCH, len(one) * line_height(SIZE) + 0.08) for one in self.labels])
        self.height = float(self.heights.sum()) + 0.12


def _width(text: str) -> float:
    return text_width(text, SIZE)


def _draw(chart: Chart, frame: pd.DataFrame, columns: _Columns) -> None:
    axis = chart.xaxis
    assert axis is not None
    reference(chart, axis)
    start = chart.right + COLUMN_GAP
    if columns.counted:
        chart.text(columns.k_end, chart.sheet.y_title, "k", align="right")
    chart.text(start, chart.sheet.y_title, columns.header)
    room = (chart.bottom - chart.top) / columns.heights.sum()
    centres = chart.top + room * (np.cumsum(columns.heights) - columns.heights / 2)
    for i, row in enumerate(frame.to_dict("records")):
        y = float(centres[i])
        for j, line in enumerate(columns.labels[i]):
            chart.text(MARGIN, y + (j - (len(columns.labels[i]) - 1) / 2) * line_height(SIZE), line)
        if columns.counts[i]:
            chart.text(columns.k_end, y, columns.counts[i], align="right")
        chart.text(start, y, columns.estimates[i])
        if columns.letters[i]:
            chart.text(start + columns.estimate + COLUMN_GAP, y, columns.letters[i])
        _mean(chart, row, y, axis)


def reference(chart: Chart, axis: Axis) -> None:
    """Draw the line of no effect and, where the frame has one, an estimate with its interval to compare with."""
    if axis.lo <= 0 <= axis.hi:
        x = float(chart.x(0.0))
        chart.rule(x, x, chart.top, chart.bottom, colour=FAINT, zorder=1)
    if "reference" in chart.attrs:
        x, lb, ub = (float(chart.x(value)) for value in chart.attrs["reference"])
        chart.band(lb, ub, "pi")
        chart.rule(x, x, chart.top, chart.bottom, colour=SUMMARY, points=1.2, zorder=1)


def _mean(chart: Chart, row: Mapping[Any, Any], y: float, axis: Axis) -> None:
    if not math.isfinite(row["yi"]):
        return
    for low, high, points in (("pi_lb", "pi_ub", 1.0), ("ci_lb", "ci_ub", 3.2)):
        if row[low] <= axis.hi and row[high] >= axis.lo:
            x0, x1 = float(chart.x(row[low])), float(chart.x(row[high]))
            chart.rule(x0, x1, y, y, colour=SUMMARY, points=points, zorder=4)
            chart.arrows(row[low], row[high], y)
    if axis.lo <= row["yi"] <= axis.hi:
        chart.circles([float(chart.x(row["yi"]))], [y], [0.058], fill=SUMMARY, zorder=5)
