"""What a PyMC model of this package knows about itself: how its draws become a table, a prediction, a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.priors.prior import Prior
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.notes import Note

# Draws of each parameter, all chains in a row: (S, ...).
Draws = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a PyMC model was made, and what its draws mean."""

    model: str  # name of the function in `bayes.pymc`
    effects: EffectSizes  # those that take part
    design: Design  # of the moderators
    # Parameter -> its prior, in the order in which they are printed; ``mu`` is the mean effect at the average of the
    # moderators.
    priors: Mapping[str, Prior]
    words: str  # a sentence for a methods section: what the model assumes about the studies
    # ``scatter(draws, newdata, rng)`` draws how far the true effect of a new study lies from the mean effect, (S, m)
    # for m rows of new data or (S, 1) without new data. If it is normal, it may have a method ``sd(draws, newdata)``,
    # (S, m) or (S, 1), which makes averages over studies exact.
    scatter: Callable[[Draws, pd.DataFrame | None, np.random.Generator], Array]
    # ``log_likelihood(draws)`` gives the log density of the data of each unit with its own true effect integrated out,
    # (S, units).
    log_likelihood: Callable[[Draws], Array]
    units: tuple[str, ...]  # what is left out at once in cross-validation: studies, or clusters of effects
    # ``rebuilt(effects)`` gives the recipe and the arrays of ``pymc.Data`` for other effects, or raises an `InputError`
    # where these do not fit the model; None where the model cannot take other data.
    rebuilt: Callable[[EffectSizes], tuple[Recipe, dict[str, Array]]] | None = None
    notes: tuple[Note, ...] = ()
    # ``shift(draws, data)`` gives what is added to the mean effect that the coefficients give, (S, m) for m rows of
    # moderators: a curve.
    shift: Callable[[Draws, pd.DataFrame], Array] | None = None
    curve: str | None = None  # the moderator over which the mean effect follows a curve
    # What `bayes.sample` takes unless told otherwise, for models that need small steps.
    target_accept: float | None = None
    # What `bayes.sample` takes unless told otherwise, for models whose draws resemble one another.
    draws: int | None = None
    # ``cdf(draws)`` gives the probability of a result up to the observed one, (S, k), with the study's own true effect
    # integrated out; for models whose units are studies with one effect.
    cdf: Callable[[Draws], Array] | None = None
    # ``replicate(draws, rng)`` draws new results of the same studies with true effects of their own, (S, k); by default
    # mean effect, scatter and normal errors of variance ``vi``.
    replicate: Callable[[Draws, np.random.Generator], Array] | None = None
    # ``true_effects(draws, rng)`` draws each study's own true effect given its result, (S, k), where the model has
    # integrated it out.
    true_effects: Callable[[Draws, np.random.Generator], Array] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "priors", MappingProxyType(dict(self.priors)))

    def coefficients(self, draws: Draws) -> Array:
        """Return the draws of the coefficients as they are printed, (S, p)."""
        if self.design.p == 1 and self.design.has_intercept:
            return draws["mu"][:, None]
        if not self.design.has_intercept:
            return draws["beta"]
        j = self.design.names.index(INTERCEPT)
        return np.insert(draws["beta"], j, draws["intrcpt"], axis=1)

    def fitted(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the mean effect of each row, (S, k), or of m rows of new data, (S, m)."""
        X = self.design.X if newdata is None else self.design.new_rows(newdata)[0]
        mean = self.coefficients(draws) @ X.T
        data = self.effects.moderators if newdata is None else newdata
        return mean if self.shift is None else mean + self.shift(draws, data)


@dataclass(frozen=True)
class NormalScatter:
    """A `Recipe.scatter`: normal, with variances that are sums of squares of these parameters."""

    names: tuple[str, ...]

    def sd(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the standard deviation of true effects, (S, 1)."""
        return np.sqrt(sum(draws[name] ** 2 for name in self.names))[:, None]

    def __call__(self, draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        """Draw, (S, m) or (S, 1)."""
        total = self.sd(draws)
        return total * rng.standard_normal((len(total), 1 if newdata is None else len(newdata)))
