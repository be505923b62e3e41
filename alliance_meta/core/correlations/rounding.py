"""Ranges of rounded numbers: what a printed .25 can have been, and what follows from it.

A number printed as .25 was anything from .245 to .255. What follows from several such numbers is the range of the
formula over all they can have been. Every formula used here is monotone in each of its arguments, whatever the others
are, so its extremes lie at the corners of the box, and the range is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# .25 +- .005 ends a few binary roundings away from .245: ends that near touch.
HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers from `low` to `high`, both included; either may be infinite."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"a range runs from its lower to its upper end, not from {self.low} to {self.high}")

    def meets(self, other: Range) -> bool:
        """Whether the two ranges have a number in common."""
        return self.low <= other.high + _hair(other.high) and other.low <= self.high + _hair(self.high)

    def within(self, low: float, high: float) -> Range | None:
        """Return the part between two bounds, None if nothing lies there."""
        if self.high < low or self.low > high:
            return None
        return Range(max(self.low, low), min(self.high, high))

    def absolute(self) -> Range:
        """Return the range of the absolute value."""
        ends = sorted((abs(self.low), abs(self.high)))
        return Range(0.0 if self.low < 0 < self.high else ends[0], ends[1])

    def negative(self) -> Range:
        """Return the range of the number with its sign turned."""
        return Range(-self.high, -self.low)

    @property
    def middle(self) -> float:
        """Halfway between the ends; the finite end where the other is infinite."""
        if math.isinf(self.high):
            return self.low
        return self.high if math.isinf(self.low) else 0.5 * (self.low + self.high)


def rounded(value: float, decimals: int) -> Range:
    """Return what a number printed with so many decimals can have been: half a unit of the last either way."""
    half = 0.5 * 10.0**-decimals
    return Range(value - half, value + half)


def span(f: Callable[..., Any], *ranges: Range) -> Range:
    """Return the range of `f`, monotone in each argument, over the box of its arguments.

    Where `f` has no value at a corner, such as inf - inf, nothing is known and the range is everything.

    >>> span(lambda a, b: a / b, Range(1.0, 2.0), Range(4.0, 5.0))
    Range(low=0.2, high=0.5)
    """
    corners = np.array(list(itertools.product(*((one.low, one.high) for one in ranges))), dtype=float)
    with np.errstate(all="ignore"):
        values = np.asarray(f(*corners.T), dtype=float).ravel().tolist()
    if any(map(math.isnan, values)):
        return Range(-math.inf, math.inf)
    return Range(min(values), max(values))


def hull(first: Range, *others: Range) -> Range:
    """Return the smallest range that holds all of them."""
    every = (first, *others)
    return Range(min(one.low for one in every), max(one.high for one in every))


def _hair(value: float) -> float:
    return HAIR * abs(value) if math.isfinite(value) else 0.0
