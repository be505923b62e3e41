"""The mean effect and heterogeneity of very many subsets of the same effects, for a model without moderators.

Everything needed is a sum over the rows of a subset, so that a product of a few columns with the subsets' 0/1 columns
gives it for all of them. Olkin, Dahabreh & Trikalinos (2012, doi:10.1002/jrsm.1053) look at the results of all subsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.univariate.fit import estimate_tau2
from alliance_meta.core.univariate.search import Found, climb_scores, score_of, settle
from alliance_meta.core.univariate.wls import LOST, Batch, make_batch, wls


@dataclass(frozen=True, slots=True, eq=False)
class SubsetFits:
    """Results of B subsets; every array is (B,)."""

    # mu, tau2, I2, QE: I2 in percent. A subset of one effect has that as its mean, and 0 for the others.
    mu: Array
    tau2: Array
    I2: Array
    QE: Array
    k: Array  # effects in the subset


class Weighing:
    """Sums over subsets with weights 1 / (v + t), in arrays that are used again: new ones would take longer to get."""

    def __init__(self, y: Array, v: Array, present: Array) -> None:
        self.present, self.v = present, v[:, None]
        self.both = np.stack([np.ones_like(y), y, y * y])
        self.room = np.empty((3, present.size))

    def weights(self, rows: AnyArray, t: Array) -> Array:
        """Return the weights of the subsets `rows` at the tau2 of each, (k, m)."""
        shape = (len(self.v), len(rows))
        w, some = (room[: shape[0] * shape[1]].reshape(shape) for room in self.room[:2])
        np.add(self.v, t, out=w)
        chosen = self.present
        if shape[1] < chosen.shape[1]:
            chosen = np.take(chosen, rows, axis=1, out=some, mode="clip")
        return np.divide(chosen, w, out=w)

    def means(self, rows: AnyArray, t: Array) -> Array:
        """Return the weighted means, (m,)."""
        total, first = self.both[:2] @ self.weights(rows, t)
        return np.asarray(first / total)

    def terms(self, rows: AnyArray, t: Array) -> Array:
        """Return the `terms` of the restricted score, (4, m)."""
        w = self.weights(rows, t)
        power = np.multiply(w, w, out=self.room[2][: w.size].reshape(w.shape))
        one, two = self.both[:2] @ w, self.both @ power
        return _terms(one, two, self.both @ np.multiply(power, w, out=power))


def fit_subsets(y: Array, v: Array, present: Array, *, method: str) -> SubsetFits:
    """Fit each subset, a column of `present` (k, B) of 0.0 and 1.0, by ``"REML"``, ``"DL"`` or ``"EE"``.

    The effects y (k,) are best centred at about their mean. I2 is by tau2 and the typical sampling variance, and by Q
    under equal effects, as metafor has it.
    """
    w = 1.0 / v
    k, s1, s2, sy, syy = np.stack([np.ones_like(w), w, w * w, w * y, w * y * y]) @ present
    several = k > 1.0
    df, Q = k - 1.0, np.where(several, np.maximum(syy - sy * sy / s1, 0.0), 0.0)
    if method == "EE":
        share = np.maximum(Q - df, 0.0) / np.where(Q > 0.0, Q, 1.0)
        return SubsetFits(sy / s1, np.zeros_like(k), 100.0 * share, Q, k)
    trP = np.where(several, s1 - s2 / s1, 1.0)
    lost = np.flatnonzero(several & (trP < LOST * s1))
    if lost.size:
        trP[lost] = wls(_batch(y, v, present[:, lost]), np.zeros(lost.size)).traces[0]
    tau2 = np.where(several, np.maximum((Q - df) / trP, 0.0), 0.0)
    if method == "REML":
        rows = np.flatnonzero(several)
        tau2[rows] = _reml(y, v, present if rows.size == k.size else present[:, rows], tau2[rows])
    mu = Weighing(y, v, present).means(np.arange(k.size), tau2) if tau2.any() else sy / s1
    typical = np.where(several, df, 1.0) / trP
    return SubsetFits(mu, tau2, 100.0 * tau2 / (tau2 + typical), Q, k)


def _reml(y: Array, v: Array, present: Array, start: Array) -> Array:
    """Return the tau2 (B,) of the highest restricted likelihood of subsets of several effects."""
    w, both, B = 1.0 / v, np.stack([np.ones_like(y), y, y * y]), present.shape[1]
    sums = np.concatenate([both[:2] * w, both * w**2, both * w**3]) @ present
    bound = _terms(sums[:2], sums[2:5], sums[5:])
    # One effect that outweighs all others costs sums of powers their digits.
    lost = bound[3] < LOST * sums[2]
    if lost.any():
        tau2 = np.empty(B)
        tau2[lost] = estimate_tau2(_batch(y, v, present[:, lost]), method="REML").tau2
        if not lost.all():
            tau2[~lost] = _reml(y, v, present[:, ~lost], start[~lost])
        return tau2
    # Most subsets that begin at the bound stay there, and their terms are known already.
    todo = np.flatnonzero((start > 0.0) | (bound[0] > bound[2]))
    count, total, squares = both @ present
    weighing, tau2, steps = Weighing(y, v, present), np.zeros(B), np.zeros(B, dtype=int)
    converged, inside = np.ones(B, dtype=bool), bound.copy()
    tau2[todo], converged[todo], steps[todo] = climb_scores(
        lambda active, t: score_of(weighing.terms(todo[active], t)), start[todo], (count / sums[0])[todo], lowest=0.0
    )
    risen = np.flatnonzero(tau2 > 0.0)
    inside[:, risen] = weighing.terms(risen, tau2[risen])
    spread = np.maximum(squares - total**2 / count, 0.0)
    found = Found(tau2, converged, steps, inside, bound, spread)
    return settle(_batch(y, v, present), found, restricted=True).tau2


def _terms(one: Array, two: Array, three: Array) -> Array:
    """Return the `terms` of the score from the sums of w, w^2 and w^3, each times 1, y and, but for w, y^2."""
    (s1, a1), (s2, b1, b2), (s3, c1, c2) = one, two, three
    m, ratio = a1 / s1, s2 / s1
    yPPy = np.maximum(b2 - m * (2.0 * b1 - m * s2), 0.0)
    yPPPy = np.maximum(c2 - m * (2.0 * c1 - m * s3) - (b1 - m * s2) ** 2 / s1, 0.0)
    return np.stack([yPPy, yPPPy, s1 - ratio, s2 - 2.0 * s3 / s1 + ratio * ratio])


def _batch(y: Array, v: Array, present: Array) -> Batch:
    shape = present.shape[::-1]
    return make_batch(np.broadcast_to(y, shape), np.broadcast_to(v, shape), np.ones((len(y), 1)), present.T)
