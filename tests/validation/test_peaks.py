"""20,000 random sets by REML and ML, with and without a moderator: no tau2 of a grid of 400 is more likely."""

from __future__ import annotations

import numpy as np
import pytest

from tests.equivalence.test_peaks import HIGHER, worst_gap


@pytest.mark.slow
def test_no_tau2_beats_the_estimate_in_twenty_thousand_sets():
    worst, rivals = worst_gap(np.random.default_rng(20261130), 20000, alone=20)
    assert worst < HIGHER
    assert rivals > 1000
