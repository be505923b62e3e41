"""`AveragedResults`: which moderators matter, and estimates averaged over every set of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.bayes.averaged.averages import Averaged, AveragedMarginal, PiecewiseMarginal
from alliance_meta.bayes.exact.output import CENTRED, intervals_line
from alliance_meta.bayes.exact.setup import PriorSet, coordinates
from alliance_meta.bayes.marginals import LACKS, MixtureMarginal
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.core.bayes.average import Pairs, SubsetAverage, averaged_densities, averaged_mixtures, largest_pairs
from alliance_meta.core.bayes.quadrature import NormalMixture
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, Scale
from alliance_meta.results import wording
from alliance_meta.results.fit import Noun, columns_of
from alliance_meta.tables.document import Document, Kind, Table, cut, table_of
from alliance_meta.tables.format import brief, factor, fixed, fixed_interval, format_level


def models(fit: AveragedResults) -> pd.DataFrame:
    """Return one row per model, the most probable first."""
    logs = fit.space.log_prior
    row, model = np.nonzero(np.isfinite(logs))
    posterior = fit.average.posterior[row, model]
    order = np.argsort(-posterior, kind="stable")
    row, model = row[order], model[order]
    formulas = [_formula(fit, int(i)) for i in range(len(fit.space.number))]
    labels = ["equal effects", *map(str, fit.tau_priors)]
    likelihood = fit.average.log_marginal[row, model]
    return pd.DataFrame(
        {
            "formula": [formulas[i] for i in model],
            "effect": [_has_effect(fit, int(i)) for i in model],
            "tau_prior": [labels[i] for i in row],
            "prior": np.exp(logs[row, model]),
            "posterior": posterior[order],
            "log_marginal_likelihood": likelihood,
            "bf_best": np.exp(likelihood - likelihood[0]),
        }
    )


def _has_effect(fit: AveragedResults, i: int) -> bool:
    optional = fit.space.optional
    return optional[:1] != ("effect",) or bool(fit.space.has[i, 0])


def _formula(fit: AveragedResults, i: int) -> str:
    own = fit.space.has[i, len(fit.space.optional) - len(fit.space.terms) :]
    chosen = [*fit.always, *(term for term, has in zip(fit.space.terms, own, strict=True) if has)]
    return " + ".join(chosen) or "1"


def statistics(fit: AveragedResults) -> dict[str, Any]:
    """Return the statistics by name."""
    table = fit.tidy()
    return {
        "k": fit.k,
        **fit.effects.counts,
        "models": int(np.isfinite(fit.space.log_prior).sum()),
        "level": fit.level,
        "mu": table.loc["mu", "mean"],
        "tau": table.loc["tau", "mean"],
        "log_marginal_likelihood": fit.log_marginal_likelihood,
        "error_bound": fit.error_bound,
        "left_out": fit.left_out,
    }


def to_dict(fit: AveragedResults) -> dict[str, Any]:
    """Return every number and setting as JSON-ready values."""
    chosen = zip(fit.priors.names, fit.priors.coefficients, strict=True)
    model = {
        "always": list(fit.always),
        "candidates": list(fit.space.terms),
        "priors": {name: prior.to_dict() for name, prior in chosen},
        "tau_priors": [prior.to_dict() for prior in fit.tau_priors],
        "method": "exact, by quadrature over tau",
    }
    return averages_dict(fit, model, statistics(fit), {"models": fit.models.head(1000)})


def averages_dict(
    fit: Averaged, model: dict[str, Any], numbers: dict[str, Any], more: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Return settings, statistics and tables of an average as JSON-ready values."""
    tables = {"inclusion": fit.inclusion.reset_index(), "averaged": fit.tidy().reset_index()}
    tables |= {"conditional": fit.tidy(conditional=True).reset_index(), **more}
    return {
        "model": model,
        "statistics": numbers,
        **{name: columns_of(table) for name, table in tables.items()},
        "provenance": fit.effects.provenance.to_dict(),
    }


SHOWN = 8


def document(fit: AveragedResults) -> Document:
    """Return what the average says."""
    tau = " or ".join(map(str, fit.tau_priors))
    coefficients = "; ".join(
        f"{name} ~ {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return wording.document(
        fit,
        f"Bayesian average over {_size(fit):,} models (k = {fit.k}; exact, error at most {brief(fit.error_bound, 1)})",
        [
            fit.effects.heading,
            *([f"In every model: {' + '.join(fit.always)}"] if fit.always else []),
            f"Priors: {coefficients}; tau = 0 or tau ~ {tau}",
            *([f"mu: {CENTRED}"] if len(fit.names) > 1 else []),
            intervals_line(fit),
        ],
        inclusion_table(fit.inclusion),
        _models(fit),
        *averages(fit),
        _on_r(fit),
    )


def _on_r(fit: AveragedResults) -> list[str]:
    if fit.effects.measure != "ZCOR":
        return []
    row = fit.predict(scale="r").iloc[0]
    new = fixed_interval(row.pi_lb, row.pi_ub, 3)
    return [f"Mean effect as r: {wording.estimate(row)}", f"True correlation in a new study: {new}"]


def inclusion_table(frame: pd.DataFrame, **first: Kind) -> Table:
    """Return how probable each part of a model is, before and after the data."""
    kinds = {**first, "prior": 4, "posterior": 4, "log_bf10": factor}
    return table_of(frame, kinds, heads={"log_bf10": "BF10"})


def averages(fit: Averaged) -> list[Table]:
    """Return the parameters averaged over all models, and over those that have them."""
    kinds = dict.fromkeys(("p_incl", "mean", "sd", "median", "ci_lb", "ci_ub"), 4)
    return [
        table_of(fit.tidy(), kinds, "Averaged over all models (0 where a model has no such parameter)"),
        table_of(fit.tidy(conditional=True), kinds, "Averaged over the models with the parameter"),
    ]


def _size(fit: AveragedResults) -> int:
    return int((fit.space.log_prior > -float("inf")).sum())


def _models(fit: AveragedResults) -> Table:
    rows = []
    for _, row in fit.models.iterrows():
        formula = row.formula if row.effect else f"0 + {row.formula}" if row.formula != "1" else "0"
        rows.append((formula, str(row.tau_prior), fixed(row.posterior)))
    return cut(Table(("model", "tau", "posterior"), tuple(rows), words=(1,)), SHOWN, "... and {left:,} more")


def methods(fit: AveragedResults) -> str:
    """Return the sentences for a methods section."""
    about = [f"every set of the moderators {', '.join(fit.space.terms)}"] if fit.space.terms else []
    about += ["a mean effect of 0 or not"] if "effect" in fit.space.optional else []
    about += ["equal or random effects"]
    about += ["the priors of tau"] if len(fit.tau_priors) > 1 else []
    coefficients = ", ".join(
        f"{name}: {one}" for name, one in zip(fit.priors.names, fit.priors.coefficients, strict=True)
    )
    return (
        f"{wording.scale_sentence(fit)}Bayesian model averaging over {', '.join(about)} ({_size(fit):,} models) was "
        f"applied to {fit.effects.counted}. "
        f"Priors were {coefficients}; tau, in random-effects models: {' or '.join(map(str, fit.tau_priors))}. Marginal "
        f"likelihoods were computed exactly (relative error at most {brief(fit.error_bound, 1)}). Inclusion Bayes "
        "factors "
        "compare the models with a component to those without it; estimates are posterior medians averaged over all "
        f"models, with equal-tailed {format_level(fit.level)} credible intervals."
    )


@dataclass(frozen=True, eq=False)
class ModelSpace:
    """Which models there are."""

    optional: tuple[str, ...]  # what a model may have: ``effect``, if that is in doubt, and the candidates
    terms: tuple[str, ...]  # the candidates
    number: AnyArray  # (m,): their numbers; bit i stands for ``optional[i]``
    has: Mask  # (m, len(optional))
    log_prior: Array  # (1 + T, m): log prior probabilities, with equal effects and with each of T priors of tau


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

    error_bound = Noun[float]("average.error", "Bound of the relative error of every marginal likelihood.")
    left_out = Noun[float](
        "_pairs.left_out", "Posterior probability of what the mixtures behind estimates and intervals leave out."
    )

    @property
    def models(self) -> pd.DataFrame:
        """One row per model, the most probable first.

        ``formula``, ``effect``, ``tau_prior`` (``"equal effects"`` without heterogeneity), ``prior`` and ``posterior``
        probability, ``log_marginal_likelihood`` and ``bf_best``, the Bayes factor against the most probable one.
        """
        return models(self)

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
        return largest_pairs(self.average)

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
        parts = averaged_densities(self.average)
        weights = np.array([p for p, _ in parts])
        spike = float(self.average.posterior[0].sum())
        return AveragedMarginal(
            "tau", weights, tuple(PiecewiseMarginal("tau", one, self._moments) for _, one in parts), spike
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
