r"""Every subset of terms of a normal linear model with random effects, given tau: all likelihoods from one tree.

The cross-products of all columns with the effects are formed once for each tau. Eliminating a column is one step of
Gauss's algorithm, and the subsets that agree in the first terms share those steps: a tree whose leaves are the
:math:`2^p` models costs a few operations for each of them, whatever k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.bayes.normal import LOG_2PI
from alliance_meta.core.robust.clusters import IntArray

# Numbers worked on at once.
MOST_CELLS = 2_000_000
MOST_PAIRS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class SubsetProblem:
    """Effects, columns that every model has, and terms that it may have.

    Attributes
    ----------
    y, v : ndarray of shape (k,)
    X : ndarray of shape (k, q)
        Columns in the order of `always`, then of the terms.
    mean, precision : ndarray of shape (q,)
        Normal priors; precision 0, a flat prior, only among the first `always` columns.
    always : int
        The number of columns that every model has.
    groups : tuple of int
        The number of columns of each term.
    order : tuple of int
        Which column of the caller's design each is.
    """

    y: Array
    v: Array
    X: Array
    mean: Array
    precision: Array
    always: int
    groups: tuple[int, ...]
    order: tuple[int, ...] = ()

    @property
    def models(self) -> int:
        """Number of subsets; bit i of a model's number says whether it has term i."""
        return int(2 ** len(self.groups))

    @property
    def flat(self) -> int:
        """Number of coefficients with a flat prior."""
        return int((self.precision == 0).sum())

    def columns(self, model: int) -> IntArray:
        """Return the columns that a model has."""
        found = list(range(self.always))
        at = self.always
        for i, size in enumerate(self.groups):
            if model >> i & 1:
                found += range(at, at + size)
            at += size
        return np.array(found, dtype=np.intp)


def subset_log_likelihoods(problem: SubsetProblem, tau: Array) -> Array:
    """Return the log density of the effects, coefficients integrated out, for every model and tau (B,), (models, B)."""
    q = problem.X.shape[1]
    last = max(len(problem.groups), 1)
    widest = max((2**i * (q + 1 - problem.always - sum(problem.groups[:i])) ** 2 for i in range(last)), default=1)
    size = max(1, MOST_CELLS // max(widest, 2 ** len(problem.groups), len(problem.y) * 4))
    pieces = [_likelihoods(problem, tau[a : a + size]) for a in range(0, len(tau), size)]
    return np.concatenate(pieces, axis=1)


def _likelihoods(problem: SubsetProblem, tau: Array) -> Array:
    A, b, squares, logs = _products(problem, tau)
    q, B = len(b), len(tau)
    M: Array = np.empty((q + 1, q + 1, 1, B))
    M[:q, :q, 0], M[:q, q, 0], M[q, :q, 0], M[q, q, 0] = A, b, b, squares
    proper = problem.precision > 0
    shift = np.where(proper, np.log(np.where(proper, problem.precision, 1.0)), 0.0)
    extra = problem.precision * problem.mean**2
    found = np.tile(logs + (len(problem.y) - problem.flat) * LOG_2PI, (1, 1))
    M, found = _eliminate(M, found, shift[: problem.always], extra[: problem.always])
    at = problem.always
    for size in problem.groups:
        s = slice(at, at + size)
        with_it, found_with = _eliminate(M, found, shift[s], extra[s])
        M = np.concatenate([M[size:, size:], with_it], axis=2)
        found = np.concatenate([found, found_with])
        at += size
    return -0.5 * (found + M[0, 0])


def _products(problem: SubsetProblem, tau: Array) -> tuple[Array, Array, Array, Array]:
    """Return X'WX + precision (q, q, B), X'Wy + precision mean (q, B), y'Wy (B,) and sum log(v + tau^2) (B,)."""
    total = problem.v + np.square(tau)[:, None]
    w = 1.0 / total
    X, y = problem.X, problem.y
    i, j = np.triu_indices(X.shape[1])
    packed = (X[:, i] * X[:, j]).T @ w.T
    A = np.empty((X.shape[1], X.shape[1], len(tau)))
    A[i, j], A[j, i] = packed, packed
    A[np.arange(len(A)), np.arange(len(A))] += problem.precision[:, None]
    b = (X * y[:, None]).T @ w.T + (problem.precision * problem.mean)[:, None]
    return A, b, w @ y**2, np.log(total).sum(axis=1)


def _eliminate(M: Array, found: Array, shift: Array, extra: Array) -> tuple[Array, Array]:
    """Take the first columns into the models: what is left of M, and minus twice the log likelihood so far."""
    for log_precision, constant in zip(shift, extra, strict=True):
        pivot = M[0, 0]
        row = M[0, 1:] / pivot
        found = found + np.log(pivot) - log_precision + constant
        M = M[1:, 1:] - M[1:, :1] * row[None]
    return M, found


def subset_moments(problem: SubsetProblem, model: AnyArray, tau: Array, C: Array) -> tuple[Array, Array]:
    """Return mean and variance of combinations C (m, q) of coefficients for pairs of model (N,) and tau (N,), (m, N).

    A coefficient that a model does not have is 0.
    """
    mean, variance = np.zeros((len(C), len(tau))), np.zeros((len(C), len(tau)))
    levels, which = np.unique(tau, return_inverse=True)
    A, b, _, _ = _products(problem, levels)
    A, b = np.moveaxis(A, 2, 0), b.T
    numbers, place = np.unique(model, return_inverse=True)
    columns = [problem.columns(int(one)) for one in numbers]
    sizes = np.array([len(one) for one in columns])
    for size in np.unique(sizes[sizes > 0]):
        table = np.zeros((len(numbers), size), dtype=np.intp)
        for i in np.flatnonzero(sizes == size):
            table[i] = columns[i]
        pairs = np.flatnonzero(sizes[place] == size)
        for start in range(0, len(pairs), MOST_PAIRS):
            at = pairs[start : start + MOST_PAIRS]
            own, t = table[place[at]], which[at]
            factor = np.linalg.cholesky(A[t[:, None, None], own[:, :, None], own[:, None, :]])
            half = np.linalg.inv(factor)
            towards = half @ np.moveaxis(C[:, own], 0, 2)
            pull = (half @ b[t[:, None], own][:, :, None])[:, :, 0]
            mean[:, at] = np.einsum("nsm,ns->mn", towards, pull)
            variance[:, at] = (towards**2).sum(axis=1).T
    return mean, variance
