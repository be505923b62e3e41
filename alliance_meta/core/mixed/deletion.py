"""A mixed model without each of many units of rows, its covariance parameters searched for anew, many at a time.

A row whose own variance is so large that nothing is left of its weight is a row that is not there: all deletions are
then the same problem with other variances, and go through the same search together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.mixed.covariance import Structure
from alliance_meta.core.mixed.likelihood import Component, MixedPoint, MixedProblem
from alliance_meta.core.mixed.search import climb
from alliance_meta.core.robust.clusters import IntArray

# Times the largest variance: 1 over it is lost beside every weight.
FAR = 1e30
# Numbers in one array of a batch, so that all stay in a core's cache.
BLOCK = 1 << 14


@dataclass(frozen=True, eq=False)
class Number(Structure):
    """A parameter that only says which unit is left out."""

    linear = True
    n = 1

    @property
    def bounds(self) -> tuple[Array, Array]:
        """None."""
        return np.full(1, -np.inf), np.full(1, np.inf)

    def start(self, variance: float) -> Array:
        """Return any number."""
        return np.ones(1)

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return no covariance."""
        return ()

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return no change."""
        return [()]


@dataclass(frozen=True, eq=False)
class Without(MixedProblem):
    """A problem without the rows of the unit that its last parameter names; `unit` (k,) in the order of the plan."""

    unit: IntArray

    def _own(self, theta: Array) -> Array:
        gone = self.unit == theta[..., -1:].astype(np.intp)
        return np.where(gone, FAR * self.plan.d.max(), self.plan.d)


@dataclass(frozen=True, slots=True, eq=False)
class MixedDeletions:
    """A mixed model without each of J units."""

    theta: Array  # (J, n)
    beta: Array  # (J, p) and (J, p, p)
    vb: Array  # (J, p) and (J, p, p)
    whole: Array  # (J, p, p): covariance of the coefficients of all rows at these parameters
    # QE, vt (J,): Cochran's Q, and the typical sampling variance; NaN where the sampling covariance is singular.
    QE: Array
    vt: Array
    settled: Mask  # (J,)


def delete_units(point: MixedPoint, fixed: Mask, unit: IntArray, which: IntArray) -> MixedDeletions:
    """Search from the fit's own parameters without each unit of `which`.

    `point`: the fit.
    `fixed` (n,): parameters held as they are.
    `unit` (k,): unit of each row, in the order of the data; units do not cut through blocks of the sampling covariance.
    `which` (J,).
    """
    base, theta = point.problem, point.theta
    problem = Without(
        base.y, base.X, base.plan, (*base.components, Component(Number(), ())), base.restricted, unit[base.plan.order]
    )
    sizes = np.bincount(unit, minlength=int(which.max(initial=0)) + 1)[which]
    step = max(1, BLOCK // base.k)
    parts = [
        _delete(problem, theta, np.append(fixed, True), which[at : at + step], sizes[at : at + step])
        for at in range(0, len(which), step)
    ]
    return MixedDeletions(*(np.concatenate(found) for found in zip(*parts, strict=True)))


def _delete(problem: Without, theta: Array, fixed: Mask, which: IntArray, sizes: IntArray) -> tuple[Array, ...]:
    number = which[:, None].astype(float)
    start = np.column_stack([np.repeat(theta[None], len(which), axis=0), number])
    settled = np.ones(len(which), dtype=bool)
    if not fixed.all():
        found = climb(problem, start, fixed)
        start, settled = found.theta, found.settled
    here = problem.at(start)
    nothing = np.column_stack([np.zeros((len(which), theta.size)), number])
    sampling = problem.at(nothing)
    G = sampling.weighted_X
    there = problem.unit != number
    trace = (there / sampling.factored.d).sum(axis=-1) - np.einsum("jkp,jpq,jkq->j", G, sampling.vb, G)
    df = problem.k - sizes - problem.p
    known = np.logical_and(sampling.valid, df > 0)
    vt = np.where(known, df / np.where(trace > 0, trace, np.nan), np.nan)
    QE = np.where(known, sampling._rss, np.nan)
    whole = problem.at(np.where(np.arange(theta.size + 1) == theta.size, -1.0, start))
    return start[:, :-1], here.beta, here.vb, whole.vb, QE, vt, np.logical_and(settled, here.valid)
