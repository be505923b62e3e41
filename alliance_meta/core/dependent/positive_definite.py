"""Correlation matrices that data can have: the check, and the nearest one where a matrix fails it.

Everything works on stacks (n, m, m), so that thousands of small matrices cost one call.
"""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.robust.clusters import IntArray

# The smallest eigenvalue of a mended matrix, as a share of its largest.
FLOOR = 1e-8
# No entry moves by more than this in the last step of the search.
STILL = 1e-12
MOST_STEPS = 5000


def smallest_eigenvalues(R: Array) -> Array:
    """Return the smallest eigenvalue of each matrix of a stack (n, m, m), (n,)."""
    return np.linalg.eigvalsh(R)[..., 0]


def positive_definite(smallest: Array, largest: Array, m: int | IntArray) -> Mask:
    """Tell whether eigenvalues of m x m matrices stand clear of 0, as far as rounding lets one see."""
    return np.asarray(smallest > m * np.finfo(float).eps * np.maximum(np.abs(largest), 1.0))


def are_positive_definite(R: Array) -> Mask:
    """Tell which matrices of a stack (n, m, m) are positive definite, (n,)."""
    values = np.linalg.eigvalsh(R)
    return positive_definite(values[..., 0], values[..., -1], R.shape[-1])


def nearest_correlation(R: Array) -> Array:
    """Return the nearest correlation matrix to each of a stack (n, m, m), lifted just clear of singular.

    Alternating projections with Dykstra's correction, Higham (2002, doi:10.1093/imanum/22.3.329): nearest in
    the sum of squared differences. The smallest eigenvalues are then raised to `FLOOR` and the diagonal made 1.
    """
    X = np.array(R, dtype=float)
    correction = np.zeros_like(X)
    moving = np.arange(len(X))
    diagonal = np.arange(X.shape[-1])
    for _ in range(MOST_STEPS):
        target = X[moving] - correction[moving]
        values, vectors = np.linalg.eigh(target)
        lifted = _assemble(np.maximum(values, 0.0), vectors)
        correction[moving] = lifted - target
        lifted[:, diagonal, diagonal] = 1.0
        step = np.abs(lifted - X[moving]).max(axis=(1, 2))
        X[moving] = lifted
        moving = moving[step > STILL]
        if moving.size == 0:
            break
    values, vectors = np.linalg.eigh(X)
    X = _assemble(np.maximum(values, FLOOR * values[..., -1:]), vectors)
    s = np.sqrt(X[:, diagonal, diagonal])
    X /= s[:, :, None] * s[:, None, :]
    X[:, diagonal, diagonal] = 1.0
    return X


def _assemble(values: Array, vectors: Array) -> Array:
    """Return the symmetric matrices with these eigenvalues (n, m) and eigenvectors (n, m, m)."""
    X = (vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return 0.5 * (X + np.swapaxes(X, -1, -2))
