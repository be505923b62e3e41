"""Artifacts that make an observed correlation smaller than the one of interest, and what undoes them.

The observed r comes from the one of interest, rho, in three steps: attenuation before the range was restricted
(`inner`), restriction to u times the standard deviation (Thorndike's cases), attenuation within the sample
(`outer`). Everything works on arrays row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations.conversions import biserial_factor

RangeRestriction = Literal["direct", "indirect"]


def spearman_brown(reliability: float, length: Array) -> Array:
    """Return the reliability of the mean of `length` parallel measurements (Spearman 1910; Brown 1910)."""
    return reliability / (reliability + (1.0 - reliability) / length)


def dichotomy(p: Array) -> Array:
    """Return by how much a split of a normal variable at share p shrinks its correlations, phi(z) / sqrt(pq)."""
    return 1.0 / biserial_factor(p)


def dependability(patient: float, session: float, residual: float, sessions: Array, *, absolute: bool = False) -> Array:
    """Return the generalisability of a mean over sessions, from variance components.

    What sessions have in common for all patients (`session`) is error for absolute decisions only.
    """
    noise = residual + session if absolute else residual
    return patient / (patient + noise / sessions)


def unrestricted_reliability(rxx: Array, u: Array) -> Array:
    """Return the reliability where the standard deviation is 1/u times as large, the error being the same."""
    return 1.0 - u**2 * (1.0 - rxx)


def restricted_reliability(rxx: Array, u: Array) -> Array:
    """Return the reliability in the sample, the inverse of `unrestricted_reliability`."""
    return 1.0 - (1.0 - rxx) / u**2


def true_score_u(u: Array, rxx_unrestricted: Array) -> Array:
    """Return the range restriction of true scores; NaN where error alone exceeds the variance left.

    sqrt((u^2 - (1 - rxx)) / rxx) (Hunter, Schmidt & Le 2006, doi:10.1037/0021-9010.91.3.594).
    """
    safe = np.where(rxx_unrestricted > 0, rxx_unrestricted, np.nan)
    return _root((u**2 - (1.0 - safe)) / safe)


class Steps(NamedTuple):
    """The three steps from rho to the observed r, (k,) each: r = outer * restrict(inner * rho, u)."""

    inner: Array
    u: Array
    outer: Array


class Corrected(NamedTuple):
    """Corrected correlations, (k,) each: rho, the compound attenuation r / rho, and d rho / d r."""

    rho: Array
    attenuation: Array
    slope: Array


def steps(
    rxx: Array, ryy: Array, split_x: Array, split_y: Array, u: Array, *, kind: RangeRestriction = "direct"
) -> Steps:
    """Return the steps for reliabilities in the sample, factors of dichotomy and ratios of SDs.

    Direct restriction selects on the scores themselves, so the reliability of x acts before it (case II). Indirect
    restriction selects on something else and works through true scores (case IV); the reliability acts after it.
    Where u = 1 the two are the same.
    """
    outer = np.sqrt(ryy) * split_x * split_y
    unrestricted = unrestricted_reliability(rxx, u)
    if kind == "direct":
        return Steps(_root(unrestricted), u, outer)
    return Steps(np.ones_like(outer), true_score_u(u, unrestricted), outer * np.sqrt(rxx))


def correct(r: Array, by: Steps) -> Corrected:
    """Undo the steps: x = r / outer, c = x / sqrt(u^2 + (1 - u^2) x^2), rho = c / inner.

    NaN where u > 1 and x is so far beyond 1 that no c gives it.
    """
    x = r / by.outer
    spread = _root(by.u**2 + (1.0 - by.u**2) * x**2)
    attenuation = by.outer * by.inner * spread
    # d c / d x = u^2 / spread^3.
    slope = by.u**2 / (spread**3 * by.outer * by.inner)
    return Corrected(r / attenuation, attenuation, slope)


def attenuate(rho: Array, by: Steps) -> Array:
    """Return the r that would be observed, the inverse of `correct`."""
    c = rho * by.inner
    return by.outer * c * by.u / np.sqrt(1.0 - c**2 * (1.0 - by.u**2))


@dataclass(frozen=True, eq=False)
class Pooled:
    """Mean and variances of correlations over studies, in the words of Hunter and Schmidt."""

    # mean, se: weighted mean and its standard error, sqrt(var_total / k).
    mean: float
    se: float
    var_total: float  # variance of the (corrected) correlations
    var_error: float  # variance expected from sampling error
    var_artifacts: float  # variance from differences between studies in their artifacts; 0 where each r was corrected
    var_true: float  # what is left, not truncated; negative where sampling error explains more than all


def without_bias(r: Array, n: Array) -> Array:
    """Return r over (2n - 2)/(2n - 1), without most of its small-sample bias (Schmidt & Hunter 2015, p. 140)."""
    return r * (2.0 * n - 1.0) / (2.0 * n - 2.0)


def bare_bones(r: Array, n: Array, *, unbiased: bool = False) -> Pooled:
    """Pool observed correlations weighted by n; only sampling error is taken off.

    Error variance of a study (1 - mean^2)^2 / (n - 1), the mean in place of its own r.
    """
    return _pool(r, n, n, np.ones_like(r), mean_r=_mean(r, n), unbiased=unbiased)


def individual(r: Array, n: Array, corrected: Corrected, *, unbiased: bool = False) -> Pooled:
    """Pool correlations that were corrected one by one, weighted by n A^2."""
    weights = n * corrected.attenuation**2
    return _pool(corrected.rho, n, weights, corrected.slope, mean_r=_mean(r, n), unbiased=unbiased)


def _pool(y: Array, n: Array, weights: Array, slope: Array, *, mean_r: float, unbiased: bool) -> Pooled:
    mean = _mean(y, weights)
    total = _variance(y, weights, unbiased=unbiased)
    error = _mean(slope**2 * (1.0 - mean_r**2) ** 2 / (n - 1.0), weights)
    return Pooled(mean, float(np.sqrt(total / len(y))), total, error, 0.0, total - error)


@dataclass(frozen=True, eq=False)
class Distribution:
    """Values of one artifact and how often each occurs, the weights adding up to 1."""

    values: Array
    weights: Array


def by_distribution(
    r: Array,
    n: Array,
    *,
    rxx: Distribution,
    ryy: Distribution,
    split_x: Distribution,
    split_y: Distribution,
    u: Distribution,
    kind: RangeRestriction = "direct",
    unbiased: bool = False,
) -> Pooled:
    """Correct the mean and the variance for artifacts known only by their distributions.

    The artifacts are taken as independent of one another and of rho. The mean rho is the one whose attenuated
    values average to the observed mean; their variance over the artifacts is taken off along with sampling error;
    the rest is divided by the square of the mean slope (Schmidt & Hunter 2015, ch. 4, the interactive method).
    """
    bare = bare_bones(r, n, unbiased=unbiased)
    # Only the reliability of x and u act together; the others multiply, so their moments do.
    grid_x, grid_u = (part.ravel() for part in np.meshgrid(rxx.values, u.values))
    weights = np.outer(u.weights, rxx.weights).ravel()
    ones = np.ones_like(grid_x)
    inside = steps(grid_x, ones, ones, ones, grid_u, kind=kind)
    factors = (Distribution(np.sqrt(ryy.values), ryy.weights), split_x, split_y)
    first, second = (float(np.prod([part.weights @ part.values**power for part in factors])) for power in (1, 2))
    rho = _solve_mean(bare.mean / first, inside, weights)
    observed = attenuate(np.full_like(grid_x, rho), inside)
    artifacts = float(second * (weights @ observed**2) - bare.mean**2)
    spread = np.sqrt(1.0 - (rho * inside.inner) ** 2 * (1.0 - inside.u**2))
    slope = float(first * (weights @ (inside.outer * inside.inner * inside.u / spread**3)))
    scale = slope**2
    return Pooled(
        rho,
        bare.se / slope,
        bare.var_total / scale,
        bare.var_error / scale,
        artifacts / scale,
        (bare.var_total - bare.var_error - artifacts) / scale,
    )


def _solve_mean(target: float, inside: Steps, weights: Array) -> float:
    """Return the rho in (-1, 1) whose attenuated values average to the target, NaN if there is none."""
    low, high = -1.0, 1.0

    def gap(rho: float) -> float:
        """Return how far the mean of the attenuated values is above the target."""
        return float(weights @ attenuate(np.full_like(inside.u, rho), inside)) - target

    if not gap(low) < 0 < gap(high):
        return float("nan")
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gap(middle) < 0 else (low, middle)
    return 0.5 * (low + high)


def _mean(values: Array, weights: Array) -> float:
    return float(weights @ values / weights.sum())


def _variance(values: Array, weights: Array, *, unbiased: bool) -> float:
    k = len(values)
    spread = _mean((values - _mean(values, weights)) ** 2, weights)
    return spread * k / (k - 1.0) if unbiased and k > 1 else spread


def _root(values: Array) -> Array:
    """Return the square root, NaN for what has none."""
    return np.sqrt(np.where(values > 0, values, np.nan))
