"""How much of the variation of numbers over a grid of choices goes with each choice."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import AnyArray, Array


def shares(values: Array, codes: AnyArray) -> Array:
    """Return the share of the variation of values (n,) that each choice alone accounts for, (c,).

    `codes` (n, c) numbers the option of each choice. Additive effects of all options are fitted by least squares; the
    share of a choice is by how much the sum of squares left over grows without it (type II; in a complete grid, the
    classic main effect). What all leave is interaction; what two choices account for alike is in neither's share.
    The values must vary.
    """
    total = float(((values - values.mean()) ** 2).sum())
    blocks = [(column[:, None] == np.unique(column)[1:]).astype(float) for column in codes.T]
    left = _left_over(values, blocks)
    without = [_left_over(values, [*blocks[:j], *blocks[j + 1 :]]) for j in range(len(blocks))]
    return np.clip((np.array(without) - left) / total, 0.0, 1.0)


def _left_over(values: Array, blocks: list[Array]) -> float:
    X = np.column_stack([np.ones(values.size), *blocks])
    centred = values - values.mean()
    # Options that never occur apart make columns that repeat each other: the smallest solution is as good as any.
    fitted = X @ (np.linalg.pinv(X.T @ X, hermitian=True) @ (X.T @ centred))
    return float(((centred - fitted) ** 2).sum())
