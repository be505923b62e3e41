"""Agreement of raters: Cohen's kappa, weighted or not, and intraclass correlations."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from alliance_meta._typing import Array

Weights = Literal["none", "linear", "quadratic"]


class Agreement(NamedTuple):
    """An estimate with its standard error (NaN where the interval does not rest on one) and interval."""

    estimate: float
    se: float
    lb: float
    ub: float


def share(count: int, n: int, *, level: float) -> Agreement:
    """Return a share with Wilson's interval (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    p = count / n
    z = special.ndtri(0.5 + 0.5 * level)
    middle = (p + z**2 / (2.0 * n)) / (1.0 + z**2 / n)
    half = z / (1.0 + z**2 / n) * np.sqrt(p * (1.0 - p) / n + z**2 / (4.0 * n**2))
    return Agreement(
        p, float(np.sqrt(p * (1.0 - p) / n)), max(0.0, float(middle - half)), min(1.0, float(middle + half))
    )


def kappa(table: Array, *, weights: Weights = "none", level: float = 0.95) -> Agreement:
    """Return Cohen's kappa of a table of counts (first rater by second, (c, c)).

    With weights, near misses count in part: 1 - |i - j| / (c - 1), or its square's. The standard error is the
    large-sample one of Fleiss, Cohen & Everitt (1969, doi:10.1037/h0028106); full agreement has no interval by it.
    NaN where chance alone explains full agreement: both raters used one and the same category. Where one rater alone
    used a single category kappa is 0 by construction, without an interval.
    """
    p = np.asarray(table, dtype=float)
    n = p.sum()
    p = p / n
    w = _weights(len(p), weights)
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, expected = float((w * p).sum()), float(rows @ w @ columns)
    if 1.0 - expected < 1e-12:
        return Agreement(*4 * (np.nan,))
    if max(rows.max(), columns.max()) > 1.0 - 1e-12:
        # One rater used a single category: kappa is 0 whatever the other did, and has no error.
        return Agreement(0.0, np.nan, np.nan, np.nan)
    k = (observed - expected) / (1.0 - expected)
    if 1.0 - observed < 1e-12:
        return Agreement(1.0, 0.0, np.nan, np.nan)
    average = (w @ columns)[:, None] + (rows @ w)[None, :]
    spread = (p * (w - average * (1.0 - k)) ** 2).sum() - (k - expected * (1.0 - k)) ** 2
    se = float(np.sqrt(max(spread, 0.0) / n) / (1.0 - expected))
    z = float(special.ndtri(0.5 + 0.5 * level)) * se
    return Agreement(k, se, max(-1.0, k - z), min(1.0, k + z))


class MeanSquares(NamedTuple):
    """Analysis of variance of n targets by k raters: between targets, within, between raters, error."""

    n: int
    k: int
    between: float
    within: float
    raters: float
    error: float


def mean_squares(ratings: Array) -> MeanSquares:
    """Return the mean squares of complete ratings, (targets, raters)."""
    n, k = ratings.shape
    centred = ratings - ratings.mean()
    between = k * float((centred.mean(axis=1) ** 2).sum())
    raters = n * float((centred.mean(axis=0) ** 2).sum())
    within = float(((ratings - ratings.mean(axis=1, keepdims=True)) ** 2).sum())
    error = max(within - raters, 0.0)
    return MeanSquares(n, k, between / (n - 1), within / (n * (k - 1)), raters / (k - 1), error / ((n - 1) * (k - 1)))


def icc1(ms: MeanSquares, *, level: float = 0.95) -> Agreement:
    """Return ICC(1,1): each target rated by other raters (Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420)."""
    return _one_f(ms.between, ms.within, ms.k, (ms.n - 1, ms.n * (ms.k - 1)), level)


def icc3(ms: MeanSquares, *, level: float = 0.95) -> Agreement:
    """Return ICC(3,1): these raters only; one who is higher throughout still agrees (Shrout & Fleiss 1979)."""
    return _one_f(ms.between, ms.error, ms.k, (ms.n - 1, (ms.n - 1) * (ms.k - 1)), level)


def icc2(ms: MeanSquares, *, level: float = 0.95) -> Agreement:
    """Return ICC(2,1): raters are a sample, and a rater who is higher throughout disagrees (Shrout & Fleiss 1979)."""
    n, k, bms, jms, ems = ms.n, ms.k, ms.between, ms.raters, ms.error
    total = bms + (k - 1) * ems + k * (jms - ems) / n
    if not total > 0:
        return Agreement(*4 * (np.nan,))
    rho = (bms - ems) / total
    if not ems > 0:
        return Agreement(rho, *3 * (np.nan,))
    fj = jms / ems
    inner = n * (1 + (k - 1) * rho) - k * rho
    v = (k - 1) * (n - 1) * (k * rho * fj + inner) ** 2 / ((n - 1) * (k * rho * fj) ** 2 + inner**2)
    tail = 0.5 + 0.5 * level
    low, high = special.fdtri(n - 1, v, tail), special.fdtri(v, n - 1, tail)
    rest = k * jms + (k * n - k - n) * ems
    return Agreement(
        rho,
        np.nan,
        float(n * (bms - low * ems) / (low * rest + n * bms)),
        float(n * (high * bms - ems) / (rest + n * high * bms)),
    )


def _one_f(between: float, noise: float, k: int, df: tuple[int, int], level: float) -> Agreement:
    if not between + noise > 0:
        return Agreement(*4 * (np.nan,))
    estimate = (between - noise) / (between + (k - 1) * noise)
    if not noise > 0:
        return Agreement(1.0, *3 * (np.nan,))
    tail = 0.5 + 0.5 * level
    low = between / noise / special.fdtri(*df, tail)
    high = between / noise * special.fdtri(df[1], df[0], tail)
    return Agreement(estimate, np.nan, float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1)))


def _weights(c: int, kind: Weights) -> Array:
    if kind == "none" or c == 1:
        return np.eye(c)
    steps = np.abs(np.subtract.outer(np.arange(c), np.arange(c))) / (c - 1)
    return 1.0 - (steps if kind == "linear" else steps**2)
