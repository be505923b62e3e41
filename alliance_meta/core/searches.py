"""Estimators of tau2 that need a search: the generalised Q equation and the likelihoods, batched and safe.

Three forms of the same steps: one data set (`single`), many at once in NumPy (here), many compiled (`compiled`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.compiled import FLATTEST, MAX_ITERATIONS, NEWTON_STOP, STOP, load
from alliance_meta.core.compiled import NO_ROOT as NO_ROOT
from alliance_meta.core.moments import hedges
from alliance_meta.core.single import maximise_one, solve_one
from alliance_meta.core.wls import Batch, WlsFit, wls

Engine = Literal["numpy", "compiled"]


class Maximum(NamedTuple):
    """Where the likelihood of each replicate is highest; every array is (B,).

    Attributes
    ----------
    tau2 : ndarray
    converged, at_bound : ndarray of bool
    iterations : ndarray of int
    expected : ndarray
        Expected information of tau2.
    """

    tau2: Array
    converged: Mask
    at_bound: Mask
    iterations: AnyArray
    expected: Array


def solve_q(
    batch: Batch, target: Array, *, lowest: float = 0.0, engine: Engine = "numpy"
) -> tuple[Array, Mask, AnyArray]:
    """Return the tau2 >= `lowest` at which the generalised Q equals `target` (B,).

    Q falls in tau2 and is convex, so Newton's step never overshoots from below; the step on 1/Q, nearly a
    straight line in tau2, is taken as long as it stays inside the bracket.

    Returns
    -------
    tau2 : ndarray of shape (B,)
        `NO_ROOT` where Q is below the target already at `lowest`.
    converged, iterations : ndarray of shape (B,)
    """
    if len(batch.y) == 1:
        one = solve_one(batch, target=float(target[0]), lowest=lowest, unit=float(typical_variance(batch)[0]))
        return np.array([one[0]]), np.array([one[1]]), np.array([one[2]])
    kernels = load() if engine == "compiled" else None
    if kernels is not None:
        return kernels.solve_rows(*_plain(batch), target, lowest)
    return _solve_rows(batch, target, lowest)


def _solve_rows(batch: Batch, target: Array, lowest: float) -> tuple[Array, Mask, AnyArray]:
    unit = typical_variance(batch)
    tau2 = np.full(len(batch.y), lowest)
    lower, upper = tau2.copy(), np.full_like(tau2, np.inf)
    converged, iterations = np.zeros(tau2.shape, dtype=bool), np.zeros(tau2.shape, dtype=int)
    active = np.arange(len(tau2))
    for _ in range(MAX_ITERATIONS):
        fit = wls(batch.only(active), tau2[active])
        t, goal, slope = tau2[active], target[active], fit.yPPy
        gap = fit.rss - goal
        none = (gap < 0) & (t <= lowest)
        lower[active] = np.where(gap >= 0, t, lower[active])
        upper[active] = np.where(gap <= 0, t, upper[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = np.where(slope > 0, gap / slope, 0.0)
            fast = t + newton * fit.rss / goal
        plain = np.maximum(t + newton, lower[active])
        step = np.where((fast > lower[active]) & (fast < upper[active]), fast, plain)
        small = np.abs(step - t) <= NEWTON_STOP * (np.abs(t) + unit[active])
        done = small | none
        tau2[active] = np.where(none, NO_ROOT, step)
        iterations[active] += 1
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
    return tau2, converged, iterations


def maximise(batch: Batch, *, restricted: bool, lowest: float = 0.0, engine: Engine = "numpy") -> Maximum:
    """Return the tau2 >= `lowest` that maximises the (restricted) likelihood.

    A root of the score is looked for from Hedges' estimate, by Newton's step where the likelihood is
    concave and Fisher's elsewhere, kept between points whose scores have opposite signs. Where the
    likelihood also falls away from `lowest`, the higher of the two points is taken.
    """
    kernels = load() if engine == "compiled" else None
    if len(batch.y) == 1:
        one = maximise_one(batch, restricted=restricted, lowest=lowest, unit=float(typical_variance(batch)[0]))
        tau2, converged, iterations, expected, score = (np.array([part]) for part in one)
    elif kernels is not None:
        found = kernels.maximise_rows(*_plain(batch), lowest, restricted)
        tau2, converged, iterations, expected, score = found
    else:
        tau2, converged, iterations, expected, score = _maximise_rows(batch, lowest, restricted=restricted)
    at_bound = _choose_bound(batch, tau2, score <= 0, lowest, restricted=restricted)
    return Maximum(
        np.where(at_bound, lowest, tau2), converged, at_bound, iterations, expected[np.arange(len(tau2)), 1 * at_bound]
    )


def _maximise_rows(batch: Batch, lowest: float, *, restricted: bool) -> tuple[Array, Mask, AnyArray, Array, Array]:
    """Search for a root of the score; what is returned as in `compiled.maximise_rows`."""
    unit = typical_variance(batch)
    B = len(batch.y)
    tau2 = np.maximum(hedges(batch).raw, lowest)
    below, above = np.full(B, -np.inf), np.full(B, np.inf)
    converged, iterations = np.zeros(B, dtype=bool), np.zeros(B, dtype=int)
    active = np.arange(B)
    for _ in range(MAX_ITERATIONS):
        t = tau2[active]
        score, expected, observed = score_and_information(wls(batch.only(active), t), restricted=restricted)
        below[active] = np.where(score > 0, t, below[active])
        above[active] = np.where(score < 0, t, above[active])
        lo, hi = below[active], above[active]
        concave = observed > FLATTEST * expected
        new = t + score / np.where(concave, observed, expected)
        outside = (new <= np.maximum(lo, lowest)) | (new >= hi)
        # Until a point with a rising likelihood is known, the bound itself is the next candidate.
        middle = 0.5 * (np.maximum(lo, lowest) + np.where(np.isfinite(hi), hi, t))
        new = np.where(outside, np.where((new <= lowest) & (lo < lowest), lowest, middle), new)
        settled = (t <= lowest) & (score <= 0)
        move = np.abs(new - t)
        scale = np.abs(t) + unit[active]
        done = settled | (move <= STOP * scale) | ((move <= NEWTON_STOP * scale) & concave & ~outside)
        tau2[active] = np.where(settled, lowest, new)
        iterations[active] += 1
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
    inside = score_and_information(wls(batch, tau2), restricted=restricted)[1]
    score, bound, _ = score_and_information(wls(batch, np.full(B, lowest)), restricted=restricted)
    return tau2, converged, iterations, np.column_stack([inside, bound]), score


def _choose_bound(batch: Batch, tau2: Array, falls: Mask, lowest: float, *, restricted: bool) -> Mask:
    """Say where the bound is the answer: the likelihood falls from it and no interior maximum is higher."""
    rivals = np.flatnonzero(falls & (tau2 > lowest))
    if not rivals.size:
        return falls
    part = batch.only(rivals)
    inside = log_likelihood(wls(part, tau2[rivals]), restricted=restricted)
    bound = log_likelihood(wls(part, np.full(len(rivals), lowest)), restricted=restricted)
    chosen = falls.copy()
    chosen[rivals] = bound >= inside
    return chosen


def _plain(batch: Batch) -> tuple[Array, Array, Array]:
    """Return y, v and Q' as the compiled functions take them."""
    v = batch.v if batch.present is None else np.where(batch.present > 0, batch.v, np.inf)
    QT = np.empty((0, batch.y.shape[1])) if batch.constant else batch.Q.T
    return np.ascontiguousarray(batch.y), np.ascontiguousarray(v), np.ascontiguousarray(QT)


def score_and_information(fit: WlsFit, *, restricted: bool) -> tuple[Array, Array, Array]:
    """Return the score, the expected and the observed information of tau2, (B,) each."""
    if restricted:
        first, second = fit.traces
    else:
        first, second = fit.w.sum(axis=1), np.einsum("bk,bk->b", fit.w, fit.w)
    return 0.5 * (fit.yPPy - first), 0.5 * second, fit.yPPPy - 0.5 * second


def log_likelihood(fit: WlsFit, *, restricted: bool) -> Array:
    """Return the (restricted) log-likelihood, (B,), constants and log|X'X| / 2 included as in metafor."""
    n = fit.batch.df if restricted else fit.batch.k
    value = 0.5 * fit.logw - 0.5 * fit.rss - 0.5 * n * np.log(2.0 * np.pi)
    return value - 0.5 * fit.logdet if restricted else value


def typical_variance(batch: Batch) -> Array:
    """Return the harmonic mean of the sampling variances, the unit in which a step counts as small, (B,)."""
    inverse = 1.0 / batch.v if batch.present is None else batch.present / batch.v
    return batch.k / inverse.sum(axis=1)
