"""What other priors make of a three-level model: points are weighed anew where that is good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from alliance_meta.bayes.exact.setup import Priors
from alliance_meta.bayes.three_level.priors import MultilevelPriors, density
from alliance_meta.core.three_level.grid import with_priors
from alliance_meta.core.three_level.posterior import MultilevelPosterior, proper, solve_multilevel
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def solver(fit: BayesianMultilevelResults, priors: Priors) -> Callable[[MultilevelPriors], MultilevelPosterior]:
    """Return what solves the model with these priors and others of both standard deviations."""
    base = fit.exact if priors is fit.priors else _with_mu(fit, priors)
    own = fit.priors

    def solve(tried: MultilevelPriors) -> MultilevelPosterior:
        # Where the density is that of the fit, nothing has to be weighed anew.
        pairs = zip(tried.taus, own.taus, own.densities, strict=True)
        between, within = (kept if prior == before else density(prior) for prior, before, kept in pairs)
        if not proper(base.data, between, within):
            raise InputError(f"the posterior is improper under {tried}; leave this combination out")
        found = None
        if all(one.proper for one in own.densities):
            found = with_priors(base, own.densities, (between, within))
        return found or solve_multilevel(base.data, between, within)

    return solve


def _with_mu(fit: BayesianMultilevelResults, priors: Priors) -> MultilevelPosterior:
    """Return the posterior with another prior of the mean."""
    j = priors.names.index("mu")
    mu, data = priors.coefficients[j], fit.exact.data
    if mu.gaussian is None:
        raise InputError(f"mu_priors: {mu}: the exact three-level model takes normal and flat priors")
    mean, precision = data.mean.copy(), data.precision.copy()
    middle, precision[j] = mu.gaussian
    mean[j] = middle - data.centre[j] if mu.proper else 0.0
    changed = replace(data, mean=mean, precision=precision)
    if not proper(changed, *fit.priors.densities):
        raise InputError(f"mu_priors: {mu} leaves the posterior improper with the priors of tau of this fit")
    return solve_multilevel(changed, *fit.priors.densities)
