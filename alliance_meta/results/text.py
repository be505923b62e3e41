"""A result in words: its document, the methods sentence and the R code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.robust.sandwich import WHOLE
from alliance_meta.core.univariate.fit import GENERALISED_Q
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import Scale
from alliance_meta.results import wording
from alliance_meta.results.export import columns_of, plain, tidy
from alliance_meta.results.r_code import (
    call,
    comment,
    data,
    level_argument,
    mods_argument,
    quoted,
    value,
    vector,
)
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


def r_code(fit: RandomEffectsResults, uses: tuple[str, ...] = ()) -> str:
    """Return metafor's ``rma`` of a random-effects model."""
    on_r = ["predict(fit, transf=transf.ztor)"] if fit.effects.measure == "ZCOR" else []
    settings, lines = fit.settings, ["library(metafor)", *data(fit, uses=uses)]
    if fit.method in ("DL2", "HE2"):
        text = f'metafor has no two-step estimator ({fit.method}); its one-step form is method="{fit.method[:2]}"'
        lines.append(comment(text))
    if settings.weights is not None:
        lines.append(f"w <- {vector(settings.weights)}")
    weights = "w" if settings.weights is not None else "1/vi" if settings.method in GENERALISED_Q else None
    arguments = {
        "mods": mods_argument(fit),
        "data": "dat",
        "method": quoted(fit.method),
        "test": None if settings.test == "z" else quoted(str(settings.test)),
        "level": level_argument(fit.level),
        "tau2": None if settings.tau2 is None else value(settings.tau2),
        "weights": weights,
        "control": None if settings.tau2_min == 0 else f"list(tau2.min={value(settings.tau2_min)})",
    }
    return "\n".join([*lines, f"fit <- {call('rma', 'yi', 'vi', **arguments)}", *on_r])


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


def statistics(fit: RandomEffectsResults) -> dict[str, Any]:
    """Return the model's statistics by name."""
    m, ddf = fit.QMdf
    return {
        "k": fit.k,
        **fit.effects.counts,
        "p": fit.p,
        "method": fit.method,
        "test": fit.inference,
        "level": fit.level,
        "tau2": fit.tau2,
        "se_tau2": fit.se_tau2,
        "I2": fit.I2,
        "I2_Q": fit.I2_Q,
        "H2": fit.H2,
        "R2": fit.R2,
        "QE": fit.QE,
        "QEdf": fit.QEdf,
        "QEp": fit.QEp,
        "QM": fit.QM,
        "QMdf": m,
        "QMddf": NotApplicable("chi-squared has none") if ddf is None else ddf,
        "QMp": fit.QMp,
        "loglik": fit.loglik,
        **information_criteria(fit),
    }


def information_criteria(fit: RandomEffectsResults) -> dict[str, float]:
    """Return AIC, BIC and AICc as metafor counts them (k - p observations under REML)."""
    parameters = fit.p + (0 if fit.method == "EE" else 1)
    n = fit.k - fit.p if fit.method == "REML" else fit.k
    deviance = -2.0 * fit.loglik
    usable = max(n, parameters + 2)
    return {
        "AIC": deviance + 2.0 * parameters,
        "BIC": deviance + parameters * math.log(n) if n > 0 else NotApplicable("needs k > p"),
        "AICc": deviance + 2.0 * parameters * usable / (usable - parameters - 1.0),
    }


def to_dict(fit: RandomEffectsResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    effects = fit.effects
    studies = {
        "slab": list(effects.slab),
        "study_id": list(effects.study_id),
        "yi": effects.yi,
        "vi": effects.vi,
        "ni": effects.ni,
        "weight": fit.weights,
    }
    scales: tuple[Scale | None, ...] = ("z", "r", "r_mean") if effects.measure == "ZCOR" else (None,)
    predictions = {}
    for scale in scales:
        frame = fit.predict(scale=scale)
        predictions[frame.attrs["scale"]] = {"label": list(frame.index), **columns_of(frame)}
    return plain(
        {
            "model": {
                "formula": fit.design.formula,
                "measure": effects.measure,
                "vtype": effects.vtype,
                "scale": effects.scale_label,
                "direction": effects.direction,
                "label": fit.model_label,
            },
            "statistics": statistics(fit),
            "tau2_interval": fit.confint_tau2().to_dict(),
            "coefficients": {"term": list(fit.names), **columns_of(tidy(fit))},
            "vb": fit.vb,
            "predictions": predictions,
            "studies": studies,
            "notes": [note.to_dict() for note in fit.notes],
            "provenance": effects.provenance.to_dict(),
        }
    )


def augment(fit: RandomEffectsResults) -> pd.DataFrame:
    """Return one row per effect with fitted value, residual, leverage, weight and shrunken effect."""
    effects, X = fit.effects, fit.design.X
    fitted = X @ fit.beta
    total = effects.vi + fit.tau2
    # Var(y - Xb) for b from weights A: (I - H) M (I - H)' on the diagonal, H = X (X'AX)^-1 X'A.
    hat, spread = fit.fitted.leverage, np.einsum("kp,pq,kq->k", X, fit.fitted.vb, X)
    left = np.where(hat < WHOLE, total - 2.0 * hat * total + spread, np.nan)
    columns = {
        "yi": effects.yi,
        "vi": effects.vi,
        "fitted": fitted,
        "se_fitted": np.sqrt(np.einsum("kp,pq,kq->k", X, fit.vb, X)),
        "resid": effects.yi - fitted,
        "rstandard": (effects.yi - fitted) / np.sqrt(left),
        "hat": hat,
        "weight": fit.weights,
        "blup": fit.blup()["pred"].to_numpy(),
    }
    out = pd.DataFrame(columns, index=pd.Index(effects.slab, name="slab"))
    out.attrs.update(scale=effects.scale_label)
    return out
