"""Independent draws from a three-level posterior, for the tools that want draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.core.three_level.draws import draw_deviations, draw_effects
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.bayes.three_level.results import BayesianMultilevelResults


def to_arviz(fit: BayesianMultilevelResults, *, draws: int, seed: int, chains: int) -> Any:
    """Return draws in the container of the installed ArviZ."""
    if draws < 1 or chains < 1 or draws % chains:
        raise InputError(
            f"draws={draws!r} in chains={chains!r}: give a positive number of draws that the chains share evenly"
        )
    rng = np.random.default_rng(seed)
    between, within = draw_deviations(fit.exact, rng.uniform(2.0**-54, 1.0, (draws, 2)))
    coefficients, theta = draw_effects(fit.exact, between, within, rng)
    new = coefficients @ fit._mean_row + np.hypot(between, within) * rng.standard_normal(draws)
    found: dict[str, Array] = {"tau": np.column_stack([between, within]), "theta_new": new, "theta": theta}
    dims = {"tau": ["term"], "theta": ["effect"]}
    coords: dict[str, list[str]] = {"term": list(fit.priors.terms), "effect": list(fit.effects.slab)}
    printed = coefficients @ coordinates(fit.design).T
    if fit.design.formula == "1":
        found["mu"] = printed[:, 0]
    else:
        found["beta"] = printed
        dims["beta"], coords["coefficient"] = ["coefficient"], list(fit.names)
    shaped = {name: values.reshape(chains, -1, *values.shape[1:]) for name, values in found.items()}
    return arviz_bridge.from_draws(shaped, dims=dims, coords=coords)
