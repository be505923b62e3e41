"""Where the integrand of the publication probabilities lies: its top and its extent, at many points at once.

In x = log b, with w_j = b_1 ... b_j, the log integrand is linear less logarithms of sums of exponentials, hence
concave: Newton's steps find its top, and along any line it falls faster and faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array, Mask

NEWTON_STEPS, QUICK_STEPS = 30, 8
LARGEST_STEP = 3.0
STILL = 1e-2
LEAST_CURVATURE = 1e-3
SEARCH_STEPS = 7
# How much further than the search finds the integrand is followed.
MARGIN = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """Where the integrand lies, in x = log b: its top, and around it what each x_i covers given those before it.

    Attributes
    ----------
    top, low, high : ndarray of shape (m, B)
    slope : ndarray of shape (m, m, B)
        How x_i moves with each x_l before it.
    """

    top: Array
    low: Array
    high: Array
    slope: Array

    def take(self, s: slice) -> Support:
        """Return the same for some of the points."""
        return Support(self.top[:, s], self.low[:, s], self.high[:, s], self.slope[:, :, s])


def laplace(P: Array, c: Array) -> Array:
    """Return the log of about the integral at each of B points, for probabilities P (J, B, k) and exponents c (m,)."""
    top = find_top(P, c, QUICK_STEPS)
    gradient, curvature = _slopes(P, c, top)
    steep = np.einsum("bii->ib", curvature) + np.where(top < 0.0, 0.0, gradient) ** 2
    return _target(P, c, top) - 0.5 * np.log(steep).sum(axis=0)


def find_support(P: Array, c: Array, depth: float) -> Support:
    """Find the top, and from there where the integrand has fallen by `depth`.

    Each variable moves along its ridge: those before it stay, those after it follow as the curvature says.
    """
    m, B = len(c), P.shape[1]
    top = find_top(P, c, NEWTON_STEPS)
    gradient, curvature = _slopes(P, c, top)
    free = ((top < 0.0) | (gradient < 0.0)).T
    height = _target(P, c, top)
    low, high, slope = np.empty_like(top), np.zeros_like(top), np.zeros((m, m, B))
    for i in range(m):
        # Given those before it; those after it that are at the edge stay there.
        moving = free[:, i:].copy()
        moving[:, 0] = True
        inner = curvature[:, i:, i:] * (moving[:, :, None] & moving[:, None, :])
        inner[:, np.arange(m - i), np.arange(m - i)] += ~moving
        covariance = np.linalg.inv(inner)
        across = curvature[:, i:, :i] * moving[:, :, None]
        slope[i, :i] = -(covariance @ across)[:, 0].T
        ridge = np.zeros((m, B))
        ridge[i:] = (covariance[:, :, 0] / covariance[:, 0, :1]).T
        spread = np.sqrt(covariance[:, 0, 0])
        low[i] = _far_end(P, c, top, height, -ridge, spread, i, depth)
        high[i] = _far_end(P, c, top, height, ridge, spread, i, depth)
    return Support(top, low, high, slope)


def find_top(P: Array, c: Array, steps: int) -> Array:
    """Return the top by Newton's steps, roughly, (m, B): only where points are placed depends on it."""
    top = np.full((len(c), P.shape[1]), -0.5)
    for _ in range(steps):
        gradient, curvature = _slopes(P, c, top)
        step = _solve(curvature, gradient, (top < 0.0) | (gradient < 0.0))
        step *= np.minimum(1.0, LARGEST_STEP / np.maximum(np.abs(step).max(axis=0), 1e-300))
        new = np.minimum(top + step, 0.0)
        moved, top = np.abs(new - top).max(), new
        if moved < STILL:
            break
    return top


def _slopes(P: Array, c: Array, x: Array) -> tuple[Array, Array]:
    """Return the gradient (m, B) and the negative curvature (B, m, m) of the log integrand."""
    m, b = len(c), np.exp(x)
    tails = [P[-1]]
    for i in range(m - 1, -1, -1):
        tails.append(P[i] + b[i][:, None] * tails[-1])
    q, scale = [], np.ones(x.shape[1])
    for i in range(m):
        scale = scale * b[i]
        q.append(scale[:, None] * tails[m - 1 - i] / tails[m])
    share = np.stack(q)
    gradient = c[:, None] + 1.0 - share.sum(axis=2)
    curvature = -np.einsum("ibk,jbk->bij", share, share)
    for i in range(m):
        for j in range(m):
            curvature[:, i, j] += share[max(i, j)].sum(axis=1)
    curvature[:, np.arange(m), np.arange(m)] += LEAST_CURVATURE
    return gradient, curvature


def _solve(curvature: Array, gradient: Array, free: Mask) -> Array:
    """Return Newton's step among the free variables, (m, B)."""
    m = len(gradient)
    A = curvature * (free.T[:, :, None] & free.T[:, None, :])
    A[:, np.arange(m), np.arange(m)] += ~free.T
    return np.linalg.solve(A, (gradient * free).T[:, :, None])[:, :, 0].T


def _far_end(P: Array, c: Array, top: Array, height: Array, ridge: Array, spread: Array, i: int, depth: float) -> Array:
    """Return x_i where the integrand along the ridge has fallen by `depth`."""
    step = spread * np.sqrt(2.0 * depth)
    for _ in range(SEARCH_STEPS):
        if ridge[i, 0] > 0 and (top[i] + step >= 0.0).all():
            break
        fallen = height - _target(P, c, np.minimum(top + ridge * step, 0.0))
        # A concave function falls between linearly and quadratically.
        ratio = depth / np.maximum(fallen, 1e-3 * depth)
        step = step * np.clip(np.where(ratio > 1.0, ratio, np.sqrt(ratio)), 0.2, 3.0)
    return top[i] + ridge[i] * step * MARGIN


def sums(P: Array, b: Array) -> Array:
    """Return sum_j w_j P_ij for b (m, B), (B, k)."""
    total = P[-1]
    for i in range(len(b) - 1, -1, -1):
        total = P[i] + b[i][:, None] * total
    return total


def _target(P: Array, c: Array, x: Array) -> Array:
    """Return the log integrand in x = log b (m, B), (B,)."""
    return (c + 1.0) @ x - np.log(sums(P, np.exp(x))).sum(axis=1)
