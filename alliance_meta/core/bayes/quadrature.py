r"""Integration over variances and means, adaptive on intervals or by the trapezoid rule, and mixtures of normals.

Integration over tau in [0, inf), of one density or of many at once, and mixtures of normals over its nodes.

tau = c ((1 - t^(1/a))^-q - 1) turns a heavy tail into a polynomial at t = 1, and a density like tau^(a - 1) that is
unbounded at 0, a < 1, into a bounded one; else a = 1. On intervals of t each density is a series of 16 Legendre
polynomials through its values at the Gauss nodes; an interval is halved until its last coefficients have died away and
its series meets those of its neighbours. The series then gives integrals, distribution functions and quantiles alike.

What is normal given tau has a finite mixture of normals for a posterior, with the nodes as its components.

Integration over one or two parameters by the trapezoid rule, in coordinates in which every tail dies away fast.

A mean is :math:`c + s \sinh u`; a positive parameter :math:`s \exp(u - e^{-u})`, which comes to 0 double
exponentially (Takahasi & Mori 1974, doi:10.2977/prims/1195192451). Equally spaced points in u then converge
geometrically, few of them suffice, and the sinc series through them is the density of the parameter, with
distribution function and quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import interpolate, optimize, special

from alliance_meta._typing import AnyArray, Array, Mask

NODES = 16
X, WEIGHTS = np.polynomial.legendre.leggauss(NODES)
_DEGREE = np.arange(NODES)
# Of the polynomials at -1; at 1 all are 1.
_SIGNS = (-1.0) ** _DEGREE
# Values at the nodes -> coefficients of the Legendre series.
_SERIES = ((_DEGREE + 0.5)[:, None] * np.polynomial.legendre.legvander(X, NODES - 1).T * WEIGHTS).T
# What the last three coefficients of an interval may add to an integral, relative to it.
TOLERANCE = 1e-13
MOST_ROUNDS = 60
MOST_INTERVALS = 2000
# Rounding in sums over nodes and in the densities themselves; that of a value, relative to it.
ROUNDING = 2e-15
EPS = 2.0**-52
# Where to look for the mass of a density: this far from its top (in logs), at this many points.
DEPTH = 45.0
STEP = 0.25
FEWEST = 24
# Beyond this depth nothing counts: an outer interval is cut there if that leaves off this much of it.
ENDED = 38.0
WORTH = 0.5
# Values of tau below which a density that is unbounded at 0 shows how fast it rises; none smaller is told from 0.
TINY = (1e-200, 1e-150)
LEAST = 1e-290
# Intervals come no nearer to t = 1 than this: 1 - t has few digits there.
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
class PiecewiseDensity:
    """m densities of tau, as Legendre series on n intervals."""

    stretch: Stretch
    edges: Array  # (n + 1,): in t
    tau: Array  # (n * 16,): the nodes, in increasing order
    weight: Array  # (m, n * 16): probability of each node; every row adds up to 1
    series: Array  # (m, n, 16): Legendre coefficients of each density in t, on the scale where its integral is 1
    log_integral: Array  # (m,)
    error: Array  # (m,): relative error of the integral, and absolute error of any probability

    def cdf(self, tau: Array) -> Array:
        """Return P(T <= tau) of the first density."""
        t = self.stretch.to_t(np.asarray(tau, dtype=float))
        below = np.append(0.0, np.cumsum(self._masses))
        j, x, half = _place(self.edges, t)
        return np.clip(below[j] + half * _antiderivative(self.series[0], j, x, _polynomials(x)), 0.0, 1.0)

    def sf(self, tau: Array) -> Array:
        """Return P(T > tau) of the first density, accurate in the upper tail."""
        t = self.stretch.to_t(np.asarray(tau, dtype=float))
        masses = self._masses
        above = np.append(np.cumsum(masses[::-1])[::-1], 0.0)
        j, x, half = _place(self.edges, t)
        return np.clip(above[j] - half * _antiderivative(self.series[0], j, x, _polynomials(x)), 0.0, 1.0)

    def pdf(self, tau: Array) -> Array:
        """Return the density of the first T at tau, from its series."""
        tau = np.asarray(tau, dtype=float)
        j, x, _ = _place(self.edges, self.stretch.to_t(tau))
        series = (self.series[0][j] * _polynomials(x)[..., :-1]).sum(axis=-1)
        return np.maximum(series, 0.0) * np.exp(-self.stretch.log_slope(tau))

    def quantile(self, probability: Array) -> Array:
        """Return the values of tau below which each probability lies, by Newton's steps inside its interval."""
        p = np.asarray(probability, dtype=float)
        masses = self._masses
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
        edges, half = self.edges, 0.5 * np.diff(self.edges)
        low, high, x = np.full(p.shape, -1.0), np.ones(p.shape), np.zeros(p.shape)
        for _ in range(80):
            P = _polynomials(x)
            excess = half[j] * _antiderivative(self.series[0], j, x, P) - wanted
            low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
            slope = half[j] * (self.series[0][j] * P[..., :-1]).sum(axis=-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = np.where(slope > 0, excess / slope, np.inf)
            new = x - step
            new = np.where((new >= low) & (new <= high), new, 0.5 * (low + high))
            moved, x = np.abs(new - x), new
            # After a Newton step this short the next would be below rounding.
            if not (moved > 1e-9).any():
                break
        t = edges[j] + half[j] * (x + 1.0)
        return self.stretch.to_tau(t)

    @property
    def _masses(self) -> Array:
        return np.diff(self.edges) * self.series[0, :, 0]


def integrate(
    log_density: LogDensity, start: Array, stretch: Stretch, *, upper: float = np.inf, tolerance: float = TOLERANCE
) -> PiecewiseDensity:
    """Integrate m densities over [0, upper], beginning with intervals between the values of tau in `start`."""
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
        # No interval can be smoother than rounding of its log densities lets it be.
        enough = (tolerance + 4.0 * EPS * np.abs(top))[:, None]
        rough = (own * share > enough).any(axis=0) & divisible
        # An interval that is halved anyhow is no witness against those beside it: the next round asks again.
        met = _beside(np.where(rough[1:] | rough[:-1], 0.0, gap))
        rough |= ((own + met) * share > enough).any(axis=0) & divisible
        if not rough.any() or len(half) > MOST_INTERVALS or rounds == MOST_ROUNDS:
            break
        edges, values = _split(log_density, edges, values, rough, stretch)
    return _piecewise(stretch, edges, values, series, top, total, (own + _beside(gap)) * share)


def _gaps(series: Array) -> Array:
    """Return by how much the series of adjacent intervals miss one another at their common edges, (m, n - 1).

    A peak at an edge may fall between the nodes of a wide interval, which then looks smooth, and empty.
    """
    return np.abs(series[:, :-1].sum(axis=2) - series[:, 1:] @ _SIGNS)


def _beside(gap: Array) -> Array:
    """Return the gaps at both ends of each interval, (m, n)."""
    both = np.zeros((len(gap), gap.shape[1] + 1))
    both[:, 1:] = gap
    both[:, :-1] += gap
    return both


def head_of(log_tiny: Array) -> float:
    """Return the a of a density like tau^(a - 1) near 0 where it is unbounded there, else 1; from its logs at TINY."""
    with np.errstate(all="ignore"):
        head = 1.0 + float((log_tiny[1] - log_tiny[0]) / np.log(TINY[1] / TINY[0]))
    return head if 0.0 < head < 1.0 else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class TauDensity:
    """The prior of tau as the quadrature needs it."""

    log_density: Callable[[Array], Array]  # tau (B,) -> (B,), -inf outside the support
    upper: float  # end of the support
    tail: float  # a of the tail tau^-a; inf where it falls faster than any power
    marks: tuple[float, ...]  # some values of tau that show its scale, all positive
    proper: bool

    @property
    def head(self) -> float:
        """The a of a density like tau^(a - 1) near 0 where it is unbounded there, else 1."""
        with np.errstate(all="ignore"):
            return head_of(self.log_density(np.array(TINY)))


def mass_region(log_density: LogDensity, low: float, high: float, *, tail: float = np.inf) -> tuple[Array, Stretch]:
    """Return values of tau that cut the mass of a density into parts, and the map to use, both roughly.

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
    """Cut the outermost intervals, which begin at 0 and at the last tau, where the density has died away."""
    first, last, low, top = stretch.to_t(np.array([tau[0], tau[-1], *ends]))
    limit = float(stretch.to_t(np.array(high)))
    before = [ends[0]] if low > WORTH * first else []
    after = [ends[1]] if top - last < (1.0 - WORTH) * (limit - last) else []
    return np.concatenate([before, tau, after])


def _piecewise(
    stretch: Stretch, edges: Array, values: Array, series: Array, top: Array, total: Array, tail: Array
) -> PiecewiseDensity:
    half = 0.5 * np.diff(edges)
    log_total = top + np.log(total)
    t = (edges[:-1] + half)[:, None] + half[:, None] * X
    tau = stretch.to_tau(t)
    weight = np.exp(values - log_total[:, None, None]) * (half[:, None] * WEIGHTS)
    # What rounding of tau and of the log densities does to the densities, the steeper and the larger they are.
    steps = np.abs(np.diff(np.exp(values - log_total[:, None, None]).reshape(len(top), -1), axis=1))
    rounding = ROUNDING + EPS * (np.abs(top) + steps @ t.ravel()[1:])
    return PiecewiseDensity(
        stretch=stretch,
        edges=edges,
        tau=tau.ravel(),
        weight=weight.reshape(len(top), -1),
        series=series / total[:, None, None],
        log_integral=log_total,
        error=tail.sum(axis=1) + rounding,
    )


def _evaluate(log_density: LogDensity, lo: Array, hi: Array, stretch: Stretch) -> Array:
    """Return the log densities in t at the nodes of each interval, (m, intervals, 16)."""
    half = 0.5 * (hi - lo)
    tau = stretch.to_tau((lo + half)[:, None] + half[:, None] * X).ravel()
    found = log_density(tau) + stretch.log_slope(tau)
    return found.reshape(len(found), len(lo), NODES)


def _split(
    log_density: LogDensity, edges: Array, values: Array, rough: AnyArray, stretch: Stretch
) -> tuple[Array, Array]:
    """Halve the rough intervals."""
    lo, hi = edges[:-1][rough], edges[1:][rough]
    middle = 0.5 * (lo + hi)
    new = _evaluate(log_density, np.append(lo, middle), np.append(middle, hi), stretch)
    starts = np.concatenate([edges[:-1][~rough], lo, middle])
    order = np.argsort(starts)
    joined = np.concatenate([values[:, ~rough], new], axis=1)[:, order]
    return np.append(starts[order], edges[-1]), joined


def _place(edges: Array, t: Array) -> tuple[AnyArray, Array, Array]:
    """Return the interval of each t, its place in [-1, 1] there, and half the width of the interval."""
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


LOG_ROOT_2PI = 0.5 * float(np.log(2.0 * np.pi))
# Components lighter than this are left out: together they cannot move a probability in its 15th digit.
LIGHTEST = 1e-18
# The largest number that can be squared.
LARGEST = 1e150
# Cells of quantities x components worked on at once.
MOST_CELLS = 1_000_000
MOST_STEPS = 100


@dataclass(frozen=True, slots=True, eq=False)
class NormalMixture:
    """m mixtures of the same number of normals."""

    weight: Array  # (B,): adds up to 1
    mean: Array  # (m, B)
    sd: Array  # (m, B)

    @property
    def m(self) -> int:
        """Number of quantities."""
        return len(self.mean)

    def moments(self) -> tuple[Array, Array]:
        """Return mean and standard deviation, (m,) each."""
        mean = self.mean @ self.weight
        variance = (self.sd**2 + (self.mean - mean[:, None]) ** 2) @ self.weight
        return mean, np.sqrt(variance)

    def cdf(self, x: Array) -> Array:
        """Return P(quantity <= x) for x (m, q)."""
        return self._sum(x, lambda z, _: special.ndtr(z))

    def sf(self, x: Array) -> Array:
        """Return P(quantity > x) for x (m, q), accurate in the upper tail."""
        return self._sum(x, lambda z, _: special.ndtr(-z))

    def pdf(self, x: Array) -> Array:
        """Return the density at x (m, q)."""
        return self._sum(x, lambda z, sd: np.exp(-0.5 * z**2 - LOG_ROOT_2PI) / sd)

    def log_pdf(self, x: Array) -> Array:
        """Return the log density at one point of each quantity, x (m,), also where the density underflows."""
        z = (x[:, None] - self.mean) / self.sd
        return special.logsumexp(np.log(self.weight) - 0.5 * z**2 - np.log(self.sd), axis=1) - LOG_ROOT_2PI

    def quantile(self, probability: Array) -> Array:
        """Return the quantiles of each quantity, (m, q) for q probabilities."""
        p = np.asarray(probability, dtype=float)
        # The upper tail is the lower tail of the mirror image.
        sign, tail = np.where(p <= 0.5, 1.0, -1.0), np.minimum(p, 1.0 - p)
        rows = max(1, MOST_CELLS // (self.mean.shape[1] * max(len(p), 1)))
        out = np.empty((self.m, len(p)))
        for a in range(0, self.m, rows):
            s = slice(a, a + rows)
            mean = (self.mean[s, None, :] * sign[:, None]).reshape(-1, self.mean.shape[1])
            sd = np.repeat(self.sd[s], len(p), axis=0)
            found = _lower_quantile(self.weight, mean, sd, np.tile(tail, len(self.mean[s])))
            out[s] = sign * found.reshape(-1, len(p))
        return out

    def shortest(self, level: float) -> tuple[Array, Array]:
        """Return the shortest interval of each quantity that holds `level`, (m,) each.

        The best of a few intervals, then Newton's steps to equal density at both ends.
        """
        outside = 1.0 - level
        tails = outside * (np.arange(9) + 0.5) / 9.0
        ends = self.quantile(np.append(tails, tails + level)).reshape(self.m, 2, -1)
        best = np.argmin(ends[:, 1] - ends[:, 0], axis=1)
        i = np.arange(self.m)
        x = np.stack([ends[i, 0, best], ends[i, 1, best]], axis=1)
        for _ in range(MOST_STEPS):
            step = self._towards_equal(x, level)
            x = x - step
            if (np.abs(step) <= 1e-9 * (x[:, 1:] - x[:, :1])).all():
                break
        # Where the steps left the best interval for a longer one, or for nothing, there are several hills.
        lost = ~(x[:, 1] - x[:, 0] <= (ends[i, 1, best] - ends[i, 0, best]) * (1.0 + 1e-9))
        for j in np.flatnonzero(lost):
            x[j] = _shortest_of_one(self.row(int(j)), level)
        return x[:, 0], x[:, 1]

    def _towards_equal(self, x: Array, level: float) -> Array:
        """Return Newton's step for F(u) - F(l) = level and f(u) = f(l), (m, 2)."""
        f = self.pdf(x)
        slope = self._sum(x, lambda z, sd: -z * np.exp(-0.5 * z**2 - LOG_ROOT_2PI) / sd**2)
        excess = 1.0 - level - self.cdf(x[:, :1])[:, 0] - self.sf(x[:, 1:])[:, 0]
        unequal = f[:, 1] - f[:, 0]
        determinant = -f[:, 0] * slope[:, 1] + f[:, 1] * slope[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = (excess * slope[:, 1] - f[:, 1] * unequal) / determinant
            upper = (-f[:, 0] * unequal + slope[:, 0] * excess) / determinant
        return np.nan_to_num(np.stack([lower, upper], axis=1), nan=0.0, posinf=0.0, neginf=0.0)

    def row(self, i: int) -> NormalMixture:
        """Return one of the quantities."""
        return NormalMixture(self.weight, self.mean[i : i + 1], self.sd[i : i + 1])

    def _sum(self, x: Array, function: Callable[[Array, Array], Array]) -> Array:
        x = np.asarray(x, dtype=float)
        out = np.empty(x.shape)
        rows = max(1, MOST_CELLS // (self.mean.shape[1] * max(x.shape[1], 1)))
        for a in range(0, self.m, rows):
            s = slice(a, a + rows)
            sd = self.sd[s, None, :]
            z = (x[s, :, None] - self.mean[s, None, :]) / sd
            out[s] = function(z, sd) @ self.weight
        return out


def counting(weight: Array, size: Array) -> Mask:
    """Return which components matter for probabilities, or for the second moment of what has this size (B,) there."""
    spread = weight * np.square(np.minimum(size, LARGEST))
    return (weight > LIGHTEST * weight.max()) | (spread > LIGHTEST * spread.max())


def mixture(weight: Array, mean: Array, sd: Array) -> NormalMixture:
    """Return the mixtures without the components that count neither for a probability nor for a variance."""
    kept = counting(weight, sd.max(axis=0))
    w = weight[kept]
    return NormalMixture(w / w.sum(), mean[:, kept], sd[:, kept])


def _lower_quantile(weight: Array, mean: Array, sd: Array, p: Array) -> Array:
    """Return a p-quantile, p <= 1/2, of each row, by Newton's steps for the normal deviate of F."""
    z = special.ndtri(p)
    middle = int(np.searchsorted(np.cumsum(weight), 0.5))
    spread = sd[:, middle]
    x = mean[:, middle] + z * spread
    parts = mean + z[:, None] * sd
    low, high = parts.min(axis=1), parts.max(axis=1)
    active = np.arange(len(x))
    for _ in range(MOST_STEPS):
        deviate = (x[active, None] - mean[active]) / sd[active]
        F = special.ndtr(deviate) @ weight
        f = (np.exp(-0.5 * deviate**2 - LOG_ROOT_2PI) / sd[active]) @ weight
        short = p[active] > F
        low[active] = np.where(short, x[active], low[active])
        high[active] = np.where(short, high[active], x[active])
        with np.errstate(all="ignore"):
            u = special.ndtri(F)
            new = x[active] - (u - z[active]) * np.exp(-0.5 * u**2 - LOG_ROOT_2PI) / f
        inside = (new >= low[active]) & (new <= high[active])
        new = np.where(inside, new, 0.5 * (low[active] + high[active]))
        # After a Newton step this short the next would be below rounding.
        enough = np.where(inside, 1e-10 * spread[active], 1e-15 * (spread[active] + np.abs(new)))
        moved = np.abs(new - x[active])
        x[active] = new
        active = active[moved > enough]
        if not len(active):
            break
    return x


def _shortest_of_one(one: NormalMixture, level: float) -> tuple[float, float]:
    return shortest_interval(lambda p: one.quantile(p)[0], lambda x: one.pdf(x[None])[0], level=level)


def shortest_interval(
    quantile: Callable[[Array], Array], density: Callable[[Array], Array], *, level: float, lowest: float = -np.inf
) -> tuple[float, float]:
    """Return the shortest interval of a distribution that holds `level`; of one hill, the highest-density one.

    The density has the same height at both ends, unless one of them is `lowest`, where the distribution begins.
    """
    outside = 1.0 - level
    tails = outside * np.linspace(0.0, 1.0, 41)
    tails[0], tails[-1] = 1e-12 * outside, outside * (1.0 - 1e-12)
    ends = quantile(np.append(tails, tails + level)).reshape(2, -1)
    best = int(np.argmin(ends[1] - ends[0]))

    def slope(a: float) -> float:
        """Return by how much the density is higher at the lower end."""
        lower, upper = density(quantile(np.array([a, a + level])))
        return float(lower - upper)

    low, high = float(tails[max(best - 1, 0)]), float(tails[min(best + 1, len(tails) - 1)])
    if slope(low) * slope(high) < 0:
        a = float(optimize.brentq(slope, low, high, xtol=1e-16, rtol=1e-13))
        lower, upper = quantile(np.array([a, a + level]))
        return float(lower), float(upper)
    if best == 0 and np.isfinite(lowest):
        return lowest, float(quantile(np.array([level]))[0])
    return float(ends[0, best]), float(ends[1, best])


# Where the mass is looked for: this far below the top, in logs, and with so many points at a time.
GRID_DEPTH = 22.0
WIDE, PILOT = 29, 17
ROUNDS = 8
# So far below the top a rougher density is good enough.
LIGHT = 6.0
# Points so much further below the top are not worked out.
BEYOND = 2.0
FLOOR = 100.0
GRID_TOLERANCE = 1e-5
POWER = 1.5
# Share of the highest frequency that points can show, in the estimate of the error.
NEARLY = 0.95
# Points of a parameter that are tried on the look, and the most there may be.
SIZES = (*range(11, 42, 2), 49, 61, 81, 101)
MOST_POINTS = 400
SPARE = 0.6
DEGREE = 5
GRID_ROUNDING = 1e-13
GRID_TINY = 1e-300
NEWTON_STEPS = 8
# What lies below exp(-NOTHING) of a density does not count; the smallest number is about exp(-SMALLEST).
NOTHING, SMALLEST = 40.0, 660.0
# The largest u of a positive parameter: beyond it precisions, their products above all, would underflow.
HIGHEST_POINT = 60.0
# To reach a moment, its tail is followed until so much is left, in logs, but a density no further than MOST_DEPTH ...
MOMENT_DEPTH, MOST_DEPTH = 24.0, 120.0
# ... and its last point may have this share.
LAST_SHARE = 1e-9

# values of the parameters, (B,) each -> log density (B,)
LogDensities = Callable[..., Array]


@dataclass(frozen=True, slots=True)
class RealLine:
    """A parameter that can have any value: centre + scale sinh(u)."""

    centre: float
    scale: float
    span: tuple[float, float]

    def value(self, u: Array) -> Array:
        """Return the parameter at each u."""
        return self.centre + self.scale * np.sinh(u)

    def log_slope(self, u: Array) -> Array:
        """Return the log of its derivative by u."""
        return np.log(self.scale * np.cosh(u))

    def u(self, value: Array) -> Array:
        """Return u of each value."""
        return np.arcsinh((value - self.centre) / self.scale)


@dataclass(frozen=True, slots=True)
class HalfLine:
    """A positive parameter: scale exp(u - exp(-u)), or with an upper limit U / (1 + exp(-(u - exp(-u) + exp(u))))."""

    scale: float
    span: tuple[float, float]
    upper: float = np.inf

    def reaching(self, *, head: float = 1.0, tail: float = np.inf, depth: float = GRID_DEPTH) -> HalfLine:
        """Return the line with the span that a density like x^(head - 1) at 0 and x^-tail wants for this depth."""
        deep = min(NOTHING / min(head, 1.0), SMALLEST)
        low = -np.log(deep) if np.isinf(self.upper) else -np.arcsinh(0.5 * deep)
        high = min(4.0 + depth / (tail - 1.0), HIGHEST_POINT) if np.isfinite(tail) else -np.inf
        start, end = self.span
        return replace(self, span=(start if head >= 1.0 else min(start, float(low)), max(end, high)))

    def value(self, u: Array) -> Array:
        """Return the parameter at each u."""
        if np.isinf(self.upper):
            return self.scale * np.exp(u - np.exp(-u))
        return self.upper * special.expit(u + 2.0 * np.sinh(u))

    def log_slope(self, u: Array) -> Array:
        """Return the log of its derivative by u."""
        if np.isinf(self.upper):
            return np.log(self.value(u)) + np.log1p(np.exp(-u))
        share = special.expit(u + 2.0 * np.sinh(u))
        return np.log(self.upper * share) + np.log1p(-share) + np.log1p(2.0 * np.cosh(u))

    def u(self, value: Array) -> Array:
        """Return u of each value; positive ones only."""
        value = np.asarray(value, dtype=float)
        if np.isinf(self.upper):
            s = np.log(np.maximum(value, GRID_TINY) / self.scale)
            # u - exp(-u) = s: exp(-u) is Wright's omega of -s.
            return s + special.wrightomega(-s)
        s = special.logit(np.clip(value / self.upper, GRID_TINY, 1.0 - 1e-16))
        u = np.arcsinh(0.5 * s)
        for _ in range(NEWTON_STEPS):
            u = u - (u + 2.0 * np.sinh(u) - s) / (1.0 + 2.0 * np.cosh(u))
        return u


Line = RealLine | HalfLine


@dataclass(frozen=True, slots=True, eq=False)
class SincDensity:
    """The distribution of one parameter through equally spaced points of u."""

    line: Line
    u: Array  # (n,): equally spaced
    weight: Array  # (n,): probability of each; adds up to 1

    @property
    def value(self) -> Array:
        """The parameter at the points."""
        return self.line.value(self.u)

    def cdf(self, x: Array) -> Array:
        """Return P(parameter <= x) for x (q,)."""
        return np.clip(self.steps(self.line.u(x)) @ self.weight, 0.0, 1.0)

    def pdf(self, x: Array) -> Array:
        """Return the density at x (q,)."""
        u = self.line.u(x)
        inside = (u > self.u[0] - self._step) & (u < self.u[-1] + self._step)
        found = np.zeros(u.shape)
        found[inside] = np.maximum(self.heights(u[inside]) @ self.weight, 0.0) * np.exp(-self.line.log_slope(u[inside]))
        return found

    def moments(self, tail: float) -> int:
        """Return how many moments, at most 2, of a density with the tail x^-tail are finite and in reach."""
        return sum(tail - order > 1.0 and self.reaches(order) for order in (1, 2))

    def reaches(self, order: int) -> bool:
        """Return whether a moment has died away where the points end, or does so fast."""
        parts = (self.weight * np.abs(self.value) ** order)[self.weight > 0]
        return all(
            last <= LAST_SHARE * parts.sum() or last < 0.5 * before
            for last, before in ((parts[-1], parts[-2]), (parts[0], parts[1]))
        )

    def steps(self, u: Array) -> Array:
        """Return what each point adds to the distribution function at u (q,), (q, n): a smoothed step."""
        return 0.5 + special.sici(np.pi * (u[:, None] - self.u) / self._step)[0] / np.pi

    def heights(self, u: Array) -> Array:
        """Return what each point adds to the density by u at u (q,), (q, n)."""
        place, j = (u - self.u[0]) / self._step, np.arange(len(self.u))
        gap = np.pi * (place[:, None] - j)
        # sin(gap) is the same for every point but for its sign: one sine a row instead of n.
        nearest = np.rint(place)
        wave = np.sin(np.pi * (place - nearest)) * (1.0 - 2.0 * (nearest % 2))
        signed = wave[:, None] * (1.0 - 2.0 * (j % 2))
        return np.divide(signed, gap, out=np.ones(gap.shape), where=gap != 0.0) / self._step

    @property
    def _step(self) -> float:
        return float(self.u[1] - self.u[0])


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A density of one or two parameters on a grid."""

    lines: tuple[Line, ...]
    u: tuple[Array, ...]  # of each parameter
    weight: Array  # (n1,) or (n1, n2): probability of each point; adds up to 1
    log_integral: float
    error: float  # of the log integral

    def values(self) -> tuple[Array, ...]:
        """Return the parameters at the points that count, with their weights last, (B,) each."""
        mesh = np.meshgrid(*(line.value(u) for line, u in zip(self.lines, self.u, strict=True)), indexing="ij")
        kept = self.weight > 0
        return (*(one[kept] for one in mesh), self.weight[kept])

    def log_density(self) -> Array:
        """Return the log of what was integrated at the points of `values`, (B,)."""
        kept = self.weight > 0
        mesh = np.meshgrid(*self.u, indexing="ij")
        slopes = sum(line.log_slope(one[kept]) for line, one in zip(self.lines, mesh, strict=True))
        steps = float(sum(np.log(one[1] - one[0]) for one in self.u))
        return self.log_integral + np.log(self.weight[kept]) - steps - slopes

    def marginal(self, i: int) -> SincDensity:
        """Return the distribution of one parameter."""
        return SincDensity(self.lines[i], self.u[i], self.weight.sum(axis=_others(i, len(self.lines))))


def integrate_grid(
    density: LogDensities,
    lines: Sequence[Line],
    *,
    pilot: LogDensities | None = None,
    light: LogDensities | None = None,
    tolerance: float = GRID_TOLERANCE,
    depth: float = GRID_DEPTH,
    power: float = POWER,
    everywhere: bool = False,
) -> Grid:
    """Integrate a density over its parameters; `pilot` is a cheap stand-in that only shows where the mass lies.

    `light` is one that is good enough far below the top. The density is followed until it has fallen by `depth`, in
    logs. The error is that of half the points to the `power`: 2 where errors fall geometrically, as for analytic
    densities; less is on the safe side. With `everywhere` no point of the grid is passed over as negligible: where a
    density falls off steeply, the look is too coarse to tell.
    """
    seen, u = _locate(pilot or density, lines, tolerance ** (POWER / power), depth)

    def rough(*at: Array) -> Array | None:
        """Return the rough log density on a grid."""
        return None if everywhere else seen(*at)

    values = _evaluate_grid(density, lines, u, rough(*u), depth, light)
    errors = _errors(values, power)
    while max(errors) > tolerance:
        i = int(np.argmax(errors))
        if 2 * len(u[i]) > MOST_POINTS:
            break
        finer = np.linspace(u[i][0], u[i][-1], 2 * len(u[i]) - 1)
        between = tuple(finer[1::2] if j == i else one for j, one in enumerate(u))
        new = _evaluate_grid(density, lines, between, rough(*between), depth, light)
        joined = np.empty([len(finer) if j == i else len(one) for j, one in enumerate(u)])
        where = [slice(None)] * len(u)
        for offset, part in ((0, values), (1, new)):
            where[i] = slice(offset, None, 2)
            joined[tuple(where)] = part
        values, u = joined, [finer if j == i else one for j, one in enumerate(u)]
        errors = _errors(values, power)
    top = values.max()
    weight = np.exp(values - top)
    total = weight.sum()
    steps = [float(one[1] - one[0]) for one in u]
    log_integral = float(top + np.log(total) + np.log(steps).sum())
    error = float(sum(errors)) + GRID_ROUNDING + _beyond(weight, lines, u)
    return Grid(tuple(lines), tuple(u), weight / total, log_integral, error)


def moment_depth(tail: float, depth: float) -> float:
    """Return how far a density with the tail x^-tail must be followed for its second moment, or the first."""
    finite = next((n for n in (2, 1) if tail - n > 1.0), 0)
    if not finite or np.isinf(tail):
        return depth
    return min(max(depth, MOMENT_DEPTH * (tail - 1.0) / (tail - 1.0 - finite)), MOST_DEPTH)


def _beyond(weight: Array, lines: Sequence[Line], u: Sequence[Array]) -> float:
    """Return the share that lies beyond the spans of the lines, as if it went on as it ends."""
    total = 0.0
    for i, (line, at) in enumerate(zip(lines, u, strict=True)):
        own = weight.sum(axis=_others(i, len(lines)))
        for end, inner in ((0, 1), (-1, -2)):
            if abs(at[end] - line.span[end]) < 1e-9 and own[end] > 0:
                fall = min(own[end] / own[inner], 0.99) if own[inner] > 0 else 0.99
                total += float(own[end] * fall / (1.0 - fall) / own.sum())
    return total


def _locate(
    pilot: LogDensities, lines: Sequence[Line], tolerance: float, depth: float
) -> tuple[Callable[..., Array], list[Array]]:
    """Return a rough log density on any grid, and the grid to begin with."""
    u = [np.linspace(*line.span, WIDE) for line in lines]
    for _ in range(ROUNDS):
        grid, values = u, _evaluate_grid(pilot, lines, u, None, depth)
        close = values > values.max() - depth
        u = []
        for i, one in enumerate(grid):
            inside = np.flatnonzero(close.any(axis=_others(i, values.ndim)))
            step = one[1] - one[0]
            # The top lies between points: the finer the grid, the less can hide there.
            low, high = lines[i].span
            u.append(np.linspace(max(one[inside[0]] - step, low), min(one[inside[-1]] + step, high), PILOT))
        if all(np.ptp(new) > 0.75 * np.ptp(old) for new, old in zip(u, grid, strict=True)):
            break
    weight = np.exp(values - values.max())
    sizes = [
        _size(old, weight.sum(axis=_others(i, values.ndim)), new, tolerance)
        for i, (old, new) in enumerate(zip(grid, u, strict=True))
    ]
    return _interpolator(grid, values), [np.linspace(a[0], a[-1], n) for a, n in zip(u, sizes, strict=True)]


def _others(i: int, axes: int) -> tuple[int, ...]:
    return tuple(j for j in range(axes) if j != i)


def _size(u: Array, marginal: Array, wanted: Array, tolerance: float) -> int:
    """Return how many points one parameter seems to need, by a smooth curve through its rough density."""
    curve = interpolate.make_interp_spline(u, np.log(np.maximum(marginal, np.exp(-0.5 * FLOOR))), k=DEGREE)
    for n in SIZES:
        if _errors(curve(np.linspace(wanted[0], wanted[-1], n)))[0] < SPARE * tolerance:
            return n
    return SIZES[-1]


def _interpolator(u: Sequence[Array], values: Array) -> Callable[..., Array]:
    floor = values.max() - FLOOR
    held = np.maximum(values, floor)

    def rough(*at: Array) -> Array:
        """Return the rough log density on a grid."""
        out = held
        for i, (one, new) in enumerate(zip(u, at, strict=True)):
            place = np.clip((new - one[0]) / (one[1] - one[0]), 0.0, len(one) - 1.0)
            left = np.minimum(place.astype(int), len(one) - 2)
            share = place - left
            out = np.moveaxis(out, i, 0)
            shape = (-1, *([1] * (out.ndim - 1)))
            out = out[left] * (1.0 - share).reshape(shape) + out[left + 1] * share.reshape(shape)
            out = np.moveaxis(out, 0, i)
        return out

    return rough


def _evaluate_grid(
    density: LogDensities,
    lines: Sequence[Line],
    u: Sequence[Array],
    rough: Array | None,
    depth: float,
    light: LogDensities | None = None,
) -> Array:
    """Return the log density by u on a grid; -inf where the rough one is negligible."""
    mesh = np.meshgrid(*u, indexing="ij")
    wanted = np.ones(mesh[0].shape, dtype=bool) if rough is None else rough > rough.max() - depth - BEYOND
    out = np.full(mesh[0].shape, -np.inf)
    far = np.zeros_like(wanted)
    if rough is not None and light is not None:
        far = wanted & (rough < rough.max() - LIGHT)
    for which, what in ((wanted & ~far, density), (far, light)):
        if what is not None and which.any():
            points = [one[which] for one in mesh]
            slopes = sum(line.log_slope(one) for line, one in zip(lines, points, strict=True))
            out[which] = what(*(line.value(one) for line, one in zip(lines, points, strict=True))) + slopes
    return out


def _errors(values: Array, power: float = POWER) -> list[float]:
    """Return the relative error by each parameter, from how fast the density seems to vary at most.

    Of a wave that nearly alternates from point to point: its size is that of the error with half the points, and
    unlike that error it is never 0 by chance.
    """
    weight = np.exp(values - values.max())
    whole = weight.sum()
    out = []
    for i in range(values.ndim):
        wave = np.exp(1j * NEARLY * np.pi * np.arange(values.shape[i]))
        out.append(float(np.abs(weight.sum(axis=_others(i, values.ndim)) @ wave) / whole) ** power)
    return out
