"""Where everything in a forest plot stands, in inches and page by page, before anything is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from typing import Any, Literal

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.forests.parts import records
from alliance_meta.plots.sheet.measure import (
    GREY,
    INK,
    PREDICTION,
    SUMMARY,
    Axis,
    is_correlation,
    letters_notes,
    line_height,
    make_axis,
    text_width,
    wrap,
)
from alliance_meta.tables.format import (
    NOT_AVAILABLE,
    format_interval,
    format_n,
    format_number,
    format_percent,
    format_weight,
)

LayoutName = Literal["default", "apa", "bmj", "jama"]
Prediction = Literal["bar", "line", "density"]
Directions = Sequence[str] | None
KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Style:
    """Colours, sizes and words of one layout.

    Attributes
    ----------
    header : str
        Over the studies, in place of "Study".
    bold : tuple of str
        Kinds of rows that are bold.
    panel : float
        Least width of the panel, in inches.
    square_share : float
        Side of the largest square, as a share of a row.
    least : float
        Smallest text, in points.
    below : float
        By how many points the text under the plot is smaller.
    blanks : bool
        Whether blank rows part the groups.
    without : tuple of str
        How parts of the lines under the plot begin that are left out.
    coloured : bool
        Whether judgements of bias are coloured beside having letters.
    """

    square: str = "#3f6c9e"
    summary: str = SUMMARY
    subgroup: str = "#a9c3de"
    edge: str = SUMMARY
    outline: str = "none"
    fitted: str = "#d5d5d5"
    prediction: str = PREDICTION
    band: str = "#eef1e6"
    header: str = "Study"
    bold: tuple[str, ...] = ("heading", "summary")
    panel: float = 0.0
    square_share: float = 0.8
    least: float = 6.5
    below: float = 0.0
    blanks: bool = True
    without: tuple[str, ...] = ()
    coloured: bool = True


STYLES: dict[str, Style] = {
    "default": Style(),
    "apa": Style(
        square=INK, summary=INK, subgroup="white", edge=INK, prediction=GREY, band="#efefef", least=8.0,
        coloured=False,
    ),
    "bmj": Style(
        square="#2a6ebb", summary="#2a6ebb", subgroup="#2a6ebb", edge="#2a6ebb", bold=("heading",), panel=3.15,
        square_share=0.9, below=1.0,
    ),
    "jama": Style(
        square="#00008b", summary="#add8e6", subgroup="#add8e6", edge=INK, outline=INK, prediction="white",
        header="Source", panel=3.15, blanks=False, without=("τ", "σ"),
    ),
}  # fmt: skip


def style_of(frame: pd.DataFrame) -> Style:
    """Return how the frame is drawn."""
    return STYLES[frame.attrs["layout"]]


def styled(
    frame: pd.DataFrame,
    *,
    layout: LayoutName,
    prediction: Prediction | Literal[False],
    direction: Directions | Literal["known"],
    smallest_effect: float | None,
) -> pd.DataFrame:
    """Return the frame as it is drawn: with the options in its ``.attrs``, and without rows that a layout leaves out.

    Raises
    ------
    InputError
        An unknown option, or a density of an interval that is not symmetric.
    """
    check_option("layout", layout, LayoutName)
    if prediction is not False:
        check_option("prediction", prediction, Prediction)
    style = STYLES[layout]
    gone = [*(() if style.blanks else ("blank",)), *(("prediction",) if prediction is False else ())]
    kept = ~frame["kind"].isin(gone)
    out = frame[kept].reset_index(drop=True)
    out.attrs = {**frame.attrs, "layout": layout, "prediction": prediction or None}
    if out.attrs["label_header"].startswith("Study"):
        out.attrs["label_header"] = style.header + out.attrs["label_header"].removeprefix("Study")
    if direction != KNOWN:
        out.attrs["direction"] = _checked(direction)
    out.attrs["bottom"] = [line for line in (_without(line, style.without) for line in frame.attrs["bottom"]) if line]
    if smallest_effect is not None:
        out.attrs["bottom"].append(_band_line(out.attrs, smallest_effect))
    if prediction == "density" and (out["kind"] == "prediction").any():
        _check_symmetry(out)
        out.attrs["bottom"].append(_density_line(out.attrs["level"]))
    return out


def _checked(direction: Any) -> list[str] | None:
    if direction is None:
        return None
    if isinstance(direction, str) or len(direction) != 2 or not all(isinstance(word, str) for word in direction):
        raise InputError(f"direction={direction!r} must be the words for the left and for the right, or None")
    return [" ".join(word.split()) for word in direction]


def _without(line: str, left_out: Sequence[str]) -> str:
    """Return a line under the plot without the parts that a layout leaves out."""
    name, colon, rest = line.partition(": ")
    if not colon or not left_out:
        return line
    parts = [part for part in rest.split("; ") if not part.startswith(tuple(left_out))]
    return f"{name}: {'; '.join(parts)}" if parts else ""


def _band_line(attrs: dict[Any, Any], smallest: float) -> str:
    correlation = is_correlation(attrs["measure"])
    value = format_number(smallest, leading_zero=not correlation)
    return f"Shaded: {'correlations' if correlation else 'effects'} within ±{value}, too small to matter"


def _density_line(level: float) -> str:
    low = (1.0 - level) / 2.0
    ends = f"{format_percent(100 * low)} and {format_percent(100 * (1 - low))}"
    return f"Curve: the normal density whose quantiles at {ends} are the limits of the prediction interval"


SYMMETRIC = 0.02


def _check_symmetry(frame: pd.DataFrame) -> None:
    means = frame[frame["kind"] == "summary"]
    for (_, mean), (_, new) in zip(means.iterrows(), frame[frame["kind"] == "prediction"].iterrows(), strict=False):
        below, above = mean["yi"] - new["pi_lb"], new["pi_ub"] - mean["yi"]
        if abs(below - above) > SYMMETRIC * (below + above):
            raise InputError(
                "prediction='density' draws a normal curve, and this prediction interval is not symmetric about the "
                "mean; use prediction='bar' or 'line'"
            )


WIDTH = 7.2
WIDEST_AIRY = 7.8
WIDEST = 8.6
GAP = 0.11
ESTIMATE_GAP = 0.075
WRAP_SHARES = (1.0, 0.8)
MARGIN = 0.1
PANEL = 2.4
WIDE_PANEL = 3.15
WIDEST_LABEL = 2.6
WIDEST_EXTRA = 1.35
WIDEST_SPAN = 3.6
FIGURE_SPACE = "\N{FIGURE SPACE}"
INDENT = "\N{EM SPACE}"
BLANK_SHARE = 0.5

SPANNING_KINDS = ("heading", "subgroup", "fitted", "summary", "prediction")


@dataclass(frozen=True, slots=True)
class Density:
    """Text size in points and height of one row in inches."""

    size: float
    pitch: float


AIRY, NORMAL, DENSE = Density(9.0, 0.235), Density(8.0, 0.185), Density(6.5, 0.135)
MOST_AIRY, MOST_ON_ONE_PAGE = 16, 47


@dataclass(frozen=True, slots=True)
class Column:
    """One column of text: where it is anchored, how wide it is, and its cells by row of the frame."""

    key: str
    title: str
    align: str
    x: float
    width: float
    cells: tuple[tuple[str, ...], ...]
    gap: float = GAP


@dataclass(frozen=True, slots=True)
class Layout:
    """Measured columns, row heights and axis; the same for every page of one forest."""

    density: Density
    width: float
    left: tuple[Column, ...]
    right: tuple[Column, ...]
    dots: tuple[Column, ...]
    panel: tuple[float, float]
    axis: Axis
    heights: tuple[float, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, left to right."""
        return (*self.left, *self.right, *self.dots)

    def x(self, value: float) -> float:
        """Return the place in inches of a value on the analysis scale."""
        lo, hi = self.panel
        return lo + (hi - lo) * self.axis.share(value)


def count_rows(frame: pd.DataFrame) -> int:
    """Return R: studies, headings, group summaries and blank rows, and two for the summary and its PI."""
    return int((~frame["kind"].isin(["summary", "prediction"])).sum()) + 2


def choose_density(rows: int, least: float = DENSE.size) -> Density:
    """Return the density that the total number of rows asks for, with text of at least so many points."""
    if rows <= MOST_AIRY:
        return AIRY
    return NORMAL if rows <= MOST_ON_ONE_PAGE or least > DENSE.size else DENSE


def make_layout(
    frame: pd.DataFrame,
    *,
    width: float = WIDTH,
    xlim: tuple[float, float] | None = None,
    density: Density | None = None,
) -> Layout:
    """Measure `frame` and place its columns; the figure grows wider than `width` rather than overlap.

    Before it grows beyond what a page can show at a readable size, a small forest takes the text size of a
    medium one, and long cells are broken into shorter lines.
    """
    style = style_of(frame)
    chosen = choose_density(count_rows(frame), style.least) if density is None else density
    sizes = (AIRY, NORMAL) if density is None and chosen == AIRY else (chosen,)
    room = max(width, WIDEST) if density is None else width
    tried = []
    for share in WRAP_SHARES:
        for size in sizes:
            tried.append(_lay_out(frame, style, size, share, width, xlim))
            if tried[-1].width <= room:
                return tried[-1]
    return min(tried, key=lambda layout: layout.width)


def _lay_out(
    frame: pd.DataFrame, style: Style, density: Density, share: float, width: float, xlim: tuple[float, float] | None
) -> Layout:
    """Place the columns with cells broken at `share` of their greatest width."""
    left, spans = _left_columns(frame, density, share)
    right = _right_columns(frame, density)
    dots = _dot_columns(frame, density)
    text = sum(column.width + column.gap for column in (*left, *right, *dots)) + 2 * MARGIN
    panel_width = max(_panel_width(text + GAP, width, density), style.panel)
    x = MARGIN
    left, x = _place(left, x)
    panel = (x + GAP / 2, x + GAP / 2 + panel_width)
    x = panel[1] + 1.5 * GAP
    right, x = _place(right, x)
    dots, x = _place(dots, x)
    return Layout(
        density=density,
        width=x - GAP + MARGIN,
        left=left,
        right=right,
        dots=dots,
        panel=panel,
        axis=make_axis(frame, width=panel_width, size=density.size, xlim=xlim),
        heights=_heights(frame, left, spans, density),
    )


def _panel_width(text: float, width: float, density: Density) -> float:
    """Return what the text leaves of `width`; a small forest may grow a little for a wide panel."""
    room = width - text
    if density == AIRY and text + WIDE_PANEL <= WIDEST_AIRY:
        return max(WIDE_PANEL, room)
    return max(PANEL, room)


def _place(columns: Sequence[Column], x: float) -> tuple[tuple[Column, ...], float]:
    """Set the anchors of `columns` from `x` on; return them and where the next one starts."""
    placed = []
    for column in columns:
        share = {"left": 0.0, "center": 0.5, "right": 1.0}[column.align]
        placed.append(replace(column, x=x + share * column.width))
        x += column.width + column.gap
    return tuple(placed), x


def _measured(
    key: str, title: str, align: str, cells: Sequence[tuple[str, ...]], density: Density, bold: Sequence[bool]
) -> Column:
    """Return a column as wide as its widest line; `bold` says which cells are."""
    widths = [text_width(title, density.size, bold=True)]
    widths += [
        text_width(line, density.size, bold=heavy) for cell, heavy in zip(cells, bold, strict=True) for line in cell
    ]
    return Column(key, title, align, 0.0, max(widths), tuple(cells))


def _left_columns(frame: pd.DataFrame, density: Density, share: float) -> tuple[tuple[Column, ...], list[bool]]:
    attrs = frame.attrs
    kinds = frame["kind"].tolist()
    spans = [kind in SPANNING_KINDS for kind in kinds]
    bold = [kind in style_of(frame).bold for kind in kinds]
    scale = share * density.size / AIRY.size
    labels: list[tuple[str, ...]] = [
        wrap(label, density.size, (WIDEST_SPAN if span else WIDEST_LABEL) * scale)
        for label, span in zip(frame["label"], spans, strict=True)
    ]
    labels = [
        tuple(f"{INDENT}{line}" for line in one) if kind == "effect" else one
        for one, kind in zip(labels, kinds, strict=True)
    ]
    own = [() if span else cell for cell, span in zip(labels, spans, strict=True)]
    first = _measured("label", attrs["label_header"], "left", own, density, bold)
    others = [
        _measured(
            column["key"],
            column["title"],
            "right" if column.get("numeric") else "left",
            [
                (text,) if column.get("numeric") else wrap(text, density.size, WIDEST_EXTRA * scale)
                for text in frame[column["key"]]
            ],
            density,
            bold,
        )
        for column in attrs["columns"]
    ]
    counts = [(format_n(n),) if math.isfinite(n) else () for n in frame["ni"]]
    if any(counts):
        others.append(_measured("ni", attrs["n_header"], "right", counts, density, bold))
    first = _widened(first, others, labels, spans, bold, density)
    return (
        (replace(first, cells=tuple(labels)), *others),
        spans,
    )


def _widened(
    first: Column,
    others: Sequence[Column],
    labels: Sequence[tuple[str, ...]],
    spans: Sequence[bool],
    bold: Sequence[bool],
    density: Density,
) -> Column:
    """Widen the label column until every label that runs on over empty cells ends before a filled one."""
    width = first.width
    for i, label in enumerate(labels):
        if not spans[i]:
            continue
        room = 0.0
        for column in others:
            if any(column.cells[i]):
                break
            room += column.gap + column.width
        need = max(text_width(line, density.size, bold=bold[i]) for line in label)
        width = max(width, need - room)
    return replace(first, width=width)


def _right_columns(frame: pd.DataFrame, density: Density) -> tuple[Column, ...]:
    """Return the estimates, their intervals under a header for both, and the weights."""
    bold = [kind in style_of(frame).bold for kind in frame["kind"]]
    printed = estimate_texts(frame)
    points = [(point,) if point else () for point in _same_decimals([point for point, _ in printed])]
    intervals = [(interval,) if interval else () for _, interval in printed]
    first = _measured("estimate", "", "right", points, density, bold)
    second = _measured("interval", "", "right", intervals, density, bold)
    title = frame.attrs["estimate_header"]
    both = max(first.width + ESTIMATE_GAP + second.width, text_width(title, density.size, bold=True))
    columns = [
        Column("estimate", "", "right", 0.0, both - second.width - ESTIMATE_GAP, first.cells, gap=ESTIMATE_GAP),
        Column("interval", title, "right", 0.0, second.width, second.cells),
    ]
    weights = [(format_weight(weight),) if math.isfinite(weight) else () for weight in frame["weight"]]
    if any(weights):
        columns.append(_measured("weight", frame.attrs["weight_header"], "right", weights, density, bold))
    return tuple(columns)


def _same_decimals(texts: Sequence[str]) -> list[str]:
    """Fill numbers printed with fewer decimals up with spaces as wide as a digit, so that points align."""
    decimals = [len(text.partition(".")[2]) for text in texts]
    most = max(decimals, default=0)
    return [text and text + FIGURE_SPACE * (most - count) for text, count in zip(texts, decimals, strict=True)]


def estimate_texts(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the printed estimate and interval of every row, the numbers being those of the frame."""
    correlation = is_correlation(frame.attrs["measure"])
    point, *bounds = ("r", "r_lb", "r_ub") if correlation else ("yi", "ci_lb", "ci_ub")
    limits = ("r_pi_lb", "r_pi_ub") if correlation else ("pi_lb", "pi_ub")
    texts: list[tuple[str, str]] = []
    for row in records(frame):
        names = limits if row["kind"] == "prediction" else bounds
        if row["text"]:
            value, bracket, rest = str(row["text"]).partition(" [")
            texts.append((value, f"[{rest}" if bracket else ""))
            continue
        value = format_number(row[point], leading_zero=not correlation)
        interval = format_interval(*(row[name] for name in names), leading_zero=not correlation)
        texts.append((_unless_missing(value), _unless_missing(interval)))
    return texts


def _unless_missing(text: str) -> str:
    return "" if text == NOT_AVAILABLE else text


def _dot_columns(frame: pd.DataFrame, density: Density) -> tuple[Column, ...]:
    """Return one column per risk-of-bias judgement; its cells hold the letters."""
    columns = []
    for item in frame.attrs["rob"]:
        title = str(item["title"])
        width = max(dot_width(density), text_width(title, density.size, bold=True))
        cells = tuple((text,) if text else () for text in frame[item["key"]])
        columns.append(Column(item["key"], title, "center", 0.0, width, cells))
    return tuple(columns)


def dot_diameter(density: Density) -> float:
    """Return the diameter of a risk-of-bias dot."""
    return 0.6 * density.pitch


def letter_fits(density: Density) -> bool:
    """Return whether the letter has room inside its dot; else it stands beside it."""
    return dot_diameter(density) >= 0.105


def dot_width(density: Density) -> float:
    """Return the width of a dot, with its letter where that stands beside it."""
    diameter = dot_diameter(density)
    return diameter if letter_fits(density) else diameter + 0.03 + text_width("H", density.size, bold=True)


def _heights(frame: pd.DataFrame, left: Sequence[Column], spans: Sequence[bool], density: Density) -> tuple[float, ...]:
    extra = line_height(density.size)
    heights = []
    for i, kind in enumerate(frame["kind"]):
        lines = max([1, *(len(column.cells[i]) for column in left)])
        share = BLANK_SHARE if kind == "blank" else 1.0
        heights.append(share * density.pitch + (lines - 1) * extra)
    return tuple(heights)


PAGE_UNITS = 64
# Rows that speak for those under them.
HEADS = ("heading", "cluster")
TICK = 0.04


@dataclass(frozen=True, slots=True)
class Arrow:
    """What one side of no effect means: -1 for the left, 1 for the right; lines of words and their heights."""

    side: int
    lines: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Heights on one page, in inches from its top; `centres` holds the middle of each row."""

    rows: tuple[int, ...]
    centres: tuple[float, ...]
    banner: float | None
    header: float
    rule: float
    heading: tuple[str, float] | None
    axis: float
    arrows: tuple[Arrow, ...]
    axis_label: float
    small: tuple[tuple[str, float, float], ...]
    footer: tuple[str, float] | None
    height: float


def make_page(
    frame: pd.DataFrame,
    layout: Layout,
    rows: Sequence[int],
    *,
    number: tuple[int, int] | None = None,
    last: bool = True,
) -> Page:
    """Place the rows of one page; the texts under the plot stand on the last one."""
    pitch, size = layout.density.pitch, layout.density.size
    y = MARGIN
    banner = None
    if frame.attrs["synthetic"]:
        banner = y + 0.5 * line_height(AIRY.size)
        y += 1.6 * line_height(AIRY.size)
    header = y + 0.5 * pitch
    rule = y + pitch
    y = rule + 0.3 * pitch
    again = continued(frame, rows)
    heading = (again, y + 0.5 * pitch) if again else None
    y += pitch if again else 0.0
    centres = []
    for i in rows:
        centres.append(y + layout.heights[i] / 2)
        y += layout.heights[i]
    axis = y + 0.3 * pitch
    arrows, y = _arrows(frame, layout, axis + TICK + 1.35 * line_height(size))
    axis_label = y + 0.75 * line_height(size)
    y = axis_label + 0.7 * line_height(size)
    width = layout.width - 2 * MARGIN
    below = max(DENSE.size, size - style_of(frame).below)
    small, y = small_print(frame, width=width, size=below, y=y) if last else ((), y)
    footer = None if number is None else (f"Page {number[0]} of {number[1]}", y + 0.5 * line_height(size))
    y += line_height(size) if footer else 0.0
    return Page(
        rows=tuple(rows),
        centres=tuple(centres),
        banner=banner,
        header=header,
        rule=rule,
        heading=heading,
        axis=axis,
        arrows=arrows,
        axis_label=axis_label,
        small=small,
        footer=footer,
        height=y + MARGIN / 2,
    )


# Of the arrow beside the words, and of the space around it, in inches.
ARROW, ARROW_GAP = 0.22, 0.06


def _arrows(frame: pd.DataFrame, layout: Layout, y: float) -> tuple[tuple[Arrow, ...], float]:
    """Return what stands at both sides of no effect, from the height `y` on, and where it ends."""
    words = frame.attrs["direction"]
    if not words:
        return (), y
    size, axis = layout.density.size, layout.axis
    zero = layout.x(min(max(0.0, axis.lo), axis.hi))
    step = line_height(size)
    made = []
    for side, text in zip((-1, 1), words, strict=True):
        start = zero + side * ARROW_GAP
        room = (start - MARGIN if side < 0 else layout.width - MARGIN - start) - ARROW - ARROW_GAP
        lines = wrap(text, size, room)
        made.append(Arrow(side, tuple((line, y + (i + 0.5) * step) for i, line in enumerate(lines))))
    return tuple(made), y + max(len(one.lines) for one in made) * step


def small_print(
    frame: pd.DataFrame, *, width: float, size: float, y: float
) -> tuple[tuple[tuple[str, float, float], ...], float]:
    """Return (line, size, middle) of what stands under a plot, `width` inches wide, and where it ends."""
    smaller, attrs = max(DENSE.size, size - 1), frame.attrs
    texts = [(text, size) for text in (*attrs["bottom"], *letters_notes(frame))]
    if attrs["show_cautions"]:
        texts += [(f"Caution: {text}", smaller) for text in attrs["cautions"]]
    lines = []
    y += 0.3 * line_height(size) if texts else 0.0
    for text, points in texts:
        for line in wrap(text, points, width):
            lines.append((line, points, y + 0.5 * line_height(points)))
            y += line_height(points)
        y += 0.15 * line_height(points)
    return tuple(lines), y


def split_pages(frame: pd.DataFrame, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """Return the rows of each page: at most 64 of the lowest rows high, a heading never last, a summary never first.

    The pages are as few as possible and then as even as possible.
    """
    blocks = _blocks(frame["kind"].tolist())
    most = int(PAGE_UNITS * DENSE.pitch / layout.density.pitch)
    fewest = len(_fill(frame, layout, blocks, most))
    even = math.ceil(sum(layout.heights) / layout.density.pitch / fewest)
    for units in range(min(even, most), most):
        pages = _fill(frame, layout, blocks, units)
        if len(pages) == fewest:
            return pages
    return _fill(frame, layout, blocks, most)


def _fill(frame: pd.DataFrame, layout: Layout, blocks: Sequence[list[int]], units: int) -> tuple[tuple[int, ...], ...]:
    """Return pages filled one after the other with whole blocks."""
    room = units * layout.density.pitch
    kinds = frame["kind"].tolist()
    pages: list[list[int]] = [[]]
    used = 0.0
    for block in blocks:
        if pages[-1] and used + sum(layout.heights[i] for i in block) > room + 1e-9:
            pages.append([])
            used = 0.0
        rows = block
        if not pages[-1]:
            rows = list(dropwhile(lambda i: kinds[i] == "blank", block))
            if len(pages) > 1 and rows and continued(frame, rows):
                used += layout.density.pitch
        pages[-1] += rows
        used += sum(layout.heights[i] for i in rows)
    return tuple(tuple(page) for page in pages if page)


def _blocks(kinds: Sequence[str]) -> list[list[int]]:
    """Group rows that must stay together: a heading with its first row, summaries with the row before."""
    blocks: list[list[int]] = []
    headed = False
    for i, kind in enumerate(kinds):
        joins = kind in ("subgroup", "summary", "prediction", "blank")
        if blocks and (headed or joins):
            blocks[-1].append(i)
        else:
            blocks.append([i])
        headed = kind in HEADS
    return blocks


def continued(frame: pd.DataFrame, rows: Sequence[int]) -> str | None:
    """Return the headings to repeat on a page that starts inside a group: the group, and in it the study."""
    kinds = frame["kind"].tolist()
    if not rows or kinds[rows[0]] not in ("study", "effect", "cluster", "subgroup"):
        return None
    heads: list[str] = []
    for i in range(rows[0] - 1, -1, -1):
        inside = kinds[rows[0]] == "effect" and not heads
        if kinds[i] == "heading" or (kinds[i] == "cluster" and inside):
            heads.insert(0, str(frame["label"].iloc[i]))
        if kinds[i] in ("heading", "blank", "summary", "prediction"):
            break
    return f"{', '.join(heads)} (continued)" if heads else None
