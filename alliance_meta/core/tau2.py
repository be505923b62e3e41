"""Estimators of the between-study variance tau2, by metafor's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core import moments
from alliance_meta.core.searches import NO_ROOT, Engine, maximise, solve_q
from alliance_meta.core.tau2_intervals import generalised_q
from alliance_meta.core.wls import Batch

# Replicates are worked through in pieces whose arrays stay in a core's cache.
CHUNK = 1 << 15
# To import numba and read its machine code takes 0.4 s, and a compiled search saves 0.1 microseconds a number:
# from so many numbers on it pays for itself. The size decides alone, so that the same data give the same digits.
PAYS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Tau2Fit:
    """Estimates of tau2, one per replicate; every array is (B,).

    Attributes
    ----------
    tau2 : ndarray
        At or above the lowest value allowed, 0 unless asked otherwise.
    se : ndarray
        Standard error from the expected information at the estimate.
    untruncated : ndarray
        The estimate before it was raised to the bound; NaN where the search itself stays above it.
    truncated : ndarray of bool
        True where the estimate is the bound because the unrestricted one would be lower.
    converged : ndarray of bool
    iterations : ndarray of int
    """

    tau2: Array
    se: Array
    untruncated: Array
    truncated: Mask
    converged: Mask
    iterations: AnyArray


def engine_for(size: int) -> Engine:
    """Return what a batch of `size` numbers B k is best searched with."""
    return "compiled" if size >= PAYS else "numpy"


def estimate_tau2(batch: Batch, *, method: str, lowest: float = 0.0, engine: Engine | None = None) -> Tau2Fit:
    """Estimate tau2 of every replicate by `method`; needs k > p in each.

    Parameters
    ----------
    batch : Batch
    method : str
        A key of `ESTIMATORS`.
    lowest : float
        The smallest value an estimate may take: 0, or a negative number above -min(v).
    engine : {"numpy", "compiled"}, optional
        What searches; by default as the size of the batch suggests. A batch that is part of a larger job is
        told by whoever knows the whole: ``engine_for(B * k)``. Without numba the compiled searches run in NumPy.
    """
    estimator = ESTIMATORS[method]
    B, k = batch.y.shape
    engine = engine or engine_for(B * k)
    size = max(1, CHUNK // k)
    if size >= B:
        return estimator(batch, lowest, engine)
    parts = [estimator(batch.part(slice(start, start + size)), lowest, engine) for start in range(0, B, size)]
    return Tau2Fit(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Tau2Fit)))


def fixed_tau2(value: float, *, B: int = 1) -> Tau2Fit:
    """Return a tau2 that is given, not estimated."""
    tau2 = np.full(B, float(value))
    no = np.zeros(B, dtype=bool)
    return Tau2Fit(tau2, np.full(B, np.nan), tau2, no, ~no, np.zeros(B, dtype=int))


def generalised_q_tau2(batch: Batch, weights: Array, *, median: bool, lowest: float = 0.0) -> Tau2Fit:
    """Estimate one tau2 from the Q statistic with the weights (k,): by its mean, or by its exact median."""
    found = moments.generalised(batch, weights[None])
    raw = found.raw
    if median:
        raw = np.array([generalised_q(batch, weights, probability=0.5, lowest=lowest)])
    tau2 = np.maximum(raw, lowest)
    yes = np.ones(1, dtype=bool)
    return Tau2Fit(tau2, found.se(np.maximum(tau2, 0.0)), raw, raw < lowest, yes, np.zeros(1, dtype=int))


def _equal_effects(batch: Batch, lowest: float, engine: Engine) -> Tau2Fit:
    return fixed_tau2(0.0, B=len(batch.y))


def _closed(batch: Batch, lowest: float, engine: Engine, *, estimator: Callable[[Batch], moments.Moments]) -> Tau2Fit:
    found = estimator(batch)
    tau2 = np.maximum(found.raw, lowest)
    done = np.ones(tau2.shape, dtype=bool)
    # As in metafor the sampling variance of the estimator is evaluated at a tau2 that can be.
    se = found.se(np.maximum(tau2, 0.0))
    return Tau2Fit(tau2, se, found.raw, found.raw < lowest, done, np.zeros(tau2.shape, dtype=int))


def _q_equation(batch: Batch, lowest: float, engine: Engine, *, target: Callable[[Array], Array]) -> Tau2Fit:
    root, converged, iterations = solve_q(batch, target(batch.df), lowest=lowest, engine=engine)
    none = root == NO_ROOT
    tau2 = np.where(none, lowest, root)
    total = batch.weights(tau2).sum(axis=1)
    se = np.sqrt(2.0 / batch.df) * batch.k / total
    return Tau2Fit(tau2, se, np.where(none, np.nan, root), none, converged, iterations)


def _likelihood(batch: Batch, lowest: float, engine: Engine, *, restricted: bool) -> Tau2Fit:
    found = maximise(batch, restricted=restricted, lowest=lowest, engine=engine)
    untruncated = np.where(found.at_bound, np.nan, found.tau2)
    se = np.sqrt(1.0 / found.expected)
    return Tau2Fit(found.tau2, se, untruncated, found.at_bound, found.converged, found.iterations)


def _mean(df: Array) -> Array:
    return df


def _median(df: Array) -> Array:
    return special.chdtri(df, 0.5)


_Estimator = Callable[[Batch, float, Engine], Tau2Fit]
_PM: _Estimator = partial(_q_equation, target=_mean)

ESTIMATORS: dict[str, _Estimator] = {
    "EE": _equal_effects,
    "DL": partial(_closed, estimator=moments.dersimonian_laird),
    "HE": partial(_closed, estimator=moments.hedges),
    "HS": partial(_closed, estimator=moments.hunter_schmidt),
    "HSk": partial(_closed, estimator=partial(moments.hunter_schmidt, small_sample=True)),
    "SJ": partial(_closed, estimator=moments.sidik_jonkman),
    "DL2": partial(_closed, estimator=partial(moments.two_step, first=moments.dersimonian_laird)),
    "HE2": partial(_closed, estimator=partial(moments.two_step, first=moments.hedges)),
    "ML": partial(_likelihood, restricted=False),
    "REML": partial(_likelihood, restricted=True),
    "PM": _PM,
    "PMM": partial(_q_equation, target=_median),
    # Empirical Bayes, iterated DerSimonian-Laird and iterated Sidik-Jonkman all come to rest where Q = k - p.
    "EB": _PM,
    "DLIT": _PM,
    "SJIT": _PM,
}
