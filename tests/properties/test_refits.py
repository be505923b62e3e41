"""What must hold of refits of a multilevel model for any data."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alliance_meta import EffectSizes, MultilevelModel, impute_V, sensitivity
from alliance_meta.core.distributions import chi2_sf, half_mixture_p
from alliance_meta.core.mixed.covariance import Reordered, Unstructured
from alliance_meta.errors import AllianceMetaWarning

FEW = settings(max_examples=8)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, *, scale=1.0, shuffled=False):
    """Return effects of several studies with a factor that crosses them."""
    rng = np.random.default_rng(seed)
    studies = int(rng.integers(5, 9))
    study = np.concatenate([np.arange(studies), rng.integers(0, studies, int(rng.integers(8, 20)))])
    k = study.size
    spread = rng.choice([0.0, 0.1, 0.3])
    y = rng.normal(0, spread, studies)[study] + rng.normal(0.2, 0.15, k)
    v = rng.uniform(0.005, 0.03, k)
    frame = pd.DataFrame({"x": rng.normal(size=k), "rater": rng.choice(["c", "t", "o"], k)})
    labels = np.array([f"s{i}" for i in study])
    rows = rng.permutation(k) if shuffled else np.arange(k)
    return EffectSizes.from_arrays(
        (scale * y)[rows],
        (scale**2 * v)[rows],
        mods=frame.iloc[rows].reset_index(drop=True),
        study_id=labels[rows],
    )


def quiet(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return make()


@given(st.floats(0, 60), st.integers(1, 8))
def test_a_mixture_lies_between_its_parts(stat, df):
    p = half_mixture_p(stat, df)
    assert p <= max(chi2_sf(stat, df), stat <= 0) + 1e-15
    assert 0 <= p <= 1
    if stat > 0 and df > 1:
        assert p >= chi2_sf(stat, df - 1) - 1e-15
    assert half_mixture_p(stat + 1.0, df) <= p


@FEW
@given(seeds)
def test_a_model_without_a_term_is_never_likelier(seed):
    es = drawn(seed)
    fit = quiet(lambda: MultilevelModel(es, mods="x", random=("study_id", "rater", "es_id")).fit())
    tests = sensitivity.component_tests(fit).tidy()
    assert (tests["loglik"].astype(float) <= fit.loglik + 1e-7).all()
    assert (tests["pval"].astype(float) <= tests["pval_naive"].astype(float) + 1e-12).all()
    levels = quiet(lambda: sensitivity.compare_levels(es, mods="x", levels=("study_id", "rater", "es_id")))
    frame = levels.tidy()
    # A model with more levels is at least as likely as each with fewer of them.
    for name, fewer in levels.fits.items():
        for other, more in levels.fits.items():
            if {t.name for t in fewer.random} <= {t.name for t in more.random}:
                assert fewer.loglik <= more.loglik + 1e-7, (name, other)
    assert frame.loc["study_id + es_id", "LRT"] == pytest.approx(tests.loc["rater", "LRT"], abs=1e-6)


@FEW
@given(seeds)
def test_an_interval_holds_its_estimate_and_a_curve_its_peak(seed):
    fit = quiet(lambda: MultilevelModel(drawn(seed)).fit())
    found = quiet(lambda: sensitivity.profile(fit, points=7))
    for curve in found.curves.values():
        assert curve.lb <= curve.estimate <= curve.ub
        assert curve.loglik.max() <= fit.loglik + 1e-6
        inside = (curve.values > curve.lb) & (curve.values < curve.ub)
        assert (curve.loglik[inside] >= curve.cutoff - 1e-6).all()
        outside = (curve.values < curve.lb) | (curve.values > curve.ub)
        assert (curve.loglik[outside] <= curve.cutoff + 1e-6).all()
    wider = quiet(lambda: sensitivity.profile(fit, points=5, level=0.99))
    for name, curve in found.curves.items():
        assert wider.curves[name].lb <= curve.lb + 1e-9
        assert wider.curves[name].ub >= curve.ub - 1e-9


@FEW
@given(seeds, st.booleans())
def test_the_order_of_rows_and_the_unit_do_not_matter(seed, with_V):
    plain, turned = drawn(seed), drawn(seed, shuffled=True)
    large = drawn(seed, scale=10.0)

    def left_out(es):
        V = impute_V(es, rho=0.5) if with_V else None
        fit = quiet(lambda: MultilevelModel(es, V=V).fit())
        return sensitivity.leave_one_out(fit).tidy(), sensitivity.influence(fit, reestimate=False).tidy()

    (one, close), (two, closed), (big, far) = (left_out(es) for es in (plain, turned, large))
    assert one["label"].tolist() == two["label"].tolist()
    np.testing.assert_allclose(two["estimate"], one["estimate"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(two["se"], one["se"], rtol=1e-4)
    np.testing.assert_allclose(big["estimate"], 10 * one["estimate"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(closed["cook_d"], close["cook_d"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(far["cook_d"], close["cook_d"], rtol=1e-4, atol=1e-7)


@FEW
@given(seeds)
def test_a_bootstrap_is_its_seed(seed):
    fit = quiet(lambda: MultilevelModel(drawn(seed)).fit())
    one, two = (sensitivity.bootstrap(fit, iterations=4, seed=seed) for _ in range(2))
    for name in one.quantities:
        np.testing.assert_array_equal(one.samples[name], two.samples[name])
        assert np.isfinite(one.samples[name]).all()
    assert (one.samples["sigma2[study_id]"] >= 0).all()
    assert (one.samples["I2"] <= 100).all()


@given(seeds, st.integers(3, 5), st.booleans())
def test_a_covariance_survives_being_turned(seed, q, pair):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(q, q))
    front = tuple(rng.permutation(q)[: 2 if pair else 1].tolist())
    G, structure = root @ root.T, Reordered(q, front)
    again = structure.matrices(structure.theta(G))[0]
    np.testing.assert_allclose(again, G, atol=1e-6 * np.trace(G))
    assert structure.n == Unstructured(q).n
