"""The posterior after each step of a sequence of studies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.core.bayes.normal import prepare
from alliance_meta.core.bayes.two_level import ExactPosterior, ExactProblem, solve


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The studies up to a step.

    Attributes
    ----------
    posterior : ExactPosterior or None
        None where it is improper.
    below, above : ndarray of shape (n,)
        Of each study added in this step: probability of a result up to its own and above it, given the studies
        before the step; NaN without a posterior before.
    """

    posterior: ExactPosterior | None
    below: Array
    above: Array


def prefixes(problem: ExactProblem, steps: Sequence[AnyArray]) -> Iterator[Prefix]:
    """Yield the posteriors after each step; `steps` are the rows that each adds.

    The priors stay those of `problem`, the coding of moderators included.
    """
    model = problem.model
    known = np.zeros(0, dtype=int)
    before: ExactPosterior | None = None
    for added in steps:
        known = np.concatenate([known, added])
        # In the order of the data, so that the last posterior is that of all of them to the last digit.
        rows = np.sort(known)
        below, above = _tails(before, model.X[added], model.y[added], model.v[added])
        before = _solved(problem, rows)
        yield Prefix(before, below, above)


def _solved(problem: ExactProblem, rows: AnyArray) -> ExactPosterior | None:
    model = problem.model
    X = model.X[rows]
    flat = X[:, model.precision == 0]
    if flat.shape[1] and np.linalg.matrix_rank(flat) < flat.shape[1]:
        return None
    part = replace(problem, model=prepare(model.y[rows], model.v[rows], X, model.mean, model.precision))
    return solve(part) if part.tail > 1.0 else None


def _tails(before: ExactPosterior | None, X: Array, y: Array, v: Array) -> tuple[Array, Array]:
    if before is None:
        return np.full(len(y), np.nan), np.full(len(y), np.nan)
    effect = before.new_effects(X)
    result = NormalMixture(effect.weight, effect.mean, np.sqrt(effect.sd**2 + v[:, None]))
    return result.cdf(y[:, None])[:, 0], result.sf(y[:, None])[:, 0]
