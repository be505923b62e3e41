"""The specification curve: every analysis of the same studies by its estimate, and below it what was chosen in each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SMALL, Axes, Chart, Drawn, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, with_r
from alliance_meta.plots.sheet.measure import (
    GREY,
    INK,
    cut,
    font_of,
    line_height,
    size_in_inches,
    text_width,
    wrap,
)
from alliance_meta.sensitivity.forking.choices import CHOICES, GRADES
from alliance_meta.sensitivity.forking.multiverses import Multiverse
from alliance_meta.tables.format import format_level, plural

PANEL, LEAST_CURVE, CURVE = 4.6, 1.4, 2.4
WIDEST_LABEL = 2.3
PITCH = 1.25 * line_height(SMALL)
HEAD, TAIL = 0.05, 0.1
# Up to so many specifications stand apart; more run into bands.
APART = 60
# Correlations nearer to 1 have no place on an axis of Fisher's z.
INSIDE = 1.0 - 1e-9
MARKS = dict(zip(GRADES, ("mean", "dot", "ring"), strict=True))
COLOURS = dict(zip(GRADES, (INK, "#3f6c9e", GREY), strict=True))
MINUS = str.maketrans("-", "−")


def specification_curve_data(
    found: Multiverse, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a specification curve: its specifications, its options, and which takes which.

    Parameters
    ----------
    found : Multiverse
        From `sensitivity.multiverse`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: specification, in the order of the curve (``position`` 1, 2, ...), with ``yi ci_lb ci_ub``, for
        correlations as Fisher's z, and ``r r_lb r_ub``, ``p``, ``k`` and its ``grade``; headline, the same once more;
        choice and option, the rows of the grid (``row`` 0, 1, ...), with the grade of each option; taken, one for each
        option that a specification takes (``position``, ``row``). Specifications without a number are not drawn, but
        counted under the plot; choices with one option have no rows.

    Raises
    ------
    InputError
        Another result, or one of which no specification gives a number.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> effects = escalc(load_dataset("molloy2014"))
    >>> choices = {"estimator": ["REML", "DL", "EE"], "outliers": [None, "intervals"]}
    >>> found = sensitivity.multiverse(effects, choices=choices)
    >>> frame = plots.specification_curve_data(found)
    >>> frame["kind"].value_counts().to_dict()
    {'taken': 12, 'specification': 6, 'option': 5, 'choice': 2, 'headline': 1}
    """
    if not isinstance(found, Multiverse):
        raise InputError(f"specification_curve needs the result of multiverse, not {type(found).__name__}")
    given = found.given.reset_index(drop=True)
    if given.empty:
        raise InputError(
            "no specification gives a number, so that there is no curve; the column why says for what reason"
        )
    measure = "ZCOR" if found.point == "r" else "GEN"
    curve = [_row(place, row, measure) for place, row in enumerate(given.to_dict("records"), 1)]
    head = [{**one, "kind": "headline"} for one, is_head in zip(curve, given["headline"], strict=True) if is_head]
    grid = list(_grid(found))
    at = {(one["choice"], one["label"]): one["row"] for one in grid if one["kind"] == "option"}
    taken = [
        {"kind": "taken", "label": label, "choice": name, "position": place, "row": at[name, label]}
        for name in dict.fromkeys(name for name, _ in at)
        for place, label in enumerate(given[name], 1)
        if (name, label) in at
    ]
    lost = len(found.frame) - len(given)
    said = [line for line in (found.position(), found.agreement()) if line]
    gone = f"{plural(lost, 'specification')} gave no number"
    level = format_level(found.level)
    key = [["mean", "Headline"], ["dot", "Defensible"], ["ring", "To see what it does"], ["hair", f"{level} CI"]]
    return chart_frame(
        "specification_curve", "Specification curve", [*curve, *head, *grid, *taken], found.provenance,
        notes=found.notes, title=title, show_cautions=show_cautions, said=" ".join(said).translate(MINUS),
        measure=measure, axis_label=parts.axis_label(measure), x_label="", level=found.level, model_label="", key=key,
        bottom=[*(line.translate(MINUS) for line in said), *([gone] if lost else [])],
    )  # fmt: skip


def _row(place: int, row: Mapping[Any, Any], measure: str) -> dict[str, Any]:
    names = ("r", "r_lb", "r_ub") if measure == "ZCOR" else ("estimate", "ci_lb", "ci_ub")
    values = [float(row[name]) for name in names]
    if measure == "ZCOR":
        values = [one if math.isnan(one) else math.atanh(max(-INSIDE, min(INSIDE, one))) for one in values]
    numbers = dict(zip(("yi", "ci_lb", "ci_ub"), values, strict=True))
    facts = {"position": place, "p": row["pval"], "k": row["k"], "grade": row["grade"]}
    return with_r(measure, {"kind": "specification", **facts, **numbers})


def _grid(found: Multiverse) -> Iterator[dict[str, Any]]:
    """Yield the rows of the grid from above: each choice, and its options."""
    row = 0
    for name in CHOICES:
        options = found.choices[name]
        if len(options) < 2:
            continue
        yield {"kind": "choice", "label": name, "choice": name, "row": row}
        for at, one in enumerate(options, row + 1):
            yield {"kind": "option", "label": one.label, "choice": name, "grade": one.grade, "row": at}
        row += len(options) + 1


def specification_curve(multiverse_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw every analysis of the same studies, from the lowest estimate to the highest, over what was chosen in each.

    Above, each dot is the mean effect by one specification, with its interval; the large dark one is the analysis that
    is reported, and a line marks it through the grid. Below, a mark says that a specification takes an option. Where
    the marks of one option lie all to one side, the answer hangs on it; where they are spread evenly, it does not
    matter.

    Parameters
    ----------
    multiverse_or_frame : Multiverse or DataFrame
        From `sensitivity.multiverse`, or a frame from `specification_curve_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> found = sensitivity.multiverse(escalc(load_dataset("molloy2014")), choices={"estimator": ["REML", "EE"]})
    >>> plots.specification_curve(found).plot_description
    'The headline, r = 0.149 [0.080, 0.216], is above 50.0% of the specifications and below 0.0%; ...'
    """
    frame = as_frame(multiverse_or_frame, "specification_curve", specification_curve_data, data)
    grid = frame[frame["kind"].isin(("choice", "option"))]
    texts = [cut(str(label), SMALL, WIDEST_LABEL) for label in grid["label"]]
    left = max([text_width(text, SMALL, bold=True) for text in texts] + [0.6]) + 0.12
    lines = len(grid) * PITCH
    heights = [CURVE, lines] if lines else [CURVE]
    least = (left + (PANEL if ax is None else 1.0), sum(heights) + len(heights) * (HEAD + TAIL))
    if ax is not None:
        heights[0] = max(LEAST_CURVE, size_in_inches(ax)[1] - lines - len(heights) * (HEAD + TAIL))
        least = (least[0], LEAST_CURVE + lines + len(heights) * (HEAD + TAIL))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        if ax is None:
            chart.fit(0.0, 0.0, 0.0, 0.0)
        panels = chart.grid(heights, [1.0], left=left, head=HEAD, tail=TAIL, gap=0.0)
        _curve(panels[0], frame)
        if lines:
            _choices(panels[1], frame, texts)
    return chart.made


def _curve(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the estimates with their intervals, the headline on top."""
    rows, head = (frame[frame["kind"] == kind] for kind in ("specification", "headline"))
    chart.effects("y", rows[["yi", "ci_lb", "ci_ub"]])
    chart.zero("y")
    _along(chart, len(rows))
    lb, ub, y = (chart.shown(rows[name].to_numpy()) for name in ("ci_lb", "ci_ub", "yi"))
    place = rows["position"].to_numpy()
    thin = min(1.0, 250.0 / len(rows))
    chart.intervals("y", lb, ub, place, "hair", linewidth=0.3 + 0.5 * thin, alpha=0.3 + 0.5 * thin, zorder=2)
    for grade in reversed(GRADES[1:]):
        own = (rows["grade"] == grade).to_numpy()
        if own.any():
            chart.dots(
                place[own],
                y[own],
                MARKS[grade],
                s=4.0 + 26.0 * thin,
                linewidths=0.4 * thin + (grade == GRADES[-1]) * 0.2,
            )
    if len(head):
        values = [chart.shown(head[name].to_numpy()) for name in ("ci_lb", "ci_ub", "yi")]
        chart.intervals("y", values[0], values[1], head["position"], "line", zorder=6)
        chart.dots(head["position"], values[2], "mean", zorder=7)
    lines = wrap(chart.attrs["axis_label"], SMALL, CURVE)
    lettered(chart.ax.yaxis.label, "\n".join(lines), SMALL)


def _along(chart: Chart, n: int) -> None:
    chart.limits("x", 0.5, n + 0.5)
    chart.no_axis("x")
    chart.ax.spines["bottom"].set_visible(False)


def _choices(chart: Chart, frame: pd.DataFrame, texts: list[str]) -> None:
    """Draw in each option's row a mark for each specification that takes it."""
    n = int((frame["kind"] == "specification").sum())
    grid, taken = frame[frame["kind"].isin(("choice", "option"))], frame[frame["kind"] == "taken"]
    _along(chart, n)
    chart.limits("y", len(grid) - 0.5, -0.5)
    for label, row, grade, kind in zip(grid["label"], grid["row"], grid["grade"], grid["kind"], strict=True):
        if kind == "option":
            place = taken.loc[taken["row"] == row, "position"].to_numpy()
            x = _bands(place, n)
            chart.line(
                x, np.full(len(x), row), "line", color=COLOURS[grade], linewidth=0.55 * PITCH * 72, label=f"_{label}"
            )
    for place in frame.loc[frame["kind"] == "headline", "position"]:
        chart.rule("x", place, "dotted", zorder=6, linewidth=0.8)
    chart.names("y", texts, grid["row"].to_numpy(), SMALL)
    for text, label, kind in zip(texts, chart.ax.get_yticklabels(), grid["kind"], strict=True):
        if kind == "choice":
            label.set(fontproperties=font_of(text, SMALL, True))
    chart.ax.tick_params(axis="y", length=0.0, pad=4.0)
    chart.ax.spines["left"].set_visible(False)


def _bands(place: AnyArray, n: int) -> Array:
    """Return the ends of marks at the places, with gaps between; of many specifications neighbours run together."""
    if not place.size:
        return np.array([np.nan])
    if n <= APART:
        return np.column_stack([place - 0.35, place, place + 0.35, np.full(place.size, np.nan)]).ravel()
    first = np.flatnonzero(np.diff(place, prepend=-1.0) != 1.0)
    last = np.append(first[1:], place.size) - 1
    return np.column_stack([place[first] - 0.5, place[last] + 0.5, np.full(first.size, np.nan)]).ravel()
