"""Firepower: the power of every study for a range of true effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import two_sided_power
from alliance_meta.errors import InputError
from alliance_meta.notes import merge_notes
from alliance_meta.plots.bias.points import By, Points, read_points
from alliance_meta.plots.bias.power import ALPHA, effect_at, shade, value_text
from alliance_meta.plots.sheet.chart import SIZE, SMALL, Axes, Chart, Drawn, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.measure import INK, is_correlation, line_height, text_width, tick_labels, to_analysis
from alliance_meta.tables.format import brief, format_number

TRUE_R = tuple(5 * i / 100 for i in range(1, 11))
MOST_NAMED = 45
COLUMN, ROW, LOWEST = 0.42, 0.19, 2.6
LINES = {0.5: "dashed", 0.8: "line"}


def firepower_data(
    fit: Any,
    *,
    effects: Sequence[float] | None = None,
    by: By = "effect",
    rho: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a firepower plot: the power of every study for a range of true effects.

    Parameters
    ----------
    fit : a fitted model
        Of any kind; only its standard errors are used.
    effects : sequence of float, optional
        True effects above 0, as correlations read (r) where the effects are such; by default r = .05 to .50, on
        other scales ten steps up to where half of the studies have a power of 95%.
    by, rho
        As in `funnel_data`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: median (one row per true effect: the median power of all studies), effect or study (one row per
        study and true effect, the most precise study first); ``effect`` on the analysis scale, ``r``, ``se``,
        ``power``.

    Raises
    ------
    InputError
        What is no fit, a `by` that is neither, or true effects that are not such.

    Notes
    -----
    Power of two-sided z tests at .05. It needs no estimate of the effect, so that no bias enters. Quintana (2023,
    doi:10.1177/25152459221147260). R: ``firepower`` of metameta, which shows the medians.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.firepower_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit(), effects=[0.1, 0.3])
    >>> frame.loc[frame["kind"] == "median", "power"].round(2).tolist()
    [0.18, 0.89]
    """
    points = read_points(fit, "firepower", by, None, rho)
    measure, sei = points.effects.measure, points.sei
    readers = _true_effects(points, effects)
    true = np.array([to_analysis(one, measure) for one in readers])
    order = np.argsort(sei, kind="stable")
    power = two_sided_power(true / sei[order][:, None], ALPHA)
    medians = np.median(power, axis=0)
    rows = [_cell("median", "Median", reader, effect, value) | {"k": points.effects.k}
            for reader, effect, value in zip(readers, true.tolist(), medians.tolist(), strict=True)]  # fmt: skip
    kind, names = points.kind, [points.effects.slab[i] for i in order]
    for at, (name, own) in enumerate(zip(names, power.tolist(), strict=True)):
        more = {"se": float(sei[order[at]]), "position": int(order[at])}
        found = zip(readers, true.tolist(), own, strict=True)
        rows += [_cell(kind, name, reader, effect, value) | more for reader, effect, value in found]
    if not is_correlation(measure):
        rows = [{**row, "r": None} for row in rows]
    enough = [reader for reader, value in zip(readers, medians, strict=True) if value >= 0.8]
    reach = f"80% from a true {value_text(measure, enough[0])} on" if enough else "less than 80% for all of these"
    line = f"Median power: {reach} (two-sided, .05)"
    what = "correlation r" if is_correlation(measure) else "effect"
    return chart_frame(
        "firepower", "Firepower", rows, points.effects.provenance, notes=merge_notes(fit.notes, points.notes),
        title=title, show_cautions=show_cautions, said=f"Power of {points.called} for true effects from "
        f"{value_text(measure, readers[0])} to {value_text(measure, readers[-1])}. {line}.",
        measure=measure, axis_label="" if points.effects.k <= MOST_NAMED else "The most precise on top",
        x_label=f"True {what}", level=1.0 - ALPHA, model_label=fit.model_label,
        key=[["dashed", "Power 50%: more on its right"], ["line", "80%"]],
        bottom=[line, *(note.message for note in points.notes)],
        shown=tick_labels(readers, leading_zero=False) if is_correlation(measure) else [brief(v) for v in readers],
    )  # fmt: skip


def _cell(kind: str, label: str, reader: float, effect: float, power: float) -> dict[str, Any]:
    return {"kind": kind, "label": label, "r": reader, "effect": effect, "power": power}


def _true_effects(points: Points, effects: Sequence[float] | None) -> list[float]:
    """Return the true effects as they read, smallest first."""
    measure = points.effects.measure
    if effects is None:
        if is_correlation(measure):
            return list(TRUE_R)
        step = effect_at(points.sei, 0.95) / 10.0
        unit = 10.0 ** math.floor(math.log10(step))
        nice = next(one * unit for one in (1.0, 2.0, 2.5, 5.0, 10.0) if one * unit >= step * 0.999)
        return [nice * i for i in range(1, 11)]
    bound = 1.0 if is_correlation(measure) else math.inf
    values = sorted({float(one) for one in effects})
    if not values or not all(0.0 < one < bound for one in values):
        inside = " and below 1" if is_correlation(measure) else ""
        raise InputError(f"effects={effects!r} must be true effects above 0{inside}, as the axis reads")
    return values


def firepower(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the power of every study for a range of true effects, the most precise study first.

    Read it without asking how large the effect is: where a column is dark, studies like these would miss a true
    effect of that size more often than find it. The row on top is the median study. Up to 45 studies are named.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        A fit of any kind, or a frame from `firepower_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.firepower(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()).plot_description
    'Power of 16 effects for true effects from r = .05 to r = .50. Median power: 80% from a true r = .30 on ...'
    """
    frame = as_frame(fit_or_frame, "firepower", firepower_data, data)
    columns = frame.attrs["shown"]
    studies = frame[frame["kind"] != "median"]
    power = studies["power"].to_numpy().reshape(-1, len(columns))
    k = len(power)
    named = k <= MOST_NAMED
    head = 1.0 if named else 0.08 * k
    rows = k + 1.4 * head
    pitch = ROW if ax is None else line_height(SMALL)
    wide = max(COLUMN, *(text_width(text, SIZE) + 0.1 for text in columns))
    least = (wide * len(columns), rows * pitch if named else LOWEST)
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        chart.limits("x", -0.5, len(columns) - 0.5)
        chart.limits("y", k - 0.5, -0.5 - 1.4 * head)
        chart.names("x", columns)
        chart.ax.spines[["left", "bottom"]].set_visible(False)
        chart.ax.tick_params(length=0.0)
        medians = frame.loc[frame["kind"] == "median", "power"].to_numpy()
        top = -0.5 - 0.9 * head
        for x, own in enumerate(power.T):
            _cells(chart, x, np.full(1, medians[x]), top - 0.5 * head, head)
            _cells(chart, x, own, -0.5, 1.0)
            _percent(chart, x, top, medians[x])
        labels = {top: "Median"}
        if named:
            labels |= dict(enumerate(studies["label"].iloc[:: len(columns)]))
            for (y, x), value in np.ndenumerate(power):
                _percent(chart, x, y, value)
        chart.names("y", list(labels.values()), list(labels), SMALL)
        for least_power, mark in LINES.items():
            _staircase(chart, power, least_power, mark)
    return chart.made


def _cells(chart: Chart, x: int, power: Array, first: float, height: float) -> None:
    """Shade one column from above, as one bar as long as power stays in the same tenth."""
    tenth = np.minimum(np.floor(power * 10.0 + 1e-9), 9.0)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(tenth)) + 1])
    long = np.diff(np.append(starts, len(power))) * height
    chart.ax.bar(np.full(len(starts), float(x)), long, 1.0, first + starts * height,
                 color=shade(tenth[starts] / 10.0 + 0.05), linewidth=0, zorder=0.5)  # fmt: skip


def _percent(chart: Chart, x: float, y: float, power: float) -> None:
    text = format_number(100.0 * power, 0)
    lettered(chart.ax.text(x, y, text, ha="center", va="center", fontsize=SMALL, color=INK, clip_on=True))


def _staircase(chart: Chart, power: Array, least: float, mark: str) -> None:
    """Draw the border on whose right power is at least so high."""
    columns = power.shape[1]
    first = (power < least).sum(axis=1) - 0.5
    # A border at the edge of the panel is none: it is drawn beyond, where it cannot be seen.
    first += np.where(first < 0, -1.0, np.where(first > columns - 1, 1.0, 0.0))
    edges = np.arange(len(first) + 1.0) - 0.5
    chart.line(np.repeat(first, 2), np.repeat(edges, 2)[1:-1], mark)
