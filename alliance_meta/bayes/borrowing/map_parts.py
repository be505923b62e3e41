"""What MAP priors and their updates share: a vague part, the scale of r, a table of distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from alliance_meta.bayes.exact.export import COLUMNS, column
from alliance_meta.bayes.marginals import TANH, Marginal, TransformedMarginal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.results import BayesianResults


def on_scale(fit: BayesianResults, one: Marginal, scale: Literal["z", "r"] | None) -> Marginal:
    """Return an effect as a correlation where that is asked for."""
    if scale is None or scale == fit._scale:
        return one
    if fit._scale != "z" or scale != "r":
        raise InputError(f"scale={scale!r}: effects on the scale {fit.effects.scale_label!r} cannot be shown so")
    return TransformedMarginal(f"{one.name} as r", one, TANH)


def table(rows: Mapping[str, Marginal], *, level: float, scale: str) -> pd.DataFrame:
    """Return mean, sd, median and equal-tailed interval of each distribution."""
    cells = {}
    for name, one in rows.items():
        limits = one.interval(level=level)
        cells[name] = (one.mean, one.sd, limits.estimate, limits.lb, limits.ub)
    columns = {name: column(values) for name, values in zip(COLUMNS, zip(*cells.values(), strict=True), strict=True)}
    out = pd.DataFrame(columns, index=pd.Index(list(cells), name="parameter"))
    out.attrs.update(scale=scale, level=level, interval="eti")
    return out


def with_vague(one: NormalMixture, robust: float, vague: Normal) -> NormalMixture:
    """Return the mixture with a vague part of probability `robust`."""
    if not robust:
        return one
    return NormalMixture(
        np.append((1.0 - robust) * one.weight, robust),
        np.append(one.mean[:1], [[vague.mean]], axis=1),
        np.append(one.sd[:1], [[vague.sd]], axis=1),
    )
