"""Data for the model of a curve: see `pymc_sbc`."""

from __future__ import annotations

import numpy as np

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.bayes.pymc.independent import smooth_basis
from tests.validation.pymc_sbc import Family
from tests.validation.pymc_sbc_independent import MU, TAU, draw, sizes

K = 20
SLOPE, BEND = priors.Normal(0, 0.2), priors.HalfNormal(0.2)
YEAR = np.linspace(-1.5, 1.5, K) ** 3
LABELS = [f"s{i}" for i in range(K)]


def as_z(y, n, mods):
    return am.EffectSizes.from_arrays(y, 1 / (n - 3), ni=n, measure="ZCOR", slab=LABELS, mods=mods)


def effects_around(mean, tau, n, rng):
    return rng.normal(mean, np.sqrt(tau**2 + 1 / (n - 3)))


def smooth(rng):
    truth = {"mu": draw(MU, rng), "beta[0]": draw(SLOPE, rng), "tau": draw(TAU, rng), "tau_smooth": draw(BEND, rng)}
    z, n = rng.normal(size=3), sizes(rng, K)
    curve = truth["tau_smooth"] * smooth_basis(YEAR, knots=5).at(YEAR) @ z
    mean = truth["mu"] + truth["beta[0]"] * (YEAR - YEAR.mean()) + curve
    y = effects_around(mean, truth["tau"], n, rng)
    return as_z(y, n, {"year": YEAR}), truth | {"z[0]": z[0], "z[2]": z[2]}


def smooth_model(es):
    return pymc.smooth(
        es, by="year", knots=5, mu_prior=MU, tau_prior=TAU, beta_prior=SLOPE, smooth_prior=BEND
    )  # fmt: skip


FAMILIES = {"smooth": Family(smooth, smooth_model)}
