"""Kendall's rank correlation in O(k log k), with its exact p-value where there are no ties."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.robust.clusters import IntArray

# Up to so many pairs of values the exact distribution costs milliseconds; the normal one is good to four digits there.
MOST_EXACT = 250
# Deviations below this share of the effects are what floating point leaves of identical ones.
ROUNDING = 1e-13


def kendall(x: Array, y: Array) -> tuple[float, float, bool]:
    """Return Kendall's tau-b, its two-sided p-value, and whether that is exact; NaN where x or y does not vary.

    As R's ``cor.test(method = "kendall", exact = TRUE)``: exact without ties, here for up to `MOST_EXACT` pairs, else
    normal with the variance that ties leave (Kendall 1970, Rank correlation methods).
    """
    n = len(x)
    pairs = n * (n - 1) // 2
    ranks_x, ranks_y = _ranks(x), _ranks(y)
    order = np.lexsort((ranks_y, ranks_x))
    in_x, in_y, in_both = (_sizes(one) for one in (ranks_x, ranks_y, ranks_x * n + ranks_y))
    tied_x, tied_y, tied = (int((t * (t - 1)).sum()) // 2 for t in (in_x, in_y, in_both))
    if pairs in (tied_x, tied_y):
        return math.nan, math.nan, False
    discordant = _inversions(ranks_y[order])
    score = pairs - tied_x - tied_y + tied - 2 * discordant
    tau = score / math.sqrt((pairs - tied_x) * (pairs - tied_y))
    if tied_x == tied_y == 0 and n <= MOST_EXACT:
        return tau, _exact_p(min(discordant, pairs - discordant), n), True
    return tau, 2.0 * float(special.ndtr(-abs(score) / math.sqrt(_variance(n, in_x, in_y)))), False


def _ranks(values: Array) -> IntArray:
    return np.unique(values, return_inverse=True)[1].astype(np.intp)


def _sizes(ranks: IntArray) -> Array:
    """Return how often each value occurs, as floats: the cubes of counts outgrow integers late."""
    return np.unique(ranks, return_counts=True)[1].astype(float)


def _inversions(ranks: IntArray) -> int:
    """Return the number of pairs in which the earlier value is the larger, by merging ever longer sorted runs."""
    n, width, total = len(ranks), 1, 0
    place: AnyArray = np.arange(n)
    while width < n:
        order = np.lexsort((ranks, place // (2 * width)))
        # A value of a left run moves up by the smaller values of the right run.
        moved = place - order
        total += int(moved[(order // width) % 2 == 0].sum())
        ranks = ranks[order]
        width *= 2
    return total


def _exact_p(least: int, n: int) -> float:
    """Return P(at most `least`, or as many concordant, of n (n - 1) / 2 pairs are discordant) by chance."""
    chance = np.zeros(least + 1)
    chance[0] = 1.0
    for size in range(2, n + 1):
        summed = np.cumsum(chance)
        summed[size:] -= summed[:-size].copy() if size <= least else 0.0
        chance = summed / size
    return min(1.0, 2.0 * float(chance.sum()))


def _variance(n: int, in_x: Array, in_y: Array) -> float:
    """Return the variance of the score under independence, given how often values occur."""

    def sums(t: Array) -> tuple[float, float, float]:
        two = t * (t - 1.0)
        return float(two.sum()), float((two * (t - 2.0)).sum()), float((two * (2.0 * t + 5.0)).sum())

    (x2, x3, x5), (y2, y3, y5) = sums(in_x), sums(in_y)
    variance = (n * (n - 1.0) * (2.0 * n + 5.0) - x5 - y5) / 18.0 + x2 * y2 / (2.0 * n * (n - 1.0))
    return variance + (x3 * y3 / (9.0 * n * (n - 1.0) * (n - 2.0)) if n > 2 else 0.0)


def standardised(y: Array, v: Array) -> Array:
    """Return the deviations from the equal-effects mean over their standard errors, as Begg and Mazumdar have them."""
    w = 1.0 / v
    total = w.sum()
    rest = total - w
    top = int(np.argmax(w))
    if w[top] > 0.5 * total:  # what is left beside an effect that outweighs all others
        rest[top] = np.delete(w, top).sum()
    deviation = y - (w @ y) / total
    if np.abs(deviation).max() <= ROUNDING * np.abs(y).max():
        return np.zeros_like(y)
    return np.asarray(deviation / np.sqrt(v * rest / total))
