"""R code for a three-level model: brms samples what is integrated here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta.design import INTERCEPT
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.results.r_code import comment, covariance, data, formula, path, quoted

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
        priors.append(f'prior({tau.spelled("brms")}, class="sd", group="{group}")')
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
        found.append(f"set_prior({prior.spelled('brms')}, {where})")
    return found
