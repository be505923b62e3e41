"""Imputed moderators give unbiased slopes and honest intervals when large effects hide their moderator."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.moderators import fit_imputed, impute_moderators

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")]

REPLICATES = 100
SLOPE = 0.15


def data(rng: np.random.Generator) -> EffectSizes:
    k = 60
    x = rng.normal(size=k)
    v = rng.uniform(0.005, 0.05, k)
    y = 0.1 + SLOPE * x + rng.normal(0, np.sqrt(0.02 + v))
    hidden = rng.random(k) < 1 / (1 + np.exp(1.0 - 6.0 * (y - 0.1)))
    return EffectSizes.from_arrays(y, v, mods={"x": np.where(hidden, np.nan, x)}, measure="ZCOR")


def test_slopes_and_coverage(rng):
    slopes, inside, complete = [], [], []
    for replicate in range(REPLICATES):
        effects = data(rng)
        row = fit_imputed(impute_moderators(effects, mods="x", m=10, seed=replicate, sweeps=40)).tidy().loc["x"]
        slopes.append(row["estimate"])
        inside.append(row["ci_lb"] <= SLOPE <= row["ci_ub"])
        complete.append(RandomEffectsModel(effects, mods="x").fit().beta[1])
    error = np.std(slopes, ddof=1) / np.sqrt(REPLICATES)
    assert abs(np.mean(slopes) - SLOPE) < 3 * error + 0.003
    assert np.mean(complete) < SLOPE - 3 * error
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / REPLICATES)
