r"""Fits of many subsets of the effects at once, and of all effects but one.

A univariate model without each study in turn, tau2 estimated anew, at the cost of a few fits.

All that a fit needs are sums over its effects: of the powers of the weights 1 / (v + t), times squares and products of
moderators and residuals. Those without a study are the sums over all effects less its own. But each deletion has a
t = tau2 of its own. Over the range where these lie the sums over all effects are smooth: with c = min v and
x = log(t + c) each term ((t + c) / (v + t))^n is analytic but for poles at a distance of pi from the real line, so that
an interpolant in m Chebyshev points of an interval of length L converges like (b + sqrt(b^2 + 1))^-m, b = 2 pi / L.
With that many points, thirty or so, it is exact to rounding; then a step of a search costs as much as a study has
effects. Where that would lose digits, because a study holds nearly all information on a coefficient, and where the
peak found is not proved to be the highest (see `search`), the model is fitted to the effects themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.resampling import SINGULAR, Recipe, estimated_tau2
from alliance_meta.core.univariate.fit import LIKELIHOODS
from alliance_meta.core.univariate.search import Found, chunks, climb_scores, only_peak
from alliance_meta.core.univariate.wls import LOST, ROUNDING, Batch, WlsFit, make_batch, wls, wls_weighted


@dataclass(frozen=True, slots=True, eq=False)
class Subsets:
    """A model fitted to J subsets of its effects; NaN where a subset cannot tell every coefficient."""

    usable: Mask  # (J,)
    df: Array  # (J,): effects less coefficients. Where none are left, the fit is the one of equal effects.
    beta: Array  # (J, p)
    vb: Array  # (J, p, p): covariance of the coefficients, `s2w` included
    s2w: Array  # (J,): Knapp and Hartung's factor, else 1
    # tau2, QE, vt (J,): variance, Cochran's Q, typical sampling variance.
    tau2: Array
    QE: Array
    vt: Array

    def put(self, rows: AnyArray, found: Subsets) -> None:
        """Write the fits of some of the subsets into their places."""
        for field in fields(Subsets):
            getattr(self, field.name)[rows] = getattr(found, field.name)


def nothing(J: int, p: int) -> Subsets:
    """Return J subsets that are not fitted yet."""
    gone = [np.full(J, np.nan) for _ in range(5)]
    vb = np.full((J, p, p), np.nan)
    return Subsets(np.zeros(J, dtype=bool), gone[0], np.full((J, p), np.nan), vb, *gone[1:])


def fit_subsets(
    y: Array,
    v: Array,
    recipe: Recipe,
    present: Callable[[slice], Array],
    J: int,
    *,
    weights: Array | None = None,
) -> Subsets:
    """Fit the model to J subsets.

    `y`, `v` (k,).
    `recipe`: design and settings.
    `present`: subsets number start to stop as ones and zeros, (stop - start, k).
    `weights` (k,): weights of the user, in place of 1 / (v + tau2).
    """
    whole, out = make_batch(y, v, recipe.X), nothing(J, recipe.X.shape[1])
    for at in chunks(J, len(y)):
        some = present(at)
        rows = np.arange(J)[at]
        out.df[rows] = some.sum(axis=1) - whole.p
        out.usable[rows] = _full_rank(whole, some)
        for spare in (True, False):
            # Without an effect to spare there is no tau2 to estimate: equal effects then, as a fit of their own says.
            own = np.flatnonzero(out.usable[rows] & ((out.df[rows] > 0) == spare))
            if own.size:
                shape = (own.size, len(y))
                part = replace(whole, y=np.broadcast_to(y, shape), v=np.broadcast_to(v, shape), present=some[own])
                out.put(rows[own], _fit(part, recipe, weights) if spare else _saturated(part, recipe))
    return out


def _full_rank(batch: Batch, present: Array) -> Mask:
    """Say which subsets have a design of full column rank."""
    if batch.constant:
        return np.asarray(present.any(axis=1))
    return np.asarray(np.linalg.eigvalsh(batch.gram(present))[:, 0] > SINGULAR)


def _fit(batch: Batch, recipe: Recipe, weights: Array | None) -> Subsets:
    own = None if weights is None or batch.present is None else weights * batch.present
    tau2 = estimated_tau2(recipe, batch, own)
    model = wls(batch, tau2)
    s2w = small_sample(recipe, model.residual / batch.df)
    if own is None:
        beta, vb = model.beta, model.vb
    else:
        weighted = wls_weighted(batch, own)
        beta, vb = weighted.beta, weighted.vb_of(batch.v + tau2[:, None])
    return _subsets(batch, beta, s2w[:, None, None] * vb, s2w, tau2)


def _saturated(batch: Batch, recipe: Recipe) -> Subsets:
    tau2 = np.full(len(batch.y), recipe.tau2 or 0.0)
    model = wls(batch, tau2)
    return _subsets(batch, model.beta, model.vb, np.ones(len(tau2)), tau2)


def small_sample(recipe: Recipe, factor: Array) -> Array:
    """Return what the test multiplies the covariance of the coefficients by: Knapp and Hartung's `factor`, or 1."""
    if recipe.test not in ("knha", "adhoc"):
        return np.ones_like(factor)
    return np.maximum(factor, 1.0) if recipe.test == "adhoc" else factor


def _subsets(batch: Batch, beta: Array, vb: Array, s2w: Array, tau2: Array) -> Subsets:
    zero: WlsFit = wls(batch, np.zeros(len(tau2)))
    spare = batch.df > 0
    none = np.full(len(tau2), np.nan)
    QE, vt = (none, none) if not spare.any() else (zero.rss, batch.df / zero.traces[0])
    return Subsets(np.ones(len(tau2), dtype=bool), batch.df, beta, vb, s2w, tau2, QE, vt)


# Rounding, and the logarithm of what an interpolant must reach for it.
DIGITS = 38.0
MORE = 4
# How far above the typical variance a tau2 without one study may lie before it is searched for by itself.
ABOVE = 4.0
# A share of the information that may be left without many digits being lost.
LEFT = 1e-4
# Up to so many effects all at once are as quick.
FEW = 40


class Sums(NamedTuple):
    """Sums of w^n QQ' (J, n, p, p), w^n Qr (J, n, p), w^n r^2 and w^n (J, n) for the powers n = 1, 2, 3 of weights."""

    A: Array
    b: Array
    c: Array
    s: Array


class Units:
    """Sums over all effects but those of each unit (k,), 0 ... J - 1, for tau2 between `lowest` and `highest`."""

    def __init__(self, y: Array, v: Array, X: Array, unit: IntArray, *, lowest: float, highest: float) -> None:
        order = np.argsort(unit, kind="stable")
        batch = make_batch(y[order], v[order], X[order])
        self.Q, self.unpack, self.R = batch.Q, batch.unpack, batch.R
        self.v, self.unit, self.p = batch.v[0], unit[order], batch.p
        self.first = np.flatnonzero(np.diff(self.unit, prepend=-1))
        self.J = len(self.first)
        w = 1.0 / (self.v + max(lowest, 0.0))
        A = (self.Q * w[:, None]).T @ self.Q
        # Residuals: large effects would cost digits.
        self.gamma = np.linalg.solve(A, (w * batch.y[0]) @ self.Q)
        r = batch.y[0] - self.Q @ self.gamma
        self.y, self.constant = batch.y[0], batch.constant
        i, j = np.triu_indices(self.p)
        self.Z = np.column_stack([self.Q[:, i] * self.Q[:, j], self.Q * r[:, None], r * r, np.ones(len(r))])
        self.lowest, self.highest = lowest, highest

    @cached_property
    def _interpolant(self) -> tuple[float, float, Array]:
        """The middle and half the length of the range of log(t + min v), and coefficients (m, 3 F)."""
        shift = float(self.v.min())
        ends = np.log(np.array([self.lowest, self.highest]) + shift)
        middle, half = 0.5 * float(ends.sum()), max(0.5 * float(np.diff(ends)[0]), 1e-3)
        b = np.pi / half
        m = int(np.ceil(DIGITS / np.log(b + np.sqrt(b * b + 1.0)))) + MORE
        angle = np.pi * (np.arange(m) + 0.5) / m
        scale = np.exp(middle + half * np.cos(angle))
        share = scale[:, None] / (self.v - shift + scale[:, None])
        values = np.concatenate([share**n @ self.Z for n in (1, 2, 3)], axis=1)
        coefficients = 2.0 / m * np.cos(np.outer(np.arange(m), angle)) @ values
        coefficients[0] *= 0.5
        return middle, half, coefficients

    def at(self, tau2: Array | float, which: IntArray | None = None) -> Sums:
        """Return the sums without each unit, or those asked for, at a tau2 of each unit (J,) or one for all."""
        which = np.arange(self.J) if which is None else which
        if isinstance(tau2, float):
            w = 1.0 / (self.v + tau2)
            own = np.stack([np.add.reduceat((w**n)[:, None] * self.Z, self.first) for n in (1, 2, 3)], axis=1)
            return self._unpacked(own.sum(axis=0) - own[which])
        return self._unpacked(self._whole(tau2) - self._own(tau2, which))

    def over_all(self, tau2: Array) -> Sums:
        """Return the sums over all effects at each tau2 (m,)."""
        return self._unpacked(self._whole(tau2))

    def _whole(self, tau2: Array) -> Array:
        middle, half, coefficients = self._interpolant
        scale = tau2 + float(self.v.min())
        x = np.clip((np.log(scale) - middle) / half, -1.0, 1.0)
        basis = np.cos(np.arange(len(coefficients)) * np.arccos(x)[:, None])
        found = (basis @ coefficients).reshape(len(tau2), 3, -1)
        return np.asarray(found / (scale[:, None] ** np.arange(1, 4))[:, :, None])

    def _own(self, tau2: Array, which: IntArray) -> Array:
        rows, first = np.arange(len(self.v)), self.first
        if len(which) < self.J:
            chosen = np.zeros(self.J, dtype=bool)
            chosen[which] = True
            rows = np.flatnonzero(chosen[self.unit])
            first = np.flatnonzero(np.diff(self.unit[rows], prepend=-1))
        every = np.zeros(self.J)
        every[which] = tau2
        w = (1.0 / (self.v[rows] + every[self.unit[rows]]))[:, None]
        Z = self.Z[rows]
        parts = [w * Z, w * w * Z, w**3 * Z]
        if len(first) < len(rows):
            parts = [np.add.reduceat(part, first) for part in parts]
        return np.stack(parts, axis=1)

    def _unpacked(self, sums: Array) -> Sums:
        F = self.p * (self.p + 1) // 2
        A = sums[:, :, :F][:, :, self.unpack]
        return Sums(A, sums[:, :, F : F + self.p], sums[:, :, -2], sums[:, :, -1])

    def left(self, tau2: float) -> Array:
        """Return which share of the sum of the cubed weights is left without each unit, (J,)."""
        cubes = (self.v + tau2) ** -3.0
        own = np.add.reduceat(cubes, self.first)
        return np.asarray(1.0 - own / cubes.sum())

    def equal(self) -> tuple[Array, Mask]:
        """Return the residual sums of squares with equal weights (J,), and which units leave enough to count on."""
        own = np.add.reduceat(self.Z, self.first)
        sums = self._unpacked(np.repeat((own.sum(axis=0) - own)[:, None], 3, axis=1))
        A = sums.A[:, 0]
        scale = np.sqrt(np.diag(self.Q.T @ self.Q))
        enough = np.linalg.eigvalsh(A / np.outer(scale, scale))[:, 0] > LEFT
        rss = np.full(self.J, np.nan)
        rss[enough] = solved(Sums(*(part[enough] for part in sums))).rss
        return rss, enough


class Solved(NamedTuple):
    """Least squares of each deletion: inverse of Q'WQ, coefficients of the residuals, y'Py, and the terms of the score.

    `terms` are y'PPy, y'PPPy, tr P, tr PP (4, J); `lost` says where tr PP has lost its digits.
    """

    inverse: Array
    gamma: Array
    rss: Array
    terms: Array
    lost: Mask


def solved(sums: Sums, *, restricted: bool = True) -> Solved:
    """Solve the normal equations of each deletion."""
    A1, A2, A3 = np.moveaxis(sums.A, 1, 0)
    b1, b2, b3 = np.moveaxis(sums.b, 1, 0)
    c1, c2, c3 = sums.c.T
    inverse = 1.0 / A1 if A1.shape[-1] == 1 else np.linalg.inv(A1)

    def times(M: Array, x: Array) -> Array:
        return np.asarray((M @ x[:, :, None])[:, :, 0])

    def dot(x: Array, z: Array) -> Array:
        return np.asarray((x * z).sum(axis=1))

    g = times(inverse, b1)
    rest = b2 - times(A2, g)
    yPPy = c2 - 2.0 * dot(b2, g) + dot(g, times(A2, g))
    yPPPy = c3 - 2.0 * dot(b3, g) + dot(g, times(A3, g)) - dot(rest, times(inverse, rest))
    first, second = sums.s[:, 0], sums.s[:, 1]
    lost = np.zeros(len(g), dtype=bool)
    if restricted:
        share = inverse @ A2
        first = first - np.einsum("bpp->b", share)
        second = second - 2.0 * np.einsum("bpq,bqp->b", inverse, A3) + np.einsum("bpq,bqp->b", share, share)
        lost = (second < LOST * sums.s[:, 1]) | (first < LOST * sums.s[:, 0])
    return Solved(inverse, g, c1 - dot(b1, g), np.stack([yPPy, yPPPy, first, second]), lost)


def delete_each(
    y: Array, v: Array, recipe: Recipe, unit: IntArray, J: int, *, tau2: float = 0.0, weights: Array | None = None
) -> Subsets:
    """Fit the model without each of J units of effects.

    `y`, `v` (k,).
    `unit` (k,): the unit of each effect, 0 ... J - 1.
    `tau2`: that of all effects, where searches begin.
    `weights` (k,): weights of the user.
    """

    def present(which: IntArray) -> Array:
        return (which[:, None] != unit).astype(float)

    if recipe.method in LIKELIHOODS and recipe.tau2 is None and weights is None and len(y) > FEW and J > 1:
        found, doubtful = _searched(y, v, recipe, unit, tau2)
        if doubtful.size:
            again = fit_subsets(y, v, recipe, lambda at: present(doubtful[at]), doubtful.size)
            found.put(doubtful, again)
        return found
    return fit_subsets(y, v, recipe, lambda at: present(np.arange(J)[at]), J, weights=weights)


def covariances(y: Array, v: Array, X: Array, tau2: Array, *, weights: Array | None = None) -> Array:
    """Return the covariance of the coefficients of all effects at each tau2 (J,), (J, p, p)."""
    if weights is not None:
        model = wls_weighted(make_batch(y, v, X), weights[None])
        return model.vb_of(v[None]) + tau2[:, None, None] * model.vb_of(np.ones((1, len(v))))
    units = Units(y, v, X, np.zeros(len(y), dtype=np.intp), lowest=float(tau2.min()), highest=float(tau2.max()))
    inverse = np.linalg.inv(units.R)
    return np.asarray(inverse @ np.linalg.inv(units.over_all(tau2).A[:, 0]) @ inverse.T)


def _searched(y: Array, v: Array, recipe: Recipe, unit: IntArray, tau2: float) -> tuple[Subsets, IntArray]:
    """Return the deletions by sums, and those that must be fitted to the effects themselves."""
    restricted, lowest = recipe.method == "REML", recipe.lowest
    typical = len(v) / float((1.0 / v).sum())
    highest = ABOVE * (max(tau2, 0.0) + typical)
    units = Units(y, v, recipe.X, unit, lowest=lowest, highest=highest)
    rss, enough = units.equal()
    out = nothing(units.J, units.p)
    use = np.flatnonzero(enough & (units.left(min(lowest, 0.0)) > LEFT) & (len(y) - np.bincount(unit) > units.p))

    def score(active: IntArray, t: Array) -> tuple[Array, Array, Array]:
        yPPy, yPPPy, first, second = solved(units.at(t, use[active]), restricted=restricted).terms
        return 0.5 * (yPPy - first), 0.5 * second, yPPPy - 0.5 * second

    start = np.full(len(use), min(max(tau2, lowest), highest))
    unit_size = np.full(len(use), typical)
    t, converged, steps = climb_scores(score, start, unit_size, lowest=lowest, highest=highest)
    end = solved(units.at(t, use), restricted=restricted)
    bound = solved(units.at(float(lowest), use), restricted=restricted)
    zero = bound if lowest == 0.0 and restricted else solved(units.at(0.0, use))
    proved = np.zeros(len(use), dtype=bool)
    fine = converged & (t < highest) & ~(end.lost | bound.lost | zero.lost) & (end.terms[0] > 0) & (rss[use] > 0)
    parts = Found(t[fine], converged, steps, end.terms[:, fine], bound.terms[:, fine], rss[use][fine])
    proved[fine] = only_peak(parts, lowest)
    df = len(y) - np.bincount(unit)[use] - units.p
    residual = np.where(end.rss * (v.min() + t) > ROUNDING**2 * float(y @ y), end.rss, 0.0)
    s2w = small_sample(recipe, residual / df)
    inverse = np.linalg.inv(units.R)
    beta = (units.gamma + end.gamma) @ inverse.T
    vb = s2w[:, None, None] * (inverse @ end.inverse @ inverse.T)
    made = Subsets(np.ones(len(use), dtype=bool), df.astype(float), beta, vb, s2w, t, zero.rss, df / zero.terms[2])
    out.put(use, made)
    done = np.zeros(units.J, dtype=bool)
    done[use[proved]] = True
    return out, np.flatnonzero(~done)
