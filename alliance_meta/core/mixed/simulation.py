"""Effects drawn from a fitted mixed model, floor by floor of its tower: never a full covariance matrix."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.mixed.covariance import Floor
from alliance_meta.core.mixed.likelihood import MixedPoint

# An eigenvalue this far below the largest counts as 0.
NOTHING = 1e-12


def simulate(point: MixedPoint, rng: np.random.Generator, B: int) -> Array:
    """Return B sets of effects in the rows and axes of the tower, (k, B)."""
    e = np.sqrt(point.factored.d)[:, None] * rng.standard_normal((point.problem.k, B))
    for floor in point.factored.floors:
        e += _added(floor, e, rng)
    return np.asarray((point.problem.X @ point.beta)[:, None] + e)


def _added(floor: Floor, e: Array, rng: np.random.Generator) -> Array:
    """Return what a floor adds to errors e (k, B) that have the covariance of the floors below.

    Covariances are drawn. One with a negative eigenvalue, as of outcomes that repel each other, cannot be: there
    e + W A S'e has covariance M + W C W' if A + A' + A T A' = C, in the names of `Floor`.
    """
    level, C = floor.level, floor.C
    values, Q = np.linalg.eigh(C)
    if values[0] >= -NOTHING * max(abs(values[-1]), abs(values[0])):
        root = Q * np.sqrt(np.maximum(values, 0.0))
        return level.rows(level.W, root @ rng.standard_normal((level.starts.size, level.q, e.shape[1])))
    sizes, P = np.linalg.eigh(floor.T)
    there = sizes > NOTHING * sizes.max()
    half = np.where(there, np.sqrt(np.maximum(sizes, 0.0)), 0.0)
    back = np.where(there, 1.0 / np.where(there, half, 1.0), 0.0)
    T_half = (P * half[:, None, :]) @ np.swapaxes(P, 1, 2)
    T_back = (P * back[:, None, :]) @ np.swapaxes(P, 1, 2)
    inner, R = np.linalg.eigh(np.eye(level.q) + T_half @ C @ T_half)
    moved = (R * (np.sqrt(np.maximum(inner, 0.0)) - 1.0)[:, None, :]) @ np.swapaxes(R, 1, 2)
    A = T_back @ moved @ T_back
    flat = (floor.S[:, :, None] * e[:, None, :]).reshape(len(e), -1)
    sums = level.add(flat).reshape(level.starts.size, level.q, e.shape[1])
    return level.rows(level.W, A @ sums)
