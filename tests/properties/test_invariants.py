"""What must hold for any data: Hypothesis looks for counterexamples."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.core.correlations.pearson import r_to_z, z_to_r
from alliance_meta.core.univariate.fit import ESTIMATORS
from alliance_meta.effects.table import unique_labels
from alliance_meta.errors import AllianceMetaWarning

# Searches stop at 1e-14 of the scale of the data; a transformed problem stops elsewhere within that.
SAME = 1e-8

effects = st.integers(3, 25).flatmap(
    lambda k: st.tuples(
        arrays(float, k, elements=st.floats(-1.5, 1.5, allow_subnormal=False).map(lambda x: round(x, 4))),
        arrays(float, k, elements=st.floats(0.001, 0.5).map(lambda x: round(x, 5))),
    )
)
methods = st.sampled_from(sorted(ESTIMATORS))
inferences = st.sampled_from(["z", "t", "knha", "adhoc"])


def fit(y, v, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return RandomEffectsModel(EffectSizes.from_arrays(y, v), **options).fit()


def close(a, b, scale=1.0):
    np.testing.assert_allclose(a, b, rtol=SAME, atol=SAME * scale)


@given(effects, methods, inferences, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(data, method, test, random):
    y, v = data
    order = list(range(len(y)))
    random.shuffle(order)
    one, two = fit(y, v, method=method, test=test), fit(y[order], v[order], method=method, test=test)
    close(one.beta, two.beta)
    close(one.tau2, two.tau2)
    close(one.weights[order], two.weights, 100)


@given(effects, methods, st.floats(-2, 2))
def test_a_shift_moves_the_mean_and_nothing_else(data, method, c):
    y, v = data
    one, two = fit(y, v, method=method), fit(y + c, v, method=method)
    close(one.beta + c, two.beta)
    close(one.tau2, two.tau2)
    close(one.QE, two.QE, one.QE + 1)


@given(effects, methods, st.floats(0.1, 10))
def test_a_change_of_unit_rescales(data, method, c):
    y, v = data
    one, two = fit(y, v, method=method, test="z"), fit(c * y, c**2 * v, method=method, test="z")
    close(c * one.beta, two.beta, c)
    close(c**2 * one.tau2, two.tau2, c**2)
    close(one.I2, two.I2, 100)


@given(effects, methods)
def test_a_row_split_in_two_counts_as_before_at_the_same_tau2(data, method):
    """Two copies of a row, each with half its weight, are the row."""
    y, v = data
    tau2 = fit(y, v, method=method).tau2
    half = 2 * v[0] + tau2
    one = fit(y, v, method=method, tau2=tau2, test="z")
    two = fit(np.append(y, y[0]), np.append(np.append(half, v[1:]), half), method=method, tau2=tau2, test="z")
    close(one.beta, two.beta)
    close(one.se, two.se)


@given(effects, methods)
def test_a_row_that_says_nothing_changes_nothing_at_the_same_tau2(data, method):
    y, v = data
    tau2 = fit(y, v, method=method).tau2
    one = fit(y, v, method=method, tau2=tau2, test="z")
    two = fit(np.append(y, 0.7), np.append(v, 1e12), method=method, tau2=tau2, test="z")
    close(one.beta, two.beta)


@given(effects, methods, inferences)
def test_everything_stays_in_its_range(data, method, test):
    y, v = data
    result = fit(y, v, method=method, test=test)
    assert result.tau2 >= 0
    assert 0 <= result.I2 <= 100
    assert 0 <= result.I2_Q < 100
    assert result.H2 >= 0
    assert np.isclose(result.weights.sum(), 100)
    assert (result.ci_lb <= result.beta).all()
    assert (result.beta <= result.ci_ub).all()
    if method != "EE":
        row = result.predict().iloc[0]
        assert row.pi_lb <= row.ci_lb
        assert row.ci_ub <= row.pi_ub
        interval = result.confint_tau2()
        assert 0 <= interval.lb <= interval.ub
    assert result.fitted.tau2.converged.all()


@given(st.floats(-0.9999, 0.9999))
def test_r_to_z_and_back(r):
    assert float(z_to_r(r_to_z(np.array(r)))) == pytest.approx(r, rel=1e-12, abs=1e-15)


@given(st.lists(st.sampled_from(["A 2001", "B", "A 2001a", "B a", ""]), min_size=1, max_size=60))
def test_labels_become_unique_and_stay_recognisable(labels):
    made = unique_labels(labels)
    assert len(set(made)) == len(labels)
    assert all(new.startswith(old) for new, old in zip(made, labels, strict=True))
