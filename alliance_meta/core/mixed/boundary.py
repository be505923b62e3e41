"""Likelihood-ratio tests of variances, which cannot lie below 0: mixtures of chi-squared distributions."""

from __future__ import annotations

from alliance_meta.core.distributions import chi2_sf

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
