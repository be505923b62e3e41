"""Tail probabilities and quantiles of z, t, chi-squared and F, accurate far out in the tail.

SciPy's special functions, because importing `scipy.stats` takes longer than most fits.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array


def two_sided_p(stat: Array, df: float | Array | None) -> Array:
    """Return P(|T| >= |stat|) for a t distribution with `df`, or the standard normal when `df` is None."""
    lower = -np.abs(stat)
    return 2.0 * (special.ndtr(lower) if df is None else special.stdtr(df, lower))


def critical_value(level: float, df: float | None) -> float:
    """Return the two-sided critical value of t(df), or of the standard normal when `df` is None."""
    upper = 0.5 * (1.0 + level)
    return float(special.ndtri(upper) if df is None else special.stdtrit(df, upper))


def critical_values(level: float, df: Array) -> Array:
    """Return the two-sided critical values of t(df), elementwise; of the standard normal where df is infinite."""
    upper = 0.5 * (1.0 + level)
    return np.where(np.isinf(df), special.ndtri(upper), special.stdtrit(df, upper))


def chi2_sf(stat: float, df: float) -> float:
    """Return P(chi2(df) >= stat)."""
    return float(special.chdtrc(df, stat))


def chi2_quantile(probability: float, df: float) -> float:
    """Return the quantile of chi2(df)."""
    return float(special.chdtri(df, 1.0 - probability))


def f_sf(stat: float, df1: float, df2: float) -> float:
    """Return P(F(df1, df2) >= stat)."""
    return float(special.fdtrc(df1, df2, stat))
