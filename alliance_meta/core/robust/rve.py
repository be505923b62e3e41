"""Working models of robust variance estimation: moment estimators of their variances, and the weights they give.

Hedges, Tipton & Johnson (2010, doi:10.1002/jrsm.5). A working model need not be right: the robust variance stays
valid, and the weights only lose some precision. Costs are linear in the number of effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray, stacks
from alliance_meta.core.robust.sandwich import (
    Block,
    DiagonalWorking,
    Sandwich,
    known,
    resting,
    sandwich,
    satterthwaite,
    t_tests,
)
from alliance_meta.core.univariate.wls import ROUNDING, WlsFit, make_batch, wls_weighted

Working = Literal["CORR", "HIER"]

# B1 A2 - B2 A1 below this share of its terms is rounding: with one effect per cluster both equations are the same.
SINGULAR = 1e-10
# Coefficients that change by less than this share, when a combination does, have no part in it.
PRESENT = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class WorkingModel:
    """Variances of a working model and the weights they give."""

    weights: Array  # (k,): what effects are weighted by, 1 / `variance` unless weights are given
    variance: Array  # (k,): diagonal of the working covariance that CR2 and its degrees of freedom assume
    # tau2, omega2: variance between clusters, and between effects within clusters; NaN where the model has none.
    tau2: float
    omega2: float
    # tau2_raw, omega2_raw: the same before truncation at 0.
    tau2_raw: float
    omega2_raw: float
    QE: float  # weighted residual sum of squares of the first step
    expected: float  # its mean if tau2 and omega2 were 0 and the correlation within clusters `rho`


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums within clusters, (N,) and (N, p): of rows, of the design's basis, of its rows times their weights."""

    size: Array
    design: Array
    weighted: Array
    left: float


@dataclass(frozen=True, slots=True, eq=False)
class RobustTests:
    """Coefficients (p,) with robust standard errors and t tests, NaN where the clusters give no variance."""

    beta: Array
    se: Array
    df: Array
    stat: Array
    pval: Array
    ci_lb: Array
    ci_ub: Array


@dataclass(frozen=True, slots=True, eq=False)
class RVEFit:
    """A fitted working model with its robust variance."""

    working: WorkingModel
    model: WlsFit  # the weighted fit
    sandwich: Sandwich
    n_clusters: int
    small: bool
    tests: RobustTests

    def df(self, L: Array) -> Array:
        """Return the degrees of freedom of each row of L (m, p) on its own, (m,)."""
        return _df(self.sandwich, L, small=self.small)


def fit_rve(
    y: Array,
    v: Array,
    X: Array,
    cluster: IntArray,
    *,
    working: Working,
    rho: float,
    weights: Array | None,
    small: bool,
    level: float,
) -> RVEFit:
    """Fit coefficients with the weights of a working model, or with given ones, and a variance robust against it.

    `small`: CR2 with Satterthwaite's degrees of freedom; else the plain sandwich times N / (N - p), t(N - p).
    """
    if weights is not None:
        own = given_weights(v, cluster, weights)
    elif working == "CORR":
        own = correlated(y, v, X, cluster, rho=rho)
    else:
        own = hierarchical(y, v, X, cluster)
    model = weighted_fit(y, v, X, own.weights)
    n = int(cluster.max()) + 1
    resid = model.u[0] / own.weights
    if np.abs(resid).max() <= ROUNDING * np.abs(y).max():
        resid = np.zeros_like(resid)
    robust = sandwich(
        X,
        resid,
        own.weights[:, None] * X,
        model.vb[0],
        blocks(own.variance, cluster),
        type="CR2" if small else "CR1p",
        balanced=weights is None,
    )
    return RVEFit(own, model, robust, n, small, _tests(model.beta[0], robust, small=small, level=level))


def one_cluster_terms(model: WlsFit, cluster: IntArray) -> list[tuple[int, Mask]]:
    """Return the clusters on which a combination of coefficients rests alone, with the coefficients (p,) in it."""
    change = np.linalg.inv(model.batch.R)
    first, direction = resting(model.batch.Q, stacks(cluster))
    loading, scale = np.abs(direction @ change.T), np.abs(change).max(axis=1)
    return [(int(cluster[row]), one > PRESENT * scale) for row, one in zip(first, loading, strict=True)]


def _tests(beta: Array, robust: Sandwich, *, small: bool, level: float) -> RobustTests:
    df = _df(robust, np.eye(beta.size), small=small)
    se = np.where(np.isnan(df), np.nan, np.sqrt(np.diag(robust.vb)))
    return RobustTests(beta, se, df, *t_tests(beta, se, df, level=level))


def _df(robust: Sandwich, L: Array, *, small: bool) -> Array:
    if small:
        return satterthwaite(robust, L)
    return np.where(known(robust, L), float(robust.J - L.shape[1]), np.nan)


def correlated(y: Array, v: Array, X: Array, cluster: IntArray, *, rho: float) -> WorkingModel:
    """Correlated effects: every effect of a cluster estimates the same mean, sampling errors correlate by `rho`.

    Effects of cluster j get the weight 1 / (k_j (vbar_j + tau2)), with vbar_j the mean of their variances, so that
    a cluster weighs as much as one average effect of it, however many it has.
    """
    size = np.bincount(cluster).astype(float)
    mean_v = (np.bincount(cluster, v) / size)[cluster]
    k = size[cluster]
    w = 1.0 / (k * mean_v)
    fit, sums = _first_step(y, v, X, cluster, w)
    V = fit.Ainv[0]
    Q = fit.batch.Q
    share = w / k
    own = np.einsum("k,kp,kq->pq", share, Q, Q)
    pairs = np.einsum("j,jp,jq->pq", np.bincount(cluster, share) / size, sums.design, sums.design) - own
    shared, cross = _trace(V, own), _trace(V, pairs)
    expected = size.size - shared - rho * cross
    QE = float(fit.rss[0])
    raw = (QE - expected) / sums.left
    tau2 = max(0.0, raw)
    variance = k * (mean_v + tau2)
    nan = float("nan")
    return WorkingModel(1.0 / variance, variance, tau2, nan, raw, nan, QE, expected)


def hierarchical(y: Array, v: Array, X: Array, cluster: IntArray) -> WorkingModel:
    """Hierarchical effects: effects vary within clusters (omega2) and clusters vary (tau2); errors are independent.

    Both variances solve two moment equations: the weighted residual sum of squares, and the sum over clusters of
    the squared sum of residuals. Weights are 1 / (v + tau2 + omega2). omega2 is NaN with one effect per cluster,
    where only the sum of both variances can be estimated: it is tau2 then.
    """
    w = 1.0 / v
    fit, sums = _first_step(y, v, X, cluster, w)
    V = fit.Ainv[0]
    p = X.shape[1]
    squares = fit.batch.gram((w * w)[None])[0]
    joint = sums.weighted.T @ sums.weighted
    design = sums.design.T @ sums.design
    A2 = sums.left
    B2 = w.sum() - _trace(V, squares)
    excess = float(fit.rss[0]) - (len(y) - p)
    omega2_raw = float("nan")
    if (sums.size > 1.0).any():
        residual_sums = np.bincount(cluster, fit.u[0] / w)
        mixed = sums.weighted.T @ sums.design
        larger = sums.weighted.T @ (sums.size[:, None] * sums.design)
        A1 = sums.size @ sums.size - 2.0 * _trace(V, larger) + _trace(V @ design @ V, joint)
        B1 = len(y) - 2.0 * _trace(V, mixed) + _trace(V @ design @ V, squares)
        C1 = v.sum() - _trace(V, design)
        determinant = B1 * A2 - B2 * A1
        if abs(determinant) > SINGULAR * abs(B1 * A2):
            omega2_raw = float(((residual_sums @ residual_sums - C1) * A2 - excess * A1) / determinant)
    omega2 = max(0.0, omega2_raw) if omega2_raw == omega2_raw else float("nan")
    tau2_raw = (excess - np.nan_to_num(omega2) * B2) / A2
    tau2 = max(0.0, float(tau2_raw))
    variance = v + tau2 + np.nan_to_num(omega2)
    return WorkingModel(
        1.0 / variance, variance, tau2, omega2, float(tau2_raw), omega2_raw, float(fit.rss[0]), float(len(y) - p)
    )


def given_weights(v: Array, cluster: IntArray, weights: Array) -> WorkingModel:
    """Weights from elsewhere; the working covariance is the mean sampling variance of each cluster, as in robumeta."""
    mean_v = (np.bincount(cluster, v) / np.bincount(cluster))[cluster]
    nan = float("nan")
    return WorkingModel(weights, mean_v, nan, nan, nan, nan, nan, nan)


def blocks(variance: Array, cluster: IntArray) -> list[Block]:
    """Return the working covariance (n, m, m) of the clusters of each size, with their rows (n, m)."""
    working = DiagonalWorking(variance)
    return [(rows, working.block(rows)) for rows in stacks(cluster)]


def weighted_fit(y: Array, v: Array, X: Array, weights: Array) -> WlsFit:
    """Fit the coefficients with given weights."""
    return wls_weighted(make_batch(y, v, X), weights[None])


def _first_step(y: Array, v: Array, X: Array, cluster: IntArray, w: Array) -> tuple[WlsFit, _Sums]:
    """Fit with the weights of tau2 = 0, and sum the basis of the design within clusters."""
    fit = weighted_fit(y, v, X, w)
    Q = fit.batch.Q
    design, weighted = (
        np.stack([np.bincount(cluster, column).astype(float) for column in columns], axis=1)
        for columns in (Q.T, (w[:, None] * Q).T)
    )
    # What tau2 is multiplied by in the mean of the residual sum of squares.
    left = float(w.sum()) - _trace(fit.Ainv[0], weighted.T @ weighted)
    if left <= SINGULAR * w.sum():
        raise ValueError("the moderators leave no difference between clusters to estimate tau2 from")
    return fit, _Sums(np.bincount(cluster).astype(float), design, weighted, left)


def _trace(A: Array, B: Array) -> float:
    """Return tr(A B)."""
    return float(np.sum(A * B.T))
