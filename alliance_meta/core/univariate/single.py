"""The searches for tau2 of one data set.

A search takes five to ten steps, and with few studies each costs what NumPy takes to be called. So the steps
work on vectors and floats instead of a batch of one, and the vectors' room is taken once, not at each step.
"""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.univariate.moments import hedges
from alliance_meta.core.univariate.wls import LOST, Batch, exact_traces, grams_of

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
