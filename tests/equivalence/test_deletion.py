"""Leaving out effects and studies all at once is fitting to what is left, one by one."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from alliance_meta import (
    BayesianModel,
    EffectSizes,
    LocationScaleModel,
    MultilevelModel,
    RandomEffectsModel,
    RVEModel,
    che,
    impute_V,
    sensitivity,
)
from alliance_meta.core.resampling import Recipe
from alliance_meta.core.univariate.deletion import Units, covariances, delete_each, solved
from alliance_meta.core.univariate.search import terms
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.sensitivity.deletion.rows import on_rows
from tests.tolerances import CLOSED_FORM, ITERATIVE, OPTIMISER

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
NUMBERS = ("estimate", "se", "ci_lb", "ci_ub", "tau2", "QE", "I2", "pval", "pi_lb", "pi_ub", "ddf")


def effects(k: int = 60, studies: int = 20, *, tau: float = 0.15, seed: int = 1, wide: bool = False) -> EffectSizes:
    rng = np.random.default_rng(seed)
    n = rng.integers(10, 5000 if wide else 200, k)
    v = 1.0 / (n - 3)
    study = np.sort(rng.integers(0, studies, k))
    y = 0.3 + tau * rng.normal(size=studies)[study] + 0.5 * tau * rng.normal(size=k) + np.sqrt(v) * rng.normal(size=k)
    mods = pd.DataFrame({"x": rng.normal(size=k), "arm": np.where(rng.random(k) < 0.5, "a", "b"), "year": 1990 + study})
    return EffectSizes.from_arrays(y, v, ni=n, mods=mods, measure="ZCOR", study_id=[f"s{i:03d}" for i in study])


def refit_is(fit, by, *, term=None, rtol=ITERATIVE, every=1):
    """Compare each row of leave_one_out with the model fitted to the other effects by its own constructor's numbers."""
    found = sensitivity.leave_one_out(fit, by=by)
    frame, es = found.tidy(term=term), fit.effects
    groups = np.array(es.slab if by == "effect" else es.study_id)
    at = 0 if term is None else fit.names.index(term)
    for i in range(0, len(frame), every):
        one = on_rows(fit, np.flatnonzero(groups != frame["label"][i]))
        row = frame.iloc[i]
        model = {"tau2": one.tau2, "QE": one.QE, "I2": one.I2}
        own = {"estimate": "beta", **{name: name for name in ("se", "ci_lb", "ci_ub", "ddf", "pval")}}
        means = one.predict() if one.p == 1 else ()
        predicted = means.iloc[0] if len(means) == 1 else {}
        for name in NUMBERS:
            if name in own:
                expected = np.broadcast_to(np.asarray(getattr(one, own[name]), dtype=float), one.p)[at]
            else:
                expected = model[name] if name in model else predicted.get(name, np.nan)
            expected = np.nan if np.ndim(expected) else float(expected)
            assert float(row[name]) == pytest.approx(expected, rel=rtol, abs=1e-9, nan_ok=True), (name, row["label"])


@pytest.mark.parametrize("by", ["effect", "study"])
@pytest.mark.parametrize("mods", ["1", "x + arm"])
@pytest.mark.parametrize("method", ["REML", "ML", "DL", "PM", "EE", "GENQ", "HE2"])
def test_random_effects(method, mods, by):
    test = "z" if method == "GENQ" else "knha"
    fit = RandomEffectsModel(effects(), mods=mods, method=method, test=test).fit()
    refit_is(fit, by, term=fit.names[-1])


@pytest.mark.parametrize("seed", range(2))
def test_without_heterogeneity_and_with_weights_far_apart(seed):
    """At the bound, and where one effect holds most of the information."""
    for es in (effects(tau=0.0, seed=seed), effects(tau=0.02, seed=seed, wide=True)):
        refit_is(RandomEffectsModel(es, test="adhoc").fit(), "effect")


def test_lowest_tau2_and_weights_of_the_user():
    es = effects(tau=0.0, seed=3)
    refit_is(RandomEffectsModel(es, tau2_min=-0.02 * es.vi.min()).fit(), "effect")
    refit_is(RandomEffectsModel(es, weights="ni", test="t").fit(), "study")
    refit_is(RandomEffectsModel(es, tau2=0.02).fit(), "study")


def test_one_effect_that_outweighs_all_others():
    es = effects(50, 50, seed=5)
    v = es.vi.copy()
    v[7] = 1e-9
    one = EffectSizes.from_arrays(es.yi, v, measure="ZCOR")
    refit_is(RandomEffectsModel(one).fit(), "effect", rtol=OPTIMISER)


def test_a_likelihood_with_two_peaks_is_left_at_the_higher_one():
    """Where a deletion is not proved to have one peak it is searched like any fit."""
    rng = np.random.default_rng(11)
    v = np.concatenate([np.full(6, 1e-4), np.full(44, 0.3)])
    y = np.concatenate([0.2 + 0.001 * rng.normal(size=6), rng.normal(0.3, 1.1, 44)])
    refit_is(RandomEffectsModel(EffectSizes.from_arrays(y, v), test="z").fit(), "effect", rtol=OPTIMISER)


@pytest.mark.parametrize("p", [1, 3])
def test_the_sums_are_those_of_the_effects_that_are_left(p):
    rng = np.random.default_rng(2)
    k, J = 40, 13
    y, v = rng.normal(size=k), rng.uniform(0.001, 1.0, k)
    X = np.column_stack([np.ones(k), rng.normal(size=(k, p - 1))])
    unit = rng.permutation(np.arange(k) % J)
    units = Units(y, v, X, unit, lowest=0.0, highest=3.0)
    t = rng.uniform(0.0, 3.0, J)
    found = solved(units.at(t))
    for j in range(J):
        rows = unit != j
        whole = wls(make_batch(y[rows], v[rows], X[rows]), t[[j]])
        np.testing.assert_allclose(found.terms[:, j], terms(whole, restricted=True)[:, 0], rtol=CLOSED_FORM)
        assert found.rss[j] == pytest.approx(whole.rss[0], rel=CLOSED_FORM)
    batch = make_batch(y, v, X)
    np.testing.assert_allclose(
        covariances(y, v, X, t), np.concatenate([wls(batch, t[[j]]).vb for j in range(J)]), rtol=CLOSED_FORM
    )


def test_twenty_thousand_effects_take_no_matrix_of_them_all():
    rng = np.random.default_rng(4)
    v = rng.uniform(0.001, 0.2, 20_000)
    y = rng.normal(0.2, np.sqrt(v + 0.02))
    X = np.ones((20_000, 1))
    found = delete_each(y, v, Recipe(X, "REML", "knha", None, 0.0, (0,)), np.arange(20_000), 20_000, tau2=0.02)
    assert found.usable.all()
    rows = np.arange(20_000) != 77
    one = RandomEffectsModel(EffectSizes.from_arrays(y[rows], v[rows])).fit()
    assert found.tau2[77] == pytest.approx(one.tau2, rel=ITERATIVE)
    assert found.vb[77, 0, 0] == pytest.approx(one.vb[0, 0], rel=ITERATIVE)


@pytest.mark.parametrize("by", ["effect", "study"])
@pytest.mark.parametrize("mods", ["1", "x + year"])
@pytest.mark.parametrize("rho", [None, 0.6])
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_multilevel(method, rho, mods, by):
    es = effects(90, 30)
    V = None if rho is None else impute_V(es, rho=rho)
    refit_is(MultilevelModel(es, V=V, mods=mods, method=method).fit(), by, rtol=OPTIMISER, every=13)


@pytest.mark.parametrize("k", [9, 300])
def test_multilevel_by_its_surface_or_by_rows_taken_out(k):
    """Few effects leave variances so open that no surface is laid out; many are done by it."""
    es = effects(k, k // 3, seed=2)
    for random in ("study_id/es_id", "study_id", ("study_id", "arm", "es_id")):
        refit_is(MultilevelModel(es, random=random, dfs="residual").fit(), "study", rtol=OPTIMISER, every=k // 9)


def test_a_variance_at_its_bound():
    es = effects(60, 20, tau=0.0, seed=9)
    fit = MultilevelModel(es, V=impute_V(es, rho=0.3)).fit()
    assert fit.sigma2.min() == 0
    for by in ("study", "effect"):
        refit_is(fit, by, rtol=1e-5, every=5)


@pytest.mark.parametrize("by", ["effect", "study"])
def test_models_that_are_fitted_one_by_one(by):
    es = effects(24, 8)
    refit_is(che(es, rho=0.5), by, every=5)
    refit_is(RVEModel(es, working="CORR").fit(), by, every=5)
    refit_is(RVEModel(es, working="HIER", mods="x").fit(), by, term="x", every=5)
    refit_is(LocationScaleModel(es, scale="x").fit(), by, every=9)
    refit_is(RandomEffectsModel(es).fit().robust(), by, every=5)
    refit_is(RandomEffectsModel(es, method="GENQM", test="t").fit(), by, every=9)
    refit_is(BayesianModel(es).fit(), by, every=9)


def test_an_exact_posterior_without_each_study_is_that_of_loo():
    es = effects(12, 12)
    fit = BayesianModel(es).fit()
    ours = sensitivity.leave_one_out(fit, by="effect").tidy()
    np.testing.assert_allclose(ours["estimate"], fit.loo().tidy()["mean[mu]"], rtol=1e-7)
    np.testing.assert_allclose(ours["se"], fit.loo().tidy()["sd[mu]"], rtol=1e-7)


def test_three_level_posteriors():
    es = effects(12, 4)
    fit = BayesianModel(es, random="~ 1 | study_id/es_id", V=impute_V(es, rho=0.5)).fit()
    found = sensitivity.influence(fit).tidy()
    assert np.isfinite(found[["rstudent", "dffits", "cook_d", "cov_r"]].to_numpy()).all()
    row = sensitivity.leave_one_out(fit).tidy().iloc[0]
    rows = np.flatnonzero(np.array(es.study_id) != row["label"])
    part = es.take(rows)
    one = BayesianModel(part, random="~ 1 | study_id/es_id", V=impute_V(part, rho=0.5)).fit()
    assert row["estimate"] == pytest.approx(one.beta[0], rel=1e-6)


@pytest.mark.parametrize(
    "fit",
    [
        lambda es: RandomEffectsModel(es, mods="x").fit(),
        lambda es: MultilevelModel(es, mods="x").fit(),
        lambda es: RVEModel(es).fit(),
    ],
)
@pytest.mark.parametrize("order", ["year", "-year", "precision", "given"])
def test_cumulative(fit, order):
    es = effects(30, 10)
    whole = fit(es)
    frame = sensitivity.cumulative(whole, order=order, collapse=False if order == "-year" else None).tidy()
    key = {"year": es.moderators["year"], "-year": -es.moderators["year"], "precision": es.vi, "given": np.arange(30)}
    ranks = np.argsort(np.asarray(key[order]), kind="stable")
    assert frame["k"].iloc[-1] == 30
    for at in (len(frame) // 2, len(frame) - 1):
        row = frame.iloc[at]
        one = on_rows(whole, np.sort(ranks[: row["k"]]))
        assert row["estimate"] == pytest.approx(one.beta[0], rel=OPTIMISER)
        assert row["se"] == pytest.approx(one.se[0], rel=OPTIMISER)
        assert row["tau2"] == pytest.approx(one.tau2, rel=OPTIMISER, abs=1e-9)


def test_by_study_measures_of_single_effects_are_those_by_effect():
    es = effects(20, 20, seed=8)
    one = EffectSizes.from_arrays(es.yi, es.vi, measure="ZCOR", slab=es.slab, study_id=es.slab)
    fit = MultilevelModel(one, random="study_id", test="z").fit()
    uni = RandomEffectsModel(one, test="z").fit()
    a, b, c = (sensitivity.influence(f, by=by).tidy().set_index("label") for f, by in
               ((fit, "study"), (uni, "effect"), (uni, "study")))  # fmt: skip
    for name in a.columns.drop(["influential", "k"]):
        for other in (b, c):
            np.testing.assert_allclose(
                a[name].astype(float), other.loc[a.index, name].astype(float), rtol=1e-5, atol=1e-8, err_msg=name
            )


def test_nothing_of_numpy_is_heard():
    es = effects(40, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for fit in (RandomEffectsModel(es, mods="arm", method="EE").fit(), MultilevelModel(es).fit()):
            sensitivity.influence(fit)
            sensitivity.cumulative(fit)
