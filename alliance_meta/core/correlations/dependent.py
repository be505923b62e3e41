"""Covariances of correlations that come from one sample.

Two correlations measured on the same people err together. With normal data their large-sample covariance follows
from the correlations themselves: Olkin & Siotani (1976); Steiger (1980, doi:10.1037/0033-2909.87.2.245).
"""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray


def covariance_of_r(R: Array, first: IntArray, second: IntArray) -> Array:
    """Return the covariances (n, m, m), times the sample size, of m correlations in each of n samples.

    Parameters
    ----------
    R : ndarray of shape (n, p, p)
        Correlation matrices, ones on their diagonals; NaN where unknown.
    first, second : ndarray of int, shape (n, m)
        The variables of each correlation. A covariance that needs an unknown correlation is NaN.
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
