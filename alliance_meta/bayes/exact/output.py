"""A Bayesian result in words, as JSON-ready values, never rounded, and as R code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import Quantities
from alliance_meta.bayes.hypotheses import shown
from alliance_meta.bayes.marginals import COLUMNS as MOMENTS, INFINITE, KINDS
from alliance_meta.bayes.priors.prior import Normal, Prior
from alliance_meta.design import INTERCEPT
from alliance_meta.effects.dependent.groups import ROWS
from alliance_meta.notes import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.fit import columns_of
from alliance_meta.results.r_code import comment, covariance, data, formula, path, quoted
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, format_level, probability


def statistics(fit: Quantities) -> dict[str, Any]:
    """Return the model's statistics by name."""
    nesting = fit._nesting
    found: dict[str, Any] = {"k": fit.k, **fit.effects.counts, **nesting["statistics"], "p": fit.p}
    found |= {"level": fit.level, "interval": fit.interval}
    for name in fit.priors.tau_names:
        tau = fit.posterior(name).interval(level=fit.level, kind=fit.interval)
        found |= {name: tau.estimate, f"{name}_ci_lb": tau.lb, f"{name}_ci_ub": tau.ub}
    found |= {name: getattr(fit, name) for name in fit._known if fit._is_spread(name) and name not in found}
    found |= {f"bf01_{name}": shown(fit, f"{name} = 0").bf01 for name in fit.priors.tau_names}
    if fit.design.has_intercept:
        found["bf01_mu"] = shown(fit, "mu = 0").bf01
    return found | {"log_marginal_likelihood": fit.log_marginal_likelihood, "error_bound": fit.error_bound}


def to_dict(fit: Quantities) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    table, effects, nesting = fit.tidy(), fit.effects, fit._nesting
    priors = {name: prior.to_dict() for name, prior in fit.priors.named.items()}
    over = "both standard deviations" if fit._nested else "tau"
    return {
        "model": {
            "formula": fit.design.formula,
            **nesting["model"],
            "priors": priors,
            "method": f"exact, by quadrature over {over}",
        },
        "statistics": statistics(fit),
        "posterior": {"parameter": list(table.index), **columns_of(table)},
        "vb": _square(fit.vb),
        "bayes_factors": [one.to_dict() for one in fit._bayes_factors.values()],
        "studies": {
            "slab": list(effects.slab),
            **nesting["studies"],
            "yi": effects.yi,
            "vi": effects.vi,
        },
        "provenance": effects.provenance.to_dict(),
    }


def _square(vb: Array) -> Any:
    return vb if np.isfinite(vb).all() else NotApplicable(INFINITE)


CENTRED = "the mean effect at the average of the moderators"


def document(fit: Quantities) -> Document:
    """Return what the fit says."""
    title, *more = fit._model_words
    return wording.document(
        fit,
        title,
        about(fit, str(fit.priors), *more),
        posterior_table(fit, fit.tidy().iloc[: -fit.k]),
        wording.as_r(fit, new="a new group" if fit._nested else "a new study"),
        _evidence(fit),
    )


def intervals_line(fit: Any) -> str:
    """Return what intervals are."""
    return f"Intervals: {KINDS[fit.interval]}, {format_level(fit.level)} of the posterior"


def about(fit: Any, priors: str, *more: str) -> list[str]:
    """Return what a heading says below its first line."""
    centred = fit.p > 1 and fit.design.has_intercept
    return [
        fit.effects.heading,
        *more,
        *wording.moderated(fit),
        f"Priors: {priors}",
        *([f"mu: {CENTRED}"] if centred else []),
        intervals_line(fit),
    ]


def posterior_table(fit: Any, frame: pd.DataFrame, scale: str | None = None, **more: Kind) -> Table:
    """Return rows of `tidy`, with more columns where there are some."""
    caption = (
        f"Posterior ({fit.effects.scale_label if scale is None else scale}, {format_level(fit.level)} "
        f"{KINDS[fit.interval]} intervals)"
    )
    return table_of(frame, {**dict.fromkeys(MOMENTS, 4), **more}, caption)


def _evidence(fit: Quantities) -> list[str]:
    lines = probabilities(fit) if fit.design.has_intercept else []
    for one in fit._bayes_factors.values():
        lines.append(str(one) if one.bf01 == one.bf01 else f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}")
    likelihood = fit.log_marginal_likelihood
    shown = f"not defined, {_reason(likelihood)}" if likelihood != likelihood else fixed(likelihood)
    return [*lines, f"Log marginal likelihood: {shown}"]


def probabilities(fit: Any) -> list[str]:
    """Return how probable it is that the mean effect, and one of a new study, is positive."""
    return ["   ".join(f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0"))]


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def interval_words(fit: Any) -> str:
    """Return the sentence of a methods section on estimates and intervals."""
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    return f"Posterior medians are reported with {kind} {format_level(fit.level)} credible intervals."


def prior_words(fit: Any, priors: Mapping[str, Prior]) -> str:
    """Return the priors in a sentence: of the mean effect, of the coefficients, of tau."""
    centred = fit.p > 1 and fit.design.has_intercept
    names = {
        "mu": CENTRED if centred else "the mean effect",
        "tau": "the standard deviation of true effects between studies, tau",
    }
    return "; ".join(f"{names.get(name, name)}: {prior}" for name, prior in priors.items())


def methods(fit: Quantities) -> str:
    """Return the sentences for a methods section."""
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    what, how = fit._method_words
    return (
        f"{wording.scale_sentence(fit)}{what}. Priors were {prior_words(fit, fit.priors.named)}. {how}, with a "
        "numerical error "
        f"{bound(fit.error_bound)}. {interval_words(fit)}{factors}"
    )


def bound(error: float) -> str:
    """Return the bound in words that do not change with the last digits of rounding."""
    return "below 1e-10" if error < 1e-10 else f"of at most {brief(error, 1)}"


def r_code(fit: Quantities) -> str:
    """Return the R code (bayesmeta) that fits the same model."""
    lines = ["library(bayesmeta)", "library(metafor)", *data(fit)]
    coefficients = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    heavy = [f"{name} ~ {prior}" for name, prior in coefficients if prior.student]
    if heavy:
        lines.append(
            comment(f"bayesmeta has normal and flat priors of effects only; a flat one stands for {', '.join(heavy)}")
        )
    interval = "central" if fit.interval == "eti" else "shortest"
    tau = f'tau.prior={fit.priors.taus[0].spelled("bayesmeta")}, interval.type="{interval}"'
    if fit.design.formula == "1":
        mean, sd = _r_normal(fit, 0)
        prior = "" if sd == "NA" else f"mu.prior=c({mean}, {sd}), "
        lines.append(f"fit <- bayesmeta(y=dat$yi, sigma=sqrt(dat$vi), {prior}{tau})")
        return "\n".join(lines)
    lines.append(f"X <- model.matrix(~ {formula(fit.design.formula)}, data=dat)")
    if fit.design.has_intercept:
        lines.append("X[, -1] <- scale(X[, -1], scale=FALSE)  # the intercept is then the effect at the average")
    pairs = [_r_normal(fit, j) for j in range(fit.p)]
    means, sds = ", ".join(mean for mean, _ in pairs), ", ".join(sd for _, sd in pairs)
    beta = f"beta.prior.mean=c({means}), beta.prior.sd=c({sds})"
    lines.append(f"fit <- bmr(y=dat$yi, sigma=sqrt(dat$vi), X=X, {beta}, {tau})")
    return "\n".join(lines)


def _r_normal(fit: Quantities, j: int) -> tuple[str, str]:
    prior = fit.priors.coefficients[j]
    return (f"{prior.mean:.15g}", f"{prior.sd:.15g}") if isinstance(prior, Normal) else ("NA", "NA")


def brms_code(fit: Any) -> str:
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
    priors += _brms_coefficients(fit)
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


def _brms_coefficients(fit: Any) -> list[str]:
    """Return the priors of the coefficients; brms too centres moderators for the prior of its intercept."""
    found = []
    for name, prior in zip(fit.design.names, fit.priors.coefficients, strict=True):
        where = 'class="Intercept"' if name == INTERCEPT else f'class="b", coef={quoted(name)}'
        found.append(f"set_prior({prior.spelled('brms')}, {where})")
    return found
