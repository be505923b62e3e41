"""`RobmaResults`: evidence for an effect, heterogeneity and bias, and estimates averaged over the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.averaged import bias_export as robma_export
from alliance_meta.bayes.averaged import bias_parts as robma_parts
from alliance_meta.bayes.averaged import bias_text as robma_text
from alliance_meta.bayes.averaged.bias_models import BiasModel, WeightFunction
from alliance_meta.bayes.averaged.bias_parts import EnsembleModel
from alliance_meta.bayes.averaged.quantity import AveragedAsR, AveragedMarginal
from alliance_meta.bayes.exact.export import column
from alliance_meta.bayes.hypotheses import BayesFactor, read_hypothesis
from alliance_meta.bayes.marginals import LACKS, TANH, Marginal
from alliance_meta.bayes.priors.effect import Normal
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import Scale, check_level, did_you_mean
from alliance_meta.results.fit import Fit


@dataclass(frozen=True, eq=False, repr=False)
class RobmaResults(Fit):
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
    lacks: ClassVar[Mapping[str, str]] = LACKS
    _words, _tables = robma_text, robma_export

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

    @cached_property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data, averaged over the models."""
        return float(special.logsumexp(self._logs))

    @property
    def models(self) -> pd.DataFrame:
        """One row per model, the most probable first.

        ``effect``, ``heterogeneity``, ``bias``, ``prior`` and ``posterior`` probability,
        ``log_marginal_likelihood`` with its ``error``, and ``bf``, the Bayes factor of this model against all others
        together.
        """
        return robma_export.models(self)

    @cached_property
    def inclusion(self) -> pd.DataFrame:
        """The evidence, one row per component.

        Rows ``effect``, ``heterogeneity`` and ``bias``, and each kind of bias there is: ``weight functions`` and
        ``PET-PEESE``. ``prior`` and ``posterior`` probability, ``bf10`` for the component (above 1 the data speak
        for it), ``log_bf10``, and ``error``, the numerical error of the latter.
        """
        rows = self._inclusion
        columns = {name: column([row[name] for row in rows.values()]) for name in next(iter(rows.values()))}
        return pd.DataFrame(columns, index=pd.Index(list(rows), name="component"))

    def tidy(self, *, conditional: bool = False, level: float | None = None) -> pd.DataFrame:
        """Return one row per parameter, unrounded, on the analysis scale.

        Parameters
        ----------
        conditional : bool
            Average only over the models that have the parameter. Otherwise it is 0 in the others, and their
            probability counts.
        level : float, optional

        Returns
        -------
        DataFrame
            Indexed by ``mu``, ``tau``, ``theta_new``, ``PET`` and ``PEESE`` as far as there are models with them;
            ``p_incl`` (posterior probability of those) and ``mean sd median ci_lb ci_ub``, equal-tailed.
        """
        used = self.level if level is None else level
        check_level(used)
        rows = {}
        for name in self.parameters:
            one = self.posterior(name, conditional=conditional)
            limits = one.interval(level=used)
            included = float(self._averaged(name, False).weights.sum())
            rows[name] = (included, one.mean, one.sd, limits.estimate, limits.lb, limits.ub)
        out = pd.DataFrame.from_dict(rows, orient="index", columns=["p_incl", "mean", "sd", "median", "ci_lb", "ci_ub"])
        out.index.name = "parameter"
        out.attrs.update(scale=self.effects.scale_label, level=used, interval="eti", conditional=conditional)
        return out

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `posterior` knows, but for the publication probabilities."""
        there = {"mu": "effect", "tau": "heterogeneity"}
        found = [name for name, flag in there.items() if any(getattr(one, flag) for one in self.ensemble)]
        found += ["theta_new"] if found else []
        kinds = [one.bias.kind.kind for one in self.ensemble if one.bias is not None]
        return (*found, *(name for name in ("PET", "PEESE") if name in kinds))

    def posterior(self, what: str, *, conditional: bool = False, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity, averaged over the models.

        Parameters
        ----------
        what : str
            ``"mu"``, ``"tau"``, ``"theta_new"`` (the true effect of a new study), ``"PET"`` or ``"PEESE"`` (their
            coefficients), or ``"omega[0.03]"``, the relative probability that a result with this one-sided p-value
            is published.
        conditional : bool
            Average only over the models that have the quantity. Otherwise it is 0 in the others (``omega`` is 1),
            and the posterior has a spike there.
        scale : {"z", "r"}, optional
            ``"r"``: ``mu`` and ``theta_new`` as correlations.
        """
        found = self._averaged(what, conditional)
        own = {"ZCOR": "z", "COR": "r", "UCOR": "r"}.get(self.effects.measure)
        if scale is None or scale == own:
            return found
        if own != "z" or scale != "r" or what not in ("mu", "theta_new"):
            raise InputError(f"scale={scale!r}: {what} of these effects cannot be shown so")
        return AveragedAsR(f"{what} as r", found, TANH)

    def prob(self, statement: str, *, conditional: bool = False, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau < 0.2"``."""
        stated = read_hypothesis(statement)
        marginal = self.posterior(stated.name, conditional=conditional, scale=scale)
        if stated.is_point:
            raise InputError(f"{statement!r}: state a range; for a point see .inclusion")
        return marginal.prob(stated.lower, stated.upper)

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
        used = self.level if level is None else level
        check_level(used)
        mean, new = (self.posterior(name, scale=scale) for name in ("mu", "theta_new"))
        inside, around = mean.interval(level=used), new.interval(level=used)
        row = (inside.estimate, mean.sd, inside.lb, inside.ub, around.lb, around.ub)
        out = pd.DataFrame([row], columns=["pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub"])
        out.attrs.update(scale=scale or self.effects.scale_label, level=used, interval="eti")
        return out

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
        used = self.level if level is None else level
        check_level(used)
        if not any(isinstance(one, WeightFunction) for one in self.bias):
            raise InputError("none of the models is a weight function")
        rows = []
        for a, b in robma_parts.p_intervals(self.bias):
            one = self.posterior(f"omega[{0.5 * (a + b)!r}]", conditional=conditional)
            limits = one.interval(level=used)
            rows.append((a, b, one.mean, one.sd, limits.estimate, limits.lb, limits.ub))
        return pd.DataFrame(rows, columns=["p_from", "p_to", "mean", "sd", "median", "ci_lb", "ci_ub"])

    def with_notes(self, notes: list[Note]) -> RobmaResults:
        """Return the same with further notes."""
        return replace(self, notes=merge_notes(self.notes, notes)) if notes else self

    @cached_property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        kinds = [one.bias for one in self.ensemble]
        groups: dict[str, Mask] = {
            "effect": np.array([one.effect for one in self.ensemble]),
            "heterogeneity": np.array([one.heterogeneity for one in self.ensemble]),
            "bias": np.array([one is not None for one in kinds]),
            "weight functions": np.array([isinstance(one, WeightFunction) for one in kinds]),
            "PET-PEESE": np.array([one is not None and not isinstance(one, WeightFunction) for one in kinds]),
        }
        return {name: self._compare(mask) for name, mask in groups.items() if mask.any() or name in robma_export.BASIC}

    @cached_property
    def _logs(self) -> Array:
        return np.array([np.log(one.prior) + one.solved.log_marginal for one in self.ensemble])

    def _compare(self, mask: Mask) -> dict[str, float]:
        """Return prior and posterior probability of some models, and their Bayes factor against the others."""
        prior = np.array([one.prior for one in self.ensemble])
        p, q = float(prior[mask].sum()), float(self.posterior_probabilities[mask].sum())
        if not mask.any() or mask.all():
            none = NotApplicable("all models agree about that")
            return {"prior": p, "posterior": q, "bf10": none, "log_bf10": none, "error": none}
        inside, outside = self._logs[mask], self._logs[~mask]
        log = special.logsumexp(inside) - special.logsumexp(outside) - np.log(p) + np.log(prior[~mask].sum())
        error = special.softmax(inside) @ self.errors[mask] + special.softmax(outside) @ self.errors[~mask]
        with np.errstate(over="ignore"):
            return {
                "prior": p,
                "posterior": q,
                "bf10": float(np.exp(log)),
                "log_bf10": float(log),
                "error": float(error),
            }

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        if (what, conditional) not in self._kept:
            if what not in self.parameters and not what.startswith("omega["):
                known = [*self.parameters, "omega[<p>]"]
                raise InputError(f"no quantity {what!r}{did_you_mean(what, known)} Known: {', '.join(known)}")
            self._kept[what, conditional] = robma_parts.averaged(self, what, conditional=conditional)
        return self._kept[what, conditional]

    @cached_property
    def _kept(self) -> dict[tuple[str, bool], AveragedMarginal]:
        """Posteriors that were asked for before."""
        return {}

    @cached_property
    def _omega(self) -> dict[int, Any]:
        """Posteriors of publication probabilities that were asked for before, by model."""
        return {}
