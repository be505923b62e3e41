"""What draws of a model with gaps in moderators say of each study, gaps integrated out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtr

from alliance_meta._typing import Array
from alliance_meta.bayes.pymc import joint
from alliance_meta.bayes.pymc.gaps import Coding, Rows
from alliance_meta.bayes.pymc.independent import normal_logpdf, shrunken
from alliance_meta.bayes.pymc.recipe import Draws, NormalScatter
from alliance_meta.effects.table import EffectSizes

# Numbers held at once for each step of the integration.
MOST_CELLS = 2_000_000


@dataclass(frozen=True, eq=False)
class Gapped:
    """Effects, and their moderators with gaps; every method gives (S, k)."""

    effects: EffectSizes
    coding: Coding
    rows: Rows

    def expected(self, draws: Draws) -> Array:
        """Return the mean effect given the moderators that were observed."""
        return self._each(draws, lambda found, _: (chances(found.log_weight) * found.mean).sum(axis=-1))

    def log_likelihood(self, draws: Draws) -> Array:
        """Return the log density of each effect given the moderators that were observed."""
        log_sum = joint.NUMBERS.log_sum
        return self._each(draws, lambda found, tau2: log_sum(self._density(found, tau2)) - log_sum(found.log_weight))

    def cdf(self, draws: Draws) -> Array:
        """Return the probability of a result up to the observed one."""

        def below(found: joint.Joint, tau2: Array) -> Array:
            share = ndtr((self._y - found.mean) / np.sqrt(self._v + tau2 + found.variance))
            return (chances(found.log_weight) * share).sum(axis=-1)

        return self._each(draws, below)

    def true_effects(self, draws: Draws, rng: np.random.Generator) -> Array:
        """Draw each study's true effect given its result."""

        def drawn(found: joint.Joint, tau2: Array) -> Array:
            chance = chances(self._density(found, tau2))
            mean, spread = picked(chance, rng, found.mean, tau2 + found.variance)
            return shrunken(self.effects, mean, np.sqrt(spread), rng)

        return self._each(draws, drawn)

    def replicate(self, draws: Draws, rng: np.random.Generator) -> Array:
        """Draw new results of the same studies, with the moderators that were observed."""

        def drawn(found: joint.Joint, tau2: Array) -> Array:
            mean, spread = picked(chances(found.log_weight), rng, found.mean, tau2 + found.variance)
            return rng.normal(mean, np.sqrt(self.effects.vi + spread))

        return self._each(draws, drawn)

    def spread(self, draws: Draws) -> Array:
        """Return the standard deviation of true effects given the moderators that were observed."""

        def total(found: joint.Joint, tau2: Array) -> Array:
            chance = chances(found.log_weight)
            centre = (chance * found.mean).sum(axis=-1, keepdims=True)
            return np.sqrt((chance * (tau2 + found.variance + (found.mean - centre) ** 2)).sum(axis=-1))

        return self._each(draws, total)

    def away(self, draws: Draws, rng: np.random.Generator) -> Array:
        """Draw how far true effects lie from the mean effect given the moderators that were observed."""

        def drawn(found: joint.Joint, tau2: Array) -> Array:
            chance = chances(found.log_weight)
            mean, variance = picked(chance, rng, found.mean, tau2 + found.variance)
            return rng.normal(mean - (chance * found.mean).sum(axis=-1), np.sqrt(variance))

        return self._each(draws, drawn)

    @property
    def _y(self) -> Array:
        return self.effects.yi[:, None]

    @property
    def _v(self) -> Array:
        return self.effects.vi[:, None]

    def _density(self, found: joint.Joint, tau2: Array) -> Array:
        """Return the log density of each combination with the observed moderators and the effect, (S, k, C)."""
        return found.log_weight + normal_logpdf(self._y - found.mean, self._v + tau2 + found.variance)

    def _each(self, draws: Draws, what: Callable[[joint.Joint, Array], Array]) -> Array:
        """Take some draws at a time; `what` gets the joint distribution and tau^2, (S, 1, 1)."""
        arrays = joint.arrays(self.coding, self.rows)
        step = max(1, MOST_CELLS // arrays["closed"].size)
        out = []
        for a in range(0, len(draws["mu"]), step):
            few = {name: np.asarray(values)[a : a + step] for name, values in draws.items()}
            found = joint.solve(self.coding, arrays, few, joint.NUMBERS)
            whole = replace(found, log_weight=np.broadcast_to(found.log_weight, found.mean.shape))
            out.append(what(whole, few["tau"][:, None, None] ** 2))
        return np.concatenate(out)


@dataclass(frozen=True, eq=False)
class GapScatter:
    """A `Recipe.scatter`: normal for new data, which have no gaps; a study with a gap varies by what it may hold, too.

    With missing levels that is a mixture, of which `sd` gives the standard deviation.
    """

    gapped: Gapped
    plain: NormalScatter

    def sd(self, draws: Draws, newdata: pd.DataFrame | None = None) -> Array:
        """Return the standard deviation of true effects, (S, m) or (S, 1)."""
        return self.gapped.spread(draws) if self._own(newdata) else self.plain.sd(draws)

    def __call__(self, draws: Draws, newdata: pd.DataFrame | None, rng: np.random.Generator) -> Array:
        """Draw, (S, m) or (S, 1)."""
        return self.gapped.away(draws, rng) if self._own(newdata) else self.plain(draws, newdata, rng)

    def _own(self, newdata: pd.DataFrame | None) -> bool:
        """Whether these are the model's own studies, with their gaps."""
        return newdata is not None and bool(newdata[list(self.gapped.coding.missing)].isna().to_numpy().any())


def chances(log_weight: Array) -> Array:
    """Return probabilities of combinations, along the last axis."""
    return np.exp(log_weight - joint.NUMBERS.log_sum(log_weight)[..., None])


def picked(chance: Array, rng: np.random.Generator, *values: Array) -> tuple[Array, ...]:
    """Draw a combination for each study, and return its values."""
    total = chance.cumsum(axis=-1)
    place = (total < rng.random(total.shape[:-1])[..., None]).sum(axis=-1, keepdims=True)
    # Rounding may leave the total below 1; then the most probable one is taken.
    place = np.where(place < chance.shape[-1], place, chance.argmax(axis=-1)[..., None])
    return tuple(np.take_along_axis(np.broadcast_to(one, chance.shape), place, axis=-1)[..., 0] for one in values)
