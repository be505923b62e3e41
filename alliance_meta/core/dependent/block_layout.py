"""Block-diagonal matrices as one flat array: where each entry lies, and how a given matrix is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.robust.clusters import IntArray, codes, stacks
from alliance_meta.errors import InputError
from alliance_meta.tables.format import fixed

# Numbers that blocks may hold together: 4 GB.
MOST_ENTRIES = 500_000_000
# How far a given matrix may be from symmetric, as a share of the standard errors.
ASYMMETRY = 1e-8


@dataclass(frozen=True, slots=True)
class Layout:
    """Entry (i, j) of one block lies at ``start[i] + position[j]`` of the flat array."""

    start: IntArray  # (k,)
    position: IntArray  # (k,)
    size: int  # length of the flat array: the sum of the squared block sizes
    ends: tuple[int, ...]  # where each stack of blocks begins, and the size at last


def layout(rows: Sequence[IntArray], k: int) -> Layout:
    """Lay out the stacks `rows` of k effects, row by row, one block after the other."""
    start, position = np.zeros(k, dtype=np.intp), np.zeros(k, dtype=np.intp)
    ends = [0]
    for stack in rows:
        n, m = stack.shape
        start[stack] = ends[-1] + (np.arange(n)[:, None] * m + np.arange(m)) * m
        position[stack] = np.arange(m)
        ends.append(ends[-1] + n * m * m)
    return Layout(start, position, ends[-1], tuple(ends))


def check_room(of: IntArray, labels: Sequence[str]) -> None:
    """Raise an `InputError` that names the largest cluster if the blocks would not fit into memory."""
    sizes = np.bincount(of)
    total = float((sizes.astype(float) ** 2).sum())
    if total > MOST_ENTRIES:
        largest = int(sizes.argmax())
        raise InputError(
            f"the blocks of V would need {fixed(8e-9 * total, 0)} GB: cluster {labels[largest]} alone holds "
            f"{sizes[largest]} effects; choose finer clusters"
        )


def read_matrix(
    V: Any, cluster: Sequence[Any] | AnyArray | None, labels: Sequence[str] | None
) -> tuple[Array, IntArray, tuple[str, ...], Array]:
    """Check a given covariance matrix; return its diagonal, cluster codes, labels and flat entries."""
    matrix = _as_sparse(V)
    k = matrix.shape[0]
    if cluster is None:
        of = codes(sparse.csgraph.connected_components(matrix, directed=False)[1])
        names: Sequence[str] = [f"block {n + 1}" for n in range(int(of.max()) + 1)]
    else:
        if len(cluster) != k:
            raise InputError(f"V has {k} rows but cluster has {len(cluster)}; each needs one value per effect")
        of = codes(np.asarray(cluster))
        names = [str(cluster[i]) for i in np.unique(of, return_index=True)[1]]
    names = names if labels is None else labels
    check_room(of, names)
    i, j = matrix.coords
    across = np.flatnonzero(of[i] != of[j])
    if across.size:
        a, b = i[across[0]], j[across[0]]
        raise InputError(
            f"V links effects {a + 1} and {b + 1} of different clusters ({names[of[a]]}, {names[of[b]]}); "
            "make those covariances 0, or the clusters larger"
        )
    place = layout(stacks(of), k)
    entries = np.zeros(place.size)
    entries[place.start[i] + place.position[j]] = matrix.data
    return matrix.diagonal(), of, tuple(names), entries


def _as_sparse(V: Any) -> sparse.coo_array:
    """Return V as a symmetric sparse matrix, or raise with everything that is wrong with it."""
    full: Any = V if sparse.issparse(V) else np.asarray(V, dtype=float)
    if full.ndim != 2 or full.shape[0] != full.shape[1] or full.shape[0] == 0:
        raise InputError(f"V has shape {full.shape}; it must be square, one row and one column per effect")
    matrix: Any = sparse.csr_array(full, dtype=np.float64)
    matrix.eliminate_zeros()
    diagonal = matrix.diagonal()
    problems = []
    wild = ~np.isfinite(matrix.data)
    if wild.any():
        i, j = (int(axis[wild][0]) + 1 for axis in matrix.tocoo().coords)
        problems.append(f"{int(wild.sum())} values are not finite numbers, the first in row {i}, column {j}")
    flat = np.flatnonzero(np.isfinite(diagonal) & (diagonal <= 0))
    if flat.size:
        shown = ", ".join(f"{diagonal[i]:g} in row {i + 1}" for i in flat[:5])
        problems.append(f"{flat.size} variances on the diagonal are not positive ({shown})")
    if not problems:
        gap = (matrix - matrix.T).tocoo()
        i, j = gap.coords
        wrong = np.flatnonzero(np.abs(gap.data) > ASYMMETRY * np.sqrt(diagonal[i] * diagonal[j]))
        if wrong.size:
            a, b = int(i[wrong[0]]), int(j[wrong[0]])
            values = f"{matrix[a, b]:g} in row {a + 1}, column {b + 1}, but {matrix[b, a]:g} the other way round"
            problems.append(f"it is not symmetric: {values}")
    if problems:
        raise InputError("V: " + "; ".join(problems))
    return sparse.coo_array(0.5 * (matrix + matrix.T))
