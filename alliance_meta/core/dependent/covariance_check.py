"""Whether data could have a sampling covariance, cluster by cluster, and the nearest one they could have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.dependent.positive_definite import (
    are_positive_definite,
    nearest_correlation,
    positive_definite,
    smallest_eigenvalues,
)
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.tables.format import brief

if TYPE_CHECKING:
    from alliance_meta._typing import Mask
    from alliance_meta.core.dependent.sampling_covariance import SamplingCovariance

# Within this distance of 1 a correlation is perfect.
PERFECT = 1e-12


def failing(V: SamplingCovariance) -> IntArray:
    """Return the codes of the clusters whose block is not positive definite."""
    if V.rho is not None:
        sizes = np.bincount(V.codes)
        ends = np.sort([np.full(sizes.size, 1.0 - V.rho), 1.0 + (sizes - 1) * V.rho], axis=0)
        return np.flatnonzero((sizes > 1) & ~positive_definite(ends[0], ends[1], sizes))
    found = [V.codes[rows[~are_positive_definite(_correlations(V, rows, values)), 0]] for rows, values in V.blocks]
    return np.sort(np.concatenate([np.zeros(0, dtype=np.intp), *found]))


def complaint(V: SamplingCovariance, codes: IntArray) -> str:
    """Say which clusters fail, and why as far as can be told."""
    sizes = np.bincount(V.codes)
    shown = ", ".join(f"{V.labels[code]} ({sizes[code]} effects)" for code in codes[:5])
    more = f" and {codes.size - 5} more" if codes.size > 5 else ""
    where = f"V is not positive definite in {shown}{more}"
    if V.rho is None:
        rows = np.flatnonzero(V.codes == codes[0])
        R = _correlations(V, rows, V.block(rows))
        tied = np.argwhere(np.triu(np.abs(R) > 1 - PERFECT, 1))
        if tied.size:
            i, j = tied[0]
            return f"{where}: effects {i + 1} and {j + 1} of {V.labels[codes[0]]} correlate by {brief(R[i, j])}"
        least = float(smallest_eigenvalues(R))
        return f"{where}: these correlations cannot hold together (smallest eigenvalue {brief(least, 2)})"
    if V.rho > 0:
        return f"{where}: rho = {V.rho:g} makes the effects of a cluster perfectly dependent; rho must be below 1"
    most = int(sizes[codes].max())
    return (
        f"{where}: {most} effects cannot all correlate by rho = {V.rho:g}; "
        f"with {most} effects rho must be above -1/{most - 1} = {brief(-1 / (most - 1), 3)}"
    )


def nearest_blocks(V: SamplingCovariance, codes: IntArray) -> tuple[list[Array], float]:
    """Return the blocks with the nearest correlations where one of `codes` fails, and the largest change of one."""
    bad = np.zeros(len(V.labels), dtype=bool)
    bad[codes] = True
    moved, out = 0.0, []
    for rows, values in V.blocks:
        wrong: Mask = bad[V.codes[rows[:, 0]]]
        block = values.copy()
        if wrong.any():
            R = _correlations(V, rows[wrong], values[wrong])
            near = nearest_correlation(R)
            moved = max(moved, float(np.abs(near - R).max()))
            s = np.sqrt(V.vi)[rows[wrong]]
            block[wrong] = near * (s[:, :, None] * s[:, None, :])
        out.append(block)
    return out, moved


def _correlations(V: SamplingCovariance, rows: IntArray, values: Array) -> Array:
    """Return the correlations of the covariances `values` (..., m, m) among `rows` (..., m)."""
    s = np.sqrt(V.vi)[rows]
    return values / (s[..., :, None] * s[..., None, :])
