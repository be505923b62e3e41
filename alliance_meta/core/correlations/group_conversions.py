"""Correlations from two groups: standardised differences, odds ratios, split variables and extreme groups."""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.correlations.conversions import Converted, with_delta

# A logistic variable has this standard deviation; Cox and Snell's 1.65 makes its slope the normal one's.
LOGISTIC_SD = np.pi / np.sqrt(3.0)
COX = 1.65


def split_factor(n1: Array, n2: Array) -> Array:
    """Return h = m/n1 + m/n2 with m = n1 + n2 - 2, near 4 for equal groups: r = d / sqrt(d^2 + h)."""
    return (n1 + n2 - 2.0) * (1.0 / n1 + 1.0 / n2)


def d_to_r(d: Array, h: Array) -> Array:
    """Return the point-biserial correlation d / sqrt(d^2 + h)."""
    return d / np.sqrt(d**2 + h)


def r_to_d(r: Array, h: Array) -> Array:
    """Return the standardised mean difference r sqrt(h) / sqrt(1 - r^2); 2r / sqrt(1 - r^2) for h = 4."""
    return r * np.sqrt(h) / np.sqrt(1.0 - r**2)


def g_to_d(g: Array, df: Array) -> Array:
    """Undo the small-sample correction of Hedges' g: d = g / J, J the exact gamma ratio (Hedges 1981)."""
    log_j = special.gammaln(df / 2.0) - special.gammaln((df - 1.0) / 2.0) - 0.5 * np.log(df / 2.0)
    return g / np.exp(log_j)


def means_to_d(m1: Array, sd1: Array, n1: Array, m2: Array, sd2: Array, n2: Array) -> Array:
    """Return the mean difference over the pooled standard deviation."""
    pooled = ((n1 - 1.0) * sd1**2 + (n2 - 1.0) * sd2**2) / (n1 + n2 - 2.0)
    return (m1 - m2) / np.sqrt(pooled)


def var_d(d: Array, n1: Array, n2: Array) -> Array:
    """Return the large-sample variance of d, 1/n1 + 1/n2 + d^2 / (2(n1 + n2))."""
    return 1.0 / n1 + 1.0 / n2 + d**2 / (2.0 * (n1 + n2))


def from_d(d: Array, n1: Array, n2: Array, var: Array | None = None) -> Converted:
    """Return the point-biserial correlation of group membership (group 1 against 2) with the outcome.

    With d over the pooled standard deviation this is the Pearson correlation in the sample, for groups of any
    size. Variance h^2 / (h + d^2)^3 times that of d; metafor's ``RPB``.
    """
    h = split_factor(n1, n2)
    var = var_d(d, n1, n2) if var is None else var
    return with_delta(d_to_r(d, h), h**2 / (h + d**2) ** 3 * var)


def from_log_odds(
    log_or: Array, n1: Array, n2: Array, se: Array | None = None, *, scale: float = LOGISTIC_SD
) -> Converted:
    """Return the point-biserial r from ln(OR), taken as a difference of `scale` latent standard deviations per d.

    ``LOGISTIC_SD`` pi / sqrt(3) where the outcome behind the two categories is logistic (Hasselblad & Hedges 1995,
    doi:10.1037/0033-2909.117.1.167), `COX` 1.65 where it is normal (Cox & Snell 1989). Without the standard
    error of ln(OR) the variance is unknown: n alone does not tell how rare the outcome was.
    """
    var = np.full_like(log_or, np.nan) if se is None else (se / scale) ** 2
    return from_d(log_or / scale, n1, n2, var)


def log_odds_to_d(log_or: Array, *, scale: float = LOGISTIC_SD) -> Array:
    """Return the standardised difference behind a log odds ratio."""
    return log_or / scale


def from_log_odds_per_sd(log_or: Array, se: Array) -> Converted:
    """Return r from the logistic slope per standard deviation of the predictor, b / sqrt(b^2 + pi^2 / 3).

    The correlation of the predictor with the continuous variable behind the two categories, whose residual is
    logistic (McKelvey & Zavoina 1975).
    """
    total = log_or**2 + LOGISTIC_SD**2
    return with_delta(log_or / np.sqrt(total), LOGISTIC_SD**4 / total**3 * se**2)


def biserial_factor(p: Array) -> Array:
    """Return sqrt(p(1 - p)) / phi(z): the biserial over the point-biserial r, for a split at share p."""
    return np.sqrt(p * (1.0 - p)) / _density(special.ndtri(p))


def from_split(r_pb: Array, n1: Array, n2: Array, *, exact: bool = True) -> Converted:
    """Return the biserial correlation: what r would have been, had a normal variable not been cut in two.

    Variance by Soper (1914), exact or approximate, (sqrt(pq)/phi - r^2)^2 / (n - 1); see Jacobs & Viechtbauer
    (2017, doi:10.1002/jrsm.1218). metafor's ``RBIS`` is the exact one. Estimates beyond 1 enter it as 1.
    """
    n = n1 + n2
    p, q = n1 / n, n2 / n
    z = special.ndtri(q)
    density = _density(z)
    r = np.sqrt(p * q) / density * r_pb
    inside = np.clip(r, -1.0, 1.0)
    if exact:
        bend = 1.5 + (1.0 - p * z / density) * (1.0 + q * z / density)
        var = p * q / density**2 - bend * inside**2 + inside**4
    else:
        var = (np.sqrt(p * q) / density - inside**2) ** 2
    return with_delta(r, var / (n - 1.0))


def from_extreme_groups(d: Array, n1: Array, n2: Array, upper: Array, lower: Array) -> Converted:
    r"""Return the correlation in everybody from the difference between the upper and the lower part.

    Group 1 is the upper share of a normal variable, group 2 the lower share, and those between were left out,
    so d is too large. Their means lie :math:`\lambda_1 + \lambda_2` apart (:math:`\lambda = \phi(z)/p`) and the
    outcome varies within them by :math:`1 - \kappa r^2`, :math:`\kappa` the pooled
    :math:`\lambda(\lambda - z)`; hence :math:`r = d / \sqrt{(\lambda_1 + \lambda_2)^2 + \kappa d^2}`, the
    variance by the delta method. Shares that leave nobody out give the biserial correlation.
    """
    (first, bend1), (second, bend2) = (_tail(share) for share in (upper, lower))
    apart = first + second
    kappa = ((n1 - 1.0) * bend1 + (n2 - 1.0) * bend2) / (n1 + n2 - 2.0)
    total = apart**2 + kappa * d**2
    return with_delta(d / np.sqrt(total), apart**4 / total**3 * var_d(d, n1, n2))


def extreme_groups_d(r: Array, n1: Array, n2: Array, upper: Array, lower: Array) -> Array:
    """Return the d expected between extreme groups, the inverse of `from_extreme_groups`."""
    (first, bend1), (second, bend2) = (_tail(share) for share in (upper, lower))
    kappa = ((n1 - 1.0) * bend1 + (n2 - 1.0) * bend2) / (n1 + n2 - 2.0)
    return r * (first + second) / np.sqrt(1.0 - kappa * r**2)


def _tail(share: Array) -> tuple[Array, Array]:
    """Return mean and 1 - variance of a standard normal variable above the point that leaves this share."""
    z = -special.ndtri(share)
    mean = _density(z) / share
    return mean, mean * (mean - z)


def _density(z: Array) -> Array:
    return np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
