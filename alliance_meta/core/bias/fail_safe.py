"""Fail-safe numbers: how many effects averaging 0 would have to be missing to overturn a mean.

As in R's metafor (``fsn``): a number is rounded up to the next whole effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import Array

# A number this near to a whole one is that one.
WHOLE = float(np.sqrt(np.finfo(float).eps))
MOST = 10**300


@dataclass(frozen=True, slots=True)
class FailSafe:
    """A fail-safe number, with the mean of the observed effects and its p-value; NaN where a method has none."""

    number: float
    estimate: float
    pval: float


def rosenthal(y: Array, v: Array, *, alpha: float) -> FailSafe:
    """Until Stouffer's combined one-tailed p-value is `alpha` (Rosenthal 1979, doi:10.1037/0033-2909.86.3.638)."""
    k = len(y)
    z = abs(float((y / np.sqrt(v)).sum())) / np.sqrt(k)
    number = k * (z / _upper(alpha)) ** 2 - k
    return FailSafe(_whole(number), float("nan"), float(special.ndtr(-z)))


def orwin(y: Array, w: Array, *, target: float) -> FailSafe:
    """Until the mean weighted by w (k,) is `target`, of its sign (Orwin 1983, doi:10.3102/10769986008002157)."""
    estimate = float(w @ y) / float(w.sum())
    aim = abs(target)
    number = float("inf") if aim == 0.0 else len(y) * (abs(estimate) - aim) / aim
    return FailSafe(_whole(number), estimate, float("nan"))


def rosenberg(y: Array, v: Array, *, alpha: float) -> FailSafe:
    """Until the equal-effects mean has the two-sided p-value `alpha`.

    Rosenberg (2005, doi:10.1111/j.0014-3820.2005.tb01004.x).
    """
    w = 1.0 / v
    total, weight = float(w @ y), float(w.sum())
    number = len(y) * ((total / _upper(alpha / 2.0)) ** 2 - weight) / weight
    return FailSafe(_whole(number), total / weight, _two_sided(total / np.sqrt(weight)))


def general(
    y: Array, v: Array, *, estimate: float, tau2: float, fixed: bool, alpha: float, target: float | None
) -> FailSafe:
    """Until a random-effects mean has the p-value `alpha`, or is `target`, of its sign.

    Viechtbauer (2024), as metafor's ``type="General"``: missing effects have the harmonic mean of the variances, and
    tau2 is that of observed and missing effects together, unless it is `fixed`.
    """
    missing = _Missing(y, v, estimate, tau2, fixed)
    pval = missing.with_number(0)[1]
    if target is None:
        number = missing.smallest(lambda n: missing.with_number(n)[1] >= alpha)
    elif target == 0.0:
        number = float("inf")
    else:
        number = missing.smallest(lambda n: abs(missing.with_number(n)[0]) <= abs(target))
    return FailSafe(number, estimate, pval)


@dataclass(frozen=True, slots=True)
class _Missing:
    y: Array
    v: Array
    estimate: float
    tau2: float
    fixed: bool

    def with_number(self, n: int) -> tuple[float, float]:
        """Return the mean, and its two-sided p-value, when n effects averaging 0 are added."""
        k, typical = len(self.y), 1.0 / float((1.0 / self.v).mean())
        tau2 = self.tau2
        if n and not self.fixed:
            middle = k * self.estimate / (k + n)
            spread = (k - 1 + n - 1) * self.tau2 + k * (self.estimate - middle) ** 2 + n * middle**2
            tau2 = max(0.0, spread / (k + n - 1))
        w, new = 1.0 / (self.v + tau2), n / (typical + tau2)
        total = float(w.sum()) + new
        estimate = float(w @ self.y) / total
        return estimate, _two_sided(estimate * np.sqrt(total))

    def smallest(self, reached: Callable[[int], bool]) -> float:
        """Return the smallest n that reaches the aim; infinity if floating point ends first."""
        if reached(0):
            return 0.0
        low, high = 0, 1
        while not reached(high):
            low, high = high, 2 * high
            if high > MOST:
                return float("inf")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return float(high)


def _upper(tail: float) -> float:
    return -float(special.ndtri(tail))


def _two_sided(z: float) -> float:
    return 2.0 * float(special.ndtr(-abs(z)))


def _whole(number: float) -> float:
    if not np.isfinite(number):
        return number
    near = round(number)
    return max(0.0, float(near if abs(number - near) < WHOLE else np.ceil(number)))
