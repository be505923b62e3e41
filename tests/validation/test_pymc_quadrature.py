"""Draws from the models of r, of heavy tails and of unequal heterogeneity have the moments that quadrature gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import arviz_bridge, pymc
from alliance_meta.core import distributions

pytestmark = pytest.mark.slow

# Standard errors of a mean of draws; the seed is fixed.
SIGMAS = 4.0
X, W = special.roots_legendre(40)


def as_z(z, n, **others):
    return am.EffectSizes.from_arrays(z, 1 / (n - 3), ni=n, measure="ZCOR", **others)


def axis(low, high):
    return low + (high - low) * 0.5 * (X + 1)


def mean_and_sd(values, weight):
    mean = (values * weight).sum()
    return mean, np.sqrt(((values - mean) ** 2 * weight).sum())


def sampled(model):
    return am.bayes.sample(model, seed=1953, draws=1500, chains=4, cores=1)


def agrees(posterior, name, mean, sd, draws=None):
    found = posterior.draws(name) if draws is None else draws
    ess = float(arviz_bridge.load("arviz").ess(np.asarray(found, dtype=float), method="bulk"))
    assert abs(found.mean() - mean) < SIGMAS * sd / np.sqrt(ess), name
    # The standard error of a standard deviation, with room for a fourth moment above the normal's.
    assert abs(found.std() - sd) < 2 * SIGMAS * sd / np.sqrt(2 * ess), name


def test_the_exact_density_of_r():
    n = np.array([6.0, 7, 8, 5, 6, 9, 10, 8])
    es = as_z(np.array([0.9, 0.6, 1.3, 0.8, 1.5, 0.7, 1.0, 1.1]), n)
    exact, posterior = am.bayes.exact_correlation(es), sampled(pymc.exact_correlation(es))
    for name in ("mu", "tau"):
        one = exact.posterior(name)
        agrees(posterior, name, one.mean, one.sd)
        draws = posterior.draws(name)
        ess = float(arviz_bridge.load("arviz").ess(np.asarray(draws), method="bulk"))
        for share in (0.05, 0.25, 0.75, 0.95):
            below = float(one.cdf(np.quantile(draws, share)))
            assert abs(below - share) < 1.5 * SIGMAS * np.sqrt(share * (1 - share) / ess), (name, share)
    # The usual model is another one: its mean is many standard errors of the draws away.
    usual = am.BayesianModel(es).fit().posterior("mu").mean
    assert abs(usual - exact.posterior("mu").mean) > 0.02


def test_heavy_tails():
    n = np.array([40.0, 60, 80, 100, 50, 70, 90, 30, 60, 200, 45, 120])
    es = as_z(np.array([0.2, 0.25, 0.3, 0.22, 0.15, 0.35, 0.28, 0.2, 0.1, 0.26, 1.2, 0.3]), n)
    posterior = sampled(pymc.t_effects(es, nu=priors.Gamma(2, 2)))
    mu, tau, nu = axis(-0.2, 0.8), axis(0.0, 0.8), axis(0.0, 40.0)
    grid = [one.ravel() for one in np.meshgrid(mu, tau, nu, indexing="ij")]
    logs = np.zeros(len(grid[0]))
    for start in range(0, len(logs), 4000):
        s = slice(start, start + 4000)
        m, t, d = (one[s] for one in grid)
        logs[s] = distributions.log_density(es.yi - m[:, None], es.vi, t, d).sum(axis=1)
    logs += stats.norm.logpdf(grid[0], 0, 0.5) + stats.halfnorm.logpdf(grid[1], 0, 0.3)
    logs += stats.gamma.logpdf(grid[2], 2, scale=2)
    weight = np.exp(logs - logs.max()) * np.einsum("i,j,k->ijk", W, W, W).ravel()
    weight /= weight.sum()
    for name, values in zip(("mu", "tau", "nu"), grid, strict=True):
        agrees(posterior, name, *mean_and_sd(values, weight))
    # The outlier pulls the usual mean.
    assert am.BayesianModel(es).fit().posterior("mu").mean > posterior.draws("mu").mean() + 0.02


def test_unequal_heterogeneity():
    x = np.repeat([0.0, 1.0], 8)
    z = np.array([0.2, 0.25, 0.3, 0.22, 0.15, 0.35, 0.28, 0.2, 0.9, -0.3, 0.5, 0.1, 0.7, -0.1, 0.4, 0.0])
    es = as_z(z, np.full(16, 60.0), mods={"x": x})
    posterior = sampled(pymc.location_scale(es, scale="x"))
    mu, tau, alpha = axis(-0.2, 0.8), axis(0.0, 0.9), axis(-5.0, 13.0)
    m, t, a = np.meshgrid(mu, tau, alpha, indexing="ij")
    # Two moderators' values: two standard deviations of true effects.
    logs = stats.norm.logpdf(m, 0, 0.5) + stats.halfnorm.logpdf(t, 0, 0.3) + stats.norm.logpdf(a, 0, 2.0)
    for value in (0.0, 1.0):
        total = es.vi[0] + t**2 * np.exp(a * (value - 0.5))
        for one in z[x == value]:
            logs += stats.norm.logpdf(one, m, np.sqrt(total))
    weight = np.exp(logs - logs.max()) * np.einsum("i,j,k->ijk", W, W, W)
    weight /= weight.sum()
    agrees(posterior, "mu", *mean_and_sd(m, weight))
    agrees(posterior, "tau", *mean_and_sd(t, weight))
    agrees(posterior, "alpha", *mean_and_sd(a, weight), draws=posterior.draws("alpha")[..., 0])
