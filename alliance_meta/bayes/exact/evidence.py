"""Bayes factors of a fitted model: points and ranges of a coefficient or of tau."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis, undefined
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import EffectPrior
from alliance_meta.core.bayes.normal import LOG_2PI
from alliance_meta.core.bayes.two_level import ExactPosterior, expectation, log_likelihood
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.results import BayesianResults

# A posterior density or probability below this has lost its digits to those of the nodes.
LEAST = 1e-200


def bayes_factor(fit: BayesianResults, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    if stated.name == "tau":
        return _of_tau(fit, stated)
    if stated.name in ("tau2", "I2") or stated.name.startswith("theta"):
        raise InputError(
            f"{stated.text!r}: Bayes factors are for mu, a coefficient or tau; for a probability use prob()"
        )
    row = fit._row(stated.name)
    prior = _prior_of(fit, row)
    if prior is None:
        return undefined(stated, f"the prior of {stated.name} is flat")
    return _point(fit, stated, row, prior) if stated.is_point else _range(fit, stated, row, prior)


def _of_tau(fit: BayesianResults, stated: Hypothesis) -> BayesFactor:
    prior, exact = fit.priors.tau, fit.exact
    if not prior.proper:
        return undefined(stated, f"the prior of tau, {prior}, is improper")
    if stated.is_point:
        if stated.lower != 0:
            raise InputError(
                f"{stated.text!r}: of the points only tau = 0 is a hypothesis (no heterogeneity); or give a range"
            )
        log = float(log_likelihood(exact.problem, np.zeros(1))[0]) - exact.log_marginal
        return _made(stated, log, exact.error, _savage_dickey_tau(fit))
    lower = max(stated.lower, 0.0)
    below, above = float(prior.cdf(lower)), 1.0 - float(prior.cdf(stated.upper))
    if not 0 < below + above < 1:
        raise InputError(f"{stated.text!r}: the prior of tau, {prior}, leaves no doubt about that")
    posterior = fit.posterior("tau")
    outside = float(posterior.cdf(lower)) + float(posterior.sf(stated.upper))
    inside = posterior.prob(lower, stated.upper)
    smallest = np.finfo(float).tiny
    log = float(np.log(max(inside, smallest)) - np.log(max(outside, smallest)))
    log -= float(np.log1p(-below - above) - np.log(below + above))
    error = exact.error / max(min(inside, outside), smallest)
    return _made(stated, log, error, NotApplicable("there is no other route"))


def _savage_dickey_tau(fit: BayesianResults) -> float:
    """Return posterior over prior density of tau at 0, where the prior has one there."""
    at = 1e-9 * fit.posterior("tau").median
    return _ratio(float(fit.posterior("tau").pdf(at)), float(fit.priors.tau.logpdf(at)))


def _ratio(density: float, prior_log: float) -> float:
    """Return posterior over prior density, where both have digits."""
    if density < LEAST or prior_log < np.log(LEAST):
        return NotApplicable("a density is too near to 0")
    return float(np.exp(np.log(density) - prior_log))


def _prior_of(fit: BayesianResults, row: Array) -> EffectPrior | None:
    """Return the prior of one coefficient or of a combination, None where it is flat."""
    used = np.flatnonzero(row)
    chosen = fit.priors.coefficients
    if not all(chosen[j].proper for j in used):
        return None
    if len(used) == 1 and row[used[0]] == 1.0:
        return chosen[used[0]]
    if not all(isinstance(chosen[j], Normal) for j in used):
        raise InputError("a Bayes factor of a combination needs normal priors of all its coefficients")
    mean = sum(row[j] * chosen[j].mean for j in used)  # type: ignore[attr-defined]
    return Normal(float(mean), float(np.sqrt(sum((row[j] * chosen[j].sd) ** 2 for j in used))))  # type: ignore[attr-defined]


def _point(fit: BayesianResults, stated: Hypothesis, row: Array, prior: EffectPrior) -> BayesFactor:
    value, exact = stated.lower, fit.exact
    log, error = log_bf01_of_point(exact, row, value, prior)
    density = float(exact.coefficients(row[None]).pdf(np.array([[value]]))[0, 0])
    return _made(stated, log, error, _ratio(density, float(prior.logpdf(value))))


def log_bf01_of_point(exact: ExactPosterior, row: Array, value: float, prior: EffectPrior) -> tuple[float, float]:
    """Return log BF01 of a combination of coefficients having one value, and its relative numerical error."""

    def log_density(mean: Array, sd: Array) -> Array:
        return -0.5 * (LOG_2PI + ((value - mean) / sd) ** 2) - np.log(sd)

    log, error = expectation(exact.problem, row, log_density)
    return log - exact.log_marginal - float(prior.logpdf(value)), error + exact.error


def _range(fit: BayesianResults, stated: Hypothesis, row: Array, prior: EffectPrior) -> BayesFactor:
    exact, lower, upper = fit.exact, stated.lower, stated.upper
    inside, first = expectation(exact.problem, row, _log_inside(lower, upper))
    outside, second = expectation(exact.problem, row, _log_outside(lower, upper))
    below, above = float(prior.cdf(lower)), float(prior.cdf(-upper + 2 * _centre(prior)))
    prior_log = float(np.log1p(-below - above) - np.log(below + above))
    mixture = exact.coefficients(row[None])
    tails = float(mixture.cdf(np.array([[lower]]))[0, 0] + mixture.sf(np.array([[upper]]))[0, 0])
    seen = LEAST < tails < 1.0
    odds = np.log1p(-tails) - np.log(tails) - prior_log if seen else np.inf
    check = float(np.exp(odds)) if odds < 700.0 else NotApplicable("a probability is too near to 0")
    return _made(stated, inside - outside - prior_log, first + second, check)


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


def _made(stated: Hypothesis, log: float, error: float, check: float) -> BayesFactor:
    with np.errstate(over="ignore"):
        bf01, bf10 = float(np.exp(log)), float(np.exp(-log))
    return BayesFactor(stated.text, stated.opposite, bf01, bf10, log, error, check)
