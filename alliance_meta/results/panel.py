"""`Panel`: the same mean effect in several ways, a row each, with the reason where a way gives none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Table
from alliance_meta.tables.format import bare_p, fixed, fixed_interval, format_level

NUMBERS = ("estimate", "se", "ci_lb", "ci_ub", "pval")
AS_R = ("r", "r_lb", "r_ub")


def on_r(numbers: Mapping[str, Any], measure: str, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return Fisher z as correlations: the estimate and its limits, or new names with the old; nothing of others."""
    if measure != "ZCOR":
        return {}
    pairs = dict(zip(AS_R, ("estimate", "ci_lb", "ci_ub"), strict=True)) if names is None else names
    return {name: z if math.isnan(z := numbers[own]) else math.tanh(z) for name, own in pairs.items()}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows with their index, as dictionaries that keep their `NotApplicable`s."""
    named = frame.reset_index().astype(object)
    return [dict(zip(named.columns, row, strict=True)) for row in named.itertuples(index=False, name=None)]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Panel(Result):
    """The mean effect in several ways."""

    # What it is called in a sentence; nothing where a class is only a base.
    called: ClassVar[str] = ""

    k: int
    studies: int
    level: float  # confidence level of every interval, a fraction
    measure: str
    # One row per way: ``label``, `NUMBERS`, for Fisher z `AS_R`, ``why``, and what a kind of panel adds.
    frame: pd.DataFrame
    provenance: Provenance
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per way, indexed by its key; ``why`` says why it gives no number, and is empty where it does.

        ``estimate se ci_lb ci_ub pval`` are on the analysis scale, ``r r_lb r_ub`` Fisher z as correlations.
        """
        return self.frame.copy()

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries that keep their `NotApplicable`s."""
        return records(self.frame)

    @property
    def name(self) -> str:
        """What the mean is called in a sentence."""
        return "r" if self.measure == "ZCOR" else "mean"

    @property
    def point(self) -> str:
        """The column that a reader is shown the mean from."""
        return "r" if self.measure == "ZCOR" else "estimate"

    @property
    def limits(self) -> tuple[str, str]:
        """The columns of its interval."""
        return ("r_lb", "r_ub") if self.measure == "ZCOR" else ("ci_lb", "ci_ub")

    @property
    def counted(self) -> str:
        """How many effects and studies there are, and the level, in brackets."""
        many = f"k = {self.k}" + (f" in {self.studies} studies" if self.studies < self.k else "")
        return f"({many}; {format_level(self.level)})"

    def between(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Say between which values rows that give a mean place it, and how many intervals leave out 0."""
        lower, upper = self.limits
        found = sorted(rows, key=lambda row: float(row[self.point]))
        low, high = found[0], found[-1]
        away = sum(float(row[lower]) > 0.0 or float(row[upper]) < 0.0 for row in found)
        ends = [f"{fixed(row[self.point], 3)} ({row['label']})" for row in (low, high)]
        return f"between {ends[0]} and {ends[1]}, and {away} of {len(found)} intervals leave out 0"

    def estimates(self, rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
        """Return the estimates of rows that give a mean, as a table for readers."""
        lower, upper = self.limits
        cells = [
            (row["label"], fixed(row[self.point], 3), fixed_interval(row[lower], row[upper], 3), bare_p(row["pval"]))
            for row in rows
        ]
        return Table(("", self.point, f"{format_level(self.level)} CI", "p"), tuple(cells), caption)

    def reasons(self, *others: pd.DataFrame) -> list[str]:
        """Return why rows, also of `others`, give nothing: each reason once, after the labels of those that give it."""
        labels: dict[str, list[str]] = {}
        for row in (one for frame in (self.frame, *others) for one in records(frame) if one["why"]):
            labels.setdefault(row["why"], []).append(row["label"])
        return [f"{'; '.join(who)}: {why}" for why, who in labels.items()]

    def without_interval(self) -> list[str]:
        """Return why rows that give a mean give no interval: each reason once, after their labels."""
        labels: dict[str, list[str]] = {}
        for row in (one for one in self.rows() if not one["why"]):
            reasons = [one.reason for one in (row["ci_lb"], row["ci_ub"]) if isinstance(one, NotApplicable)]
            if reasons:
                labels.setdefault(reasons[0], []).append(row["label"])
        return [f"{'; '.join(who)}: {why}" for why, who in labels.items()]

    def not_given(self, *others: pd.DataFrame) -> list[str]:
        """Return the same under a heading; nothing where every row gives a mean."""
        reasons = self.reasons(*others)
        return ["Not given:", *reasons] if reasons else []
