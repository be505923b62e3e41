"""Tail probabilities and quantiles of z, t, chi-squared and F, accurate far out in the tail.

SciPy's special functions, because importing `scipy.stats` takes longer than most fits.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array


def statistic(estimate: Array, se: Array) -> Array:
    """Return estimate / se: 0 where the estimate is 0, else infinite where it has no error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(estimate == 0, 0.0, estimate / se)


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


def two_sided_power(ncp: Array, alpha: float = 0.05) -> Array:
    """Return the probability that |z| of mean `ncp` passes the two-sided critical value of `alpha`."""
    critical = critical_value(1.0 - alpha, None)
    return special.ndtr(np.abs(ncp) - critical) + special.ndtr(-np.abs(ncp) - critical)


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


NODES = 48
# The farthest node on the side of large w, and where the mass of the mixture ends on either side.
FARTHEST = 32.0
LEFT, RIGHT = (80.0, 10.0), (40.0, 8.0)


def mixture(nu: Array) -> tuple[Array, Array]:
    """Return factors w of tau^2 and the logs of their weights, (S, nodes), for degrees of freedom nu (S,)."""
    half = 0.5 * np.asarray(nu, dtype=float)[:, None]
    root = np.sqrt(half)
    low = -1.0 / (1.0 / FARTHEST + 1.0 / (LEFT[0] / half + LEFT[1] / root))
    high = np.log1p(RIGHT[0] / half + RIGHT[1] / root)
    u = low + (high - low) * np.linspace(0.0, 1.0, NODES)
    log = half * (u - np.exp(u))
    return np.exp(-u), log - special.logsumexp(log, axis=1, keepdims=True)


def log_density(deviation: Array, v: Array, tau: Array, nu: Array) -> Array:
    """Return the log density, (S, k), of deviations y - mu (S, k) with variances v (k,), at tau and nu (S,)."""
    w, weight = mixture(nu)
    out = np.empty(deviation.shape)
    for i in range(deviation.shape[1]):
        total = v[i] + tau[:, None] ** 2 * w
        out[:, i] = special.logsumexp(weight - 0.5 * (np.log(total) + deviation[:, i, None] ** 2 / total), axis=1)
    return out - 0.5 * np.log(2.0 * np.pi)


def cdf(deviation: Array, v: Array, tau: Array, nu: Array) -> Array:
    """Return the distribution function that belongs to `log_density`, (S, k)."""
    w, weight = mixture(nu)
    share = np.exp(weight)
    out = np.empty(deviation.shape)
    for i in range(deviation.shape[1]):
        out[:, i] = (share * special.ndtr(deviation[:, i, None] / np.sqrt(v[i] + tau[:, None] ** 2 * w))).sum(axis=1)
    return out
