"""Small studies: rank correlation, precision, radial regression, trim and fill, and an interval that spares them.

Rücker's limit meta-analysis: the mean of studies of infinite size, from a regression on a generalised radial plot.

Rücker, Schwarzer, Carpenter, Binder & Schumacher (2011, doi:10.1093/biostatistics/kxq046).

The interval of Henmi & Copas (2010, doi:10.1002/sim.4029): equal-effects weights, random-effects spread.

Small studies with inflated effects pull a random-effects mean more than an equal-effects one. The interval is
therefore centred on the equal-effects estimate, and made wide enough for the heterogeneity that the data show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.dependent import IntArray

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


# 1.96 + 0.84: with a standard error of this share of the mean, 80% of studies are significant at 5% (two-sided).
ADEQUATE = 2.8


def plus_three(r: Array, df: Array) -> tuple[Array, Array]:
    """Return correlations and their variances from t statistics as if each had three more degrees of freedom.

    t = r sqrt(df / (1 - r^2)) stays what it is: r' = t / sqrt(t^2 + df + 3), v' = (1 - r'^2) / (df + 3).
    """
    # t^2 + df is df / (1 - r^2); written so that r = +-1 is no division by zero.
    rest = 1.0 - r * r
    scale = df + 3.0 * rest
    return np.asarray(r * np.sqrt(df / scale)), np.asarray(rest * (df + 3.0) / scale / (df + 3.0))


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A straight line through the points (1 / s, y / s), the errors of which have variance 1."""

    # intercept, slope: the slope estimates the mean, the intercept what is added for each standard error.
    intercept: float
    slope: float
    # spread, middle: squares of 1 / s around their mean, and that mean.
    spread: float
    middle: float
    # rss, tss: squares around the line, and around the mean of y / s.
    rss: float
    tss: float


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """A limit meta-analysis."""

    estimates: dict[str, tuple[float, float]]  # ``beta0``, ``betalim`` and ``mulim`` -> estimate and standard error
    # alpha, beta: intercept and slope on the generalised radial plot.
    alpha: float
    beta: float
    shrunken: Array  # (k,): effects as they would be in studies of infinite size
    # Q, Q_small, Q_resid: heterogeneity, the part of it that goes with small studies, and the rest.
    Q: float
    Q_small: float
    Q_resid: float
    G2: float  # share of the variance of the limit that the line leaves, 0 to 1


def radial_line(y: Array, s: Array) -> Line:
    """Regress y / s on 1 / s."""
    x, z = 1.0 / s, y / s
    dx, dz = x - x.mean(), z - z.mean()
    sxx, tss = float(dx @ dx), float(dz @ dz)
    slope = float(dx @ dz) / sxx
    rest = dz - slope * dx
    middle = float(x.mean())
    return Line(float(z.mean()) - slope * middle, slope, sxx, middle, float(rest @ rest), tss)


def limit_meta(y: Array, v: Array, tau2: float) -> Limit:
    """Return the limit meta-analysis of effects with variances v (k,), of which not all are the same."""
    s, w, tau = np.sqrt(v), 1.0 / v, math.sqrt(tau2)
    line, fixed = radial_line(y, np.sqrt(v + tau2)), radial_line(y, s)
    shrunken = line.slope + np.sqrt(tau2 / (v + tau2)) * (y - line.slope)
    limit = radial_line(shrunken, s)
    variance = tau2 / len(y) + (1.0 - tau * line.middle) ** 2 / line.spread
    estimates = {
        "beta0": (line.slope + tau * line.intercept, math.sqrt(variance)),
        "betalim": (limit.slope, 1.0 / math.sqrt(limit.spread)),
        "mulim": (float(w @ shrunken / w.sum()), float(1.0 / np.sqrt(w.sum()))),
    }
    Q = float(w @ (y - w @ y / w.sum()) ** 2)
    G2 = limit.rss / limit.tss if tau2 > 0 and limit.tss > 0 else 0.0
    return Limit(estimates, line.intercept, line.slope, shrunken, Q, Q - fixed.rss, fixed.rss, G2)


MOST_STEPS = 100
# Effects that differ by less, relative to the largest, are identical: nothing is left to rank.


@dataclass(frozen=True, slots=True, eq=False)
class Trimmed:
    """What trimming found."""

    k0: int  # effects that lack on the left
    se: float  # its standard error; NaN where the variance is not positive
    pval: float  # of the null hypothesis that none lacks; NaN but for R0
    mean: float  # of what was left when as many were trimmed on the right
    mirrored: IntArray  # (k0,): the effects on the right that have no counterpart
    settled: bool  # whether the count came to rest


def trim(y: Array, *, estimator: str, mean: Callable[[IntArray], float]) -> Trimmed:
    """Count what lacks on the left of effects y (k,); `mean` returns the pooled mean of some of them.

    Duval & Tweedie (2000a, doi:10.1080/01621459.2000.10473905; 2000b, doi:10.1111/j.0006-341X.2000.00455.x).
    """
    k = len(y)
    order = np.argsort(y, kind="stable").astype(np.intp)
    ascending, k0, steps, settled = y[order], 0, 0, False
    if np.ptp(y) <= ROUNDING * np.abs(y).max():
        return Trimmed(0, math.nan, math.nan, mean(order), order[k:], True)
    while not settled and steps < MOST_STEPS:
        steps += 1
        center = mean(order[: k - k0])
        raw, se = _missing(ascending - center, estimator)
        count = min(max(0, round(raw)), k - 1) if raw == raw else -1
        if count < 0:
            break
        settled, k0 = count == k0, count
    pval = 0.5 ** (k0 + 1) if estimator == "R0" else math.nan
    return Trimmed(k0, se, pval, center, order[k - k0 :], settled)


def _missing(deviation: Array, estimator: str) -> tuple[float, float]:
    """Return the estimate before rounding and its standard error; NaN where the estimator has none."""
    k = len(deviation)
    ranks = np.empty(k)
    ranks[np.argsort(np.abs(deviation), kind="stable")] = np.arange(1.0, k + 1.0)
    if estimator == "R0":
        k0 = k - float(ranks[deviation < 0].max(initial=0.0)) - 1.0
        return k0, math.sqrt(2.0 * max(0.0, k0) + 2.0)
    total = float(ranks[deviation > 0].sum())
    if estimator == "L0":
        k0 = (4.0 * total - k * (k + 1.0)) / (2.0 * k - 1.0)
        factor = 4.0 / (2.0 * k - 1.0)
    else:
        inside = 2.0 * k**2 - 4.0 * total + 0.25
        k0 = k - 0.5 - math.sqrt(inside) if inside >= 0 else math.nan
        below = (k - 0.5) ** 2 - k0 * (2.0 * k - k0 - 1.0)
        factor = 2.0 / math.sqrt(below) if below > 0 else math.nan
    variance = k * (k + 1.0) * (2.0 * k + 1.0) + 10.0 * k0**3 + 27.0 * k0**2 + 17.0 * k0
    variance = (variance - 18.0 * k * k0**2 - 18.0 * k * k0 + 6.0 * k**2 * k0) / 24.0
    return k0, factor * math.sqrt(variance) if variance >= 0 else math.nan


# Gauss-Legendre panels, geometric in the distance from the lower limit: the integrand turns sharply just above it.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 12.0, 41)])
FARTHEST = 64.0


@dataclass(frozen=True, slots=True)
class HenmiCopas:
    """Estimate, standard error and limits; `tau2` is DerSimonian and Laird's, `quantile` replaces z."""

    estimate: float
    se: float
    ci_lb: float
    ci_ub: float
    tau2: float
    quantile: float


def henmi_copas(y: Array, v: Array, *, level: float) -> HenmiCopas:
    """Return the interval of effects y (k,) with sampling variances v (k,); k >= 2."""
    w = 1.0 / v
    w1 = float(w.sum())
    w2, w3, w4 = (float((w**power).sum()) / w1 for power in (2, 3, 4))
    estimate = float(w @ y) / w1
    Q = float(w @ (y - estimate) ** 2)
    df = len(y) - 1.0
    tau2 = max(0.0, (Q - df) / (w1 - w2))
    vr = 1.0 + tau2 * w2
    conditional = _Conditional(df, tau2, vr, w1, w2, w3, w4)

    def excess(x: float) -> float:
        return conditional.tail(x) - 0.5 * (1.0 - level)

    high = 2.0
    while excess(high) > 0 and high < FARTHEST:
        high *= 2.0
    root = float(optimize.brentq(excess, 1e-8, high, xtol=1e-14, rtol=1e-13))
    se = float(np.sqrt(vr / w1))
    quantile = float(np.sqrt(vr)) * root
    return HenmiCopas(estimate, se, estimate - quantile * se, estimate + quantile * se, tau2, quantile)


@dataclass(frozen=True, slots=True)
class _Conditional:
    """The distribution of Q given the standardised error R of the estimate, as a gamma with its two moments."""

    df: float
    tau2: float
    vr: float
    w1: float
    w2: float
    w3: float
    w4: float

    def moments(self, r: Array) -> tuple[Array, Array]:
        """Return mean and variance of Q at R = sqrt(vr) r."""
        t, w1, w2, w3, w4 = self.tau2, self.w1, self.w2, self.w3, self.w4
        shift = (r**2 - 1.0) / self.vr
        second, third = w3 - w2**2, w4 - 2.0 * w2 * w3 + w2**3
        mean = self.df + t * (w1 - w2) + t**2 * shift * second
        variance = (
            2.0 * self.df
            + 4.0 * t * (w1 - w2)
            + 2.0 * t**2 * (w1 * w2 - 2.0 * w3 + w2**2)
            + 4.0 * t**2 * shift * (second + t * third)
            + 2.0 * t**4 * (1.0 - 2.0 * r**2) / self.vr**2 * second**2
        )
        return mean, variance

    def tail(self, x: float) -> float:
        """Return P(R > x times the standard deviation of R that Q makes one believe)."""
        width = np.diff(EDGES)
        r = (x + EDGES[:-1, None] + 0.5 * width[:, None] * (NODES + 1.0)).ravel()
        weight = (0.5 * width[:, None] * WEIGHTS).ravel()
        mean, variance = self.moments(r)
        bound = (self.w1 / self.w2 - 1.0) * ((r / x) ** 2 - 1.0) + self.df
        below = special.gammainc(mean**2 / variance, bound * mean / variance)
        density = np.exp(-0.5 * r**2) / np.sqrt(2.0 * np.pi)
        return float(weight @ (below * density))
