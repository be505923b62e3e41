"""What a report shows of a Bayesian analysis: its block of numbers, its posterior, and what other priors give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from alliance_meta.bayes.hypotheses import shown
from alliance_meta.errors import InputError
from alliance_meta.reporting.coefficients import LEVELS, WITH_MODERATORS, Table, column, slug, stacked
from alliance_meta.reporting.fitted import Fitted, Put
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.writing import Quantity, quantity
from alliance_meta.tables.format import format_r

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.exact.results import BayesianResults
    from alliance_meta.bayes.priors.prior import TauPrior

SMALL = 0.1
CELLS = ("median", "ci_lb", "ci_ub")
NAMES = {"mu": "Mean effect, μ", "tau": "Heterogeneity, τ", "theta_new": "True effect of a new study"}
PREDICTED = (
    "Prediction interval: where the true correlation of one new, similar study lies with this posterior probability."
)


def put_posterior(put: Put, fitted: Fitted) -> None:
    """Add model, effect, heterogeneity and evidence to the standard block."""
    fit: BayesianResults = fitted.fit
    level = fitted.level
    simple = fit.design.formula == "1"
    for name, prior in zip(fit.priors.names, fit.priors.coefficients, strict=True):
        if name == "mu":
            put("mu_prior", str(prior), "text", "Prior of the mean effect")
    _put_prior(put, fit, level)
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
    put("ci", ends(mean, "ci"), f"{scale}_interval", f"{level} credible interval, model's scale")
    if fitted.on_r:
        put("r", first(on_r, "pred"), "r", "r (posterior median)")
        put("r_ci", ends(on_r, "ci"), "r_interval", f"{level} credible interval of r")
        put("pi", ends(on_r, "pi"), "r_interval", f"{level} prediction interval, r")
    else:
        put("pi", ends(on_r, "pi"), f"{scale}_interval", f"{level} prediction interval")
    _put_heterogeneity(put, fit, level)
    _put_evidence(put, fitted)


def _put_prior(put: Put, fit: BayesianResults, level: str) -> None:
    """Add what the priors say in numbers, where they are proper."""
    for key, words, prior in _tau_priors(fit):
        put(f"{key}_prior", str(prior), "text", f"Prior of {words}")
    edge = 0.5 * (1.0 - fit.level)
    mu = fit.priors.named.get("mu")
    if mu is not None and mu.proper and fit._scale == "z":
        low, high = (math.tanh(float(one)) for one in mu.quantile([edge, 1.0 - edge]))
        put("prior_r", [low, high], "r_interval", f"Mean r before the data, {level}")
    for key, words, prior in _tau_priors(fit):
        if prior.proper:
            median, high = (float(one) for one in prior.quantile([0.5, fit.level]))
            put(f"prior_{key}", median, "sd", f"{words} before the data, median")
            put(f"prior_{key}_ub", high, "sd", f"{words} before the data, {level} lie below")


def terms(fit: Any) -> list[str]:
    """Return what varies in a model of dependent effects; empty where only effects do."""
    return list(getattr(fit, "taus", ()))


def _words(term: str) -> str:
    return f"τ {LEVELS.get(term, term)}"


def _tau_priors(fit: Any) -> list[tuple[str, str, TauPrior]]:
    """Return key, words and prior of each standard deviation of true effects."""
    if not terms(fit):
        return [("tau", "τ", fit.priors.tau)]
    return [(f"tau_{slug(term)}", _words(term), prior) for term, prior in zip(terms(fit), fit.priors.taus, strict=True)]


def _put_heterogeneity(put: Put, fit: BayesianResults, level: str) -> None:
    tau = fit.posterior("tau")
    interval = tau.interval(level=fit.level, kind=fit.interval)
    put("tau2", tau.median**2, "variance", "τ² (square of the median of τ)")
    put("tau", tau.median, "sd", "τ (posterior median)")
    put("tau_ci", [interval.lb, interval.ub], "sd_interval", f"τ, {level} credible interval")
    for term in terms(fit):
        own = fit.posterior(f"tau[{term}]")
        ends = own.interval(level=fit.level, kind=fit.interval)
        put(f"tau_{slug(term)}", own.median, "sd", f"{_words(term)} (posterior median)")
        put(f"tau_{slug(term)}_ci", [ends.lb, ends.ub], "sd_interval", f"{_words(term)}, {level} credible interval")
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
            put("prob_more", more, "p", f"P(mean r > {format_r(SMALL, 1)})")
        put("prob_new_positive", fit.prob("theta_new > 0"), "p", "P(effect of a new study > 0)")
        put("bf_mu", factor("mu = 0").bf10, "bf", "Bayes factor for a mean effect other than 0")
    if not terms(fit):
        put("bf_tau", factor("tau = 0").bf10, "bf", "Bayes factor for heterogeneity")
    for term in terms(fit):
        words = f"Bayes factor for heterogeneity {LEVELS.get(term, term)}"
        put(f"bf_tau_{slug(term)}", factor(f"tau[{term}] = 0").bf10, "bf", words)


def slope_quantities(fitted: Fitted) -> dict[str, Quantity]:
    """Return every coefficient of a Bayesian meta-regression, for placeholders."""
    fit: BayesianResults = fitted.fit
    if fit.design.formula == "1":
        return {}
    scale = fitted.number
    table, out = fit.tidy(), {}
    for name in fit.names:
        key = f"b_{slug(name)}"
        median, lb, ub = _cells(table, name)
        out[key] = quantity(median, scale, name)
        out[f"{key}_ci"] = quantity([lb, ub], f"{scale}_interval", f"{name}, credible interval")
        out[f"{key}_positive"] = quantity(fit.prob(f"{name} > 0"), "p", f"P({name} > 0)")
    return out


def _cells(table: pd.DataFrame, name: str) -> list[float]:
    found: list[float] = table.loc[[name], list(CELLS)].to_numpy(dtype=float)[0].tolist()
    return found


def posterior(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return median, sd and interval of each quantity of one posterior, or of several below each other."""
    chosen = [fits[name] for name in item.of]
    _check(chosen, "posterior")
    kind = chosen[0].number
    level = f"{chosen[0].level} credible"
    columns = [
        column("quantity", "Quantity"),
        column("median", f"Median ({chosen[0].effects.scale_label})", kind),
        column(["ci_lb", "ci_ub"], level, f"{kind}_interval"),
        column("r", "as r", "r", blank="–"),
        column(["r_lb", "r_ub"], f"{level}, r", "r_interval", blank="–"),
        column("positive", "P(> 0)", "p", blank="–"),
    ]
    return stacked(item, chosen, columns, _posterior_rows, "Posterior")


def _posterior_rows(fitted: Fitted) -> list[dict[str, Any]]:
    fit: BayesianResults = fitted.fit
    table = fit.tidy()
    rows = []
    taus = [f"tau[{term}]" for term in terms(fit)] or ["tau"]
    for name in [*fit.names, *taus, "theta_new"]:
        shown = "mu" if fit.design.formula == "1" and name == fit.names[0] else name
        ends = dict(zip(CELLS, _cells(table, shown), strict=True))
        words = (
            _words(name.partition("[")[2].rstrip("]")) if name in taus[: len(terms(fit))] else NAMES.get(shown, shown)
        )
        found: dict[str, Any] = {"quantity": words, **ends}
        if name not in taus:
            found["positive"] = fit.prob(f"{shown} > 0")
        if shown in ("mu", "theta_new") and fit._scale == "z":
            found |= {"r": math.tanh(found["median"])}
            found |= {"r_lb": math.tanh(found["ci_lb"]), "r_ub": math.tanh(found["ci_ub"])}
        rows.append(found)
    return rows


def other_priors(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return what other priors of tau would have given; the first row of each analysis is as it was fitted."""
    chosen = [fits[name] for name in item.of]
    _check(chosen, "priors")
    several = [fitted.spec.id for fitted in chosen if terms(fitted.fit)]
    if several:
        raise InputError(f"table='priors' shows models with one τ; {', '.join(several)} has random =")
    on_r = all(fitted.on_r for fitted in chosen)
    name = "r" if on_r else "estimate"
    level = f"{chosen[0].level} credible"
    columns = [
        column("prior", "Prior of τ"),
        column(name, "r", "r3") if on_r else column(name, "Mean effect", "z"),
        column([f"{name}_lb", f"{name}_ub"], level, "r3_interval" if on_r else "z_interval"),
        column("tau", "τ", "sd"),
        column(["tau_lb", "tau_ub"], level, "sd_interval"),
        column(["pi_lb", "pi_ub"], "New study, r" if on_r else "New study", "r_interval" if on_r else "z_interval"),
    ]
    return stacked(item, chosen, columns, partial(_prior_rows, name=name), "Other priors of τ")


def _prior_rows(fitted: Fitted, name: str) -> list[dict[str, Any]]:
    fit: BayesianResults = fitted.fit
    to_r = math.tanh if fit._scale == "z" else float
    rows = []
    for row in fit.prior_sensitivity().to_dict("records"):
        found: dict[str, Any] = {"prior": row["tau_prior"], "tau": row["tau"]}
        found |= {"tau_lb": row["tau_ci_lb"], "tau_ub": row["tau_ci_ub"]}
        found |= {name: to_r(row["mu"]), f"{name}_lb": to_r(row["mu_ci_lb"]), f"{name}_ub": to_r(row["mu_ci_ub"])}
        rows.append(found | {"pi_lb": to_r(row["pi_lb"]), "pi_ub": to_r(row["pi_ub"])})
    return rows


def _check(chosen: Sequence[Fitted], table: str) -> None:
    others = [fitted.spec.id for fitted in chosen if fitted.table_kind != "posterior"]
    if others:
        raise InputError(f"table={table!r} shows analyses of kind = 'bayes'; {', '.join(others)} has none")
