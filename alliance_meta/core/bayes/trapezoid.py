r"""Integration over one or two parameters by the trapezoid rule, in coordinates in which every tail dies away fast.

A mean is :math:`c + s \sinh u`; a positive parameter :math:`s \exp(u - e^{-u})`, which comes to 0 double
exponentially (Takahasi & Mori 1974, doi:10.2977/prims/1195192451). Equally spaced points in u then converge
geometrically, few of them suffice, and the sinc series through them is the density of the parameter, with
distribution function and quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import interpolate, special

from alliance_meta._typing import Array

# Where the mass is looked for: this far below the top, in logs, and with so many points at a time.
DEPTH = 22.0
WIDE, PILOT = 29, 17
ROUNDS = 8
# So far below the top a rougher density is good enough.
LIGHT = 6.0
# Points so much further below the top are not worked out.
BEYOND = 2.0
FLOOR = 100.0
TOLERANCE = 1e-5
POWER = 1.5
# Share of the highest frequency that points can show, in the estimate of the error.
NEARLY = 0.95
# Points of a parameter that are tried on the look, and the most there may be.
SIZES = (*range(11, 42, 2), 49, 61, 81, 101)
MOST_POINTS = 400
SPARE = 0.6
DEGREE = 5
ROUNDING = 1e-13
TINY = 1e-300
NEWTON_STEPS = 8
# What lies below exp(-NOTHING) of a density does not count; the smallest number is about exp(-SMALLEST).
NOTHING, SMALLEST = 40.0, 660.0
# The largest u of a positive parameter: beyond it precisions, their products above all, would underflow.
HIGHEST = 60.0
# To reach a moment, its tail is followed until so much is left, in logs, but a density no further than MOST_DEPTH ...
MOMENT_DEPTH, MOST_DEPTH = 24.0, 120.0
# ... and its last point may have this share.
LAST_SHARE = 1e-9

# values of the parameters, (B,) each -> log density (B,)
LogDensity = Callable[..., Array]


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

    def reaching(self, *, head: float = 1.0, tail: float = np.inf, depth: float = DEPTH) -> HalfLine:
        """Return the line with the span that a density like x^(head - 1) at 0 and x^-tail wants for this depth."""
        deep = min(NOTHING / min(head, 1.0), SMALLEST)
        low = -np.log(deep) if np.isinf(self.upper) else -np.arcsinh(0.5 * deep)
        high = min(4.0 + depth / (tail - 1.0), HIGHEST) if np.isfinite(tail) else -np.inf
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
            s = np.log(np.maximum(value, TINY) / self.scale)
            # u - exp(-u) = s: exp(-u) is Wright's omega of -s.
            return s + special.wrightomega(-s)
        s = special.logit(np.clip(value / self.upper, TINY, 1.0 - 1e-16))
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
    density: LogDensity,
    lines: Sequence[Line],
    *,
    pilot: LogDensity | None = None,
    light: LogDensity | None = None,
    tolerance: float = TOLERANCE,
    depth: float = DEPTH,
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

    values = _evaluate(density, lines, u, rough(*u), depth, light)
    errors = _errors(values, power)
    while max(errors) > tolerance:
        i = int(np.argmax(errors))
        if 2 * len(u[i]) > MOST_POINTS:
            break
        finer = np.linspace(u[i][0], u[i][-1], 2 * len(u[i]) - 1)
        between = tuple(finer[1::2] if j == i else one for j, one in enumerate(u))
        new = _evaluate(density, lines, between, rough(*between), depth, light)
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
    error = float(sum(errors)) + ROUNDING + _beyond(weight, lines, u)
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
    pilot: LogDensity, lines: Sequence[Line], tolerance: float, depth: float
) -> tuple[Callable[..., Array], list[Array]]:
    """Return a rough log density on any grid, and the grid to begin with."""
    u = [np.linspace(*line.span, WIDE) for line in lines]
    for _ in range(ROUNDS):
        grid, values = u, _evaluate(pilot, lines, u, None, depth)
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


def _evaluate(
    density: LogDensity,
    lines: Sequence[Line],
    u: Sequence[Array],
    rough: Array | None,
    depth: float,
    light: LogDensity | None = None,
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
