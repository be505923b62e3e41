"""What must hold for any effects that are averaged: Hypothesis looks for counterexamples."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alliance_meta import EffectSizes, aggregate
from alliance_meta.core.dependent import SamplingCovariance
from alliance_meta.effects import select_effects
from tests.tolerances import CLOSED_FORM

HOWS = st.sampled_from(["mean", "CS", "gleser-olkin", "composite"])
RHO = st.sampled_from([-0.05, 0.0, 0.25, 0.5, 0.8, 0.97])


@st.composite
def tables(draw, measure="ZCOR", alone=False):
    k = draw(st.integers(1, 16))
    r = draw(st.lists(st.integers(-60, 60), min_size=k, max_size=k))
    n = draw(st.lists(st.integers(8, 300), min_size=k, max_size=k))
    studies = range(k) if alone else draw(st.lists(st.integers(0, 5), min_size=k, max_size=k))
    r, n = np.array(r) / 100, np.array(n)
    y, v = (np.arctanh(r), 1 / (n - 3)) if measure == "ZCOR" else (r, (1 - r**2) ** 2 / (n - 1))
    names = [f"S{i}" for i in studies]
    mods = {"row": range(k)}
    return EffectSizes.from_arrays(y, v, ni=n, mods=mods, study_id=names, slab=names, measure=measure)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@settings(max_examples=15)
@given(tables(alone=True), HOWS, RHO)
def test_one_effect_per_study_is_left_alone(es, how, rho):
    one = aggregate(es, how=how, rho=rho)
    np.testing.assert_allclose(one.yi, es.yi, rtol=CLOSED_FORM)
    np.testing.assert_allclose(one.vi, es.vi, rtol=CLOSED_FORM)
    assert one.frame.equals(es.frame)


@settings(max_examples=15)
@given(tables(), HOWS, RHO)
def test_averaging_twice_is_averaging_once(es, how, rho):
    one = aggregate(es, how=how, rho=rho)
    again = aggregate(one, how=how, rho=rho)
    assert (again.yi == one.yi).all()
    assert (again.vi == one.vi).all()
    assert again.slab == one.slab


@settings(max_examples=15)
@given(tables(), HOWS, RHO, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(es, how, rho, random):
    order = list(range(es.k))
    random.shuffle(order)
    one, two = aggregate(es, how=how, rho=rho), aggregate(es.take(order), how=how, rho=rho)
    place = [two.study_id.index(study) for study in one.study_id]
    close(one.yi, two.yi[place])
    close(one.vi, two.vi[place])


@settings(max_examples=15)
@given(tables(), st.sampled_from(["mean", "CS"]), RHO)
def test_the_short_form_is_that_of_the_full_matrix(es, how, rho):
    same = np.array(es.study_id)[:, None] == np.array(es.study_id)
    V = np.where(np.eye(es.k, dtype=bool), 1.0, np.where(same, rho, 0.0)) * np.outer(es.sei, es.sei)
    short = aggregate(es, how=how, rho=rho)
    dense = aggregate(es, how=how, V=V)
    blocks = aggregate(es, how=how, V=SamplingCovariance.from_matrix(V, cluster=es.study_id))
    for other in (dense, blocks):
        close(short.yi, other.yi)
        close(short.vi, other.vi)


@settings(max_examples=15)
@given(tables(), RHO)
def test_least_variance_is_the_least(es, rho):
    plain, best = aggregate(es, rho=rho), aggregate(es, rho=rho, how="CS")
    assert (best.vi <= plain.vi * (1 + 1e-12)).all()


@settings(max_examples=15)
@given(tables())
def test_the_plain_mean_of_more_alike_effects_is_less_certain(es):
    variances = [aggregate(es, rho=rho).vi for rho in (0, 0.3, 0.6, 0.9, 1)]
    assert (np.diff(variances, axis=0) >= -1e-15).all()


@settings(max_examples=15)
@given(tables(measure="COR"))
def test_a_composite_at_perfect_correlation_is_the_mean_and_else_no_smaller(es):
    mean = aggregate(es, rho=0.5).yi
    close(aggregate(es, rho=1, how="composite").yi, mean)
    assert (np.abs(aggregate(es, rho=0.9, how="composite").yi) >= np.abs(mean) - 1e-12).all()


@settings(max_examples=15)
@given(tables())
def test_a_constant_added_to_every_effect_moves_the_average_by_as_much(es):
    moved = EffectSizes.from_arrays(es.yi + 0.7, es.vi, study_id=es.study_id)
    for how in ("mean", "CS"):
        close(aggregate(moved, how=how).yi, aggregate(es, how=how).yi + 0.7)


@settings(max_examples=15)
@given(tables(), st.permutations(range(16)))
def test_a_selection_takes_one_row_of_each_study_and_changes_nothing(es, order):
    out = select_effects(es, by={"row": list(order)})
    assert sorted(out.study_id) == sorted(set(es.study_id))
    for i, row in enumerate(out.moderators["row"]):
        assert out.yi[i] == es.yi[row]
        rivals = [other for other, study in enumerate(es.study_id) if study == out.study_id[i]]
        assert order.index(row) == min(order.index(other) for other in rivals)
