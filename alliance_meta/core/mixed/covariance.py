r"""A covariance of dependent effects as a tower of grouped low-rank terms on a diagonal.

.. math:: M = D + \sum_l W_l (I \otimes C_l) W_l'

Level l has groups of rows and columns W_l; within a group the columns share the covariance C_l, between groups
they are independent, and every group of a level lies within one group of the next. Random intercepts, slopes,
outcomes within studies and crossed factors are all of this form. A block-diagonal sampling covariance is made
diagonal once, by the eigenvectors of its blocks. Determinant, solutions and traces then climb the tower by the
identities of Woodbury and Sylvester, in time linear in the rows (Harville 1977, doi:10.1080/01621459.1977.10480998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray

# From so many numbers on a sparse product adds up groups faster than NumPy does.
SPARSE = 3_000


@dataclass(frozen=True, eq=False)
class Level:
    """Groups of adjacent rows with the columns that vary between them.

    Attributes
    ----------
    starts : ndarray of shape (n,)
        First row of each group.
    W : ndarray of shape (k, q)
    ones : bool
        W is a single column of ones.
    """

    starts: IntArray
    W: Array
    ones: bool = False

    @property
    def q(self) -> int:
        """Number of columns."""
        return self.W.shape[1]

    @cached_property
    def group(self) -> IntArray:
        """Group of each row, (k,)."""
        return np.repeat(np.arange(self.starts.size), np.diff(np.append(self.starts, len(self.W))))

    @cached_property
    def members(self) -> sparse.csr_array:
        """A row of ones for each group, (n, k)."""
        k = len(self.W)
        return sparse.csr_array((np.ones(k), np.arange(k), np.append(self.starts, k)), shape=(self.starts.size, k))

    def sums(self, A: Array) -> Array:
        """Return W'A of each group, (..., n, q, c) for A (..., k, c)."""
        if self.ones:
            return self.add(A)[..., None, :]
        if self.starts.size == 1:
            return (self.W.T @ A)[..., None, :, :]
        flat = (self.W[:, :, None] * A[..., None, :]).reshape(*A.shape[:-1], -1)
        return self.add(flat).reshape(*A.shape[:-2], self.starts.size, self.q, A.shape[-1])

    def add(self, A: Array) -> Array:
        """Return the sum of A over the rows of each group, (..., n, c)."""
        if self.starts.size == A.shape[-2]:
            return A
        if self.starts.size == 1:
            return A.sum(axis=-2, keepdims=True)
        k, c = A.shape[-2:]
        if A.size == k * c >= SPARSE:
            return np.asarray(self.members @ A.reshape(k, c)).reshape(*A.shape[:-2], -1, c)
        return np.asarray(np.add.reduceat(A, self.starts, axis=-2))

    def spread(self, values: Array, axis: int) -> Array:
        """Return each group's value for each of its rows; groups lie along the axis."""
        return values if self.starts.size == len(self.W) else np.take(values, self.group, axis=axis)

    def rows(self, S: Array, H: Array) -> Array:
        """Return S_i H_g for each row i of group g, (..., k, c), for S (..., k, q) and H (..., n, q, c)."""
        if self.q == 1:
            return S * self.spread(H[..., 0, :], -2)
        if self.starts.size == 1:
            return np.asarray(S @ H[..., 0, :, :])
        return np.asarray(np.matmul(S[..., None, :], self.spread(H, -3))[..., 0, :])


@dataclass(frozen=True, eq=False)
class Floor:
    """One level of a factorised tower."""

    level: Level
    C: Array
    S: Array
    """M^-1 W with the floors below, (k, q)."""
    K: Array
    """C (I + T C)^-1 of each group, (n, q, q), where T = W'S."""
    T: Array


@dataclass(frozen=True, eq=False)
class Factored:
    """A tower at one value of its parameters, or at several that lie along the first axis of everything.

    Attributes
    ----------
    d : ndarray of shape (..., k)
    floors : tuple of Floor
    solved : ndarray of shape (..., k, c)
        M^-1 A for the columns A it was made with.
    logdet : ndarray of shape (...)
        NaN where M is not positive definite.
    """

    d: Array
    floors: tuple[Floor, ...]
    solved: Array
    logdet: Array

    def single(self, at: int) -> Factored:
        """Return the tower at one of several values."""
        floors = tuple(Floor(f.level, f.C[at], f.S[at], f.K[at], f.T[at]) for f in self.floors)
        return Factored(self.d[at], floors, self.solved[at], self.logdet[at])

    def solve(self, A: Array) -> Array:
        """Return M^-1 A, (..., k, c)."""
        B = A / self.d[..., None]
        for floor in self.floors:
            B -= floor.level.rows(floor.S, _times(floor.K, floor.level.sums(B)))
        return np.asarray(B)

    @cached_property
    def diagonal(self) -> Array:
        """The diagonal of M^-1, (..., k)."""
        inverse = 1.0 / self.d
        for floor in self.floors:
            inverse = inverse - np.einsum("...kq,...kq->...k", floor.S, floor.level.rows(floor.S, floor.K))
        return np.asarray(inverse)

    def within(self, lower: int) -> Array:
        """Return W'M^-1 W of each group of a level, (..., n, q, q)."""
        floor = self.floors[lower]
        level = floor.level
        found = floor.T - _times(_times(floor.T, floor.K), floor.T)
        for upper in self.floors[lower + 1 :]:
            cross = level.sums(upper.S)
            parent = np.searchsorted(upper.level.starts, level.starts, side="right") - 1
            found = found - _times(_times(cross, upper.K[..., parent, :, :]), np.swapaxes(cross, -1, -2))
        return np.asarray(found)


def factorise(levels: Sequence[Level], d: Array, covariances: Sequence[Array], columns: Array) -> Factored:
    """Factorise the tower with these covariances C_l, and solve for A: `columns` are those of every W_l, then of A."""
    valid = (d > 0).all(axis=-1)
    if not valid.all():
        d = np.where(d > 0, d, 1.0)
    B = columns / d[..., None]
    logdet = np.log(d).sum(axis=-1)
    floors: list[Floor] = []
    at = 0
    for level, C in zip(levels, covariances, strict=True):
        q = level.q
        S, rest = np.ascontiguousarray(B[..., at : at + q]), B[..., at + q :]
        sums = level.sums(B[..., at:])
        T, H = sums[..., :q], sums[..., q:]
        if q == 1:
            c = C[..., 0]
            inner = 1.0 + T[..., 0, 0] * c
            positive = inner > 0
            if not positive.all():
                inner = np.where(positive, inner, 1.0)
            K: Array = (c / inner)[..., None, None]
            grown: Array = np.log(inner)
        else:
            wide = C[..., None, :, :]
            sign, grown = np.linalg.slogdet(np.eye(q) + T @ wide)
            positive = sign > 0
            if not positive.all():
                T, grown = np.where(positive[..., None, None], T, 0.0), np.where(positive, grown, 0.0)
            K = np.linalg.solve(np.eye(q) + wide @ T, np.broadcast_to(wide, T.shape))
        valid = valid & positive.all(axis=-1)
        logdet = logdet + grown.sum(axis=-1)
        rest -= level.rows(S, _times(K, H))
        floors.append(Floor(level, C, S, K, T))
        at += q
    return Factored(d, tuple(floors), B[..., at:], np.where(valid, logdet, np.nan))


def _times(A: Array, B: Array) -> Array:
    """Return A B of each group; a stack of single numbers need not go through matrix products."""
    return A * B if A.shape[-1] == B.shape[-2] == A.shape[-2] == 1 else A @ B
