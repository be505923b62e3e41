"""Inverses of conversions that only tests need: there and back must be where one began."""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.correlations.conversions import LOGISTIC, _tail


def r_to_t(r: Array, df: Array) -> Array:
    """Return r sqrt(df / (1 - r^2)), the inverse of `t_to_r`."""
    return r * np.sqrt(df / (1.0 - r**2))


def r_to_spearman(r: Array) -> Array:
    """Return the rank correlation of normal variables with correlation r, the inverse of `from_spearman`."""
    return 6.0 / np.pi * np.arcsin(r / 2.0)


def r_to_kendall(r: Array) -> Array:
    """Return Kendall's tau of normal variables with correlation r, the inverse of `from_kendall`."""
    return 2.0 / np.pi * np.arcsin(r)


def r_to_d(r: Array, h: Array) -> Array:
    """Return r sqrt(h) / sqrt(1 - r^2), the inverse of `conversions.d_to_r`."""
    return r * np.sqrt(h) / np.sqrt(1.0 - r**2)


def extreme_groups_d(r: Array, n1: Array, n2: Array, upper: Array, lower: Array) -> Array:
    """Return the d expected between extreme groups, the inverse of `from_extreme_groups`."""
    (first, bend1), (second, bend2) = (_tail(share) for share in (upper, lower))
    kappa = ((n1 - 1.0) * bend1 + (n2 - 1.0) * bend2) / (n1 + n2 - 2.0)
    return r * (first + second) / np.sqrt(1.0 - kappa * r**2)


def d_to_r(d: Array, *, share: float = 0.5) -> Array:
    """Return r = d / sqrt(d^2 + 1/(p(1 - p))), the inverse of `meaning.r_to_d`."""
    return d / np.sqrt(d**2 + 1.0 / (share * (1.0 - share)))


def odds_ratio_to_d(odds_ratio: Array) -> Array:
    """Return ln(OR) sqrt(3) / pi, the inverse of `d_to_odds_ratio`."""
    return np.log(odds_ratio) / LOGISTIC


def besd_to_r(rate: Array) -> Array:
    """Return the difference of the two rates, the inverse of `besd`."""
    return 2.0 * rate - 1.0


def pairs_to_r(chance: Array) -> Array:
    """Return sin(pi (chance - 1/2)), the inverse of `pairs`."""
    return np.sin(np.pi * (chance - 0.5))


def common_language_to_d(chance: Array) -> Array:
    """Return sqrt(2) Phi^-1(chance), the inverse of `common_language`."""
    return np.sqrt(2.0) * special.ndtri(chance)


def u3_to_d(share: Array) -> Array:
    """Return Phi^-1(share), the inverse of `u3`."""
    return special.ndtri(share)


def overlap_to_d(area: Array) -> Array:
    """Return the size of d with this overlap, the inverse of `overlap` but for the sign."""
    return -2.0 * special.ndtri(0.5 * area)


def needed_to_d(number: Array) -> Array:
    """Return the inverse of `needed`."""
    return common_language_to_d(0.5 + 0.5 / number)
