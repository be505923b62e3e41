"""What a model expects to see: priors as mixtures, before any data; and replications of study results, after them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.quadrature import LIGHTEST, NormalMixture, TauDensity, integrate, mass_region, mixture
from alliance_meta.core.bayes.scale import TPrior, gauss_rules, scale_nodes
from alliance_meta.core.dependent import IntArray

# How far beyond the quantiles that show the scale the mass is looked for.
FAR = 1e3
# Values of tau that stand for all of them where there is a second mixture over the scale of a t prior.
FEW = 40
NEAREST = 2.0**-52


def tau_nodes(prior: TauDensity) -> tuple[Array, Array]:
    """Return values of tau that stand for a proper prior, and their weights."""

    def rows(tau: Array) -> Array:
        """Return the log prior of tau."""
        return prior.log_density(tau)[None]

    start, stretch = mass_region(
        rows, min(prior.marks) / FAR, min(max(prior.marks) * FAR, prior.upper), tail=prior.tail
    )
    density = integrate(rows, start, stretch, upper=prior.upper)
    counts = density.weight[0] > LIGHTEST * density.weight[0].max()
    weight = density.weight[0][counts]
    return density.tau[counts], weight / weight.sum()


def few_nodes(tau: Array, weight: Array) -> tuple[Array, Array]:
    """Return fewer values of tau, by Gauss's rule on tau / (1 + tau) beside their median."""
    if len(tau) <= FEW:
        return tau, weight
    middle = float(tau[np.searchsorted(np.cumsum(weight), 0.5)])
    t = tau / (middle + tau)
    points, rule = gauss_rules(weight[None], t[None], FEW)
    inside = np.clip(points[0], t.min(), min(float(t.max()), 1.0 - NEAREST))
    return middle * inside / (1.0 - inside), rule[0]


def t_parts(prior: TPrior) -> tuple[Array, Array, Array]:
    """Return weight, mean and standard deviation of the normals that make up a t prior."""
    g, log_weight = scale_nodes(prior, 0.0)
    weight = np.exp(log_weight)
    kept = weight > LIGHTEST * weight.max()
    g, weight = g[kept], weight[kept]
    return weight / weight.sum(), np.full(len(g), prior.mean), prior.scale / np.sqrt(g)


def spread_mixture(
    parts: tuple[Array, Array, Array], tau: Array, weight: Array, *, variance: float = 0.0
) -> NormalMixture:
    """Return the mixture of mean effects with deviations of size tau on top, and sampling error of a variance."""
    own, mean, sd = parts
    joint = (own[:, None] * weight).ravel()
    total = np.sqrt(sd[:, None] ** 2 + tau**2 + variance).ravel()
    return mixture(joint, np.repeat(mean, len(tau))[None], total[None])


CHUNK = 500
FEWEST_FOR_SLOPE = 3

# Rows of several clusters of one size (n, m), with the sampling covariance of each (n, m, m).
Errors = Sequence[tuple[IntArray, Array]]


def replicate(
    rng: np.random.Generator,
    draws: int,
    X: Array,
    weight: Array,
    mean: Array,
    root: Array,
    spreads: Sequence[tuple[Array, IntArray]],
    errors: Errors,
) -> Array:
    """Return new results of the same design, (draws, k).

    The posterior of the coefficients is a mixture of normals with `weight` (B,), `mean` (B, p) and covariance root'
    root (B, p, p); `spreads` holds a standard deviation (B,) and the group of each row (k,) for each random effect.
    """
    cumulative = np.cumsum(weight)
    factors = [(rows, np.linalg.cholesky(covariance)) for rows, covariance in errors]
    out = np.empty((draws, len(X)))
    for start in range(0, draws, CHUNK):
        n = min(CHUNK, draws - start)
        pick = np.minimum(np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right"), len(weight) - 1)
        noise = rng.standard_normal((n, X.shape[1]))
        y = (mean[pick] + np.einsum("bij,bi->bj", root[pick], noise)) @ X.T
        for sd, group in spreads:
            y += (sd[pick, None] * rng.standard_normal((n, int(group.max()) + 1)))[:, group]
        for rows, factor in factors:
            y[:, rows] += np.einsum("cij,ncj->nci", factor, rng.standard_normal((n, *rows.shape)))
        out[start : start + n] = y
    return out


def check_statistics(Y: Array, v: Array, X: Array, fitted: Array, tau: float) -> dict[str, Array]:
    """Return what is compared for each row of results Y (n, k); `fitted` (k,) and `tau` stay as they are.

    Q of the equal-effects fit, mean, sd, smallest and largest effect, share below 0, the largest standardised
    deviation from `fitted`, and the correlation of effects with their standard errors.
    """
    k = Y.shape[1]
    w = 1.0 / np.sqrt(v)
    basis = np.linalg.qr(w[:, None] * X)[0]
    scaled = Y * w
    residual = scaled - (scaled @ basis) @ basis.T
    found = {"mean": Y.mean(axis=1)}
    if k > X.shape[1]:
        found["Q"] = (residual**2).sum(axis=1)
    if k > 1:
        found |= {"sd": Y.std(axis=1, ddof=1), "smallest": Y.min(axis=1), "largest": Y.max(axis=1)}
    found["negative"] = (Y < 0).mean(axis=1)
    found["deviation"] = (np.abs(Y - fitted) / np.sqrt(v + tau**2)).max(axis=1)
    se = np.sqrt(v) - np.sqrt(v).mean()
    size = float(np.sqrt(se @ se))
    if k >= FEWEST_FOR_SLOPE and size > 1e-9 * np.sqrt(v).max():
        away = Y - Y.mean(axis=1, keepdims=True)
        length = np.sqrt((away**2).sum(axis=1)) * size
        found["asymmetry"] = np.divide(away @ se, length, out=np.zeros(len(Y)), where=length > 0)
    return found
