"""Every number a report shows, read from a fit: the standard block, the coefficients, the levels of a moderator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from alliance_meta.effects.table import EffectSizes
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.reporting.coefficients import LEVELS, WITH_MODERATORS, slug
from alliance_meta.reporting.numbers import Quantity, quantity
from alliance_meta.reporting.posterior import put_posterior, terms
from alliance_meta.reporting.spec import BAYES, MULTILEVEL, RVE
from alliance_meta.reporting.wording import INFERENCE, inference_words, model_words
from alliance_meta.tables.format import format_df, format_level

if TYPE_CHECKING:
    from alliance_meta.reporting.fitting import Fitted

Put = Callable[[str, Any, str, str], None]

ON_RAW_SCALE = NotApplicable("the model was fitted to r itself")


def statistics(fitted: Fitted) -> dict[str, Quantity]:
    """Return the standard block of numbers of one fit, by the name placeholders use, in reading order."""
    out: dict[str, Quantity] = {}

    def put(key: str, value: Any, kind: str, label: str) -> None:
        out[key] = quantity(value, kind, label)

    if fitted.spec.dependent and fitted.spec.kind != BAYES:
        _put_clusters(put, fitted)
    else:
        _put_data(put, fitted)
    if fitted.spec.kind == BAYES:
        put_posterior(put, fitted)
        return out
    _put_effect(put, fitted)
    if fitted.spec.kind == MULTILEVEL:
        _put_components(put, fitted)
    elif fitted.spec.kind == RVE:
        _put_moments(put, fitted)
    else:
        _put_heterogeneity(put, fitted)
    if fitted.fit.p > 1:
        _put_moderators(put, fitted)
    return out


def _put_data(put: Put, fitted: Fitted) -> None:
    """Add data and model of effects that are taken as independent."""
    spec, fit, effects = fitted.spec, fitted.fit, fitted.effects
    put("k", fit.k, "count", "Effects (k)")
    put("studies", effects.n_studies, "count", "Studies")
    _put_people(put, effects)
    put("measure", effects.scale_label, "text", "Effect size")
    if spec.kind == BAYES:
        if spec.random:
            put("random", ", ".join(terms(fit)), "text", "Random effects")
        return
    put("method", fit.method, "text", "τ² estimator")
    put("test", INFERENCE[fit.inference], "text", "Inference")
    put("level", spec.level, "level", "Confidence level")


def _put_people(put: Put, effects: EffectSizes) -> None:
    """Add the people behind the effects, each sample once."""
    once = "" if effects.samples.max() + 1 == effects.k else ", each sample once"
    put("n_total", effects.counts["people"], "count", f"Participants (N){once}")


def _put_clusters(put: Put, fitted: Fitted) -> None:
    """Add data and model of effects that depend on each other, every choice by name."""
    spec, fit, effects = fitted.spec, fitted.fit, fitted.effects
    if spec.aggregate is not None:
        put("k_rows", fitted.coded.k, "count", "Effects before averaging")
    put("k", fit.k, "count", "Effects (k)")
    put("studies", effects.n_studies, "count", "Studies")
    sizes = Counter(effects.study_id).values()
    put("effects_per_study", _range(min(sizes), max(sizes)), "text", "Effects per study")
    _put_people(put, effects)
    lowest, highest = _range_of_r(fitted.coded)
    put("r_lowest", lowest, "r", "Smallest correlation")
    put("r_highest", highest, "r", "Largest correlation")
    put("measure", effects.scale_label, "text", "Effect size")
    put("model", model_words(spec), "text", "Model")
    if spec.aggregate is not None:
        put("averaged", spec.aggregate, "text", "Averaged by")
    if spec.kind != MULTILEVEL or spec.rho is not None or spec.robust is not None:
        put("cluster", spec.cluster, "text", "Clusters")
    if spec.kind == MULTILEVEL:
        put("random", ", ".join(term.name for term in fitted.model.random), "text", "Random effects")
    if spec.rho is not None:
        put("rho", spec.rho, "r2", "Assumed ρ of sampling errors")
    elif spec.kind == MULTILEVEL:
        put("errors", "independent", "text", "Sampling errors")
    put("method", fitted.model.method, "text", "τ² estimator")
    put("test", inference_words(fitted), "text", "Inference")
    put("level", spec.level, "level", "Confidence level")


def _put_effect(put: Put, fitted: Fitted) -> None:
    """Add the pooled effect on every scale, with its intervals."""
    fit, raw = fitted.fit, fitted.effects.measure != "ZCOR"
    level = format_level(fitted.spec.level)
    scale = fitted.number
    simple = fit.p == 1

    def first(values: Any) -> Any:
        return values[0] if simple else WITH_MODERATORS

    put("estimate", first(fit.beta), scale, "Pooled effect, model's scale")
    put("se", first(fit.se), scale, "Standard error, model's scale")
    put("ci", [first(fit.ci_lb), first(fit.ci_ub)], f"{scale}_interval", f"{level} CI, model's scale")
    put("stat", first(fit.stat), "stat", "Test statistic (t, or z where df is ∞)")
    put("ddf", first(fit.ddf), "df", "Degrees of freedom (df)")
    put("p", first(fit.pval), "p", "p")
    if not fitted.on_r:
        _put_finished(put, fitted, level, why=WITH_MODERATORS)
        return
    median = _prediction(fit, "r") if simple else {}
    mean = _prediction(fit, "r_mean") if simple and not raw else {}
    why = WITH_MODERATORS if not simple else ON_RAW_SCALE
    put("r", median.get("pred", why), "r", "r (from Fisher z: tanh(μ), the median)")
    put("r_ci", _pair(median, "ci", why), "r_interval", f"{level} CI of r")
    if not fitted.spec.dependent:
        wald = _prediction(fitted.wald, "r") if simple else {}
        put("r_ci_wald", _pair(wald, "ci", why), "r_interval", f"{level} CI of r, normal (Wald)")
    if fitted.spec.robust is not None:
        model = _prediction(fitted.model, "r") if simple else {}
        put("r_ci_model", _pair(model, "ci", why), "r_interval", f"{level} CI of r, not robust")
    put("r_mean", mean.get("pred", why), "r", "Mean of the true correlations, r")
    put("r_mean_ci", _pair(mean, "ci", why), "r_interval", f"{level} CI of the mean r")
    put("pi", _pair(median, "pi", why), "r_interval", f"{level} prediction interval, r")


def _put_finished(put: Put, fitted: Fitted, level: str, *, why: NotApplicable) -> None:
    """Add the other intervals of a mean of effects that are no correlations: on their own scale."""
    simple = fitted.fit.p == 1
    others = {"model": fitted.model} if fitted.spec.robust is not None else {}
    others |= {} if fitted.spec.dependent else {"wald": fitted.wald}
    words = {"model": "not robust", "wald": "normal (Wald)"}
    for name, fit in others.items():
        row = _prediction(fit, None) if simple else {}
        put(f"ci_{name}", _pair(row, "ci", why), f"{fitted.number}_interval", f"{level} CI, {words[name]}")
    row = _prediction(fitted.fit, None) if simple else {}
    put("pi", _pair(row, "pi", why), f"{fitted.number}_interval", f"{level} prediction interval")


def _put_heterogeneity(put: Put, fitted: Fitted) -> None:
    model, level = fitted.model, format_level(fitted.spec.level)
    interval = model.confint_tau2(kind="QP")
    put("tau2", model.tau2, "variance", "τ²")
    put("tau2_ci", [interval.lb, interval.ub], "variance_interval", f"τ², {level} Q-profile interval")
    put("tau", model.tau, "sd", "τ")
    put("tau_ci", [_root(interval.lb), _root(interval.ub)], "sd_interval", f"τ, {level} Q-profile interval")
    put("I2", model.I2, "percent", "I², from τ²")
    put("I2_Q", model.I2_Q, "percent", "I², from Q")
    put("H2", model.H2, "stat", "H²")
    _put_q(put, model)


def _put_q(put: Put, model: Any) -> None:
    put("Q", model.QE, "stat", "Q")
    put("Q_df", model.QEdf, "df", "Q, df")
    put("Q_p", model.QEp, "p", "Q, p")


def _put_components(put: Put, fitted: Fitted) -> None:
    """Add every variance and correlation of a multilevel model, and their shares."""
    model, level = fitted.model, format_level(fitted.spec.level)
    put("tau2", model.tau2, "variance", "τ²")
    put("tau", model.tau, "sd", "τ")
    for one in fitted.components:
        kind = "r" if one["name"].startswith("rho") else "variance"
        put(one["key"], one["estimate"], kind, one["label"])
        put(f"{one['key']}_ci", one["ci"], f"{kind}_interval", f"{one['label']}, {level} profile interval")
    put("I2", model.I2, "percent", "I², from τ²")
    for name, share in model.I2_levels.items():
        if name != "total":
            put(f"I2_{slug(name)}", share, "percent", f"I² {LEVELS.get(str(name), str(name))}")
    _put_q(put, model)


def _put_moments(put: Put, fitted: Fitted) -> None:
    """Add what the working model of robust variance estimation knows."""
    model = fitted.model
    put("tau2", model.tau2, "variance", "τ²")
    put("tau", model.tau, "sd", "τ")
    if fitted.spec.working == "HIER":
        put("omega2", model.omega2, "variance", "ω², between effects of a cluster")
    put("I2_Q", model.I2, "percent", "I², from Q")
    put("Q", model.QE, "stat", "Q")


def _put_moderators(put: Put, fitted: Fitted) -> None:
    fit = fitted.fit
    if fitted.spec.kind == MULTILEVEL:
        put("R2_marginal", fit.R2_marginal, "percent", "R², moderators (marginal)")
    elif fitted.spec.kind != RVE:
        put("R2", fit.R2, "percent", "R²")
    put("QM", fit.QM, "stat", "Test of moderators")
    if fitted.spec.dependent:
        m, df = fit.QMdf
        put("QM_df", f"{m}, {format_df(df)}" if df is not None else str(m), "text", "Test of moderators, df")
    put("QM_p", fit.QMp, "p", "Test of moderators, p")


def _prediction(fit: Any, scale: Any) -> Mapping[str, Any]:
    frame = fit.predict(scale=scale)
    row = {str(key): value for key, value in frame.iloc[0].items()}
    why = frame.attrs.get("pi_note")
    if why:
        row |= {name: NotApplicable(why) for name in ("pi_lb", "pi_ub")}
    return row


def _pair(prediction: Mapping[str, Any], what: str, why: NotApplicable) -> Any:
    if not prediction:
        return why
    return [prediction[f"{what}_lb"], prediction[f"{what}_ub"]]


def _root(value: float) -> float:
    return value if math.isnan(value) else math.sqrt(value)


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _range_of_r(effects: EffectSizes) -> tuple[Any, Any]:
    """Return the smallest and the largest correlation as they stand in the sheet."""
    name = effects.columns.get("ri")
    if name is None:
        return (NotApplicable("finished effects have no correlation"),) * 2
    values = effects.moderators[name].astype(float)
    return float(values.min()), float(values.max())
