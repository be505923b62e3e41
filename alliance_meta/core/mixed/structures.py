"""Covariance structures of random effects: from parameters to matrices and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.mixed.covariance import Term
from alliance_meta.core.robust.clusters import IntArray, pairs


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

    @property
    def n(self) -> int:
        """One parameter."""
        return 1

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

    @property
    def n(self) -> int:
        """Two parameters, tau2 and rho."""
        return 2

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

    Attributes
    ----------
    q : int
    distance : ndarray of shape (q, q) or None
        Correlation rho ** distance between effects; 1 everywhere for ``HCS``, None for uncorrelated effects.
    common : bool
        One variance for all.
    """

    q: int
    distance: Array | None = None
    common: bool = False

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

    Attributes
    ----------
    q : int
    front : tuple of int
        The effect or the two effects in front.
    """

    front: tuple[int, ...]

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
