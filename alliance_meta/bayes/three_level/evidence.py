"""Bayes factors of a three-level model: points and ranges of a coefficient or of a standard deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alliance_meta.bayes.exact.evidence import made, of_range, prior_of_stated, savage_dickey
from alliance_meta.bayes.hypotheses import BayesFactor, Hypothesis, undefined
from alliance_meta.bayes.priors.prior import Prior
from alliance_meta.core.bayes.two_level import TauDensity
from alliance_meta.core.three_level.posterior import solve_multilevel, without_coefficient

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def bayes_factor(fit: BayesianMultilevelResults, stated: Hypothesis) -> BayesFactor:
    """Return the Bayes factor of a hypothesis."""
    prior, which = prior_of_stated(fit, stated), fit.priors.which(stated.name)
    if not isinstance(prior, Prior):
        return undefined(stated, prior)
    marginal = fit.posterior(stated.name)
    if not stated.is_point:
        return of_range(stated, marginal, prior, fit.exact.error, lowest=-np.inf if which is None else 0.0)
    check = savage_dickey(marginal, prior, stated.lower if which is None else 1e-3 * marginal.median)
    log, error = _point(fit, stated, which, check)
    return made(stated, log, error, check)


def _point(fit: BayesianMultilevelResults, stated: Hypothesis, which: int | None, check: float) -> tuple[float, float]:
    """Return log BF01 of a point, from the model that it makes, and its error."""
    densities: list[TauDensity | None] = list(fit.priors.densities)
    data = fit.exact.data
    if which is not None:
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
