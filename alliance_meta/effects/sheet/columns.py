"""Names and cells of coding sheets and data frames: which column is r, which cell is a number, which is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.contract.vocabulary import Vocabulary
from alliance_meta.errors import SuspiciousInputWarning
from alliance_meta.notes import Note, shell_words, warn_note

DecimalMark = Literal[".", ","]

# Every name a column of the contract goes by, its own first.
ALIASES: dict[str, tuple[str, ...]] = {column.name: (column.name, *column.also) for column in CONTRACT.columns}
# Labels and prose: never numbers, never moderators, whatever they hold.
LABEL_NAMES = frozenset(
    {
        *(column.name for column in CONTRACT.columns if column.label),
        *("citation", "reference", "title", "doi", "url", "notes", "comment", "comments", "extraction_comment"),
        *("evidence", "licence", "license", "source_repo", "source_path", "commit"),
    }
)
# What the sheet writes for a year with a letter, where the year itself is read as a number.
YEAR_PRINTED = "year_printed"
MISSING_USUAL = frozenset({"", "NA"})
MISSING = MISSING_USUAL | {
    *("N/A", "n/a", "na", "NaN", "nan", "#N/A", "n.a.", "N.A.", "<NA>", "NULL", "null", "missing"),
    *("n.r.", "N.R.", "n.r", "NR", "nr", ".", "-", "–", "—", "--", "?"),
}
SPREADSHEET_ERRORS = frozenset({"#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "Err:502"})

# Fewer cells, or a smaller share of numbers, make no column of numbers with mistakes.
MOSTLY_NUMBERS, FEWEST_CELLS = 0.8, 5
_CANONICAL = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
# Headers of the study are read however they are spaced: First author, FirstAuthor, first_author.
_NAMES_OF_ROWS = ("study_id", "es_id", "sample_id", "study")
_SQUEEZED = {alias.replace("_", ""): name for name in _NAMES_OF_ROWS for alias in ALIASES[name]}
_NUMBERS: dict[str, re.Pattern[str]] = {
    mark: re.compile(rf"[+-]?(?:[0-9]+(?:{re.escape(mark)}[0-9]*)?|{re.escape(mark)}[0-9]+)(?:[eE][+-]?[0-9]+)?")
    for mark in (".", ",")
}
_FRACTION = {".": re.compile(r"[+-]?[0-9]*\.[0-9]+"), ",": re.compile(r"[+-]?[0-9]*,[0-9]+")}
_YEAR_WITH_LETTER = re.compile(r"((?:1[5-9]|20)[0-9]{2})[ ]?[a-z]")
# A leading zero, or more digits than a float holds.
_CODE = re.compile(r"[+-]?(?:0[0-9]|[0-9]{16,}\Z)")


def canonical_name(header: str) -> str | None:
    """Return the column a header cell stands for, or None.

    >>> canonical_name("Sample size"), canonical_name("RI"), canonical_name("FirstAuthor"), canonical_name("rater")
    ('n', 'r', 'study', None)
    """
    key = _key(header)
    return _CANONICAL.get(header.strip().casefold()) or _CANONICAL.get(key) or _SQUEEZED.get(key.replace("_", ""))


def rank_of(header: str, name: str) -> int:
    """Return the place of a header among the names of a column of the contract, its own name first."""
    names = [_key(header), header.strip().casefold(), _key(header).replace("_", "")]
    places = [i for i, alias in enumerate(ALIASES[name]) if alias in names or alias.replace("_", "") == names[2]]
    return places[0] if places else len(ALIASES[name])


def _key(header: str) -> str:
    return re.sub(r"[\s.,\-/()&]+", "_", header.replace("'", "").replace("’", "").casefold()).strip("_")


def parse_number(text: str, mark: DecimalMark = ".") -> float | None:
    """Return the finite number that `text` writes with this decimal mark, or None.

    >>> parse_number("-.31"), parse_number("0,31", ","), parse_number("31%"), parse_number("1e999")
    (-0.31, 0.31, None, None)
    """
    if not _NUMBERS[mark].fullmatch(text):
        return None
    value = float(text.replace(",", "."))
    return value if math.isfinite(value) else None


def count_fractions(cells: Iterable[str]) -> tuple[int, int]:
    """Count cells that write a fraction with a point, and with a comma."""
    points = commas = 0
    for cell in cells:
        if "," in cell:
            commas += _FRACTION[","].fullmatch(cell) is not None
        elif "." in cell:
            points += _FRACTION["."].fullmatch(cell) is not None
    return points, commas


def column_letter(place: int) -> str:
    """Return the spreadsheet letter of the column at `place`, counted from 0.

    >>> column_letter(0), column_letter(27)
    ('A', 'AB')
    """
    text, number = "", place + 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def year_number(text: str) -> float | None:
    """Return the year that a citation writes with a letter, or None.

    >>> year_number("2000a"), year_number("in press")
    (2000.0, None)
    """
    found = _YEAR_WITH_LETTER.fullmatch(text)
    return float(found[1]) if found else None


def is_missing(cell: str, codes: Collection[str] = (), *, label: bool = False) -> bool:
    """Tell whether a cell's text stands for "missing"; `codes` are those that were declared.

    A declared number is met by every way of writing it, but not in a column of labels, where 99 is a name.

    >>> is_missing("n.r."), is_missing("999"), is_missing("999.0", ["999"]), is_missing("99", ["99"], label=True)
    (True, False, True, False)
    """
    if cell in MISSING:
        return True
    if not codes:
        return False
    number = number_of(cell)
    if number is None:
        return cell in codes
    return not label and any(number_of(code) == number for code in codes)


def number_of(text: str) -> float | None:
    """Return the number that a text writes with either decimal mark."""
    value = parse_number(text)
    return parse_number(text, ",") if value is None else value


@dataclass(frozen=True)
class ParsedColumn:
    """One column: its text, which cells are missing, and its numbers if it is a column of numbers."""

    name: str  # name in the table
    label: str  # name in the file
    cells: list[str] = field(repr=False)  # the text
    missing: list[bool] = field(repr=False)  # which cells are empty or hold a code for "missing"
    # The numbers (None where there is none), or None for a column of text.
    values: list[float | None] | None = field(repr=False)
    # Places of cells that are no numbers where a number belongs: in a column of numbers, or in one that is text because
    # of them.
    strays: tuple[int, ...] = ()


def parse_column(
    name: str,
    label: str,
    cells: list[str],
    mark: DecimalMark,
    *,
    used: bool,
    numeric: bool,
    names: bool = False,
    words: Vocabulary | None = None,
    codes: Collection[str] = (),
) -> ParsedColumn:
    """Read a column as numbers when it must be, or when all of its cells are numbers.

    `used` are the columns of the effects: numbers whatever they hold; `numeric` those that should be numbers; `names`
    those of names, which are none whatever they look like. `words` of a column of words may be numbers, or a question
    mark that means something; `codes` are further codes for "missing".
    """
    texts, names = set(cells), names or name in LABEL_NAMES
    away = {
        cell: is_missing(cell, codes, label=names)
        and not (words is not None and any(cell in (term.value, *term.also) for term in words.terms))
        for cell in texts
    }
    missing = [away[cell] for cell in cells]
    numbers = {cell: None if away[cell] else parse_number(cell, mark) for cell in texts}
    if name == "year":
        numbers |= {cell: year_number(cell) for cell, value in numbers.items() if value is None and not away[cell]}
    wrong = tuple(i for i, cell in enumerate(cells) if not missing[i] and numbers[cell] is None)
    filled = len(cells) - sum(missing)
    if not used:
        mostly = words is None and filled >= FEWEST_CELLS and filled - len(wrong) >= MOSTLY_NUMBERS * filled
        names = names or (not numeric and _are_codes(texts - {cell for cell in texts if away[cell]}))
        if wrong or not filled or names:
            return ParsedColumn(name, label, cells, missing, None, wrong if (numeric or mostly) and not names else ())
    return ParsedColumn(name, label, cells, missing, [numbers[cell] for cell in cells], wrong)


def _are_codes(cells: Iterable[str]) -> bool:
    """Tell identifiers (007, 12345678901234567890) from numbers: as numbers they would lose digits."""
    return any(_CODE.match(cell) for cell in cells)


# What spreadsheets and SPSS users write for "missing" in a column of numbers.
NUMBER_CODES = (-9.0, -77.0, -88.0, -99.0, -888.0, -999.0, -9999.0, 88.0, 99.0, 888.0, 999.0, 9999.0, 99999.0)
FEWEST_OTHERS = 3


def far_codes(values: Array) -> list[tuple[float, int, float, float]]:
    """Return the usual number codes that lie far outside the other values: code, count, lowest and highest other."""
    found = []
    finite = values[np.isfinite(values)]
    for code in sorted(set(finite.tolist()) & set(NUMBER_CODES)):
        others = finite[(finite != code) & ~np.isin(finite, [one for one in NUMBER_CODES if abs(one) > abs(code)])]
        if others.size < FEWEST_OTHERS:
            continue
        low, high = float(others.min()), float(others.max())
        beyond = max(low - code, code - high)
        if beyond > max(high - low, abs(high) / 2) or (code < 0 <= low and code in (-99.0, -999.0, -9999.0)):
            found.append((code, int((finite == code).sum()), low, high))
    return found


def far_code_message(code: float, count: int, low: float, high: float) -> str:
    """Say that a number is probably a code, and how to declare it."""
    cells = f" in {count} cells" if count > 1 else ""
    return (
        f"{code:g}{cells} lies far outside the others ({low:g} to {high:g}): a code for a missing value? then say "
        f"missing={f'{code:g}'!r} (command line: {shell_words('--missing', f'{code:g}')})"
    )


def without_codes(frame: pd.DataFrame, declared: Any = (), *, stacklevel: int = 4) -> tuple[pd.DataFrame, list[Note]]:
    """Return a data frame whose cells that stand for "missing" are missing, and what there is to say of it."""
    codes = (str(declared),) if isinstance(declared, str | int | float) else tuple(map(str, declared))
    changed: dict[Any, pd.Series[Any]] = {}
    met: dict[str, int] = {}
    doubtful = []
    for name, column in frame.items():
        label = str(name) in LABEL_NAMES
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        if pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype=float, na_value=np.nan)
            gone = np.isin(values, [number for code in codes if (number := number_of(code)) is not None])
            if not label:
                doubtful += [f"{name}: {far_code_message(*one)}" for one in far_codes(values[~gone])]
        else:
            texts = {cell: is_missing(cell.strip(), codes, label=label) for cell in column if isinstance(cell, str)}
            gone = np.array([isinstance(cell, str) and texts[cell] for cell in column], dtype=bool)
        if gone.any() and not (label and pd.api.types.is_numeric_dtype(column)):
            for cell in column[gone].astype(str):
                met[cell.strip()] = met.get(cell.strip(), 0) + 1
            changed[name] = column.mask(gone)
    notes = []
    if told := {code: count for code, count in met.items() if code not in MISSING_USUAL}:
        listed = ", ".join(f"{code!r} ({count})" for code, count in told.items())
        notes.append(Note("missing-codes", f"Cells with {listed} count as missing."))
    if doubtful:
        text = "Possible mistakes: " + "; ".join(doubtful)
        notes.append(warn_note("suspicions", text, SuspiciousInputWarning, stacklevel=stacklevel))
    return (frame.assign(**{str(name): cells for name, cells in changed.items()}) if changed else frame), notes


def strays(name: str, cells: Sequence[Any]) -> list[int]:
    """Return the places of cells that are no numbers in a column of text that nearly is one of numbers."""
    read = {cell: _as_number(name, cell) for cell in cells if isinstance(cell, str)}
    filled = [i for i, cell in enumerate(cells) if isinstance(cell, str) and not is_missing(cell)]
    good = sum(read[cells[i]] is not None for i in filled)
    believed = name == "year" or (len(filled) >= FEWEST_CELLS and good >= MOSTLY_NUMBERS * len(filled))
    if not good or not believed:
        return []
    return [i for i in filled if read[cells[i]] is None]


def _as_number(name: str, cell: str) -> float | None:
    value = number_of(cell)
    return year_number(cell) if value is None and name == "year" else value
