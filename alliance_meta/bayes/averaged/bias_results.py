"""`RobmaResults`: evidence for an effect, heterogeneity and bias, and estimates averaged over the models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.averaged import bias_export as robma_export
from alliance_meta.bayes.averaged import bias_parts as robma_parts
from alliance_meta.bayes.averaged import bias_text as robma_text
from alliance_meta.bayes.averaged.averages import Averaged
from alliance_meta.bayes.averaged.bias_models import BiasModel, WeightFunction
from alliance_meta.bayes.averaged.bias_parts import EnsembleModel
from alliance_meta.bayes.averaged.quantity import AveragedMarginal
from alliance_meta.bayes.exact.output import COLUMNS, row
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.core.selection.robma import OmegaPosterior
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import Scale


@dataclass(frozen=True, eq=False, repr=False)
class RobmaResults(Averaged):
    """Models of effect, heterogeneity and publication bias, averaged.

    Made by `robma`. Every number comes from quadrature, none from random draws.

    Attributes
    ----------
    effects : EffectSizes
    mu_prior : Normal
    tau_prior : TauPrior
    bias : tuple of WeightFunction, PET or PEESE
    direction : {"positive", "negative"}
    ensemble : tuple of EnsembleModel
        Each model with its posterior.
    level : float
        Probability inside every interval, a fraction.
    notes : tuple of Note
    """

    called = "an average of models of publication bias"
    _evidence = ("bf10", "log_bf10", "error")

    effects: EffectSizes
    mu_prior: Normal
    tau_prior: TauPrior
    bias: tuple[BiasModel, ...]
    direction: str
    ensemble: tuple[EnsembleModel, ...]
    level: float
    notes: tuple[Note, ...] = ()

    @cached_property
    def posterior_probabilities(self) -> Array:
        """Posterior probability of each model, (m,)."""
        return special.softmax(self._logs)

    @cached_property
    def errors(self) -> Array:
        """Error estimate of each log marginal likelihood, (m,)."""
        return np.array([one.solved.error for one in self.ensemble])

    @property
    def models(self) -> pd.DataFrame:
        """One row per model, the most probable first.

        ``effect``, ``heterogeneity``, ``bias``, ``prior`` and ``posterior`` probability,
        ``log_marginal_likelihood`` with its ``error``, and ``bf``, the Bayes factor of this model against all others
        together.
        """
        return robma_export.models(self)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `posterior` knows, but for the publication probabilities."""
        there = {"mu": "effect", "tau": "heterogeneity"}
        found = [name for name, flag in there.items() if any(getattr(one, flag) for one in self.ensemble)]
        found += ["theta_new"] if found else []
        kinds = [one.bias.kind.kind for one in self.ensemble if one.bias is not None]
        return (*found, *(name for name in ("PET", "PEESE") if name in kinds))

    @property
    def _known(self) -> list[str]:
        return [*self.parameters, "omega[<p>]"]

    def bayes_factor(self, hypothesis: str) -> BayesFactor:
        """Return the Bayes factor of ``"mu = 0"``, ``"tau = 0"`` or ``"bias = 0"``, averaged over the other models."""
        stated = read_hypothesis(hypothesis)
        known = {"mu": "effect", "tau": "heterogeneity", "bias": "bias"}
        if stated.name not in known or not (stated.is_point and stated.lower == 0):
            raise InputError(f"{hypothesis!r}: the models compare 'mu = 0', 'tau = 0' and 'bias = 0' with the contrary")
        row = self._inclusion[known[stated.name]]
        none = NotApplicable("there is no other route")
        bf10, log = row["bf10"], row["log_bf10"]
        if isinstance(bf10, NotApplicable):
            return BayesFactor(stated.text, stated.opposite, bf10, bf10, bf10, bf10, none)
        return BayesFactor(stated.text, stated.opposite, 1.0 / bf10, bf10, -log, row["error"], none)

    def predict(self, *, scale: Scale | None = None, level: float | None = None) -> pd.DataFrame:
        """Return the averaged effect and the true effect to expect in a new study, one row.

        Parameters
        ----------
        scale : {"z", "r"}, optional
        level : float, optional

        Returns
        -------
        DataFrame
            ``pred`` (the posterior median), ``se`` (the posterior standard deviation), ``ci_lb``, ``ci_ub``,
            ``pi_lb``, ``pi_ub``.
        """
        pair = (self._quantity("mu", False), self._quantity("theta_new", False))
        return self._predictions([pair], scale, self._level(level))

    def weight_function(self, *, conditional: bool = False, level: float | None = None) -> pd.DataFrame:
        """Return how likely results were published by their one-sided p-value, beside the most likely ones.

        Parameters
        ----------
        conditional : bool
            Average only over the weight functions; otherwise the other models count with 1.
        level : float, optional

        Returns
        -------
        DataFrame
            One row per interval from ``p_from`` to ``p_to``, with ``mean sd median ci_lb ci_ub``. p is one-sided, in
            the favoured direction; two-sided selection also favours p near 1.
        """
        used = self._level(level)
        if not any(isinstance(one, WeightFunction) for one in self.bias):
            raise InputError("none of the models is a weight function")
        rows = []
        for a, b in robma_parts.p_intervals(self.bias):
            one = self.posterior(f"omega[{0.5 * (a + b)!r}]", conditional=conditional)
            rows.append((a, b, *row(one, used, "eti")))
        return pd.DataFrame(rows, columns=["p_from", "p_to", *COLUMNS])

    def with_notes(self, notes: list[Note]) -> RobmaResults:
        """Return the same with further notes."""
        return replace(self, notes=merge_notes(self.notes, notes)) if notes else self

    @cached_property
    def _components(self) -> dict[str, Mask]:
        """Which models have each component."""
        kinds = [one.bias for one in self.ensemble]
        weighed = np.array([isinstance(one, WeightFunction) for one in kinds])
        biased = np.array([one is not None for one in kinds])
        return {
            "effect": np.array([one.effect for one in self.ensemble]),
            "heterogeneity": np.array([one.heterogeneity for one in self.ensemble]),
            "bias": biased,
            "weight functions": weighed,
            "PET-PEESE": biased & ~weighed,
        }

    @cached_property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        shown = {name: mask for name, mask in self._components.items() if mask.any() or name in robma_export.BASIC}
        return {name: self._compare(mask) for name, mask in shown.items()}

    @cached_property
    def _logs(self) -> Array:
        return np.array([np.log(one.prior) + one.solved.log_marginal for one in self.ensemble])

    @cached_property
    def _chances(self) -> tuple[Array, Array]:
        return np.array([one.prior for one in self.ensemble]), self.posterior_probabilities

    def _error_of(self, inside: Mask, outside: Mask) -> float:
        return float(sum(special.softmax(self._logs[part]) @ self.errors[part] for part in (inside, outside)))

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        if (what, conditional) not in self._kept:
            self._kept[what, conditional] = robma_parts.averaged(
                self.ensemble, self._logs, what, conditional=conditional, omega=self._omega
            )
        return self._kept[what, conditional]

    @cached_property
    def _kept(self) -> dict[tuple[str, bool], AveragedMarginal]:
        """Posteriors that were asked for before."""
        return {}

    @cached_property
    def _omega(self) -> dict[int, OmegaPosterior]:
        """Posteriors of publication probabilities that were asked for before, by model."""
        return {}
