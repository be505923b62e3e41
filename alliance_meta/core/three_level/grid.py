"""A posterior on the grid of two deviations seen otherwise: with other priors, and by total and share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.core.bayes.integration import LIGHTEST, TauDensity
from alliance_meta.core.bayes.trapezoid import NOTHING, SMALLEST, Grid, RealLine, integrate_grid, moment_depth
from alliance_meta.core.three_level.posterior import (
    DEPTH,
    TOLERANCE,
    MultilevelData,
    MultilevelPosterior,
    given_deviations,
    line_of,
    tails_of,
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
