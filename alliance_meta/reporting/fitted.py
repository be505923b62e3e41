"""A declared analysis with its data and its fit: what every kind has alike, and what each kind says for itself."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from alliance_meta.errors import InputError
from alliance_meta.options import Measure
from alliance_meta.reporting.spec import Analysis, AnalysisKind, TableKind
from alliance_meta.reporting.writing import Quantity, quantity
from alliance_meta.tables.format import format_level

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.effects.table import EffectSizes

Put = Callable[[str, Any, str, str], None]

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, eq=False)
class Fitted(ABC):
    """A declared analysis with its data and its fit; each kind of analysis is a subclass.

    `whole` is the sheet and `table` the part of it that the analysis is of; `coded` are the effects before averaging,
    `effects` those that took part.
    """

    kind: ClassVar[AnalysisKind]
    # The keys of a declaration that this kind has and not every other.
    keys: ClassVar[tuple[str, ...]]
    # Key -> its spellings, for keys that kinds spell differently.
    options: ClassVar[Mapping[str, Any]] = {}
    # Key -> what stands for it where it was left out.
    usual: ClassVar[Mapping[str, Any]] = {}
    lowest_rho: ClassVar[float] = -1.0
    # The table that holds its coefficients, and the R package that fits the same.
    table_kind: ClassVar[TableKind] = "coefficients"
    package: ClassVar[str] = "metafor"

    spec: Analysis
    whole: CodedTable
    table: CodedTable
    coded: EffectSizes
    fit: Any

    @classmethod
    def defaults(cls, spec: Analysis) -> dict[str, Any]:
        """Return what stands for keys that were left out, given those that were not."""
        return dict(cls.usual)

    @classmethod
    @abstractmethod
    def depends(cls, spec: Analysis) -> bool:
        """Return whether something is said about effects of one study that depend on each other."""

    @classmethod
    @abstractmethod
    def problems(cls, spec: Analysis) -> Iterator[str]:
        """Yield what is wrong with the keys of this kind, those that would do nothing included."""

    @classmethod
    @abstractmethod
    def run(cls, spec: Analysis, effects: EffectSizes) -> Any:
        """Return the fit of the model to coded effects."""

    @abstractmethod
    def put_all(self, put: Put) -> None:
        """Add every number of the standard block, in reading order."""

    @abstractmethod
    def slopes(self) -> dict[str, Quantity]:
        """Return the coefficients of a meta-regression, for placeholders."""

    @abstractmethod
    def short_label(self) -> str:
        """Return the model of one row of a table in a few words."""

    @abstractmethod
    def prediction_rule(self) -> str:
        """Say how the prediction interval was made."""

    @abstractmethod
    def cited(self) -> dict[str, Any]:
        """Return the choices that have references, by the names that `citations.method_keys` reads."""

    def methods(self) -> str:
        """Return the sentences for a methods section."""
        return str(self.fit.methods_text())

    def r_code(self) -> str:
        """Return the R code of the model."""
        return str(self.fit.r_code())

    def profile(self, title: str) -> pd.DataFrame:
        """Return the frame of the profile of the likelihood."""
        raise InputError(f"figure='profile' shows a likelihood; an analysis of kind = {self.kind!r} has none")

    def under(self, spec: Analysis) -> Self:
        """Return the same effects under another declaration of the same kind."""
        return replace(self, spec=spec, fit=self.run(spec, self.coded))

    @property
    def effects(self) -> EffectSizes:
        """The effects that took part."""
        effects: EffectSizes = self.fit.effects
        return effects

    @property
    def dependent(self) -> bool:
        """Whether something is said about effects of one study that depend on each other."""
        return self.depends(self.spec)

    @property
    def on_r(self) -> bool:
        """Whether the effects are correlations, so that results can be read as r."""
        return self.effects.measure in get_args(Measure)

    @property
    def number(self) -> str:
        """The format of an effect on the model's scale."""
        return "r3" if self.effects.measure in ("COR", "UCOR") else "z"

    @property
    def level(self) -> str:
        """The level of its intervals in words."""
        return format_level(self.spec.level)

    @property
    def chosen(self) -> bool:
        """Whether the model was chosen for the data's dependence, because none was named."""
        return False

    @property
    def wald(self) -> Any:
        """The same model with normal intervals; None where there is none."""
        return None

    @property
    def components(self) -> list[dict[str, Any]]:
        """One record for each variance and correlation of a model with several; empty where τ² is all."""
        return []

    @property
    def varying(self) -> re.Pattern[str] | None:
        """What may differ between the methods of two fits that are told once; None where nothing may."""
        return _NUMBER if self.dependent else None

    @property
    def model(self) -> Any:
        """The model-based fit behind a cluster-robust one."""
        return self.fit if self.spec.robust is None else self.fit.fit

    @property
    def heading(self) -> str:
        """What a column of a table calls this analysis."""
        return self.spec.short or self.spec.label

    @cached_property
    def statistics(self) -> dict[str, Quantity]:
        """The standard block of numbers, by the name placeholders use, in reading order."""
        out: dict[str, Quantity] = {}

        def put(key: str, value: Any, kind: str, label: str) -> None:
            out[key] = quantity(value, kind, label)

        self.put_all(put)
        return out


def refused(check: Callable[..., object], *arguments: Any) -> Iterator[str]:
    """Yield what a check objects to."""
    try:
        check(*arguments)
    except InputError as error:
        yield str(error)
