"""Published pooled results over the years, with the range of all that were printed so far; nothing is pooled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.errors import InputError
from alliance_meta.evidence.umbrellas import Umbrella
from alliance_meta.plots.forests.published import NOT_POOLED
from alliance_meta.plots.sheet.chart import SIZE, Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import EFFECT, META, as_frame, make_chart
from alliance_meta.plots.sheet.measure import SUMMARY, text_width, to_analysis
from alliance_meta.tables.format import format_count, format_r

WIDTH, HEIGHT = 6.5, 4.2
LOWEST = 1.4
# Between results of one year and between years, in inches.
PITCH, GAP = 0.19, 0.12
OTHERS = "Not psychotherapy"
OPEN = "Open circles: the source prints no interval"


def development_data(
    shown: Umbrella,
    *,
    population: str | None = None,
    repeats: bool = False,
    title: str = "Published pooled results over the years",
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a plot of published results over the years: one row per result.

    Parameters
    ----------
    shown : Umbrella
        From `umbrella`.
    population : str, optional
        Only results of this population group, such as ``"Adults"``.
    repeats : bool
        Also results on the same studies as another result of their article.
    title : str
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the registry's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind`` (result), ``label``, ``group``, ``year``, ``k``; ``yi ci_lb ci_ub`` as Fisher's z of the printed r,
        ``r r_lb r_ub`` the printed r; ``lowest highest`` of all results up to that year, as r, and ``results``, how
        many those are. No mean and no interval over them: the syntheses share studies.

    Raises
    ------
    InputError
        A population that no result is of.

    Examples
    --------
    >>> from alliance_meta import plots
    >>> from alliance_meta.evidence import umbrella
    >>> frame = plots.development_data(umbrella(), population="Adults")
    >>> frame[["label", "year", "r"]].values.tolist()[0]
    ['Horvath & Symonds 1991', 1991.0, 0.26]
    """
    if not isinstance(shown, Umbrella):
        raise InputError(f"development_data needs the result of umbrella(), not {type(shown).__name__}")
    table = shown.development(repeats=repeats, population=population)
    rows = [_row(record) for record in table.to_dict("records")]
    first, last = int(table["year"].min()), int(table["year"].max())
    low, high = table["estimate"].min(), table["estimate"].max()
    whom = f" ({population})" if population else ""
    bottom = [NOT_POOLED, "Shaded: from the lowest to the highest result printed so far; it is no interval"]
    if table["ci_lb"].isna().any():
        bottom.append(OPEN)
    others = int((table["population_group"] == OTHERS).sum())
    if others:
        bottom.append(f"{others} of the results are not of psychotherapy but of coaching and the like")
    return make_chart(
        rows,
        {
            **META,
            "plot": "development",
            "title": title,
            "description": (
                f"{format_count(len(rows))} published pooled correlations{whom} from {first} to {last}, between "
                f"{format_r(low)} and {format_r(high)}. Nothing is pooled."
            ),
            "measure": "ZCOR",
            "axis_label": "Correlation r (Fisher z scale)",
            "x_label": "Year of publication (not to scale)",
            "key": [["dot", "Published result with its interval"], ["pi", "Range of all results so far"]],
            "bottom": bottom,
            "notes": [note.to_dict() for note in shown.notes],
            "cautions": [note.message for note in shown.notes if note.code == "caution"],
            "show_cautions": show_cautions,
        },
    )


def development(umbrella_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the published results of one field in the order of their years, never pooled.

    Each circle is the pooled correlation of one synthesis with its printed interval. The shaded steps show between
    which values all syntheses up to that year lie. They can only widen, because nothing is averaged: a new synthesis
    adds to the earlier ones, with which it shares studies, and does not replace them.

    Parameters
    ----------
    umbrella_or_frame : Umbrella or DataFrame
        From `umbrella`, or a frame from `development_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import plots
    >>> from alliance_meta.evidence import umbrella
    >>> plots.development(umbrella(), population="Adults").plot_description
    '8 published pooled correlations (Adults) from 1991 to 2024, between .15 and .28. Nothing is pooled.'
    """
    frame = as_frame(umbrella_or_frame, "development", development_data, data)
    slots = _slots(frame)
    # Narrower, the years would run into each other.
    least = (slots.length + 2 * GAP, LOWEST)
    with charting(frame, ax, WIDTH, HEIGHT, least=least) as chart:
        chart.effects("y", frame[list(EFFECT)])
        chart.zero("y")
        chart.limits("x", -GAP, slots.length + GAP)
        steps = frame.groupby("year", sort=True)[["lowest", "highest"]].first()
        lowest, highest = (np.append(steps[name], steps[name].iloc[-1]) for name in ("lowest", "highest"))
        chart.area(np.append(slots.starts, slots.ends[-1]), lowest, highest, "pi", step="post", linewidth=0.8)
        lb, ub, y = (chart.shown(frame[name].to_numpy()) for name in ("ci_lb", "ci_ub", "yi"))
        chart.intervals("y", lb, ub, slots.x, "thin", linewidth=0.8)
        known = np.isfinite(lb)
        chart.dots(slots.x[known], y[known])
        chart.dots(slots.x[~known], y[~known], "ring", edgecolors=SUMMARY)
        chart.names("x", [str(year) for year in slots.years], 0.5 * (slots.starts + slots.ends))
    return chart.made


@dataclass(frozen=True, slots=True)
class _Slots:
    """Places along the axis of years, in inches of a figure of our own: of results (k,), and of each year."""

    x: Array
    years: tuple[int, ...]
    starts: Array
    ends: Array
    length: float


def _slots(frame: pd.DataFrame) -> _Slots:
    """Give every result room of its own, and every year room for its number."""
    years = frame["year"].to_numpy()
    names, counts = np.unique(years, return_counts=True)
    label = text_width("2000", SIZE) + 0.06
    wide = np.maximum(counts * PITCH, label)
    starts = np.concatenate([[0.0], np.cumsum(wide + GAP)[:-1]])
    x = np.empty(len(frame))
    for name, start, room, count in zip(names, starts, wide, counts, strict=True):
        x[years == name] = start + room / 2 + PITCH * (np.arange(count) - 0.5 * (count - 1))
    ends = starts + wide
    return _Slots(x, tuple(int(name) for name in names), starts, ends, float(ends[-1]))


def _row(record: dict[Any, Any]) -> dict[str, Any]:
    values = {"yi": record["estimate"], "ci_lb": record["ci_lb"], "ci_ub": record["ci_ub"]}
    places = {name: to_analysis(float(value), "ZCOR") if value == value else math.nan for name, value in values.items()}
    row = {"kind": "result", "label": record["label"], "group": record["population_group"], **places}
    names = ("year", "k", "lowest", "highest", "results")
    printed = dict(zip(("r", "r_lb", "r_ub"), values.values(), strict=True))
    return row | printed | {name: float(record[name]) for name in names}
