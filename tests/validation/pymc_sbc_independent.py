"""Data for the models of independent studies: see `pymc_sbc`."""

from __future__ import annotations

import numpy as np

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from tests.validation.pymc_sbc import Family

MU, TAU = priors.Normal(0, 0.5), priors.HalfNormal(0.3)
NU, ALPHA = priors.Gamma(2, 10), priors.Normal(0, 1)
LABELS = [f"s{i}" for i in range(12)]


def draw(prior, rng):
    return float(prior.quantile(rng.random()))


def sizes(rng, k, *, low=20.0, high=400.0):
    return np.rint(np.exp(rng.uniform(np.log(low), np.log(high), k)))


def as_z(y, n, **others):
    return am.EffectSizes.from_arrays(y, 1 / (n - 3), ni=n, measure="ZCOR", slab=LABELS[: len(n)], **others)


def normal_normal(rng):
    mu, tau, n = draw(MU, rng), draw(TAU, rng), sizes(rng, 8)
    return as_z(rng.normal(mu, np.sqrt(tau**2 + 1 / (n - 3))), n), {"mu": mu, "tau": tau}


def exact_correlation(rng):
    mu, tau, n = draw(MU, rng), draw(TAU, rng), sizes(rng, 8, low=5.0, high=60.0)
    theta = rng.normal(mu, tau, 8)
    # Bartlett's decomposition of the covariance matrix of n pairs.
    x = np.tanh(theta) * np.sqrt(rng.chisquare(n - 1)) + rng.normal(size=8) / np.cosh(theta)
    z = np.arcsinh(x * np.cosh(theta) / np.sqrt(rng.chisquare(n - 2)))
    return as_z(z, n), {"mu": mu, "tau": tau, "theta[0]": theta[0]}


def t_effects(rng):
    mu, tau, nu, n = draw(MU, rng), draw(TAU, rng), draw(NU, rng), sizes(rng, 12)
    theta = mu + tau * rng.standard_t(nu, 12)
    return as_z(rng.normal(theta, 1 / np.sqrt(n - 3)), n), {"mu": mu, "tau": tau, "nu": nu}


def location_scale(rng):
    mu, tau, alpha, n = draw(MU, rng), draw(TAU, rng), draw(ALPHA, rng), sizes(rng, 12)
    x = np.repeat([-1.0, 0.0, 1.0], 4)
    y = rng.normal(mu, np.sqrt(tau**2 * np.exp(alpha * x) + 1 / (n - 3)))
    return as_z(y, n, mods={"x": x}), {"mu": mu, "tau": tau, "alpha[0]": alpha}


def built(name, **others):
    return lambda es: getattr(pymc, name)(es, mu_prior=MU, tau_prior=TAU, **others)


FAMILIES = {
    "normal_normal": Family(normal_normal, built("normal_normal")),
    "exact_correlation": Family(exact_correlation, built("exact_correlation"), replicates=200),
    "t_effects": Family(t_effects, built("t_effects", nu=NU), replicates=200),
    "location_scale": Family(location_scale, built("location_scale", scale="x", alpha_prior=ALPHA)),
}
