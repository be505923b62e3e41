"""`AveragedResults`: posteriors averaged over models, and which moderators matter over every set of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.bayes.exact.prediction import CENTRED, intervals_line
from alliance_meta.bayes.exact.setup import PriorSet, coordinates
from alliance_meta.bayes.marginals import (
    COLUMNS,
    LACKS,
    TANH,
    GridMarginal,
    IntervalKind,
    Marginal,
    MixtureMarginal,
    OnIntervals,
    Posterior,
    TransformedMarginal,
    column,
    invert,
    row,
)
from alliance_meta.bayes.priors.prior import TauPrior
from alliance_meta.core.bayes.average import Pairs, SubsetAverage, averaged_densities, averaged_mixtures, largest_pairs
from alliance_meta.core.bayes.quadrature import NormalMixture, PiecewiseDensity
from alliance_meta.design import INTERCEPT, Design
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, Scale, did_you_mean
from alliance_meta.results import fit, wording
from alliance_meta.results.fit import Noun, columns_of
from alliance_meta.tables.document import Document, Kind, Table, cut, table_of
from alliance_meta.tables.format import brief, factor, fixed, fixed_interval, format_level

# How far from its mean, in standard deviations, a normal part is looked at.
FAR = 9.0


@dataclass(frozen=True, eq=False)
class PiecewiseMarginal(OnIntervals):
    """A standard deviation of whose posterior nothing but the density is known."""

    name: str
    piecewise: PiecewiseDensity
    # The highest moment that is finite.
    moments: int = 2

    def _has(self, order: int) -> bool:
        return order <= self.moments

    def _pdf(self, x: Array) -> Array:
        return np.where(x >= 0, self.piecewise.pdf(np.maximum(x, 0.0)), 0.0)


@dataclass(frozen=True, eq=False)
class BinnedMarginal(Marginal):
    """A probability whose distribution is known in equal cells between 0 and 1, with its exact moments."""

    name: str
    mass: Array
    first: float
    second: float

    _lowest = 0.0

    def _expect(self, order: int) -> float:
        return self.first if order == 1 else float(np.sqrt(max(self.second - self.first**2, 0.0)))

    def _cdf(self, x: Array) -> Array:
        return np.interp(x, np.linspace(0.0, 1.0, len(self.mass) + 1), self._below)

    @cached_property
    def _below(self) -> Array:
        return np.append(0.0, np.cumsum(self.mass))

    def _pdf(self, x: Array) -> Array:
        n = len(self.mass)
        inside = (x >= 0) & (x <= 1)
        return np.where(inside, n * self.mass[np.clip((x * n).astype(int), 0, n - 1)], 0.0)

    def _quantile(self, p: Array) -> Array:
        return np.interp(p, self._below, np.linspace(0.0, 1.0, len(self.mass) + 1))

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        return float(self.mass @ function((np.arange(len(self.mass)) + 0.5) / len(self.mass)))


@dataclass(frozen=True, eq=False)
class AveragedMarginal(Marginal):
    """The posterior of a quantity averaged over models, some of which may say that it has one value exactly.

    Notes
    -----
    ``pdf`` and ``density`` describe what is not in the spike: they integrate to ``1 - spike``.
    """

    name: str
    weights: Array  # (m,): posterior probability of the models that leave the quantity free, part by part
    parts: tuple[Marginal, ...]  # its posterior under these
    spike: float = 0.0  # posterior probability that it is exactly `at`; together with the weights 1
    at: float = 0.0

    def as_r(self) -> Marginal:
        """Return a Fisher z as a correlation."""
        return AveragedAsR(f"{self.name} as r", self, TANH)

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values strictly between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        free = sum(w * part.prob(lower, upper) for w, part in zip(self.weights, self.parts, strict=True))
        return float(free + (self.spike if lower < self.at < upper else 0.0))

    def _expect(self, order: int) -> float:
        for part in self.parts:
            one = part.mean if order == 1 else part.sd
            if isinstance(one, NotApplicable):
                return one
        mean = self._sum(lambda part: part.mean) + self.spike * self.at
        if order == 1:
            return mean
        square = self._sum(lambda part: part.sd**2 + (part.mean - mean) ** 2)
        return float(np.sqrt(square + self.spike * (self.at - mean) ** 2))

    def _cdf(self, x: Array) -> Array:
        return self._total(lambda part: part.cdf(x), x) + self.spike * (x >= self.at)

    def _sf(self, x: Array) -> Array:
        return self._total(lambda part: part.sf(x), x) + self.spike * (x < self.at)

    def _pdf(self, x: Array) -> Array:
        return self._total(lambda part: part.pdf(x), x)

    def _quantile(self, p: Array) -> Array:
        if not self.parts:
            return np.full(p.shape, self.at)
        free = 1.0 - self.spike
        below = float(self._total(lambda part: part.cdf(np.array([self.at])), np.zeros(1))[0])
        on = (p >= below) & (p <= below + self.spike) if self.spike else np.zeros(p.shape, dtype=bool)
        inner = np.where(p < below, p, p - self.spike) / max(free, 1e-300)
        inner = np.where(on, 0.5, np.clip(inner, 1e-12, 1.0 - 1e-12))
        if len(self.parts) == 1:
            found = self.parts[0].quantile(inner)
        else:
            found = invert(lambda x: self._total(lambda part: part.cdf(x), x) / free, inner, *_reach(self))
        return np.where(on, self.at, found)

    def _shortest(self, level: float) -> tuple[float, float]:
        if self.spike:
            raise InputError("a quantity with a spike has no highest-density interval; use kind='eti'")
        return super()._shortest(level)

    @property
    def _lowest(self) -> float:
        return min((part._lowest for part in self.parts), default=-np.inf)

    def average(self, function: Callable[[Array], Array]) -> float:
        """Return the posterior mean of a function of the quantity."""
        free = sum(w * part.average(function) for w, part in zip(self.weights, self.parts, strict=True))
        return float(free + self.spike * float(function(np.array([self.at]))[0]))

    def _sum(self, number: Callable[[Marginal], float]) -> float:
        return float(sum(w * number(part) for w, part in zip(self.weights, self.parts, strict=True)))

    def _total(self, values: Callable[[Marginal], Array], x: Array) -> Array:
        out = np.zeros(x.shape)
        for w, part in zip(self.weights, self.parts, strict=True):
            out += w * values(part)
        return out


@dataclass(frozen=True, eq=False)
class AveragedAsR(TransformedMarginal):
    """The same on the scale of r."""

    def prob(self, lower: float = -np.inf, upper: float = np.inf) -> float:
        """Return the probability of values strictly between two limits."""
        if not lower < upper:
            raise InputError(f"lower={lower!r} must be below upper={upper!r}")
        ends = self._back(np.array([lower, upper], dtype=float))
        return self.inner.prob(float(ends[0]), float(ends[1]))

    def _shortest(self, level: float) -> tuple[float, float]:
        if isinstance(self.inner, AveragedMarginal) and self.inner.spike:
            return self.inner._shortest(level)
        return super()._shortest(level)


def _reach(part: Marginal) -> tuple[float, float]:
    """Return values between which practically all of a part lies."""
    if isinstance(part, MixtureMarginal):
        mean, sd = part.mixture.mean[0], part.mixture.sd[0]
        return float((mean - FAR * sd).min()), float((mean + FAR * sd).max())
    if isinstance(part, PiecewiseMarginal):
        return 0.0, float(part.piecewise.quantile(np.array([1.0 - 1e-13]))[0])
    if isinstance(part, GridMarginal):
        return float(part.grid.value[0]), float(part.grid.value[-1])
    if isinstance(part, AveragedMarginal):
        ends = [_reach(one) for one in part.parts] + ([(part.at, part.at)] if part.spike else [])
        return min(low for low, _ in ends), max(high for _, high in ends)
    return 0.0, 1.0


# Quantities that are effects, and so can be correlations.
EFFECTS = ("mu", "theta_new")


class Averaged(Posterior):
    """An average over models, some of which fix a quantity at one value."""

    lacks: ClassVar[Mapping[str, str]] = LACKS
    _of_a_point = "state a range; for a point see .inclusion"
    # What `inclusion` says of a component beside its probabilities.
    _evidence: ClassVar[tuple[str, ...]] = ("bf10", "log_bf10")
    interval: IntervalKind = "eti"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The quantities that `tidy` has."""
        raise NotImplementedError

    @property
    def inclusion(self) -> pd.DataFrame:
        """The evidence, one row for each thing that only some models have.

        ``prior`` and ``posterior`` probability, ``bf10`` (above 1 the data speak for it), ``log_bf10`` and, of `robma`,
        ``error``, the numerical error of the latter. Of `average`: candidates, ``effect``, ``heterogeneity`` and, where
        there are several, each prior of tau. Of `robma`: ``effect``, ``heterogeneity``, ``bias``, and each kind of bias
        there is, ``weight functions`` and ``PET-PEESE``.
        """
        rows = self._inclusion
        columns = {name: column([one[name] for one in rows.values()]) for name in next(iter(rows.values()))}
        return pd.DataFrame(columns, index=pd.Index(list(rows), name="component"))

    @cached_property
    def log_marginal_likelihood(self) -> float:
        """Log of the density of the data, averaged over the models."""
        return float(special.logsumexp(self._logs))

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
            Indexed by the coefficients, ``tau``, ``theta_new`` (the true effect of a new study, with moderators at
            their average) and, of `robma`, ``PET`` and ``PEESE``; ``p_incl`` (posterior probability of the models with
            it) and ``mean sd median ci_lb ci_ub``, equal-tailed.
        """
        used = self._level(level)
        rows: dict[str, tuple[float, ...]] = {}
        for name in self.parameters:
            included = 1.0 - self._quantity(name, False).spike
            if conditional and not included:
                rows[name] = (included, *[NotApplicable("no model has it")] * len(COLUMNS))
            else:
                rows[name] = (included, *row(self.posterior(name, conditional=conditional), used, "eti"))
        names = ("p_incl", *COLUMNS)
        cells = {name: column(list(part)) for name, part in zip(names, zip(*rows.values(), strict=True), strict=True)}
        out = pd.DataFrame(cells, index=pd.Index(list(rows), name="parameter"))
        out.attrs.update(scale=self.effects.scale_label, level=used, interval="eti", conditional=conditional)
        return out

    def posterior(self, what: str, *, conditional: bool = False, scale: Scale | None = None) -> Marginal:
        """Return the posterior distribution of one quantity, averaged over the models.

        Parameters
        ----------
        what : str
            A coefficient (``"mu"`` is the mean effect, with moderators at their average), ``"tau"`` or
            ``"theta_new"``; of `robma` also ``"PET"`` or ``"PEESE"`` (their coefficients), or ``"omega[0.03]"``, the
            relative probability that a result with this one-sided p-value is published.
        conditional : bool
            Average only over the models that have it. Otherwise it is 0 in the others (``omega`` is 1), and the
            posterior has a spike there.
        scale : {"z", "r"}, optional
            ``"r"``: ``mu`` and ``theta_new`` as correlations.
        """
        return self._on_scale(self._quantity(what, conditional), scale, "" if what in EFFECTS else what)

    def prob(self, statement: str, *, conditional: bool = False, scale: Scale | None = None) -> float:
        """Return the posterior probability of a statement such as ``"mu > 0.1"`` or ``"tau < 0.2"``."""
        stated = self._range(statement)
        marginal = self.posterior(stated.name, conditional=conditional, scale=scale)
        return marginal.prob(stated.lower, stated.upper)

    def _quantity(self, what: str, conditional: bool) -> AveragedMarginal:
        if what not in self.parameters and not (what.startswith("omega[") and "omega[<p>]" in self._known):
            raise InputError(f"no quantity {what!r}{did_you_mean(what, self._known)} Known: {', '.join(self._known)}")
        return self._averaged(what, conditional)

    @property
    def _known(self) -> list[str]:
        return list(self.parameters)

    def _averaged(self, what: str, conditional: bool) -> AveragedMarginal:
        raise NotImplementedError

    def _predictions(
        self, pairs: Iterable[tuple[AveragedMarginal, AveragedMarginal]], scale: Scale | None, level: float
    ) -> pd.DataFrame:
        """Return one row for each mean effect and effect of a new study."""
        rows = []
        for one in pairs:
            mean, new = (self._on_scale(marginal, scale, "") for marginal in one)
            inside, around = mean.interval(level=level), new.interval(level=level)
            rows.append((inside.estimate, mean.sd, inside.lb, inside.ub, around.lb, around.ub))
        out = pd.DataFrame(rows, columns=list(fit.COLUMNS))
        shown = scale or self._scale
        out.attrs.update(scale=shown, scale_label=fit.SCALE_LABELS[shown], level=level, interval="eti")
        return out

    @property
    def _inclusion(self) -> dict[str, dict[str, float]]:
        raise NotImplementedError

    @property
    def _logs(self) -> Array:
        """Log of prior probability times marginal likelihood of each model."""
        raise NotImplementedError

    @property
    def _chances(self) -> tuple[Array, Array]:
        """Prior and posterior probability of each model."""
        raise NotImplementedError

    def _compare(self, mask: Mask) -> dict[str, float]:
        """Return prior and posterior probability of some models, and their Bayes factor against the others."""
        (prior, posterior), logs = self._chances, self._logs
        there = prior > 0
        p, q = float(prior[mask].sum()), float(posterior[mask].sum())
        inside, outside = mask & there, ~mask & there
        if not inside.any() or not outside.any():
            none = NotApplicable("all models agree about that")
            return {"prior": p, "posterior": q} | dict.fromkeys(self._evidence, none)
        log = float(special.logsumexp(logs[inside]) - special.logsumexp(logs[outside]))
        log += float(np.log(prior[outside].sum()) - np.log(p))
        with np.errstate(over="ignore"):
            found = (float(np.exp(log)), log, self._error_of(inside, outside))
        return {"prior": p, "posterior": q} | dict(zip(self._evidence, found, strict=False))

    def _error_of(self, inside: Mask, outside: Mask) -> float:
        """Return the numerical error of a log Bayes factor, where it is worked out."""
        return np.nan


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
    for _, model in fit.models.iterrows():
        formula = model.formula if model.effect else f"0 + {model.formula}" if model.formula != "1" else "0"
        rows.append((formula, str(model.tau_prior), fixed(model.posterior)))
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
