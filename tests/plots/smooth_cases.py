"""Cases of the plot of a smooth meta-regression; no sampler runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from alliance_meta import EffectSizes
from alliance_meta.bayes import SampledPosterior, arviz_bridge
from alliance_meta.bayes.pymc import smooth
from alliance_meta.plots import smooth_data
from tests.plots.cases import fitted, quiet


@cache
def curved(
    k: int = 40, mods: str = "1", *, unit: float = 1.0, teaching: bool = False, stuck: bool = False, kind: str = "eti"
) -> SampledPosterior:
    """Return independent draws around a curve over the years; of thousands of units, made up, or useless."""
    made = fitted(k).effects
    if unit != 1.0:
        made = EffectSizes.from_arrays(unit * made.yi, unit**2 * made.vi, mods=made.moderators)
    if teaching:
        origin = replace(made.provenance, synthetic=True, cautions=("Made up. " * 20,))
        made = replace(made, provenance=origin)
    recipe = quiet(lambda: smooth(made, by="year", mods=mods)).recipe
    rng = np.random.default_rng(k)
    shape = (2, 400)
    p = recipe.design.p
    year = recipe.design.names.index("year") - 1
    beta = 0.02 * unit * rng.normal(size=(*shape, p - 1))
    beta[..., year] = unit * rng.normal(0.004, 0.002, shape)
    mu = unit * (np.cumsum(rng.normal(size=shape), axis=1) if stuck else rng.normal(0.25, 0.02, shape))
    found = {
        "mu": mu,
        "beta": beta,
        "intrcpt": mu - beta @ recipe.design.X[:, 1:].mean(axis=0),
        "tau": unit * np.abs(rng.normal(0.1, 0.02, shape)),
        "tau_smooth": unit * np.abs(rng.normal(0.1, 0.04, shape)),
        "z": rng.normal([1.5, -0.5, 0.3, 0.0], 0.3, (*shape, 4)),
    }
    container = arviz_bridge.from_draws(
        found,
        dims={"beta": ["coefficient"], "z": ["bend"]},
        coords={"coefficient": list(recipe.design.names[1:]), "bend": [f"year {j}" for j in range(1, 5)]},
    )
    return SampledPosterior(container, recipe.notes, 1, recipe, interval=kind)


def smooth_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return how to make the frames whose geometry is checked; the first word of a name is the plot."""
    return {
        "smooth": lambda: smooth_data(curved()),
        "smooth of a rater": lambda: smooth_data(curved(mods="rater"), at={"rater": "observer"}, level=0.8),
        "smooth that failed": lambda: smooth_data(curved(stuck=True)),
        "smooth of thousands": lambda: smooth_data(curved(60, unit=10000.0)),
        "smooth, synthetic": lambda: smooth_data(curved(25, teaching=True), show_cautions=True),
    }
