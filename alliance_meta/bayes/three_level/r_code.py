"""R code for a three-level model: brms samples what is integrated here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.bayes.priors.effect import Flat, Normal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.priors.tau import (
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
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.results.r_code import comment, data, formula, quoted
from alliance_meta.results.r_fits import covariance, path

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def r_code(fit: BayesianMultilevelResults) -> str:
    """Return the R code (brms) that samples from the same posterior."""
    outer, inner = fit.priors.terms
    obs = () if fit.V is None else (fit.V.cluster or "", str(fit.V.settings.get("subgroup", "")), ROWS)
    uses = [part for term in (outer, inner, *obs) for part in term.split("/") if part]
    lines = [
        "library(brms)  # samples what is integrated here: expect the same to two or three digits",
        "library(metafor)",
        *data(fit, uses=uses),
    ]
    nested = inner.startswith(f"{outer}/")
    random = f"(1 | {path(inner)})" if nested else f"(1 | {path(outer)}) + (1 | {path(inner)})"
    if fit.V is None:
        response, known, data2 = "yi | se(sqrt(vi))", "", ""
    else:
        lines.append(f"V <- {covariance(fit.V)}  {comment(fit.V.assumption)}")
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
    lines.append(f"fit <- brm({response} ~ {formula(fit.design.formula)} + {random}{known}, data=dat{data2},")
    lines.append("           prior=priors, seed=1,")
    lines.append("           chains=4, iter=4000, control=list(adapt_delta=0.99))")
    return "\n".join(lines)


def _of_coefficients(fit: BayesianMultilevelResults) -> list[str]:
    """Return the priors of the coefficients; brms too centres moderators for the prior of its intercept."""
    found = []
    for name, prior in zip(fit.design.names, fit.priors.coefficients, strict=True):
        where = 'class="Intercept"' if name == INTERCEPT else f'class="b", coef={quoted(name)}'
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
