"""One tau for each group: its density, what its draws mean, and its limit, one tau for all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.errors import DroppedRowsWarning
from tests.equivalence.pymc_density import OFFSET, as_draws, log_density
from tests.tolerances import CLOSED_FORM

GROUPS = ("client", "observer", "therapist")


@pytest.fixture
def es(rng):
    k = 11
    mods = {"rater": ["therapist", "client"] * 5 + ["observer"], "year": rng.integers(1990, 2020, k).astype(float)}
    return am.EffectSizes.from_arrays(rng.normal(0.3, 0.2, k), rng.uniform(0.01, 0.05, k), mods=mods, measure="ZCOR")


def tau_of(es, tau):
    return np.array([tau[GROUPS.index(rater)] for rater in es.moderators["rater"]])


def log_likelihood(es, mean, tau):
    return stats.norm.logpdf(es.yi, mean, np.sqrt(es.vi + tau_of(es, tau) ** 2))


POINTS = ({"mu": 0.2, "tau": [0.1, 0.2, 0.3]}, {"mu": -0.4, "tau": [1e-4, 0.9, 0.05]})


def test_log_density(es):
    model = pymc.group_tau(es, by="rater")
    assert tuple(model.coords["group"]) == GROUPS
    density = log_density(model)
    for point in POINTS:
        expected = log_likelihood(es, point["mu"], point["tau"]).sum()
        expected += stats.norm.logpdf(point["mu"], 0, 0.5) + stats.halfnorm.logpdf(point["tau"], 0, 0.3).sum()
        assert density(**point) == pytest.approx(expected, abs=OFFSET)


def test_equal_taus_are_one_tau(es):
    apart, together = log_density(pymc.group_tau(es, by="rater")), log_density(pymc.normal_normal(es))
    prior = stats.halfnorm(0, 0.3)
    for mu, tau in ((0.2, 0.1), (-0.3, 0.6)):
        expected = together(mu=mu, tau=tau) + 2 * prior.logpdf(tau)
        assert apart(mu=mu, tau=[tau] * 3) == pytest.approx(expected, abs=OFFSET)


def test_related_groups(es):
    chosen = {"tau_prior": priors.HalfCauchy(0.2), "spread_prior": priors.HalfNormal(0.5)}
    model = pymc.group_tau(es, by="rater", **chosen)
    density = log_density(model)
    for mu, typical, spread, z in ((0.2, 0.15, 0.4, [0.5, -1.0, 0.2]), (0.4, 0.05, 1e-3, [1.0, 2.0, -2.0])):
        tau = typical * np.exp(spread * np.array(z))
        expected = log_likelihood(es, mu, tau).sum() + stats.norm.logpdf(z).sum() + stats.norm.logpdf(mu, 0, 0.5)
        expected += stats.halfcauchy.logpdf(typical, 0, 0.2) + stats.halfnorm.logpdf(spread, 0, 0.5)
        assert density(mu=mu, tau_typical=typical, spread=spread, z=z) == pytest.approx(expected, abs=OFFSET)
    assert list(model.recipe.priors) == ["mu", "tau_typical", "spread"]
    assert "logarithm normal between groups" in model.recipe.words


@pytest.mark.parametrize(
    ("prior", "names"),
    [
        ({"client": priors.HalfNormal(0.1)}, {"tau"}),
        (priors.Lomax(2, 0.3), {"tau_share"}),
        ({"client": priors.Lomax(2, 0.3), "observer": priors.Lomax(3, 0.3)}, {"tau_1_share", "tau_2_share", "tau_3"}),
    ],
)
def test_each_group_has_its_own_prior(es, prior, names):
    model = pymc.group_tau(es, by="rater", tau_prior=prior)
    assert {rv.name for rv in model.free_RVs} == {"mu", *names}
    expected = [prior.get(one, priors.HalfNormal(0.3)) if isinstance(prior, dict) else prior for one in GROUPS]
    assert [model.recipe.priors[f"tau[{one}]"] for one in GROUPS] == expected
    assert "tau" in model.named_vars


def test_moderators_and_likelihood_of_each_study(es):
    model = pymc.group_tau(es, by="rater", mods="rater + year")
    recipe, draws = model.recipe, as_draws(*(point | {"beta": [0.1, -0.2, 0.01]} for point in POINTS))
    draws["intrcpt"] = draws["mu"] - draws["beta"] @ recipe.design.X[:, 1:].mean(axis=0)
    found = recipe.log_likelihood(draws)
    centred = recipe.design.X[:, 1:] - recipe.design.X[:, 1:].mean(axis=0)
    density = log_density(model)
    prior = stats.norm.logpdf([0.1, -0.2, 0.01], 0, 0.25 / centred.std(axis=0))
    for i, point in enumerate(POINTS):
        mean = point["mu"] + centred @ draws["beta"][i]
        np.testing.assert_allclose(found[i], log_likelihood(es, mean, point["tau"]), rtol=CLOSED_FORM)
        total = found[i].sum() + stats.norm.logpdf(point["mu"], 0, 0.5) + prior.sum()
        total += stats.halfnorm.logpdf(point["tau"], 0, 0.3).sum()
        assert density(**point, beta=draws["beta"][i]) == pytest.approx(total, abs=OFFSET)
    assert recipe.units == es.slab


def test_scatter_of_a_new_study(es, rng):
    recipe = pymc.group_tau(es, by="rater").recipe
    draws = {"tau": np.tile([0.1, 0.2, 0.4], (40000, 1))}
    new = recipe.scatter(draws, pd.DataFrame({"rater": ["observer", "client"]}), rng)
    assert new.std(axis=0) == pytest.approx([0.2, 0.1], rel=0.02)
    any_group = recipe.scatter(draws, None, rng)
    assert any_group.shape == (40000, 1)
    assert any_group.var() == pytest.approx(np.mean(tau_of(es, [0.1, 0.2, 0.4]) ** 2), rel=0.03)
    with pytest.raises(am.InputError, match="newdata lacks rater"):
        recipe.scatter(draws, pd.DataFrame({"year": [2000]}), rng)
    with pytest.raises(am.InputError, match=r"rater='clients', which is not a group.*; did you mean 'client'"):
        recipe.scatter(draws, pd.DataFrame({"rater": ["clients"]}), rng)


def test_other_data_keep_the_groups(es):
    recipe = pymc.group_tau(es, by="rater", mods="year").recipe
    part = es.take([0, 10])
    other, data = recipe.rebuilt(part)
    assert data["group_of"].tolist() == [2, 1]
    assert data["X"][:, 0] == pytest.approx(part.moderators["year"] - es.moderators["year"].mean())
    draws = {"mu": np.array([0.2]), "beta": np.array([[0.0]]), "intrcpt": np.array([0.2]), "tau": [[0.1, 0.2, 0.3]]}
    draws["tau"] = np.array(draws["tau"])
    expected = log_likelihood(part, 0.2, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(other.log_likelihood(draws)[0], expected, rtol=CLOSED_FORM)
    stranger = am.EffectSizes.from_arrays([0.1], [0.1], mods={"rater": ["spouse"], "year": [2000.0]})
    with pytest.raises(am.InputError, match="rater='spouse', which is not a group"):
        recipe.rebuilt(stranger)


def test_groups_of_one_study_are_noted(es):
    assert [note.code for note in pymc.group_tau(es, by="rater").recipe.notes] == ["prior-bound"]
    assert "rater=observer" in str(pymc.group_tau(es, by="rater").recipe.notes[0])
    two = pymc.group_tau(es.take([0, 1]), by="rater")
    assert np.isfinite(log_density(two)(mu=0.1, tau=[0.1, 0.2]))


def test_effects_without_a_moderator_are_left_out(es):
    frame = es.moderators.copy()
    frame.loc[10, "year"] = np.nan
    lacking = am.EffectSizes.from_arrays(es.yi, es.vi, mods=frame, measure="ZCOR")
    with pytest.warns(DroppedRowsWarning):
        model = pymc.group_tau(lacking, by="rater", mods="year")
    assert tuple(model.coords["group"]) == ("client", "therapist")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "ratr"}, "by='ratr' is not a column; did you mean 'rater'"),
        ({"by": ["client"] * 11}, "must name a column"),
        ({"by": "rater", "tau_prior": {"clients": priors.HalfNormal(1)}}, "did you mean 'client'"),
        ({"by": "rater", "tau_prior": priors.Normal(0, 1)}, "is not a prior of tau"),
        ({"by": "rater", "tau_prior": priors.Jeffreys()}, "improper"),
        ({"by": "rater", "spread_prior": 0.5}, "spread_prior=0.5 is not a prior of tau"),
        ({"by": "rater", "spread_prior": priors.HalfNormal(1), "tau_prior": {}}, "share one tau_prior"),
        ({"by": "site"}, "by='site' is 'A' throughout"),
    ],
)
def test_bad_arguments(es, arguments, message):
    mods = es.moderators.assign(site="A")
    es = am.EffectSizes.from_arrays(es.yi, es.vi, mods=mods, measure="ZCOR")
    with pytest.raises((am.InputError, am.errors.DesignError), match=message):
        pymc.group_tau(es, **arguments)


def test_numbers_as_groups(es, rng):
    mods = {"wave": [1.0, 2.0] * 5 + [10.0]}
    recipe = pymc.group_tau(am.EffectSizes.from_arrays(es.yi, es.vi, mods=mods), by="wave").recipe
    new = recipe.scatter({"tau": np.tile([1.0, 5.0, 25.0], (9, 1))}, pd.DataFrame({"wave": [1, 2, 10]}), rng)
    assert (np.abs(new).mean(axis=0).argsort() == [0, 2, 1]).all()


def test_groups_without_a_value_are_refused(es):
    frame = es.moderators.copy()
    frame.loc[3, "rater"] = None
    lacking = am.EffectSizes.from_arrays(es.yi, es.vi, mods=frame, measure="ZCOR")
    with pytest.raises(am.InputError, match="'rater' is empty for"):
        pymc.group_tau(lacking, by="rater")
