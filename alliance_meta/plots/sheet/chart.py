"""Plots with two axes: where things stand on the sheet, and the pen that draws them there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta.errors import InputError
from alliance_meta.plots.forests.layout import AIRY, MARGIN, NORMAL
from alliance_meta.plots.forests.pages import TICK, small_print
from alliance_meta.plots.sheet.axis import Axis
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import GREY, INK, PREDICTION, SUMMARY, Pen, set_inches, size_in_inches
from alliance_meta.plots.sheet.text import POINTS_PER_INCH, line_height, text_width
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SIZE, SMALL = AIRY.size, NORMAL.size
LEAST_PANEL = (1.8, 1.4)
GAP = 0.08
TICK_GAP = 0.16
SWATCH = 0.3
KEY_GAP = 0.22
KEY_PITCH = 1.25 * line_height(SMALL)
CI_BAND, PI_BAND = "#b9cde2", "#e6eef6"
DASHED = (0, (4, 2.5))
DOTTED = (0, (1, 1.8))
POINT = "#3f6c9e"
POINT_EDGE = "#23405f"

# Colour, width in points and pattern of a line, by the name that it has in a key.
STROKES: dict[str, tuple[str, float, Any]] = {
    "line": (SUMMARY, 1.4, "solid"),
    "dashed": (SUMMARY, 1.2, DASHED),
    "dotted": (INK, 0.9, DOTTED),
    "thick": (SUMMARY, 3.2, "solid"),
    "thin": (SUMMARY, 1.0, "solid"),
    "hair": (GREY, 0.8, "solid"),
    "pale": (PREDICTION, 2.0, "solid"),
    "pale dashed": (PREDICTION, 1.4, DASHED),
}

KeyItem = tuple[str, str]
Corners = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Heights and widths in inches from the top left corner; `panel` is left, right, top, bottom."""

    width: float
    height: float
    panel: tuple[float, float, float, float]
    banner: float | None
    key: tuple[tuple[KeyItem, float, float], ...]
    y_title: float
    x_title: float
    small: tuple[tuple[str, float, float], ...]


def across(label: str) -> float:
    """Return the length that a label takes on a horizontal axis."""
    return text_width(label, SIZE) + TICK_GAP


def upright(_: str) -> float:
    """Return the length that any label takes on a vertical axis."""
    return 1.8 * line_height(SIZE)


def make_sheet(
    attrs: Mapping[Any, Any],
    *,
    width: float,
    height: float,
    left: float,
    right: float = 2 * MARGIN,
    tick_lines: int = 1,
    least: float | None = None,
) -> Sheet:
    """Place everything on a sheet; it grows taller where the panel would be lower than `least` inches."""
    y = MARGIN
    banner = None
    if attrs["synthetic"]:
        banner = y + 0.5 * line_height(SIZE)
        y += 1.7 * line_height(SIZE)
    key, y = _place_key(attrs["key"], width, y)
    y_title = y + 0.5 * line_height(SIZE)
    top = y + (1.4 * line_height(SIZE) if attrs["axis_label"] else 0.0)
    lines, end = small_print(attrs, width=width - 2 * MARGIN, size=SMALL, y=0.0)
    axis = TICK + (tick_lines + (1.35 if attrs["x_label"] else 0.35)) * line_height(SIZE)
    below = axis + (end + 0.15 * line_height(SIZE) if lines else 0.0) + MARGIN / 2
    bottom = max(height - below, top + (LEAST_PANEL[1] if least is None else least))
    x_title = bottom + TICK + (tick_lines + 0.85) * line_height(SIZE)
    start = bottom + axis + 0.15 * line_height(SIZE)
    return Sheet(
        width=width,
        height=bottom + below,
        panel=(left, width - right, top, bottom),
        banner=banner,
        key=key,
        y_title=y_title,
        x_title=x_title,
        small=tuple((line, size, start + at) for line, size, at in lines),
    )


def _place_key(items: Sequence[Sequence[str]], width: float, y: float) -> tuple[tuple[Any, ...], float]:
    """Set the entries of the key side by side, on as many lines as they need."""
    placed = []
    x, line = MARGIN, 0
    for mark, text in items:
        wide = SWATCH + GAP + text_width(text, SMALL)
        if x > MARGIN and x + wide > width - MARGIN:
            x, line = MARGIN, line + 1
        placed.append(((mark, text), x, y + (line + 0.5) * KEY_PITCH))
        x += wide + KEY_GAP
    return tuple(placed), y + ((line + 1) * KEY_PITCH + 0.25 * line_height(SMALL) if placed else 0.0)


def left_margin(axis: Axis) -> float:
    """Return the room that the labels of a vertical axis take."""
    widest = max((text_width(label, SIZE) for _, label in axis.ticks), default=0.0)
    return MARGIN + widest + TICK + GAP


def room(ax: Axes | None, width: float, height: float) -> tuple[float, float]:
    """Return the size to lay out for: that of `ax` where one is given."""
    return (width, height) if ax is None else size_in_inches(ax)


class Chart(Pen):
    """A pen that knows the axes: places on the analysis scales are given, inches are drawn."""

    def __init__(
        self, ax: Axes, attrs: Mapping[Any, Any], sheet: Sheet, xaxis: Axis | None, yaxis: Axis | None
    ) -> None:
        super().__init__(ax, SIZE)
        self.attrs, self.sheet, self.xaxis, self.yaxis = attrs, sheet, xaxis, yaxis
        self.left, self.right, self.top, self.bottom = sheet.panel

    def x(self, value: Any) -> Any:
        """Return the place of a value, or of an array of them, kept inside the panel."""
        assert self.xaxis is not None
        return self.left + np.clip(self.xaxis.share(value), 0.0, 1.0) * (self.right - self.left)

    def y(self, value: Any) -> Any:
        """Return the height of a value, or of an array of them, kept inside the panel."""
        assert self.yaxis is not None
        return self.bottom - np.clip(self.yaxis.share(value), 0.0, 1.0) * (self.bottom - self.top)

    def surround(self) -> None:
        """Write banner, key, axes and the lines under the plot."""
        if self.sheet.banner is not None:
            self.banner(self.sheet.banner)
        for (mark, text), x, y in self.sheet.key:
            self.swatch(mark, x, y)
            self.text(x + SWATCH + GAP, y, text, size=SMALL)
        if self.attrs["axis_label"]:
            self.text(MARGIN, self.sheet.y_title, self.attrs["axis_label"])
        if self.xaxis is not None or self.yaxis is not None:
            self.scales()
        if self.attrs["x_label"]:
            half = text_width(self.attrs["x_label"], SIZE) / 2
            centre = min(max((self.left + self.right) / 2, MARGIN + half), self.sheet.width - MARGIN - half)
            self.text(centre, self.sheet.x_title, self.attrs["x_label"], align="center")
        for line, size, y in self.sheet.small:
            self.text(MARGIN, y, line, size=size)

    def scales(self) -> None:
        """Draw the axes of the panel with their ticks."""
        self.rule(self.left, self.right, self.bottom, self.bottom)
        if self.xaxis is not None:
            for position, label in self.xaxis.ticks:
                x = float(self.x(position))
                self.rule(x, x, self.bottom, self.bottom + TICK)
                self.text(x, self.bottom + TICK + 0.75 * line_height(SIZE), label, align="center")
        if self.yaxis is not None:
            self.rule(self.left, self.left, self.top, self.bottom)
            for position, label in self.yaxis.ticks:
                y = float(self.y(position))
                self.rule(self.left - TICK, self.left, y, y)
                self.text(self.left - TICK - 0.6 * GAP, y, label, align="right")

    def swatch(self, mark: str, x: float, y: float) -> None:
        """Draw what an entry of the key stands for."""
        x1, middle = x + SWATCH, x + SWATCH / 2
        if mark in ("ci", "pi", "bar", "tail"):
            fill = {"ci": CI_BAND, "pi": PI_BAND, "bar": CI_BAND, "tail": POINT}[mark]
            self.box(x, x1, y - 0.045, y + 0.045, fill, edge=GREY if mark == "pi" else "none")
        elif mark in ("dot", "bubble"):
            self.circles([middle], [y], [0.035 if mark == "dot" else 0.05], fill=POINT)
        elif mark == "ring":
            self.circles([middle], [y], [0.05], fill="white", edge=POINT)
        else:
            colour, points, style = STROKES[mark]
            self.rule(x, x1, y, y, colour=colour, points=points, style=style, zorder=4)

    def box(self, x0: float, x1: float, y0: float, y1: float, fill: str, *, edge: str = "none") -> None:
        """Fill a rectangle, behind lines and points."""
        from matplotlib.patches import Rectangle

        self.ax.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=fill, edgecolor=edge, linewidth=0.5, zorder=0.5,
                      clip_on=False)
        )  # fmt: skip

    def band(self, x0: float, x1: float, mark: str) -> None:
        """Fill a band over the whole height of the panel in the colour of the key's entry."""
        self.box(x0, x1, self.top, self.bottom, {"ci": CI_BAND, "pi": PI_BAND}[mark])

    def arrows(self, lb: float, ub: float, at: float) -> None:
        """Draw an arrow at each end of the effects' axis that an interval leaves; `at` is its place on the other."""
        axis = self.yaxis if self.yaxis is not None else self.xaxis
        assert axis is not None
        for gone, side in ((lb < axis.lo, -1), (ub > axis.hi, 1)):
            if gone and self.yaxis is not None:
                tip = self.top - 0.02 if side > 0 else self.bottom + 0.02
                self.polygon([(at, tip), (at - 0.045, tip + side * 0.09), (at + 0.045, tip + side * 0.09)], SUMMARY)
            elif gone:
                tip = self.right + 0.02 if side > 0 else self.left - 0.02
                self.polygon([(tip, at), (tip - side * 0.09, at - 0.045), (tip - side * 0.09, at + 0.045)], SUMMARY)

    def area(self, x: Any, lower: Any, upper: Any, fill: str) -> None:
        """Fill between two curves, given in inches."""
        from matplotlib.patches import Polygon

        corners = np.concatenate([np.column_stack([x, lower]), np.column_stack([x, upper])[::-1]])
        self.ax.add_patch(Polygon(corners, closed=True, facecolor=fill, edgecolor="none", zorder=0.6, clip_on=False))

    def curve(
        self, x: Any, y: Any, *, colour: str = SUMMARY, points: float = 1.4, style: Any = "solid", zorder: float = 4.0
    ) -> None:
        """Draw a line through places given in inches."""
        from matplotlib.lines import Line2D

        self.ax.add_line(
            Line2D(x, y, color=colour, linewidth=points, linestyle=style, zorder=zorder, clip_on=False, marker="None",
                   solid_joinstyle="round", dash_capstyle="butt", solid_capstyle="butt")
        )  # fmt: skip

    def circles(
        self, x: Any, y: Any, radius: Any, *, fill: str, edge: str = "white", alpha: float = 1.0, zorder: float = 3.0
    ) -> None:
        """Draw circles; places and radii are inches."""
        from matplotlib.collections import PathCollection
        from matplotlib.path import Path
        from matplotlib.transforms import Affine2D

        scale = np.asarray(radius, dtype=float) * POINTS_PER_INCH
        found = PathCollection(
            [Path.unit_circle()], sizes=scale**2, offsets=np.column_stack([x, y]), offset_transform=self.ax.transData,
            facecolors=fill, edgecolors=edge, linewidths=0.5, alpha=alpha, zorder=zorder, clip_on=False,
        )  # fmt: skip
        found.set_transform(Affine2D())
        self.ax.add_collection(found, autolim=False)


def render(
    frame: pd.DataFrame,
    ax: Axes | None,
    plan: Callable[[float, float], tuple[Sheet, Axis | None, Axis | None]],
    draw: Callable[[Chart, pd.DataFrame], None],
    *,
    width: float,
    height: float,
) -> NotebookFigure | Axes:
    """Lay out with `plan` for a figure of this size, or for `ax`, and draw."""
    wide, high = room(ax, width, height)
    sheet, xaxis, yaxis = plan(wide, high)
    left, right = sheet.panel[:2]
    if ax is None:
        figure = NotebookFigure.for_plot(sheet.width, sheet.height, frame.attrs)
        target = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    else:
        _check_room(sheet, wide, high, right - left)
        target = ax
    set_inches(target, sheet.width, sheet.height)
    chart = Chart(target, frame.attrs, sheet, xaxis, yaxis)
    draw(chart, frame)
    chart.flush()
    chart.surround()
    return figure if ax is None else ax


def _check_room(sheet: Sheet, width: float, height: float, panel: float) -> None:
    lacking = max(0.0, LEAST_PANEL[0] - panel)
    need = (max(sheet.width, width + lacking), sheet.height)
    if need[0] > width + 1e-6 or need[1] > height + 1e-6:
        raise InputError(
            f"ax is {fixed(width, 1)} x {fixed(height, 1)} in; this plot needs at least "
            f"{fixed(math.ceil(10 * need[0]) / 10, 1)} x "
            f"{fixed(math.ceil(10 * need[1]) / 10, 1)} in. Make the figure larger, or leave ax away"
        )
