r"""Likelihood of effects that were selected by their p-values, with its first and second derivatives.

.. math:: \ell_i = \log w(p_i; \psi_i) + \log \phi(y_i; m_i, \eta_i) - \log A(m_i, \eta_i, \psi_i), \qquad
   m_i = x_i'\beta, \; \eta_i = v_i + \exp(z_i'\gamma), \; \psi_{ij} = \log \delta_{ij} = u_i'\zeta_j

(Hedges 1992, doi:10.1214/ss/1177011364; Vevea & Hedges 1995, doi:10.1007/BF02294384). Parameters are
:math:`\theta = (\beta, \gamma, \zeta_1, \dots, \zeta_d)`, and B of them are worked on at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.selection.weights import (
    SMOOTH,
    Alternative,
    Family,
    WeightFunction,
    smooth_weights,
    step_weights,
)

LOG_2PI = float(np.log(2.0 * np.pi))
# Beyond this the exponential of log(tau2) is neither 0 nor infinite for no effect.
LARGEST_LOG = 300.0
# A chance to be seen below this is lost in rounding; such parameters are as unlikely as this, not likely without end.
SMALLEST, HOPELESS = 1e-290, 1e100


@dataclass(frozen=True, eq=False)
class SelectionProblem:
    """k effects, what is thought to have selected them, and the designs of the parameters."""

    # y, v (k,): effects in the direction in which they are favoured, and their variances.
    y: Array
    v: Array
    weights: WeightFunction
    # X (k, p) of the mean, turned with y; Z (k, q) of log(tau2), q = 0 for no heterogeneity; U (k, r) of the log
    # weights, d times the same.
    designs: tuple[Array, ...]
    selected: Mask | None = None  # (k,) or None: effects that were exposed to selection; None for all

    @property
    def k(self) -> int:
        """Number of effects."""
        return len(self.y)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the parameters of each design stand in theta: mean, log(tau2), each log weight."""
        ends = np.cumsum([0, *(one.shape[1] for one in self.designs)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @property
    def n(self) -> int:
        """Number of parameters."""
        return self.slices[-1].stop

    @cached_property
    def _plain(self) -> bool:
        """Whether the log weights have no moderators."""
        return all(one.shape[1] == 1 and bool((one == 1.0).all()) for one in self.designs[2:])

    @cached_property
    def _products(self) -> dict[tuple[int, int], Array]:
        """Products of the columns of each two designs, (k, n_a n_b)."""
        size = range(len(self.designs))
        return {
            (a, b): (self.designs[a][:, :, None] * self.designs[b][:, None, :]).reshape(self.k, -1)
            for a in size
            for b in size[a:]
        }

    def tau2(self, theta: Array) -> Array:
        """Return tau2 of each effect, (B, k)."""
        Z = self.designs[1]
        if not Z.shape[1]:
            return np.zeros((len(theta), self.k))
        return np.exp(np.clip(theta[:, self.slices[1]] @ Z.T, -LARGEST_LOG, LARGEST_LOG))

    def psi(self, theta: Array) -> Array:
        """Return the log weights, (d, B, 1), or (d, B, k) where they have moderators."""
        parts = [theta[:, part] if self._plain else theta[:, part] @ U.T for part, U in self._selection]
        return np.stack(parts) if parts else np.zeros((0, len(theta), 1))

    @property
    def _selection(self) -> list[tuple[slice, Array]]:
        return list(zip(self.slices[2:], self.designs[2:], strict=True))

    def at(self, theta: Array) -> SelectionPoint:
        """Work out the likelihood and its derivatives at parameters theta (B, n)."""
        t = self.tau2(theta)
        m = theta[:, self.slices[0]] @ self.designs[0].T
        value, slopes, curvatures = _of_each(self, m, self.v + t, self.psi(theta))
        # From the variance to log(tau2).
        curvatures[1, 1] = t * (t * curvatures[1, 1] + slopes[1])
        curvatures[0, 1] *= t
        curvatures[1, 2:] *= t
        slopes[1] *= t
        return SelectionPoint(self, theta, value, slopes, curvatures)


@dataclass(frozen=True, eq=False)
class SelectionPoint:
    """The likelihood at B sets of parameters."""

    problem: SelectionProblem
    theta: Array  # (B, n)
    loglik_i: Array  # (B, k): log-likelihood of each effect
    slopes: Array  # (2 + d, B, k): derivatives of it by each effect's mean, log(tau2) and log weights
    curvatures: Array  # (2 + d, 2 + d, B, k): second derivatives; those below the diagonal are not filled

    @property
    def scores(self) -> Array:
        """Derivatives of each effect's log-likelihood by theta, (B, k, n)."""
        parts = [s[..., None] * G for s, G in zip(self.slopes, self.problem.designs, strict=True)]
        return np.concatenate(parts, axis=-1)

    def loglik(self, weights: Array | None = None) -> Array:
        """Return the sum over effects, (B,), each counted as often as weights (B, k) say."""
        return (self.loglik_i if weights is None else weights * self.loglik_i).sum(axis=1)

    def gradient(self, weights: Array | None = None) -> Array:
        """Return the derivatives of `loglik`, (B, n)."""
        slopes = self.slopes if weights is None else weights * self.slopes
        return np.concatenate([s @ G for s, G in zip(slopes, self.problem.designs, strict=True)], axis=-1)

    def hessian(self, weights: Array | None = None) -> Array:
        """Return the second derivatives of `loglik`, (B, n, n)."""
        problem = self.problem
        out = np.empty((len(self.theta), problem.n, problem.n))
        for (a, b), product in problem._products.items():
            one = self.curvatures[a, b] if weights is None else weights * self.curvatures[a, b]
            rows, columns = problem.slices[a], problem.slices[b]
            block = (one @ product).reshape(len(out), rows.stop - rows.start, columns.stop - columns.start)
            out[:, rows, columns] = block
            if a != b:
                out[:, columns, rows] = block.swapaxes(1, 2)
        return out


def _of_each(problem: SelectionProblem, m: Array, eta: Array, psi: Array) -> tuple[Array, Array, Array]:
    """Return each effect's log-likelihood (B, k) and its derivatives by its mean, variance and log weights."""
    d = problem.weights.d
    sd = np.sqrt(eta)
    r = (problem.y - m) / sd
    square = r * r
    value = -0.5 * (LOG_2PI + np.log(eta) + square)
    slopes, curvatures = np.empty((2 + d, *m.shape)), np.empty((2 + d, 2 + d, *m.shape))
    slopes[0], slopes[1] = r / sd, 0.5 * (square - 1.0) / eta
    curvatures[0, 0], curvatures[0, 1] = -1.0 / eta, -r / (eta * sd)
    curvatures[1, 0], curvatures[1, 1] = curvatures[0, 1], (0.5 - square) / (eta * eta)
    if not d:
        return value, slopes, curvatures
    seen = 1.0 if problem.selected is None else problem.selected.astype(float)
    chance, by, twice = _chance(problem, m, eta, sd, psi)
    own = problem.weights.observed(psi)
    value += seen * (own.value - chance)
    slopes[:2] -= seen * by[:2]
    slopes[2:] = seen * (own.first - by[2:])
    curvatures[:2, :2] -= seen * twice[:2, :2]
    curvatures[:2, 2:] = -seen * twice[:2, 2:]
    curvatures[2:, 2:] = seen * (own.second - twice[2:, 2:])
    return value, slopes, curvatures


def _chance(problem: SelectionProblem, m: Array, eta: Array, sd: Array, psi: Array) -> tuple[Array, Array, Array]:
    """Return the log of the chance A of being seen, (B, k), and its derivatives by mean, variance and log weights."""
    found = problem.weights.moments(m, sd, psi)
    none = found.plain[0] < SMALLEST
    whole = np.where(none, 1.0, found.plain[0])
    M = found.plain / whole
    d = problem.weights.d
    by, twice = np.empty((2 + d, *m.shape)), np.empty((2 + d, 2 + d, *m.shape))
    by[0], by[1] = M[1] / sd, 0.5 * M[2] / eta
    twice[0, 0], twice[0, 1], twice[1, 1] = M[2] / eta, 0.5 * M[3] / (eta * sd), 0.25 * M[4] / (eta * eta)
    first = found.first / whole
    by[2:] = first[:, 0]
    twice[0, 2:], twice[1, 2:] = first[:, 1] / sd, 0.5 * first[:, 2] / eta
    twice[2:, 2:] = found.second / whole
    twice[1, 0] = twice[0, 1]
    twice[2:, :2] = 0.0
    twice -= by[:, None] * by
    return np.where(none, HOPELESS, np.log(whole)), by, twice


def selection_problem(
    y: Array,
    v: Array,
    X: Array,
    *,
    family: Family = "stepfun",
    steps: Array | None = None,
    ends: tuple[float, float] | None = None,
    alternative: Alternative = "greater",
    Z: Array | None = None,
    U: Array | None = None,
    selected: Mask | None = None,
) -> SelectionProblem:
    """Return the problem for effects y (k,) with variances v (k,).

    `X` (k, p).
    `family` {"stepfun", "beta", "halfnorm", "negexp", "logistic", "power", "negexppow"}.
    `steps` (d,): p-values between the intervals of a step function, increasing, without 1.
    `ends`: p-values between which smooth weights change, by default the widest that are of use.
    `alternative` {"greater", "less", "two.sided"}: which effects have small p-values.
    `Z`, `U`: designs of log(tau2) and of each log weight; a constant by default. Without columns Z means tau2 = 0.
    `selected` (k,).
    """
    sign, two = (-1.0 if alternative == "less" else 1.0), alternative == "two.sided"
    y, se = sign * y, np.sqrt(v)
    if family == "stepfun":
        used = np.zeros(0) if steps is None else np.asarray(steps, dtype=float)
        weights: WeightFunction = step_weights(y, se, used, two_sided=two)
    else:
        smooth = replace(SMOOTH[family], ends=ends or SMOOTH[family].ends)
        weights = smooth_weights(y, se, smooth, two_sided=two)
    ones = np.ones((len(y), 1))
    own = ones if U is None else U
    return SelectionProblem(y, v, weights, (sign * X, ones if Z is None else Z, *[own] * weights.d), selected)
