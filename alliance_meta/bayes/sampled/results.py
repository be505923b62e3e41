"""`SampledPosterior`: draws from a posterior, with the nouns of `BayesianResults`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes import arviz_bridge
from alliance_meta.bayes.exact.prediction import (
    about,
    interval_words,
    intervals_line,
    posterior_table,
    prior_words,
    probabilities,
)
from alliance_meta.bayes.marginals import LACKS, IntervalKind
from alliance_meta.bayes.pymc.parts import Recipe
from alliance_meta.bayes.sampled.loo import SampledLeaveOneOut, leave_one_out
from alliance_meta.bayes.sampled.predict import posterior_predictive, predict, predict_rows
from alliance_meta.bayes.sampled.quantities import FAILED as FAILED
from alliance_meta.bayes.sampled.quantities import (
    CompiledModel,
    Diagnostics,
    SampledMarginal,
    SampledQuantities,
    SamplerSettings,
    diagnose,
    problems_of,
)
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, Scale, did_you_mean
from alliance_meta.result import said
from alliance_meta.results import wording
from alliance_meta.results.fit import columns_of, with_moderators
from alliance_meta.tables.document import Block, Document
from alliance_meta.tables.format import brief, fixed


def tidy(fit: SampledPosterior, *, level: float, kind: IntervalKind) -> pd.DataFrame:
    """Return one row per quantity."""
    out = arviz_bridge.summarise(fit._rows, level=level, shortest=kind == "hdi", known=fit._mixing)
    if fit.recipe is not None:
        out.attrs.update(scale=fit.effects.scale_label)
    out.attrs.update(level=level, interval=kind, converged=fit.converged)
    return out


def statistics(fit: SampledPosterior) -> dict[str, Any]:
    """Return the model's statistics by name."""
    chains, draws = fit._shape
    found: dict[str, Any] = {"converged": fit.converged}
    found |= {} if fit.recipe is None else {"k": fit.k, **fit.effects.counts, "p": fit.p}
    found |= {"level": fit.level, "interval": fit.interval}
    if "tau" in fit._scalars:
        tau = fit.posterior("tau").interval(level=fit.level, kind=fit.interval)
        found |= {"tau": tau.estimate, "tau_ci_lb": tau.lb, "tau_ci_ub": tau.ub, "tau2": fit.tau2}
        found |= {} if fit.recipe is None else {"I2": fit.I2}
    numbers = fit.diagnostics.to_dict()
    numbers["bfmi"] = min(fit.diagnostics.bfmi) if fit.diagnostics.bfmi else fit.diagnostics.divergences
    return found | {"chains": chains, "draws": draws, "seed": fit.seed} | numbers


def to_dict(fit: SampledPosterior) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values, the checks of convergence first."""
    table = fit.tidy()
    chains, draws = fit._shape
    sampler = {} if fit.sampler is None else fit.sampler.to_dict()
    found: dict[str, Any] = {
        "converged": fit.converged,
        "problems": [note.to_dict() for note in fit.problems],
        "sampler": {**sampler, "chains": chains, "draws": draws, "seed": fit.seed},
        "diagnostics": fit.diagnostics.to_dict(),
        "statistics": statistics(fit),
        "posterior": {"parameter": list(table.index), **columns_of(table)},
    }
    if fit.recipe is None:
        return found
    recipe, effects = fit.recipe, fit.effects
    model: dict[str, Any] = {"name": recipe.model, "formula": recipe.design.formula, "assumes": recipe.words}
    model |= {"priors": {name: prior.to_dict() for name, prior in recipe.priors.items()}}
    return {
        **found,
        "model": {**model, "method": "Hamiltonian Monte Carlo (NUTS)"},
        "vb": fit.vb,
        "studies": {"slab": list(effects.slab), "yi": effects.yi, "vi": effects.vi},
        "provenance": effects.provenance.to_dict(),
    }


# A vector with more elements is left to `tidy`.
MOST_ELEMENTS = 12
# The model whose data are the correlations themselves.
EXACT = "exact_correlation"


def document(fit: SampledPosterior) -> Document:
    """Return what the fit says; a failed check comes first."""
    chains, draws = fit._shape
    drawn = f"{chains} chains of {draws} draws" if chains > 1 else f"1 chain of {draws} draws"
    recipe, passed = fit.recipe, [note for note in fit.notes if note not in fit.problems]
    if recipe is None:
        title, lines = f"Draws from a posterior ({drawn})", [intervals_line(fit)]
        return Document(title, lines, [*_table(fit), _quality(fit)], said(passed), alarms(fit))
    priors = "; ".join(f"{name} ~ {prior}" for name, prior in recipe.priors.items())
    made = wording.document(
        fit,
        f"Bayesian model {recipe.model} (k = {fit.k}; {drawn})",
        about(fit, priors, f"Assumes: {recipe.words}"),
        *_table(fit),
        wording.as_r(fit, new="a new study") if recipe.shift is None else [],
        [*(probabilities(fit) if recipe.design.has_intercept else []), *_quality(fit)],
        alarm=alarms(fit),
    )
    told = said(fit.problems)
    return replace(made, notes=[line for line in made.notes if line not in told])


def alarms(fit: SampledPosterior) -> list[str]:
    """Return what must be said before anything else; nothing for a fit that passed."""
    return [FAILED, *(note.message for note in fit.problems)] if fit.problems else []


def shown(fit: SampledPosterior) -> pd.DataFrame:
    """Return the rows of `tidy` that a summary prints: all but long vectors."""
    table = fit.tidy()
    stems = [str(name).partition("[")[0] if "[" in str(name) else "" for name in table.index]
    keep = []
    for name, stem in zip(table.index, stems, strict=True):
        coefficient = fit.recipe is not None and name in fit.names
        keep.append(coefficient or (stem != "theta" and (not stem or stems.count(stem) <= MOST_ELEMENTS)))
    return table[keep]


def _table(fit: SampledPosterior) -> list[Block]:
    table = shown(fit)
    table["ess"] = table[["ess_bulk", "ess_tail"]].astype(float).min(axis=1)
    hidden = len(fit._rows) - len(table)
    scale = "draws as they are" if fit.recipe is None else None
    return [
        posterior_table(fit, table, scale, ess=0, rhat=3),
        [f"({hidden} more in tidy())"] if hidden else [],
    ]


def _quality(fit: SampledPosterior) -> list[str]:
    found = fit.diagnostics
    table = fit.tidy()
    share = table["mcse"].astype(float) / table["sd"].astype(float)
    error = (
        f"Monte-Carlo errors of the means: at most {fixed(100 * share.max(), 1)}% of the sd. "
        if share.max() > 0
        else ""
    )
    divergences = fixed(float(found.divergences), 0)
    text = (
        f"{error}All parameters: R-hat at most {fixed(found.rhat, 3)}, effective draws at least "
        f"{fixed(found.ess_bulk, 0)} (middle) and {fixed(found.ess_tail, 0)} (tails); divergences: {divergences}."
    )
    return [text]


def methods(fit: SampledPosterior) -> str:
    """Return the sentences for a methods section."""
    recipe, (chains, draws) = fit.made, fit._shape
    scale = wording.scale_sentence(fit)
    if recipe.model == EXACT:
        scale = "Each correlation entered by its exact sampling distribution, with true effects on Fisher's z. "
    run = f"with {chains} chain{'s' if chains > 1 else ''} of {draws} draws"
    if fit.sampler is not None:
        run = (
            f"by the No-U-Turn sampler as implemented in {fit.sampler.program}, {run} each after {fit.sampler.tune} "
            f"draws of tuning, a target acceptance of {brief(fit.sampler.target_accept)} and seed {fit.seed}"
        )
    return (
        f"{' '.join([*alarms(fit), '']) if fit.problems else ''}"
        f"{scale}A Bayesian model{with_moderators(fit)} was fitted to {fit.effects.counted}, which assumes "
        "that "
        f"{recipe.words}. Priors were {prior_words(fit, recipe.priors)}. The posterior was sampled {run}. "
        f"{_checks(fit)} {interval_words(fit)}"
    )


def _checks(fit: SampledPosterior) -> str:
    found = fit.diagnostics
    divergences = "" if found.divergences != found.divergences else f" and {fixed(found.divergences, 0)} divergences"
    return (
        f"R-hat was at most {fixed(found.rhat, 3)}, with at least {fixed(found.ess_bulk, 0)} effective draws for the "
        f"middle and {fixed(found.ess_tail, 0)} for the tails of every parameter{divergences}."
    )


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
        found = tidy(self, level=used, kind=kind)
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
