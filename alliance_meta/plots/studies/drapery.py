"""Each study as a curve or a drop: drapery and rainforest plots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import moderated
from alliance_meta.notes import check_level, check_option
from alliance_meta.plots.bubble_plot import study_rows, weights_of
from alliance_meta.plots.forests import nested, parts
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.forests.refitted import Order
from alliance_meta.plots.levels import key_of, means_of, variables_of
from alliance_meta.plots.sheet.chart import CI_BAND, SMALL, Axes, Beyond, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, usual
from alliance_meta.plots.sheet.measure import PREDICTION, SUMMARY
from alliance_meta.results.fit import Fit
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.format import brief, format_count, format_level, format_p, format_percent

WIDTH, HEIGHT = 6.5, 4.8
LINES = (0.05, 0.01)
# Curves reach to this many standard errors, and are drawn through so many points on either side.
REACH, STEPS = 4.0, 40
LOWEST, LOG_TICKS = 8e-4, (1.0, 0.5, 0.1, 0.05, 0.01, 0.001)
FITS = RandomEffectsResults | LocationScaleResults | nested.Dependent


def drapery_data(
    fit: Fit, *, level: float | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    r"""Return the p-value functions of every effect and of the mean effect.

    Parameters
    ----------
    fit : a fitted model
        Of one mean effect, without moderators; no posterior, which has probabilities of its own.
    level : float, optional
        Confidence level of the intervals that are named; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: effect (``yi``, its normal interval ``ci_lb ci_ub``, its standard error ``se``, ``p`` for no effect;
        its curve is :math:`p(x) = 2\Phi(-|y_i - x| / \sqrt{v_i})`), pooled and prediction (points ``x``, ``p`` of the
        curves, rising in ``x``); ``r r_lb r_ub`` as correlations.

    Raises
    ------
    InputError
        A posterior, or a model with moderators, which has no single mean.

    Notes
    -----
    The curves of the mean and of a new effect are the model's own intervals at every level: at p they are as wide as
    the interval of level 1 - p.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.drapery_data(fit)
    >>> pooled = frame[(frame["kind"] == "pooled") & (abs(frame["p"] - 0.05) < 1e-9)]
    >>> pooled["r"].round(3).tolist()
    [0.08, 0.216]
    """
    if not isinstance(fit, FITS):
        called = getattr(fit, "called", type(fit).__name__)
        raise InputError(f"p-value functions need a fitted model with confidence intervals, not {called}; "
                         "plots.posterior draws a posterior")  # fmt: skip
    if not parts.single_mean(fit):
        raise InputError(f"a drapery plot needs one mean effect; refit without the moderators {fit.design.formula}")
    used = fit.level if level is None else level
    check_level(used)
    effects, measure = fit.effects, fit.effects.measure
    half, p = critical_value(used, None) * effects.sei, two_sided_p(effects.yi / effects.sei, None)
    rows = [
        {"kind": "effect", "label": label, "yi": y, "ci_lb": y - h, "ci_ub": y + h, "se": se, "p": one, "position": i}
        for i, (label, y, h, se, one) in enumerate(zip(effects.slab, effects.yi, half, effects.sei, p, strict=True))
    ]
    curves = _curves(fit, used)
    drawn = [{"kind": kind, "x": x, "yi": x, "p": one} for kind, points in curves.items() for x, one in points]
    end = [one for one in parts.summary_rows(fit, used, None) if one["kind"] == "summary" or "prediction" in curves]
    pooled, below = parts.pooled_texts(measure, fit.model_label, end), int((p < LINES[0]).sum())
    no_effect = f"no effect: {format_p(float(fit.pval[0]), name='p')}"
    alone = f"Alone with p < .05 for no effect: {format_count(below)} of {counted(fit.k)}"
    said = ". ".join([*pooled, f"Mean and {no_effect}", alone])
    ends = f"Where a curve crosses p = {_alpha(used)} its {format_level(used)} interval ends"
    key = [["hair", "Single effect"], ["line", f"Mean effect ({fit.model_label})"]]
    key += [["pi", "True effect of a new study"]] if "prediction" in curves else []
    return chart_frame(
        "drapery", "Drapery plot", [with_r(measure, row) for row in [*rows, *drawn]], effects.provenance,
        notes=fit.notes, title=title, show_cautions=show_cautions, measure=measure,
        said=f"P-value functions of {counted(fit.k)} and of their mean. {said}.",
        axis_label="p-value of a supposed true effect", x_label=parts.axis_label(measure), level=used,
        model_label=fit.model_label, key=key,
        bottom=["; ".join([*pooled, no_effect]), alone, ends],
    )  # fmt: skip


def drapery(
    fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, log: bool = False, **data: Any
) -> Drawn:
    """Draw which true effects the data speak against, and how strongly, for every effect and for their mean.

    Each curve has its peak at an estimate and falls to both sides: at any height it is as wide as the confidence
    interval of that level, so that no single level, such as 95%, is put first. Supposed effects under the curve's
    feet are those that the data contradict. The shaded curve is that of the true effect of a new study.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        As in `drapery_data`, or a frame from it.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.
    log : bool
        Whether p stands on a logarithmic axis, which shows small ones.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Notes
    -----
    Rücker & Schwarzer (2021, doi:10.1002/jrsm.1410). R: ``meta::drapery(fit)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.drapery(fit).plot_description
    'P-value functions of 16 effects and of their mean. Pooled r = .15 [.08, .22] (REML, HK). 95% prediction ...'
    """
    frame = as_frame(fit_or_frame, "drapery", drapery_data, data)
    curves = {str(kind): one for kind, one in frame.groupby("kind", sort=False)}
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        chart.effects("x", _within(frame), xlim)
        _p_axis(chart, log=log)
        _effects(chart, curves["effect"])
        if "prediction" in curves:
            one = curves["prediction"]
            x = chart.shown(one["x"].to_numpy())
            chart.area(x, LOWEST / 2.0 if log else 0.0, one["p"].to_numpy(), "pi", alpha=0.8, zorder=1.5)
            chart.line(x, one["p"], "thin", color=PREDICTION, zorder=3)
        for p in LINES:
            chart.rule("y", p, "dashed", linewidth=0.9, zorder=2)
        chart.zero("x")
        chart.line(
            chart.shown(curves["pooled"]["x"].to_numpy()), curves["pooled"]["p"], "line", linewidth=2.2, zorder=5
        )
        chart.count_beyond(curves["effect"]["yi"], "x")
    return chart.made


def _curves(fit: Any, level: float) -> dict[str, list[tuple[float, float]]]:
    """Return the points of the curves of the mean and, where the model has one, of a new effect."""
    found = two_sided_p(np.linspace(REACH, 0.0, STEPS + 1)[:-1], None)
    marked = [1.0 - level, *(line for line in LINES if not math.isclose(line, 1.0 - level))]
    p = np.sort(np.append(found, marked))
    limits = [fit.predict(level=float(1.0 - one)).iloc[0] for one in p]
    peak = float(limits[0]["pred"])
    single = not isinstance(fit, LocationScaleResults) or np.ptp(fit.tau2) == 0
    names = {"pooled": ("ci_lb", "ci_ub"), "prediction": ("pi_lb", "pi_ub") if single else ()}
    curves = {}
    for kind, ends in names.items():
        sides = np.array([[float(row[end]) for row in limits] for end in ends])
        if sides.size and np.isfinite(sides).all():
            up, down = zip(sides[0], p, strict=True), zip(sides[1, ::-1], p[::-1], strict=True)
            curves[kind] = [*up, (peak, 1.0), *down]
    return curves


def _alpha(level: float) -> str:
    return brief(1.0 - level).removeprefix("0")


def _within(frame: pd.DataFrame) -> Array:
    """Return the effects that the axis has room for: intervals as usual, and a new effect's at p = .01."""
    effects = frame[frame["kind"] == "effect"].assign(pi_lb=np.nan, pi_ub=np.nan)
    curve = frame[(frame["kind"] != "effect") & (frame["p"] >= LINES[1] - 1e-12)]
    return np.append(usual(effects), curve["x"])


def _p_axis(chart: Chart, *, log: bool) -> None:
    if log:
        chart.ax.set_yscale("log")
        chart.limits("y", LOWEST, 1.15)
        chart.names("y", [brief(p).removeprefix("0") for p in LOG_TICKS], LOG_TICKS)
        chart.ax.minorticks_off()
        return
    chart.numbers("y", [], (0.0, 1.03))
    for p in LINES:
        at = chart.ax.get_yaxis_transform()
        chart.words(1.0, p, f"p = {_alpha(1.0 - p)}", chart.moved(0.05, 0.0, at), va="center", fontsize=SMALL)


def _effects(chart: Chart, rows: pd.DataFrame) -> None:
    """Draw the curves of all effects as one line with gaps."""
    reach = np.linspace(-REACH, REACH, 2 * (STEPS if len(rows) <= 100 else STEPS // 2) + 1)
    x = rows["yi"].to_numpy()[:, None] + reach * rows["se"].to_numpy()[:, None]
    gap = np.full((len(rows), 1), math.nan)
    p = np.broadcast_to(two_sided_p(reach, None), x.shape)
    alpha = float(np.clip(6.0 / math.sqrt(len(rows)), 0.2, 0.9))
    chart.line(np.hstack([chart.shown(x), gap]).ravel(), np.hstack([p, gap]).ravel(), "hair", alpha=alpha, zorder=1)


MOST = 40
OUTLINE, PITCH = 61, 0.25
# Half the height of the heaviest drop and of the lightest, as shares of a row.
HIGHEST, FLATTEST = 0.46, 0.1
SHADES = LinearSegmentedColormap.from_list("weight", [CI_BAND, "#3f6c9e", SUMMARY])


def rainforest_data(
    fit: Any,
    *,
    order: Order = "given",
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the frame of a rainforest plot: one row per effect and one for the mean.

    Parameters
    ----------
    fit : a fitted model
        Any, of at most 40 effects. With moderators there is no single mean, and only the
        effects are in the frame.
    order : {"given", "estimate"}
        Rows as in the data, or the smallest effect first.
    level, title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (effect, summary), ``label``; ``yi ci_lb ci_ub`` and of the mean ``pi_lb pi_ub`` on the analysis scale,
        ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations; ``weight`` in percent (of a model without weights the share
        of the precision) and ``share``, the same as text. A drop is as wide as the interval and as high at x as
        :math:`1 - ((x - y_i) / h)^2`, with h half the width: the log-likelihood above that at its ends.

    Raises
    ------
    InputError
        More than 40 effects.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.rainforest_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame["kind"].value_counts().to_dict(), frame["share"].tolist()[:2]
    ({'effect': 16, 'summary': 1}, ['5.7%', '10.5%'])
    """
    check_option("order", order, Order)
    if not isinstance(fit, Fit):
        raise InputError(f"a rainforest plot needs a fitted model, not {type(fit).__name__}; call .fit() first")
    if fit.k > MOST:
        raise InputError(
            f"a rainforest plot has room for {MOST} effects, not {fit.k}; plots.caterpillar(fit) draws any number, "
            "plots.forest_pages(fit) a forest on pages"
        )
    used, measure = fit._level(level), fit.effects.measure
    weights, by = weights_of(fit)
    effects = study_rows(fit.effects, [math.nan] * fit.k, weights.tolist(), used)
    if order == "estimate":
        effects.sort(key=lambda row: row["yi"])
    rows = [{**row, "kind": "effect", "share": format_percent(row["weight"])} for row in effects]
    text, label = format_level(used), fit.model_label
    key = [["ci", f"Effect, width {text} CI, height and shade by {by}"]]
    if variables_of(fit):
        bottom = [
            *refusal(fit),
            f"No mean effect is drawn: the model {moderated(fit).formula} ({label}) has moderators",
        ]
    else:
        (mean,), meta, _ = means_of(fit, None, None, used)
        rows.append(with_r(measure, {**mean, "kind": "summary"}))
        key, bottom = [*key, *key_of(fit, rows[-1:], used)], meta["bottom"]
    heavy = max(effects, key=lambda row: row["weight"])
    said = [f"Mean effect {parts.effect_text(measure, rows[-1])}"] if rows[-1]["kind"] == "summary" else []
    said += [*bottom, f"Largest {by}: {heavy['label']}, {format_percent(heavy['weight'])}"]
    return chart_frame(
        "rainforest", "Rainforest plot", rows, fit.effects.provenance, notes=fit.notes, title=title,
        show_cautions=show_cautions, said=f"Rainforest plot of {counted(fit.k)}. {'. '.join(said)}.", measure=measure,
        axis_label="Effect", level=used, x_label=parts.axis_label(measure), model_label=label, key=key, bottom=bottom,
        counts={"share": by.capitalize()},
    )  # fmt: skip


def rainforest(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw each effect as a drop: as wide as its interval, thickest where the true effect is likely to lie.

    In a forest plot the longest lines catch the eye, and these are the least precise effects. Here the heavy ones do:
    the more an effect weighs, the thicker and darker its drop.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        As in `rainforest_data`, or a frame from it.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Notes
    -----
    Schild & Voracek (2015, doi:10.1002/jrsm.1125); drops: Barrowman & Myers (2003, doi:10.1198/0003130032369).
    R: ``metaviz::viz_rainforest(fit)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> figure = plots.rainforest(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit(), order="estimate")
    >>> figure.plot_description
    'Rainforest plot of 16 effects. Mean effect .15 [.08, .22]. Model: REML, HK. Heterogeneity: Q(15) = 38.16, ...'
    """
    frame = as_frame(fit_or_frame, "rainforest", rainforest_data, data)

    def draw(chart: Chart) -> None:
        _drops(chart, frame[frame["kind"] == "effect"])
        chart.estimates("x", frame[frame["kind"] == "summary"], np.flatnonzero(frame["kind"] == "summary"))

    return draw_rows(frame, ax, xlim, usual(frame), pitch=PITCH, widest=3.4, draw=draw)


def _drops(chart: Chart, rows: pd.DataFrame) -> None:
    """Draw the drops with a white mark at each estimate."""
    lb, ub = rows["ci_lb"].to_numpy(), rows["ci_ub"].to_numpy()
    share = rows["weight"].to_numpy() / rows["weight"].max()
    along = np.linspace(-1.0, 1.0, OUTLINE)
    x = chart.shown(0.5 * (lb + ub)[:, None] + along * 0.5 * (ub - lb)[:, None])
    high = (FLATTEST + (HIGHEST - FLATTEST) * share)[:, None] * (1.0 - along**2)
    at = np.arange(len(rows))[:, None]
    outline = np.stack([np.hstack([x, x[:, ::-1]]), np.hstack([at - high, (at + high)[:, ::-1]])], axis=2)
    drops = PolyCollection(list(outline), facecolors=SHADES(share), edgecolors=SUMMARY, linewidths=0.4, zorder=3)
    chart.ax.add_collection(drops, autolim=False)
    for ends, side in ((lb, -1), (ub, 1)):
        Beyond(chart.ax, "x", chart.shown(ends), at[:, 0], side)
    chart.dots(chart.shown(rows["yi"].to_numpy()), at[:, 0], s=5.0, facecolors="white", edgecolors="none")
