"""Replications of study results from draws: true effects drawn anew, then sampling errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.sampled.quantities import SampledQuantities
from alliance_meta.errors import InputError

REPLICATION = 3


@dataclass(frozen=True, eq=False)
class Replications:
    """New results of the same design; asked like the mixture of normals that they are for an exact posterior.

    Attributes
    ----------
    values : ndarray of shape (draws, k)
    fitted : ndarray of shape (k,)
        Posterior median of the mean effect of each row.
    tau : float
        Root mean square of how far true effects lie from their means.
    """

    values: Array
    fitted: Array
    tau: float

    @property
    def m(self) -> int:
        """Number of rows."""
        return self.values.shape[1]

    def row(self, i: int) -> Replications:
        """Return one row."""
        return Replications(self.values[:, [i]], self.fitted[[i]], self.tau)

    def quantile(self, p: Array) -> Array:
        """Return quantiles (m, q) of each row."""
        return np.quantile(self.values, p, axis=0).T

    def cdf(self, x: Array) -> Array:
        """Return the share up to x (m, q) of each row."""
        ordered = np.sort(self.values, axis=0)
        found = [np.searchsorted(one, at, side="right") for one, at in zip(ordered.T, np.asarray(x), strict=True)]
        return np.stack(found) / len(self.values)


def replicate_draws(fit: SampledQuantities, *, seed: int, draws: int) -> Replications:
    """Draw new results from as many draws of the posterior, each picked at random."""
    recipe = fit.made
    if len(recipe.units) != fit.k:
        raise InputError(
            f"results of {recipe.model} depend on one another within clusters; use posterior_predictive() of the fit"
        )
    rng = np.random.default_rng([seed, REPLICATION])
    pick = rng.integers(0, len(next(iter(fit._flat.values()))), draws)
    chosen: dict[str, Any] = {name: values[pick] for name, values in fit._flat.items()}
    mean = recipe.fitted(chosen)
    away = recipe.scatter(chosen, recipe.effects.moderators, rng)
    if recipe.replicate is not None:
        values = recipe.replicate(chosen, rng)
    else:
        values = mean + away + np.sqrt(fit.effects.vi) * rng.standard_normal(mean.shape)
    fitted = np.median(recipe.fitted(fit._flat), axis=0)
    return Replications(values, fitted, float(np.sqrt((away**2).mean())))
