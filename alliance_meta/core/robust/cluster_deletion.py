"""What deleting a whole cluster does to the coefficients while the covariance stays as it is, in closed form.

With P = M^-1 - M^-1 X vb X'M^-1 and the rows S of a cluster, deleting them moves the coefficients by
vb (X'M^-1)_S (P_SS)^-1 (P y)_S, and takes (X'M^-1)_S ((M^-1)_SS)^-1 (M^-1 X)_S from X'M^-1 X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.robust.clusters import IntArray

# What a cluster may leave of the information on a coefficient before it counts as all of it.
NOTHING = 1e-9


@dataclass(frozen=True, eq=False)
class Deletions:
    """The deletion of each of J clusters.

    Attributes
    ----------
    moved : ndarray of shape (J, p)
        Coefficients of all effects minus those without the cluster.
    vb : ndarray of shape (J, p, p)
        Covariance of the coefficients without the cluster.
    usable : ndarray of bool, (J,)
        Without the cluster every coefficient can still be estimated; elsewhere the rest is NaN.
    """

    moved: Array
    vb: Array
    usable: Mask


def deletions(vb: Array, GX: Array, Gr: Array, stacks: Sequence[tuple[IntArray, IntArray, Array]], J: int) -> Deletions:
    """Delete each cluster: M^-1 X (k, p), M^-1 (y - X beta) (k,), and stacks of clusters of one size.

    A stack holds the numbers of its clusters (n,), their rows (n, m) and (M^-1)_SS (n, m, m).
    """
    p = vb.shape[0]
    moved, without = np.full((J, p), np.nan), np.full((J, p, p), np.nan)
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
        moved[at] = (L @ np.swapaxes(U[fine], 1, 2) @ delta)[:, :, 0]
        root = L @ (vectors[fine] / np.sqrt(left[fine])[:, None, :])
        without[at] = root @ np.swapaxes(root, 1, 2)
    return Deletions(moved, without, usable)
