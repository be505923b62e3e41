"""Names and cells of a coding sheet: which column is r, which cell is a number, which is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.contract.vocabulary import Vocabulary

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
    """One column: its text, which cells are missing, and its numbers if it is a column of numbers.

    Attributes
    ----------
    name : str
        Name in the table.
    label : str
        Name in the file.
    cells : list of str
        The text.
    missing : list of bool
        Which cells are empty or hold a code for "missing".
    values : list of float or None
        The numbers (None where there is none), or None for a column of text.
    strays : tuple of int
        Places of cells that are no numbers where a number belongs: in a column of numbers, or in one that is text
        because of them.
    """

    name: str
    label: str
    cells: list[str] = field(repr=False)
    missing: list[bool] = field(repr=False)
    values: list[float | None] | None = field(repr=False)
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
