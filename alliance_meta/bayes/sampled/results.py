"""`SampledPosterior`: draws from a posterior, with the nouns of `BayesianResults`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.marginals import LACKS, IntervalKind
from alliance_meta.bayes.pymc.recipe import Recipe
from alliance_meta.bayes.sampled import export as sampled_export
from alliance_meta.bayes.sampled import text as sampled_text
from alliance_meta.bayes.sampled.compiled import CompiledModel
from alliance_meta.bayes.sampled.gate import Diagnostics, diagnose, problems_of
from alliance_meta.bayes.sampled.loo import SampledLeaveOneOut, leave_one_out
from alliance_meta.bayes.sampled.marginals import SampledMarginal
from alliance_meta.bayes.sampled.predict import predict, predict_rows
from alliance_meta.bayes.sampled.predictive import posterior_predictive
from alliance_meta.bayes.sampled.quantities import SampledQuantities, SamplerSettings
from alliance_meta.errors import InputError
from alliance_meta.notes import Note
from alliance_meta.options import Scale, did_you_mean


@dataclass(frozen=True, eq=False, repr=False)
class SampledPosterior(SampledQuantities):
    """Draws from a posterior, with what a reader must know about them.

    Made by `bayes.sample`. Methods and columns are those of `BayesianResults`, with the Monte-Carlo error of each
    number. Draws that fail a check of convergence say so first in every output, and every method that gives numbers
    warns (`ConvergenceWarning`).

    Attributes
    ----------
    container : arviz.InferenceData or xarray.DataTree
        The draws in the container of the installed ArviZ, for any of its functions.
    notes : tuple of Note
        Those of the data, and one for each check of convergence that failed.
    seed : int
        The seed that gives these draws again.
    recipe : Recipe or None
        How the model was made; None for a model that is not from `bayes.pymc`.
    level : float
        Probability inside every interval, a fraction.
    interval : {"eti", "hdi"}
        Equal-tailed or shortest intervals.
    sampler : SamplerSettings or None
        How the draws were made.
    """

    called = "a sampled posterior"
    lacks: ClassVar[Mapping[str, str]] = {**LACKS, "r_code": "the model is PyMC's"}
    _of_a_point = "a single value has probability 0; state a range"

    container: Any
    notes: tuple[Note, ...]
    seed: int
    recipe: Recipe | None = None
    level: float = 0.95
    interval: IntervalKind = "eti"
    sampler: SamplerSettings | None = None
    _model: CompiledModel | None = field(default=None, repr=False)
    _checked: Diagnostics | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._interval(None, None)

    @cached_property
    def diagnostics(self) -> Diagnostics:  # type: ignore[override]
        """R-hat, effective draws, divergences and E-BFMI over all parameters."""
        return diagnose(self.container) if self._checked is None else self._checked

    @cached_property
    def problems(self) -> tuple[Note, ...]:  # type: ignore[override]
        """The checks of convergence that the draws fail."""
        return tuple(Note(code, message) for code, message in problems_of(self.diagnostics))

    def draws(self, name: str) -> Array:
        """Return the draws of one parameter as an array (chain, draw, ...)."""
        known = arviz_bridge.draws(self.container)
        if name not in known:
            hint = did_you_mean(name, list(known)) or "."
            raise InputError(f"no parameter {name!r}{hint} Parameters: {', '.join(known)}")
        return known[name]

    def tidy(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return one row per quantity, unrounded, on the analysis scale.

        Parameters
        ----------
        level : float, optional
        interval : {"eti", "hdi"}, optional

        Returns
        -------
        DataFrame
            Indexed by ``mu``, the coefficients as they are printed, ``tau`` (or several), other parameters,
            ``theta_new`` (the true effect of a new study at the average of the moderators) and, where studies' true
            effects were drawn, ``theta[<label>]``, with columns ``mean sd median ci_lb ci_ub``, the Monte-Carlo
            standard error of the mean ``mcse``, ``ess_bulk``, ``ess_tail`` and ``rhat``. Kind and probability of the
            interval, and whether the draws pass their checks, are in ``.attrs``.
        """
        used, kind = self._interval(level, interval)
        found = sampled_export.tidy(self, level=used, kind=kind)
        self._caution()
        return found

    def predict(
        self,
        newdata: pd.DataFrame | Mapping[str, Any] | None = None,
        *,
        scale: Scale | None = None,
        level: float | None = None,
        interval: IntervalKind | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Predict the mean effect, and the true effect of a new study, for given moderators.

        Parameters
        ----------
        newdata, scale, level, interval
            As of `BayesianResults.predict`.
        seed : int, optional
            Of the true effects of new studies; by default that of the fit.

        Returns
        -------
        DataFrame
            As of `BayesianResults.predict`.

        Raises
        ------
        InputError
            For an unknown moderator level, a scale these effects do not have, or a model that is not from
            `bayes.pymc`.
        """
        used, kind = self._interval(level, interval)
        own = self.seed if seed is None else seed
        found = predict(self, newdata, scale=scale, level=used, kind=kind, seed=own)
        self._caution()
        return found

    def predicted(self, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
        """Return the predictions for rows of the design, or for averages of rows, (m, p)."""
        return predict_rows(self, X, scale=scale, level=level)

    def blup(self, *, level: float | None = None, interval: IntervalKind | None = None) -> pd.DataFrame:
        """Return the posterior of each study's true effect: as `tidy`, on the analysis scale.

        Raises
        ------
        InputError
            The model neither draws true effects nor says how to.
        """
        names = [f"theta[{label}]" for label in self.effects.slab]
        if not set(names) <= set(self._true_effects):
            raise InputError(f"{self.made.model} has integrated out the studies' true effects")
        table = self.tidy(level=level, interval=interval).loc[names]
        return table.set_axis(pd.Index(self.effects.slab), axis=0)

    def posterior(self, what: str | Mapping[str, float], *, scale: Scale | None = None) -> SampledMarginal:
        """Return the posterior distribution of one quantity.

        Parameters
        ----------
        what : str or mapping of str to float
            Any row of `tidy`, ``"tau2"``, ``"I2"``; or weights of a linear combination of such.
        scale : {"z", "r"}, optional
            ``"r"`` for correlations: tanh of a mean or true effect.

        Returns
        -------
        SampledMarginal
            As `Marginal`, with ``mcse_mean``, ``mcse_sd``, ``mcse_median``, ``mcse_quantile(p)`` and
            ``mcse_prob(lower, upper)``.
        """
        found = self._marginal(what, scale)
        self._caution()
        return found

    def loo(self, *, refit: bool = False) -> SampledLeaveOneOut:
        """Leave out each study, or cluster of effects, in turn; approximated from the draws.

        How well do the other studies predict each one, and what would the synthesis say without it?

        Parameters
        ----------
        refit : bool
            Fit the model again without each unit for which the approximation fails. It is compiled already, so that
            this takes less than a second each; for models without parameters of each study.

        Returns
        -------
        SampledLeaveOneOut
            ``elpd`` (larger is better), ``elpd_se``, and ``tidy()`` with one row per unit.

        Raises
        ------
        InputError
            The model is not from `bayes.pymc`, there are fewer than 4 draws, or the model cannot be fitted again.

        Warns
        -----
        ConvergenceWarning
            The approximation fails for a unit (its Pareto k is too large); it also stands in ``.notes``.
        """
        self._caution()
        return leave_one_out(self, refit=refit)

    def posterior_predictive(self, *, seed: int | None = None) -> Any:
        """Draw a result for each study from each draw of the parameters, by PyMC.

        Parameters
        ----------
        seed : int, optional
            By default that of the fit.

        Returns
        -------
        arviz.InferenceData or xarray.DataTree
            The draws with the groups ``posterior_predictive`` and ``observed_data``, for any of ArviZ's functions.
            Parameters that belong to a study keep their draws, so that models that draw true effects repeat their own
            studies; `predictive_check` draws true effects anew.

        Raises
        ------
        InputError
            The draws were not made by `bayes.sample`.
        """
        if self._model is None:
            raise InputError("these draws do not know their model; posterior_predictive needs a fit of bayes.sample")
        return posterior_predictive(self._model, self.container, seed=self.seed if seed is None else seed)

    def to_arviz(self) -> Any:
        """Return the draws in the container of the installed ArviZ."""
        return self.container
