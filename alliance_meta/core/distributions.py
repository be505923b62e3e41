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


# A gain in twice the log-likelihood that is only rounding: the estimate lies on the boundary.
ROUNDING = 1e-8


def likelihood_ratio(full: float, reduced: float) -> float:
    """Return twice the difference of two log-likelihoods, 0 where that is rounding or negative."""
    stat = 2.0 * (full - reduced)
    return stat if stat > ROUNDING else 0.0


def half_mixture_p(stat: float, df: int) -> float:
    """Return the p-value of 0.5 chi2(df - 1) + 0.5 chi2(df), chi2(0) being 0.

    Exact for one variance (df = 1) and for one more random effect with its covariances (Self & Liang 1987,
    doi:10.1080/01621459.1987.10478472; Stram & Lee 1994, doi:10.2307/2533455). For any other cone of covariances
    an upper bound: the statistic is the squared length of a projection on that cone, which lies within a
    half-space, and this is the distribution for a half-space.
    """
    if stat <= 0:
        return 1.0
    below = chi2_sf(stat, df - 1) if df > 1 else 0.0
    return 0.5 * (below + chi2_sf(stat, df))
