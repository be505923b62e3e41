"""Cases of the plots that look for outliers, for the tests of all charts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from alliance_meta import RandomEffectsModel, che, sensitivity
from alliance_meta.plots import baujat_data, gosh_data, qqnorm_data, radial_data
from tests.plots.cases import dependent, fitted, molloy, plain, quiet


@cache
def teaching() -> Any:
    """Fit effects that are said to be made up."""
    effects = fitted(12).effects
    origin = replace(effects.provenance, synthetic=True, cautions=("Made up. " * 20,))
    return quiet(lambda: RandomEffectsModel(replace(effects, provenance=origin)).fit())


@cache
def studies() -> Any:
    """Fit made-up effects of several studies."""
    return quiet(lambda: che(dependent(60, 15)))


def outlier_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return the frames by name."""
    fits: dict[str, Callable[[], Any]] = {
        "": molloy,
        " of five": lambda: fitted(5),
        " of 30": lambda: fitted(30, n=(5, 60)),
        " of 300": lambda: fitted(300),
        " of studies": studies,
        " on a scale of thousands": lambda: quiet(plain),
        ", synthetic": teaching,
    }
    makers: dict[str, Callable[[Any, bool], pd.DataFrame]] = {
        "baujat": lambda fit, told: baujat_data(sensitivity.baujat(fit), show_cautions=told),
        "gosh": lambda fit, told: gosh_data(sensitivity.gosh(fit, subsets=3000, seed=1), show_cautions=told),
        "qqnorm": lambda fit, told: qqnorm_data(sensitivity.qqnorm(fit, seed=1, iterations=100), show_cautions=told),
        "radial": lambda fit, told: radial_data(sensitivity.radial(fit), show_cautions=told),
    }
    return {
        plot + name: lambda make=make, fit=fit, told="synthetic" in name: make(fit(), told)  # type: ignore[misc]
        for plot, make in makers.items()
        for name, fit in fits.items()
    }
