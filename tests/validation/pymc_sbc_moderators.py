"""Data for the models of difficult moderators: see `pymc_sbc`."""

from __future__ import annotations

import numpy as np

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.core.smooth_basis import smooth_basis
from tests.validation.pymc_sbc import Family
from tests.validation.pymc_sbc_independent import MU, TAU, draw, sizes

K = 20
SLOPE, BEND = priors.Normal(0, 0.2), priors.HalfNormal(0.2)
PLACE, SPREAD = priors.Normal(0, 1), priors.HalfNormal(1)
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


# The averages of the moderators, where mu is, are those of these effects: 0.
REFERENCE = {"quality": np.tile([-1.0, 1.0], K // 2), "error": np.full(K, 0.5), "other": np.repeat([-1.0, 1.0], K // 2)}


def measurement_error(rng):
    truth = {"mu": draw(MU, rng), "beta[0]": draw(SLOPE, rng), "beta[1]": draw(SLOPE, rng), "tau": draw(TAU, rng)}
    truth |= {"moderator_mean": draw(PLACE, rng), "moderator_sd": draw(SPREAD, rng)}
    truth |= {"moderator_beta[0]": draw(PLACE, rng)}
    n, error, other = sizes(rng, K), rng.uniform(0.2, 1.2, K), REFERENCE["other"]
    true = rng.normal(truth["moderator_mean"] + truth["moderator_beta[0]"] * other, truth["moderator_sd"])
    mean = truth["mu"] + truth["beta[0]"] * true + truth["beta[1]"] * other
    y = effects_around(mean, truth["tau"], n, rng)
    return as_z(y, n, {"quality": rng.normal(true, error), "error": error, "other": other}), truth


def measurement_error_model(es):
    return pymc.measurement_error(
        as_z(es.yi, es.ni, REFERENCE),
        mods="quality + other",
        error={"quality": "error"},
        mu_prior=MU,
        tau_prior=TAU,
        beta_prior=SLOPE,
        moderator_mean_prior=PLACE,
        moderator_sd_prior=SPREAD,
        moderator_beta_prior=PLACE,
    )


# Which value is missing depends on the effect, or on the other moderator, never on the value itself.
GAPS = {
    "age": np.where(np.arange(K) < 2, np.nan, np.tile([-1.0, 1.0], K // 2)),
    "design": [None if i in (2, 5) else name for i, name in enumerate(["pre", "pre", "rct", "rct"] * (K // 4))],
    "other": REFERENCE["other"],
}


def missing_moderators(rng):
    truth = {"mu": draw(MU, rng), "tau": draw(TAU, rng)} | {f"beta[{j}]": draw(SLOPE, rng) for j in range(3)}
    truth |= {"gap_mean[0]": draw(PLACE, rng), "gap_sd[0]": draw(SPREAD, rng)}
    truth |= {f"{name}[{j}]": draw(PLACE, rng) for name in ("gap_beta", "gap_logit") for j in range(2)}
    n, other = sizes(rng, K), GAPS["other"]
    rct = rng.random(K) < 1 / (1 + np.exp(-truth["gap_logit[0]"] - truth["gap_logit[1]"] * other))
    age_mean = truth["gap_mean[0]"] + truth["gap_beta[0]"] * other + truth["gap_beta[1]"] * (rct - 0.5)
    age = rng.normal(age_mean, truth["gap_sd[0]"])
    mean = truth["mu"] + truth["beta[0]"] * age + truth["beta[1]"] * (rct - 0.5) + truth["beta[2]"] * other
    y = effects_around(mean, truth["tau"], n, rng)
    no_age = rng.random(K) < 0.6 / (1 + np.exp(4 * y))
    no_design = rng.random(K) < 0.2 + 0.15 * other
    mods = {
        "age": np.where(no_age, np.nan, age),
        "design": [None if gone else "rct" if one else "pre" for one, gone in zip(rct, no_design, strict=True)],
        "other": other,
    }
    return as_z(y, n, mods), truth


def missing_moderators_model(es):
    return pymc.missing_moderators(
        as_z(es.yi, es.ni, GAPS),
        mods="age + design + other",
        mu_prior=MU,
        tau_prior=TAU,
        beta_prior=SLOPE,
        gap_mean_prior=PLACE,
        gap_sd_prior=SPREAD,
        gap_beta_prior=PLACE,
        gap_logit_prior=PLACE,
    )


FAMILIES = {
    "measurement_error": Family(measurement_error, measurement_error_model),
    "missing_moderators": Family(missing_moderators, missing_moderators_model, replicates=300),
    "smooth": Family(smooth, smooth_model),
}
