"""Conversions that must lead back to where they came from."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alliance_meta import convert, escalc
from alliance_meta.core.correlations import conversions as one
from alliance_meta.core.correlations import conversions as two
from alliance_meta.core.correlations.pearson import r_to_z, z_to_r
from alliance_meta.effects import conversions
from alliance_meta.errors import AllianceMetaWarning, InputError
from tests import inverses

correlations = st.floats(-0.98, 0.98).filter(lambda r: abs(r) > 1e-6)
sizes = st.integers(5, 5000)
shares = st.floats(0.05, 0.5)


def back(there, r, *rest):
    assert float(there(*rest)) == pytest.approx(r, rel=1e-9)


@given(correlations, sizes)
def test_r_to_t_and_back(r, n):
    t = inverses.r_to_t(np.float64(r), n - 2)
    back(lambda t: one.from_t(t, np.float64(n - 2)).r, r, t)
    back(lambda F: one.from_f(F, np.float64(n - 2), np.sign(r)).r, r, t**2)
    back(lambda t: inverses.r_to_t(one.t_to_r(t, n - 2), n - 2), float(t), t)


@given(st.floats(-0.9, 0.9).filter(lambda r: abs(r) > 1e-3), st.integers(5, 200))
def test_r_to_p_and_back(r, n):
    t = float(inverses.r_to_t(np.float64(r), n - 2))
    for tails, p in ((2, 2 * stats.t.sf(abs(t), n - 2)), (1, stats.t.sf(abs(t), n - 2))):
        if p > 1e-290:
            found = one.from_p(np.float64(p), np.float64(n - 2), np.sign(r), np.float64(tails))
            assert float(found.r) == pytest.approx(r, rel=1e-7)


@given(correlations, sizes, sizes)
def test_r_to_d_and_back_for_groups_of_any_size(r, n1, n2):
    h = two.split_factor(np.float64(n1), np.float64(n2))
    d = inverses.r_to_d(np.float64(r), h)
    back(lambda d: two.d_to_r(d, h), r, d)
    assert float(inverses.r_to_d(np.float64(r), 4.0)) == pytest.approx(2 * r / np.sqrt(1 - r**2), rel=1e-12)


@given(correlations, sizes, st.sampled_from([two.LOGISTIC_SD, two.COX]))
def test_r_to_odds_ratio_and_back(r, n, scale):
    n1 = n2 = np.float64(n)
    log_or = scale * inverses.r_to_d(np.float64(r), two.split_factor(n1, n2))
    back(lambda x: two.from_log_odds(x, n1, n2, np.float64(0.2), scale=scale).r, r, log_or)


@given(correlations, sizes)
def test_rank_correlations_and_back(r, n):
    n = np.float64(n)
    back(lambda rho: one.from_spearman(rho, n).r, r, inverses.r_to_spearman(np.float64(r)))
    back(lambda tau: one.from_kendall(tau, n + 1).r, r, inverses.r_to_kendall(np.float64(r)))


@given(correlations, sizes, sizes, shares, shares)
def test_extreme_groups_and_back(r, n1, n2, upper, lower):
    d = inverses.extreme_groups_d(np.float64(r), n1, n2, upper, lower)
    back(lambda d: two.from_extreme_groups(d, n1, n2, upper, lower).r, r, d)


@given(correlations)
def test_r_to_z_and_back(r):
    back(z_to_r, r, r_to_z(np.float64(r)))


@given(st.floats(-3, 3), st.floats(0.02, 0.98))
def test_extreme_groups_that_leave_nobody_out_are_a_split(d, share):
    """With large groups in the shares' proportion, the biserial r and the extreme groups' r are one."""
    n1, n2 = 1e9 * share, 1e9 * (1 - share)
    extreme = two.from_extreme_groups(np.float64(d), n1, n2, share, 1 - share)
    split = two.from_split(two.d_to_r(np.float64(d), two.split_factor(n1, n2)), n1, n2)
    assert float(extreme.r) == pytest.approx(float(split.r), rel=1e-6, abs=1e-12)


@given(st.floats(-2, 2), sizes, sizes)
def test_a_t_test_of_two_groups_is_their_d(d, n1, n2):
    n1, n2 = np.float64(n1), np.float64(n2)
    t = d / np.sqrt(1 / n1 + 1 / n2)
    assert float(one.from_t(t, n1 + n2 - 2).r) == pytest.approx(float(two.from_d(np.float64(d), n1, n2).r), rel=1e-10)


@given(st.data())
def test_every_conversion_has_the_sign_of_its_statistic_and_a_positive_variance(data):
    name = data.draw(st.sampled_from(sorted(conversions().index)))
    cells = {
        "es_value": data.draw(st.floats(0.02, 0.45)), "es_se": 0.3, "n": 60, "n1": 25, "n2": 35, "df": 58, "r2": 0.5,
        "es_sign": data.draw(st.sampled_from([1, -1])), "m1": 5.0, "m2": 4.0, "sd1": 2.0, "sd2": 2.5,
        "p_upper": 0.3, "p_lower": 0.4,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        table = convert(pd.DataFrame([{"es_type": name, **cells}] * 2))
        effects = escalc(table)
    row = table.frame.iloc[0]
    assert -1 < row.r < 1
    assert row.r_var > 0
    assert row.z_var > 0
    if name in ("f", "p", "chi2", "eta2"):
        assert np.sign(row.r) == cells["es_sign"]
    expected = 1 / (row.n - 3) if row.es_calc == "reported" else row.z_var
    np.testing.assert_allclose(effects.vi, expected)


@given(
    st.dictionaries(
        st.sampled_from(["es_value", "n", "n1", "n2", "df", "es_sign", "es_se", "es_lb", "es_ub", "r2", "p_upper"]),
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.text(max_size=4), st.integers(-5, 99)),
    ),
    st.one_of(st.sampled_from(sorted(conversions().index)), st.text(max_size=6)),
)
def test_nothing_in_a_sheet_ends_in_a_traceback(cells, name):
    frame = None
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore", AllianceMetaWarning)
        frame = convert(pd.DataFrame([{"es_type": name, **cells}], dtype=object)).frame
    assert frame is None or frame["r"].isna().all() or (frame["r"].abs() < 1).all()
