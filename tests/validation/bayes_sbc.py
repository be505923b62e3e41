"""Is the exact posterior calibrated? ``python -m tests.validation.bayes_sbc`` writes the result.

Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788): parameters are drawn from the prior, data
from the parameters; then the posterior probability of a value below the true one is uniform between 0 and 1.
Here that probability is exact, so that no ranks of draws are needed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import stats

import alliance_meta as am
from alliance_meta import priors

RESULT = Path(__file__).with_name("bayes_sbc.json")
REPLICATES = 1000
SEED = 1475
BINS = 20
LEVEL = 0.95

HALF, SLOPE = priors.Normal(0, 0.5), priors.Normal(0, 0.2)
# name -> number of studies, priors of the mean, of tau, and of the slopes of moderators.
FAMILIES = {
    "k = 5": (5, HALF, priors.HalfNormal(0.3), ()),
    "k = 24": (24, HALF, priors.HalfNormal(0.3), ()),
    "k = 79": (79, HALF, priors.HalfNormal(0.3), ()),
    "k = 12, two moderators": (12, HALF, priors.Lomax(6, 1), (SLOPE, SLOPE)),
    "k = 2, heavy tail of tau": (2, HALF, priors.HalfCauchy(0.15), ()),
    "k = 8, heavy slope, tau away from 0": (8, HALF, priors.InverseGamma(1, 0.075), (priors.StudentT(4, 0.1, 0.3),)),
}


def replicate(name, rng):
    """Return the posterior probability below the truth of every quantity, for one set of data."""
    k, mu_prior, tau_prior, slopes = FAMILIES[name]
    mu, tau = float(mu_prior.quantile(rng.random())), float(tau_prior.quantile(rng.random()))
    beta = [float(prior.quantile(rng.random())) for prior in slopes]
    x = rng.normal(size=(k, len(slopes)))
    v = 1.0 / (np.rint(np.exp(rng.uniform(np.log(20.0), np.log(400.0), k))) - 3.0)
    theta = mu + (x - x.mean(axis=0)) @ np.array(beta) + tau * rng.normal(size=k)
    y = theta + np.sqrt(v) * rng.normal(size=k)
    mods = {f"x{j}": x[:, j] for j in range(len(slopes))}
    es = am.EffectSizes.from_arrays(y, v, mods=mods or None, measure="ZCOR", slab=[f"s{i}" for i in range(k)])
    fit = am.BayesianModel(
        es,
        mods=" + ".join(mods) or "1",
        mu_prior=mu_prior,
        tau_prior=tau_prior,
        beta_prior=dict(zip(mods, slopes, strict=True)) or None,
    ).fit()
    truth = {"mu": mu, "tau": tau, "theta_new": mu + tau * rng.normal(), "theta[s0]": theta[0]}
    truth |= dict(zip(mods, beta, strict=True))
    return {quantity: float(fit.posterior(quantity).cdf(value)) for quantity, value in truth.items()}


def probabilities(name, *, replicates, seed):
    """Return those of many sets of data, by quantity; each replicate has its own generator."""
    number = list(FAMILIES).index(name)
    found = [replicate(name, np.random.default_rng([seed, number, i])) for i in range(replicates)]
    return {quantity: np.array([one[quantity] for one in found]) for quantity in found[0]}


def describe(values):
    """Return the histogram, two tests of uniformity and the coverage of equal-tailed intervals."""
    counts = np.histogram(values, bins=BINS, range=(0.0, 1.0))[0]
    edge = 0.5 * (1.0 - LEVEL)
    return {
        "counts": counts.tolist(),
        "chi2": float(stats.chisquare(counts).statistic),
        "ks_p": float(stats.kstest(values, "uniform").pvalue),
        "coverage": float(((values > edge) & (values < 1.0 - edge)).mean()),
    }


def run(*, replicates=REPLICATES, seed=SEED):
    """Return everything as JSON-ready values."""
    families = {}
    for name in FAMILIES:
        found = probabilities(name, replicates=replicates, seed=seed)
        families[name] = {quantity: describe(values) for quantity, values in found.items()}
    return {"replicates": replicates, "seed": seed, "level": LEVEL, "families": families}


if __name__ == "__main__":
    RESULT.write_text(json.dumps(run(), indent=1) + "\n", "utf-8")
