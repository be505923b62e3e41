"""Estimators of the between-study variance tau2, by metafor's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.univariate import moments
from alliance_meta.core.univariate.peaks import maximise, turning_points
from alliance_meta.core.univariate.quadratic import quadratic_form_cdf
from alliance_meta.core.univariate.searches import NO_ROOT, log_likelihood, pieces, solve_q
from alliance_meta.core.univariate.wls import Batch, make_batch, wls, wls_weighted

# Brent's method on a smooth function: the root to twelve digits, in units of the mean variance also where it is tiny.
ROOT_RTOL, ROOT_XTOL = 1e-13, 1e-18
# A root known to be beyond this many mean variances is looked for from there on.
FAR = 1e4


def q_profile(y: Array, v: Array, X: Array, *, level: float) -> tuple[float, float]:
    """Return the Q-profile interval (Viechtbauer 2007, doi:10.1002/sim.2514).

    The values of tau2 at which the generalised Q equals the chi-squared quantiles. A bound is 0 where Q(0)
    is already below its quantile; both are 0 when the data vary less than chance allows.
    """
    tail = 0.5 * (1.0 - level)
    batch = make_batch(np.vstack([y, y]), np.vstack([v, v]), X)
    target = special.chdtri(batch.df, np.array([tail, 1.0 - tail]))
    bounds, _, _ = solve_q(batch, target)
    lb, ub = np.maximum(bounds, 0.0)
    return float(lb), float(ub)


def profile_likelihood(
    y: Array, v: Array, X: Array, *, restricted: bool, level: float, lowest: float = 0.0
) -> list[tuple[float, float]]:
    """Return the profile-likelihood confidence set of tau2: one interval, or several where the likelihood has peaks.

    Hardy & Thompson (1996, doi:10.1002/(SICI)1097-0258(19960330)15:6<619::AID-SIM188>3.0.CO;2-A): the values
    whose log-likelihood is within half a chi-squared(1) quantile of the maximum; 0 where 0 is among them.
    """
    batch = make_batch(y, v, X)
    tau2, height, _ = turning_points(batch, restricted=restricted, lowest=lowest)
    floor = float(height.max()) - 0.5 * float(special.chdtri(1.0, 1.0 - level))

    def excess(t: float) -> float:
        return float(log_likelihood(wls(batch, np.array([t])), restricted=restricted)[0]) - floor

    # Between neighbours the likelihood only rises or only falls, and above the last, a peak, it falls for good.
    points = sorted({lowest, *tau2.tolist()})
    inside = [excess(t) >= 0 for t in points]
    step = float(v.mean())
    edges = [lowest] if inside[0] else []
    for (a, b), (at_a, at_b) in zip(pairwise(points), pairwise(inside), strict=True):
        if at_a != at_b:
            edges.append(_root(excess, a, b, unit=step))
    if inside[-1]:
        edges.append(_root_above(excess, points[-1], step=step))
    return list(zip(edges[::2], edges[1::2], strict=True))


def generalised_q(batch: Batch, weights: Array, *, probability: float, lowest: float = 0.0) -> float:
    """Return the tau2 at which the observed weighted Q is the `probability` quantile of its distribution.

    With probability .975 and .025 these are the limits of Jackson (2013, doi:10.1002/jrsm.1081), with
    weights 1 / v those of Biggerstaff & Jackson (2008, doi:10.1002/sim.3494); with .5 the median-unbiased
    estimate (metafor's ``GENQM``). `NO_ROOT` where already `lowest` makes the observed Q too likely small.
    """
    v = batch.v[0]
    fit = wls_weighted(batch, weights[None])
    q = float(fit.rss[0])
    loadings = weights[:, None] * (batch.Q @ np.linalg.cholesky(fit.Ainv[0]))

    def excess(t: float) -> float:
        total = v + t
        return quadratic_form_cdf(q, weights * total, np.sqrt(total)[:, None] * loadings) - probability

    share, step = weights - np.square(loadings).sum(axis=1), float(v.mean())
    # The mean of Q is share @ (v + t): by Markov's inequality Q is too large for every t below this.
    sure = float(((1.0 - probability) * q - share @ v) / share.sum())
    if sure > max(lowest, FAR * step):
        return _root_above(excess, sure, step=sure)
    if excess(lowest) <= 0:
        return NO_ROOT
    return _root_above(excess, lowest, step=step)


def higgins_thompson(*, QE: float, k: int, H2: float, vt: float, level: float) -> tuple[float, float]:
    """Return the test-based interval of Higgins & Thompson (2002, doi:10.1002/sim.1186), k > 2, no moderators."""
    if k < QE:
        se = 0.5 * (np.log(QE) - np.log(k - 1.0)) / (np.sqrt(2.0 * QE) - np.sqrt(2.0 * k - 3.0))
    else:
        se = np.sqrt(1.0 / (2.0 * (k - 2.0)) * (1.0 - 1.0 / (3.0 * (k - 2.0) ** 2)))
    half = 2.0 * float(special.ndtri(0.5 * (1.0 + level))) * se
    return max(0.0, float(vt * (H2 * np.exp(-half) - 1.0))), max(0.0, float(vt * (H2 * np.exp(half) - 1.0)))


def wald(*, tau2: float, se: float, level: float) -> tuple[float, float]:
    """Return tau2 -+ z se, not below 0: crude, for tau2 is far from normal with few studies."""
    half = float(special.ndtri(0.5 * (1.0 + level))) * se
    return max(0.0, tau2 - half), tau2 + half


def wald_log(*, tau2: float, se: float, level: float) -> tuple[float, float]:
    """Return the Wald interval of log tau2, transformed back; needs tau2 > 0."""
    half = float(special.ndtri(0.5 * (1.0 + level))) * se / tau2
    return float(tau2 * np.exp(-half)), float(tau2 * np.exp(half))


def sidik_jonkman(*, tau2: float, df: float, level: float) -> tuple[float, float]:
    """Return the interval of Sidik & Jonkman (2005, doi:10.1111/j.1467-9876.2005.00489.x) around their estimate."""
    tail = 0.5 * (1.0 - level)
    low, high = special.chdtri(df, np.array([tail, 1.0 - tail]))
    return float(df * tau2 / low), float(df * tau2 / high)


def _root_above(function: Callable[[float], float], low: float, *, step: float) -> float:
    """Return the root of a function that is positive at `low` and falls below 0 somewhere above."""
    high = low + step
    while function(high) > 0:
        low, high = high, low + 2.0 * (high - low) + step
    return _root(function, low, high, unit=step)


def _root(function: Callable[[float], float], low: float, high: float, *, unit: float) -> float:
    return float(optimize.brentq(function, low, high, xtol=ROOT_XTOL * unit, rtol=ROOT_RTOL, maxiter=500))


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
