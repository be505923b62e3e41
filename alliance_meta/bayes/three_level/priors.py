"""The priors of a three-level model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from alliance_meta.bayes.exact.setup import Priors
from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.two_level import TauDensity


@dataclass(frozen=True, eq=False)
class MultilevelPriors(Priors):
    """The priors of a three-level model.

    Attributes
    ----------
    terms : tuple of str
        The grouping and the rows within it.
    names : tuple of str
        Coefficients; the intercept stands for ``mu``.
    coefficients : tuple of EffectPrior
    taus : tuple of TauPrior
        Of the standard deviation of each term.
    """

    terms: tuple[str, str]
    names: tuple[str, ...]
    coefficients: tuple[EffectPrior, ...]
    taus: tuple[TauPrior, TauPrior]

    @property
    def tau_names(self) -> tuple[str, str]:
        """``tau[<term>]`` for both terms."""
        return f"tau[{self.terms[0]}]", f"tau[{self.terms[1]}]"

    def with_taus(self, *taus: TauPrior) -> MultilevelPriors:
        """Return the same with other priors of both standard deviations."""
        return replace(self, taus=(taus[0], taus[1]))

    @cached_property
    def densities(self) -> tuple[TauDensity, TauDensity]:
        """The priors of both standard deviations as the quadrature needs them."""
        return density(self.taus[0]), density(self.taus[1])


def density(prior: TauPrior) -> TauDensity:
    """Return the prior of one standard deviation as the quadrature needs it."""
    return TauDensity(prior.logpdf, prior.upper, prior.tail, (), prior.proper)
