"""Maximum likelihood for y ~ N(X beta, v + tau2_i) where tau2_i depends on moderators of its own.

Viechtbauer & Lopez-Lopez (2022, doi:10.1002/jrsm.1562). The coefficients beta are profiled out; what is left
is a smooth function of the q coefficients of the scale part, climbed by Newton's method with its analytic
gradient and Hessian from several starts. Nothing larger than k x p^2 is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.univariate.search import log_likelihood, maximise, typical_variance
from alliance_meta.core.univariate.wls import Batch, WlsFit, make_batch, wls, wls_weighted

MAX_ITERATIONS = 300
# The gain still to be had, as Newton's quadratic model sees it, below which the climb is over.
GAIN = 1e-13
# What rounding hides: a shorter step than this cannot be told from standing still.
UNSEEN = 1e-15
# No step changes log(tau2) of any study by more than this.
LONGEST = 4.0
# Curvature, per squared unit of log(tau2), below which a direction is flat: there tau2 runs to 0.
FLAT = 1e-7
# tau2 of a study below this share of the typical sampling variance counts as 0.
VANISHED = 1e-8
# How many directions of tilt are climbed from.
TRIED = 8
MANY = 5000
# The weights of the barrier that keeps tau2 positive under the identity link, the last one per row.
BARRIER = 10.0 ** -np.arange(2.0, 14.0)


@dataclass(frozen=True, slots=True, eq=False)
class ScaleFit:
    """The scale part at the maximum of the (restricted) likelihood."""

    alpha: Array  # (q,)
    va: Array  # (q, q): inverse of the observed information; NaN in the rows of coefficients that are not finite
    infinite: Mask  # (q,): coefficients that the likelihood drives to infinity, or that rest on a boundary
    tau2: Array  # (k,)
    model: WlsFit  # weighted least squares at these tau2
    # loglik, loglik_constant: at the maximum, and with one tau2 for all (its own maximum).
    loglik: float
    loglik_constant: float
    constant: float  # that one tau2
    converged: bool
    iterations: int  # of the climb that ended highest

    @property
    def vanished(self) -> Mask:
        """Studies whose tau2 is 0 for all that matters, (k,)."""
        return self.tau2 < VANISHED * float(typical_variance(self.model.batch)[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Climb:
    point: Array
    value: float
    converged: bool
    iterations: int


_Objective = Callable[[Array], tuple[float, Array, Array]]


def fit_location_scale(y: Array, v: Array, X: Array, Z: Array, *, link: str, restricted: bool) -> ScaleFit:
    """Fit effects y (k,) with variances v (k,) on X (k, p), and tau2 on Z (k, q); both of full column rank.

    `link` {"log", "identity"}: log(tau2_i) = z_i'a, or tau2_i = z_i'a, kept at or above 0 in every row of Z.
    `restricted`: REML rather than ML.
    """
    batch = make_batch(y, v, X)
    Q, R = np.linalg.qr(Z)
    basis = Q * np.sqrt(len(y))
    back = np.linalg.inv(R) * np.sqrt(len(y))
    found = maximise(batch, restricted=restricted)
    constant = float(found.tau2[0])
    peaks = np.append(constant, found.rival[np.isfinite(found.rival)])
    loglik_constant = float(log_likelihood(wls(batch, np.array([constant])), restricted=restricted)[0])
    search = _identity_search if link == "identity" else _log_search
    best = search(batch, basis, peaks, restricted)
    tau2 = _tau2(basis @ best.point, link)
    if link == "identity":
        tau2 = np.maximum(tau2, 0.0)
        tau2 = np.where(tau2 < VANISHED * typical_variance(batch)[0], 0.0, tau2)
    model, loglik = _evaluate(batch, tau2, restricted=restricted)
    information = -_hessian(model, basis, link=link, tau2=tau2, restricted=restricted)
    bounded = link == "identity" and bool((tau2 == 0).any())
    va, infinite = _covariance(information, back, bounded=bounded)
    return ScaleFit(
        alpha=back @ best.point,
        va=va,
        infinite=infinite,
        tau2=tau2,
        model=model,
        loglik=loglik,
        loglik_constant=loglik_constant,
        constant=constant,
        converged=best.converged,
        iterations=best.iterations,
    )


def score(model: WlsFit, *, restricted: bool) -> Array:
    """Return the derivative of the (restricted) log-likelihood with respect to each study's tau2, (k,)."""
    w, u = model.w[0], model.u[0]
    if not restricted:
        return 0.5 * (u**2 - w)
    return 0.5 * (u**2 - w + w**2 * _leverage(model))


def _leverage(model: WlsFit) -> Array:
    Q = model.batch.Q
    return np.einsum("kp,pq,kq->k", Q, model.Ainv[0], Q)


def _evaluate(batch: Batch, tau2: Array, *, restricted: bool) -> tuple[WlsFit, float]:
    model = wls_weighted(batch, 1.0 / (batch.v + tau2))
    return model, float(log_likelihood(model, restricted=restricted)[0])


def _tau2(linear: Array, link: str) -> Array:
    return np.exp(linear) if link == "log" else linear


def _hessian(model: WlsFit, basis: Array, *, link: str, tau2: Array, restricted: bool) -> Array:
    """Return the second derivatives of the profiled log-likelihood on the basis of the scale part, (q, q)."""
    w, u, Q, Ainv = model.w[0], model.u[0], model.batch.Q, model.Ainv[0]
    J = basis * tau2[:, None] if link == "log" else basis
    M = u[:, None] * J
    MW = (w[:, None] * M).T @ Q
    out = -((w[:, None] * M).T @ M - MW @ Ainv @ MW.T)
    if restricted:
        G = Q @ np.linalg.cholesky(Ainv)
        pairs = (w**2)[:, None] * (G[:, :, None] * G[:, None, :]).reshape(len(w), -1)
        C = J.T @ pairs
        diagonal = w**2 - 2.0 * w**3 * np.einsum("kp,kp->k", G, G)
        out += 0.5 * (J.T @ (diagonal[:, None] * J) + C @ C.T)
    else:
        out += 0.5 * J.T @ ((w**2)[:, None] * J)
    if link == "log":
        out += basis.T @ ((score(model, restricted=restricted) * tau2)[:, None] * basis)
    return out


def _covariance(information: Array, back: Array, *, bounded: bool) -> tuple[Array, Mask]:
    values, vectors = np.linalg.eigh(information)
    flat = np.ones(len(values), dtype=bool) if bounded else values < FLAT
    good = back @ vectors[:, ~flat]
    va = (good / values[~flat]) @ good.T
    lost = np.abs(back @ vectors[:, flat]).max(axis=1, initial=0.0)
    infinite = lost > 1e-6 * np.linalg.norm(back, axis=1)
    va[infinite] = np.nan
    va[:, infinite] = np.nan
    return va, infinite


def _climb(objective: _Objective, start: Array, longest: Callable[[Array, Array], float]) -> _Climb:
    """Climb from `start`; `longest` returns the largest share of a step that may be taken."""
    point = start
    value, slope, hessian = objective(point)
    for iteration in range(1, MAX_ITERATIONS + 1):
        values, vectors = np.linalg.eigh(-hessian)
        scale = max(float(np.abs(values).max()), 1e-300)
        step = vectors @ ((vectors.T @ slope) / np.maximum(np.abs(values), 1e-12 * scale))
        gain = 0.5 * float(slope @ step)
        if gain <= GAIN * (1.0 + abs(value)):
            # Newton's last step squares the error that is left.
            last = point + min(1.0, longest(point, step)) * step
            end = objective(last)[0]
            return _Climb(last, end, True, iteration) if np.isfinite(end) else _Climb(point, value, True, iteration)
        share = min(1.0, longest(point, step))
        while share * gain > UNSEEN * (1.0 + abs(value)):
            trial = point + share * step
            new = objective(trial)
            if new[0] >= value + 1e-4 * share * gain:
                break
            share *= 0.5
        else:
            # Rounding hides what is left of the slope: as high as floating point can see.
            return _Climb(point, value, gain < 1e-8 * (1.0 + abs(value)), iteration)
        point, (value, slope, hessian) = trial, new
    return _Climb(point, value, False, MAX_ITERATIONS)


def _log_search(batch: Batch, basis: Array, peaks: Array, restricted: bool) -> _Climb:
    floor = float(np.log(VANISHED * typical_variance(batch)[0]))

    def objective(g: Array) -> tuple[float, Array, Array]:
        tau2 = np.exp(np.clip(basis @ g, -690.0, 690.0))
        model, value = _evaluate(batch, tau2, restricted=restricted)
        slope = basis.T @ (score(model, restricted=restricted) * tau2)
        return value, slope, _hessian(model, basis, link="log", tau2=tau2, restricted=restricted)

    def longest(point: Array, step: Array) -> float:
        now, change = basis @ point, basis @ step
        # What has fallen out of sight may fall on freely.
        counts = (now > floor) | (change > 0)
        return LONGEST / max(float(np.abs(change[counts]).max(initial=0.0)), 1e-300)

    climbs = [_climb(objective, start, longest) for start in _starts(batch, basis, peaks, restricted)]
    return max(climbs, key=lambda climb: climb.value)


def _starts(batch: Batch, basis: Array, peaks: Array, restricted: bool) -> Array:
    """Return starts (m, q): equal tau2, also at each peak, the spread of the residuals, the best of many tilts."""
    y, v, Q = batch.y[0], batch.v[0], batch.Q
    unit = float(typical_variance(batch)[0])
    level = np.log(max(float(peaks[0]), 0.1 * unit))
    # From the peaks of the model with one tau2, this one can only climb; 0 has no logarithm.
    at_peaks = np.log(np.maximum(peaks, 1e-6 * VANISHED * unit))
    project = basis.T / len(y)
    rest = (y - Q @ np.linalg.lstsq(Q, y, rcond=None)[0]) ** 2
    sure = [project @ np.full(len(y), start) for start in (level, *at_peaks)]
    sure.append(project @ np.log(np.maximum(rest - v, 0.02 * unit)))
    heights = level + np.array([-3.0, -1.0, 0.0, 1.5])
    flat = project @ np.ones(len(y))
    directions = _directions(basis.shape[1])
    tilts = directions[:, None, None] * np.array([0.8, 2.5, 6.0, 15.0])[:, None, None]
    tried = (tilts + heights[:, None] * flat).reshape(-1, basis.shape[1])
    if len(y) > MANY:
        # With so many studies the likelihood has one hill.
        return np.vstack(sure)
    values = _heights(batch, tried @ basis.T, restricted=restricted).reshape(len(directions), -1)
    # The best of each direction, so that the starts do not crowd on one slope.
    best = tried.reshape(len(directions), -1, basis.shape[1])[np.arange(len(directions)), values.argmax(axis=1)]
    return np.vstack([*sure, best[np.argsort(-values.max(axis=1), kind="stable")[:TRIED]]])


def _directions(q: int) -> Array:
    """Return unit vectors spread over the sphere: the axes and a fixed quasi-random set."""
    axes = np.vstack([np.eye(q), -np.eye(q)])
    if q == 1:
        return axes
    # The additive recurrence of the root of x^(q+1) = x + 1, the golden ratio for q = 1.
    ratio = 2.0
    for _ in range(60):
        ratio = (1.0 + ratio) ** (1.0 / (q + 1.0))
    angles = np.modf(np.outer(np.arange(1.0, 8.0 * q + 1.0), ratio ** -np.arange(1.0, q + 1.0)))[0]
    points = special.ndtri(0.02 + 0.96 * angles)
    return np.vstack([axes, points / np.linalg.norm(points, axis=1, keepdims=True)])


def _heights(batch: Batch, linear: Array, *, restricted: bool) -> Array:
    """Return the log-likelihood at each row of log(tau2) (m, k)."""
    size = max(1, (1 << 16) // linear.shape[1])
    out = []
    for begin in range(0, len(linear), size):
        part = np.exp(np.clip(linear[begin : begin + size], -60.0, 60.0))
        y, v = np.broadcast_to(batch.y, part.shape), np.broadcast_to(batch.v, part.shape)
        several = replace(batch, y=y, v=v)
        out.append(log_likelihood(wls_weighted(several, 1.0 / (v + part)), restricted=restricted))
    return np.concatenate(out)


def _identity_search(batch: Batch, basis: Array, peaks: Array, restricted: bool) -> _Climb:
    weight = 1.0

    def objective(g: Array) -> tuple[float, Array, Array]:
        tau2 = basis @ g
        if not tau2.min() > 0:
            # Rounding took a step across the bound it was meant to stop at.
            return -np.inf, np.zeros(len(g)), np.zeros((len(g), len(g)))
        model, value = _evaluate(batch, tau2, restricted=restricted)
        slope = basis.T @ (score(model, restricted=restricted) + weight / tau2)
        hessian = _hessian(model, basis, link="identity", tau2=tau2, restricted=restricted)
        hessian -= weight * (basis / tau2[:, None] ** 2).T @ basis
        return value + weight * float(np.log(tau2).sum()), slope, hessian

    def longest(point: Array, step: Array) -> float:
        now, change = basis @ point, basis @ step
        falling = change < 0
        return 0.95 * float((now[falling] / -change[falling]).min()) if falling.any() else np.inf

    climbs = []
    for start in _positive_starts(batch, basis, peaks):
        climb = _Climb(start, -np.inf, False, 0)
        steps = 0
        for share in BARRIER:
            weight = share / len(batch.y[0])
            climb = _climb(objective, climb.point, longest)
            steps += climb.iterations
        climbs.append(_Climb(climb.point, climb.value, climb.converged, steps))
    return max(climbs, key=lambda climb: climb.value)


def _positive_starts(batch: Batch, basis: Array, peaks: Array) -> Iterator[Array]:
    """Yield starts whose tau2 is positive in every row, as far as they exist."""
    unit = float(typical_variance(batch)[0])
    k = len(basis)
    constant = max(float(peaks[0]), 0.1 * unit)
    flat = basis.T @ np.full(k, constant) / k
    if (basis @ flat).min() <= 0:
        flat = _interior(basis) * constant
    yield flat
    for other in peaks[1:]:
        yield flat * max(float(other) / constant, VANISHED)
    if k > MANY:
        return
    yield 10.0 * flat
    now = basis @ flat
    for j in range(basis.shape[1]):
        for side in (-1.0, 1.0):
            column = side * basis[:, j]
            falling = column < 0
            if not falling.any():
                continue
            tilted = flat.copy()
            tilted[j] += side * 0.9 * float((now[falling] / -column[falling]).min())
            yield tilted


def _interior(basis: Array) -> Array:
    """Return coefficients with basis @ g > 0 in every row: the point farthest inside; scipy's linear program."""
    from scipy import optimize

    k, q = basis.shape
    found = optimize.linprog(
        np.append(np.zeros(q), -1.0),
        A_ub=np.column_stack([-basis, np.ones(k)]),
        b_ub=np.zeros(k),
        bounds=[(-1.0, 1.0)] * q + [(0.0, 1.0)],
    )
    if found.x is None or not found.x[-1] > 0:
        raise ValueError("no coefficients make tau2 positive in every row")
    return np.asarray(found.x[:q])
