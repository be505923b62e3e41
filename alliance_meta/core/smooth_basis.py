"""A smooth curve as a straight line and a few functions that bend it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from alliance_meta._typing import Array


@dataclass(frozen=True, eq=False)
class SmoothBasis:
    """Functions that bend a line, for values of one variable."""

    knots: Array  # (K,): where cubic pieces meet; beyond the outer two the functions are straight lines
    heights: Array  # (K, K - 2): each function at the knots, before a line is taken from it
    line: Array  # (2, K - 2): intercept and slope of that line

    @property
    def m(self) -> int:
        """Number of functions."""
        return self.heights.shape[1]

    def at(self, x: Array) -> Array:
        """Return the functions at values (n,), as (n, K - 2)."""
        return _natural(self.knots, self.heights, x) - _line_at(self.knots, x) @ self.line


def smooth_basis(x: Array, *, knots: int) -> SmoothBasis:
    r"""Return a natural cubic spline over the values (n,), without its linear part.

    The knots are quantiles of the different values. Coefficients that are independent normal with standard deviation s
    make curves whose density falls with :math:`\int f''(x)^2 dx`, the penalty of a smoothing spline (Wahba 1978,
    J. R. Statist. Soc. B 40, 364-372). The functions are orthogonal to a constant and to x over the values, and scaled
    so that s is the standard deviation of the curve around its line, averaged over the values.

    Needs at least `knots` different values, and 3 knots.
    """
    at = np.quantile(np.unique(x), np.linspace(0.0, 1.0, knots))
    place = _line_at(at, at)[:, 1]
    bend = CubicSpline(place, np.eye(knots), bc_type="natural")(place, 2)
    # f'' is linear between knots, so that its square integrates exactly.
    mass = np.zeros((knots, knots))
    for i, gap in enumerate(np.diff(place)):
        mass[i : i + 2, i : i + 2] += gap / 6.0 * np.array([[2.0, 1.0], [1.0, 2.0]])
    value, vector = np.linalg.eigh(bend.T @ mass @ bend)
    # The two smallest are those of straight lines, 0. Signs are arbitrary: the largest element is made positive.
    vector = vector[:, 2:] * np.sign(vector[np.abs(vector).argmax(axis=0), np.arange(knots)])[2:]
    heights = vector / np.sqrt(value[2:])
    lines = _line_at(at, x)
    line = np.linalg.lstsq(lines, _natural(at, heights, x), rcond=None)[0]
    rest = _natural(at, heights, x) - lines @ line
    scale = np.sqrt((rest**2).sum(axis=1).mean())
    return SmoothBasis(at, heights / scale, line / scale)


def _line_at(knots: Array, x: Array) -> Array:
    """Return a constant and the place between the outer knots, (n, 2)."""
    return np.column_stack([np.ones(len(x)), (x - knots[0]) / (knots[-1] - knots[0])])


def _natural(knots: Array, heights: Array, x: Array) -> Array:
    """Return natural cubic splines through heights (K, m) at the values, straight beyond the outer knots."""
    spline = CubicSpline(knots, heights, bc_type="natural")
    inside = np.clip(x, knots[0], knots[-1])
    return np.asarray(spline(inside) + (x - inside)[:, None] * spline(inside, 1))
