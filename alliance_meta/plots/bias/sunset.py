"""Sunset plots: a funnel plot with the power of studies behind it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value, two_sided_power
from alliance_meta.errors import InputError
from alliance_meta.notes import merge_notes
from alliance_meta.plots.bias.points import (
    PANEL,
    By,
    Points,
    draw_points,
    mean_row,
    read_points,
    scale_axes,
    se_label,
)
from alliance_meta.plots.bias.points import (
    SIZE as FUNNEL_SIZE,
)
from alliance_meta.plots.bias.power import ALPHA, effect_at, shade, value_text
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SMALL, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, with_r
from alliance_meta.plots.sheet.measure import (
    INK,
    POINTS_PER_INCH,
    is_correlation,
    line_height,
    to_analysis,
    to_reader,
)
from alliance_meta.tables.format import format_percent

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
    with charting(frame, ax, *FUNNEL_SIZE, least=PANEL if ax is None else None) as chart:
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
