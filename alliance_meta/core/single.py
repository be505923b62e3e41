"""The searches for tau2 of one data set.

A search takes five to ten steps, and with few studies each costs what NumPy takes to be called. So the steps
work on vectors and floats instead of a batch of one, and the vectors' room is taken once, not at each step.
"""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.compiled import MAX_ITERATIONS, Scores, likelihood_step, q_step
from alliance_meta.core.moments import hedges
from alliance_meta.core.wls import Batch


class Mean:
    """The score and Q of a model of a mean, at any tau2."""

    def __init__(self, batch: Batch) -> None:
        self.y, self.v = batch.y[0], batch.v[0]
        if batch.present is not None:
            rows = batch.present[0] > 0
            self.y, self.v = self.y[rows], self.v[rows]
        self.w, self.r, self.u = np.empty((3, len(self.y)))
        self.ones = np.ones(len(self.y))

    def start(self) -> float:
        """Return Hedges' estimate."""
        k = len(self.y)
        np.subtract(self.y, self.y.dot(self.ones) / k, out=self.r)
        return float(self.r.dot(self.r)) / (k - 1) - float(self.v.dot(self.ones)) / k

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

    def scores(self, tau2: float, *, restricted: bool) -> Scores:
        """Return the score, the expected and the observed information."""
        s1 = self.weigh(tau2)
        w, u, room = self.w, self.u, self.r
        first, second = s1, float(w.dot(w))
        if restricted:
            np.multiply(w, w, out=room)
            ratio = second / s1
            first, second = s1 - ratio, second - 2.0 * float(room.dot(w)) / s1 + ratio * ratio
        np.multiply(w, u, out=room)
        yPPPy = float(room.dot(u)) - float(room.dot(self.ones)) ** 2 / s1
        return 0.5 * (float(u.dot(u)) - first), 0.5 * second, yPPPy - 0.5 * second


class Regression:
    """The same with moderators."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.y, self.v, self.Q, self.QQ, self.unpack = batch.y[0], batch.v[0], batch.Q, batch.QQ, batch.unpack
        if batch.present is not None:
            rows = batch.present[0] > 0
            self.y, self.v, self.Q, self.QQ = self.y[rows], self.v[rows], self.Q[rows], self.QQ[rows]
        self.powers = np.empty((3, len(self.y)))
        self.r, self.u = np.empty((2, len(self.y)))

    def start(self) -> float:
        """Return Hedges' estimate."""
        return float(hedges(self.batch).raw[0])

    def weigh(self, tau2: float, *, powers: int) -> Array:
        """Fill the powers of the weights, residuals r and u = Py; return Q'W^nQ for each power n.

        The first of them is inverted.
        """
        w, r, u = self.powers[0], self.r, self.u
        np.add(self.v, tau2, out=w)
        np.divide(1.0, w, out=w)
        for n in range(1, powers):
            np.multiply(self.powers[n - 1], w, out=self.powers[n])
        grams = (self.powers[:powers] @ self.QQ)[:, self.unpack]
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

    def scores(self, tau2: float, *, restricted: bool) -> Scores:
        """Return the score, the expected and the observed information."""
        grams = self.weigh(tau2, powers=3 if restricted else 1)
        w, u, room = self.powers[0], self.u, self.r
        first, second = float(w.sum()), float(w.dot(w))
        if restricted:
            half = grams[0] @ grams[1]
            first -= float(half.trace())
            second += float(np.vdot(half, half.T)) - 2.0 * float(np.vdot(grams[0], grams[2]))
        np.multiply(w, u, out=room)
        q = room @ self.Q
        yPPPy = float(room.dot(u)) - float(q @ grams[0] @ q)
        return 0.5 * (float(u.dot(u)) - first), 0.5 * second, yPPPy - 0.5 * second


def maximise_one(
    batch: Batch, *, restricted: bool, lowest: float, unit: float
) -> tuple[float, bool, int, tuple[float, float], float]:
    """Search a batch of one for the root of its score; what is returned as in `compiled.maximise_rows`."""
    model = Mean(batch) if batch.constant else Regression(batch)
    t = max(model.start(), lowest)
    below, above, done, iterations = -np.inf, np.inf, False, 0
    while not done and iterations < MAX_ITERATIONS:
        scores = model.scores(t, restricted=restricted)
        t, below, above, done = likelihood_step(t, scores, below, above, lowest, unit)
        iterations += 1
    inside = model.scores(t, restricted=restricted)[1]
    falls, bound, _ = model.scores(lowest, restricted=restricted)
    return t, done, iterations, (inside, bound), falls


def solve_one(batch: Batch, *, target: float, lowest: float, unit: float) -> tuple[float, bool, int]:
    """Search a batch of one for the tau2 at which Q is `target`; as `compiled.solve_rows`."""
    model = Mean(batch) if batch.constant else Regression(batch)
    t, lower, upper, done, iterations = lowest, lowest, np.inf, False, 0
    while not done and iterations < MAX_ITERATIONS:
        rss, slope = model.q(t)
        t, lower, upper, done = q_step(t, rss, slope, target, lower, upper, lowest, unit)
        iterations += 1
    return t, done, iterations
