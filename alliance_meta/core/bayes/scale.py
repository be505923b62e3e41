"""A Student t prior of one coefficient as a scale mixture of normals, integrated by the trapezoid rule.

b ~ t(df, mean, scale) means b | g ~ N(mean, scale^2 / g), g ~ Gamma(df / 2, rate df / 2). In u = log g the
integrand dies away exponentially on both sides and is analytic, so equally spaced points converge geometrically.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.quadrature import LOG_ROOT_2PI

# What lies beyond the points is exp(-DEPTH) of the whole, or less.
DEPTH = 38.0
LONGEST = 0.25
# From here on Stirling's series is exact to rounding.
ASYMPTOTIC = 32.0


def stirling_error(a: float) -> float:
    """Return log gamma(a) less (a - 1/2) log a - a + log(2 pi) / 2, without their cancellation where a is large."""
    if a < ASYMPTOTIC:
        return float(special.gammaln(a) - (a - 0.5) * np.log(a) + a) - LOG_ROOT_2PI
    return (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * a**2)) / a**2) / a**2) / a


def t_constant(df: float) -> float:
    """Return the log density of a t distribution with location 0 and scale 1 at 0."""
    half = 0.5 * df
    grown = half * np.log1p(0.5 / half) - 0.5 + stirling_error(half + 0.5) - stirling_error(half)
    return float(grown) - LOG_ROOT_2PI


@dataclass(frozen=True, slots=True)
class TPrior:
    """A t prior of one coefficient."""

    index: int  # which coefficient
    mean: float
    scale: float
    df: float


def scale_nodes(prior: TPrior, distance: float) -> tuple[Array, Array]:
    """Return values of g and the logs of their weights, for data about `distance` away from the prior's mean."""
    df = prior.df
    # A power of 2, so that the points are exactly where they should be.
    step = min(LONGEST, 2.0 ** np.floor(np.log2(1.5 / np.sqrt(2.0 * (df + 1.0)))))
    reach = 2.0 * DEPTH / df
    top = np.log1p(reach + np.sqrt(reach**2 + 2.0 * reach))
    reach = 2.0 * (DEPTH + 5.0) / (df + 1.0)
    peak = np.log((df + 1.0) / (df + (distance / prior.scale) ** 2))
    low = peak - reach - np.sqrt(2.0 * reach)
    u = step * np.arange(np.floor(low / step), np.ceil(top / step) + 1.0)
    half = 0.5 * df
    constant = 0.5 * np.log(half) - LOG_ROOT_2PI - stirling_error(half) + np.log(step)
    return np.exp(u), constant + half * (u - np.expm1(u))


def gauss_rules(weight: Array, point: Array, n: int) -> tuple[Array, Array]:
    """Return rules of n points that stand for weighted points, (B, L) each: points and weights (B, n).

    Gauss's rules, exact for polynomials up to degree 2n - 1, by Lanczos' recurrence with reorthogonalisation
    (Golub & Welsch 1969, doi:10.1090/S0025-5718-69-99647-1). Every row of `weight` adds up to 1.
    """
    q = np.sqrt(weight)
    basis = [q]
    diagonal, beside = [], []
    smallest = 1e-13 * np.abs(point).max()
    for _ in range(n):
        z = point * q
        diagonal.append((z * q).sum(axis=1))
        for one in basis + basis:
            z = z - (z * one).sum(axis=1, keepdims=True) * one
        length = np.sqrt((z**2).sum(axis=1))
        beside.append(np.where(length > smallest, length, 0.0))
        q = np.where(length[:, None] > smallest, z / np.maximum(length, 1e-300)[:, None], 0.0)
        basis.append(q)
    T = np.zeros((len(weight), n, n))
    i = np.arange(n)
    T[:, i, i] = np.stack(diagonal, axis=1)
    T[:, i[1:], i[:-1]] = np.stack(beside[:-1], axis=1)
    points, vectors = np.linalg.eigh(T)
    return points, vectors[:, 0, :] ** 2
