"""What the recipes of PyMC's models say of a result follows from their likelihoods; no sampler runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge as bridge
from alliance_meta.bayes.sampled.results import SampledPosterior
from tests.tolerances import CLOSED_FORM

STEP = 1e-5


@pytest.fixture(scope="module")
def effects():
    es = am.escalc(am.load_dataset("molloy2014"))
    frame = es.moderators.copy()
    frame["rater"] = ["client", "therapist"] * 8
    return am.EffectSizes.from_arrays(es.yi, es.vi, ni=es.ni, slab=es.slab, mods=frame, measure="ZCOR")


def draws_of(rng, size=50):
    single = {"mu": rng.normal(0.2, 0.1, size), "tau": rng.uniform(0.05, 0.3, size), "nu": rng.uniform(3, 20, size)}
    return {
        "normal_normal": single,
        "group_tau": single | {"tau": rng.uniform(0.05, 0.3, (size, 2))},
        "location_scale": single | {"alpha": rng.normal(0, 0.5, (size, 1)), "alpha_intrcpt": rng.normal(-4, 1, size)},
        "t_effects": single,
    }


@pytest.fixture(scope="module")
def recipes(effects):
    pymc = am.bayes.pymc
    return {
        "normal_normal": pymc.normal_normal(effects).recipe,
        "group_tau": pymc.group_tau(effects, by="rater").recipe,
        "location_scale": pymc.location_scale(effects, scale="rater").recipe,
        "t_effects": pymc.t_effects(effects).recipe,
    }


NAMES = ("normal_normal", "group_tau", "location_scale", "t_effects")


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_of_the_cdf_is_the_density(effects, recipes, rng, name):
    draws = draws_of(rng)[name]
    moved = [recipes[name].rebuilt(replace(effects, yi=effects.yi + h))[0] for h in (-STEP, STEP)]
    low, high = (one.cdf(draws) for one in moved)
    assert (low > 0).all()
    assert (high < 1).all()
    density = np.exp(recipes[name].log_likelihood(draws))
    assert (high - low) / (2 * STEP) == pytest.approx(density, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", ["normal_normal", "group_tau", "location_scale"])
def test_true_effects_lie_between_result_and_mean(effects, recipes, rng, name):
    one = {key: np.repeat(values[:1], 20_000, axis=0) for key, values in draws_of(rng)[name].items()}
    recipe = recipes[name]
    theta = recipe.true_effects(one, np.random.default_rng(1))
    # The spread around the mean, from the likelihood: its variance is v + tau^2.
    peak = np.exp(recipe.rebuilt(replace(effects, yi=recipe.fitted(one)[0]))[0].log_likelihood(one)[0])
    tau2 = 1.0 / (2.0 * np.pi * peak**2) - effects.vi
    precision = 1.0 / effects.vi + 1.0 / tau2
    mean = (effects.yi / effects.vi + recipe.fitted(one)[0] / tau2) / precision
    assert (np.abs(theta.mean(axis=0) - mean) < 4.5 / np.sqrt(precision * len(theta))).all()
    assert theta.std(axis=0) == pytest.approx(1.0 / np.sqrt(precision), rel=0.03)


def test_new_correlations_are_those_of_samples_of_pairs():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"study": ["a", "b", "c"], "r": [0.3, 0.5, 0.1], "n": [6, 12, 40]})
    recipe = am.bayes.pymc.exact_correlation(am.escalc(table)).recipe
    size, rho = 8000, 0.6
    draws = {"mu": np.full(size, np.arctanh(rho)), "tau": np.full(size, 1e-9)}
    found = recipe.replicate(draws, rng)
    for z, n in zip(found.T, table["n"], strict=True):
        x = rng.standard_normal((size, n))
        y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((size, n))
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
        r = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
        assert stats.ks_2samp(np.tanh(z), r).pvalue > 0.001
    assert not np.array_equal(found, recipe.replicate(draws | {"tau": np.full(size, 0.2)}, np.random.default_rng(5)))


def test_several_taus_have_no_single_one(effects, recipes, rng):
    draws = {key: values.reshape(4, 200, *values.shape[1:]) for key, values in draws_of(rng, 800)["group_tau"].items()}
    container = bridge.from_draws(
        {"mu": draws["mu"], "tau": draws["tau"]}, dims={"tau": ["rater"]}, coords={"rater": ["client", "therapist"]}
    )
    fit = SampledPosterior(container, (), 1, recipes["group_tau"])
    assert list(fit.tidy().index)[:4] == ["mu", "tau[client]", "tau[therapist]", "theta_new"]
    for value in (fit.tau, fit.tau2, fit.I2):
        assert isinstance(value, am.NotApplicable)
    assert fit.posterior("tau[client]").lowest == 0.0
    assert fit.posterior("tau[client]").mean == pytest.approx(draws["tau"][..., 0].mean(), rel=CLOSED_FORM)
    assert 0.05 < fit.prob("tau[client] < 0.1") < 0.4
    assert len(fit.blup()) == 16
    new = fit.predict({"rater": ["client", "therapist"]}, scale="r")
    assert list(new["pred"].round(6)) == [round(float(np.tanh(np.median(draws["mu"]))), 6)] * 2
    assert "tau" not in fit.glance()
