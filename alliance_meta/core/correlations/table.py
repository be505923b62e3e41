"""The exact density of correlations, prepared for quadrature over mu and tau."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.tabulated import LogLikelihood, Reach, Studies, grouped
from alliance_meta.core.correlations.likelihood import correlations, log_density
from alliance_meta.core.robust.clusters import IntArray


def tabulated_correlations(r: Array, n: Array) -> tuple[Studies, ...]:
    """Return the likelihoods of r (k,) with n (k,) >= 4 as densities of Fisher's z."""
    data, m = correlations(r, n), n - 1.5

    def likelihood(rows: IntArray) -> LogLikelihood:
        some, step = data.take(rows), np.log1p(-(r[rows, None] ** 2))
        return lambda theta: log_density(some, theta) + step

    def reach(rows: IntArray) -> Reach:
        # The density of r falls like cosh(theta - z)^-m.
        smallest = float(m[rows].min())

        def of(depth: float) -> float:
            fall = depth / smallest
            return fall + float(np.log1p(np.sqrt(-np.expm1(-2.0 * fall))))

        return of

    return grouped(1.0 / np.sqrt(m), data.z, reach, likelihood)
