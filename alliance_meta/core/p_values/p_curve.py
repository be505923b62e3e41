"""p-curve: whether significant p-values spread as those of true effects, of none, or of weak tests do.

Simonsohn, Nelson & Simmons (2014, doi:10.1037/a0033242) and Simonsohn, Simmons & Nelson (2015, doi:10.1037/xge0000104):
each p-value is put into its place among the significant ones of a test with a given power, and the places are added as
normal scores (Stouffer). All tests are z tests here: |z| has a folded normal distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value

THIRD = 1.0 / 3.0
# The app of the authors keeps places that far from 0 and 1, and looks for powers between these.
NEAREST = 2.2e-16
HIGHEST = 0.99
# Just above that of a test without effect, as a multiple of it.
LOWEST = 1.02


def above(z: Array | float, shift: float) -> Array:
    """Return P(|Z + shift| >= z)."""
    return np.asarray(special.ndtr(shift - z) + special.ndtr(-shift - z))


def shift_of(power: float, critical: float) -> float:
    """Return the mean of z that gives a two-sided test this power."""
    if float(above(critical, 0.0)) >= power:
        return 0.0
    return float(optimize.brentq(lambda shift: float(above(critical, shift)) - power, 0.0, critical + 8.0, xtol=1e-14))


@dataclass(frozen=True, slots=True)
class Skew:
    """Tests of one hypothesis: z and p of all significant results, of the half below alpha / 2, and by counting.

    The p of `half` is NaN where no p-value lies below alpha / 2.
    """

    full: float
    full_p: float
    half: float
    half_p: float
    binomial_p: float


@dataclass(frozen=True, slots=True)
class PCurve:
    """What p-curve finds."""

    # right, flat: of no effect (a flat curve), in favour of a curve skewed to the right; of a power of a third, in
    # favour of a flatter curve.
    right: Skew
    flat: Skew
    low: int  # p-values below alpha / 2
    # power, power_lb, power_ub: average power, and limits that are those of the search where the curve allows no
    # others.
    power: float
    power_lb: float
    power_ub: float


def p_curve(z: Array, *, alpha: float, level: float) -> PCurve:
    """Return the tests and the power of results |z| (k,), all significant at `alpha`, two-sided."""
    critical, halfway = critical_value(1.0 - alpha, None), critical_value(1.0 - 0.5 * alpha, None)
    k, low = len(z), z[z > halfway]
    third = shift_of(THIRD, critical)
    # At least as many low ones as without effect; at most as many as with a power of a third.
    counted = special.bdtrc(len(low) - 1, k, 0.5) if len(low) else 1.0
    right = _skew(above(z, 0.0) / alpha, above(low, 0.0) / (0.5 * alpha), float(counted))
    share = float(above(halfway, third))
    counted = special.bdtr(len(low), k, share / THIRD)
    flat = _skew(1.0 - above(z, third) / THIRD, 1.0 - above(low, third) / share, float(counted))

    def fit(power: float) -> float:
        """Return the normal score of a curve as steep as this one, or less, at a power: it falls as power rises."""
        return stouffer(1.0 - above(z, shift_of(power, critical)) / power)

    def power_at(score: float) -> float:
        lowest = LOWEST * alpha
        if fit(lowest) <= score:
            return alpha
        return HIGHEST if fit(HIGHEST) >= score else float(optimize.brentq(lambda f: fit(f) - score, lowest, HIGHEST))

    tail = float(special.ndtri(0.5 * (1.0 + level)))
    return PCurve(right, flat, len(low), power_at(0.0), power_at(tail), power_at(-tail))


def _skew(full: Array, half: Array, counted: float) -> Skew:
    """Return the tests of places of all results and of those of the half, and the p-value of counting."""
    scores = stouffer(full), stouffer(half) if len(half) else np.nan
    return Skew(scores[0], float(special.ndtr(scores[0])), scores[1], float(special.ndtr(scores[1])), counted)


def stouffer(places: Array) -> float:
    """Return the sum of the normal scores of places between 0 and 1, as a standard normal variable."""
    return float(special.ndtri(np.clip(places, NEAREST, 1.0 - NEAREST)).sum()) / sqrt(len(places))


def shares(z: Array, *, alpha: float, bins: int, power: float) -> tuple[Array, Array]:
    """Return the share of p-values in each of the equal parts of (0, alpha), found and expected at a power, (bins,)."""
    critical = critical_value(1.0 - alpha, None)
    edges = -special.ndtri(0.5 * alpha * np.arange(bins + 1) / bins)
    expected = np.diff(above(edges, shift_of(power, critical))) / power
    found = np.histogram(z, bins=edges[::-1])[0][::-1] / len(z)
    return found, expected
