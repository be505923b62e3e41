"""Leaving out each row or each group of a three-level model, exactly, over the quadrature of the whole posterior.

The likelihood without some rows is the whole one divided by their predictive density, so that one pass over the grid
of the two deviations serves all of them. Where the posterior without some rows leaves that grid, as it may without a
far outlier, it is integrated on a grid of its own.

With P the inverse of the covariance of y, coefficients integrated out, and b their posterior mean, g = P (y - X m) is
M^-1 (y - X b). Rows U without which everything is wanted are then predicted by the others with precision P_UU and an
error of P_UU^-1 g_U, and the coefficients move by Vb X' M^-1 E_U P_UU^-1 g_U.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.bayes.quadrature import LIGHTEST, TauDensity, integrate_grid
from alliance_meta.core.bayes.three_level import (
    DEPTH,
    ENOUGH,
    TOLERANCE,
    Given,
    GroupedRows,
    MultilevelPosterior,
    checks,
    error_of,
    given_deviations,
    thinned,
)
from alliance_meta.core.bayes.two_level import LOG_2PI
from alliance_meta.core.dependent import IntArray

MOST_LEFT = 4_000_000
# What shares less than this part of its own precision with no other row alone tells about some coefficient.
INDISPENSABLE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """Given b points: the rows of each unit as the others predict them, whitened, row by row."""

    log_predictive: Array  # (b, U): log density of the unit's effects given all others
    deviate: Array  # (b, k): independent standard normal deviates of the rows of a unit
    towards: Array  # (b, k, p): where each deviate moves the coefficients


def left_out(
    rows: GroupedRows, given: Given, between: Array, within: Array, *, whole: bool
) -> Iterator[tuple[IntArray, Left]]:
    """Yield, for some of the points at a time, what is left without each row, or without each whole group."""
    for points, level, parts in _each_part(rows, given, between, within):
        yield points, level.left(parts, whole=whole)


def log_densities(
    rows: GroupedRows, given: Given, between: Array, within: Array, *, whole: bool
) -> Iterator[tuple[IntArray, Array]]:
    """Yield, for some of the points at a time, the log density (b, U) of each unit given the others' effects.

    Unlike in `left_out`, the coefficients are those that the unit itself has helped to estimate.
    """
    for points, level, parts in _each_part(rows, given, between, within):
        yield points, level.fitted(parts, whole=whole)


def _each_part(
    rows: GroupedRows, given: Given, between: Array, within: Array
) -> Iterator[tuple[IntArray, _Level, _Parts]]:
    k, p = rows.X.shape
    levels, which = np.unique(within, return_inverse=True)
    size = max(1, MOST_LEFT // (k * (p + 2)))
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
        """Return the log density of each effect, or of each whole study, given all others."""
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


@dataclass(frozen=True, slots=True, eq=False)
class MultilevelDeletions:
    """What is left without each of U units, which are rows or whole groups."""

    units: IntArray  # (U,): rows of the data, or codes of groups, that can be left out
    log_predictive: Array  # (U,): log density of the unit's effects given all others
    pit: Array | None  # (U,) or None: probability of a result up to that of the row; None for groups
    mean: Array  # (U, p)
    covariance: Array  # (U, p, p): of the coefficients without the unit
    deviations: Array  # (U, 2): means of both standard deviations without it
    error: Array  # (U,): relative error of the predictive density


def delete_each_of(
    posterior: MultilevelPosterior, rows: GroupedRows, priors: Sequence[TauDensity], *, whole: bool
) -> MultilevelDeletions:
    """Return what is left without each row, or each whole group, that can be left out."""
    wanted = _can_be_left(posterior, rows, priors, whole=whole)
    if whole:
        rows = rows.only(wanted)
        wanted = np.ones(int(wanted.sum()), dtype=bool)
    if not wanted.any():
        p = posterior.mean.shape[1]
        none = np.empty((0, p, p))
        return MultilevelDeletions(
            np.empty(0, dtype=np.intp), none[:, 0, 0], None, none[:, 0], none, np.empty((0, 2)), none[:, 0, 0]
        )
    given = Given(np.log(posterior.weight), posterior.mean, posterior.root)
    total = _integrate(rows, given, posterior.between, posterior.within, checks(posterior.grid), whole=whole)
    found = total.result()
    # The whole posterior's weights are relative to its integral, which therefore drops out.
    error = total.error() + posterior.error
    for unit in np.flatnonzero(wanted & (error > max(ENOUGH, 10.0 * posterior.error))):
        _alone(posterior, rows, priors, int(unit), found, error, whole=whole)
    units = rows.code if whole else rows.index
    where = np.flatnonzero(wanted)[np.argsort(units[wanted])]
    return MultilevelDeletions(
        units=units[where],
        log_predictive=found.log[where],
        pit=None if whole else found.pit[where],
        mean=found.mean[where],
        covariance=found.second[where],
        deviations=found.deviations[where],
        error=error[where],
    )


def _can_be_left(
    posterior: MultilevelPosterior, rows: GroupedRows, priors: Sequence[TauDensity], *, whole: bool
) -> Mask:
    """Return which units leave a proper posterior behind."""
    at = int(np.argmax(posterior.weight))
    given = Given(np.zeros(1), posterior.mean[at : at + 1], posterior.root[at : at + 1])
    found = dispensable(rows, given, float(posterior.between[at]), float(posterior.within[at]), whole=whole)
    flat = int((posterior.data.precision == 0).sum())
    sizes = np.bincount(rows.group)
    J, k = len(rows.code), len(rows.y)
    groups = np.full(J, J - 1) if whole else np.where(sizes == 1, J - 1, J)[rows.group]
    left = k - sizes if whole else np.full(k, k - 1)
    return found & (priors[0].tail + groups - flat > 1.0) & (priors[1].tail + left - flat > 1.0) & (left > 0)


@dataclass(slots=True, eq=False)
class _Found:
    log: Array
    pit: Array
    mean: Array
    second: Array
    deviations: Array


class _Totals:
    """Sums over the grid for each unit, relative to the largest weight so far."""

    def __init__(self, rows: GroupedRows, centre: Array, checks: int, *, whole: bool) -> None:
        self.starts = rows.starts if whole else np.arange(len(rows.y))
        self.unit = rows.group if whole else self.starts
        n, p = len(self.starts), len(centre)
        self.centre = centre
        self.top = np.full(n, -np.inf)
        self.sums = [np.zeros((n, 3 + checks)), np.zeros((n, p)), np.zeros((n, p, p)), np.zeros(n)]

    def add(self, logs: Array, simple: Array, given: Given, deviate: Array, towards: Array, *, whole: bool) -> None:
        """Add b points with log weights (b, U); `simple` (b, 2 + checks) is averaged as it is."""
        top = np.maximum(self.top, logs.max(axis=0))
        scale = np.exp(self.top - top)
        w = np.exp(logs - top)
        self.top = top
        moved = towards * deviate[:, :, None]
        away = given.mean - self.centre
        away = away[:, None] - (np.add.reduceat(moved, self.starts, axis=1) if whole else moved)
        second = _squares(away, w)
        rest = _squares(towards, w[:, self.unit])
        second += np.add.reduceat(rest, self.starts, axis=0) if whole else rest
        b, p = given.mean.shape
        spread = np.swapaxes(given.root, 1, 2) @ given.root
        second += (w.T @ spread.reshape(b, p * p)).reshape(-1, p, p)
        pit = np.zeros(len(top)) if whole else np.einsum("bu,bu->u", w, special.ndtr(deviate))
        new = [w.T @ np.column_stack([np.ones(b), simple]), np.einsum("bu,bui->ui", w, away), second, pit]
        self.sums = [
            old * scale.reshape(-1, *([1] * (old.ndim - 1))) + one for old, one in zip(self.sums, new, strict=True)
        ]

    def result(self) -> _Found:
        """Return the means; the log is that of the predictive density where the weights add up to 1."""
        total, shift, second, pit = self.sums
        whole_weight = total[:, 0]
        shift = shift / whole_weight[:, None]
        second = second / whole_weight[:, None, None] - shift[:, :, None] * shift[:, None, :]
        return _Found(
            -(self.top + np.log(whole_weight)),
            pit / whole_weight,
            self.centre + shift,
            second,
            total[:, 1:3] / whole_weight[:, None],
        )

    def error(self) -> Array:
        """Return the error of every second point, squared, and what lies at the rim of the grid."""
        return error_of(self.sums[0][:, 3:] / self.sums[0][:, :1])


def _squares(A: Array, w: Array) -> Array:
    """Return the sums of w a a' over the points, (U, p, p), for A (b, U, p) and w (b, U)."""
    half = np.moveaxis(A * np.sqrt(w)[:, :, None], 0, 1)
    return np.swapaxes(half, 1, 2) @ half


def _integrate(
    rows: GroupedRows, given: Given, between: Array, within: Array, checks: Array, *, whole: bool
) -> _Totals:
    """Return the sums over points with log weights `given.loglik`, each unit's divided by its predictive density."""
    heaviest = int(np.argmax(given.loglik))
    totals = _Totals(rows, given.mean[heaviest], checks.shape[1], whole=whole)
    for at, left in left_out(rows, given, between, within, whole=whole):
        simple = np.column_stack([between[at], within[at], checks[at]])
        part = Given(given.loglik[at], given.mean[at], given.root[at])
        totals.add(part.loglik[:, None] - left.log_predictive, simple, part, left.deviate, left.towards, whole=whole)
    return totals


def _alone(
    posterior: MultilevelPosterior,
    rows: GroupedRows,
    priors: Sequence[TauDensity],
    unit: int,
    found: _Found,
    error: Array,
    *,
    whole: bool,
) -> None:
    """Put in the place of one unit what a grid of its own gives."""
    group = unit if whole else int(rows.group[unit])
    part = rows.only(np.arange(len(rows.code)) == group)
    here = 0 if whole else int(np.flatnonzero(part.index == rows.index[unit])[0])

    def log_density(between: Array, within: Array) -> Array:
        """Return the log posterior of both deviations without the unit."""
        given = given_deviations(posterior.data, between, within)
        logs = given.loglik + priors[0].log_density(between) + priors[1].log_density(within)
        for at, left in left_out(part, given, between, within, whole=whole):
            logs[at] -= left.log_predictive[:, here]
        return logs

    grid = integrate_grid(log_density, posterior.grid.lines, tolerance=TOLERANCE, depth=DEPTH, power=2.0)
    between, within, weight = grid.values()
    heavy = weight > LIGHTEST * weight.max()
    between, within, weight = between[heavy], within[heavy], weight[heavy]
    given = given_deviations(posterior.data, between, within)
    # The weights are those without the unit already.
    logs = np.log(weight)
    for at, left in left_out(part, given, between, within, whole=whole):
        logs[at] += left.log_predictive[:, here]
    totals = _integrate(
        part, Given(logs, given.mean, given.root), between, within, np.zeros((len(weight), 3)), whole=whole
    )
    one = totals.result()
    found.log[unit] = posterior.log_marginal - grid.log_integral
    found.pit[unit] = one.pit[here]
    found.mean[unit], found.second[unit] = one.mean[here], one.second[here]
    found.deviations[unit] = one.deviations[here]
    error[unit] = grid.error + posterior.error


def log_density_of_units(posterior: MultilevelPosterior, rows: GroupedRows, *, whole: bool) -> Array:
    """Return the log of each unit's density given the others' effects, averaged over the whole posterior, (U,).

    In a model whose effects are not independent given its parameters this takes the place of the density of one
    effect (Bürkner, Gabry & Vehtari 2021, doi:10.1007/s00180-020-01045-4).
    """
    few = thinned(posterior)
    given = Given(np.log(few.weight), few.mean, few.root)
    found = np.full(len(rows.code) if whole else len(rows.y), -np.inf)
    for at, logs in log_densities(rows, given, few.between, few.within, whole=whole):
        found = np.logaddexp(found, special.logsumexp(logs + given.loglik[at, None], axis=0))
    return found
