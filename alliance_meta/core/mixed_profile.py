"""Profile likelihood of one covariance parameter: the likelihood maximised over all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from alliance_meta._typing import Array
from alliance_meta.core.distributions import chi2_quantile
from alliance_meta.core.mixed_search import MixedFit, maximise_mixed

# A variance is followed up to this multiple of itself and of the typical sampling variance.
FAR = 1e3


def profile(fit: MixedFit, parameter: int, values: Sequence[float] | Array) -> Array:
    """Return the profile log-likelihood at each value of a parameter, (m,)."""
    found = np.empty(len(values))
    start = fit.theta
    for i, value in enumerate(values):
        inner = profile_fit(fit, parameter, float(value), start)
        start, found[i] = inner.theta, inner.point.loglik
    return found


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
