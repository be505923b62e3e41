"""`escalc` against metafor's `escalc`, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import InputError, escalc, load_dataset
from alliance_meta.effects.escalc import VTYPES
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
