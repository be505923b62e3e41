"""Correlations and their sampling variances, as pure functions on arrays."""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
# Nine standard deviations leave 2e-19 of a normal density outside, below rounding.
_REACH = 9.0
# SciPy 1.17's 2F1 is NaN for c = 100, 101, ..., where the power series needs few terms: for 2F1(a, a; c; x) with a up
# to 2.5 and c from 20 on, the last of these is below 1e-17 of the first.
SERIES_FROM = 20.0
SERIES_TERMS = 120


def r_to_z(r: Array) -> Array:
    """Return Fisher's z, the inverse hyperbolic tangent of r (Fisher 1921); metafor's ``transf.rtoz``."""
    return np.arctanh(r)


def z_to_r(z: Array) -> Array:
    """Return r from Fisher's z; metafor's ``transf.ztor``. Points and limits only, never variances."""
    return np.tanh(z)


def var_z(n: Array) -> Array:
    """Return the large-sample variance of Fisher's z, 1/(n - 3); needs n >= 4."""
    return 1.0 / (np.asarray(n, dtype=float) - 3.0)


def unbiased_r(r: Array, n: Array) -> Array:
    """Return the minimum-variance unbiased estimator of rho (Olkin & Pratt 1958, doi:10.1214/aoms/1177706717).

    r * 2F1(1/2, 1/2; (n - 2)/2; 1 - r^2), metafor's ``measure="UCOR"``; needs n >= 5.
    """
    r = np.asarray(r, dtype=float)
    return r * hyp2f1(0.5, (np.asarray(n, dtype=float) - 2.0) / 2.0, 1.0 - r**2)


def var_r(r: Array, n: Array, *, vtype: str = "LS", estimate: Array | None = None) -> Array:
    """Return the sampling variance of a raw correlation.

    `r` (k,): observed correlations.
    `n` (k,): sample sizes.
    `vtype` {"LS", "AV", "H0", "UB"}: ``LS`` (1 - e^2)^2 / (n - 1) with e the row's own estimate; ``AV`` the same with
      the mean of the estimates weighted by n in place of e; ``H0`` 1 / (n - 1), the variance under rho = 0; ``UB`` the
      unbiased estimate of the variance of the unbiased r (for ``UCOR``).
    `estimate` (k,): the estimates that enter the formula: r itself, or the unbiased r.
    """
    n = np.asarray(n, dtype=float)
    e = np.asarray(r if estimate is None else estimate, dtype=float)
    if vtype == "LS":
        return (1.0 - e**2) ** 2 / (n - 1.0)
    if vtype == "AV":
        return (1.0 - np.average(e, weights=n) ** 2) ** 2 / (n - 1.0)
    if vtype == "H0":
        return 1.0 / (n - 1.0)
    return _unbiased_variance(np.asarray(r, dtype=float), n)


def _unbiased_variance(r: Array, n: Array) -> Array:
    """Return e^2 - 1 + (n - 3) / (n - 2) x 2F1(1, 1; n/2; x) with x = 1 - r^2 and e the unbiased r.

    The terms of order 0 and 1 in x cancel. Where x is small or n large, the power series without them keeps the
    digits that the difference loses; its coefficients are those of (1 - x) 2F1(1/2, 1/2; (n - 2)/2; x)^2 and of
    the other series.
    """
    r, n = np.broadcast_arrays(r, n)
    x = (1.0 - r) * (1.0 + r)
    out = unbiased_r(r, n) ** 2 - 1.0 + (n - 3.0) / (n - 2.0) * x * hyp2f1(1.0, n / 2.0, x)
    small = (x <= 0.5) | (n >= 2.0 * SERIES_FROM + 2.0)
    c, x, n = 0.5 * n[small] - 1.0, x[small], n[small]
    a, b, square, total = [np.ones(len(c))], np.ones(len(c)), np.ones(len(c)), np.zeros(len(c))
    power = x.copy()
    for j in range(1, SERIES_TERMS):
        a.append(a[-1] * (j - 0.5) ** 2 / ((c + j - 1.0) * j))
        last, square = square, np.sum([a[i] * a[j - i] for i in range(j + 1)], axis=0)
        term = (square - last + (n - 3.0) / (n - 2.0) * b) * power
        total += term if j > 1 else 0.0
        if j > 1 and (np.abs(term) <= 1e-18 * total).all():
            break
        b, power = b * j / (c + j), power * x
    out[small] = total
    return out


def mean_of_tanh(mu: Array, tau2: float) -> Array:
    """Return the mean of tanh(theta) for theta ~ N(mu, tau2): the mean true correlation.

    The integral Hafdahl (2009, doi:10.3102/1076998608319582) recommends; ``transf.ztor.int`` in metafor.
    Equal to tanh(mu) when tau2 = 0.
    """
    mu = np.asarray(mu, dtype=float)
    if not tau2 > 0:
        return np.tanh(mu)
    x = _REACH * _NODES
    density = _REACH * _WEIGHTS * np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi)
    return np.tanh(mu[..., None] + np.sqrt(tau2) * x) @ density


def hyp2f1(a: float, c: Array, x: Array) -> Array:
    """Return Gauss's 2F1(a, a; c; x) for 0 <= x <= 1."""
    c, x = np.broadcast_arrays(np.asarray(c, dtype=float), np.asarray(x, dtype=float))
    large = c >= SERIES_FROM
    out = np.ones(c.shape)
    out[~large] = special.hyp2f1(a, a, c[~large], x[~large])
    term = np.ones(int(large.sum()))
    total = term.copy()
    for j in range(SERIES_TERMS):
        term = term * ((a + j) ** 2 / ((c[large] + j) * (j + 1))) * x[large]
        total += term
    out[large] = total
    return out


def covariance_of_r(R: Array, first: IntArray, second: IntArray) -> Array:
    """Return the covariances (n, m, m), times the sample size, of m correlations in each of n samples.

    `R` (n, p, p): correlation matrices, ones on their diagonals; NaN where unknown.
    `first`, `second` (n, m): the variables of each correlation. A covariance that needs an unknown correlation is NaN.
    """
    sample = np.arange(len(R))[:, None, None]
    i, j = first[:, :, None], second[:, :, None]
    k, l = first[:, None, :], second[:, None, :]  # noqa: E741
    ij, kl = R[sample, i, j], R[sample, k, l]
    ik, il, jk, jl = R[sample, i, k], R[sample, i, l], R[sample, j, k], R[sample, j, l]
    return (
        0.5 * ij * kl * (ik**2 + il**2 + jk**2 + jl**2)
        + ik * jl
        + il * jk
        - (ij * ik * il + ij * jk * jl + ik * jk * kl + il * jl * kl)
    )


def covariance_of_z(V: Array, r: Array) -> Array:
    """Return the covariances of Fisher's z = atanh(r) from those of r (n, m, m), given r (n, m)."""
    slope = 1.0 / (1.0 - r**2)
    return V * slope[:, :, None] * slope[:, None, :]
