"""Sequential updating: what is refused, what is said, and steps that have no posterior."""

from __future__ import annotations

import json

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, NotApplicable, priors
from alliance_meta.bayes import SequentialResults, sequential
from alliance_meta.errors import InputError
from tests.tolerances import CLOSED_FORM


@pytest.fixture(scope="module")
def molloy():
    return am.BayesianModel(am.escalc(am.load_dataset("molloy2014"))).fit()


@pytest.fixture(scope="module")
def generic():
    es = EffectSizes.from_arrays([120.0, 90.0, 150.0, 80.0], [100.0, 150.0, 90.0, 200.0])
    return am.BayesianModel(es, mu_prior=priors.Normal(0, 200), tau_prior=priors.HalfNormal(40)).fit()


def effects(k, **options):
    rng = np.random.default_rng(3)
    v = rng.uniform(0.01, 0.1, k)
    return EffectSizes.from_arrays(rng.normal(0.2, np.sqrt(v + 0.05)), v, measure="ZCOR", **options)


def test_steps_are_years_and_ties_stand_together(molloy):
    found = sequential(molloy)
    assert isinstance(found, SequentialResults)
    table = found.tidy()
    years = sorted(molloy.effects.moderators["year"])
    assert table["at"].tolist() == sorted(set(years))
    assert table["added"].tolist() == [years.count(year) for year in sorted(set(years))]
    assert table["k"].iloc[-1] == molloy.k
    assert table.index[1] == "1997 (2 studies)"
    assert len(sequential(molloy, ties="rows").tidy()) == molloy.k
    assert table.attrs == {"scale": "z", "level": 0.95, "interval": "eti", "order": "year"}


def test_effects_can_be_read_as_correlations(molloy):
    found = sequential(molloy)
    z, r = found.tidy(), found.tidy(scale="r")
    for name in ("mu", "mu_ci_lb", "pi_ub"):
        assert r[name].tolist() == pytest.approx(np.tanh(z[name]).tolist(), rel=CLOSED_FORM)
    assert r["tau"].equals(z["tau"])
    assert r.attrs["scale"] == "r"
    assert found.surprises(scale="r")["yi"].tolist() == pytest.approx(np.tanh(found.surprises()["yi"]).tolist())


def test_an_outlier_is_a_surprise_and_is_named():
    v = np.full(12, 0.01)
    y = np.r_[np.linspace(0.15, 0.25, 11), 2.0]
    found = sequential(am.BayesianModel(EffectSizes.from_arrays(y, v, measure="ZCOR")).fit(), order="given")
    assert found.surprising == [found.fit.effects.slab[11]]
    assert 0 < found.surprises()["p"].iloc[-1] < 1e-4
    assert found.fit.effects.slab[11] in str(found)


def test_steps_without_a_posterior_have_the_reason():
    fit = am.BayesianModel(effects(6), mu_prior=priors.Flat(), tau_prior=priors.Uniform()).fit()
    table = sequential(fit, order="given").tidy()
    assert [isinstance(one, NotApplicable) for one in table["mu"]] == [True, True, False, False, False, False]
    assert "improper" in table["mu"].iloc[0].reason
    assert isinstance(table["log_predictive"].iloc[2], NotApplicable)
    assert np.isfinite(table["log_predictive"].iloc[3])
    assert "flat" in table["bf10"].iloc[5].reason
    assert "mu and tau" in table["log_marginal_likelihood"].iloc[5].reason
    assert table["mu"].iloc[-1] == pytest.approx(fit.posterior("mu").median, rel=CLOSED_FORM)
    json.dumps(sequential(fit, order="given").to_dict(), allow_nan=False)


def test_flat_slopes_wait_for_moderators_that_vary():
    es = effects(7, mods={"x": [1.0, 1.0, 1.0, 2.0, 3.0, 1.0, 2.0]})
    flat = {"mu_prior": priors.Flat(), "beta_prior": priors.Flat()}
    table = sequential(am.BayesianModel(es, mods="x", **flat).fit(), order="given").tidy()
    assert [isinstance(one, NotApplicable) for one in table["mu"]] == [True, True, True, False, False, False, False]


def test_one_study_is_one_step():
    found = sequential(am.BayesianModel(effects(1)).fit(), order="given")
    assert len(found.tidy()) == 1
    assert "no study before" in found.surprises()["p"].iloc[0].reason
    assert "0 of 0 results" in str(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "yaer"}, "order='yaer' is no moderator; did you mean 'year'"),
        ({"order": [1, 2]}, "order has 2 values for 16 studies"),
        ({"order": [None, *range(15)]}, "give every study a value"),
        ({"order": ["a", *range(15)]}, "several kinds"),
        ({"ties": "apart"}, "ties='apart'"),
    ],
)
def test_orders_that_are_refused(molloy, arguments, message):
    with pytest.raises(InputError, match=message):
        sequential(molloy, **arguments)


def test_a_bayesian_result_is_needed(molloy):
    frequentist = am.RandomEffectsModel(molloy.effects).fit()
    with pytest.raises(InputError, match="needs the result of BayesianModel, not RandomEffectsResults"):
        sequential(frequentist)


def test_no_wider_than_a_terminal(molloy, generic):
    for one in (sequential(molloy), sequential(generic, order="given")):
        assert max(map(len, str(one).splitlines())) <= 80
        assert repr(one) == str(one)
