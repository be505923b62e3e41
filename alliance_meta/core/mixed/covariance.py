r"""A covariance of dependent effects as grouped low-rank terms on a diagonal.

.. math:: M = D + \sum_l W_l (I \otimes C_l) W_l'

Level l has groups of rows and columns W_l; within a group the columns share the covariance C_l, between groups
they are independent, and every group of a level lies within one group of the next. Random intercepts, slopes,
outcomes within studies and crossed factors are all of this form. A block-diagonal sampling covariance is made
diagonal once, by the eigenvectors of its blocks. Determinant, solutions and traces then follow level by level from the
identities of Woodbury and Sylvester, in time linear in the rows (Harville 1977, doi:10.1080/01621459.1977.10480998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray, codes, components, nested, stacks

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
class SolvedLevel:
    """One level of a factorised covariance."""

    level: Level
    C: Array
    S: Array
    """M^-1 W with the levels below, (k, q)."""
    K: Array
    """C (I + T C)^-1 of each group, (n, q, q), where T = W'S."""
    T: Array


@dataclass(frozen=True, eq=False)
class Factored:
    """A covariance at one value of its parameters, or at several that lie along the first axis of everything.

    Attributes
    ----------
    d : ndarray of shape (..., k)
    levels : tuple of SolvedLevel
    solved : ndarray of shape (..., k, c)
        M^-1 A for the columns A it was made with.
    logdet : ndarray of shape (...)
        NaN where M is not positive definite.
    """

    d: Array
    levels: tuple[SolvedLevel, ...]
    solved: Array
    logdet: Array

    def single(self, at: int) -> Factored:
        """Return the covariance at one of several values."""
        levels = tuple(SolvedLevel(one.level, one.C[at], one.S[at], one.K[at], one.T[at]) for one in self.levels)
        return Factored(self.d[at], levels, self.solved[at], self.logdet[at])

    def solve(self, A: Array) -> Array:
        """Return M^-1 A, (..., k, c)."""
        B = A / self.d[..., None]
        for one in self.levels:
            B -= one.level.rows(one.S, _times(one.K, one.level.sums(B)))
        return np.asarray(B)

    @cached_property
    def diagonal(self) -> Array:
        """The diagonal of M^-1, (..., k)."""
        inverse = 1.0 / self.d
        for one in self.levels:
            inverse = inverse - np.einsum("...kq,...kq->...k", one.S, one.level.rows(one.S, one.K))
        return np.asarray(inverse)

    def within(self, lower: int) -> Array:
        """Return W'M^-1 W of each group of a level, (..., n, q, q)."""
        one = self.levels[lower]
        level = one.level
        found = one.T - _times(_times(one.T, one.K), one.T)
        for upper in self.levels[lower + 1 :]:
            cross = level.sums(upper.S)
            parent = np.searchsorted(upper.level.starts, level.starts, side="right") - 1
            found = found - _times(_times(cross, upper.K[..., parent, :, :]), np.swapaxes(cross, -1, -2))
        return np.asarray(found)


def factorise(levels: Sequence[Level], d: Array, covariances: Sequence[Array], columns: Array) -> Factored:
    """Factorise M with these covariances C_l, and solve for A: `columns` are those of every W_l, then of A."""
    valid = (d > 0).all(axis=-1)
    if not valid.all():
        d = np.where(d > 0, d, 1.0)
    B = columns / d[..., None]
    logdet = np.log(d).sum(axis=-1)
    solved: list[SolvedLevel] = []
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
        solved.append(SolvedLevel(level, C, S, K, T))
        at += q
    return Factored(d, tuple(solved), B[..., at:], np.where(valid, logdet, np.nan))


def _times(A: Array, B: Array) -> Array:
    """Return A B of each group; a stack of single numbers need not go through matrix products."""
    return A * B if A.shape[-1] == B.shape[-2] == A.shape[-2] == 1 else A @ B


Blocks = Sequence[tuple[IntArray, Array]]


@dataclass(frozen=True, eq=False)
class Term:
    """What varies at random between the groups of one factor.

    Attributes
    ----------
    group : ndarray of shape (k,)
        Codes of the groups.
    Z : ndarray of shape (k, q) or None
        Columns whose coefficients vary; None for an intercept.
    linked : bool
        The groups themselves are correlated: their covariance is one matrix over all groups.
    """

    group: IntArray
    Z: Array | None = None
    linked: bool = False

    @property
    def columns(self) -> Array:
        """Z, (k, q)."""
        return np.ones((self.group.size, 1)) if self.Z is None else self.Z


@dataclass(frozen=True, eq=False)
class Plan:
    """Rows sorted and rotated so that every random term is a level of `Factored`.

    Attributes
    ----------
    order : ndarray of shape (k,)
        Sorted row -> row of the data.
    d : ndarray of shape (k,)
        Eigenvalues of the sampling covariance, sorted rows.
    rotations : tuple of (rows (n, m), Q (n, m, m))
        Eigenvectors of its blocks; empty where V is diagonal.
    levels : tuple of Level
    places : tuple of int or None
        Each term's level; None for a variance of the rows themselves.
    copies : tuple of int
        How often the columns of a level repeat its term's, once for each group that shares the level's group.
    owners : tuple of (ndarray of shape (n, copies) or None)
        Which group of the term each copy in each group of the level belongs to; -1 where there is none, 0 for
        groups that are correlated, which are one.
    linked : tuple of bool
        Each term's groups are correlated.
    """

    order: IntArray
    d: Array
    rotations: tuple[tuple[IntArray, Array], ...]
    levels: tuple[Level, ...]
    places: tuple[int | None, ...]
    copies: tuple[int, ...]
    owners: tuple[IntArray | None, ...]
    linked: tuple[bool, ...]

    def rotate(self, A: Array) -> Array:
        """Return the rows of A (k, c) in the order and the axes of the levels."""
        return _turn(A[self.order], self.rotations, back=False)

    def restore(self, A: Array) -> Array:
        """Return rows in that order and those axes (k, c) as rows of the data."""
        out = np.empty_like(A)
        out[self.order] = _turn(A, self.rotations, back=True)
        return out

    def restore_diagonal(self, values: Array) -> Array:
        """Return, for each row of the data, the diagonal of Q diag(values) Q', (k,)."""
        turned = np.array(values, dtype=float)
        for rows, Q in self.rotations:
            turned[rows] = np.einsum("nij,nj->ni", Q**2, values[rows])
        out = np.empty_like(turned)
        out[self.order] = turned
        return out


def plan(v: Array, blocks: Blocks | None, terms: Sequence[Term]) -> Plan:
    """Sort and rotate rows for sampling variances v (k,), or covariance blocks, and these terms."""
    k = v.size
    base = np.arange(k, dtype=np.intp)
    if blocks is not None:
        for number, (rows, _) in enumerate(_flat(blocks)):
            base[rows] = number
        base = codes(base)
    rowwise = [term.Z is None and not term.linked and term.group.max() == k - 1 for term in terms]
    chain = [base]
    keys: dict[int, tuple[IntArray, Array, int, IntArray]] = {}
    waiting = []
    for at in sorted(range(len(terms)), key=lambda t: -int(terms[t].group.max())):
        if rowwise[at]:
            continue
        if not terms[at].linked and nested(chain[-1], terms[at].group):
            chain.append(terms[at].group)
            keys[at] = (terms[at].group, terms[at].columns, 1, np.zeros(k, dtype=np.intp))
        else:
            waiting.append(at)
    for at in sorted(waiting, key=lambda t: terms[t].linked):
        keys[at] = _crossed(terms[at], chain[-1])
        chain.append(keys[at][0])
    order = np.lexsort(tuple(chain)).astype(np.intp)
    d, rotations = _diagonalise(v, blocks, order)
    levels: list[Level] = []
    places: list[int | None] = [None] * len(terms)
    copies = [1] * len(terms)
    owners: list[IntArray | None] = [None] * len(terms)
    for at, (group, W, n, local) in keys.items():
        sorted_group = group[order]
        new = np.append(True, sorted_group[1:] != sorted_group[:-1])
        starts = np.flatnonzero(new)
        owner = np.full((starts.size, n), -1, dtype=np.intp)
        owner[np.cumsum(new) - 1, local[order]] = 0 if terms[at].linked else terms[at].group[order]
        owners[at] = owner
        ones = terms[at].Z is None and n == 1 and not rotations and not terms[at].linked
        places[at], copies[at] = len(levels), n
        levels.append(Level(starts, _turn(W[order], rotations, back=False), ones=ones))
    linked = tuple(term.linked for term in terms)
    return Plan(order, d, rotations, tuple(levels), tuple(places), tuple(copies), tuple(owners), linked)


def _crossed(term: Term, top: IntArray) -> tuple[IntArray, Array, int, IntArray]:
    """Return the group, the columns and the copies of a term whose groups cut through those below."""
    Z, k = term.columns, term.group.size
    if term.linked:
        group, local = np.zeros(k, dtype=np.intp), term.group
    else:
        group = components(top, term.group)
        local = np.empty(k, dtype=np.intp)
        pairs = codes(group * (int(term.group.max()) + 1) + term.group)
        owner = np.zeros(pairs.max() + 1, dtype=np.intp)
        owner[pairs] = group
        by_owner = np.argsort(owner, kind="stable")
        first = np.searchsorted(owner[by_owner], owner[by_owner])
        rank = np.empty(owner.size, dtype=np.intp)
        rank[by_owner] = np.arange(owner.size) - first
        local = rank[pairs]
    n, q = int(local.max()) + 1, Z.shape[1]
    W = np.zeros((k, n, q))
    W[np.arange(k), local] = Z
    wide = W.reshape(k, n * q)
    return (group, wide, 1, np.zeros(k, dtype=np.intp)) if term.linked else (group, wide, n, local)


def _diagonalise(v: Array, blocks: Blocks | None, order: IntArray) -> tuple[Array, tuple[tuple[IntArray, Array], ...]]:
    d = v[order].astype(float)
    if blocks is None:
        return d, ()
    place = np.empty(order.size, dtype=np.intp)
    place[order] = np.arange(order.size)
    rotations = []
    for rows, V in blocks:
        if rows.shape[1] == 1:
            d[place[rows[:, 0]]] = V[:, 0, 0]
            continue
        at = np.sort(place[rows], axis=1)
        inside = np.argsort(place[rows], axis=1)
        sorted_V = np.take_along_axis(np.take_along_axis(V, inside[:, :, None], 1), inside[:, None, :], 2)
        values, Q = np.linalg.eigh(sorted_V)
        d[at] = values
        rotations.append((at, Q))
    return d, tuple(rotations)


def _turn(A: Array, rotations: Sequence[tuple[IntArray, Array]], *, back: bool) -> Array:
    if not rotations:
        return A
    out = np.array(A, dtype=float)
    for rows, Q in rotations:
        out[rows] = (Q if back else np.swapaxes(Q, 1, 2)) @ A[rows]
    return out


def _flat(blocks: Blocks) -> list[tuple[IntArray, Array]]:
    return [(rows, V) for stack, matrices in blocks for rows, V in zip(stack, matrices, strict=True)]


def blocks_of(V: Array, cluster: IntArray) -> list[tuple[IntArray, Array]]:
    """Return the blocks of a dense covariance (k, k) for clusters (k,)."""
    return [(rows, V[rows[:, :, None], rows[:, None, :]]) for rows in stacks(cluster)]
