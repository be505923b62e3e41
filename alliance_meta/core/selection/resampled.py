"""The cluster bootstrap of a selection model: each replicate counts effects by weights, and all are solved together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.resampling import Refits, in_blocks, stream
from alliance_meta.core.robust.clusters import IntArray, stacks
from alliance_meta.core.selection.dependent import SelectionEstimator, equations, solve
from alliance_meta.core.selection.likelihood import SelectionProblem

# A replicate's tau2 is searched from no less than this share of the mean sampling variance.
INSIDE = 0.05

ClusterBootstrap = Literal["two-stage", "multinomial", "exponential"]


@dataclass(frozen=True, eq=False)
class Replicates:
    """Solutions of resampled data.

    Attributes
    ----------
    theta : ndarray of shape (B, n)
        Those that were found.
    se : ndarray of shape (B, n)
        Their cluster-robust standard errors; empty unless asked for.
    lost : int
        Replicates without a solution.
    """

    theta: Array
    se: Array
    lost: int


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
    """A solution, and how it is found again in other data.

    Attributes
    ----------
    problem : SelectionProblem
    cluster : ndarray of int, shape (k,)
    theta : ndarray of shape (n,)
    estimator : {"CML", "ARGL"}
    held : ndarray of bool, shape (n,)
        Parameters that stay.
    """

    problem: SelectionProblem
    cluster: IntArray
    theta: Array
    estimator: SelectionEstimator
    held: Mask

    def bootstrap(
        self, how: ClusterBootstrap, *, B: int, seed: int, cores: int = 1, errors: bool = False
    ) -> Replicates:
        """Solve B resampled data sets, with their standard errors if asked for."""

        def task(block: int, start: int, stop: int) -> Refits:
            return self._refit(draw_weights(stream(seed, block), stop - start, self.cluster, how), errors)

        found = in_blocks(task, B=B, k=self.problem.k, cores=cores)
        return Replicates(found["theta"], found["se"], B - len(found["theta"]))

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
