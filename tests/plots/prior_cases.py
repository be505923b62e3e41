"""Cases of the plots of priors, posteriors and predictive checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from alliance_meta import BayesianModel
from alliance_meta.bayes import (
    BayesianMultilevelResults,
    PredictiveCheck,
    predictive_check,
    prior_predictive,
    priors,
)
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.plots import (
    posterior_data,
    predictive_data,
    prior_data,
    prior_predictive_data,
    prior_sensitivity_data,
)
from tests.plots.cases import fitted, made_up, molloy, quiet


@cache
def bayesian(mods: str = "1", *, teaching: bool = False, **options: Any) -> BayesianResults:
    """Fit the 16 correlations of Molloy et al. (2014), or made-up ones, with priors."""
    effects = molloy().effects
    if teaching:
        effects = fitted(15).effects
        origin = replace(effects.provenance, synthetic=True, cautions=("Made up. " * 20,))
        effects = replace(effects, provenance=origin)
    return quiet(lambda: BayesianModel(effects, mods=mods, **options).fit())


@cache
def bayesian_levels() -> BayesianMultilevelResults:
    """Fit made-up effects within studies, with priors."""
    effects = replace(made_up(40), study_id=tuple(f"S{i % 12}" for i in range(40)))
    return quiet(lambda: BayesianModel(effects, random="~ 1 | study_id/es_id").fit())


@cache
def checked(*, teaching: bool = False) -> PredictiveCheck:
    """Check the fit of these effects."""
    return predictive_check(bayesian(teaching=teaching), seed=1, draws=1000)


def prior_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return how to make the frames whose geometry is checked; the first word of a name is the plot."""
    return {
        "prior": lambda: prior_data(priors.sensitivity_set()),
        "prior of an effect": lambda: prior_data(
            [priors.Normal(0, 0.5), priors.Cauchy(0.1, 0.3), priors.StudentT(4)], scale="r"
        ),
        "prior of thousands": lambda: prior_data(priors.Normal(1000, 20000)),
        "prior_predictive": lambda: prior_predictive_data(prior_predictive(n=50)),
        "prior_predictive of heavy tails": lambda: prior_predictive_data(
            prior_predictive(mu_prior=priors.Cauchy(0, 0.5), tau_prior=priors.HalfCauchy(0.3))
        ),
        "prior_predictive on z": lambda: prior_predictive_data(prior_predictive(scale="z", n=10)),
        "posterior": lambda: posterior_data(bayesian()),
        "posterior of tau": lambda: posterior_data(bayesian(), what="tau"),
        "posterior of a new study": lambda: posterior_data(bayesian(), what="theta_new", scale="r"),
        "posterior of a coefficient": lambda: posterior_data(bayesian("meanage"), what="meanage"),
        "posterior in conflict": lambda: posterior_data(bayesian(mu_prior=priors.Normal(0.9, 0.02))),
        "posterior without prior": lambda: posterior_data(bayesian(mu_prior=priors.Flat()), scale="z"),
        "posterior of three levels": lambda: posterior_data(bayesian_levels(), what="tau[study_id]"),
        "posterior, synthetic": lambda: posterior_data(bayesian(teaching=True), show_cautions=True),
        "prior_sensitivity": lambda: prior_sensitivity_data(bayesian()),
        "prior_sensitivity of tau": lambda: prior_sensitivity_data(bayesian(), what="tau"),
        "prior_sensitivity of both": lambda: prior_sensitivity_data(
            bayesian(), mu_priors=[priors.Normal(0, 0.5), priors.Normal(0.6, 0.05)]
        ),
        "prior_sensitivity of three levels": lambda: prior_sensitivity_data(
            bayesian_levels(), what="tau[study_id]", tau_priors=[priors.HalfNormal(0.1), priors.HalfCauchy(0.3)]
        ),
        "prior_sensitivity, synthetic": lambda: prior_sensitivity_data(bayesian(teaching=True), show_cautions=True),
        "predictive": lambda: predictive_data(checked()),
        "predictive of Q": lambda: predictive_data(checked(), what="Q"),
        "predictive of the largest": lambda: predictive_data(checked(), what="largest"),
        "predictive of signs": lambda: predictive_data(checked(), what="negative"),
        "predictive of studies": lambda: predictive_data(checked(), what="studies"),
        "predictive of three levels": lambda: predictive_data(predictive_check(bayesian_levels(), seed=1, draws=200)),
        "predictive, synthetic": lambda: predictive_data(checked(teaching=True), what="studies", show_cautions=True),
    }
