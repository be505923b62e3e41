"""Robust Bayesian meta-analysis against R's RoBMA and an independent quadrature."""

from __future__ import annotations

import numpy as np
import pytest

import alliance_meta as am
from tests.reference.reading import reference
from tests.tolerances import printed

pytestmark = pytest.mark.reference

# Of RoBMA's simulation and bridge sampling.
SIMULATED = 0.005


@pytest.fixture(scope="module")
def found():
    data = reference("robma_k24")["data"]
    effects = am.EffectSizes.from_arrays(data["yi"], np.square(data["sei"]), ni=data["ni"], measure="ZCOR")
    return am.bayes.robma(effects)


@pytest.mark.parametrize(
    ("component", "quadrature", "robma"),
    [
        ("effect", printed("6.968"), 6.961),
        ("heterogeneity", printed("4432"), 4436.9),
        ("bias", printed("0.5146"), 0.514),
    ],
)
def test_inclusion_bayes_factors(found, component, quadrature, robma):
    bf = found.inclusion.loc[component, "bf10"]
    assert bf == quadrature
    assert bf == pytest.approx(robma, rel=SIMULATED)
    given = reference("robma_k24")
    assert robma == given["robma"][f"BF_{component}"]
    assert given["quadrature"][f"BF_{component}"] == pytest.approx(bf, rel=2e-4)


def test_averaged_estimates(found):
    table = found.tidy()
    assert table.loc["mu", "mean"] == printed("0.2090")
    assert table.loc["tau", "mean"] == printed("0.1821")


def test_every_integral_is_accurate(found):
    assert len(found.models) == 36
    assert found.errors.max() < 1e-4
