"""Independent draws from the exact posterior of a three-level model."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.trapezoid import SincDensity
from alliance_meta.core.three_level.posterior import MultilevelPosterior, given_deviations

# Points of the table from which a quantile is found, and Newton's steps from there.
TABLE, STEPS = 501, 3
MOST_CELLS = 2_000_000
TINY = 1e-300


def draw_deviations(posterior: MultilevelPosterior, probability: Array) -> tuple[Array, Array]:
    """Turn uniform numbers (n, 2) into draws of both deviations, (n,) each: one, then the other given it."""
    grid = posterior.grid
    first, second = grid.marginal(0), grid.marginal(1)
    u = _inverse(first, np.broadcast_to(first.weight, (len(probability), len(first.weight))), probability[:, 0])
    # The density along the second axis at any value of the first, by the same series.
    z = (u[:, None] - first.u) / (first.u[1] - first.u[0])
    along = np.maximum(np.sinc(z) @ grid.weight, 0.0)
    along = along / along.sum(axis=1, keepdims=True)
    v = _inverse(second, along, probability[:, 1])
    return first.line.value(u), second.line.value(v)


def _inverse(density: SincDensity, weight: Array, p: Array) -> Array:
    """Return the p-quantile in u of each row of weights (n, m)."""
    table = np.linspace(density.u[0], density.u[-1], TABLE)
    rough = np.maximum.accumulate(weight @ density.steps(table).T, axis=1)
    at = np.clip((rough < p[:, None]).sum(axis=1), 1, TABLE - 1)
    low, high = table[at - 1], table[at]
    i = np.arange(len(p))
    below, above = rough[i, at - 1], rough[i, at]
    u = low + (high - low) * np.clip((p - below) / np.maximum(above - below, TINY), 0.0, 1.0)
    for _ in range(STEPS):
        excess = np.einsum("nm,nm->n", weight, density.steps(u)) - p
        slope = np.einsum("nm,nm->n", weight, density.heights(u))
        u = np.clip(u - excess / np.maximum(slope, TINY), low, high)
    return u


def draw_effects(
    posterior: MultilevelPosterior, between: Array, within: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw coefficients (n, p) and true effects (n, k), in the order of the data, given both deviations (n,).

    Effects are simulated together with data, and moved by as much as the data differ from those simulated: what comes
    out has the conditional distribution (Hoffman & Ribak 1991, doi:10.1086/186160).
    """
    data, laid = posterior.data, posterior.data.laid
    n, k = len(between), len(data.y)
    coefficients = np.empty((n, data.X.shape[1]))
    effects = np.empty((n, k))
    group = np.cumsum(np.bincount(data.starts, minlength=k)) - 1
    size = max(1, MOST_CELLS // (k * (data.X.shape[1] + 2)))
    for a in range(0, n, size):
        s = slice(a, a + size)
        s1, s2 = between[s, None], within[s, None]
        given = given_deviations(data, between[s], within[s])
        noise = rng.standard_normal(given.mean.shape)
        coefficients[s] = given.mean + np.einsum("nij,ni->nj", given.root, noise)
        shared = s1 * rng.standard_normal((len(s1), len(data.starts)))[:, group]
        own = s2 * rng.standard_normal((len(s1), k))
        error = np.sqrt(data.d) * rng.standard_normal((len(s1), k))
        # In the axes in which sampling errors are independent; there rows move with their group by W.
        residual = data.y - (coefficients[s] - data.centre) @ data.X.T - (shared * data.W + own + error)
        w = 1.0 / (data.d + s2**2)
        sums = np.add.reduceat(w * data.W * residual, data.starts, axis=1)
        inner = 1.0 + s1**2 * np.add.reduceat(w * data.W**2, data.starts, axis=1)
        solved = w * (residual - data.W * (s1**2 * sums / inner)[:, group])
        along = np.add.reduceat(data.W * solved, data.starts, axis=1)[:, group]
        turned = coefficients[s] @ data.X.T + data.W * (shared + s1**2 * along) + own + s2**2 * solved
        effects[s] = laid.restore(turned.T).T
    return coefficients, effects
