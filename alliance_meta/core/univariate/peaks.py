r"""The highest point of the (restricted) likelihood over tau2, proved to be the highest.

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

from typing import Any, NamedTuple

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.univariate.searches import Found, log_likelihood, pieces, search, terms
from alliance_meta.core.univariate.wls import Batch, wls

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
    """Where the likelihood of each replicate is highest; every array is (B,).

    Attributes
    ----------
    tau2 : ndarray
    converged, at_bound : ndarray of bool
    iterations : ndarray of int
    expected : ndarray
        Expected information of tau2.
    rival : ndarray
        The second highest peak, which may be the lowest tau2 allowed; NaN where there is one peak.
    """

    tau2: Array
    converged: Mask
    at_bound: Mask
    iterations: AnyArray
    expected: Array
    rival: Array


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
    found = search(batch, restricted=restricted, lowest=lowest)
    doubtful = np.flatnonzero(~np.atleast_1d(only_peak(found, lowest)))
    found = found.arrays
    tau2, converged, expected = found.tau2, found.converged, 0.5 * found.inside[3]
    rival = np.full(len(tau2), np.nan)
    for piece in pieces(len(doubtful), batch.y.shape[1]):
        rows = doubtful[piece]
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
