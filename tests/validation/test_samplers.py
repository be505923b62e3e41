"""PyMC's own sampler draws from the same posterior as quadrature, and so does leave-one-out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.errors import ConvergenceWarning

pytestmark = pytest.mark.slow

DEVIATIONS = 4.0


@pytest.fixture(scope="module")
def molloy():
    return am.escalc(am.load_dataset("molloy2014"))


def test_pymc_s_own_sampler_agrees(molloy):
    exact = am.BayesianModel(molloy).fit()
    found = am.bayes.sample(am.bayes.pymc.normal_normal(molloy), seed=3, sampler="pymc", cores=1)
    assert found.converged
    assert "as implemented in pymc" in found.methods_text()
    for name in ("mu", "tau"):
        ours, theirs = found.posterior(name), exact.posterior(name)
        assert abs(ours.mean - theirs.mean) < DEVIATIONS * ours.mcse_mean
        assert abs(ours.median - theirs.median) < DEVIATIONS * ours.mcse_median


def test_leave_one_out_of_a_chain_agrees_with_deletion(molloy):
    exact, model = am.BayesianModel(molloy).fit().loo(), am.bayes.pymc.normal_normal(molloy)
    with warnings.catch_warnings():
        # One study of these is hard to leave out; whether its k is above the limit depends on the draws.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = am.bayes.sample(model, seed=5, draws=2000, cores=1)
        found = fit.loo()
    table, good = found.tidy(), (found.tidy()["pareto_k"] < 0.5).to_numpy()
    # Draws of one chain resemble one another: their error is up to twice that of independent ones.
    assert (np.abs(table["elpd"] - exact.tidy()["elpd"]) < 2 * DEVIATIONS * table["mcse"])[good].all()
    again = fit.loo(refit=True)
    assert again.bad == []
    assert abs(again.elpd - exact.elpd) < 2 * DEVIATIONS * again.mcse


@pytest.mark.parametrize("k", [2, 3, 5, 8, 16])
def test_the_default_passes_its_own_gate_however_few_the_effects(molloy, k):
    model = am.bayes.compile(am.bayes.pymc.normal_normal(molloy.take(range(k))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [am.bayes.sample(model, seed=seed, cores=1) for seed in range(1, 21)]
    failed = {fit.seed: [note.code for note in fit.problems] for fit in fits if not fit.converged}
    assert not failed
    # And the alarm would have been right to be silent.
    exact = am.BayesianModel(molloy.take(range(k))).fit()
    for name in ("mu", "tau"):
        ours = np.array([fit.posterior(name).mean for fit in fits])
        error = max(fit.posterior(name).mcse_mean for fit in fits) / np.sqrt(len(fits))
        assert abs(ours.mean() - exact.posterior(name).mean) < DEVIATIONS * error
