"""The working models behind `che`, `sce` and `che_plus` against metafor's rma.mv; R/make_recipes.R wrote the values."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, che
from alliance_meta.models import che_plus, sce
from tests.reference.reading import numbers, reference
from tests.tolerances import OPTIMISER

KNOWN = reference("recipes")["crede"]
# Half the loss of likelihood at which nlminb stops.
LOSS = 1e-9

RECIPES = {
    "che": lambda es: che(es),
    "che_mods": lambda es: che(es, mods="C(criterion, levels=['gpa', 'grade'])"),
    "sce": lambda es: sce(es, subgroup="criterion"),
    "che_plus": lambda es: che_plus(es, subgroup="criterion", mods="criterion"),
}


@pytest.fixture
def es() -> EffectSizes:
    data = {name: [row[name] for row in KNOWN["data"]] for name in KNOWN["data"][0]}
    return EffectSizes.from_arrays(
        data["yi"], data["vi"], mods={"criterion": data["criterion"]}, study_id=data["study"], measure="ZCOR"
    )


def test_the_grid_is_whole():
    """If a reference disappears, the tests below may not shrink with it."""
    assert set(KNOWN) == {"data", *RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_working_models(es, name):
    expected = KNOWN[name]
    fit = RECIPES[name](es).fit
    assert fit.loglik >= expected["ll"] - LOSS
    np.testing.assert_allclose(fit.beta, numbers(expected["b"]), rtol=OPTIMISER)
    np.testing.assert_allclose(fit.se, numbers(expected["se"]), rtol=OPTIMISER)
    assert pytest.approx(expected["QE"], rel=OPTIMISER) == fit.QE
    ours = fit.components["estimate"].astype(float)
    intercepts = [value for name, value in ours.items() if name.startswith("sigma2")]
    if intercepts:
        np.testing.assert_allclose(intercepts, numbers(expected["sigma2"]), rtol=10 * OPTIMISER)
    levels = {name.rpartition(": ")[2].rstrip("]"): value for name, value in ours.items() if name.startswith("tau2")}
    if levels:
        # metafor sorts the levels.
        np.testing.assert_allclose(
            [levels[level] for level in ("gpa", "grade")], numbers(expected["tau2"]), rtol=10 * OPTIMISER
        )
