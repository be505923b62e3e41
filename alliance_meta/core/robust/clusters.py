"""Rows that belong together: clusters of equal size stacked, so that one call treats them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliance_meta._typing import Array, Mask

IntArray = NDArray[np.intp]


def codes(labels: Sequence[Any] | NDArray[Any]) -> IntArray:
    """Return 0 ... n - 1 for each row, numbered in the order in which the labels first appear."""
    _, first, inverse = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    order = np.empty(first.size, dtype=np.intp)
    order[np.argsort(first, kind="stable")] = np.arange(first.size)
    return order[inverse.ravel()]


def pairs(outer: IntArray, inner: IntArray) -> IntArray:
    """Return codes of the distinct pairs of both."""
    return codes(outer * (int(inner.max(initial=0)) + 1) + inner)


def stacks(cluster: IntArray) -> list[IntArray]:
    """Return row numbers (n, m) for the n clusters of each size m, sizes ascending, rows in their order."""
    by_cluster = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return [by_cluster[starts[sizes == m][:, None] + np.arange(m)].astype(np.intp) for m in np.unique(sizes) if m > 0]


def nested(inner: IntArray, outer: IntArray) -> bool:
    """Tell whether each inner cluster lies within one outer cluster."""
    first = np.zeros(inner.max(initial=-1) + 1, dtype=np.intp)
    first[inner] = outer
    return bool((first[inner] == outer).all())


def components(*groupings: IntArray) -> IntArray:
    """Return the finest clusters that no grouping crosses, (k,) codes."""
    k = groupings[0].size
    label = np.arange(k, dtype=np.intp)
    while True:
        before = label
        for grouping in groupings:
            lowest = np.full(grouping.max(initial=-1) + 1, k, dtype=np.intp)
            np.minimum.at(lowest, grouping, label)
            label = lowest[grouping]
        if (label == before).all():
            return codes(label)


# What a cluster may leave of the information on a coefficient before it counts as all of it.
NOTHING = 1e-9


@dataclass(frozen=True, eq=False)
class Deletions:
    """The deletion of each of J clusters."""

    change: Array  # (J, p): coefficients of all effects minus those without the cluster
    vb: Array  # (J, p, p): covariance of the coefficients without the cluster
    usable: Mask  # (J,): without the cluster every coefficient can still be estimated; elsewhere the rest is NaN


def deletions(vb: Array, GX: Array, Gr: Array, stacks: Sequence[tuple[IntArray, IntArray, Array]], J: int) -> Deletions:
    """Delete each cluster: M^-1 X (k, p), M^-1 (y - X beta) (k,), and stacks of clusters of one size.

    A stack holds the numbers of its clusters (n,), their rows (n, m) and (M^-1)_SS (n, m, m).
    """
    p = vb.shape[0]
    change, without = np.full((J, p), np.nan), np.full((J, p, p), np.nan)
    usable = np.zeros(J, dtype=bool)
    L = np.linalg.cholesky(vb)
    for number, rows, N in stacks:
        G, a = GX[rows], Gr[rows]
        U = G @ L
        # Eigenvalues of L'(X'M^-1)_S N^-1 (M^-1 X)_S L are the shares of information that the cluster holds.
        held = np.swapaxes(U, 1, 2) @ np.linalg.solve(N, U)
        values, vectors = np.linalg.eigh(0.5 * (held + np.swapaxes(held, 1, 2)))
        left = 1.0 - values
        fine = left[:, -1] > NOTHING
        at = number[fine]
        usable[at] = True
        Q = N[fine] - U[fine] @ np.swapaxes(U[fine], 1, 2)
        delta = np.linalg.solve(Q, a[fine][:, :, None])
        change[at] = (L @ np.swapaxes(U[fine], 1, 2) @ delta)[:, :, 0]
        root = L @ (vectors[fine] / np.sqrt(left[fine])[:, None, :])
        without[at] = root @ np.swapaxes(root, 1, 2)
    return Deletions(change, without, usable)
