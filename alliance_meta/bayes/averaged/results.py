"""`AveragedResults`: which moderators matter, and estimates averaged over every set of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.averaged import export as averaging_export
from alliance_meta.bayes.averaged import text as averaging_text
from alliance_meta.bayes.averaged.quantity import AveragedAsR, AveragedMarginal, PanelMarginal
from alliance_meta.bayes.averaged.space import ModelSpace
from alliance_meta.bayes.exact.export import column
from alliance_meta.bayes.exact.setup import PriorSet, coordinates
from alliance_meta.bayes.hypotheses import read_hypothesis
from alliance_meta.bayes.marginals import LACKS, TANH, Marginal, MixtureMarginal
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.core.bayes.average import (
    Pairs,
    SubsetAverage,
    averaged_mixtures,
    averaged_panels,
    heavy_pairs,
)
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note
from alliance_meta.options import Scale, check_level, did_you_mean
from alliance_meta.results.fit import Fit
from alliance_meta.results.predictions import COLUMNS, SCALE_LABELS


@dataclass(frozen=True, eq=False, repr=False)
class AveragedResults(Fit):
    """Every set of moderators, averaged.

    Made by `average`. Every number comes from quadrature, none from random draws.

    Attributes
    ----------
    effects : EffectSizes
        Those with every moderator.
    design : Design
        Of the largest model.
    priors : PriorSet
        Of its coefficients, and the first prior of tau.
    tau_priors : tuple of TauPrior
    always : tuple of str
        Terms of every model.
    space : ModelSpace
    average : SubsetAverage
        The raw arrays.
    level : float
        Probability inside every interval, a fraction.
    notes : tuple of Note
    """

    called = "a Bayesian average of models"
    lacks: ClassVar[Mapping[str, str]] = {**LACKS, "r_code": "no R package averages these models exactly"}
    _words, _tables = averaging_text, averaging_export

    effects: EffectSizes
    design: Design
    priors: PriorSet
    tau_priors: tuple[TauPrior, ...]
    always: tuple[str, ...]
    space: ModelSpace
    average: SubsetAverage
    level: float
    notes: tuple[Note, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients: ``mu``, the mean effect at the average of the moderators, and the others as in the design."""
        return ("mu", *(name for name in self.design.names if name != INTERCEPT))

    @property
    def error_bound(self) -> float:
        """Bound of the relative error of every marginal likelihood."""
        return self.average.error

    @property
    def left_out(self) -> float:
        """Posterior probability of what the mixtures behind estimates and intervals leave out."""
        return self._pairs.left_out

    @cached_property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data, averaged over the models."""
        return float(special.logsumexp(self._logs))

    @property
    def models(self) -> pd.DataFrame:
        """One row per model, the most probable first.

        ``formula``, ``effect``, ``tau_prior`` (``"equal effects"`` without heterogeneity), ``prior`` and ``posterior``
        probability, ``log_marginal_likelihood`` and ``bf_best``, the Bayes factor against the most probable one.
        """
        return averaging_export.models(self)

    @cached_property
    def inclusion(self) -> pd.DataFrame:
        """The evidence, one row for each thing that only some models have.

        Candidates, ``effect``, ``heterogeneity`` and, where there are several, each prior of tau: ``prior`` and
        ``posterior`` probability, ``bf10`` (above 1 the data speak for it), and ``log_bf10``.
        """
        rows = {}
        for name in (*self.space.terms, *(one for one in self.space.optional if one not in self.space.terms)):
            has = self.space.has[:, self.space.optional.index(name)]
            rows[name] = self._compare(np.broadcast_to(has, self._logs.shape))
        varying = np.zeros(self._logs.shape, dtype=bool)
        varying[1:] = True
        rows["heterogeneity"] = self._compare(varying)
        for i, prior in enumerate(self.tau_priors if len(self.tau_priors) > 1 else ()):
            mask = np.zeros(self._logs.shape, dtype=bool)
            mask[i + 1] = True
            rows[f"tau ~ {prior}"] = self._compare(mask)
        columns = {name: column([row[name] for row in rows.values()]) for name in rows["heterogeneity"]}
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
            Indexed by the coefficients, ``tau`` and ``theta_new`` (the true effect of a new study with average
            moderators); ``p_incl`` and ``mean sd median ci_lb ci_ub``, equal-tailed.
        """
        used = self.level if level is None else level
        check_level(used)
        return averaging_export.tidy(self, conditional=conditional, level=used)

    def posterior(self, what: str, *, conditional: bool = False, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity, averaged over the models.

        Parameters
        ----------
        what : str
            A coefficient (``"mu"`` is the mean effect at the average of the moderators), ``"tau"`` or
            ``"theta_new"``.
        conditional : bool
            Average only over the models that have it. Otherwise it is 0 in the others, and the posterior has a
            spike there.
        scale : {"z", "r"}, optional
            ``"r"``: ``mu`` and ``theta_new`` as correlations.
        """
        known = (*self.names, "tau", "theta_new")
        if what not in known:
            raise InputError(f"no quantity {what!r}{did_you_mean(what, list(known))} Known: {', '.join(known)}")
        found = self._tau if what == "tau" else self._new if what == "theta_new" else self._coefficients[what]
        if conditional:
            if not found.parts:
                raise InputError(f"no model has {what}")
            found = AveragedMarginal(what, found.weights / found.weights.sum(), found.parts)
        return self._on_scale(found, scale, what in ("mu", "theta_new"))

    def prob(self, statement: str, *, conditional: bool = False, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau < 0.2"``."""
        stated = read_hypothesis(statement)
        if stated.is_point:
            raise InputError(f"{statement!r}: state a range; for a point see .inclusion")
        marginal = self.posterior(stated.name, conditional=conditional, scale=scale)
        return marginal.prob(stated.lower, stated.upper)

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the true effect of a new study, averaged over the models.

        Parameters
        ----------
        newdata : DataFrame or mapping, optional
            Values of all moderators, one row per prediction; by default their average.
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
        if newdata is None:
            X, labels = self.design.X.mean(axis=0)[None], ["average"]
        else:
            X, labels = self.design.new_rows(newdata)
        return self.predicted(X, scale=scale, level=used).set_axis(pd.Index(labels), axis=0)

    def predicted(self, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
        """Return the predictions for rows of the design, or for averages of rows, (m, p)."""
        C = self._own_order(X @ coordinates(self.design))
        rows = []
        for mean, new in zip(self._mixtures(C), self._mixtures(C, new=True), strict=True):
            inner, outer = (self._on_scale(_marginal("mean effect", *one), scale, True) for one in (mean, new))
            inside, around = inner.interval(level=level), outer.interval(level=level)
            rows.append((inside.estimate, inner.sd, inside.lb, inside.ub, around.lb, around.ub))
        out = pd.DataFrame(rows, columns=list(COLUMNS))
        shown = scale or {"ZCOR": "z", "COR": "r", "UCOR": "r"}.get(self.effects.measure, "analysis")
        out.attrs.update(scale=shown, scale_label=SCALE_LABELS[shown], level=level, interval="eti")
        return out

    @property
    def _logs(self) -> Array:
        return np.where(np.isfinite(self.space.log_prior), self.space.log_prior + self.average.log_marginal, -np.inf)

    def _compare(self, mask: Mask) -> dict[str, float]:
        """Return prior and posterior probability of some models, and their Bayes factor against the others."""
        there = np.isfinite(self.space.log_prior)
        prior = np.exp(self.space.log_prior)
        p, q = float(prior[mask].sum()), float(self.average.posterior[mask].sum())
        inside, outside = mask & there, ~mask & there
        if not inside.any() or not outside.any():
            none = NotApplicable("all models agree about that")
            return {"prior": p, "posterior": q, "bf10": none, "log_bf10": none}
        log = special.logsumexp(self._logs[inside]) - special.logsumexp(self._logs[outside])
        log += np.log(prior[outside].sum()) - np.log(p)
        with np.errstate(over="ignore"):
            return {"prior": p, "posterior": q, "bf10": float(np.exp(log)), "log_bf10": float(log)}

    def _own_order(self, C: Array) -> Array:
        return C[:, list(self.average.problem.order)]

    def _mixtures(self, C: Array, *, new: bool = False) -> list[tuple[float, NormalMixture]]:
        return averaged_mixtures(self.average, self._pairs, C, new=new)

    def _on_scale(self, found: AveragedMarginal, scale: Scale | None, is_effect: bool) -> Marginal:
        own = {"ZCOR": "z", "COR": "r", "UCOR": "r"}.get(self.effects.measure)
        if scale is None or scale == own:
            return found
        if own != "z" or scale != "r" or not is_effect:
            raise InputError(f"scale={scale!r}: {found.name} of these effects cannot be shown so")
        return AveragedAsR(f"{found.name} as r", found, TANH)

    @cached_property
    def _pairs(self) -> Pairs:
        return heavy_pairs(self.average)

    @cached_property
    def _coefficients(self) -> dict[str, AveragedMarginal]:
        labels = ["mu" if name == INTERCEPT else name for name in self.design.names]
        found = self._mixtures(self._own_order(np.eye(self.design.p)))
        return {name: _marginal(name, *one) for name, one in zip(labels, found, strict=True)}

    @cached_property
    def _new(self) -> AveragedMarginal:
        row = self.design.X.mean(axis=0)[None] @ coordinates(self.design)
        return _marginal("theta_new", *self._mixtures(self._own_order(row), new=True)[0], self._moments)

    @cached_property
    def _tau(self) -> AveragedMarginal:
        parts = averaged_panels(self.average)
        weights = np.array([p for p, _ in parts])
        spike = float(self.average.posterior[0].sum())
        return AveragedMarginal(
            "tau", weights, tuple(PanelMarginal("tau", one, self._moments) for _, one in parts), spike
        )

    @property
    def _moments(self) -> int:
        """How many moments of tau are finite, at least."""
        varying = bool(self.average.posterior[1:].any())
        tail = min(prior.tail for prior in self.tau_priors) + self.k - self.average.problem.flat
        return 2 if not varying or tail > 3.0 else 1 if tail > 2.0 else 0


def _marginal(name: str, spike: float, found: NormalMixture, moments: int = 2) -> AveragedMarginal:
    if spike >= 1.0:
        return AveragedMarginal(name, np.empty(0), (), 1.0)
    return AveragedMarginal(
        name, np.array([1.0 - spike]), (MixtureMarginal(name, found, moments > 0, moments > 1),), spike
    )
