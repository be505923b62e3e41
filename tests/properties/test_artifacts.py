"""What any correction for artifacts must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alliance_meta.core.correlations import artifacts as core

correlations = st.floats(-0.9, 0.9)
reliabilities = st.floats(0.3, 1.0)
shares = st.floats(0.05, 0.95)
kinds = st.sampled_from(["direct", "indirect"])


def made(rxx, ryy, p, q, u, kind):
    split_x, split_y = core.dichotomy(np.array([p])), core.dichotomy(np.array([q]))
    found = core.steps(np.array([rxx]), np.array([ryy]), split_x, split_y, np.array([u]), kind=kind)
    assume(np.isfinite(found.u[0]) and found.inner[0] > 0.05 and found.u[0] > 0.05)
    return found


@given(correlations, reliabilities, reliabilities, shares, shares, st.floats(0.3, 1.5), kinds)
def test_correcting_undoes_attenuating(rho, rxx, ryy, p, q, u, kind):
    by = made(rxx, ryy, p, q, u, kind)
    observed = core.attenuate(np.array([rho]), by)
    found = core.correct(observed, by)
    assert found.rho[0] == pytest.approx(rho, rel=1e-9, abs=1e-12)
    assert found.attenuation[0] * rho == pytest.approx(observed[0], rel=1e-9, abs=1e-12)


@given(correlations, reliabilities, reliabilities, shares, st.floats(0.4, 1.3), kinds)
def test_the_slope_is_the_derivative(r, rxx, ryy, p, u, kind):
    by = made(rxx, ryy, p, 0.5, u, kind)
    step = 1e-6
    assume(np.isfinite(core.correct(np.array([abs(r) + 1e-3]), by).rho[0]))
    up, down = (core.correct(np.array([r + change]), by).rho[0] for change in (step, -step))
    assert core.correct(np.array([r]), by).slope[0] == pytest.approx((up - down) / (2 * step), rel=1e-5)


@given(correlations, reliabilities, reliabilities)
def test_without_range_restriction_both_cases_divide_by_the_root_of_the_reliabilities(r, rxx, ryy):
    for kind in ("direct", "indirect"):
        one = np.ones(1)
        found = core.correct(np.array([r]), core.steps(np.array([rxx]), np.array([ryy]), one, one, one, kind=kind))
        assert found.rho[0] == pytest.approx(r / np.sqrt(rxx * ryy), rel=1e-12)
        assert found.slope[0] == pytest.approx(1 / np.sqrt(rxx * ryy), rel=1e-12)


@given(correlations, st.floats(0.3, 0.99))
def test_case_two_is_thorndikes_formula(r, u):
    one = np.ones(1)
    found = core.correct(np.array([r]), core.steps(one, one, one, one, np.array([u])))
    U = 1 / u
    assert found.rho[0] == pytest.approx(U * r / np.sqrt(1 + r**2 * (U**2 - 1)), rel=1e-12)


@given(reliabilities, st.floats(0.4, 1.5))
def test_reliability_in_sample_and_population_are_inverses(rxx, u):
    there = core.unrestricted_reliability(np.array([rxx]), np.array([u]))
    assert core.restricted_reliability(there, np.array([u]))[0] == pytest.approx(rxx, rel=1e-9)


@given(st.floats(0.05, 0.99), st.integers(1, 50), st.integers(1, 50))
def test_spearman_brown_step_by_step_is_one_step(rel, m, n):
    once = core.spearman_brown(rel, np.array(m * n))
    twice = core.spearman_brown(float(core.spearman_brown(rel, np.array(m))), np.array(n))
    assert once == pytest.approx(float(twice), rel=1e-10)
    classic = m * rel / (1 + (m - 1) * rel)
    assert core.spearman_brown(rel, np.array(m)) == pytest.approx(classic, rel=1e-12)


@given(st.lists(st.tuples(st.floats(-0.6, 0.6), st.integers(10, 400)), min_size=2, max_size=12), reliabilities)
def test_one_value_for_all_rows_gives_the_same_by_row_and_by_distribution(rows, rel):
    r, n = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    one, full = np.ones_like(r), np.full_like(r, rel)
    fixed, point = core.Distribution(np.ones(1), np.ones(1)), core.Distribution(np.array([rel]), np.ones(1))
    assume(abs(core.bare_bones(r, n).mean) < 0.95 * np.sqrt(rel))
    by_row = core.individual(r, n, core.correct(r, core.steps(full, one, one, one, one)))
    by_distribution = core.by_distribution(r, n, rxx=point, ryy=fixed, split_x=fixed, split_y=fixed, u=fixed)
    for name in ("mean", "se", "var_total", "var_error", "var_true"):
        np.testing.assert_allclose(getattr(by_row, name), getattr(by_distribution, name), rtol=1e-8, atol=1e-12)
