"""Profile likelihood of one covariance parameter: the likelihood maximised over all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.distributions import chi2_quantile
from alliance_meta.core.mixed.search import MOST_STEPS, MixedFit, climb

# A variance is followed up to this multiple of itself and of the typical sampling variance.
FAR = 1e3
# A climb along the curve ends where it has as little as this to gain.
LEVEL = 1e-10
# Steps towards points that only have to show where the curve crosses.
FIRST_STEPS = 6
# So many points of each way come before the others.
NEARER = 3
# A Newton step as short as this, as a share of the way from the estimate, ends on the crossing.
STEP = 1e-6
MOST_ROUNDS = 100
# Where the interval has no end, the curve is followed up to this multiple of both.
OPEN = 30.0
BEYOND = 0.12
# A likelihood this much higher than the maximum, or after a dip, is another peak.
HIGHER = 1e-6
DIP = 1e-4
# A curve that has fallen by less than this where it ends does not tell the parameter.
FLAT = 1e-2
# An estimate this near to the end of the range, as a share of the curve's width, lies at it.
NEAR = 1e-6


@dataclass(frozen=True, eq=False)
class Held:
    """The best points with one parameter held at several values.

    Parameters (m, n), likelihoods, their slopes, and whether they are as high as a climb comes.
    """

    theta: Array
    loglik: Array
    slope: Array
    done: Mask

    def replaced(self, at: Sequence[int] | Mask, by: Held) -> Held:
        """Return the same with some points exchanged."""
        new = Held(self.theta.copy(), self.loglik.copy(), self.slope.copy(), self.done.copy())
        new.theta[at], new.loglik[at], new.slope[at], new.done[at] = by.theta, by.loglik, by.slope, by.done
        return new


def held(fit: MixedFit, parameter: int, values: Array, start: Array, *, rough: bool = False) -> Held:
    """Maximise the likelihood with one parameter held at each value, all at once, from the rows of `start` (m, n).

    In a few steps only, if `rough`; else points that have not settled set out once more.
    """
    problem = fit.point.problem
    fixed = fit.fixed.copy()
    fixed[parameter] = True
    theta = np.array(np.broadcast_to(start, (len(values), problem.n)))
    theta[:, parameter] = values
    found = climb(problem, theta, fixed, enough=LEVEL, most=FIRST_STEPS if rough else MOST_STEPS)
    points = Held(found.theta, found.value, found.gradient[:, parameter], found.settled | (not rough))
    unsettled = ~found.settled
    if unsettled.any() and not rough:
        again = climb(problem, found.theta[unsettled], fixed, enough=LEVEL)
        points = points.replaced(
            unsettled, Held(again.theta, again.value, again.gradient[:, parameter], np.ones_like(again.settled))
        )
    return points


def profile(fit: MixedFit, parameter: int, values: Sequence[float] | Array, *, near: Sequence[_End] = ()) -> Array:
    """Return the profile log-likelihood at each value of a parameter, (m,).

    Every search starts at the estimate, or between points of the curve that are `near` where that is higher, and again
    from where its neighbours' ended while that is the better start: a curve can have two branches.
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    found = held(fit, parameter, values[order], _starts(fit, parameter, values[order], near))
    for _ in range(len(values)):
        changed = False
        for step in (1, -1):
            start = np.roll(found.theta, step, axis=0)
            start[:, parameter] = values[order]
            better = fit.point.problem.at(start).logliks > found.loglik + HIGHER
            if better.any():
                found = found.replaced(better, held(fit, parameter, values[order][better], start[better]))
                changed = True
        if not changed:
            break
    out = np.empty(len(values))
    out[order] = found.loglik
    return out


def _starts(fit: MixedFit, parameter: int, values: Array, near: Sequence[_End]) -> Array:
    """Return the higher of the estimate and the lines between points of the curve, at each value, (m, n)."""
    known = sorted([_End(float(fit.theta[parameter]), 0.0, np.inf, fit.theta), *near], key=lambda one: one.value)
    where, theta = np.array([one.value for one in known]), np.array([one.theta for one in known])
    estimate = np.tile(fit.theta, (len(values), 1))
    line = np.column_stack([np.interp(values, where, column) for column in theta.T])
    estimate[:, parameter] = line[:, parameter] = values
    height = fit.point.problem.at(np.concatenate([estimate, line])).logliks
    return np.where((height[: len(values)] >= height[len(values) :])[:, None], estimate, line)


def profile_interval(fit: MixedFit, parameter: int, *, level: float) -> tuple[float, float]:
    """Return where the profile likelihood has fallen by half the chi-squared quantile.

    The lower bound is the edge of the range where it does not fall so far; the upper is infinite then, unless the
    range ends (a correlation of 1).
    """
    return _interval(fit, parameter, level)[0]


def _interval(fit: MixedFit, parameter: int, level: float) -> tuple[tuple[float, float], list[_End]]:
    """Return the interval, and the points of the curve that were found on the way to it."""
    drop = 0.5 * chi2_quantile(level, 1.0)
    low, high = (float(edge[parameter]) for edge in fit.point.problem.bounds)
    estimate = float(fit.theta[parameter])
    shares = np.linspace(1.0, 0.0, 7)[1:]
    ways: list[Array] = [np.empty(0), np.empty(0)]
    if np.isfinite(low) and estimate > low:
        ways[0] = low + (estimate - low) * shares
    if not np.isfinite(high):
        typical = float(fit.point.problem.plan.d.mean())
        step = max(estimate, 0.1 * typical)
        most = 2 + int(np.ceil(np.log2(1.0 + FAR * max(estimate, typical) / step)))
        ways[1] = estimate + step * (2.0 ** np.arange(1, most) - 1.0)
    elif estimate < high:
        ways[1] = high - (high - estimate) * shares
    found, points = _crossings(fit, parameter, ways, drop)
    lower, upper = (end if np.isnan(at) else at for at, end in zip(found, (low, high), strict=True))
    return (lower, upper), points


def _crossings(fit: MixedFit, parameter: int, ways: Sequence[Array], drop: float) -> tuple[list[float], list[_End]]:
    """Return where the curve has fallen by the drop first on each way away from the estimate, or NaN; the points."""
    here = _End(float(fit.theta[parameter]), 0.0, np.inf, fit.theta)
    paths = [[here] for _ in ways]
    # The ends of the ways are steep and slow; most curves cross before.
    for part in (slice(None, NEARER), slice(NEARER, None)):
        going = [path[-1].fallen <= drop for path in paths]
        values = [way[part] if go else way[:0] for way, go in zip(ways, going, strict=True)]
        _follow(fit, parameter, paths, values, drop)
    crossed = [i for i, path in enumerate(paths) if path[-1].fallen > drop]
    brackets = [(paths[i][-2], paths[i][-1]) for i in crossed]
    roots = _closed_in(fit, parameter, brackets, drop)
    found = [np.nan] * len(ways)
    for i, root in zip(crossed, roots, strict=True):
        found[i] = root
    return found, [one for path in (*paths, *brackets) for one in path if one is not here]


def _follow(fit: MixedFit, parameter: int, paths: list[list[_End]], values: Sequence[Array], drop: float) -> None:
    """Lengthen each path by points at its values, as far as the first where the curve has fallen by the drop.

    All points are found roughly first, and then well where the drop is met and just before.
    """
    where = np.concatenate(values)
    if not where.size:
        return
    first = np.cumsum([0, *(one.size for one in values)])
    start = np.repeat([path[-1].theta for path in paths], np.diff(first), axis=0)
    points = held(fit, parameter, where, start, rough=True)
    while True:
        fallen = fit.point.loglik - points.loglik > drop
        ends = [next((i for i in range(a, b) if fallen[i]), b - 1) for a, b in pairwise(first)]
        wanted = [i for end, a in zip(ends, first, strict=False) for i in (end - 1, end) if i >= a]
        left = [i for i in wanted if not points.done[i]]
        if not left:
            break
        points = points.replaced(left, held(fit, parameter, where[left], points.theta[left]))
    for path, end, a in zip(paths, ends, first, strict=False):
        path.extend(_end(fit, parameter, points, i) for i in wanted if a <= i <= end)


class _End(NamedTuple):
    """A point of the curve: the parameter, how far the likelihood has fallen, how fast it falls, and all parameters."""

    value: float
    fallen: float
    rate: float
    theta: Array


def _end(fit: MixedFit, parameter: int, points: Held, at: int) -> _End:
    fallen, rate = fit.point.loglik - float(points.loglik[at]), -float(points.slope[at])
    return _End(float(points.theta[at, parameter]), fallen, rate, points.theta[at])


def _closed_in(fit: MixedFit, parameter: int, brackets: list[tuple[_End, _End]], drop: float) -> list[float]:
    """Return where the curve crosses the drop between two points, for all such pairs at once, drawn closer in place."""
    found = [np.nan] * len(brackets)
    widths = [abs(far.value - float(fit.theta[parameter])) for _, far in brackets]
    left, halve = list(range(len(brackets))), [False] * len(brackets)
    for _ in range(MOST_ROUNDS):
        if not left:
            break
        to = np.array([_between(*brackets[i], drop, halve[i]) for i in left])
        start = np.array([_line(*brackets[i], value) for i, value in zip(left, to, strict=True)])
        points = held(fit, parameter, to, start)
        still = []
        for row, i in enumerate(left):
            near, far = brackets[i]
            new = _end(fit, parameter, points, row)
            found[i] = new.value
            step = (drop - new.fallen) / new.rate if new.rate else np.inf
            if abs(step) <= STEP * widths[i]:
                found[i] += step
                continue
            brackets[i] = (near, new) if new.fallen > drop else (new, far)
            size = abs(brackets[i][1].value - brackets[i][0].value)
            halve[i] = size > 0.5 * abs(far.value - near.value)
            if size > 1e-13 * abs(far.value):
                still.append(i)
        left = still
    return found


def _line(near: _End, far: _End, value: float) -> Array:
    """Return all parameters at a value, on the straight line between two points."""
    share = (value - near.value) / (far.value - near.value)
    return np.asarray(near.theta + share * (far.theta - near.theta))


def _between(near: _End, far: _End, drop: float, halve: bool) -> float:
    """Return where the curve should cross: the root of the fall is nearly a line, and known with its slope.

    Its inverse is interpolated, by a cubic, or by a parabola from a point where nothing has fallen yet.
    """
    middle = 0.5 * (near.value + far.value)
    if halve or near.fallen < 0:
        return middle
    a, b, aim = np.sqrt(near.fallen), np.sqrt(far.fallen), np.sqrt(drop)
    slopes = [2.0 * root / one.rate if one.rate else np.nan for root, one in ((a, near), (b, far))]
    width, t = b - a, (aim - a) / (b - a)
    to = near.value + t * (far.value - near.value)
    curve = [(slope * width - (far.value - near.value)) for slope in slopes]
    if np.isfinite(near.rate):
        to += t * (1.0 - t) * ((1.0 - t) * curve[0] - t * curve[1])
    else:
        to -= t * (1.0 - t) * curve[1]
    inside = min(near.value, far.value) < to < max(near.value, far.value)
    return float(to) if inside else middle


@dataclass(frozen=True, eq=False)
class ProfileCurve:
    """The profile of one parameter, in its own units."""

    # values, loglik (m,): rising values around the interval, and the likelihood at each.
    values: Array
    loglik: Array
    # estimate, peak: the fit's value and its log-likelihood.
    estimate: float
    peak: float
    # lb, ub: where the curve crosses the cut-off; the edge of the range, or infinite, where it does not.
    lb: float
    ub: float
    cutoff: float  # the log-likelihood that the values of the interval reach
    edges: tuple[float, float]  # the lowest and the highest value allowed

    @property
    def verdict(self) -> str:
        """``peak``, ``edge`` (the maximum is the end of the range), ``flat``, ``higher`` or ``several``.

        ``higher``: elsewhere the likelihood exceeds the fit's. ``several``: it falls and rises again. ``flat``: on
        one side it does not fall.
        """
        if float(self.loglik.max()) > self.peak + HIGHER:
            return "higher"
        below, above = self.values < self.estimate, self.values > self.estimate
        sides = [self.loglik[below][::-1], self.loglik[above]]
        for side in sides:
            lowest = np.minimum.accumulate(np.append(self.peak, side))
            if side.size and float((side - lowest[1:]).max()) > DIP:
                return "several"
        near = NEAR * float(self.values[-1] - self.values[0])
        inside = [self.estimate > self.edges[0] + near, self.estimate < self.edges[1] - near]
        for side, needed in zip(sides, inside, strict=True):
            if needed and (not side.size or self.peak - float(side[-1]) < FLAT):
                return "flat"
        return "peak" if all(inside) else "edge"


def profile_curve(fit: MixedFit, parameter: int, *, level: float, points: int) -> ProfileCurve:
    """Return the profile at so many points around its interval."""
    (lb, ub), points_near = _interval(fit, parameter, level)
    low, high = (float(edge[parameter]) for edge in fit.point.problem.bounds)
    estimate = float(fit.theta[parameter])
    typical = float(fit.point.problem.plan.d.mean())
    end = ub if np.isfinite(ub) else OPEN * max(estimate, typical)
    first = lb if np.isfinite(lb) else estimate - (end - estimate)
    width = end - first
    first, end = max(low, first - 0.5 * width), min(high, end + BEYOND * width)
    spaced = low == 0.0 and not np.isfinite(high)
    values = np.linspace(np.sqrt(first), np.sqrt(end), points) ** 2 if spaced else np.linspace(first, end, points)
    cutoff = fit.point.loglik - 0.5 * chi2_quantile(level, 1.0)
    loglik = profile(fit, parameter, values, near=points_near)
    return ProfileCurve(values, loglik, estimate, fit.point.loglik, lb, ub, cutoff, (low, high))
