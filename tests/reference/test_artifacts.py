"""Hunter and Schmidt's corrections against numbers made in R."""

from __future__ import annotations

import pandas as pd
import pytest

from alliance_meta import RandomEffectsModel, escalc
from alliance_meta.effects import correct_artifacts
from alliance_meta.sensitivity import hunter_schmidt
from tests.reference.reading import reference
from tests.tolerances import CLOSED_FORM, OPTIMISER

pytestmark = pytest.mark.reference

KNOWN = {"rel_alliance": "rxx", "rel_outcome": "ryy"}


@pytest.fixture
def sheet():
    columns = {name: reference("artifacts")[name] for name in ("r", "n", "rxx", "ryy")}
    return pd.DataFrame({"study": range(len(columns["r"])), **columns})


def compare(row, block, **names):
    for name, value in block.items():
        assert row[names.get(name, name)] == pytest.approx(value, rel=CLOSED_FORM), name


@pytest.mark.parametrize("measure", ["COR", "ZCOR"])
@pytest.mark.parametrize("method", ["individual", "distribution"])
def test_hunter_schmidt(sheet, measure, method):
    rows = hunter_schmidt(escalc(sheet, measure=measure), **KNOWN, method=method).tidy()
    compare(rows.loc["as observed"], reference("artifacts")["bare"], mean="estimate")
    compare(rows.loc["corrected"], reference("artifacts")[method], mean="estimate")


def test_corrected_effects_in_a_model(sheet):
    expected = reference("artifacts")["reml"]
    fit = RandomEffectsModel(correct_artifacts(escalc(sheet, measure="COR"), **KNOWN), test="z").fit()
    found = (fit.beta[0], fit.tau2, fit.ci_lb[0], fit.ci_ub[0])
    assert found == pytest.approx(tuple(expected.values()), rel=OPTIMISER)


def test_corrected_fisher_z_in_a_model(sheet):
    expected = reference("artifacts")["reml_z"]
    fit = RandomEffectsModel(correct_artifacts(escalc(sheet), **KNOWN)).fit()
    assert (fit.beta[0], fit.tau2) == pytest.approx((expected["beta"], expected["tau2"]), rel=OPTIMISER)
