"""The posterior with the exact density of r is calibrated, where the normal one of Fisher's z is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors

pytestmark = pytest.mark.slow

MU, TAU = priors.Normal(0.6, 0.3), priors.HalfNormal(0.1)
REPLICATES = 120


def replicate(rng, k):
    """Return the posterior probabilities below the truth, exact and by the normal approximation."""
    mu, tau = (float(prior.quantile(rng.random())) for prior in (MU, TAU))
    theta, n = rng.normal(mu, tau, k), rng.integers(5, 9, k).astype(float)
    # Bartlett's decomposition of the covariance matrix of n pairs.
    x = np.sinh(theta) * np.sqrt(rng.chisquare(n - 1)) + rng.normal(size=k)
    z = np.arcsinh(x / np.sqrt(rng.chisquare(n - 2)))
    es = am.EffectSizes.from_arrays(z, 1 / (n - 3), ni=n, measure="ZCOR")
    truth = {"mu": mu, "tau": tau, "theta_new": mu + tau * rng.normal()}
    exact = am.bayes.exact_correlation(es, mu_prior=MU, tau_prior=TAU)
    usual = am.BayesianModel(es, mu_prior=MU, tau_prior=TAU).fit().posterior("mu").cdf(mu)
    return {name: float(exact.posterior(name).cdf(value)) for name, value in truth.items()} | {"usual": float(usual)}


def test_ranks_are_uniform():
    found = [replicate(np.random.default_rng([1953, i]), 40) for i in range(REPLICATES)]
    for name in ("mu", "tau", "theta_new"):
        values = [one[name] for one in found]
        assert stats.kstest(values, "uniform").pvalue > 1e-3, name
        assert stats.chisquare(np.histogram(values, bins=10, range=(0, 1))[0]).pvalue > 1e-3, name
    # With so small samples the bias of Fisher's z shows.
    assert stats.kstest([one["usual"] for one in found], "uniform").pvalue < 1e-3
