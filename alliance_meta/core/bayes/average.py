"""Averages over subsets of terms, over equal and random effects, and over priors of tau.

Every model is integrated over tau on the same intervals, which are halved until the least well-behaved one is accurate.
A coefficient's posterior is a mixture of normals over pairs of model and tau, of which those that together weigh
next to nothing are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.bayes.quadrature import NormalMixture, PiecewiseDensity, TauDensity, integrate, mass_region
from alliance_meta.core.bayes.scale import gauss_rules
from alliance_meta.core.bayes.two_level import EXTREME, FAR, LOG_2PI
from alliance_meta.core.dependent import IntArray

# Numbers worked on at once.
MOST_CELLS = 2_000_000
PAIRS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class SubsetProblem:
    """Effects, columns that every model has, and terms that it may have."""

    y: Array  # (k,)
    v: Array  # (k,)
    X: Array  # (k, q): columns in the order of `always`, then of the terms
    # mean, precision (q,): normal priors; precision 0, a flat prior, only among the first `always` columns.
    mean: Array
    precision: Array
    always: int  # the number of columns that every model has
    groups: tuple[int, ...]  # the number of columns of each term
    order: tuple[int, ...] = ()  # which column of the caller's design each is

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
    parts = [_likelihoods(problem, tau[a : a + size]) for a in range(0, len(tau), size)]
    return np.concatenate(parts, axis=1)


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
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            at = pairs[start : start + PAIRS_AT_ONCE]
            own, t = table[place[at]], which[at]
            factor = np.linalg.cholesky(A[t[:, None, None], own[:, :, None], own[:, None, :]])
            half = np.linalg.inv(factor)
            towards = half @ np.moveaxis(C[:, own], 0, 2)
            pull = (half @ b[t[:, None], own][:, :, None])[:, :, 0]
            mean[:, at] = np.einsum("nsm,ns->mn", towards, pull)
            variance[:, at] = (towards**2).sum(axis=1).T
    return mean, variance


# Of each model's integral.
TOLERANCE = 1e-12
# Pairs of model and tau that are left out together weigh at most this, unless there would be too many of them.
LEFT_OUT = 1e-8
MOST_PAIRS = 400_000
# Values of tau that stand for its posterior there.
NODES = 28


@dataclass(frozen=True, slots=True, eq=False)
class SubsetAverage:
    """m models with equal effects and, for each of T priors of tau, with random effects."""

    problem: SubsetProblem
    number: AnyArray  # (m,): which models
    # (1 + T, m): log marginal likelihoods, those with equal effects first; -inf where a row is left out.
    log_marginal: Array
    posterior: Array  # (1 + T, m): posterior probabilities; add up to 1
    densities: tuple[PiecewiseDensity | None, ...]  # the posteriors of tau for each of its priors, a row for each model
    priors: tuple[TauDensity, ...]
    error: float  # largest relative error of a marginal likelihood


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of model and tau with their posterior probability."""

    model: AnyArray  # (N,): numbers of the models
    # tau, weight (N,): the weights add up to 1.
    tau: Array
    weight: Array
    left_out: float  # probability of the pairs that are not here


def average_subsets(
    problem: SubsetProblem, number: AnyArray, log_prior: Array, priors: Sequence[TauDensity]
) -> SubsetAverage:
    """Return the models `number` (m,) with their probabilities, from log prior probabilities (1 + T, m).

    Row 0 of these is for equal effects, then one for each prior of tau; -inf leaves a row out.
    """
    rows = [np.full(len(number), -np.inf)]
    densities: list[PiecewiseDensity | None] = []
    error = 0.0
    if np.isfinite(log_prior[0]).any():
        rows[0] = subset_log_likelihoods(problem, np.zeros(1))[number, 0]
    for prior, logs in zip(priors, log_prior[1:], strict=True):
        if not np.isfinite(logs).any():
            rows.append(np.full(len(number), -np.inf))
            densities.append(None)
            continue
        one = _integrate(problem, number, prior)
        rows.append(one.log_integral)
        densities.append(one)
        error = max(error, float(one.error.max()))
    log_marginal = np.stack(rows)
    posterior = special.softmax(np.where(np.isfinite(log_prior), log_marginal + log_prior, -np.inf))
    return SubsetAverage(problem, number, log_marginal, posterior, tuple(densities), tuple(priors), error)


def _integrate(problem: SubsetProblem, number: AnyArray, prior: TauDensity) -> PiecewiseDensity:
    def rows(tau: Array) -> Array:
        """Return the log posterior of tau in each model."""
        return subset_log_likelihoods(problem, tau)[number] + prior.log_density(tau)

    ends = [0, len(number) - 1]

    def outer(tau: Array) -> Array:
        """Return that of the smallest and of the largest model, which have the largest and the smallest tau."""
        return special.logsumexp(_scaled(rows(tau)[ends]), axis=0)[None]

    sizes = np.array([np.sqrt(problem.v.min()), np.sqrt(problem.v.max()), np.ptp(problem.y), *prior.marks])
    sizes = np.clip(sizes[sizes > 0], 1.0 / EXTREME, EXTREME)
    tail = prior.tail + len(problem.y) - problem.flat
    low, high = float(sizes.min()) / FAR, min(float(sizes.max()) * FAR, prior.upper)
    start, stretch = mass_region(outer, low, high, tail=tail)
    return integrate(rows, start[1::2], stretch, upper=prior.upper, tolerance=TOLERANCE)


def _scaled(logs: Array) -> Array:
    return logs - logs.max(axis=1, keepdims=True)


def largest_pairs(average: SubsetAverage) -> Pairs:
    """Return the pairs of model and tau that count, the heaviest first.

    Few values of tau stand for its posterior: Gauss's rule for the posterior averaged over the models, which gives
    each model what it has of the average there.
    """
    equal = average.posterior[0]
    models = [np.flatnonzero(equal > 0)]
    taus, weights = [np.zeros(len(models[0]))], [equal[models[0]]]
    for share, density, prior in zip(average.posterior[1:], average.densities, average.priors, strict=True):
        if density is None or not share.any():
            continue
        there = np.flatnonzero(share > 0.01 * LEFT_OUT / share.size)
        tau, joint = _few_nodes(average, share, there, density, prior)
        models.append(np.repeat(there, len(tau)))
        taus.append(np.tile(tau, len(there)))
        weights.append(joint.ravel())
    model, tau, weight = (np.concatenate(parts) for parts in (models, taus, weights))
    order = np.argsort(-weight, kind="stable")
    lost = np.cumsum(weight[order][::-1])[::-1]
    kept = order[: min(int((lost > LEFT_OUT).sum()), MOST_PAIRS)]
    total = weight[kept].sum()
    return Pairs(average.number[model[kept]], tau[kept], weight[kept] / total, max(1.0 - float(total), 0.0))


def _few_nodes(
    average: SubsetAverage, share: Array, there: AnyArray, density: PiecewiseDensity, prior: TauDensity
) -> tuple[Array, Array]:
    """Return values of tau (n,) and the weight of each for some of the models, (len(there), n)."""
    whole = (share @ density.weight) / share.sum()
    points, rule = gauss_rules(whole[None], density.stretch.to_t(density.tau)[None], NODES)
    tau = density.stretch.to_tau(np.clip(points[0], 0.0, 1.0 - 1e-12))
    logs = subset_log_likelihoods(average.problem, tau)[average.number] + prior.log_density(tau)
    joint = share[:, None] * np.exp(logs - density.log_integral[:, None])
    return tau, joint[there] / joint.sum(axis=0) * (rule[0] * share.sum())


def averaged_mixtures(
    average: SubsetAverage, pairs: Pairs, C: Array, *, new: bool = False
) -> list[tuple[float, NormalMixture]]:
    """Return for each row c of C (m, q) the probability that c'b is exactly 0, and the normals that it else is.

    With `new` it is the true effect of a new study.
    """
    mean, variance = subset_moments(average.problem, pairs.model, pairs.tau, C)
    sd = np.sqrt(variance + (pairs.tau**2 if new else 0.0))
    found = []
    for i in range(len(C)):
        free = sd[i] > 0
        weight = pairs.weight[free]
        total = float(weight.sum())
        one = NormalMixture(weight / max(total, 1e-300), mean[i : i + 1, free], sd[i : i + 1, free])
        found.append((max(1.0 - total, 0.0), one))
    return found


def averaged_densities(average: SubsetAverage) -> tuple[tuple[float, PiecewiseDensity], ...]:
    """Return, for each prior of tau, the probability of its models and the posterior of tau averaged over them."""
    found = []
    for share, density in zip(average.posterior[1:], average.densities, strict=True):
        total = float(share.sum())
        if density is None or total == 0.0:
            continue
        w = share / total
        one = PiecewiseDensity(
            stretch=density.stretch,
            edges=density.edges,
            tau=density.tau,
            weight=(w @ density.weight)[None],
            series=np.tensordot(w, density.series, axes=1)[None],
            log_integral=np.zeros(1),
            error=density.error.max(keepdims=True),
        )
        found.append((total, one))
    return tuple(found)


# The mean log score lies at most this far below the best one.
GAP = 1e-9
_ROUNDS = 20_000
_LEAST = 1e-300


def stacking_weights(elpd: Array) -> Array:
    """Return weights (m,), at least 0 and of sum 1, that maximise sum_i log sum_j w_j exp(elpd[i, j]).

    `elpd` (n, m) holds the log predictive density of each unit left out, by model. Yao, Vehtari, Simpson & Gelman
    (2018, doi:10.1214/17-BA1091). The problem is concave; the largest derivative at the answer bounds how far it is
    from the best.
    """
    m = elpd.shape[1]
    if m == 1:
        return np.ones(1)
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))

    def loss(w: Array) -> float:
        """Return the negative mean log score."""
        return -float(np.log(np.maximum(density @ w, _LEAST)).mean())

    def slope(w: Array) -> Array:
        """Return its derivative by each weight."""
        return -(density / np.maximum(density @ w, _LEAST)[:, None]).mean(axis=0)

    equal = np.full(m, 1.0 / m)
    found = optimize.minimize(
        loss, equal, jac=slope, method="SLSQP", bounds=[(0.0, 1.0)] * m,
        constraints=optimize.LinearConstraint(np.ones((1, m)), 1.0, 1.0), options={"maxiter": 1000, "ftol": 1e-14},
    ).x  # fmt: skip
    w = np.maximum(found, 0.0)
    w = w / w.sum() if np.isfinite(w).all() and w.sum() > 0 else equal
    # From there the steps of expectation maximisation, which never lose; they cannot leave a weight of 0.
    w = (w + 1e-12) / (1.0 + m * 1e-12)
    for _ in range(_ROUNDS):
        gain = -slope(w)
        if gain.max() - 1.0 < GAP:
            break
        w = w * gain
    w = np.where(w < 1e-9, 0.0, w)
    return w / w.sum()
