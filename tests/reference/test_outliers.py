"""Baujat, radial and normal quantile plots and GOSH against metafor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import sensitivity
from tests.reference.reading import DATASETS, numbers, reference
from tests.tolerances import CLOSED_FORM, OPTIMISER

pytestmark = pytest.mark.reference
MODELS: dict[str, dict[str, Any]] = {
    "REML": {"test": "z"},
    "EE": {"test": "z", "method": "EE"},
    "knha": {"test": "knha", "method": "DL"},
    "weights": {"test": "z"},
    "regression": {"test": "z", "mods": "n"},
}
CASES = [(name, model) for name in DATASETS for model in MODELS]
BOOK = {"REML": OPTIMISER, "weights": OPTIMISER, "regression": OPTIMISER}


def fit(name: str, model: str) -> am.models.RandomEffectsResults:
    found = reference(f"{name}_ZCOR")
    size = np.sqrt(numbers(found["ni"]))
    es = am.EffectSizes.from_arrays(found["yi"], found["vi"], mods={"n": size}, measure="ZCOR")
    more = {"weights": size} if model == "weights" else {}
    return am.RandomEffectsModel(es, **MODELS[model], **more).fit()


@pytest.mark.parametrize(("name", "model"), CASES)
def test_baujat_is_metafors(name: str, model: str) -> None:
    expected = reference("outliers")["plots"][name][model]["baujat"]
    found = sensitivity.baujat(fit(name, model))
    near = BOOK.get(model, CLOSED_FORM)
    np.testing.assert_allclose(found.x, numbers(expected["x"]), rtol=near, atol=1e-9)
    np.testing.assert_allclose(found.y, numbers(expected["y"]), rtol=near, atol=1e-9)


@pytest.mark.parametrize("name", DATASETS)
def test_baujat_is_that_of_the_shared_reference(name: str) -> None:
    expected = reference(f"{name}_ZCOR")["baujat"]
    found = sensitivity.baujat(fit(name, "REML"))
    np.testing.assert_allclose(found.x, numbers(expected["x"]), rtol=OPTIMISER, atol=1e-9)
    np.testing.assert_allclose(found.y, numbers(expected["y"]), rtol=OPTIMISER, atol=1e-9)


@pytest.mark.parametrize(("name", "model"), CASES)
@pytest.mark.parametrize("type_", ["rstandard", "rstudent"])
def test_quantiles_and_residuals_are_metafors(name: str, model: str, type_: Any) -> None:
    expected = reference("outliers")["plots"][name][model][type_]
    found = sensitivity.qqnorm(fit(name, model), type=type_, seed=1, iterations=2)
    # metafor gives x in the order of the points: both are sorted.
    near = BOOK.get(model, CLOSED_FORM)
    np.testing.assert_allclose(found.x, np.sort(numbers(expected["x"])), rtol=CLOSED_FORM, atol=1e-12)
    np.testing.assert_allclose(found.y, np.sort(numbers(expected["y"])), rtol=near, atol=1e-9)


@pytest.mark.parametrize(("name", "model"), [case for case in CASES if case[1] in ("REML", "EE", "knha")])
def test_radial_is_metafors(name: str, model: str) -> None:
    expected = reference("outliers")["plots"][name][model]["radial"]
    found = sensitivity.radial(fit(name, model))
    near = BOOK.get(model, CLOSED_FORM)
    np.testing.assert_allclose(found.x, numbers(expected["x"]), rtol=near)
    np.testing.assert_allclose(found.y, numbers(expected["y"]), rtol=near, atol=1e-9)


@pytest.mark.parametrize("data", ["eight", "outlier"])
@pytest.mark.parametrize("method", ["REML", "DL", "EE"])
def test_gosh_is_that_of_brute_force(data: str, method: str) -> None:
    known = reference("outliers")["gosh"][data]
    es = am.EffectSizes.from_arrays(known["yi"], known["vi"], measure="ZCOR")
    found = sensitivity.gosh(am.RandomEffectsModel(es, method=method).fit())
    sample = found.sample()
    assert found.subsets == len(sample) == 255
    codes = sample[list(found.labels)].to_numpy() @ 2 ** np.arange(8)
    order = np.argsort(numbers(known[method]["incl"]))
    assert codes.tolist() == list(range(1, 256))
    names = {"k": "k", "QE": "QE", "I2": "I2", "tau2": "tau2", "mu": "estimate"}
    for ours, theirs in names.items():
        expected = numbers(known[method]["res"][theirs])[order]
        near = 1e-8 if method != "REML" else OPTIMISER
        np.testing.assert_allclose(sample[ours], expected, rtol=near, atol=near * 10 if ours == "I2" else near)


def test_each_study_s_presence_is_that_of_brute_force() -> None:
    known = reference("outliers")["gosh"]["outlier"]
    es = am.EffectSizes.from_arrays(known["yi"], known["vi"], measure="ZCOR")
    found = sensitivity.gosh(am.RandomEffectsModel(es, method="DL").fit())
    incl, res = numbers(known["DL"]["incl"]).astype(int), known["DL"]["res"]
    table = found.tidy()
    for quantity, suffix in (("estimate", "mu"), ("I2", "I2")):
        values = numbers(res[quantity])
        for i in range(8):
            inside = (incl >> i) & 1 > 0
            p, with_, without = inside.mean(), values[inside].mean(), values[~inside].mean()
            share = p * (1 - p) * (with_ - without) ** 2 / values.var()
            row = table.iloc[i]
            name = "share" if suffix == "mu" else "share_I2"
            assert row[f"{suffix}_with"] == pytest.approx(with_, rel=1e-8)
            assert row[f"{suffix}_without"] == pytest.approx(without, rel=1e-8)
            assert row[name] == pytest.approx(share, rel=1e-8)
    assert list(np.flatnonzero(table["splits"])) == [2]
    assert found.spread["mu_sd"] == pytest.approx(numbers(res["estimate"]).std(), rel=1e-8)
    assert not math.isnan(table["overlap"].iloc[2])
    assert table["overlap"].idxmin() == table.index[2]
