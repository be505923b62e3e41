"""Sequential updating and MAP priors: what is refused, what is said, and steps that have no posterior."""

from __future__ import annotations

import json

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, NotApplicable, priors
from alliance_meta.bayes import MapPrior, MapUpdate, SequentialResults, map_prior, sequential
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


def test_both_need_a_bayesian_result(molloy):
    frequentist = am.RandomEffectsModel(molloy.effects).fit()
    for make in (sequential, map_prior):
        with pytest.raises(InputError, match="needs the result of BayesianModel, not RandomEffectsResults"):
            make(frequentist)


def test_no_wider_than_a_terminal(molloy, generic):
    told = [sequential(molloy), sequential(generic, order="given"), map_prior(molloy, robust=0.1), map_prior(generic)]
    told += [map_prior(molloy).update(ri=0.9, ni=400)]
    for one in told:
        assert max(map(len, str(one).splitlines())) <= 80
        assert repr(one) == str(one)


def test_the_prior_is_the_prediction(molloy):
    prior = map_prior(molloy)
    assert isinstance(prior, MapPrior)
    row = molloy.predict(scale="r").iloc[0]
    assert prior.tidy(scale="r").loc["theta_new", ["ci_lb", "ci_ub"]].tolist() == pytest.approx(
        [row.pi_lb, row.pi_ub], rel=1e-9
    )
    assert prior.components["weight"].sum() == pytest.approx(1, rel=CLOSED_FORM)
    assert (prior.components["weight"].diff().dropna() <= 0).all()
    assert prior.normals.error <= 2e-3
    json.dumps(prior.to_dict(), allow_nan=False)


def test_clients_needed_add_up(molloy):
    prior = map_prior(molloy)
    row = prior.clients_needed(0.1).iloc[0]
    assert row["alone"] - row["with_prior"] == row["saved"]
    assert abs(row["saved"] - prior.ess()) <= 1
    centre = float(np.tanh(molloy.posterior("theta_new").median))
    # A study of that size alone has just that interval.
    half = 1.959964 / np.sqrt(row["alone"] - 3)
    length = np.arctanh(centre + 0.1) - np.arctanh(centre - 0.1)
    assert half == pytest.approx(length / 2, rel=0.002)
    assert prior.clients_needed(0.4).iloc[0]["with_prior"] == 0
    assert prior.clients_needed(0.1, level=0.5).iloc[0]["alone"] < row["alone"]


def test_more_tau_means_fewer_clients(molloy):
    near = am.BayesianModel(molloy.effects, tau_prior=priors.HalfNormal(0.01)).fit()
    far = am.BayesianModel(molloy.effects, tau_prior=priors.InverseGamma(200, 80)).fit()
    sizes = [map_prior(one, components=1).ess() for one in (near, molloy, far)]
    assert sizes == sorted(sizes, reverse=True)
    # Where studies differ by tau they can be worth 1 / tau^2 clients at most.
    assert sizes[2] < map_prior(far, components=1).ess_limit


def test_a_vague_part_costs_clients(molloy):
    sizes = [map_prior(molloy, robust=w, components=1).ess() for w in (0.0, 0.1, 0.5)]
    assert sizes == sorted(sizes, reverse=True)
    shown = map_prior(molloy, robust=0.1).components
    assert shown.loc["vague"].tolist() == [0.1, 0.0, 1.0]


def test_without_a_unit_there_is_no_sample_size(generic):
    prior = map_prior(generic)
    assert "unit_sd was not given" in prior.ess().reason
    assert "unit_sd" in prior.glance()["ess_elir"].iloc[0].reason
    assert isinstance(prior.update(yi=100.0, vi=50.0).ess, NotApplicable)
    known = map_prior(generic, unit_sd=60.0)
    assert known.ess("moment") == pytest.approx((60 / generic.posterior("theta_new").sd) ** 2, rel=CLOSED_FORM)
    with pytest.raises(InputError, match="another scale"):
        known.clients_needed(0.1)


def test_an_infinite_variance_has_no_moment_sample_size():
    fit = am.BayesianModel(effects(1), tau_prior=priors.HalfCauchy(0.3)).fit()
    prior = map_prior(fit, components=2)
    assert "infinite" in prior.ess("moment").reason
    assert prior.ess() > 0
    assert "infinite variance" in str(prior)
    json.dumps(prior.to_dict(), allow_nan=False)


def test_a_surprise_is_said(molloy):
    after = map_prior(molloy).update(ri=0.9, ni=200)
    assert isinstance(after, MapUpdate)
    assert after.p < 1e-3
    assert after.notes[-1].code == "prior-conflict"
    assert "surprise" in str(after)
    robust = map_prior(molloy, robust=0.2).update(ri=0.9, ni=200)
    assert robust.robust > 0.99
    assert robust.marginal(scale="r").median > after.marginal(scale="r").median
    calm = map_prior(molloy).update(ri=0.15, ni=100)
    assert calm.notes == molloy.notes
    json.dumps(calm.to_dict(), allow_nan=False)


def test_the_code_for_r_holds_the_components(molloy):
    code = map_prior(molloy, robust=0.2).r_code()
    assert code.startswith("library(RBesT)\nmap <- mixnorm(\n  n1=c(")
    assert "robust=c(0.2, 0, 1),\n  sigma=1)" in code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"robust": 1.0}, "robust=1.0 is no probability"),
        ({"robust": -0.1, "components": 0}, r"robust=-0.1 .*; components=0 is not a whole number from 1 to 6"),
        ({"vague": priors.Flat()}, "is not a normal prior"),
        ({"unit_sd": 2.0}, "unit_sd is 1 on Fisher's z"),
    ],
)
def test_priors_that_are_refused(molloy, arguments, message):
    with pytest.raises(InputError, match=message):
        map_prior(molloy, **arguments)


def test_a_vague_part_needs_a_scale(generic):
    with pytest.raises(InputError, match="needs vague= or unit_sd="):
        map_prior(generic, robust=0.1)
    assert map_prior(generic, robust=0.1, vague=priors.Normal(100, 50)).robust == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs ri and ni, or yi and vi; given: nothing"),
        ({"ri": 0.2}, "given: ri"),
        ({"ri": 0.2, "vi": 0.1}, "given: ri, vi"),
        ({"ri": 1.0, "ni": 3}, r"ri=1.0 is no correlation .*; ni=3: Fisher's z needs more than 3 clients"),
        ({"yi": np.nan, "vi": 0.0}, r"yi=nan is not .*; vi=0.0 is no positive variance"),
    ],
)
def test_results_that_are_refused(molloy, arguments, message):
    with pytest.raises(InputError, match=message):
        map_prior(molloy).update(**arguments)


def test_precision_that_is_refused(molloy):
    for width in (0.0, 0.9):
        with pytest.raises(InputError, match="half_width"):
            map_prior(molloy, components=1).clients_needed(width)


def test_one_row_of_new_data(molloy):
    fit = am.BayesianModel(molloy.effects, mods="meanage").fit()
    prior = map_prior(fit, newdata={"meanage": [40.0]}, components=1)
    assert prior.label == "a new study with meanage = 40"
    assert map_prior(fit, components=1).label == "a new study at the average of the moderators"
    with pytest.raises(InputError, match="newdata has 2 rows"):
        map_prior(fit, newdata={"meanage": [40.0, 50.0]})
