"""Forest plots: one figure for the screen, pages for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd

from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.plots.forests.layout import (
    AIRY,
    ARROW,
    ARROW_GAP,
    DENSE,
    GAP,
    KNOWN,
    MARGIN,
    MOST_ON_ONE_PAGE,
    NORMAL,
    TICK,
    WIDTH,
    Density,
    Directions,
    Layout,
    LayoutName,
    Page,
    Prediction,
    choose_density,
    count_rows,
    dot_diameter,
    letter_fits,
    make_layout,
    make_page,
    split_pages,
    style_of,
    styled,
)
from alliance_meta.plots.forests.panel import page_said
from alliance_meta.plots.forests.parts import check_frame, records
from alliance_meta.plots.sheet.figures import Lettering, Line, NotebookFigure, Pages
from alliance_meta.plots.sheet.measure import (
    CAP_HEIGHT,
    GREY,
    INK,
    POINTS_PER_INCH,
    ROB_COLOURS,
    ROB_OTHER,
    SYNTHETIC,
    SYNTHETIC_REST,
    WARNING,
    band,
    line_height,
    size_in_inches,
    text_width,
)
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHED = (0, (4, 2.5))
CI_POINTS = 0.9
RULE_POINTS = 0.8

LEAST_SQUARE = 0.035
UNWEIGHTED_SHARE = 0.42
DIAMOND_SHARE = 0.36
FITTED_SHARE = 0.3
PREDICTION_SHARE = 0.26
DENSITY_SHARE = 0.62
SHRUNKEN_SHARE, SHRUNKEN_BELOW = 0.24, 0.4
# Squares leave room for the circles below them.
SHRUNKEN_SQUARE = 0.58
ARROW_LENGTH, ARROW_SHARE = 0.07, 0.28


def draw_page(
    ax: Axes, frame: pd.DataFrame, layout: Layout, page: Page, *, smallest_effect: float | None = None
) -> None:
    """Draw one page on `ax`, whose data unit must be the inch with y downwards."""
    pen = _Pen(ax, frame, layout, page)
    pen.background(smallest_effect)
    pen.header()
    for i, y in zip(page.rows, page.centres, strict=True):
        pen.row(i, y)
    pen.flush()
    pen.axis()
    pen.small_print()


class _Pen:
    """Draws on an axes whose unit is the inch, y counted downwards; filled shapes and intervals wait for `flush`.

    They are kept by colour, so that a page of 64 rows stays a handful of artists.
    """

    def __init__(self, ax: Axes, frame: pd.DataFrame, layout: Layout, page: Page) -> None:
        self.ax, self.size = ax, layout.density.size
        self.lettering = Lettering(ax)
        self.layout, self.page, self.attrs = layout, page, frame.attrs
        self.style = style_of(frame)
        self.rows: list[dict[str, Any]] = records(frame)
        self.lines: dict[str, list[Any]] = {}
        # Shapes are drawn in this order: squares stand before what was fitted.
        self.shapes: dict[tuple[str, str], list[Any]] = {(self.style.fitted, GREY): []}
        # By diameter, colour inside and at the edge, width of the edge, and order.
        self.circles: dict[tuple[float, str, str, float, float], list[tuple[float, float]]] = {}
        self.pitch = layout.density.pitch
        # A study with several effects has the sum of their weights, and no square.
        own = frame.loc[frame["kind"] != "cluster", "weight"]
        self.largest = max([w for w in own if math.isfinite(w)], default=math.nan)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        align: str = "left",
        bold: bool = False,
        size: float | None = None,
        colour: str = INK,
    ) -> None:
        """Write one line of text whose capitals are centred on `y`."""
        points = self.size if size is None else size
        baseline = y + CAP_HEIGHT * points / POINTS_PER_INCH / 2
        self.lettering.add(Line(x, baseline, text, align, points, bold, colour))

    def rule(self, x0: float, x1: float, y0: float, y1: float, *, colour: str = INK, points: float = RULE_POINTS,
             style: Any = "solid", zorder: float = 2.0) -> None:  # fmt: skip
        """Draw one straight line."""
        from matplotlib.lines import Line2D

        self.ax.add_line(
            Line2D([x0, x1], [y0, y1], color=colour, linewidth=points, linestyle=style,
                   solid_capstyle="butt", dash_capstyle="butt", zorder=zorder, clip_on=False, marker="None")
        )  # fmt: skip

    def polygon(self, points: Sequence[tuple[float, float]], fill: str, edge: str = "none") -> None:
        """Keep a filled shape for `flush`."""
        self.shapes.setdefault((fill, edge), []).append(points)

    def line(self, x0: float, x1: float, y: float, colour: str = INK) -> None:
        """Keep an interval line for `flush`."""
        self.lines.setdefault(colour, []).append([(x0, y), (x1, y)])

    def flush(self) -> None:
        """Add the kept marks: shapes first, interval lines above them."""
        from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection

        for (fill, edge), shapes in self.shapes.items():
            if not shapes:
                continue
            self.ax.add_collection(
                PolyCollection(shapes, facecolors=fill, edgecolors=edge, linewidths=0.7, zorder=3,
                               clip_on=False, joinstyle="miter"),
                autolim=False,
            )  # fmt: skip
        for colour, lines in self.lines.items():
            self.ax.add_collection(
                LineCollection(lines, colors=colour, linewidths=CI_POINTS, capstyle="butt", zorder=4,
                               clip_on=False),
                autolim=False,
            )  # fmt: skip

        for (diameter, fill, edge, points, zorder), places in self.circles.items():
            self.ax.add_collection(
                EllipseCollection([diameter], [diameter], [0.0], units="xy", facecolors=fill, edgecolors=edge,
                                  linewidths=points, offsets=places, transOffset=self.ax.transData, zorder=zorder,
                                  clip_on=False),
                autolim=False,
            )  # fmt: skip

    def banner(self, y: float) -> None:
        """Draw the label that synthetic data must carry."""
        from matplotlib.patches import Rectangle

        width = text_width(SYNTHETIC, AIRY.size, bold=True)
        half = 0.62 * line_height(AIRY.size)
        self.ax.add_patch(
            Rectangle((MARGIN, y - half), width + GAP, 2 * half, facecolor="none", edgecolor=WARNING,
                      linewidth=1.0, zorder=2, clip_on=False)
        )  # fmt: skip
        self.text(MARGIN + GAP / 2, y, SYNTHETIC, bold=True, size=AIRY.size, colour=WARNING)
        self.text(MARGIN + width + 2 * GAP, y, SYNTHETIC_REST, size=AIRY.size - 1, colour=WARNING)

    def background(self, smallest_effect: float | None) -> None:
        """Draw the reference line, the pooled line, and the band of effects too small to matter."""
        page, axis = self.page, self.layout.axis
        top = page.rule + 0.15 * self.pitch
        if smallest_effect is not None:
            bound = band(smallest_effect, axis.measure)
            x0, x1 = (self.layout.x(min(max(v, axis.lo), axis.hi)) for v in (-bound, bound))
            from matplotlib.patches import Rectangle

            self.ax.add_patch(
                Rectangle((x0, top), x1 - x0, page.axis - top, facecolor=self.style.band, edgecolor="none", zorder=0.5,
                          clip_on=False)
            )  # fmt: skip
        if axis.lo <= 0 <= axis.hi:
            x = self.layout.x(0.0)
            self.rule(x, x, top, page.axis, colour=GREY, zorder=1)
        pooled = self.attrs["pooled"]
        if pooled is not None and axis.lo <= pooled <= axis.hi:
            x = self.layout.x(float(pooled))
            self.rule(x, x, top, page.axis, colour=self.style.edge, style=DASHED, zorder=1)

    def header(self) -> None:
        """Draw the banner, the column titles and the rule under them."""
        page = self.page
        if page.banner is not None:
            self.banner(page.banner)
        for column in (one for one in self.layout.columns if one.title):
            self.text(column.x, page.header, column.title, align=column.align, bold=True)
        self.rule(MARGIN, self.layout.width - MARGIN, page.rule, page.rule)
        if page.heading is not None:
            self.text(MARGIN, page.heading[1], page.heading[0], bold=True)

    def row(self, i: int, y: float) -> None:
        """Write the cells of one row and draw its mark."""
        row = self.rows[i]
        bold = row["kind"] in self.style.bold
        step = line_height(self.size)
        for column in (*self.layout.left, *self.layout.right):
            cell = column.cells[i]
            for j, line in enumerate(cell):
                self.text(column.x, y + (j - (len(cell) - 1) / 2) * step, line, align=column.align, bold=bold)
        for column in self.layout.dots:
            for letter in column.cells[i]:
                self.dot(column.x, y, letter)
        draw = {
            "study": self.study,
            "effect": self.study,
            "cluster": self.predicted,
            "subgroup": self.diamond,
            "fitted": self.diamond,
            "summary": self.diamond,
            "prediction": self.prediction,
        }.get(row["kind"])
        if draw is not None:
            draw(row, y)

    def dot(self, x: float, y: float, letter: str) -> None:
        """Draw a risk-of-bias judgement: a coloured dot with its letter."""
        diameter = dot_diameter(self.layout.density)
        inside = letter_fits(self.layout.density)
        width = text_width(letter, DENSE.size, bold=True)
        centre = x if inside else x - (width + 0.03) / 2
        colour = ROB_COLOURS.get(letter, ROB_OTHER) if self.style.coloured else "white"
        looks = (diameter, colour, INK, 0.4, 3.0)
        self.circles.setdefault(looks, []).append((centre, y))
        at = x if inside else centre + diameter / 2 + 0.03 + width / 2
        self.text(at, y, letter, align="center", bold=True, size=DENSE.size)

    def study(self, row: dict[str, Any], y: float) -> None:
        """Draw the fitted value, the square and the interval of one study."""
        lb, ub, point = row["ci_lb"], row["ci_ub"], row["yi"]
        if math.isfinite(row["fit"]) and self.attrs["shrunken"]:
            self.shrunken(row["fit_lb"], row["fit"], row["fit_ub"], y + SHRUNKEN_BELOW * self.pitch)
        elif math.isfinite(row["fit"]):
            self.lozenge(
                row["fit_lb"], row["fit"], row["fit_ub"], y, FITTED_SHARE * self.pitch, self.style.fitted, GREY
            )
        if not math.isfinite(point):
            return
        side = self.side(row["weight"])
        inside = self.visible(point)
        has_interval = not (math.isnan(lb) or math.isnan(ub))
        if inside:
            x, half = self.layout.x(point), side / 2
            square = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
            self.polygon(square, *((self.style.square, "none") if has_interval else ("white", self.style.square)))
        elif not has_interval or ub < self.layout.axis.lo or lb > self.layout.axis.hi:
            self.arrow(1 if point > self.layout.axis.hi else -1, y)
        if has_interval:
            self.interval(lb, ub, y, self.layout.x(point) if inside else None, side)

    def shrunken(self, lb: float, point: float, ub: float, y: float) -> None:
        """Draw what all studies together make of one study: an open circle on a thin line."""
        axis = self.layout.axis
        if ub < axis.lo or lb > axis.hi:
            return
        self.line(self.layout.x(max(lb, axis.lo)), self.layout.x(min(ub, axis.hi)), y, GREY)
        if self.visible(point):
            looks = (SHRUNKEN_SHARE * self.pitch, "white", GREY, 0.7, 6.0)
            self.circles.setdefault(looks, []).append((self.layout.x(point), y))

    def predicted(self, row: dict[str, Any], y: float) -> None:
        """Draw the mean true effect of a study whose effects stand below it."""
        self.lozenge(row["ci_lb"], row["yi"], row["ci_ub"], y, FITTED_SHARE * self.pitch, self.style.fitted, GREY)

    def side(self, weight: float) -> float:
        """Return the side of the square whose area stands for `weight`."""
        if not (math.isfinite(weight) and self.largest > 0):
            return UNWEIGHTED_SHARE * self.pitch
        share = SHRUNKEN_SQUARE if self.attrs["shrunken"] else self.style.square_share
        return max(LEAST_SQUARE, share * self.pitch * math.sqrt(max(weight, 0.0) / self.largest))

    def interval(self, lb: float, ub: float, y: float, x: float | None, side: float) -> None:
        """Draw an interval: white where it hides in its square, with an arrow where it leaves the axis."""
        axis = self.layout.axis
        if ub < axis.lo or lb > axis.hi:
            return
        x0, x1 = self.layout.x(max(lb, axis.lo)), self.layout.x(min(ub, axis.hi))
        if x is not None and x - side / 2 <= x0 and x1 <= x + side / 2:
            self.line(x0, x1, y, "white")
            return
        if lb < axis.lo:
            self.arrow(-1, y)
            x0 += ARROW_LENGTH
        if ub > axis.hi:
            self.arrow(1, y)
            x1 -= ARROW_LENGTH
        if x1 > x0:
            self.line(x0, x1, y)

    def arrow(self, side: int, y: float, colour: str = INK) -> None:
        """Draw a filled arrow whose tip stands at the limit."""
        tip = self.layout.panel[0 if side < 0 else 1]
        base, half = tip - side * ARROW_LENGTH, ARROW_SHARE * self.pitch / 2
        self.polygon([(tip, y), (base, y - half), (base, y + half)], colour)

    def diamond(self, row: dict[str, Any], y: float) -> None:
        """Draw the diamond of a summary; nothing where it does not exist."""
        style = self.style
        looks = {"summary": (style.summary, style.outline), "subgroup": (style.subgroup, style.edge)}
        fill, edge = looks.get(row["kind"], (style.fitted, INK))
        self.lozenge(row["ci_lb"], row["yi"], row["ci_ub"], y, DIAMOND_SHARE * self.pitch, fill, edge)

    def lozenge(self, lb: float, point: float, ub: float, y: float, half: float, fill: str, edge: str) -> None:
        """Draw a diamond, which ends in an arrow where it goes on beyond the limits."""
        axis = self.layout.axis
        if not (math.isfinite(point) and lb <= ub) or ub <= axis.lo or lb >= axis.hi:
            if math.isfinite(point) and not self.visible(point):
                self.arrow(1 if point > axis.hi else -1, y, self.style.edge)
            return

        def height(value: float) -> float:
            end = lb if value <= point else ub
            return half if end == point else half * (value - end) / (point - end)

        lo, hi = max(lb, axis.lo), min(ub, axis.hi)
        middle = [(self.layout.x(v), height(v)) for v in sorted({lo, min(max(point, lo), hi), hi})]
        outline = self.headed(middle, cut=(lb < axis.lo, ub > axis.hi))
        self.polygon([*((x, y - h) for x, h in outline), *((x, y + h) for x, h in reversed(outline))], fill, edge)

    def headed(self, outline: list[tuple[float, float]], *, cut: tuple[bool, bool]) -> list[tuple[float, float]]:
        """Return the half of an outline, (place, height), with arrowheads in place of the ends that are cut."""
        x, h = (list(part) for part in zip(*outline, strict=True))
        length = min(ARROW_LENGTH, (x[-1] - x[0]) / 2)
        start, stop = x[0] + length * cut[0], x[-1] - length * cut[1]
        kept = [(a, b) for a, b in outline if start < a < stop]
        ends = []
        for at, tip, gone in ((start, x[0], cut[0]), (stop, x[-1], cut[1])):
            own = float(np.interp(at, x, h))
            ends.append([(at, own), (at, max(own, ARROW_SHARE * self.pitch / 2)), (tip, 0.0)] if gone else [(at, own)])
        return [*reversed(ends[0]), *kept, *ends[1]]

    def prediction(self, row: dict[str, Any], y: float) -> None:
        """Draw the prediction interval as a bar, a dashed line or a curve, with arrows where it is cut."""
        axis, how = self.layout.axis, self.attrs["prediction"]
        lb, ub = row["pi_lb"], row["pi_ub"]
        if math.isnan(lb) or math.isnan(ub) or ub <= axis.lo or lb >= axis.hi:
            return
        x0, x1 = self.layout.x(max(lb, axis.lo)), self.layout.x(min(ub, axis.hi))
        cut = (lb < axis.lo, ub > axis.hi)
        half = PREDICTION_SHARE * self.pitch / 2
        if how == "bar":
            outline = self.headed([(x0, half), (x1, half)], cut=cut)
            self.polygon([*((x, y - h) for x, h in outline), *((x, y + h) for x, h in reversed(outline))],
                         self.style.prediction, self.style.edge)  # fmt: skip
            return
        for side, x, gone in ((-1, x0, cut[0]), (1, x1, cut[1])):
            if gone:
                self.arrow(side, y, self.style.edge)
            else:
                self.rule(x, x, y - half, y + half, colour=self.style.edge, zorder=4)
        if how == "density":
            self.density(lb, ub, y)
        self.rule(x0, x1, y, y, colour=self.style.edge, style=DASHED if how == "line" else "solid")

    def density(self, lb: float, ub: float, y: float) -> None:
        """Draw the normal curve that has the limits of the prediction interval as its quantiles, on the line at `y`."""
        centre, sd = (lb + ub) / 2, (ub - lb) / 2 / critical_value(self.attrs["level"], None)
        axis = self.layout.axis
        values = np.linspace(max(axis.lo, centre - 3 * sd), min(axis.hi, centre + 3 * sd), 81)
        heights = DENSITY_SHARE * self.pitch * np.exp(-(((values - centre) / sd) ** 2) / 2)
        curve = [(self.layout.x(v), y - h) for v, h in zip(values.tolist(), heights.tolist(), strict=True)]
        self.polygon([(curve[0][0], y), *curve, (curve[-1][0], y)], self.style.prediction, self.style.edge)

    def visible(self, value: float) -> bool:
        """Return whether a value lies inside the limits."""
        return self.layout.axis.lo <= value <= self.layout.axis.hi

    def axis(self) -> None:
        """Draw the axis line, its ticks and labels."""
        page, layout = self.page, self.layout
        x0, x1 = layout.panel
        self.rule(x0, x1, page.axis, page.axis, points=RULE_POINTS)
        for position, label in layout.axis.ticks:
            x = layout.x(position)
            self.rule(x, x, page.axis, page.axis + TICK, points=RULE_POINTS)
            self.text(x, page.axis + TICK + 0.75 * line_height(self.size), label, align="center")
        title = self.attrs["axis_label"]
        half = text_width(title, self.size) / 2
        centre = min(max((x0 + x1) / 2, MARGIN + half), layout.width - MARGIN - half)
        self.text(centre, page.axis_label, title, align="center")
        self.directions()

    def directions(self) -> None:
        """Write what both sides of no effect mean, each with an arrow away from it."""
        from matplotlib.patches import FancyArrowPatch

        axis = self.layout.axis
        zero = self.layout.x(min(max(0.0, axis.lo), axis.hi))
        for one in self.page.arrows:
            widest = max(text_width(line, self.size) for line, _ in one.lines)
            start = zero + one.side * ARROW_GAP
            middle = sum(y for _, y in one.lines) / len(one.lines)
            for line, y in one.lines:
                self.text(start, y, line, align="left" if one.side > 0 else "right")
            tail = start + one.side * (widest + ARROW_GAP)
            self.ax.add_patch(
                FancyArrowPatch((tail, middle), (tail + one.side * ARROW, middle), arrowstyle="-|>", mutation_scale=6.0,
                                color=INK, linewidth=RULE_POINTS, shrinkA=0.0, shrinkB=0.0, zorder=3, clip_on=False)
            )  # fmt: skip

    def small_print(self) -> None:
        """Write the lines under the plot and the page number."""
        for line, size, y in self.page.small:
            self.text(MARGIN, y, line, size=size)
        if self.page.footer is not None:
            text, y = self.page.footer
            self.text(self.layout.width - MARGIN, y, text, align="right")


@overload
def forest(
    fit_or_frame: Any, *, ax: None = None, width: float = ..., xlim: tuple[float, float] | None = ...,
    smallest_effect: float | None = ..., layout: LayoutName = ..., prediction: Prediction | Literal[False] = ...,
    direction: Directions | Literal["known"] = ..., **data: Any,
) -> NotebookFigure: ...  # fmt: skip
@overload
def forest(
    fit_or_frame: Any, *, ax: Axes, width: float = ..., xlim: tuple[float, float] | None = ...,
    smallest_effect: float | None = ..., layout: LayoutName = ..., prediction: Prediction | Literal[False] = ...,
    direction: Directions | Literal["known"] = ..., **data: Any,
) -> Axes: ...  # fmt: skip
def forest(
    fit_or_frame: Any,
    *,
    ax: Axes | None = None,
    width: float = WIDTH,
    xlim: tuple[float, float] | None = None,
    smallest_effect: float | None = None,
    layout: LayoutName = "default",
    prediction: Prediction | Literal[False] = "bar",
    direction: Directions | Literal["known"] = KNOWN,
    **data: Any,
) -> NotebookFigure | Axes:
    """Draw a forest plot: every study with its interval, and what they say together.

    Each square is one study, the larger the more it weighs; the line through it is its confidence interval.
    The diamond is the mean effect over studies with its interval, the bar below it the range in which the
    true effect of one new study is expected. Correlations analysed as Fisher z are placed on the z scale and
    labelled with r.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults, MultilevelResults, RobustResults, RVEResults or DataFrame
        A fitted model; the result of `sensitivity.leave_one_out` or `sensitivity.cumulative`; or a frame from
        `forest_data`, `leave_one_out_data`, `cumulative_data` or `published_forest_data`. For dependent effects each
        study stands first, with its effects indented below it.
    ax : matplotlib Axes, optional
        Draw here: this axes shrinks to the panel of values, in the units that its labels read, row i of the frame at
        ``y = i``; columns and ticks stand around it, in the place that it had. ``ax.axvline(.3)`` marks .3, and
        ``ax.set_xlim(0, .5)`` shows that part. By default a figure of its own.
    width : float
        Least width in inches; the figure grows wider rather than letting text overlap.
    xlim : (float, float), optional
        Limits of the axis as its labels read, e.g. ``(-.2, .8)``. Intervals that leave them end in an arrow.
        By default the limits hold every interval, as far as |r| = .95.
    smallest_effect : float, optional
        Shade effects smaller than this, on the scale of the axis labels.
    layout : {"default", "apa", "bmj", "jama"}
        Colours and words: ``"apa"`` in grey with text of at least 8 points; ``"bmj"`` with a wide panel and a plain
        summary; ``"jama"`` with light diamonds, "Source" over the studies, no blank rows, and no τ below.
    prediction : {"bar", "line", "density", False}
        How the prediction interval is drawn: a bar, a dashed line with ends, the normal curve that has its limits as
        quantiles; or not at all.
    direction : (str, str) or None, optional
        What a negative and a positive effect mean, written under the axis with arrows. By default what the data say
        of their sign, if that can be put so ("worse outcome", "better outcome"); None writes nothing.
    **data
        Passed to `forest_data` when a fitted model is given: ``columns``, ``order``, ``by``, ``label``, ...

    Returns
    -------
    Figure or Axes
        A figure that shows itself in a notebook; the axes where `ax` was given.

    Raises
    ------
    InputError
        If `ax` is too small for text of 6.5 points, or an option is misspelt.

    See Also
    --------
    forest_data : the frame that is drawn, with every number.
    forest_pages : the same for print, where there are more rows than one page holds.
    save_figure : SVG, PDF and PNG files that are the same in every run.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> figure = plots.forest(RandomEffectsModel(es).fit())
    >>> figure.plot_description
    'Forest plot of 3 studies with confidence intervals at 95%. Pooled r = .29 [−.21, .67] (REML, HK). ...'
    """
    frame = styled(
        as_frame(fit_or_frame, **data), layout=layout, prediction=prediction, direction=direction,
        smallest_effect=smallest_effect,
    )  # fmt: skip
    if ax is not None:
        return _draw_into(ax, frame, xlim=xlim, smallest_effect=smallest_effect)
    plan = make_layout(frame, width=width, xlim=xlim)
    page = make_page(frame, plan, range(len(frame)))
    return _figure(frame, plan, page, smallest_effect)


def forest_pages(
    fit_or_frame: Any,
    *,
    width: float = WIDTH,
    xlim: tuple[float, float] | None = None,
    smallest_effect: float | None = None,
    layout: LayoutName = "default",
    prediction: Prediction | Literal[False] = "bar",
    direction: Directions | Literal["known"] = KNOWN,
    **data: Any,
) -> Pages:
    """Draw a forest plot on pages for print: up to 64 rows each, all with the same columns and axis.

    Up to 47 rows it is one page. Above that the text is 6.5 points on every page, the header and the axis are
    repeated, a group that runs over a page says so, and the diamond stands on the last page.

    Parameters
    ----------
    fit_or_frame, width, xlim, smallest_effect, layout, prediction, direction, **data
        As in `forest`.

    Returns
    -------
    tuple of Figure
        A notebook shows the pages below each other.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit()
    >>> len(plots.forest_pages(fit, order="effect"))
    3
    """
    frame = styled(
        as_frame(fit_or_frame, **data), layout=layout, prediction=prediction, direction=direction,
        smallest_effect=smallest_effect,
    )  # fmt: skip
    plan = make_layout(frame, width=width, xlim=xlim)
    pages = split_pages(frame, plan) if count_rows(frame) > MOST_ON_ONE_PAGE else (tuple(range(len(frame))),)
    total = len(pages)
    figures = []
    for i, rows in enumerate(pages, start=1):
        number = (i, total) if total > 1 else None
        page = make_page(frame, plan, rows, number=number, last=i == total)
        figure = _figure(frame, plan, page, smallest_effect)
        if number is not None:
            figure.plot_title = f"{figure.plot_title}, page {i} of {total}"
            figure.plot_description = page_said(frame, rows, number)
        figures.append(figure)
    return Pages(figures)


def as_frame(fit_or_frame: Any, **data: Any) -> pd.DataFrame:
    """Return the drawing frame: the one given, or that of a fitted model."""
    if isinstance(fit_or_frame, pd.DataFrame):
        if data:
            raise InputError(f"{', '.join(data)}: give this to forest_data, which made the frame")
        check_frame(fit_or_frame)
        return fit_or_frame
    from alliance_meta.plots.forests.refitted import refits_data
    from alliance_meta.plots.forests.rows import forest_data
    from alliance_meta.sensitivity.deletion.left_out import Refits

    return (refits_data if isinstance(fit_or_frame, Refits) else forest_data)(fit_or_frame, **data)


def set_inches(ax: Axes, width: float, height: float) -> None:
    """Make the inch the unit of `ax`, y counted downwards from its top."""
    ax.set_axis_off()
    ax.set_autoscale_on(False)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)


def _figure(frame: pd.DataFrame, layout: Layout, page: Page, smallest_effect: float | None) -> NotebookFigure:
    figure = NotebookFigure.for_plot(layout.width, page.height, frame.attrs)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    set_inches(ax, layout.width, page.height)
    draw_page(ax, frame, layout, page, smallest_effect=smallest_effect)
    figure.drawn = (layout, page)
    return figure


def _draw_into(
    ax: Axes, frame: pd.DataFrame, *, xlim: tuple[float, float] | None, smallest_effect: float | None
) -> Axes:
    """Draw at the loosest density that fits into `ax`; never with smaller text than the densest."""
    from alliance_meta.plots.forests.panel import become_panel, restore

    restore(ax)
    width, height = size_in_inches(ax)
    least = style_of(frame).least
    for density in _densities_from(choose_density(count_rows(frame), least), least):
        layout = make_layout(frame, width=width, xlim=xlim, density=density)
        page = make_page(frame, layout, range(len(frame)))
        if layout.width <= width + 1e-6 and page.height <= height + 1e-6:
            break
    else:
        raise InputError(
            f"ax is {fixed(width, 1)} x {fixed(height, 1)} in; this forest plot needs at least "
            f"{fixed(layout.width, 1)} x {fixed(page.height, 1)} in for text of {layout.density.size} points. "
            "Make the figure larger, or leave ax away"
        )

    def draw(sheet: Axes, limits: tuple[float, float]) -> None:
        now = make_layout(frame, width=width, xlim=limits, density=layout.density)
        set_inches(sheet, width, height)
        draw_page(sheet, frame, now, page, smallest_effect=smallest_effect)

    become_panel(ax, layout, page, (width, height), draw)
    return ax


def _densities_from(first: Density, least: float) -> tuple[Density, ...]:
    order = [density for density in (AIRY, NORMAL, DENSE) if density.size >= least]
    return tuple(order[order.index(first) :])
