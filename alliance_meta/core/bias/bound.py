"""How far unpublished studies can have moved a mean, from nothing but their number.

Copas & Jackson (2004, doi:10.1111/j.0006-341X.2004.00161.x): of all ways to select studies in which larger ones are at
least as likely to be published as smaller ones, the worst publishes those with the largest (or smallest) effects, at
the same rate whatever their size.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array

# More unpublished studies than so many times the published ones are not looked for.
MOST = 1e6


def largest_bias(v: Array, tau2: float, missing: Array) -> Array:
    """Return the largest bias, (m,), of the mean of studies with variances v (k,) if `missing` (m,) are unpublished."""
    w = 1.0 / (v + tau2)
    return _inflation(len(v) / (len(v) + missing)) * float(np.sqrt(w).sum() / w.sum())


def least_missing(v: Array, tau2: float, bias: float) -> float:
    """Return the least whole number of unpublished studies whose largest bias is at least `bias`; inf above 1e6 k."""
    if bias <= 0.0:
        return 0.0

    def short(log: float) -> float:
        return float(largest_bias(v, tau2, np.array([np.exp(log)]))[0]) - bias

    k = len(v)
    low, high = np.log(1e-9), np.log(MOST * k)
    if short(high) < 0.0:
        return float("inf")
    if short(low) > 0.0:
        return 1.0
    found = float(np.exp(optimize.brentq(short, low, high, xtol=1e-13)))
    near = round(found)
    return float(near if abs(found - near) < 1e-9 * max(1.0, found) else np.ceil(found))


def _inflation(share: Array) -> Array:
    """Return the mean of the largest `share` (m,) of a standard normal distribution."""
    q = special.ndtri(np.clip(share, 0.0, 1.0 - 1e-16))
    return np.where(share >= 1.0, 0.0, np.exp(-0.5 * q**2) / (np.sqrt(2.0 * np.pi) * share))
