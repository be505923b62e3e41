"""Which columns of a design add something, and what the data leave open where some do not."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array

# Columns whose residual on the others is below this share of their length are called collinear; R's qr uses 1e-7.
COLLINEAR = 1e-7


def independent_columns(X: Array) -> list[int]:
    """Return the positions of columns that add something to those before them."""
    basis = np.zeros((len(X), 0))
    kept: list[int] = []
    for j, column in enumerate(X.T):
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > COLLINEAR * np.linalg.norm(column):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
            kept.append(j)
    return kept


def null_space(X: Array, *, rank: int) -> Array | None:
    """Return the combinations of columns (P, P - rank) that are 0 in every row, None where there are none."""
    if rank == X.shape[1]:
        return None
    length = np.abs(X).max(axis=0)
    scale = np.where(length > 0, length, 1.0)
    return np.linalg.svd(X / scale)[2][rank:].T / scale[:, None]


def partners(X: Array, column: Array) -> list[int]:
    """Return the columns of X of which another is a combination; none where it is 0."""
    if not column.any():
        return []
    weights = np.linalg.lstsq(X, column, rcond=None)[0]
    size = np.abs(weights) * np.linalg.norm(X, axis=0)
    return [int(i) for i in np.flatnonzero(size > 1e-6 * size.max())]
