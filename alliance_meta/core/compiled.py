"""The searches for tau2 as loops over numbers, for numba to compile where a batch pays for it.

The same steps as in `alliance_meta.core.searches`, whose results they repeat to rounding. Everything that is
compiled stands in this file: numba keeps machine code on disk until the file of a function changes, not until
a function that it calls does. Without numba, or without a place for its files, `load` returns None.

An absent row has the variance infinity: its weight is then 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from alliance_meta._typing import AnyArray, Array, Mask

MAX_ITERATIONS = 200
# Relative to tau2 plus the typical sampling variance. A Newton step of 1e-8 leaves an error of its square;
# any other step has to become rounding noise before it may stop.
NEWTON_STOP = 1e-8
STOP = 1e-14
# Observed over expected information below which Newton's step is not trusted.
FLATTEST = 0.02
NO_ROOT = -np.inf

Scores = tuple[float, float, float]


def likelihood_step(
    t: float, scores: Scores, below: float, above: float, lowest: float, unit: float
) -> tuple[float, float, float, bool]:
    """Return the next tau2 of a search for a root of the score, its bracket, and whether the search is over.

    `scores` is the score with the expected and the observed information at `t`.
    """
    score, expected, observed = scores
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


def q_step(
    t: float, rss: float, slope: float, target: float, lower: float, upper: float, lowest: float, unit: float
) -> tuple[float, float, float, bool]:
    """Return the next tau2 of a search for the root of Q = target, its bracket, and whether it is over.

    `slope` is minus the derivative of Q at `t`, where Q is `rss`.
    """
    gap = rss - target
    if gap < 0 and t <= lowest:
        return NO_ROOT, lower, upper, True
    if gap >= 0:
        lower = t
    if gap <= 0:
        upper = t
    newton = gap / slope if slope > 0 else 0.0
    new = t + newton * rss / target
    if not lower < new < upper:
        new = max(t + newton, lower)
    return new, lower, upper, abs(new - t) <= NEWTON_STOP * (abs(t) + unit)


def mean_scores(y: Array, v: Array, t: float, restricted: bool, w: Array) -> Scores:
    """Return score, expected and observed information of tau2 in a model of a mean; `w` (k,) is room."""
    s1 = s2 = s3 = sy = 0.0
    for i in range(len(y)):
        a = 1.0 / (v[i] + t)
        w[i] = a
        s1 += a
        s2 += a * a
        s3 += a * a * a
        sy += a * y[i]
    mean = sy / s1
    yPPy = wu = wuu = 0.0
    for i in range(len(y)):
        u = w[i] * (y[i] - mean)
        yPPy += u * u
        wu += w[i] * u
        wuu += w[i] * u * u
    first, second = s1, s2
    if restricted:
        ratio = s2 / s1
        first, second = s1 - ratio, s2 - 2.0 * s3 / s1 + ratio * ratio
    return 0.5 * (yPPy - first), 0.5 * second, wuu - wu * wu / s1 - 0.5 * second


def mean_q(y: Array, v: Array, t: float, w: Array) -> tuple[float, float]:
    """Return Q and minus its derivative in a model of a mean."""
    s1 = sy = 0.0
    for i in range(len(y)):
        a = 1.0 / (v[i] + t)
        w[i] = a
        s1 += a
        sy += a * y[i]
    mean = sy / s1
    rss = yPPy = 0.0
    for i in range(len(y)):
        r = y[i] - mean
        u = w[i] * r
        rss += u * r
        yPPy += u * u
    return rss, yPPy


def invert(A: Array) -> None:
    """Turn a positive definite matrix into its inverse, by Gauss-Jordan steps that need no pivots."""
    p = len(A)
    for j in range(p):
        pivot = A[j, j]
        A[j, j] = 1.0
        for m in range(p):
            A[j, m] /= pivot
        for i in range(p):
            if i != j:
                factor = A[i, j]
                A[i, j] = 0.0
                for m in range(p):
                    A[i, m] -= factor * A[j, m]


def project(y: Array, w: Array, QT: Array, u: Array) -> Array:
    """Fill the weighted residuals u = Py of a regression with the weights `w`, and return (Q'WQ)^-1."""
    p, k = QT.shape
    A, b = np.empty((p, p)), np.zeros(p)
    for j in range(p):
        for m in range(j + 1):
            total = 0.0
            for i in range(k):
                total += w[i] * QT[j, i] * QT[m, i]
            A[j, m] = A[m, j] = total
        for i in range(k):
            b[j] += w[i] * y[i] * QT[j, i]
    invert(A)
    for i in range(k):
        u[i] = y[i]
    for j in range(p):
        gamma = 0.0
        for m in range(p):
            gamma += A[j, m] * b[m]
        for i in range(k):
            u[i] -= gamma * QT[j, i]
    for i in range(k):
        u[i] *= w[i]
    return A


def weigh(y: Array, v: Array, QT: Array, t: float, w: Array, u: Array) -> Array:
    """Fill the weights 1 / (v + t) of a regression and project."""
    for i in range(len(v)):
        w[i] = 1.0 / (v[i] + t)
    return project(y, w, QT, u)


def regression_scores(y: Array, v: Array, QT: Array, t: float, restricted: bool, w: Array, u: Array) -> Scores:
    """Return score, expected and observed information of tau2 in a regression; `w`, `u` (k,) are room."""
    p, k = QT.shape
    Ainv = weigh(y, v, QT, t, w, u)
    first = second = yPPy = yPPPy = 0.0
    for i in range(k):
        first += w[i]
        second += w[i] * w[i]
        yPPy += u[i] * u[i]
        yPPPy += w[i] * u[i] * u[i]
    q, squares = np.zeros(p), np.empty((p, p))
    for j in range(p):
        for i in range(k):
            q[j] += w[i] * u[i] * QT[j, i]
    for j in range(p):
        for m in range(p):
            yPPPy -= q[j] * Ainv[j, m] * q[m]
    if restricted:
        for j in range(p):
            for m in range(j + 1):
                two = three = 0.0
                for i in range(k):
                    part = w[i] * w[i] * QT[j, i] * QT[m, i]
                    two += part
                    three += w[i] * part
                squares[j, m] = squares[m, j] = two
                share = Ainv[j, m] if j == m else 2.0 * Ainv[j, m]
                first -= share * two
                second -= 2.0 * share * three
        half = np.zeros((p, p))
        for j in range(p):
            for m in range(p):
                for n in range(p):
                    half[j, n] += Ainv[j, m] * squares[m, n]
        for j in range(p):
            for m in range(p):
                second += half[j, m] * half[m, j]
    return 0.5 * (yPPy - first), 0.5 * second, yPPPy - 0.5 * second


def hedges_start(y: Array, v: Array, QT: Array, w: Array, u: Array) -> tuple[float, float]:
    """Return Hedges' estimate of tau2, and the harmonic mean of the variances."""
    p, k = len(QT), len(y)
    n = inverse = plain = 0.0
    for i in range(k):
        w[i] = 1.0 if v[i] < np.inf else 0.0
        n += w[i]
        inverse += 1.0 / v[i]
        plain += v[i] if v[i] < np.inf else 0.0
    rss = 0.0
    if p == 0:
        mean = 0.0
        for i in range(k):
            mean += w[i] * y[i] / n
        for i in range(k):
            rss += w[i] * (y[i] - mean) ** 2
        return rss / (n - 1.0) - plain / n, n / inverse
    A = project(y, w, QT, u)
    for i in range(k):
        rss += u[i] * u[i]
        if v[i] < np.inf:
            for j in range(p):
                for m in range(p):
                    plain -= v[i] * A[j, m] * QT[j, i] * QT[m, i]
    return (rss - plain) / (n - p), n / inverse


def scores_of(y: Array, v: Array, QT: Array, t: float, restricted: bool, w: Array, u: Array) -> Scores:
    """Choose the form of the design; a model of a mean has no rows in `QT`."""
    if len(QT) == 0:
        return mean_scores(y, v, t, restricted, w)
    return regression_scores(y, v, QT, t, restricted, w, u)


def q_of(y: Array, v: Array, QT: Array, t: float, w: Array, u: Array) -> tuple[float, float]:
    """Return Q and minus its derivative, for either form of the design."""
    if len(QT) == 0:
        return mean_q(y, v, t, w)
    weigh(y, v, QT, t, w, u)
    rss = yPPy = 0.0
    for i in range(len(y)):
        if w[i] > 0:
            rss += u[i] * u[i] / w[i]
        yPPy += u[i] * u[i]
    return rss, yPPy


def maximise_rows(
    y: Array, v: Array, QT: Array, lowest: float, restricted: bool
) -> tuple[Array, Mask, AnyArray, Array, Array]:
    """Search every row of y and v (B, k) for the root of its score.

    Returns
    -------
    tau2, converged, iterations : ndarray of shape (B,)
    expected : ndarray of shape (B, 2)
        Expected information at tau2 and at `lowest`.
    falls : ndarray of shape (B,)
        Score at `lowest`.
    """
    B, k = y.shape
    tau2, expected, falls = np.empty(B), np.empty((B, 2)), np.empty(B)
    converged, iterations = np.zeros(B, dtype=np.bool_), np.zeros(B, dtype=np.int64)
    w, u = np.empty(k), np.empty(k)
    for b in range(B):
        start, unit = hedges_start(y[b], v[b], QT, w, u)
        t, below, above, done = max(start, lowest), -np.inf, np.inf, False
        while not done and iterations[b] < MAX_ITERATIONS:
            scores = scores_of(y[b], v[b], QT, t, restricted, w, u)
            t, below, above, done = likelihood_step(t, scores, below, above, lowest, unit)
            iterations[b] += 1
        tau2[b], converged[b] = t, done
        expected[b, 0] = scores_of(y[b], v[b], QT, t, restricted, w, u)[1]
        falls[b], expected[b, 1], _ = scores_of(y[b], v[b], QT, lowest, restricted, w, u)
    return tau2, converged, iterations, expected, falls


def solve_rows(y: Array, v: Array, QT: Array, target: Array, lowest: float) -> tuple[Array, Mask, AnyArray]:
    """Search every row of y and v (B, k) for the tau2 at which Q is `target`; as `searches.solve_q`."""
    B, k = y.shape
    tau2 = np.empty(B)
    converged, iterations = np.zeros(B, dtype=np.bool_), np.zeros(B, dtype=np.int64)
    w, u = np.empty(k), np.empty(k)
    for b in range(B):
        unit = hedges_start(y[b], v[b], QT, w, u)[1]
        t, lower, upper, done = lowest, lowest, np.inf, False
        while not done and iterations[b] < MAX_ITERATIONS:
            rss, slope = q_of(y[b], v[b], QT, t, w, u)
            t, lower, upper, done = q_step(t, rss, slope, target[b], lower, upper, lowest, unit)
            iterations[b] += 1
        tau2[b], converged[b] = t, done
    return tau2, converged, iterations


class Kernels(NamedTuple):
    """The compiled functions."""

    maximise_rows: Callable[..., tuple[Array, Mask, AnyArray, Array, Array]]
    solve_rows: Callable[..., tuple[Array, Mask, AnyArray]]


# Callees first. Sums may be taken in any order, which lets them use vector instructions.
COMPILED = (
    likelihood_step,
    q_step,
    mean_scores,
    mean_q,
    invert,
    project,
    weigh,
    regression_scores,
    hedges_start,
    scores_of,
    q_of,
    maximise_rows,
    solve_rows,
)
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}


@cache
def load() -> Kernels | None:
    """Return the compiled functions, from numba's cache where it has them; None where numba cannot be used."""
    try:
        from numba import njit
    except ImportError:
        return None
    scope = dict(globals())
    try:
        for function in COMPILED:
            # A copy that finds its callees compiled; the functions of this module stay as they are.
            copy = FunctionType(function.__code__, scope, function.__name__)
            scope[function.__name__] = njit(**OPTIONS)(copy)
    except RuntimeError:  # numba finds no folder that it may write to
        return None
    return Kernels(scope["maximise_rows"], scope["solve_rows"])
