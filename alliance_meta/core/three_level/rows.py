"""Rows of a three-level model group by group, as they are in the data, and what each adds given two deviations.

With P the inverse of the covariance of y, coefficients integrated out, and b their posterior mean, g = P (y - X m) is
M^-1 (y - X b). Rows U without which everything is wanted are then predicted by the others with precision P_UU and an
error of P_UU^-1 g_U, and the coefficients move by Vb X' M^-1 E_U P_UU^-1 g_U.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from alliance_meta._typing import Array, Mask
from alliance_meta.core.bayes.integration import NormalMixture, mixture
from alliance_meta.core.bayes.trapezoid import Grid
from alliance_meta.core.bayes.two_level import LOG_2PI
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.core.three_level.posterior import Given, MultilevelPosterior, given_deviations

MOST_CELLS = 4_000_000
# What shares less than this part of its own precision with no other row alone tells about some coefficient.
INDISPENSABLE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class GroupedRows:
    """Effects, design and sampling covariance in the order of the groups.

    Attributes
    ----------
    index : ndarray of int, shape (k,)
        Row of the data.
    y : ndarray of shape (k,)
    X : ndarray of shape (k, p)
    clusters : tuple of (slice, ndarray of shape (n, m, m))
        Rows of the n groups of each size m, and their sampling covariance.
    group : ndarray of int, shape (k,)
        Which group each row is in, numbered in this order.
    code : ndarray of int, shape (J,)
        What the data number each group.
    """

    index: IntArray
    y: Array
    X: Array
    clusters: tuple[tuple[slice, Array], ...]
    group: IntArray
    code: IntArray

    @property
    def starts(self) -> IntArray:
        """First row of each group, (J,)."""
        return np.flatnonzero(np.append(True, self.group[1:] != self.group[:-1]))

    def only(self, wanted: Mask) -> GroupedRows:
        """Return some of the groups, (J,)."""
        kept = wanted[self.group]
        clusters, at, first = [], 0, 0
        for _, V in self.clusters:
            part = V[wanted[first : first + len(V)]]
            first += len(V)
            if len(part):
                clusters.append((slice(at, at + part.shape[0] * part.shape[1]), part))
                at += part.shape[0] * part.shape[1]
        number = np.cumsum(wanted) - 1
        return GroupedRows(
            self.index[kept], self.y[kept], self.X[kept], tuple(clusters), number[self.group[kept]], self.code[wanted]
        )


def grouped_rows(y: Array, X: Array, group: IntArray, clusters: Sequence[tuple[IntArray, Array]]) -> GroupedRows:
    """Sort rows by group; `clusters` are the row numbers (n, m) and covariances (n, m, m) of groups of each size."""
    index = np.concatenate([rows.ravel() for rows, _ in clusters])
    made, at = [], 0
    numbers: list[IntArray] = []
    code: list[int] = []
    for rows, V in clusters:
        n, m = rows.shape
        made.append((slice(at, at + n * m), V))
        numbers.append(len(code) + np.repeat(np.arange(n), m))
        code += group[rows[:, 0]].tolist()
        at += n * m
    return GroupedRows(index, y[index], X[index], tuple(made), np.concatenate(numbers), np.array(code, dtype=np.intp))


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """Given b points: the rows of each unit as the others predict them, whitened, row by row.

    Attributes
    ----------
    log_predictive : ndarray of shape (b, U)
        Log density of the unit's effects given all others.
    deviate : ndarray of shape (b, k)
        Independent standard normal deviates of the rows of a unit.
    towards : ndarray of shape (b, k, p)
        Where each deviate moves the coefficients.
    """

    log_predictive: Array
    deviate: Array
    towards: Array


def left_out(
    rows: GroupedRows, given: Given, between: Array, within: Array, *, whole: bool
) -> Iterator[tuple[IntArray, Left]]:
    """Yield, for some of the points at a time, what is left without each row, or without each whole group."""
    for points, level, parts in _pieces(rows, given, between, within):
        yield points, level.left(parts, whole=whole)


def log_densities(
    rows: GroupedRows, given: Given, between: Array, within: Array, *, whole: bool
) -> Iterator[tuple[IntArray, Array]]:
    """Yield, for some of the points at a time, the log density (b, U) of each unit given the others' effects.

    Unlike in `left_out`, the coefficients are those that the unit itself has helped to estimate.
    """
    for points, level, parts in _pieces(rows, given, between, within):
        yield points, level.fitted(parts, whole=whole)


def _pieces(
    rows: GroupedRows, given: Given, between: Array, within: Array
) -> Iterator[tuple[IntArray, _Level, _Parts]]:
    k, p = rows.X.shape
    levels, which = np.unique(within, return_inverse=True)
    size = max(1, MOST_CELLS // (k * (p + 2)))
    for n, s2 in enumerate(levels):
        at = np.flatnonzero(which == n)
        level = _Level(rows, float(s2))
        for a in range(0, len(at), size):
            points = at[a : a + size]
            yield points, level, level.parts(given.mean[points], given.root[points], between[points])


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """At b points: the shares (b, J), K_ii (b, k), g (b, k), M^-1 X root' (b, k, p), and that times root."""

    shrink: Array
    free: Array
    g: Array
    half: Array
    towards: Array


class _Level:
    """For one deviation within: the inverse covariance of each group before its common part is added."""

    def __init__(self, rows: GroupedRows, within: float) -> None:
        self.rows = rows
        A = np.column_stack([np.ones(len(rows.y)), rows.y, rows.X])
        self.inverse = []
        self.diagonal, self.KA = np.empty(len(rows.y)), np.empty(A.shape)
        for where, V in rows.clusters:
            n, m = V.shape[:2]
            K = np.linalg.inv(V + within**2 * np.eye(m))
            self.inverse.append(K)
            self.diagonal[where] = np.einsum("nii->ni", K).ravel()
            self.KA[where] = (K @ A[where].reshape(n, m, -1)).reshape(n * m, -1)
        self.sums = np.add.reduceat(self.KA, rows.starts, axis=0)

    def parts(self, mean: Array, root: Array, between: Array) -> _Parts:
        group, c = self.rows.group, self.KA[:, 0]
        s2 = np.square(between)[:, None]
        shrink = s2 / (1.0 + s2 * self.sums[:, 0])
        taken = shrink[:, group] * c
        half = (self.KA[:, 2:] - taken[:, :, None] * self.sums[group, 2:]) @ np.swapaxes(root, 1, 2)
        own = self.KA[:, 1] - mean @ self.KA[:, 2:].T
        common = (self.sums[:, 1] - mean @ self.sums[:, 2:].T)[:, group]
        return _Parts(shrink, self.diagonal - taken * c, own - taken * common, half, half @ root)

    def left(self, parts: _Parts, *, whole: bool) -> Left:
        if whole:
            return self._left_whole(parts)
        precision = np.maximum(parts.free - (parts.half**2).sum(axis=2), np.finfo(float).tiny)
        scale = 1.0 / np.sqrt(precision)
        deviate = parts.g * scale
        logs = 0.5 * (np.log(precision) - LOG_2PI - deviate**2)
        return Left(logs, deviate, parts.towards * scale[:, :, None])

    def _left_whole(self, parts: _Parts) -> Left:
        b, k, p = parts.half.shape
        deviate, moved, logs = np.empty((b, k)), np.empty((b, k, p)), np.empty((b, k))
        for where, free, h in self._groups(parts):
            factor = np.linalg.cholesky(free - h @ np.swapaxes(h, 2, 3))
            n, m = h.shape[1:3]
            right = np.concatenate([parts.g[:, where, None], parts.towards[:, where]], axis=2)
            solved = np.linalg.solve(factor, right.reshape(b, n, m, -1)).reshape(b, n * m, -1)
            deviate[:, where], moved[:, where] = solved[:, :, 0], solved[:, :, 1:]
            logs[:, where] = np.log(np.einsum("bnii->bni", factor)).reshape(b, -1)
        logs = logs - 0.5 * (LOG_2PI + deviate**2)
        return Left(np.add.reduceat(logs, self.rows.starts, axis=1), deviate, moved)

    def fitted(self, parts: _Parts, *, whole: bool) -> Array:
        if not whole:
            variance = 1.0 / parts.free + (parts.half**2).sum(axis=2) / parts.free**2
            return -0.5 * (LOG_2PI + np.log(variance) + (parts.g / parts.free) ** 2 / variance)
        b, k = parts.g.shape
        logs = np.empty((b, k))
        for where, free, h in self._groups(parts):
            # With F = chol(free), F' times the residual has covariance I + F^-1 h h' F^-T.
            factor = np.linalg.cholesky(free)
            n, m = h.shape[1:3]
            right = np.concatenate([parts.g[:, where].reshape(b, n, m, 1), h], axis=3)
            solved = np.linalg.solve(factor, right)
            other = np.linalg.cholesky(np.eye(m) + solved[..., 1:] @ np.swapaxes(solved[..., 1:], 2, 3))
            deviate = np.linalg.solve(other, solved[..., :1])[..., 0]
            diagonal = np.einsum("bnii->bni", factor) / np.einsum("bnii->bni", other)
            logs[:, where] = (np.log(diagonal) - 0.5 * (LOG_2PI + deviate**2)).reshape(b, -1)
        return np.add.reduceat(logs, self.rows.starts, axis=1)

    def _groups(self, parts: _Parts) -> Iterator[tuple[slice, Array, Array]]:
        """Yield, for the groups of each size, their inverse covariance (b, n, m, m) and half (b, n, m, p)."""
        first = 0
        for (where, _), K in zip(self.rows.clusters, self.inverse, strict=True):
            n, m = K.shape[:2]
            c = self.KA[where, 0].reshape(n, m)
            shrink = parts.shrink[:, first : first + n, None, None]
            first += n
            half = parts.half[:, where]
            yield where, K - shrink * (c[:, :, None] * c[:, None, :]), half.reshape(len(half), n, m, -1)


def dispensable(rows: GroupedRows, given: Given, between: float, within: float, *, whole: bool) -> Mask:
    """Return which rows (k,) or groups (J,) can be left out: the others still determine every coefficient.

    That does not depend on the deviations; `given` is what holds at these.
    """
    level = _Level(rows, within)
    parts = level.parts(given.mean, given.root, np.array([between]))
    if not whole:
        return 1.0 - (parts.half[0] ** 2).sum(axis=1) / parts.free[0] > INDISPENSABLE
    found: list[bool] = []
    for _, free, h in level._groups(parts):
        left = free - h @ np.swapaxes(h, 2, 3)
        pairs = zip(left[0], free[0], strict=True)
        found += [bool(linalg.eigh(a, b, eigvals_only=True)[0] > INDISPENSABLE) for a, b in pairs]
    return np.array(found)


MOST_NUMBERS = 2_000_000
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
        size = max(1, MOST_NUMBERS // (n * m * m))
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
        size = max(1, MOST_NUMBERS // (n * m * m))
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
