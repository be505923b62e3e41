"""Cases of the plot of a synthesis over the years."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from alliance_meta import BayesianModel, EffectSizes
from alliance_meta.bayes import priors, sequential
from alliance_meta.bayes.exact.results import BayesianResults
from alliance_meta.plots import sequential_data
from tests.plots.cases import fitted, molloy, quiet


def solved(effects: EffectSizes, **options: object) -> BayesianResults:
    return quiet(lambda: BayesianModel(effects, **options).fit())  # type: ignore[arg-type]


def teaching() -> BayesianResults:
    effects = fitted(15).effects
    origin = replace(effects.provenance, synthetic=True, cautions=("Made up. " * 20,))
    return solved(replace(effects, provenance=origin))


def many() -> BayesianResults:
    rng = np.random.default_rng(3)
    v = 1.0 / (rng.integers(10, 400, 150) - 3)
    return solved(EffectSizes.from_arrays(rng.normal(0.25, np.sqrt(v + 0.0225)), v, measure="ZCOR"))


def thousands() -> BayesianResults:
    effects = EffectSizes.from_arrays([1200.0, 30500.0, -12000.0, 4.0], [50.0, 2000.0, 900.0, 5.0])
    return solved(effects, mu_prior=priors.Normal(0, 20000), tau_prior=priors.HalfNormal(20000))


def next_study_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return how to make the frames whose geometry is checked; the first word of a name is the plot."""
    fit, made, wide = cache(lambda: solved(molloy().effects)), cache(teaching), cache(thousands)
    flat = cache(lambda: solved(fit().effects, mu_prior=priors.Flat(), tau_prior=priors.Uniform()))
    return {
        "sequential": lambda: sequential_data(sequential(fit())),
        "sequential of many": lambda: sequential_data(sequential(many(), order="given")),
        "sequential by letters": lambda: sequential_data(sequential(wide(), order=list("dbca"))),
        "sequential with flat priors": lambda: sequential_data(sequential(flat())),
        "sequential, synthetic": lambda: sequential_data(sequential(made(), order="given"), show_cautions=True),
    }
