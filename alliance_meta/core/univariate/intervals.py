"""Confidence intervals of the between-study variance tau2."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.univariate.quadratic import root, root_above
from alliance_meta.core.univariate.search import log_likelihood, solve_q, turning_points
from alliance_meta.core.univariate.wls import make_batch, wls


def q_profile(y: Array, v: Array, X: Array, *, level: float) -> tuple[float, float]:
    """Return the Q-profile interval (Viechtbauer 2007, doi:10.1002/sim.2514).

    The values of tau2 at which the generalised Q equals the chi-squared quantiles. A bound is 0 where Q(0)
    is already below its quantile; both are 0 when the data vary less than chance allows.
    """
    tail = 0.5 * (1.0 - level)
    batch = make_batch(np.vstack([y, y]), np.vstack([v, v]), X)
    target = special.chdtri(batch.df, np.array([tail, 1.0 - tail]))
    bounds, _, _ = solve_q(batch, target)
    lb, ub = np.maximum(bounds, 0.0)
    return float(lb), float(ub)


def profile_likelihood(
    y: Array, v: Array, X: Array, *, restricted: bool, level: float, lowest: float = 0.0
) -> list[tuple[float, float]]:
    """Return the profile-likelihood confidence set of tau2: one interval, or several where the likelihood has peaks.

    Hardy & Thompson (1996, doi:10.1002/(SICI)1097-0258(19960330)15:6<619::AID-SIM188>3.0.CO;2-A): the values
    whose log-likelihood is within half a chi-squared(1) quantile of the maximum; 0 where 0 is among them.
    """
    batch = make_batch(y, v, X)
    tau2, height, _ = turning_points(batch, restricted=restricted, lowest=lowest)
    cutoff = float(height.max()) - 0.5 * float(special.chdtri(1.0, 1.0 - level))

    def excess(t: float) -> float:
        return float(log_likelihood(wls(batch, np.array([t])), restricted=restricted)[0]) - cutoff

    # Between neighbours the likelihood only rises or only falls, and above the last, a peak, it falls for good.
    points = sorted({lowest, *tau2.tolist()})
    inside = [excess(t) >= 0 for t in points]
    step = float(v.mean())
    edges = [lowest] if inside[0] else []
    for (a, b), (at_a, at_b) in zip(pairwise(points), pairwise(inside), strict=True):
        if at_a != at_b:
            edges.append(root(excess, a, b, unit=step))
    if inside[-1]:
        edges.append(root_above(excess, points[-1], step=step))
    return list(zip(edges[::2], edges[1::2], strict=True))


def higgins_thompson(*, QE: float, k: int, H2: float, vt: float, level: float) -> tuple[float, float]:
    """Return the test-based interval of Higgins & Thompson (2002, doi:10.1002/sim.1186), k > 2, no moderators."""
    if k < QE:
        se = 0.5 * (np.log(QE) - np.log(k - 1.0)) / (np.sqrt(2.0 * QE) - np.sqrt(2.0 * k - 3.0))
    else:
        se = np.sqrt(1.0 / (2.0 * (k - 2.0)) * (1.0 - 1.0 / (3.0 * (k - 2.0) ** 2)))
    half = 2.0 * float(special.ndtri(0.5 * (1.0 + level))) * se
    return max(0.0, float(vt * (H2 * np.exp(-half) - 1.0))), max(0.0, float(vt * (H2 * np.exp(half) - 1.0)))


def wald(*, tau2: float, se: float, level: float) -> tuple[float, float]:
    """Return tau2 -+ z se, not below 0: crude, for tau2 is far from normal with few studies."""
    half = float(special.ndtri(0.5 * (1.0 + level))) * se
    return max(0.0, tau2 - half), tau2 + half


def wald_log(*, tau2: float, se: float, level: float) -> tuple[float, float]:
    """Return the Wald interval of log tau2, transformed back; needs tau2 > 0."""
    half = float(special.ndtri(0.5 * (1.0 + level))) * se / tau2
    return float(tau2 * np.exp(-half)), float(tau2 * np.exp(half))


def sidik_jonkman(*, tau2: float, df: float, level: float) -> tuple[float, float]:
    """Return the interval of Sidik & Jonkman (2005, doi:10.1111/j.1467-9876.2005.00489.x) around their estimate."""
    tail = 0.5 * (1.0 - level)
    low, high = special.chdtri(df, np.array([tail, 1.0 - tail]))
    return float(df * tau2 / low), float(df * tau2 / high)
