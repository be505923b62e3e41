"""Which moderators to keep: every subset compared by an information criterion, and averages over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.distributions import critical_value
from alliance_meta.core.univariate.fit import UnivariateFit, fit_univariate
from alliance_meta.design import Design, design_of
from alliance_meta.effects.studies import dependence_notes
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, DroppedRowsWarning, InputError, quiet
from alliance_meta.formulas import parse_formula
from alliance_meta.notes import NotApplicable, Note, check_level, check_option, warn_note
from alliance_meta.result import Result
from alliance_meta.results.fit import records_of
from alliance_meta.tables.document import Document, Kind, cut, table_of
from alliance_meta.tables.format import format_level

MOST = 12


def read_terms(candidates: Sequence[str], always: Sequence[str]) -> tuple[list[str], dict[str, frozenset[str]]]:
    """Return the names of all terms as the formula spells them, those of `always` first, and their factors."""
    if isinstance(candidates, str) or isinstance(always, str):
        raise InputError("candidates and always are lists of terms, such as ['rater', 'year']")
    if not 1 <= len(candidates) <= MOST:
        many = f"{len(candidates)} candidates make {2 ** len(candidates)} models" if candidates else "no candidates"
        raise InputError(f"{many}; give 1 to {MOST}, chosen for a reason")
    factors: dict[str, frozenset[str]] = {}
    for given in [*always, *candidates]:
        found = [term for term in parse_formula(given, where="a candidate").formula if str(term) != "1"]
        if len(found) != 1:
            listed = ", ".join(repr(str(term)) for term in found) or "nothing"
            raise InputError(f"{given!r} is not one term: it stands for {listed}")
        name = str(found[0])
        if name in factors:
            raise InputError(f"{name!r} is there twice")
        factors[name] = frozenset(str(factor) for factor in found[0].factors)
    return list(factors), factors


def complete_effects(
    effects: EffectSizes, terms: Sequence[str], factors: dict[str, frozenset[str]]
) -> tuple[EffectSizes, list[Note]]:
    """Return the effects that have a value of every term, and a note if some do not."""
    rows: Mask = np.ones(effects.k, dtype=bool)
    for factor in dict.fromkeys(factor for term in terms for factor in sorted(factors[term])):
        with quiet():
            rows = rows & design_of(factor, effects).rows
    if not rows.any():
        raise DesignError("no effect has a value of every candidate")
    if rows.all():
        return effects, []
    lost = int((~rows).sum())
    message = f"{lost} of {effects.k} effects left out of every model: they lack a value of some candidate."
    note = warn_note("dropped-rows", message, DroppedRowsWarning, stacklevel=4)
    return effects.take(rows, step=f"{int(rows.sum())} effects with every candidate"), [note]


def all_subsets(
    always: tuple[str, ...], candidates: tuple[str, ...], factors: dict[str, frozenset[str]]
) -> list[tuple[str, ...]]:
    """Return every subset in which an interaction has those of its parts that are candidates."""
    parts = {t: [s for s in candidates if factors[s] < factors[t]] for t in candidates}
    return [
        always + chosen
        for size in range(len(candidates) + 1)
        for chosen in combinations(candidates, size)
        if all(part in chosen for term in chosen for part in parts[term])
    ]


def whole_design(effects: EffectSizes, terms: Sequence[str], factors: dict[str, frozenset[str]]) -> Design | None:
    """Return the design of all terms if every subset's design is a part of it, else None."""
    known = set(factors.values())
    for term in terms:
        inside = sorted(factors[term])
        parts = [frozenset(c) for size in range(1, len(inside)) for c in combinations(inside, size)]
        if not all(part in known for part in parts):
            return None
    return _design(effects, terms)


def _design(effects: EffectSizes, terms: Sequence[str]) -> Design | None:
    """Return the design of the terms, None if it has redundant columns or more columns than effects."""
    with quiet():
        try:
            made = design_of(" + ".join(terms) or "1", effects)
        except DesignError:
            return None
    return None if any(note.code == "redundant-moderator" for note in made.notes) else made


def subset_columns(
    effects: EffectSizes, chosen: tuple[str, ...], whole: Design | None
) -> tuple[Array, tuple[str, ...]] | None:
    """Return the columns of a subset and their names, None if it has no design of its own."""
    if whole is None:
        made = _design(effects, chosen)
        return None if made is None else (made.X, made.names)
    slots = [0, *(slot for term in chosen for slot in whole.terms[term])]
    return whole.X[:, slots], tuple(whole.names[slot] for slot in slots)


Criterion = Literal["AICc", "AIC", "BIC"]
Likelihood = Literal["ML", "EE"]
SHOWN = 10
NO_R2 = "there is no heterogeneity to explain: tau2 without moderators is 0"


@dataclass(frozen=True, eq=False, repr=False)
class ModelSelection(Result):
    """Models compared by an information criterion.

    Attributes
    ----------
    effects : EffectSizes
        The effects that every model was fitted to: those with all candidates coded.
    candidates : tuple of str
    criterion, method : str
    level : float
    """

    effects: EffectSizes
    candidates: tuple[str, ...]
    criterion: Criterion
    method: Likelihood
    level: float
    notes: tuple[Note, ...]
    _table: pd.DataFrame
    _models: tuple[_Model, ...]

    @property
    def best(self) -> str:
        """Formula of the model with the lowest criterion."""
        return str(self._table.index[0])

    def tidy(self) -> pd.DataFrame:
        """Return one row per model, best first, unrounded.

        ``p`` coefficients, ``loglik``, the criterion, ``delta`` to the best, ``weight`` (of all models
        together 1), ``tau2``, and ``R2``, the share in percent of the heterogeneity without moderators.
        """
        return self._table.copy()

    @cached_property
    def importance(self) -> pd.Series[float]:
        """Sum of the weights of the models that hold each candidate, largest first."""
        weights = self._table["weight"].to_numpy()
        sums = {term: float(weights[[term in m.terms for m in self._models]].sum()) for term in self.candidates}
        return pd.Series(sums, name="importance", dtype=float).sort_values(ascending=False, kind="stable")

    def average(self) -> pd.DataFrame:
        """Return coefficients averaged over the models, one row per coefficient, on the analysis scale.

        ``estimate se ci_lb ci_ub`` are full averages: a model without the coefficient counts with 0.
        ``estimate_in se_in ci_lb_in ci_ub_in`` are conditional: over the models that hold it. ``weight`` is the
        sum of their weights and ``models`` their number.
        """
        names = list(dict.fromkeys(name for model in self._models for name in model.names))
        weights = self._table["weight"].to_numpy()
        half = critical_value(self.level, None)
        rows = {name: _averaged(name, self._models, weights, half) for name in names}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("term").astype({"models": int})

    def _values(self) -> dict[str, Any]:
        gone = NotApplicable(NO_R2 if self.method == "ML" else "an equal-effects model has no heterogeneity")
        models = [{**row, **({"R2": gone} if math.isnan(row["R2"]) else {})} for row in records_of(self._table)]
        return {
            "k": self.effects.k,
            **self._these("candidates", "criterion", "method", "level"),
            "models": [{"formula": f, **row} for f, row in zip(self._table.index, models, strict=True)],
            "average": records_of(self.average().reset_index()),
            "importance": self.importance.to_dict(),
        }

    def _content(self) -> Document:
        n = len(self._table)
        kinds: dict[str, Kind] = {"p": 0, **dict.fromkeys(("loglik", self.criterion, "delta", "weight"), 3)}
        average = dict.fromkeys(("estimate", "se", "ci_lb", "ci_ub", "weight"), 4)
        return self._document(
            f"{n} models of {self.effects.counted} by {self.criterion} ({self.method})",
            cut(table_of(self._table, {**kinds, "tau2": 4, "R2": 1}), SHOWN, "... and {left} more"),
            table_of(self.average(), average, f"Average over all models, {format_level(self.level)} intervals"),
            table_of(self.importance.to_frame(), {"importance": 3}, "Importance"),
        )


@dataclass(frozen=True, eq=False)
class _Model:
    terms: tuple[str, ...]
    formula: str
    names: tuple[str, ...]
    beta: Array
    se: Array
    loglik: float
    tau2: float
    converged: bool


def select_models(
    effects: EffectSizes,
    *,
    candidates: Sequence[str],
    always: Sequence[str] = (),
    method: Likelihood = "ML",
    criterion: Criterion = "AICc",
    level: float = 0.95,
) -> ModelSelection:
    r"""Fit every subset of candidate moderators, rank the models, and average over them.

    With several moderators and a few dozen studies no single model is clearly right. The weights say
    how much the data favour each, given the candidates; the averages allow for not knowing which one holds.
    This finds moderators worth studying. It does not confirm any: the p-values of a model that was chosen
    because it fits are too small.

    Parameters
    ----------
    effects : EffectSizes
        Effects that lack any candidate are left out of every model, so that all are fitted to the same ones.
    candidates : sequence of str
        Terms of a formula, at most 12: ``["rater", "center(year)", "rater:center(year)"]``. An interaction
        enters only together with those of its parts that are candidates too.
    always : sequence of str
        Terms that every model holds.
    method : {"ML", "EE"}
        Maximum likelihood; restricted likelihoods of models with different moderators cannot be compared.
    criterion : {"AICc", "AIC", "BIC"}
    level : float
        Confidence level of the averaged coefficients, a fraction.

    Returns
    -------
    ModelSelection
        ``.tidy()`` the models, ``.average()`` the coefficients, ``.importance`` the candidates.

    Raises
    ------
    InputError
        No candidates, more than 12, one twice, or one that is not a single term.
    DesignError
        An unknown moderator, or no effect with every candidate coded.

    Warns
    -----
    DroppedRowsWarning
        Effects without a value of some candidate are left out.

    Notes
    -----
    :math:`w_i = \exp(-\Delta_i / 2) / \sum_j \exp(-\Delta_j / 2)`; averages
    :math:`\bar\beta = \sum w_i \hat\beta_i` with the unconditional standard error
    :math:`\sum_i w_i \sqrt{\mathrm{var}_i + (\hat\beta_i - \bar\beta)^2}` (Burnham & Anderson 2002, Model
    Selection and Multimodel Inference, chapter 4), normal intervals. Models whose moderators repeat each other
    or that have too many coefficients for the criterion are left out, and a note counts them.
    R: ``glmulti`` with ``rma(..., method = "ML")``, or ``MuMIn::dredge``.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset
    >>> from alliance_meta.moderators import select_models
    >>> es = escalc(load_dataset("molloy2014"))
    >>> found = select_models(es, candidates=["design", "meanage", "quality"])
    >>> len(found.tidy()), found.best
    (8, '1')
    """
    check_option("method", method, Likelihood)
    check_option("criterion", criterion, Criterion)
    check_level(level)
    terms, factors = read_terms(candidates, always)
    kept, notes = complete_effects(effects, terms, factors)
    wanted = tuple(terms[len(always) :])
    subsets = all_subsets(tuple(terms[: len(always)]), wanted, factors)
    models, skipped = _fit_all(kept, subsets, terms, factors, method)
    usable = [m for m in models if _defined(m, kept.k, method, criterion)]
    if not usable:
        raise DesignError(f"k = {kept.k} effects are too few for any of these models")
    frame, order = _rank(usable, kept, method, criterion)
    notes += _notes(len(skipped), len(models) - len(usable), usable, frame, criterion, method)
    notes += [*_balance(wanted, usable), *dependence_notes(kept, stacklevel=4)]
    ranked = tuple(usable[i] for i in order)
    return ModelSelection(kept, wanted, criterion, method, level, tuple(notes), frame, ranked)


def _fit_all(
    effects: EffectSizes,
    subsets: list[tuple[str, ...]],
    terms: Sequence[str],
    factors: dict[str, frozenset[str]],
    method: Likelihood,
) -> tuple[list[_Model], list[tuple[str, ...]]]:
    whole = whole_design(effects, terms, factors)
    models, skipped = [], []
    for chosen in subsets:
        found = subset_columns(effects, chosen, whole)
        if found is None:
            skipped.append(chosen)
        else:
            models.append(_fit(effects, chosen, *found, method))
    return models, skipped


def _fit(effects: EffectSizes, chosen: tuple[str, ...], X: Array, names: tuple[str, ...], method: str) -> _Model:
    saturated = effects.k == X.shape[1]
    fit = _raw(effects, X, "EE" if saturated else method)
    return _Model(
        terms=chosen,
        formula=" + ".join(chosen) or "1",
        names=names,
        beta=fit.beta,
        se=np.sqrt(np.diag(fit.vb)),
        loglik=fit.loglik_ml,
        tau2=float(fit.tau2.tau2[0]),
        converged=bool(fit.tau2.converged[0]),
    )


def _raw(effects: EffectSizes, X: Array, method: str) -> UnivariateFit:
    return fit_univariate(effects.yi, effects.vi, X, method=method, test="z", level=0.95)


def _parameters(model: _Model, method: Likelihood) -> int:
    return len(model.beta) + (1 if method == "ML" else 0)


def _defined(model: _Model, k: int, method: Likelihood, criterion: Criterion) -> bool:
    spare = k - _parameters(model, method)
    return spare >= 2 if criterion == "AICc" else spare >= 0


def _value(model: _Model, k: int, method: Likelihood, criterion: Criterion) -> float:
    q = _parameters(model, method)
    penalty = {"AIC": 2.0 * q, "BIC": q * math.log(k), "AICc": 2.0 * q * k / max(k - q - 1.0, 1.0)}
    return -2.0 * model.loglik + penalty[criterion]


def _rank(
    models: list[_Model], effects: EffectSizes, method: Likelihood, criterion: Criterion
) -> tuple[pd.DataFrame, list[int]]:
    values = np.array([_value(model, effects.k, method, criterion) for model in models])
    order = sorted(range(len(models)), key=lambda i: (values[i], len(models[i].beta), models[i].formula))
    delta = values - values.min()
    weight = np.exp(-0.5 * delta)
    without = float(_raw(effects, np.ones((effects.k, 1)), method).tau2.tau2[0]) if effects.k > 1 else 0.0
    tau2 = np.array([model.tau2 for model in models])
    R2 = 100.0 * np.maximum(0.0, 1.0 - tau2 / without) if without > 0 else np.full(len(models), np.nan)
    frame = pd.DataFrame(
        {
            "p": [len(model.beta) for model in models],
            "loglik": [model.loglik for model in models],
            criterion: values,
            "delta": delta,
            "weight": weight / weight.sum(),
            "tau2": tau2,
            "R2": R2,
        },
        index=pd.Index([model.formula for model in models], name="model"),
    )
    return frame.iloc[order], order


def _averaged(name: str, models: Sequence[_Model], weights: Array, half: float) -> dict[str, float]:
    inside = np.array([name in model.names for model in models])
    at = [(m.beta[m.names.index(name)], m.se[m.names.index(name)]) if name in m.names else (0.0, 0.0) for m in models]
    beta, se = np.array(at).T
    total = float(weights[inside].sum())
    row: dict[str, float] = {}
    for suffix, share in (("", weights), ("_in", np.where(inside, weights, 0.0) / total)):
        mean = float(share @ beta)
        error = float(share @ np.sqrt(se**2 + (beta - mean) ** 2))
        values = {"estimate": mean, "se": error, "ci_lb": mean - half * error, "ci_ub": mean + half * error}
        row |= {column + suffix: value for column, value in values.items()}
    return {**row, "weight": total, "models": int(inside.sum())}


def _notes(
    redundant: int, large: int, models: list[_Model], frame: pd.DataFrame, criterion: str, method: str
) -> list[Note]:
    notes = [
        Note(
            "exploratory",
            f"{len(models)} models were tried on the same data: the best one's p-values and intervals are too "
            "optimistic. Report the search, not only its winner.",
        )
    ]
    if redundant:
        message = f"{redundant} models left out: some of their moderators repeat each other, or they have too many."
        notes.append(Note("models-redundant", message))
    if large:
        notes.append(Note("models-too-large", f"{large} models left out: too few effects for their {criterion}."))
    stuck = [model.formula for model in models if not model.converged]
    if stuck:
        notes.append(Note("not-converged", f"The search for tau2 had not settled in: {'; '.join(stuck)}."))
    if frame["R2"].isna().any():
        what = NO_R2[0].upper() + NO_R2[1:] if method == "ML" else "R2 is not defined under equal effects"
        notes.append(Note("R2-undefined", f"{what}."))
    return notes


def _balance(candidates: tuple[str, ...], models: list[_Model]) -> list[Note]:
    counts = {term: sum(term in model.terms for model in models) for term in candidates}
    if len(set(counts.values())) == 1:
        return []
    listed = ", ".join(f"{term}: {n}" for term, n in counts.items())
    message = f"The candidates are in unequally many models ({listed}); their importance cannot be compared directly."
    return [Note("importance-unbalanced", message)]
