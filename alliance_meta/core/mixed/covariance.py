r"""The covariance of a mixed model: structures of random effects, and how levels of them add up to that of the rows.

.. math:: M = D + \sum_l W_l (I \otimes C_l) W_l'

Level l has groups of rows and columns W_l; within a group the columns share the covariance C_l, which a structure
makes of a few parameters, between groups they are independent, and every group of a level lies within one group of
the next. Random intercepts, slopes, outcomes within studies and crossed factors are all of this form. A
block-diagonal sampling covariance is made diagonal once, by the eigenvectors of its blocks. Determinant, solutions
and traces then follow level by level from the identities of Woodbury and Sylvester, in time linear in the rows
(Harville 1977, doi:10.1080/01621459.1977.10480998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray, codes, components, nested, pairs, stacks

# From so many numbers on a sparse product adds up groups faster than NumPy does.
SPARSE = 3_000


@dataclass(frozen=True, eq=False)
class Level:
    """Groups of adjacent rows with the columns that vary between them."""

    starts: IntArray  # (n,): first row of each group
    W: Array  # (k, q)
    ones: bool = False  # W is a single column of ones

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
    """A covariance at one value of its parameters, or at several that lie along the first axis of everything."""

    d: Array  # (..., k)
    levels: tuple[SolvedLevel, ...]
    solved: Array  # (..., k, c): M^-1 A for the columns A it was made with
    logdet: Array  # (...): NaN where M is not positive definite

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
    """What varies at random between the groups of one factor."""

    group: IntArray  # (k,): codes of the groups
    Z: Array | None = None  # (k, q) or None: columns whose coefficients vary; None for an intercept
    linked: bool = False  # the groups themselves are correlated: their covariance is one matrix over all groups

    @property
    def columns(self) -> Array:
        """Z, (k, q)."""
        return np.ones((self.group.size, 1)) if self.Z is None else self.Z


@dataclass(frozen=True, eq=False)
class Plan:
    """Rows sorted and rotated so that every random term is a level of `Factored`."""

    order: IntArray  # (k,): sorted row -> row of the data
    d: Array  # (k,): eigenvalues of the sampling covariance, sorted rows
    # Tuple of (rows (n, m), Q (n, m, m)): eigenvectors of its blocks; empty where V is diagonal.
    rotations: tuple[tuple[IntArray, Array], ...]
    levels: tuple[Level, ...]
    places: tuple[int | None, ...]  # each term's level; None for a variance of the rows themselves
    # How often the columns of a level repeat its term's, once for each group that shares the level's group.
    copies: tuple[int, ...]
    # (ndarray of shape (n, copies) or None) each: which group of the term each copy in each group of the level belongs
    # to; -1 where there is none, 0 for groups that are correlated, which are one.
    owners: tuple[IntArray | None, ...]
    linked: tuple[bool, ...]  # each term's groups are correlated

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


class Structure:
    """Parameters of a covariance C (q, q), of which a term may have several.

    Several sets of parameters (..., n) give as many matrices (..., q, q).
    """

    linked = False
    """The groups are correlated."""

    @property
    def linear(self) -> bool:
        """The matrices are linear in the parameters."""
        return False

    @property
    def constant(self) -> bool:
        """Every effect has the same variance, which is the first parameter."""
        return False

    @property
    def correlated(self) -> bool:
        """The last parameter is a correlation."""
        return False

    @property
    def cone(self) -> bool:
        """The covariances with 0 on the diagonal form a convex cone."""
        return True

    @property
    def by_sd(self) -> bool:
        """Variances are searched for as standard deviations."""
        return False

    @property
    def n(self) -> int:
        """Number of parameters."""
        raise NotImplementedError

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest value of each parameter, (n,) each."""
        raise NotImplementedError

    def start(self, variance: float) -> Array:
        """Return parameters that give each effect this variance."""
        raise NotImplementedError

    def starts(self, variance: float) -> Array:
        """Return parameters all over the range, (m, n), for variances of about this size."""
        raise NotImplementedError

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return the covariance of each term."""
        raise NotImplementedError

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return, for each parameter, the derivative of the covariance of each term."""
        raise NotImplementedError

    def joint(self, theta: Array, q: int) -> Array:
        """Return the covariance of q effects of one group; (1, 1) where one number says it all."""
        return self.matrices(theta)[0]

    def natural(self, theta: Array) -> Array:
        """Return parameters with standard deviations as variances."""
        return np.append(theta[:-1] ** 2, theta[-1:]) if self.by_sd else theta

    def names(self, term: str, effects: Sequence[str]) -> tuple[str, ...]:
        """Return what the parameters are called in a term with these effects."""
        raise NotImplementedError

    def terms(self, group: IntArray, inner: IntArray | None, q: int) -> list[Term]:
        """Return what varies: between groups (k,), the effects within them, of which each row has one (k,)."""
        assert inner is not None
        Z = np.zeros((group.size, q))
        Z[np.arange(group.size), inner] = 1.0
        return [Term(group, Z)]


# How far apart the variances lie, or the standard deviations, from which a search begins.
SIZES = (1.0, 0.1, 4.0)
SMALL = 0.05
# A correlation that counts as 0 where its slope would be infinite.
BARELY = 1e-8


def patterns(q: int) -> Array:
    """Return sizes of q effects (m, q): alike, and each in turn much smaller or larger than the others."""
    alike = np.array([np.full(q, s) for s in SIZES])
    if q == 1:
        return alike
    lone = np.eye(q)
    return np.concatenate([alike, np.where(lone, SMALL, 1.0), np.where(lone, 1.0, SMALL)])


def correlations(low: float) -> Array:
    """Return correlations over the whole range from its lowest."""
    return np.array([0.99 * low, 0.6 * low, 0.0, 0.5, 0.99])


def spread_out(sizes: Sequence[Array] | Array, rho: Array) -> Array:
    """Return every combination of sizes (n,) and correlations."""
    return np.array([np.append(size, r) for size in sizes for r in rho])


@dataclass(frozen=True, eq=False)
class Scaled(Structure):
    """One variance times a known correlation matrix R (q, q): random intercepts, ``ID``, or R of `linked` groups."""

    R: Array
    linked: bool = False
    linear = True
    constant = True
    n = 1

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Not below 0."""
        return np.zeros(1), np.full(1, np.inf)

    def start(self, variance: float) -> Array:
        """Return the variance."""
        return np.array([variance])

    def starts(self, variance: float) -> Array:
        """Return variances between 0 and five times this."""
        return variance * np.array([[0.0], [0.02], [0.2], [1.0], [5.0]])

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return theta R."""
        return (theta[..., :1, None] * self.R,)

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return R."""
        return [(self.R,)]

    def joint(self, theta: Array, q: int) -> Array:
        """Return the variance."""
        return np.array([[theta[0]]])

    def names(self, term: str, effects: Sequence[str]) -> tuple[str, ...]:
        """Return the variance's."""
        return (f"tau2[{term}]" if effects else f"sigma2[{term}]",)

    def terms(self, group: IntArray, inner: IntArray | None, q: int) -> list[Term]:
        """Return the groups, or the distinct pairs of both."""
        return [Term(group if inner is None else pairs(group, inner), linked=self.linked)]


@dataclass(frozen=True, eq=False)
class CompoundSymmetry(Structure):
    """One variance tau2 and one correlation rho: a term of the groups and one of the effects within them.

    The groups share rho tau2, the effects within them (1 - rho) tau2; `most` is the largest number of effects
    in a group, which sets the lowest rho.
    """

    most: int
    constant = True
    correlated = True
    n = 2

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Where every covariance is positive semi-definite."""
        return np.array([0.0, -1.0 / max(self.most - 1, 1)]), np.array([np.inf, 1.0])

    def start(self, variance: float) -> Array:
        """Return the variance and half of it shared."""
        return np.array([variance, 0.5])

    def starts(self, variance: float) -> Array:
        """Return variances with correlations over the whole range."""
        return spread_out([variance * np.array([s]) for s in SIZES], correlations(self.bounds[0][1]))

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return rho tau2 and (1 - rho) tau2."""
        tau2, rho = theta[..., :1, None], theta[..., 1:, None]
        return rho * tau2, (1.0 - rho) * tau2

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return those for tau2 and for rho."""
        tau2, rho = theta[..., :1, None], theta[..., 1:, None]
        return [(rho, 1.0 - rho), (tau2, -tau2)]

    def joint(self, theta: Array, q: int) -> Array:
        """Return what the groups share and what the effects have of their own together."""
        return np.asarray(theta[0] * (theta[1] + (1.0 - theta[1]) * np.eye(q)))

    def names(self, term: str, effects: Sequence[str]) -> tuple[str, ...]:
        """Return tau2 and rho."""
        return f"tau2[{term}]", f"rho[{term}]"

    def terms(self, group: IntArray, inner: IntArray | None, q: int) -> list[Term]:
        """Return the groups, and the distinct pairs of both."""
        assert inner is not None
        return [Term(group), Term(pairs(group, inner))]


@dataclass(frozen=True, eq=False)
class Correlated(Structure):
    """Variances and correlations of q effects: ``DIAG``, ``HCS``, ``AR``, ``HAR``, ``CAR``.

    Several variances that go with a correlation are searched for as standard deviations: a covariance rises
    with the root of a variance, infinitely fast at 0.
    """

    q: int
    # (q, q) or None: correlation rho ** distance between effects; 1 everywhere for ``HCS``, None for uncorrelated
    # effects.
    distance: Array | None = None
    common: bool = False  # one variance for all

    @property
    def variances(self) -> int:
        """Number of variances."""
        return 1 if self.common else self.q

    @property
    def linear(self) -> bool:
        """Variances without correlations are."""
        return self.distance is None

    @property
    def cone(self) -> bool:
        """Those form a cone, too."""
        return self.distance is None

    @property
    def correlated(self) -> bool:
        """There is a distance that the correlation goes with."""
        return self.distance is not None

    @property
    def constant(self) -> bool:
        """One variance for all."""
        return self.common

    @property
    def by_sd(self) -> bool:
        """Several variances that go with a correlation are searched for as standard deviations."""
        return self.correlated and not self.common

    @property
    def n(self) -> int:
        """The variances and the correlation."""
        return self.variances + (self.distance is not None)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Where the covariance is positive semi-definite."""
        low, high = np.zeros(self.n), np.full(self.n, np.inf)
        if self.distance is not None:
            off = self.distance[~np.eye(self.q, dtype=bool)]
            equal = bool((off == 1.0).all())
            whole = bool((off == np.round(off)).all())
            low[-1] = -1.0 / max(self.q - 1, 1) if equal else (-1.0 if whole else 0.0)
            high[-1] = 1.0
        return low, high

    def start(self, variance: float) -> Array:
        """Return equal variances and a correlation of 0.5."""
        theta = np.full(self.n, np.sqrt(variance) if self.by_sd else variance)
        if self.distance is not None:
            theta[-1] = 0.5
        return theta

    def starts(self, variance: float) -> Array:
        """Return equal variances, each in turn small or large, with correlations over the whole range."""
        sizes = patterns(self.variances) * (np.sqrt(variance) if self.by_sd else variance)
        if self.distance is None:
            return sizes
        off = self.distance[~np.eye(self.q, dtype=bool)]
        rho = correlations(self.bounds[0][-1])
        if (off != np.round(off)).any():
            rho = np.append(rho[2:], [c ** (1.0 / d) for c in (0.1, 0.5, 0.9) for d in (off.min(), off.max())])
        return spread_out(sizes, rho)

    def _parts(self, theta: Array) -> tuple[Array, Array, Array]:
        sd = theta[..., : self.variances]
        sd = np.broadcast_to(sd if self.by_sd else np.sqrt(sd), (*theta.shape[:-1], self.q))
        if self.distance is None:
            return sd, np.eye(self.q), np.zeros((self.q, self.q))
        rho, far = theta[..., -1:, None], self.distance
        away = ~np.eye(self.q, dtype=bool)
        # A negative correlation goes with whole distances only.
        size, odd = np.abs(rho), np.where((rho < 0) & (far % 2 == 1), -1.0, 1.0)
        R = np.where(away, odd * size**far, 1.0)
        # Below a distance of 1 the correlation rises infinitely fast at 0.
        below = np.where(far < 1.0, np.maximum(size, BARELY), size) ** (far - 1.0)
        slope = np.where(away, np.where(rho < 0, -odd, odd) * far * below, 0.0)
        return sd, R, slope

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return the covariance."""
        sd, R, _ = self._parts(theta)
        return (sd[..., :, None] * R * sd[..., None, :],)

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return those for the variances and for rho."""
        sd, R, slope = self._parts(theta)
        found: list[tuple[Array, ...]] = []
        if self.common:
            found.append((R,))
        else:
            for j in range(self.q):
                D = np.zeros((*theta.shape[:-1], self.q, self.q))
                if self.by_sd:
                    D[..., j, :] = D[..., :, j] = R[..., j, :] * sd
                D[..., j, j] = 2.0 * sd[..., j] if self.by_sd else 1.0
                found.append((D,))
        if self.distance is not None:
            found.append((sd[..., :, None] * slope * sd[..., None, :],))
        return found

    def names(self, term: str, effects: Sequence[str]) -> tuple[str, ...]:
        """Return the variances', and the correlation's."""
        variances = (f"tau2[{term}]",) if self.common else tuple(f"tau2[{term}: {one}]" for one in effects)
        return (*variances, f"rho[{term}]") if self.correlated else variances


@dataclass(frozen=True, eq=False)
class Unstructured(Structure):
    """Any covariance of q effects, by the lower triangle of its Cholesky factor, row by row."""

    q: int

    @property
    def n(self) -> int:
        """One for each element of the triangle, q (q + 1) / 2."""
        return self.q * (self.q + 1) // 2

    @cached_property
    def _triangle(self) -> tuple[IntArray, IntArray]:
        return np.tril_indices(self.q)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """None: every factor gives a covariance."""
        return np.full(self.n, -np.inf), np.full(self.n, np.inf)

    def start(self, variance: float) -> Array:
        """Return equal variances, correlation 0.5."""
        C = variance * (0.5 + 0.5 * np.eye(self.q))
        return np.asarray(np.linalg.cholesky(C)[self._triangle])

    def starts(self, variance: float) -> Array:
        """Return variances as those of `Correlated`, with correlations of either sign."""
        signs = np.array(
            [[(-1.0) ** (code >> j & 1) for j in range(self.q)] for code in range(2 ** min(self.q - 1, 3))]
        )
        found = []
        for sd in np.sqrt(variance) * patterns(self.q):
            for rho in (0.0, 0.5, 0.95):
                for sign in signs if rho else signs[:1]:
                    C = np.outer(sd * sign, sd * sign) * (rho + (1.0 - rho) * np.eye(self.q))
                    found.append(np.linalg.cholesky(C)[self._triangle])
        return np.array(found)

    def _factor(self, theta: Array) -> Array:
        L = np.zeros((*theta.shape[:-1], self.q, self.q))
        L[..., *self._triangle] = theta
        return L

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return L L'."""
        L = self._factor(theta)
        return (L @ np.swapaxes(L, -1, -2),)

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return those for each element of L."""
        L, (i, j) = self._factor(theta), self._triangle
        D = np.zeros((*theta.shape[:-1], self.n, self.q, self.q))
        D[..., np.arange(self.n), i, :] = np.swapaxes(L, -1, -2)[..., j, :]
        changes = D + np.swapaxes(D, -1, -2)
        return [(changes[..., at, :, :],) for at in range(self.n)]

    def names(self, term: str, effects: Sequence[str]) -> tuple[str, ...]:
        """Return the elements'."""
        rows, columns = self._triangle
        return tuple(f"chol[{term}: {effects[i]}, {effects[j]}]" for i, j in zip(rows, columns, strict=True))


# A correlation this near to 1, as the sine of its angle, has the slope of one that is as near.
STEEP = 1e-6
# Added to a singular covariance, as a share of its size, so that it has a Cholesky factor.
RIDGE = 1e-10


@dataclass(frozen=True, eq=False)
class Reordered(Unstructured):
    """Any covariance of q effects by the Cholesky factor of the effects in another order.

    With one effect in front the first parameter is its standard deviation; with two the first three are their
    standard deviations and their correlation. The others are the rest of the lower triangle, row by row.
    """

    front: tuple[int, ...]  # the effect or the two effects in front

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Standard deviations are not below 0, a correlation lies between -1 and 1."""
        low, high = super().bounds
        low[: len(self.front)] = 0.0
        if len(self.front) == 2:
            low[2], high[2] = -1.0, 1.0
        return low, high

    @cached_property
    def order(self) -> IntArray:
        """The effects, those in front first."""
        rest = [j for j in range(self.q) if j not in self.front]
        return np.array([*self.front, *rest], dtype=np.intp)

    def start(self, variance: float) -> Array:
        """Return equal variances, correlation 0.5."""
        return self.theta(variance * (0.5 + 0.5 * np.eye(self.q)))

    def starts(self, variance: float) -> Array:
        """Return that one point: a profile climbs from the estimate."""
        return self.start(variance)[None]

    def theta(self, G: Array) -> Array:
        """Return the parameters of a covariance (q, q)."""
        ridge = RIDGE * float(np.trace(G)) + np.finfo(float).tiny
        L = np.linalg.cholesky(G[np.ix_(self.order, self.order)] + ridge * np.eye(self.q))
        found = np.asarray(L[self._triangle])
        if len(self.front) == 2:
            sd = float(np.hypot(L[1, 0], L[1, 1]))
            found[:3] = L[0, 0], sd, L[1, 0] / sd
        return found

    def _factor(self, theta: Array) -> Array:
        L = super()._factor(theta)
        if len(self.front) == 2:
            sd, rho = theta[..., 1], theta[..., 2]
            L[..., 1, 0], L[..., 1, 1] = sd * rho, sd * np.sqrt(1.0 - rho**2)
        return L

    def _back(self, M: Array) -> Array:
        out = np.empty_like(M)
        out[..., self.order[:, None], self.order] = M
        return out

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return the covariance in the effects' own order."""
        return (self._back(super().matrices(theta)[0]),)

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return those for each parameter; for a correlation near -1 or 1 that of one a little less near."""
        L = self._factor(theta)
        D = np.zeros((*theta.shape[:-1], self.n, self.q, self.q))
        D[..., np.arange(self.n), *self._triangle] = 1.0
        if len(self.front) == 2:
            sd, rho = theta[..., 1], theta[..., 2]
            beside = np.sqrt(1.0 - rho**2)
            D[..., 1, 1, 0], D[..., 1, 1, 1] = rho, beside
            D[..., 2, 1, 0], D[..., 2, 1, 1] = sd, -sd * rho / np.maximum(beside, STEEP)
        changes = D @ np.swapaxes(L, -1, -2)[..., None, :, :]
        changes = self._back(changes + np.swapaxes(changes, -1, -2))
        return [(changes[..., at, :, :],) for at in range(self.n)]


class Kind(NamedTuple):
    """What a name of a structure asks of the term: slopes, an order of its effects, numbers of them."""

    slopes: bool = False
    ordered: bool = False
    numeric: bool = False


_ASKING = {
    "GEN": Kind(slopes=True),
    "AR": Kind(ordered=True),
    "HAR": Kind(ordered=True),
    "CAR": Kind(ordered=True, numeric=True),
}


def kind_of(struct: str) -> Kind:
    """Return what a structure asks of the term."""
    return _ASKING.get(struct, Kind())


def most_within(outer: IntArray, inner: IntArray) -> int:
    """Return the largest number of inner levels in a group."""
    first = np.unique(pairs(outer, inner), return_index=True)[1]
    return int(np.bincount(outer[first]).max())


def structure_of(struct: str, effects: Sequence[str], most: int) -> Structure:
    """Return the structure of that name for these effects, of which a group has at most `most`."""
    q = len(effects)
    if struct == "ID":
        return Scaled(np.ones((1, 1)))
    if struct == "CS":
        return CompoundSymmetry(most)
    if struct in ("UN", "GEN"):
        return Unstructured(q)
    if struct == "DIAG":
        return Correlated(q)
    if struct == "HCS":
        return Correlated(q, np.ones((q, q)))
    times = np.array([float(one) for one in effects]) if struct == "CAR" else np.arange(float(q))
    return Correlated(q, np.abs(np.subtract.outer(times, times)), common=struct != "HAR")
