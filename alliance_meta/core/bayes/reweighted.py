r"""Posteriors known from one that is solved: without each study, and with prior or likelihood raised to a power.

Leaving out each study in turn, exactly: every posterior without one study, from one pass over tau.

Given tau the fit without study i follows from the whole one by its leverage. The likelihood without i is the
whole one divided by the predictive density of y_i, so that the k posteriors of tau are integrated together.

Posteriors with prior or likelihood raised to a power, and how far they lie from the posterior itself.

The likelihood is that of y given coefficients b and tau, the studies' true effects integrated out. To the power a, and
with the prior of b to the power c, the integral over b is that of exp(a (log L + (c / a) log prior)), a quadratic:
given tau the coefficients keep the mean that prior precisions times c / a would give, and their covariance is divided
by a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.core.bayes.quadrature import (
    LIGHTEST,
    NormalMixture,
    PiecewiseDensity,
    TauDensity,
    integrate,
    mass_region,
)
from alliance_meta.core.bayes.scale import TPrior, gauss_rules
from alliance_meta.core.bayes.two_level import LEAST_SCALE as TINY
from alliance_meta.core.bayes.two_level import (
    LOG_2PI,
    SCALE_RULES,
    Components,
    Conditional,
    ExactPosterior,
    ExactProblem,
    align,
    components,
    conditional,
    log_posterior,
    prepare,
    scale_weights,
    search_range,
    shrink,
    solve,
)

MOST_CELLS = 500_000
# A study with a leverage this near to 1 alone tells about some coefficient.
INDISPENSABLE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Deletions:
    """What is left without each of m studies."""

    rows: AnyArray  # (m,): the studies that can be left out
    log_predictive: Array  # (m,): log density of y_i given the other studies
    pit: Array  # (m,): probability of a result up to y_i, given the other studies
    mean: Array  # (m, p)
    covariance: Array  # (m, p, p): of the coefficients without study i
    tau: Array  # (m,): mean of tau without study i
    error: Array  # (m,): relative error of the predictive density


@dataclass(frozen=True, slots=True, eq=False)
class _Deleted:
    """Given B values of tau and L scales: everything of the m studies that are left out in turn.

    The covariance of the coefficients without study i is root' root + gain_i towards_i towards_i'.
    """

    log_weight: Array
    log_predictive: Array
    deviate: Array
    mean: Array
    root: Array
    towards: Array
    gain: Array


def dispensable(posterior: ExactPosterior) -> Mask:
    """Return which studies can be left out: without them every coefficient still has a proper posterior."""
    problem = posterior.problem
    model = problem.model
    if not problem.tail - 1.0 > 1.0:
        return np.zeros(model.k, dtype=bool)
    # Leverage 1 does not depend on tau. A coefficient with a t prior is flat here: without data it rests on it alone.
    tau = posterior.tau[int(np.argmax(posterior.weight))]
    root = conditional(model, np.array([tau])).root[0]
    share = ((root @ model.X.T) ** 2).sum(axis=0) / (model.v + tau**2)
    return 1.0 - share > INDISPENSABLE


def delete_each(posterior: ExactPosterior) -> Deletions:
    """Return what is left without each study that can be left out."""
    problem, density = posterior.problem, posterior.density
    rows = np.flatnonzero(dispensable(posterior))

    def log_densities(tau: Array) -> Array:
        """Return the log posterior of tau without each row."""
        found = [
            special.logsumexp(one.log_weight[:, :, None] - one.log_predictive, axis=1).T
            for _, one in _chunks(problem, rows, tau)
        ]
        return np.concatenate(found, axis=1)

    m, p = len(rows), problem.model.p
    if not m:
        return Deletions(rows, *(np.zeros((0, p, p)[:d]) for d in (1, 1, 2, 3, 1, 1)))
    stretch = density.stretch
    start = stretch.to_tau(density.edges[1:-1])
    without = integrate(log_densities, start, stretch, upper=problem.tau.upper)
    whole = integrate(lambda tau: log_posterior(problem, tau)[None], start, stretch, upper=problem.tau.upper)
    pit, mean, second = np.zeros(m), np.zeros((m, p)), np.zeros((m, p, p))
    # Moments around the whole posterior's mean lose no digits.
    centre = posterior.weight @ posterior.mean
    for s, one in _chunks(problem, rows, without.tau):
        share = special.softmax(one.log_weight[:, :, None] - one.log_predictive, axis=1)
        weight = without.weight[:, s].T[:, None, :] * share
        pit += np.einsum("blm,blm->m", weight, special.ndtr(one.deviate))
        away = one.mean - centre
        mean += np.einsum("blm,blmi->mi", weight, away)
        second += np.einsum("blm,blmi,blmj->mij", weight, away, away, optimize=True)
        second += np.einsum("blm,blri,blrj->mij", weight, one.root, one.root, optimize=True)
        second += np.einsum("blm,blmi,blmj->mij", weight * one.gain, one.towards, one.towards, optimize=True)
    return Deletions(
        rows=rows,
        log_predictive=whole.log_integral[0] - without.log_integral,
        pit=pit,
        mean=centre + mean,
        covariance=second - mean[:, :, None] * mean[:, None, :],
        tau=without.weight @ without.tau,
        error=without.error + whole.error[0],
    )


def _chunks(problem: ExactProblem, rows: AnyArray, tau: Array) -> Iterator[tuple[slice, _Deleted]]:
    """Yield the deletions for some values of tau at a time."""
    scales = 1 if problem.t_prior is None else 150
    size = max(1, MOST_CELLS // (max(len(rows), 1) * scales * problem.model.p))
    for a in range(0, len(tau), size):
        s = slice(a, a + size)
        yield s, _deleted(problem, rows, tau[s], components(problem, tau[s]))


def _deleted(problem: ExactProblem, rows: AnyArray, tau: Array, parts: Components) -> _Deleted:
    model = problem.model
    X = model.X[rows]
    w = 1.0 / (model.v[rows] + np.square(tau)[:, None, None])
    half = np.einsum("blij,mj->blmi", parts.root, X)
    left = 1.0 - w * (half**2).sum(axis=-1)
    residual = model.y[rows] - np.einsum("blj,mj->blm", parts.mean, X)
    towards = np.einsum("blij,blmi->blmj", parts.root, half)
    return _Deleted(
        log_weight=parts.log_weight,
        log_predictive=0.5 * (np.log(w * left) - LOG_2PI - w * residual**2 / left),
        deviate=residual * np.sqrt(w / left),
        mean=parts.mean[:, :, None, :] - towards * (w * residual / left)[..., None],
        root=parts.root,
        towards=towards,
        gain=w / left,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The studies up to a step."""

    posterior: ExactPosterior | None  # None where it is improper
    # below, above (n,): of each study added in this step: probability of a result up to its own and above it, given the
    # studies before the step; NaN without a posterior before.
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


PIECES = 8
SCALES = SCALE_RULES[2]
_X, _W = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True, slots=True)
class Powers:
    """To which power each part of the posterior is raised."""

    coefficients: float = 1.0
    tau: float = 1.0
    likelihood: float = 1.0


def exists(problem: ExactProblem, powers: Powers) -> bool:
    """Return whether the posterior with these powers is proper and its prior of a known kind."""
    t_prior = problem.t_prior
    return _tail(problem, powers) > 1.0 and (t_prior is None or powers.coefficients * (t_prior.df + 1.0) > 1.0)


def solve_power(problem: ExactProblem, powers: Powers) -> ExactPosterior:
    """Return the posterior whose parts are raised to these powers.

    Of the result only the mixtures and the distribution of tau have a meaning; `exists` says whether there is one.
    """
    a, model = powers.likelihood, problem.model
    scaled = replace(
        problem,
        model=prepare(model.y, model.v, model.X, model.mean, model.precision * (powers.coefficients / a)),
        tau=_tau_to_power(problem.tau, powers.tau),
        t_prior=_t_to_power(problem.t_prior, powers.coefficients),
    )

    def rows(tau: Array) -> Array:
        """Return the log posterior of tau."""
        return _log_weight(scaled, tau, a)[None]

    tail = _tail(problem, powers)
    start, stretch = mass_region(rows, *search_range(scaled), tail=tail)
    density = integrate(rows, start, stretch, upper=scaled.tau.upper)
    return _with_components(scaled, density, a)


def _with_components(problem: ExactProblem, density: PiecewiseDensity, a: float) -> ExactPosterior:
    counts = density.weight[0] > LIGHTEST * density.weight[0].max()
    tau, weight = density.tau[counts], density.weight[0][counts]
    given = _given(problem, tau, a)
    one: Array = np.ones((len(tau), 1))
    if problem.t_prior is None:
        rule, mean, root = one, given.mean[:, None], given.root[:, None]
    else:
        logs, own = scale_weights(problem.model, problem.t_prior, given.mean, given.root)
        points, rule = gauss_rules(special.softmax(logs, axis=1), own, SCALES)
        mean, root = shrink(problem.t_prior, given.mean, given.root, np.clip(points, TINY, 1.0))
    share = weight[:, None] * rule
    kept = share > LIGHTEST * share.max()
    at = np.broadcast_to(tau[:, None], kept.shape)[kept]
    used = share[kept] / share[kept].sum()
    return ExactPosterior(
        problem, density, used, at, mean[kept], root[kept], float(density.log_integral[0]), float(density.error[0]), 0
    )


def _log_weight(problem: ExactProblem, tau: Array, a: float) -> Array:
    """Return the log of the posterior of each tau, up to a constant, (B,)."""
    given = _given(problem, tau, a)
    base = problem.tau.log_density(tau) + given.loglik
    if problem.t_prior is None:
        return base
    return base + special.logsumexp(scale_weights(problem.model, problem.t_prior, given.mean, given.root)[0], axis=1)


def _given(problem: ExactProblem, tau: Array, a: float) -> Conditional:
    """Return what holds given each tau once the likelihood has the power a; a coefficient with a t prior is flat."""
    given = conditional(problem.model, tau)
    half_logdet = np.linalg.slogdet(given.root)[1]
    root = given.root / np.sqrt(a)
    if problem.t_prior is not None:
        root = align(root, problem.t_prior.index)
    return Conditional(a * given.loglik + (1.0 - a) * half_logdet, given.mean, root)


def _tail(problem: ExactProblem, powers: Powers) -> float:
    return powers.tau * problem.tau.tail + powers.likelihood * problem.model.k - problem.flat


def _tau_to_power(tau: TauDensity, power: float) -> TauDensity:
    return replace(tau, log_density=lambda x: power * tau.log_density(x), tail=power * tau.tail)


def _t_to_power(prior: TPrior | None, power: float) -> TPrior | None:
    """Return the t distribution that is proportional to a power of another one."""
    if prior is None:
        return None
    df = power * (prior.df + 1.0) - 1.0
    return TPrior(prior.index, prior.mean, prior.scale * float(np.sqrt(prior.df / df)), df)


def probe_points(low: float, high: float) -> tuple[Array, Array]:
    """Return points between two values and the weights of an integral over them."""
    edges = np.linspace(low, high, PIECES + 1)
    half = 0.5 * (edges[1] - edges[0])
    return ((edges[:-1] + half)[:, None] + half * _X).ravel(), np.tile(half * _W, PIECES)


def cumulative_distance(first: Array, second: Array, width: Array) -> float:
    """Return the cumulative Jensen-Shannon distance of two distributions from their probabilities at some points.

    Each (2, m) holds the probabilities up to a point and those beyond it; `width` (m,) are the weights of the points
    in an integral. The larger of the distances from either side.
    """
    return max(_distance(first[i], second[i], width) for i in range(2))


def _distance(P: Array, Q: Array, width: Array) -> float:
    total = P + Q
    e = (P - Q) / total
    # (1 + e) log(1 + e) + (1 - e) log(1 - e), also where e is so small that it would be lost.
    near = np.abs(e) < 1e-2
    inner = np.where(near, 0.0, e)
    exact = special.xlog1py(1.0 + inner, inner) + special.xlog1py(1.0 - inner, -inner)
    divergence = np.where(near, e**2 * (1.0 + e**2 * (1.0 / 6.0 + e**2 / 15.0)), exact)
    return float(np.sqrt(width @ (0.5 * total * divergence) / np.log(2.0) / (width @ total)))
