"""The distribution of the next study's true effect as a prior: its update, its information, a few normals for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from alliance_meta._typing import Array
from alliance_meta.core.bayes.integration import integrate, mass_region
from alliance_meta.core.bayes.mixture import LOG_ROOT_2PI, NormalMixture, mixture
from alliance_meta.core.bayes.two_level import ExactProblem, components, search_range

# Averages over a distribution: the trapezoid rule in t, for values centre + scale * sinh(t).
STEP = 0.04
# So many standard deviations beyond its mean a component has ended.
END = 8.7
# A normal of the approximation is at least this much narrower than the whole, and as much wider.
NARROWEST = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Updated:
    """A new study's true effect after its result.

    Attributes
    ----------
    mixture : NormalMixture
    log_density : float
        Log of the density of the data and of the new result together.
    error : float
        Relative error of that density, and absolute error of any probability.
    """

    mixture: NormalMixture
    log_density: float
    error: float


def update(problem: ExactProblem, c: Array, y: float, v: float) -> Updated:
    """Return the posterior of the true effect c'b + N(0, tau^2) of a study with result y and variance v.

    The values of tau are placed for this posterior: a result far from the others shifts the weight to large tau.
    """

    def given(tau: Array) -> tuple[Array, Array, Array]:
        parts = components(problem, tau)
        centre = parts.mean @ c
        spread = (np.einsum("blij,j->bli", parts.root, c) ** 2).sum(axis=2) + tau[:, None] ** 2
        total = spread + v
        log = parts.log_weight - 0.5 * ((y - centre) ** 2 / total + np.log(total)) - LOG_ROOT_2PI
        return log, centre, spread

    def rows(tau: Array) -> Array:
        return special.logsumexp(given(tau)[0], axis=1)[None]

    start, stretch = mass_region(rows, *search_range(problem), tail=problem.tail)
    panels = integrate(rows, start, stretch, upper=problem.tau.upper)
    log, centre, spread = given(panels.tau)
    weight = (panels.weight[0][:, None] * special.softmax(log, axis=1)).ravel()
    own = spread / (spread + v)
    mean = (centre + own * (y - centre)).ravel()
    sd = np.sqrt(own * v).ravel()
    return Updated(mixture(weight, mean[None], sd[None]), float(panels.log_integral[0]), float(panels.error[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Values x (n,) of a quantity, and the probability (n,) that each stands for in averages."""

    x: Array
    chance: Array


def nodes(one: NormalMixture) -> Nodes:
    """Return points for averages over the first quantity, dense where it is narrow and wide in its tails."""
    mean, sd = one.mean[0], one.sd[0]
    height = one.weight / sd
    centre, scale = float(height @ mean / height.sum()), float(1.0 / height.sum())
    reach = np.arcsinh(float((np.abs(mean - centre) + END * sd).max()) / scale)
    count = int(np.ceil(reach / STEP))
    t = STEP * np.arange(-count, count + 1)
    x = centre + scale * np.sinh(t)
    return Nodes(x, one.row(0).pdf(x[None])[0] * scale * np.cosh(t) * STEP)


def curvature(one: NormalMixture, x: Array) -> tuple[Array, Array]:
    """Return -(log p)'' and ((log p)')^2 of the first quantity at each x."""
    z = (x[:, None] - one.mean[0]) / one.sd[0]
    share = special.softmax(np.log(one.weight) - 0.5 * z**2 - np.log(one.sd[0]), axis=1)
    slope = -z / one.sd[0]
    first = (share * slope).sum(axis=1)
    spread = (share * (slope - first[:, None]) ** 2).sum(axis=1)
    return (share / one.sd[0] ** 2).sum(axis=1) - spread, first**2


def mean_information(one: NormalMixture) -> tuple[float, float]:
    """Return the mean of -(log p)'' over p, and how far it is off at most.

    The same by partial integration is the mean of ((log p)')^2.
    """
    at = nodes(one)
    curved, squared = (float(at.chance @ values) for values in curvature(one, at.x))
    return squared, abs(curved - squared)


def peak_information(one: NormalMixture) -> tuple[float, float]:
    """Return the mode and -(log p)'' there."""
    x = nodes(one).x
    best = int(np.argmax(one.pdf(x[None])[0]))
    low, high = x[max(best - 1, 0)], x[min(best + 1, len(x) - 1)]
    found = optimize.minimize_scalar(
        lambda at: -float(one.log_pdf(np.array([at]))[0]), bounds=(low, high), method="bounded",
        options={"xatol": 1e-10 * float(high - low)},
    )  # fmt: skip
    mode = float(found.x)
    return mode, float(curvature(one, np.array([mode]))[0][0])


@dataclass(frozen=True, slots=True, eq=False)
class FewNormals:
    """A mixture of few normals near to another distribution.

    Attributes
    ----------
    mixture : NormalMixture
        The heaviest first.
    error : float
        Largest difference between the two distribution functions.
    divergence : float
        Kullback-Leibler divergence of the distribution from the approximation, which is what was made least.
    """

    mixture: NormalMixture
    error: float
    divergence: float


def few_normals(one: NormalMixture, count: int) -> FewNormals:
    """Return the `count` normals whose mixture has the least Kullback-Leibler divergence, from a fixed start."""
    lower, centre, upper = (float(q) for q in one.quantile(np.array([0.25, 0.5, 0.75]))[0])
    scale = (upper - lower) / 1.349
    at = nodes(one)
    counts = at.chance > 0
    x, chance = at.x[counts], at.chance[counts]
    z = (x - centre) / scale
    log_p = np.log(one.row(0).pdf(x[None])[0]) + np.log(scale)
    bound = np.log(1.0 / NARROWEST)
    found = optimize.minimize(
        _divergence,
        _start(one, count, centre, scale),
        args=(z, log_p, count, chance),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-30.0, 30.0)] * (count - 1) + [(None, None)] * count + [(-bound, bound)] * count,
        options={"maxiter": 2000, "ftol": 1e-9, "gtol": 1e-8},
    )
    weight, mean, sd = _unpacked(found.x, count)
    order = np.argsort(-weight, kind="stable")
    few = NormalMixture(weight[order], (centre + scale * mean[order])[None], (scale * sd[order])[None])
    difference = np.abs(few.cdf(x[None])[0] - one.row(0).cdf(x[None])[0])
    return FewNormals(few, float(difference.max()), max(float(found.fun), 0.0))


def _start(one: NormalMixture, count: int, centre: float, scale: float) -> Array:
    """Return normals with the moments of equally heavy groups of components, the narrow ones together."""
    order = np.argsort(one.sd[0], kind="stable")
    weight = one.weight[order]
    middle = np.cumsum(weight) - 0.5 * weight
    group = np.minimum((middle * count).astype(int), count - 1)
    means, sds = np.zeros(count), np.ones(count)
    for j in range(count):
        own = group == j
        if not own.any():
            sds[j] = 1.0 + j
            continue
        share = weight[own] / weight[own].sum()
        mean = (one.mean[0][order][own] - centre) / scale
        sd = one.sd[0][order][own] / scale
        means[j] = share @ mean
        sds[j] = np.sqrt(share @ (sd**2 + (mean - means[j]) ** 2))
    return np.concatenate([np.zeros(count - 1), means, np.log(np.clip(sds, 2 * NARROWEST, 0.5 / NARROWEST))])


def _unpacked(values: Array, count: int) -> tuple[Array, Array, Array]:
    logits = np.append(values[: count - 1], 0.0)
    return special.softmax(logits), values[count - 1 : 2 * count - 1], np.exp(values[2 * count - 1 :])


def _divergence(values: Array, z: Array, log_p: Array, count: int, chance: Array) -> tuple[float, Array]:
    """Return the divergence and its gradient; `chance` is the probability of each point."""
    weight, mean, sd = _unpacked(values, count)
    away = (z[:, None] - mean) / sd
    logs = np.log(weight) - 0.5 * away**2 - np.log(sd) - LOG_ROOT_2PI
    log_q = special.logsumexp(logs, axis=1)
    share = np.exp(logs - log_q[:, None])
    heavy = chance @ share
    of_weight = weight * chance.sum() - heavy
    of_mean = -(chance @ (share * away)) / sd
    of_log_sd = -(chance @ (share * (away**2 - 1.0)))
    return float(chance @ (log_p - log_q)), np.concatenate([of_weight[:-1], of_mean, of_log_sd])
