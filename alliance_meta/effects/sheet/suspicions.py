"""What is possible in a coding sheet and looks like a mistake: shown, never mended, never a reason to stop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import get_close_matches

import numpy as np
from scipy.special import stdtr

from alliance_meta._typing import Array
from alliance_meta.effects.contract.vocabulary import plain
from alliance_meta.effects.sheet.checking import ParsedSheet, where
from alliance_meta.effects.sheet.columns import LABEL_NAMES, far_code_message, far_codes
from alliance_meta.effects.sheet.findings import Findings, write
from alliance_meta.notes import shell_words
from alliance_meta.tables.format import brief, thousands

YEARS = (1900, 2100)
FEWEST_FOR_ALL_POSITIVE = 10
MOST_LEVELS = 30
ZERO_ORDER = "zero-order"
# A sum of fewer than three other rows can be one by chance.
FEWEST_FOR_TOTAL, MANY_TIMES, MOST_PEOPLE = 3, 100.0, 1e8
# Days that spreadsheets count for 1980 to 2040.
DATES = (29_221, 51_136)
TOTAL_COLUMNS = ("study", "study_id", "year", "sample_id", "note")
TOTAL = re.compile(
    r"(?:(?:grand|sub|over)?[ -]?total|overall|sum|all studies|(?:weighted |pooled |overall )?(?:mean|average|effect)"
    r"|(?:pooled|summary|combined)(?: (?:estimate|effect|r|es))?|summe|gesamt|insgesamt|mittelwert|durchschnitt)s?",
    flags=re.IGNORECASE,
)
P_VALUE = re.compile(r"(?:p\s*)?(<=|>=|[<>=≤≥]?)\s*([0-9]*\.?[0-9]+)")
# A standard error is told from a variance where the two lie far apart, and in most rows at once.
FEWEST_FOR_SE, LEAST_N_FOR_SE, CLOSE, MOST_ROWS, LARGE_VI = 3, 20, 0.25, 0.8, 0.1


def suspect(sheet: ParsedSheet, found: Findings) -> None:
    """Apply every rule; what looks like a mistake goes into `found`."""
    for rule in RULES:
        rule(sheet, found)


def _years_are_years(sheet: ParsedSheet, found: Findings) -> None:
    if "year" not in sheet.columns:
        return
    column, year = sheet.columns["year"], sheet.numbers("year")
    wrong = np.isfinite(year) & ((year < YEARS[0]) | (year > YEARS[1]) | (year != np.round(year)))
    for i in np.flatnonzero(wrong):
        text = column.cells[i]
        message = f"{text} is no year between {YEARS[0]} and {YEARS[1]}; write all four digits"
        found.suspicion(sheet.lines[i], column.label, text, message, kind="year")


def _no_number_codes(sheet: ParsedSheet, found: Findings) -> None:
    for name, column in sheet.columns.items():
        if column.values is None or name in LABEL_NAMES:
            continue
        values = sheet.numbers(name)
        # What r and n cannot be is an error of its own.
        possible = np.abs(values) < 1 if name == sheet.r else values > 0 if name == sheet.n else np.isfinite(values)
        for code, count, low, high in far_codes(values[possible]):
            i = int(np.flatnonzero(values == code)[0])
            message = far_code_message(code, count, low, high)
            found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="number-code")


def _n_is_of_one_size(sheet: ParsedSheet, found: Findings) -> None:
    """Point out an n that is a date, a typing error or a sum: far above all others."""
    n = sheet.numbers(sheet.n)
    usable = np.isfinite(n) & (n > 0)
    if usable.sum() < FEWEST_FOR_TOTAL or sheet.n not in sheet.columns:
        return
    column, median = sheet.columns[sheet.n], float(np.median(n[usable]))
    for i in np.flatnonzero(usable & (n > np.minimum(MANY_TIMES * median, MOST_PEOPLE))):
        date = DATES[0] <= n[i] <= DATES[1]
        why = "a date that a spreadsheet made a number?" if date else "a typing error, or another column?"
        message = (
            f"{column.cells[i]} people are more than {thousands(n[i] / median)} times the middle n ({median:g}); {why}"
        )
        found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="n-large")


def _no_total_row(sheet: ParsedSheet, found: Findings) -> None:
    """Point out a row that sums up the others: by its label, or because its n is the sum of theirs."""
    texts = [column for name, column in sheet.columns.items() if column.values is None and name in TOTAL_COLUMNS]
    texts = texts or [column for column in list(sheet.columns.values())[:1] if column.values is None]
    n = sheet.numbers(sheet.n)
    total, known = float(np.nansum(n)), int(np.isfinite(n).sum())
    for i, line in enumerate(sheet.lines):
        word = next((column.cells[i] for column in texts if TOTAL.fullmatch(column.cells[i].strip(" :.*"))), None)
        summed = known > FEWEST_FOR_TOTAL and np.isfinite(n[i]) and n[i] > 0 and n[i] == total - n[i]
        if word is None and not summed:
            continue
        why = f"{word!r} sums up other rows?" if word is not None else f"its n ({n[i]:g}) is the sum of all others;"
        message = f"{why} A total or a mean is no study of its own; delete the row"
        label = sheet.columns[sheet.n].label if word is None else texts[0].label
        found.suspicion(line, label, word or sheet.columns[sheet.n].cells[i], message, kind="total-row")


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
    studies: Sequence[str] = sheet.study_keys if sheet.study_labels is not None else [""] * len(sheet.lines)
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


def _variances_are_no_standard_errors(sheet: ParsedSheet, found: Findings) -> None:
    """Flag a column of variances that fits n only when its values are taken as standard errors."""
    name = sheet.finished.second if sheet.finished is not None and sheet.finished.kind == "vi" else "vi"
    if name not in sheet.columns:
        return
    column, vi, n = sheet.columns[name], sheet.numbers(name), sheet.numbers(sheet.n)
    usable = np.isfinite(vi) & (vi > 0)
    if (usable & (n >= LEAST_N_FOR_SE)).sum() >= FEWEST_FOR_SE:
        there = usable & (n >= LEAST_N_FOR_SE)
        _compare_with_n(sheet, column.label, np.log(vi[there]), n[there], found)
    elif usable.sum() >= FEWEST_FOR_SE and np.median(vi[usable]) > LARGE_VI:
        message = (
            f"half of the variances are above {write(LARGE_VI, sheet.mark)}, as from fewer than {1 / LARGE_VI + 3:g} "
            f"people each (Fisher z); are they standard errors? then call the column sei: {_as_sei(column.label)}"
        )
        found.suspicion(None, column.label, None, message, kind="se-for-variance")


def _compare_with_n(sheet: ParsedSheet, label: str, log_vi: Array, n: Array, found: Findings) -> None:
    # Fisher z has 1/(n - 3); a standardised mean difference of two equal groups about 4/n.
    expected = [-np.log(n - 3)] + ([np.log(4 / n)] if sheet.finished else [])
    from_variance = np.min([np.abs(log_vi - one) for one in expected], axis=0)
    from_error = np.min([np.abs(log_vi - one / 2) for one in expected], axis=0)
    if np.mean((from_error < CLOSE) & (from_variance > 2 * CLOSE)) >= MOST_ROWS:
        typed, people = float(np.exp(log_vi[0])), int(n[0])
        message = (
            f"{write(typed, sheet.mark)} with n = {people} looks like a standard error, whose square is the variance "
            f"({write(round(typed**2, 4), sheet.mark)}); square the column, or call it sei: {_as_sei(label)}"
        )
        found.suspicion(None, label, None, message, kind="se-for-variance")


def _as_sei(label: str) -> str:
    return f"sei={label!r} (command line: {shell_words('--sei', label)})"


def _p_fits_r_and_n(sheet: ParsedSheet, found: Findings) -> None:
    """Flag a printed p that no rounding of r, and neither one tail nor two, can bring about."""
    if "p" not in sheet.columns or sheet.r not in sheet.columns or sheet.n not in sheet.columns:
        return
    column, r, n = sheet.columns["p"], np.abs(sheet.numbers(sheet.r)), sheet.numbers(sheet.n)
    kinds = sheet.columns["r_type"].cells if "r_type" in sheet.columns else [ZERO_ORDER] * len(sheet.lines)
    texts = sheet.columns[sheet.r].cells
    readings = {cell: read_p(cell) for cell in set(column.cells)}
    halves = {text: 0.5 * 10.0 ** -len(text.partition(sheet.mark)[2]) for text in set(texts)}
    half = np.array([halves[text] for text in texts])
    usable = np.isfinite(r) & np.isfinite(n) & (r < 1) & (n > 3)
    exact, low, high = (_p_of(np.where(usable, r + move, 0.0), n) for move in (0.0, half, -half))
    for i in np.flatnonzero(usable):
        printed = readings[column.cells[i]]
        if printed is None or kinds[i] not in (ZERO_ORDER, "") or _possible(printed, low[i], high[i]):
            continue
        people, ours = sheet.columns[sheet.n].cells[i], write(float(brief(exact[i], 2)), sheet.mark)
        message = f"r = {texts[i]} and n = {people} give p = {ours}, not {column.cells[i]!r}; is one of them mistyped?"
        found.suspicion(sheet.lines[i], column.label, column.cells[i], message, kind="r-and-p")


def read_p(text: str) -> tuple[str, float, float] | None:
    """Read a printed p-value as (relation, value, half a unit of its last digit), or None.

    >>> read_p("< .05"), read_p("p = 0,03"), read_p("ns"), read_p("small")
    (('<', 0.05, 0.005), ('=', 0.03, 0.005), ('>', 0.01, 0.0), None)
    """
    text = text.strip().casefold().replace(",", ".")
    if text.replace(".", "").replace(" ", "") in ("ns", "nonsig", "notsignificant"):
        # Not significant at the strictest level in common use.
        return ">", 0.01, 0.0
    match = P_VALUE.fullmatch(text)
    if match is None:
        return None
    relation = {"": "=", "≤": "<", "<=": "<", "≥": ">", ">=": ">"}.get(match[1], match[1])
    value = float(match[2])
    return (relation, value, 0.5 * 10.0 ** -len(match[2].partition(".")[2])) if value <= 1 else None


def _p_of(r: Array, n: Array) -> Array:
    """Two-tailed p-values of correlations."""
    inside = np.clip(r, 0.0, 1.0 - 1e-15)
    with np.errstate(invalid="ignore"):
        return 2.0 * stdtr(n - 2.0, -inside * np.sqrt((n - 2.0) / (1.0 - inside**2)))


def _possible(printed: tuple[str, float, float], low: float, high: float) -> bool:
    relation, value, half = printed
    if relation == "<":
        return low / 2 <= value
    if relation == ">":
        return high >= value
    return any(tails * low <= value + half and tails * high >= value - half for tails in (1.0, 0.5))


def _levels_are_shared(sheet: ParsedSheet, found: Findings) -> None:
    # A word outside the vocabulary has been named already.
    named = {(one.column, one.value) for one in found.problems if one.kind == "not-in-vocabulary"}
    for name, column in sheet.columns.items():
        if column.values is not None or name in LABEL_NAMES or name == sheet.study:
            continue
        levels = Counter(cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone)
        alone = {level for level, count in levels.items() if count == 1 and (column.label, level) not in named}
        if not 2 <= len(levels) <= MOST_LEVELS or 2 * len(alone) > len(levels):
            continue
        for i in where(cell in alone for cell in column.cells):
            cell = column.cells[i]
            message = f"{cell!r} stands in this row only (a level with k = 1){_twin(cell, levels)}"
            found.suspicion(sheet.lines[i], column.label, cell, message, kind="level-once")


def _levels_are_spelt_one_way(sheet: ParsedSheet, found: Findings) -> None:
    for name, column in sheet.columns.items():
        if column.values is not None or name in LABEL_NAMES or name == sheet.study:
            continue
        spellings: dict[str, str] = {}
        seen: set[str] = set()
        for i, cell in enumerate(column.cells):
            if cell in seen or column.missing[i]:
                continue
            seen.add(cell)
            known = spellings.setdefault(plain(cell), cell)
            if known != cell:
                message = f"{cell!r} and {known!r} differ in case, spaces or hyphens only, and count as two levels"
                found.suspicion(sheet.lines[i], column.label, cell, message, kind="level-spelling")


def _twin(cell: str, levels: Counter[str]) -> str:
    others = [level for level in levels if level != cell]
    close = get_close_matches(cell, others, n=1, cutoff=0.8)
    return f"; did you mean {close[0]!r}?" if close else ""


def _repeats(values: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Return (place, place of the first) for every value that has been seen before."""
    first: dict[Hashable, int] = {}
    return [(i, j) for i, value in enumerate(values) if (j := first.setdefault(value, i)) != i]


RULES: tuple[Callable[[ParsedSheet, Findings], None], ...] = (
    _years_are_years,
    _no_number_codes,
    _n_is_of_one_size,
    _no_total_row,
    _no_row_twice,
    _signs_differ,
    _samples_have_one_n,
    _variances_are_no_standard_errors,
    _p_fits_r_and_n,
    _levels_are_shared,
    _levels_are_spelt_one_way,
)
