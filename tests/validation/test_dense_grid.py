"""The exact engine against brute force: 200 random sets of studies, each with every prior."""

from __future__ import annotations

import pytest

from tests.equivalence.dense_grid import PRIORS, disagreements

pytestmark = pytest.mark.slow

SETS = 200


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_evidence_moments_and_quantiles_are_within_the_stated_error(prior):
    found = {seed: disagreements(seed, prior) for seed in range(SETS)}
    assert sum(one is not None for one in found.values()) > SETS / 2
    assert not {seed: one for seed, one in found.items() if one}
