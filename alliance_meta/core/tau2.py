"""Estimators of the between-study variance tau2, for a batch of data sets at once.

Formulas as in Viechtbauer (2005, doi:10.3102/10769986030003261), Veroniki et al. (2016,
doi:10.1002/jrsm.1164) and the documentation of metafor's ``rma.uni``, in the forms that cost O(k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.wls import Batch, WlsFit, wls

MAX_ITERATIONS = 200
# Relative to tau2 plus the typical sampling variance; below this a step is rounding noise.
STEP_TOLERANCE = 1e-14


@dataclass(frozen=True, slots=True, eq=False)
class Tau2Fit:
    """Estimates of tau2, one per replicate; every array is (B,).

    Attributes
    ----------
    tau2 : ndarray
        >= 0.
    se : ndarray
        Standard error from the expected information at the estimate.
    untruncated : ndarray
        The estimate before it was set to 0; equal to `tau2` where nothing was truncated. For the likelihood
        estimators, whose search stays at or above 0, it is `tau2`.
    at_zero : ndarray of bool
        True where the estimate is 0 because the unrestricted one would be negative.
    converged : ndarray of bool
    iterations : ndarray of int
    """

    tau2: Array
    se: Array
    untruncated: Array
    at_zero: Mask
    converged: Mask
    iterations: Array


def estimate_tau2(batch: Batch, *, method: str) -> Tau2Fit:
    """Estimate tau2 of every replicate by `method`; needs k > p in each."""
    return ESTIMATORS[method](batch)


def _closed(raw: Array, se: Callable[[Array], Array]) -> Tau2Fit:
    tau2 = np.maximum(raw, 0.0)
    done = np.ones(raw.shape, dtype=bool)
    return Tau2Fit(tau2, se(tau2), raw, raw < 0, done, np.zeros(raw.shape))


def _equal_effects(batch: Batch) -> Tau2Fit:
    zero = np.zeros(len(batch.y))
    done = np.ones(zero.shape, dtype=bool)
    return Tau2Fit(zero, np.full(zero.shape, np.nan), zero, ~done, done, zero)


def _dersimonian_laird(batch: Batch) -> Tau2Fit:
    fit, trP, trPP = _at_zero(batch)
    df = batch.df
    return _closed(
        (fit.rss - df) / trP,
        lambda t: np.sqrt(2.0 * df + 4.0 * t * trP + 2.0 * t**2 * trPP) / trP,
    )


def _hunter_schmidt(batch: Batch) -> Tau2Fit:
    fit, trP, trPP = _at_zero(batch)
    df, total = batch.df, fit.w.sum(axis=1)
    return _closed(
        (fit.rss - batch.k) / total,
        lambda t: np.sqrt(2.0 * df + 4.0 * t * trP + 2.0 * t**2 * trPP) / total,
    )


def _hedges(batch: Batch) -> Tau2Fit:
    fit = _unweighted(batch)
    df, trPV, trPVPV = batch.df, fit.trace(batch.v), fit.trace(batch.v, batch.v)
    return _closed(
        (fit.rss - trPV) / df,
        lambda t: np.sqrt(2.0 * trPVPV + 4.0 * t * trPV + 2.0 * t**2 * df) / df,
    )


def _sidik_jonkman(batch: Batch) -> Tau2Fit:
    k = batch.k
    mean = (batch.present * batch.y).sum(axis=1) / k
    start = (batch.present * (batch.y - mean[:, None]) ** 2).sum(axis=1) / k
    fit = wls(batch, start)
    ones = np.ones_like(batch.v)
    trPVPV, trPVP, trPP = fit.trace(batch.v, batch.v), fit.trace(batch.v, ones), fit.trace(ones, ones)
    ratio = start / batch.df
    return _closed(
        ratio * fit.rss,
        lambda t: ratio * np.sqrt(2.0 * trPVPV + 4.0 * t * trPVP + 2.0 * t**2 * trPP),
    )


def _paule_mandel(batch: Batch) -> Tau2Fit:
    tau2, converged, iterations = solve_q(batch, batch.df)
    at_zero = tau2 < 0
    tau2 = np.maximum(tau2, 0.0)
    total = wls(batch, tau2).w.sum(axis=1)
    se = np.sqrt(2.0 / batch.df) * batch.k / total
    return Tau2Fit(tau2, se, tau2, at_zero, converged, iterations)


def solve_q(batch: Batch, target: Array) -> tuple[Array, Mask, Array]:
    """Return the tau2 >= 0 at which the generalised Q equals `target` (B,).

    Q falls in tau2 and is convex, so Newton's step never overshoots from below; the step on 1/Q, nearly a
    straight line in tau2, is taken as long as it stays inside the bracket. Where Q(0) is already below the
    target there is no root at or above 0: the answer there is -1, which no caller may read as an estimate.

    Returns
    -------
    tau2, converged, iterations : ndarray of shape (B,)
    """
    tau2 = np.zeros(len(batch.y))
    lower, upper = np.zeros_like(tau2), np.full_like(tau2, np.inf)
    converged, iterations = np.zeros(tau2.shape, dtype=bool), np.zeros_like(tau2)
    floor = _typical(batch)
    active = np.arange(len(tau2))
    for iteration in range(MAX_ITERATIONS):
        fit = wls(batch.only(active), tau2[active])
        t, goal, gap, slope = tau2[active], target[active], fit.rss - target[active], fit.yPPy
        if iteration == 0:
            tau2[active[gap < 0]] = -1.0
        lower[active] = np.where(gap >= 0, t, lower[active])
        upper[active] = np.where(gap <= 0, t, upper[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = np.where(slope > 0, gap / slope, 0.0)
            fast = t + newton * fit.rss / goal
        plain = np.maximum(t + newton, lower[active])
        step = np.where((fast > lower[active]) & (fast < upper[active]), fast, plain)
        done = (np.abs(step - t) <= STEP_TOLERANCE * (t + floor[active])) | (gap == 0) | (tau2[active] < 0)
        tau2[active] = np.where(tau2[active] < 0, -1.0, np.where(done, t, step))
        iterations[active] += 1
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
    return tau2, converged, iterations


def _likelihood(batch: Batch, *, restricted: bool) -> Tau2Fit:
    """Maximise the (restricted) likelihood: Newton where it is concave, else Fisher scoring, never downhill."""
    tau2 = _hedges(batch).tau2
    floor = _typical(batch)
    converged, iterations = np.zeros(tau2.shape, dtype=bool), np.zeros_like(tau2)
    active = np.arange(len(tau2))
    for _ in range(MAX_ITERATIONS):
        part, t = batch.only(active), tau2[active]
        fit = wls(part, t)
        score, expected, observed = _score(fit, restricted=restricted)
        value = _loglik(fit, restricted=restricted)
        curvature = np.where(observed > 0.1 * expected, observed, expected)
        new = np.maximum(t + score / curvature, 0.0)
        small = STEP_TOLERANCE * (t + floor[active])
        for _ in range(60):
            worse = _loglik(wls(part, new), restricted=restricted) < value - 1e-12 * np.abs(value)
            worse &= np.abs(new - t) > small
            if not worse.any():
                break
            new = np.where(worse, 0.5 * (new + t), new)
        done = np.abs(new - t) <= small
        tau2[active] = new
        iterations[active] += 1
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
    score, expected, _ = _score(wls(batch, tau2), restricted=restricted)
    return Tau2Fit(tau2, np.sqrt(1.0 / expected), tau2, (tau2 == 0) & (score < 0), converged, iterations)


def _score(fit: WlsFit, *, restricted: bool) -> tuple[Array, Array, Array]:
    """Return the score, the expected and the observed information of tau2, (B,) each."""
    yPPy = fit.yPPy
    if restricted:
        ones = np.ones_like(fit.w)
        first, second = fit.trace(ones), fit.trace(ones, ones)
    else:
        first, second = fit.w.sum(axis=1), np.einsum("bk,bk->b", fit.w, fit.w)
    return 0.5 * (yPPy - first), 0.5 * second, fit.yPPPy - 0.5 * second


def _loglik(fit: WlsFit, *, restricted: bool) -> Array:
    present = fit.batch.present > 0
    logs = np.where(present, np.log(np.where(present, fit.w, 1.0)), 0.0).sum(axis=1)
    value = 0.5 * logs - 0.5 * fit.rss
    return value - 0.5 * fit.logdet if restricted else value


def log_likelihoods(fit: WlsFit) -> tuple[Array, Array]:
    """Return the log-likelihood and the restricted log-likelihood of each replicate, (B,) each.

    The restricted one includes log|X'X| / 2, as metafor's ``logLik`` does; defined for complete replicates.
    """
    constant = np.log(2.0 * np.pi)
    k, df = fit.batch.k, fit.batch.df
    return (
        _loglik(fit, restricted=False) - 0.5 * k * constant,
        _loglik(fit, restricted=True) - 0.5 * df * constant,
    )


def _at_zero(batch: Batch) -> tuple[WlsFit, Array, Array]:
    fit = wls(batch, np.zeros(len(batch.y)))
    ones = np.ones_like(batch.v)
    return fit, fit.trace(ones), fit.trace(ones, ones)


def _unweighted(batch: Batch) -> WlsFit:
    plain = Batch(batch.y, np.ones_like(batch.v), batch.Q, batch.R, batch.QQ, batch.present)
    return wls(plain, np.zeros(len(batch.y)))


def _typical(batch: Batch) -> Array:
    """Return the harmonic mean of the sampling variances, the unit in which a step counts as small, (B,)."""
    return batch.k / (batch.present / batch.v).sum(axis=1)


ESTIMATORS: dict[str, Callable[[Batch], Tau2Fit]] = {
    "EE": _equal_effects,
    "DL": _dersimonian_laird,
    "HE": _hedges,
    "HS": _hunter_schmidt,
    "SJ": _sidik_jonkman,
    "ML": lambda batch: _likelihood(batch, restricted=False),
    "REML": lambda batch: _likelihood(batch, restricted=True),
    "PM": _paule_mandel,
    "EB": _paule_mandel,
}
