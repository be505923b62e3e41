r"""Effects selected by their p-values: the studies, the intervals of their p-values, and the normal likelihood.

A result in interval j is published with a probability :math:`\omega_j` relative to the most significant ones,
:math:`1 = \omega_0 \ge \omega_1 \ge \dots \ge \omega_{J-1} \ge 0`. Given mean and standard deviation of the true
effects the likelihood is

.. math:: \prod_i \phi_i(y_i) \; \omega_{j(i)} / \textstyle\sum_j \omega_j P_{ij}

with the probability :math:`P_{ij}` of a result in interval j (Hedges 1992, doi:10.1214/ss/1177011364).

A priori the decreasing probabilities are uniform, which is the cumulative Dirichlet(1, ..., 1) distribution of Maier et
al. (2023, doi:10.1037/met0000405). Written as :math:`\omega_j = b_1 b_2 \dots b_j` they fill a cube, and each b has a
power as its prior density. They are integrated out at many (mu, tau) at once by a product of Gauss-Legendre rules, each
placed where the integrand lies for the values of the variables before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import lgamma
from typing import Literal

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray

Sides = Literal["one", "two"]

# Smaller probabilities of a result mean mass that is negligible, and would not survive their products.
LEAST = 1e-20


@dataclass(frozen=True, slots=True, eq=False)
class StepData:
    """k studies and the intervals of their p-values."""

    y: Array  # (k,)
    se: Array  # (k,)
    cuts: Array  # (J - 1, k): effects (two-sided: their sizes) at the borders of the intervals, the largest first
    two_sided: bool
    counts: IntArray  # (J,): studies in each interval
    sign: float = 1.0  # -1 if small effects are the significant ones

    @property
    def m(self) -> int:
        """Number of unknown probabilities."""
        return len(self.cuts)

    @property
    def exponents(self) -> Array:
        """How often each b_i is a factor, that of its prior density included, (m,)."""
        after = np.cumsum(self.counts[::-1])[::-1][1:]
        return after + np.arange(self.m - 1.0, -1.0, -1.0)


def step_data(y: Array, se: Array, steps: Sequence[float], sides: Sides, *, sign: float = 1.0) -> StepData:
    """Return the intervals between p-values `steps`, increasing, for effects y (k,) and standard errors (k,)."""
    p = np.asarray(steps, dtype=float)
    two = sides == "two"
    cuts = -special.ndtri(0.5 * p if two else p)[:, None] * se
    below = (np.abs(y) if two else sign * y) < cuts
    counts = np.bincount(below.sum(axis=0), minlength=len(p) + 1).astype(np.intp)
    return StepData(y, se, cuts, two, counts, sign)


def log_density(data: StepData, mu: Array, tau: Array) -> Array:
    """Return the log density of the effects without selection for each mu (B,) and tau (B,), (B,)."""
    total = data.se**2 + np.square(tau)[:, None]
    squares = (data.y - mu[:, None]) ** 2 / total
    return -0.5 * (squares + np.log(2.0 * np.pi * total)).sum(axis=1)


def probabilities(data: StepData, mu: Array, tau: Array) -> Array:
    """Return the probability of a result in each interval, (J, B, k)."""
    mu, sd = data.sign * mu, np.sqrt(data.se**2 + np.square(tau)[:, None])
    above = [(cut - mu[:, None]) / sd for cut in data.cuts]
    found = [special.ndtr(-above[0]), *(between(low, high) for high, low in pairwise(above))]
    if data.two_sided:
        below = [(-cut - mu[:, None]) / sd for cut in data.cuts]
        found[0] += special.ndtr(below[0])
        for one, (low, high) in zip(found[1:], pairwise(below), strict=True):
            one += between(low, high)
        found.append(between(below[-1], above[-1]))
    else:
        found.append(special.ndtr(above[-1]))
    return np.maximum(np.stack(found), LEAST)


def between(a: Array, b: Array) -> Array:
    """Return the normal probability between a and b, from the side where both tails are small."""
    right = a > 0
    return special.ndtr(np.where(right, -a, b)) - special.ndtr(np.where(right, -b, a))


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
    """Where the integrand lies, in x = log b: its top, and around it what each x_i covers given those before it."""

    top: Array  # (m, B)
    low: Array  # (m, B)
    high: Array  # (m, B)
    middle: Array  # (m, B): of what lies near the top
    slope: Array  # (m, m, B): how x_i moves with each x_l before it

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
        """Return how far the log of the integrand has fallen."""
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


# Gauss-Legendre points in each of 1, 2 or 3 dimensions, and how far below its top (in logs) the integrand is
# followed: what suffices where there is little mass, what usually suffices, and two finer levels.
LEVELS: tuple[tuple[tuple[int, int, int], float], ...] = (
    ((20, 13, 10), 10.0),
    ((26, 18, 14), 14.0),
    ((40, 28, 22), 20.0),
    ((64, 48, 36), 28.0),
)
USUAL, FINEST = 1, 3
MOST_STEPS = 3
# A variable b is integrated as b^power; 0 stands for log b.
POWERS = (1.0, 0.5, 0.25, 0.0)
# Numbers worked on at once, which should fit into the cache of a processor.
CELLS = 32_768
# A product is kept below exp(MOST_ROOM), and above its inverse.
MOST_ROOM = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A Gauss-Legendre rule of n points for a variable b in (0, 1], one for each index of its arrays."""

    # middle, half: of the interval, in w = b^power, or w = log b where the power is 0.
    middle: Array
    half: Array
    power: Array
    n: int

    def at(self, node: Array) -> tuple[Array, Array]:
        """Return log b and b at nodes between -1 and 1, (..., n)."""
        w = self.middle[..., None] + self.half[..., None] * node
        x, b = np.empty_like(w), np.empty_like(w)
        # A point has one power for all nodes of the variables before.
        power = self.power.reshape(len(w), -1)[:, 0]
        for one in POWERS:
            rows = power == one
            if one == 0.0:
                x[rows] = w[rows]
                b[rows] = np.exp(w[rows])
            elif rows.any():
                x[rows] = np.log(w[rows]) / one
                b[rows] = w[rows] if one == 1.0 else w[rows] ** 2 if one == 0.5 else (w[rows] ** 2) ** 2
        return x, b

    def log_weights(self) -> Array:
        """Return the logs of the weights of the nodes, but for db = b^(1 - power) dw, (..., n)."""
        return gauss(self.n)[1] + np.log(self.half / np.where(self.power == 0.0, 1.0, self.power))[..., None]


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """The integrals over the publication probabilities at B points, with what is left of them."""

    log_integral: Array  # (B,): log of the mean of prod w_i / sum w P over the prior
    omega: tuple[Array, ...]  # w_1 (B, n), w_2 (B, n, n), ... at the nodes
    rules: tuple[Rule, ...]  # that of each b, for the values of those before it
    weight: Array  # (B, n, ..., n): posterior probability of each node given the point


def integrate_weights(data: StepData, mu: Array, tau: Array, *, level: int = USUAL) -> Array:
    """Return the log of the mean of prod w_i / sum w P over the prior at each mu (B,) and tau (B,), (B,)."""
    return np.concatenate([one.log_integral for one in _chunks(data, mu, tau, level)])


def look_at_weights(data: StepData, mu: Array, tau: Array) -> Array:
    """Return about the same by Laplace's method, up to a constant, to see where the mass lies."""
    return laplace(probabilities(data, mu, tau), data.exponents)


def weight_posteriors(data: StepData, mu: Array, tau: Array, *, level: int = USUAL) -> Iterator[Selected]:
    """Yield the posteriors of the publication probabilities, for some of the points at a time."""
    for one in _chunks(data, mu, tau, level):
        yield Selected(
            one.log_integral, one.omega, one.rules, np.exp(one.weight - _spread(one.log_integral, data.m + 1))
        )


def _chunks(data: StepData, mu: Array, tau: Array, level: int) -> Iterator[Selected]:
    """Yield the integrals of some points at a time; `weight` holds the logs of what is added up."""
    P = probabilities(data, mu, tau)
    c, m = data.exponents, data.m
    points, depth = LEVELS[level]
    n = points[m - 1]
    support = find_support(P, c, depth)
    reference = sums(P, np.exp(support.top))
    constant = lgamma(m + 1) - np.log(reference).sum(axis=1)
    P = np.ascontiguousarray((P / reference).transpose(2, 0, 1))
    block = max(1, CELLS // n**m)
    for start in range(0, len(mu), block):
        s = slice(start, start + block)
        yield _integrate_chunk(P[:, :, s], c, support.take(s), n, constant[s])


def _integrate_chunk(P: Array, c: Array, support: Support, n: int, constant: Array) -> Selected:
    """Return the integrals of a block, P (k, J, B)."""
    m, B = len(c), P.shape[2]
    values = _spread(constant, m + 1)
    x: list[Array] = []
    omega: list[Array] = []
    rules = []
    for i in range(m):
        rule = _rule(support, x, i, n)
        one, b = rule.at(gauss(n)[0])
        rules.append(rule)
        x.append(one)
        omega.append(omega[-1][..., None] * b if i else b)
        values = values + _spread((c[i] + 1.0 - rule.power)[..., None] * one + rule.log_weights(), m + 1)
    values -= _log_products(P, omega)
    top = values.reshape(B, -1).max(axis=1)
    total = np.exp(values - _spread(top, m + 1)).reshape(B, -1).sum(axis=1)
    return Selected(top + np.log(total), tuple(omega), tuple(rules), values)


def _spread(A: Array, axes: int) -> Array:
    """Return an array over the first nodes with as many axes, the last of length 1."""
    return A.reshape(*A.shape, *([1] * (axes - A.ndim)))


def _rule(support: Support, x: list[Array], i: int, n: int) -> Rule:
    """Return the rule of b_i for the values x = log b of the variables before it.

    The nodes are spread evenly over that power of b in which the mass lies nearest the middle.
    """
    shift = np.zeros((support.top.shape[1], *([1] * i)))
    for j, before in enumerate(x):
        away = before - _spread(support.top[j], j + 2)
        shift = shift + _spread(support.slope[i, j], i + 1) * _spread(away, i + 1)
    low, high = (_spread(one[i], i + 1) + shift for one in (support.low, support.high))
    high = np.minimum(high, 0.0)
    low = np.minimum(low, high - 0.5 * _spread(np.minimum(support.high[i], 0.0) - support.low[i], i + 1))
    power = _spread(_powers(support.low[i], np.minimum(support.high[i], 0.0), support.middle[i]), i + 1) + 0.0 * low
    a, z = (np.where(power == 0.0, end, np.exp(power * end)) for end in (low, high))
    return Rule(0.5 * (a + z), 0.5 * (z - a), power, n)


def _powers(low: Array, high: Array, middle: Array) -> Array:
    """Return the power of b in which the middle of the mass lies nearest the middle, for ends in log b."""
    best, power = np.full(low.shape, np.inf), np.ones(low.shape)
    for one in POWERS:
        a, z, t = (np.exp(one * end) if one else end for end in (low, high, middle))
        off = np.abs((t - a) / np.maximum(z - a, 1e-300) - 0.5)
        better = off < best - 0.05
        best, power = np.where(better, off, best), np.where(better, one, power)
    return power


@cache
def gauss(n: int) -> tuple[Array, Array]:
    """Return the nodes of the Gauss-Legendre rule of n points, and the logs of its weights."""
    node, weight = np.polynomial.legendre.leggauss(n)
    return node, np.log(weight)


def _log_products(P: Array, omega: list[Array]) -> Array:
    """Return sum_i log sum_j w_j P_ij on the grid of the nodes (B, n, ..., n), for P (k, J, B).

    As sum_i log P_iJ plus the log of a product of w_J + (what the other w contribute) / P_iJ.
    """
    # The last nodes come first: what is added to them is then contiguous.
    last = np.ascontiguousarray(np.moveaxis(omega[-1], -1, 0))
    logs, product, term = np.zeros(last.shape), np.ones(last.shape), np.empty(last.shape)
    room = 0.0
    for study, size in zip(P, _sizes(P, omega), strict=True):
        room += size
        if room > MOST_ROOM:
            logs += np.log(product)
            product.fill(1.0)
            room = size
        partial = study[0] / study[-1]
        for w, probability in zip(omega[:-1], study[1:-1], strict=True):
            partial = partial[..., None] + w * _spread(probability / study[-1], w.ndim)
        np.add(last, partial, out=term)
        product *= term
    logs += np.log(product)
    return np.moveaxis(logs, 0, -1) + _spread(np.log(P[:, -1]).sum(axis=0), logs.ndim)


def _sizes(P: Array, omega: list[Array]) -> list[float]:
    """Return the largest size of log sum_j w_j P_ij / P_iJ of each study, (k,)."""
    found = np.zeros(len(P))
    for pick in (np.min, np.max):
        ends = np.stack([np.ones(P.shape[2]), *(pick(w.reshape(len(w), -1), axis=1) for w in omega)])
        found = np.maximum(found, np.abs(np.log((P * ends).sum(axis=1) / P[:, -1])).max(axis=1))
    return [float(one) for one in found]
