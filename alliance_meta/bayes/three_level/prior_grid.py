"""What other priors would have given for a three-level model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.averaged.quantity import GridMarginal
from alliance_meta.bayes.exact.export import column
from alliance_meta.bayes.exact.setup import check_kind
from alliance_meta.bayes.priors import sensitivity_set
from alliance_meta.bayes.priors.effect import Flat, Normal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.bayes.three_level.priors import MultilevelPriors, density
from alliance_meta.core.bayes.two_level import TauDensity
from alliance_meta.core.three_level.grid import with_priors
from alliance_meta.core.three_level.posterior import MultilevelPosterior, proper, solve_multilevel
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import did_you_mean

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults

TauPriors = Sequence[TauPrior] | Mapping[str, Sequence[TauPrior]]


def prior_grid(
    fit: BayesianMultilevelResults, *, tau_priors: TauPriors | None, mu_priors: Sequence[EffectPrior] | None
) -> pd.DataFrame:
    """Return a table with one row per combination of priors."""
    own = fit.priors
    if mu_priors is not None and "mu" not in own.names:
        raise InputError(f"mods={fit.design.formula!r} has no intercept, so that mu_priors have nothing to apply to")
    choices = _choices(fit, tau_priors)
    if not all(choices) or (mu_priors is not None and not len(mu_priors)):
        raise InputError("give at least one prior to compare")
    # Each density is made once: where it is that of the fit, nothing has to be weighed anew.
    made = [[(one, _dense(fit, i, one)) for one in priors] for i, priors in enumerate(choices)]
    rows = []
    for mu in [None] if mu_priors is None else mu_priors:
        base, priors = (fit.exact, own) if mu is None else _with_mu(fit, mu)
        for (first, between), (second, within) in product(*made):
            changed = replace(priors, taus=(first, second))
            rows.append(_row(fit, _solved(fit, base, (between, within), changed), changed))
    out = pd.DataFrame({name: column([row[name] for row in rows]) for name in rows[0]})
    out.attrs.update(level=fit.level, interval="eti", scale=fit.effects.scale_label)
    return out


def _choices(fit: BayesianMultilevelResults, given: TauPriors | None) -> list[list[TauPrior]]:
    own = fit.priors
    if isinstance(given, Mapping):
        found = [[one] for one in own.taus]
        for name, priors in given.items():
            which = own.which(f"tau[{name}]")
            if which is None:
                raise InputError(
                    f"tau_priors names {name!r}{did_you_mean(name, list(own.terms))} Terms: {', '.join(own.terms)}"
                )
            found[which] = list(priors)
    elif given is None:
        found = [[one, *(prior for prior in sensitivity_set() if prior != one)] for one in own.taus]
    else:
        found = [list(given), list(given)]
    for term, priors in zip(own.terms, found, strict=True):
        for prior in priors:
            check_kind(prior, TauPrior, f"tau_priors of {term}")
    vi = fit.effects.vi
    return [[prior.given(vi) for prior in priors] for priors in found]


def _dense(fit: BayesianMultilevelResults, i: int, prior: TauPrior) -> TauDensity:
    return fit.priors.densities[i] if prior == fit.priors.taus[i] else density(prior)


def _with_mu(fit: BayesianMultilevelResults, mu: EffectPrior) -> tuple[MultilevelPosterior, MultilevelPriors]:
    """Return the posterior with another prior of the mean."""
    check_kind(mu, EffectPrior, "mu_priors")
    if not isinstance(mu, Normal | Flat):
        raise InputError(f"mu_priors: {mu}: the exact three-level model takes normal and flat priors")
    j = fit.priors.names.index("mu")
    data = fit.exact.data
    mean, precision = data.mean.copy(), data.precision.copy()
    mean[j], precision[j] = (mu.mean - data.centre[j], mu.sd**-2.0) if isinstance(mu, Normal) else (0.0, 0.0)
    changed = replace(data, mean=mean, precision=precision)
    coefficients = (*fit.priors.coefficients[:j], mu, *fit.priors.coefficients[j + 1 :])
    priors = replace(fit.priors, coefficients=coefficients)
    if not proper(changed, *fit.priors.densities):
        raise InputError(f"mu_priors: {mu} leaves the posterior improper with the priors of tau of this fit")
    return solve_multilevel(changed, *fit.priors.densities), priors


def _solved(
    fit: BayesianMultilevelResults,
    base: MultilevelPosterior,
    densities: tuple[TauDensity, TauDensity],
    priors: MultilevelPriors,
) -> MultilevelPosterior:
    if not proper(base.data, *densities):
        raise InputError(f"the posterior is improper under {priors}; leave this combination out")
    if all(one.proper for one in fit.priors.densities):
        found = with_priors(base, fit.priors.densities, densities)
        if found is not None:
            return found
    return solve_multilevel(base.data, *densities)


def _row(fit: BayesianMultilevelResults, exact: MultilevelPosterior, priors: MultilevelPriors) -> dict[str, Any]:
    tails = np.array([0.5 * (1.0 - fit.level), 0.5, 0.5 * (1.0 + fit.level)])
    row = fit._mean_row[None]
    mu, new = exact.coefficients(row).quantile(tails)[0], exact.new_effects(row).quantile(tails)[0]
    mu_prior = priors.coefficients[priors.names.index("mu")] if "mu" in priors.names else "as fitted"
    out: dict[str, Any] = {"mu_prior": str(mu_prior)}
    out |= {f"prior of {name}": str(one) for name, one in zip(priors.tau_names, priors.taus, strict=True)}
    out |= {"mu": mu[1], "mu_ci_lb": mu[0], "mu_ci_ub": mu[2]}
    for i, name in enumerate(priors.tau_names):
        tau = GridMarginal(name, exact.deviation(i)).quantile(tails)
        out |= {name: tau[1], f"{name}_ci_lb": tau[0], f"{name}_ci_ub": tau[2]}
    improper = priors.improper
    return out | {
        "pi_lb": new[0],
        "pi_ub": new[2],
        "log_marginal_likelihood": NotApplicable(f"the prior of {' and '.join(improper)} is improper")
        if improper
        else exact.log_marginal,
        "error_bound": exact.error,
    }
