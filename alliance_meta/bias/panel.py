"""`panel`: every method for a biased literature that suits the data, side by side, and what each takes for granted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bias.given import Adjusted
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Document, Table
from alliance_meta.tables.format import bare_p, fixed, fixed_interval, level_text

NUMBERS = ("estimate", "se", "ci_lb", "ci_ub", "pval")
AS_R = ("r", "r_lb", "r_ub")
UNCORRECTED = "uncorrected"
FEW = 10


@dataclass(frozen=True, slots=True, repr=False)
class BiasPanel(Result):
    """The mean effect as fitted and as each method for a biased literature has it.

    Attributes
    ----------
    k, studies : int
    level : float
        Confidence level of every interval, a fraction.
    measure : str
    frame : DataFrame
        What `tidy` returns.
    tests : DataFrame
        Tests and measures that give no mean: by name, ``label stat ddf pval says why``.
    notes : tuple of Note
        Those of the fit, then what single methods said, each after the method's label.
    """

    k: int
    studies: int
    level: float
    measure: str
    frame: pd.DataFrame
    tests: pd.DataFrame
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per method.

        Indexed by its name, ``label estimate se ci_lb ci_ub pval``, for Fisher z ``r r_lb r_ub``, then ``k studies
        assumes why``; ``why`` says why a method gives no number, and is empty where it does.
        """
        return self.frame.copy()

    def spread(self) -> str:
        """Say in words between which values the methods place the mean, and what that means."""
        point, lower, upper = AS_R if self.measure == "ZCOR" else ("estimate", "ci_lb", "ci_ub")
        found = self.frame[np.isfinite(self.frame[point].astype(float))].drop(index=UNCORRECTED, errors="ignore")
        if not len(found):
            return "No method applies to these data."
        low, high = (found.loc[found[point].astype(float).idxmin()], found.loc[found[point].astype(float).idxmax()])
        name = "r" if self.measure == "ZCOR" else "mean"
        away = sum(float(row[lower]) > 0.0 or float(row[upper]) < 0.0 for _, row in found.iterrows())
        own = float(self.frame.loc[UNCORRECTED, point])
        return (
            f"Uncorrected {name} = {fixed(own, 3)}; corrected it lies between {fixed(float(low[point]), 3)} "
            f"({low['label']}) and {fixed(float(high[point]), 3)} ({high['label']}), and {away} of {len(found)} intervals "
            "leave out 0. Each row is right only where what it assumes is; their spread is how far the answer "
            "rests on such assumptions, and none of them is a verdict."
        )

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        many = f"k = {self.k}" + (f" in {self.studies} studies" if self.studies < self.k else "")
        title = f"Methods for a biased literature ({many}; {level_text(self.level)})"
        gone = [
            f"{row['label']}: {row['why']}" for part in (self.frame, self.tests) for row in _rows(part) if row["why"]
        ]
        blocks = (_estimates(self), _tests(self), [self.spread()], _assumed(self.frame), gone and ["Not given:", *gone])
        return self._document(title, *(block for block in blocks if block))

    def _values(self) -> dict[str, Any]:
        named = {"k": self.k, "studies": self.studies, "level": self.level, "measure": self.measure}
        return {**named, "spread": self.spread(), "methods": _rows(self.frame), "tests": _rows(self.tests)}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    named = frame.reset_index().astype(object)
    return [dict(zip(named.columns, row, strict=True)) for row in named.itertuples(index=False, name=None)]


def _estimates(panel: BiasPanel) -> Table:
    point, *ends = AS_R if panel.measure == "ZCOR" else ("estimate", "ci_lb", "ci_ub")
    rows = [
        (row["label"], fixed(row[point], 3), fixed_interval(row[ends[0]], row[ends[1]], 3), bare_p(row["pval"]))
        for row in _rows(panel.frame)
        if not row["why"]
    ]
    return Table(
        ("", "r" if panel.measure == "ZCOR" else "estimate", f"{level_text(panel.level)} CI", "p"), tuple(rows)
    )


def _tests(panel: BiasPanel) -> Table:
    rows = [(row["label"], row["says"], bare_p(row["pval"])) for row in _rows(panel.tests) if not row["why"]]
    return Table(("", "", "p"), tuple(rows), "Tests and measures", words=(1,))


def _assumed(frame: pd.DataFrame) -> list[str]:
    return [f"{row['label']}: {row['assumes']}" for row in _rows(frame) if not row["why"]]


@dataclass(frozen=True)
class _Method:
    label: str
    run: Callable[[Any, float], Adjusted]


def _adjusted() -> Mapping[str, _Method]:
    """Return the methods that give a mean, worst case first."""
    from alliance_meta.bias import selection, worst_case

    step = selection.selmodel
    return {
        "worst_case": _Method("Worst case: only what is not affirmative", worst_case.worst_case),
    }


def panel(fit: Any, *, methods: Iterable[str] | None = None, level: float | None = None) -> BiasPanel: ...
