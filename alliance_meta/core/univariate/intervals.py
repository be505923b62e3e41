"""Confidence intervals of the between-study variance tau2, and what the exact ones rest on.

The exact distribution of a positive quadratic form in normal variables.

P(Q <= q) for Q = x'Sx, x ~ N(0, I), with S = D - U U' (D diagonal, U of few columns): the form every Q
statistic of a meta-analysis has. Davies (1980, doi:10.2307/2346911) and Farebrother (1984,
doi:10.2307/2347721) start from the eigenvalues of S, O(k^3) to get; here the moment generating function is
evaluated without them, O(k p^2) a point, and inverted along a contour on which the integrand falls
exponentially, so that the trapezoid rule gives all digits with a few dozen points.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import optimize, special
from scipy.sparse import linalg as sparse

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.univariate.search import NO_ROOT, log_likelihood, solve_q, turning_points
from alliance_meta.core.univariate.wls import Batch, make_batch, wls, wls_weighted

# Points on one side of the contour; doubling them changes nothing beyond 1e-13 (tests/equivalence).
POINTS = 160
# Up to this many rows the eigenvalues themselves are cheaper.
DENSE = 40
# The integrand is dropped where it has fallen by exp(-EXTENT).
EXTENT = 40.0


def quadratic_form_cdf(q: float, d: Array, U: Array) -> float:
    """Return P(Q <= q) for Q = x'(D - UU')x with D = diag(d) of shape (k,) and U (k, p); S must be positive.

    Accurate to about 1e-12; 0 for q <= 0.
    """
    if not q > 0:
        return 0.0
    d, U, largest = _reduced(d, U)
    d, U, q = d / largest, U / np.sqrt(largest), q / largest
    mean = float(d.sum() - np.einsum("kp,kp->", U, U))
    # Left of the mean the contour passes left of the pole at 0, right of it to the right: no cancellation.
    lower = q < mean
    vertex = _saddle(q, d, U, lower=lower)
    tail = _contour(q, d, U, vertex)
    return min(1.0, max(0.0, -tail if lower else 1.0 - tail))


def _reduced(d: Array, U: Array) -> tuple[Array, Array, float]:
    """Return the form as its eigenvalues where that is cheap, and its largest eigenvalue in any case."""
    if len(d) <= DENSE:
        values = np.linalg.eigvalsh(np.diag(d) - U @ U.T)
        values = values[values > 1e-12 * values[-1]]
        return values, np.zeros((len(values), 0)), float(values[-1])
    operator = sparse.LinearOperator((len(d), len(d)), matvec=lambda x: d * x - U @ (U.T @ x), dtype=float)
    # Neither constant nor symmetric: with equal variances a constant vector is sent to 0.
    start = np.sin(1.0 + np.arange(len(d)))
    top = sparse.eigsh(operator, k=1, which="LA", v0=start, tol=1e-10, return_eigenvectors=False)
    return d, U, float(top[0])


def _log_mgf(s: AnyArray, d: Array, U: Array) -> AnyArray:
    """Return log E exp(sQ) = -log|I - 2sS| / 2 for complex s (m,).

    The small determinant's eigenvalues stay in one half-plane, so principal logarithms add up to the
    continuous branch.
    """
    factors = 1.0 - 2.0 * s[:, None] * d
    logs = np.log(factors).sum(axis=1)
    if not U.shape[1]:
        return -0.5 * logs
    inverse = 1.0 / factors
    p = U.shape[1]
    pairs = (U[:, :, None] * U[:, None, :]).reshape(len(d), -1)
    # Not a matrix product: for so thin a matrix a threaded BLAS takes longer to wake than to multiply.
    small = np.eye(p) + 2.0 * s[:, None, None] * np.einsum("mk,kp->mp", inverse, pairs).reshape(-1, p, p)
    if p == 1:
        return -0.5 * (logs + np.log(small[:, 0, 0]))
    return -0.5 * (logs + np.log(np.linalg.eigvals(small)).sum(axis=1))


def _saddle(q: float, d: Array, U: Array, *, lower: bool) -> float:
    """Return the real point, on its side of the pole, where the integrand is smallest along the real axis."""

    def height(s: float) -> float:
        return float(_log_mgf(np.array([s + 0j]), d, U)[0].real) - s * q - np.log(abs(s))

    if not lower:
        found = optimize.minimize_scalar(height, bounds=(1e-8, 0.5 - 1e-9), method="bounded", options={"xatol": 1e-9})
        return float(found.x)
    # Far out on the left the minimum is near -k / 2q: a wide range, searched on a logarithmic scale.
    bounds = (np.log(1e-8), np.log(10.0 * (len(d) + 1.0) / q))
    found = optimize.minimize_scalar(lambda t: height(-np.exp(t)), bounds=bounds, method="bounded")
    return -float(np.exp(found.x))


def _contour(q: float, d: Array, U: Array, vertex: float) -> float:
    """Return (1 / 2 pi i) times the integral of exp(K(s) - sq) / s along a parabola opening to the right."""
    # A flatter parabola would pass so near the branch cut [1/2, inf) that the integrand rose again.
    curve = 0.5 / (1.0 - 2.0 * vertex)
    reach = _reach(q, d, U, vertex, curve)
    t = (np.arange(POINTS) + 0.5) * (reach / POINTS)
    s = vertex + curve * t**2 + 1j * t
    values = np.exp(_log_mgf(s, d, U) - s * q) / s * (2.0 * curve * t + 1j)
    # The other half of the contour holds the complex conjugates.
    return float(values.sum().imag * (reach / POINTS) / np.pi)


def _reach(q: float, d: Array, U: Array, vertex: float, curve: float) -> float:
    """Return the distance from the vertex at which the integrand is negligible."""
    t = abs(vertex) * 1.3 ** np.arange(-20.0, 60.0)
    s = np.append(0.0, t) * 1j + vertex + curve * np.append(0.0, t) ** 2
    size = (_log_mgf(s, d, U) - s * q).real - np.log(np.abs(s))
    small = np.flatnonzero(size[1:] < size[0] - EXTENT)
    return float(t[small[0]] if small.size else t[-1])


# Brent's method on a smooth function: the root to twelve digits, in units of the mean variance also where it is tiny.
ROOT_RTOL, ROOT_XTOL = 1e-13, 1e-18
# A root known to be beyond this many mean variances is looked for from there on.
FAR = 1e4


def generalised_q(batch: Batch, weights: Array, *, probability: float, lowest: float = 0.0) -> float:
    """Return the tau2 at which the observed weighted Q is the `probability` quantile of its distribution.

    With probability .975 and .025 these are the limits of Jackson (2013, doi:10.1002/jrsm.1081), with
    weights 1 / v those of Biggerstaff & Jackson (2008, doi:10.1002/sim.3494); with .5 the median-unbiased
    estimate (metafor's ``GENQM``). `NO_ROOT` where already `lowest` makes the observed Q too likely small.
    """
    v = batch.v[0]
    fit = wls_weighted(batch, weights[None])
    q = float(fit.rss[0])
    loadings = weights[:, None] * (batch.Q @ np.linalg.cholesky(fit.Ainv[0]))

    def excess(t: float) -> float:
        total = v + t
        return quadratic_form_cdf(q, weights * total, np.sqrt(total)[:, None] * loadings) - probability

    share, step = weights - np.square(loadings).sum(axis=1), float(v.mean())
    # The mean of Q is share @ (v + t): by Markov's inequality Q is too large for every t below this.
    sure = float(((1.0 - probability) * q - share @ v) / share.sum())
    if sure > max(lowest, FAR * step):
        return root_above(excess, sure, step=sure)
    if excess(lowest) <= 0:
        return NO_ROOT
    return root_above(excess, lowest, step=step)


def root_above(function: Callable[[float], float], low: float, *, step: float) -> float:
    """Return the root of a function that is positive at `low` and falls below 0 somewhere above."""
    high = low + step
    while function(high) > 0:
        low, high = high, low + 2.0 * (high - low) + step
    return root(function, low, high, unit=step)


def root(function: Callable[[float], float], low: float, high: float, *, unit: float) -> float:
    """Return the root of a function whose signs at `low` and `high` differ, to all digits in units of `unit`."""
    return float(optimize.brentq(function, low, high, xtol=ROOT_XTOL * unit, rtol=ROOT_RTOL, maxiter=500))


def q_profile(y: Array, v: Array, X: Array, *, level: float) -> tuple[float, float]:
    """Return the Q-profile interval (Viechtbauer 2007, doi:10.1002/sim.2514).

    The values of tau2 at which the generalised Q equals the chi-squared quantiles. A bound is 0 where Q(0)
    is already below its quantile; both are 0 when the data vary less than chance allows.
    """
    tail = 0.5 * (1.0 - level)
    batch = make_batch(np.vstack([y, y]), np.vstack([v, v]), X)
    target = special.chdtri(batch.df, np.array([tail, 1.0 - tail]))
    bounds, _, _ = solve_q(batch, target)
    lb, ub = np.maximum(bounds, 0.0)
    return float(lb), float(ub)


def profile_likelihood(
    y: Array, v: Array, X: Array, *, restricted: bool, level: float, lowest: float = 0.0
) -> list[tuple[float, float]]:
    """Return the profile-likelihood confidence set of tau2: one interval, or several where the likelihood has peaks.

    Hardy & Thompson (1996, doi:10.1002/(SICI)1097-0258(19960330)15:6<619::AID-SIM188>3.0.CO;2-A): the values
    whose log-likelihood is within half a chi-squared(1) quantile of the maximum; 0 where 0 is among them.
    """
    batch = make_batch(y, v, X)
    tau2, height, _ = turning_points(batch, restricted=restricted, lowest=lowest)
    cutoff = float(height.max()) - 0.5 * float(special.chdtri(1.0, 1.0 - level))

    def excess(t: float) -> float:
        return float(log_likelihood(wls(batch, np.array([t])), restricted=restricted)[0]) - cutoff

    # Between neighbours the likelihood only rises or only falls, and above the last, a peak, it falls for good.
    points = sorted({lowest, *tau2.tolist()})
    inside = [excess(t) >= 0 for t in points]
    step = float(v.mean())
    edges = [lowest] if inside[0] else []
    for (a, b), (at_a, at_b) in zip(pairwise(points), pairwise(inside), strict=True):
        if at_a != at_b:
            edges.append(root(excess, a, b, unit=step))
    if inside[-1]:
        edges.append(root_above(excess, points[-1], step=step))
    return list(zip(edges[::2], edges[1::2], strict=True))


def higgins_thompson(*, QE: float, k: int, H2: float, vt: float, level: float) -> tuple[float, float]:
    """Return the test-based interval of Higgins & Thompson (2002, doi:10.1002/sim.1186), k > 2, no moderators."""
    if k < QE:
        se = 0.5 * (np.log(QE) - np.log(k - 1.0)) / (np.sqrt(2.0 * QE) - np.sqrt(2.0 * k - 3.0))
    else:
        se = np.sqrt(1.0 / (2.0 * (k - 2.0)) * (1.0 - 1.0 / (3.0 * (k - 2.0) ** 2)))
    half = 2.0 * float(special.ndtri(0.5 * (1.0 + level))) * se
    return max(0.0, float(vt * (H2 * np.exp(-half) - 1.0))), max(0.0, float(vt * (H2 * np.exp(half) - 1.0)))


def wald(*, tau2: float, se: float, level: float) -> tuple[float, float]:
    """Return tau2 -+ z se, not below 0: crude, for tau2 is far from normal with few studies."""
    half = float(special.ndtri(0.5 * (1.0 + level))) * se
    return max(0.0, tau2 - half), tau2 + half


def wald_log(*, tau2: float, se: float, level: float) -> tuple[float, float]:
    """Return the Wald interval of log tau2, transformed back; needs tau2 > 0."""
    half = float(special.ndtri(0.5 * (1.0 + level))) * se / tau2
    return float(tau2 * np.exp(-half)), float(tau2 * np.exp(half))


def sidik_jonkman(*, tau2: float, df: float, level: float) -> tuple[float, float]:
    """Return the interval of Sidik & Jonkman (2005, doi:10.1111/j.1467-9876.2005.00489.x) around their estimate."""
    tail = 0.5 * (1.0 - level)
    low, high = special.chdtri(df, np.array([tail, 1.0 - tail]))
    return float(df * tau2 / low), float(df * tau2 / high)
