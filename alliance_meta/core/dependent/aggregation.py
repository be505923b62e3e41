"""Several dependent effects of one cluster made one.

Every function returns estimates and variances (n,) of n clusters, and the smallest weight an effect has in each.
"""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray


def mean_of(y: Array, v: Array, cluster: IntArray, rho: Array) -> tuple[Array, Array, Array]:
    """Return plain means of effects (k,) whose errors correlate by rho (n,) within a cluster.

    The variance is the sum of the cluster's covariance matrix over m^2 (Borenstein et al. 2009, chapter 24).
    """
    m = np.bincount(cluster).astype(float)
    s = np.bincount(cluster, np.sqrt(v))
    total = (1.0 - rho) * np.bincount(cluster, v) + rho * s**2
    return np.bincount(cluster, y) / m, total / m**2, 1.0 / m


def gls_of(y: Array, v: Array, cluster: IntArray, rho: Array) -> tuple[Array, Array, Array]:
    """Return the means of least variance under the same errors; rho below 1 where a cluster has several effects.

    With u = 1 / sqrt(v) the constant correlation has two eigenvalues, 1 + (m - 1) rho for the mean of u and 1 - rho
    for what is left of it. That form stays exact as rho nears 1, where inverting the matrix does not.
    """
    m = np.bincount(cluster).astype(float)
    u = 1.0 / np.sqrt(v)
    level = np.bincount(cluster, u) / m
    apart = np.where(m > 1, 1.0 - rho, 1.0)
    together = 1.0 + (m - 1.0) * rho
    w = u * ((u - level[cluster]) / apart[cluster] + (level / together)[cluster])
    total = np.bincount(cluster, w)
    w = w / total[cluster]
    estimate = np.bincount(cluster, w * y).astype(float)
    return estimate, 1.0 / total, _lowest(w, cluster)


def mean_of_blocks(y: Array, V: Array) -> tuple[Array, Array, Array]:
    """Return plain means of y (n, m) with covariance matrices V (n, m, m)."""
    n, m = y.shape
    return y.mean(axis=1), V.sum(axis=(1, 2)) / m**2, np.full(n, 1.0 / m)


def gls_of_blocks(y: Array, V: Array) -> tuple[Array, Array, Array]:
    """Return the means of least variance of y (n, m) with positive-definite V (n, m, m)."""
    w = np.linalg.solve(V, np.ones((*y.shape, 1)))[..., 0]
    total = w.sum(axis=1)
    w = w / total[:, None]
    return (w * y).sum(axis=1), 1.0 / total, w.min(axis=1)


def smallest_eigenvalues(V: Array) -> Array:
    """Return the smallest eigenvalue of each V (n, m, m) as a share of its largest, rounding taken as 0."""
    values = np.linalg.eigvalsh(V)
    largest = np.abs(values).max(axis=1)
    share = values[:, 0] / np.where(largest > 0, largest, 1.0)
    rounding = 8.0 * V.shape[-1] * np.finfo(float).eps
    return np.where(np.abs(share) <= rounding, 0.0, share)


def gleser_olkin(d: Array, n: Array, rho: Array) -> tuple[Array, Array, Array]:
    """Return one d of several endpoints, d (c, m), of two equal groups that count n (c,) together.

    The endpoints correlate by rho (c,). Cov(d_i, d_j) = 4 rho / n + d_i d_j rho^2 / (2 n), with rho = 1 on the
    diagonal (Gleser & Olkin, multiple-endpoint studies with a pooled standard deviation).
    """
    m = d.shape[1]
    R = np.broadcast_to(rho[:, None, None], (len(d), m, m)).copy()
    R[:, np.arange(m), np.arange(m)] = 1.0
    V = (8.0 * R + d[:, :, None] * d[:, None, :] * R**2) / (2.0 * n[:, None, None])
    return gls_of_blocks(d, V)


def composite(r: Array, cluster: IntArray, rho: Array) -> tuple[Array, Array]:
    """Return the correlation with the sum of a cluster's m measures, and how much larger than the mean it is.

    sum(r) / sqrt(m + m (m - 1) rho), where the measures correlate by rho (n,) (Hunter & Schmidt).
    """
    m = np.bincount(cluster).astype(float)
    width = np.sqrt(m + m * (m - 1.0) * rho)
    return np.bincount(cluster, r) / width, m / width


def r_to_d(r: Array) -> Array:
    """Return d = 2 r / sqrt(1 - r^2), for two equal groups."""
    return 2.0 * r / np.sqrt(1.0 - r**2)


def d_to_r(d: Array, v: Array) -> tuple[Array, Array]:
    """Return r = d / sqrt(d^2 + 4) and its variance by the delta method."""
    scale = d**2 + 4.0
    return d / np.sqrt(scale), 16.0 * v / scale**3


def d_to_z(d: Array, v: Array) -> tuple[Array, Array]:
    """Return Fisher's z = asinh(d / 2) of the same r, and its variance by the delta method."""
    return np.arcsinh(0.5 * d), v / (d**2 + 4.0)


def _lowest(w: Array, cluster: IntArray) -> Array:
    out = np.full(cluster.max(initial=-1) + 1, np.inf)
    np.minimum.at(out, cluster, w)
    return out
