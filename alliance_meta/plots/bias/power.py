"""The power of studies: behind a funnel plot (sunset), and for a range of true effects (firepower)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value, two_sided_power
from alliance_meta.errors import InputError
from alliance_meta.notes import merge_notes
from alliance_meta.plots.bias.points import PANEL, By, Points, draw_points, mean_row, read_points, scale_axes, se_label
from alliance_meta.plots.bias.points import SIZE as FUNNEL_SIZE
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SIZE, SMALL, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, with_r
from alliance_meta.plots.sheet.measure import (
    INK,
    POINTS_PER_INCH,
    is_correlation,
    line_height,
    text_width,
    tick_labels,
    to_analysis,
    to_reader,
)
from alliance_meta.tables.format import brief, format_number, format_percent

ALPHA = 0.05
# From no power to full power; in grey from dark to light.
SHADES = ("#d9822b", "#f0b673", "#fbdcb2", "#f6f1e6", "#eef4f8")


def shade(power: Array) -> Array:
    """Return the colour (..., 3) of each power."""
    from matplotlib.colors import to_rgb

    table = np.array([to_rgb(one) for one in SHADES])
    at = np.linspace(0.0, 1.0, len(table))
    return np.stack([np.interp(power, at, table[:, i]) for i in range(3)], axis=-1)


def effect_at(sei: Array, power: float) -> float:
    """Return the true effect for which the median power of studies with these standard errors is `power`."""
    middle = float(np.sort(sei)[len(sei) // 2])

    def excess(ncp: float) -> float:
        return float(np.median(two_sided_power(ncp * (middle / sei), ALPHA))) - power

    return middle * float(optimize.brentq(excess, 0.0, 12.0, rtol=1e-13))


def value_text(measure: str, value: float) -> str:
    """Return a true effect, as its axis reads."""
    if is_correlation(measure):
        return f"r = {format_number(value, 2, leading_zero=False)}"
    return brief(value, 4).replace("-", "−")


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


BANDS = tuple(i / 10 for i in range(1, 10))
# The bands that are named first where not all have room.
FIRST = (0.8, 0.5, 0.2, 0.3, 0.1, 0.9, 0.4, 0.6, 0.7)
STEPS = 41
INFLATED = "Where the true effect taken is too large, so is the power"


def sunset_data(
    fit: Any,
    *,
    effect: float | None = None,
    by: By = "effect",
    rho: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the frame of a sunset plot: every effect with its standard error and the power of its study.

    Parameters
    ----------
    fit : a fitted model
        Of any kind.
    effect : float, optional
        The true effect that power is computed for, as correlations read (r) where the effects are such. By default
        the mean effect of the fit; needed for a model with moderators.
    by, rho
        As in `funnel_data`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: effect or study (a point, with its two-sided ``p`` and its ``power``), band (the standard error
        ``se`` at which power falls to ``power``), contour (between which p is above .05 at that ``se``).
        ``.attrs`` has ``effect`` (on the analysis scale), ``median_power``, ``d33`` and ``d66`` (the true effects
        for which half of the studies have a power of at least 33% and 66%), ``observed`` and ``expected`` (share
        of significant effects) and ``r_index``.

    Raises
    ------
    InputError
        What is no fit, a `by` that is neither, no `effect` for a model with moderators, or one that is no number.

    Notes
    -----
    Power of a two-sided z test at .05: :math:`\Phi(|\theta|/s - 1.96) + \Phi(-|\theta|/s - 1.96)`. Kossmeier, Tran &
    Voracek (2020, doi:10.1027/2151-2604/a000392). R-index: median power less its excess of significant effects over
    it (Schimmack 2016); a large gap between observed and expected asks for `bias.tes`. R: ``viz_sunset`` of metaviz.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.sunset_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> {name: round(frame.attrs[name], 2) for name in ("median_power", "d33", "d66", "observed", "expected")}
    {'median_power': 0.34, 'd33': 0.15, 'd66': 0.23, 'observed': 0.56, 'expected': 0.45}
    """
    points = read_points(fit, "sunset", by, None, rho)
    measure = points.effects.measure
    true = _true_effect(fit, points, effect)
    power = two_sided_power(true / points.sei, ALPHA)
    numbers = _numbers(points, power)
    rows = [*points.rows(power=power), *_bands(points, true), *_contour(points)]
    reader = to_reader(true, measure)
    whose = "the mean of the fit" if effect is None else "given"
    said = _said(measure, reader, numbers)
    return chart_frame(
        "sunset", "Sunset plot", rows, points.effects.provenance, notes=merge_notes(fit.notes, points.notes),
        title=title, show_cautions=show_cautions,
        said=f"{points.called[:1].upper()}{points.called[1:]} with the power of their studies. {' '.join(said)}",
        measure=measure, axis_label=se_label(points.effects), x_label=parts.axis_label(measure), level=1.0 - ALPHA,
        model_label=fit.model_label,
        key=[["ink", points.called], ["dotted", "p = .05, two-sided"],
             ["line", f"True effect taken, {whose}: {value_text(measure, reader)}"]],
        bottom=[*said, *(note.message for note in points.notes)], deepest=points.deepest, effect=true, **numbers,
    )  # fmt: skip


def _true_effect(fit: Any, points: Points, effect: float | None) -> float:
    """Return the true effect that power is for, on the analysis scale."""
    measure = points.effects.measure
    if effect is not None:
        bound = 1.0 if is_correlation(measure) else math.inf
        if isinstance(effect, bool) or not isinstance(effect, int | float | np.number) or not abs(effect) < bound:
            inside = " between -1 and 1" if is_correlation(measure) else ""
            raise InputError(f"effect={effect!r} must be a number{inside}: the true effect, as the axis reads")
        return to_analysis(float(effect), measure)
    mean = mean_row(fit, points.level)
    if mean is None:
        raise InputError(
            "effect: a model with moderators has no single mean; give the true effect to compute power for"
        )
    return float(mean["yi"])


def _numbers(points: Points, power: Array) -> dict[str, float]:
    """Return what sums up the power of all studies."""
    median, observed = float(np.median(power)), float((points.pval < ALPHA).mean())
    found = {"median_power": median, "d33": effect_at(points.sei, 0.33), "d66": effect_at(points.sei, 0.66)}
    expected = float(power.mean())
    return found | {"observed": observed, "expected": expected, "r_index": min(max(2.0 * median - observed, 0.0), 1.0)}


def _bands(points: Points, true: float) -> list[dict[str, Any]]:
    """Return the standard errors at which power falls to each step, those that the plot reaches."""
    if true == 0:
        return []
    depths = {power: abs(true) / effect_at(np.ones(1), power) for power in BANDS}
    return [
        {"kind": "band", "label": f"Power {format_percent(100.0 * power, 0)}", "power": power, "se": se}
        for power, se in depths.items()
        if se < points.deepest
    ]


def _contour(points: Points) -> list[dict[str, Any]]:
    half, measure = critical_value(1.0 - ALPHA, None), points.effects.measure
    return [
        with_r(measure, {"kind": "contour", "label": "p = .05", "p": ALPHA, "se": se,
                         "ci_lb": -half * se, "ci_ub": half * se})
        for se in np.linspace(0.0, points.deepest, STEPS).tolist()
    ]  # fmt: skip


def _said(measure: str, reader: float, numbers: dict[str, float]) -> list[str]:
    """Say how much power the studies have, and whether more effects are significant than that explains."""
    third, two = (value_text(measure, to_reader(numbers[name], measure)) for name in ("d33", "d66"))
    percent = {name: format_percent(100.0 * numbers[name], 0) for name in ("median_power", "observed", "expected")}
    return [
        f"Median power {percent['median_power']} for a true {value_text(measure, reader)}; half of the studies reach "
        f"33% for {third}, 66% for {two}.",
        f"Significant: {percent['observed']} observed, {percent['expected']} expected; "
        f"R-index {format_percent(100.0 * numbers['r_index'], 0)}. {INFLATED}.",
    ]


def sunset(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw a sunset plot: a funnel plot whose background shows the power of a study of each size.

    The lower a study stands and the darker the background, the smaller its chance to find the effect that is taken
    for true. Significant effects in the dark, outside the dotted lines, are findings that such studies should seldom
    make: many of them say that others were not reported, or that the true effects differ.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        A fit of any kind, or a frame from `sunset_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.sunset(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()).plot_description
    '16 effects with the power of their studies. Median power 34% for a true r = .15; ...'
    """
    frame = as_frame(fit_or_frame, "sunset", sunset_data, data)
    with charting(frame, ax, *FUNNEL_SIZE, panel=PANEL) as chart:
        points = frame[frame["kind"].isin(("effect", "study"))]
        contour = frame[frame["kind"] == "contour"]
        true = float(frame.attrs["effect"])
        last = contour[["ci_lb", "ci_ub"]].iloc[-1].to_numpy()
        scale_axes(chart, frame, np.concatenate([points["yi"], last, [true]]), xlim)
        _background(chart, frame[frame["kind"] == "band"])
        chart.rule("x", 0.0, "hair")
        for name in ("ci_lb", "ci_ub"):
            chart.line(chart.shown(contour[name].to_numpy()), contour["se"], "dotted", zorder=3)
        chart.rule("x", float(chart.shown(true)), "line", zorder=3)
        draw_points(chart, points, "ink")
    return chart.made


def _background(chart: Chart, bands: pd.DataFrame) -> None:
    """Shade the bands of power, and write at the right where one ends."""
    deepest = float(chart.attrs["deepest"])
    ordered = bands.sort_values("se")
    edges = [0.0, *ordered["se"], deepest]
    middles = [0.95, *(ordered["power"] - 0.05)] if chart.attrs["effect"] else [ALPHA]
    for low, high, power in zip(edges[:-1], edges[1:], middles, strict=True):
        chart.ax.axhspan(low, high, color=shade(np.array(power)), linewidth=0, zorder=0.1)
    room = line_height(SMALL) * deepest / max(chart.panel_size()[1] - 1.0, PANEL[1] * 0.8)
    placed: list[float] = [-room]
    for power in FIRST:
        for se in bands.loc[np.isclose(bands["power"], power), "se"]:
            if min(abs(se - one) for one in placed) >= room:
                placed.append(float(se))
                _beside(chart, format_percent(100.0 * power, 0), float(se))
    chart.words(1.0, 1.0, "Power", chart.moved(0.06, 0.0), fontsize=SMALL, va="center")


def _beside(chart: Chart, text: str, at: float) -> None:
    label = chart.ax.annotate(
        text, (1.0, at), (0.06 * POINTS_PER_INCH, 0.0), xycoords=chart.ax.get_yaxis_transform(),
        textcoords="offset points", annotation_clip=True, va="center", fontsize=SMALL, color=INK,
    )  # fmt: skip
    lettered(label)
