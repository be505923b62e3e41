"""Leave-one-out from draws agrees with exact deletion, and models are ranked as ArviZ ranks them."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge as bridge
from alliance_meta.bayes.sampled.quantities import FAILED, SamplerSettings
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.core.bayes.average import GAP, stacking_weights
from alliance_meta.errors import ConvergenceWarning, DependenceWarning
from tests.tolerances import CLOSED_FORM

# The draws are independent and the seeds fixed.
SIGMAS = 4.0


def drawn(fit, recipe, *, draws=8000, seed=1):
    return SampledPosterior(fit.to_arviz(draws=draws, seed=seed), recipe.notes, seed, recipe)


@pytest.fixture(scope="module")
def molloy():
    return am.escalc(am.load_dataset("molloy2014"))


@pytest.fixture(scope="module")
def recipe(molloy):
    return am.bayes.pymc.normal_normal(molloy).recipe


@pytest.fixture(scope="module")
def exact(molloy):
    return am.BayesianModel(molloy).fit()


@pytest.fixture(scope="module")
def sampled(exact, recipe):
    return drawn(exact, recipe)


@pytest.fixture(scope="module")
def left(sampled):
    with pytest.warns(ConvergenceWarning, match="Pareto k of 1 of 16"):
        return sampled.loo()


def test_it_agrees_with_exact_deletion(left, exact):
    theirs = exact.loo()
    table, truth = left.tidy(), theirs.tidy()
    assert list(table.index) == list(truth.index)
    assert list(table.columns[: truth.shape[1]]) == list(truth.columns)
    good = table["pareto_k"] < 0.5
    assert good.sum() >= 14
    away = (table["elpd"] - truth["elpd"]).abs() / table["mcse"]
    assert (away[good] < SIGMAS).all()
    assert (table.loc[good, "mcse"] < 0.02).all()
    assert table.loc[good, "pit"].to_numpy(float) == pytest.approx(truth.loc[good, "pit"].to_numpy(float), abs=0.01)
    for name, size in (("mean[mu]", 0.06), ("sd[mu]", 0.06), ("mean[tau]", 0.08)):
        close = size * truth["sd[mu]"].mean()
        assert table.loc[good, name].to_numpy(float) == pytest.approx(truth.loc[good, name].to_numpy(float), abs=close)
    assert abs(left.elpd - theirs.elpd) < SIGMAS * left.mcse
    assert abs(left.p_loo - theirs.p_loo) < SIGMAS * left.mcse
    assert left.elpd_se == pytest.approx(theirs.elpd_se, abs=0.05)


class Exact:
    """Stand in for a compiled model: it draws from the exact posterior."""

    def __init__(self, effects=None, shift=0.0):
        self.effects, self.shift = effects, shift

    def with_data(self, effects):
        return Exact(effects, self.shift)

    def draw(self, *, draws, chains, seed, **settings):
        container = am.BayesianModel(self.effects).fit().to_arviz(draws=draws * chains, chains=chains, seed=seed)
        found = {name: bridge.draws(container)[name] for name in ("mu", "tau")}
        return bridge.from_draws(found | {"mu": found["mu"] + self.shift * np.arange(chains)[:, None]})


def test_a_unit_that_fails_is_left_out_by_fitting_again(sampled, exact):
    fit = replace(sampled, _model=Exact(), sampler=SamplerSettings("nutpie", 1000, 0.9))
    found = fit.loo(refit=True)
    assert found.refitted == ("Jerant et al. 2011",)
    assert (found.bad, found.notes) == ([], ())
    row, truth = (one.tidy().loc["Jerant et al. 2011"] for one in (found, exact.loo()))
    assert abs(row["elpd"] - truth["elpd"]) < SIGMAS * row["mcse"]
    assert 0.001 < row["mcse"] < 0.05
    assert row["pit"] == pytest.approx(truth["pit"], abs=0.005)
    for name in ("mean[mu]", "sd[mu]", "mean[tau]"):
        assert row[name] == pytest.approx(truth[name], abs=0.06 * truth["sd[mu]"])
    assert isinstance(row["pareto_k"], am.NotApplicable)
    assert abs(found.elpd - exact.loo().elpd) < SIGMAS * found.mcse
    assert found.elpd == pytest.approx(found.tidy()["elpd"].sum(), rel=CLOSED_FORM)
    assert "fitted again without Jerant et al. 2011" in " ".join(str(found).split())
    assert max(map(len, str(found).splitlines())) <= 80
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["refitted"] == ["Jerant et al. 2011"]


def test_a_fit_without_a_unit_is_checked_too(sampled):
    fit = replace(sampled, _model=Exact(shift=0.5), sampler=SamplerSettings("nutpie", 1000, 0.9))
    with pytest.warns(ConvergenceWarning, match="The fit without Jerant et al. 2011 fails its checks"):
        found = fit.loo(refit=True)
    assert [note.code for note in found.notes] == ["refit-failed"]


def test_only_what_was_compiled_is_fitted_again(sampled):
    with pytest.raises(am.InputError, match=r"refit=True needs a fit that bayes\.sample has drawn"):
        sampled.loo(refit=True)


@pytest.mark.slow
def test_the_monte_carlo_error_is_that_between_seeds(exact, recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        runs = [drawn(exact, recipe, draws=1000, seed=seed).loo().tidy() for seed in range(12)]
    good = runs[0]["pareto_k"] < 0.4
    between = np.std([run["elpd"][good] for run in runs], axis=0, ddof=1)
    said = np.mean([run["mcse"][good] for run in runs], axis=0)
    assert 0.7 < float(np.sqrt((between**2).mean() / (said**2).mean())) < 1.4


def test_a_unit_that_fails_is_named_warned_of_and_noted(left):
    assert left.bad == ["Jerant et al. 2011"]
    assert [note.code for note in left.notes] == ["pareto-k"]
    assert "Jerant et al. 2011" in str(left)
    assert "16 effects, left out by weighting draws (PSIS)" in " ".join(str(left).split())
    assert left.unit == "effect"
    assert max(map(len, str(left).splitlines())) <= 80
    found = json.loads(json.dumps(left.to_dict(), allow_nan=False))
    assert found["notes"][0]["code"] == "pareto-k"
    assert found["units"]["slab"][0] == left.table.index[0]


def test_draws_that_fail_their_checks_pass_it_on(recipe, rng):
    draws = {
        "mu": rng.normal(0.15, 0.03, (4, 300)) + 0.1 * np.arange(4)[:, None],
        "tau": rng.uniform(0.05, 0.2, (4, 300)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = SampledPosterior(bridge.from_draws(draws), (), 1, recipe)
        found, compared = fit.loo(), am.bayes.compare({"bad": fit, "exact": am.BayesianModel(fit.effects).fit()})
    assert "rhat" in {note.code for note in found.notes}
    assert str(found).startswith(FAILED)
    assert found.to_dict()["converged"] is False
    assert compared.failed == ("bad",)
    assert str(compared).startswith(FAILED)
    assert max(map(len, str(compared).splitlines())) <= 80


def test_without_a_closed_form_there_is_no_pit(exact, recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pit = drawn(exact, replace(recipe, cdf=None), draws=400).loo().tidy()["pit"]
        found = drawn(exact, replace(recipe, cdf=None), draws=400).loo().to_dict()["units"]["pit"]
    assert all(isinstance(one, am.NotApplicable) for one in pit)
    assert found[0] == {"not_applicable": "this model has no closed form of it"}


def test_too_few_draws_and_other_models_are_refused(recipe):
    container = bridge.from_draws({"mu": [[0.1, 0.2]], "tau": [[0.1, 0.1]]})
    with pytest.warns(ConvergenceWarning), pytest.raises(am.InputError, match="at least 4 draws; these are 2"):
        SampledPosterior(container, (), 1, recipe).loo()
    with pytest.warns(ConvergenceWarning), pytest.raises(am.InputError, match=r"not from bayes\.pymc"):
        SampledPosterior(container, (), 1).loo()


def test_the_same_model_exact_and_sampled_is_no_difference(exact, sampled):
    with pytest.warns(ConvergenceWarning):
        found = am.bayes.compare({"exact": exact, "sampled": sampled})
    table = found.tidy()
    assert dict(table["method"]) == {"exact": "exact", "sampled": "PSIS"}
    assert dict(table["bad_k"]) == {"exact": 0, "sampled": 1}
    assert -0.2 < table["elpd_diff"].min() < table["elpd_diff"].max() == 0
    assert table["weight"].sum() == pytest.approx(1.0, rel=CLOSED_FORM)
    assert found.notes[0].message.startswith("sampled: Leave-one-out")
    assert max(map(len, str(found).splitlines())) <= 80
    assert "not clearly better than" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_comparison_adds_up(molloy):
    fits = {"all": am.BayesianModel(molloy).fit(), "year": am.BayesianModel(molloy, mods="year").fit()}
    found = am.bayes.compare(fits)
    a, b = fits["all"].loo(), fits["year"].loo()
    table = found.tidy()
    assert list(table.index) == ["all", "year"]
    assert table.loc["year", "elpd_diff"] == pytest.approx(b.elpd - a.elpd, rel=CLOSED_FORM)
    away = (b.table["elpd"] - a.table["elpd"]).to_numpy(dtype=float)
    assert table.loc["year", "se_diff"] == pytest.approx(np.sqrt(16 * away.var(ddof=1)), rel=CLOSED_FORM)
    assert table.loc["all", ["elpd", "elpd_se", "p_loo"]].tolist() == pytest.approx([a.elpd, a.elpd_se, a.p_loo])
    assert found.pointwise["year"].to_numpy() == pytest.approx(b.table["elpd"].to_numpy(dtype=float))
    assert found.unit == "effect"


def test_a_clear_winner_is_named(rng):
    year = np.linspace(-1, 1, 30)
    y = 0.3 + 0.4 * year + rng.normal(0, 0.05, 30)
    es = am.EffectSizes.from_arrays(y, np.full(30, 0.0025), mods=pd.DataFrame({"year": year}), measure="ZCOR")
    found = am.bayes.compare({"none": am.BayesianModel(es).fit(), "year": am.BayesianModel(es, mods="year").fit()})
    assert "year predicts clearly better than the other." in str(found)
    assert found.tidy().loc["year", "weight"] > 0.9


@pytest.mark.slow
def test_three_level_fits_are_compared_by_cluster():
    es = am.escalc(am.load_dataset("crede2010"))
    fits = {
        "weak": am.BayesianModel(es, random="~ 1 | study_id/es_id").fit(),
        "strong": am.BayesianModel(es, random="~ 1 | study_id/es_id", tau_prior=am.priors.HalfNormal(0.05)).fit(),
    }
    found = am.bayes.compare(fits, cluster="study_id")
    assert found.unit == "cluster"
    assert len(found.pointwise) == len(set(es.study_id))
    with pytest.warns(DependenceWarning):
        rows = am.BayesianModel(es).fit()
    with pytest.raises(am.InputError, match="they must be the same"):
        am.bayes.compare(fits | {"rows": rows}, cluster="study_id")


@pytest.mark.slow
def test_clusters_left_out_from_draws_are_those_left_out_exactly():
    es = am.escalc(am.load_dataset("crede2010"))
    exact = am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()
    found = bridge.draws(exact.to_arviz(draws=4000, seed=1))
    levels = {"dims": {"tau": ["level"]}, "coords": {"level": ["study_id", "es_id"]}}
    container = bridge.from_draws({"mu": found["mu"], "tau": found["tau"]}, **levels)
    sampled = SampledPosterior(container, (), 1, am.bayes.pymc.multilevel(es).recipe)
    with pytest.warns(ConvergenceWarning, match="Pareto k of 1 of 68"):
        left = sampled.loo()
    table, truth = left.tidy(), exact.loo(cluster="study_id").tidy()
    assert left.unit == "cluster"
    assert list(table.index) == list(truth.index)
    good = (table["pareto_k"] < 0.5).to_numpy()
    assert good.sum() >= 66
    assert ((table["elpd"] - truth["elpd"]).abs() / table["mcse"] < SIGMAS)[good].all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        both = am.bayes.compare({"exact": exact, "sampled": sampled}, cluster="study_id")
    assert both.unit == "cluster"
    assert both.tidy()["elpd_diff"].min() > -2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fit, es: {"a": fit}, "at least two fits"),
        (lambda fit, es: [fit, fit], "at least two fits"),
        (lambda fit, es: {"a": fit, "b": am.RandomEffectsModel(es).fit()}, "not 'b' .RandomEffectsResults"),
        (lambda fit, es: {"a": fit, "b": am.BayesianModel(es.take(slice(0, 9))).fit()}, "16 effects and 'b' to 9"),
        (lambda fit, es: {"a": fit, "b": am.BayesianModel(es.take(list(range(15, -1, -1)))).fit()}, "another order"),
    ],
)
def test_what_cannot_be_compared_is_refused(exact, molloy, change, message):
    with pytest.raises(am.InputError, match=message):
        am.bayes.compare(change(exact, molloy))


def test_stacking_weights_are_optimal(rng):
    for n, m in ((16, 2), (40, 5), (5, 3), (1, 2)):
        elpd = rng.normal(0, 1, (n, 1)) + rng.normal(0, 0.7, (n, m))
        w = stacking_weights(elpd)
        assert w.sum() == pytest.approx(1.0, rel=CLOSED_FORM)
        assert (w >= 0).all()
        # No other mixture has a mean log score larger by more than this (the problem is concave).
        density = np.exp(elpd)
        slope = (density / (density @ w)[:, None]).mean(axis=0)
        assert slope.max() - 1.0 < 100 * GAP


def test_stacking_weights_of_equal_and_hopeless_models(rng):
    one = rng.normal(size=20)
    assert stacking_weights(np.column_stack([one, one])) == pytest.approx([0.5, 0.5], abs=1e-6)
    assert stacking_weights(np.column_stack([one, one - 1000.0])).tolist() == [1.0, 0.0]
    assert stacking_weights(one[:, None]).tolist() == [1.0]


def test_stacking_weights_are_arviz_s(rng):
    az = bridge.load("arviz")
    chains = rng.normal(size=(4, 250))
    made = {}
    for name, shift in (("a", 0.0), ("b", 0.3), ("c", 0.6)):
        own = rng.normal(shift, 0.5, 30)
        pointwise = -0.5 * (own - 0.05 * chains[..., None]) ** 2
        made[name] = bridge.from_draws({"mu": chains}, log_likelihood={"y": pointwise}, observed_data={"y": own})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = az.compare(made, method="stacking", **({"scale": "log"} if hasattr(az, "psislw") else {}))
        elpd = [az.loo(one, pointwise=True) for one in made.values()]
    found = stacking_weights(np.column_stack([getattr(one, "elpd_i", getattr(one, "loo_i", None)) for one in elpd]))
    assert found == pytest.approx(table.loc[list(made), "weight"].to_numpy(dtype=float), abs=2e-3)
