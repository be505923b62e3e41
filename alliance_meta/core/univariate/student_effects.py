"""Effects y ~ N(theta, v) whose true effects theta follow a t distribution, with theta integrated out.

A t distribution is a mixture of normals: theta ~ N(mu, tau^2 w) with 1 / w ~ Gamma(nu / 2, nu / 2). Given w the true
effect has a closed integral; over u = -log w the trapezoid rule is left, whose nodes move with nu smoothly. With
`NODES` of them log densities are right to 1e-5 from nu = 1 on, for results up to 200 tau from the mean; below nu = 1
the tails are cut off some 10^5 tau out.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from alliance_meta._typing import Array

NODES = 48
# The farthest node on the side of large w, and where the mass of the mixture ends on either side.
FARTHEST = 32.0
LEFT, RIGHT = (80.0, 10.0), (40.0, 8.0)


def mixture(nu: Array) -> tuple[Array, Array]:
    """Return factors w of tau^2 and the logs of their weights, (S, nodes), for degrees of freedom nu (S,)."""
    half = 0.5 * np.asarray(nu, dtype=float)[:, None]
    root = np.sqrt(half)
    low = -1.0 / (1.0 / FARTHEST + 1.0 / (LEFT[0] / half + LEFT[1] / root))
    high = np.log1p(RIGHT[0] / half + RIGHT[1] / root)
    u = low + (high - low) * np.linspace(0.0, 1.0, NODES)
    log = half * (u - np.exp(u))
    return np.exp(-u), log - special.logsumexp(log, axis=1, keepdims=True)


def log_density(deviation: Array, v: Array, tau: Array, nu: Array) -> Array:
    """Return the log density, (S, k), of deviations y - mu (S, k) with variances v (k,), at tau and nu (S,)."""
    w, weight = mixture(nu)
    out = np.empty(deviation.shape)
    for i in range(deviation.shape[1]):
        total = v[i] + tau[:, None] ** 2 * w
        out[:, i] = special.logsumexp(weight - 0.5 * (np.log(total) + deviation[:, i, None] ** 2 / total), axis=1)
    return out - 0.5 * np.log(2.0 * np.pi)


def cdf(deviation: Array, v: Array, tau: Array, nu: Array) -> Array:
    """Return the distribution function that belongs to `log_density`, (S, k)."""
    w, weight = mixture(nu)
    share = np.exp(weight)
    out = np.empty(deviation.shape)
    for i in range(deviation.shape[1]):
        out[:, i] = (share * special.ndtr(deviation[:, i, None] / np.sqrt(v[i] + tau[:, None] ** 2 * w))).sum(axis=1)
    return out
