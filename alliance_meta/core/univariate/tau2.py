"""Estimators of the between-study variance tau2, by metafor's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.univariate import moments
from alliance_meta.core.univariate.peaks import maximise
from alliance_meta.core.univariate.searches import NO_ROOT, pieces, solve_q
from alliance_meta.core.univariate.tau2_intervals import generalised_q
from alliance_meta.core.univariate.wls import Batch


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
    rival : ndarray or None
        For a likelihood its second highest peak, which may be the bound; NaN where it has one peak.
    """

    tau2: Array
    se: Array
    untruncated: Array
    truncated: Mask
    converged: Mask
    iterations: AnyArray
    rival: Array | None = None


def estimate_tau2(batch: Batch, *, method: str, lowest: float = 0.0) -> Tau2Fit:
    """Estimate tau2 of every replicate by `method`; needs k > p in each.

    Parameters
    ----------
    batch : Batch
    method : str
        A key of `ESTIMATORS`.
    lowest : float
        The smallest value an estimate may take: 0, or a negative number above -min(v).
    """
    estimator = ESTIMATORS[method]
    B, k = batch.y.shape
    if method in LIKELIHOODS or B == 1:
        return estimator(batch, lowest)
    parts = [estimator(batch.part(rows), lowest) for rows in pieces(B, k)]
    if len(parts) == 1:
        return parts[0]
    arrays = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Tau2Fit)}
    joined: dict[str, Any] = {name: np.concatenate(found) for name, found in arrays.items() if found[0] is not None}
    return Tau2Fit(**joined)


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


def _equal_effects(batch: Batch, lowest: float) -> Tau2Fit:
    return fixed_tau2(0.0, B=len(batch.y))


def _closed(batch: Batch, lowest: float, *, estimator: Callable[[Batch], moments.Moments]) -> Tau2Fit:
    found = estimator(batch)
    tau2 = np.maximum(found.raw, lowest)
    done = np.ones(tau2.shape, dtype=bool)
    # As in metafor the sampling variance of the estimator is evaluated at a tau2 that can be.
    se = found.se(np.maximum(tau2, 0.0))
    return Tau2Fit(tau2, se, found.raw, found.raw < lowest, done, np.zeros(tau2.shape, dtype=int))


def _q_equation(batch: Batch, lowest: float, *, target: Callable[[Array], Array]) -> Tau2Fit:
    root, converged, iterations = solve_q(batch, target(batch.df), lowest=lowest)
    none = root == NO_ROOT
    tau2 = np.where(none, lowest, root)
    total = batch.weights(tau2).sum(axis=1)
    se = np.sqrt(2.0 / batch.df) * batch.k / total
    return Tau2Fit(tau2, se, np.where(none, np.nan, root), none, converged, iterations)


def _likelihood(batch: Batch, lowest: float, *, restricted: bool) -> Tau2Fit:
    found = maximise(batch, restricted=restricted, lowest=lowest)
    untruncated = np.where(found.at_bound, np.nan, found.tau2)
    se = np.sqrt(1.0 / found.expected)
    return Tau2Fit(found.tau2, se, untruncated, found.at_bound, found.converged, found.iterations, found.rival)


def _mean(df: Array) -> Array:
    return df


def _median(df: Array) -> Array:
    return special.chdtri(df, 0.5)


# These cut a batch into pieces themselves, to look at all doubtful replicates together.
LIKELIHOODS = ("ML", "REML")
_Estimator = Callable[[Batch, float], Tau2Fit]
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
