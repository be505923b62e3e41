"""Maximum likelihood with the exact density of r, and intervals from the profile of the likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.correlations.likelihood import Correlations, marginal

MAX_ITERATIONS = 200
# The gain still to be had, as Newton's quadratic model sees it, below which a climb is over.
GAIN = 1e-14
# An interval's limit is where the signed root of the deviance meets its quantile to within this.
LIMIT = 1e-9
# Of Fisher's z; steps beyond are shortened, for the integrals need ever more nodes.
MOST_TAU2 = 1e4


@dataclass(frozen=True, slots=True, eq=False)
class CorrelationFit:
    """The model theta_i ~ N(x_i'beta, tau2) fitted to correlations by maximum likelihood."""

    data: Correlations
    X: Array  # (k, p)
    beta: Array  # (p,)
    tau2: float
    loglik: float
    information: Array  # (p + 1, p + 1): observed information of beta and tau2
    converged: bool
    iterations: int

    @property
    def point(self) -> Array:
        """Coefficients and tau2 in one array, (p + 1,)."""
        return np.append(self.beta, self.tau2)

    @property
    def covariance(self) -> Array:
        """Inverse of the observed information, (p + 1, p + 1); NaN for tau2 on its boundary."""
        out = np.full(self.information.shape, np.nan)
        some = slice(None) if self.tau2 > 0 else slice(-1)
        basis = _directions(self.X, np.ones(len(out), dtype=bool))[some, some]
        out[some, some] = basis @ np.linalg.inv(basis.T @ self.information[some, some] @ basis) @ basis.T
        return out


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    point: Array
    value: float
    slope: Array
    information: Array


def fit_correlations(data: Correlations, X: Array, *, start: Array) -> CorrelationFit:
    """Maximise the likelihood from `start` (p + 1,): coefficients and tau2."""
    free = np.ones(len(start), dtype=bool)
    state, converged, iterations = _climb(data, X, start, free)
    # From a positive tau2 the climb may have missed a maximum at 0, and the other way round.
    other = start.copy()
    other[-1] = 0.0 if state.point[-1] > 0 else 1.0 / float(np.median(data.n))
    rival = _climb(data, X, other, free)
    if rival[0].value > state.value:
        state, converged, iterations = rival
    point = state.point
    return CorrelationFit(data, X, point[:-1], float(point[-1]), state.value, state.information, converged, iterations)


def profile_interval(fit: CorrelationFit, j: int, *, level: float) -> tuple[float, float]:
    """Return the values of parameter `j` whose profile deviance is below the chi-squared(1) quantile.

    `j` = p is tau2, whose lower limit is 0 where 0 is among these values.
    """
    z = float(special.ndtri(0.5 * (1.0 + level)))
    return _limit(fit, j, -z), _limit(fit, j, z)


def signed_root(fit: CorrelationFit, j: int, value: float) -> float:
    """Return the signed root of the deviance of parameter `j` at `value`, standard normal in large samples."""
    state = _profile(fit, j, value)
    deviance = max(0.0, 2.0 * (fit.loglik - state.value))
    return float(np.copysign(np.sqrt(deviance), fit.point[j] - value))


def _evaluate(data: Correlations, X: Array, point: Array) -> _State:
    found = marginal(data, X @ point[:-1], float(point[-1]))
    slope = np.append(X.T @ found.mu, found.tau2.sum())
    information = np.empty((len(point), len(point)))
    information[:-1, :-1] = -(X.T * found.mu_mu) @ X
    information[:-1, -1] = information[-1, :-1] = -(X.T @ found.mu_tau2)
    information[-1, -1] = -found.tau2_tau2.sum()
    return _State(point, float(found.value.sum()), slope, information)


def _directions(X: Array, free: Mask) -> Array:
    """Return directions (p + 1, f) in which the free parameters move the means by orthonormal columns, and tau2.

    In them years far from 0 cost few digits.
    """
    p = len(free) - 1
    moved = np.flatnonzero(free[:-1])
    out = np.zeros((p + 1, int(free.sum())))
    if moved.size:
        out[moved, : moved.size] = np.linalg.inv(np.linalg.qr(X[:, moved])[1])
    if free[-1]:
        out[-1, -1] = 1.0
    return out


def _climb(data: Correlations, X: Array, start: Array, free: Mask) -> tuple[_State, bool, int]:
    """Climb over the free parameters by Newton's method with tau2 kept at or above 0."""
    state = _evaluate(data, X, start)
    basis = _directions(X, free)
    for iteration in range(1, MAX_ITERATIONS + 1):
        held = free[-1] and state.point[-1] <= 0 and state.slope[-1] <= 0
        ways = basis[:, :-1] if held else basis
        if not ways.size:
            return state, True, iteration
        values, vectors = np.linalg.eigh(ways.T @ state.information @ ways)
        size = np.maximum(np.abs(values), 1e-10 * np.abs(values).max())
        step = ways @ (vectors @ ((vectors.T @ (ways.T @ state.slope)) / size))
        gain = 0.5 * float(state.slope @ step)
        if gain <= GAIN * (1.0 + abs(state.value)):
            return _last(data, X, state, step), True, iteration
        better = _shortened(data, X, state, step, gain)
        if better is None:
            return state, gain < 1e-8 * (1.0 + abs(state.value)), iteration
        state = better
    return state, False, MAX_ITERATIONS


def _last(data: Correlations, X: Array, state: _State, step: Array) -> _State:
    """Take Newton's last step, which squares the error that is left, unless it leaves the range."""
    point = state.point + step
    return _evaluate(data, X, point) if 0 <= point[-1] <= MOST_TAU2 and np.any(step) else state


def _shortened(data: Correlations, X: Array, state: _State, step: Array, gain: float) -> _State | None:
    share = 1.0
    for _ in range(50):
        point = state.point + share * step
        point[-1] = max(point[-1], 0.0)
        if point[-1] <= MOST_TAU2:
            trial = _evaluate(data, X, point)
            if trial.value >= state.value + 1e-4 * share * gain:
                return trial
        share *= 0.5
    return None


def _profile(fit: CorrelationFit, j: int, value: float, near: Array | None = None) -> _State:
    """Return the maximum over all other parameters with parameter `j` at `value`."""
    start = (fit.point if near is None else near).copy()
    start[j] = value
    free = np.ones(len(start), dtype=bool)
    free[j] = False
    return _climb(fit.data, fit.X, start, free)[0]


def _limit(fit: CorrelationFit, j: int, z: float) -> float:
    """Return the value of parameter `j` at which the signed root of its deviance is -z."""
    bounded = j == len(fit.beta)
    estimate = float(fit.point[j])
    if bounded and z < 0 and (estimate <= 0 or signed_root(fit, j, 0.0) <= -z):
        return 0.0
    variance = float(fit.covariance[j, j])
    spread = np.sqrt(variance) if variance > 0 else 1.0 / float(np.median(fit.data.n))
    inside, outside = estimate, np.nan
    value, near = estimate + z * spread, fit.point
    if bounded and value <= 0:
        value = 0.5 * estimate
    for _ in range(100):
        state = _profile(fit, j, value, near)
        near = state.point
        root = np.sqrt(max(0.0, 2.0 * (fit.loglik - state.value)))
        if abs(root - abs(z)) < LIMIT:
            return value
        if root < abs(z):
            inside = value
        else:
            outside = value
        # By the envelope theorem the profile's slope is the score of the parameter itself.
        slope = -float(state.slope[j]) / root if root > 0 else np.nan
        new = value + (abs(z) - root) / slope if slope else np.nan
        value = _kept_inside(new, inside, outside, z * spread, bounded=bounded)
        if np.isfinite(outside) and abs(outside - inside) <= 1e-14 * (abs(value) + spread):
            break
    return value


def _kept_inside(new: float, inside: float, outside: float, stride: float, *, bounded: bool) -> float:
    """Return Newton's proposal where it lies between the brackets, else a point that does."""
    if np.isfinite(outside):
        between = min(inside, outside) < new < max(inside, outside)
        return new if between else 0.5 * (inside + outside)
    farther = inside + 4.0 * stride
    if np.isfinite(new) and (new - inside) * stride > 0 and abs(new - inside) < abs(4.0 * stride):
        farther = new
    return max(farther, 0.25 * inside) if bounded and stride < 0 else farther
