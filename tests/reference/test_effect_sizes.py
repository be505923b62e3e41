"""`escalc` against metafor's `escalc`, row by row."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from alliance_meta import InputError, escalc, load_dataset
from alliance_meta.core.correlations.pearson import unbiased_r, var_r
from alliance_meta.effects.sizes import VTYPES
from tests.reference.reading import DATASETS, MEASURES, numbers, reference
from tests.tolerances import CLOSED_FORM

pytestmark = pytest.mark.reference

GRID = [
    (dataset, measure, vtype)
    for dataset in DATASETS
    for measure in MEASURES
    for vtype in ("LS", "AV", "UB")
    if "error" not in reference("effect_sizes")[dataset][f"{measure}_{vtype}"]
]


def test_the_grid_does_not_shrink():
    assert len(GRID) == 3 * (2 + 2 + 3)


@pytest.mark.parametrize(("dataset", "measure", "vtype"), GRID)
def test_effects_and_variances(dataset, measure, vtype):
    expected = reference("effect_sizes")[dataset][f"{measure}_{vtype}"]
    vtype = "LS" if measure == "ZCOR" else vtype
    es = escalc(load_dataset(dataset), measure=measure, vtype=vtype)
    np.testing.assert_allclose(es.yi, numbers(expected["yi"]), rtol=CLOSED_FORM, atol=1e-15)
    np.testing.assert_allclose(es.vi, numbers(expected["vi"]), rtol=CLOSED_FORM)


def test_the_variance_under_no_correlation_needs_no_reference():
    es = escalc(load_dataset("molloy2014"), measure="COR", vtype="H0")
    np.testing.assert_array_equal(es.vi, 1.0 / (es.ni - 1.0))


@pytest.mark.parametrize(("measure", "vtype"), [("COR", "UB"), ("UCOR", "H0"), ("ZCOR", "AV")])
def test_variances_a_measure_does_not_have_are_refused(measure, vtype):
    with pytest.raises(InputError, match=f"{vtype}.*is not defined for {measure}; use {' or '.join(VTYPES[measure])}"):
        escalc(load_dataset("molloy2014"), measure=measure, vtype=vtype)


def series(a, c, x):
    """2F1(a, a; c; x) to the digits of the decimal context."""
    total = term = Decimal(1)
    j = 0
    while abs(term) > Decimal("1e-60"):
        term *= (a + j) ** 2 * x / ((c + j) * (j + 1))
        total += term
        j += 1
    return total


@pytest.mark.parametrize(("r", "n"), [(0.9999, 100), (0.3, 10**7), (0.5, 10**9), (0.99, 8), (-0.999, 25), (0.6, 60)])
def test_the_unbiased_variance_keeps_its_digits_where_it_is_tiny(r, n):
    with localcontext(prec=70):
        exact_r = Decimal(r)
        x = 1 - exact_r**2
        e = exact_r * series(Decimal("0.5"), Decimal(n - 2) / 2, x)
        exact = float(e**2 - 1 + Decimal(n - 3) / (n - 2) * x * series(Decimal(1), Decimal(n) / 2, x))
    found = float(var_r(np.array([r]), np.array([n]), vtype="UB", estimate=unbiased_r(np.array([r]), np.array([n])))[0])
    assert found == pytest.approx(exact, rel=CLOSED_FORM)
