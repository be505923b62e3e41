"""The highest maximum of a mixed model's likelihood within the bounds of its parameters.

A likelihood of variances can have several peaks, many of them at the edge of the range. Points all over the range are
compared, the promising ones climb together by Newton's steps, and the best peaks are polished.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.mixed.covariance import CompoundSymmetry, Correlated, Scaled
from alliance_meta.core.mixed.likelihood import MixedPoint, MixedProblem

# What one more step would add to the log-likelihood at most; rounding there is of the order 1e-12.
SETTLED = 1e-18
NEAR = 1e-3
# Where no step raises the likelihood any more, what is left to gain must be rounding.
ROUNDED = 1e-8
MOST_STEPS = 60
# Beyond this many parameters the average information is a poor map of the likelihood.
MANY = 8
# A step that gains this share of what it should was led by a good map.
HELD = 0.25
MOST_DAMPING = 1e6
MOST_HALVINGS = 40
# A step must gain this share of what a straight line would.
RAISED = 1e-4


@dataclass(frozen=True, eq=False)
class Climbed:
    """Where climbs ended."""

    theta: Array  # (m, n)
    value: Array  # (m,): the likelihood there
    gradient: Array  # (m, n)
    settled: Mask  # (m,): nothing is left to gain
    steps: int
    last: MixedPoint | None = None  # the model where a single climb ended

    @property
    def arrays(self) -> tuple[Array, Array, Array, Mask]:
        """Where, how high, how steep, and whether settled."""
        return self.theta, self.value, self.gradient, self.settled

    def replaced(self, at: int, by: Climbed) -> Climbed:
        """Return the climbs with one exchanged for the single one given."""
        pairs = zip(self.arrays, by.arrays, strict=True)
        where, height, slope, done = (np.concatenate([own[:at], new, own[at + 1 :]]) for own, new in pairs)
        return Climbed(where, height, slope, done, self.steps + by.steps)

    def joined(self, more: Climbed, which: Mask) -> Climbed:
        """Return the climbs with some of others after them."""
        pairs = zip(self.arrays, more.arrays, strict=True)
        where, height, slope, done = (np.concatenate([own, new[which]]) for own, new in pairs)
        return Climbed(where, height, slope, done, self.steps + more.steps)


def climb(
    problem: MixedProblem,
    theta: Array,
    fixed: Mask,
    *,
    enough: float = SETTLED,
    H: Array | None = None,
    most: int = MOST_STEPS,
) -> Climbed:
    """Climb from each row of `theta` (m, n) until a step would gain less than `enough`, in `most` steps.

    Steps are Newton's, with an approximate information while they gain much and its quasi-Newton updates later, or
    with the information `H` (m, n, n) to begin with. `fixed`, (n,) or (m, n), says what stays.
    """
    if len(theta) == 1:
        return _climb_one(problem, theta[0], np.broadcast_to(fixed, theta.shape)[0], enough, H, most)
    point = _inside(problem, theta, fixed)
    theta, fixed = point.theta.copy(), np.broadcast_to(fixed, theta.shape)
    value, g = point.logliks, point.gradient
    H = _definite(point.information if H is None else H, fixed, problem.least)
    renews = (~fixed).sum(axis=1) <= MANY
    m = len(theta)
    damping, fresh, settled, open_ = np.zeros(m), np.ones(m, dtype=bool), np.zeros(m, dtype=bool), np.isfinite(value)
    step = 0
    while open_.any() and step < most:
        step += 1
        a = np.flatnonzero(open_)
        move, gain = _moves(problem, theta[a], g[a], H[a], damping[a], fixed[a])
        done = gain < enough
        settled[a[done]], open_[a[done]] = True, False
        a, move, gain = a[~done], move[~done], gain[~done]
        if not a.size:
            break
        renew = (gain >= NEAR) & renews[a]
        went, to, higher, slope, information = _advance(problem, theta[a], value[a], move, gain, renew)
        # Where a step gains much less than it should, the curvature met on the way is the better map.
        renew &= higher - value[a] >= HELD * gain
        stuck = a[~went]
        if stuck.size:
            over = fresh[stuck] & (damping[stuck] >= MOST_DAMPING)
            settled[stuck[over]], open_[stuck[over]] = gain[~went][over] < ROUNDED, False
            damping[stuck] = np.where(fresh[stuck], np.maximum(1e-2, 10.0 * damping[stuck]), 0.0)
            H[stuck] = _definite(problem.at(theta[stuck]).information, fixed[stuck], problem.least)
            fresh[stuck] = True
        b = a[went]
        fresh[b] = renew[went]
        c, updated = b[~fresh[b]], went & ~renew
        if c.size:
            H[c] = _update(H[c], to[updated] - theta[c], np.where(fixed[c], 0.0, g[c] - slope[updated]))
        if c.size < b.size:
            H[a[went & renew]] = _definite(information[went & renew], fixed[a[went & renew]], problem.least)
        theta[b], value[b], g[b] = to[went], higher[went], slope[went]
        damping[b] = np.where(damping[b] > 1e-6, 0.1 * damping[b], 0.0)
    return Climbed(theta, value, g, settled, step)


def _climb_one(problem: MixedProblem, theta: Array, fixed: Mask, enough: float, H: Array | None, most: int) -> Climbed:
    """Climb from one point by the same steps, without the bookkeeping of several."""
    point = _inside(problem, theta, fixed)
    H = _definite(point.information if H is None else H[0], fixed, problem.least)
    renews = bool(np.count_nonzero(~fixed) <= MANY)
    damping, fresh, settled, step = 0.0, True, False, 0
    while step < most and np.isfinite(point.loglik):
        step += 1
        move, along = _moves(problem, point.theta, point.gradient, H, np.asarray(damping), fixed)
        gain = float(along)
        if gain < enough:
            settled = True
            break
        after = _after(problem, point, move, gain)
        if after is None:
            if fresh and damping >= MOST_DAMPING:
                settled = gain < ROUNDED
                break
            damping = max(1e-2, 10.0 * damping) if fresh else 0.0
            H, fresh = _definite(point.information, fixed, problem.least), True
            continue
        fresh = renews and gain >= NEAR and after.loglik - point.loglik >= HELD * gain
        if fresh:
            H = _definite(after.information, fixed, problem.least)
        else:
            H = _update(H, after.theta - point.theta, np.where(fixed, 0.0, point.gradient - after.gradient))
        point, damping = after, 0.1 * damping if damping > 1e-6 else 0.0
    return Climbed(
        point.theta[None].copy(), point.logliks[None], point.gradient[None].copy(), np.array([settled]), step, point
    )


def _after(problem: MixedProblem, point: MixedPoint, move: Array, gain: float) -> MixedPoint | None:
    """Return the first point along the projected step from one point that raises the likelihood enough."""
    low, high = problem.bounds
    slack = _slack(point.logliks)
    length = 1.0
    for _ in range(MOST_HALVINGS):
        tried = problem.at(np.minimum(np.maximum(point.theta + length * move, low), high))
        if tried.loglik >= point.loglik + RAISED * length * min(gain, 1.0) - slack:
            return tried
        length *= 0.5
    return None


def _inside(problem: MixedProblem, theta: Array, fixed: Mask) -> MixedPoint:
    """Return the model at the starts within their bounds, drawn to small variances where M is not positive definite."""
    low, high = problem.bounds
    point = problem.at(np.clip(theta, low, high))
    for _ in range(MOST_STEPS):
        invalid = np.logical_not(point.valid)
        if not invalid.any():
            break
        point = problem.at(np.where(invalid[..., None] & ~fixed, 0.5 * (point.theta + problem.units), point.theta))
    return point


def _moves(problem: MixedProblem, theta: Array, g: Array, H: Array, damping: Array, fixed: Mask) -> tuple[Array, Array]:
    """Return each Newton step among the parameters that are free to move, and what it should gain.

    H is made positive definite where it is not, its diagonal raised by the damping.
    """
    low, high = problem.bounds
    free = ~(fixed | ((theta <= low) & (g <= 0)) | ((theta >= high) & (g >= 0)))
    # Effects without any residual have no information: a step is a few units long then.
    scale = np.sqrt(np.maximum(H.diagonal(0, -2, -1), problem.least))
    R = H / (scale[..., :, None] * scale[..., None, :])
    raised = damping[..., None]
    if not free.all():
        R = np.where(free[..., :, None] & free[..., None, :], R, 0.0)
        raised, g = np.where(free, raised, 1.0), np.where(free, g, 0.0)
    if raised.any():
        R = R + raised[..., None] * np.eye(problem.n)
    values, vectors = np.linalg.eigh(R)
    values = np.maximum(np.abs(values), 1e-8)
    turned = ((g / scale)[..., None, :] @ vectors)[..., 0, :] / values
    move = (vectors @ turned[..., :, None])[..., 0] / scale
    if not free.all():
        move = np.where(free, move, 0.0)
    return move, (g * move).sum(axis=-1)


def _definite(H: Array, fixed: Mask, least: Array) -> Array:
    """Return each H with its negative curvatures turned round; what is fixed has no part in it.

    Curvatures are compared in units of their own, (n,) at `least`: that of a correlation beside a variance of 0 is 0.
    """
    if fixed.any():
        H = np.where(fixed[..., :, None] | fixed[..., None, :], np.eye(H.shape[-1]), H)
    scale = np.sqrt(np.maximum(np.abs(H.diagonal(0, -2, -1)), least))
    both = scale[..., :, None] * scale[..., None, :]
    values, vectors = np.linalg.eigh(H / both)
    if (values > 0).all():
        return H
    return np.asarray((vectors * np.abs(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2) * both)


def _slack(value: Array) -> Array:
    """Return by how much a step may lower the likelihood.

    Near the maximum a step changes it by less than rounding: the gradient decides there.
    """
    return 1e-13 * (1.0 + np.abs(value))


def _advance(
    problem: MixedProblem, theta: Array, value: Array, move: Array, gain: Array, renew: Mask
) -> tuple[Mask, Array, Array, Array, Array]:
    """Return the first point along each projected step that raises the likelihood enough.

    Returns whether there is one, parameters, likelihood, gradient and, where `renew`, information there.
    """
    low, high = problem.bounds
    to, higher, slope = theta.copy(), value.copy(), np.zeros_like(theta)
    information = np.zeros((*theta.shape, problem.n))
    left = np.arange(len(theta))
    slack = _slack(value)
    length = 1.0
    for _ in range(MOST_HALVINGS):
        trial = np.clip(theta[left] + length * move[left], low, high)
        point = problem.at(trial)
        good = point.logliks >= value[left] + RAISED * length * np.minimum(gain[left], 1.0) - slack[left]
        at = left[good]
        if at.size:
            to[at], higher[at], slope[at] = trial[good], point.logliks[good], point.gradient[good]
            if renew[at].any():
                information[at] = point.information[good]
        left = left[~good]
        if not left.size:
            break
        length *= 0.5
    went = np.ones(len(theta), dtype=bool)
    went[left] = False
    return went, to, higher, slope, information


def _update(H: Array, step: Array, fall: Array) -> Array:
    """Return each H by the BFGS formula from steps and how the gradient fell; H itself where it did not fall."""
    along = (step * fall).sum(axis=-1)
    size = np.sqrt((step * step).sum(axis=-1) * (fall * fall).sum(axis=-1))
    Hs = (H @ step[..., :, None])[..., 0]
    across = (step * Hs).sum(axis=-1)
    good = (along > 1e-10 * size) & (across > 0)
    along, across = np.where(good, along, 1.0)[..., None, None], np.where(good, across, 1.0)[..., None, None]
    new = H + fall[..., :, None] * fall[..., None, :] / along - Hs[..., :, None] * Hs[..., None, :] / across
    return np.where(good[..., None, None], new, H)


def observed(point: MixedPoint) -> Array:
    """Return minus the second derivative (n, n) by central differences of the gradient."""
    problem, theta = point.problem, point.theta
    low, high = problem.bounds
    h = 1e-4 * np.maximum(np.abs(theta), 1e-2 * problem.units)
    up, down = np.minimum(theta + np.diag(h), high), np.maximum(theta - np.diag(h), low)
    width = np.diagonal(up) - np.diagonal(down)
    found = (problem.at(down).gradient - problem.at(up).gradient) / width[:, None]
    return np.asarray(0.5 * (found + found.T))


# Beyond this many effects there is one start, and no other peak is looked for.
FEW = 2_000
# Numbers that a batch of points may hold at a time.
MOST_CELLS = 4_000_000
# Values of a variance on a grid are about this factor apart.
SPACED = 6.0
MOST_GRID = 400
MOST_CLIMBS = 64
# Starts that put nearly all variance on one component.
SHARE = 0.9


def candidates(problem: MixedProblem, given: Array | None) -> Array:
    """Return points to climb from, (m, n)."""
    n = len(problem.components)
    variances = all(isinstance(c.structure, Scaled) for c in problem.components)
    excess = excess_variance(problem)
    even = _shared(problem, np.full(n, excess / n))
    if problem.k > FEW:
        return even[None]
    if variances:
        values = _scale(problem, excess)
        if values.size**n <= MOST_GRID:
            return _tops(problem, values, given)
    found = [even]
    for j, component in enumerate(problem.components):
        for share in (1.0 / n, SHARE) if n > 1 else (1.0,):
            rest = np.full(n, excess * (1.0 - share) / (n - 1) if n > 1 else excess)
            base = _shared(problem, rest)
            own = component.structure.starts(excess * share)
            rows = np.repeat(base[None], len(own), axis=0)
            rows[:, problem.slices[j]] = own
            found.append(rows)
    return _best(problem, np.vstack(found), given)


def _shared(problem: MixedProblem, variances: Array) -> Array:
    """Return parameters that give each component a variance."""
    return np.concatenate([c.structure.start(float(v)) for c, v in zip(problem.components, variances, strict=True)])


def excess_variance(problem: MixedProblem) -> float:
    """Return the variance of the residuals beyond sampling error, or a tenth of the latter if that is more."""
    y, Q, d = problem.y, problem.Q, problem.plan.d
    resid = y - Q @ (Q.T @ y)
    total = float(resid @ resid) / max(problem.k - problem.p, 1)
    typical = float(d.mean())
    return max(total - typical, 0.1 * typical)


def _scale(problem: MixedProblem, excess: float) -> Array:
    """Return variances from 0 to far above what is expected."""
    d = problem.plan.d
    low = max(0.3 * min(float(d.min()), excess), 1e-3 * excess)
    high = 2.0 * max(excess, low)
    m = int(np.ceil(np.log(high / low) / np.log(SPACED))) + 1
    return np.append(0.0, np.geomspace(low, high, m))


def _logliks(problem: MixedProblem, theta: Array) -> Array:
    wide = problem.columns.size
    size = max(1, MOST_CELLS // wide)
    return np.concatenate([problem.at(theta[at : at + size]).logliks for at in range(0, len(theta), size)])


def _tops(problem: MixedProblem, values: Array, given: Array | None) -> Array:
    """Return the points of a grid that no neighbour exceeds."""
    axes = [values if given is None or np.isnan(given[j]) else given[j : j + 1] for j in range(problem.n)]
    grid = np.array(list(product(*axes)))
    height = _logliks(problem, grid).reshape([a.size for a in axes])
    padded = np.pad(height, 1, constant_values=-np.inf)
    top = np.isfinite(height)
    for step in product((-1, 0, 1), repeat=problem.n):
        if any(step):
            around = padded[tuple(slice(1 + s, 1 + s + a.size) for s, a in zip(step, axes, strict=True))]
            top &= height >= around
    return grid[top.ravel()] if top.any() else grid[-1:]


def _best(problem: MixedProblem, theta: Array, given: Array | None) -> Array:
    """Return the points with the highest likelihood, as many as climb together in good time."""
    if given is not None:
        theta = np.where(np.isnan(given), theta, given)
    low, high = problem.bounds
    theta = np.unique(np.clip(theta, low, high), axis=0)
    most = min(MOST_CLIMBS, max(1, MOST_CELLS // problem.columns.size))
    if len(theta) <= most:
        return theta
    return theta[np.argsort(-_logliks(problem, theta), kind="stable")[:most]]


# What is left to gain where climbs stop that only have to tell peaks from each other.
ROUGH = 1e-3
# What may be left to gain of very many effects, whose variances have small errors and whose steps take long.
STEADY = 1e-15
# Climbs that end as near as this, in likelihood and in covariances, have found the same peak.
SAME = 1e-2
# Peaks lower by more than this are not polished.
LOW = 2.0
MOST_PEAKS = 8
# Correlations to try beside a variance of 0: so many over their range, and some near 0, where a power below 1 is steep.
AROUND, NEAR_ZERO = 9, (0.0, 1e-3, 1e-2, 1e-1)
# Rows finer than this share of what the levels add leave too few digits of the likelihood for any search.
FINEST = 1e-9


@dataclass(frozen=True, eq=False)
class MixedFit:
    """The best point found."""

    point: MixedPoint
    converged: bool
    steps: int  # of all climbs, which go together
    at_bound: Mask  # (n,): parameters at the edge of their range
    # The likelihood of each peak found, the highest first; none that is lower by more than two.
    maxima: tuple[float, ...]
    fixed: Mask  # (n,): parameters that were given

    @property
    def theta(self) -> Array:
        """Covariance parameters, (n,)."""
        return self.point.theta


def maximise_mixed(problem: MixedProblem, *, given: Array | None = None, start: Array | None = None) -> MixedFit:
    """Maximise the likelihood; parameters that are not NaN in `given` (n,) stay at those values.

    With a `start`, (n,) or several (m, n), the search climbs from there only.
    """
    fixed = np.zeros(problem.n, dtype=bool) if given is None else ~np.isnan(given)
    if fixed.all():
        point = problem.at(np.empty(0) if given is None else np.asarray(given, dtype=float))
        return MixedFit(point, True, 0, np.zeros(problem.n, dtype=bool), (point.loglik,), fixed)
    tries = candidates(problem, given) if start is None else np.atleast_2d(start)
    if given is not None:
        tries = np.where(fixed, given, tries)
    if len(tries) == 1:
        found = climb(problem, tries, fixed, enough=SETTLED if problem.k <= FEW else STEADY)
    else:
        rough = climb(problem, tries, fixed, enough=ROUGH)
        found = climb(problem, rough.theta[_peaks(problem, rough)], fixed)
        found = replace(found, steps=found.steps + rough.steps)
    found = _finished(problem, found, fixed)
    found = _from_other_correlations(problem, found, fixed)
    peaks = _peaks(problem, found)
    best = peaks[0]
    low, high = problem.bounds
    theta = found.theta[best]
    edge = ((theta <= low) | (theta >= high)) & ~fixed
    maxima = tuple(found.value[peaks].tolist())
    point = problem.at(theta) if found.last is None else found.last
    return MixedFit(point, bool(found.settled[best]), found.steps, edge, maxima, fixed)


def _peaks(problem: MixedProblem, found: Climbed) -> IntArray:
    """Return one climb for each different peak that is not much too low, the highest first."""
    if len(found.value) == 1:
        return np.zeros(1, dtype=np.intp)
    order = np.argsort(-found.value, kind="stable")
    value = found.value[order]
    order = order[value >= value[0] - LOW] if np.isfinite(value[0]) else order[:1]
    flat = [C.reshape(len(order), -1) for C in problem.covariances(found.theta[order])]
    where = np.concatenate(flat, axis=1)
    size = SAME * (np.abs(where).max() + float(problem.plan.d.min()))
    kept: list[int] = []
    for at in range(len(order)):
        near = [
            abs(found.value[order[at]] - found.value[order[one]]) < SAME and np.abs(where[at] - where[one]).max() < size
            for one in kept
        ]
        if not any(near):
            kept.append(at)
        if len(kept) == MOST_PEAKS:
            break
    return np.asarray(order[kept])


def _finished(problem: MixedProblem, found: Climbed, fixed: Mask) -> Climbed:
    """Return the climbs with the best finished, where it had not settled, by ever more patient searches."""
    best = int(np.argmax(found.value))
    for crawl in (False, True):
        if found.settled[best] or not np.isfinite(found.value[best]):
            break
        theta = found.theta[best : best + 1]
        point = problem.at(theta[0])
        if point.own_shares.min() < FINEST:
            break
        if crawl:
            theta = _crawl(problem, theta[0], fixed)[None]
            point = problem.at(theta[0])
        more = climb(problem, theta, fixed, H=observed(point)[None])
        found = found.replaced(best, more)
    return found


def _from_other_correlations(problem: MixedProblem, found: Climbed, fixed: Mask) -> Climbed:
    """Return the climbs with those from the best point with other correlations, if one of them is higher.

    Beside a variance of 0 a correlation changes nothing, but from some correlations the likelihood rises with that
    variance and from others it falls: a climb that got there with one of the latter has not arrived. Where rows lie
    at several distances that slope is a polynomial of the correlation, highest anywhere. And where all distances are
    above 1, the likelihood is level in a correlation of 0, be it a peak or a valley.
    """
    best = found.theta[int(np.argmax(found.value))]
    others, level = [best], [True]
    for component, part in zip(problem.components, problem.slices, strict=True):
        rho, structure = part.stop - 1, component.structure
        if not isinstance(structure, CompoundSymmetry | Correlated) or fixed[rho] or structure.linear:
            continue
        low, high = structure.bounds
        for value in np.union1d(np.linspace(low[-1], high[-1], AROUND), NEAR_ZERO):
            other = best.copy()
            other[rho] = value
            others.append(other)
            level.append(bool(best[rho] == 0.0 == low[-1] and 0.0 < value <= NEAR_ZERO[-1]))
    tries = np.array(others)
    same = [np.abs(C - C[:1]).reshape(len(tries), -1).max(axis=1) == 0 for C in problem.covariances(tries)]
    tries = tries[1:][(np.all(same, axis=0) | level)[1:]]
    if not len(tries):
        return found
    more = climb(problem, tries, fixed)
    higher = more.value > found.value.max()
    return found.joined(more, higher) if higher.any() else found


def _crawl(problem: MixedProblem, theta: Array, fixed: Mask) -> Array:
    """Follow a winding ridge, as of many correlations among few groups, by a quasi-Newton search."""
    low, high = (np.where(fixed, theta, edge) for edge in problem.bounds)

    def downhill(theta: Array) -> tuple[float, Array]:
        at = problem.at(theta)
        return (-at.loglik, -at.gradient) if at.valid else (1e300, np.zeros(problem.n))

    found = optimize.minimize(
        downhill,
        theta,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(low, high),
        options={"maxiter": 2000, "maxfun": 4000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-9},
    )
    return np.asarray(found.x)


def observed_information(fit: MixedFit) -> Array:
    """Return minus the second derivative of the likelihood, (n, n)."""
    return observed(fit.point)
