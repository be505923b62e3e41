"""Effects of the same people: which rows belong to one cluster, how their sampling errors covary, and their mean.

Several dependent effects of one cluster made one.

Every function returns estimates and variances (n,) of n clusters, and the smallest weight an effect has in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.errors import InputError, NotPositiveDefiniteWarning
from alliance_meta.notes import Note, PositiveDefiniteCheck, check_option, warn_note
from alliance_meta.tables.format import brief, fixed

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
    change, out = 0.0, []
    for rows, values in V.blocks:
        wrong: Mask = bad[V.codes[rows[:, 0]]]
        block = values.copy()
        if wrong.any():
            R = _correlations(V, rows[wrong], values[wrong])
            near = nearest_correlation(R)
            change = max(change, float(np.abs(near - R).max()))
            s = np.sqrt(V.vi)[rows[wrong]]
            block[wrong] = near * (s[:, :, None] * s[:, None, :])
        out.append(block)
    return out, change


def _correlations(V: SamplingCovariance, rows: IntArray, values: Array) -> Array:
    """Return the correlations of the covariances `values` (..., m, m) among `rows` (..., m)."""
    s = np.sqrt(V.vi)[rows]
    return values / (s[..., :, None] * s[..., None, :])


@dataclass(frozen=True, eq=False, repr=False)
class SamplingCovariance:
    """Sampling variances and covariances V of k effects, with the assumption they rest on.

    Effects from one sample err together: the people who were too healthy by chance were so for every outcome.
    V says by how much. Effects in different clusters are independent, so V is kept cluster by cluster; the full
    k × k matrix is never formed unless `to_dense` asks for it. Make one with `impute_V` (an assumed
    correlation), `rcalc` (from correlation matrices), `from_matrix` or `from_blocks` (from elsewhere).

    Attributes
    ----------
    vi : ndarray of shape (k,)
        Sampling variances, the diagonal of V, in squared units of the effects.
    codes : ndarray of int, shape (k,)
        Cluster of each effect, numbered from 0 as they first appear.
    labels : tuple of str
        One per cluster, by code.
    cluster : str or None
        Column that the clusters came from; None if they came from no column.
    assumption : str
        What V rests on, in words, such as ``"rho = 0.6 within study_id"``.
    settings : mapping
        The arguments behind the assumption.
    notes : tuple of Note
        Printed by every report.
    rho : float or None
        The correlation where one holds between all effects of a cluster; V is then
        (1 - rho) diag(vi) + rho s s' with s = sqrt(vi) in each cluster. None for any other structure.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, impute_V
    >>> es = EffectSizes.from_arrays([0.2, 0.3, 0.4], [0.01, 0.04, 0.01], study_id=["A", "A", "B"])
    >>> V = impute_V(es, rho=0.5)
    >>> print(V)
    SamplingCovariance: 3 effects in 2 clusters of 1 to 2; rho = 0.5 within study_id
    >>> V.to_dense().round(4).tolist()
    [[0.01, 0.01, 0.0], [0.01, 0.04, 0.0], [0.0, 0.0, 0.01]]
    """

    vi: Array
    codes: IntArray
    labels: tuple[str, ...]
    cluster: str | None
    assumption: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    rho: float | None = None
    # The blocks row by row, one after the other in the order of `stacks`; None where rho says it all.
    _entries: Array | None = None

    def __post_init__(self) -> None:
        for name, kind in (("vi", float), ("codes", np.intp), ("_entries", float)):
            values = getattr(self, name)
            if values is not None:
                values = np.array(values, dtype=kind)
                values.flags.writeable = False
                object.__setattr__(self, name, values)

    @classmethod
    def from_matrix(
        cls, V: Any, *, cluster: Sequence[Any] | AnyArray | None = None, check: PositiveDefiniteCheck = "error"
    ) -> SamplingCovariance:
        """Take over a covariance matrix computed elsewhere.

        Parameters
        ----------
        V : array-like or scipy.sparse array of shape (k, k)
            Symmetric, with positive variances on its diagonal.
        cluster : sequence of shape (k,), optional
            Cluster of each effect; without it, effects belong together where V links them, directly or
            through others.
        check : {"error", "nearest", "warn"}
            What to do if V is not positive definite, see `checked`.

        Raises
        ------
        InputError
            V is not square or not symmetric, has a value that is not finite or a variance that is not
            positive, links effects of different clusters, or is not positive definite.

        Examples
        --------
        >>> from alliance_meta.effects import SamplingCovariance
        >>> SamplingCovariance.from_matrix([[0.02, 0.01, 0], [0.01, 0.02, 0], [0, 0, 0.05]]).labels
        ('block 1', 'block 2')
        """
        return cls._given(V, cluster, None, check)

    @classmethod
    def from_blocks(
        cls, blocks: Sequence[Any], *, labels: Sequence[str] | None = None, check: PositiveDefiniteCheck = "error"
    ) -> SamplingCovariance:
        """Take over one covariance matrix per cluster, the effects in the order of the blocks.

        Parameters
        ----------
        blocks : sequence of array-like
            Square matrices; a single number is the variance of a lone effect.
        labels : sequence of str, optional
            One per block.
        check : {"error", "nearest", "warn"}
            What to do if a block is not positive definite, see `checked`.

        Raises
        ------
        InputError
            As for `from_matrix`; also for no blocks at all, or labels of another number.

        Examples
        --------
        >>> from alliance_meta.effects import SamplingCovariance
        >>> SamplingCovariance.from_blocks([[[0.02, 0.01], [0.01, 0.02]], 0.05]).k
        3
        """
        made = [np.atleast_2d(np.asarray(block, dtype=float)) for block in blocks]
        names = [f"block {n + 1}" for n in range(len(made))] if labels is None else [str(label) for label in labels]
        if not made or len(names) != len(made):
            raise InputError(
                f"{len(made)} blocks and {len(names)} labels; give at least one block, and a label for each"
            )
        wrong = [
            f"{names[n]} has shape {b.shape}" for n, b in enumerate(made) if b.shape != b.shape[::-1] or b.ndim != 2
        ]
        if wrong:
            raise InputError("; ".join(wrong) + "; a block must be square, one row and one column per effect")
        of = np.repeat(np.arange(len(made)), [len(block) for block in made])
        return cls._given(sparse.block_diag([sparse.coo_array(one) for one in made]), of, names, check)

    @classmethod
    def _given(
        cls,
        V: Any,
        cluster: Sequence[Any] | AnyArray | None,
        labels: Sequence[str] | None,
        check: PositiveDefiniteCheck,
    ) -> SamplingCovariance:
        vi, of, names, entries = read_matrix(V, cluster, labels)
        single = len(names) == vi.size
        made = cls(vi, of, names, None, "V as given", rho=0.0 if single else None, _entries=None if single else entries)
        return made.checked(check, _stacklevel=5)

    @classmethod
    def from_stacks(
        cls, vi: Array, of: IntArray, values: Sequence[Array], *, labels: Sequence[str], **rest: Any
    ) -> SamplingCovariance:
        """Make one from blocks (n, m, m) that follow `stacks` of the codes `of`; nothing is checked.

        The diagonals of the blocks are set to `vi`, and rounding is kept from making them asymmetric. Further
        keywords are attributes.
        """
        entries = np.concatenate([(0.5 * (block + np.swapaxes(block, 1, 2))).ravel() for block in values])
        place = layout(stacks(of), of.size)
        entries[place.start + place.position] = vi
        return cls(vi, of, tuple(labels), _entries=entries, **rest)

    @property
    def k(self) -> int:
        """Number of effects."""
        return int(self.vi.size)

    @cached_property
    def blocks(self) -> tuple[tuple[IntArray, Array], ...]:
        """Clusters of equal size together: row numbers (n, m) and their covariance matrices (n, m, m)."""
        if self._entries is None:
            check_room(self.codes, self.labels)
            made = tuple((rows, self.block(rows)) for rows in self._stacks)
            for _, values in made:
                values.flags.writeable = False
            return made
        ends = self._layout.ends
        return tuple(
            (rows, self._entries[start:end].reshape(*rows.shape, rows.shape[1]))
            for rows, start, end in zip(self._stacks, ends[:-1], ends[1:], strict=True)
        )

    @cached_property
    def is_positive_definite(self) -> bool:
        """Whether V can be the covariance matrix of anything without perfect dependence."""
        return not self._failing.size

    def to_dense(self) -> Array:
        """Return V as a full matrix (k, k).

        Raises
        ------
        InputError
            The matrix would not fit into 4 GB; `block` and `blocks` do without it.
        """
        if self.k**2 > MOST_ENTRIES:
            raise InputError(
                f"V of {self.k} effects as a full matrix needs {fixed(8e-9 * self.k**2, 0)} GB; use blocks"
            )
        out = np.zeros((self.k, self.k))
        for rows, values in self.blocks:
            out[rows[:, :, None], rows[:, None, :]] = values
        return out

    def block(self, rows: Any) -> Array:
        """Return the covariances among effects.

        Parameters
        ----------
        rows : array-like of int, shape (..., m)
            Row numbers: one set of m effects, or a stack of n such sets (n, m). They need not follow the
            clusters; effects of different clusters get 0.

        Returns
        -------
        ndarray of shape (..., m, m)
        """
        rows = np.asarray(rows, dtype=np.intp)
        left, right = rows[..., :, None], rows[..., None, :]
        linked = self.codes[left] == self.codes[right]
        if self._entries is not None:
            at = self._layout.start[left] + self._layout.position[right]
            return np.where(linked, self._entries[np.where(linked, at, 0)], 0.0)
        s = np.sqrt(self.vi)[rows]
        out = np.where(linked, (self.rho or 0.0) * (s[..., :, None] * s[..., None, :]), 0.0)
        return np.where(left == right, self.vi[left], out)

    def take(self, rows: Any) -> SamplingCovariance:
        """Return V of some effects.

        Parameters
        ----------
        rows : mask or array-like of int
            Each effect at most once, in the order wanted; the same that `EffectSizes.take` takes.

        Raises
        ------
        InputError
            An effect is named twice: it would be perfectly dependent on itself.
        """
        index = np.arange(self.k)[rows]
        if np.unique(index).size < index.size:
            raise InputError("rows name an effect twice; give each row number once")
        of = codes(self.codes[index])
        first = np.unique(of, return_index=True)[1]
        labels = tuple(self.labels[code] for code in self.codes[index][first])
        kept = replace(self, vi=self.vi[index], codes=of, labels=labels, _entries=None)
        if self._entries is None:
            return kept
        parts = [self.block(index[stack]).ravel() for stack in stacks(of)]
        return replace(kept, _entries=np.concatenate(parts) if parts else np.zeros(0))

    def checked(self, check: PositiveDefiniteCheck = "error", *, _stacklevel: int = 3) -> SamplingCovariance:
        """Return V, mended if asked, after a look at whether data could have it.

        Correlations that were assumed or put together one by one can contradict one another: if A goes with
        B and B with C, then A cannot be the opposite of C. V is then not positive definite, and no model can
        be fitted with it.

        Parameters
        ----------
        check : {"error", "nearest", "warn"}
            ``error`` refuses such a V. ``nearest`` takes, in each cluster that fails, the correlation matrix
            nearest to the given one (least sum of squared differences), and keeps the variances. ``warn``
            leaves V as it is.

        Raises
        ------
        InputError
            With ``error``: the clusters that fail, and why.

        Warns
        -----
        NotPositiveDefiniteWarning
            With ``nearest`` and ``warn``; the sentence is also in ``.notes``.

        Notes
        -----
        Positive definite means here that the smallest eigenvalue of the correlations exceeds m times the
        precision of the machine times the largest. Nearest matrix: Higham (2002,
        doi:10.1093/imanum/22.3.329). R: ``vcalc(..., nearpd=TRUE)``.
        """
        check_option("check", check, PositiveDefiniteCheck)
        if self.is_positive_definite:
            return self
        said = complaint(self, self._failing)
        if check == "error":
            raise InputError(f"{said}. Change the correlations, or take the nearest possible ones: check='nearest'")
        if check == "warn":
            note = warn_note("not-positive-definite", f"{said}.", NotPositiveDefiniteWarning, stacklevel=_stacklevel)
            return replace(self, notes=(*self.notes, note))
        values, change = nearest_blocks(self, self._failing)
        text = (
            f"{said}; the nearest correlation matrix was taken, variances unchanged, no correlation moved by more than"
        )
        note = warn_note("nearest-V", f"{text} {brief(change, 2)}.", NotPositiveDefiniteWarning, stacklevel=_stacklevel)
        return self.from_stacks(
            self.vi,
            self.codes,
            values,
            labels=self.labels,
            cluster=self.cluster,
            assumption=f"{self.assumption} ({self._failing.size} of {len(self.labels)} clusters mended)",
            settings=self.settings,
            notes=(*self.notes, note),
        )

    @cached_property
    def _stacks(self) -> list[IntArray]:
        return stacks(self.codes)

    @cached_property
    def _layout(self) -> Layout:
        return layout(self._stacks, self.k)

    @cached_property
    def _failing(self) -> IntArray:
        return failing(self)

    def __str__(self) -> str:
        sizes = np.bincount(self.codes, minlength=1)
        each = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
        n = len(self.labels)
        text = f"{self.k} effect{'s' if self.k != 1 else ''} in {n} cluster{'s' if n != 1 else ''} of {each}"
        return f"SamplingCovariance: {text}; {self.assumption}"

    def __repr__(self) -> str:
        return str(self)


def mean_of(y: Array, v: Array, cluster: IntArray, rho: Array) -> tuple[Array, Array, Array]:
    """Return plain means of effects (k,) whose errors correlate by rho (n,) within a cluster.

    The variance is the sum of the cluster's covariance matrix over m^2 (Borenstein et al. 2009, chapter 24).
    """
    m = np.bincount(cluster).astype(float)
    s = np.bincount(cluster, np.sqrt(v))
    total = (1.0 - rho) * np.bincount(cluster, v) + rho * s**2
    return np.bincount(cluster, y) / m, total / m**2, 1.0 / m


def gls_of(y: Array, v: Array, cluster: IntArray, rho: Array) -> tuple[Array, Array, Array]:
    """Return the means of least variance under the same errors; rho below 1 where a cluster has several effects.

    With u = 1 / sqrt(v) the constant correlation has two eigenvalues, 1 + (m - 1) rho for the mean of u and 1 - rho
    for what is left of it. That form stays exact as rho nears 1, where inverting the matrix does not.
    """
    m = np.bincount(cluster).astype(float)
    u = 1.0 / np.sqrt(v)
    level = np.bincount(cluster, u) / m
    apart = np.where(m > 1, 1.0 - rho, 1.0)
    together = 1.0 + (m - 1.0) * rho
    w = u * ((u - level[cluster]) / apart[cluster] + (level / together)[cluster])
    total = np.bincount(cluster, w)
    w = w / total[cluster]
    estimate = np.bincount(cluster, w * y).astype(float)
    return estimate, 1.0 / total, _lowest(w, cluster)


def mean_of_blocks(y: Array, V: Array) -> tuple[Array, Array, Array]:
    """Return plain means of y (n, m) with covariance matrices V (n, m, m)."""
    n, m = y.shape
    return y.mean(axis=1), V.sum(axis=(1, 2)) / m**2, np.full(n, 1.0 / m)


def gls_of_blocks(y: Array, V: Array) -> tuple[Array, Array, Array]:
    """Return the means of least variance of y (n, m) with positive-definite V (n, m, m)."""
    w = np.linalg.solve(V, np.ones((*y.shape, 1)))[..., 0]
    total = w.sum(axis=1)
    w = w / total[:, None]
    return (w * y).sum(axis=1), 1.0 / total, w.min(axis=1)


def smallest_shares(V: Array) -> Array:
    """Return the smallest eigenvalue of each V (n, m, m) as a share of its largest, rounding taken as 0."""
    values = np.linalg.eigvalsh(V)
    largest = np.abs(values).max(axis=1)
    share = values[:, 0] / np.where(largest > 0, largest, 1.0)
    rounding = 8.0 * V.shape[-1] * np.finfo(float).eps
    return np.where(np.abs(share) <= rounding, 0.0, share)


def gleser_olkin(d: Array, n: Array, rho: Array) -> tuple[Array, Array, Array]:
    """Return one d of several endpoints, d (c, m), of two equal groups that count n (c,) together.

    The endpoints correlate by rho (c,). Cov(d_i, d_j) = 4 rho / n + d_i d_j rho^2 / (2 n), with rho = 1 on the
    diagonal (Gleser & Olkin, multiple-endpoint studies with a pooled standard deviation).
    """
    m = d.shape[1]
    R = np.broadcast_to(rho[:, None, None], (len(d), m, m)).copy()
    R[:, np.arange(m), np.arange(m)] = 1.0
    V = (8.0 * R + d[:, :, None] * d[:, None, :] * R**2) / (2.0 * n[:, None, None])
    return gls_of_blocks(d, V)


def composite(r: Array, cluster: IntArray, rho: Array) -> tuple[Array, Array]:
    """Return the correlation with the sum of a cluster's m measures, and how much larger than the mean it is.

    sum(r) / sqrt(m + m (m - 1) rho), where the measures correlate by rho (n,) (Hunter & Schmidt).
    """
    m = np.bincount(cluster).astype(float)
    width = np.sqrt(m + m * (m - 1.0) * rho)
    return np.bincount(cluster, r) / width, m / width


def r_to_d(r: Array) -> Array:
    """Return d = 2 r / sqrt(1 - r^2), for two equal groups."""
    return 2.0 * r / np.sqrt(1.0 - r**2)


def d_to_r(d: Array, v: Array) -> tuple[Array, Array]:
    """Return r = d / sqrt(d^2 + 4) and its variance by the delta method."""
    scale = d**2 + 4.0
    return d / np.sqrt(scale), 16.0 * v / scale**3


def d_to_z(d: Array, v: Array) -> tuple[Array, Array]:
    """Return Fisher's z = asinh(d / 2) of the same r, and its variance by the delta method."""
    return np.arcsinh(0.5 * d), v / (d**2 + 4.0)


def _lowest(w: Array, cluster: IntArray) -> Array:
    out = np.full(cluster.max(initial=-1) + 1, np.inf)
    np.minimum.at(out, cluster, w)
    return out
