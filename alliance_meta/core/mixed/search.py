"""The highest maximum of a mixed model's likelihood within the bounds of its parameters.

A likelihood of variances can have several peaks, many of them at the edge of the range. Points all over the range are
compared, the promising ones climb together, and the best peaks are polished.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array, Mask
from alliance_meta.core.mixed.climb import SETTLED, Climbed, climb, observed
from alliance_meta.core.mixed.likelihood import MixedPoint, MixedProblem
from alliance_meta.core.mixed.structures import CompoundSymmetry, Correlated, Scaled
from alliance_meta.core.robust.clusters import IntArray

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


# What is left to gain where climbs stop that only have to tell peaks from each other.
ROUGH = 1e-3
# What may be left to gain of very many effects, whose variances have small errors and whose steps take long.
STEADY = 1e-15
# Climbs that end as near as this, in likelihood and in covariances, have found the same peak.
SAME = 1e-2
# Peaks lower by more than this are not polished.
LOW = 2.0
MOST_PEAKS = 8
# Rows finer than this share of what the levels add leave too few digits of the likelihood for any search.
FINEST = 1e-9


@dataclass(frozen=True, eq=False)
class MixedFit:
    """The best point found.

    Attributes
    ----------
    point : MixedPoint
    converged : bool
    steps : int
        Of all climbs, which go together.
    at_bound : ndarray of bool, (n,)
        Parameters at the edge of their range.
    maxima : tuple of float
        The likelihood of each peak found, the highest first; none that is lower by more than two.
    fixed : ndarray of bool, (n,)
        Parameters that were given.
    """

    point: MixedPoint
    converged: bool
    steps: int
    at_bound: Mask
    maxima: tuple[float, ...]
    fixed: Mask

    @property
    def theta(self) -> Array:
        """Covariance parameters, (n,)."""
        return self.point.theta


def maximise_mixed(problem: MixedProblem, *, given: Array | None = None, start: Array | None = None) -> MixedFit:
    """Maximise the likelihood; parameters that are not NaN in `given` (n,) stay at those values.

    With a `start`, (n,) or several (m, n), the search climbs from there only.
    """
    fixed = np.zeros(problem.n, dtype=bool) if given is None else ~np.isnan(given)
    if fixed.all():
        point = problem.at(np.empty(0) if given is None else np.asarray(given, dtype=float))
        return MixedFit(point, True, 0, np.zeros(problem.n, dtype=bool), (point.loglik,), fixed)
    tries = candidates(problem, given) if start is None else np.atleast_2d(start)
    if given is not None:
        tries = np.where(fixed, given, tries)
    if len(tries) == 1:
        found = climb(problem, tries, fixed, enough=SETTLED if problem.k <= FEW else STEADY)
    else:
        rough = climb(problem, tries, fixed, enough=ROUGH)
        found = climb(problem, rough.theta[_peaks(problem, rough)], fixed)
        found = found.after(rough.steps)
    found = _finished(problem, found, fixed)
    found = _beside_zero(problem, found, fixed)
    peaks = _peaks(problem, found)
    best = peaks[0]
    low, high = problem.bounds
    theta = found.theta[best]
    edge = ((theta <= low) | (theta >= high)) & ~fixed
    maxima = tuple(found.value[peaks].tolist())
    point = problem.at(theta) if found.last is None else found.last
    return MixedFit(point, bool(found.settled[best]), found.steps, edge, maxima, fixed)


def _peaks(problem: MixedProblem, found: Climbed) -> IntArray:
    """Return one climb for each different peak that is not much too low, the highest first."""
    if len(found.value) == 1:
        return np.zeros(1, dtype=np.intp)
    order = np.argsort(-found.value, kind="stable")
    value = found.value[order]
    order = order[value >= value[0] - LOW] if np.isfinite(value[0]) else order[:1]
    flat = [C.reshape(len(order), -1) for C in problem.covariances(found.theta[order])]
    where = np.concatenate(flat, axis=1)
    size = SAME * (np.abs(where).max() + float(problem.plan.d.min()))
    kept: list[int] = []
    for at in range(len(order)):
        near = [
            abs(found.value[order[at]] - found.value[order[one]]) < SAME and np.abs(where[at] - where[one]).max() < size
            for one in kept
        ]
        if not any(near):
            kept.append(at)
        if len(kept) == MOST_PEAKS:
            break
    return np.asarray(order[kept])


def _finished(problem: MixedProblem, found: Climbed, fixed: Mask) -> Climbed:
    """Return the climbs with the best finished, where it had not settled, by ever more patient searches."""
    best = int(np.argmax(found.value))
    for crawl in (False, True):
        if found.settled[best] or not np.isfinite(found.value[best]):
            break
        theta = found.theta[best : best + 1]
        point = problem.at(theta[0])
        if point.own_shares.min() < FINEST:
            break
        if crawl:
            theta = _crawl(problem, theta[0], fixed)[None]
            point = problem.at(theta[0])
        more = climb(problem, theta, fixed, H=observed(point)[None])
        found = found.replaced(best, more)
    return found


def _beside_zero(problem: MixedProblem, found: Climbed, fixed: Mask) -> Climbed:
    """Return the climbs with those from where the best point is with other correlations, if one of them is higher.

    Beside a variance of 0 a correlation changes nothing, but from some correlations the likelihood rises with that
    variance and from others it falls: a climb that got there with one of the latter has not arrived.
    """
    best = found.theta[int(np.argmax(found.value))]
    same = [best]
    for component, part in zip(problem.components, problem.slices, strict=True):
        rho, structure = part.stop - 1, component.structure
        if not isinstance(structure, CompoundSymmetry | Correlated) or fixed[rho] or structure.linear:
            continue
        low, high = structure.bounds
        for value in (low[-1], 0.0, high[-1]):
            other = best.copy()
            other[rho] = value
            same.append(other)
    tries = np.array(same)
    alike = [np.abs(C - C[:1]).reshape(len(tries), -1).max(axis=1) == 0 for C in problem.covariances(tries)]
    tries = tries[np.all(alike, axis=0)]
    if len(tries) == 1:
        return found
    more = climb(problem, tries[1:], fixed)
    higher = more.value > found.value.max()
    return found.joined(more, higher) if higher.any() else found


def _crawl(problem: MixedProblem, theta: Array, fixed: Mask) -> Array:
    """Follow a winding ridge, as of many correlations among few groups, by a quasi-Newton search."""
    low, high = (np.where(fixed, theta, edge) for edge in problem.bounds)

    def downhill(theta: Array) -> tuple[float, Array]:
        at = problem.at(theta)
        return (-at.loglik, -at.gradient) if at.valid else (1e300, np.zeros(problem.n))

    found = optimize.minimize(
        downhill,
        theta,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(low, high),
        options={"maxiter": 2000, "maxfun": 4000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-9},
    )
    return np.asarray(found.x)


def observed_information(fit: MixedFit) -> Array:
    """Return minus the second derivative of the likelihood, (n, n)."""
    return observed(fit.point)
