"""The highest likelihood of a selection model: Newton's method from several starts at once, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.distributions import chi2_quantile
from alliance_meta.core.selection.weights import SelectionProblem
from alliance_meta.core.univariate.location_scale import fit_location_scale
from alliance_meta.core.univariate.search import log_likelihood, maximise
from alliance_meta.core.univariate.wls import make_batch, wls

MAX_ITERATIONS = 100
# What Newton's quadratic model sees as still to be gained, relative to 1 + |log-likelihood|, where a climb ends.
GAIN = 1e-13
# A step changes a mean by no more than so many times the spread of effects, a log of tau2 or of a weight by so much.
LONGEST = (4.0, 4.0, 4.0)
# Where the likelihood is convex a step is so many times Newton's.
UPHILL = 3.0
# How far a logarithm goes at a step where what it is the logarithm of tends to 0.
EBBING = -4.0
# How far log(tau2) may lie from that of the typical variance.
TAU2_REACH = 32.0
# A step is shortened by this, so often, until it leads up by this share of what it should.
SHORTENED, MOST_SHORTER, SUFFICIENT = 0.4, 30, 1e-4
# Climbs that are so near to a higher one, every so many steps, end there.
SAME, LOOKED = 1e-2, 3
# Likelihoods that differ by less, relative to 1 + their size, are the same.
ROUNDING = 1e-10
# Parameters so near to a bound are at it; a curvature this small, in units of the parameters' own, is none.
EDGE, FLAT = 1e-3, 1e-9


class Climbed(NamedTuple):
    """Where B climbs ended: parameters (B, n), log-likelihoods (B,), derivatives, and whether each was done."""

    theta: Array
    loglik: Array
    gradient: Array
    hessian: Array
    done: Mask
    iterations: int

    def highest(self, rows: slice) -> Climbed:
        """Return the highest of some climbs, as one row; those that were ended for being near to it do not count."""
        value = np.where(self.done[rows], self.loglik[rows], -np.inf)
        at = np.arange(len(self.loglik))[rows][int(np.argmax(value if self.done[rows].any() else self.loglik[rows]))]
        row = slice(at, at + 1)
        parts = self.theta[row], self.loglik[row], self.gradient[row], self.hessian[row], self.done[row]
        return Climbed(*parts, self.iterations)


def bounds(problem: SelectionProblem) -> tuple[Array, Array]:
    """Return what parameters are kept between, (n,) and (n,); those of moderators have no bounds."""
    low, high = np.full(problem.n, -np.inf), np.full(problem.n, np.inf)
    typical = float(np.log(problem.v).mean())
    ends = [(typical - TAU2_REACH, typical + TAU2_REACH), *[problem.weights.reach] * problem.weights.d]
    for part, (least, most) in zip(problem.slices[1:], ends, strict=True):
        if part.stop - part.start == 1:
            low[part], high[part] = least, most
    return low, high


def climb(
    problem: SelectionProblem,
    start: Array,
    *,
    weights: Array | None = None,
    held: Mask | None = None,
    merge: bool = False,
) -> Climbed:
    """Climb from each row of `start` (B, n), with effects counted as often as weights (B, k) say.

    Parameters `held`, (n,) or (B, n), stay. With `merge`, climbs end that come near to a higher one with the same held;
    they are not `done`. Curvature is turned downwards where it is not, a step that does not lead up enough is
    shortened, and a parameter at a bound that it pushes against is held while it does.
    """

    def look(theta: Array, rows: IntArray) -> tuple[Array, Array, Array]:
        point = problem.at(theta)
        own = None if weights is None else weights[rows]
        return point.loglik(own), point.gradient(own), point.hessian(own)

    stays = np.broadcast_to(False if held is None else held, start.shape)
    return ascend(look, start, bounds(problem), _longest(problem), stays, merge)


# Log-likelihood, gradient and curvature at theta (m, n) of some rows (m,).
Look = Callable[[Array, IntArray], tuple[Array, Array, Array]]


def ascend(
    look: Look,
    start: Array,
    ends: tuple[Array, Array],
    longest: Array,
    stays: Mask | None = None,
    merge: bool = False,
) -> Climbed:
    """Climb from each row of `start` (B, n) between `ends`, by steps no longer than `longest` (n,); see `climb`."""
    low, high = ends
    way = _Way(look, np.clip(start, low, high), ends)
    stays = np.zeros(start.shape, dtype=bool) if stays is None else stays
    moving = np.arange(len(start))
    iterations = 0
    while len(moving) and iterations < MAX_ITERATIONS:
        iterations += 1
        now, up = way.theta[moving], way.slope[moving]
        stuck = stays[moving] | ((now <= low) & (up < 0.0)) | ((now >= high) & (up > 0.0))
        step, gain = newton_step(up, way.curvature[moving], stuck)
        step *= np.minimum(1.0, 1.0 / np.maximum((np.abs(step) / longest).max(axis=1), 1e-300))[:, None]
        # The last step squares what error was left; what it gains is lost in rounding.
        last = gain <= GAIN * (1.0 + np.abs(way.value[moving]))
        moved = way.advance(moving, step, np.where(last, -np.inf, gain))
        over = last | ~moved
        way.done[moving[over]] = last[over] | (gain[over] <= 1e5 * GAIN * (1.0 + np.abs(way.value[moving[over]])))
        moving = moving[~over]
        if merge and iterations % LOOKED == 0 and len(moving) > 1:
            moving = moving[~_repeated(way, moving, stays)]
    return Climbed(way.theta, way.value, way.slope, way.curvature, way.done, iterations)


class _Way:
    """Where climbs are."""

    def __init__(self, look: Look, theta: Array, ends: tuple[Array, Array]) -> None:
        self.look, self.theta, self.ends = look, theta, ends
        self.value, self.slope, self.curvature = look(theta, np.arange(len(theta)))
        self.done = np.zeros(len(theta), dtype=bool)

    def advance(self, moving: IntArray, step: Array, gain: Array) -> Mask:
        """Go as much of each step as leads up enough for what it should gain; tell which of them moved."""
        moved = np.zeros(len(moving), dtype=bool)
        left, share = np.arange(len(moving)), 1.0
        for _ in range(MOST_SHORTER):
            rows = moving[left]
            trial = np.clip(self.theta[rows] + share * step[left], *self.ends)
            value, slope, curvature = self.look(trial, rows)
            good = value >= self.value[rows] + SUFFICIENT * share * gain[left]
            at = rows[good]
            self.theta[at], self.value[at] = trial[good], value[good]
            self.slope[at], self.curvature[at] = slope[good], curvature[good]
            moved[left[good]] = True
            left = left[~good]
            if not len(left):
                break
            share *= SHORTENED
        return moved


def _repeated(way: _Way, moving: IntArray, stays: Mask) -> Mask:
    """Tell which climbs are near to a higher one that holds the same."""
    theta, value, held = way.theta, way.value, stays
    near = (np.abs(theta[moving, None] - theta) < SAME).all(axis=2) & (held[moving, None] == held).all(axis=2)
    higher = (value > value[moving, None]) | (
        (value == value[moving, None]) & (np.arange(len(value)) < moving[:, None])
    )
    return np.asarray((near & higher).any(axis=1))


def newton_step(slope: Array, hessian: Array, stuck: Mask) -> tuple[Array, Array]:
    """Return Newton's steps (B, n), as if every curvature were downwards, and what they should gain, (B,)."""
    A, g = -hessian, np.where(stuck, 0.0, slope)
    free = ~stuck
    A *= free[:, :, None] & free[:, None, :]
    diagonal = np.abs(np.einsum("bii->bi", A))
    unit = 1.0 / np.sqrt(np.maximum(diagonal, 1e-12 * np.maximum(diagonal.max(axis=1, keepdims=True), 1e-300)))
    values, vectors = np.linalg.eigh(A * unit[:, :, None] * unit[:, None, :])
    # Where the curvature is upwards the way is long: towards a limit, as a rule.
    size = np.maximum(np.where(values < 0.0, -values / UPHILL, values), 1e-9)
    along = np.matmul((g * unit)[:, None], vectors)[:, 0] / size
    step = np.where(stuck, 0.0, np.matmul(vectors, along[:, :, None])[:, :, 0] * unit)
    # Slope and curvature of c - exp(theta) are the same: there Newton goes down by 1, for ever.
    ebbing = (g < 0.0) & (np.abs(np.einsum("bii->bi", hessian) - g) < 0.1 * np.abs(g))
    step = np.where(ebbing, np.minimum(step, EBBING), step)
    return step, 0.5 * (g * step).sum(axis=1)


def _longest(problem: SelectionProblem) -> Array:
    """Return the longest step of each parameter, (n,)."""
    spread = float(np.sqrt(np.var(problem.y) + np.mean(problem.v)))
    out = np.full(problem.n, LONGEST[2])
    location, scale = problem.slices[:2]
    size = np.sqrt(np.mean(problem.designs[0] ** 2, axis=0))
    out[location] = LONGEST[0] * spread / np.where(size > 0.0, size, 1.0)
    out[scale] = LONGEST[1]
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Unselected:
    """Maximum likelihood without selection: coefficients of the mean and of log(tau2), and the log-likelihood."""

    beta: Array
    gamma: Array
    loglik: float


def unselected(problem: SelectionProblem) -> Unselected:
    """Fit the effects as if none had been selected; where tau2 is 0, gamma stands for very little of it."""
    y, v, X, Z = problem.y, problem.v, *problem.designs[:2]
    if Z.shape[1] > 1:
        found = fit_location_scale(y, v, X, Z, link="log", restricted=False)
        tau2, gamma, loglik = found.tau2, found.alpha, found.loglik
    else:
        batch = make_batch(y, v, X)
        one = maximise(batch, restricted=False).tau2 if Z.shape[1] else np.zeros(1)
        loglik = float(log_likelihood(wls(batch, one), restricted=False)[0])
        tau2, gamma = np.full(len(y), one[0]), np.log(np.maximum(one, 0.05 * v.mean()))[: Z.shape[1]]
    root = np.sqrt(1.0 / (v + tau2))
    beta = np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0]
    return Unselected(beta, gamma, loglik)


def starts(problem: SelectionProblem, null: Unselected, given: Array) -> Array:
    """Return where to climb from, (B, n), with the log weights that are `given` (d,), not NaN, in their place."""
    d = problem.weights.d
    log_weights = np.array(problem.weights.starts, dtype=float).reshape(-1, d)
    if not np.isnan(given).any():
        log_weights = given[None]
    out = np.zeros((len(log_weights), problem.n))
    out[:, problem.slices[0]], out[:, problem.slices[1]] = null.beta, null.gamma
    for j, part in enumerate(problem.slices[2:]):
        out[:, part.start] = log_weights[:, j] if np.isnan(given[j]) else given[j]
    return out


@dataclass(frozen=True, eq=False)
class SelectionFit:
    """A selection model at its highest likelihood."""

    # full, problem: what was given; and the same without heterogeneity, if tau2 = 0 is as likely as anything.
    full: SelectionProblem
    problem: SelectionProblem
    held: Mask  # (n,): log weights that were given
    best: Climbed  # one row
    # loglik_unselected, loglik_homogeneous: without selection; and with selection and tau2 = 0, NaN where tau2 has
    # moderators or is 0 anyway.
    loglik_unselected: float
    loglik_homogeneous: float

    @property
    def theta(self) -> Array:
        """Parameters, (n,)."""
        return self.best.theta[0]

    @property
    def loglik(self) -> float:
        """The log-likelihood."""
        return float(self.best.loglik[0])

    @property
    def vanished(self) -> bool:
        """Tell whether tau2 is estimated as 0."""
        return self.problem is not self.full

    @cached_property
    def at_bound(self) -> Mask:
        """Parameters that the likelihood drives as far as they may go, (n,)."""
        low, high = bounds(self.problem)
        return ~self.held & ((self.theta <= low + EDGE) | (self.theta >= high - EDGE))

    @cached_property
    def covariance(self) -> Array:
        """Inverse of the observed information, (n, n): 0 for what was given, NaN at a bound or where it is flat."""
        free = ~(self.held | self.at_bound)
        out = np.zeros((len(free), len(free)))
        out[self.at_bound] = np.nan
        out[:, self.at_bound] = np.nan
        A = -self.best.hessian[0][np.ix_(free, free)]
        unit = 1.0 / np.sqrt(np.maximum(np.diag(A), 1e-300))
        values, vectors = np.linalg.eigh(A * np.outer(unit, unit))
        inverse = (vectors / values) @ vectors.T if len(values) and values[0] > FLAT else np.full(A.shape, np.nan)
        out[np.ix_(free, free)] = inverse * np.outer(unit, unit)
        return out


def homogeneous(problem: SelectionProblem) -> SelectionProblem:
    """Return the same problem with tau2 = 0."""
    return replace(problem, designs=(problem.designs[0], np.zeros((problem.k, 0)), *problem.designs[2:]))


def fit_selection(problem: SelectionProblem, given: Array | None = None) -> SelectionFit:
    """Find the highest likelihood, with the log weights that are `given` (d,), not NaN, held there."""
    known = np.full(problem.weights.d, np.nan) if given is None else given
    full, null = problem, unselected(problem)
    held = np.zeros(problem.n, dtype=bool)
    for part, value in zip(problem.slices[2:], known, strict=True):
        held[part] = not np.isnan(value)
    start, scale = starts(problem, null, known), problem.slices[1]
    stays = np.tile(held, (len(start), 1))
    single = scale.stop - scale.start == 1
    if single:
        # The same with tau2 held where it is too small to tell, where fewer starts find every peak.
        count, flat = len(start), start[::2].copy()
        flat[:, scale] = bounds(problem)[0][scale]
        start, stays = np.vstack([start, flat]), np.vstack([stays, stays[::2]])
        stays[count:, scale] = True
    found = climb(problem, start, held=stays, merge=True)
    best = found.highest(slice(0, count) if single else slice(None))
    loglik, least = float(best.loglik[0]), np.nan
    if single:
        lower = found.highest(slice(count, None))
        least = float(lower.loglik[0])
        if least >= loglik - ROUNDING * (1.0 + abs(loglik)):
            problem, held = homogeneous(problem), np.delete(held, scale.start)
            best = climb(problem, np.delete(lower.theta, scale.start, axis=1), held=held)
            least = float(best.loglik[0])
    return SelectionFit(full, problem, held, best, null.loglik, least)


# A limit is found where the profile is so near to the height that it should have.
NEAR = 1e-9
MAX_ROUNDS = 60
# A first step outwards where there is no standard error, and by how much further each next one goes.
FIRST, FURTHER = 0.5, 2.0
# So many spreads of the effects from the estimate nothing is to be found.
FARTHEST = 1e3


class ProfileInterval(NamedTuple):
    """Limits of a parameter of theta, infinite where the likelihood stays too high; and a higher peak, if one was met.

    `loglik` is the highest seen on the way.
    """

    low: float
    high: float
    loglik: float


def profile_interval(fit: SelectionFit, index: int, *, level: float) -> ProfileInterval:
    """Return where the profile likelihood of a parameter of ``fit.full`` falls by half the quantile of chi2(1).

    Each side is followed outwards until the profile is low enough; then Newton's steps along its slope find the
    crossing, by halves where they leave the bracket.
    """
    start, estimate, error = _start(fit, index)
    drop = fit.loglik - 0.5 * chi2_quantile(level, 1.0)
    ends, seen = [], fit.loglik
    for side in (-1.0, 1.0):
        end, highest = _end(fit, index, side, start, estimate, error * float(special.ndtri(0.5 + 0.5 * level)), drop)
        ends.append(end)
        seen = max(seen, highest)
    return ProfileInterval(ends[0], ends[1], seen)


def _start(fit: SelectionFit, index: int) -> tuple[Array, float, float]:
    """Return the parameters of the full problem, that of interest, and its standard error or what stands for it."""
    theta, error = fit.theta, np.sqrt(np.diag(fit.covariance))
    if fit.vanished:
        scale = fit.full.slices[1]
        theta = np.insert(theta, scale.start, bounds(fit.full)[0][scale])
        error = np.insert(error, scale.start, np.nan)
    own = float(error[index])
    return theta, float(theta[index]), own if own > 0.0 else FIRST


def _end(
    fit: SelectionFit, index: int, side: float, start: Array, estimate: float, step: float, drop: float
) -> tuple[float, float]:
    """Return where the profile crosses `drop` on one side, and the highest likelihood met on the way."""
    problem = fit.full
    held = np.append(fit.held, np.zeros(problem.n - len(fit.held), dtype=bool))
    if fit.vanished:
        held = np.insert(fit.held, problem.slices[1].start, False)
    held[index] = True
    edge = float(bounds(problem)[int(side > 0)][index])
    if not np.isfinite(edge):
        edge = estimate + side * FARTHEST * max(step, float(np.ptp(problem.y)))
    near, far, at = estimate, edge, estimate + side * step
    theta, seen, inside = start, fit.loglik, True
    for _ in range(MAX_ROUNDS):
        at = min(max(at, min(near, far)), max(near, far))
        trial = theta.copy()
        trial[index] = at
        found = climb(problem, trial[None], held=held)
        theta, height, slope = found.theta[0], float(found.loglik[0]), float(found.gradient[0, index])
        seen, over = max(seen, height), height - drop
        if abs(over) < NEAR:
            return at, seen
        if over > 0.0:
            near = at
            if at == edge:
                return side * np.inf, seen
        else:
            far, inside = at, False
        if abs(far - near) < 1e-12 * (1.0 + abs(near)):
            return at, seen
        newton = at - over / slope if slope * side < 0.0 else np.inf * side
        if inside:
            furthest = estimate + side * FURTHER * abs(at - estimate)
            at = newton if side * newton < side * furthest else furthest
        else:
            at = newton if min(near, far) < newton < max(near, far) else 0.5 * (near + far)
    return at, seen
