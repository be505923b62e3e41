"""Data for the models with several taus, by group, by level and by crossed factor: see `pymc_sbc`."""

from __future__ import annotations

import numpy as np

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from tests.validation.pymc_sbc import Family

MU, TAU, SPREAD = priors.Normal(0, 0.5), priors.HalfNormal(0.3), priors.HalfNormal(0.5)
RHO = 0.6
# Rows of 12 studies in 5 countries, and who rated each; sizes stay the same, so that V does.
STUDY = np.repeat(np.arange(12), [3, 1, 2, 4, 2, 1, 3, 2, 2, 1, 3, 2])
COUNTRY = np.repeat(np.arange(5), [3, 2, 3, 2, 2])[STUDY]
RATER = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 3, 0, 1, 2, 0, 3, 1, 0, 1, 3, 2, 0, 1, 2, 3, 0])
N = np.rint(np.geomspace(25, 300, 12)[[5, 0, 9, 3, 11, 7, 1, 8, 2, 10, 4, 6]])
GROUP = np.repeat(np.arange(3), [3, 5, 6])


def draw(prior, rng, size=None):
    return prior.quantile(rng.random(size))


def errors(rng, vi):
    """Draw sampling errors that correlate within studies."""
    common, own = rng.standard_normal(12)[STUDY], rng.standard_normal(len(STUDY))
    return np.sqrt(vi) * (np.sqrt(RHO) * common + np.sqrt(1 - RHO) * own)


def effects(y, n):
    mods = {"study": STUDY, "country": COUNTRY, "rater": [f"rater {i}" for i in RATER]}
    return am.EffectSizes.from_arrays(
        y, 1 / (n - 3), ni=n, mods=mods, measure="ZCOR", study_id=[f"s{i}" for i in STUDY]
    )


def multilevel(rng):
    mu, tau, n = float(draw(MU, rng)), draw(TAU, rng, 3), N[STUDY]
    u = [t * rng.standard_normal(m) for t, m in zip(tau, (5, 12, len(STUDY)), strict=True)]
    y = mu + u[0][COUNTRY] + u[1][STUDY] + u[2] + errors(rng, 1 / (n - 3))
    return effects(y, n), {"mu": mu} | {f"tau[{i}]": float(one) for i, one in enumerate(tau)}


def multilevel_model(es):
    V = am.impute_V(es, rho=RHO)
    return pymc.multilevel(es, V=V, random=("country", "study", "es_id"), mu_prior=MU, tau_prior=TAU)


def crossed(rng):
    mu, tau, n = float(draw(MU, rng)), draw(TAU, rng, 3), N[STUDY]
    u = [t * rng.standard_normal(m) for t, m in zip(tau, (12, 4, len(STUDY)), strict=True)]
    y = mu + u[0][STUDY] + u[1][RATER] + u[2] + errors(rng, 1 / (n - 3))
    truth = {"mu": mu, "mu_seen": mu + float(u[1].mean()), "u_rater[0]": float(u[1][0])}
    return effects(y, n), truth | {f"tau[{i}]": float(one) for i, one in enumerate(tau)}


def crossed_model(es):
    V = am.impute_V(es, rho=RHO)
    return pymc.crossed(es, V=V, random=("study_id", "rater", "es_id"), mu_prior=MU, tau_prior=TAU)


def grouped(rng, mu, tau):
    n = np.rint(np.exp(rng.uniform(np.log(20), np.log(400), len(GROUP))))
    y = rng.normal(mu, np.sqrt(tau[GROUP] ** 2 + 1 / (n - 3)))
    return am.EffectSizes.from_arrays(y, 1 / (n - 3), ni=n, mods={"rater": [f"g{i}" for i in GROUP]}, measure="ZCOR")


def group_tau(rng):
    mu, tau = float(draw(MU, rng)), draw(TAU, rng, 3)
    return grouped(rng, mu, tau), {"mu": mu} | {f"tau[{i}]": float(one) for i, one in enumerate(tau)}


def related(rng):
    mu, typical, spread = float(draw(MU, rng)), float(draw(TAU, rng)), float(draw(SPREAD, rng))
    tau = typical * np.exp(spread * rng.standard_normal(3))
    truth = {"mu": mu, "tau_typical": typical, "spread": spread}
    return grouped(rng, mu, tau), truth | {f"tau[{i}]": float(one) for i, one in enumerate(tau)}


def group_tau_model(es):
    return pymc.group_tau(es, by="rater", mu_prior=MU, tau_prior=TAU)


def related_model(es):
    return pymc.group_tau(es, by="rater", mu_prior=MU, tau_prior=TAU, spread_prior=SPREAD)


SMALL_STEPS = {"target_accept": 0.97, "draws": 1000}

FAMILIES = {
    "crossed": Family(crossed, crossed_model, SMALL_STEPS, 200),
    "group_tau": Family(group_tau, group_tau_model, replicates=200),
    "group_tau, related": Family(related, related_model, {"target_accept": 0.97}, 200),
    "multilevel": Family(multilevel, multilevel_model, replicates=200),
}
