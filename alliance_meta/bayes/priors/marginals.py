"""What priors say of a quantity before any data: its distribution, as the posterior offers it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.bayes.exact.quantities import EFFECT, Quantities
from alliance_meta.bayes.exact.setup import coordinates, tau_density
from alliance_meta.bayes.marginals import Marginal, MixtureMarginal
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.mixture import mixture
from alliance_meta.core.bayes.prior import few_nodes, heavy_parts, spread_mixture, tau_nodes
from alliance_meta.core.bayes.scale import HeavyPrior
from alliance_meta.errors import InputError

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

    def _has(self, order: int) -> bool:
        return self.prior.tail - order > 1.0

    @cached_property
    def nodes(self) -> tuple[Array, Array]:
        """Values of tau that stand for all, and their weights."""
        return tau_nodes(tau_density(self.prior))

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
    if not all(prior.proper for prior, _ in used):
        return None
    mean, variance = 0.0, 0.0
    for prior, weight in used:
        if prior.gaussian is not None:
            centre, precision = prior.gaussian
            mean, variance = mean + weight * centre, variance + weight**2 / precision
    heavy = [(prior.heavy, weight) for prior, weight in used if prior.heavy is not None]
    if not heavy:
        return np.ones(1), np.array([mean]), np.array([np.sqrt(variance)])
    parameters, weight = heavy[0]
    share, middle, sd = heavy_parts(HeavyPrior(0, *parameters))
    return share, mean + weight * middle, np.sqrt(variance + (weight * sd) ** 2)


def lightest_tail(priors: Sequence[EffectPrior], c: Array) -> float:
    """Return how many moments the prior of such a sum has: fewer than its degrees of freedom."""
    return min((prior.moments for prior, weight in zip(priors, c, strict=True) if weight), default=np.inf)


def mean_prior(name: str, priors: Sequence[EffectPrior], c: Array) -> MixtureMarginal | None:
    """Return the prior of a mean effect or coefficient, c'b."""
    parts = effect_parts(priors, c)
    if parts is None:
        return None
    weight, mean, sd = parts
    moments = lightest_tail(priors, c)
    return MixtureMarginal(name, mixture(weight, mean[None], sd[None]), moments > 1, moments > 2)


def new_prior(
    name: str,
    priors: Sequence[EffectPrior],
    c: Array,
    nodes: tuple[Array, Array],
    *,
    tail: float,
    variance: float = 0.0,
) -> MixtureMarginal | None:
    """Return the prior of the true effect of a study, or of its result with a sampling error of some variance.

    `nodes` are values of tau with their weights, `tail` is the a of its tail tau^-a.
    """
    parts = effect_parts(priors, c)
    if parts is None:
        return None
    if len(parts[0]) > 1:
        nodes = few_nodes(*nodes)
    moments = min(lightest_tail(priors, c), tail - 1.0)
    return MixtureMarginal(name, spread_mixture(parts, *nodes, variance=variance), moments > 1, moments > 2)


def need_proper(prior: EffectPrior | TauPrior) -> None:
    """Raise an `InputError` where a prior is improper."""
    if not prior.proper:
        raise InputError(
            f"{prior} is improper: its density does not integrate to 1, so that it predicts nothing before data"
        )


def prior_of(fit: Quantities, what: str) -> Marginal | None:
    """Return the prior of a quantity of a fit; None where it is improper.

    Raises
    ------
    InputError
        A quantity other than the mean effect, coefficients, tau and true effects.
    """
    priors, which = fit.priors, fit.priors.which(what)
    if which is not None:
        tau = priors.taus[which]
        return TauPriorMarginal(priors.tau_names[which], tau) if tau.proper else None
    study = EFFECT.fullmatch(what)
    if study is None and what != "theta_new":
        return mean_prior(what, priors.coefficients, fit._row(what))
    c = fit._mean_row if study is None else fit.design.X[fit._study(study[1])] @ coordinates(fit.design)
    if not all(prior.proper for prior in priors.taus):
        return None
    parts = [TauPriorMarginal(name, prior) for name, prior in zip(priors.tau_names, priors.taus, strict=True)]
    tail = min(prior.tail for prior in priors.taus)
    if len(parts) == 1:
        return new_prior(what, priors.coefficients, c, parts[0].nodes, tail=tail)
    (first, own), (second, other) = (few_nodes(*one.nodes) for one in parts)
    nodes = np.hypot(first[:, None], second).ravel(), (own[:, None] * other).ravel()
    return new_prior(what, priors.coefficients, c, nodes, tail=tail)
