"""Weighted least squares for many data sets at once: the one computation that every univariate model calls.

Replicates are the first axis. Weights are diagonal, so the projection P = W - W X (X'WX)^-1 X'W is never
formed: its traces and quadratic forms are sums over the k rows and p x p products, O(k p^2) altogether.
A design with moderators enters through an orthonormal basis Q of its columns, which keeps X'WX well
conditioned whatever the units of a moderator; an intercept alone needs no matrices at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from alliance_meta._typing import AnyArray, Array

# Where tr(PP) is such a small share of tr(WW), their difference has lost half its digits.
LOST = 1e-6
# Residuals below this share of the effects are what floating point leaves of an exact fit.
ROUNDING = 1e-13
# Products of columns that one batch may hold: 48 MB.
MOST_CELLS = 6_000_000


@dataclass(frozen=True, eq=False)
class Batch:
    """B regressions that share a design."""

    # y, v (B, k): effects and sampling variances.
    y: Array
    v: Array
    Q: Array  # (k, p): basis of the design's columns: orthonormal, or the column of ones of an intercept-only model
    R: Array  # (p, p): upper triangle with X = Q R
    # (k, p (p + 1) / 2) or None: products of the columns of Q, upper triangle, so that every Q'DQ with D diagonal is
    # one matrix product; None where they would not fit into little memory.
    QQ: Array | None
    unpack: AnyArray  # (p, p): column of `QQ` for each pair of columns of Q
    constant: bool  # true for an intercept-only model
    # (B, k) or None: 1.0 where a row takes part in a replicate, 0.0 where it does not; None where all do.
    present: Array | None

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return int(self.Q.shape[1])

    @cached_property
    def k(self) -> Array:
        """Rows that take part, (B,)."""
        B, k = self.y.shape
        return np.full(B, float(k)) if self.present is None else self.present.sum(axis=1)

    @property
    def df(self) -> Array:
        """Residual degrees of freedom k - p, (B,)."""
        return self.k - self.p

    def gram(self, d: Array) -> Array:
        """Return Q'DQ for each row of `d` (B, k), as (B, p, p)."""
        if self.constant:
            return d.sum(axis=1)[:, None, None]
        return grams_of(d, self.Q, self.QQ, self.unpack)

    def only(self, rows: AnyArray) -> Batch:
        """Return the replicates that `rows` picks."""
        if np.array_equal(rows, np.arange(len(self.y))):
            return self
        present = None if self.present is None else self.present[rows]
        return replace(self, y=self.y[rows], v=self.v[rows], present=present)

    def part(self, rows: slice) -> Batch:
        """Return consecutive replicates without copying them."""
        present = None if self.present is None else self.present[rows]
        return replace(self, y=self.y[rows], v=self.v[rows], present=present)

    def weights(self, tau2: Array) -> Array:
        """Return 1 / (v + tau2), zero for absent rows, (B, k)."""
        w = 1.0 / (self.v + tau2[:, None])
        return w if self.present is None else w * self.present


def grams_of(d: Array, Q: Array, QQ: Array | None, unpack: AnyArray) -> Array:
    """Return Q'DQ for each row of `d` (B, k), as (B, p, p), with the products of `Batch` where there are any."""
    if QQ is not None:
        return np.asarray((d @ QQ)[:, unpack])
    return np.array([(Q.T * one) @ Q for one in d]).reshape(-1, *unpack.shape)


def make_batch(y: Array, v: Array, X: Array, present: Array | None = None) -> Batch:
    """Return a `Batch` from y and v of shape (k,) or (B, k) and a design X (k, p) of full column rank."""
    y, v = np.atleast_2d(y), np.atleast_2d(v)
    if y.shape != v.shape:
        y, v = np.broadcast_arrays(y, v)
    R: Array
    QQ: Array | None
    if X.shape[1] == 1 and (X == 1.0).all():
        Q, R, QQ, unpack, constant = X, np.ones((1, 1)), X, np.zeros((1, 1), dtype=int), True
    else:
        Q, R = np.linalg.qr(X)
        i, j = np.triu_indices(X.shape[1])
        QQ, constant = (Q[:, i] * Q[:, j] if len(X) * len(i) <= MOST_CELLS else None), False
        unpack = np.empty(R.shape, dtype=int)
        unpack[i, j] = unpack[j, i] = np.arange(len(i))
    if present is not None:
        present = np.broadcast_to(np.asarray(present, dtype=float), y.shape)
    return Batch(y, v, Q, R, QQ, unpack, constant, present)


@dataclass(frozen=True, eq=False)
class WlsFit:
    """Weighted least squares of each replicate, with what the estimators of tau2 need."""

    batch: Batch
    w: Array  # (B, k): weights 1 / (v + tau2), zero for absent rows
    u: Array  # (B, k): weighted residuals, u = P y
    rss: Array  # (B,): y'P y, the weighted residual sum of squares (the generalised Q)
    gamma: Array  # (B, p): coefficients on the basis Q
    # A, Ainv (B, p, p): Q'WQ and its inverse.
    A: Array
    Ainv: Array

    @cached_property
    def yPPy(self) -> Array:
        """y'PPy, (B,): minus the derivative of `rss` with respect to tau2."""
        return np.einsum("bk,bk->b", self.u, self.u)

    @cached_property
    def yPPPy(self) -> Array:
        """y'PPPy, (B,)."""
        wu = self.w * self.u
        straight = np.einsum("bk,bk->b", wu, self.u)
        if self.batch.constant:
            return straight - wu.sum(axis=1) ** 2 * self.Ainv[:, 0, 0]
        q = wu @ self.batch.Q
        return straight - np.einsum("bp,bpq,bq->b", q, self.Ainv, q)

    @cached_property
    def traces(self) -> tuple[Array, Array]:
        """tr(P) and tr(PP), (B,) each."""
        w = self.w
        w2 = w * w
        if self.batch.constant:
            s1, s2, s3 = self.A[:, 0, 0], w2.sum(axis=1), np.einsum("bk,bk->b", w2, w)
            ratio = s2 / s1
            trP, trPP = s1 - ratio, s2 - 2.0 * s3 / s1 + ratio * ratio
        else:
            s2 = w2.sum(axis=1)
            first = self.Ainv @ self.batch.gram(w2)
            second = np.einsum("bpq,bqp->b", self.Ainv, self.batch.gram(w2 * w))
            trP = w.sum(axis=1) - np.einsum("bpp->b", first)
            trPP = s2 - 2.0 * second + np.einsum("bpq,bqp->b", first, first)
        lost = np.flatnonzero(trPP < LOST * s2)
        if lost.size:
            trP[lost], trPP[lost] = exact_traces(w[lost], self.batch.Q)
        return trP, trPP

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
        return self.gamma if self.batch.constant else np.linalg.solve(self.batch.R, self.gamma.T).T

    @property
    def vb(self) -> Array:
        """(X'WX)^-1, the coefficients' covariance when the weights are right, (B, p, p)."""
        if self.batch.constant:
            return self.Ainv
        left = np.linalg.solve(self.batch.R, self.Ainv)
        return np.linalg.solve(self.batch.R, left.transpose(0, 2, 1))

    def vb_of(self, variance: Array) -> Array:
        """Return the covariance of the coefficients of effects with other variances (B, k), (B, p, p)."""
        half = np.linalg.solve(self.batch.R, self.Ainv)
        return np.asarray(half @ self.batch.gram(self.w**2 * variance) @ half.transpose(0, 2, 1))

    @property
    def residual(self) -> Array:
        """`rss`, and 0 where only rounding is left of identical effects, (B,)."""
        scale = np.einsum("bk,bk,bk->b", self.w, self.batch.y, self.batch.y)
        return np.where(self.rss > ROUNDING**2 * scale, self.rss, 0.0)

    @property
    def logdet(self) -> Array:
        """log|X'WX| - log|X'X|, (B,)."""
        if self.batch.constant:
            return np.log(self.A[:, 0, 0]) - np.log(self.batch.k)
        return np.asarray(np.linalg.slogdet(self.A)[1])

    @property
    def logw(self) -> Array:
        """Sum of the logarithms of the weights of the rows that take part, (B,)."""
        if self.batch.present is None:
            return np.log(self.w).sum(axis=1)
        return np.log(np.where(self.batch.present > 0, self.w, 1.0)).sum(axis=1)


def exact_traces(w: Array, Q: Array) -> tuple[Array, Array]:
    """Return tr(P) and tr(PP) for weights w (B, k) of which some outweigh the others by far, without cancellation.

    With as many rows as Q has columns set apart, those that weigh most (weights W1), and Z = Q2 Q1^-1 for the others
    (W2), P has the same traces as M (I + ZZ'), where M = W2 - W2 Z C Z'W2 and C = (W1 + Z'W2 Z)^-1. Then
    Z'MZ = Z'W2Z C W1 and MZ = W2 Z C W1, and no large number is left that another must take away.
    """
    B, p = len(w), Q.shape[1]
    rows, left = np.arange(B), np.broadcast_to(Q, (B, *Q.shape)).copy()
    top = np.empty((B, p), dtype=int)
    for j in range(p):
        top[:, j] = (w * (left**2).sum(axis=2)).argmax(axis=1)
        row = left[rows, top[:, j]]
        row = row / np.sqrt((row**2).sum(axis=1, keepdims=True))
        left -= np.einsum("bkp,bp->bk", left, row)[:, :, None] * row[:, None, :]
    W1 = np.take_along_axis(w, top, axis=1)
    w2 = w.copy()
    np.put_along_axis(w2, top, 0.0, axis=1)
    Z = Q @ np.linalg.inv(Q[top])
    S, ZW2, ZW3 = (np.einsum("bkp,bk,bkq->bpq", Z, w2**n, Z) for n in (1, 2, 3))
    C = np.linalg.inv(S + W1[:, :, None] * np.eye(p))
    G, CW2 = (S @ C) * W1[:, None, :], C @ ZW2
    MZ = CW2 @ C
    trP = w2.sum(axis=1) - np.einsum("bpp->b", CW2) + np.einsum("bpp->b", G)
    trPP = (w2**2).sum(axis=1) - 2.0 * np.einsum("bpq,bqp->b", C, ZW3) + np.einsum("bpq,bqp->b", CW2, CW2)
    trPP += 2.0 * np.einsum("bpp,bp->b", MZ, W1**2) + np.einsum("bpq,bqp->b", G, G)
    return trP, trPP


def wls(batch: Batch, tau2: Array) -> WlsFit:
    """Fit every replicate with weights 1 / (v + tau2); `tau2` is (B,), > -min(v)."""
    return wls_weighted(batch, batch.weights(tau2))


def wls_weighted(batch: Batch, w: Array) -> WlsFit:
    """Fit every replicate with the weights `w` (B, k), zero for absent rows."""
    if batch.constant:
        total = w.sum(axis=1)
        mean = np.einsum("bk,bk->b", w, batch.y) / total
        residual = batch.y - mean[:, None]
        A, Ainv, gamma = total[:, None, None], (1.0 / total)[:, None, None], mean[:, None]
    else:
        A = batch.gram(w)
        Ainv = np.linalg.inv(A)
        gamma = np.einsum("bpq,bq->bp", Ainv, (w * batch.y) @ batch.Q)
        residual = batch.y - gamma @ batch.Q.T
    u = w * residual
    return WlsFit(batch, w, u, np.einsum("bk,bk->b", u, residual), gamma, A, Ainv)
