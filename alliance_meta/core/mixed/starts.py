"""Where the search for the variances of a mixed model begins."""

from __future__ import annotations

from itertools import product

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.mixed.likelihood import MixedProblem
from alliance_meta.core.mixed.structures import Scaled

# Beyond this many effects there is one start, and no other peak is looked for.
FEW = 2_000
# Numbers that a batch of points may hold at a time.
MOST_CELLS = 4_000_000
# Values of a variance on a grid are about this factor apart.
SPACED = 6.0
MOST_GRID = 400
MOST_CLIMBS = 64
# Starts that put nearly all variance on one component.
SHARE = 0.9


def candidates(problem: MixedProblem, given: Array | None) -> Array:
    """Return points to climb from, (m, n)."""
    n = len(problem.components)
    variances = all(isinstance(c.structure, Scaled) for c in problem.components)
    excess = excess_variance(problem)
    even = _shared(problem, np.full(n, excess / n))
    if problem.k > FEW:
        return even[None]
    if variances:
        values = _scale(problem, excess)
        if values.size**n <= MOST_GRID:
            return _tops(problem, values, given)
    found = [even]
    for j, component in enumerate(problem.components):
        for share in (1.0 / n, SHARE) if n > 1 else (1.0,):
            rest = np.full(n, excess * (1.0 - share) / (n - 1) if n > 1 else excess)
            base = _shared(problem, rest)
            own = component.structure.starts(excess * share)
            rows = np.repeat(base[None], len(own), axis=0)
            rows[:, problem.slices[j]] = own
            found.append(rows)
    return _best(problem, np.vstack(found), given)


def _shared(problem: MixedProblem, variances: Array) -> Array:
    """Return parameters that give each component a variance."""
    return np.concatenate([c.structure.start(float(v)) for c, v in zip(problem.components, variances, strict=True)])


def excess_variance(problem: MixedProblem) -> float:
    """Return the variance of the residuals beyond sampling error, or a tenth of the latter if that is more."""
    y, Q, d = problem.y, problem.Q, problem.plan.d
    resid = y - Q @ (Q.T @ y)
    total = float(resid @ resid) / max(problem.k - problem.p, 1)
    typical = float(d.mean())
    return max(total - typical, 0.1 * typical)


def _scale(problem: MixedProblem, excess: float) -> Array:
    """Return variances from 0 to far above what is expected."""
    d = problem.plan.d
    low = max(0.3 * min(float(d.min()), excess), 1e-3 * excess)
    high = 2.0 * max(excess, low)
    m = int(np.ceil(np.log(high / low) / np.log(SPACED))) + 1
    return np.append(0.0, np.geomspace(low, high, m))


def _logliks(problem: MixedProblem, theta: Array) -> Array:
    wide = problem.columns.size
    size = max(1, MOST_CELLS // wide)
    return np.concatenate([problem.at(theta[at : at + size]).logliks for at in range(0, len(theta), size)])


def _tops(problem: MixedProblem, values: Array, given: Array | None) -> Array:
    """Return the points of a grid that no neighbour exceeds."""
    axes = [values if given is None or np.isnan(given[j]) else given[j : j + 1] for j in range(problem.n)]
    grid = np.array(list(product(*axes)))
    height = _logliks(problem, grid).reshape([a.size for a in axes])
    padded = np.pad(height, 1, constant_values=-np.inf)
    top = np.isfinite(height)
    for step in product((-1, 0, 1), repeat=problem.n):
        if any(step):
            around = padded[tuple(slice(1 + s, 1 + s + a.size) for s, a in zip(step, axes, strict=True))]
            top &= height >= around
    return grid[top.ravel()] if top.any() else grid[-1:]


def _best(problem: MixedProblem, theta: Array, given: Array | None) -> Array:
    """Return the points with the highest likelihood, as many as climb together in good time."""
    if given is not None:
        theta = np.where(np.isnan(given), theta, given)
    low, high = problem.bounds
    theta = np.unique(np.clip(theta, low, high), axis=0)
    most = min(MOST_CLIMBS, max(1, MOST_CELLS // problem.columns.size))
    if len(theta) <= most:
        return theta
    return theta[np.argsort(-_logliks(problem, theta), kind="stable")[:most]]
