"""The rules a coding sheet must keep (errors), and what is possible but looks like a mistake (suspicions)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.effects.columns import (
    LABEL_NAMES,
    SPREADSHEET_ERRORS,
    DecimalMark,
    ParsedColumn,
)
from alliance_meta.effects.escalc import LEAST_N, WHY_LEAST_N
from alliance_meta.effects.findings import Findings
from alliance_meta.effects.mending import why_not_a_number, why_not_r, write

SMALL_N = 10
LARGE_R = 0.9
YEARS = (1900, 2100)
FEWEST_FOR_ALL_POSITIVE = 10
MOST_LEVELS = 30


@dataclass(frozen=True)
class ParsedSheet:
    """A sheet whose columns have been read as numbers or text; `r` and `n` are the names of those columns."""

    source: str
    lines: tuple[int, ...]
    columns: dict[str, ParsedColumn] = field(repr=False)
    r: str
    n: str
    mark: DecimalMark
    measure: str

    def numbers(self, name: str) -> Array:
        """Return a column of numbers, NaN where there is none and when the column is lacking."""
        values = self.columns[name].values if name in self.columns else None
        return np.array([np.nan if value is None else value for value in values or [None] * len(self.lines)])


def check_sheet(sheet: ParsedSheet, found: Findings) -> None:
    """Apply every rule; what is wrong goes into `found`."""
    for rule in RULES:
        rule(sheet, found)


def _cells_are_numbers(sheet: ParsedSheet, found: Findings) -> None:
    for name, column in sheet.columns.items():
        required = name in (sheet.r, sheet.n, "year")
        filled = len(column.cells) - sum(column.missing)
        wrong = column.wrong
        beside = "" if required else f" ({filled - len(wrong)} of {filled} cells in this column are numbers)"
        for i in wrong:
            text = column.cells[i]
            message = why_not_a_number(text, sheet.mark, is_r=name == sheet.r) + beside
            found.error(sheet.lines[i], column.label, text, message, kind="not-a-number")


def _no_spreadsheet_errors_in_text(sheet: ParsedSheet, found: Findings) -> None:
    for column in sheet.columns.values():
        if column.values is None and not SPREADSHEET_ERRORS.isdisjoint(column.cells):
            for i in _where(cell in SPREADSHEET_ERRORS for cell in column.cells):
                text = column.cells[i]
                message = f"{text!r} is a spreadsheet's error; correct its formula or leave the cell empty"
                found.error(sheet.lines[i], column.label, text, message, kind="spreadsheet-error")


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
    if column is None:
        return
    least = LEAST_N[sheet.measure]
    whole = n == np.round(n)
    for i in np.flatnonzero(np.isfinite(n) & ~whole):
        text = column.cells[i]
        message = f"{text} is not a whole number of people; write the n this r was computed from"
        found.error(sheet.lines[i], column.label, text, message, kind="n-whole")
    for i in np.flatnonzero(whole & (n < least)):
        text = column.cells[i]
        found.error(sheet.lines[i], column.label, text, _why_too_small(n[i], text, sheet), kind="n-small")
    for i in np.flatnonzero(whole & (n >= least) & (n < SMALL_N)):
        message = f"n < {SMALL_N}: so few people say next to nothing about a correlation; check the paper"
        found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="n-few")


def _why_too_small(value: float, text: str, sheet: ParsedSheet) -> str:
    if value < 0:
        return f"{text} people are not possible; a code for a missing value? leave the cell empty"
    name = "Fisher z" if sheet.measure == "ZCOR" else sheet.measure
    reason = "its variance is 1/(n-3)" if sheet.measure == "ZCOR" else WHY_LEAST_N[sheet.measure]
    return f"{name} needs n >= {LEAST_N[sheet.measure]}: {reason}; {text} people are too few, leave the row out"


def _ids_are_unique(sheet: ParsedSheet, found: Findings) -> None:
    if "es_id" not in sheet.columns:
        return
    column = sheet.columns["es_id"]
    if _restarts_in_every_study(sheet, column):
        return
    first: dict[str, int] = {}
    for line, cell, missing in zip(sheet.lines, column.cells, column.missing, strict=True):
        if not missing and first.setdefault(cell, line) != line:
            message = f"{cell!r} is also in line {first[cell]}; give every effect its own {column.label}"
            found.error(line, column.label, cell, message, kind="duplicate-id")


def _restarts_in_every_study(sheet: ParsedSheet, column: ParsedColumn) -> bool:
    """Tell whether effects are numbered 1, 2, ... within each study, which is a fair way to name them."""
    study = next((sheet.columns[name].cells for name in ("study_id", "study") if name in sheet.columns), None)
    turn: Counter[str] = Counter()
    for name, cell in zip(study or [], column.cells, strict=bool(study)):
        turn[name] += 1
        if cell != str(turn[name]):
            return False
    return len(turn) > 1


def _rows_have_r_and_n(sheet: ParsedSheet, found: Findings) -> None:
    both = np.ones(len(sheet.lines), dtype=bool)
    if not {sheet.r, sheet.n} <= sheet.columns.keys():
        return
    for name in (sheet.r, sheet.n):
        column = sheet.columns[name]
        for i in _where(column.missing):
            both[i] = False
            message = f"{name} is missing, so this row will be left out of every analysis"
            found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="missing")
    if not both.any() and len(both):
        found.error(None, None, None, f"no row has both {sheet.r} and {sheet.n}; fill them in", kind="no-effect")


def _years_are_years(sheet: ParsedSheet, found: Findings) -> None:
    if "year" not in sheet.columns:
        return
    column, year = sheet.columns["year"], sheet.numbers("year")
    wrong = np.isfinite(year) & ((year < YEARS[0]) | (year > YEARS[1]) | (year != np.round(year)))
    for i in np.flatnonzero(wrong):
        text = column.cells[i]
        message = f"{text} is no year between {YEARS[0]} and {YEARS[1]}; write all four digits"
        found.suspicion(sheet.lines[i], column.label, text, message, kind="year")


def _no_row_twice(sheet: ParsedSheet, found: Findings) -> None:
    rows = list(zip(*(column.cells for column in sheet.columns.values()), strict=True))
    again = set()
    for i, first in _repeats(rows):
        again.add(i)
        message = f"repeats line {sheet.lines[first]} in every column; entered twice? delete one"
        found.suspicion(sheet.lines[i], None, None, message, kind="duplicate-row")
    r, n = sheet.numbers(sheet.r), sheet.numbers(sheet.n)
    pairs = [(a, b) if np.isfinite(a) and np.isfinite(b) else i for i, (a, b) in enumerate(zip(r, n, strict=True))]
    for i, first in _repeats(pairs):
        if i not in again:
            text = f"{sheet.columns[sheet.r].cells[i]}, {sheet.columns[sheet.n].cells[i]}"
            message = f"the same r and n ({text}) as line {sheet.lines[first]}; entered twice?"
            found.suspicion(sheet.lines[i], None, text, message, kind="same-r-n")


def _signs_differ(sheet: ParsedSheet, found: Findings) -> None:
    r = sheet.numbers(sheet.r)
    r = r[np.isfinite(r)]
    if r.size >= FEWEST_FOR_ALL_POSITIVE and (r > 0).all():
        message = f"all {r.size} correlations are positive; were signs or negative results left out?"
        found.suspicion(None, sheet.columns[sheet.r].label, None, message, kind="all-positive")


def _samples_have_one_n(sheet: ParsedSheet, found: Findings) -> None:
    if "sample_id" not in sheet.columns:
        return
    if sheet.n not in sheet.columns:
        return
    column, n = sheet.columns["sample_id"], sheet.columns[sheet.n]
    within = next((sheet.columns[name].cells for name in ("study_id", "study") if name in sheet.columns), None)
    studies: Sequence[str] = within if within is not None else [""] * len(sheet.lines)
    first: dict[tuple[str, str], int] = {}
    for i, key in enumerate(zip(studies, column.cells, strict=True)):
        if column.missing[i] or n.values is None or n.values[i] is None:
            continue
        j = first.setdefault(key, i)
        before = n.values[j]
        if before is not None and before != n.values[i]:
            message = (
                f"sample {column.cells[i]!r} has n = {n.cells[i]} here and n = {write(before, sheet.mark)} "
                f"in line {sheet.lines[j]}; one sample, or two?"
            )
            found.suspicion(sheet.lines[i], n.label, n.cells[i], message, kind="sample-two-n")


def _levels_are_shared(sheet: ParsedSheet, found: Findings) -> None:
    for name, column in sheet.columns.items():
        if column.values is not None or name in LABEL_NAMES:
            continue
        levels = Counter(cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone)
        alone = {level for level, count in levels.items() if count == 1}
        if not 2 <= len(levels) <= MOST_LEVELS or 2 * len(alone) > len(levels):
            continue
        for i in _where(cell in alone for cell in column.cells):
            cell = column.cells[i]
            message = f"{cell!r} stands in this row only (a level with k = 1){_twin(cell, levels)}"
            found.suspicion(sheet.lines[i], column.label, cell, message, kind="level-once")


def _levels_are_spelt_one_way(sheet: ParsedSheet, found: Findings) -> None:
    for name, column in sheet.columns.items():
        if column.values is not None or name in LABEL_NAMES:
            continue
        spellings: dict[str, str] = {}
        seen: set[str] = set()
        for i, cell in enumerate(column.cells):
            if cell in seen or column.missing[i]:
                continue
            seen.add(cell)
            known = spellings.setdefault(_plain(cell), cell)
            if known != cell:
                message = f"{cell!r} and {known!r} differ in case, spaces or hyphens only, and count as two levels"
                found.suspicion(sheet.lines[i], column.label, cell, message, kind="level-spelling")


def _twin(cell: str, levels: Counter[str]) -> str:
    others = [level for level in levels if level != cell]
    close = get_close_matches(cell, others, n=1, cutoff=0.8)
    return f"; did you mean {close[0]!r}?" if close else ""


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character not in " -_\t\xa0")


def _repeats(values: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Return (place, place of the first) for every value that has been seen before."""
    first: dict[Hashable, int] = {}
    return [(i, j) for i, value in enumerate(values) if (j := first.setdefault(value, i)) != i]


def _where(flags: Iterable[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


RULES: tuple[Callable[[ParsedSheet, Findings], None], ...] = (
    _cells_are_numbers,
    _no_spreadsheet_errors_in_text,
    _r_in_range,
    _n_fits,
    _ids_are_unique,
    _rows_have_r_and_n,
    _years_are_years,
    _no_row_twice,
    _signs_differ,
    _samples_have_one_n,
    _levels_are_shared,
    _levels_are_spelt_one_way,
)
