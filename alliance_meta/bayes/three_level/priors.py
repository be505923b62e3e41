"""The priors of a three-level model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from alliance_meta.bayes.priors.prior import EffectPrior, TauPrior
from alliance_meta.core.bayes.two_level import TauDensity


@dataclass(frozen=True, eq=False)
class MultilevelPriors:
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

    def __str__(self) -> str:
        parts = [f"{name} ~ {prior}" for name, prior in zip(self.names, self.coefficients, strict=True)]
        parts += [f"{name} ~ {prior}" for name, prior in zip(self.tau_names, self.taus, strict=True)]
        return "; ".join(parts)

    @property
    def tau_names(self) -> tuple[str, str]:
        """``tau[<term>]`` for both terms."""
        return f"tau[{self.terms[0]}]", f"tau[{self.terms[1]}]"

    @property
    def proper(self) -> bool:
        """Whether every prior integrates to 1."""
        return not self.improper

    @property
    def improper(self) -> list[str]:
        """Which parameters have an improper prior."""
        found = [name for name, prior in zip(self.names, self.coefficients, strict=True) if not prior.proper]
        return found + [name for name, one in zip(self.tau_names, self.taus, strict=True) if not one.proper]

    @cached_property
    def densities(self) -> tuple[TauDensity, TauDensity]:
        """The priors of both standard deviations as the quadrature needs them."""
        return density(self.taus[0]), density(self.taus[1])

    def which(self, name: str) -> int | None:
        """Return 0 or 1 for the standard deviation that is meant, which may go by the last part of its term."""
        for i, (term, known) in enumerate(zip(self.terms, self.tau_names, strict=True)):
            if name in (known, f"tau[{term.split('/')[-1]}]"):
                return i
        return None


def density(prior: TauPrior) -> TauDensity:
    """Return the prior of one standard deviation as the quadrature needs it."""
    return TauDensity(prior.logpdf, prior.upper, prior.tail, (), prior.proper)
