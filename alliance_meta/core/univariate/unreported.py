r"""Effects known only to lie between two bounds, because all that was reported is that they are not significant.

An effect that is reported has the density of :math:`N(\mu, v_i + \tau^2)` at its value, any other the probability of
that distribution between its bounds. What both say of :math:`(\mu, \tau^2)` is maximised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array

LOG_ROOT_2PI = 0.5 * float(np.log(2.0 * np.pi))
GRID, CLIMBS, MOST_STEPS, MOST_HALVINGS = 24, 12, 100, 40
# A Newton step that promises less than this in log-likelihood is rounding.
SMALL = 1e-18


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """k reported effects with their variances, and m others with theirs and the bounds they lie between."""

    y: Array
    v: Array
    v_between: Array
    low: Array
    high: Array


class Between(NamedTuple):
    """Log-probability between the bounds, and its derivatives in mu and tau2, (m,) each."""

    log: Array
    d_mu: Array
    d_tau2: Array
    d_mu_mu: Array
    d_mu_tau2: Array
    d_tau2_tau2: Array


@dataclass(frozen=True, slots=True, eq=False)
class Estimated:
    """Where the likelihood is largest."""

    mu: float
    tau2: float
    loglik: float
    scores: Array  # (k + m, 2): what each effect adds to the gradient in mu and tau2; the reported ones first
    # (2, 2): expected of the reported effects, as in any random-effects model, and observed of the others.
    information: Array
    converged: bool

    @property
    def weights(self) -> Array:
        """What turns scores into an estimate of mu: a row of the inverse information; tau2 has none where it is 0."""
        (own, cross), (_, of_tau2) = self.information
        if self.tau2 > 0 and of_tau2 > 0 and own * of_tau2 > cross**2:
            return np.array([of_tau2, -cross]) / (own * of_tau2 - cross**2)
        return np.array([1.0 / own, 0.0])

    @property
    def variance(self) -> float:
        """Sampling variance of mu, effects being independent."""
        return float(self.weights[0])


def log_between(a: Array, b: Array) -> Array:
    """Return log(Phi(b) - Phi(a)) for a < b, without loss in either tail."""
    flip = a + b > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    upper = special.log_ndtr(b)
    return upper + np.log(-np.expm1(special.log_ndtr(a) - upper))


def between(mu: Array, tau2: Array, data: Bounded) -> Between:
    """Return the log-probabilities of the bounds with their derivatives; mu and tau2 broadcast against (m,)."""
    s2 = data.v_between + tau2
    s = np.sqrt(s2)
    a, b = (data.low - mu) / s, (data.high - mu) / s
    log = log_between(a, b)
    A, B = (np.exp(-0.5 * x * x - LOG_ROOT_2PI - log) for x in (a, b))
    D, E, F, G = (a**p * A - b**p * B for p in range(4))
    return Between(
        log,
        D / s,
        0.5 * E / s2,
        (E - D * D) / s2,
        0.5 * (F - D - D * E) / (s2 * s),
        0.25 * (G - 3.0 * E - E * E) / (s2 * s2),
    )


def fit(data: Bounded) -> Estimated:
    """Return the maximum of the likelihood: the best of a grid of tau2, each with its mu, then Newton's way up."""
    mu, tau2 = _start(data)
    current, converged = _value(mu, tau2, data), False
    for _ in range(MOST_STEPS):
        step, promised = _step(mu, tau2, data)
        if promised <= SMALL * max(1.0, abs(current)):
            converged = True
            break
        for _ in range(MOST_HALVINGS):
            there = mu + step[0], max(tau2 + step[1], 0.0)
            value = _value(*there, data)
            if value >= current:
                break
            step = 0.5 * step
        else:  # nothing higher is near: what is left is rounding
            converged = True
            break
        (mu, tau2), current = there, value
    scores, _, information = _derivatives(mu, tau2, data)
    return Estimated(float(mu), float(tau2), float(current), scores, information, converged)


def _start(data: Bounded) -> tuple[float, float]:
    """Return the best tau2 of a grid with its mu, which steps that never go down have brought near its best."""
    ends = np.concatenate([data.y, data.low, data.high])
    v = np.concatenate([data.v, data.v_between])
    top = max(np.ptp(ends) ** 2, v.max())
    tau2 = np.concatenate([[0.0], np.geomspace(1e-3 * v.min(), top, GRID)])[:, None]
    w, w_between = 1.0 / (data.v + tau2), 1.0 / (data.v_between + tau2)
    total = w.sum(axis=1) + w_between.sum(axis=1)
    mu = (w @ data.y + w_between @ (0.5 * (data.low + data.high)))[:, None] / total[:, None]
    for _ in range(CLIMBS):
        gradient = w @ data.y - w.sum(axis=1) * mu[:, 0] + between(mu, tau2, data).d_mu.sum(axis=1)
        mu = mu + (gradient / total)[:, None]
    values = _values(mu, tau2, data)
    best = int(np.argmax(values))
    return float(mu[best, 0]), float(tau2[best, 0])


def _values(mu: Array, tau2: Array, data: Bounded) -> Array:
    """Return log-likelihoods at (S, 1) values."""
    s2 = data.v + tau2
    s2_between = np.sqrt(data.v_between + tau2)
    reported = -0.5 * (np.log(s2) + (data.y - mu) ** 2 / s2) - LOG_ROOT_2PI
    others = log_between((data.low - mu) / s2_between, (data.high - mu) / s2_between)
    return np.asarray(reported.sum(axis=1) + others.sum(axis=1))


def _value(mu: float, tau2: float, data: Bounded) -> float:
    return float(_values(np.array([[mu]]), np.array([[tau2]]), data)[0])


def _derivatives(mu: float, tau2: float, data: Bounded) -> tuple[Array, Array, Array]:
    """Return the scores (k + m, 2), the second derivatives (2, 2) and the information (2, 2)."""
    w, e = 1.0 / (data.v + tau2), data.y - mu
    other = between(np.asarray(mu), np.asarray(tau2), data)
    reported = np.stack([w * e, 0.5 * (w * w * e * e - w)], axis=1)
    scores = np.concatenate([reported, np.stack([other.d_mu, other.d_tau2], axis=1)])
    cross = other.d_mu_tau2.sum()
    curved = np.array([[other.d_mu_mu.sum(), cross], [cross, other.d_tau2_tau2.sum()]])
    expected = np.diag([w.sum(), 0.5 * (w * w).sum()])
    own = (w * w * e).sum()
    hessian = curved - np.array([[w.sum(), own], [own, (w**3 * e * e - 0.5 * w * w).sum()]])
    return scores, hessian, expected - curved


def _step(mu: float, tau2: float, data: Bounded) -> tuple[Array, float]:
    """Return a step uphill and what it promises: Newton's, that of mu alone at the edge, or along the gradient."""
    scores, hessian, _ = _derivatives(mu, tau2, data)
    gradient = scores.sum(axis=0)
    if tau2 == 0 and gradient[1] <= 0:
        step = np.array([-gradient[0] / hessian[0, 0], 0.0])
    elif hessian[0, 0] < 0 and np.linalg.det(hessian) > 0:
        step = -np.linalg.solve(hessian, gradient)
    else:
        w = 1.0 / (np.concatenate([data.v, data.v_between]) + tau2)
        step = gradient / np.array([w.sum(), 0.5 * (w * w).sum()])
    if tau2 + step[1] < 0:  # not beyond the edge: mu moves as if tau2 stopped there
        step = np.array([-gradient[0] / hessian[0, 0], -tau2])
    return step, float(gradient @ step)


def draw(mu: Array, tau2: float, data: Bounded, rng: np.random.Generator) -> Array:
    """Return values of the effects that were not reported, one row for each mu (B,), (B, m)."""
    s = np.sqrt(data.v_between + tau2)
    a, b = (data.low - mu[:, None]) / s, (data.high - mu[:, None]) / s
    flip = a + b > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    u = rng.random(a.shape)
    upper = special.log_ndtr(b)
    z = special.ndtri_exp(upper + np.log(u + (1.0 - u) * np.exp(special.log_ndtr(a) - upper)))
    return np.clip(mu[:, None] + s * np.where(flip, -z, z), data.low, data.high)


def clustered_variance(weighted: Array, cluster: AnyArray) -> Array:
    """Return J / (J - 1) times the sum of squares of what J clusters sum to, of each row of `weighted` (B, k)."""
    order = np.argsort(cluster, kind="stable")
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    sums = np.add.reduceat(weighted[:, order], first, axis=1)
    return np.asarray(first.size / (first.size - 1.0) * (sums**2).sum(axis=1))
