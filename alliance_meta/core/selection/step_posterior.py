"""The posterior of publication probabilities: means and distributions, from the nodes of the quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.selection.step_weights import USUAL, Selected, gauss, weight_posteriors
from alliance_meta.core.selection.steps import StepData

# Cells of the distribution between 0 and 1, and parts into which each cell of a rule is cut, by variable.
BINS = 1000
CUTS = (32, 4, 4)
# Points lighter than this, together, are left out.
LIGHTEST = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class OmegaPosterior:
    """The posterior of the m probabilities below 1.

    Attributes
    ----------
    mean, square : ndarray of shape (m,)
        First and second moment about 0.
    mass : ndarray of shape (m, 1000)
        Probability in equal cells between 0 and 1.
    """

    mean: Array
    square: Array
    mass: Array


def omega_posterior(data: StepData, mu: Array, tau: Array, weight: Array, *, level: int = USUAL) -> OmegaPosterior:
    """Return the posterior averaged over points mu (B,), tau (B,) with their probabilities (B,)."""
    order = np.argsort(weight, kind="stable")
    kept = np.sort(order[np.cumsum(weight[order]) > LIGHTEST])
    share = weight[kept] / weight[kept].sum()
    moments, mass = np.zeros((2, data.m)), np.zeros((data.m, BINS))
    start = 0
    for piece in weight_posteriors(data, mu[kept], tau[kept], level=level):
        w = share[start : start + len(piece.weight)]
        start += len(w)
        inside = piece.weight * w.reshape(-1, *([1] * data.m))
        for j, omega in enumerate(piece.omega):
            marginal = inside.sum(axis=tuple(range(j + 2, data.m + 1)))
            moments[:, j] += (marginal * omega).sum(), (marginal * omega**2).sum()
            mass[j] += _cells(piece, marginal, j)
    mass = np.maximum(mass, 0.0)
    return OmegaPosterior(moments[0], moments[1], mass / mass.sum(axis=1, keepdims=True))


def _cells(piece: Selected, marginal: Array, j: int) -> Array:
    """Return the probability of w_j in each cell: the polynomial through each rule's nodes, cut up finely."""
    rule = piece.rules[j]
    centre, cut = _cutting(rule.n, CUTS[j])
    parts = marginal @ cut.T
    b = rule.at(centre)[1]
    omega = piece.omega[j - 1][..., None] * b if j else b
    # Each part is shared by the two cells whose centres it lies between.
    place = np.clip(omega.ravel() * BINS - 0.5, 0.0, BINS - 1.0)
    left = np.minimum(place.astype(np.intp), BINS - 2)
    right = (place - left) * parts.ravel()
    found = np.bincount(left, weights=parts.ravel() - right, minlength=BINS)
    return np.asarray(found + np.bincount(left + 1, weights=right, minlength=BINS), dtype=float)


@cache
def _cutting(n: int, cuts: int) -> tuple[Array, Array]:
    """Return the centres of fine cells of [-1, 1] and what each takes of every node's mass, (cells,) and (cells, n)."""
    node = gauss(n)[0]
    edges = np.linspace(-1.0, 1.0, cuts * n + 1)
    degree = np.arange(n)
    P = np.polynomial.legendre.legvander(edges, n)
    integral = np.column_stack([edges + 1.0, (P[:, 2:] - P[:, :-2]) / (2.0 * degree[1:] + 1.0)])
    # A density that is 1 / weight at one node, 0 at the others, as a Legendre series.
    series = (degree + 0.5)[:, None] * np.polynomial.legendre.legvander(node, n - 1).T
    return 0.5 * (edges[:-1] + edges[1:]), np.diff(integral, axis=0) @ series
