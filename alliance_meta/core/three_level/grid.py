"""A posterior of two deviations seen otherwise: with other priors or powers, by total and share, in draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.bayes.integration import LIGHTEST, TauDensity
from alliance_meta.core.bayes.power import Powers
from alliance_meta.core.bayes.trapezoid import (
    NOTHING,
    SMALLEST,
    Grid,
    RealLine,
    SincDensity,
    integrate_grid,
    moment_depth,
)
from alliance_meta.core.three_level.posterior import (
    DEPTH,
    MOST_CELLS,
    TOLERANCE,
    MultilevelData,
    MultilevelPosterior,
    given_deviations,
    line_of,
    reach,
    tails_of,
    with_components,
)

# Above this error a grid does not serve another density than its own.
ENOUGH = 1e-9
# Part of the range of a limited deviation within which nothing may lie where the limit comes in between.
NEAR = 0.8


def kept_points(grid: Grid) -> Mask:
    """Return which points of a grid count, in the shape of its weights."""
    return grid.weight > LIGHTEST * grid.weight.max()


def checks(grid: Grid) -> Array:
    """Return for each point that counts: whether it is an even one of each axis, and whether it lies at the rim."""
    kept = kept_points(grid)
    i, j = np.nonzero(kept)
    padded = np.zeros((kept.shape[0] + 2, kept.shape[1] + 2), dtype=bool)
    padded[1:-1, 1:-1] = kept
    for axis, (line, u) in enumerate(zip(grid.lines, grid.u, strict=True)):
        for end in (0, -1):
            # Nothing is lost where a parameter cannot go any further.
            if abs(u[end] - line.span[end]) < 1e-9:
                edge: list[slice | int] = [slice(None), slice(None)]
                edge[axis] = end
                padded[tuple(edge)] = True
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.column_stack([i % 2 == 0, j % 2 == 0, ~inside[kept]]).astype(float)


def error_of(share: Array) -> Array:
    """Return the error of sums whose parts `share` (..., 3) fall on even points of each axis and on the rim."""
    return ((2.0 * share[..., :2] - 1.0) ** 2).sum(axis=-1) + share[..., 2]


def with_priors(
    posterior: MultilevelPosterior, old: Sequence[TauDensity], new: Sequence[TauDensity]
) -> MultilevelPosterior | None:
    """Return the posterior under other priors of the deviations by weighing its points anew; None where they lack."""
    logs = np.log(posterior.weight)
    near = np.zeros(len(logs), dtype=bool)
    for before, after, at in zip(old, new, (posterior.between, posterior.within), strict=True):
        if after is before:
            continue
        logs = logs + after.log_density(at) - before.log_density(at)
        if after.upper < before.upper:
            near |= at > NEAR * after.upper
        elif after.upper > before.upper:
            near |= at > NEAR * before.upper
    top = logs.max()
    if not np.isfinite(top):
        return None
    weight = np.exp(logs - top)
    total = float(weight.sum())
    share = weight / total
    error = float(error_of(share @ checks(posterior.grid)) + share[near].sum()) + posterior.error
    if error > max(ENOUGH, 10.0 * posterior.error):
        return None
    shares = np.zeros(posterior.grid.weight.shape)
    shares[kept_points(posterior.grid)] = share
    integral = posterior.log_marginal + float(top) + float(np.log(total))
    heavy = share > LIGHTEST * share.max()
    return replace(
        posterior,
        grid=replace(posterior.grid, weight=shares, log_integral=integral, error=error),
        between=posterior.between[heavy],
        within=posterior.within[heavy],
        weight=share[heavy] / share[heavy].sum(),
        mean=posterior.mean[heavy],
        root=posterior.root[heavy],
        log_marginal=integral,
        error=error,
        tails=tails_of(posterior.data, new),
    )


def total_and_share(data: MultilevelData, priors: Sequence[TauDensity]) -> Grid:
    """Return the posterior of the total standard deviation and of the logit of its share between groups."""
    heads = [prior.head for prior in priors]

    def log_density(total: Array, logit: Array) -> Array:
        """Return the log posterior of the total and of the logit of the share."""
        own, other = special.log_expit(logit), special.log_expit(-logit)
        between, within = total * np.exp(0.5 * own), total * np.exp(0.5 * other)
        logs: Array = np.log(0.5 * total) + 0.5 * (own + other)
        logs = logs + priors[0].log_density(between) + priors[1].log_density(within)
        inside = np.isfinite(logs)
        logs[inside] += given_deviations(data, between[inside], within[inside]).loglik
        return logs

    upper = float(np.hypot(priors[0].upper, priors[1].upper))
    depth = max(moment_depth(tail, DEPTH) for tail in tails_of(data, priors))
    total = line_of(upper, data).reaching(head=sum(heads))
    end = float(np.arcsinh(min(NOTHING / min(heads), SMALLEST)))
    lines = (total, RealLine(0.0, 2.0, (-end, end)))
    return integrate_grid(log_density, lines, tolerance=TOLERANCE, depth=depth, power=2.0)


Densities = tuple[TauDensity, TauDensity]


def multilevel_exists(data: MultilevelData, priors: Densities, powers: Powers) -> bool:
    """Return whether the posterior with these powers is proper."""
    return min(_powered_tails(data, priors, powers)) > 1.0


def solve_multilevel_power(data: MultilevelData, priors: Densities, powers: Powers) -> MultilevelPosterior:
    """Return the posterior whose parts are raised to these powers; its marginal likelihood has no meaning."""
    a = powers.likelihood
    scaled = replace(data, precision=data.precision * (powers.coefficients / a))

    def log_joint(between: Array, within: Array) -> Array:
        """Return the log of what is integrated."""
        given = given_deviations(scaled, between, within)
        logs = a * given.loglik + (1.0 - a) * np.linalg.slogdet(given.root)[1]
        for prior, one in zip(priors, (between, within), strict=True):
            logs = logs + powers.tau * prior.log_density(one)
        return logs

    depth, lines = reach(data, _powered_tails(data, priors, powers), priors)
    grid = integrate_grid(log_joint, lines, tolerance=TOLERANCE, depth=depth, power=2.0)
    found = with_components(scaled, grid, grid.values(), _powered_tails(data, priors, powers))
    return replace(found, root=found.root / np.sqrt(a))


def _powered_tails(data: MultilevelData, priors: Densities, powers: Powers) -> tuple[float, float]:
    own = tails_of(data, priors)
    rows = (len(data.starts), len(data.y))
    less = [
        (1.0 - powers.tau) * prior.tail + (1.0 - powers.likelihood) * n if np.isfinite(prior.tail) else 0.0
        for prior, n in zip(priors, rows, strict=True)
    ]
    return own[0] - less[0], own[1] - less[1]


# Points of the table from which a quantile is found, and Newton's steps from there.
TABLE, STEPS = 501, 3
TINY = 1e-300


def draw_deviations(posterior: MultilevelPosterior, probability: Array) -> tuple[Array, Array]:
    """Turn uniform numbers (n, 2) into draws of both deviations, (n,) each: one, then the other given it."""
    grid = posterior.grid
    first, second = grid.marginal(0), grid.marginal(1)
    u = _inverse(first, np.broadcast_to(first.weight, (len(probability), len(first.weight))), probability[:, 0])
    # The density along the second axis at any value of the first, by the same series.
    along = np.maximum(first.heights(u) @ grid.weight, 0.0)
    along = along / along.sum(axis=1, keepdims=True)
    v = _inverse(second, along, probability[:, 1])
    return first.line.value(u), second.line.value(v)


def _inverse(density: SincDensity, weight: Array, p: Array) -> Array:
    """Return the p-quantile in u of each row of weights (n, m)."""
    table = np.linspace(density.u[0], density.u[-1], TABLE)
    rough = np.maximum.accumulate(weight @ density.steps(table).T, axis=1)
    at = np.clip((rough < p[:, None]).sum(axis=1), 1, TABLE - 1)
    low, high = table[at - 1], table[at]
    i = np.arange(len(p))
    below, above = rough[i, at - 1], rough[i, at]
    u = low + (high - low) * np.clip((p - below) / np.maximum(above - below, TINY), 0.0, 1.0)
    for _ in range(STEPS):
        excess = np.einsum("nm,nm->n", weight, density.steps(u)) - p
        slope = np.einsum("nm,nm->n", weight, density.heights(u))
        u = np.clip(u - excess / np.maximum(slope, TINY), low, high)
    return u


def draw_effects(
    posterior: MultilevelPosterior, between: Array, within: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw coefficients (n, p) and true effects (n, k), in the order of the data, given both deviations (n,).

    Effects are simulated together with data, and moved by as much as the data differ from those simulated: what comes
    out has the conditional distribution (Hoffman & Ribak 1991, doi:10.1086/186160).
    """
    data, laid = posterior.data, posterior.data.laid
    n, k = len(between), len(data.y)
    coefficients = np.empty((n, data.X.shape[1]))
    effects = np.empty((n, k))
    group = np.cumsum(np.bincount(data.starts, minlength=k)) - 1
    size = max(1, MOST_CELLS // (k * (data.X.shape[1] + 2)))
    for a in range(0, n, size):
        s = slice(a, a + size)
        s1, s2 = between[s, None], within[s, None]
        given = given_deviations(data, between[s], within[s])
        noise = rng.standard_normal(given.mean.shape)
        coefficients[s] = given.mean + np.einsum("nij,ni->nj", given.root, noise)
        shared = s1 * rng.standard_normal((len(s1), len(data.starts)))[:, group]
        own = s2 * rng.standard_normal((len(s1), k))
        error = np.sqrt(data.d) * rng.standard_normal((len(s1), k))
        # In the axes in which sampling errors are independent; there rows move with their group by W.
        residual = data.y - (coefficients[s] - data.centre) @ data.X.T - (shared * data.W + own + error)
        w = 1.0 / (data.d + s2**2)
        sums = np.add.reduceat(w * data.W * residual, data.starts, axis=1)
        inner = 1.0 + s1**2 * np.add.reduceat(w * data.W**2, data.starts, axis=1)
        solved = w * (residual - data.W * (s1**2 * sums / inner)[:, group])
        along = np.add.reduceat(data.W * solved, data.starts, axis=1)[:, group]
        turned = coefficients[s] @ data.X.T + data.W * (shared + s1**2 * along) + own + s2**2 * solved
        effects[s] = laid.restore(turned.T).T
    return coefficients, effects
