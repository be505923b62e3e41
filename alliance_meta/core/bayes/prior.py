"""Priors as mixtures: of values of tau, and of normals for what depends on it, before any data."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.integration import integrate, mass_region
from alliance_meta.core.bayes.mixture import LIGHTEST, NormalMixture, mixture
from alliance_meta.core.bayes.scale import HeavyPrior, gauss_rules, scale_nodes
from alliance_meta.core.bayes.two_level import TauDensity

# How far beyond the quantiles that show the scale the mass is looked for.
FAR = 1e3
# Values of tau that stand for all of them where there is a second mixture over the scale of a t prior.
FEW = 40
NEAREST = 2.0**-52


def tau_nodes(prior: TauDensity) -> tuple[Array, Array]:
    """Return values of tau that stand for a proper prior, and their weights."""

    def rows(tau: Array) -> Array:
        return prior.log_density(tau)[None]

    start, stretch = mass_region(
        rows, min(prior.marks) / FAR, min(max(prior.marks) * FAR, prior.upper), tail=prior.tail
    )
    panels = integrate(rows, start, stretch, upper=prior.upper)
    counts = panels.weight[0] > LIGHTEST * panels.weight[0].max()
    weight = panels.weight[0][counts]
    return panels.tau[counts], weight / weight.sum()


def few_nodes(tau: Array, weight: Array) -> tuple[Array, Array]:
    """Return fewer values of tau, by Gauss's rule on tau / (1 + tau) beside their median."""
    if len(tau) <= FEW:
        return tau, weight
    middle = float(tau[np.searchsorted(np.cumsum(weight), 0.5)])
    t = tau / (middle + tau)
    points, rule = gauss_rules(weight[None], t[None], FEW)
    inside = np.clip(points[0], t.min(), min(float(t.max()), 1.0 - NEAREST))
    return middle * inside / (1.0 - inside), rule[0]


def heavy_parts(prior: HeavyPrior) -> tuple[Array, Array, Array]:
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
