"""Bayes factors of a fitted model: points and ranges of a coefficient or of tau."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.setup import Priors
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis, undefined
from alliance_meta.bayes.marginals import Marginal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import EffectPrior, Prior
from alliance_meta.core.bayes.normal import LOG_2PI
from alliance_meta.core.bayes.two_level import ExactPosterior, expectation, log_likelihood
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.quantities import Quantities

# A posterior density or probability below this has lost its digits to those of the nodes.
LEAST = 1e-200


def bayes_factor(fit: Quantities, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    prior = prior_of_stated(fit, stated)
    if not isinstance(prior, Prior):
        return undefined(stated, prior)
    if stated.name == "tau":
        return _of_tau(fit, stated, prior)
    assert isinstance(prior, EffectPrior)
    row = fit._row(stated.name)
    return _point(fit, stated, row, prior) if stated.is_point else _range(fit, stated, row, prior)


def prior_of_stated(fit: Quantities, stated: Hypothesis) -> Prior | str:
    """Return the prior of what a hypothesis is about, or why there can be no Bayes factor of it."""
    name, which = stated.name, fit.priors.which(stated.name)
    if which is None and (fit._is_spread(name) or name.startswith("theta")):
        *first, last = "mu", "a coefficient", *fit.priors.tau_names
        raise InputError(
            f"{stated.text!r}: Bayes factors are for {', '.join(first)} or {last}; for a probability use prob()"
        )
    if which is None:
        return _prior_of(fit.priors, fit._row(name)) or f"the prior of {name} is flat"
    if stated.is_point and stated.lower != 0:
        raise InputError(
            f"{stated.text!r}: of the points only {name} = 0 is a hypothesis (no variation); or give a range"
        )
    prior = fit.priors.taus[which]
    return prior if prior.proper else f"the prior of {name}, {prior}, is improper"


def _of_tau(fit: Quantities, stated: Hypothesis, prior: Prior) -> BayesFactor:
    exact: ExactPosterior = fit.exact
    posterior = fit.posterior("tau")
    if not stated.is_point:
        return of_range(stated, posterior, prior, exact.error, lowest=0.0)
    log = float(log_likelihood(exact.problem, np.zeros(1))[0]) - exact.log_marginal
    return made(stated, log, exact.error, savage_dickey(posterior, prior, 1e-9 * posterior.median))


def of_range(stated: Hypothesis, posterior: Marginal, prior: Prior, error: float, *, lowest: float) -> BayesFactor:
    """Return the Bayes factor of a range from the probabilities inside and outside, before and after the data."""
    lower = max(stated.lower, lowest)
    below, above = float(prior.cdf(lower)), 1.0 - float(prior.cdf(stated.upper))
    if not 0 < below + above < 1:
        raise InputError(f"{stated.text!r}: the prior of {stated.name}, {prior}, leaves no doubt about that")
    outside = float(posterior.cdf(lower)) + float(posterior.sf(stated.upper))
    inside = posterior.prob(lower, stated.upper)
    smallest = np.finfo(float).tiny
    log = float(np.log(max(inside, smallest)) - np.log(max(outside, smallest)))
    log -= float(np.log1p(-below - above) - np.log(below + above))
    error = error / max(min(inside, outside), smallest)
    return made(stated, log, error, NotApplicable("there is no other route"))


def savage_dickey(posterior: Marginal, prior: Prior, at: float) -> float:
    """Return posterior over prior density at a point, where both have digits."""
    return _ratio(float(posterior.pdf(at)), float(prior.logpdf(at)))


def _ratio(density: float, prior_log: float) -> float:
    """Return posterior over prior density, where both have digits."""
    if density < LEAST or prior_log < np.log(LEAST):
        return NotApplicable("a density is too near to 0")
    return float(np.exp(np.log(density) - prior_log))


def _prior_of(priors: Priors, row: Array) -> EffectPrior | None:
    """Return the prior of one coefficient or of a combination, None where it is flat."""
    used = np.flatnonzero(row)
    chosen = priors.coefficients
    if not all(chosen[j].proper for j in used):
        return None
    if len(used) == 1 and row[used[0]] == 1.0:
        return chosen[used[0]]
    if not all(isinstance(chosen[j], Normal) for j in used):
        raise InputError("a Bayes factor of a combination needs normal priors of all its coefficients")
    mean = sum(row[j] * chosen[j].mean for j in used)  # type: ignore[attr-defined]
    return Normal(float(mean), float(np.sqrt(sum((row[j] * chosen[j].sd) ** 2 for j in used))))  # type: ignore[attr-defined]


def _point(fit: Quantities, stated: Hypothesis, row: Array, prior: EffectPrior) -> BayesFactor:
    value = stated.lower
    exact: ExactPosterior = fit.exact
    log, error = log_bf01_of_point(exact, row, value, prior)
    density = float(exact.coefficients(row[None]).pdf(np.array([[value]]))[0, 0])
    return made(stated, log, error, _ratio(density, float(prior.logpdf(value))))


def log_bf01_of_point(exact: ExactPosterior, row: Array, value: float, prior: EffectPrior) -> tuple[float, float]:
    """Return log BF01 of a combination of coefficients having one value, and its relative numerical error."""

    def log_density(mean: Array, sd: Array) -> Array:
        return -0.5 * (LOG_2PI + ((value - mean) / sd) ** 2) - np.log(sd)

    log, error = expectation(exact.problem, row, log_density)
    return log - exact.log_marginal - float(prior.logpdf(value)), error + exact.error


def _range(fit: Quantities, stated: Hypothesis, row: Array, prior: EffectPrior) -> BayesFactor:
    exact: ExactPosterior = fit.exact
    lower, upper = stated.lower, stated.upper
    inside, first = expectation(exact.problem, row, _log_inside(lower, upper))
    outside, second = expectation(exact.problem, row, _log_outside(lower, upper))
    below, above = float(prior.cdf(lower)), float(prior.cdf(-upper + 2 * _centre(prior)))
    prior_log = float(np.log1p(-below - above) - np.log(below + above))
    mixture = exact.coefficients(row[None])
    tails = float(mixture.cdf(np.array([[lower]]))[0, 0] + mixture.sf(np.array([[upper]]))[0, 0])
    seen = LEAST < tails < 1.0
    odds = np.log1p(-tails) - np.log(tails) - prior_log if seen else np.inf
    check = float(np.exp(odds)) if odds < 700.0 else NotApplicable("a probability is too near to 0")
    return made(stated, inside - outside - prior_log, first + second, check)


def _centre(prior: EffectPrior) -> float:
    """Return the point around which a prior is symmetric: its upper tail is the lower tail of its mirror image."""
    return float(prior.mean)  # type: ignore[attr-defined]


def _log_inside(lower: float, upper: float) -> Callable[[Array, Array], Array]:
    def log_probability(mean: Array, sd: Array) -> Array:
        a, b = (lower - mean) / sd, (upper - mean) / sd
        # On the side where both tails are small.
        a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
        with np.errstate(divide="ignore"):
            return special.log_ndtr(b) + np.log1p(-np.exp(special.log_ndtr(a) - special.log_ndtr(b)))

    return log_probability


def _log_outside(lower: float, upper: float) -> Callable[[Array, Array], Array]:
    def log_probability(mean: Array, sd: Array) -> Array:
        return np.logaddexp(special.log_ndtr((lower - mean) / sd), special.log_ndtr((mean - upper) / sd))

    return log_probability


def made(stated: Hypothesis, log: float, error: float, check: float) -> BayesFactor:
    """Return the Bayes factor with this logarithm."""
    with np.errstate(over="ignore"):
        bf01, bf10 = float(np.exp(log)), float(np.exp(-log))
    return BayesFactor(stated.text, stated.opposite, bf01, bf10, log, error, check)
