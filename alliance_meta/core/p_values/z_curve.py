"""z-curve 2.0: how powerful published tests were, from the sizes of the significant z values.

Bartos & Schimmack (2022, doi:10.15626/MP.2021.2720). Significant |z| up to 6 come from a mixture of seven normal
distributions with means 0, 1, ..., 6 and variance 1, folded at 0 and cut off at the critical value and at 6; a larger
|z| stands for a power of 1. What is estimated are the seven weights. Their likelihood is concave, and so the highest
point is found by interior steps of Newton's instead of the thousands of steps of the EM algorithm; all replicates of a
bootstrap are solved at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse, special

from alliance_meta._typing import Array
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.resampling import Refits, draw_counts, in_blocks, stream
from alliance_meta.core.robust.clusters import IntArray

MEANS = np.arange(7.0)
HIGHEST = 6.0
LEAST = 10
STEPS = 60
GAP = 1e-13
# The bootstrap takes more z values than MANY as equal where they round to the same FINE-th.
MANY, FINE = 2000, 500.0
# What the limits are widened by, found in simulations by the authors.
WIDER = {"err": 0.03, "edr": 0.05}


def densities(z: Array, critical: float) -> Array:
    """Return the density of each component at each |z|, (k, 7)."""
    away, back = (np.exp(-0.5 * (sign * z[:, None] - MEANS) ** 2) for sign in (1.0, -1.0))
    mass = special.ndtr(HIGHEST - MEANS) - special.ndtr(critical - MEANS)
    mass += special.ndtr(-critical - MEANS) - special.ndtr(-HIGHEST - MEANS)
    return (away + back) / (np.sqrt(2.0 * np.pi) * mass)


def mixture_weights(D: Array, counts: Array) -> Array:
    """Return the weights (B, 7) of the highest likelihood for densities (k, 7), row i counted counts[b, i] times.

    Primal-dual interior steps: the weights t and the slacks s of the slopes meet t s = 0 along a path on which each
    step solves seven equations.
    """
    share = counts / counts.sum(axis=1, keepdims=True)
    m = D.shape[1]
    upper, diagonal = np.triu_indices(m), np.arange(m)
    products = D[:, upper[0]] * D[:, upper[1]]
    t, s = np.full((len(share), m), 1.0 / m), np.ones((len(share), m))
    for _ in range(STEPS if len(t) else 0):
        density = t @ D.T
        ratio = share / density
        slope = ratio @ D - 1.0
        gap = (t * s).mean(axis=1, keepdims=True)
        if max(float(gap.max()), float(np.abs(slope + s).max())) < GAP:
            break
        target = 0.1 * gap
        A = np.empty((len(share), m, m))
        A[:, upper[0], upper[1]] = A[:, upper[1], upper[0]] = (ratio / density) @ products
        A[:, diagonal, diagonal] += s / t
        move = np.linalg.solve(A, (slope + target / t)[:, :, None])[:, :, 0]
        slack = target / t - s - s / t * move
        t, s = t + _longest(t, move) * move, s + _longest(s, slack) * slack
    return t / t.sum(axis=1, keepdims=True)


def _longest(x: Array, move: Array) -> Array:
    """Return the share of a step that stays inside x > 0, (B, 1)."""
    return 1.0 / np.maximum(1.0, (-move / x).max(axis=1, keepdims=True) / 0.995)


def rates(weights: Array, beyond: Array, critical: float) -> dict[str, Array]:
    """Return the expected replication and discovery rate, (B,), of weights (B, 7) and the share beyond 6 (B,)."""
    right, left = special.ndtr(MEANS - critical), special.ndtr(-MEANS - critical)
    power, same_side = np.append(right + left, 1.0), np.append(right, 1.0)
    share = np.concatenate([weights * (1.0 - beyond[:, None]), beyond[:, None]], axis=1)
    # Of all studies conducted, significant or not, the share of each component.
    conducted = share / power
    return {"err": share @ same_side, "edr": 1.0 / conducted.sum(axis=1)}


@dataclass(frozen=True, slots=True, eq=False)
class ZCurve:
    """What z-curve finds."""

    weights: Array  # (7,): of the components, among significant results up to 6
    beyond: float  # share of significant results beyond 6
    loglik: float  # log-likelihood of the z values up to 6, each study counting once
    # err, edr, odr: expected replication rate, expected and observed discovery rate.
    err: float
    edr: float
    odr: float
    limits: dict[str, tuple[float, float]]  # lower and upper limit of each; NaN where no replicate was used
    used: int  # replicates of the bootstrap that had a significant result up to 6


def z_curve(z: Array, study: IntArray, *, critical: float, level: float, iterations: int, seed: int) -> ZCurve:
    """Return the rates of |z| (k,); each study, (k,) and numbered from 0, counts once, and studies are resampled."""
    count = 1.0 / np.bincount(study)[study]
    fitted, beyond = (z > critical) & (z < HIGHEST), z >= HIGHEST
    D = densities(z[fitted], critical)
    weights = mixture_weights(D, count[None, fitted])
    total = float(count[fitted | beyond].sum())
    share = np.array([float(count[beyond].sum()) / total])
    found = rates(weights, share, critical)
    loglik = float(count[fitted] @ np.log(D @ weights[0]))
    J = int(study.max()) + 1
    odr = total / J
    limits = {"odr": wilson(odr, J, level=level)}
    drawn = _bootstrap(z, study, count, critical, iterations, seed)
    for name, values in drawn.items():
        ends = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
        low, high = np.quantile(values, ends) if len(values) else (np.nan, np.nan)
        least = float(2.0 * special.ndtr(-critical)) * (1.0 if name == "edr" else 0.5)
        limits[name] = max(float(low) - WIDER[name], least), min(float(high) + WIDER[name], 1.0)
    err, edr = (float(found[name][0]) for name in ("err", "edr"))
    return ZCurve(weights[0], float(share[0]), loglik, err, edr, odr, limits, len(drawn["err"]))


def _bootstrap(z: Array, study: IntArray, count: Array, critical: float, iterations: int, seed: int) -> Refits:
    """Return the rates of samples of studies."""
    chosen = z > critical
    values = z[chosen] if chosen.sum() <= MANY else np.round(z[chosen] * FINE) / FINE
    # A rounded value may not leave the interval that it is fitted on.
    inside = np.clip(values, critical, None)
    point, group = np.unique(np.where(z[chosen] < HIGHEST, np.minimum(inside, HIGHEST), np.inf), return_inverse=True)
    J = int(study.max()) + 1
    table = sparse.csr_array((count[chosen], (group, study[chosen])), shape=(len(point), J))
    finite = np.isfinite(point)
    D = densities(point[finite], critical)

    def task(block: int, start: int, stop: int) -> Refits:
        """Fit one block of samples of the studies."""
        counts = (table @ draw_counts(stream(seed, block), stop - start, J).T).T
        fitted, beyond = counts[:, finite], counts[:, ~finite].sum(axis=1)
        inside = fitted.sum(axis=1)
        some = inside > 0
        weights = mixture_weights(D, fitted[some])
        return rates(weights, beyond[some] / (beyond + inside)[some], critical)

    return in_blocks(task, B=iterations, k=max(len(point), J // 8))


def wilson(share: float, n: int, *, level: float) -> tuple[float, float]:
    """Return Wilson's limits of a share of n with continuity correction (Newcombe 1998, method 4), within 0 and 1."""
    c = critical_value(level, None)
    middle, width = 2.0 * n * share + c * c, 2.0 * (n + c * c)
    low = middle - 1.0 - c * np.sqrt(max(c * c - 2.0 - 1.0 / n + 4.0 * share * (n * (1.0 - share) + 1.0), 0.0))
    high = middle + 1.0 + c * np.sqrt(max(c * c + 2.0 - 1.0 / n + 4.0 * share * (n * (1.0 - share) - 1.0), 0.0))
    return (0.0 if share == 0.0 else max(float(low / width), 0.0)), (
        1.0 if share == 1.0 else min(float(high / width), 1.0)
    )


def soric(edr: float, alpha: float) -> float:
    """Return the largest share of false positives among significant results (Soric 1989)."""
    return (1.0 / edr - 1.0) * alpha / (1.0 - alpha)
