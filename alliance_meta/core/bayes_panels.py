"""Adaptive integration over tau in [0, inf), of one density or of many at once, with an error estimate.

tau = c ((1 - t^(1/a))^-q - 1) turns a heavy tail into a polynomial at t = 1, and a density like tau^(a - 1) that is
unbounded at 0, a < 1, into a bounded one; else a = 1. On panels of t each density is a series of 16 Legendre
polynomials through its values at the Gauss nodes; a panel is halved until its last coefficients have died away and its
series meets those of its neighbours. The series then gives integrals, distribution functions and quantiles alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import AnyArray, Array

NODES = 16
X, WEIGHTS = np.polynomial.legendre.leggauss(NODES)
_DEGREE = np.arange(NODES)
# Of the polynomials at -1; at 1 all are 1.
_SIGNS = (-1.0) ** _DEGREE
# Values at the nodes -> coefficients of the Legendre series.
_SERIES = ((_DEGREE + 0.5)[:, None] * np.polynomial.legendre.legvander(X, NODES - 1).T * WEIGHTS).T
# What the last three coefficients of a panel may add to an integral, relative to it.
TOLERANCE = 1e-13
MOST_ROUNDS = 60
MOST_PANELS = 2000
# Rounding in sums over nodes and in the densities themselves; that of a value, relative to it.
ROUNDING = 2e-15
EPS = 2.0**-52
# Where to look for the mass of a density: this far from its top (in logs), at this many points.
DEPTH = 45.0
STEP = 0.25
FEWEST = 24
# Beyond this depth nothing counts: an outer panel is cut there if that leaves off this much of it.
ENDED = 38.0
WORTH = 0.5
# Values of tau below which a density that is unbounded at 0 shows how fast it rises; none smaller is told from 0.
TINY = (1e-200, 1e-150)
LEAST = 1e-290
# Panels come no nearer to t = 1 than this: 1 - t has few digits there.
NEAREST = 1e-12
# How far out in log(tau) beyond the middle of the mass is easily in reach, and the end of what can be squared.
FARTHEST = 15.0
HIGHEST = 300.0
START = np.array([5e-4, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0 - 5e-4])

# tau (B,) -> log densities (m, B)
LogDensity = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The map from t in [0, 1) to tau: about half of the mass lies below `scale`.

    `power` is 1 but for heavy tails; `head` is 1 but for densities like tau^(head - 1) that are unbounded at 0.
    """

    scale: float
    power: float
    head: float = 1.0

    def to_tau(self, t: Array) -> Array:
        """Return tau for t in [0, 1]."""
        with np.errstate(divide="ignore", over="ignore"):
            if self.head < 1.0:
                t = np.where(t > 0, np.maximum(t ** (1.0 / self.head), LEAST), 0.0)
            return self.scale * np.expm1(-self.power * np.log1p(-t))

    def to_t(self, tau: Array) -> Array:
        """Return t for tau in [0, inf]; 0 below."""
        t = -np.expm1(-np.log1p(np.maximum(tau, 0.0) / self.scale) / self.power)
        return t**self.head if self.head < 1.0 else t

    def log_slope(self, tau: Array) -> Array:
        """Return the log of dtau / dt at tau."""
        slope = np.log(self.scale * self.power) + (1.0 + 1.0 / self.power) * np.log1p(tau / self.scale)
        if self.head == 1.0:
            return slope
        inner = -np.expm1(-np.log1p(tau / self.scale) / self.power)
        return slope + (1.0 - self.head) * np.log(inner) - np.log(self.head)


@dataclass(frozen=True, slots=True, eq=False)
class Panels:
    """m densities of tau, as Legendre series on n panels.

    Attributes
    ----------
    stretch : Stretch
    edges : ndarray of shape (n + 1,)
        In t.
    tau : ndarray of shape (n * 16,)
        The nodes, in increasing order.
    weight : ndarray of shape (m, n * 16)
        Probability of each node; every row adds up to 1.
    series : ndarray of shape (m, n, 16)
        Legendre coefficients of each density in t, on the scale where its integral is 1.
    log_integral : ndarray of shape (m,)
    error : ndarray of shape (m,)
        Relative error of the integral, and absolute error of any probability.
    """

    stretch: Stretch
    edges: Array
    tau: Array
    weight: Array
    series: Array
    log_integral: Array
    error: Array


def integrate(
    log_density: LogDensity, start: Array, stretch: Stretch, *, upper: float = np.inf, tolerance: float = TOLERANCE
) -> Panels:
    """Integrate m densities over [0, upper], beginning with panels between the values of tau in `start`."""
    end = float(stretch.to_t(np.array(upper)))
    inner = np.unique(stretch.to_t(start))
    edges = np.concatenate([[0.0], inner[(inner > 0) & (inner < min(end, 1.0 - NEAREST))], [end]])
    values = _evaluate(log_density, edges[:-1], edges[1:], stretch)
    for rounds in range(MOST_ROUNDS + 1):
        half = 0.5 * np.diff(edges)
        top = values.max(axis=(1, 2))
        series = np.exp(values - top[:, None, None]) @ _SERIES
        total = 2.0 * series[:, :, 0] @ half
        own, gap = np.abs(series[:, :, -3:]).sum(axis=2), _gaps(series)
        share = half / total[:, None]
        divisible = (half > 1e-15 * edges[1:]) & (1.0 - edges[:-1] > NEAREST)
        # No panel can be smoother than rounding of its log densities lets it be.
        enough = (tolerance + 4.0 * EPS * np.abs(top))[:, None]
        rough = (own * share > enough).any(axis=0) & divisible
        # A panel that is halved anyhow is no witness against those beside it: the next round asks again.
        met = _beside(np.where(rough[1:] | rough[:-1], 0.0, gap))
        rough |= ((own + met) * share > enough).any(axis=0) & divisible
        if not rough.any() or len(half) > MOST_PANELS or rounds == MOST_ROUNDS:
            break
        edges, values = _split(log_density, edges, values, rough, stretch)
    return _panels(stretch, edges, values, series, top, total, (own + _beside(gap)) * share)


def _gaps(series: Array) -> Array:
    """Return by how much the series of adjacent panels miss one another at their common edges, (m, n - 1).

    A peak at an edge may fall between the nodes of a wide panel, which then looks smooth, and empty.
    """
    return np.abs(series[:, :-1].sum(axis=2) - series[:, 1:] @ _SIGNS)


def _beside(gap: Array) -> Array:
    """Return the gaps at both ends of each panel, (m, n)."""
    both = np.zeros((len(gap), gap.shape[1] + 1))
    both[:, 1:] = gap
    both[:, :-1] += gap
    return both


def head_of(log_tiny: Array) -> float:
    """Return the a of a density like tau^(a - 1) near 0 where it is unbounded there, else 1; from its logs at TINY."""
    with np.errstate(all="ignore"):
        head = 1.0 + float((log_tiny[1] - log_tiny[0]) / np.log(TINY[1] / TINY[0]))
    return head if 0.0 < head < 1.0 else 1.0


def mass_region(log_density: LogDensity, low: float, high: float, *, tail: float = np.inf) -> tuple[Array, Stretch]:
    """Return values of tau that cut the mass of a density into pieces, and the map to use, both roughly.

    Only where to begin: the first row of `log_density` is looked at on a grid of log(tau) that closes in on its
    top. A tail of the heaviest row like tau^-tail, `tail` > 1, or mass very far out ask for a stronger stretch.
    """
    s = np.linspace(np.log(low), np.log(high), int((np.log(high) - np.log(low)) / STEP) + 2)
    with np.errstate(all="ignore"):
        found = log_density(np.concatenate([TINY, np.minimum(np.exp(s), high)]))[0]
    head, h = head_of(found[:2]), found[2:] + s
    for _ in range(12):
        near = np.flatnonzero(h > h.max() - DEPTH)
        if len(near) >= FEWEST:
            break
        s = np.linspace(s[max(near[0] - 1, 0)], s[min(near[-1] + 1, len(s) - 1)], 65)
        h = log_density(np.minimum(np.exp(s), high))[0] + s
    density = np.exp(h - h.max())
    mass = np.append(0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(s)))
    tau = np.exp(np.interp(START * mass[-1], mass, s))
    # Mass near 0 spreads over many powers of 10, and what is rare beside it must stay in reach.
    scale = float(tau[len(tau) // 2 if head == 1.0 else -2])
    far = (s[near[-1]] - np.log(scale)) / FARTHEST
    most = np.floor((HIGHEST - np.log(scale)) / -np.log(NEAREST))
    power = float(max(min(np.ceil(max(1.0 / (tail - 1.0), far)), most), 1.0))
    stretch = Stretch(scale, power, head)
    return _with_ends(tau, np.exp(s[np.flatnonzero(h > h.max() - ENDED)[[0, -1]]]), high, stretch), stretch


def _with_ends(tau: Array, ends: Array, high: float, stretch: Stretch) -> Array:
    """Cut the outermost panels, which begin at 0 and at the last tau, where the density has died away."""
    first, last, low, top = stretch.to_t(np.array([tau[0], tau[-1], *ends]))
    limit = float(stretch.to_t(np.array(high)))
    before = [ends[0]] if low > WORTH * first else []
    after = [ends[1]] if top - last < (1.0 - WORTH) * (limit - last) else []
    return np.concatenate([before, tau, after])


def cdf(panels: Panels, tau: Array, *, row: int = 0) -> Array:
    """Return P(T <= tau) of one density."""
    t = panels.stretch.to_t(np.asarray(tau, dtype=float))
    below = np.append(0.0, np.cumsum(_masses(panels, row)))
    j, x, half = _place(panels.edges, t)
    return np.clip(below[j] + half * _antiderivative(panels.series[row], j, x, _polynomials(x)), 0.0, 1.0)


def sf(panels: Panels, tau: Array, *, row: int = 0) -> Array:
    """Return P(T > tau) of one density, accurate in the upper tail."""
    t = panels.stretch.to_t(np.asarray(tau, dtype=float))
    masses = _masses(panels, row)
    above = np.append(np.cumsum(masses[::-1])[::-1], 0.0)
    j, x, half = _place(panels.edges, t)
    return np.clip(above[j] - half * _antiderivative(panels.series[row], j, x, _polynomials(x)), 0.0, 1.0)


def pdf(panels: Panels, tau: Array, *, row: int = 0) -> Array:
    """Return the density of one of the T at tau, from its series."""
    tau = np.asarray(tau, dtype=float)
    j, x, _ = _place(panels.edges, panels.stretch.to_t(tau))
    series = (panels.series[row][j] * _polynomials(x)[..., :-1]).sum(axis=-1)
    return np.maximum(series, 0.0) * np.exp(-panels.stretch.log_slope(tau))


def quantile(panels: Panels, probability: Array, *, row: int = 0) -> Array:
    """Return the values of tau below which each probability lies; Newton's steps inside the panel that holds it."""
    p = np.asarray(probability, dtype=float)
    masses = _masses(panels, row)
    below = np.append(0.0, np.cumsum(masses))
    above = np.append(np.cumsum(masses[::-1])[::-1], 0.0)
    upper = p > 0.5
    j = np.where(
        upper,
        len(above) - 1 - np.searchsorted(above[::-1], 1.0 - p, side="right"),
        np.searchsorted(below, p, side="right") - 1,
    )
    j = np.clip(j, 0, len(masses) - 1)
    wanted = np.where(upper, above[j] - (1.0 - p), p - below[j])
    edges, half = panels.edges, 0.5 * np.diff(panels.edges)
    low, high, x = np.full(p.shape, -1.0), np.ones(p.shape), np.zeros(p.shape)
    for _ in range(80):
        P = _polynomials(x)
        excess = half[j] * _antiderivative(panels.series[row], j, x, P) - wanted
        low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
        slope = half[j] * (panels.series[row][j] * P[..., :-1]).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(slope > 0, excess / slope, np.inf)
        new = x - step
        new = np.where((new >= low) & (new <= high), new, 0.5 * (low + high))
        moved, x = np.abs(new - x), new
        # After a Newton step this short the next would be below rounding.
        if not (moved > 1e-9).any():
            break
    t = edges[j] + half[j] * (x + 1.0)
    return panels.stretch.to_tau(t)


def _panels(
    stretch: Stretch, edges: Array, values: Array, series: Array, top: Array, total: Array, tail: Array
) -> Panels:
    half = 0.5 * np.diff(edges)
    log_total = top + np.log(total)
    t = (edges[:-1] + half)[:, None] + half[:, None] * X
    tau = stretch.to_tau(t)
    weight = np.exp(values - log_total[:, None, None]) * (half[:, None] * WEIGHTS)
    # What rounding of tau and of the log densities does to the densities, the steeper and the larger they are.
    steps = np.abs(np.diff(np.exp(values - log_total[:, None, None]).reshape(len(top), -1), axis=1))
    rounding = ROUNDING + EPS * (np.abs(top) + steps @ t.ravel()[1:])
    return Panels(
        stretch=stretch,
        edges=edges,
        tau=tau.ravel(),
        weight=weight.reshape(len(top), -1),
        series=series / total[:, None, None],
        log_integral=log_total,
        error=tail.sum(axis=1) + rounding,
    )


def _evaluate(log_density: LogDensity, lo: Array, hi: Array, stretch: Stretch) -> Array:
    """Return the log densities in t at the nodes of each panel, (m, panels, 16)."""
    half = 0.5 * (hi - lo)
    tau = stretch.to_tau((lo + half)[:, None] + half[:, None] * X).ravel()
    found = log_density(tau) + stretch.log_slope(tau)
    return found.reshape(len(found), len(lo), NODES)


def _split(
    log_density: LogDensity, edges: Array, values: Array, rough: AnyArray, stretch: Stretch
) -> tuple[Array, Array]:
    """Halve the rough panels."""
    lo, hi = edges[:-1][rough], edges[1:][rough]
    middle = 0.5 * (lo + hi)
    new = _evaluate(log_density, np.append(lo, middle), np.append(middle, hi), stretch)
    starts = np.concatenate([edges[:-1][~rough], lo, middle])
    order = np.argsort(starts)
    joined = np.concatenate([values[:, ~rough], new], axis=1)[:, order]
    return np.append(starts[order], edges[-1]), joined


def _masses(panels: Panels, row: int) -> Array:
    return np.diff(panels.edges) * panels.series[row, :, 0]


def _place(edges: Array, t: Array) -> tuple[AnyArray, Array, Array]:
    """Return the panel of each t, its place in [-1, 1] there, and half the width of the panel."""
    j = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, len(edges) - 2)
    half = 0.5 * (edges[j + 1] - edges[j])
    return j, np.clip((t - edges[j]) / half - 1.0, -1.0, 1.0), half


def _polynomials(x: Array) -> Array:
    """Return the Legendre polynomials of degree 0 to 16 at each x."""
    return np.polynomial.legendre.legvander(x, NODES)


def _antiderivative(series: Array, j: AnyArray, x: Array, P: Array) -> Array:
    """Return the integral of the series from -1 to x: that of P_n is (P_{n+1} - P_{n-1}) / (2n + 1)."""
    inner = (P[..., 2:] - P[..., :-2]) / (2.0 * _DEGREE[1:] + 1.0)
    return series[j, 0] * (x + 1.0) + (series[j][..., 1:] * inner).sum(axis=-1)
