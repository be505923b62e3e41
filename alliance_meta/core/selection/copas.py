r"""Copas' selection model: small studies are published if a variable that correlates with their effect is above 0.

Effect i is drawn as :math:`y_i = m_i + \sqrt{\tau^2 + \sigma_i^2}\,\epsilon_i` and seen if
:math:`z_i = \gamma_0 + \gamma_1 / s_i + \delta_i > 0`, where sampling error and :math:`\delta_i` have the
correlation :math:`\rho` and :math:`\sigma_i^2 = s_i^2 / (1 - c_i \rho^2)`, :math:`c_i = \lambda(u_i) (u_i +
\lambda(u_i))`, is the variance before selection of :math:`u_i = \gamma_0 + \gamma_1 / s_i`. Given :math:`\gamma`,
which data hardly tell,

.. math:: \ell_i = -\tfrac12 \log V_i - \frac{(y_i - m_i)^2}{2 V_i} + \log \Phi(v_i) - \log \Phi(u_i), \qquad
   V_i = \tau^2 + \sigma_i^2, \; v_i = \frac{u_i V_i + \rho \sigma_i (y_i - m_i)}{\sqrt{V_i (V_i - \rho^2 \sigma_i^2)}}

(Copas & Shi 2000, doi:10.1093/biostatistics/1.3.247; 2001, doi:10.1177/096228020101000402).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import chi2_sf, likelihood_ratio
from alliance_meta.core.selection.search import EDGE, FLAT, Climbed, ascend
from alliance_meta.core.selection.weights import LOG_2PI
from alliance_meta.core.univariate.search import maximise
from alliance_meta.core.univariate.wls import make_batch

# Correlations are kept from their ends, as in metasens.
MOST_RHO = 0.9999
# gamma0 = 10 is no selection (Copas & Shi 2001, p. 256); without it the grid ends here.
UNSELECTED, HIGHEST = 10.0, 2.0
# The largest study is taken as published with a probability of Phi(1.29 - 0.25) where the smallest has Phi(-0.25).
LEAST, SPAN = -0.25, 1.29
# About so many contours, at round values of the mean.
LEVELS = 10
# So many effects times points of the grid are worked on at once.
BLOCK = 30_000
# With less curvature the likelihood does not depend on rho.
UNTOLD = 1e-12
# A tau this small, relative to the smallest standard error, is 0.
NO_TAU = 1e-6
# Below this the density over the distribution function is -u, to what rounding leaves.
FARTHEST = -1e4


@dataclass(frozen=True, eq=False)
class CopasProblem:
    """Effects and B points of the grid; parameters are the coefficients of the mean, rho and tau, (B, p + 2)."""

    y: Array  # (k,)
    s: Array  # (k,)
    X: Array  # (k, p)
    gamma: Array  # (B, 2)

    def look(self, theta: Array, rows: IntArray) -> tuple[Array, Array, Array]:
        """Return log-likelihood (m,), gradient and curvature of points `rows` (m,) at theta (m, p + 2)."""
        p = self.X.shape[1]
        u = self.gamma[rows, :1] + self.gamma[rows, 1:] / self.s
        e = self.y - theta[:, :p] @ self.X.T
        value, slopes, curvatures = _of_each(e, self.s, u, theta[:, p, None], theta[:, p + 1, None])
        slope = np.concatenate([slopes[0] @ self.X, slopes[1:].sum(axis=2).T], axis=1)
        curvature = np.empty((len(rows), p + 2, p + 2))
        curvature[:, :p, :p] = np.einsum("bk,ki,kj->bij", curvatures[0, 0], self.X, self.X)
        curvature[:, :p, p:] = np.einsum("abk,ki->bia", curvatures[0, 1:], self.X)
        curvature[:, p:, :p] = curvature[:, :p, p:].swapaxes(1, 2)
        curvature[:, p:, p:] = curvatures[1:, 1:].sum(axis=3).transpose(2, 0, 1)
        return value.sum(axis=1), slope, curvature


def mills(u: Array) -> Array:
    """Return the normal density over its distribution function."""
    near = np.maximum(u, FARTHEST)
    return np.where(u < FARTHEST, -u, np.exp(-0.5 * near * near - 0.5 * LOG_2PI - special.log_ndtr(near)))


def _of_each(e: Array, s: Array, u: Array, rho: Array, tau: Array) -> tuple[Array, Array, Array]:
    """Return log-likelihoods (B, k) and their derivatives by mean, rho and tau, (3, B, k) and (3, 3, B, k)."""
    c = np.minimum(mills(u) * (u + mills(u)), 1.0)
    q = 1.0 - c * rho**2
    zero = 0.0
    # The covariance of effect and selection, rho sigma, and sigma^2.
    W, W1, W2 = s * rho / np.sqrt(q), s / q**1.5, 3.0 * s * c * rho / q**2.5
    s1, s2 = 2.0 * s**2 * c * rho / q**2, 2.0 * s**2 * c * (q + 4.0 * c * rho**2) / q**3
    t1, t2 = 2.0 * tau, 2.0
    V = tau**2 + s**2 / q
    E = (e * e, (-2.0 * e, zero, zero), ((2.0, zero, zero), (zero, zero, zero), (zero, zero, zero)))
    A = (
        u * V + W * e,
        (-W, u * s1 + W1 * e, u * t1),
        ((zero, -W1, zero), (-W1, u * s2 + W2 * e, zero), (zero, zero, u * t2)),
    )
    B = (V, (zero, s1, t1), ((zero, zero, zero), (zero, s2, zero), (zero, zero, t2)))
    c1, c2 = s1 - 2.0 * W * W1, s2 - 2.0 * W1 * W1 - 2.0 * W * W2
    C = (V - W * W, (zero, c1, t1), ((zero, zero, zero), (zero, c2, zero), (zero, zero, t2)))
    R = 1.0 / np.sqrt(B[0] * C[0])
    v = A[0] * R
    ratio = mills(v)
    value = -0.5 * (LOG_2PI + np.log(V) + E[0] / V) + special.log_ndtr(v) - special.log_ndtr(u)
    slopes, curvatures = np.empty((3, *v.shape)), np.empty((3, 3, *v.shape))
    h = [0.5 * (B[1][i] / B[0] + C[1][i] / C[0]) for i in range(3)]
    v1 = [A[1][i] * R - v * h[i] for i in range(3)]
    for i in range(3):
        slopes[i] = 0.5 * (-B[1][i] - E[1][i] + E[0] * B[1][i] / V) / V + ratio * v1[i]
        for j in range(i, 3):
            b, f = B[1][i] * B[1][j], C[1][i] * C[1][j]
            h2 = 0.5 * (B[2][i][j] / B[0] - b / B[0] ** 2 + C[2][i][j] / C[0] - f / C[0] ** 2)
            v2 = R * (A[2][i][j] - A[1][i] * h[j] - A[1][j] * h[i]) + v * (h[i] * h[j] - h2)
            across = E[1][i] * B[1][j] + E[1][j] * B[1][i] + b + E[0] * (B[2][i][j] - 2.0 * b / V)
            own = 0.5 * (-B[2][i][j] - E[2][i][j] + across / V) / V
            curvatures[i, j] = curvatures[j, i] = own + ratio * (v2 - (v + ratio) * v1[i] * v1[j])
    return value, slopes, curvatures


class CopasFits(NamedTuple):
    """The highest likelihoods at B points: theta (B, p + 2), log-likelihoods, standard errors of the mean, if done."""

    theta: Array
    loglik: Array
    se: Array
    done: Mask


def fit_copas(problem: CopasProblem, starts: Array, rho: tuple[float, float]) -> CopasFits:
    """Climb from each theta in `starts` (S, p + 2) at each point of the grid, with rho kept between two values."""
    size = max(1, BLOCK // len(problem.y))
    blocks = [replace(problem, gamma=problem.gamma[i : i + size]) for i in range(0, len(problem.gamma), size)]
    parts = [_fit(one, starts, rho) for one in blocks]
    return CopasFits(*(np.concatenate(one) for one in zip(*parts, strict=True)))


def _fit(problem: CopasProblem, starts: Array, rho: tuple[float, float]) -> CopasFits:
    B, n = len(problem.gamma), starts.shape[1]
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    low[n - 2], high[n - 2] = rho
    longest = np.full(n, 2.0 * float(np.sqrt(np.var(problem.y) + np.mean(problem.s**2))))
    longest[1 : n - 2] /= np.sqrt(np.mean(problem.X[:, 1:] ** 2, axis=0))
    longest[n - 2] = 0.3
    best = ascend(problem.look, np.tile(starts[0], (B, 1)), (low, high), longest)
    for start in starts[1:]:
        _higher(best, ascend(problem.look, np.tile(start, (B, 1)), (low, high), longest), np.arange(B))
    end = np.flatnonzero(np.abs(best.theta[:, -2]) >= MOST_RHO - EDGE)
    if len(end):
        # A step may have jumped over a peak on the way to the bound.
        again = np.tile(starts[0], (len(end), 1))
        again[:, -2] *= 0.1
        longest[n - 2] = 0.1
        part = replace(problem, gamma=problem.gamma[end])
        _higher(best, ascend(part.look, again, (low, high), longest), end)
    theta, curvature = best.theta, best.hessian
    # The likelihood is the same at -tau, and without selection at every rho.
    theta[:, -1] = np.abs(theta[:, -1])
    theta[theta[:, -1] < NO_TAU * problem.s.min(), -1] = 0.0
    told = np.abs(curvature[:, -2, -2]) > UNTOLD
    theta[~told, -2] = 0.0
    return CopasFits(theta, best.loglik, _errors(theta, curvature, told), best.done)


def _higher(best: Climbed, other: Climbed, rows: IntArray) -> None:
    """Put other climbs in the place of those of some rows, where they are higher."""
    better = other.loglik > best.loglik[rows]
    for mine, new in zip(best[:5], other[:5], strict=True):
        mine[rows[better]] = new[better]


def _errors(theta: Array, hessian: Array, told: Mask) -> Array:
    """Return standard errors of the mean, (B,), that take rho and tau as certain where they are at their bounds."""
    out = np.full(len(theta), np.nan)
    for b, one in enumerate(theta):
        free = np.ones(len(one), dtype=bool)
        free[-2] = told[b] and abs(one[-2]) < MOST_RHO - EDGE
        free[-1] = one[-1] > 0.0
        A = -hessian[b][np.ix_(free, free)]
        unit = 1.0 / np.sqrt(np.maximum(np.diag(A), 1e-300))
        values, vectors = np.linalg.eigh(A * np.outer(unit, unit))
        if values[0] > FLAT:
            out[b] = unit[0] * np.sqrt((vectors[0] ** 2 / values).sum())
    return out


class CopasFound(NamedTuple):
    """What the model gives over the grid and along the path across it."""

    points: Array  # (n * n, 2): gamma0 and gamma1 of the grid
    over_grid: CopasFits
    gamma: Array  # (m, 2): the path, from no selection to most
    along: CopasFits
    residual: Array  # (m,): p-values of what asymmetry is left, by a slope on the standard error
    unpublished: Array  # (m,): how many studies there would be beside those that are seen


def copas(y: Array, s: Array, sign: float, n: int) -> CopasFound:
    """Fit the model to effects y (k,) with standard errors (k,) on a grid of n x n degrees of selection.

    `sign` is 1 where large effects are favoured, else -1.
    """
    ones, v = np.ones((len(y), 1)), s**2
    tau2 = float(maximise(make_batch(y, v, ones), restricted=False).tau2[0])
    # At 0 the likelihood is level in tau, whether or not it rises from there; from afar another peak may be met.
    tau = np.sqrt([max(tau2, 0.05 * float(v.mean())), max(float(np.var(y)), float(v.mean()))])
    mean = np.average(y, weights=1.0 / (v + tau2))
    starts = np.column_stack([np.full(2, mean), np.full(2, 0.5 * sign), tau])
    ends = gamma_range(s)
    points = np.stack(np.meshgrid(*(np.linspace(*one, n) for one in ends), indexing="ij"), axis=-1).reshape(-1, 2)
    grid = fit_copas(CopasProblem(y, s, ones, points), starts[:1], (-MOST_RHO, MOST_RHO))
    gamma = path(grid.theta[:, 0].reshape(n, n), ends, LEVELS)
    gamma = gamma[np.argsort(-(gamma @ [1.0, 1.0 / float(s.max())]), kind="stable")]
    found = fit_copas(CopasProblem(y, s, ones, gamma), starts, (-MOST_RHO, MOST_RHO))
    sided = (0.0, MOST_RHO) if sign > 0.0 else (-MOST_RHO, 0.0)
    sloped = fit_copas(CopasProblem(y, s, np.column_stack([ones, s]), gamma), np.insert(starts, 1, 0.0, axis=1), sided)
    pairs = zip(found.loglik, sloped.loglik, strict=True)
    p = np.array([chi2_sf(likelihood_ratio(float(more), float(less)), 1) for less, more in pairs])
    # For each study that is seen, with a chance p, there are 1 / p - 1 that are not.
    unseen = np.expm1(-special.log_ndtr(gamma[:, :1] + gamma[:, 1:] / s)).sum(axis=1)
    return CopasFound(points, grid, gamma, found, p, unseen)


def favoured_side(y: Array, s: Array) -> float:
    """Return 1 where small studies have the larger effects, else -1: the sign of Egger's slope."""
    X = np.column_stack([np.ones(len(y)), s]) / s[:, None]
    return 1.0 if float(np.linalg.lstsq(X, y / s, rcond=None)[0][1]) > 0.0 else -1.0


def published(gamma: Array, s: float) -> Array:
    """Return how probably a study with a standard error is published, (m,)."""
    return np.asarray(special.ndtr(gamma[:, 0] + gamma[:, 1] / s))


def gamma_range(s: Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of gamma0 and gamma1 that metasens takes for standard errors s (k,)."""
    steepest = SPAN / float(1.0 / s.min() - 1.0 / s.max())
    return (LEAST - steepest / float(s.max()), HIGHEST), (0.0, steepest)


def path(grid: Array, ends: tuple[tuple[float, float], tuple[float, float]], levels: int) -> Array:
    """Return the points (m, 2) of less and less certain publication at which the mean takes round values.

    They lie on a line from the corner of least selection, across the contours of the mean on the grid (n, n): straight
    lines are fitted to the contours at round values, and their slopes averaged (Carpenter, Schwarzer, Ruecker &
    Kuenstler 2009, doi:10.1016/j.jclinepi.2008.12.002). The first point has no selection.
    """
    lines = [line for level in pretty(grid, levels) for line in contours(grid, level)]
    fitted = [line for line in lines if line.fit > 0.0]
    none = np.array([[UNSELECTED, 0.0]])
    weight = sum(line.points for line in fitted)
    mean = sum(line.points * line.slope for line in fitted) / weight if fitted else 0.0
    if mean == 0.0:
        return none
    slope = -1.0 / mean
    x = np.array([(1.0 - slope - line.intercept) / (line.slope - slope) for line in lines])
    share = np.column_stack([x, 1.0 + slope * (x - 1.0)])
    inside = ((share >= 0.0) & (share <= 1.0)).all(axis=1)
    low, high = np.array(ends).T
    return np.vstack([none, low + share[inside] * (high - low)])


class _Contour(NamedTuple):
    """A straight line along a contour on the unit square, its adjusted R2, and how many points it was fitted to."""

    intercept: float
    slope: float
    fit: float
    points: int


def contours(grid: Array, level: float) -> Iterator[_Contour]:
    """Yield a line for each connected contour of the grid (n, n) at a level, through its points on edges of cells."""
    n = len(grid)
    above = grid >= level
    spots, links = [], []
    for values, high, turned in ((grid, above, False), (grid.T, above.T, True)):
        # Edges along the first axis; on either side of them lie cells i, j - 1 and i, j.
        i, j = np.nonzero(high[1:] != high[:-1])
        along = (i + (level - values[i, j]) / (values[i + 1, j] - values[i, j])) / (n - 1)
        spots.append(np.column_stack([j / (n - 1), along] if turned else [along, j / (n - 1)]))
        for side in (j - 1, j):
            cell = side * (n - 1) + i if turned else i * (n - 1) + side
            links.append(np.where((side >= 0) & (side < n - 1), cell, -1))
    x, y = np.concatenate(spots).T
    m = len(x)
    point = np.concatenate([np.arange(len(spots[0]))] * 2 + [np.arange(len(spots[0]), m)] * 2)
    cell = np.concatenate(links)
    real = cell >= 0
    graph = coo_array((np.ones(real.sum()), (point[real], m + cell[real])), shape=(m + (n - 1) ** 2,) * 2)
    part = connected_components(graph, directed=False)[1][:m]
    for one in np.unique(part):
        line = _line(x[part == one], y[part == one])
        if line is not None:
            yield line


def _line(x: Array, y: Array) -> _Contour | None:
    m = len(x)
    if m < 3 or np.ptp(x) < 1e-9:
        return None
    slope = float(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
    intercept = float(y.mean() - slope * x.mean())
    left, total = float(((y - intercept - slope * x) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    return _Contour(intercept, slope, 1.0 - left / max(total, 1e-300) * (m - 1) / (m - 2), m)


def pretty(values: Array, n: int) -> Array:
    """Return about n round numbers that enclose values, as R's `pretty` does."""
    low, high = float(values.min()), float(values.max())
    cell = (high - low) / n
    if cell <= 1e-10 * max(abs(low), abs(high)):
        return np.array([low])
    base = 10.0 ** np.floor(np.log10(cell))
    # R prefers smaller units a little: its bias h = 1.5 and, for 5, .5 + 1.5 h.
    unit = base
    for multiple, bias in ((2.0, 1.5), (5.0, 2.75), (10.0, 1.5)):
        if multiple * base - cell < bias * (cell - unit):
            unit = multiple * base
        else:
            break
    first, last = np.floor(low / unit + 1e-7), np.ceil(high / unit - 1e-7)
    return np.asarray(unit * np.arange(first, last + 1.0))
