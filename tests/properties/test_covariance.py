"""What must hold for any sampling covariance."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alliance_meta as am
from alliance_meta.core.dependent import nearest_correlation
from alliance_meta.errors import NotPositiveDefiniteWarning
from tests.tolerances import CLOSED_FORM

TYPES = "xyz"


@st.composite
def tables(draw):
    k = draw(st.integers(1, 12))

    def each(values):
        return draw(st.lists(values, min_size=k, max_size=k))

    return am.EffectSizes.from_arrays(
        np.zeros(k),
        each(st.floats(0.001, 1)),
        study_id=each(st.sampled_from("ABCD")),
        mods={
            "t": each(st.sampled_from(TYPES)),
            "when": each(st.integers(0, 5)),
            "sample": each(st.integers(1, 2)),
            "number": range(k),
        },
    )


@st.composite
def options(draw):
    """Return arguments whose correlations data can have, whatever the clusters."""
    chosen = {"rho": draw(st.floats(0, 0.99))}
    if draw(st.booleans()):
        different = draw(st.floats(0, 0.99))
        chosen |= {"type": "t", "rho": (draw(st.floats(different, 0.99)), different)}
    if draw(st.booleans()):
        chosen |= {"time": "when", "phi": draw(st.floats(0, 1))}
    if draw(st.booleans()):
        chosen |= {"subgroup": "sample"}
    return chosen


def naive(es, chosen):
    """Return V by the definition, pair by pair."""
    rows = es.frame.to_dict("records")
    V = np.zeros((es.k, es.k))
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            rho = chosen["rho"]
            if "type" in chosen:
                rho = rho[0] if a["t"] == b["t"] else rho[1]
            if "time" in chosen:
                rho *= chosen["phi"] ** abs(a["when"] - b["when"])
            if a["study_id"] != b["study_id"] or ("subgroup" in chosen and a["sample"] != b["sample"]):
                rho = 0.0
            V[i, j] = (1.0 if i == j else rho) * np.sqrt(a["vi"] * b["vi"])
    return V


@given(tables(), options())
def test_the_matrix_is_its_definition(es, chosen):
    V = am.impute_V(es, **chosen)
    dense = V.to_dense()
    np.testing.assert_allclose(dense, naive(es, chosen), rtol=CLOSED_FORM, atol=0)
    np.testing.assert_array_equal(dense, dense.T)
    np.testing.assert_array_equal(np.diag(dense), es.vi)
    assert np.linalg.eigvalsh(dense)[0] > 0


@given(tables(), options(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(es, chosen, random):
    order = list(range(es.k))
    random.shuffle(order)
    V, shuffled = am.impute_V(es, **chosen), am.impute_V(es.take(order), **chosen)
    np.testing.assert_array_equal(shuffled.to_dense(), V.to_dense()[np.ix_(order, order)])
    np.testing.assert_array_equal(V.take(order).to_dense(), shuffled.to_dense())


@given(tables(), options())
def test_a_dense_copy_is_the_same_covariance(es, chosen):
    V = am.impute_V(es, **chosen)
    copy = am.effects.SamplingCovariance.from_matrix(V.to_dense())
    np.testing.assert_array_equal(copy.to_dense(), V.to_dense())
    blocks = am.effects.SamplingCovariance.from_blocks([part for _, values in V.blocks for part in values])
    rows = np.concatenate([stack.ravel() for stack, _ in V.blocks])
    np.testing.assert_array_equal(blocks.to_dense(), V.block(rows))


@given(tables(), st.floats(-1, 1))
def test_one_rho_holds_exactly_where_its_bound_says(es, rho):
    largest = max(np.unique(es.study_id, return_counts=True)[1])
    # Too near the bound to call.
    if largest > 1 and min(abs(1 - rho), abs(1 + (largest - 1) * rho)) < 1e-12:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
        V = am.impute_V(es, rho=rho, check="warn")
    assert V.is_positive_definite == (largest == 1 or -1 / (largest - 1) < rho < 1)


@given(st.integers(2, 6), st.integers(0, 10_000))
def test_the_nearest_matrix_is_nearer_than_any_other(m, seed):
    rng = np.random.default_rng(seed)
    R = np.triu(rng.uniform(-1, 1, (m, m)), 1)
    R = R + R.T + np.eye(m)
    near = nearest_correlation(R[None])[0]
    np.testing.assert_array_equal(np.diag(near), 1)
    assert np.linalg.eigvalsh(near)[0] > 0
    # The set is convex: a step from the nearest towards any member leads away from R.
    A = rng.normal(size=(m, m))
    other = np.corrcoef(A @ A.T + np.eye(m))
    assert np.sum((near - R) * (other - near)) > -1e-5


@given(st.integers(3, 5), st.integers(10, 400), st.integers(0, 10_000))
def test_covariances_of_correlations_are_positive_definite(p, n, seed):
    R = np.corrcoef(np.random.default_rng(seed).normal(size=(p, p + 3)))
    R = 0.5 * (R + R.T)
    np.fill_diagonal(R, 1.0)
    effects, V = am.effects.rcalc(R, ni=n)
    assert V.is_positive_definite
    assert effects.vi == pytest.approx(np.full(p * (p - 1) // 2, 1 / (n - 3)), rel=CLOSED_FORM)
