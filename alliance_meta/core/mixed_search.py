"""The maximum of a mixed model's likelihood within the bounds of its parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array, Mask
from alliance_meta.core.mixed import MixedPoint, MixedProblem

# What one more step would add to the log-likelihood at most; rounding there is of the order 1e-12.
SETTLED = 1e-15
NEAR = 1e-3
# Where no step raises the likelihood any more, what is left to gain must be rounding.
ROUNDED = 1e-8
MOST_STEPS = 60
# Beyond this many parameters the average information is a poor map of the likelihood.
MANY = 8
MOST_DAMPING = 1e6
# Starts that put nearly all variance on one component find maxima that an even start misses.
SHARE = 0.9
# A likelihood this much better is another maximum.
OTHER = 1e-6


@dataclass(frozen=True, eq=False)
class MixedFit:
    """The best point found.

    Attributes
    ----------
    point : MixedPoint
    converged : bool
    steps : int
        Over all starts.
    at_bound : ndarray of bool, (n,)
        Parameters at the edge of their range.
    maxima : tuple of float
        The likelihood that each start reached.
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

    @property
    def several_maxima(self) -> bool:
        """Starts ended at different likelihoods."""
        return max(self.maxima) - min(self.maxima) > OTHER


def maximise_mixed(
    problem: MixedProblem, *, given: Array | None = None, start: Array | None = None, starts: int | None = None
) -> MixedFit:
    """Maximise the likelihood; parameters that are not NaN in `given` (n,) stay at those values."""
    fixed = np.zeros(problem.n, dtype=bool) if given is None else ~np.isnan(given)
    if fixed.all():
        point = problem.at(np.empty(0) if given is None else np.asarray(given, dtype=float))
        return MixedFit(point, True, 0, np.zeros(problem.n, dtype=bool), (point.loglik,), fixed)
    tries = [start] if start is not None else _starts(problem, starts)
    best: tuple[MixedPoint, bool] | None = None
    maxima, total = [], 0
    for theta in tries:
        if given is not None:
            theta = np.where(fixed, given, theta)
        few = np.count_nonzero(~fixed) <= MANY
        point, settled, steps = _climb(problem, theta, fixed) if few else (problem.at(theta), False, 0)
        if not settled and point.valid:
            point, settled, more = _climb(problem, _crawl(point, fixed), fixed, observed=True)
            steps += more
        total += steps
        maxima.append(point.loglik)
        if best is None or not best[0].valid or point.loglik > best[0].loglik + 1e-12 * abs(point.loglik):
            best = point, settled
    assert best is not None
    low, high = problem.bounds
    edge = ((best[0].theta <= low) | (best[0].theta >= high)) & ~fixed
    return MixedFit(best[0], best[1], total, edge, tuple(maxima), fixed)


def _starts(problem: MixedProblem, starts: int | None) -> list[Array]:
    excess = _excess_variance(problem)
    n = len(problem.components)

    def shared(shares: Array) -> Array:
        return np.concatenate(
            [c.structure.start(excess * float(s)) for c, s in zip(problem.components, shares, strict=True)]
        )

    found = [shared(np.full(n, 1.0 / n))]
    if n > 1 and problem.k <= FEW:
        found += [shared(np.where(np.arange(n) == j, SHARE, (1.0 - SHARE) / (n - 1))) for j in range(n)]
    return found[:starts]


# Beyond this many effects one start has to do.
FEW = 2_000


def _excess_variance(problem: MixedProblem) -> float:
    """Return the variance of the residuals beyond sampling error, or a tenth of the latter if that is more."""
    y, Q, d = problem.y, problem.Q, problem.plan.d
    resid = y - Q @ (Q.T @ y)
    total = float(resid @ resid) / max(problem.k - problem.p, 1)
    typical = float(d.mean())
    return max(total - typical, 0.1 * typical)


def _climb(problem: MixedProblem, theta: Array, fixed: Mask, *, observed: bool = False) -> tuple[MixedPoint, bool, int]:
    """Climb by Newton steps with the average information, or once near the top with the observed one."""
    low, high = problem.bounds
    theta = np.clip(theta, low, high)
    point = problem.at(theta)
    for _ in range(MOST_STEPS):
        if point.valid:
            break
        theta = np.where(fixed, theta, 0.5 * (theta + units(problem)))
        point = problem.at(theta)
    if not point.valid:
        return point, False, 0
    unit = units(problem)
    H, fresh, damping = _observed(point) if observed else point.average_information, True, 0.0
    for step in range(MOST_STEPS):
        g = point.gradient
        free = ~fixed & ~((theta <= low) & (g <= 0)) & ~((theta >= high) & (g >= 0))
        if not free.any():
            return point, True, step
        move = np.zeros(problem.n)
        move[free] = _newton(H[np.ix_(free, free)], g[free], damping, unit[free])
        gain = float(g[free] @ move[free])
        if gain < SETTLED:
            return point, True, step
        after = _search(problem, point, theta, move, gain)
        if after is None:
            if fresh and damping >= MOST_DAMPING:
                return point, gain < ROUNDED, step
            damping = 0.0 if not fresh else max(1e-2, 10.0 * damping)
            H, fresh = point.average_information, True
            continue
        moved, turned = after.theta - theta, after.gradient - g
        fresh = gain >= NEAR
        H = after.average_information if fresh else _update(H, moved, -turned)
        theta, point, damping = after.theta, after, 0.1 * damping if damping > 1e-6 else 0.0
    return point, False, MOST_STEPS


def _crawl(point: MixedPoint, fixed: Mask) -> Array:
    """Follow a winding ridge, as of many correlations among few groups, by a quasi-Newton search."""
    problem = point.problem
    low, high = (np.where(fixed, point.theta, edge) for edge in problem.bounds)

    def downhill(theta: Array) -> tuple[float, Array]:
        at = problem.at(theta)
        return (-at.loglik, -at.gradient) if at.valid else (1e300, np.zeros(problem.n))

    found = optimize.minimize(
        downhill,
        point.theta,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(low, high),
        options={"maxiter": 5000, "maxfun": 10_000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-9},
    )
    return np.asarray(found.x)


def units(problem: MixedProblem) -> Array:
    """Return parameters of the size that sampling error gives them: positive, well inside their range."""
    typical = float(problem.plan.d.mean())
    return np.maximum(np.concatenate([c.structure.start(typical) for c in problem.components]), 1e-3 * typical)


def _newton(H: Array, g: Array, damping: float, unit: Array) -> Array:
    """Return H^-1 g with H made positive definite where it is not, its diagonal raised by the damping."""
    # Effects without any residual have no information: a step is a few units long then.
    scale = np.sqrt(np.maximum(np.diag(H), 1e-6 / unit**2))
    R = H / np.outer(scale, scale) + damping * np.eye(g.size)
    values, vectors = np.linalg.eigh(R)
    values = np.maximum(np.abs(values), 1e-8)
    return np.asarray(vectors @ ((vectors.T @ (g / scale)) / values) / scale)


def _search(problem: MixedProblem, point: MixedPoint, theta: Array, move: Array, gain: float) -> MixedPoint | None:
    """Return the first point along the projected step that raises the likelihood enough."""
    low, high = problem.bounds
    length = 1.0
    # Near the maximum a step changes the likelihood by less than rounding: the gradient decides there.
    slack = 1e-13 * (1.0 + abs(point.loglik))
    for _ in range(40):
        after = problem.at(np.clip(theta + length * move, low, high))
        if after.valid and after.loglik >= point.loglik + 1e-4 * length * min(gain, 1.0) - slack:
            return after
        length *= 0.5
    return None


def _update(H: Array, moved: Array, turned: Array) -> Array:
    """Return H by the BFGS formula, or H where the curvature along the step is not positive."""
    along = float(moved @ turned)
    if not along > 1e-10 * float(np.sqrt((moved @ moved) * (turned @ turned))):
        return H
    Hm = H @ moved
    return np.asarray(H + np.outer(turned, turned) / along - np.outer(Hm, Hm) / float(moved @ Hm))


def observed_information(fit: MixedFit) -> Array:
    """Return minus the second derivative of the likelihood, (n, n)."""
    return _observed(fit.point)


def _observed(point: MixedPoint) -> Array:
    """Return minus the second derivative by central differences of the gradient."""
    problem, theta = point.problem, point.theta
    low, high = problem.bounds
    found = np.empty((problem.n, problem.n))
    unit = units(problem)
    for j in range(problem.n):
        h = 1e-4 * max(abs(float(theta[j])), 1e-2 * float(unit[j]))
        up, down = theta.copy(), theta.copy()
        up[j], down[j] = min(theta[j] + h, high[j]), max(theta[j] - h, low[j])
        found[j] = -(problem.at(up).gradient - problem.at(down).gradient) / (up[j] - down[j])
    return 0.5 * (found + found.T)
