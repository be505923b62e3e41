r"""Posteriors with prior or likelihood raised to a power, and how far they lie from the posterior itself.

The likelihood is that of y given coefficients b and tau, the studies' true effects integrated out. To the power a, and
with the prior of b to the power c, the integral over b is that of exp(a (log L + (c / a) log prior)), a quadratic:
given tau the coefficients keep the mean that prior precisions times c / a would give, and their covariance is divided
by a.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.integration import LIGHTEST, PiecewiseDensity, TauDensity, integrate, mass_region
from alliance_meta.core.bayes.scale import TPrior, gauss_rules
from alliance_meta.core.bayes.two_level import LEAST_SCALE as TINY
from alliance_meta.core.bayes.two_level import (
    SCALE_RULES,
    Conditional,
    ExactPosterior,
    ExactProblem,
    align,
    conditional,
    prepare,
    scale_weights,
    search_range,
    shrink,
)

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
