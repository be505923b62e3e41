"""PyMC's draws forwards, before and after data, have the moments that follow from the model."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import arviz_bridge as bridge
from alliance_meta.bayes.sampled.quantities import FAILED, CompiledModel
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.errors import ConvergenceWarning
from tests.tolerances import CLOSED_FORM

SIGMAS = 4.0


@pytest.fixture(scope="module")
def molloy():
    return am.escalc(am.load_dataset("molloy2014"))


@pytest.fixture(scope="module")
def model(molloy):
    return am.bayes.pymc.normal_normal(molloy)


def drawn(es, compiled, *, seed=1):
    fit = am.BayesianModel(es).fit()
    made = SampledPosterior(fit.to_arviz(draws=4000, seed=seed), (), seed, compiled.recipe, _model=compiled)
    return fit, made


def check_moments(y, fit, es):
    """Compare replicates with the exact mean and variance of new results."""
    mu, tau2 = fit.posterior("mu"), fit.posterior("tau2").mean
    total = np.sqrt(mu.sd**2 + tau2 + es.vi)
    flat = y.reshape(-1, es.k)
    assert (np.abs(flat.mean(axis=0) - mu.mean) < SIGMAS * total / np.sqrt(len(flat))).all()
    assert flat.std(axis=0) == pytest.approx(total, rel=0.08)


@pytest.mark.slow
def test_posterior_predictive_has_its_moments(molloy, model):
    fit, sampled = drawn(molloy, CompiledModel(model, None, model.recipe))
    found = sampled.posterior_predictive(seed=3)
    assert set(bridge.group_names(found)) >= {"posterior", "posterior_predictive", "observed_data"}
    check_moments(bridge.draws(found, group="posterior_predictive")["y"], fit, molloy)
    assert np.array_equal(bridge.draws(found, group="observed_data")["y"], molloy.yi)
    again = bridge.draws(sampled.posterior_predictive(seed=3), group="posterior_predictive")["y"]
    assert np.array_equal(again, bridge.draws(found, group="posterior_predictive")["y"])
    assert "posterior_predictive" not in bridge.group_names(sampled.container)


def test_posterior_predictive_follows_other_data_and_leaves_the_model_alone(molloy, model):
    few = molloy.take(slice(3, 8))
    recipe, data = model.recipe.rebuilt(few)
    fit, sampled = drawn(few, CompiledModel(model, None, recipe, data))
    found = sampled.posterior_predictive()
    check_moments(bridge.draws(found, group="posterior_predictive")["y"], fit, few)
    assert np.array_equal(bridge.draws(found, group="observed_data")["y"], few.yi)
    assert np.array_equal(model["yi"].get_value(), molloy.yi)


@pytest.mark.slow
def test_draws_before_data_follow_the_priors(molloy, model):
    found = am.bayes.sample_prior(model, seed=1, draws=4000)
    drawn, y = (bridge.draws(found, group=group) for group in ("prior", "prior_predictive"))
    assert stats.kstest(drawn["mu"].ravel(), stats.norm(0, 0.5).cdf).pvalue > 0.001
    assert stats.kstest(drawn["tau"].ravel(), stats.halfnorm(0, 0.3).cdf).pvalue > 0.001
    assert y["y"].reshape(-1, 16).std(axis=0) == pytest.approx(np.sqrt(0.25 + 0.09 + molloy.vi), rel=0.08)
    again = am.bayes.sample_prior(CompiledModel(model, None, model.recipe), seed=1, draws=4000)
    assert np.array_equal(bridge.draws(again, group="prior")["mu"], drawn["mu"])


def test_what_cannot_be_drawn_is_refused(molloy, model):
    with pytest.raises(am.InputError, match="the prior of mu is flat"):
        am.bayes.sample_prior(am.bayes.pymc.normal_normal(molloy, mu_prior=priors.Flat()), seed=1)
    with pytest.raises(am.InputError, match="draws=0"):
        am.bayes.sample_prior(model, seed=1, draws=0)
    container = bridge.from_draws({"mu": [[0.1, 0.2]], "tau": [[0.1, 0.1]]})
    with pytest.raises(am.InputError, match="do not know their model"):
        SampledPosterior(container, (), 1, model.recipe).posterior_predictive()


def checked(fit, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return am.bayes.predictive_check(fit, seed=1, **options)


@pytest.mark.parametrize("mods", ["1", "year"])
def test_the_check_of_draws_is_that_of_the_exact_posterior(molloy, mods):
    exact = am.BayesianModel(molloy, mods=mods).fit()
    recipe = am.bayes.pymc.normal_normal(molloy, mods=mods).recipe
    container = exact.to_arviz(draws=8000, seed=4)
    if mods != "1":
        found = bridge.draws(container)
        beta = found["beta"]
        mu = beta[..., 0] + beta[..., 1] * recipe.design.X[:, 1].mean()
        draws = {"mu": mu, "intrcpt": beta[..., 0], "beta": beta[..., 1:], "tau": found["tau"]}
        container = bridge.from_draws(draws, dims={"beta": ["coefficient"]}, coords={"coefficient": ["year"]})
    theirs, ours = checked(exact), checked(SampledPosterior(container, (), 4, recipe))
    assert list(ours.table.index) == list(theirs.table.index)
    assert list(ours.table.columns) == list(theirs.table.columns)
    error = np.hypot(ours.table["mcse"], theirs.table["mcse"]) + 1e-3
    others = ours.table.index != "deviation"
    assert ((ours.table["p_value"] - theirs.table["p_value"]).abs() < SIGMAS * error)[others].all()
    good = ours.studies.index != "Jerant et al. 2011"
    apart = np.abs(ours.studies["pit"].to_numpy(float) - theirs.studies["pit"].to_numpy(float))
    assert (apart[good] < 0.02).all()
    assert ours.bins["observed"].sum() == theirs.bins["observed"].sum() == 16
    assert ours.bins["expected"].sum() == pytest.approx(16, rel=CLOSED_FORM)
    assert (ours.bins[["lb", "ub"]] - theirs.bins[["lb", "ub"]]).abs().to_numpy().max() < 0.05
    assert ("pareto-k" in {note.code for note in ours.notes}) == (mods == "1")
    assert am.plots.predictive_data(ours).attrs["plot"] == "predictive"


def test_a_model_may_draw_its_results_itself(molloy, model):
    own = replace(model.recipe, replicate=lambda draws, rng: np.full((len(draws["mu"]), 16), 0.5))
    fit = am.BayesianModel(molloy).fit()
    found = checked(SampledPosterior(fit.to_arviz(draws=2000, seed=1), (), 1, own), draws=100)
    assert (found.replicated["mean"] == 0.5).all()


def test_draws_that_fail_their_checks_are_no_quiet_check(model, rng):
    draws = {
        "mu": rng.normal(0.1, 0.02, (4, 200)) + 0.1 * np.arange(4)[:, None],
        "tau": rng.uniform(0.1, 0.2, (4, 200)),
    }
    found = checked(SampledPosterior(bridge.from_draws(draws), (), 1, model.recipe), draws=100)
    assert str(found).startswith(FAILED)
    assert max(map(len, str(found).splitlines())) <= 80


def test_dependent_effects_are_refused(molloy, model):
    fit = am.BayesianModel(molloy).fit()
    pairs = replace(model.recipe, units=model.recipe.units[:8])
    with pytest.raises(am.InputError, match="depend on one another within clusters"):
        checked(SampledPosterior(fit.to_arviz(draws=400, seed=1), (), 1, pairs))
