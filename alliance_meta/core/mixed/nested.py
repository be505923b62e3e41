"""Effects in nested groups with block-diagonal sampling errors: their layout, their density, and draws of them.

Given the mean, the covariance is V + sum of tau_l^2 J_l over the levels, J_l blocks of ones. The eigenvectors of V turn
its blocks into a diagonal once; a level is then one column, the turned ones, so that Woodbury's identity needs two sums
for each group and no matrix (Harville 1977, doi:10.1080/01621459.1977.10480998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray, SamplingCovariance, nested, stacks
from alliance_meta.core.mixed.covariance import Blocks

LOG_2PI = float(np.log(2.0 * np.pi))
MOST_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Groups within groups, from the finest to the coarsest, above the blocks of V."""

    d: Array  # (k,): sampling variances along the axes in which V is diagonal
    W: Array  # (k,): a column of ones in these axes
    # members, Q (k, m) or None: row i of the turned data is the sum of Q[i, j] times row members[i, j] of the data;
    # None where V is diagonal.
    members: IntArray | None
    Q: Array | None
    parents: tuple[IntArray, ...]  # for each level the group of each row, then of each group of the level before

    def turn(self, A: Array) -> Array:
        """Return data (..., k) along the axes in which V is diagonal."""
        if self.members is None or self.Q is None:
            return A
        return np.asarray((A[..., self.members] * self.Q).sum(axis=-1))


def lay_out(v: Array, blocks: Blocks | None, levels: Sequence[IntArray]) -> Chain:
    """Lay out sampling variances v (k,), or covariance blocks, under levels of groups (k,), finest first."""
    k = v.size
    d, W = np.array(v, dtype=float), np.ones(k)
    members = Q = None
    if blocks is not None and any(rows.shape[1] > 1 for rows, _ in blocks):
        m = max(rows.shape[1] for rows, _ in blocks)
        members, Q = np.zeros((k, m), dtype=np.intp), np.zeros((k, m))
        for rows, V in blocks:
            size = rows.shape[1]
            values, vectors = np.linalg.eigh(V)
            d[rows] = np.maximum(values, 0.0)
            members[rows, :size] = rows[:, None, :]
            Q[rows, :size] = np.swapaxes(vectors, 1, 2)
        W = Q.sum(axis=1)
    return Chain(d, W, members, Q, _parents(levels, k))


def _parents(levels: Sequence[IntArray], k: int) -> tuple[IntArray, ...]:
    below, found = np.arange(k, dtype=np.intp), []
    for level in levels:
        parent = np.zeros(int(below.max()) + 1, dtype=np.intp)
        parent[below] = level
        found.append(parent)
        below = level
    return tuple(found)


def split(groups: Sequence[IntArray], base: IntArray | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which groupings make one chain above the blocks of V, finest first, and which do not fit into it.

    The chain takes each grouping that fits to those named before it.
    """
    chain: list[int] = []
    for at, group in enumerate(groups):
        fits = all(nested(group, groups[one]) or nested(groups[one], group) for one in chain)
        if fits and (base is None or nested(base, group)):
            chain.append(at)
    chain.sort(key=lambda at: -int(groups[at].max()))
    return tuple(chain), tuple(at for at in range(len(groups)) if at not in chain)


def log_densities(
    residual: Array,
    vi: Array,
    V: SamplingCovariance | None,
    *,
    groups: Sequence[IntArray],
    variances: Array,
    unit: IntArray,
) -> Array:
    """Return the log density of each unit's residuals, (S, units), for S draws.

    `residual` (S, k).
    `vi` (k,).
    `V`: its blocks lie within units.
    `groups` (k,): groupings within units, or of the rows themselves.
    `variances` (S, len(groups)).
    `unit` (k,).
    """
    out = np.empty((len(residual), int(unit.max()) + 1))
    for rows in stacks(unit):
        for one in rows:
            errors = np.diag(vi[one]) if V is None else V.block(one)
            shared = np.array([group[one][:, None] == group[one] for group in groups], dtype=float)
            out[:, unit[one[0]]] = _normal(residual[:, one], errors, shared, variances)
    return out


def _normal(residual: Array, errors: Array, shared: Array, variances: Array) -> Array:
    """Return log densities (S,) of residuals (S, m) with covariances errors + sum of variances times shared."""
    S, m = residual.shape
    size = max(1, MOST_CELLS // (m * m))
    out = np.empty(S)
    for start in range(0, S, size):
        s = slice(start, start + size)
        root = np.linalg.cholesky(errors + np.tensordot(variances[s], shared, axes=1))
        half = np.linalg.solve(root, residual[s, :, None])[:, :, 0]
        out[s] = -np.log(np.einsum("sii->si", root)).sum(axis=1) - 0.5 * (m * LOG_2PI + (half**2).sum(axis=1))
    return out


def simulate(chain: Chain, mean: Array, tau: Array, tau_rows: float, rng: np.random.Generator) -> Array:
    """Draw effects (k,) around means (k,), for the deviations of each level of the chain and of the rows."""
    k = chain.d.size
    found = mean + tau_rows * rng.standard_normal(k)
    at = np.arange(k, dtype=np.intp)
    for parent, one in zip(chain.parents, tau, strict=True):
        at = parent[at]
        found = found + one * rng.standard_normal(int(parent.max()) + 1)[at]
    errors = np.sqrt(chain.d) * rng.standard_normal(k)
    if chain.members is None or chain.Q is None:
        return found + errors
    np.add.at(found, chain.members, chain.Q * errors[:, None])
    return found
