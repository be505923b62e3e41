"""The cluster bootstrap of a selection model: each replicate counts effects by weights, and all are solved together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.resampling import BootstrapInterval, Refits, bootstrap_limits, in_blocks, stream
from alliance_meta.core.robust.clusters import IntArray, stacks
from alliance_meta.core.selection.dependent import SelectionEstimator, equations, solve
from alliance_meta.core.selection.likelihood import SelectionProblem

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
