"""R code for a three-level model: brms samples what is integrated here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.effect_priors import Flat, Normal
from alliance_meta.bayes.prior import EffectPrior, TauPrior
from alliance_meta.bayes.tau_priors import (
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGamma,
    LogNormal,
    Lomax,
    Uniform,
)
from alliance_meta.design import INTERCEPT

if TYPE_CHECKING:
    from alliance_meta.bayes.multilevel_results import BayesianMultilevelResults


def r_code(fit: BayesianMultilevelResults) -> str:
    """Return the R code (brms) that samples from the same posterior."""
    effects, (outer, inner) = fit.effects, fit.priors.terms
    lines = [
        "library(brms)  # samples what is integrated here: expect the same to two or three digits",
        "library(metafor)",
    ]
    if effects.columns:
        columns = ", ".join(f"{key}={_name(effects.columns[key])}" for key in ("ri", "ni"))
        vtype = f', vtype="{effects.vtype}"' if effects.measure != "ZCOR" and effects.vtype != "LS" else ""
        lines.append(f'dat <- escalc(measure="{effects.measure}", {columns}, data=dat{vtype})')
    if inner.split("/")[-1] == "es_id" and "es_id" not in effects.moderators:
        lines.append("dat$es_id <- seq_len(nrow(dat))")
    formula = fit.design.formula.replace("C(", "factor(").replace("center(", "scale(scale=FALSE, ")
    nested = inner.startswith(f"{outer}/")
    random = f"(1 | {inner})" if nested else f"(1 | {outer}) + (1 | {inner})"
    if fit.V is None:
        response, known, data2 = "yi | se(sqrt(vi))", "", ""
    else:
        made = _covariance(fit)
        lines.append(f"V <- {made}  # {fit.V.assumption}")
        response, known, data2 = "yi", " + fcor(V)", ", data2=list(V=V)"
    # Variances that are known leave nothing for sigma to do.
    priors = [] if fit.V is None else ['prior(constant(1), class="sigma")']
    priors += _of_coefficients(fit)
    groups = (outer.replace("/", ":"), inner.replace("/", ":"))
    for group, tau in zip(groups, fit.priors.taus, strict=True):
        priors.append(f'prior({_of_tau(tau)}, class="sd", group="{group}")')
    if not all(name.isidentifier() for name in fit.design.names):
        lines.append("# brms names the coefficients of factors its own way: default_prior() lists them")
    separator = ",\n            "
    lines.append(f"priors <- c({separator.join(priors)})")
    lines.append(f"fit <- brm({response} ~ {formula} + {random}{known}, data=dat{data2}, prior=priors, seed=1,")
    lines.append("           chains=4, iter=4000, control=list(adapt_delta=0.99))")
    return "\n".join(lines)


def _covariance(fit: BayesianMultilevelResults) -> str:
    V = fit.V
    if V is None or V.rho is None:
        return "…"
    subgroup = f", subgroup={V.settings['subgroup']}" if "subgroup" in V.settings else ""
    return f"vcalc(vi, cluster={V.cluster or 'cluster'}{subgroup}, obs=es_id, data=dat, rho={V.rho:g})"


def _of_coefficients(fit: BayesianMultilevelResults) -> list[str]:
    """Return the priors of the coefficients; brms too centres moderators for the prior of its intercept."""
    found = []
    for name, prior in zip(fit.design.names, fit.priors.coefficients, strict=True):
        where = 'class="Intercept"' if name == INTERCEPT else f'class="b", coef="{name}"'
        found.append(f"set_prior({_of_effect(prior)}, {where})")
    return found


def _of_effect(prior: EffectPrior) -> str:
    if isinstance(prior, Normal):
        return f'"normal({prior.mean:.15g}, {prior.sd:.15g})"'
    return '""' if isinstance(prior, Flat) else f"stop('the prior {prior} has no spelling here')"


def _of_tau(prior: TauPrior) -> str:
    """Return Stan's spelling; brms cuts it off at 0."""
    if isinstance(prior, HalfNormal):
        return f"normal(0, {prior.scale:g})"
    if isinstance(prior, HalfCauchy):
        return f"cauchy(0, {prior.scale:g})"
    if isinstance(prior, HalfT):
        return f"student_t({prior.df:g}, 0, {prior.scale:g})"
    if isinstance(prior, Exponential):
        return f"exponential({1.0 / prior.scale:.15g})"
    if isinstance(prior, Lomax):
        return f"pareto_type_2(0, {prior.scale:g}, {prior.shape:g})"
    if isinstance(prior, LogNormal):
        return f"lognormal({prior.mean:g}, {prior.sd:g})"
    if isinstance(prior, Gamma):
        return f"gamma({prior.shape:g}, {1.0 / prior.scale:.15g})"
    if isinstance(prior, InverseGamma):
        return f"inv_gamma({prior.shape:g}, {prior.scale:g})"
    if isinstance(prior, Uniform) and prior.proper:
        return f"uniform(0, {prior.upper:g})"
    return f"stop('the prior of tau, {prior}, has no spelling in brms')"


def _name(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"
