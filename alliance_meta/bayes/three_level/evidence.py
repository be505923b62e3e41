"""Bayes factors of a three-level model: points and ranges of a coefficient or of a standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.evidence import LEAST
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis
from alliance_meta.bayes.marginals import Marginal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import Prior
from alliance_meta.core.bayes.two_level import TauDensity
from alliance_meta.core.three_level.posterior import solve_multilevel, without_coefficient
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def bayes_factor(fit: BayesianMultilevelResults, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    which = fit.priors.which(stated.name)
    if which is None and (stated.name in ("tau", "tau2", "I2", "icc") or stated.name.startswith("theta")):
        raise InputError(
            f"{stated.text!r}: Bayes factors are for mu, a coefficient, {' or '.join(fit.priors.tau_names)}; for a "
            "probability use prob()"
        )
    prior: Prior | None = fit.priors.taus[which] if which is not None else _prior_of(fit, fit._row(stated.name))
    if prior is None or not prior.proper:
        said = "the prior of " + stated.name + (" is flat" if prior is None else f", {prior}, is improper")
        none = NotApplicable(said)
        return BayesFactor(stated.text, stated.opposite, none, none, none, none, none)
    marginal = fit.posterior(stated.name)
    if not stated.is_point:
        return _range(fit, stated, marginal, prior, lowest=-np.inf if which is None else 0.0)
    check = _savage_dickey(fit, stated, marginal, prior, which)
    log, error = _point(fit, stated, which, check)
    return _made(stated, log, error, check)


def _point(fit: BayesianMultilevelResults, stated: Hypothesis, which: int | None, check: float) -> tuple[float, float]:
    """Return log BF01 of a point, from the model that it makes, and its error."""
    densities: list[TauDensity | None] = list(fit.priors.densities)
    data = fit.exact.data
    if which is not None:
        if stated.lower != 0:
            raise InputError(
                f"{stated.text!r}: of the points only {stated.name} = 0 is a hypothesis (no variation); or give a range"
            )
        densities[which] = None
    else:
        row = fit._row(stated.name)
        used = np.flatnonzero(row)
        if len(used) != 1:
            # A combination is no coordinate that could be held: its density has to do.
            return float(np.log(check)), fit.exact.error
        data = without_coefficient(data, int(used[0]), stated.lower / float(row[used[0]]))
    other = solve_multilevel(data, *densities)
    return other.log_marginal - fit.exact.log_marginal, other.error + fit.exact.error


def _savage_dickey(
    fit: BayesianMultilevelResults, stated: Hypothesis, marginal: Marginal, prior: Prior, which: int | None
) -> float:
    """Return posterior over prior density at a point, where both have digits."""
    at = stated.lower if which is None else 1e-3 * marginal.median
    density, prior_log = float(marginal.pdf(at)), float(prior.logpdf(at))
    if density < LEAST or prior_log < np.log(LEAST):
        return NotApplicable("a density is too near to 0")
    return float(np.exp(np.log(density) - prior_log))


def _prior_of(fit: BayesianMultilevelResults, row: Array) -> Normal | None:
    """Return the prior of a coefficient or a combination of them, None where it is flat."""
    used = np.flatnonzero(row)
    chosen = [fit.priors.coefficients[j] for j in used]
    normal = [one for one in chosen if isinstance(one, Normal)]
    if len(normal) < len(chosen):
        return None
    mean = sum(row[j] * one.mean for j, one in zip(used, normal, strict=True))
    return Normal(float(mean), float(np.sqrt(sum((row[j] * one.sd) ** 2 for j, one in zip(used, normal, strict=True)))))


def _range(
    fit: BayesianMultilevelResults, stated: Hypothesis, marginal: Marginal, prior: Prior, *, lowest: float
) -> BayesFactor:
    lower = max(stated.lower, lowest)
    below, above = float(prior.cdf(lower)), 1.0 - float(prior.cdf(stated.upper))
    if not 0 < below + above < 1:
        raise InputError(f"{stated.text!r}: the prior of {stated.name}, {prior}, leaves no doubt about that")
    outside = float(marginal.cdf(lower)) + float(marginal.sf(stated.upper))
    inside = marginal.prob(lower, stated.upper)
    smallest = np.finfo(float).tiny
    log = float(np.log(max(inside, smallest)) - np.log(max(outside, smallest)))
    log -= float(np.log1p(-below - above) - np.log(below + above))
    error = fit.exact.error / max(min(inside, outside), smallest)
    return _made(stated, log, error, NotApplicable("there is no other route"))


def _made(stated: Hypothesis, log: float, error: float, check: float) -> BayesFactor:
    with np.errstate(over="ignore"):
        bf01, bf10 = float(np.exp(log)), float(np.exp(-log))
    return BayesFactor(stated.text, stated.opposite, bf01, bf10, log, error, check)
