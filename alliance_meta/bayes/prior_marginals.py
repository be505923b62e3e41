"""What priors say of a quantity before any data: its distribution, as the posterior offers it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.effect_priors import Cauchy, Flat, Normal, StudentT
from alliance_meta.bayes.marginals import INFINITE, Marginal, MixtureMarginal
from alliance_meta.bayes.prior import EffectPrior, TauPrior
from alliance_meta.bayes.setup import MARKS
from alliance_meta.core.bayes_exact import TauDensity
from alliance_meta.core.bayes_mixture import mixture
from alliance_meta.core.bayes_prior import few_nodes, heavy_parts, spread_mixture, tau_nodes
from alliance_meta.core.bayes_scale import HeavyPrior
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable

# Weight, mean and standard deviation of normals, (n,) each.
Parts = tuple[Array, Array, Array]


@dataclass(frozen=True, eq=False)
class TauPriorMarginal(Marginal):
    """What a proper prior says of tau.

    Attributes
    ----------
    name : str
    prior : TauPrior
    """

    name: str
    prior: TauPrior

    @property
    def _lowest(self) -> float:
        return 0.0

    def _expect(self, order: int) -> float:
        if not self.prior.tail - order > 1.0:
            return NotApplicable(INFINITE)
        tau, weight = self.nodes
        mean = float(weight @ tau)
        return mean if order == 1 else float(np.sqrt(weight @ (tau - mean) ** 2))

    @cached_property
    def nodes(self) -> tuple[Array, Array]:
        """Values of tau that stand for all, and their weights."""
        prior = self.prior
        marks = tuple(float(q) for q in prior.quantile(MARKS) if 0 < q < np.inf)
        return tau_nodes(TauDensity(prior.logpdf, prior.upper, prior.tail, marks, True))

    def _cdf(self, x: Array) -> Array:
        return self.prior.cdf(x)

    def _sf(self, x: Array) -> Array:
        return 1.0 - self.prior.cdf(x)

    def _pdf(self, x: Array) -> Array:
        return np.where(x >= 0, self.prior.pdf(np.maximum(x, 0.0)), 0.0)

    def _quantile(self, p: Array) -> Array:
        return self.prior.quantile(p)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the mean of a slowly growing function of tau."""
        tau, weight = self.nodes
        return float(weight @ function(tau))


def effect_parts(priors: Sequence[EffectPrior], c: Array) -> Parts | None:
    """Return the prior of a sum of coefficients times `c` as normals; None where one that counts is flat."""
    used = [(prior, float(weight)) for prior, weight in zip(priors, c, strict=True) if weight]
    if any(isinstance(prior, Flat) for prior, _ in used):
        return None
    normal = [(prior, weight) for prior, weight in used if isinstance(prior, Normal)]
    mean = sum(weight * prior.mean for prior, weight in normal)
    variance = sum((weight * prior.sd) ** 2 for prior, weight in normal)
    heavy = [(prior, weight) for prior, weight in used if isinstance(prior, StudentT | Cauchy)]
    if not heavy:
        return np.ones(1), np.array([mean]), np.array([np.sqrt(variance)])
    prior, weight = heavy[0]
    df = prior.df if isinstance(prior, StudentT) else 1.0
    share, middle, sd = heavy_parts(HeavyPrior(0, prior.mean, prior.scale, df))
    return share, mean + weight * middle, np.sqrt(variance + (weight * sd) ** 2)


def lightest_tail(priors: Sequence[EffectPrior], c: Array) -> float:
    """Return how many moments the prior of such a sum has: fewer than its degrees of freedom."""
    found = [
        prior.df if isinstance(prior, StudentT) else 1.0
        for prior, weight in zip(priors, c, strict=True)
        if weight and isinstance(prior, StudentT | Cauchy)
    ]
    return min(found, default=np.inf)


def mean_prior(name: str, priors: Sequence[EffectPrior], c: Array) -> MixtureMarginal | None:
    """Return the prior of a mean effect or coefficient, c'b."""
    parts = effect_parts(priors, c)
    if parts is None:
        return None
    weight, mean, sd = parts
    moments = lightest_tail(priors, c)
    return MixtureMarginal(name, mixture(weight, mean[None], sd[None]), moments > 1, moments > 2)


def new_prior(
    name: str, priors: Sequence[EffectPrior], c: Array, tau: TauPriorMarginal, *, variance: float = 0.0
) -> MixtureMarginal | None:
    """Return the prior of the true effect of a study, or of its result with a sampling error of some variance."""
    parts = effect_parts(priors, c)
    if parts is None:
        return None
    nodes = tau.nodes if len(parts[0]) == 1 else few_nodes(*tau.nodes)
    moments = min(lightest_tail(priors, c), tau.prior.tail - 1.0)
    return MixtureMarginal(name, spread_mixture(parts, *nodes, variance=variance), moments > 1, moments > 2)


def need_proper(prior: EffectPrior | TauPrior) -> None:
    """Raise an `InputError` where a prior is improper."""
    if not prior.proper:
        raise InputError(
            f"{prior} is improper: its density does not integrate to 1, so that it predicts nothing before data"
        )
