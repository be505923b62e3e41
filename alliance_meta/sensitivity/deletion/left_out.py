"""The result without each effect or study, and the result of the effects so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray
from alliance_meta.core.resampling import Recipe
from alliance_meta.core.univariate.deletion import fit_subsets
from alliance_meta.effects.dependent.groups import numeric_column
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, check_cores, merge_notes
from alliance_meta.result import Result
from alliance_meta.results.fit import records_of
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.sensitivity.deletion.rows import check_known
from alliance_meta.sensitivity.deletion.without import OF_MODEL, Many, fits_of, of_subsets, read_units, without
from alliance_meta.sensitivity.refitting import coefficient, recipe
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import brief, format_level

Question = Literal["without", "up to"]
SHOWN = 5
MOST_LINES = 30
NO_R = "only a mean effect that is a correlation, or its Fisher z, can be read as r"
PER_TERM = {"estimate": "beta", "se": "se", "ci_lb": "ci_lb", "ci_ub": "ci_ub"}


@dataclass(frozen=True, eq=False, repr=False)
class Refits(Result):
    """One model fitted without each effect or study, or to the effects so far.

    Made by `leave_one_out` and `cumulative`.

    Attributes
    ----------
    fit : any fitted model
        The model of all effects.
    question : {"without", "up to"}
        What each row says: the result without what the label names, or the result up to it.
    by : str
        What is left out (``"effect"``, ``"study"``, a column), or what came one after the other is ordered by.
    labels : tuple of str
        One for each refit.
    """

    fit: Any
    question: Question
    by: str
    labels: tuple[str, ...]
    _many: Many
    notes: tuple[Note, ...] = ()

    def tidy(self, *, term: str | None = None) -> pd.DataFrame:
        """Return one row per refit, unrounded, on the analysis scale.

        Parameters
        ----------
        term : str, optional
            The coefficient to show; by default the first.

        Returns
        -------
        DataFrame
            ``label``, then ``estimate se ci_lb ci_ub`` of the coefficient, ``tau2 QE I2`` of the model, ``r`` (the
            estimate as a correlation), ``pval``, the prediction interval ``pi_lb pi_ub``, ``ddf``, ``k`` (effects
            used), and every variance and correlation of a multilevel model by its name. `NotApplicable` where
            something cannot be estimated.

        Raises
        ------
        InputError
            An unknown term.
        """
        many, fit = self._many, self.fit
        name = coefficient(fit.names, term)
        at = fit.names.index(name)
        one = {column: values[:, at] for column, values in many.terms.items()}
        columns: dict[str, Any] = {"label": list(self.labels)}
        columns |= {column: many.cells(column, one[source]) for column, source in PER_TERM.items()}
        columns |= {column: many.cells(column, many.model[column]) for column in ("tau2", "QE", "I2")}
        columns["r"] = self._r(one["beta"])
        columns["pval"] = many.cells("pval", one["pval"])
        columns |= {column: many.cells(column, many.model[column]) for column in ("pi_lb", "pi_ub")}
        columns["ddf"] = many.cells("ddf", one["ddf"])
        columns["k"] = many.k
        columns |= {own: many.cells(own, many.model[own]) for own in list(many.model)[len(OF_MODEL) :]}
        out = pd.DataFrame(columns)
        out.attrs.update(term=name, level=fit.level, scale=fit.effects.scale_label)
        return out

    @property
    def is_mean(self) -> bool:
        """The model has one coefficient, the mean effect."""
        return bool(self.fit.p == 1 and getattr(self.fit.design, "formula", "1") == "1")

    def _r(self, estimates: Array) -> Any:
        measure = self.fit.effects.measure
        known = self.is_mean and measure in ("ZCOR", "COR", "UCOR")
        values = np.tanh(estimates) if measure == "ZCOR" else estimates
        return self._many.cells("r", values if known else values * np.nan, None if known else NO_R)

    def span(self, *, term: str | None = None) -> pd.DataFrame:
        """Return how far each number moves: the value from all effects, the lowest and the highest of the refits.

        Parameters
        ----------
        term : str, optional

        Returns
        -------
        DataFrame
            One row each for ``estimate``, ``se``, ``pval`` and every variance and correlation: its value from all
            effects (``all``), the lowest and highest of the refits, and which they were (``lowest_at``,
            ``highest_at``).
        """
        frame, name = self.tidy(term=term), coefficient(self.fit.names, term)
        at, rows = self.fit.names.index(name), {}
        own = list(self._many.model)[len(OF_MODEL) :]
        for column in ["estimate", "se", "pval", "tau2", *own]:
            values = frame[column].to_numpy(dtype=float)
            if np.isnan(values).all():
                continue
            low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
            rows[column] = {
                "all": self._of_all(column, at),
                "lowest": float(values[low]),
                "lowest_at": self.labels[low],
                "highest": float(values[high]),
                "highest_at": self.labels[high],
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def _of_all(self, column: str, at: int) -> float:
        if column in PER_TERM or column == "pval":
            return float(np.asarray(getattr(self.fit, PER_TERM.get(column, column)))[at])
        if column == "tau2":
            return float(np.ravel(self.fit.tau2)[0])
        return float(self.fit.components["estimate"][column])

    def _values(self) -> dict[str, Any]:
        terms = {term: records_of(self.tidy(term=term)) for term in self.fit.names}
        return {"question": self.question, "by": self.by, "level": self.fit.level, "terms": terms}

    def _content(self) -> Document:
        kinds: dict[str, Kind] = {"estimate": 4, "ci_lb": 4, "ci_ub": 4, "pval": "p", "tau2": 4, "I2": 1}
        frame = self.tidy()
        intervals = f"{format_level(self.fit.level)} intervals"
        of = f"{self.fit.names[0]}, {self.fit.effects.scale_label}"
        if self.question == "up to":
            shown = frame.tail(MOST_LINES).set_index("label")
            many = len(frame) - len(shown)
            more = f", {many} earlier ones: tidy()" if many else ""
            title = f"Cumulative by {self.by} ({len(frame)} steps): {of}"
            return self._document(title, table_of(shown, {"k": 0, **kinds}, f"{intervals}{more}"))
        span: dict[str, Kind] = {"all": 4, "lowest": 4, "lowest_at": "s", "highest": 4, "highest_at": "s"}
        moved = (frame["estimate"].astype(float) - float(self.fit.beta[0])).abs()
        order = moved.sort_values(ascending=False, kind="stable").index[:SHOWN]
        heads = {"lowest_at": "without", "highest_at": "without"}
        return self._document(
            f"Without each of {len(self.labels)} ({self.by}): {of}",
            table_of(self.span(), span, heads=heads),
            table_of(frame.loc[order].set_index("label"), kinds, f"Largest moves of the estimate ({intervals})"),
        )


def leave_one_out(fit: Any, *, by: Any = None, cores: int = 1) -> Refits:
    """Fit the model again without each effect, study or sample, and see what changes.

    A conclusion that falls when one study is left out rests on that study. Of several effects from one study, leave out
    the study: without one of its effects it would still speak through the others.

    Parameters
    ----------
    fit : any fitted model
        Random-effects, location-scale, multilevel, robust variance estimation, cluster-robust, or Bayesian (exact).
    by : {"effect", "study"}, column or array-like of shape (k,), optional
        What is left out. By default studies where some have several effects, else effects.
    cores : int
        Processes, where the model must be fitted once for each; they do not change the result.

    Returns
    -------
    Refits
        ``tidy()``: ``label estimate se ci_lb ci_ub tau2 QE I2 r pval pi_lb pi_ub ddf k``, one row per unit left out;
        ``span()``: how far each number moves. ``plots.leave_one_out`` draws it.

    Raises
    ------
    InputError
        Another kind of result; a single unit, without which nothing is left.

    See Also
    --------
    influence : how hard each effect or study pulls.
    cumulative : the result of the effects so far.

    Notes
    -----
    Everything is estimated anew, by the estimator of the fit. Random-effects models by ML or REML cost little more than
    some fits, however many effects there are, because all they need are sums; multilevel models of random intercepts go
    through one search together. R: ``leave1out(fit)``, ``leave1out(fit, cluster = study)``; for ``rma.mv`` a loop of
    ``update(fit, subset = study != i)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), test="z").fit()
    >>> found = sensitivity.leave_one_out(fit)
    >>> found.tidy()[["label", "estimate", "tau2"]].head(2).round(4).values.tolist()
    [['Axelsson et al. 2009', 0.1483, 0.0091], ['Axelsson et al. 2011', 0.15, 0.01]]
    >>> found.span().loc["estimate", ["lowest", "highest"]].astype(float).round(4).tolist()
    [0.1353, 0.1647]
    """
    check_known(fit, "leave_one_out")
    check_cores(cores)
    units = read_units(fit.effects, by)
    many = without(fit, units, cores=cores)
    notes = merge_notes(fit.notes, lost_notes(units.labels, many))
    return Refits(fit, "without", units.name, units.labels, many, notes)


def lost_notes(labels: Sequence[str], many: Many) -> list[Note]:
    """Name what the model cannot be fitted without."""
    if not many.why:
        return []
    lost = [labels[i] for i in sorted(many.why)]
    reason = next(iter(many.why.values()))
    listed = f"{', '.join(lost[:SHOWN])}{' ...' if len(lost) > SHOWN else ''}"
    return [Note("needed", f"The model cannot be fitted without {listed}: {reason}.")]


def cumulative(fit: Any, *, order: Any = "year", collapse: bool | None = None, cores: int = 1) -> Refits:
    """Fit the model to the first effect, the first two, the first three, and so on.

    Ordered by year it shows what each year's synthesis would have said, and since when its answer stands; ordered by
    precision whether small studies move it.

    Parameters
    ----------
    fit : any fitted model
        As for `leave_one_out`.
    order : str or array-like of shape (k,)
        A column (``"-year"``: largest first), ``"precision"`` (smallest sampling variance first), ``"given"`` (the
        rows as they are), or one number per effect.
    collapse : bool, optional
        Add effects that are alike in what they are ordered by in one step; by default so for all but ``"given"`` and
        ``"precision"``, as one year's effects come together.
    cores : int
        As for `leave_one_out`.

    Returns
    -------
    Refits
        ``tidy()`` as `leave_one_out` has it, one row per step; the last step is the fit of all effects.

    Raises
    ------
    InputError
        Another kind of result, an unknown column, an effect without a value.

    See Also
    --------
    bayes.sequential : the same with priors, where looking again and again costs nothing.

    Notes
    -----
    Steps of so few effects that a coefficient cannot be estimated have the reason in place of numbers. Intervals of
    the steps are those of single analyses: whoever stops when one of them excludes 0 is wrong more often than they
    say. R: ``cumul(fit, order = year, collapse = TRUE)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> sensitivity.cumulative(fit).tidy()[["label", "k", "r"]].tail(2).round(3).values.tolist()
    [['2011', 15, 0.15], ['2012', 16, 0.149]]
    """
    check_known(fit, "cumulative")
    check_cores(cores)
    name, labels, steps = _steps(fit, order, collapse)
    if isinstance(fit, RandomEffectsResults) and (fit.method != "GENQM" or fit.settings.tau2 is not None):
        many = _prefixes(fit, steps)
    else:
        many = fits_of(fit, [np.sort(rows) for rows in _so_far(steps)], cores=cores)
    early = _early_notes(labels, many)
    return Refits(fit, "up to", name, tuple(labels), many, merge_notes(fit.notes, early))


def _so_far(steps: Sequence[IntArray]) -> Iterator[IntArray]:
    for i in range(len(steps)):
        yield np.concatenate(steps[: i + 1])


def _prefixes(fit: RandomEffectsResults, steps: Sequence[IntArray]) -> Many:
    step = np.empty(fit.k, dtype=np.intp)
    for number, rows in enumerate(steps):
        step[rows] = number
    own: Recipe = recipe(fit, "cumulative")
    found = fit_subsets(
        fit.effects.yi, fit.effects.vi, own, lambda at: (step <= np.arange(len(steps))[at][:, None]).astype(float),
        len(steps), weights=fit.fitted.own_weights,
    )  # fmt: skip
    return of_subsets(fit, found)


def _early_notes(labels: Sequence[str], many: Many) -> list[Note]:
    if not many.why:
        return []
    last = labels[max(many.why)]
    return [
        Note("too-few", f"{len(many.why)} of {len(labels)} steps, up to {last}, have too few effects to be fitted.")
    ]


def _steps(fit: Any, order: Any, collapse: bool | None) -> tuple[str, list[str], list[IntArray]]:
    """Return what the effects are ordered by, and label and rows of each step."""
    if collapse not in (None, True, False):
        raise InputError(f"collapse={collapse!r} must be True, False or None")
    effects = fit.effects
    columns = effects.moderators
    known = isinstance(order, str) and order in columns
    if isinstance(order, str) and order in ("given", "precision") and not known:
        values = np.arange(effects.k) if order == "given" else effects.vi
        name, together, falling = ("the order given", False, False) if order == "given" else ("precision", False, False)
    else:
        falling = isinstance(order, str) and order.startswith("-") and not known
        spec = order[1:] if falling else order
        values = numeric_column(effects, spec, "order")
        name, together = (spec if isinstance(spec, str) else "the values given"), True
    together = together if collapse is None else collapse
    ranks = np.argsort(-values if falling else values, kind="stable")
    if not together:
        return name, [str(effects.slab[i]) for i in ranks], [np.array([i]) for i in ranks]
    cuts = np.flatnonzero(np.diff(values[ranks]) != 0) + 1
    steps = np.split(ranks, cuts)
    return name, [_text(values[rows[0]]) for rows in steps], steps


def _text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else brief(value)
