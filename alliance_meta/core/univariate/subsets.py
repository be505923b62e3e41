"""One univariate model fitted to many subsets of its effects: the same design and settings, tau2 estimated anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.resampling import SINGULAR, Recipe, estimated_tau2
from alliance_meta.core.univariate.search import chunks
from alliance_meta.core.univariate.wls import Batch, WlsFit, make_batch, wls, wls_weighted


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
