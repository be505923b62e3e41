"""The flow of records through a review, as PRISMA 2020 draws it: boxes as large as their words, and arrows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.effects.flow import Flow
from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import SMALL, Chart, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.measure import INK, line_height, size_in_inches, text_width, wrap
from alliance_meta.tables.format import format_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PREVIOUS, MAIN, SIDE, OTHER, OTHER_SIDE = range(5)
# Inches that a diagram is wide at most, where its words allow, so that a page holds it.
PAGE, NARROWEST, WIDEST = 7.3, 1.5, 2.35
PAD_X, PAD_Y = 0.09, 0.07
GAP_Y = 0.26
BAND, BAND_GAP = 0.24, 0.12
INDENT = 0.1
TITLES = {
    "previous": "Previous studies",
    "main": "Identification of new studies via databases and registers",
    "other": "Identification of new studies via other methods",
}
PHASES = ((1, "Identification"), (2, "Screening"), (5, "Included"))
BANDS, TITLE_FILL = "#b9cde2", "#e6eef6"


@dataclass(frozen=True, slots=True)
class _Box:
    """A box of the diagram: where it stands, its heading or its own number, and the numbers it lists."""

    name: str
    column: int
    row: int
    heading: str = ""
    own: str = ""
    lines: tuple[str, ...] = ()
    # Of these the diagram says that they are not reported; of other lines nothing.
    needed: tuple[str, ...] = ()


IDENTIFIED, REMOVED = "Records identified from:", "Records removed before screening:"
BOXES = (
    _Box("previous", PREVIOUS, 1, lines=("previous_studies", "previous_reports")),
    _Box("identified", MAIN, 1, IDENTIFIED, lines=("database_results", "register_results", "additional_results"),
         needed=("database_results",)),
    _Box("removed", SIDE, 1, REMOVED, lines=("duplicates", "excluded_automatic", "excluded_other"),
         needed=("duplicates",)),
    _Box("screened", MAIN, 2, own="records_screened"),
    _Box("excluded", SIDE, 2, own="records_excluded"),
    _Box("sought", MAIN, 3, own="dbr_sought_reports"),
    _Box("not retrieved", SIDE, 3, own="dbr_notretrieved_reports"),
    _Box("assessed", MAIN, 4, own="dbr_assessed"),
    _Box("reports excluded", SIDE, 4, own="dbr_excluded"),
    _Box("other identified", OTHER, 1, IDENTIFIED,
         lines=("website_results", "organisation_results", "citations_results")),
    _Box("other sought", OTHER, 3, own="other_sought_reports"),
    _Box("other not retrieved", OTHER_SIDE, 3, own="other_notretrieved_reports"),
    _Box("other assessed", OTHER, 4, own="other_assessed"),
    _Box("other reports excluded", OTHER_SIDE, 4, own="other_excluded"),
    _Box("included", MAIN, 5, lines=("new_studies", "new_reports"), needed=("new_studies",)),
    _Box("total", MAIN, 6, lines=("total_studies", "total_reports", "total_studies_ma", "total_reports_ma"),
         needed=("total_studies",)),
)  # fmt: skip
ARROWS = (
    ("identified", "screened"), ("screened", "sought"), ("sought", "assessed"), ("assessed", "included"),
    ("included", "total"), ("identified", "removed"), ("screened", "excluded"), ("sought", "not retrieved"),
    ("assessed", "reports excluded"), ("other identified", "other sought"), ("other sought", "other assessed"),
    ("other sought", "other not retrieved"), ("other assessed", "other reports excluded"),
    ("other assessed", "included"), ("previous", "total"),
)  # fmt: skip
DETAILS = {"database_results": "database_specific_results", "register_results": "register_specific_results"}
# PRISMA 2020 speaks of new studies only where there are previous ones.
ALONE = {"new_studies": "Studies included in review", "new_reports": "Reports of included studies"}


def prisma_data(flow: Flow, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a PRISMA 2020 flow diagram: one row for each heading and number.

    Parameters
    ----------
    flow : Flow
        From `effects.read_flow`, which checks its arithmetic. Other methods than databases and registers, and a
        previous version of the review, have their columns where the flow has numbers above 0 for them.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: title (of a column), phase, box (its heading, or its own number) and line; ``box``, ``key`` of the
        template, ``label``, ``n`` (empty where it was not reported), ``column`` and ``row`` of the diagram.

    Raises
    ------
    InputError
        If `flow` is none.

    Examples
    --------
    >>> from alliance_meta.effects import read_flow
    >>> from alliance_meta import plots
    >>> flow = read_flow({"database_results": 120, "duplicates": 20, "records_screened": 100, "new_studies": 6})
    >>> frame = plots.prisma_data(flow)
    >>> frame.loc[frame["key"] == "records_screened", ["label", "n"]].values.tolist()
    [['Records screened', 100.0]]
    """
    if not isinstance(flow, Flow):
        raise InputError(f"prisma needs a flow from effects.read_flow, not {type(flow).__name__}")
    rows = list(_rows(flow))
    frame = pd.DataFrame(rows)
    said = " ".join(_said(str(name), own) for name, own in frame[frame["box"].notna()].groupby("box", sort=False))
    return chart_frame(
        "prisma", "Flow of records", rows, flow.provenance, notes=flow.notes, title=title,
        show_cautions=show_cautions, said=f"PRISMA 2020 flow diagram. {said}",
        bottom=[note.message for note in flow.notes],
    )  # fmt: skip


def _rows(flow: Flow) -> Iterator[dict[str, Any]]:
    shown = {
        "main": True, "other": flow.has_other, "previous": flow.has_previous,
        "total": flow.has_previous or any(flow.number(key) for key in BOXES[-1].lines[2:]),
    }  # fmt: skip
    for name, column in (("previous", PREVIOUS), ("main", MAIN), ("other", OTHER)):
        if shown[name]:
            yield {"kind": "title", "label": TITLES[name], "column": column, "row": 0}
    for row, phase in PHASES:
        yield {"kind": "phase", "label": phase, "row": row}
    for box in BOXES:
        if shown.get(box.name.partition(" ")[0], True):
            yield from _box_rows(flow, box)


def _box_rows(flow: Flow, box: _Box) -> Iterator[dict[str, Any]]:
    place = {"box": box.name, "column": box.column, "row": box.row}
    label = flow.label(box.own) if box.own else box.heading
    if label:
        yield {"kind": "box", "key": box.own, "label": label, "n": flow.number(box.own), **place}
    listed = list(flow.parts.get(box.own, ()))
    for reason, n in listed if any(reason for reason, _ in listed) else ():
        yield {"kind": "line", "key": box.own, "label": reason, "n": n, **place}
    for key in box.lines:
        if (number := flow.number(key)) is None and key not in box.needed:
            continue
        alone = ALONE.get(key) if key not in flow.labels and not flow.has_previous else None
        yield {"kind": "line", "key": key, "label": alone or flow.label(key), "n": number, **place}
        for part, count in flow.parts.get(DETAILS.get(key, ""), ()):
            yield {"kind": "part", "key": key, "label": part, "n": count, **place}


def _said(name: str, own: pd.DataFrame) -> str:
    """Return what a box says as a sentence."""
    text = "By other methods: " if name == "other identified" else ""
    before = ""
    for row in own.to_dict("records"):
        kind = str(row["kind"])
        link = "" if not before else ": " if before == "box" else "; " if kind == "line" else ", "
        if kind == "part" and before == "line":
            link = ", of these "
        text = f"{text.rstrip(': ') if before == 'box' else text}{link}{row['label']} {_number(row)}".rstrip()
        before = kind
    return f"{text}."


def _number(row: Mapping[Any, Any]) -> str:
    if row["kind"] == "box" and not row["key"]:
        return ""
    return "(n not reported)" if pd.isna(row["n"]) else f"(n = {format_count(row['n'])})"


def prisma(flow_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw a PRISMA 2020 flow diagram.

    Every box is as large as its words. A number that was not reported is said to be so and never filled in; what
    contradicts itself, where `read_flow` let it pass, stands under the diagram.

    Parameters
    ----------
    flow_or_frame : Flow or DataFrame
        From `effects.read_flow`, or a frame from `prisma_data`.
    ax, **data
        As in `caterpillar`, and so are the errors. The unit of the axes is the inch.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta.effects import read_flow
    >>> from alliance_meta import plots
    >>> flow = read_flow({"database_results": 120, "duplicates": 20, "records_screened": 100, "new_studies": 6})
    >>> plots.prisma(flow).plot_description
    'PRISMA 2020 flow diagram. Records identified from: Databases (n = 120). Records removed before screening: ...'
    """
    frame = as_frame(flow_or_frame, "prisma", prisma_data, data)
    plan = diagram(frame)
    with charting(frame, ax, 0.0, 0.0, least=plan.size) as chart:
        if ax is None:
            chart.fit(0.0, 0.0, 0.0, 0.0)
        wide, high = size_in_inches(chart.ax) if ax is not None else plan.size
        spare = (wide - plan.size[0]) / 2
        chart.limits("x", -spare, wide - spare)
        chart.limits("y", high, 0.0)
        chart.ax.set_axis_off()
        chart.tick_lines = 0
        for left, top, right, bottom, label in plan.titles:
            _rectangle(chart, left, top, right, bottom, TITLE_FILL)
            lines = wrap(label, plan.points, right - left - 2 * PAD_X, bold=True)
            _lines(chart, (left + right) / 2, (top + bottom) / 2, lines, plan.points)
        for left, top, right, bottom, label in plan.phases:
            _rectangle(chart, left, top, right, bottom, BANDS)
            chart.words((left + right) / 2, (top + bottom) / 2, label, chart.ax.transData, rotation=90, ha="center",
                        va="center", fontsize=plan.points, weight="bold")  # fmt: skip
        for name, (left, top, right, bottom) in plan.boxes.items():
            _rectangle(chart, left, top, right, bottom, "white")
            for i, (text, indent) in enumerate(plan.texts[name]):
                y = top + PAD_Y + (i + 0.5) * line_height(plan.points)
                chart.words(left + PAD_X + indent, y, text, chart.ax.transData, va="center", fontsize=plan.points)
        for one, other in ARROWS:
            if one in plan.boxes and other in plan.boxes:
                _arrow(chart, plan.boxes[one], plan.boxes[other])
    return chart.made


Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Setting:
    """How the words are set: their size in points, how wide a box may be, and the gap between columns, in inches."""

    points: float
    widest: float
    gap: float

    def wide(self, text: str, *, bold: bool = False) -> float:
        """Return the width of a text."""
        return text_width(text, self.points, bold=bold)

    def tall(self, lines: int) -> float:
        """Return the height of a box of so many lines."""
        return lines * line_height(self.points) + 2 * PAD_Y


def _setting(columns: int) -> _Setting:
    """Return how a diagram of so many columns is set."""
    gap = 0.34 if columns < 3 else 0.2
    room = (PAGE - BAND - BAND_GAP - (columns - 1) * gap) / columns
    return _Setting(SMALL if columns < 4 else SMALL - 1.0, min(WIDEST, room), gap)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything stands, in inches from the upper left corner: left, top, right, bottom."""

    points: float
    size: tuple[float, float]
    boxes: dict[str, Bounds]
    texts: dict[str, list[tuple[str, float]]]
    titles: list[tuple[float, float, float, float, str]]
    phases: list[tuple[float, float, float, float, str]]


def diagram(frame: pd.DataFrame) -> Plan:
    """Return where the boxes of a frame stand: columns and rows as wide and high as their largest box."""
    inner = frame[frame["box"] != ""]
    by = _setting(inner["column"].nunique())
    texts = {str(name): _box_lines(own, by) for name, own in inner.groupby("box", sort=False)}
    places = {str(own["box"].iloc[0]): (int(own["column"].iloc[0]), int(own["row"].iloc[0]))
              for _, own in inner.groupby("box", sort=False)}  # fmt: skip
    widths: dict[int, float] = {}
    heights: dict[int, float] = {}
    for name, lines in texts.items():
        column, row = places[name]
        wide = max(by.wide(text) + indent for text, indent in lines) + 2 * PAD_X
        widths[column] = max(widths.get(column, min(NARROWEST, by.widest)), wide)
        heights[row] = max(heights.get(row, 0.0), by.tall(len(lines)))
    lefts, right = _starts(widths, BAND + BAND_GAP, by.gap)
    spans = {int(row["column"]): str(row["label"]) for row in frame[frame["kind"] == "title"].to_dict("records")}
    titles, head = _titles(spans, lefts, widths, by)
    _make_room_for_phases(frame, heights, by)
    tops, bottom = _starts(heights, head + GAP_Y, GAP_Y)
    boxes = {}
    for name, (column, row) in places.items():
        tall = by.tall(len(texts[name]))
        top = tops[row] + (heights[row] - tall) / 2
        boxes[name] = (lefts[column], top, lefts[column] + widths[column], top + tall)
    return Plan(by.points, (right, bottom), boxes, texts, titles, _phases(frame, tops, heights))


def _starts(sizes: Mapping[int, float], first: float, gap: float) -> tuple[dict[int, float], float]:
    """Return where each starts that stands behind the last with a gap, and where all end."""
    found, at = {}, first
    for place in sorted(sizes):
        found[place] = at
        at += sizes[place] + gap
    return found, at - gap


def _titles(
    spans: Mapping[int, str], lefts: Mapping[int, float], widths: Mapping[int, float], by: _Setting
) -> tuple[list[tuple[float, float, float, float, str]], float]:
    """Return the titles over the columns that each spans, and how high they are."""
    ends = {PREVIOUS: PREVIOUS, MAIN: SIDE, OTHER: OTHER_SIDE}
    bounds = {column: (lefts[column], lefts[ends[column]] + widths[ends[column]]) for column in spans}
    rows = max(len(wrap(label, by.points, bounds[column][1] - bounds[column][0] - 2 * PAD_X, bold=True))
               for column, label in spans.items())  # fmt: skip
    head = by.tall(rows)
    return [(*_across(bounds[column], head), label) for column, label in spans.items()], head


def _across(bounds: tuple[float, float], head: float) -> Bounds:
    return bounds[0], 0.0, bounds[1], head


def _make_room_for_phases(frame: pd.DataFrame, heights: dict[int, float], by: _Setting) -> None:
    """Make rows so high that the name of a phase has room beside them."""
    for row, last, label in _spans(frame, heights):
        there = sum(heights[one] for one in range(row, last + 1) if one in heights) + (last - row) * GAP_Y
        heights[row] += max(0.0, by.wide(label, bold=True) + 0.12 - there)


def _spans(frame: pd.DataFrame, heights: Mapping[int, float]) -> Iterator[tuple[int, int, str]]:
    """Yield the first and last row of each phase and its name."""
    phases = frame[frame["kind"] == "phase"]
    starts = [int(row) for row in phases["row"]]
    for label, row, following in zip(phases["label"], starts, [*starts[1:], max(heights) + 1], strict=True):
        yield row, following - 1, str(label)


def _phases(
    frame: pd.DataFrame, tops: Mapping[int, float], heights: Mapping[int, float]
) -> list[tuple[float, float, float, float, str]]:
    return [
        (0.0, tops[row], BAND, tops[last] + heights[last], label)
        for row, last, label in _spans(frame, heights)
    ]  # fmt: skip


def _box_lines(own: pd.DataFrame, by: _Setting) -> list[tuple[str, float]]:
    """Return the lines of a box with their indents; a number stands on one line."""
    found: list[tuple[str, float]] = []
    headed = own["kind"].iloc[0] == "box"
    for row in own.to_dict("records"):
        indent = INDENT * ((row["kind"] != "box" and headed) + (row["kind"] == "part"))
        room, number = by.widest - 2 * PAD_X - indent - INDENT * (row["kind"] != "box" and headed), _number(row)
        lines = list(_broken(str(row["label"]), room, by))
        if not number:
            pass
        elif by.wide(f"{lines[-1]} {number}") <= room:
            lines[-1] = f"{lines[-1]} {number}".strip()
        else:
            lines.append(number)
        # The lines after the first of an entry of a list stand further in.
        found += [(line, indent + (INDENT if i and headed and row["kind"] != "box" else 0.0))
                  for i, line in enumerate(lines)]  # fmt: skip
    return found


def _broken(text: str, room: float, by: _Setting) -> Iterator[str]:
    """Yield lines no wider than `room`; a word that is wider by itself is broken as well."""
    for line in wrap(text, by.points, room):
        start = 0
        for end in range(1, len(line) + 1):
            if by.wide(line[start:end]) > room and end - start > 1:
                yield line[start : end - 1]
                start = end - 1
        yield line[start:]


def _rectangle(chart: Chart, left: float, top: float, right: float, bottom: float, fill: str) -> None:
    from matplotlib.patches import Rectangle

    chart.ax.add_patch(
        Rectangle((left, bottom), right - left, top - bottom, facecolor=fill, edgecolor=INK, linewidth=0.8, zorder=3,
                  clip_on=False)
    )  # fmt: skip


def _lines(chart: Chart, x: float, y: float, lines: Sequence[str], points: float) -> None:
    """Write bold lines, the middle of all at a place."""
    for i, line in enumerate(lines):
        at = y + (i - (len(lines) - 1) / 2) * line_height(points)
        chart.words(x, at, line, chart.ax.transData, ha="center", va="center", fontsize=points, weight="bold")


def _arrow(chart: Chart, one: Bounds, other: Bounds) -> None:
    """Draw an arrow: down within a column, to the right within a row, else down and then aside."""
    from matplotlib.patches import FancyArrowPatch

    middle = (other[1] + other[3]) / 2
    if abs(one[0] - other[0]) < 1e-9:
        x = (one[0] + one[2]) / 2
        start, end = (x, one[3]), (x, other[1])
    elif one[0] < other[0] and one[1] < other[3] and other[1] < one[3]:
        start, end = (one[2], (one[1] + one[3]) / 2), (other[0], middle)
    else:
        x = (one[0] + one[2]) / 2
        chart.ax.plot([x, x], [one[3], middle], color=INK, linewidth=0.9, solid_capstyle="butt", marker="None",
                      linestyle="solid", clip_on=False, zorder=2)  # fmt: skip
        start, end = (x, middle), (other[0] if x < other[0] else other[2], middle)
    chart.ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>,head_length=5,head_width=2.4", mutation_scale=1, color=INK,
                        linewidth=0.9, linestyle="solid", shrinkA=0, shrinkB=0, clip_on=False, zorder=2)
    )  # fmt: skip
