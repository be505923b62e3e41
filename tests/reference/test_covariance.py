"""Sampling covariances against metafor's `vcalc` and `rcalc`, and the nearest correlation matrix against `nearPD`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.core.dependent import nearest_correlation
from alliance_meta.errors import AdaptedInputWarning, DroppedRowsWarning, NotPositiveDefiniteWarning
from tests.reference.reading import reference
from tests.tolerances import CLOSED_FORM, ITERATIVE, printed

pytestmark = pytest.mark.reference

SEXES = ["mixed", "female", "male"]
BETWEEN = pd.DataFrame([[1, 0.4, 0.3], [0.4, 1, 0.2], [0.3, 0.2, 1]], index=SEXES, columns=SEXES)


def tannersmith() -> am.EffectSizes:
    frame = am.load_dataset("tannersmith2016").frame
    frame["age"] = [f"a{value:g}" for value in frame["aget1"]]
    return am.EffectSizes.from_arrays(frame["yi"], frame["vi"], mods=frame, measure="ZCOR")


def ages(effects: am.EffectSizes) -> pd.DataFrame:
    # The order of R's sort: as text.
    names = sorted(set(effects.moderators["age"]))
    distance = np.abs(np.subtract.outer(np.arange(len(names)), np.arange(len(names))))
    return pd.DataFrame(0.9**distance, index=names, columns=names)


def agrees(V: am.effects.SamplingCovariance, cells: Any) -> None:
    i, j = np.asarray(cells["i"]), np.asarray(cells["j"])
    expected = np.zeros((V.k, V.k))
    expected[i, j] = expected[j, i] = cells["v"]
    scale = np.sqrt(np.outer(V.vi, V.vi))
    np.testing.assert_allclose(V.to_dense() / scale, expected / scale, rtol=CLOSED_FORM, atol=1e-14)


CASES: dict[str, dict[str, Any]] = {
    "constant": {"rho": 0.8},
    "negative": {"rho": -0.05},
    "time": {"rho": 0.8, "time": "aget2", "phi": 0.7},
    "repeated": {"rho": 0.6, "obs": "age", "time": "aget2", "phi": 0.7},
    "type": {"rho": (0.8, 0.4), "type": "sexmix"},
    "type_time": {"rho": (0.8, 0.4), "type": "sexmix", "time": "aget2", "phi": 0.9},
    "between": {"rho": (0.8, BETWEEN), "type": "sexmix"},
    "obs": {"rho": "ages", "obs": "age"},
    "both": {"rho": ("ages", BETWEEN), "type": "sexmix", "obs": "age"},
    "subgroup": {"rho": 0.5, "subgroup": "sexmix"},
}


def test_every_stored_case_is_compared():
    assert set(reference("covariance")["tannersmith"]) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_imputed_covariances_of_tannersmith(case):
    effects, options = tannersmith(), dict(CASES[case])
    if options["rho"] == "ages":
        options["rho"] = ages(effects)
    elif isinstance(options["rho"], tuple) and isinstance(options["rho"][0], str):
        options["rho"] = (ages(effects), options["rho"][1])
    with warnings.catch_warnings():
        # Two effects of one obs at one time correlate perfectly.
        warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
        V = am.impute_V(effects, cluster="studyid", check="warn", **options)
    agrees(V, reference("covariance")["tannersmith"][case])


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("constant", {}),
        ("subgroup", {"subgroup": "sampleid"}),
        ("type", {"subgroup": "sampleid", "type": "criterion", "rho": (0.7, 0.3)}),
    ],
)
def test_imputed_covariances_of_crede(case, options):
    V = am.impute_V(am.escalc(am.load_dataset("crede2010")), cluster="study", **options)
    agrees(V, reference("covariance")["crede"][case])


@pytest.mark.parametrize("measure", ["COR", "ZCOR"])
def test_dependent_correlations_of_craft(measure):
    with (
        pytest.warns(DroppedRowsWarning, match="6 of 60 rows left out because r or n is missing"),
        pytest.warns(DroppedRowsWarning, match=r"3 of 54 effects left out because their study \(17\)"),
    ):
        effects, V = am.effects.rcalc(am.load_dataset("craft2003"), measure=measure, missing="drop")
    expected = reference("covariance")["craft"][measure]
    assert effects.moderators["pair"].tolist() == expected["pair"]
    np.testing.assert_allclose(effects.yi, expected["yi"], rtol=CLOSED_FORM)
    agrees(V, expected)
    assert effects.vi.tolist() == V.vi.tolist()


@pytest.mark.parametrize("rule", ["min", "harmonic", "mean"])
def test_one_n_for_a_study_by_each_rule(rule):
    frame = am.load_dataset("craft2003").query("study in [1, 3]").frame
    frame.loc[frame["study"] == 1, "n"] = [142, 130, 120, 142, 141, 125]
    with pytest.warns(AdaptedInputWarning, match="n differs within 1 of 2 studies"):
        effects, V = am.effects.rcalc(frame, nfun=rule)
    expected = reference("covariance")["unequal"][rule]
    np.testing.assert_allclose(effects.ni, expected["ni"], rtol=CLOSED_FORM)
    agrees(V, expected)


@pytest.mark.parametrize("case", ["three", "four"])
def test_nearest_correlation_matrix(case):
    expected = reference("covariance")["nearest"][case]
    R = np.array([expected["R"]], dtype=float)
    np.testing.assert_allclose(nearest_correlation(R)[0], expected["near"], rtol=ITERATIVE)


def test_printed_heterogeneity_of_craft_needs_the_right_covariances():
    with pytest.warns(DroppedRowsWarning):
        effects, V = am.effects.rcalc(am.load_dataset("craft2003"), measure="COR", missing="drop")
    X = pd.get_dummies(effects.moderators["pair"]).to_numpy(dtype=float)
    W = np.linalg.inv(V.to_dense())
    residual = effects.yi - X @ np.linalg.solve(X.T @ W @ X, X.T @ W @ effects.yi)
    assert (effects.k, X.shape[1]) == (51, 6)
    assert residual @ W @ residual == printed("334.8358")
