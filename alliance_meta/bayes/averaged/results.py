"""`AveragedResults`: which moderators matter, and estimates averaged over every set of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.averaged import export as averaging_export
from alliance_meta.bayes.averaged import text as averaging_text
from alliance_meta.bayes.averaged.averages import Averaged
from alliance_meta.bayes.averaged.quantity import AveragedMarginal, PanelMarginal
from alliance_meta.bayes.averaged.space import ModelSpace
from alliance_meta.bayes.exact.setup import PriorSet, coordinates
from alliance_meta.bayes.marginals import LACKS, MixtureMarginal
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
from alliance_meta.notes import Note
from alliance_meta.options import Scale


@dataclass(frozen=True, eq=False, repr=False)
class AveragedResults(Averaged):
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

    @property
    def models(self) -> pd.DataFrame:
        """One row per model, the most probable first.

        ``formula``, ``effect``, ``tau_prior`` (``"equal effects"`` without heterogeneity), ``prior`` and ``posterior``
        probability, ``log_marginal_likelihood`` and ``bf_best``, the Bayes factor against the most probable one.
        """
        return averaging_export.models(self)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `tidy` has."""
        return (*self.names, "tau", "theta_new")

    @cached_property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        shape, rows = self._logs.shape, {}
        for name in (*self.space.terms, *(one for one in self.space.optional if one not in self.space.terms)):
            has = self.space.has[:, self.space.optional.index(name)]
            rows[name] = self._compare(np.broadcast_to(has, shape))
        each = np.arange(shape[0])[:, None]
        rows["heterogeneity"] = self._compare(np.broadcast_to(each > 0, shape))
        for i, prior in enumerate(self.tau_priors if len(self.tau_priors) > 1 else (), start=1):
            rows[f"tau ~ {prior}"] = self._compare(np.broadcast_to(each == i, shape))
        return rows

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        found = self._tau if what == "tau" else self._new if what == "theta_new" else self._coefficients[what]
        if not conditional:
            return found
        if not found.parts:
            raise InputError(f"no model has {what}")
        return AveragedMarginal(what, found.weights / found.weights.sum(), found.parts)

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
        used = self._level(level)
        if newdata is None:
            X, labels = self.design.X.mean(axis=0)[None], ["average"]
        else:
            X, labels = self.design.new_rows(newdata)
        return self.predicted(X, scale=scale, level=used).set_axis(pd.Index(labels), axis=0)

    def predicted(self, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
        """Return the predictions for rows of the design, or for averages of rows, (m, p)."""
        C = self._own_order(X @ coordinates(self.design))
        pairs = zip(self._mixtures(C), self._mixtures(C, new=True), strict=True)
        marginals = ((_marginal("mean effect", *mean), _marginal("new effect", *new)) for mean, new in pairs)
        return self._predictions(marginals, scale, level)

    @property
    def _logs(self) -> Array:
        return np.where(np.isfinite(self.space.log_prior), self.space.log_prior + self.average.log_marginal, -np.inf)

    @property
    def _chances(self) -> tuple[Array, Array]:
        return np.exp(self.space.log_prior), self.average.posterior

    def _own_order(self, C: Array) -> Array:
        return C[:, list(self.average.problem.order)]

    def _mixtures(self, C: Array, *, new: bool = False) -> list[tuple[float, NormalMixture]]:
        return averaged_mixtures(self.average, self._pairs, C, new=new)

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
