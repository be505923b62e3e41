"""Searches for tau2 of many data sets at once: the generalised Q equation, and a root of the score.

One data set alone goes through the same steps as numbers, in `single`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.univariate.moments import hedges
from alliance_meta.core.univariate.single import FLATTEST, MAX_ITERATIONS, NEWTON_STOP, STOP, maximise_one, solve_one
from alliance_meta.core.univariate.single import NO_ROOT as NO_ROOT
from alliance_meta.core.univariate.wls import Batch, WlsFit, wls

# Replicates are worked through in pieces whose arrays stay in a core's cache.
CHUNK = 1 << 15


class Found(NamedTuple):
    """Where a search for a root of the score ended: arrays, or numbers for a batch of one.

    Attributes
    ----------
    tau2 : ndarray of shape (B,)
    converged : ndarray of bool, shape (B,)
    iterations : ndarray of int, shape (B,)
    inside, bound : ndarray of shape (4, B)
        `terms` at tau2 and at the lowest tau2 allowed.
    rss : ndarray of shape (B,)
        Sum of squared residuals with equal weights.
    """

    tau2: Any
    converged: Any
    iterations: Any
    inside: Any
    bound: Any
    rss: Any

    @property
    def arrays(self) -> Found:
        """The same as arrays."""
        return self if isinstance(self.rss, np.ndarray) else Found(*(np.array([part]).T for part in self))


def solve_q(batch: Batch, target: Array, *, lowest: float = 0.0) -> tuple[Array, Mask, AnyArray]:
    """Return the tau2 >= `lowest` at which the generalised Q equals `target` (B,).

    Q falls in tau2 and is convex, so Newton's step never overshoots from below; the step on 1/Q, nearly a
    straight line in tau2, is taken as long as it stays inside the bracket.

    Returns
    -------
    tau2 : ndarray of shape (B,)
        `NO_ROOT` where Q is below the target already at `lowest`.
    converged, iterations : ndarray of shape (B,)
    """
    unit = typical_variance(batch)
    if len(batch.y) == 1:
        one = solve_one(batch, target=float(target[0]), lowest=lowest, unit=float(unit[0]))
        return np.array([one[0]]), np.array([one[1]]), np.array([one[2]])
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


def pieces(B: int, k: int) -> Iterator[slice]:
    """Cut B replicates of k rows into pieces whose arrays stay in a core's cache."""
    size = max(1, CHUNK // k)
    return (slice(start, min(start + size, B)) for start in range(0, B, size))


def search(batch: Batch, *, restricted: bool, lowest: float) -> Found:
    """Look for a root of the score from Hedges' estimate.

    By Newton's step where the likelihood is concave and Fisher's elsewhere, kept between points whose scores have
    opposite signs. What is found is a peak or the bound, and not always the highest.
    """
    if len(batch.y) == 1:
        return Found(*maximise_one(batch, restricted=restricted, lowest=lowest, unit=float(typical_variance(batch)[0])))
    parts = [_search(batch.part(rows), lowest, restricted=restricted) for rows in pieces(*batch.y.shape)]
    return parts[0] if len(parts) == 1 else Found(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


def _search(batch: Batch, lowest: float, *, restricted: bool) -> Found:
    unit = typical_variance(batch)
    B = len(batch.y)
    start = hedges(batch)
    tau2 = np.maximum(start.raw, lowest)
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
    inside = terms(wls(batch, tau2), restricted=restricted)
    bound = terms(wls(batch, np.full(B, lowest)), restricted=restricted)
    return Found(tau2, converged, iterations, inside, bound, start.rss)


def terms(fit: WlsFit, *, restricted: bool) -> Array:
    """Return y'PPy, y'PPPy, tr P and tr PP, (4, B); for maximum likelihood tr W and tr WW."""
    first, second = fit.traces if restricted else (fit.w.sum(axis=1), np.einsum("bk,bk->b", fit.w, fit.w))
    return np.stack([fit.yPPy, fit.yPPPy, first, second])


def score_and_information(fit: WlsFit, *, restricted: bool) -> tuple[Array, Array, Array]:
    """Return the score, the expected and the observed information of tau2, (B,) each."""
    yPPy, yPPPy, first, second = terms(fit, restricted=restricted)
    return 0.5 * (yPPy - first), 0.5 * second, yPPPy - 0.5 * second


def log_likelihood(fit: WlsFit, *, restricted: bool) -> Array:
    """Return the (restricted) log-likelihood, (B,), constants and log|X'X| / 2 included as in metafor."""
    n = fit.batch.df if restricted else fit.batch.k
    value = 0.5 * fit.logw - 0.5 * fit.rss - 0.5 * n * np.log(2.0 * np.pi)
    return value - 0.5 * fit.logdet if restricted else value


def typical_variance(batch: Batch) -> Array:
    """Return the harmonic mean of the sampling variances, the unit in which a step counts as small, (B,)."""
    inverse = 1.0 / batch.v if batch.present is None else batch.present / batch.v
    return batch.k / inverse.sum(axis=1)
