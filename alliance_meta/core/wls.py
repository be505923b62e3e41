"""Weighted least squares for many data sets at once: the one kernel every univariate model calls.

Replicates are the first axis. Weights are diagonal, so the projection P = W - W X (X'WX)^-1 X'W is never
formed: its traces and quadratic forms are sums over the k rows and p x p products, O(k p^2) altogether.
The design enters through an orthonormal basis Q of its columns, which keeps X'WX well conditioned whatever
the units of a moderator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import AnyArray, Array


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B regressions that share a design.

    Attributes
    ----------
    y, v : ndarray of shape (B, k)
        Effects and sampling variances.
    Q : ndarray of shape (k, p)
        Orthonormal basis of the design's columns.
    R : ndarray of shape (p, p)
        Upper triangle with X = Q R.
    QQ : ndarray of shape (k, p * p)
        Outer products of the rows of Q, so that every X'DX with D diagonal is one matrix product.
    present : ndarray of shape (B, k)
        1.0 where a row takes part in a replicate, 0.0 where it does not.
    """

    y: Array
    v: Array
    Q: Array
    R: Array
    QQ: Array
    present: Array

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return int(self.Q.shape[1])

    @property
    def k(self) -> Array:
        """Rows that take part, (B,)."""
        return self.present.sum(axis=1)

    @property
    def df(self) -> Array:
        """Residual degrees of freedom k - p, (B,)."""
        return self.k - self.p

    def gram(self, d: Array) -> Array:
        """Return Q'DQ for each row of `d` (B, k), as (B, p, p)."""
        return (d @ self.QQ).reshape(-1, self.p, self.p)

    def only(self, rows: AnyArray) -> Batch:
        """Return the replicates that `rows` picks."""
        return Batch(self.y[rows], self.v[rows], self.Q, self.R, self.QQ, self.present[rows])


def make_batch(y: Array, v: Array, X: Array, present: Array | None = None) -> Batch:
    """Return a `Batch` from y and v of shape (k,) or (B, k) and a design X (k, p) of full column rank."""
    y, v = np.broadcast_arrays(np.atleast_2d(y), np.atleast_2d(v))
    Q, R = np.linalg.qr(X)
    QQ = (Q[:, :, None] * Q[:, None, :]).reshape(len(Q), -1)
    ones = np.ones(y.shape) if present is None else np.broadcast_to(np.asarray(present, dtype=float), y.shape)
    return Batch(y, v, Q, R, QQ, ones)


@dataclass(frozen=True, slots=True, eq=False)
class WlsFit:
    """Weighted least squares of each replicate, with what the estimators of tau2 need.

    Attributes
    ----------
    w : ndarray of shape (B, k)
        Weights 1 / (v + tau2), zero for absent rows.
    u : ndarray of shape (B, k)
        Weighted residuals, u = P y.
    rss : ndarray of shape (B,)
        y'P y, the weighted residual sum of squares (the generalised Q).
    gamma : ndarray of shape (B, p)
        Coefficients on the basis Q.
    A, Ainv : ndarray of shape (B, p, p)
        Q'WQ and its inverse.
    """

    batch: Batch
    w: Array
    u: Array
    rss: Array
    gamma: Array
    A: Array
    Ainv: Array

    @property
    def yPPy(self) -> Array:
        """y'PPy, (B,): minus the derivative of `rss` with respect to tau2."""
        return np.einsum("bk,bk->b", self.u, self.u)

    @property
    def yPPPy(self) -> Array:
        """y'PPPy, (B,)."""
        q = (self.w * self.u) @ self.batch.Q
        return np.einsum("bk,bk,bk->b", self.w, self.u, self.u) - np.einsum("bp,bpq,bq->b", q, self.Ainv, q)

    def trace(self, *d: Array) -> Array:
        """Return tr(P D1), or tr(P D1 P D2) when two diagonals (B, k) are given, (B,)."""
        w = self.w
        if len(d) == 1:
            return np.einsum("bk,bk->b", w, d[0]) - self._dot(self.batch.gram(w * w * d[0]))
        first, second = d
        both = np.einsum("bk,bk,bk,bk->b", w, w, first, second)
        middle = 2.0 * self._dot(self.batch.gram(w**3 * first * second))
        left = self.Ainv @ self.batch.gram(w * w * first)
        right = left if second is first else self.Ainv @ self.batch.gram(w * w * second)
        return both - middle + np.einsum("bpq,bqp->b", left, right)

    def _dot(self, gram: Array) -> Array:
        return np.einsum("bpq,bqp->b", self.Ainv, gram)

    @property
    def beta(self) -> Array:
        """Coefficients on the design's own columns, (B, p)."""
        return np.linalg.solve(self.batch.R, self.gamma.T).T

    @property
    def vb(self) -> Array:
        """(X'WX)^-1, the coefficients' covariance when the weights are right, (B, p, p)."""
        left = np.linalg.solve(self.batch.R, self.Ainv)
        return np.linalg.solve(self.batch.R, left.transpose(0, 2, 1))

    @property
    def logdet(self) -> Array:
        """log|X'WX| - log|X'X|, (B,); absent rows are counted as in X'X of the whole design."""
        return np.asarray(np.linalg.slogdet(self.A)[1])


def wls(batch: Batch, tau2: Array) -> WlsFit:
    """Fit every replicate with weights 1 / (v + tau2); `tau2` is (B,), > -min(v)."""
    w = batch.present / (batch.v + tau2[:, None])
    A = batch.gram(w)
    Ainv = np.linalg.inv(A) if batch.p > 1 else 1.0 / A
    wy = w * batch.y
    gamma = np.einsum("bpq,bq->bp", Ainv, wy @ batch.Q)
    residual = batch.y - gamma @ batch.Q.T
    u = w * residual
    return WlsFit(batch, w, u, np.einsum("bk,bk->b", u, residual), gamma, A, Ainv)
