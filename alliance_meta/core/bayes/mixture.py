"""Finite mixtures of normal distributions, many at once: distribution function, density, quantiles, moments.

Rows are quantities, columns are the components; every row has the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array, Mask

LOG_ROOT_2PI = 0.5 * float(np.log(2.0 * np.pi))
# Components lighter than this are left out: together they cannot move a probability in its 15th digit.
LIGHTEST = 1e-18
# The largest number that can be squared.
LARGEST = 1e150
# Cells of quantities x components worked on at once.
MOST_CELLS = 1_000_000
MOST_STEPS = 100


@dataclass(frozen=True, slots=True, eq=False)
class NormalMixture:
    """m mixtures of the same number of normals.

    Attributes
    ----------
    weight : ndarray of shape (B,)
        Adds up to 1.
    mean, sd : ndarray of shape (m, B)
    """

    weight: Array
    mean: Array
    sd: Array

    @property
    def m(self) -> int:
        """Number of quantities."""
        return len(self.mean)

    def moments(self) -> tuple[Array, Array]:
        """Return mean and standard deviation, (m,) each."""
        mean = self.mean @ self.weight
        variance = (self.sd**2 + (self.mean - mean[:, None]) ** 2) @ self.weight
        return mean, np.sqrt(variance)

    def cdf(self, x: Array) -> Array:
        """Return P(quantity <= x) for x (m, q)."""
        return self._sum(x, lambda z, _: special.ndtr(z))

    def sf(self, x: Array) -> Array:
        """Return P(quantity > x) for x (m, q), accurate in the upper tail."""
        return self._sum(x, lambda z, _: special.ndtr(-z))

    def pdf(self, x: Array) -> Array:
        """Return the density at x (m, q)."""
        return self._sum(x, lambda z, sd: np.exp(-0.5 * z**2 - LOG_ROOT_2PI) / sd)

    def log_pdf(self, x: Array) -> Array:
        """Return the log density at one point of each quantity, x (m,), also where the density underflows."""
        z = (x[:, None] - self.mean) / self.sd
        return special.logsumexp(np.log(self.weight) - 0.5 * z**2 - np.log(self.sd), axis=1) - LOG_ROOT_2PI

    def quantile(self, probability: Array) -> Array:
        """Return the quantiles of each quantity, (m, q) for q probabilities."""
        p = np.asarray(probability, dtype=float)
        # The upper tail is the lower tail of the mirror image.
        sign, tail = np.where(p <= 0.5, 1.0, -1.0), np.minimum(p, 1.0 - p)
        rows = max(1, MOST_CELLS // (self.mean.shape[1] * max(len(p), 1)))
        out = np.empty((self.m, len(p)))
        for a in range(0, self.m, rows):
            s = slice(a, a + rows)
            mean = (self.mean[s, None, :] * sign[:, None]).reshape(-1, self.mean.shape[1])
            sd = np.repeat(self.sd[s], len(p), axis=0)
            found = _lower_quantile(self.weight, mean, sd, np.tile(tail, len(self.mean[s])))
            out[s] = sign * found.reshape(-1, len(p))
        return out

    def shortest(self, level: float) -> tuple[Array, Array]:
        """Return the shortest interval of each quantity that holds `level`, (m,) each.

        The best of a few intervals, then Newton's steps to equal density at both ends.
        """
        outside = 1.0 - level
        tails = outside * (np.arange(9) + 0.5) / 9.0
        ends = self.quantile(np.append(tails, tails + level)).reshape(self.m, 2, -1)
        best = np.argmin(ends[:, 1] - ends[:, 0], axis=1)
        i = np.arange(self.m)
        x = np.stack([ends[i, 0, best], ends[i, 1, best]], axis=1)
        for _ in range(MOST_STEPS):
            step = self._towards_equal(x, level)
            x = x - step
            if (np.abs(step) <= 1e-9 * (x[:, 1:] - x[:, :1])).all():
                break
        # Where the steps left the best interval for a longer one, or for nothing, there are several hills.
        lost = ~(x[:, 1] - x[:, 0] <= (ends[i, 1, best] - ends[i, 0, best]) * (1.0 + 1e-9))
        for j in np.flatnonzero(lost):
            x[j] = _shortest_of_one(self.row(int(j)), level)
        return x[:, 0], x[:, 1]

    def _towards_equal(self, x: Array, level: float) -> Array:
        """Return Newton's step for F(u) - F(l) = level and f(u) = f(l), (m, 2)."""
        f = self.pdf(x)
        slope = self._sum(x, lambda z, sd: -z * np.exp(-0.5 * z**2 - LOG_ROOT_2PI) / sd**2)
        excess = 1.0 - level - self.cdf(x[:, :1])[:, 0] - self.sf(x[:, 1:])[:, 0]
        unequal = f[:, 1] - f[:, 0]
        determinant = -f[:, 0] * slope[:, 1] + f[:, 1] * slope[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = (excess * slope[:, 1] - f[:, 1] * unequal) / determinant
            upper = (-f[:, 0] * unequal + slope[:, 0] * excess) / determinant
        return np.nan_to_num(np.stack([lower, upper], axis=1), nan=0.0, posinf=0.0, neginf=0.0)

    def row(self, i: int) -> NormalMixture:
        """Return one of the quantities."""
        return NormalMixture(self.weight, self.mean[i : i + 1], self.sd[i : i + 1])

    def _sum(self, x: Array, function: Callable[[Array, Array], Array]) -> Array:
        x = np.asarray(x, dtype=float)
        out = np.empty(x.shape)
        rows = max(1, MOST_CELLS // (self.mean.shape[1] * max(x.shape[1], 1)))
        for a in range(0, self.m, rows):
            s = slice(a, a + rows)
            sd = self.sd[s, None, :]
            z = (x[s, :, None] - self.mean[s, None, :]) / sd
            out[s] = function(z, sd) @ self.weight
        return out


def counting(weight: Array, size: Array) -> Mask:
    """Return which components matter for probabilities, or for the second moment of what has this size (B,) there."""
    spread = weight * np.square(np.minimum(size, LARGEST))
    return (weight > LIGHTEST * weight.max()) | (spread > LIGHTEST * spread.max())


def mixture(weight: Array, mean: Array, sd: Array) -> NormalMixture:
    """Return the mixtures without the components that count neither for a probability nor for a variance."""
    kept = counting(weight, sd.max(axis=0))
    w = weight[kept]
    return NormalMixture(w / w.sum(), mean[:, kept], sd[:, kept])


def _lower_quantile(weight: Array, mean: Array, sd: Array, p: Array) -> Array:
    """Return a p-quantile, p <= 1/2, of each row, by Newton's steps for the normal deviate of F."""
    z = special.ndtri(p)
    middle = int(np.searchsorted(np.cumsum(weight), 0.5))
    spread = sd[:, middle]
    x = mean[:, middle] + z * spread
    parts = mean + z[:, None] * sd
    low, high = parts.min(axis=1), parts.max(axis=1)
    active = np.arange(len(x))
    for _ in range(MOST_STEPS):
        deviate = (x[active, None] - mean[active]) / sd[active]
        F = special.ndtr(deviate) @ weight
        f = (np.exp(-0.5 * deviate**2 - LOG_ROOT_2PI) / sd[active]) @ weight
        short = p[active] > F
        low[active] = np.where(short, x[active], low[active])
        high[active] = np.where(short, high[active], x[active])
        with np.errstate(all="ignore"):
            u = special.ndtri(F)
            new = x[active] - (u - z[active]) * np.exp(-0.5 * u**2 - LOG_ROOT_2PI) / f
        inside = (new >= low[active]) & (new <= high[active])
        new = np.where(inside, new, 0.5 * (low[active] + high[active]))
        # After a Newton step this short the next would be below rounding.
        enough = np.where(inside, 1e-10 * spread[active], 1e-15 * (spread[active] + np.abs(new)))
        moved = np.abs(new - x[active])
        x[active] = new
        active = active[moved > enough]
        if not len(active):
            break
    return x


def _shortest_of_one(one: NormalMixture, level: float) -> tuple[float, float]:
    return shortest_interval(lambda p: one.quantile(p)[0], lambda x: one.pdf(x[None])[0], level=level)


def shortest_interval(
    quantile: Callable[[Array], Array], density: Callable[[Array], Array], *, level: float, lowest: float = -np.inf
) -> tuple[float, float]:
    """Return the shortest interval of a distribution that holds `level`; of one hill, the highest-density one.

    The density has the same height at both ends, unless one of them is `lowest`, where the distribution begins.
    """
    outside = 1.0 - level
    tails = outside * np.linspace(0.0, 1.0, 41)
    tails[0], tails[-1] = 1e-12 * outside, outside * (1.0 - 1e-12)
    ends = quantile(np.append(tails, tails + level)).reshape(2, -1)
    best = int(np.argmin(ends[1] - ends[0]))

    def slope(a: float) -> float:
        lower, upper = density(quantile(np.array([a, a + level])))
        return float(lower - upper)

    low, high = float(tails[max(best - 1, 0)]), float(tails[min(best + 1, len(tails) - 1)])
    if slope(low) * slope(high) < 0:
        a = float(optimize.brentq(slope, low, high, xtol=1e-16, rtol=1e-13))
        lower, upper = quantile(np.array([a, a + level]))
        return float(lower), float(upper)
    if best == 0 and np.isfinite(lowest):
        return lowest, float(quantile(np.array([level]))[0])
    return float(ends[0, best]), float(ends[1, best])
