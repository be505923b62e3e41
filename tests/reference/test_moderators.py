"""Variance inflation, comparisons of levels and information criteria against metafor's `vif` and `anova`."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import RandomEffectsModel
from alliance_meta.moderators import pairwise, select_models, vif
from tests.reference.reading import numbers, reference
from tests.reference.test_metaregression import CASES, mcdaniel
from tests.tolerances import ITERATIVE

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.RedundantModeratorWarning"),
]


def test_the_grid_does_not_shrink():
    stored = reference("metaregression")
    assert {name for name in stored if isinstance(stored[name], dict) and "vif2" in stored[name]} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_variance_inflation(case):
    data, mods = CASES[case]
    ours = vif(RandomEffectsModel(data(), mods=mods, method="REML", test="z").fit())
    expected = numbers(reference("metaregression")[case]["vif2"]["v"])
    np.testing.assert_allclose(list(ours.coefficients.values()), expected, rtol=ITERATIVE)


@pytest.mark.parametrize("mods", ["type", "0 + type"])
def test_comparisons_of_levels(mods):
    expected = reference("metaregression")["contrasts_type"]
    frame = pairwise(RandomEffectsModel(mcdaniel(), mods=mods, test="z").fit(), "type", adjust="none").tidy()
    np.testing.assert_allclose(frame["estimate"], numbers(expected["b"]), rtol=ITERATIVE)
    np.testing.assert_allclose(frame["se"], numbers(expected["se"]), rtol=ITERATIVE)
    np.testing.assert_allclose(frame["stat"], numbers(expected["zval"]), rtol=ITERATIVE)
    np.testing.assert_allclose(frame["pval"], numbers(expected["pval"]), rtol=ITERATIVE)


def test_information_criteria():
    stored = reference("metaregression")["LRT_type"]
    expected = {"type": stored["AICs"], "1": stored["AICr"]}
    for position, criterion in ((2, "AIC"), (3, "BIC"), (4, "AICc")):
        frame = select_models(mcdaniel(), candidates=["type"], criterion=criterion).tidy()
        for formula, values in expected.items():
            assert frame.loc[formula, criterion] == pytest.approx(values[position], rel=ITERATIVE)
            assert frame.loc[formula, "loglik"] == pytest.approx(values[0], rel=ITERATIVE)
