"""PyMC's sampler and the quadrature agree within Monte-Carlo error on real data, with the default priors of both."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge

pytestmark = pytest.mark.slow

# A normal deviate this large turns up in about one of 15,000 comparisons; there are some 60 here.
DEVIATIONS = 4.0
TAILS = np.array([0.025, 0.25, 0.5, 0.75, 0.975])


@pytest.mark.parametrize("name", ["kolden2011_congruence", "farber2011_positive_regard", "molloy2014"])
def test_pymc_agrees(name):
    es = am.escalc(am.load_dataset(name))
    exact = am.BayesianModel(es).fit()
    sampled = am.bayes.sample(am.bayes.pymc.normal_normal(es), seed=2011, draws=2000, cores=1)
    table = arviz_bridge.summary(sampled.container)
    for parameter in ("mu", "tau"):
        truth, row = exact.posterior(parameter), table.loc[parameter]
        error = truth.sd / np.sqrt(float(row["ess_bulk"]))
        assert abs(float(row["mean"]) - truth.mean) < DEVIATIONS * error, parameter
        # How much of the exact posterior lies below the sampler's quantiles, in standard errors of a share.
        below = truth.cdf(np.quantile(sampled.draws(parameter), TAILS))
        size = min(float(row["ess_bulk"]), float(row["ess_tail"]))
        z = (below - TAILS) / np.sqrt(TAILS * (1 - TAILS) / size)
        assert np.abs(z).max() < DEVIATIONS, parameter
        assert np.abs(special.ndtri(below) - special.ndtri(TAILS)).max() < 0.25
