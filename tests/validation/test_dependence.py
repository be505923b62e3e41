"""How often intervals hold the true mean where effects of one study are taken as independent, and where not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import alliance_meta as am

STUDIES, EACH, MEAN = 15, 5, 0.25
BETWEEN, WITHIN, RHO, N = 0.15, 0.05, 0.6, 80


def coverage(replicates: int, seed: int) -> tuple[float, float]:
    """Return the share of intervals that hold the mean: of a random-effects model and of `che`, which see the same."""
    rng = np.random.default_rng(seed)
    study = np.repeat(np.arange(STUDIES), EACH)
    v = 1.0 / (N - 3)
    root = np.linalg.cholesky(v * ((1 - RHO) * np.eye(EACH) + RHO))
    held = np.zeros(2)
    for _ in range(replicates):
        y = MEAN + BETWEEN * rng.standard_normal(STUDIES)[study] + WITHIN * rng.standard_normal(STUDIES * EACH)
        y += (rng.standard_normal((STUDIES, EACH)) @ root.T).ravel()
        es = am.EffectSizes.from_arrays(y, np.full(y.size, v), study_id=study, measure="ZCOR")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
            fits = am.RandomEffectsModel(es).fit(), am.che(es)
        held += [fit.ci_lb[0] <= MEAN <= fit.ci_ub[0] for fit in fits]
    return float(held[0] / replicates), float(held[1] / replicates)


def test_a_look_at_the_coverage_of_both():
    single, recipe = coverage(60, seed=12)
    assert single < 0.8
    assert recipe > 0.87


@pytest.mark.slow
def test_independence_covers_two_thirds_where_che_covers_its_level():
    single, recipe = coverage(500, seed=1)
    # Monte Carlo errors of about .02 and .01.
    assert 0.6 < single < 0.78
    assert 0.92 < recipe < 0.98
