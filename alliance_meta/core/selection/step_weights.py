r"""Publication probabilities integrated out of the likelihood of selected effects, at many (mu, tau) at once.

A priori the decreasing probabilities of `steps` are uniform, which is the cumulative Dirichlet(1, ..., 1)
distribution of Maier et al. (2023, doi:10.1037/met0000405). Written as :math:`\omega_j = b_1 b_2 \dots b_j` they
fill a cube, and each b has a power as its prior density. `step_support` says where the integrand lies; a product of
Gauss-Legendre rules, each placed for the values of the variables before it, does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import lgamma

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.selection.step_support import Support, find_support, laplace, sums
from alliance_meta.core.selection.steps import StepData, probabilities

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
    """A Gauss-Legendre rule of n points for a variable b in (0, 1], one for each index of its arrays.

    Attributes
    ----------
    middle, half : ndarray
        Of the interval, in w = b^power, or w = log b where the power is 0.
    power : ndarray
    n : int
    """

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
    """The integrals over the publication probabilities at B points, with what is left of them.

    Attributes
    ----------
    log_integral : ndarray of shape (B,)
        Log of the mean of prod w_i / sum w P over the prior.
    omega : tuple of ndarray
        w_1 (B, n), w_2 (B, n, n), ... at the nodes.
    rules : tuple of Rule
        That of each b, for the values of those before it.
    weight : ndarray of shape (B, n, ..., n)
        Posterior probability of each node given the point.
    """

    log_integral: Array
    omega: tuple[Array, ...]
    rules: tuple[Rule, ...]
    weight: Array


def integrate_weights(data: StepData, mu: Array, tau: Array, *, level: int = USUAL) -> Array:
    """Return the log of the mean of prod w_i / sum w P over the prior at each mu (B,) and tau (B,), (B,)."""
    return np.concatenate([one.log_integral for one in _pieces(data, mu, tau, level)])


def look_at_weights(data: StepData, mu: Array, tau: Array) -> Array:
    """Return about the same by Laplace's method, up to a constant, to see where the mass lies."""
    return laplace(probabilities(data, mu, tau), data.exponents)


def weight_posteriors(data: StepData, mu: Array, tau: Array, *, level: int = USUAL) -> Iterator[Selected]:
    """Yield the posteriors of the publication probabilities, for some of the points at a time."""
    for one in _pieces(data, mu, tau, level):
        yield Selected(
            one.log_integral, one.omega, one.rules, np.exp(one.weight - _spread(one.log_integral, data.m + 1))
        )


def _pieces(data: StepData, mu: Array, tau: Array, level: int) -> Iterator[Selected]:
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
        yield _integrate_piece(P[:, :, s], c, support.take(s), n, constant[s])


def _integrate_piece(P: Array, c: Array, support: Support, n: int, constant: Array) -> Selected:
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
