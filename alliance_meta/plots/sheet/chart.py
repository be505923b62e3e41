"""Charts: one matplotlib Axes in the units that its labels read, with key and notes below it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes as Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.scale import FuncScale
from matplotlib.text import Text
from matplotlib.ticker import Formatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from alliance_meta.errors import InputError
from alliance_meta.plots.forests.layout import AIRY, DENSE, MARGIN, NORMAL
from alliance_meta.plots.sheet.chart_frame import counted
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.measure import (
    GREY,
    INK,
    NEAR,
    POINTS_PER_INCH,
    PREDICTION,
    ROB_COLOURS,
    ROB_OTHER,
    STEPS,
    SUMMARY,
    SYNTHETIC,
    SYNTHETIC_REST,
    WARNING,
    WIDEST_R,
    drawable,
    font_of,
    is_correlation,
    letters_notes,
    line_height,
    put,
    reach,
    reader_limits,
    size_in_inches,
    tick_labels,
    wrap,
)
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    import pandas as pd

SIZE, SMALL = AIRY.size, NORMAL.size
LEAST_PANEL = (1.8, 1.4)
LEAST_AXES = (1.2, 0.9)
TICK, PAD = 3.0, 2.5
CI_BAND, PI_BAND = "#b9cde2", "#e6eef6"
DASHED = (0, (4, 2.5))
DOTTED = (0, (1, 1.8))
POINT = "#3f6c9e"
FLAGGED = "#d5722b"

Which = Literal["x", "y"]
Limits = tuple[float, float]
# What the function of a chart returns: a figure of its own, or the axes it was given.
Drawn = NotebookFigure | Axes

# Colour, width in points and pattern of a line, by the name that it has in a key.
STROKES: dict[str, tuple[str, float, Any]] = {
    "line": (SUMMARY, 1.6, "solid"),
    "dashed": (SUMMARY, 1.2, DASHED),
    "dashdot": (SUMMARY, 1.2, (0, (4, 1.6, 1, 1.6))),
    "dotted": (INK, 0.9, DOTTED),
    "thick": (SUMMARY, 3.2, "solid"),
    "thin": (SUMMARY, 1.0, "solid"),
    "hair": (GREY, 0.8, "solid"),
    "pale": (PREDICTION, 2.0, "solid"),
    "pale dashed": (PREDICTION, 1.4, DASHED),
    "zero": (GREY, 0.6, "solid"),
}
ROB = {**ROB_COLOURS, "?": ROB_OTHER, "–": "#ffffff"}
FILLS = {
    "ci": CI_BAND, "pi": PI_BAND, "bar": CI_BAND, "tail": POINT,
    # Where a p-value is small, the darker the smaller.
    "open": "#ffffff", "p10": "#f3f3f3", "p05": "#e6e6e6", "p01": "#d8d8d8",
    **{f"share {letter}": colour for letter, colour in ROB.items()},
}  # fmt: skip
# What is pale has an edge, by which it can be told from white paper and from a darker area beside it.
EDGES = {**dict.fromkeys(FILLS, GREY), "ci": PREDICTION, "bar": PREDICTION, "tail": SUMMARY, "open": GREY}
# What is written among lines hides them.
GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
# Diameter in points, colour inside and at the edge.
DOTS = {
    "dot": (7.2, POINT, "white"),
    "bubble": (7.2, POINT, "white"),
    "ink": (7.2, INK, "white"),
    "ring": (7.2, "white", POINT),
    "flagged": (7.2, FLAGGED, "white"),
    "mean": (8.4, SUMMARY, "white"),
    "hollow": (8.4, "white", SUMMARY),
    **{f"rob {letter}": (9.0, colour, INK) for letter, colour in ROB.items()},
}


class Numbers(Formatter):
    """Tick labels with as many decimals as the ticks need; correlations without a leading zero."""

    def __init__(self, *, leading_zero: bool = True) -> None:
        self.leading_zero = leading_zero

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of one number."""
        return self.format_ticks([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks."""
        return tick_labels(values, leading_zero=self.leading_zero)


class Ticks(MaxNLocator):
    """Round numbers, as many as have room; on an axis of Fisher's z round correlations."""

    def __init__(self, *, fisher: bool = False, whole: bool = False) -> None:
        super().__init__(nbins=9, steps=STEPS, integer=whole)
        self.fisher = fisher

    def __call__(self) -> Any:
        """Return the places of the ticks."""
        axis: Any = self.axis
        lo, hi = sorted(axis.get_view_interval())
        # Equal steps of r stand closest at 0. Matplotlib allows three letters to a label on a horizontal axis.
        closest = (hi - lo) / (np.arctanh(hi) - np.arctanh(lo)) if self.fisher else 1.0
        wide = 3.5 if self.fisher else max(4.0, 0.25 * len(str(int(max(abs(lo), abs(hi))))) + 3.0)
        letters = wide if axis.axis_name == "x" else 3.0
        room = 3.0 * axis.get_tick_space() / letters
        self.set_params(nbins=int(np.clip(closest * room, 1, 9)))
        places = np.asarray(self.tick_values(lo, hi))
        if not self.fisher:
            return places
        places = places[(places >= lo - NEAR) & (places <= hi + NEAR)]
        label = (np.arctanh(hi) - np.arctanh(lo)) / room
        return np.array(reach(places.tolist(), lo, hi, lambda a, b: np.arctanh(b) - np.arctanh(a) >= label))


class FisherScale(FuncScale):
    """An axis in units of r on which equal steps are equal steps of Fisher's z."""

    def __init__(self, axis: Any) -> None:
        inside = 1.0 - 1e-12
        super().__init__(axis, (lambda r: np.arctanh(np.clip(r, -inside, inside)), np.tanh))

    def set_default_locators_and_formatters(self, axis: Any) -> None:
        """Set round correlations as ticks."""
        axis.set_major_locator(Ticks(fisher=True))
        axis.set_major_formatter(Numbers(leading_zero=False))

    def limit_range_for_scale(self, vmin: float, vmax: float, minpos: float) -> tuple[float, float]:
        """Return limits inside -1 and 1."""
        return max(vmin, -WIDEST_R), min(vmax, WIDEST_R)


class Beyond(Line2D):
    """Arrowheads at the edge of an axis, where intervals leave it in whatever limits it is drawn."""

    def __init__(self, ax: Axes, which: Which, ends: Any, at: Any, side: int) -> None:
        marker = {("x", -1): "<", ("x", 1): ">", ("y", -1): "v", ("y", 1): "^"}[which, side]
        super().__init__([], [], linestyle="none", marker=marker, markersize=5, color=SUMMARY, markeredgewidth=0,
                         clip_on=False, zorder=6)  # fmt: skip
        self.which, self.ends, self.at, self.side = which, np.asarray(ends), np.asarray(at), side
        ax.add_line(self)
        self.set_transform(ax.get_yaxis_transform() if which == "x" else ax.get_xaxis_transform())

    def draw(self, renderer: Any) -> None:
        """Draw one for each end that lies beyond the limits."""
        assert self.axes is not None
        along, across = (self.axes.xaxis, self.axes.yaxis) if self.which == "x" else (self.axes.yaxis, self.axes.xaxis)
        (lo, hi), (first, last) = sorted(along.get_view_interval()), sorted(across.get_view_interval())
        gone = (self.ends < lo) if self.side < 0 else (self.ends > hi)
        at = self.at[gone & (self.at >= first) & (self.at <= last)]
        edge = np.full(len(at), 0.0 if self.side < 0 else 1.0)
        self.set_data(*((edge, at) if self.which == "x" else (at, edge)))
        super().draw(renderer)


class Chart:
    """An Axes with what a chart of a frame puts on it: scales, marks, key, notes.

    Attributes
    ----------
    ax : Axes
        The user's, or that of a figure of our own. All marks are in the units that its labels read.
    made : Figure or Axes
        What the chart's function returns.
    """

    def __init__(self, frame: pd.DataFrame, ax: Axes | None, size: tuple[float, float],
                 least: tuple[float, float] | None) -> None:  # fmt: skip
        self.attrs: dict[Any, Any] = frame.attrs
        self.measure = str(frame.attrs["measure"])
        self.notes = [*frame.attrs["bottom"], *letters_notes(frame)]
        self.tick_lines = 1
        # Inches that names of columns take above the panel.
        self.headroom = 0.0
        self.size, self.least = size, least or LEAST_PANEL
        self.made: Drawn
        if ax is None:
            wide, high = max(size[0], self.least[0] + 2 * MARGIN), max(size[1], self.least[1] + 1.0)
            self.figure: NotebookFigure | None
            self.figure = self.made = NotebookFigure.for_plot(wide, high, frame.attrs)
            inside = (MARGIN / wide, 0.5, 1.0 - 2 * MARGIN / wide, self.least[1] / high if not size[1] else 0.45)
            self.ax = self.figure.add_axes(inside)
        else:
            self.figure = None
            self.ax = self.made = ax
            self.check_room(least or LEAST_AXES)
        plain(self.ax)

    def check_room(self, least: tuple[float, float]) -> None:
        """Raise an `InputError` where the user's axes is smaller than `least`, in inches."""
        width, height = size_in_inches(self.ax)
        if width < least[0] - 1e-6 or height < least[1] - 1e-6:
            raise InputError(
                f"ax is {fixed(width, 1)} x {fixed(height, 1)} in; this plot needs at least "
                f"{fixed(least[0], 1)} x {fixed(least[1], 1)} in. Make the figure larger, or leave ax away"
            )

    def shown(self, values: Any) -> Any:
        """Return effects of the analysis scale in the units of their axis."""
        return np.tanh(values) if self.measure == "ZCOR" else np.asarray(values)

    def effects(self, which: Which, values: Any, lim: Limits | None = None, *, zero: bool = True) -> None:
        """Scale an axis for effects of the analysis scale, and mark no effect; `lim` is as the labels read."""
        axis = self.ax.xaxis if which == "x" else self.ax.yaxis
        if self.measure == "ZCOR":
            (self.ax.set_xscale if which == "x" else self.ax.set_yscale)(FisherScale(axis))
        self.limits(which, *reader_limits(values, self.measure, lim, zero=zero))
        if self.measure != "ZCOR":
            axis.set_major_locator(Ticks())
            axis.set_major_formatter(Numbers(leading_zero=not is_correlation(self.measure)))

    def numbers(
        self, which: Which, values: Any, lim: Limits | None = None, *, whole: bool = False,
        floor: float | None = None,
    ) -> None:  # fmt: skip
        """Scale an axis for any numbers, whole ones ticked at whole numbers; `floor` is its lowest value."""
        lo, hi = reader_limits(values, "GEN", lim, zero=False)
        self.limits(which, lo if floor is None else floor, hi)
        axis = self.ax.xaxis if which == "x" else self.ax.yaxis
        axis.set_major_locator(Ticks(whole=whole))
        axis.set_major_formatter(Numbers())

    def curves(self, x: Any) -> None:
        """Scale the horizontal axis for curves of effects, which then reach both its ends."""
        self.effects("x", x)
        (lo, hi), ends = self.ax.get_xlim(), self.shown(x)
        self.limits("x", max(lo, float(np.min(ends))), min(hi, float(np.max(ends))))

    def limits(self, which: Which, lo: float, hi: float) -> None:
        """Set the limits of an axis."""
        (self.ax.set_xlim if which == "x" else self.ax.set_ylim)(lo, hi)

    def no_axis(self, which: Which) -> None:
        """Leave the ticks of an axis away."""
        (self.ax.set_xticks if which == "x" else self.ax.set_yticks)([])

    def zero(self, which: Which) -> None:
        """Draw the line of no effect."""
        colour, points, _ = STROKES["zero"]
        (self.ax.axvline if which == "x" else self.ax.axhline)(0.0, color=colour, linewidth=points, zorder=1)

    def line(self, x: Any, y: Any, mark: str, **more: Any) -> Line2D:
        """Draw a line as the key shows it."""
        return self.ax.plot(x, y, **{**stroke(mark), "zorder": 4, **more})[0]

    def area(self, x: Any, lower: Any, upper: Any, mark: str, **more: Any) -> None:
        """Fill between two curves in the colour of the key's entry."""
        self.ax.fill_between(x, lower, upper, **{"facecolor": FILLS[mark], "edgecolor": EDGES[mark], "linewidth": 0.5,
                                                "zorder": 0.6, **more})  # fmt: skip

    def bars(self, lower: Any, upper: Any, height: Any, mark: str, bottom: Any = 0.0) -> None:
        """Draw the bars of a histogram."""
        lower, upper = np.asarray(lower), np.asarray(upper)
        self.ax.bar(lower, height, upper - lower, bottom, align="edge", color=FILLS[mark], edgecolor=EDGES[mark],
                    linewidth=0.5, zorder=0.7)  # fmt: skip

    def intervals(self, which: Which, lower: Any, upper: Any, at: Any, mark: str, **more: Any) -> Line2D:
        """Draw intervals along an axis, all as one line with gaps; arrowheads show where one goes on."""
        lower, upper, at = (np.asarray(values, dtype=float) for values in (lower, upper, at))
        known = np.isfinite(lower) & np.isfinite(upper)
        lower, upper, at = lower[known], upper[known], at[known]
        along = np.column_stack([lower, upper, np.full(len(lower), np.nan)]).ravel()
        across = np.repeat(at, 3)
        drawn = self.line(*((along, across) if which == "x" else (across, along)), mark, **more)
        if mark != "hair":
            for ends, side in ((lower, -1), (upper, 1)):
                Beyond(self.ax, which, ends, at, side)
        return drawn

    def estimates(self, which: Which, rows: pd.DataFrame, at: Any) -> None:
        """Draw means along an axis, thick their confidence and thin their prediction intervals."""
        at = np.asarray(at, dtype=float)
        found = {name: self.shown(rows[name].to_numpy()) for name in ("yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub")}
        for low, high, mark in (("pi_lb", "pi_ub", "thin"), ("ci_lb", "ci_ub", "thick")):
            self.intervals(which, found[low], found[high], at, mark)
        self.dots(*((found["yi"], at) if which == "x" else (at, found["yi"])), "mean")

    def dots(self, x: Any, y: Any, mark: str = "dot", **more: Any) -> Any:
        """Draw dots; `s` among the options is their area in square points."""
        diameter, fill, edge = DOTS[mark]
        looks = {"s": diameter**2, "facecolors": fill, "edgecolors": edge, "linewidths": 0.5, "zorder": 5}
        return self.ax.scatter(x, y, **cast("Any", {**looks, **more}))

    def span(self, which: Which, lower: float, upper: float, mark: str) -> None:
        """Fill a band over the whole of the other axis."""
        (self.ax.axvspan if which == "x" else self.ax.axhspan)(lower, upper, facecolor=FILLS[mark],
            edgecolor=EDGES[mark], linewidth=0.5, zorder=0.5)  # fmt: skip

    def rule(self, which: Which, value: float, mark: str, **more: Any) -> None:
        """Draw a line over the whole of the other axis."""
        (self.ax.axvline if which == "x" else self.ax.axhline)(value, **{**stroke(mark), "zorder": 1, **more})

    def words(self, x: float, y: float, text: str, transform: Transform, **more: Any) -> Text:
        """Write a text."""
        looks = {"fontsize": SIZE, "color": INK, "clip_on": False, **more}
        return lettered(self.ax.text(x, y, text, transform=transform, **looks))

    def moved(self, x: float, y: float, base: Transform | None = None) -> Transform:
        """Return places in the axes, or by `base`, moved by inches to the right and up."""
        figure = self.ax.get_figure(root=True)
        assert figure is not None
        return (base or self.ax.transAxes) + ScaledTranslation(x, y, figure.dpi_scale_trans)

    def grid(
        self, rows: int | Sequence[float], widths: Sequence[float], *, left: float, head: float, tail: float,
        gap: float,
    ) -> list[Chart]:  # fmt: skip
        """Return charts on Axes of their own inside this one, row by row.

        `rows` is how many or how high they are, `widths` are relative too; each has room for a title above it, `head`,
        and for ticks below it, `tail`, and the first ones for ticks at their `left`, in inches.
        """
        width, height = size_in_inches(self.ax)
        tall, shares = np.ones(rows) if isinstance(rows, int) else np.asarray(rows), np.asarray(widths, dtype=float)
        tall = (height - len(tall) * (head + tail)) * tall / tall.sum()
        shares *= (width - left - gap * (len(shares) - 1)) / shares.sum()
        starts = left + np.concatenate([[0.0], np.cumsum(shares + gap)[:-1]])
        self.ax.set_axis_off()
        self.tick_lines = 0
        found = []
        for high, end in zip(tall, np.cumsum(tall + head + tail), strict=True):
            for start, share in zip(starts, shares, strict=True):
                bounds = (start / width, 1.0 - (end - tail) / height, share / width, high / height)
                one = copy.copy(self)
                one.ax, one.figure, one.size = self.ax.inset_axes(bounds), None, (share, high)
                plain(one.ax)
                found.append(one)
        return found

    def panel_size(self) -> tuple[float, float]:
        """Return about how wide and high the panel will be, in inches."""
        return size_in_inches(self.ax) if self.figure is None else (self.size[0] - 0.8, self.size[1] - 1.4)

    def names(self, which: Which, texts: Sequence[str], at: Any = None, size: float = SIZE) -> None:
        """Write texts in place of the numbers of an axis, by default at 0, 1, ..."""
        axis = self.ax.xaxis if which == "x" else self.ax.yaxis
        axis.set_ticks(np.arange(len(texts)) if at is None else at, texts, fontsize=size)
        for label in axis.get_ticklabels():
            lettered(label)
        if which == "x":
            self.tick_lines = max(text.count("\n") + 1 for text in texts)

    def name_above_rows(self, pad: float = 6.0) -> None:
        """Write what the rows are, the label of the vertical axis, above their names, `pad` points from the panel."""
        self.ax.set_ylabel(self.attrs["axis_label"], rotation=0, ha="right", va="bottom", fontsize=SIZE)
        self.ax.yaxis.set_label_coords(0.0, 1.0, transform=self.moved(-pad / POINTS_PER_INCH, 0.06))
        lettered(self.ax.yaxis.label)

    def count_beyond(self, values: Any, which: Which) -> None:
        """Note how many effects lie beyond the axis."""
        lo, hi = self.ax.get_xlim() if which == "x" else self.ax.get_ylim()
        lost = int(((self.shown(values) < lo) | (self.shown(values) > hi)).sum())
        if lost:
            self.notes.append(f"{counted(lost)} {'lie' if lost > 1 else 'lies'} beyond the axis")

    def finish(self) -> None:
        """Write labels, key and notes; make a figure of our own as large as they need."""
        for label, text in ((self.ax.xaxis.label, self.attrs["x_label"]), (self.ax.yaxis.label, self.y_label())):
            if text and not label.get_text():
                lettered(label, text, SIZE).set_color(INK)
        if self.attrs["synthetic"]:
            self.banner()
        left, right, above, below = self.overhang()
        if self.figure is not None:
            # Another width has other ticks.
            self.fit(left, right, 0.0, 0.0)
            left, right, above, below = self.overhang()
            self.fit(left, right, 0.0, 0.0)
        words = len(self.ax.texts)
        self.below(left, size_in_inches(self.ax)[0] + left + right)
        if self.figure is not None:
            added = [one for one in (self.ax.get_legend(), *self.ax.texts[words:]) if one is not None]
            lowest = min((one.get_window_extent(self.renderer()).y0 for one in added), default=np.inf)
            floor = self.ax.get_window_extent().y0
            self.fit(left, right, above, max(below, (floor - lowest) / self.dpi))

    def y_label(self) -> str:
        """Return the label of the vertical axis on lines that are no longer than a low panel is high."""
        return "\n".join(wrap(self.attrs["axis_label"], SIZE, 2.2))

    def banner(self) -> None:
        """Write the label that synthetic data must carry."""
        own, margins = self.ax.get_window_extent(), [one.get_window_extent() for one in self.ax.child_axes]
        above = self.headroom + 0.1 + (max([own.y1, *(one.y1 for one in margins)]) - own.y1) / self.dpi
        first = self.words(0.0, 1.0, SYNTHETIC, self.moved(0.0, above), color=WARNING, weight="bold", va="bottom")
        first.set_bbox({"facecolor": "none", "edgecolor": WARNING, "linewidth": 1.0, "pad": 2.0})
        start = self.moved(first.get_window_extent(self.renderer()).width / self.dpi + 0.12, above)
        self.words(0.0, 1.0, SYNTHETIC_REST, start, color=WARNING, fontsize=SMALL, va="bottom")

    def below(self, left: float, width: float) -> None:
        """Write key and notes under the axis, `left` inches before it."""
        y = 0.0
        if self.ax.axison:
            lines = self.tick_lines + (1.35 if self.attrs["x_label"] else 0.35)
            y = (TICK + PAD) / POINTS_PER_INCH + lines * line_height(SIZE)
        elif self.tick_lines:
            y = self.tick_lines * line_height(SIZE)
        y = self.key(left, y + 0.06, width)
        smaller = max(DENSE.size, SMALL - 1)
        texts = [(text, SMALL) for text in self.notes]
        if self.attrs["show_cautions"]:
            texts += [(f"Caution: {text}", smaller) for text in self.attrs["cautions"]]
        for text, size in texts:
            rows = wrap(text, size, width)
            self.words(0.0, 0.0, "\n".join(rows), self.moved(-left, -y), va="top", fontsize=size)
            y += (len(rows) + 0.15) * line_height(size)

    def key(self, left: float, y: float, width: float) -> float:
        """Write the key with as many entries side by side as have room; return where it ends."""
        entries = self.attrs["key"]
        handles, names = [swatch(mark) for mark, _ in entries], [name for _, name in entries]
        for columns in range(len(entries), 0, -1):
            legend = self.ax.legend(
                handles, names, loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=self.moved(-left, -y),
                ncols=columns, frameon=False, borderpad=0.0, borderaxespad=0.0, handlelength=2.6, handletextpad=0.6,
                columnspacing=1.6, fontsize=SMALL, labelcolor=INK, labelspacing=0.3,
            )  # fmt: skip
            for text in legend.get_texts():
                lettered(text)
            box = legend.get_window_extent(self.renderer())
            if box.width / self.dpi <= width or columns == 1:
                return float(y + box.height / self.dpi + 0.08)
        return y

    @property
    def dpi(self) -> float:
        """Dots per inch."""
        figure = self.ax.get_figure(root=True)
        assert figure is not None
        return float(figure.dpi)

    def renderer(self) -> Any:
        """Return what measures texts."""
        return _ruler(self.dpi)

    def overhang(self) -> tuple[float, float, float, float]:
        """Return how many inches what belongs to the axes reaches beyond it: left, right, above, below."""
        renderer = self.renderer()
        outer, inner = self.ax.get_tightbbox(renderer), self.ax.get_window_extent(renderer)
        assert outer is not None
        found = (inner.x0 - outer.x0, outer.x1 - inner.x1, outer.y1 - inner.y1, inner.y0 - outer.y0)
        left, right, above, below = (max(0.0, one) / self.dpi for one in found)
        return left, right, above, below

    def fit(self, left: float, right: float, above: float, below: float) -> None:
        """Place the axes of a figure of our own, which grows where the panel would be smaller than its least size."""
        if self.figure is None:
            return
        width = max(self.size[0], self.least[0] + left + right + 2 * MARGIN)
        height = max(self.size[1], self.least[1] + above + below + 2 * MARGIN)
        self.figure.set_size_inches(width, height)
        wide, high = width - left - right - 2 * MARGIN, height - above - below - 2 * MARGIN
        self.ax.set_position(((MARGIN + left) / width, (MARGIN + below) / height, wide / width, high / height))


@lru_cache(maxsize=4)
def _ruler(dpi: float) -> Any:
    """Return what measures texts on any figure, so that matplotlib need not measure the same text for each anew."""
    renderer: Any = RendererAgg
    return renderer(1, 1, dpi)


@contextmanager
def charting(
    frame: pd.DataFrame,
    ax: Axes | None,
    width: float,
    height: float,
    *,
    least: tuple[float, float] | None = None,
    panel: tuple[float, float] | None = None,
) -> Iterator[Chart]:
    """Give a chart to draw on, `width` and `height` being those of a figure of our own, and finish it.

    The user's settings of matplotlib change nothing meanwhile. The panel is at least `least` inches wide and high;
    `panel` asks that of a figure of our own alone, and an axes that is given may be smaller.
    """
    with style.context(["default", {"text.hinting": "none"}]):
        chart = Chart(frame, ax, (width, height), panel if panel is not None and ax is None else least)
        yield chart
        chart.finish()


def plain(ax: Axes) -> None:
    """Give an Axes the looks of ours: two spines and small ticks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(linewidth=0.8, color=INK)
    ax.set_facecolor("none")
    for name, pad in (("x", 3.5), ("y", PAD)):
        ax.tick_params(
            axis=cast("Any", name), which="both", length=TICK, width=0.8, pad=pad, color=INK, labelsize=SIZE,
            labelcolor=INK, labelfontfamily="DejaVu Sans", direction="out",
        )  # fmt: skip


def lettered(text: Text, words: str | None = None, size: float | None = None) -> Text:
    """Draw the letters of a text by an installed font that has them, and dollar signs as such."""
    points, heavy = float(size or text.get_fontsize()), text.get_fontweight() == "bold"
    shown = drawable(text.get_text() if words is None else words)
    return put(text, shown, fontproperties=font_of(shown, points, heavy))


def stroke(mark: str) -> dict[str, Any]:
    """Return how a line of the key is drawn."""
    colour, points, pattern = STROKES[mark]
    return {
        "color": colour, "linewidth": points, "linestyle": pattern, "marker": "None", "solid_capstyle": "butt",
        "dash_capstyle": "butt", "solid_joinstyle": "round",
    }  # fmt: skip


def swatch(mark: str) -> Patch | Line2D:
    """Return what stands in a key for a mark."""
    if mark == "tick":
        return Line2D([], [], linestyle="none", marker="|", markersize=9.0, markeredgewidth=0.7, markeredgecolor=INK)
    if mark in FILLS:
        return Patch(facecolor=FILLS[mark], edgecolor=EDGES[mark], linewidth=0.5)
    if mark in DOTS:
        diameter, fill, edge = DOTS[mark]
        return Line2D([], [], linestyle="none", marker="o", markersize=0.8 * diameter, markerfacecolor=fill,
                      markeredgecolor=edge, markeredgewidth=0.5)  # fmt: skip
    return Line2D([], [], **stroke(mark))
