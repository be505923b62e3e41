"""Posterior predictive checks: exact distributions beside the draws, hostile data, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import EffectSizes, NotApplicable
from alliance_meta.bayes import power_scaling, predictive_check
from alliance_meta.bayes.exact import evidence
from alliance_meta.core.bayes.predictive import check_statistics
from alliance_meta.core.bayes.two_level import _combine
from alliance_meta.errors import InputError
from tests.plots.prior_cases import bayesian_levels
from tests.tolerances import CLOSED_FORM


@pytest.fixture(scope="module")
def molloy():
    return am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()


@pytest.fixture(scope="module")
def regression():
    return am.BayesianModel(am.escalc(am.load_dataset("molloy2014")), mods="meanage").fit()


@pytest.fixture(scope="module")
def levels():
    return bayesian_levels()


@pytest.mark.parametrize("name", ["molloy", "regression"])
def test_the_mean_beside_its_exact_distribution(name, request):
    """Given tau the mean of the replications is normal; the mixture over tau is exact."""
    fit = request.getfixturevalue(name)
    exact, es = fit.exact, fit.effects
    found = predictive_check(fit, seed=3)
    a = np.full(es.k, 1 / es.k)
    mean, variance = _combine(exact.mean, exact.root, (a @ exact.problem.model.X)[None])
    sd = np.sqrt(variance[0] + (a**2 * es.vi).sum() + exact.tau**2 * (a**2).sum())
    p = float(exact.weight @ stats.norm.sf(es.yi.mean(), mean[0], sd))
    row = found.tidy().loc["mean"]
    assert row["observed"] == pytest.approx(es.yi.mean())
    assert abs(row["p_value"] - p) < 4 * row["mcse"]
    assert row["mcse"] == pytest.approx(np.sqrt(p * (1 - p) / 4000), rel=0.05)


@pytest.mark.parametrize("name", ["molloy", "regression", "levels"])
def test_bins_hold_what_is_expected(name, request):
    fit = request.getfixturevalue(name)
    bins = predictive_check(fit, seed=5).bins
    assert bins["observed"].sum() == fit.k
    assert bins["expected"].sum() == pytest.approx(fit.k, rel=CLOSED_FORM)
    inside = (bins["expected"] >= bins["ci_lb"] - 1) & (bins["expected"] <= bins["ci_ub"] + 1)
    assert inside.all()
    mean = np.diff(bins[["lb", "ub"]].to_numpy(), axis=1)
    assert np.ptp(mean) < 1e-12


def test_replications_of_three_levels_covary_as_the_model_says(levels):
    """Rows of one study share the deviation of the study, every row has its own and its sampling error."""
    from alliance_meta.bayes.exact.setup import coordinates
    from alliance_meta.bayes.predictive import _errors, _spreads
    from alliance_meta.core.bayes.predictive import replicate

    exact, draws = levels.exact, 8_000
    X = levels.design.X @ coordinates(levels.design)
    rng = np.random.default_rng(1)
    Y = replicate(rng, draws, X, exact.weight, exact.mean, exact.root, _spreads(levels), _errors(levels))
    between, within = exact.weight @ exact.between**2, exact.weight @ exact.within**2
    same = (levels.group[:, None] == levels.group) * between + np.eye(levels.k) * within
    expected = np.diag(levels.effects.vi) + same + float(levels.vb[0, 0])
    spread = np.sqrt(np.outer(np.diag(expected), np.diag(expected)) + expected**2)
    # The deviations are mixtures with tails somewhat heavier than a normal's.
    assert (np.abs(np.cov(Y.T) - expected) < 9 * spread / np.sqrt(draws)).all()
    assert np.abs(np.cov(Y.T) - expected).mean() < 2 * spread.mean() / np.sqrt(draws)
    np.testing.assert_allclose(Y.mean(axis=0), levels.beta[0], atol=0.02)


def test_statistics_are_those_of_other_functions(molloy):
    es = molloy.effects
    table = molloy.predictive_check(seed=1).tidy()
    assert table.loc["Q", "observed"] == pytest.approx(am.RandomEffectsModel(es).fit().QE, rel=CLOSED_FORM)
    assert table.loc["sd", "observed"] == pytest.approx(es.yi.std(ddof=1), rel=CLOSED_FORM)
    assert table.loc["negative", "observed"] == (es.yi < 0).mean()
    slope = np.corrcoef(es.yi, np.sqrt(es.vi))[0, 1]
    assert table.loc["asymmetry", "observed"] == pytest.approx(slope, rel=CLOSED_FORM)
    z = (es.yi - molloy.posterior("mu").median) / np.sqrt(es.vi + molloy.tau**2)
    # The median of tau from its nodes, without interpolation.
    assert table.loc["deviation", "observed"] == pytest.approx(np.abs(z).max(), rel=0.02)


def test_the_same_seed_gives_the_same_numbers(molloy):
    first, again, other = (predictive_check(molloy, seed=seed).replicated for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    assert len(first) == 4000


def test_studies_are_left_out_exactly(molloy):
    found = predictive_check(molloy, seed=1)
    pit = molloy.loo().tidy()["pit"]
    assert found.studies["pit"].tolist() == pit.tolist()
    assert found.studies["p_value"].tolist() == [2 * min(p, 1 - p) for p in pit]
    assert found.surprising == []


def test_an_outlier_and_small_study_effects_are_found():
    rng = np.random.default_rng(2)
    v = rng.uniform(0.005, 0.02, 30)
    y = rng.normal(0.2, np.sqrt(v))
    y[7] = 1.9
    es = EffectSizes.from_arrays(y, v, measure="ZCOR", slab=[f"S{i}" for i in range(30)])
    found = predictive_check(am.BayesianModel(es).fit(), seed=1)
    assert {"deviation", "largest"} <= set(found.flagged)
    assert found.surprising == ["S7"]
    assert "The model does not reproduce: largest deviation from the fit" in " ".join(str(found).split())
    v = np.linspace(0.002, 0.1, 30)
    es = EffectSizes.from_arrays(rng.normal(2 * np.sqrt(v), 0.3 * np.sqrt(v)), v, measure="ZCOR")
    found = predictive_check(am.BayesianModel(es).fit(), seed=1)
    assert "asymmetry" in found.flagged


def test_text_and_dictionary(molloy, levels):
    for fit in (molloy, levels):
        found = predictive_check(fit, seed=1, draws=200)
        assert max(map(len, str(found).splitlines())) <= 80
        assert repr(found) == str(found)
        told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert told["statistics"]["name"] == list(found.tidy().index)
    assert found.studies["pit"].tolist() == levels.loo().tidy()["pit"].tolist()


def test_one_study_and_equal_variances():
    one = am.BayesianModel(EffectSizes.from_arrays([0.3], [0.01], measure="ZCOR")).fit()
    assert list(predictive_check(one, seed=1).tidy().index) == ["mean", "deviation", "negative"]
    flat = am.BayesianModel(
        EffectSizes.from_arrays([0.3, 0.2], [0.01] * 2), mu_prior=am.priors.Flat(), tau_prior=am.priors.HalfNormal(1)
    ).fit()
    assert list(predictive_check(flat, seed=1).tidy().index) == [
        "mean", "sd", "Q", "deviation", "smallest", "largest", "negative"
    ]  # fmt: skip


def test_a_study_that_cannot_be_left_out_has_no_probability():
    es = EffectSizes.from_arrays([0.1, 0.4, 0.3], [0.01, 0.02, 0.01], mods={"x": [0.0, 0.0, 1.0]})
    own = am.priors.Flat()
    fit = am.BayesianModel(es, mods="x", mu_prior=own, beta_prior=own).fit()
    found = predictive_check(fit, seed=1)
    assert isinstance(found.studies["pit"].iloc[2], NotApplicable)
    assert isinstance(found.studies["p_value"].iloc[2], NotApplicable)
    assert found.surprising == []
    json.dumps(found.to_dict(), allow_nan=False)


def test_ties_count_half():
    es = EffectSizes.from_arrays([3.0, 3.1, 3.05], [0.001, 0.002, 0.001])
    fit = am.BayesianModel(es, mu_prior=am.priors.Flat()).fit()
    row = predictive_check(fit, seed=1).tidy().loc["negative"]
    assert row["observed"] == 0
    assert row["p_value"] == pytest.approx(0.5, abs=0.05)


def test_constant_replications_have_no_slope():
    v = np.array([0.01, 0.02, 0.04])
    found = check_statistics(np.full((1, 3), 0.2), v, np.ones((3, 1)), np.full(3, 0.2), 0.1)
    assert found["asymmetry"].tolist() == [0.0]


def test_refused(molloy):
    with pytest.raises(InputError, match="predictive_check needs the result of a Bayesian model, not EffectSizes"):
        predictive_check(molloy.effects, seed=1)
    for draws in (99, 1000.5):
        with pytest.raises(InputError, match="whole number of at least 100"):
            predictive_check(molloy, seed=1, draws=draws)


# Power scaling


def test_flat_priors_have_no_influence():
    es = am.escalc(am.load_dataset("molloy2014"))
    fit = am.BayesianModel(es, mu_prior=am.priors.Flat(), tau_prior=am.priors.Uniform(2)).fit()
    table = fit.power_scaling().tidy()
    assert (table["prior"] < 1e-10).all()
    assert (table["likelihood"] > 0.03).all()
    assert fit.power_scaling().flagged == []


def test_conflict_and_strong_priors_are_told_apart(molloy):
    es = molloy.effects
    conflict = power_scaling(am.BayesianModel(es, mu_prior=am.priors.Normal(0.6, 0.05)).fit())
    assert conflict.tidy().loc["mu", "diagnosis"] == "prior-data conflict possible"
    assert "mu" in conflict.flagged
    few = EffectSizes.from_arrays([0.2, 0.3], [0.05, 0.05], measure="ZCOR")
    strong = power_scaling(am.BayesianModel(few, mu_prior=am.priors.Normal(0.25, 0.05)).fit())
    assert strong.tidy().loc["mu", "diagnosis"] == "strong prior or weak data"
    assert "look at prior_sensitivity()" in str(strong)
    assert max(map(len, str(strong).splitlines())) <= 80
    assert repr(strong) == str(strong)
    assert molloy.power_scaling().flagged == []


def test_parts_of_the_prior(molloy):
    """Each prior moves what it is about; moving one only is a part of moving all."""
    table = molloy.power_scaling().tidy()
    assert table.loc["tau", "prior_tau"] > 10 * table.loc["tau", "prior_effects"]
    assert table.loc["mu", "prior_effects"] > 0.001
    json.dumps(molloy.power_scaling().to_dict(), allow_nan=False)


def test_coefficients_and_chosen_quantities(regression):
    assert list(regression.power_scaling().tidy().index) == ["intrcpt", "meanage", "mu", "tau", "theta_new"]
    assert list(power_scaling(regression, what=["meanage"]).tidy().index) == ["meanage"]


def test_a_power_that_leaves_the_posterior_improper_is_told(monkeypatch):
    monkeypatch.setattr(evidence, "ALPHAS", (0.5, 2.0))
    es = EffectSizes.from_arrays([0.3, 0.2], [0.01, 0.02])
    fit = am.BayesianModel(es, mu_prior=am.priors.Cauchy(), tau_prior=am.priors.HalfNormal(1)).fit()
    found = power_scaling(fit, what=["mu"])
    assert found.tidy().loc["mu", "prior"].reason == "a power of this prior leaves the posterior improper"
    assert "n/a" in str(found)
    assert found.flagged == []


def test_power_scaling_refused(molloy, levels):
    with pytest.raises(InputError, match=r"needs the result of BayesianModel\.fit, not EffectSizes"):
        power_scaling(levels.effects)
    with pytest.raises(InputError, match="power_scaling of 'tau'"):
        power_scaling(levels, what=["tau"])
    with pytest.raises(InputError, match="power_scaling of 'tua'; did you mean 'tau'"):
        power_scaling(molloy, what=["tua"])
    with pytest.raises(InputError, match="power_scaling of nothing"):
        power_scaling(molloy, what=[])
