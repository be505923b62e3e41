"""The rules a coding sheet must keep, or its numbers would be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.sheet.columns import SPREADSHEET_ERRORS, DecimalMark, ParsedColumn
from alliance_meta.effects.sheet.findings import Findings, declare_missing, why_not_a_number, why_not_r
from alliance_meta.effects.sheet.naming import Finished
from alliance_meta.effects.sizes import LEAST_N, MOST_N, WHY_LEAST_N
from alliance_meta.effects.studies import (
    NO_STUDY_COLUMN,
    StudyColumns,
    empty_labels,
    fill_down,
    find_columns,
    looks_filled_down,
    study_keys,
    yearless,
)

SMALL_N = 10
MOST_STUDIES = 0.75
LARGE_R = 0.9
WHAT = {"vi": "sampling variance", "sei": "standard error"}
SECOND_HEADER = 2


@dataclass(frozen=True)
class ParsedSheet:
    """A sheet whose columns have been read as numbers or text.

    `r` and `n` are the names of those columns; `finished` those of effects and their variances (or standard errors)
    in a sheet that has them instead; `study` is the column that the user named as the study.
    """

    source: str
    lines: tuple[int, ...]
    columns: dict[str, ParsedColumn] = field(repr=False)
    r: str
    n: str
    mark: DecimalMark
    measure: str
    finished: Finished | None = None
    study: str | None = None

    @property
    def keys(self) -> tuple[str, str]:
        """The two columns without which a row says nothing."""
        return (self.finished.yi, self.finished.second) if self.finished else (self.r, self.n)

    @cached_property
    def places(self) -> StudyColumns:
        """The columns that tell studies and samples apart; an empty one tells nothing."""
        return find_columns((n for n, column in self.columns.items() if not all(column.missing)), study=self.study)

    @cached_property
    def usable(self) -> Mask:
        """Rows that hold an effect, or another statistic of which `convert` makes one; all, if no column has them."""
        if not {*self.keys, "es_type"} & self.columns.keys():
            return np.ones(len(self.lines), dtype=bool)
        first, second = map(self.numbers, self.keys)
        other = self.columns.get("es_type")
        return (np.isfinite(first) & np.isfinite(second)) | (
            np.zeros(len(self.lines), dtype=bool) if other is None else ~np.array(other.missing, dtype=bool)
        )

    @cached_property
    def study_labels(self) -> list[str] | None:
        """The study of each row as it stands in the sheet, empty where it is; None without such a column."""
        return None if self.places.study is None else self.texts(self.places.study)

    @cached_property
    def study_keys(self) -> tuple[str, ...]:
        """The study of each row as models have it: of `study_keys`; a row without a label is its own."""
        labels = self.study_labels or [""] * len(self.lines)
        labels = fill_down(labels) if looks_filled_down(labels) else labels
        year = self.places.separating
        alone = [label or f"\0{line}" for label, line in zip(labels, self.lines, strict=True)]
        return study_keys(alone, None if year is None else self.texts(year))

    def texts(self, name: str) -> list[str]:
        """Return a column as text, empty where it is missing."""
        column = self.columns[name]
        return ["" if gone else cell for cell, gone in zip(column.cells, column.missing, strict=True)]

    def numbers(self, name: str) -> Array:
        """Return a column of numbers, NaN where there is none and when the column is lacking."""
        values = self.columns[name].values if name in self.columns else None
        return np.array([np.nan if value is None else value for value in values or [None] * len(self.lines)])


def check_sheet(sheet: ParsedSheet, found: Findings) -> None:
    """Apply every rule; what is wrong goes into `found`."""
    for rule in RULES:
        rule(sheet, found)


def _cells_are_numbers(sheet: ParsedSheet, found: Findings) -> None:
    """Report cells that should be numbers: errors in the columns of the effects, for the others only shown."""
    used = [column for column in sheet.columns.values() if column.values is not None]
    if _second_header(sheet, used, found):
        used = [replace(column, strays=tuple(i for i in column.strays if i)) for column in used]
    for column in used:
        for i in column.strays:
            text = column.cells[i]
            message = why_not_a_number(text, sheet.mark, is_r=column.name == sheet.r)
            found.error(sheet.lines[i], column.label, text, message, kind="not-a-number")
    for column in sheet.columns.values():
        filled = len(column.cells) - sum(column.missing)
        for i in column.strays if column.values is None else ():
            text = column.cells[i]
            message = (
                f"{why_not_a_number(text, sheet.mark, is_r=False)} ({filled - len(column.strays)} of {filled} cells in "
                "this column are numbers; it is read as text, and the cell must be mended where the column is used)"
            )
            if column.name != "year" and CONTRACT.column(column.name):
                found.departure(sheet.lines[i], column.label, text, message, kind="text-among-numbers")
            else:
                found.suspicion(sheet.lines[i], column.label, text, message, kind="text-among-numbers")


def _second_header(sheet: ParsedSheet, used: Sequence[ParsedColumn], found: Findings) -> bool:
    """Say in one line that the first row of data is a second row of names or units."""
    words = [column.cells[0] for column in used if column.strays == (0,)]
    if len(words) < SECOND_HEADER or len(words) < len([column for column in used if column.strays]):
        return False
    listed = ", ".join(map(repr, words))
    message = f"this reads like a second row of names ({listed}); delete it"
    found.error(sheet.lines[0], None, None, message, kind="second-header")
    return True


def _no_spreadsheet_errors_in_text(sheet: ParsedSheet, found: Findings) -> None:
    for column in sheet.columns.values():
        if column.values is None and not SPREADSHEET_ERRORS.isdisjoint(column.cells):
            for i in where(cell in SPREADSHEET_ERRORS for cell in column.cells):
                text = column.cells[i]
                message = f"{text!r} is a spreadsheet's error; correct its formula or leave the cell empty"
                found.suspicion(sheet.lines[i], column.label, text, message, kind="spreadsheet-error")


def _r_in_range(sheet: ParsedSheet, found: Findings) -> None:
    column, r = sheet.columns.get(sheet.r), sheet.numbers(sheet.r)
    if column is None:
        return
    for i in np.flatnonzero(np.abs(r) >= 1):
        text = column.cells[i]
        found.error(sheet.lines[i], column.label, text, why_not_r(float(r[i]), text, sheet.mark), kind="r-range")
    for i in np.flatnonzero((np.abs(r) > LARGE_R) & (np.abs(r) < 1)):
        message = f"|r| > {LARGE_R:g} is rare between two different measures; check the paper"
        found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="r-large")


def _n_fits(sheet: ParsedSheet, found: Findings) -> None:
    column, n = sheet.columns.get(sheet.n), sheet.numbers(sheet.n)
    # Beside finished effects n is used only where their variance comes from it.
    if column is None or (sheet.finished is not None and sheet.finished.kind != "ni"):
        return
    least = LEAST_N[sheet.measure]
    whole = n == np.round(n)
    for i in np.flatnonzero(np.isfinite(n) & ~whole):
        text = column.cells[i]
        message = f"{text} is not a whole number of people; write the n this r was computed from"
        found.error(sheet.lines[i], column.label, text, message, kind="n-whole")
    for i in np.flatnonzero(n > MOST_N):
        found.error(sheet.lines[i], column.label, column.cells[i], "so many people are not possible", kind="n-large")
    for i in np.flatnonzero(whole & (n < least)):
        text = column.cells[i]
        found.error(sheet.lines[i], column.label, text, _why_too_small(n[i], text, sheet), kind="n-small")
    for i in np.flatnonzero(whole & (n >= least) & (n < SMALL_N)):
        message = f"n < {SMALL_N}: so few people say next to nothing about a correlation; check the paper"
        found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="n-few")


def _why_too_small(value: float, text: str, sheet: ParsedSheet) -> str:
    if value < 0:
        return f"{text} people are not possible; a code for a missing value? {declare_missing(text)}"
    name = "Fisher z" if sheet.measure == "ZCOR" else sheet.measure
    reason = "its variance is 1/(n-3)" if sheet.measure == "ZCOR" else WHY_LEAST_N[sheet.measure]
    return f"{name} needs n >= {LEAST_N[sheet.measure]}: {reason}; {text} people are too few, leave the row out"


def _ids_are_unique(sheet: ParsedSheet, found: Findings) -> None:
    """Flag ids that stand twice: anywhere, or within a study where ids start again in each, a fair way to name them."""
    if "es_id" not in sheet.columns:
        return
    column = sheet.columns["es_id"]
    studies = sheet.study_keys if _ids_restart(sheet, column) else [""] * len(sheet.lines)
    first: dict[tuple[str, str], int] = {}
    for line, study, cell, missing in zip(sheet.lines, studies, column.cells, column.missing, strict=True):
        if not missing and (before := first.setdefault((study, cell), line)) != line:
            message = f"{cell!r} is also in line {before}; give every effect its own {column.label}"
            found.departure(line, column.label, cell, message, kind="duplicate-id")


def _ids_restart(sheet: ParsedSheet, column: ParsedColumn) -> bool:
    """Tell whether nearly every study shares an id with another, as where each counts anew."""
    if sheet.study_labels is None:
        return False
    holders: dict[str, set[str]] = {}
    for study, cell, missing in zip(sheet.study_keys, column.cells, column.missing, strict=True):
        if not missing:
            holders.setdefault(cell, set()).add(study)
    if len(holders) == 1 and "1" not in holders:
        return False
    sharing = set().union(*(held for held in holders.values() if len(held) > 1))
    return len(sharing) > MOST_STUDIES * len(set(sheet.study_keys))


def _studies_are_named(sheet: ParsedSheet, found: Findings) -> None:
    labels, used = sheet.study_labels, np.flatnonzero(sheet.usable)
    if labels is None:
        if used.size > 1:
            found.suspicion(None, None, None, NO_STUDY_COLUMN.format(k=used.size), kind="no-study")
        return
    column = sheet.columns[sheet.places.study or ""]
    lines = [sheet.lines[i] for i in used]
    found.problems.extend(empty_labels([labels[i] for i in used], lines, column.label))
    if sheet.places.separating is not None:
        for i in yearless(labels, sheet.texts(sheet.places.separating)):
            message = f"{labels[i]!r} stands with several years and here with none; it is counted with the row above"
            found.suspicion(sheet.lines[i], column.label, labels[i], message, kind="study-year")


def _rows_are_complete(sheet: ParsedSheet, found: Findings) -> None:
    both = np.ones(len(sheet.lines), dtype=bool)
    first, second = sheet.keys
    if not {first, second} <= sheet.columns.keys():
        return
    # Where another statistic stands, `convert` makes the correlation of it.
    other = [not gone for gone in sheet.columns["es_type"].missing] if "es_type" in sheet.columns else None
    for name in (first, second):
        column = sheet.columns[name]
        for i in where(column.missing):
            if other is not None and other[i]:
                continue
            both[i] = False
            message = f"{name} is missing, so this row will be left out of every analysis"
            found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="missing")
    if not both.any() and len(both):
        found.error(None, None, None, f"no row has both {first} and {second}; fill them in", kind="no-effect")


def _variances_are_positive(sheet: ParsedSheet, found: Findings) -> None:
    if sheet.finished is None or sheet.finished.kind == "ni":
        return
    column, values = sheet.columns[sheet.finished.second], sheet.numbers(sheet.finished.second)
    for i in np.flatnonzero(values <= 0):
        text = column.cells[i]
        message = (
            f"{text} is not > 0; a {WHAT[sheet.finished.kind]} must be positive, check the sheet it was computed in"
        )
        found.error(sheet.lines[i], column.label, text, message, kind="not-positive")


def where(flags: Iterable[bool]) -> list[int]:
    """Return the places at which a flag is up."""
    return [i for i, flag in enumerate(flags) if flag]


RULES: tuple[Callable[[ParsedSheet, Findings], None], ...] = (
    _cells_are_numbers,
    _no_spreadsheet_errors_in_text,
    _r_in_range,
    _n_fits,
    _ids_are_unique,
    _studies_are_named,
    _rows_are_complete,
    _variances_are_positive,
)
