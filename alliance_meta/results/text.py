"""A result in words: its document, the methods sentence and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import r_fits, wording
from alliance_meta.tables.document import Document
from alliance_meta.tables.format import brief, fixed, fixed_interval, level_text, plain_df

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults

INFERENCE = {
    "knha": "Knapp-Hartung (t)",
    "adhoc": "Knapp-Hartung, factor not below 1 (t)",
    "z": "Wald (normal)",
    "t": "t distribution",
}
ESTIMATORS = {
    **wording.ESTIMATORS,
    "DL": "the DerSimonian-Laird estimator",
    "HE": "the Hedges estimator",
    "HS": "the Hunter-Schmidt estimator",
    "HSk": "the Hunter-Schmidt estimator with small-sample correction",
    "DL2": "the two-step DerSimonian-Laird estimator",
    "HE2": "the two-step Hedges estimator",
    "GENQ": "the generalised Q method with weights 1/v",
    "GENQM": "the median-unbiased generalised Q method with weights 1/v",
    "DLIT": "the iterated DerSimonian-Laird estimator",
    "SJIT": "the iterated Sidik-Jonkman estimator",
    "PMM": "the median-unbiased Paule-Mandel estimator",
    "SJ": "the Sidik-Jonkman estimator",
    "PM": "the Paule-Mandel estimator",
    "EB": "the empirical Bayes estimator",
}


r_code = r_fits.random_effects


def document(fit: RandomEffectsResults) -> Document:
    """Return what the fit says."""
    kind = "Equal-effects model" if fit.method == "EE" else "Random-effects model"
    if fit.p > 1 or not fit.design.has_intercept:
        kind = "Equal-effects meta-regression" if fit.method == "EE" else "Mixed-effects meta-regression"
    estimator = "" if fit.method == "EE" else f"; tau2 estimator: {fit.method}"
    if fit.settings.tau2 is not None:
        estimator = "; tau2 given"
    weights = "; weights given" if fit.settings.weights is not None else ""
    new = [] if fit.method == "EE" else wording.prediction(fit, "a new study", _rule(fit))
    return wording.document(
        fit,
        f"{kind} (k = {fit.k}{estimator})",
        [fit.effects.heading, f"Inference: {INFERENCE[fit.inference]}{weights}", *wording.moderated(fit)],
        _heterogeneity(fit),
        wording.moderator_test(fit),
        wording.coefficients(fit),
        [*wording.as_r(fit), *new],
    )


def _rule(fit: RandomEffectsResults) -> str:
    df = fit.fitted.coefficients.df
    return "normal" if df is None else f"t({plain_df(df)})"


def _heterogeneity(fit: RandomEffectsResults) -> list[str]:
    if fit.k == fit.p:
        return ["Heterogeneity: not estimable, no effects to spare beyond the coefficients"]
    lines = []
    if fit.method != "EE":
        interval = fit.confint_tau2()
        error = "given" if isinstance(fit.se_tau2, NotApplicable) else f"SE {fixed(fit.se_tau2)}"
        lines += [
            f"tau2 = {fixed(fit.tau2)} ({error}), {level_text(fit.level)} CI "
            f"{fixed_interval(interval.lb, interval.ub)} (Q-profile)",
            f"tau  = {fixed(fit.tau)}   H2 = {fixed(fit.H2, 2)}",
        ]
    source = "Q" if fit.method == "EE" else "tau2"
    lines.append(f"I2   = {fixed(fit.I2, 2)} % (from {source}; from Q: {fixed(fit.I2_Q, 2)} %)")
    if not isinstance(fit.R2, NotApplicable):
        lines.append(f"R2   = {fixed(fit.R2, 2)} % of the heterogeneity without moderators")
    return [*lines, wording.q_test(fit)]


def methods(fit: RandomEffectsResults) -> str:
    """Return the sentences for a methods section, made from the settings of this fit."""
    effects = fit.effects
    scales = {
        "ZCOR": f"{wording.FISHER} for the analysis and back-transformed for presentation.",
        "COR": f"Raw correlations were analysed with the sampling variance metafor calls {effects.vtype}.",
        "UCOR": f"Correlations corrected for small-sample bias were analysed (sampling variance {effects.vtype}).",
    }
    sentences = [scales.get(effects.measure, "Effect sizes were analysed on the scale given.")]
    moderators = wording.with_moderators(fit)
    if fit.method == "EE":
        sentences.append(f"An equal-effects model{moderators} was fitted to {fit.effects.counted}.")
    else:
        how = f"was estimated by {ESTIMATORS[fit.method]} and its confidence interval by the Q-profile method"
        if fit.settings.tau2 is not None:
            how = f"was set to {brief(fit.settings.tau2)}"
        weights = ", with weights given by the analyst" if fit.settings.weights is not None else ""
        sentences.append(
            f"A random-effects model{moderators} was fitted to {fit.effects.counted}{weights}; "
            f"the between-study variance {how}."
        )
    reference = {
        "knha": "Coefficients were tested with the Knapp-Hartung adjustment and a t distribution",
        "adhoc": "Coefficients were tested with the Knapp-Hartung adjustment, its factor never below 1, "
        "and a t distribution",
        "z": "Coefficients were tested against the normal distribution (Wald)",
        "t": "Coefficients were tested against a t distribution",
    }[fit.inference]
    df = fit.fitted.coefficients.df
    sentences.append(reference + (f" with {plain_df(df)} degrees of freedom." if df is not None else "."))
    if fit.method != "EE":
        rule = "the normal distribution" if df is None else f"t with {plain_df(df)} degrees of freedom"
        sentences.append(f"Prediction intervals use {rule}. I² is computed from τ².")
    return " ".join(sentences)
