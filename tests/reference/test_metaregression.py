"""Meta-regression against metafor's `rma.uni(mods = )`."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, RandomEffectsModel, escalc, load_dataset
from alliance_meta.models import RandomEffectsResults
from tests.reference.reading import numbers, reference
from tests.reference.test_univariate import CLOSED, SEARCHED, same_fit
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.RedundantModeratorWarning"),
]

METHODS = {"FE": "EE", **{m: m for m in ("DL", "HE", "HS", "SJ", "ML", "REML", "EB", "PM")}}
TESTS = ("z", "t", "knha", "adhoc")


def molloy() -> EffectSizes:
    return escalc(load_dataset("molloy2014"))


def mcdaniel() -> EffectSizes:
    table = load_dataset("mcdaniel1994").query("struct.notna() and type.notna()")
    return escalc(table)


CASES = {
    "molloy_meanage_quality": (molloy, "meanage + quality"),
    "molloy_design": (molloy, "design"),
    "mcdaniel_struct_type": (mcdaniel, "struct * type"),
    "mcdaniel_type": (mcdaniel, "type"),
}


def test_the_grid_does_not_shrink():
    for name in CASES:
        assert {f"{m}_{t}" for m in METHODS for t in TESTS} <= set(reference("metaregression")[name])
    assert len(METHODS) == 9
    assert set(METHODS.values()) <= {*CLOSED, *SEARCHED}


def fit(case: str, method: str, test: str) -> RandomEffectsResults:
    data, mods = CASES[case]
    return RandomEffectsModel(data(), mods=mods, method=method, test=test).fit()


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_coefficients_and_heterogeneity(case, method, test):
    expected = reference("metaregression")[case][f"{method}_{test}"]
    ours = fit(case, METHODS[method], test)
    same_fit(ours, expected, CLOSED_FORM if METHODS[method] in CLOSED else ITERATIVE)
    if method != "FE":
        assert pytest.approx(expected["R2"], rel=ITERATIVE, abs=1e-6) == ours.R2


@pytest.mark.parametrize("case", CASES)
def test_fitted_values_and_q_profile(case):
    stored = reference("metaregression")[case]
    ours = fit(case, "REML", "z")
    fitted = ours.predict()
    for name in ("pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub"):
        np.testing.assert_allclose(fitted[name], numbers(stored["predict"][name]), rtol=ITERATIVE, err_msg=name)
    np.testing.assert_allclose(ours.confint()["ub"], numbers(stored["QP"]["ub"]), rtol=ITERATIVE)
    np.testing.assert_allclose(ours.confint()["lb"], numbers(stored["QP"]["lb"]), rtol=ITERATIVE, atol=1e-9)


def test_contrasts():
    expected = reference("metaregression")["contrasts_type"]
    ours = RandomEffectsModel(mcdaniel(), mods="0 + type", test="z").fit()
    contrasts = np.array([[1, -1, 0], [1, 0, -1], [0, 1, -1]])
    for row, b, se, p in zip(contrasts, expected["b"], expected["se"], expected["pval"], strict=True):
        assert float(row @ ours.beta) == pytest.approx(b, rel=ITERATIVE)
        assert float(np.sqrt(row @ ours.vb @ row)) == pytest.approx(se, rel=ITERATIVE)
        assert ours.test(row).pval == pytest.approx(p, rel=ITERATIVE)
