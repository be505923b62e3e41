"""Data for the models of independent studies: see `pymc_sbc`."""

from __future__ import annotations

import numpy as np

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from tests.validation.pymc_sbc import Family

MU, TAU = priors.Normal(0, 0.5), priors.HalfNormal(0.3)
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


FAMILIES = {
    "normal_normal": Family(normal_normal, lambda es: pymc.normal_normal(es, mu_prior=MU, tau_prior=TAU)),
}
