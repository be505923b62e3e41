"""The normal-normal model given tau: coefficients integrated analytically, for many values of tau at once.

y_i ~ N(x_i'b, v_i + tau^2), b_j ~ N(m_j, s_j^2) or flat. Everything is computed as a difference from a
reference value of tau, in coordinates in which the coefficients are independent there, so that neither
rounding nor collinear moderators cost digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from alliance_meta._typing import Array

LOG_2PI = float(np.log(2.0 * np.pi))
# Effects x values of tau worked on at once.
MOST_CELLS = 1_000_000
# Where the coefficients are this far from the reference a difference of squares would lose digits.
FAR = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class NormalModel:
    """Data and prior, with what does not depend on tau.

    Attributes
    ----------
    y, v : ndarray of shape (k,)
    X : ndarray of shape (k, p)
    mean, precision : ndarray of shape (p,)
        Prior of each coefficient; precision 0 is a flat prior.
    tau2 : float
        The reference.
    centre : ndarray of shape (p,)
        Posterior mean of the coefficients at the reference.
    loglik : float
        Log of the density of y at the reference, the coefficients integrated out.
    """

    y: Array
    v: Array
    X: Array
    mean: Array
    precision: Array
    tau2: float
    centre: Array
    loglik: float
    _w: Array
    _residual: Array
    _quadratic: float
    _features: Array
    _prior: Array
    _basis: Array

    @property
    def k(self) -> int:
        """Number of effects."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.X.shape[1]

    @property
    def flat(self) -> int:
        """Number of coefficients with a flat prior."""
        return int((self.precision == 0).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """What holds given each of B values of tau.

    Attributes
    ----------
    loglik : ndarray of shape (B,)
        Log of the density of y, the coefficients integrated out.
    mean : ndarray of shape (B, p)
        Posterior mean of the coefficients.
    root : ndarray of shape (B, p, p)
        Their posterior covariance is root' root.
    """

    loglik: Array
    mean: Array
    root: Array


def prepare(y: Array, v: Array, X: Array, mean: Array, precision: Array) -> NormalModel:
    """Set the model up; y, v are (k,), X (k, p), mean and precision (p,); flat coefficients must be estimable."""
    k, p = X.shape
    tau2 = _moment_tau2(y, v, X)
    w = 1.0 / (v + tau2)
    R = np.linalg.qr(np.concatenate([np.sqrt(w)[:, None] * X, np.diag(np.sqrt(precision))]))[1]
    basis = linalg.solve_triangular(R, np.eye(p))
    # Turned so that the prior is diagonal too, flat directions first: these stay apart however large tau is.
    diagonal, turn = np.linalg.eigh((basis.T * precision) @ basis)
    flat = int((precision == 0).sum())
    diagonal[:flat] = 0.0
    basis = basis @ turn
    Q = X @ basis
    centre = np.zeros(p)
    # The second step removes what rounding left of the first.
    for _ in range(2):
        gradient = X.T @ (w * (y - X @ centre)) + precision * (mean - centre)
        centre = centre + basis @ (basis.T @ gradient)
    r = y - X @ centre
    proper = precision > 0
    towards = basis.T @ (precision * (mean - centre))
    towards[:flat] = 0.0
    quadratic = float((w * r**2).sum() + (precision * (mean - centre) ** 2).sum())
    logdet = 2.0 * float(np.log(np.abs(np.diag(R))).sum()) - float(np.log(precision[proper]).sum())
    constant = (k - flat) * LOG_2PI - float(np.log(w).sum())
    i, j = np.triu_indices(p)
    features = np.column_stack([w * r**2, r[:, None] * Q, Q[:, i] * Q[:, j]])
    prior = np.append(towards, np.diag(diagonal)[i, j])
    loglik = -0.5 * (constant + quadratic + logdet)
    return NormalModel(y, v, X, mean, precision, tau2, centre, loglik, w, r, quadratic, features, prior, basis)


def conditional(model: NormalModel, tau: Array) -> Conditional:
    """Return likelihood and coefficients at each value of tau, (B,), which may be 0."""
    parts = max(1, -(-len(tau) * model.k // MOST_CELLS))
    if parts == 1:
        return _conditional(model, tau)
    pieces = [_conditional(model, part) for part in np.array_split(tau, parts)]
    return Conditional(*(np.concatenate([getattr(c, n) for c in pieces]) for n in ("loglik", "mean", "root")))


def _conditional(model: NormalModel, tau: Array) -> Conditional:
    p, tau2 = model.p, np.square(tau)
    total = model.v + tau2[:, None]
    shift = model.tau2 - tau2
    sums = (1.0 / total) @ model._features
    sums[:, 1:] += model._prior
    logs = np.log(total * model._w).sum(axis=1)
    root, logdet = _root(sums[:, 1 + p :], p)
    half = np.einsum("bij,bj->bi", root, sums[:, 1 : 1 + p])
    root = root @ model._basis.T
    moved = np.einsum("bij,bi->bj", root, half)
    gained = (half**2).sum(axis=1)
    quadratic = shift * sums[:, 0] - gained
    far = np.flatnonzero(gained > FAR)
    if len(far):
        quadratic[far] = _quadratic(model, total[far], moved[far]) - model._quadratic
    return Conditional(model.loglik - 0.5 * (logs + quadratic + logdet), model.centre + moved, root)


def _quadratic(model: NormalModel, total: Array, moved: Array) -> Array:
    """Return the weighted squares of residuals and of deviations from the prior, without taking differences."""
    residual = model._residual - moved @ model.X.T
    away = model.centre + moved - model.mean
    return (residual**2 / total).sum(axis=1) + away**2 @ model.precision


def _root(packed: Array, p: int) -> tuple[Array, Array]:
    """Return the inverse of the Cholesky factor of each A, (B, p, p), and log |A|, (B,)."""
    if p == 1:
        return (packed**-0.5)[:, :, None], np.log(packed[:, 0])
    A = np.empty((len(packed), p, p))
    i, j = np.triu_indices(p)
    A[:, i, j] = packed
    A[:, j, i] = packed
    factor = np.linalg.cholesky(A)
    size = np.einsum("bii->bi", factor)
    return np.linalg.inv(factor / size[:, :, None]) / size[:, None, :], 2.0 * np.log(size).sum(axis=1)


def _moment_tau2(y: Array, v: Array, X: Array) -> float:
    """Return a tau2 of the right size: unweighted residual variance less the typical sampling variance, at least 0."""
    Q = np.linalg.qr(X)[0]
    r = y - Q @ (Q.T @ y)
    df = max(len(y) - X.shape[1], 1)
    return max(float(r @ r) / df - float(np.median(v)), 0.0)
