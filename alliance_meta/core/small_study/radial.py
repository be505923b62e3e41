"""Rücker's limit meta-analysis: the mean of studies of infinite size, from a regression on a generalised radial plot.

Rücker, Schwarzer, Carpenter, Binder & Schumacher (2011, doi:10.1093/biostatistics/kxq046).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array


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
