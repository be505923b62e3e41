"""Correlations from test statistics and regression coefficients, each with its sampling variance.

Every function works on arrays row by row. Where a conversion r = f(x) has no variance of its own in the literature, it
is the delta method's, f'(x)^2 var(x).
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


def r_to_t(r: Array, df: Array) -> Array:
    """Return r sqrt(df / (1 - r^2)), the inverse of `t_to_r`."""
    return r * np.sqrt(df / (1.0 - r**2))


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


def r_to_spearman(r: Array) -> Array:
    """Return the rank correlation of normal variables with correlation r, the inverse of `from_spearman`."""
    return 6.0 / np.pi * np.arcsin(r / 2.0)


def r_to_kendall(r: Array) -> Array:
    """Return Kendall's tau of normal variables with correlation r, the inverse of `from_kendall`."""
    return 2.0 / np.pi * np.arcsin(r)
