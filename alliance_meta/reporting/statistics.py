"""The parts of the standard block of numbers; a kind of analysis puts together those that it has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import NotApplicable
from alliance_meta.reporting.coefficients import LEVELS, WITH_MODERATORS, slug
from alliance_meta.reporting.fitted import Fitted, Put
from alliance_meta.tables.format import format_df

ON_RAW_SCALE = NotApplicable("the model was fitted to r itself")


def put_data(put: Put, fitted: Fitted, *, clusters: bool = False) -> None:
    """Add the data; of clusters, effects that depend on each other, also their sizes and the range of r."""
    effects = fitted.effects
    if fitted.spec.aggregate is not None:
        put("k_rows", fitted.coded.k, "count", "Effects before averaging")
    put("k", fitted.fit.k, "count", "Effects (k)")
    put("studies", effects.n_studies, "count", "Studies")
    if clusters:
        sizes = Counter(effects.study_id).values()
        put("effects_per_study", _range(min(sizes), max(sizes)), "text", "Effects per study")
    once = "" if effects.samples.max() + 1 == effects.k else ", each sample once"
    put("n_total", effects.counts["people"], "count", f"Participants (N){once}")
    if clusters:
        lowest, highest = _range_of_r(fitted.coded)
        put("r_lowest", lowest, "r", "Smallest correlation")
        put("r_highest", highest, "r", "Largest correlation")
    put("measure", effects.scale_label, "text", "Effect size")


def put_effect(put: Put, fitted: Fitted) -> None:
    """Add the pooled effect on every scale, with its intervals."""
    fit, raw = fitted.fit, fitted.effects.measure != "ZCOR"
    level, scale = fitted.level, fitted.number
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
    if fitted.wald is not None:
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
    others |= {} if fitted.wald is None else {"wald": fitted.wald}
    words = {"model": "not robust", "wald": "normal (Wald)"}
    for name, fit in others.items():
        row = _prediction(fit, None) if simple else {}
        put(f"ci_{name}", _pair(row, "ci", why), f"{fitted.number}_interval", f"{level} CI, {words[name]}")
    row = _prediction(fitted.fit, None) if simple else {}
    put("pi", _pair(row, "pi", why), f"{fitted.number}_interval", f"{level} prediction interval")


def put_heterogeneity(put: Put, fitted: Fitted) -> None:
    """Add the heterogeneity of a random-effects model."""
    model, level = fitted.model, fitted.level
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


def put_components(put: Put, fitted: Fitted) -> None:
    """Add every variance and correlation of a multilevel model, and their shares."""
    model, level = fitted.model, fitted.level
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


def put_moments(put: Put, fitted: Fitted) -> None:
    """Add what the working model of robust variance estimation knows."""
    model = fitted.model
    put("tau2", model.tau2, "variance", "τ²")
    put("tau", model.tau, "sd", "τ")
    if fitted.spec.working == "HIER":
        put("omega2", model.omega2, "variance", "ω², between effects of a cluster")
    put("I2_Q", model.I2, "percent", "I², from Q")
    put("Q", model.QE, "stat", "Q")


def put_moderators(put: Put, fitted: Fitted, **explained: str) -> None:
    """Add the test of moderators where there are any, and before it the named shares that they explain."""
    fit = fitted.fit
    if fit.p == 1:
        return
    for name, label in explained.items():
        put(name, getattr(fit, name), "percent", label)
    put("QM", fit.QM, "stat", "Test of moderators")
    if fitted.dependent:
        m, df = fit.QMdf
        put("QM_df", f"{m}, {format_df(df)}" if df is not None else str(m), "text", "Test of moderators, df")
    put("QM_p", fit.QMp, "p", "Test of moderators, p")


def rule_of_one_effect(fitted: Fitted) -> str:
    """Say how the prediction interval was made where effects depend on each other."""
    one = "the true correlation" if fitted.on_r else "the true effect"
    return (
        f"Prediction interval: where {one} of one new effect of a new, similar study is expected (of its "
        "mean, where effects were averaged first); t with the degrees of freedom above, variance τ² plus the squared "
        "standard error, on the model's scale."
    )


def rule_of_one_study(fitted: Fitted) -> str:
    """Say how the prediction interval was made where each study has one effect."""
    one = "the true correlation" if fitted.on_r else "the true effect"
    df = float(fitted.fit.ddf[0])
    reference = "the normal distribution" if math.isinf(df) else f"t with {format_df(df)} degrees of freedom"
    return (
        f"Prediction interval: where {one} of one new, similar study is expected; "
        f"{reference}, variance τ² plus the squared standard error, on the model's scale."
    )


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
