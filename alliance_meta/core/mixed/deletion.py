r"""A mixed model without each of many units of rows, its covariance parameters searched for anew, many at a time.

A row whose own variance is so large that nothing is left of its weight is a row that is not there: all deletions are
then the same problem with other variances, and go through the same search together.

Variance components without each of many units of rows, from the likelihood's surface over a box of parameters.

The log-likelihood of a model whose rows fall into independent clusters needs three sums over clusters: log|M|, Z'M^-1 Z
for the columns Z of moderators and residuals. Without one unit they lack its part: that of whole clusters, or of a
single row i of a cluster, for which with N = M^-1

    log|M without i| = log|M| + log N_ii,    Z'M^-1 Z without i = Z'NZ - (NZ)_i (NZ)_i' / N_ii.

Sums and parts are smooth functions of the parameters; each is interpolated over a box in which all searches stay, by
Chebyshev's polynomials in log(theta + c), of so high a degree that the error is rounding (see `univariate.deletion`).
Every step of a search is then a few products, however many clusters there are. A search that wants to leave the box is
not settled: it must be done in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.mixed.covariance import Structure
from alliance_meta.core.mixed.likelihood import Component, MixedPoint, MixedProblem
from alliance_meta.core.mixed.search import climb

# Times the largest variance: 1 over it is lost beside every weight.
FAR = 1e30
# Numbers in one array of a batch, so that all stay in a core's cache.
BLOCK = 1 << 14


@dataclass(frozen=True, eq=False)
class Number(Structure):
    """A parameter that only says which unit is left out."""

    linear = True
    n = 1

    @property
    def bounds(self) -> tuple[Array, Array]:
        """None."""
        return np.full(1, -np.inf), np.full(1, np.inf)

    def start(self, variance: float) -> Array:
        """Return any number."""
        return np.ones(1)

    def matrices(self, theta: Array) -> tuple[Array, ...]:
        """Return no covariance."""
        return ()

    def derivatives(self, theta: Array) -> list[tuple[Array, ...]]:
        """Return no change."""
        return [()]


@dataclass(frozen=True, eq=False)
class Without(MixedProblem):
    """A problem without the rows of the unit that its last parameter names; `unit` (k,) in the order of the plan."""

    unit: IntArray

    def _own(self, theta: Array) -> Array:
        gone = self.unit == theta[..., -1:].astype(np.intp)
        return np.where(gone, FAR * self.plan.d.max(), self.plan.d)


@dataclass(frozen=True, slots=True, eq=False)
class MixedDeletions:
    """A mixed model without each of J units."""

    theta: Array  # (J, n)
    beta: Array  # (J, p) and (J, p, p)
    vb: Array  # (J, p) and (J, p, p)
    whole: Array  # (J, p, p): covariance of the coefficients of all rows at these parameters
    # QE, vt (J,): Cochran's Q, and the typical sampling variance; NaN where the sampling covariance is singular.
    QE: Array
    vt: Array
    settled: Mask  # (J,)


def delete_units(point: MixedPoint, fixed: Mask, unit: IntArray, which: IntArray) -> MixedDeletions:
    """Search from the fit's own parameters without each unit of `which`.

    `point`: the fit.
    `fixed` (n,): parameters held as they are.
    `unit` (k,): unit of each row, in the order of the data; units do not cut through blocks of the sampling covariance.
    `which` (J,).
    """
    base, theta = point.problem, point.theta
    problem = Without(
        base.y, base.X, base.plan, (*base.components, Component(Number(), ())), base.restricted, unit[base.plan.order]
    )
    sizes = np.bincount(unit, minlength=int(which.max(initial=0)) + 1)[which]
    step = max(1, BLOCK // base.k)
    parts = [
        _delete(problem, theta, np.append(fixed, True), which[at : at + step], sizes[at : at + step])
        for at in range(0, len(which), step)
    ]
    return MixedDeletions(*(np.concatenate(found) for found in zip(*parts, strict=True)))


def _delete(problem: Without, theta: Array, fixed: Mask, which: IntArray, sizes: IntArray) -> tuple[Array, ...]:
    number = which[:, None].astype(float)
    start = np.column_stack([np.repeat(theta[None], len(which), axis=0), number])
    settled = np.ones(len(which), dtype=bool)
    if not fixed.all():
        found = climb(problem, start, fixed)
        start, settled = found.theta, found.settled
    here = problem.at(start)
    nothing = np.column_stack([np.zeros((len(which), theta.size)), number])
    sampling = problem.at(nothing)
    G = sampling.weighted_X
    there = problem.unit != number
    trace = (there / sampling.factored.d).sum(axis=-1) - np.einsum("jkp,jpq,jkq->j", G, sampling.vb, G)
    df = problem.k - sizes - problem.p
    known = np.logical_and(sampling.valid, df > 0)
    vt = np.where(known, df / np.where(trace > 0, trace, np.nan), np.nan)
    QE = np.where(known, sampling._rss, np.nan)
    whole = problem.at(np.where(np.arange(theta.size + 1) == theta.size, -1.0, start))
    return start[:, :-1], here.beta, here.vb, whole.vb, QE, vt, np.logical_and(settled, here.valid)


DIGITS, MORE = 34.0, 4
# How far from the fit, in standard errors, the parameters without one unit are looked for; less where there are more
# than so many units.
REACH, MANY = 3.0, 100
MOST_STEPS = 60
# Of the log-likelihood, and of a parameter's standard error: where a search stops.
SETTLED, STEP = 1e-18, 1e-5
# A single unit that holds so much of the information leaves half the digits.
LEFT = 1e-6


@dataclass(frozen=True, eq=False)
class Stack:
    """Clusters of one size: their rows (n, m), sampling covariances (n, m, m), what each parameter adds to them."""

    rows: IntArray
    V: Array
    K: Array


@dataclass(frozen=True, eq=False)
class Surfaces:
    """The sums of a model of variance components, and the part of each unit in them."""

    Z: Array  # (k, p + 1): an orthonormal basis of the design, and residuals
    stacks: Sequence[Stack]
    unit: IntArray  # (k,): unit of each row; units hold whole clusters, or each a single row
    single: bool  # the latter
    restricted: bool  # REML rather than ML

    @cached_property
    def J(self) -> int:
        """Number of units."""
        return int(self.unit.max()) + 1

    def sums(self, theta: Array, *, squares: bool = False) -> tuple[Array, Array]:
        """Return log|M| and Z'M^-1 Z as one row, (1 + c c,), and each unit's part, (J, 1 + c c).

        With `squares` tr M^-1 and Z'M^-2 Z in their place.
        """
        c = self.Z.shape[1]
        total, parts = np.zeros(1 + c * c), np.zeros((self.J, 1 + c * c))
        for stack in self.stacks:
            N = np.linalg.inv(stack.V + np.tensordot(theta, stack.K, axes=1))
            NZ = N @ self.Z[stack.rows]
            if squares:
                whole = np.column_stack([np.einsum("nii->n", N), _flat(_outer(NZ, NZ))])
            else:
                whole = np.column_stack([-np.linalg.slogdet(N)[1], _flat(_outer(self.Z[stack.rows], NZ))])
            total += whole.sum(axis=0)
            if self.single:
                parts[self.unit[stack.rows].ravel()] = _of_rows(N, NZ, squares=squares)
            else:
                np.add.at(parts, self.unit[stack.rows[:, 0]], whole)
        return total, parts


def _outer(A: Array, B: Array) -> Array:
    """Return A'B of each cluster, (n, c, c)."""
    return np.asarray(np.swapaxes(A, 1, 2) @ B)


def _flat(A: Array) -> Array:
    return A.reshape(len(A), -1)


def _of_rows(N: Array, NZ: Array, *, squares: bool) -> Array:
    """Return the part of each row of each cluster, (n m, 1 + c c)."""
    own = np.einsum("nii->ni", N)[:, :, None, None]
    g = NZ[:, :, :, None]
    both = g * np.swapaxes(g, 2, 3)
    if not squares:
        made, first = both / own, -np.log(own[:, :, 0, 0])
    else:
        NN = np.einsum("nij,nij->ni", N, N)[:, :, None, None]
        h = (N @ NZ)[:, :, None, :]
        made = (g * h + np.swapaxes(g * h, 2, 3)) / own - both * NN / own**2
        first = (NN / own)[:, :, 0, 0]
    return np.column_stack([first.ravel(), made.reshape(first.size, -1)])


class Interpolant:
    """Sums and parts over a box of parameters."""

    def __init__(self, surfaces: Surfaces, low: Array, high: Array, shift: Array, most: int) -> None:
        self.low, self.high, self.shift = low, high, shift
        ends = np.log(low + shift), np.log(high + shift)
        self.middle, self.half = 0.5 * (ends[0] + ends[1]), 0.5 * (ends[1] - ends[0])
        b = np.pi / self.half
        self.sizes = np.ceil(DIGITS / np.log(b + np.sqrt(b * b + 1.0))).astype(int) + MORE
        if self.sizes.prod() > most:
            raise ValueError("too many points")
        angles = [np.pi * (np.arange(m) + 0.5) / m for m in self.sizes]
        nodes = [np.exp(c + h * np.cos(a)) - s for c, h, a, s in
                 zip(self.middle, self.half, angles, shift, strict=True)]  # fmt: skip
        grid = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, len(nodes))
        found = [surfaces.sums(theta) for theta in grid]
        change = np.ones((1, 1))
        for m, angle in zip(self.sizes, angles, strict=True):
            turn = 2.0 / m * np.cos(np.outer(np.arange(m), angle))
            turn[0] *= 0.5
            change = np.kron(change, turn)
        self.total = change @ np.array([one[0] for one in found])
        parts = np.array([one[1] for one in found])
        self.parts = (change @ parts.reshape(len(grid), -1)).reshape(parts.shape).transpose(1, 0, 2).copy()

    def basis(self, theta: Array) -> tuple[Array, list[Array]]:
        """Return the polynomials at each theta (J, n), (J, nodes), and their derivatives by each parameter."""
        x = np.clip((np.log(theta + self.shift) - self.middle) / self.half, -1.0, 1.0)
        values, slopes = [], []
        for j, m in enumerate(self.sizes):
            T, U = np.ones((len(x), m)), np.zeros((len(x), m))
            T[:, 1], U[:, 1] = x[:, j], 1.0
            for i in range(2, m):
                T[:, i] = 2.0 * x[:, j] * T[:, i - 1] - T[:, i - 2]
                U[:, i] = 2.0 * T[:, i - 1] + 2.0 * x[:, j] * U[:, i - 1] - U[:, i - 2]
            values.append(T)
            slopes.append(U / (self.half[j] * (theta[:, j] + self.shift[j]))[:, None])
        return _product(values), [_product([*values[:j], slopes[j], *values[j + 1 :]]) for j in range(len(values))]

    def without(self, basis: Array, which: IntArray) -> Array:
        """Return the sums without each unit."""
        return np.asarray(basis @ self.total - (basis[:, None, :] @ self.parts[which])[:, 0])


def _product(parts: Sequence[Array]) -> Array:
    out = parts[0]
    for one in parts[1:]:
        out = (out[:, :, None] * one[:, None, :]).reshape(len(out), -1)
    return out


def delete_by_surface(
    surfaces: Surfaces,
    theta: Array,
    fixed: Mask,
    information: Array,
    R: Array,
    beta: Array,
    *,
    least: float,
    most: int,
) -> MixedDeletions:
    """Search without each unit from the fit's parameters.

    `theta` (n,): those of the fit; none below 0.
    `fixed` (n,).
    `information` (n, n): of the parameters, at the fit.
    `R`, `beta` (p, p) and (p,): the design is the basis times R; coefficients from which the residuals of `surfaces`
      were taken.
    `least`: the smallest variance of sampling errors in any direction, over the largest number of rows that share an
      effect.
    `most`: points that the surface may need.
    Raises `ValueError`: the likelihood is flat, or so wide that the surface would need too many points.
    """
    free = np.flatnonzero(~fixed)
    if not np.linalg.eigvalsh(information[np.ix_(free, free)]).min(initial=1.0) > 0:
        raise ValueError("flat")
    sd = np.zeros(theta.size)
    sd[free] = np.sqrt(np.diag(np.linalg.inv(information[np.ix_(free, free)])))
    reach = REACH * min(1.0, np.sqrt(MANY / surfaces.J))
    width = np.maximum(reach * sd, 1e-6 * (theta + least))
    low, high = np.maximum(theta - width, 0.0), theta + width
    surface = Interpolant(surfaces, low, high, np.full(theta.size, least), most)
    at, settled = _climb(surface, surfaces, np.repeat(theta[None], surfaces.J, axis=0), free, sd)
    basis = surface.basis(at)[0]
    sums, whole = surface.without(basis, np.arange(surfaces.J)), basis @ surface.total
    A, b, _ = _parts(sums)
    inverse, change = np.linalg.inv(A), np.linalg.inv(R)
    moved = (inverse @ b[:, :, None])[:, :, 0]
    QE, vt, kept = _sampling(surfaces)
    return MixedDeletions(
        theta=at,
        beta=beta + moved @ change.T,
        vb=change @ inverse @ change.T,
        whole=change @ np.linalg.inv(_parts(whole)[0]) @ change.T,
        QE=QE,
        vt=vt,
        settled=settled & kept & (np.linalg.eigvalsh(np.linalg.solve(_parts(whole)[0], A)).min(axis=1) > LEFT),
    )


def _parts(sums: Array) -> tuple[Array, Array, Array]:
    """Return Q'M^-1 Q, Q'M^-1 r and r'M^-1 r, (J, p, p), (J, p) and (J,)."""
    c = int(np.sqrt(sums.shape[1] - 1))
    A = sums[:, 1:].reshape(-1, c, c)
    return A[:, :-1, :-1], A[:, :-1, -1], A[:, -1, -1]


def _slope(surface: Interpolant, at: Array, which: IntArray, *, restricted: bool) -> tuple[Array, Array]:
    """Return the log-likelihood of each deletion (J,), but for constants, and its derivatives (J, n)."""
    basis, slopes = surface.basis(at)
    sums = surface.without(basis, which)
    A, b, c = _parts(sums)
    inverse = np.linalg.inv(A)
    g = (inverse @ b[:, :, None])[:, :, 0]
    value = sums[:, 0] + c - (b * g).sum(axis=1)
    if restricted:
        value = value + np.linalg.slogdet(A)[1]
    found = np.empty(at.shape)
    for j, slope in enumerate(slopes):
        moved = surface.without(slope, which)
        dA, db, dc = _parts(moved)
        d = moved[:, 0] + dc - 2.0 * (g * db).sum(axis=1) + np.einsum("jp,jpq,jq->j", g, dA, g)
        if restricted:
            d = d + np.einsum("jpq,jqp->j", inverse, dA)
        found[:, j] = d
    return -0.5 * value, -0.5 * found


def _climb(surface: Interpolant, surfaces: Surfaces, start: Array, free: IntArray, sd: Array) -> tuple[Array, Mask]:
    """Climb by Newton's steps within the box; return where each search ended, and whether nothing is left to gain."""
    at, restricted = start.copy(), surfaces.restricted
    settled, active = np.zeros(len(at), dtype=bool), np.arange(len(at))
    value, g = _slope(surface, at, active, restricted=restricted)
    for _ in range(MOST_STEPS):
        move, gain = _moves(surface, at[active], g[active], active, free, sd, restricted=restricted)
        done = gain < SETTLED
        settled[active[done]] = True
        active, move = active[~done], move[~done]
        if not active.size:
            break
        moved = np.zeros(active.size, dtype=bool)
        for halving in range(30):
            left = np.flatnonzero(~moved)
            tried = np.clip(at[active[left]] + 0.5**halving * move[left], surface.low, surface.high)
            height, slope = _slope(surface, tried, active[left], restricted=restricted)
            up = height >= value[active[left]] - 1e-13 * (1.0 + np.abs(value[active[left]]))
            rows = active[left[up]]
            at[rows], value[rows], g[rows] = tried[up], height[up], slope[up]
            moved[left[up]] = True
            if moved.all():
                break
        active = active[moved]
        if not active.size:
            break
    inside = (at > surface.low) | (surface.low <= 0.0)
    inside &= at < surface.high
    return at, settled & inside[:, free].all(axis=1)


def _moves(
    surface: Interpolant, at: Array, g: Array, which: IntArray, free: IntArray, sd: Array, *, restricted: bool
) -> tuple[Array, Array]:
    """Return each Newton step and what it should gain, the second derivatives by differences of the first."""
    n = at.shape[1]
    H = np.zeros((len(at), n, n))
    for j in free:
        h = np.zeros(n)
        h[j] = STEP * sd[j]
        # Within the box whatever the side.
        h = np.where((at + h > surface.high)[:, [j]], -h, h)
        H[:, :, j] = (g - _slope(surface, at + h, which, restricted=restricted)[1]) / h[:, [j]]
    H = 0.5 * (H + np.swapaxes(H, 1, 2))
    open_ = np.zeros(at.shape, dtype=bool)
    open_[:, free] = True
    open_ &= ~((at <= surface.low) & (g <= 0)) & ~((at >= surface.high) & (g >= 0))
    unit = np.where(sd > 0, sd, 1.0)
    scaled = np.where(open_[:, :, None] & open_[:, None, :], H * unit[:, None] * unit, 0.0)
    scaled += np.where(open_, 0.0, 1.0)[:, :, None] * np.eye(n)
    values, vectors = np.linalg.eigh(scaled)
    slope = np.where(open_, g * unit, 0.0)
    turned = (slope[:, None, :] @ vectors)[:, 0] / np.maximum(np.abs(values), 1e-8)
    move = np.where(open_, (vectors @ turned[:, :, None])[:, :, 0] * unit, 0.0)
    return move, (g * move).sum(axis=1)


def _sampling(surfaces: Surfaces) -> tuple[Array, Array, Mask]:
    """Return Cochran's Q and the typical sampling variance without each unit, and which have kept their digits."""
    n = surfaces.stacks[0].K.shape[0]
    total, parts = surfaces.sums(np.zeros(n))
    A, b, c = _parts(total - parts)
    inverse = np.linalg.inv(A)
    total2, parts2 = surfaces.sums(np.zeros(n), squares=True)
    both = total2 - parts2
    trace = both[:, 0] - np.einsum("jpq,jqp->j", inverse, _parts(both)[0])
    df = len(surfaces.unit) - np.bincount(surfaces.unit) - A.shape[1]
    kept = np.einsum("jpp->j", _parts(both)[0]) > LEFT * np.trace(_parts(total2[None])[0][0])
    return c - np.einsum("jp,jpq,jq->j", b, inverse, b), df / trace, kept
