"""Duval and Tweedie's trim and fill: how many effects lack on one side of a funnel plot, and which."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray

MOST_STEPS = 100
# Effects that differ by less, relative to the largest, are identical: nothing is left to rank.
ROUNDING = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class Trimmed:
    """What trimming found."""

    k0: int  # effects that lack on the left
    se: float  # its standard error; NaN where the variance is not positive
    pval: float  # of the null hypothesis that none lacks; NaN but for R0
    mean: float  # of what was left when as many were trimmed on the right
    mirrored: IntArray  # (k0,): the effects on the right that have no counterpart
    settled: bool  # whether the count came to rest


def trim(y: Array, *, estimator: str, mean: Callable[[IntArray], float]) -> Trimmed:
    """Count what lacks on the left of effects y (k,); `mean` returns the pooled mean of some of them.

    Duval & Tweedie (2000a, doi:10.1080/01621459.2000.10473905; 2000b, doi:10.1111/j.0006-341X.2000.00455.x).
    """
    k = len(y)
    order = np.argsort(y, kind="stable").astype(np.intp)
    ascending, k0, steps, settled = y[order], 0, 0, False
    if np.ptp(y) <= ROUNDING * np.abs(y).max():
        return Trimmed(0, math.nan, math.nan, mean(order), order[k:], True)
    while not settled and steps < MOST_STEPS:
        steps += 1
        center = mean(order[: k - k0])
        raw, se = _missing(ascending - center, estimator)
        count = min(max(0, round(raw)), k - 1) if raw == raw else -1
        if count < 0:
            break
        settled, k0 = count == k0, count
    pval = 0.5 ** (k0 + 1) if estimator == "R0" else math.nan
    return Trimmed(k0, se, pval, center, order[k - k0 :], settled)


def _missing(deviation: Array, estimator: str) -> tuple[float, float]:
    """Return the estimate before rounding and its standard error; NaN where the estimator has none."""
    k = len(deviation)
    ranks = np.empty(k)
    ranks[np.argsort(np.abs(deviation), kind="stable")] = np.arange(1.0, k + 1.0)
    if estimator == "R0":
        k0 = k - float(ranks[deviation < 0].max(initial=0.0)) - 1.0
        return k0, math.sqrt(2.0 * max(0.0, k0) + 2.0)
    total = float(ranks[deviation > 0].sum())
    if estimator == "L0":
        k0 = (4.0 * total - k * (k + 1.0)) / (2.0 * k - 1.0)
        factor = 4.0 / (2.0 * k - 1.0)
    else:
        inside = 2.0 * k**2 - 4.0 * total + 0.25
        k0 = k - 0.5 - math.sqrt(inside) if inside >= 0 else math.nan
        below = (k - 0.5) ** 2 - k0 * (2.0 * k - k0 - 1.0)
        factor = 2.0 / math.sqrt(below) if below > 0 else math.nan
    variance = k * (k + 1.0) * (2.0 * k + 1.0) + 10.0 * k0**3 + 27.0 * k0**2 + 17.0 * k0
    variance = (variance - 18.0 * k * k0**2 - 18.0 * k * k0 + 6.0 * k**2 * k0) / 24.0
    return k0, factor * math.sqrt(variance) if variance >= 0 else math.nan
