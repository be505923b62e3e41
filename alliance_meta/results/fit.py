"""`Fit`: the nouns that every fitted model answers to; a model defines those that have a meaning for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Scale, check_level
from alliance_meta.result import Result
from alliance_meta.results.export import one_row
from alliance_meta.results.predictions import predict_linear
from alliance_meta.tables.document import Document

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

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
        return values

    def document(self) -> Document:
        """Return what the fit says, as data that can be written in several ways."""
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
