"""What a report shows of a Bayesian analysis: its block of numbers, its posterior, and what other priors give."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from alliance_meta.bayes.hypotheses import shown
from alliance_meta.reporting.fitted import LEVELS, WITH_MODERATORS, Fitted, Put, slug
from alliance_meta.reporting.words import marked, named, tr
from alliance_meta.reporting.writing import Quantity, quantity
from alliance_meta.tables.format import format_r

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.exact.results import BayesianResults
    from alliance_meta.bayes.priors.prior import TauPrior

SMALL = 0.1
CELLS = ("median", "ci_lb", "ci_ub")
NAMES = marked({"mu": "Mean effect, μ", "tau": "Heterogeneity, τ", "theta_new": "True effect of a new study"})
PREDICTED = marked(
    "Prediction interval: where the true correlation of one new, similar study lies with this posterior probability."
)


def put_posterior(put: Put, fitted: Fitted) -> None:
    """Add model, effect, heterogeneity and evidence to the standard block."""
    fit: BayesianResults = fitted.fit
    simple = fit.design.formula == "1"
    for name, prior in zip(fit.priors.names, fit.priors.coefficients, strict=True):
        if name == "mu":
            put("mu_prior", str(prior), "text", "Prior of the mean effect")
    _put_prior(put, fit)
    put("level", fitted.spec.level, "level", "Probability of the intervals")
    scale = fitted.number
    mean = fit.predict().iloc[0] if simple else None
    on_r = fit.predict(scale="r" if fitted.on_r else None).iloc[0] if simple else None

    def first(row: Any, name: str) -> Any:
        return WITH_MODERATORS if row is None else float(row[name])

    def ends(row: Any, name: str) -> Any:
        return [first(row, f"{name}_lb"), first(row, f"{name}_ub")] if row is not None else WITH_MODERATORS

    put("estimate", first(mean, "pred"), scale, "Mean effect, model's scale (posterior median)")
    put("se", first(mean, "se"), scale, "Posterior standard deviation, model's scale")
    put("ci", ends(mean, "ci"), f"{scale}_interval", "{level} credible interval, model's scale")
    if fitted.on_r:
        put("r", first(on_r, "pred"), "r", "r (posterior median)")
        put("r_ci", ends(on_r, "ci"), "r_interval", "{level} credible interval of r")
        put("pi", ends(on_r, "pi"), "r_interval", "{level} prediction interval, r")
    else:
        put("pi", ends(on_r, "pi"), f"{scale}_interval", "{level} prediction interval")
    _put_heterogeneity(put, fit)
    _put_evidence(put, fitted)


def _put_prior(put: Put, fit: BayesianResults) -> None:
    """Add what the priors say in numbers, where they are proper."""
    for key, words, prior in _tau_priors(fit):
        put(f"{key}_prior", str(prior), "text", "Prior of {what}", what=words)
    edge = 0.5 * (1.0 - fit.level)
    mu = fit.priors.named.get("mu")
    if mu is not None and mu.proper and fit._scale == "z":
        low, high = (math.tanh(float(one)) for one in mu.quantile([edge, 1.0 - edge]))
        put("prior_r", [low, high], "r_interval", "Mean r before the data, {level}")
    for key, words, prior in _tau_priors(fit):
        if prior.proper:
            median, high = (float(one) for one in prior.quantile([0.5, fit.level]))
            put(f"prior_{key}", median, "sd", "{what} before the data, median", what=words)
            put(f"prior_{key}_ub", high, "sd", "{what} before the data, {level} lie below", what=words)


def terms(fit: Any) -> list[str]:
    """Return what varies in a model of dependent effects; empty where only effects do."""
    return list(getattr(fit, "taus", ()))


def tau_words(term: str) -> str:
    """Return what a report calls the standard deviation of true effects of a term."""
    return f"τ {named(LEVELS, term)}"


def _tau_priors(fit: Any) -> list[tuple[str, str, TauPrior]]:
    """Return key, words and prior of each standard deviation of true effects."""
    if not terms(fit):
        return [("tau", "τ", fit.priors.tau)]
    return [
        (f"tau_{slug(term)}", tau_words(term), prior) for term, prior in zip(terms(fit), fit.priors.taus, strict=True)
    ]


def _put_heterogeneity(put: Put, fit: BayesianResults) -> None:
    tau = fit.posterior("tau")
    interval = tau.interval(level=fit.level, kind=fit.interval)
    put("tau2", tau.median**2, "variance", "τ² (square of the median of τ)")
    put("tau", tau.median, "sd", "τ (posterior median)")
    put("tau_ci", [interval.lb, interval.ub], "sd_interval", "τ, {level} credible interval")
    for term in terms(fit):
        own = fit.posterior(f"tau[{term}]")
        ends = own.interval(level=fit.level, kind=fit.interval)
        put(f"tau_{slug(term)}", own.median, "sd", "{what} (posterior median)", what=tau_words(term))
        put(
            f"tau_{slug(term)}_ci",
            [ends.lb, ends.ub],
            "sd_interval",
            "{what}, {level} credible interval",
            what=tau_words(term),
        )
    put("I2", fit.posterior("I2").median, "percent", "I² (posterior median)")


def _put_evidence(put: Put, fitted: Fitted) -> None:
    fit, on_r = fitted.fit, "r" if fitted.effects.measure == "ZCOR" else None
    # A model of the dependence has Bayes factors; of one without it none are shown.
    factor = fit.bayes_factor if terms(fit) else partial(shown, fit)
    if "mu" in fit.priors.names:
        if fitted.on_r:
            put("asked", SMALL, "r1", "A correlation to exceed")
        put("prob_positive", fit.prob("mu > 0"), "p", "P(mean effect > 0)")
        if fitted.on_r:
            more = fit.prob(f"mu > {SMALL}", scale=on_r)
            put("prob_more", more, "p", "P(mean r > {r})", r=format_r(SMALL, 1))
        put("prob_new_positive", fit.prob("theta_new > 0"), "p", "P(effect of a new study > 0)")
        put("bf_mu", factor("mu = 0").bf10, "bf", "Bayes factor for a mean effect other than 0")
    if not terms(fit):
        put("bf_tau", factor("tau = 0").bf10, "bf", "Bayes factor for heterogeneity")
    for term in terms(fit):
        value, where = factor(f"tau[{term}] = 0").bf10, named(LEVELS, term)
        put(f"bf_tau_{slug(term)}", value, "bf", "Bayes factor for heterogeneity {where}", where=where)


def slope_quantities(fitted: Fitted) -> dict[str, Quantity]:
    """Return every coefficient of a Bayesian meta-regression, for placeholders."""
    fit: BayesianResults = fitted.fit
    if fit.design.formula == "1":
        return {}
    scale = fitted.number
    table, out = fit.tidy(), {}
    for name in fit.names:
        key = f"b_{slug(name)}"
        median, lb, ub = cells(table, name)
        out[key] = quantity(median, scale, name)
        out[f"{key}_ci"] = quantity([lb, ub], f"{scale}_interval", tr("{name}, credible interval", name=name))
        out[f"{key}_positive"] = quantity(fit.prob(f"{name} > 0"), "p", f"P({name} > 0)")
    return out


def cells(table: pd.DataFrame, name: str) -> list[float]:
    """Return median and interval of a quantity."""
    found: list[float] = table.loc[[name], list(CELLS)].to_numpy(dtype=float)[0].tolist()
    return found
