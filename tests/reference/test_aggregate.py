"""`aggregate` against metafor's, and against the aggregates that Maassen et al. (2020) computed with MAc and MAd."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alliance_meta import aggregate, escalc, impute_V, load_dataset
from alliance_meta.core.dependent import gleser_olkin
from alliance_meta.effects import SamplingCovariance
from tests.reference.reading import numbers, reference
from tests.tolerances import CLOSED_FORM

HOW = {"composite": "composite", "GO1": "gleser-olkin"}
with (Path(__file__).parent / "aggregation_maassen2020.csv").open(encoding="utf-8") as file:
    MAASSEN = list(csv.DictReader(file))


@pytest.fixture(scope="module", params=["ZCOR", "COR"])
def crede(request):
    return escalc(load_dataset("crede2010"), measure=request.param)


def agree(ours, theirs):
    np.testing.assert_allclose(ours.yi, numbers(theirs["yi"]), rtol=CLOSED_FORM)
    np.testing.assert_allclose(ours.vi, numbers(theirs["vi"]), rtol=CLOSED_FORM)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("rho", [-0.1, 0, 0.3, 0.6, 0.95])
def test_one_correlation_for_all(crede, rho, weighted):
    theirs = reference("aggregate")[crede.measure][f"CS_{rho:g}_{str(weighted).upper()}"]
    agree(aggregate(crede, rho=rho, how="CS", weighted=weighted), theirs)
    if not weighted:
        agree(aggregate(crede, rho=rho, how="mean"), theirs)


def test_independent_effects(crede):
    agree(aggregate(crede, rho=0, how="CS"), reference("aggregate")[crede.measure]["ID"])
    agree(aggregate(crede, rho=0), reference("aggregate")[crede.measure]["ID_FALSE"])


def test_clusters_by_two_columns(crede):
    ours = aggregate(crede, cluster=["study_id", "sampleid"], rho=0.5, how="CS")
    agree(ours, reference("aggregate")[crede.measure]["sample_0.5"])
    assert ours.k > len(set(crede.study_id))


def test_a_correlation_for_each_study(crede):
    studies = list(dict.fromkeys(crede.study_id))
    rhos = dict(zip(studies, np.linspace(0, 0.6, len(studies)), strict=True))
    agree(aggregate(crede, rho=rhos, how="CS"), reference("aggregate")[crede.measure]["varying"])


@pytest.mark.parametrize("kind", ["imputed", "dense", "taken over"])
def test_a_covariance_matrix(crede, kind):
    V = impute_V(crede, type="sampleid", rho=(0.7, 0.2))
    V = {"imputed": V, "dense": V.to_dense(), "taken over": SamplingCovariance.from_matrix(V.to_dense())}[kind]
    for how in ("CS", "mean"):
        theirs = reference("aggregate")[crede.measure][f"V_{str(how == 'CS').upper()}"]
        agree(aggregate(crede, how=how, V=V), theirs)


@pytest.mark.parametrize("measure", ["ZCOR", "COR"])
@pytest.mark.parametrize("row", MAASSEN, ids=[row["study"] for row in MAASSEN])
def test_maassen(row, measure):
    r = [float(value) for value in row["r_values"].split(";")]
    sheet = pd.DataFrame({"study": row["study"], "r": r, "n": int(row["n"])})
    es = aggregate(escalc(sheet, measure=measure), rho=float(row["rho"]), how=HOW[row["method"]])
    assert es.k == 1
    assert es.slab == (row["study"],)
    ours = np.tanh(es.yi[0]) if measure == "ZCOR" else es.yi[0]
    assert ours == pytest.approx(float(row["r_expected"]), abs=1e-12)


def test_all_twelve_aggregates_are_compared():
    assert sorted(HOW[row["method"]] for row in MAASSEN) == ["composite"] * 3 + ["gleser-olkin"] * 9


def test_gleser_olkin_variance():
    theirs = reference("aggregate")["gleser_olkin"]
    n, rho = (np.array([theirs[name]], dtype=float) for name in ("n", "rho"))
    d, v, _ = gleser_olkin(numbers(theirs["d"])[None], n, rho)
    assert d[0] == pytest.approx(theirs["b"], rel=CLOSED_FORM)
    assert v[0] == pytest.approx(theirs["v"], rel=CLOSED_FORM)
