"""An unstructured covariance whose variance or correlation of interest is a parameter of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray

# A correlation this near to 1, as the sine of its angle, has the slope of one that is as near.
STEEP = 1e-6
# Added to a singular covariance, as a share of its size, so that it has a Cholesky factor.
RIDGE = 1e-10


@dataclass(frozen=True, eq=False)
class Turned:
    """Any covariance of q effects by the Cholesky factor of the effects in another order.

    With one effect in front the first parameter is its standard deviation; with two the first three are their
    standard deviations and their correlation. The others are the rest of the lower triangle, row by row.

    Attributes
    ----------
    q : int
    front : tuple of int
        The effect or the two effects in front.
    """

    q: int
    front: tuple[int, ...]
    linear: ClassVar[bool] = False

    @property
    def n(self) -> int:
        """One for each element of the triangle, q (q + 1) / 2."""
        return self.q * (self.q + 1) // 2

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Standard deviations are not below 0, a correlation lies between -1 and 1."""
        low, high = np.full(self.n, -np.inf), np.full(self.n, np.inf)
        low[: len(self.front)] = 0.0
        if len(self.front) == 2:
            low[2], high[2] = -1.0, 1.0
        return low, high

    @cached_property
    def order(self) -> IntArray:
        """The effects, those in front first."""
        rest = [j for j in range(self.q) if j not in self.front]
        return np.array([*self.front, *rest], dtype=np.intp)

    @cached_property
    def _triangle(self) -> tuple[IntArray, IntArray]:
        return np.tril_indices(self.q)

    def start(self, variance: float) -> Array:
        """Return equal variances, correlation 0.5."""
        return self.theta(variance * (0.5 + 0.5 * np.eye(self.q)))

    def starts(self, variance: float) -> Array:
        """Return that one point: a profile climbs from the estimate."""
        return self.start(variance)[None]

    def theta(self, G: Array) -> Array:
        """Return the parameters of a covariance (q, q)."""
        turned = G[np.ix_(self.order, self.order)]
        ridge = RIDGE * float(np.trace(G)) + np.finfo(float).tiny
        L = np.linalg.cholesky(turned + ridge * np.eye(self.q))
        found = np.asarray(L[self._triangle])
        if len(self.front) == 2:
            sd = float(np.hypot(L[1, 0], L[1, 1]))
            found[:3] = L[0, 0], sd, L[1, 0] / sd
        return found

    def _factor(self, theta: Array) -> Array:
        L = np.zeros((*theta.shape[:-1], self.q, self.q))
        L[..., *self._triangle] = theta
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
        L = self._factor(theta)
        return (self._back(L @ np.swapaxes(L, -1, -2)),)

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
        moved = D @ np.swapaxes(L, -1, -2)[..., None, :, :]
        moved = self._back(moved + np.swapaxes(moved, -1, -2))
        return [(moved[..., at, :, :],) for at in range(self.n)]
