"""Cases of the plot of chains; no sampler runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from alliance_meta.bayes import SampledPosterior, arviz_bridge
from alliance_meta.bayes.pymc import normal_normal
from alliance_meta.plots import chains_data
from tests.plots.cases import molloy


@cache
def sampled(chains: int = 4, draws: int = 400, *, stuck: bool = False, teaching: bool = False) -> SampledPosterior:
    """Return independent draws, or chains that walk about and disagree."""
    effects = molloy().effects
    if teaching:
        origin = replace(effects.provenance, synthetic=True, cautions=("Made up. " * 20,))
        effects = replace(effects, provenance=origin)
    rng = np.random.default_rng(chains)
    shape = (chains, draws)
    found = {"mu": rng.normal(0.15, 0.03, shape), "tau": np.abs(rng.normal(0.1, 0.03, shape))}
    if stuck:
        found["mu"] = 0.01 * np.cumsum(rng.normal(size=shape), axis=1)
    found["theta"] = rng.normal(0.15, 0.1, (*shape, effects.k))
    container = arviz_bridge.from_draws(found, dims={"theta": ["study"]}, coords={"study": list(effects.slab)})
    return SampledPosterior(container, effects.notes, 1, normal_normal(effects).recipe)


def chains_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return how to make the frames whose geometry is checked; the first word of a name is the plot."""
    label = f"theta[{molloy().effects.slab[3]}]"
    return {
        "chains": lambda: chains_data(sampled(), what=["mu", "tau"]),
        "chains that disagree": lambda: chains_data(sampled(stuck=True)),
        "chains of one": lambda: chains_data(sampled(1, 30), what=["mu", "tau"]),
        "chains, eight": lambda: chains_data(sampled(8, 1000), what=["mu", label, "theta_new"]),
        "chains, synthetic": lambda: chains_data(sampled(2, 100, teaching=True), show_cautions=True, what="tau"),
    }
