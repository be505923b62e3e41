"""Posteriors of three-level models with prior or likelihood raised to a power; as `power` for two levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.bayes.mixture import LIGHTEST
from alliance_meta.core.bayes.power import Powers
from alliance_meta.core.bayes.trapezoid import integrate_grid
from alliance_meta.core.bayes.two_level import TauDensity
from alliance_meta.core.three_level.posterior import (
    TOLERANCE,
    MultilevelData,
    MultilevelPosterior,
    given_deviations,
    reach,
    tails_of,
)

Densities = tuple[TauDensity, TauDensity]


def multilevel_exists(data: MultilevelData, priors: Densities, powers: Powers) -> bool:
    """Return whether the posterior with these powers is proper."""
    return min(_tails(data, priors, powers)) > 1.0


def solve_multilevel_power(data: MultilevelData, priors: Densities, powers: Powers) -> MultilevelPosterior:
    """Return the posterior whose parts are raised to these powers; its marginal likelihood has no meaning."""
    a = powers.likelihood
    scaled = replace(data, precision=data.precision * (powers.coefficients / a))

    def log_joint(between: Array, within: Array) -> Array:
        given = given_deviations(scaled, between, within)
        logs = a * given.loglik + (1.0 - a) * np.linalg.slogdet(given.root)[1]
        for prior, one in zip(priors, (between, within), strict=True):
            logs = logs + powers.tau * prior.log_density(one)
        return logs

    depth, lines = reach(data, _tails(data, priors, powers), priors)
    grid = integrate_grid(log_joint, lines, tolerance=TOLERANCE, depth=depth, power=2.0)
    between, within, weight = grid.values()
    heavy = weight > LIGHTEST * weight.max()
    found = given_deviations(scaled, between[heavy], within[heavy])
    return MultilevelPosterior(
        data=scaled,
        grid=grid,
        between=between[heavy],
        within=within[heavy],
        weight=weight[heavy] / weight[heavy].sum(),
        mean=found.mean,
        root=found.root / np.sqrt(a),
        log_marginal=grid.log_integral,
        error=grid.error,
        tails=_tails(data, priors, powers),
    )


def _tails(data: MultilevelData, priors: Densities, powers: Powers) -> tuple[float, float]:
    own = tails_of(data, priors)
    rows = (len(data.starts), len(data.y))
    less = [
        (1.0 - powers.tau) * prior.tail + (1.0 - powers.likelihood) * n if np.isfinite(prior.tail) else 0.0
        for prior, n in zip(priors, rows, strict=True)
    ]
    return own[0] - less[0], own[1] - less[1]
