"""What a correlation means in other words: differences between groups, odds, rates, pairs and overlaps.

Pure functions on arrays. `d` is the standardised difference between two
groups whose outcomes are normal with the same spread.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array

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
