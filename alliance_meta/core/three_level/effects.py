"""The true effects of a three-level model, row by row, given what is known of its deviations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.mixture import NormalMixture, mixture
from alliance_meta.core.bayes.trapezoid import Grid
from alliance_meta.core.three_level.posterior import MultilevelPosterior, given_deviations
from alliance_meta.core.three_level.rows import GroupedRows

MOST_CELLS = 2_000_000
# Points of each deviation, and the lightest of them.
THIN, LIGHTEST = 40, 1e-12


def thinned(posterior: MultilevelPosterior) -> MultilevelPosterior:
    """Return the posterior on every n-th point of its grid, for what is laborious."""
    grid = posterior.grid
    where = tuple(slice(None, None, max(1, (len(one) - 1) // THIN)) for one in grid.u)
    weight = grid.weight[where]
    few = replace(grid, u=tuple(u[s] for u, s in zip(grid.u, where, strict=True)), weight=weight / weight.sum())
    return _on(posterior, few)


def _on(posterior: MultilevelPosterior, grid: Grid) -> MultilevelPosterior:
    """Return the posterior on another grid of the same two deviations."""
    if len(grid.u) < 2:
        return posterior
    between, within, weight = grid.values()
    heavy = weight > LIGHTEST * weight.max()
    found = given_deviations(posterior.data, between[heavy], within[heavy])
    share = weight[heavy] / weight[heavy].sum()
    return replace(
        posterior, grid=grid, between=between[heavy], within=within[heavy], weight=share, mean=found.mean,
        root=found.root,
    )  # fmt: skip


def row_effects(posterior: MultilevelPosterior, rows: GroupedRows) -> NormalMixture:
    """Return the posteriors of the k true effects, in the order of the data."""
    few = thinned(posterior)
    k, B = len(rows.y), len(few.weight)
    mean, variance = np.empty((k, B)), np.empty((k, B))
    s1, s2 = few.between**2, few.within**2
    for where, V in rows.clusters:
        n, m = V.shape[:2]
        y, X, flat = rows.y[where].reshape(n, m), rows.X[where].reshape(n, m, -1), rows.index[where]
        size = max(1, MOST_CELLS // (n * m * m))
        for a in range(0, B, size):
            s = slice(a, a + size)
            T = s1[s, None, None, None] + s2[s, None, None, None] * np.eye(m)
            # V M^-1, the weight of the fitted value beside the effect itself.
            towards = np.swapaxes(np.linalg.solve(V + T, np.broadcast_to(V, (len(T), n, m, m))), 2, 3)
            gap = y - np.moveaxis(X @ few.mean[s].T, 2, 0)
            mean[flat, s] = (y - (towards @ gap[..., None])[..., 0]).reshape(len(T), -1).T
            spread = (towards @ X) @ np.swapaxes(few.root[s], 1, 2)[:, None]
            own = (towards * T).sum(axis=3) + (spread**2).sum(axis=3)
            variance[flat, s] = own.reshape(len(T), -1).T
    return mixture(few.weight, mean, np.sqrt(variance))


def combination(posterior: MultilevelPosterior, rows: GroupedRows, c: Array, d: Array) -> NormalMixture:
    """Return the posterior of c'coefficients + d'(true effects), with d (k,) in the order of the data."""
    few = thinned(posterior) if d.any() else posterior
    wanted = np.zeros(len(rows.code), dtype=bool)
    wanted[rows.group[d[rows.index] != 0]] = True
    part = rows.only(wanted)
    B = len(few.weight)
    mean, variance = np.full(B, float(d @ _fill(part, len(d)))), np.zeros(B)
    weights = np.tile(c, (B, 1))
    for where, V in part.clusters:
        n, m = V.shape[:2]
        y, X = part.y[where].reshape(n, m), part.X[where].reshape(n, m, -1)
        Vd = (V @ d[part.index[where]].reshape(n, m, 1))[:, :, 0]
        size = max(1, MOST_CELLS // (n * m * m))
        for a in range(0, B, size):
            s = slice(a, a + size)
            T = few.between[s, None, None, None] ** 2 + few.within[s, None, None, None] ** 2 * np.eye(m)
            # M^-1 V d: how much each row's distance from its fitted value takes away.
            pull = np.linalg.solve(V + T, np.broadcast_to(Vd[..., None], (len(T), n, m, 1)))[..., 0]
            mean[s] -= np.einsum("bnm,nm->b", pull, y)
            weights[s] += np.einsum("bnm,nmp->bp", pull, X)
            variance[s] += float(np.einsum("nm,nm->", Vd, d[part.index[where]].reshape(n, m)))
            variance[s] -= np.einsum("bnm,nm->b", pull, Vd)
    mean += (weights * few.mean).sum(axis=1)
    variance += ((few.root @ weights[:, :, None])[:, :, 0] ** 2).sum(axis=1)
    return mixture(few.weight, mean[None], np.sqrt(variance)[None])


def _fill(rows: GroupedRows, k: int) -> Array:
    y = np.zeros(k)
    y[rows.index] = rows.y
    return y
