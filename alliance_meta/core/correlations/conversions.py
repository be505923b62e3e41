"""Correlations from test statistics and regression coefficients, each with its sampling variance.

Every function works on arrays row by row. Where a conversion r = f(x) has no variance of its own in the literature, it
is the delta method's, f'(x)^2 var(x).

What a correlation means in other words: differences between groups, odds, rates, pairs and overlaps.

Pure functions on arrays. `d` is the standardised difference between two
groups whose outcomes are normal with the same spread.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import var_r, var_z

# Peterson and Brown (2005) fitted their rule to coefficients within this range.
LARGEST_BETA = 0.5
_BETA_BONUS = 0.05


class Converted(NamedTuple):
    """Correlations with their sampling variances as r and as Fisher z, (k,) each."""

    r: Array
    var_r: Array
    var_z: Array


def with_delta(r: Array, var: Array) -> Converted:
    """Return r with its variance, and the variance of Fisher z by the delta method, var / (1 - r^2)^2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return Converted(r, var, var / (1.0 - r**2) ** 2)


def pearson(r: Array, n: Array) -> Converted:
    """Return r as a Pearson correlation of n people: (1 - r^2)^2 / (n - 1), and 1 / (n - 3) for Fisher z."""
    return Converted(r, var_r(r, n), var_z(n))


def t_to_r(t: Array, df: Array) -> Array:
    """Return t / sqrt(t^2 + df): the correlation (with n - 2 df) or partial correlation that t tests."""
    return t / np.sqrt(t**2 + df)


def p_to_t(p: Array, df: Array, tails: Array) -> Array:
    """Return the t with this p-value: |t| for two tails; for one tail t itself, negative where p > .5."""
    return -special.stdtrit(df, p / tails)


def from_t(t: Array, df: Array) -> Converted:
    """Return the zero-order correlation tested by t with df = n - 2; exact, as is its variance for Fisher z."""
    return pearson(t_to_r(t, df), df + 2.0)


def from_f(F: Array, df: Array, sign: Array) -> Converted:
    """Return r from F with 1 and `df` degrees of freedom, which is t^2 and has lost its sign."""
    return from_t(sign * np.sqrt(F), df)


def from_p(p: Array, df: Array, sign: Array, tails: Array) -> Converted:
    """Return r from the p-value of a t test; `sign` is the direction of the effect, or of a one-tailed hypothesis."""
    return from_t(sign * p_to_t(p, df, tails), df)


def from_chi2(chi2: Array, n: Array, sign: Array) -> Converted:
    """Return phi = sqrt(chi2 / n) of a 2 x 2 table; phi is the Pearson correlation of two 0/1 variables."""
    return pearson(sign * np.sqrt(chi2 / n), n)


def from_eta2(eta2: Array, n: Array, sign: Array) -> Converted:
    """Return sqrt(eta2), for an effect with one degree of freedom."""
    return pearson(sign * np.sqrt(eta2), n)


def from_beta(beta: Array, n: Array) -> Converted:
    """Return beta + .05 for beta >= 0 and beta otherwise (Peterson & Brown 2005, doi:10.1037/0021-9010.90.1.175).

    An imputation of the zero-order r, fitted to |beta| <= .5. The variance is that of an observed r of this size
    and leaves out the error of the imputation.
    """
    return pearson(beta + _BETA_BONUS * (beta >= 0), n)


def partial(r: Array, df: Array) -> Converted:
    """Return a partial correlation with the df of its t test, df = n - 1 - number of predictors.

    Variances (1 - r^2)^2 / (df + 1), and 1 / (df - 1) for Fisher z: those of a zero-order r (df = n - 2) with n
    less the number of variables held constant; metafor's ``PCOR`` and ``ZPCOR``.
    """
    return pearson(r, df + 2.0)


def from_partial_t(t: Array, df: Array) -> Converted:
    """Return the partial correlation that the t test of a regression coefficient with `df` is about."""
    return partial(t_to_r(t, df), df)


def from_semipartial_t(t: Array, df: Array, r2: Array, n: Array) -> Converted:
    """Return the semi-partial correlation t sqrt((1 - R^2) / df) of a model with this R^2.

    Variance (R^4 - 2 R^2 + (R^2 - r^2) + 1 - (R^2 - r^2)^2) / n (Aloe & Becker 2012,
    doi:10.3102/1076998610396901); metafor's ``SPCOR``.
    """
    r = t * np.sqrt((1.0 - r2) / df)
    without = r2 - r**2
    return with_delta(r, (r2**2 - 2.0 * r2 + without + 1.0 - without**2) / n)


def from_spearman(rho: Array, n: Array) -> Converted:
    """Return Pearson's r of normal variables with rank correlation rho, 2 sin(pi rho / 6).

    The variance of Fisher's z of rho is (1 + rho^2 / 2) / (n - 3) (Bonett & Wright 2000,
    doi:10.1007/BF02294183), carried over by the delta method.
    """
    var = (1.0 - rho**2) ** 2 * (1.0 + rho**2 / 2.0) / (n - 3.0)
    slope = np.pi / 3.0 * np.cos(np.pi * rho / 6.0)
    return with_delta(2.0 * np.sin(np.pi * rho / 6.0), slope**2 * var)


def from_kendall(tau: Array, n: Array) -> Converted:
    """Return Pearson's r of normal variables with Kendall's tau, sin(pi tau / 2).

    The variance of Fisher's z of tau is .437 / (n - 4) (Fieller, Hartley & Pearson 1957,
    doi:10.1093/biomet/44.3-4.470), carried over by the delta method.
    """
    var = (1.0 - tau**2) ** 2 * 0.437 / (n - 4.0)
    slope = np.pi / 2.0 * np.cos(np.pi * tau / 2.0)
    return with_delta(np.sin(np.pi * tau / 2.0), slope**2 * var)


# A logistic variable has this standard deviation; Cox and Snell's 1.65 makes its slope the normal one's.
LOGISTIC_SD = np.pi / np.sqrt(3.0)
COX = 1.65


def split_factor(n1: Array, n2: Array) -> Array:
    """Return h = m/n1 + m/n2 with m = n1 + n2 - 2, near 4 for equal groups: r = d / sqrt(d^2 + h)."""
    return (n1 + n2 - 2.0) * (1.0 / n1 + 1.0 / n2)


def d_to_r(d: Array, h: Array) -> Array:
    """Return the point-biserial correlation d / sqrt(d^2 + h)."""
    return d / np.sqrt(d**2 + h)


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


def _tail(share: Array) -> tuple[Array, Array]:
    """Return mean and 1 - variance of a standard normal variable above the point that leaves this share."""
    z = -special.ndtri(share)
    mean = _density(z) / share
    return mean, mean * (mean - z)


def _density(z: Array) -> Array:
    return np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)


# A logistic variable has this many times the standard deviation of its unit scale.
LOGISTIC = np.pi / np.sqrt(3.0)


def r_to_d(r: Array, *, share: float = 0.5) -> Array:
    """Return d = r / sqrt(p(1 - p)(1 - r^2)) for groups of shares p and 1 - p; 2r / sqrt(1 - r^2) for equal ones."""
    return r / np.sqrt(share * (1.0 - share) * (1.0 - r**2))


def d_to_odds_ratio(d: Array) -> Array:
    """Return exp(d pi / sqrt(3)), for logistic outcomes (Hasselblad & Hedges 1995, doi:10.1037/0033-2909.117.1.167)."""
    return np.exp(LOGISTIC * d)


def besd(r: Array) -> Array:
    """Return the higher of the two rates 1/2 + r/2 and 1/2 - r/2 (Rosenthal & Rubin 1982)."""
    return 0.5 + 0.5 * r


def pairs(r: Array) -> Array:
    """Return the chance that two bivariate normal variables order a random pair alike, 1/2 + arcsin(r)/pi.

    Dunlap (1994, doi:10.1037/0033-2909.116.3.509). It is also the share above the median of the one variable among
    those above the median of the other.
    """
    return 0.5 + np.arcsin(r) / np.pi


def common_language(d: Array) -> Array:
    """Return the chance that a member of the one group exceeds one of the other, Phi(d / sqrt(2)).

    McGraw & Wong (1992, doi:10.1037/0033-2909.111.2.361).
    """
    return special.ndtr(d / np.sqrt(2.0))


def u3(d: Array) -> Array:
    """Return Cohen's U3, the share of the one group above the median of the other, Phi(d)."""
    return special.ndtr(d)


def overlap(d: Array) -> Array:
    """Return the area that two normal densities of the same spread share, 2 Phi(-|d|/2)."""
    return 2.0 * special.ndtr(-0.5 * np.abs(d))


def needed(d: Array) -> Array:
    """Return the number needed 1 / (2 Phi(d / sqrt(2)) - 1); infinite where d = 0.

    Kraemer & Kupfer (2006, doi:10.1016/j.biopsych.2005.09.014).
    """
    return _reciprocal(2.0 * common_language(d) - 1.0)


def needed_at(d: Array, rate: float) -> Array:
    """Return the number needed where a share `rate` succeeds without, 1 / (Phi(d + Phi^-1(rate)) - rate).

    Furukawa & Leucht (2011, doi:10.1371/journal.pone.0019070).
    """
    return _reciprocal(special.ndtr(d + special.ndtri(rate)) - rate)


def _reciprocal(x: Array) -> Array:
    x = np.asarray(x, dtype=float)
    return np.divide(1.0, x, out=np.full(x.shape, np.inf), where=x != 0.0)
