"""Where the integrand of the publication probabilities lies: its top and its extent, at many points at once.

In x = log b, with w_j = b_1 ... b_j, the log integrand is linear less logarithms of sums of exponentials, hence
concave: Newton's steps find its top, and along any line it falls faster and faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.robust.clusters import IntArray

NEWTON_STEPS, QUICK_STEPS = 30, 8
LARGEST_STEP = 3.0
STILL = 1e-2
LOWEST = -8.0
LEAST_CURVATURE = 1e-3
WIDENING, SEARCH_STEPS = 6, 9
# How far the integrand falls in what is called near the top.
NEAR = 2.0
# How much further than the search finds the integrand is followed.
MARGIN = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """Where the integrand lies, in x = log b: its top, and around it what each x_i covers given those before it.

    Attributes
    ----------
    top, low, high : ndarray of shape (m, B)
    middle : ndarray of shape (m, B)
        Of what lies near the top.
    slope : ndarray of shape (m, m, B)
        How x_i moves with each x_l before it.
    """

    top: Array
    low: Array
    high: Array
    middle: Array
    slope: Array

    def take(self, s: slice) -> Support:
        """Return the same for some of the points."""
        return Support(self.top[:, s], self.low[:, s], self.high[:, s], self.middle[:, s], self.slope[:, :, s])


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
    low, high, middle, slope = np.empty_like(top), np.empty_like(top), np.empty_like(top), np.zeros((m, m, B))
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
        ends = []
        for side in (-1.0, 1.0):
            far, near = _far_ends(P, c, top, height, side * ridge, spread, i, depth)
            ends.append((top[i] + side * MARGIN * far, top[i] + side * near))
        # What is cut off at 0 here may not be where the variables before it are smaller.
        cut = np.where(ends[1][0] < 0.0, 0.0, spread * np.sqrt(2.0 * depth))
        low[i], high[i] = ends[0][0], ends[1][0] + cut
        middle[i] = 0.5 * (ends[0][1] + np.minimum(ends[1][1], 0.0))
    return Support(top, low, high, middle, slope)


def find_top(P: Array, c: Array, steps: int) -> Array:
    """Return the top by Newton's steps, roughly, (m, B): only where points are placed depends on it."""
    top = _first_guess(P, c)
    moving: IntArray = np.arange(P.shape[1])
    for _ in range(steps):
        x = top[:, moving]
        gradient, curvature = _slopes(P, c, x)
        step = _solve(curvature, gradient, (x < 0.0) | (gradient < 0.0))
        step *= np.minimum(1.0, LARGEST_STEP / np.maximum(np.abs(step).max(axis=0), 1e-300))
        new = np.minimum(x + step, 0.0)
        top[:, moving] = new
        still = np.abs(new - x).max(axis=0) >= STILL
        moving, P = moving[still], P[:, still]
        if not len(moving):
            break
    return top


def _first_guess(P: Array, c: Array) -> Array:
    """Return the log of the odds of results beyond each step, as published over as expected without selection."""
    expected = P.sum(axis=2)
    beyond = np.cumsum(expected[::-1], axis=0)[::-1]
    published = np.concatenate([[float(P.shape[2] + len(c))], c + 1.0])
    kept = published[1:] / np.maximum(published[:-1] - published[1:], 0.5)
    return np.clip(np.log(kept[:, None] * expected[:-1] / beyond[1:]), LOWEST, -0.01)


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
    total = share.sum(axis=2)
    gradient = c[:, None] + 1.0 - total
    order = np.arange(m)
    curvature = total[np.maximum.outer(order, order)].transpose(2, 0, 1) - np.einsum("ibk,jbk->bij", share, share)
    curvature[:, np.arange(m), np.arange(m)] += LEAST_CURVATURE
    return gradient, curvature


def _solve(curvature: Array, gradient: Array, free: Mask) -> Array:
    """Return Newton's step among the free variables, (m, B)."""
    m = len(gradient)
    A = curvature * (free.T[:, :, None] & free.T[:, None, :])
    A[:, np.arange(m), np.arange(m)] += ~free.T
    return np.linalg.solve(A, (gradient * free).T[:, :, None])[:, :, 0].T


def _far_ends(
    P: Array, c: Array, top: Array, height: Array, ridge: Array, spread: Array, i: int, depth: float
) -> tuple[Array, Array]:
    """Return how far along the ridge the integrand has fallen by `depth`, and by less, or has come to x_i = 0.

    By false position: it falls faster and faster.
    """
    most = np.where(ridge[i] > 0, -top[i], np.inf)

    def fallen(step: Array) -> Array:
        return height - _target(P, c, np.minimum(top + ridge * step, 0.0))

    near, far = np.zeros(len(spread)), np.minimum(spread * np.sqrt(2.0 * depth), most)
    f_near, f_far = near, fallen(far)
    for _ in range(WIDENING):
        short = (f_far < depth) & (far < most)
        if not short.any():
            break
        near, f_near = np.where(short, far, near), np.where(short, f_far, f_near)
        far = np.where(short, np.minimum(3.0 * far, most), far)
        f_far = fallen(far)
    found = far
    shallow = np.where(f_near < NEAR, near, 0.0)
    for _ in range(SEARCH_STEPS):
        inside = f_far > depth
        if not inside.any():
            break
        # Between a straight line, which falls short, and halving.
        share = np.clip((depth - f_near) / np.maximum(f_far - f_near, 1e-300), 0.05, 0.95)
        step = np.where(inside, near + np.maximum(share, 0.5 * (share + 0.5)) * (far - near), far)
        f = fallen(step)
        shallow = np.where((f < NEAR) & (step > shallow), step, shallow)
        below = f < depth
        near, f_near = np.where(inside & below, step, near), np.where(inside & below, f, f_near)
        far, f_far = np.where(inside & ~below, step, far), np.where(inside & ~below, f, f_far)
        found = far
        if (np.abs(f_far - depth) < 0.2 * depth)[inside].all():
            break
    # A parabola through the top and the end, where nothing nearer was seen.
    guess = found * np.sqrt(NEAR / np.maximum(f_far, NEAR))
    return found, np.maximum(shallow, np.minimum(guess, found))


def sums(P: Array, b: Array) -> Array:
    """Return sum_j w_j P_ij for b (m, B), (B, k)."""
    total = P[-1]
    for i in range(len(b) - 1, -1, -1):
        total = P[i] + b[i][:, None] * total
    return total


def _target(P: Array, c: Array, x: Array) -> Array:
    """Return the log integrand in x = log b (m, B), (B,)."""
    return (c + 1.0) @ x - np.log(sums(P, np.exp(x))).sum(axis=1)
