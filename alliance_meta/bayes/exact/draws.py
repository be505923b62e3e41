"""Independent draws from an exact posterior, for the tools that want draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.exact.setup import coordinates
from alliance_meta.core.bayes.integration import quantile
from alliance_meta.core.bayes.two_level import ExactPosterior, components
from alliance_meta.errors import InputError

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.quantities import Drawn, Quantities


def to_arviz(fit: Quantities, *, draws: int, seed: int, chains: int) -> Any:
    """Return draws in the container of the installed ArviZ."""
    if draws < 1 or chains < 1 or draws % chains:
        raise InputError(
            f"draws={draws!r} in chains={chains!r}: give a positive number of draws that the chains share evenly"
        )
    rng = np.random.default_rng(seed)
    tau, coefficients, spread, theta = fit._drawn(rng, draws)
    new = coefficients @ fit._mean_row + spread * rng.standard_normal(draws)
    found: dict[str, Array] = {"tau": tau, "theta_new": new, "theta": theta}
    of_row = fit._row_is
    dims, coords = {"theta": [of_row]}, {of_row: list(fit.effects.slab)}
    if tau.ndim > 1:
        dims["tau"], coords["term"] = ["term"], [name[4:-1] for name in fit.priors.tau_names]
    printed = coefficients @ coordinates(fit.design).T
    if fit.design.formula == "1":
        found["mu"] = printed[:, 0]
    else:
        found["beta"] = printed
        dims["beta"], coords["coefficient"] = ["coefficient"], list(fit.names)
    shaped = {name: values.reshape(chains, -1, *values.shape[1:]) for name, values in found.items()}
    return arviz_bridge.from_draws(shaped, dims=dims, coords=coords)


def draw(exact: ExactPosterior, rng: np.random.Generator, draws: int) -> Drawn:
    """Draw from the posterior of a two-level model."""
    tau = quantile(exact.panels, rng.uniform(2.0**-54, 1.0, draws))
    coefficients = _coefficients(exact, tau, rng)
    model = exact.problem.model
    fitted = coefficients @ model.X.T
    own = tau[:, None] ** 2 / (model.v + tau[:, None] ** 2)
    theta = fitted + own * (model.y - fitted) + np.sqrt(own * model.v) * rng.standard_normal(fitted.shape)
    return tau, coefficients, tau, theta


def _coefficients(exact: ExactPosterior, tau: Array, rng: np.random.Generator) -> Array:
    """Draw the coefficients given each tau, (draws, p), in the coordinates of the quadrature."""
    noise = rng.standard_normal((len(tau), exact.problem.model.p))
    chance = rng.random(len(tau))
    out = np.empty(noise.shape)
    for a in range(0, len(tau), 500):
        s = slice(a, a + 500)
        parts = components(exact.problem, tau[s])
        share = np.exp(parts.log_weight - parts.log_weight.max(axis=1, keepdims=True)).cumsum(axis=1)
        pick = np.minimum((share < chance[s, None] * share[:, -1:]).sum(axis=1), share.shape[1] - 1)
        i = np.arange(len(pick))
        out[s] = parts.mean[i, pick] + np.einsum("bij,bi->bj", parts.root[i, pick], noise[s])
    return out
