r"""Searches for tau2 of many data sets at once: where Q has a value, and where the likelihood is highest.

One data set alone goes through the same steps as numbers. That a peak is the highest is proved, not supposed:

With P = W - W X (X'WX)^-1 X'W and W = diag(1 / (v + t)) the score of t = tau2 is s = (f - g) / 2, where f = y'PPy,
and g = tr P (REML) or tr W (ML). Let K be an orthonormal basis of what X leaves over, d_j the eigenvalues of
K'diag(v)K, which lie between the smallest and the largest v, and z_j the coordinates of K'y on its eigenvectors.
Then P = K (K'diag(v)K + t I)^-1 K', so that

    f = sum z_j^2 / (d_j + t)^2,    g = sum 1 / (d_j + t), for ML the same with v in place of d.

A power mean of order at most 1 is concave, and d_j + t is a straight line in t; therefore h = f^(-1/2) and
1 / g are concave in t, and so is r = g^(-1/2), the root of a concave function. All increase. The score is negative
where h > r and positive where h < r. On an interval [a, b] a concave function lies above its chord and below its
tangents, so h > r throughout if the chord of h lies above the two tangents of r where they cross, and the other way
round. With e_a, e_b the amounts by which the tangents of the lower function overshoot it at the other end, and d_a,
d_b the differences at the ends, that is the condition

    d_a e_a + d_b e_b >= e_a e_b.

It needs f, g and their derivatives -2 y'PPPy and -tr PP, which Newton's step computes anyway. Beyond a point a with
h >= r the score stays negative if h(a) / sqrt(Z) >= r(a) r'(a), for h rises by at least Z^(-1/2) per unit of t, where
Z = sum z_j^2 is the residual sum of squares with equal weights, and 1 / g = r^2 by at most 2 r(a) r'(a). And
since f <= Z / (min v + t)^2 and g >= n / (max v + t), n the number of d_j, no root lies above a number that can be
written down. So a search that ended at a root, or at the bound, is proved right, mostly without one more evaluation.
Where it is not, the interval is split until every part has a certificate, and every root becomes an end of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    least = max(below, lowest)
    outside = new <= least or new >= above
    if outside:
        # Until a point with a rising likelihood is known, the bound itself is the next candidate.
        new = lowest if new <= lowest and below < lowest else 0.5 * (least + (t if above == np.inf else above))
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


# Replicates are worked through in parts whose arrays stay in a core's cache.
CHUNK = 1 << 15


class Found(NamedTuple):
    """Where a search for a root of the score ended: arrays, or numbers for a batch of one."""

    tau2: Any  # (B,)
    converged: Any  # (B,)
    iterations: Any  # (B,)
    # inside, bound (4, B): `terms` at tau2 and at the lowest tau2 allowed.
    inside: Any
    bound: Any
    rss: Any  # (B,): sum of squared residuals with equal weights

    @property
    def arrays(self) -> Found:
        """The same as arrays."""
        return self if isinstance(self.rss, np.ndarray) else Found(*(np.array([part]).T for part in self))


def solve_q(batch: Batch, target: Array, *, lowest: float = 0.0) -> tuple[Array, Mask, AnyArray]:
    """Return the tau2 >= `lowest` at which the generalised Q equals `target` (B,).

    Q falls in tau2 and is convex, so Newton's step never overshoots from below; the step on 1/Q, nearly a
    straight line in tau2, is taken as long as it stays inside the bracket.

    Returns `tau2` (B,): `NO_ROOT` where Q is below the target already at `lowest`.
    Returns `converged`, `iterations` (B,).
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
        straight = np.maximum(t + newton, lower[active])
        step = np.where((fast > lower[active]) & (fast < upper[active]), fast, straight)
        small = np.abs(step - t) <= NEWTON_STOP * (np.abs(t) + unit[active])
        done = small | none
        tau2[active] = np.where(none, NO_ROOT, step)
        iterations[active] += 1
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
    return tau2, converged, iterations


def chunks(B: int, k: int) -> Iterator[slice]:
    """Cut B replicates of k rows into equal parts whose arrays stay in a core's cache."""
    size = max(1, -(-B // max(1, round(B * k / CHUNK))))
    return (slice(start, min(start + size, B)) for start in range(0, B, size))


def search(batch: Batch, *, restricted: bool, lowest: float) -> Found:
    """Look for a root of the score from Hedges' estimate.

    By Newton's step where the likelihood is concave and Fisher's elsewhere, kept between points whose scores have
    opposite signs. What is found is a peak or the bound, and not always the highest.
    """
    if len(batch.y) == 1:
        return Found(*maximise_one(batch, restricted=restricted, lowest=lowest, unit=float(typical_variance(batch)[0])))
    parts = [_search_many(batch.part(rows), lowest, restricted=restricted) for rows in chunks(*batch.y.shape)]
    return parts[0] if len(parts) == 1 else Found(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


def _search_many(batch: Batch, lowest: float, *, restricted: bool) -> Found:
    start = hedges(batch)

    def score(active: AnyArray, t: Array) -> tuple[Array, Array, Array]:
        return score_and_information(wls(batch.only(active), t), restricted=restricted)

    tau2, converged, iterations = climb_scores(
        score, np.maximum(start.raw, lowest), typical_variance(batch), lowest=lowest
    )
    inside = terms(wls(batch, tau2), restricted=restricted)
    bound = terms(wls(batch, np.full(len(tau2), lowest)), restricted=restricted)
    return Found(tau2, converged, iterations, inside, bound, start.rss)


def climb_scores(
    score_of: Callable[[AnyArray, Array], tuple[Array, Array, Array]],
    start: Array,
    unit: Array,
    *,
    lowest: float,
    highest: float = np.inf,
) -> tuple[Array, Mask, AnyArray]:
    """Return roots of many scores, whether each search settled, and its steps.

    `score_of`: score, expected and observed information of the replicates numbered by its first argument, at the tau2
      of each.
    `start`, `unit` (B,): where each search begins, and what counts as small.
    `lowest`, `highest`: the range; a search that wants to leave it at the top ends there.
    """
    B = len(start)
    tau2 = start.copy()
    below, above = np.full(B, -np.inf), np.full(B, np.inf)
    converged, iterations = np.zeros(B, dtype=bool), np.zeros(B, dtype=int)
    active = np.arange(B)
    for _ in range(MAX_ITERATIONS):
        t = tau2[active]
        score, expected, observed = score_of(active, t)
        below[active] = np.where(score > 0, t, below[active])
        above[active] = np.where(score < 0, t, above[active])
        lo, hi = below[active], above[active]
        concave = observed > FLATTEST * expected
        new = t + score / np.where(concave, observed, expected)
        outside = (new <= np.maximum(lo, lowest)) | (new >= hi)
        # Until a point with a rising likelihood is known, the bound itself is the next candidate.
        middle = 0.5 * (np.maximum(lo, lowest) + np.where(np.isfinite(hi), hi, t))
        new = np.where(outside, np.where((new <= lowest) & (lo < lowest), lowest, middle), new)
        new = np.minimum(new, highest)
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
    return tau2, converged, iterations


def terms(fit: WlsFit, *, restricted: bool) -> Array:
    """Return y'PPy, y'PPPy, tr P and tr PP, (4, B); for maximum likelihood tr W and tr WW."""
    first, second = fit.traces if restricted else (fit.w.sum(axis=1), np.einsum("bk,bk->b", fit.w, fit.w))
    return np.stack([fit.yPPy, fit.yPPPy, first, second])


def score_and_information(fit: WlsFit, *, restricted: bool) -> tuple[Array, Array, Array]:
    """Return the score, the expected and the observed information of tau2, (B,) each."""
    return score_of(terms(fit, restricted=restricted))


def score_of(found: Array) -> tuple[Array, Array, Array]:
    """Return the same from the `terms`."""
    yPPy, yPPPy, first, second = found
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


# What two tangents may lack, in squared units of the functions: rounding.
ROUNDING = 1e-15
# A part in which the log-likelihood cannot rise by more than this hides nothing.
GAIN = 1e-10
MAX_ROUNDS = 200
# Numbers worth computing at once: with few studies several points cost what one does.
AT_ONCE, MOST_PIECES = 2048, 16
# A Newton step of this share of v + tau2 leaves an error of its square.
ROOT = 1e-9
# Shares of a part: the longest Newton step, and where rounding makes its ends one.
FARTHEST, NARROW = 0.9, 1e-14
# Stands for a sum of squares of 0, where every effect equals its fitted value.
SMALLEST = 1e-200


class Maximum(NamedTuple):
    """Where the likelihood of each replicate is highest; every array is (B,)."""

    tau2: Array
    converged: Mask
    at_bound: Mask
    iterations: AnyArray
    expected: Array  # expected information of tau2
    rival: Array  # the second highest peak, which may be the lowest tau2 allowed; NaN where there is one peak


class Turns(NamedTuple):
    """Where the likelihood of replicate number `row` turns: at peaks, the bound among them, and in valleys."""

    row: AnyArray
    tau2: Array
    peak: Mask


class _Ends(NamedTuple):
    """One end of each part: tau2, h - r (0 at a root), h, h', r and r'."""

    t: Array
    d: Array
    h: Array
    h1: Array
    r: Array
    r1: Array

    def where(self, rows: AnyArray) -> _Ends:
        return _Ends(*(part[rows] for part in self))


def maximise(batch: Batch, *, restricted: bool, lowest: float = 0.0) -> Maximum:
    """Return the tau2 >= `lowest` that maximises the (restricted) likelihood, wherever it lies."""
    return settle(batch, search(batch, restricted=restricted, lowest=lowest), restricted=restricted, lowest=lowest)


def settle(batch: Batch, found: Found, *, restricted: bool, lowest: float = 0.0) -> Maximum:
    """Return the highest peak of each replicate from what a search found, looking on where that may not be it."""
    doubtful = np.flatnonzero(~np.atleast_1d(only_peak(found, lowest)))
    found = found.arrays
    tau2, converged, expected = found.tau2, found.converged, 0.5 * found.inside[3]
    rival = np.full(len(tau2), np.nan)
    for chunk in chunks(len(doubtful), batch.y.shape[1]):
        rows = doubtful[chunk]
        part = batch.only(rows)
        turns, settled = _turns(part, found, rows, lowest, restricted=restricted)
        best, rival[rows] = _highest(part, turns, restricted=restricted)
        converged[rows] = (converged[rows] | (best != tau2[rows])) & settled
        tau2[rows] = best
        expected[rows] = 0.5 * terms(wls(part, best), restricted=restricted)[3]
    return Maximum(tau2, converged, tau2 <= lowest, found.iterations, expected, rival)


def turning_points(batch: Batch, *, restricted: bool, lowest: float = 0.0) -> tuple[Array, Array, Mask]:
    """Return where the likelihood of a batch of one turns, from left to right: tau2, its height, and whether a peak."""
    found = search(batch, restricted=restricted, lowest=lowest).arrays
    turns, _ = _turns(batch, found, np.zeros(1, dtype=int), lowest, restricted=restricted)
    order = np.argsort(turns.tau2)
    tau2 = turns.tau2[order]
    height = log_likelihood(wls(batch.only(np.zeros(len(tau2), dtype=int)), tau2), restricted=restricted)
    return tau2, height, turns.peak[order]


def only_peak(found: Found, lowest: float) -> Any:
    """Say where what a search found is proved to be the only peak; for one data set in numbers."""
    at_bound = found.tau2 <= lowest
    h, h1, r, r1 = _curves(found.inside)
    first = _curves(found.bound)
    d = (h - r) * at_bound
    rises = _above(found.tau2 - lowest, first[2] - first[0], -d, first[0], h, first[1], h1)
    return (at_bound | rises) & (d >= 0) & (h >= r * r1 * found.rss**0.5)


def _curves(found: Any) -> tuple[Any, Any, Any, Any]:
    """Return h, h', r and r' from the `terms`."""
    yPPy, yPPPy, first, second = found
    f = yPPy + SMALLEST
    if np.any(first <= 0):
        raise np.linalg.LinAlgError("the trace of P is lost to rounding")
    h, r = f**-0.5, first**-0.5
    return h, yPPPy * h / f, r, 0.5 * second * r / first


def _rises(a: _Ends, b: _Ends) -> Mask:
    """Say where the likelihood is proved to rise from a to b."""
    return _above(b.t - a.t, -a.d, -b.d, a.h, b.h, a.h1, b.h1)


def _falls(a: _Ends, b: _Ends) -> Mask:
    """Say where the likelihood is proved to fall from a to b."""
    return _above(b.t - a.t, a.d, b.d, a.r, b.r, a.r1, b.r1)


def _crossing(a: _Ends, b: _Ends) -> Mask:
    return np.sign(a.d) * np.sign(b.d) < 0


def _above(length: Any, da: Any, db: Any, qa: Any, qb: Any, slope_a: Any, slope_b: Any) -> Any:
    """Say where a concave function lies above another, q: by `da` and `db` at the ends."""
    ea, eb = qa + slope_a * length - qb, qb - slope_b * length - qa
    return (da >= 0) & (db >= 0) & (da * ea + db * eb - ea * eb >= -ROUNDING * qb * qb)


def _turns(batch: Batch, found: Found, rows: AnyArray, lowest: float, *, restricted: bool) -> tuple[Turns, Mask]:
    """Find every turn of the likelihood of the replicates of `batch`, the `rows` of those searched.

    Returns also whether every part of each replicate got its certificate.
    """
    smallest = (batch.v if batch.present is None else np.where(batch.present > 0, batch.v, np.inf)).min(axis=1)
    row, a, b = _parts(batch, found, rows, lowest, smallest, restricted=restricted)
    turned: list[tuple[AnyArray, Array, Mask]] = []
    n = np.arange(len(rows))
    falls = found.bound[0, rows] <= found.bound[2, rows]
    inside = found.tau2[rows] > lowest
    turned.append((n[falls], np.full(int(falls.sum()), lowest), falls[falls]))
    turned.append((n[inside], found.tau2[rows][inside], inside[inside]))
    for _ in range(MAX_ROUNDS):
        turns = _crossing(a, b)
        hides = (b.t - a.t) * 0.5 * (1.0 / a.h**2 - 1.0 / b.r**2) > GAIN
        open_ = np.flatnonzero(~_rises(a, b) & ~_falls(a, b) & (turns | hides))
        if not open_.size:
            break
        row, a, b, smallest_here = row[open_], a.where(open_), b.where(open_), smallest[row[open_]]
        t, root = _next(a, b, smallest_here)
        new = _evaluate(batch, row, t, restricted=restricted, root=root)
        # A difference of exactly 0 is a root, too, whether or not a step was small.
        root = _crossing(a, b) & (new.d == 0)
        turned.append((row[root], t[root], a.d[root] < 0))
        row = np.concatenate([row, row])
        a, b = _joined(a, new), _joined(new, b)
    else:
        open_ = np.arange(len(row))
    settled = np.ones(len(rows), dtype=bool)
    settled[row[open_]] = False
    return Turns(*(np.concatenate(parts) for parts in zip(*turned, strict=True))), settled


def _parts(
    batch: Batch, found: Found, rows: AnyArray, lowest: float, smallest: Array, *, restricted: bool
) -> tuple[AnyArray, _Ends, _Ends]:
    """Cut [lowest, above the last root] at what was found, and where points cost little at more; (row, ends)."""
    B, k = batch.y.shape
    largest = (batch.v if batch.present is None else batch.v * batch.present).max(axis=1)
    spread = found.rss[rows] / (batch.df if restricted else batch.k)
    reach = 0.5 * (spread + np.sqrt(spread * (spread + 4.0 * (largest - smallest))))
    tau2 = found.tau2[rows]
    least = smallest + lowest
    reach = np.maximum(np.maximum(reach, least), tau2 + smallest)
    m = int(np.clip(AT_ONCE // (B * k), 1, MOST_PIECES))
    shares = np.arange(m + 1.0) / m
    grid = least[:, None] * (reach / least)[:, None] ** shares - smallest[:, None]
    grid[:, 0] = lowest
    t = np.sort(np.column_stack([grid, tau2]), axis=1)
    row = np.repeat(np.arange(B), m + 2)
    root = (t == tau2[:, None]) & (tau2 > lowest)[:, None]
    ends = _evaluate(batch, row, t.ravel(), restricted=restricted, root=root.ravel())
    left = np.arange(len(row)).reshape(B, m + 2)[:, :-1].ravel()
    left = left[ends.t[left + 1] > ends.t[left]]
    return row[left], ends.where(left), ends.where(left + 1)


def _next(a: _Ends, b: _Ends, smallest: Array) -> tuple[Array, Mask]:
    """Return a point inside each part, and whether it is a root of the score.

    In the middle of the logarithms of v + tau2; between ends of different sign Newton's step for log(h / r), from
    the end that is nearer to a root.
    """
    left, right = a.t + smallest, b.t + smallest
    middle = np.sqrt(left * right)
    near_a = np.abs(np.log(a.h / a.r)) < np.abs(np.log(b.h / b.r))
    x, h, r = np.where(near_a, left, right), np.where(near_a, a.h, b.h), np.where(near_a, a.r, b.r)
    slope = np.where(near_a, a.h1 / a.h - a.r1 / a.r, b.h1 / b.h - b.r1 / b.r) * x
    width = np.log(right / left)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = -np.log(h / r) / slope
    crossing, near = _crossing(a, b), np.abs(step) <= ROOT
    # A step that nearly reaches the other end may just have made it: the middle brings more.
    good = near | ((np.abs(step) < FARTHEST * width) & ((step > 0) == near_a))
    t = np.where(crossing & good, x * np.exp(np.where(good, step, 0.0)), middle) - smallest
    return np.clip(t, a.t, b.t), crossing & (near | (width <= NARROW))


def _evaluate(batch: Batch, row: AnyArray, t: Array, *, restricted: bool, root: Mask) -> _Ends:
    h, h1, r, r1 = _curves(terms(wls(batch.only(row), t), restricted=restricted))
    return _Ends(t, np.where(root, 0.0, h - r), h, h1, r, r1)


def _joined(a: _Ends, b: _Ends) -> _Ends:
    return _Ends(*(np.concatenate(parts) for parts in zip(a, b, strict=True)))


def _highest(batch: Batch, turns: Turns, *, restricted: bool) -> tuple[Array, Array]:
    """Return the highest and the second highest peak of each replicate, NaN where there is no second."""
    row, tau2 = turns.row[turns.peak], turns.tau2[turns.peak]
    height = log_likelihood(wls(batch.only(row), tau2), restricted=restricted)
    order = np.lexsort((-height, row))
    row, tau2 = row[order], tau2[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    second = np.full(len(first), np.nan)
    several = np.flatnonzero(np.append(first[1:], len(row)) - first > 1)
    second[several] = tau2[first[several] + 1]
    return tau2[first], second
