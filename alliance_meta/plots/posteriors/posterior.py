"""Posteriors: of one quantity beside its prior, averaged over models, and of how p-values are published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.bayes.averaged.bias_results import RobmaResults
from alliance_meta.bayes.averaged.results import AveragedResults
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.marginals import KINDS, TANH, Marginal, TransformedMarginal
from alliance_meta.bayes.priors.predictions import TauPriorMarginal, mean_prior, prior_of
from alliance_meta.bayes.priors.prior import EffectPrior, Normal, TauPrior
from alliance_meta.bayes.sampled.quantities import SampledQuantities
from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, curve_rows
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.tables.format import brief, format_interval, format_level, format_number, format_p

SIZE = (5.5, 3.9)
STEPS = 321
# The curves reach to these quantiles.
ENDS, PRIOR_ENDS = (5e-4, 1.0 - 5e-4), (0.05, 0.95)
# The prior may widen the axis by this many times the reach of the posterior on either side.
WIDER = 1.0
SMALL_R = 0.1
PlotScale = Literal["z", "r"]


def posterior_data(
    fit: Any,
    *,
    what: str = "mu",
    scale: PlotScale | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the densities of one quantity before and after the data.

    Parameters
    ----------
    fit : BayesianResults, BayesianMultilevelResults or SampledPosterior
    what : str
        ``"mu"``, a coefficient, ``"tau"`` (of three levels ``"tau[<term>]"``), ``"theta_new"`` or
        ``"theta[<label>]"``.
    scale : {"z", "r"}, optional
        For correlations on Fisher's z. By default equal steps of z along an axis that is labelled in r; ``"r"``: equal
        steps of r, and the density per unit of r; ``"z"``: labelled in z.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: posterior and prior (``density`` by `x`; no prior where it is improper), lower, median and upper of
        the posterior; ``r`` is `x` as a correlation. ``.attrs["chances"]``: probabilities before and after the data.

    Raises
    ------
    InputError
        Another result, a quantity that it does not have, or a scale that it has not.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.posterior_data(fit)
    >>> frame.set_index("kind").loc[["lower", "median", "upper"], "r"].round(3).tolist()
    [0.082, 0.147, 0.218]
    """
    after, before, measure, label = _read(fit, what, scale)
    which = fit.priors.which(what) if isinstance(fit, Quantities) else None
    what = what if which is None else fit.priors.tau_names[which]
    x = _grid(after, before)
    limits = after.interval(level=fit.level, kind=fit.interval)
    rows = curve_rows("posterior", x, after.pdf(x))
    if before is not None:
        rows += curve_rows("prior", x, before.pdf(x))
    marks = {"lower": limits.lb, "median": limits.estimate, "upper": limits.ub}
    rows += [{"kind": kind, "x": a, "density": float(after.pdf(a))} for kind, a in marks.items()]
    if is_correlation(measure):
        rows = [row | {"r": to_reader(float(row["x"]), measure)} for row in rows]
    name = f"Posterior of {what}"
    text = format_level(fit.level)
    said = _estimate([limits.estimate, limits.lb, limits.ub], measure)
    lines = [f"Posterior: median and {text} {KINDS[fit.interval]} interval {said}"]
    chances = _chances(after, before, what, measure)
    lines += [f"P({one}): {_both(*pair)}" for one, pair in chances.items()]
    lines += _prior_line(fit, what, drawn=before is not None)
    return chart_frame(
        "posterior", name, rows, fit.effects.provenance, notes=fit.notes, title=title, show_cautions=show_cautions,
        said=f"{name}. {'. '.join(lines)}.", measure=measure, axis_label="Density", x_label=label, level=fit.level,
        key=[["line", "Posterior"], ["ci", f"{text} interval"], *([["dashed", "Prior"]] if before else [])],
        bottom=lines, what=what, chances={one: list(pair) for one, pair in chances.items()},
    )  # fmt: skip


def posterior(fit_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw prior and posterior of one quantity: what was plausible before the data, and what is now.

    Where both curves are alike the data said little; where they hardly overlap, prior and data disagree.

    Parameters
    ----------
    fit_or_frame : BayesianResults, BayesianMultilevelResults, SampledPosterior or DataFrame
        A fit, or a frame from `posterior_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.posterior(fit, what="tau").plot_description
    'Posterior of tau. Posterior: median and 95% equal-tailed interval 0.096 [0.040, 0.185]. Prior: half-normal(0.3).'
    """
    frame = as_frame(fit_or_frame, "posterior", posterior_data, data)
    after = frame.loc[frame["kind"] != "prior", "density"].max()
    # A prior may tower over a posterior where they disagree; it may not crush it.
    before = frame.loc[frame["kind"] == "prior", "density"].max()
    top = max(float(after), min(float(before), 2.0 * float(after))) if before == before else float(after)
    curves = {str(kind): one for kind, one in frame.groupby("kind")}
    x, density = (curves["posterior"][name].to_numpy() for name in ("x", "density"))
    with charting(frame, ax, *SIZE) as chart:
        chart.curves(frame["x"])
        chart.numbers("y", [0.0, top], floor=0.0)
        ends = np.array([curves[kind][["x", "density"]].iloc[0] for kind in ("lower", "upper")])
        inner = (x > ends[0, 0]) & (x < ends[1, 0])
        filled = np.vstack([ends[:1], np.column_stack([x[inner], density[inner]]), ends[1:]])
        chart.area(chart.shown(filled[:, 0]), 0.0, filled[:, 1], "ci")
        if "prior" in curves:
            chart.line(chart.shown(curves["prior"]["x"]), curves["prior"]["density"], "dashed")
        chart.line(chart.shown(x), density, "line")
        chart.dots(chart.shown(curves["median"]["x"]), curves["median"]["density"])
    return chart.made


def _read(fit: Any, what: str, scale: PlotScale | None) -> tuple[Marginal, Marginal | None, str, str]:
    """Return the posterior, the prior, the measure of the axis and its label."""
    if not isinstance(fit, Quantities | SampledQuantities):
        raise InputError(f"posterior_data needs the result of a Bayesian model, not {type(fit).__name__}")
    if scale is not None:
        check_option("scale", scale, PlotScale)
    taus = fit.priors.tau_names if isinstance(fit, Quantities) else tuple(name for name in _named(fit) if name != "mu")
    if what in ("tau", "tau2", "I2", "icc") and what not in taus:
        raise InputError(f"{what} has no prior of its own that could be drawn; draw {' or '.join(taus)}")
    after = fit.posterior(what)
    before = _before(fit, what)
    effect = what in ("mu", "theta_new") or what.startswith("theta[")
    measure = fit.effects.measure if effect else "GEN"
    of_tau = what == "tau" or what.startswith("tau[")
    if scale is not None and not (measure == "ZCOR" or (scale == "z" and fit.effects.measure == "ZCOR")):
        raise InputError(f"scale={scale!r}: {what} on the scale {fit.effects.scale_label!r} cannot be shown so")
    if not effect:
        shown = what.replace("tau", "τ", 1) if of_tau else what
        return after, before, "GEN", f"{shown} ({fit.effects.scale_label} scale)"
    new = "" if what == "mu" else " of a new study" if what == "theta_new" else f" of {what[6:-1]}"
    label = parts.axis_label(measure) if not new else f"True {_lower(parts.axis_label(measure), new)}"
    if scale == "r":
        after = TransformedMarginal(after.name, after, TANH)
        before = None if before is None else TransformedMarginal(before.name, before, TANH)
        return after, before, "COR", f"True correlation r{new}" if new else "Correlation r"
    if scale == "z":
        return after, before, "GEN", f"True effect{new} (Fisher z)" if new else "Mean effect (Fisher z)"
    return after, before, measure, label


def _named(fit: Any) -> Mapping[str, Any]:
    return fit.priors.named if isinstance(fit, Quantities) else fit.made.priors


def _before(fit: Any, what: str) -> Marginal | None:
    """Return the prior; of a sampled model that of a parameter that has one of its own."""
    if isinstance(fit, Quantities):
        return prior_of(fit, what)
    own = _named(fit).get(what)
    if isinstance(own, TauPrior):
        return TauPriorMarginal(what, own) if own.proper else None
    return mean_prior(what, [own], np.ones(1)) if isinstance(own, EffectPrior) else None


def _lower(label: str, new: str) -> str:
    """Return ``correlation r of a new study (Fisher z scale)``."""
    head, bracket, rest = label.partition(" (")
    return f"{head[:1].lower()}{head[1:]}{new}{bracket}{rest}"


def _grid(after: Marginal, before: Marginal | None) -> Any:
    low, high = (float(one) for one in after.quantile(ENDS))
    low = max(low, after._lowest)
    if before is not None:
        reach = WIDER * (high - low)
        start, stop = (float(one) for one in before.quantile(PRIOR_ENDS))
        low, high = min(low, max(start, low - reach)), max(high, min(stop, high + reach))
    if after._lowest == 0.0:
        # Just beside 0, where the density of a standard deviation begins.
        low = 1e-9 * high
    # An axis of effects begins at 0.
    nearest = 0.0 if low * high <= 0.0 else low if low > 0.0 else high
    return np.union1d(np.linspace(low, high, STEPS), np.linspace(0.0, nearest, STEPS // 4))


def _chances(
    after: Marginal, before: Marginal | None, what: str, measure: str
) -> dict[str, tuple[float | None, float]]:
    """Return probabilities that a reader asks for, before and after the data."""
    if what == "tau" or what.startswith("tau["):
        return {}
    limits = {"> 0": 0.0}
    name = "r" if is_correlation(measure) else what
    if is_correlation(measure):
        limits["> .1"] = float(np.arctanh(SMALL_R)) if measure == "ZCOR" else SMALL_R
    return {
        f"{name} {text}": (None if before is None else float(before.sf(limit)), float(after.sf(limit)))
        for text, limit in limits.items()
    }


def _prior_line(fit: Any, what: str, *, drawn: bool) -> list[str]:
    """Return the prior in words, where a single one is behind the quantity."""
    known = _named(fit)
    if drawn:
        return [f"Prior: {known[what]}"] if what in known else []
    if isinstance(fit, SampledQuantities):
        return [f"Prior, not drawn: {known[what]}"] if what in known else ["The prior is not drawn"]
    return [f"The prior ({known[what]}) is improper and not drawn" if what in known else "The prior is improper"]


def _both(before: float | None, after: float) -> str:
    # Probabilities are written as p-values are, so that rounding never claims certainty.
    now = f"{format_p(after)} after"
    return now if before is None else f"{format_p(before)} before the data, {now}"


def _estimate(values: list[float], measure: str) -> str:
    """Return an estimate with its limits as a reader sees them, to three digits."""
    estimate, lower, upper = (to_reader(float(one), measure) for one in values)
    zero = not is_correlation(measure)
    largest = max(abs(one) for one in (estimate, lower, upper))
    digits = max(3, 2 - math.floor(math.log10(largest))) if largest > 0 and zero else 3
    interval = format_interval(lower, upper, digits, leading_zero=zero)
    return f"{format_number(estimate, digits, leading_zero=zero)} {interval}"


AVERAGED_STEPS = 241


def averaged_data(
    result: RobmaResults | AveragedResults,
    *,
    what: str = "mu",
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the posterior density of an effect averaged over models, and given that there is one.

    Parameters
    ----------
    result : RobmaResults or AveragedResults
        From `bayes.robma` or `bayes.average`.
    what : str
        The mean effect ``mu``, or a coefficient.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: conditional (the density given that the effect is not 0), averaged (the same times the probability
        of that), prior (what was plausible before), lower, median and upper of the conditional posterior; ``x`` on
        the analysis scale, ``r`` as a correlation, and the ``density`` there, by `x`. ``.attrs["spike"]`` is the
        posterior probability that it is exactly 0.

    Raises
    ------
    InputError
        Another result, or a quantity that it does not have.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> found = bayes.average(escalc(load_dataset("molloy2014")), p_effect=0.5)
    >>> frame = plots.averaged_data(found)
    >>> round(frame.attrs["spike"], 3), round(float(frame.set_index("kind").loc["median", "r"]), 3)
    (0.011, 0.146)
    """
    if not isinstance(result, RobmaResults | AveragedResults):
        raise InputError(f"averaged_data needs the result of bayes.robma or bayes.average, not {type(result).__name__}")
    averaged, given = result.posterior(what), result.posterior(what, conditional=True)
    spike = float(getattr(averaged, "spike", 0.0))
    ends = [float(one) for one in given.quantile(ENDS)]
    x = np.linspace(min(ends[0], 0.0), max(ends[1], 0.0), AVERAGED_STEPS)
    limits = given.interval(level=result.level)
    measure = result.effects.measure if what == "mu" else "GEN"
    density = given.pdf(x)
    rows = curve_rows("conditional", x, density) + curve_rows("averaged", x, (1.0 - spike) * density)
    prior = _averaged_prior(result, what)
    if prior is not None:
        rows += curve_rows("prior", x, prior.pdf(x))
    marks = (("lower", limits.lb), ("median", limits.estimate), ("upper", limits.ub))
    rows += [{"kind": kind, "x": a, "density": float(given.pdf(a))} for kind, a in marks]
    if measure == "ZCOR":
        rows = [row | {"r": to_reader(float(row["x"]), measure)} for row in rows]
    text = format_level(result.level)
    name = "the effect" if what == "mu" else what
    line = _estimate([limits.estimate, limits.lb, limits.ub], measure)
    sure = spike == 0.0
    chance = f"Posterior probability that {name} is exactly 0: {format_p(spike)}"
    condition = "Posterior: " if sure else f"If {name} is not 0: "
    label = parts.axis_label(measure) if what == "mu" else f"{what} ({result.effects.scale_label} scale)"
    key = [["line", "Posterior" if sure else "Posterior if not 0"]]
    key += [] if sure else [["dashed", "Averaged over all models"]]
    key += [["hair", "Prior" if sure else "Prior if not 0"]] if prior is not None else []
    key += [] if sure else [["thick", "Probability of exactly 0 (full height: 1)"]]
    said = f"Posterior density of {name}. {condition}median and {text} interval {line}."
    said += "" if sure else f" {chance}."
    return chart_frame(
        "averaged", "Posterior averaged over models", rows, result.effects.provenance, notes=result.notes,
        title=title, show_cautions=show_cautions, said=said, measure=measure, axis_label="Density", x_label=label,
        level=result.level, model_label=f"{_models(result)} models", key=key,
        bottom=[f"{condition}{'M' if sure else 'm'}edian and {text} interval {line}", *([] if sure else [chance])],
        spike=spike,
    )  # fmt: skip


def averaged(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the posterior of an effect averaged over models.

    The solid curve is what to believe if there is an effect, the dashed one allows for there being none: its area
    is the probability of an effect. The bar at 0 shows the probability that there is none.

    Parameters
    ----------
    result_or_frame : RobmaResults, AveragedResults or DataFrame
        From `bayes.robma` or `bayes.average`, or a frame from `averaged_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> found = bayes.average(escalc(load_dataset("molloy2014")), p_effect=0.5)
    >>> plots.averaged(found).plot_description
    'Posterior density of the effect. If the effect is not 0: median and 95% interval .146 [...]. ... exactly 0: .011.'
    """
    frame = as_frame(result_or_frame, "averaged", averaged_data, data)

    with charting(frame, ax, *SIZE) as chart:
        chart.effects("x", frame["x"])
        chart.numbers("y", [0.0, frame.loc[frame["kind"] != "prior", "density"].max()], floor=0.0)
        spike, curves = float(frame.attrs["spike"]), {str(kind): one for kind, one in frame.groupby("kind")}
        for kind, mark in (("prior", "hair"), ("averaged", "dashed"), ("conditional", "line")):
            if kind in curves and (spike or kind != "averaged"):
                chart.line(chart.shown(curves[kind]["x"]), curves[kind]["density"], mark)
        for kind in ("lower", "upper"):
            x, density = (float(curves[kind][name].iloc[0]) for name in ("x", "density"))
            chart.line([float(chart.shown(x))] * 2, [0.0, density], "dotted", zorder=2)
        chart.dots(chart.shown(curves["median"]["x"]), curves["median"]["density"])
        if spike > 0:
            # Its height is a share of the panel, which stands for a probability of 1.
            chart.line([0.0, 0.0], [0.0, spike], "thick", transform=chart.ax.get_xaxis_transform())
    return chart.made


def _averaged_prior(result: RobmaResults | AveragedResults, what: str) -> Normal | None:
    if isinstance(result, RobmaResults):
        return result.mu_prior if what == "mu" else None
    if what not in result.priors.names:
        return None
    found = result.priors.coefficients[result.priors.names.index(what)]
    return found if isinstance(found, Normal) else None


def _models(result: RobmaResults | AveragedResults) -> int:
    if isinstance(result, RobmaResults):
        return len(result.ensemble)
    return int(np.isfinite(result.space.log_prior).sum())


WEIGHTS_SIZE = (5.5, 3.6)


def weight_function_data(
    result: RobmaResults,
    *,
    conditional: bool = False,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the relative probability of publication in each interval of the one-sided p-value.

    Parameters
    ----------
    result : RobmaResults
        From `bayes.robma`, with at least one weight function.
    conditional : bool
        Average only over the weight functions; otherwise models without selection count with 1.
    level : float, optional
        Of the interval; the result's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        One row per interval: ``label``, ``p_from``, ``p_to``, ``mean``, ``median``, ``ci_lb``, ``ci_ub``.

    Raises
    ------
    InputError
        Another result, or models without a weight function.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> es = escalc(load_dataset("molloy2014"))
    >>> found = bayes.robma(es, bias=[bayes.WeightFunction(0.025)])
    >>> plots.weight_function_data(found, conditional=True)["mean"].round(2).tolist()
    [1.0, 0.27]
    """
    if not isinstance(result, RobmaResults):
        raise InputError(f"weight_function_data needs the result of bayes.robma, not {type(result).__name__}")
    used = result.level if level is None else level
    table = result.weight_function(conditional=conditional, level=used)
    names = ("p_from", "p_to", "mean", "median", "ci_lb", "ci_ub")
    rows: list[dict[str, Any]] = []
    for values in zip(*(table[name] for name in names), strict=True):
        row = dict(zip(names, map(float, values), strict=True))
        rows.append({"kind": "interval", "label": f"{_p(row['p_from'])} to {_p(row['p_to'])}", **row})
    over = "the weight functions" if conditional else "all models"
    listed = "; ".join(f"p {row['label']}: {format_number(row['mean'], 2)}" for row in rows)
    text = format_level(used)
    said = f"Relative probability of publication, averaged over {over}. {listed}."
    return chart_frame(
        "weight_function", "Publication by p-value", rows, result.effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=said, axis_label="Relative probability of publication",
        x_label=f"One-sided p-value, {result.direction} direction favoured", level=used,
        model_label=f"{len(result.ensemble)} models", key=[["line", "Mean"], ["ci", f"{text} interval"]],
        bottom=[f"Averaged over {over}; intervals of p are drawn equally wide"],
    )  # fmt: skip


def weight_function(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how likely results were published by their p-value, beside the most significant ones.

    A step down means that results beyond that p-value are missing. A wide band means that the data hardly tell.

    Parameters
    ----------
    result_or_frame : RobmaResults or DataFrame
        From `bayes.robma`, or a frame from `weight_function_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> found = bayes.robma(escalc(load_dataset("molloy2014")), bias=[bayes.WeightFunction(0.025)])
    >>> plots.weight_function(found, conditional=True).plot_description
    'Relative probability of publication, averaged over the weight functions. p 0 to .025: 1.00; p .025 to 1: ....'
    """
    frame = as_frame(result_or_frame, "weight_function", weight_function_data, data)

    with charting(frame, ax, *WEIGHTS_SIZE) as chart:
        chart.numbers("y", [], (0.0, 1.05))
        edges = np.arange(len(frame) + 1.0)
        chart.limits("x", 0.0, edges[-1])
        chart.names("x", [_p(p) for p in [*frame["p_from"], frame["p_to"].iloc[-1]]], edges)
        steps = {name: np.append(frame[name], frame[name].iloc[-1]) for name in ("mean", "ci_lb", "ci_ub")}
        chart.area(edges, steps["ci_lb"], steps["ci_ub"], "ci", step="post")
        chart.line(edges, steps["mean"], "line", drawstyle="steps-post")
    return chart.made


def _p(value: float) -> str:
    return brief(value) if value in (0, 1) else brief(value).lstrip("0")
