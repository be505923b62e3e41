"""Excess significance: more effects that are significant than their power lets expect.

Ioannidis & Trikalinos (2007, doi:10.1177/1740774507079441).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array, Mask

Alternative = Literal["two.sided", "greater", "less"]
CountTest = Literal["exact", "chi2", "binom"]

# Probabilities as near as this, or a share as small, are taken as the same in a two-sided test: as in R.
SAME, SAME_SHARE = float(np.sqrt(np.finfo(float).eps)), 1e-7
# How far true effects are tried, in standard errors of the least precise effect.
FARTHEST = 1e6
NEVER = 1e-290


def significant(y: Array, se: Array, *, alpha: float, alternative: str) -> Mask:
    """Tell which effects (k,) are significant."""
    z, tail = y / se, alpha / 2.0 if alternative == "two.sided" else alpha
    critical = -float(special.ndtri(tail))
    signed = {"two.sided": np.abs(z), "greater": z, "less": -z}[alternative]
    return np.asarray(signed >= critical)


def power(theta: float, tau2: float, se: Array, *, alpha: float, alternative: str) -> Array:
    """Return how probably each effect (k,) is significant if true effects are N(theta, tau2).

    The effect itself is normal with the variance se^2 + tau2, so that no integral over true effects is needed.
    """
    tail = alpha / 2.0 if alternative == "two.sided" else alpha
    bar, total = -float(special.ndtri(tail)) * se, np.sqrt(se**2 + tau2)
    up, down = special.ndtr((theta - bar) / total), special.ndtr((-theta - bar) / total)
    return np.asarray({"two.sided": up + down, "greater": up, "less": down}[alternative])


@dataclass(frozen=True, slots=True)
class Excess:
    """Observed and expected number of significant effects, and how probable such a difference is by chance.

    `X2` is NaN but for the chi-squared test.
    """

    observed: int
    expected: float
    X2: float
    pval: float


def excess(sig: Mask, powers: Array, *, test: str, direction: str) -> Excess:
    """Compare how many of the effects (k,) are significant with their powers (k,)."""
    observed, k, expected = int(sig.sum()), len(sig), float(powers.sum())
    if test == "chi2":
        X2, pval = _chi2(observed, k, expected, direction)
        return Excess(observed, expected, X2, pval)
    chances = powers if test == "exact" else np.full(k, expected / k)
    return Excess(observed, expected, float("nan"), _count_p(observed, counts(chances), direction, test))


def counts(chances: Array) -> Array:
    """Return the distribution of the number of successes, (k + 1,), of k independent trials with these chances.

    Halves are put together by convolution: only positive numbers are added, so that tails keep their digits. What is
    less probable than `NEVER` is taken as impossible.
    """
    mass = np.column_stack([1.0 - chances, chances])
    while len(mass) > 1:
        if len(mass) % 2:
            mass = np.vstack([mass, np.eye(1, mass.shape[1])])
        mass = _pairs(mass[::2], mass[1::2])
    return mass[0, : len(chances) + 1]


def _pairs(first: Array, second: Array) -> Array:
    """Convolve rows (n, m) with rows (n, m): many short ones together, a few long ones each where it is not 0."""
    n, m = first.shape
    out = np.zeros((n, 2 * m - 1))
    if m <= n:
        for shift in range(m):
            out[:, shift : shift + m] += first[:, shift, None] * second
        return out
    for row, one, two in zip(out, first, second, strict=True):
        (a, b), (c, d) = _ends(one), _ends(two)
        row[a + c : b + d - 1] = np.convolve(one[a:b], two[c:d])
    return out


def _ends(mass: Array) -> tuple[int, int]:
    there = np.flatnonzero(mass > NEVER)
    return int(there[0]), int(there[-1]) + 1


def limit(
    sig: Mask, se: Array, tau2: float, *, start: float, alpha: float, alternative: str, test: str, direction: str,
    tes_alpha: float,
) -> float:  # fmt: skip
    """Return the true mean effect, on the side of `start`, at which the test has p = tes_alpha; NaN if none has."""
    side = -1.0 if start < 0 else 1.0

    def beyond(theta: float) -> float:
        powers = power(side * theta, tau2, se, alpha=alpha, alternative=alternative)
        return excess(sig, powers, test=test, direction=direction).pval - tes_alpha

    rising = direction == "greater"
    if (beyond(0.0) >= 0.0) == rising:
        return float("nan")
    near, far = 0.0, max(abs(start), float(se.min()))
    while (beyond(far) >= 0.0) != rising:
        near, far = far, 2.0 * far
        if far > FARTHEST * float(se.max()):
            return float("nan")
    return side * float(optimize.brentq(beyond, near, far, xtol=1e-12 * far, rtol=1e-12))


def _chi2(observed: int, k: int, expected: float, direction: str) -> tuple[float, float]:
    """Return Pearson's X2 of two cells and its p-value, without continuity correction."""
    variance = expected * (k - expected) / k
    away = observed - expected
    if variance <= 0.0:
        X2 = 0.0 if away == 0.0 else float("inf")
    else:
        X2 = away**2 / variance
    z = float(np.sign(away) * np.sqrt(X2))
    return X2, {
        "greater": float(special.ndtr(-z)),
        "less": float(special.ndtr(z)),
        "two.sided": float(special.chdtrc(1.0, X2)),
    }[direction]


def _count_p(observed: int, mass: Array, direction: str, test: str) -> float:
    if direction == "greater":
        return min(1.0, float(mass[observed:].sum()))
    if direction == "less":
        return min(1.0, float(mass[: observed + 1].sum()))
    most = mass[observed] + SAME if test == "exact" else mass[observed] * (1.0 + SAME_SHARE)
    return min(1.0, float(mass[mass <= most].sum()))
