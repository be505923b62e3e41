"""One model by three roads: the numbers are those of the three results, and draws are held to their own error."""

from __future__ import annotations

import json

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, NotApplicable, priors
from alliance_meta.bayes import SampledPosterior, arviz_bridge
from alliance_meta.errors import FewStudiesWarning, InputError
from alliance_meta.sensitivity import ThreeWay, three_way
from tests.tolerances import CLOSED_FORM


def value(found, parameter, number="estimate"):
    table = found.tidy().set_index(["parameter", "number"])
    return table.loc[(parameter, number)]


@pytest.fixture(scope="module")
def molloy():
    return am.escalc(am.load_dataset("molloy2014"))


@pytest.fixture(scope="module")
def drawn(molloy):
    """Return independent draws from the exact posterior, as PyMC's model would give them."""
    exact = am.BayesianModel(molloy).fit()
    own = arviz_bridge.draws(exact.to_arviz(draws=8000, seed=1))
    recipe = am.bayes.pymc.normal_normal(molloy).recipe
    container = arviz_bridge.from_draws({name: own[name] for name in ("mu", "tau")})
    return SampledPosterior(container, recipe.notes, 1, recipe)


@pytest.fixture(scope="module")
def three(molloy, drawn):
    return three_way(molloy, pymc=drawn)


def test_without_pymc(molloy):
    found = three_way(molloy, pymc=False)
    assert isinstance(found, ThreeWay)
    assert found.sampled is None
    table = found.tidy()
    assert list(table.columns) == ["parameter", "number", "frequentist", "exact", "difference", "pymc", "mcse", "z"]
    assert all(isinstance(one, NotApplicable) for one in table["z"])
    assert np.isnan(found.worst)
    assert len(table) == 3 * (3 + molloy.k)
    assert "PyMC was left out" in table["pymc"].iloc[0].reason


def test_the_numbers_are_those_of_the_three_results(three, molloy, drawn):
    reml = am.RandomEffectsModel(molloy).fit()
    exact = am.BayesianModel(molloy).fit()
    row = reml.predict().iloc[0]
    for number, classic in zip(("estimate", "ci_lb", "ci_ub"), (row.pred, row.ci_lb, row.ci_ub), strict=True):
        assert value(three, "mu", number)["frequentist"] == pytest.approx(classic, rel=CLOSED_FORM)
    assert value(three, "theta_new", "ci_ub")["frequentist"] == pytest.approx(row.pi_ub, rel=CLOSED_FORM)
    assert value(three, "tau", "ci_ub")["frequentist"] == pytest.approx(
        reml.confint().loc["tau", "ub"], rel=CLOSED_FORM
    )
    label = molloy.slab[3]
    assert value(three, f"theta[{label}]", "ci_lb")["frequentist"] == pytest.approx(reml.blup()["pi_lb"].iloc[3])
    table = exact.tidy()
    for name in ("mu", "tau", "theta_new", f"theta[{label}]"):
        for number, column in (("estimate", "median"), ("ci_lb", "ci_lb"), ("ci_ub", "ci_ub")):
            assert value(three, name, number)["exact"] == pytest.approx(table.loc[name, column], rel=1e-9)
    for name in ("mu", "tau"):
        one, found, solved = drawn.posterior(name), value(three, name), exact.posterior(name)
        assert found["pymc"] == pytest.approx(one.median, rel=CLOSED_FORM)
        error = 0.5 / np.sqrt(arviz_bridge.ess(one.chains, "quantile", prob=0.5))
        assert found["mcse"] == pytest.approx(error / float(solved.pdf(solved.median)), rel=1e-9)
        # Close to what the draws alone say about their error.
        assert found["mcse"] == pytest.approx(one.mcse_median, rel=0.25)
        assert found["z"] == pytest.approx((float(solved.cdf(one.median)) - 0.5) / error, rel=1e-9)
        assert found["z"] == pytest.approx((found["pymc"] - found["exact"]) / found["mcse"], rel=0.05)
        assert found["difference"] == pytest.approx(found["exact"] - found["frequentist"], rel=1e-9)


def test_independent_draws_agree_within_their_error(three):
    z = three.tidy()["z"].to_numpy(dtype=float)
    assert len(z) == 57
    assert (np.abs(z) < 2).mean() > 0.85
    assert three.worst < 4
    # They vary by about their standard error: neither much less nor much more.
    assert 0.5 < np.sqrt((z**2).mean()) < 1.5
    assert not any(note.code == "sampler-disagrees" for note in three.notes)


def test_draws_that_are_off_are_found_out(molloy, drawn):
    own = arviz_bridge.draws(drawn.container)
    moved = arviz_bridge.from_draws({"mu": own["mu"] + 0.01, "tau": own["tau"]})
    found = three_way(molloy, pymc=SampledPosterior(moved, (), 1, drawn.recipe))
    assert found.worst > 4
    assert found.notes[-1].code == "sampler-disagrees"
    assert "mu" in found.notes[-1].message
    assert "sampler" not in str(three_way(molloy, pymc=drawn)).split("z: ")[0]


def test_the_same_draws_give_the_same_numbers(molloy, drawn, three):
    assert three_way(molloy, pymc=drawn).tidy().equals(three.tidy())


def test_with_moderators(molloy):
    fit = am.BayesianModel(molloy, mods="year").fit()
    recipe = am.bayes.pymc.normal_normal(molloy, mods="year").recipe
    own = arviz_bridge.draws(fit.to_arviz(draws=8000, seed=2))
    intercept, slope = np.moveaxis(own["beta"], -1, 0)
    draws = {"mu": intercept + slope * fit.design.X[:, 1].mean(), "intrcpt": intercept, "tau": own["tau"]}
    container = arviz_bridge.from_draws(
        draws | {"beta": slope[..., None]}, dims={"beta": ["coefficient"]}, coords={"coefficient": ["year"]}
    )
    found = three_way(molloy, mods="year", pymc=SampledPosterior(container, recipe.notes, 2, recipe))
    assert list(dict.fromkeys(found.tidy()["parameter"]))[:5] == ["mu", "intrcpt", "year", "tau", "theta_new"]
    reml = am.RandomEffectsModel(molloy, mods="year").fit()
    assert value(found, "year")["frequentist"] == pytest.approx(reml.beta[1], rel=CLOSED_FORM)
    average = reml.predict({"year": [float(molloy.moderators["year"].mean())]}).iloc[0]
    assert value(found, "mu", "ci_lb")["frequentist"] == pytest.approx(average.ci_lb, rel=1e-9)
    assert found.worst < 4.5


def test_flat_priors_bring_the_roads_together():
    """With many large studies the priors hardly matter: exact and REML agree to a fraction of the interval."""
    rng = np.random.default_rng(8)
    v = np.full(300, 0.01)
    es = EffectSizes.from_arrays(rng.normal(0.3, np.sqrt(v + 0.04)), v, measure="ZCOR")
    found = three_way(es, pymc=False, mu_prior=priors.Flat(), tau_prior=priors.Uniform(5))
    for name in ("mu", "tau", "theta_new"):
        row, lower = value(found, name), value(found, name, "ci_lb")
        assert abs(row["difference"]) < 0.1 * (row["exact"] - lower["exact"])


def test_a_single_effect_has_no_frequentist_tau():
    es = EffectSizes.from_arrays([0.2], [0.02], measure="ZCOR")
    with pytest.warns(FewStudiesWarning):
        found = three_way(es, pymc=False)
    assert value(found, "mu")["frequentist"] == 0.2
    assert np.isfinite(value(found, "theta_new", "ci_lb")["exact"])
    assert isinstance(value(found, "theta_new", "ci_lb")["frequentist"], NotApplicable)
    assert isinstance(value(found, "theta_new", "ci_lb")["difference"], NotApplicable)
    assert "saturated" in {note.code for note in found.notes}
    json.dumps(found.to_dict(), allow_nan=False)
    assert "n/a" in str(found)


def test_two_effects():
    found = three_way(EffectSizes.from_arrays([0.2, 0.5], [0.02, 0.03], measure="ZCOR"), pymc=False)
    assert found.tidy()[["frequentist", "exact"]].notna().all(axis=None)
    json.dumps(found.to_dict(), allow_nan=False)


def test_in_words(three, molloy):
    for found in (three, three_way(molloy, pymc=False)):
        lines = str(found).splitlines()
        assert max(map(len, lines)) <= 80
        assert repr(found) == str(found)
    assert "of 57 numbers" in str(three)
    assert "PyMC less exact" not in str(found)
    json.dumps(three.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a seed= where PyMC draws"),
        ({"pymc": 3}, "pymc=3 is neither"),
    ],
)
def test_what_is_refused(molloy, arguments, message):
    with pytest.raises(InputError, match=message):
        three_way(molloy, **arguments)


def test_draws_of_another_question_are_refused(molloy, drawn):
    with pytest.raises(InputError, match=r"of other effects"):
        three_way(molloy.take(range(10)), pymc=drawn)
    with pytest.raises(InputError, match=r"their prior of tau is half-normal\(0.3\), not half-Cauchy\(0.3\)"):
        three_way(molloy, tau_prior=priors.HalfCauchy(0.3), pymc=drawn)
    with pytest.raises(InputError, match=r"their moderators are '1', not 'year'"):
        three_way(molloy, mods="year", pymc=drawn)
