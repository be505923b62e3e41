"""Covariance structures of random effects: from parameters to matrices and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray


class Structure(Protocol):
    """Parameters of a covariance C (q, q), of which a term may have several.

    Several sets of parameters (..., n) give as many matrices (..., q, q).
    """

    @property
    def n(self) -> int:
        """Number of parameters."""

    @property
    def linear(self) -> bool:
        """The matrices are linear in the parameters."""

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest value of each parameter, (n,) each."""

    def start(self, variance: float) -> Array:
        """Return parameters that give each effect this variance."""

    def starts(self, variance: float) -> Array:
        """Return parameters all over the range, (m, n), for variances of about this size."""

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return the covariance of each term."""

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return, for each parameter, the derivative of the covariance of each term."""


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
class Scaled:
    """One variance times a known correlation matrix R (q, q): random intercepts, ``ID``, given R."""

    R: Array
    linear: ClassVar[bool] = True

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


@dataclass(frozen=True, eq=False)
class CompoundSymmetry:
    """One variance tau2 and one correlation rho: a term of the groups and one of the effects within them.

    The groups share rho tau2, the effects within them (1 - rho) tau2; `most` is the largest number of effects
    in a group, which sets the lowest rho.
    """

    most: int
    linear: ClassVar[bool] = False

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


@dataclass(frozen=True, eq=False)
class Correlated:
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
    def by_sd(self) -> bool:
        """The first q parameters are standard deviations."""
        return self.distance is not None and not self.common

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


@dataclass(frozen=True, eq=False)
class Unstructured:
    """Any covariance of q effects, by the lower triangle of its Cholesky factor, row by row."""

    q: int
    linear: ClassVar[bool] = False

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
        moved = D + np.swapaxes(D, -1, -2)
        return [(moved[..., at, :, :],) for at in range(self.n)]
