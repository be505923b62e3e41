"""Likelihood of a linear model with random terms: value, gradient and information at given parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.mixed.covariance import Blocks, Factored, Plan, Structure, Term, factorise, plan

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Component:
    """A covariance structure and the positions of the terms whose covariances it sets."""

    structure: Structure
    terms: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MixedProblem:
    """Effects, design, sampling covariance and random terms, in the order and the axes of a plan."""

    y: Array  # (k,)
    X: Array  # (k, p): both in the order and the axes of `plan`
    plan: Plan
    components: tuple[Component, ...]
    restricted: bool  # REML rather than ML

    @property
    def k(self) -> int:
        """Number of effects."""
        return self.y.size

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.X.shape[1]

    @property
    def n(self) -> int:
        """Number of covariance parameters."""
        return sum(c.structure.n for c in self.components)

    @cached_property
    def _basis(self) -> tuple[Array, Array]:
        return np.linalg.qr(self.X)

    @property
    def Q(self) -> Array:
        """Orthonormal columns that span those of X: years far from 0 then cost no digits."""
        return self._basis[0]

    @property
    def change(self) -> Array:
        """The upper triangle T with X = Q T."""
        return self._basis[1]

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest value of each parameter, (n,) each."""
        if not self.components:
            return np.empty(0), np.empty(0)
        low, high = zip(*(c.structure.bounds for c in self.components), strict=True)
        return np.concatenate(low), np.concatenate(high)

    @cached_property
    def units(self) -> Array:
        """Parameters of the size that sampling error gives them, (n,): positive, well inside their range."""
        typical = float(self.plan.d.mean())
        return np.maximum(np.concatenate([c.structure.start(typical) for c in self.components]), 1e-3 * typical)

    @cached_property
    def least(self) -> Array:
        """Least curvatures that parameters are measured by, (n,)."""
        return np.asarray(1e-6 / self.units**2)

    @cached_property
    def steps(self) -> Array:
        """Least sizes of parameters where derivatives are taken by differences, (n,)."""
        return np.concatenate([c.structure.start(1e-4) for c in self.components])

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Parameters of each component."""
        ends = np.cumsum([0, *(c.structure.n for c in self.components)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @cached_property
    def columns(self) -> Array:
        """What the covariance is solved for: the columns of its levels, y and Q."""
        return np.column_stack([*(level.W for level in self.plan.levels), self.y, self.Q])

    def covariances(self, theta: Array) -> list[Array]:
        """Return the covariance of each term."""
        found: dict[int, Array] = {}
        for component, part in zip(self.components, self.slices, strict=True):
            found |= dict(zip(component.terms, component.structure.matrices(theta[..., part]), strict=True))
        return [found[t] for t in range(len(found))]

    def derivatives(self, theta: Array) -> list[list[tuple[int, Array]]]:
        """Return, for each parameter, the terms that it moves and how, (term, dC)."""
        return [
            [(t, D) for t, D in zip(component.terms, changes, strict=True) if D.any()]
            for component, part in zip(self.components, self.slices, strict=True)
            for changes in component.structure.derivatives(theta[..., part])
        ]

    def _own(self, theta: Array) -> Array:
        """Return what rows have of their own beside the random terms."""
        return self.plan.d

    def at(self, theta: Array) -> MixedPoint:
        """Factorise the covariance at these parameters (n,), or at several sets of them (m, n) at once."""
        d, wide = np.broadcast_to(self._own(theta), (*theta.shape[:-1], self.k)), []
        covariances = self.covariances(theta)
        for C, place, n in zip(covariances, self.plan.places, self.plan.copies, strict=True):
            if place is None:
                d = d + C[..., 0]
            else:
                wide.append((place, _repeated(C, n)))
        wide.sort(key=lambda pair: pair[0])
        factored = factorise(self.plan.levels, d, [C for _, C in wide], self.columns)
        return MixedPoint(self, theta, factored)


def _repeated(C: Array, n: int) -> Array:
    """Return n copies of C (..., q, q) along the diagonal."""
    if n == 1:
        return C
    q = C.shape[-1]
    return np.einsum("ij,...ab->...iajb", np.eye(n), C).reshape(*C.shape[:-2], n * q, n * q)


def mixed_problem(
    y: Array,
    X: Array,
    v: Array,
    *,
    terms: Sequence[Term],
    components: Sequence[Component],
    blocks: Blocks | None = None,
    restricted: bool = True,
) -> MixedProblem:
    """Lay out the problem for effects y (k,), design X (k, p) and sampling variances v (k,) or covariance blocks."""
    rows = plan(v, blocks, terms)
    rotated = rows.rotate(np.column_stack([y, X]))
    return MixedProblem(rotated[:, 0], np.ascontiguousarray(rotated[:, 1:]), rows, tuple(components), restricted)


@dataclass(frozen=True, eq=False)
class MixedPoint:
    """The model at given covariance parameters (n,), or at several sets of them (m, n): the first axis of all else."""

    problem: MixedProblem
    theta: Array
    factored: Factored

    def single(self, at: int) -> MixedPoint:
        """Return the model at one of several sets."""
        return MixedPoint(self.problem, self.theta[at], self.factored.single(at))

    @cached_property
    def _normal(self) -> tuple[Array, Array, Array]:
        """The inverse of the lower triangle L with L L' = Q'M^-1 Q, the coefficients of Q, whether there are any."""
        cross = self.problem.Q.T @ self.factored.solved
        A, b = cross[..., 1:], cross[..., :1]
        valid = np.isfinite(self.factored.logdet)
        if not valid.all():
            A, b = np.where(valid[..., None, None], A, np.eye(A.shape[-1])), np.where(valid[..., None, None], b, 0.0)
        try:
            inverse = _inverse_root(A)
        except np.linalg.LinAlgError:
            valid = valid & (np.linalg.eigvalsh(A)[..., 0] > 0)
            inverse = _inverse_root(np.where(valid[..., None, None], A, np.eye(A.shape[-1])))
        return inverse, (np.swapaxes(inverse, -1, -2) @ (inverse @ b))[..., 0], valid

    @property
    def valid(self) -> Array:
        """The covariance is positive definite."""
        return self._normal[2]

    @property
    def own_shares(self) -> Array:
        """Each row's own variance as a share of what the levels add to it, about; of one point, (k,).

        Where it is small, the error of the likelihood is so many times more than rounding.
        """
        added = np.zeros(self.problem.k)
        for one in self.factored.levels:
            added += np.square(one.level.W) @ np.diagonal(one.C)
        return np.divide(self.factored.d, added, out=np.full(added.shape, np.inf), where=added > 0)

    @cached_property
    def beta(self) -> Array:
        """Coefficients, (..., p)."""
        return np.asarray(np.linalg.solve(self.problem.change, self._normal[1][..., None])[..., 0])

    @cached_property
    def vb(self) -> Array:
        """Covariance of the coefficients, (..., p, p)."""
        root = np.linalg.solve(self.problem.change, self._root)
        return np.asarray(root @ np.swapaxes(root, -1, -2))

    @cached_property
    def _root(self) -> Array:
        """R with R R' = (Q'M^-1 Q)^-1, (..., p, p)."""
        return np.swapaxes(self._normal[0], -1, -2)

    @cached_property
    def weighted_resid(self) -> Array:
        """M^-1 (y - X beta), rows of the plan, (..., k)."""
        solved = self.factored.solved
        return np.asarray(solved[..., 0] - (solved[..., 1:] @ self._normal[1][..., None])[..., 0])

    @property
    def weighted_X(self) -> Array:
        """M^-1 X, rows of the plan, (..., k, p)."""
        return self.factored.solved[..., 1:] @ self.problem.change

    @cached_property
    def rss(self) -> float:
        """Weighted sum of squared residuals."""
        return self._rss.item()

    @property
    def _rss(self) -> Array:
        resid = self.problem.y - self._normal[1] @ self.problem.Q.T
        return np.asarray((resid * self.weighted_resid).sum(axis=-1))

    def log_likelihoods(self, *, restricted: bool) -> Array:
        """Return the (restricted) log-likelihood; minus infinity where the covariance is not positive definite."""
        value = -0.5 * (self.factored.logdet + self._rss)
        free = self.problem.k
        if restricted:
            value = value + np.log(np.diagonal(self._normal[0], axis1=-2, axis2=-1)).sum(axis=-1)
            free -= self.problem.p
        return np.where(self.valid, value - 0.5 * free * LOG_2PI, -np.inf)

    def log_likelihood(self, *, restricted: bool) -> float:
        """Return `log_likelihoods` of a single set of parameters."""
        return self.log_likelihoods(restricted=restricted).item()

    @cached_property
    def logliks(self) -> Array:
        """The likelihood that is maximised, (...)."""
        return self.log_likelihoods(restricted=self.problem.restricted)

    @property
    def loglik(self) -> float:
        """The same for a single set of parameters."""
        return self.logliks.item()

    @cached_property
    def _scaled_X(self) -> Array:
        """M^-1 Q R: its product with its transpose is M^-1 X vb X'M^-1, (..., k, p)."""
        return self.factored.solved[..., 1:] @ self._root

    @cached_property
    def _sums(self) -> list[Array]:
        """W'M^-1 [Q R, y - X beta] of each group of each level, (..., n, q, p + 1)."""
        A = np.concatenate([self._scaled_X, self.weighted_resid[..., None]], axis=-1)
        return [one.level.sums(A) for one in self.factored.levels]

    def _slope(self, term: int) -> Array:
        """Return S with d loglik = trace(S dC) for the covariance of a term, (..., q, q)."""
        place, n = self.problem.plan.places[term], self.problem.plan.copies[term]
        restricted = self.problem.restricted
        if place is None:
            squares = np.square(self.weighted_resid).sum(axis=-1)
            if restricted:
                squares = squares + np.square(self._scaled_X).sum(axis=(-2, -1))
            return np.asarray(0.5 * (squares - self.factored.diagonal.sum(axis=-1)))[..., None, None]
        sums = self._sums[place] if restricted else self._sums[place][..., -1:]
        flat = np.swapaxes(sums, -3, -2)
        flat = flat.reshape(*flat.shape[:-2], -1)
        S = 0.5 * (flat @ np.swapaxes(flat, -1, -2) - self.factored.within(place).sum(axis=-3))
        q = S.shape[-1] // n
        return np.asarray(np.einsum("...iaib->...ab", S.reshape(*S.shape[:-2], n, q, n, q))) if n > 1 else S

    @cached_property
    def _slopes(self) -> list[Array]:
        return [self._slope(term) for term in range(len(self.problem.plan.places))]

    @cached_property
    def _derivatives(self) -> list[list[tuple[int, Array]]]:
        return self.problem.derivatives(self.theta)

    @cached_property
    def gradient(self) -> Array:
        """Derivative of the likelihood by each parameter, (..., n)."""
        found = np.zeros(self.theta.shape)
        for j, changes in enumerate(self._derivatives):
            for term, D in changes:
                found[..., j] += (self._slopes[term] * D).sum(axis=(-2, -1))
        return found

    @cached_property
    def average_information(self) -> Array:
        """Mean of observed and expected information, (..., n, n) (Gilmour et al. 1995, doi:10.2307/2533274)."""
        plan_ = self.problem.plan
        F = np.zeros((*self.theta.shape[:-1], self.problem.k, self.problem.n))
        for j, changes in enumerate(self._derivatives):
            for term, D in changes:
                place, n = plan_.places[term], plan_.copies[term]
                if place is None:
                    F[..., j] += D[..., 0] * self.weighted_resid
                else:
                    level = self.factored.levels[place].level
                    a = self._sums[place][..., -1:]
                    F[..., j] += level.rows(level.W, _repeated(D, n)[..., None, :, :] @ a)[..., 0]
        turned = np.swapaxes(F, -1, -2)
        information = turned @ self.factored.solve(F)
        if self.problem.restricted:
            cross = turned @ self._scaled_X
            information -= cross @ np.swapaxes(cross, -1, -2)
        return np.asarray(0.25 * (information + np.swapaxes(information, -1, -2)))

    @cached_property
    def information(self) -> Array:
        """Minus the second derivative, up to terms that vanish on average, (..., n, n).

        The average information, less how the covariances bend: at a factor of 0 that is all there is.
        """
        found = self.average_information
        for component, part in zip(self.problem.components, self.problem.slices, strict=True):
            if not component.structure.linear:
                slopes = [self._slopes[term] for term in component.terms]
                least = self.problem.steps[part]
                found[..., part, part] -= _bend(component.structure, self.theta[..., part], slopes, least)
        return found


def _inverse_root(A: Array) -> Array:
    """Return the inverse of the lower triangle L with L L' = A, (..., p, p)."""
    if A.shape[-1] > 1:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(A)))
    if not (A > 0).all():
        raise np.linalg.LinAlgError("not positive definite")
    return 1.0 / np.sqrt(A)


def _bend(structure: Structure, theta: Array, slopes: list[Array], least: Array) -> Array:
    """Return the second derivative of the sum of slopes times covariances, (..., n, n), by differences."""
    low, high = structure.bounds
    h = 1e-4 * np.maximum(np.abs(theta), least)[..., None] * np.eye(structure.n)
    up, down = np.minimum(theta[..., None, :] + h, high), np.maximum(theta[..., None, :] - h, low)
    width = np.diagonal(up - down, axis1=-2, axis2=-1)
    both = structure.derivatives(np.stack([up, down]))
    found = np.zeros(up.shape)
    for j, changes in enumerate(both):
        for S, D in zip(slopes, changes, strict=True):
            found[..., j] += (S[..., None, :, :] * (D[0] - D[1])).sum(axis=(-2, -1))
    found /= width[..., None]
    return np.asarray(0.5 * (found + np.swapaxes(found, -1, -2)))
