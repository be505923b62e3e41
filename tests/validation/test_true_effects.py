"""Do the intervals for a share of true effects, and Nagashima's prediction interval, hold their level?

Nagashima, Noma & Furukawa (2019, doi:10.1177/0962280218773520) report that their prediction interval keeps its
nominal level; a simulation of our own is held to that, not to their tables.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import special

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta._typing import Array
from alliance_meta.core.univariate.true_effects import confidence_distributions, nagashima, share_above, share_interval
from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.models import true_effects

pytestmark = pytest.mark.slow

TRIALS, DRAWS, MU, LEVEL = 150, 400, 0.3, 0.95
CUTS = (0.1, 0.3, 0.5)
# Three standard errors of a coverage of 95%.
ERROR = 3 * (LEVEL * (1 - LEVEL) / TRIALS) ** 0.5


def trials(k: int, tau: float) -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng([k, int(1000 * tau)])
    for _ in range(TRIALS):
        v = 1 / (rng.integers(20, 150, k) - 3.0)
        yield rng.normal(MU, np.sqrt(v + tau**2)), v


def truth(tau: float, cut: float) -> float:
    return float(share_above(np.array([MU]), np.array([tau**2]), cut)[0])


@pytest.mark.parametrize(("k", "tau"), [(5, 0.2), (10, 0.1), (20, 0.05), (20, 0.2), (40, 0.1)])
def test_prediction_and_share_intervals_hold_their_level(k, tau):
    prediction, shares, ones = 0.0, np.zeros(len(CUTS)), np.ones((k, 1))
    for y, v in trials(k, tau):
        [ours] = confidence_distributions(y, v, ones, ones[:1])
        low, high = nagashima(ours, level=LEVEL)
        prediction += special.ndtr((high - MU) / tau) - special.ndtr((low - MU) / tau)
        for i, cut in enumerate(CUTS):
            low, high = share_interval(ours, cut, level=LEVEL)
            shares[i] += low <= truth(tau, cut) <= high
    assert prediction / TRIALS == pytest.approx(LEVEL, abs=0.03)
    assert (shares / TRIALS > LEVEL - 0.01 - ERROR).all()


@pytest.mark.parametrize(("k", "tau"), [(10, 0.1), (20, 0.05), (40, 0.1)])
def test_the_bootstrap_of_a_share_keeps_close_and_the_delta_method_need_not(k, tau):
    hits = {"bootstrap": np.zeros(len(CUTS)), "delta": np.zeros(len(CUTS))}
    defined = 0
    for y, v in trials(k, tau):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllianceMetaWarning)
            fit = RandomEffectsModel(EffectSizes.from_arrays(y, v), test="z").fit()
        defined += fit.tau2 > 0
        for name, hit in hits.items():
            table = true_effects(fit, thresholds=CUTS, interval=name, iterations=DRAWS).tidy()
            exact = np.array([truth(tau, cut) for cut in CUTS])
            hit += (table["ci_lb"].astype(float) <= exact) & (exact <= table["ci_ub"].astype(float))
    assert (hits["bootstrap"] / TRIALS > LEVEL - 0.03 - ERROR).all()
    if tau == 0.05:
        # No value where tau2 is 0, and too narrow where it is a little above.
        assert defined < 0.8 * TRIALS
        assert (hits["delta"] < 0.95 * defined).any()
