"""What methods are given: effects, studies, the direction that is favoured; and what an estimate has."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray
from alliance_meta.effects.contract.schema import FALSE, TRUE
from alliance_meta.effects.dependent.aggregate import aggregate
from alliance_meta.effects.dependent.groups import grouping
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.studies import STUDY
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DependenceWarning, InputError
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import NotApplicable, Note, check_option, warn_note
from alliance_meta.result import Result
from alliance_meta.results.fit import Fit, Noun, frame_of
from alliance_meta.results.robust import RobustResults
from alliance_meta.results.rve import RVEResults
from alliance_meta.tables.document import Document, Kind, table_of
from alliance_meta.tables.format import format_level

FOCAL = "focal"


@dataclass(frozen=True, eq=False)
class Given:
    """The effects of a fit, as arrays."""

    fit: Fit
    cluster: IntArray  # (k,): the study of each effect, numbered from 0
    level: float
    by: Any  # the column that tells studies, or k labels

    effects = Noun[EffectSizes]("fit.effects", "The effects that took part in the fit.")
    yi = Noun[Array]("effects.yi", "Effects, (k,).")
    vi = Noun[Array]("effects.vi", "Sampling variances, (k,).")

    @cached_property
    def sei(self) -> Array:
        """Standard errors, (k,)."""
        return np.sqrt(self.vi)

    k = Noun[int]("effects.k", "Number of effects.")

    @property
    def studies(self) -> int:
        """Number of studies."""
        return int(self.cluster.max()) + 1

    @property
    def dependent(self) -> bool:
        """Tell whether some study has several effects."""
        return self.studies < self.k

    @cached_property
    def sign(self) -> float:
        """1 where the mean effect is positive (or 0), else -1: the direction that is likely to be favoured."""
        weights = 1.0 / self.vi
        return -1.0 if float(weights @ self.yi) < 0.0 else 1.0

    @cached_property
    def focal(self) -> pd.Series | None:
        """Whether each effect was what its paper set out to test, by the column ``focal``: True, False, or missing.

        None where the sheet has no such column, or nothing in it.
        """
        frame = self.effects.moderators
        if FOCAL not in frame:
            return None
        words = frame[FOCAL].astype("string").str.strip().str.lower().str.removesuffix(".0")
        strange = sorted(set(words.dropna()) - {*TRUE, *FALSE, ""})
        if strange:
            raise InputError(f"column focal: {strange[0]!r} is neither yes nor no")
        said = pd.Series(pd.NA, index=words.index, dtype="boolean")
        said = said.mask(words.isin(TRUE), other=True).mask(words.isin(FALSE), other=False)
        return None if said.isna().all() else said


def given(fit: Any, who: str, *, cluster: Any = STUDY, level: float | None = None, moderators: bool = False) -> Given:
    """Return what a fit rests on, or refuse what is no fit, and, unless they are allowed, moderators."""
    if not isinstance(fit, Fit):
        raise InputError(f"{who} needs a fitted model, not {type(fit).__name__}; call .fit() first")
    design = getattr(fit, "design", None)
    if not moderators and design is not None and design.formula != "1":
        raise InputError(f"{who} is defined for models without moderators; fit with mods='1'")
    return Given(fit, grouping(fit.effects, cluster, "cluster").codes, fit._level(level), cluster)


def study_means(found: Given, rho: float | None = None) -> EffectSizes:
    """Average the effects of each study, their sampling errors correlated as the model takes them or by `rho`."""
    model: Any = found.fit.fit if isinstance(found.fit, RobustResults) else found.fit
    V = getattr(model, "V", None)
    if rho is None and V is not None:
        return aggregate(found.effects, V=V)
    known = isinstance(model, RVEResults) and model.working_model == "CORR"
    return aggregate(found.effects, rho=rho if rho is not None else model.rho if known else DEFAULT_RHO)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class OfStudies(Result):
    """An answer that rests on effects of studies, and is itself what its fields are.

    Attributes
    ----------
    k, studies : int
        Effects and studies it rests on.
    provenance : Provenance
    """

    k: int
    studies: int
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    @property
    def _many(self) -> str:
        return f"k = {self.k}" + (f" in {self.studies} studies" if self.studies < self.k else "")

    def _values(self) -> dict[str, Any]:
        hidden = ("notes", "provenance", "table")
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in hidden}


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Adjusted(OfStudies):
    """An estimate of the mean effect that allows for some kind of bias, on the analysis scale.

    Attributes
    ----------
    estimate, se, ci_lb, ci_ub, pval : float
        The adjusted mean, its standard error, interval and p-value; `NotApplicable` where there is none.
    level : float
        Confidence level, a fraction.
    measure : str
        What the effects are; Fisher z is also given as r.
    """

    # What it is called in a table, and what it takes for granted, each in a few words.
    called: ClassVar[str] = ""
    assumes: ClassVar[str] = ""

    estimate: float
    se: float
    ci_lb: float
    ci_ub: float
    pval: float
    level: float
    measure: str

    @property
    def on_r(self) -> tuple[float, float, float]:
        """The estimate and its limits as correlations where the effects are Fisher z; else as they are."""
        values = self.estimate, self.ci_lb, self.ci_ub
        if self.measure != "ZCOR":
            return values
        r, lower, upper = (one if math.isnan(one) else math.tanh(one) for one in values)
        return r, lower, upper

    def tidy(self) -> pd.DataFrame:
        """Return one row: ``estimate se ci_lb ci_ub pval``, and ``r r_lb r_ub`` where the effects are Fisher z."""
        return frame_of([self._row()], [self.called])

    def _row(self) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(self, name) for name in ("estimate", "se", "ci_lb", "ci_ub", "pval")}
        if self.measure == "ZCOR":
            row |= dict(zip(("r", "r_lb", "r_ub"), self.on_r, strict=True))
        return row

    def _title(self) -> str:
        return f"{self.called} ({self._many}; {format_level(self.level)})"

    def _content(self) -> Document:
        kinds: dict[str, Kind] = {name: "p" if name == "pval" else 4 for name in self._row()}
        return self._document(self._title(), table_of(self.tidy(), kinds), lines=self._reasons())

    def _reasons(self) -> tuple[str, ...]:
        """Return why numbers do not exist, each reason once."""
        values = (self.estimate, self.se, self.ci_lb, self.ci_ub, self.pval)
        return tuple(dict.fromkeys(f"Not applicable: {one.reason}" for one in values if isinstance(one, NotApplicable)))


Side = Literal["right", "left"]
FEW = 10


def sign_of(source: Given, side: Side | None) -> float:
    """Return 1 where positive results are favoured, else -1; by default the sign of the mean."""
    if side is None:
        return source.sign
    check_option("side", side, Side)
    return 1.0 if side == "right" else -1.0


def side_of(sign: float) -> Side:
    """Return the name of a direction."""
    return "right" if sign > 0 else "left"


def check_alpha(alpha: float) -> None:
    """Raise an `InputError` unless a two-sided level of significance makes sense."""
    if not 0.0 < alpha < 0.5:
        raise InputError(f"alpha={alpha!r} is the two-sided level of significance of the studies, between 0 and 0.5")


def as_independent(source: Given, who: str, *, stacklevel: int = 4) -> tuple[Note, ...]:
    """Warn, and return the note, where a method is about to take several effects of one study as independent."""
    if not source.dependent:
        return ()
    message = (
        f"{who} took {source.k} effects from {source.studies} studies as independent: what one study says several "
        "times counts several times. Make one effect of each study with aggregate or select_effects."
    )
    return (warn_note("dependence-ignored", message, DependenceWarning, stacklevel=stacklevel),)


def check_finite(**values: float) -> None:
    """Raise an `InputError` unless each of these values, on the analysis scale, is finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"{name}={value!r} must be a finite value on the analysis scale")


def few_effects(k: int, who: str, what: str = "Effects") -> tuple[Note, ...]:
    """Return the note on fewer than ten effects."""
    if not 0 < k < FEW:
        return ()
    return (Note("few-effects", f"{what}: {k}. With fewer than {FEW}, {who} says little."),)
