"""Searches for tau2 of many data sets at once: the generalised Q equation, and a root of the score.

One data set alone goes through the same steps as numbers, in `single`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.univariate.moments import hedges
from alliance_meta.core.univariate.wls import LOST, Batch, WlsFit, exact_traces, grams_of, wls

MAX_ITERATIONS = 200
# Relative to tau2 plus the typical sampling variance. A Newton step of 1e-8 leaves an error of its square;
# any other step has to become rounding noise before it may stop.
NEWTON_STOP = 1e-8
STOP = 1e-14
# Observed over expected information below which Newton's step is not trusted.
FLATTEST = 0.02
NO_ROOT = -np.inf

# y'PPy, y'PPPy, tr P and tr PP; for maximum likelihood tr W and tr WW in place of the last two.
Terms = tuple[float, float, float, float]


class Mean:
    """The terms of the score, and Q, of a model of a mean, at any tau2."""

    def __init__(self, batch: Batch) -> None:
        self.y, self.v = batch.y[0], batch.v[0]
        if batch.present is not None:
            rows = batch.present[0] > 0
            self.y, self.v = self.y[rows], self.v[rows]
        self.w, self.r, self.u = np.empty((3, len(self.y)))
        self.ones = np.ones(len(self.y))

    def start(self) -> tuple[float, float]:
        """Return Hedges' estimate, and the sum of the squared residuals it comes from."""
        k = len(self.y)
        np.subtract(self.y, self.y.dot(self.ones) / k, out=self.r)
        rss = float(self.r.dot(self.r))
        return rss / (k - 1) - float(self.v.dot(self.ones)) / k, rss

    def weigh(self, tau2: float) -> float:
        """Fill the weights w, residuals r and u = Py; return the sum of the weights."""
        w = self.w
        np.add(self.v, tau2, out=w)
        np.divide(1.0, w, out=w)
        s1 = float(w.dot(self.ones))
        np.subtract(self.y, w.dot(self.y) / s1, out=self.r)
        np.multiply(w, self.r, out=self.u)
        return s1

    def q(self, tau2: float) -> tuple[float, float]:
        """Return Q and minus its derivative."""
        self.weigh(tau2)
        return float(self.r.dot(self.u)), float(self.u.dot(self.u))

    def terms(self, tau2: float, *, restricted: bool) -> Terms:
        """Return the terms of the score and of the information."""
        s1 = self.weigh(tau2)
        w, u, room = self.w, self.u, self.r
        s2 = float(w.dot(w))
        first, second = s1, s2
        if restricted:
            np.multiply(w, w, out=room)
            ratio = s2 / s1
            first, second = s1 - ratio, s2 - 2.0 * float(room.dot(w)) / s1 + ratio * ratio
            if second < LOST * s2:
                first, second = (float(trace[0]) for trace in exact_traces(w[None], self.ones[:, None]))
        np.multiply(w, u, out=room)
        yPPPy = float(room.dot(u)) - float(room.dot(self.ones)) ** 2 / s1
        return float(u.dot(u)), yPPPy, first, second


class Regression:
    """The same with moderators."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.y, self.v, self.Q, self.QQ, self.unpack = batch.y[0], batch.v[0], batch.Q, batch.QQ, batch.unpack
        if batch.present is not None:
            rows = batch.present[0] > 0
            self.y, self.v, self.Q = self.y[rows], self.v[rows], self.Q[rows]
            self.QQ = None if self.QQ is None else self.QQ[rows]
        self.powers = np.empty((3, len(self.y)))
        self.r, self.u = np.empty((2, len(self.y)))

    def start(self) -> tuple[float, float]:
        """Return Hedges' estimate, and the sum of the squared residuals it comes from."""
        found = hedges(self.batch)
        return float(found.raw[0]), float(found.rss[0])

    def weigh(self, tau2: float, *, powers: int) -> Array:
        """Fill the powers of the weights, residuals r and u = Py; return Q'W^nQ for each power n.

        The first of them is inverted.
        """
        w, r, u = self.powers[0], self.r, self.u
        np.add(self.v, tau2, out=w)
        np.divide(1.0, w, out=w)
        for n in range(1, powers):
            np.multiply(self.powers[n - 1], w, out=self.powers[n])
        grams = grams_of(self.powers[:powers], self.Q, self.QQ, self.unpack)
        grams[0] = np.linalg.inv(grams[0])
        np.multiply(w, self.y, out=u)
        np.dot(self.Q, grams[0] @ (u @ self.Q), out=r)
        np.subtract(self.y, r, out=r)
        np.multiply(w, r, out=u)
        return grams

    def q(self, tau2: float) -> tuple[float, float]:
        """Return Q and minus its derivative."""
        self.weigh(tau2, powers=1)
        return float(self.r.dot(self.u)), float(self.u.dot(self.u))

    def terms(self, tau2: float, *, restricted: bool) -> Terms:
        """Return the terms of the score and of the information."""
        grams = self.weigh(tau2, powers=3 if restricted else 1)
        w, u, room = self.powers[0], self.u, self.r
        first, second = float(w.sum()), float(w.dot(w))
        if restricted:
            half = grams[0] @ grams[1]
            first -= float(half.trace())
            s2 = second
            second += float(np.vdot(half, half.T)) - 2.0 * float(np.vdot(grams[0], grams[2]))
            if second < LOST * s2:
                first, second = (float(trace[0]) for trace in exact_traces(w[None], self.Q))
        np.multiply(w, u, out=room)
        q = room @ self.Q
        yPPPy = float(room.dot(u)) - float(q @ grams[0] @ q)
        return float(u.dot(u)), yPPPy, first, second


def likelihood_step(
    t: float, terms: Terms, below: float, above: float, lowest: float, unit: float
) -> tuple[float, float, float, bool]:
    """Return the next tau2 of a search for a root of the score, its bracket, and whether the search is over."""
    yPPy, yPPPy, first, second = terms
    score, expected = 0.5 * (yPPy - first), 0.5 * second
    observed = yPPPy - expected
    if score > 0:
        below = t
    elif score < 0:
        above = t
    if t <= lowest and score <= 0:
        return lowest, below, above, True
    concave = observed > FLATTEST * expected
    new = t + score / (observed if concave else expected)
    floor = max(below, lowest)
    outside = new <= floor or new >= above
    if outside:
        # Until a point with a rising likelihood is known, the bound itself is the next candidate.
        new = lowest if new <= lowest and below < lowest else 0.5 * (floor + (t if above == np.inf else above))
    move, scale = abs(new - t), abs(t) + unit
    done = move <= STOP * scale or (move <= NEWTON_STOP * scale and concave and not outside)
    return new, below, above, done


def maximise_one(
    batch: Batch, *, restricted: bool, lowest: float, unit: float
) -> tuple[float, bool, int, Terms, Terms, float]:
    """Search a batch of one for a root of its score; what is returned is a `searches.Found` of numbers."""
    model = Mean(batch) if batch.constant else Regression(batch)
    t, rss = model.start()
    t = max(t, lowest)
    below, above, done, iterations = -np.inf, np.inf, False, 0
    while not done and iterations < MAX_ITERATIONS:
        terms = model.terms(t, restricted=restricted)
        t, below, above, done = likelihood_step(t, terms, below, above, lowest, unit)
        iterations += 1
    bound = model.terms(lowest, restricted=restricted)
    inside = bound if t == lowest else model.terms(t, restricted=restricted)
    return t, done, iterations, inside, bound, rss


def solve_one(batch: Batch, *, target: float, lowest: float, unit: float) -> tuple[float, bool, int]:
    """Search a batch of one for the tau2 at which Q is `target`; as `searches.solve_q`."""
    model = Mean(batch) if batch.constant else Regression(batch)
    t, lower, upper, iterations = lowest, lowest, np.inf, 0
    while iterations < MAX_ITERATIONS:
        iterations += 1
        rss, slope = model.q(t)
        gap = rss - target
        if gap < 0 and t <= lowest:
            return NO_ROOT, True, iterations
        lower = t if gap >= 0 else lower
        upper = t if gap <= 0 else upper
        newton = gap / slope if slope > 0 else 0.0
        new = t + newton * rss / target
        if not lower < new < upper:
            new = max(t + newton, lower)
        move, t = abs(new - t), new
        if move <= NEWTON_STOP * (abs(t) + unit):
            return t, True, iterations
    return t, False, iterations


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
    """Cut B replicates of k rows into equal pieces whose arrays stay in a core's cache."""
    size = max(1, -(-B // max(1, round(B * k / CHUNK))))
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
