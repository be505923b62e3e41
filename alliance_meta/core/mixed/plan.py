"""From random terms and a sampling covariance to the levels of a tower: order, rotation, nesting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.mixed.covariance import Level
from alliance_meta.core.robust.clusters import IntArray, codes, components, nested, stacks

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
    """Rows sorted and rotated so that every random term is a level of a tower.

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
        """Return the rows of A (k, c) in the order and the axes of the tower."""
        return _turn(A[self.order], self.rotations, back=False)

    def restore(self, A: Array) -> Array:
        """Return rows of the tower (k, c) as rows of the data."""
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
    """Lay out the tower for sampling variances v (k,), or covariance blocks, and these terms."""
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
        plain = terms[at].Z is None and n == 1 and not rotations and not terms[at].linked
        places[at], copies[at] = len(levels), n
        levels.append(Level(starts, _turn(W[order], rotations, back=False), ones=plain))
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
