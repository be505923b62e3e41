"""A Bayesian result in words: its document, the methods sentences and the R code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alliance_meta.bayes.marginals import KINDS
from alliance_meta.bayes.priors.data import BergerDeely, DuMouchel, Jeffreys, Shrinkage
from alliance_meta.bayes.priors.effect import Flat, Normal
from alliance_meta.bayes.priors.prior import TauPrior
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
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.results import wording
from alliance_meta.results.r_code import comment, data, formula
from alliance_meta.tables.document import Document, Kind, Table, table_of
from alliance_meta.tables.format import brief, fixed, level_text, probability

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.bayes.exact.results import BayesianResults
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults

CENTRED = "the mean effect at the average of the moderators"
NAMED_IN_R: dict[type, str] = {
    Jeffreys: "Jeffreys",
    BergerDeely: "BergerDeely",
    DuMouchel: "DuMouchel",
    Shrinkage: "shrinkage",
}


def document(fit: BayesianResults) -> Document:
    """Return what the fit says."""
    kind = "meta-regression" if fit.p > 1 or not fit.design.has_intercept else "random-effects model"
    return wording.document(
        fit,
        f"Bayesian {kind} (k = {fit.k}; exact, error at most {brief(fit.error_bound, 1)})",
        [
            fit.effects.heading,
            *wording.moderated(fit),
            f"Priors: {fit.priors}",
            *centre(fit),
            intervals(fit),
        ],
        posterior_table(fit, fit.tidy().iloc[: fit.p + 2]),
        wording.as_r(fit, new="a new study"),
        evidence(fit),
    )


def centre(fit: Any) -> list[str]:
    """Return what mu is where there are moderators; nothing without any."""
    return [f"mu: {CENTRED}"] if fit.p > 1 and fit.design.has_intercept else []


def intervals(fit: Any) -> str:
    """Return what the intervals of a posterior are."""
    return f"Intervals: {KINDS[fit.interval]}, {level_text(fit.level)} of the posterior"


def posterior_table(fit: Any, frame: pd.DataFrame, scale: str | None = None, **more: Kind) -> Table:
    """Return rows of `tidy`, with more columns where there are some."""
    caption = (
        f"Posterior ({fit.effects.scale_label if scale is None else scale}, {level_text(fit.level)} "
        f"{KINDS[fit.interval]} intervals)"
    )
    return table_of(frame, {**dict.fromkeys(("mean", "sd", "median", "ci_lb", "ci_ub"), 4), **more}, caption)


def signs(fit: Any) -> list[str]:
    """Return the probabilities that the mean effect and that of a new study are positive."""
    stated = [f"P({one}) {probability(fit.prob(one))}" for one in ("mu > 0", "theta_new > 0")]
    return ["   ".join(stated)] if fit.design.has_intercept else []


def evidence(fit: BayesianResults | BayesianMultilevelResults) -> list[str]:
    """Return probabilities, Bayes factors and the marginal likelihood."""
    factors = [
        str(one) if one.bf01 == one.bf01 else f"{one.hypothesis}: no Bayes factor, {_reason(one.bf01)}"
        for one in fit._bayes_factors.values()
    ]
    likelihood = fit.log_marginal_likelihood
    shown = f"not defined, {_reason(likelihood)}" if likelihood != likelihood else fixed(likelihood)
    return [*signs(fit), *factors, f"Log marginal likelihood: {shown}"]


def _reason(value: float) -> str:
    return value.reason if isinstance(value, NotApplicable) else ""


def methods(fit: BayesianResults) -> str:
    """Return the sentences for a methods section."""
    scale = wording.scale_sentence(fit)
    moderators = wording.with_moderators(fit)
    chosen = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    centred = fit.p > 1 and fit.design.has_intercept
    mean = CENTRED if centred else "the mean effect"
    of_mean = ", ".join(f"{mean if name == 'mu' else name}: {prior}" for name, prior in chosen)
    kind = "equal-tailed" if fit.interval == "eti" else "shortest (highest-density)"
    factors = "" if fit.priors.improper else " Bayes factors compare marginal likelihoods under these priors."
    return (
        f"{scale}A Bayesian random-effects model{moderators} was fitted to {fit.effects.counted}. Priors were "
        f"{of_mean}; the standard deviation of true effects between studies, tau: {fit.priors.tau}. Given tau the "
        "coefficients and true effects were integrated analytically, and tau by adaptive Gauss-Legendre quadrature, "
        f"with a numerical error {_bound(fit.error_bound)}. Posterior medians are reported with {kind} "
        f"{level_text(fit.level)} credible intervals.{factors}"
    )


def _bound(error: float) -> str:
    """Return the bound in words that do not change with the last digits of rounding."""
    return "below 1e-10" if error < 1e-10 else f"of at most {brief(error, 1)}"


def r_code(fit: BayesianResults) -> str:
    """Return the R code (bayesmeta) that fits the same model."""
    lines = ["library(bayesmeta)", "library(metafor)", *data(fit)]
    heavy = [
        f"{name} ~ {prior}"
        for name, prior in zip(fit.priors.names, fit.priors.coefficients, strict=True)
        if not isinstance(prior, Normal | Flat)
    ]
    if heavy:
        lines.append(
            comment(f"bayesmeta has normal and flat priors of effects only; a flat one stands for {', '.join(heavy)}")
        )
    interval = "central" if fit.interval == "eti" else "shortest"
    tau = f'tau.prior={_r_tau(fit.priors.tau)}, interval.type="{interval}"'
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


def _r_normal(fit: BayesianResults, j: int) -> tuple[str, str]:
    prior = fit.priors.coefficients[j]
    return (f"{prior.mean:.15g}", f"{prior.sd:.15g}") if isinstance(prior, Normal) else ("NA", "NA")


def _r_tau(prior: TauPrior) -> str:
    """Return R's spelling of a prior of tau."""
    named: dict[type, str] = {
        Jeffreys: "Jeffreys",
        BergerDeely: "BergerDeely",
        DuMouchel: "DuMouchel",
        Shrinkage: "shrinkage",
    }
    if type(prior) in named:
        return f'"{named[type(prior)]}"'
    if isinstance(prior, HalfNormal):
        body = f"dhalfnormal(t, scale={prior.scale:g})"
    elif isinstance(prior, HalfCauchy):
        body = f"dhalfcauchy(t, scale={prior.scale:g})"
    elif isinstance(prior, HalfT):
        body = f"dhalft(t, df={prior.df:g}, scale={prior.scale:g})"
    elif isinstance(prior, Exponential):
        body = f"dexp(t, rate={1.0 / prior.scale:.15g})"
    elif isinstance(prior, Lomax):
        body = f"dlomax(t, shape={prior.shape:g}, scale={prior.scale:g})"
    elif isinstance(prior, LogNormal):
        body = f"dlnorm(t, {prior.mean:g}, {prior.sd:g})"
    elif isinstance(prior, Gamma):
        body = f"dgamma(t, {prior.shape:g}, scale={prior.scale:g})"
    elif isinstance(prior, InverseGamma):
        a, b = f"{prior.shape:g}", f"{prior.scale:g}"
        body = f"{b}^{a} / gamma({a}) * t^(-{a} - 1) * exp(-{b} / t)"
    elif isinstance(prior, Uniform):
        return f"function(t) dunif(t, 0, {prior.upper:g})" if prior.proper else '"uniform"'
    else:
        return f"stop('the prior of tau, {prior}, has no spelling in R')"
    return f"function(t) {body}"
