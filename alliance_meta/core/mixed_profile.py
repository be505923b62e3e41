"""Profile likelihood of one covariance parameter: the likelihood maximised over all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_quantile
from alliance_meta.core.mixed_search import MixedFit, maximise_mixed

# A variance is followed up to this multiple of itself and of the typical sampling variance.
FAR = 1e3
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


def profile(fit: MixedFit, parameter: int, values: Sequence[float] | Array) -> Array:
    """Return the profile log-likelihood at each value of a parameter, (m,).

    Each search starts where that of the neighbour nearer to the estimate ended, and again from the neighbour
    further away where that is the better start: a curve can have two branches.
    """
    estimate = float(fit.theta[parameter])
    place = [int(i) for i in np.argsort(values, kind="stable")]
    ways = [i for i in place if values[i] >= estimate], [i for i in place[::-1] if values[i] < estimate]
    found: dict[int, MixedFit] = {}
    for way in ways:
        start = fit.theta
        for i in way:
            found[i] = profile_fit(fit, parameter, float(values[i]), start)
            start = found[i].theta
        for i, outer in zip(way[-2::-1], way[:0:-1], strict=True):
            start = found[outer].theta.copy()
            start[parameter] = values[i]
            if fit.point.problem.at(start).loglik > found[i].point.loglik + HIGHER:
                found[i] = profile_fit(fit, parameter, float(values[i]), start)
    return np.array([found[i].point.loglik for i in range(len(values))])


def profile_fit(fit: MixedFit, parameter: int, value: float, start: Array | None = None) -> MixedFit:
    """Return the best fit with one parameter held at a value."""
    given = np.where(fit.fixed, fit.theta, np.nan)
    given[parameter] = value
    return maximise_mixed(fit.point.problem, given=given, start=fit.theta if start is None else start)


def profile_interval(fit: MixedFit, parameter: int, *, level: float) -> tuple[float, float]:
    """Return where the profile likelihood has fallen by half the chi-squared quantile.

    The lower bound is the edge of the range where it does not fall so far; the upper is infinite then, unless the
    range ends (a correlation of 1).
    """
    target = fit.point.loglik - 0.5 * chi2_quantile(level, 1.0)
    low, high = (float(edge[parameter]) for edge in fit.point.problem.bounds)
    estimate = float(fit.theta[parameter])

    def height(value: float) -> float:
        return profile_fit(fit, parameter, value).point.loglik - target

    lower = low
    if np.isfinite(low) and estimate > low and height(low) < 0:
        lower = float(optimize.brentq(height, low, estimate, xtol=1e-12, rtol=1e-10))
    if np.isfinite(high):
        if estimate >= high or height(high) > 0:
            return lower, high
        return lower, float(optimize.brentq(height, estimate, high, xtol=1e-12, rtol=1e-10))
    typical = float(fit.point.problem.plan.d.mean())
    step = max(estimate, 0.1 * typical)
    near, far = estimate, estimate + step
    while height(far) > 0:
        if far > FAR * max(estimate, typical):
            return lower, np.inf
        near, step = far, 2.0 * step
        far += step
    return lower, float(optimize.brentq(height, near, far, xtol=1e-12, rtol=1e-10))


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
