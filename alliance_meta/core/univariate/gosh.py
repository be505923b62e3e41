"""The results of all subsets of a few effects, or of many drawn at random, put into histograms as they come.

What is kept does not grow with the number of subsets. Presence of an effect in a subset is independent of that of the
others, so that the share of the variance between subsets that one effect makes by being in or out is its first-order
Sobol' index; all shares together come to at most 1, and what is left is made by effects in concert.

The mean effect and heterogeneity of very many subsets of the same effects, for a model without moderators.

Everything needed is a sum over the rows of a subset, so that a product of a few columns with the subsets' 0/1 columns
gives it for all of them. Olkin, Dahabreh & Trikalinos (2012, doi:10.1002/jrsm.1053) look at the results of all subsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core import resampling
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


# Numbers in one array of a block, and its fewest subsets; changing them changes which subsets a seed gives.
CELLS, FEWEST = 1 << 18, 256
MEANS, SHARES = 240, 50
# The histogram reaches so many standard deviations of the mean between subsets to each side.
REACH = 8.0
MOST_KEPT, MOST_MARKS = 10_000, 2_000_000
# At most so many effects are said to split the subsets, and at most one of so many.
MOST_SPLITS, ONE_OF = 3, 4


@dataclass(frozen=True, slots=True, eq=False)
class Gosh:
    """The results of N subsets of k effects."""

    edges: Array  # (MEANS + 1,): of the histograms of the mean; what lies beyond is counted in the bins at the ends
    counts: AnyArray  # (MEANS, SHARES): subsets by their mean and their I2, in steps of 2 percent
    members: AnyArray  # (k, MEANS): subsets with each effect, by their mean
    # (k + 1, 5): number of subsets with each effect, and of all in the last row; sums over them of the mean, its
    # square, I2 and its square, the mean measured from `centre`.
    sums: Array
    centre: float
    kept: SubsetFits  # a sample of the subsets, with their means as they are
    marks: Mask  # (m, k): which effects are in which subset of the sample


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """How the subsets with each effect differ from those without, for a quantity; every array is (k,)."""

    # inside, outside: average over the subsets with and without the effect.
    inside: Array
    outside: Array
    # Share of the variance between all subsets that the effect's presence makes; NaN where they do not vary.
    share: Array


def gosh(y: Array, v: Array, *, method: str, subsets: int | None, seed: int, cores: int = 1) -> Gosh:
    """Fit all subsets, or `subsets` of them that are drawn at random, each as likely as any other."""
    k = len(y)
    B = subsets or 2**k - 1
    w = 1.0 / v
    centre = float(w @ y / w.sum())
    edges = _edges(y, v, centre)
    # Regular steps through all subsets would meet the first effects always in the same state.
    m = min(B, MOST_KEPT, max(FEWEST, MOST_MARKS // k))
    kept = np.arange(m) if subsets else np.sort(np.random.default_rng(0).choice(B, m, replace=False))

    def task(number: int, start: int, stop: int) -> tuple[AnyArray, AnyArray, Array, SubsetFits, Mask]:
        present = draw(resampling.stream(seed, number), stop - start, k) if subsets else numbered(start, stop, k)
        fits = fit_subsets(y - centre, v, present, method=method)
        own = kept[(kept >= start) & (kept < stop)] - start
        some = SubsetFits(*(getattr(fits, name)[own] for name in SubsetFits.__slots__))
        return *_histograms(fits, present, edges - centre), some, present[:, own].T > 0

    counts, members = np.zeros((MEANS, SHARES), dtype=np.int64), np.zeros((k, MEANS), dtype=np.int64)
    sums, parts, marks = np.zeros((k + 1, 5)), list[SubsetFits](), list[Mask]()
    for one, two, three, some, which in resampling.blocks_of(task, B=B, size=max(FEWEST, CELLS // k), cores=cores):
        counts += one
        members += two
        sums += three
        parts.append(some)
        marks.append(which)
    sample = {name: np.concatenate([getattr(one, name) for one in parts]) for name in SubsetFits.__slots__}
    sample["mu"] += centre
    return Gosh(edges, counts, members, sums, centre, SubsetFits(**sample), np.concatenate(marks))


def numbered(start: int, stop: int, k: int) -> Array:
    """Return subsets number `start` to `stop` of the 2^k - 1 that hold something, (k, B) of 0.0 and 1.0."""
    codes = np.arange(start + 1, stop + 1, dtype="<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(codes.T, axis=0, count=k, bitorder="little").astype(float)


def draw(rng: np.random.Generator, B: int, k: int) -> Array:
    """Return subsets that hold something, each as likely as any other, (k, B) of 0.0 and 1.0."""
    found = np.empty((k, B), dtype=np.uint8)
    empty = np.arange(B)
    while empty.size:
        found[:, empty] = np.unpackbits(rng.integers(0, 256, (-(-k // 8), empty.size), dtype=np.uint8), axis=0, count=k)
        empty = empty[~found[:, empty].any(axis=0)]
    return found.astype(float)


def presence(found: Gosh, quantity: int) -> Presence:
    """Compare the subsets with and without each effect: quantity 0 is the mean, 1 is I2."""
    n, total, square = found.sums[:, 0], found.sums[:, 1 + 2 * quantity], found.sums[:, 2 + 2 * quantity]
    N, mean = n[-1], total[-1] / n[-1]
    variance = max(float(square[-1] / N - mean * mean), 0.0)
    inside, outside = total[:-1] / n[:-1], (total[-1] - total[:-1]) / (N - n[:-1])
    p = n[:-1] / N
    made = p * (1.0 - p) * (inside - outside) ** 2
    # What rounding leaves of a variance is none.
    varies = variance > 1e-14 * max(float(square[-1] / N), 1e-300)
    share = made / variance if varies else np.full(len(made), np.nan)
    shift = 0.0 if quantity else found.centre
    return Presence(inside + shift, outside + shift, share)


def overlap(found: Gosh) -> Array:
    """Return how far the distributions of the mean with and without each effect cover each other, 0 to 1, (k,)."""
    whole = found.counts.sum(axis=1)
    inside, outside = found.members, whole - found.members
    return np.asarray(
        np.minimum(inside / inside.sum(axis=1, keepdims=True), outside / outside.sum(axis=1, keepdims=True)).sum(axis=1)
    )


def splitting(share: Array) -> Mask:
    """Say which effects split the subsets into clusters, by their shares of the variance between subsets.

    Two equal normal distributions, of subsets with and without an effect, have two peaks if their means lie more than
    two standard deviations apart: if the effect makes half of the variance, or more than all others together. The
    same for two or three effects, each against the variance that none of them makes.
    """
    order = np.argsort(-np.nan_to_num(share), kind="stable")[: min(MOST_SPLITS, len(share) // ONE_OF)]
    largest = np.nan_to_num(share)[order]
    enough = np.flatnonzero(largest > 1.0 - np.cumsum(largest))
    found = np.zeros(len(share), dtype=bool)
    if enough.size:
        found[order[: enough[0] + 1]] = True
    return found


def _edges(y: Array, v: Array, centre: float) -> Array:
    """Return the edges of the histogram of means: by how much they vary between subsets, at most from end to end."""
    spread = max(float(np.sqrt(((w * (y - centre)) ** 2).sum()) / w.sum()) for w in (1.0 / v, np.ones_like(v)))
    lo, hi = max(float(y.min()), centre - REACH * spread), min(float(y.max()), centre + REACH * spread)
    if hi - lo <= 1e-12 * max(abs(lo), abs(hi)):
        half = 0.5 * float(np.sqrt(v.min()))
        lo, hi = lo - half, hi + half
    return np.linspace(lo, hi, MEANS + 1)


def _histograms(fits: SubsetFits, present: Array, edges: Array) -> tuple[AnyArray, AnyArray, Array]:
    """Return counts by mean and I2, by effect and mean, and the sums of `Gosh`."""
    at = np.clip(((fits.mu - edges[0]) * (MEANS / (edges[-1] - edges[0]))).astype(int), 0, MEANS - 1)
    share = np.clip((fits.I2 * (SHARES / 100.0)).astype(int), 0, SHARES - 1)
    counts = np.bincount(at * SHARES + share, minlength=MEANS * SHARES).reshape(MEANS, SHARES)
    members = np.rint([np.bincount(at, one, MEANS) for one in present]).astype(np.int64)
    values = np.column_stack([np.ones(len(at)), fits.mu, fits.mu**2, fits.I2, fits.I2**2])
    return counts, members, np.vstack([present @ values, values.sum(axis=0)])
