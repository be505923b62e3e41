"""What other priors would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.export import column
from alliance_meta.bayes.exact.setup import PriorSet, check_kind, exact_problem, with_tau
from alliance_meta.bayes.marginals import MixtureMarginal, TauMarginal
from alliance_meta.bayes.priors import TAU, sensitivity_set
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.two_level import ExactProblem, solve
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.results import BayesianResults


def prior_grid(
    fit: BayesianResults,
    *,
    tau_priors: Sequence[TauPrior] | None,
    mu_priors: Sequence[EffectPrior] | None,
) -> pd.DataFrame:
    """Return a table with one row per combination of priors."""
    own = fit.priors
    if tau_priors is None:
        others = [prior for prior in sensitivity_set() if prior != own.tau]
        tau_priors = [own.tau, *others]
    if mu_priors is not None and "mu" not in own.names:
        raise InputError(f"mods={fit.design.formula!r} has no intercept, so that mu_priors have nothing to apply to")
    if not len(tau_priors) or (mu_priors is not None and not len(mu_priors)):
        raise InputError("give at least one prior to compare")
    for tau_prior in tau_priors:
        check_kind(tau_prior, TauPrior, "tau_priors")
    for mu_prior in mu_priors or ():
        check_kind(mu_prior, EffectPrior, "mu_priors")
    sets = [own] if mu_priors is None else [_with_mu(own, prior) for prior in mu_priors]
    rows = []
    for one in sets:
        # What does not depend on the prior of tau is done once.
        problem = fit.exact.problem if one is own else exact_problem(fit.effects, fit.design, replace(one, tau=TAU))
        rows += [_row(fit, problem, replace(one, tau=tau.given(fit.effects.vi))) for tau in tau_priors]
    out = pd.DataFrame({name: column([row[name] for row in rows]) for name in rows[0]})
    out.attrs.update(level=fit.level, interval="eti", scale=fit.effects.scale_label)
    return out


def _with_mu(priors: PriorSet, mu: EffectPrior) -> PriorSet:
    chosen = list(priors.coefficients)
    chosen[priors.names.index("mu")] = mu
    return replace(priors, coefficients=tuple(chosen))


def _row(fit: BayesianResults, problem: ExactProblem, priors: PriorSet) -> dict[str, Any]:
    exact = solve(with_tau(problem, priors.tau))
    tails = np.array([0.5 * (1.0 - fit.level), 0.5, 0.5 * (1.0 + fit.level)])
    row = fit._mean_row[None]
    mu = MixtureMarginal("mu", exact.coefficients(row)).quantile(tails)
    new = MixtureMarginal("theta_new", exact.new_effects(row)).quantile(tails)
    tau = TauMarginal(exact).quantile(tails)
    improper = priors.improper
    reason = f"the prior of {' and '.join(improper)} is improper"
    mu_prior = priors.coefficients[priors.names.index("mu")] if "mu" in priors.names else "as fitted"
    return {
        "mu_prior": str(mu_prior),
        "tau_prior": str(priors.tau),
        "mu": mu[1],
        "mu_ci_lb": mu[0],
        "mu_ci_ub": mu[2],
        "tau": tau[1],
        "tau_ci_lb": tau[0],
        "tau_ci_ub": tau[2],
        "pi_lb": new[0],
        "pi_ub": new[2],
        "log_marginal_likelihood": NotApplicable(reason) if improper else exact.log_marginal,
        "error_bound": exact.error,
    }
