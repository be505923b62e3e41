"""Estimators of tau2 that have a closed form, for a batch of data sets at once.

All are method-of-moments estimators: a quadratic form of the effects is set equal to its expectation.
Formulas as in Viechtbauer (2005, doi:10.3102/10769986030003261), DerSimonian & Kacker (2007,
doi:10.1016/j.cct.2006.04.004) and Veroniki et al. (2016, doi:10.1002/jrsm.1164).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.univariate.wls import Batch, WlsFit, wls, wls_weighted


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """A raw estimate (B,), possibly negative, its standard error as a function of the final one, and its Q (B,)."""

    raw: Array
    se: Callable[[Array], Array]
    rss: Array


def dersimonian_laird(batch: Batch) -> Moments:
    """Weights 1 / v."""
    fit = wls(batch, np.zeros(len(batch.y)))
    trP, trPP = fit.traces
    df = batch.df
    return Moments(
        (fit.rss - df) / trP,
        lambda t: np.sqrt(2.0 * df + 4.0 * t * trP + 2.0 * t**2 * trPP) / trP,
        fit.rss,
    )


def hunter_schmidt(batch: Batch, *, small_sample: bool = False) -> Moments:
    """Q over its value without sampling error; with the k / (k - p) correction of Brannick et al. (2019)."""
    fit = wls(batch, np.zeros(len(batch.y)))
    trP, trPP = fit.traces
    df, total = batch.df, fit.w.sum(axis=1)
    factor = batch.k / df if small_sample else np.ones_like(df)
    return Moments(
        (factor * fit.rss - batch.k) / total,
        lambda t: factor * np.sqrt(2.0 * df + 4.0 * t * trP + 2.0 * t**2 * trPP) / total,
        fit.rss,
    )


def hedges(batch: Batch) -> Moments:
    """Equal weights: the residual variance less the mean sampling variance."""
    fit = wls_weighted(batch, np.ones_like(batch.v) if batch.present is None else batch.present)
    df, trPV = batch.df, fit.trace(batch.v)
    return Moments(
        (fit.rss - trPV) / df,
        lambda t: np.sqrt(2.0 * fit.trace(batch.v, batch.v) + 4.0 * t * trPV + 2.0 * t**2 * df) / df,
        fit.rss,
    )


def sidik_jonkman(batch: Batch) -> Moments:
    """Weights from the variance of the effects (Sidik & Jonkman 2005, doi:10.1111/j.1467-9876.2005.00489.x)."""
    start = _spread(batch)
    fit = wls(batch, start)
    ratio = start / batch.df
    return Moments(ratio * fit.rss, lambda t: ratio * _moment_se(fit, t), fit.rss)


def generalised(batch: Batch, weights: Array) -> Moments:
    """Any fixed weights (B, k) (DerSimonian & Kacker 2007)."""
    fit = wls_weighted(batch, weights)
    trP = fit.traces[0]
    return Moments((fit.rss - fit.trace(batch.v)) / trP, lambda t: _moment_se(fit, t) / trP, fit.rss)


def two_step(batch: Batch, *, first: Callable[[Batch], Moments]) -> Moments:
    """Moment estimator with the weights of a first estimate (two-step DL or HE)."""
    return generalised(batch, batch.weights(np.maximum(first(batch).raw, 0.0)))


def _moment_se(fit: WlsFit, t: Array) -> Array:
    v, ones = fit.batch.v, np.ones_like(fit.w)
    return np.sqrt(2.0 * fit.trace(v, v) + 4.0 * t * fit.trace(v, ones) + 2.0 * t**2 * fit.traces[1])


def _spread(batch: Batch) -> Array:
    if batch.present is None:
        return batch.y.var(axis=1)
    mean = (batch.present * batch.y).sum(axis=1) / batch.k
    return (batch.present * (batch.y - mean[:, None]) ** 2).sum(axis=1) / batch.k
