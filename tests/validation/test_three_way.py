"""PyMC's draws and the exact posterior of three syntheses agree within Monte-Carlo error."""

from __future__ import annotations

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.sensitivity import three_way


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kolden2011", "farber2011_positive_regard", "molloy2014"])
def test_pymc_agrees_with_the_exact_posterior(name):
    found = three_way(am.escalc(am.load_dataset(name)), seed=2026, draws=2000, cores=1)
    z = found.tidy()["z"].to_numpy(dtype=float)
    assert found.sampled is not None
    assert found.sampled.converged
    # The largest of some 60 to 80 correlated numbers; a single one is beyond 4 in 6 of 100,000.
    assert found.worst < 4
    assert (np.abs(z) < 2).mean() > 0.85
