r"""Selection models of dependent effects: each effect's own distribution is modelled, how effects hang together is not.

Composite marginal likelihood (CML) adds up the log-likelihoods of the effects as if they were independent. The
augmented, reweighted Gaussian likelihood (ARGL) counts the normal likelihood of every effect 1 / w times, so that it
stands for those that were not seen, and solves, with the weights :math:`w_i` and their parameters :math:`\psi`,

.. math:: \sum_i \frac{1}{w_i} \frac{\partial \log \phi(y_i; m_i, \eta_i)}{\partial (\beta, \gamma)} = 0,
   \qquad \sum_i \frac{\partial \ell_i}{\partial \zeta} = 0

(Pustejovsky, Citkowicz & Joshi 2025, doi:10.31222/osf.io/qg5x6_v1). Neither depends on how effects of a cluster are
related; the covariance is a sandwich of the derivatives and of what each cluster adds to the equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, stacks
from alliance_meta.core.resampling import BootstrapInterval, Refits, bootstrap_limits, in_blocks, stream
from alliance_meta.core.selection.search import bounds, climb
from alliance_meta.core.selection.weights import SelectionPoint, SelectionProblem

SelectionEstimator = Literal["CML", "ARGL"]

# metaselection's penalties: |beta|^4 / 16; tau exp(-5 tau), whose top is at .2; (zeta - log .5)^4 / 54.
BETA_RATE, TAU_RATE, ZETA_RATE, ZETA_MEAN = 1.0 / 16.0, 5.0, 1.0 / 54.0, float(np.log(0.5))


@dataclass(frozen=True, eq=False)
class PenalisedProblem(SelectionProblem):
    """A problem whose parameters are drawn, weakly, to values that are usual for correlations and d."""

    def at(self, theta: Array) -> SelectionPoint:
        """Work out the penalised likelihood and its derivatives at parameters theta (B, n)."""
        point = super().at(theta)
        return PenalisedPoint(self, theta, point.loglik_i, point.slopes, point.curvatures, *_penalty(self, theta))


@dataclass(frozen=True, eq=False)
class PenalisedPoint(SelectionPoint):
    """The penalised likelihood; the penalty (B,), its derivatives (B, n), and the second ones, a diagonal (B, n)."""

    penalty: Array
    first: Array
    second: Array

    def loglik(self, weights: Array | None = None) -> Array:
        """Return the penalised log-likelihood, (B,)."""
        return super().loglik(weights) + self.penalty

    def gradient(self, weights: Array | None = None) -> Array:
        """Return the derivatives of `loglik`, (B, n)."""
        return super().gradient(weights) + self.first

    def hessian(self, weights: Array | None = None) -> Array:
        """Return the second derivatives of `loglik`, (B, n, n)."""
        return super().hessian(weights) + self.second[:, :, None] * np.eye(self.problem.n)


def penalised(problem: SelectionProblem) -> PenalisedProblem:
    """Return the problem with weak penalties."""
    return PenalisedProblem(problem.y, problem.v, problem.weights, problem.designs, problem.selected)


def _penalty(problem: SelectionProblem, theta: Array) -> tuple[Array, Array, Array]:
    value, first, second = np.zeros(len(theta)), np.zeros_like(theta), np.zeros_like(theta)
    for number, part in enumerate(problem.slices):
        x = theta[:, part]
        if number == 1:
            tau = TAU_RATE * np.exp(0.5 * x)
            value += (0.5 * x - tau).sum(axis=1)
            first[:, part], second[:, part] = 0.5 * (1.0 - tau), -0.25 * tau
        else:
            rate, x = (BETA_RATE, x) if number == 0 else (ZETA_RATE, x - ZETA_MEAN)
            value -= rate * (x**4).sum(axis=1)
            first[:, part], second[:, part] = -4.0 * rate * x**3, -12.0 * rate * x**2
    return value, first, second


@dataclass(frozen=True, eq=False)
class Equations:
    """What is solved, at B sets of parameters."""

    left: Array  # (B, n): the left sides, which are 0 at the solution
    jacobian: Array  # (B, n, n)
    contributions: Array  # (B, k, n): what each effect adds to the left sides

    def sandwich(self, cluster: IntArray, free: Mask) -> Array:
        """Return the covariance of the free (B, n) parameters, robust to dependence within clusters, 0 for others."""
        order = np.argsort(cluster, kind="stable")
        starts = np.searchsorted(cluster[order], np.arange(cluster.max() + 1))
        summed = np.add.reduceat(self.contributions[:, order], starts, axis=1)
        both = free[:, :, None] & free[:, None, :]
        held = np.where(free, 0.0, 1.0)[:, :, None] * np.eye(free.shape[1])
        bread = np.linalg.inv(np.where(both, self.jacobian, 0.0) + held)
        half = (summed * free[:, None, :]) @ bread.swapaxes(1, 2)
        return np.asarray(half.swapaxes(1, 2) @ half)


def equations(
    problem: SelectionProblem, theta: Array, weights: Array, estimator: SelectionEstimator = "CML"
) -> Equations:
    """Return the equations of an estimator at theta (B, n), with effects counted by weights (B, k)."""
    point = problem.at(theta)
    if estimator == "ARGL":
        point, curvatures = _reweighted(point)
        left, jacobian = point.gradient(weights), _jacobian(point, curvatures, weights)
    else:
        left, jacobian = point.gradient(weights), point.hessian(weights)
    contributions = weights[..., None] * point.scores
    if isinstance(point, PenalisedPoint):
        # The penalty is shared out among the effects.
        share = weights / weights.sum(axis=1, keepdims=True)
        contributions += share[..., None] * point.first[:, None]
    return Equations(left, jacobian, contributions)


def _reweighted(point: SelectionPoint) -> tuple[SelectionPoint, Array]:
    """Return the point with ARGL's slopes, and derivatives of them, (2 + d, 2 + d, B, k), a row for each equation."""
    problem, theta = point.problem, point.theta
    t = problem.tau2(theta)
    r, eta = problem.y - theta[:, problem.slices[0]] @ problem.designs[0].T, problem.v + t
    own = problem.weights.observed(problem.psi(theta))
    seen = 1.0 if problem.selected is None else problem.selected.astype(float)
    slopes, curvatures = point.slopes.copy(), point.curvatures.copy()
    times = np.exp(-seen * own.value)
    slopes[0] = times * r / eta
    slopes[1] = 0.5 * t * times * (np.square(r / eta) - 1.0 / eta)
    for b in range(2, len(slopes)):
        curvatures[b, :b] = curvatures[:b, b]
        curvatures[:2, b] = -slopes[:2] * seen * own.first[b - 2]
    curvatures[0, 0] = -times / eta
    curvatures[0, 1] = curvatures[1, 0] = -t * slopes[0] / eta
    curvatures[1, 1] = slopes[1] + t * t * times * (0.5 - np.square(r) / eta) / np.square(eta)
    return replace(point, slopes=slopes, curvatures=curvatures), curvatures


def _jacobian(point: SelectionPoint, curvatures: Array, weights: Array) -> Array:
    """Return the derivatives of weighted equations, (B, n, n), which are not symmetric."""
    problem = point.problem
    parts = list(zip(problem.slices, problem.designs, strict=True))
    out = np.empty((len(weights), problem.n, problem.n))
    for a, (rows, G) in enumerate(parts):
        for b, (columns, D) in enumerate(parts):
            block = (weights * curvatures[a, b]) @ (G[:, :, None] * D[:, None, :]).reshape(problem.k, -1)
            out[:, rows, columns] = block.reshape(len(out), G.shape[1], D.shape[1])
    if isinstance(point, PenalisedPoint):
        out += point.second[:, :, None] * np.eye(problem.n)
    return out


@dataclass(frozen=True, eq=False)
class Solved:
    """Solutions."""

    theta: Array  # (B, n)
    free: Mask  # (B, n): parameters that are neither held nor at a bound
    found: Mask  # (B,)


def solve(
    problem: SelectionProblem,
    start: Array,
    weights: Array,
    estimator: SelectionEstimator = "CML",
    held: Mask | None = None,
) -> Solved:
    """Solve the equations of an estimator from `start` (B, n), with effects counted by weights (B, k).

    Parameters `held` (n,) stay. ARGL's equations can have several solutions: that which is reached from CML's is meant,
    if none is, from equal weights.
    """
    held = np.zeros(problem.n, dtype=bool) if held is None else held
    climbed = climb(problem, start, weights=weights, held=held)
    theta, found = climbed.theta, climbed.done
    if estimator == "ARGL":
        theta, rooted = _find_root(problem, theta, weights, held)
        for other in _other_starts(problem, climbed.theta, held):
            again = found & ~rooted
            if again.any():
                theta[again], rooted[again] = _find_root(problem, other[again], weights[again], held)
        found = found & rooted
    low, high = bounds(problem)
    return Solved(theta, (theta > low) & (theta < high) & ~held, found)


def _other_starts(problem: SelectionProblem, theta: Array, held: Mask) -> Iterator[Array]:
    """Yield other starts than CML's solutions (B, n): equal weights; and tau2 = 0, which steps from above may miss."""
    location, scale = problem.slices[:2]
    beta = np.linalg.lstsq(problem.designs[0], problem.y, rcond=None)[0]
    equal = np.where(held, theta, 0.0)
    equal[:, location] = beta
    if scale.stop > scale.start:
        equal[:, scale.start] = np.log(np.mean(problem.v) + np.var(problem.y - problem.designs[0] @ beta))
    yield equal
    one = _single_tau2(problem)
    if one is not None:
        flat = theta.copy()
        flat[:, one] = bounds(problem)[0][one]
        yield flat


MOST_STEPS, SHORTEST = 80, 2.0**-14
# A step so small, in units of the data's spread, is the last.
SMALL = 1e-8
LONGEST_STEP = 2.0


def _find_root(problem: SelectionProblem, start: Array, weights: Array, held: Mask) -> tuple[Array, Mask]:
    """Solve ARGL by Newton's method; steps are shortened until there is less left to go (Deuflhard's test)."""
    ends, unit = _in_tau2(problem, np.array(bounds(problem))), _units(problem)
    x = np.clip(_in_tau2(problem, start), *ends)
    left, jacobian = _argl(problem, x, weights, unit)
    found, moving, share = np.zeros(len(x), dtype=bool), np.arange(len(x)), np.ones(len(x))
    for _ in range(MOST_STEPS):
        now, F, w = x[moving], left[moving], weights[moving]
        free = ~(held | ((now <= ends[0]) & (F < 0.0)) | ((now >= ends[1]) & (F > 0.0)))
        inverse = np.linalg.pinv(np.where(free[:, :, None] & free[:, None, :], jacobian[moving], 0.0))
        step = -_times(inverse, F)
        size = np.abs(step).max(axis=1)
        last = size < SMALL
        step *= (share[moving] * np.minimum(1.0, LONGEST_STEP / np.maximum(size, SMALL)))[:, None]
        trial = np.clip(now + step * unit, *ends)
        new, J = _argl(problem, trial, w, unit)
        good = last | (np.square(_times(inverse, new)).sum(axis=1) < np.square(_times(inverse, F)).sum(axis=1))
        at = moving[good]
        x[at], left[at], jacobian[at] = trial[good], new[good], J[good]
        share[moving] = np.where(good, np.minimum(1.0, 4.0 * share[moving]), 0.25 * share[moving])
        found[moving[last]] = True
        moving = moving[~last & (share[moving] > SHORTEST)]
        if not len(moving):
            break
    return _in_log(problem, x), found


def _times(A: Array, x: Array) -> Array:
    return np.asarray(np.matmul(A, x[:, :, None])[:, :, 0])


def _argl(problem: SelectionProblem, x: Array, weights: Array, unit: Array) -> tuple[Array, Array]:
    """Return ARGL's equations and their derivatives in units and, where there is one tau2, in tau2.

    In log(tau2) they have a root at minus infinity, whatever the data.
    """
    theta = _in_log(problem, x)
    point, curvatures = _reweighted(problem.at(theta))
    left, jacobian = point.gradient(weights), _jacobian(point, curvatures, weights)
    one = _single_tau2(problem)
    if one is not None:
        jacobian[:, one, one] -= left[:, one]
        slope = 1.0 / x[:, one]
        left[:, one] *= slope
        jacobian[:, one] *= slope[:, None]
        jacobian[:, :, one] *= slope[:, None]
    return left * unit, jacobian * unit * unit[:, None]


def _single_tau2(problem: SelectionProblem) -> int | None:
    """Return where log(tau2) stands if it is the same for all effects."""
    Z = problem.designs[1]
    return problem.slices[1].start if Z.shape[1] == 1 and bool((Z == 1.0).all()) else None


def _in_tau2(problem: SelectionProblem, theta: Array) -> Array:
    x, one = theta.copy(), _single_tau2(problem)
    if one is not None:
        x[:, one] = np.exp(x[:, one])
    return x


def _in_log(problem: SelectionProblem, x: Array) -> Array:
    theta, one = x.copy(), _single_tau2(problem)
    if one is not None:
        theta[:, one] = np.log(theta[:, one])
    return theta


def _units(problem: SelectionProblem) -> Array:
    """Return the sizes that parameters have, (n,)."""
    spread = float(np.sqrt(np.var(problem.y) + np.mean(problem.v)))
    unit, one = np.ones(problem.n), _single_tau2(problem)
    sizes = np.sqrt(np.mean(problem.designs[0] ** 2, axis=0))
    unit[problem.slices[0]] = spread / np.where(sizes > 0, sizes, 1.0)
    if one is not None:
        unit[one] = spread**2
    return unit


# A replicate's tau2 is searched from no less than this share of the mean sampling variance.
INSIDE = 0.05
# Stands for the standard error of what is at a bound: the farthest of all.
TINY = 1e-12

ClusterBootstrap = Literal["two-stage", "multinomial", "exponential"]
SelectionInterval = BootstrapInterval | Literal["student"]


def draw_weights(rng: np.random.Generator, B: int, cluster: IntArray, how: ClusterBootstrap) -> Array:
    """Return how often each effect counts in B samples of clusters, (B, k).

    ``multinomial`` draws clusters with replacement, ``two-stage`` then draws effects within them, as many as they
    have, and ``exponential`` gives every cluster an exponential weight. No sample is of one cluster alone.
    """
    J = int(cluster.max()) + 1
    if how == "exponential":
        return rng.exponential(size=(B, J))[:, cluster]
    counts = rng.multinomial(J, np.full(J, 1.0 / J), size=B)
    while J > 1 and (alone := counts.max(axis=1) == J).any():
        counts[alone] = rng.multinomial(J, np.full(J, 1.0 / J), size=int(alone.sum()))
    if how == "multinomial":
        return counts[:, cluster].astype(float)
    out = np.empty((B, len(cluster)))
    for rows in stacks(cluster):
        m = rows.shape[1]
        drawn = rng.multinomial(m * counts[:, cluster[rows[:, 0]]], np.full(m, 1.0 / m))
        out[:, rows.ravel()] = drawn.reshape(B, -1)
    return out


@dataclass(frozen=True, eq=False)
class Refitting:
    """A solution, and how it is found again in other data."""

    problem: SelectionProblem
    cluster: IntArray  # (k,)
    theta: Array  # (n,)
    estimator: SelectionEstimator
    held: Mask  # (n,): parameters that stay

    def bootstrap(self, how: ClusterBootstrap, *, B: int, seed: int, cores: int = 1) -> Replicates:
        """Solve B resampled data sets."""

        def task(block: int, start: int, stop: int) -> Refits:
            return self._refit(draw_weights(stream(seed, block), stop - start, self.cluster, how), errors=True)

        found = in_blocks(task, B=B, k=self.problem.k, cores=cores)
        return Replicates(self, found["theta"], found["se"], B - len(found["theta"]))

    def without_clusters(self) -> Array:
        """Return the solutions without one cluster at a time, those that are found, (J, n)."""

        def task(block: int, start: int, stop: int) -> Refits:
            return self._refit((self.cluster != np.arange(start, stop)[:, None]).astype(float), errors=False)

        return in_blocks(task, B=int(self.cluster.max()) + 1, k=self.problem.k)["theta"]

    def _refit(self, weights: Array, errors: bool) -> Refits:
        solved = solve(self.problem, np.tile(self._start, (len(weights), 1)), weights, self.estimator, self.held)
        found = solved.found
        theta, se = solved.theta[found], np.empty((int(found.sum()), 0))
        if errors:
            at = equations(self.problem, theta, weights[found], self.estimator)
            variances = np.einsum("bii->bi", at.sandwich(self.cluster, solved.free[found]))
            se = np.sqrt(np.maximum(variances, 0.0))
        return {"theta": theta, "se": se}

    @property
    def _start(self) -> Array:
        """The solution, but inside its bounds: no search for log(tau2) comes back from where tau2 is nearly 0."""
        start, part = self.theta.copy(), self.problem.slices[1]
        if part.stop - part.start == 1:
            start[part] = np.maximum(start[part], np.log(INSIDE * self.problem.v.mean()))
        return start


@dataclass(frozen=True, eq=False)
class Replicates:
    """Solutions of resampled data."""

    of: Refitting
    theta: Array  # (B, n): those that were found
    se: Array  # (B, n): their cluster-robust standard errors, 0 at a bound
    lost: int  # replicates without a solution

    @property
    def at_bound(self) -> Mask:
        """Parameters that are at a bound, or held, (B, n)."""
        return np.asarray(self.se <= 0.0)

    @cached_property
    def _without_clusters(self) -> Array:
        return self.of.without_clusters()

    def limits(
        self, at: int, estimate: float, se: float, kind: SelectionInterval, level: float
    ) -> tuple[float, float] | str:
        """Return the limits of parameter number `at`, or why there is no such interval.

        ``student`` are quantiles of (replicate - estimate) / its standard error, turned round (Hall 1988,
        doi:10.1214/aos/1176350933).
        """
        values = self.theta[:, at]
        if kind == "percentile":
            return bootstrap_limits(values, estimate, kind, level) or ""
        if not np.isfinite(estimate) or not np.isfinite(se):
            return "the estimate lies at its bound; kind='percentile' has an interval"
        if kind == "bca":
            found = bootstrap_limits(values, estimate, kind, level, self._without_clusters[:, at])
            return found or "every replicate lies on one side of the estimate"
        if self.at_bound[:, at].mean() >= 0.5 * (1.0 - level):
            return "too many replicates lie at a bound to be mirrored; kind='percentile' has an interval"
        scale = np.ones(len(values)) if kind == "basic" else np.maximum(self.se[:, at], TINY) / se
        low, high = bootstrap_limits((values - estimate) / scale, 0.0, "basic", level) or (np.nan, np.nan)
        return estimate + low, estimate + high
