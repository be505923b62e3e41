r"""Effects selected by their p-values: the studies, the intervals of their p-values, and the normal likelihood.

A result in interval j is published with a probability :math:`\omega_j` relative to the most significant ones,
:math:`1 = \omega_0 \ge \omega_1 \ge \dots \ge \omega_{J-1} \ge 0`. Given mean and standard deviation of the true
effects the likelihood is

.. math:: \prod_i \phi_i(y_i) \; \omega_{j(i)} / \textstyle\sum_j \omega_j P_{ij}

with the probability :math:`P_{ij}` of a result in interval j (Hedges 1992, doi:10.1214/ss/1177011364).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray

Sides = Literal["one", "two"]

# Smaller probabilities of a result mean mass that is negligible, and would not survive their products.
LEAST = 1e-20


@dataclass(frozen=True, slots=True, eq=False)
class StepData:
    """k studies and the intervals of their p-values.

    Attributes
    ----------
    y, se : ndarray of shape (k,)
    cuts : ndarray of shape (J - 1, k)
        Effects (two-sided: their sizes) at the borders of the intervals, the largest first.
    two_sided : bool
    counts : ndarray of int, shape (J,)
        Studies in each interval.
    sign : float
        -1 if small effects are the significant ones.
    """

    y: Array
    se: Array
    cuts: Array
    two_sided: bool
    counts: IntArray
    sign: float = 1.0

    @property
    def m(self) -> int:
        """Number of unknown probabilities."""
        return len(self.cuts)

    @property
    def exponents(self) -> Array:
        """How often each b_i is a factor, that of its prior density included, (m,)."""
        after = np.cumsum(self.counts[::-1])[::-1][1:]
        return after + np.arange(self.m - 1.0, -1.0, -1.0)


def step_data(y: Array, se: Array, steps: Sequence[float], sides: Sides, *, sign: float = 1.0) -> StepData:
    """Return the intervals between p-values `steps`, increasing, for effects y (k,) and standard errors (k,)."""
    p = np.asarray(steps, dtype=float)
    two = sides == "two"
    cuts = -special.ndtri(0.5 * p if two else p)[:, None] * se
    below = (np.abs(y) if two else sign * y) < cuts
    counts = np.bincount(below.sum(axis=0), minlength=len(p) + 1).astype(np.intp)
    return StepData(y, se, cuts, two, counts, sign)


def log_density(data: StepData, mu: Array, tau: Array) -> Array:
    """Return the log density of the effects without selection for each mu (B,) and tau (B,), (B,)."""
    total = data.se**2 + np.square(tau)[:, None]
    squares = (data.y - mu[:, None]) ** 2 / total
    return -0.5 * (squares + np.log(2.0 * np.pi * total)).sum(axis=1)


def probabilities(data: StepData, mu: Array, tau: Array) -> Array:
    """Return the probability of a result in each interval, (J, B, k)."""
    mu, sd = data.sign * mu, np.sqrt(data.se**2 + np.square(tau)[:, None])
    above = [(cut - mu[:, None]) / sd for cut in data.cuts]
    found = [special.ndtr(-above[0]), *(_between(low, high) for high, low in pairwise(above))]
    if data.two_sided:
        below = [(-cut - mu[:, None]) / sd for cut in data.cuts]
        found[0] += special.ndtr(below[0])
        for one, (low, high) in zip(found[1:], pairwise(below), strict=True):
            one += _between(low, high)
        found.append(_between(below[-1], above[-1]))
    else:
        found.append(special.ndtr(above[-1]))
    return np.maximum(np.stack(found), LEAST)


def _between(a: Array, b: Array) -> Array:
    """Return the normal probability between a and b, from the side where both tails are small."""
    right = a > 0
    return special.ndtr(np.where(right, -a, b)) - special.ndtr(np.where(right, -b, a))
