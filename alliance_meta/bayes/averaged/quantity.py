"""The posterior of one quantity averaged over models: parts of known distribution, and a value it has exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.marginals import (
    TANH,
    GridMarginal,
    Marginal,
    MixtureMarginal,
    OnIntervals,
    TransformedMarginal,
    invert,
)
from alliance_meta.core.bayes.integration import PiecewiseDensity
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable

# How far from its mean, in standard deviations, a normal part is looked at.
FAR = 9.0


@dataclass(frozen=True, eq=False)
class PiecewiseMarginal(OnIntervals):
    """A standard deviation of whose posterior nothing but the density is known."""

    name: str
    piecewise: PiecewiseDensity
    # The highest moment that is finite.
    moments: int = 2

    def _has(self, order: int) -> bool:
        return order <= self.moments

    def _pdf(self, x: Array) -> Array:
        return np.where(x >= 0, self.piecewise.pdf(np.maximum(x, 0.0)), 0.0)


@dataclass(frozen=True, eq=False)
class BinnedMarginal(Marginal):
    """A probability whose distribution is known in equal cells between 0 and 1, with its exact moments."""

    name: str
    mass: Array
    first: float
    second: float

    @property
    def _lowest(self) -> float:
        return 0.0

    def _expect(self, order: int) -> float:
        return self.first if order == 1 else float(np.sqrt(max(self.second - self.first**2, 0.0)))

    def _cdf(self, x: Array) -> Array:
        return np.interp(x, np.linspace(0.0, 1.0, len(self.mass) + 1), self._below)

    @cached_property
    def _below(self) -> Array:
        return np.append(0.0, np.cumsum(self.mass))

    def _sf(self, x: Array) -> Array:
        return 1.0 - self._cdf(x)

    def _pdf(self, x: Array) -> Array:
        n = len(self.mass)
        inside = (x >= 0) & (x <= 1)
        return np.where(inside, n * self.mass[np.clip((x * n).astype(int), 0, n - 1)], 0.0)

    def _quantile(self, p: Array) -> Array:
        return np.interp(p, self._below, np.linspace(0.0, 1.0, len(self.mass) + 1))

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return float(self.mass @ function((np.arange(len(self.mass)) + 0.5) / len(self.mass)))


@dataclass(frozen=True, eq=False)
class AveragedMarginal(Marginal):
    """The posterior of a quantity averaged over models, some of which may say that it has one value exactly.

    Attributes
    ----------
    name : str
    weights : ndarray of shape (m,)
        Posterior probability of the models that leave the quantity free, part by part.
    parts : tuple of Marginal
        Its posterior under these.
    spike : float
        Posterior probability that it is exactly `at`; together with the weights 1.
    at : float

    Notes
    -----
    ``pdf`` and ``density`` describe what is not in the spike: they integrate to ``1 - spike``.
    """

    name: str
    weights: Array
    parts: tuple[Marginal, ...]
    spike: float = 0.0
    at: float = 0.0

    def as_r(self) -> Marginal:
        """Return a Fisher z as a correlation."""
        return AveragedAsR(f"{self.name} as r", self, TANH)

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values strictly between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        free = sum(w * part.prob(lower, upper) for w, part in zip(self.weights, self.parts, strict=True))
        return float(free + (self.spike if lower < self.at < upper else 0.0))

    def _expect(self, order: int) -> float:
        for part in self.parts:
            one = part.mean if order == 1 else part.sd
            if isinstance(one, NotApplicable):
                return one
        mean = self._sum(lambda part: part.mean) + self.spike * self.at
        if order == 1:
            return mean
        square = self._sum(lambda part: part.sd**2 + (part.mean - mean) ** 2)
        return float(np.sqrt(square + self.spike * (self.at - mean) ** 2))

    def _cdf(self, x: Array) -> Array:
        return self._total(lambda part: part.cdf(x), x) + self.spike * (x >= self.at)

    def _sf(self, x: Array) -> Array:
        return self._total(lambda part: part.sf(x), x) + self.spike * (x < self.at)

    def _pdf(self, x: Array) -> Array:
        return self._total(lambda part: part.pdf(x), x)

    def _quantile(self, p: Array) -> Array:
        if not self.parts:
            return np.full(p.shape, self.at)
        free = 1.0 - self.spike
        below = float(self._total(lambda part: part.cdf(np.array([self.at])), np.zeros(1))[0])
        on = (p >= below) & (p <= below + self.spike) if self.spike else np.zeros(p.shape, dtype=bool)
        inner = np.where(p < below, p, p - self.spike) / max(free, 1e-300)
        inner = np.where(on, 0.5, np.clip(inner, 1e-12, 1.0 - 1e-12))
        if len(self.parts) == 1:
            found = self.parts[0].quantile(inner)
        else:
            found = invert(lambda x: self._total(lambda part: part.cdf(x), x) / free, inner, *_reach(self))
        return np.where(on, self.at, found)

    def _shortest(self, level: float) -> tuple[float, float]:
        if self.spike:
            raise InputError("a quantity with a spike has no highest-density interval; use kind='eti'")
        return super()._shortest(level)

    @property
    def _lowest(self) -> float:
        return min((part._lowest for part in self.parts), default=-np.inf)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        free = sum(w * part.average(function) for w, part in zip(self.weights, self.parts, strict=True))
        return float(free + self.spike * float(function(np.array([self.at]))[0]))

    def _sum(self, number: Callable[[Marginal], float]) -> float:
        return float(sum(w * number(part) for w, part in zip(self.weights, self.parts, strict=True)))

    def _total(self, values: Callable[[Marginal], Array], x: Array) -> Array:
        out = np.zeros(x.shape)
        for w, part in zip(self.weights, self.parts, strict=True):
            out += w * values(part)
        return out


@dataclass(frozen=True, eq=False)
class AveragedAsR(TransformedMarginal):
    """The same on the scale of r."""

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values strictly between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        ends = self._back(np.array([lower, upper], dtype=float))
        return self.inner.prob(float(ends[0]), float(ends[1]))

    def _shortest(self, level: float) -> tuple[float, float]:
        if isinstance(self.inner, AveragedMarginal) and self.inner.spike:
            return self.inner._shortest(level)
        return super()._shortest(level)


def _reach(part: Marginal) -> tuple[float, float]:
    """Return values between which practically all of a part lies."""
    if isinstance(part, MixtureMarginal):
        mean, sd = part.mixture.mean[0], part.mixture.sd[0]
        return float((mean - FAR * sd).min()), float((mean + FAR * sd).max())
    if isinstance(part, PiecewiseMarginal):
        return 0.0, float(part.piecewise.quantile(np.array([1.0 - 1e-13]))[0])
    if isinstance(part, GridMarginal):
        return float(part.grid.value[0]), float(part.grid.value[-1])
    if isinstance(part, AveragedMarginal):
        ends = [_reach(one) for one in part.parts] + ([(part.at, part.at)] if part.spike else [])
        return min(low for low, _ in ends), max(high for _, high in ends)
    return 0.0, 1.0
