"""Averages over subsets of terms, over equal and random effects, and over priors of tau.

Every model is integrated over tau on the same panels, which are halved until the least well-behaved one is accurate.
A coefficient's posterior is a mixture of normals over pairs of model and tau, of which those that together weigh
next to nothing are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array
from alliance_meta.core.bayes.integration import Panels, integrate, mass_region
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.core.bayes.scale import gauss_rules
from alliance_meta.core.bayes.subsets import SubsetProblem, subset_log_likelihoods, subset_moments
from alliance_meta.core.bayes.two_level import EXTREME, FAR, TauDensity

# Of each model's integral.
TOLERANCE = 1e-12
# Pairs of model and tau that are left out together weigh at most this, unless there would be too many of them.
LEFT_OUT = 1e-8
MOST_PAIRS = 400_000
# Values of tau that stand for its posterior there.
NODES = 28


@dataclass(frozen=True, slots=True, eq=False)
class SubsetAverage:
    """m models with equal effects and, for each of T priors of tau, with random effects.

    Attributes
    ----------
    problem : SubsetProblem
    number : ndarray of int, shape (m,)
        Which models.
    log_marginal : ndarray of shape (1 + T, m)
        Log marginal likelihoods, those with equal effects first; -inf where a row is left out.
    posterior : ndarray of shape (1 + T, m)
        Posterior probabilities; add up to 1.
    panels : tuple of Panels or None
        The posteriors of tau for each of its priors, a row for each model.
    priors : tuple of TauDensity
    error : float
        Largest relative error of a marginal likelihood.
    """

    problem: SubsetProblem
    number: AnyArray
    log_marginal: Array
    posterior: Array
    panels: tuple[Panels | None, ...]
    priors: tuple[TauDensity, ...]
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of model and tau with their posterior probability.

    Attributes
    ----------
    model : ndarray of int, shape (N,)
        Numbers of the models.
    tau, weight : ndarray of shape (N,)
        The weights add up to 1.
    left_out : float
        Probability of the pairs that are not here.
    """

    model: AnyArray
    tau: Array
    weight: Array
    left_out: float


def average_subsets(
    problem: SubsetProblem, number: AnyArray, log_prior: Array, priors: Sequence[TauDensity]
) -> SubsetAverage:
    """Return the models `number` (m,) with their probabilities, from log prior probabilities (1 + T, m).

    Row 0 of these is for equal effects, then one for each prior of tau; -inf leaves a row out.
    """
    rows = [np.full(len(number), -np.inf)]
    panels: list[Panels | None] = []
    error = 0.0
    if np.isfinite(log_prior[0]).any():
        rows[0] = subset_log_likelihoods(problem, np.zeros(1))[number, 0]
    for prior, logs in zip(priors, log_prior[1:], strict=True):
        if not np.isfinite(logs).any():
            rows.append(np.full(len(number), -np.inf))
            panels.append(None)
            continue
        one = _integrate(problem, number, prior)
        rows.append(one.log_integral)
        panels.append(one)
        error = max(error, float(one.error.max()))
    log_marginal = np.stack(rows)
    posterior = special.softmax(np.where(np.isfinite(log_prior), log_marginal + log_prior, -np.inf))
    return SubsetAverage(problem, number, log_marginal, posterior, tuple(panels), tuple(priors), error)


def _integrate(problem: SubsetProblem, number: AnyArray, prior: TauDensity) -> Panels:
    def rows(tau: Array) -> Array:
        return subset_log_likelihoods(problem, tau)[number] + prior.log_density(tau)

    ends = [0, len(number) - 1]

    def outer(tau: Array) -> Array:
        # The smallest model and the largest, which have the largest and the smallest tau.
        return special.logsumexp(_scaled(rows(tau)[ends]), axis=0)[None]

    sizes = np.array([np.sqrt(problem.v.min()), np.sqrt(problem.v.max()), np.ptp(problem.y), *prior.marks])
    sizes = np.clip(sizes[sizes > 0], 1.0 / EXTREME, EXTREME)
    tail = prior.tail + len(problem.y) - problem.flat
    low, high = float(sizes.min()) / FAR, min(float(sizes.max()) * FAR, prior.upper)
    start, stretch = mass_region(outer, low, high, tail=tail)
    return integrate(rows, start[1::2], stretch, upper=prior.upper, tolerance=TOLERANCE)


def _scaled(logs: Array) -> Array:
    return logs - logs.max(axis=1, keepdims=True)


def heavy_pairs(average: SubsetAverage) -> Pairs:
    """Return the pairs of model and tau that count, the heaviest first.

    Few values of tau stand for its posterior: Gauss's rule for the posterior averaged over the models, which gives
    each model what it has of the average there.
    """
    equal = average.posterior[0]
    models = [np.flatnonzero(equal > 0)]
    taus, weights = [np.zeros(len(models[0]))], [equal[models[0]]]
    for share, panels, prior in zip(average.posterior[1:], average.panels, average.priors, strict=True):
        if panels is None or not share.any():
            continue
        there = np.flatnonzero(share > 0.01 * LEFT_OUT / share.size)
        tau, joint = _few_nodes(average, share, there, panels, prior)
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
    average: SubsetAverage, share: Array, there: AnyArray, panels: Panels, prior: TauDensity
) -> tuple[Array, Array]:
    """Return values of tau (n,) and the weight of each for some of the models, (len(there), n)."""
    whole = (share @ panels.weight) / share.sum()
    points, rule = gauss_rules(whole[None], panels.stretch.to_t(panels.tau)[None], NODES)
    tau = panels.stretch.to_tau(np.clip(points[0], 0.0, 1.0 - 1e-12))
    logs = subset_log_likelihoods(average.problem, tau)[average.number] + prior.log_density(tau)
    density = share[:, None] * np.exp(logs - panels.log_integral[:, None])
    return tau, density[there] / density.sum(axis=0) * (rule[0] * share.sum())


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


def averaged_panels(average: SubsetAverage) -> tuple[tuple[float, Panels], ...]:
    """Return, for each prior of tau, the probability of its models and the posterior of tau averaged over them."""
    found = []
    for share, panels in zip(average.posterior[1:], average.panels, strict=True):
        total = float(share.sum())
        if panels is None or total == 0.0:
            continue
        w = share / total
        one = Panels(
            stretch=panels.stretch,
            edges=panels.edges,
            tau=panels.tau,
            weight=(w @ panels.weight)[None],
            series=np.tensordot(w, panels.series, axes=1)[None],
            log_integral=np.zeros(1),
            error=panels.error.max(keepdims=True),
        )
        found.append((total, one))
    return tuple(found)
