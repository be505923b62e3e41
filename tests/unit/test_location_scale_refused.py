"""What is made for one tau2 says so when it is handed a location-scale fit."""

from __future__ import annotations

import pytest

from alliance_meta import InputError, LocationScaleModel, escalc, load_dataset, sensitivity
from alliance_meta.models import true_effects

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")

ONE_TAU2 = {
    "bootstrap": lambda fit: sensitivity.bootstrap(fit, seed=1),
    "permutation_test": lambda fit: sensitivity.permutation_test(fit, seed=1),
    "lr_test": sensitivity.lr_test,
    "hettest": sensitivity.hettest,
    "true_effects": true_effects,
}


@pytest.mark.parametrize("name", ONE_TAU2)
def test_a_location_scale_fit_is_refused_with_the_mend(name):
    fit = LocationScaleModel(escalc(load_dataset("molloy2014")), scale="quality", test="z").fit()
    with pytest.raises(
        InputError, match=r"needs a fitted RandomEffectsModel, not LocationScaleResults; fit one of the same effects"
    ):
        ONE_TAU2[name](fit)
