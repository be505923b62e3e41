"""Predicted random effects and true effects of a mixed model, with their error variances.

All follow from P = M^-1 - M^-1 X vb X'M^-1: a random effect u with covariance G and columns Z is predicted by
G Z'P y with error variance G - G Z'P Z G (Robinson 1991, doi:10.1214/ss/1177011926).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.mixed.covariance import SolvedLevel
from alliance_meta.core.mixed.likelihood import MixedPoint

# Effects predicted together.
AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class PredictedEffects:
    """Random effects of one term, group by group."""

    value: Array  # (n, q)
    error: Array  # (n, q, q): covariance of the prediction error
    share: Array  # (n, q, p): G Z'M^-1 X vb: minus the covariance of the prediction error with that of the coefficients


def predicted_effects(point: MixedPoint, term: int) -> PredictedEffects:
    """Return the random effects of a term, in the order of its groups."""
    problem = point.problem
    C = problem.covariances(point.theta)[term]
    place, copies, owner = (getattr(problem.plan, name)[term] for name in ("places", "copies", "owners"))
    p = problem.p
    if place is None:
        return _row_effects(point, float(C[0, 0]))
    A = np.column_stack([point.weighted_X, point.weighted_resid])
    sums = point.factored.levels[place].level.sums(A)
    inner = point.factored.within(place)
    q = C.shape[0]
    n = int(owner.max()) + 1
    linked = problem.plan.linked[term]
    U, a, N = np.zeros((n, q, p)), np.zeros((n, q)), np.zeros((n, q, q))
    for copy in range(copies):
        at = owner[:, copy]
        used = at >= 0
        part = slice(copy * q, (copy + 1) * q)
        U[at[used]], a[at[used]] = sums[used, part, :p], sums[used, part, p]
        N[at[used]] = inner[used, part, part]
    share = C @ U @ point.vb
    error = C - C @ N @ C + share @ np.swapaxes(C @ U, 1, 2)
    value = a @ C
    if linked:
        return PredictedEffects(value.T, np.diagonal(error[0])[:, None, None], share[0][:, None, :])
    return PredictedEffects(value, error, share)


def shared_and_own(point: MixedPoint, shared: IntArray, own: IntArray, variances: tuple[float, float]) -> Array:
    """Return effects made of a part that groups share and one of their own, with error variances, (2, n).

    `shared` (k,) are the groups, `own` (k,) their members, of which there are n, `variances` those of both parts. One
    of them may be negative, as long as their sum is not: effects that repel each other.
    """
    plan, n = point.problem.plan, int(own.max()) + 1
    group = np.zeros(n, dtype=np.intp)
    group[own] = shared
    found = np.empty((2, n))
    for at in range(0, n, AT_A_TIME):
        members = np.arange(at, min(at + AT_A_TIME, n))
        A = variances[0] * (shared[:, None] == group[members]) + variances[1] * (own[:, None] == members)
        A = plan.rotate(A)
        carried = A.T @ point.weighted_X
        found[0, members] = A.T @ point.weighted_resid
        found[1, members] = sum(variances) - (A * point.factored.solve(A)).sum(axis=0)
        found[1, members] += np.einsum("np,pq,nq->n", carried, point.vb, carried)
    found[1] = np.maximum(found[1], 0.0)
    return found


def _row_effects(point: MixedPoint, variance: float) -> PredictedEffects:
    """Return the random effects of single rows, where the term is part of the diagonal."""
    plan = point.problem.plan
    G, a = plan.restore(point.weighted_X), plan.restore(point.weighted_resid[:, None])
    share = variance * G @ point.vb
    lost = variance**2 * inverse_diagonal(point, np.ones(point.problem.k))
    error = variance - lost + variance * np.einsum("kp,kp->k", share, G)
    return PredictedEffects(variance * a, error[:, None, None], share[:, None, :])


def inverse_diagonal(point: MixedPoint, scale: Array) -> Array:
    """Return the diagonal of Q S M^-1 S Q' in the rows of the data, S = diag(scale) in the axes of the plan."""
    plan = point.problem.plan
    found = plan.restore_diagonal(scale**2 / point.factored.d)
    place = np.empty(plan.order.size, dtype=np.intp)
    place[plan.order] = np.arange(plan.order.size)
    for one in point.factored.levels:
        S = plan.restore(scale[:, None] * one.S)[plan.order]
        found -= np.einsum("kq,kq->k", S, one.level.rows(S, one.K))[place]
    return np.asarray(found)


def true_effects(point: MixedPoint, y: Array, v: Array) -> tuple[Array, Array]:
    """Return the predicted true effect of each row and its error variance, (k,) each.

    The prediction is y - V M^-1 (y - X beta); its error variance V - V P V.
    """
    plan = point.problem.plan
    noise = plan.restore((plan.d * point.weighted_resid)[:, None])[:, 0]
    G = plan.restore(plan.d[:, None] * point.weighted_X)
    error = v - inverse_diagonal(point, plan.d) + np.einsum("kp,pq,kq->k", G, point.vb, G)
    return y - noise, np.maximum(error, 0.0)


# An eigenvalue this far below the largest counts as 0.
NOTHING = 1e-12


def simulate(point: MixedPoint, rng: np.random.Generator, B: int) -> Array:
    """Return B sets of effects in the rows and axes of the plan, (k, B)."""
    e = np.sqrt(point.factored.d)[:, None] * rng.standard_normal((point.problem.k, B))
    for one in point.factored.levels:
        e += _added(one, e, rng)
    return np.asarray((point.problem.X @ point.beta)[:, None] + e)


def _added(one: SolvedLevel, e: Array, rng: np.random.Generator) -> Array:
    """Return what a level adds to errors e (k, B) that have the covariance of the levels below.

    Covariances are drawn. One with a negative eigenvalue, as of outcomes that repel each other, cannot be: there
    e + W A S'e has covariance M + W C W' if A + A' + A T A' = C, in the names of `SolvedLevel`.
    """
    level, C = one.level, one.C
    values, Q = np.linalg.eigh(C)
    if values[0] >= -NOTHING * max(abs(values[-1]), abs(values[0])):
        root = Q * np.sqrt(np.maximum(values, 0.0))
        return level.rows(level.W, root @ rng.standard_normal((level.starts.size, level.q, e.shape[1])))
    sizes, P = np.linalg.eigh(one.T)
    there = sizes > NOTHING * sizes.max()
    half = np.where(there, np.sqrt(np.maximum(sizes, 0.0)), 0.0)
    back = np.where(there, 1.0 / np.where(there, half, 1.0), 0.0)
    T_half = (P * half[:, None, :]) @ np.swapaxes(P, 1, 2)
    T_back = (P * back[:, None, :]) @ np.swapaxes(P, 1, 2)
    inner, R = np.linalg.eigh(np.eye(level.q) + T_half @ C @ T_half)
    between = (R * (np.sqrt(np.maximum(inner, 0.0)) - 1.0)[:, None, :]) @ np.swapaxes(R, 1, 2)
    A = T_back @ between @ T_back
    flat = (one.S[:, :, None] * e[:, None, :]).reshape(len(e), -1)
    sums = level.add(flat).reshape(level.starts.size, level.q, e.shape[1])
    return level.rows(level.W, A @ sums)
