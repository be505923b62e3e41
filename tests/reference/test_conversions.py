"""Conversions to r against metafor's, and against values printed in psychmeta's tests."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta.core.correlations import conversions as one
from alliance_meta.core.correlations import conversions as two
from alliance_meta.effects import to_r
from tests.reference.reading import reference
from tests.tolerances import CLOSED_FORM, printed

pytestmark = pytest.mark.reference


def inputs(name):
    return {key: np.array(values, dtype=float) for key, values in reference("effect_sizes")[name]["input"].items()}


def same(found, name, measure, z_measure=None):
    block = reference("effect_sizes")[name]
    np.testing.assert_allclose(found.r, block[measure]["yi"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(found.var_r, block[measure]["vi"], rtol=CLOSED_FORM)
    if z_measure is not None:
        np.testing.assert_allclose(np.arctanh(found.r), block[z_measure]["yi"], rtol=CLOSED_FORM)
        np.testing.assert_allclose(found.var_z, block[z_measure]["vi"], rtol=CLOSED_FORM)


@pytest.fixture
def groups():
    x = inputs("twogroup")
    d = two.means_to_d(x["m1i"], x["sd1i"], x["n1i"], x["m2i"], x["sd2i"], x["n2i"])
    return d, x["n1i"], x["n2i"]


def test_two_groups_point_biserial_is_metafors_rpb_and_zpb(groups):
    same(two.from_d(*groups), "twogroup", "RPB", "ZPB")


def test_two_groups_biserial_is_metafors_rbis_and_zbis(groups):
    d, n1, n2 = groups
    same(two.from_split(two.d_to_r(d, two.split_factor(n1, n2)), n1, n2), "twogroup", "RBIS", "ZBIS")


def test_hedges_g_is_metafors_smd(groups):
    d, n1, n2 = groups
    g = np.array(reference("effect_sizes")["twogroup"]["SMD"]["yi"])
    np.testing.assert_allclose(two.g_to_d(g, n1 + n2 - 2), d, rtol=CLOSED_FORM)


@pytest.mark.parametrize(("measure", "scale"), [("D2ORL", two.LOGISTIC_SD), ("D2ORN", two.COX)])
def test_log_odds_are_metafors_both_ways(groups, measure, scale):
    log_or = np.array(reference("effect_sizes")["twogroup"][measure]["yi"])
    np.testing.assert_allclose(log_or / scale, groups[0], rtol=CLOSED_FORM)
    _, n1, n2 = groups
    var = np.array(reference("effect_sizes")["twogroup"][measure]["vi"])
    found = two.from_log_odds(log_or, n1, n2, np.sqrt(var), scale=scale)
    same(found, "twogroup", "RPB")


def test_t_and_p_are_metafors_cor_and_zcor():
    x = inputs("cor_from_t")
    same(one.from_t(x["ti"], x["ni"] - 2), "cor_from_t", "COR", "ZCOR")
    x = inputs("cor_from_p")
    tails = np.full(len(x["ni"]), 2.0)
    same(one.from_p(np.abs(x["pi"]), x["ni"] - 2, np.sign(x["pi"]), tails), "cor_from_p", "COR", "ZCOR")


def test_partial_and_semi_partial_are_metafors():
    x = inputs("partial")
    df = x["ni"] - x["mi"] - 1
    same(one.from_partial_t(x["ti"], df), "partial", "PCOR", "ZPCOR")
    same(one.from_semipartial_t(x["ti"], df, x["r2i"], x["ni"]), "partial", "SPCOR", "ZSPCOR")


# psychmeta/psychmeta on GitHub, tests/testthat/test-convert_es.R: inputs and printed r.
@pytest.mark.parametrize(
    ("es_type", "value", "cells", "r"),
    [
        ("t", -1.3, {"n1": 100, "n2": 140}, "-0.08396889"),
        ("f", 10.3, {"n1": 100, "n2": 150, "es_sign": 1}, "0.19969"),
        ("chi2", 1.3, {"n": 200, "es_sign": 1}, "0.08062258"),
    ],
)
def test_values_printed_by_psychmeta(es_type, value, cells, r):
    assert to_r(es_type, value, **cells).r == printed(r)


def test_psychmetas_odds_ratio_uses_four_for_equal_groups():
    """It has h = 4 where ours is 4 (n - 2) / n, the exact factor for the pooled standard deviation."""
    assert float(two.d_to_r(np.log(4.37) / two.LOGISTIC_SD, 4.0)) == printed("0.3766074")
    assert float(two.d_to_r(1.0, 4.0)) == printed("0.4472136")
    assert to_r("or", 4.37, n1=100, n2=100).r == pytest.approx(0.3766074, rel=0.005)
