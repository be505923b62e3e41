"""A curve over a moderator, sampled, against quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.pymc.independent import smooth_basis

pytestmark = pytest.mark.slow

# A normal deviate this large turns up in about one of 15,000 comparisons.
DEVIATIONS = 4.0


def sampled(model, **settings):
    """Return the mean of each quantity, and its Monte-Carlo error."""
    posterior = am.bayes.sample(model, **{"seed": 2011, "draws": 2000, "cores": 1} | settings)
    table = arviz_bridge.summary(posterior.container)
    error = table["sd"].astype(float) / np.sqrt(table["ess_bulk"].astype(float))
    return {name: (float(table.loc[name, "mean"]), error[name]) for name in table.index}


def test_a_smooth_curve_agrees_with_quadrature():
    """Given both deviations everything is normal: two integrals are left, done on a grid."""
    es = am.escalc(am.load_dataset("molloy2014"))
    found = sampled(am.bayes.pymc.smooth(es, by="meanage"))
    age = es.moderators["meanage"].to_numpy(dtype=float)
    X = np.column_stack([np.ones(es.k), age - age.mean()])
    G = smooth_basis(age, knots=6).at(age)
    prior = np.diag([0.25, (0.25 / age.std()) ** 2])
    taus, bends = (np.exp(np.linspace(np.log(1e-4), np.log(upper), 160)) for upper in (0.8, 0.8))
    logs, means = np.empty((160, 160)), np.empty((160, 160, 2))
    for i, tau in enumerate(taus):
        for j, bend in enumerate(bends):
            V = np.diag(es.vi + tau**2) + bend**2 * G @ G.T
            logs[i, j] = stats.multivariate_normal.logpdf(es.yi, np.zeros(es.k), V + X @ prior @ X.T)
            means[i, j] = prior @ X.T @ np.linalg.solve(V + X @ prior @ X.T, es.yi)
        logs[i] += stats.halfnorm.logpdf(tau, 0, 0.3) + stats.halfnorm.logpdf(bends, 0, 0.125)
    # On a grid of logarithms each cell counts by the size of its values.
    weight = np.exp(logs - logs.max()) * taus[:, None] * bends
    weight /= weight.sum()
    expected = {
        "tau": (weight.sum(axis=1) * taus).sum(),
        "tau_smooth": (weight.sum(axis=0) * bends).sum(),
        "mu": (weight * means[..., 0]).sum(),
        "beta[meanage]": (weight * means[..., 1]).sum(),
    }
    for name, value in expected.items():
        mean, error = found[name]
        assert abs(mean - value) < DEVIATIONS * error, name
