"""Location-scale models against metafor's `rma(scale = )`.

metafor stops its search earlier than ours: its alpha are good to seven digits, its standard errors (a numerical
Hessian) to six. A larger log-likelihood would be a better answer; here both reach the same.
"""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import LocationScaleModel
from alliance_meta.models import LocationScaleResults
from tests.reference.reading import reference
from tests.reference.test_metaregression import mcdaniel, molloy
from tests.tolerances import CLOSED_FORM, OPTIMISER

pytestmark = pytest.mark.reference

CASES = {
    "locscale_molloy": (molloy, "meanage", "quality"),
    "locscale_mcdaniel": (mcdaniel, "type", "struct"),
}


def fit(case: str) -> LocationScaleResults:
    data, mods, scale = CASES[case]
    return LocationScaleModel(data(), mods=mods, scale=scale, test="z").fit()


def test_the_grid_does_not_shrink():
    stored = {name for name in reference("metaregression") if name.startswith("locscale_")}
    # The BCG trials are not correlations and are not shipped.
    assert stored - {"locscale_bcg"} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_likelihood_is_no_worse(case):
    assert fit(case).loglik >= reference("metaregression")[case]["ll"] - CLOSED_FORM


@pytest.mark.parametrize("case", CASES)
def test_coefficients_of_both_parts(case):
    expected, ours = reference("metaregression")[case], fit(case)
    for name in ("beta", "se", "alpha", "se_alpha"):
        np.testing.assert_allclose(getattr(ours, name), expected[name], rtol=OPTIMISER, err_msg=name)


def test_the_omnibus_test_of_the_scale_part():
    expected, ours = reference("metaregression")["locscale_mcdaniel"], fit("locscale_mcdaniel")
    assert pytest.approx(expected["QS"], rel=OPTIMISER) == ours.QS
    assert pytest.approx(expected["QSp"], rel=OPTIMISER) == ours.QSp
