"""Profile likelihood of one covariance parameter: the likelihood maximised over all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_quantile
from alliance_meta.core.mixed.climb import climb
from alliance_meta.core.mixed.search import MixedFit

# A variance is followed up to this multiple of itself and of the typical sampling variance.
FAR = 1e3
# A crossing is found to this height.
LEVEL = 1e-11
MOST_STEPS = 100
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
    """The best points with one parameter held at several values: parameters (m, n), likelihoods and their slopes."""

    theta: Array
    loglik: Array
    slope: Array

    def __getitem__(self, at: int) -> Held:
        return Held(self.theta[at : at + 1], self.loglik[at : at + 1], self.slope[at : at + 1])


def held(fit: MixedFit, parameter: int, values: Array, start: Array) -> Held:
    """Maximise the likelihood with one parameter held at each value, all at once, from the rows of `start` (m, n)."""
    problem = fit.point.problem
    fixed = fit.fixed.copy()
    fixed[parameter] = True
    theta = np.array(np.broadcast_to(start, (len(values), problem.n)))
    theta[:, parameter] = values
    found = climb(problem, theta, fixed, enough=LEVEL)
    theta, loglik, unsettled = found.theta.copy(), found.value.copy(), ~found.settled
    if unsettled.any():
        again = climb(problem, theta[unsettled], fixed, enough=LEVEL)
        theta[unsettled], loglik[unsettled] = again.theta, again.value
    return Held(theta, loglik, problem.at(theta).gradient[:, parameter])


def profile(fit: MixedFit, parameter: int, values: Sequence[float] | Array) -> Array:
    """Return the profile log-likelihood at each value of a parameter, (m,).

    Every search starts at the estimate, and again from where its neighbours' ended while that is the better start: a
    curve can have two branches.
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    found = held(fit, parameter, values[order], fit.theta)
    theta, loglik = found.theta.copy(), found.loglik.copy()
    for _ in range(len(values)):
        moved = False
        for step in (1, -1):
            start = np.roll(theta, step, axis=0)
            start[:, parameter] = values[order]
            better = fit.point.problem.at(start).logliks > loglik + HIGHER
            if better.any():
                again = held(fit, parameter, values[order][better], start[better])
                theta[better], loglik[better], moved = again.theta, again.loglik, True
        if not moved:
            break
    out = np.empty(len(values))
    out[order] = loglik
    return out


def profile_interval(fit: MixedFit, parameter: int, *, level: float) -> tuple[float, float]:
    """Return where the profile likelihood has fallen by half the chi-squared quantile.

    The lower bound is the edge of the range where it does not fall so far; the upper is infinite then, unless the
    range ends (a correlation of 1).
    """
    target = fit.point.loglik - 0.5 * chi2_quantile(level, 1.0)
    low, high = (float(edge[parameter]) for edge in fit.point.problem.bounds)
    estimate = float(fit.theta[parameter])
    shares = np.linspace(1.0, 0.0, 7)[1:]
    lower = low
    if np.isfinite(low) and estimate > low:
        lower = _crossing(fit, parameter, low + (estimate - low) * shares, target, low)
    if np.isfinite(high):
        return lower, high if estimate >= high else _crossing(
            fit, parameter, high - (high - estimate) * shares, target, high
        )
    typical = float(fit.point.problem.plan.d.mean())
    step = max(estimate, 0.1 * typical)
    most = 2 + int(np.ceil(np.log2(1.0 + FAR * max(estimate, typical) / step)))
    steps = step * (2.0 ** np.arange(1, most) - 1.0)
    for some in (steps[:3], steps[2:]):
        upper = _crossing(fit, parameter, estimate + some, target, np.inf)
        if np.isfinite(upper):
            break
    return lower, upper


def _crossing(fit: MixedFit, parameter: int, values: Array, target: float, open_end: float) -> float:
    """Return where the curve falls below the target first on the way along the values, or the open end."""
    found = held(fit, parameter, values, fit.theta)
    under = np.flatnonzero(found.loglik < target)
    if not under.size:
        return open_end
    first = int(under[0])
    near = float(fit.theta[parameter]) if first == 0 else float(values[first - 1])
    far, at, point = float(values[first]), float(values[first]), found[first]
    for _ in range(MOST_STEPS):
        gap = float(point.loglik[0]) - target
        near, far = (at, far) if gap >= 0 else (near, at)
        if abs(gap) < LEVEL or abs(far - near) <= 1e-13 * abs(far):
            break
        slope = float(point.slope[0])
        to = at - gap / slope if slope else np.nan
        at = to if min(near, far) < to < max(near, far) else 0.5 * (near + far)
        point = held(fit, parameter, np.array([at]), point.theta)
    return at


@dataclass(frozen=True, eq=False)
class ProfileCurve:
    """The profile of one parameter, in its own units.

    Attributes
    ----------
    values, loglik : ndarray of shape (m,)
        Rising values around the interval, and the likelihood at each.
    estimate, peak : float
        The fit's value and its log-likelihood.
    lb, ub : float
        Where the curve crosses the cut-off; the edge of the range, or infinite, where it does not.
    cutoff : float
        The log-likelihood that the values of the interval reach.
    edges : tuple of float
        The lowest and the highest value allowed.
    """

    values: Array
    loglik: Array
    estimate: float
    peak: float
    lb: float
    ub: float
    cutoff: float
    edges: tuple[float, float]

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
    lb, ub = profile_interval(fit, parameter, level=level)
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
    return ProfileCurve(
        values, profile(fit, parameter, values), estimate, fit.point.loglik, lb, ub, cutoff, (low, high)
    )
