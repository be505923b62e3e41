"""Profile likelihood of one parameter of a selection model, and the interval it gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_quantile
from alliance_meta.core.selection.search import SelectionFit, bounds, climb

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
