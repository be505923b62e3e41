"""What inference by resampling and by likelihood must keep for any data."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alliance_meta import EffectSizes, RandomEffectsModel, bias, sensitivity
from alliance_meta.core import resampling
from alliance_meta.errors import AllianceMetaWarning
from tests.properties.test_invariants import effects

FEW = settings(max_examples=20)
FEWER = settings(max_examples=5)


def fit(y, v, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return RandomEffectsModel(EffectSizes.from_arrays(y, v), **options).fit()


@FEW
@given(effects, st.floats(0.1, 10))
def test_a_change_of_unit_or_sign_leaves_permutation_p_values(data, c):
    y, v = (part[:8] for part in data)
    one, two = (sensitivity.permutation_test(fit(a * y, a**2 * v, test="t"), exact=True) for a in (1.0, -c))
    np.testing.assert_allclose(one.pval, two.pval, atol=2 / 2 ** len(y) + 1e-12)
    assert one.pval[0] >= 2 / 2 ** len(y)


@FEWER
@given(effects, st.floats(-2, 2))
def test_a_shift_moves_likelihood_and_henmi_copas_intervals(data, c):
    y, v = data
    one, two = (sensitivity.lr_test(fit(y + a, v), value=a).tidy() for a in (0.0, c))
    for name in ("pval", "stat"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6)
    for name in ("estimate", "ci_lb", "ci_ub"):
        np.testing.assert_allclose(one[name] + c, two[name], rtol=1e-5, atol=1e-6)
    plain, moved = bias.hc(fit(y, v)), bias.hc(fit(y + c, v))
    np.testing.assert_allclose([plain.ci_lb + c, plain.ci_ub + c], [moved.ci_lb, moved.ci_ub], rtol=1e-8, atol=1e-8)


@FEWER
@given(effects)
def test_likelihood_intervals_hold_their_estimate_and_a_larger_level_holds_them(data):
    y, v = data
    model = fit(y, v)
    narrow, wide = (sensitivity.lr_test(model, level=level).tidy().loc["intrcpt"] for level in (0.8, 0.95))
    for how in ("none", "bartlett"):
        assert wide["ci_lb"][how] < narrow["ci_lb"][how] < narrow["estimate"][how]
        assert narrow["estimate"][how] < narrow["ci_ub"][how] < wide["ci_ub"][how]


@FEW
@given(effects, st.floats(0.1, 10), st.sampled_from(["ML", "REML"]))
def test_unequal_heterogeneity_has_no_unit(data, c, method):
    y, v = data
    one, two = (sensitivity.hettest(fit(a * y, a**2 * v, method=method)).stat for a in (1.0, c))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@FEW
@given(effects, st.integers(0, 2**31), st.sampled_from(["parametric", "nonparametric"]))
def test_bootstrap_samples_are_numbers_and_heterogeneity_is_within_its_range(data, seed, kind):
    y, v = data
    boot = sensitivity.bootstrap(fit(y, v), kind=kind, iterations=30, seed=seed)
    assert all(np.isfinite(values).all() for values in boot.samples.values())
    assert (boot.samples["tau2"] >= 0).all()
    assert (boot.samples["I2"] >= 0).all()
    assert (boot.samples["I2"] <= 100).all()
    assert (boot.samples["H2"] >= 1).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_arrangements_are_as_many_as_counted_and_all_different(labels):
    group = np.unique(labels, return_inverse=True)[1]
    found = resampling.arrangements(group)
    assert len(found) == resampling.number_of_arrangements(group)
    placed = np.empty_like(found)
    np.put_along_axis(placed, found.astype(int), np.broadcast_to(group, found.shape).astype(placed.dtype), axis=1)
    assert len(np.unique(placed, axis=0)) == len(found)
