"""`Fit`: the nouns that every fitted model answers to, with its predictions; a model defines those it has."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import mean_of_tanh, z_to_r
from alliance_meta.core.distributions import critical_value, critical_values
from alliance_meta.encoding import plain
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Scale, check_level
from alliance_meta.result import Result
from alliance_meta.tables.document import Document

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes


def tidy(fit: Any) -> pd.DataFrame:
    """Return one row per coefficient of any fitted model."""
    columns = {"estimate": fit.beta, **{name: getattr(fit, name) for name in TESTED}}
    out = pd.DataFrame(columns, index=pd.Index(fit.names, name="term"))
    out.attrs.update(scale=fit.effects.scale_label, level=fit.level)
    return out


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries that keep their `NotApplicable`s."""
    names = [str(name) for name in frame]
    return [dict(zip(names, row, strict=True)) for row in frame.astype(object).itertuples(index=False, name=None)]


def scale_of(effects: EffectSizes) -> dict[str, Any]:
    """Return what says on which scale effects are, and which way they point."""
    return {
        "measure": effects.measure,
        "vtype": effects.vtype,
        "scale": effects.scale_label,
        "direction": effects.direction,
    }


def predictions_of(fit: Any, scales: Sequence[Scale | None]) -> dict[str, dict[str, Any]]:
    """Return the predictions on each scale, by its name."""
    frames = [fit.predict(scale=scale) for scale in scales]
    return {frame.attrs["scale"]: {"label": list(frame.index), **columns_of(frame)} for frame in frames}


def residuals(fit: Any) -> dict[str, Array]:
    """Return the columns that the table of effects of every model has."""
    fitted = fit.design.X @ fit.beta
    return {"yi": fit.effects.yi, "vi": fit.effects.vi, "fitted": fitted, "resid": fit.effects.yi - fitted}


def information_criteria(fit: Any) -> dict[str, float]:
    """Return AIC, BIC and AICc as metafor counts them (k - p observations under REML)."""
    n = fit.k - fit.p if fit.method == "REML" else fit.k
    deviance, usable = -2.0 * fit.loglik, max(n, fit._parameters + 2)
    return {
        "AIC": deviance + 2.0 * fit._parameters,
        "BIC": deviance + fit._parameters * math.log(n) if n > 0 else NotApplicable("needs k > p"),
        "AICc": deviance + 2.0 * fit._parameters * usable / (usable - fit._parameters - 1.0),
    }


def one_row(values: Mapping[str, Any]) -> pd.DataFrame:
    """Return named values as a frame of one row."""
    return frame_of([dict(values)])


def frame_of(rows: Sequence[Mapping[str, Any]], index: Any = None) -> pd.DataFrame:
    """Return rows as a frame; a column of floats would turn the reason of a `NotApplicable` into a bare NaN."""
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        reasons = any(isinstance(value, NotApplicable) for value in values)
        columns[name] = pd.Series(values, index=index, dtype=object if reasons else None)
    return pd.DataFrame(columns)


def columns_of(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the columns of a table as lists; unlike ``to_dict`` of pandas it keeps a `NotApplicable` as it is."""
    return {str(name): list(table[name].array) for name in table.columns}


T = TypeVar("T")
Newdata = pd.DataFrame | Mapping[str, Any] | None
TESTED = ("se", "stat", "ddf", "pval", "ci_lb", "ci_ub")
# Variances that differ by less, relatively, are one and the same.
SAME = 1e-9
COLUMNS = ("pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub")
SCALE_LABELS = {
    "z": "Fisher z",
    "r": "r = tanh(z), the median true correlation",
    "r_mean": "mean true correlation, tanh averaged over the distribution of effects",
    "analysis": "analysis scale",
}


def rows_to_predict(fit: Any, newdata: pd.DataFrame | Mapping[str, Any] | None) -> tuple[Array, list[str]]:
    """Return the rows to predict for (m, p) and their labels: new data, the mean effect, or the model's own rows."""
    if newdata is not None:
        rows: tuple[Array, list[str]] = fit.design.new_rows(newdata)
        return rows
    if fit.design.formula == "1":
        return np.ones((1, 1)), ["mean effect"]
    return fit.design.X, list(fit.effects.slab)


def predict_rows(
    X: Array, *, beta: Array, vb: Array, tau2: float, df: float | None, level: float, random: bool
) -> pd.DataFrame:
    """Return fitted values of the rows X (m, p) with both intervals, on the analysis scale.

    The prediction interval is pred -+ c * sqrt(se^2 + tau2), with c from t(df) or the normal
    (Higgins, Thompson & Spiegelhalter 2009, doi:10.1111/j.1467-985X.2008.00552.x);
    it is absent (NaN) when the model has no random effects (`random` False).
    """
    pred = X @ beta
    se = np.sqrt(np.einsum("mp,pq,mq->m", X, vb, X))
    half = critical_value(level, df)
    spread = np.sqrt(se**2 + tau2) if random else np.full(len(pred), np.nan)
    return both_intervals(pred, se, half, half * spread)


def both_intervals(pred: Array, se: Array, half: Any, spread: Array) -> pd.DataFrame:
    """Return predictions with confidence limits pred -+ half se and prediction limits pred -+ spread."""
    values = (pred, se, pred - half * se, pred + half * se, pred - spread, pred + spread)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def predict_linear(fit: Any, X: Array, *, scale: str | None, level: float) -> pd.DataFrame:
    """Return the predictions of rows X (m, p), each with its own degrees of freedom, on the scale asked for.

    A row may be an average of rows of the design. The prediction interval is NaN where the model leaves the variance
    of a new effect open, and ``.attrs["pi_note"]`` says why.
    """
    variance = fit.new_variance
    if scale == "r_mean" and variance != variance:
        raise InputError(f"scale='r_mean' averages over the distribution of effects: {variance.reason}")
    # Robust variances of what clusters agree on exactly are 0 up to rounding.
    pred, se = X @ fit.beta, np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", X, fit.vb, X), 0.0))
    half = critical_values(level, fit.row_ddf(X))
    frame = both_intervals(pred, np.where(np.isnan(half), np.nan, se), half, half * np.sqrt(se**2 + variance))
    out = to_scale(frame, measure=fit.effects.measure, scale=scale, tau2=float(variance))
    out.attrs.update(level=level, **({"pi_note": variance.reason} if variance != variance else {}))
    return out


def to_scale(frame: pd.DataFrame, *, measure: str, scale: str | None, tau2: float | Array) -> pd.DataFrame:
    """Put predictions on the scale asked for and write its name into ``frame.attrs``.

    `tau2` is the variance of true effects, one for all rows or one for each. On the r scales the standard error is the
    delta-method one, (1 - r^2) se; intervals are transformed, never rebuilt from it.
    """
    own = "z" if measure == "ZCOR" else "r" if measure in ("COR", "UCOR") else "analysis"
    wanted = scale or own
    out = frame.copy()
    if wanted != own:
        if own != "z" or wanted not in ("r", "r_mean"):
            raise InputError(_no_such_scale(measure, own, wanted))
        points = ["pred", "ci_lb", "ci_ub"]
        transform = z_to_r if wanted == "r" else partial(_mean_of_tanh, tau2=np.atleast_1d(tau2))
        for name in points:
            out[name] = transform(frame[name].to_numpy())
        for name in ("pi_lb", "pi_ub"):
            out[name] = z_to_r(frame[name].to_numpy())
        out["se"] = frame["se"] * (1.0 - np.tanh(frame["pred"]) ** 2)
    out.attrs.update(scale=wanted, scale_label=SCALE_LABELS[wanted])
    return out


def _mean_of_tanh(z: Array, *, tau2: Array) -> Array:
    if tau2.size == 1 or np.ptp(tau2) <= SAME * np.max(tau2):
        return mean_of_tanh(z, float(tau2[0]))
    return np.concatenate([mean_of_tanh(z[i : i + 1], float(t)) for i, t in enumerate(tau2)])


def _no_such_scale(measure: str, own: str, wanted: str) -> str:
    if wanted not in SCALE_LABELS:
        return f"scale={wanted!r} is not one of 'z', 'r', 'r_mean'"
    if measure in ("COR", "UCOR"):
        return f"scale={wanted!r}: the model was fitted on raw r ({measure}); refit with measure='ZCOR'"
    if own == "z":
        return f"scale={wanted!r} is not defined for Fisher z; use 'z', 'r' or 'r_mean'"
    return f"scale={wanted!r} needs Fisher z effects; these are {measure!r}. Give measure='ZCOR' if they are Fisher z"


def with_moderators(fit: Any) -> str:
    """Return the words of a methods sentence that name the moderators."""
    return f" with the moderators {fit.design.formula}" if fit.design.formula != "1" else ""


# What some models have and others lack: numbers are then not applicable, questions are refused.
NUMBERS = (
    "beta", "se", "stat", "ddf", "pval", "ci_lb", "ci_ub", "vb", "tau2", "tau", "se_tau2", "sigma2", "I2", "H2", "R2",
    "QE", "QEdf", "QEp", "QM", "QMdf", "QMp", "loglik",
)  # fmt: skip
QUESTIONS = ("predict", "robust", "test", "blup", "confint_tau2")


class Fit(Result):
    """The base of every fitted model.

    Numbers of other models that mean nothing here are `NotApplicable` and questions are refused with an `InputError`;
    both say why in one sentence.
    """

    # What the model is called in a sentence, and why it lacks what others have.
    called: ClassVar[str] = "this model"
    lacks: ClassVar[Mapping[str, str]] = {}
    # The modules that put it into words (document, methods, r_code) and into tables (tidy, glance, to_dict).
    _words: ModuleType | None = None
    _tables: ModuleType | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficient names, (p,); ``mu`` for a model of nothing but a mean effect."""
        return ("mu",)

    if TYPE_CHECKING:

        @property
        def effects(self) -> EffectSizes:
            """The effects that took part."""

        @property
        def level(self) -> float:
            """Confidence level of every interval, a fraction."""

        @property
        def beta(self) -> Array:
            """Coefficients on the analysis scale, (p,)."""

        @property
        def vb(self) -> Array:
            """Covariance of the coefficients, (p, p)."""

        @property
        def tau2(self) -> Any:
            """Variance of true effects on the analysis scale; of a location-scale model one for each effect."""

    @property
    def k(self) -> int:
        """Number of effects in the model."""
        return self.effects.k

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.names)

    @property
    def model_label(self) -> str:
        """A short name of the model, for labels."""
        return self.called

    def tidy(self) -> pd.DataFrame:
        """Return one row per coefficient, unrounded."""
        table: pd.DataFrame = self._by("tidy", self._tables)
        return table

    def glance(self) -> pd.DataFrame:
        """Return one row with the model's statistics, unrounded."""
        return one_row(self._by("statistics", self._tables))

    def augment(self) -> pd.DataFrame:
        """Return one row per effect: the data with what the model says of each, unrounded."""
        table: pd.DataFrame = self._by("augment", self._tables)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return every number and setting as JSON-ready values; `NotApplicable` becomes its reason."""
        values: dict[str, Any] = self._by("to_dict", self._tables)
        last = {name: values.pop(name) for name in ("provenance", "fit") if name in values}
        return dict(plain({**values, "notes": [note.to_dict() for note in self.notes], **last}))

    def _content(self) -> Document:
        document: Document = self._by("document", self._words)
        return document

    def methods_text(self) -> str:
        """Return the sentences for a methods section, made from the settings of this fit."""
        return str(self._by("methods", self._words))

    def r_code(self) -> str:
        """Return the R code that fits the same model, as far as R can."""
        return str(self._by("r_code", self._words))

    def why_not(self, noun: str) -> str:
        """Return one sentence on why the model has no such number, or cannot answer such a question."""
        reason = self.lacks.get(noun)
        return f"{self.called} has no {noun}" + (f": {reason}" if reason else "")

    def predicted(self, X: Array, *, scale: Scale | None, level: float) -> pd.DataFrame:
        """Return the predictions for rows of the design, or for averages of rows, (m, p)."""
        return predict_linear(self, X, scale=scale, level=level)

    @property
    def new_variance(self) -> float:
        """Variance of a new true effect around its mean; `NotApplicable` where that differs between effects."""
        variance: float = self.tau2
        return variance

    def row_ddf(self, X: Array) -> Array:
        """Return the degrees of freedom of the t statistic of each combination of coefficients X (m, p)."""
        raise InputError(self.why_not("t test of its coefficients"))

    def _by(self, noun: str, module: ModuleType | None, *more: Any) -> Any:
        """Return what the function of this name in a module of the family makes of the fit."""
        home = module or sys.modules[type(self).__module__]
        if not hasattr(home, noun):
            raise InputError(self.why_not(noun))
        return getattr(home, noun)(self, *more)

    def _level(self, level: float | None) -> float:
        used = self.level if level is None else level
        check_level(used)
        return used


class Noun(property, Generic[T]):
    """A noun that an attribute answers: where it stands, ``"fitted.tau2"``, and what it is."""

    def __init__(self, path: str, doc: str) -> None:
        super().__init__(attrgetter(path))
        self.__doc__ = doc

    if TYPE_CHECKING:

        def __get__(self, fit: Any, owner: type | None = None, /) -> T: ...  # type: ignore[override]


class _Number:
    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, fit: Fit | None, owner: type) -> NotApplicable:
        if fit is None:  # a dataclass with a field of this name must not take this for its default
            raise AttributeError(self.name)
        return NotApplicable(fit.why_not(self.name))


def _refuse(name: str) -> Any:
    def question(self: Fit, *args: Any, **options: Any) -> Any:
        raise InputError(self.why_not(name))

    question.__doc__ = "Say in one sentence why this model cannot answer."
    return question


for _name in NUMBERS:
    setattr(Fit, _name, _Number(_name))
for _name in QUESTIONS:
    setattr(Fit, _name, _refuse(_name))
