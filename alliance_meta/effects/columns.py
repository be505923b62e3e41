"""Names and cells of a coding sheet: which column is r, which cell is a number, which is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from alliance_meta.effects.schema import CONTRACT

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
MISSING = frozenset({"", "NA", "N/A", "n/a", "na", "NaN", "nan", "#N/A", "."})
MISSING_USUAL = frozenset({"", "NA"})
MISSING_NUMBER = MISSING | {"-", "–", "—", "--", "?", "NULL", "null", "missing"}
SPREADSHEET_ERRORS = frozenset({"#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "Err:502"})

_CANONICAL = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
# Headers of the study are read however they are spaced: First author, FirstAuthor, first_author.
_NAMES_OF_ROWS = ("study_id", "es_id", "sample_id", "study")
_SQUEEZED = {alias.replace("_", ""): name for name in _NAMES_OF_ROWS for alias in ALIASES[name]}
_NUMBERS: dict[str, re.Pattern[str]] = {
    mark: re.compile(rf"[+-]?(?:[0-9]+(?:{re.escape(mark)}[0-9]*)?|{re.escape(mark)}[0-9]+)(?:[eE][+-]?[0-9]+)?")
    for mark in (".", ",")
}
_FRACTION = {".": re.compile(r"[+-]?[0-9]*\.[0-9]+"), ",": re.compile(r"[+-]?[0-9]*,[0-9]+")}
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
    """

    name: str
    label: str
    cells: list[str] = field(repr=False)
    missing: list[bool] = field(repr=False)
    values: list[float | None] | None = field(repr=False)

    @property
    def wrong(self) -> list[int]:
        """Places of cells that are neither numbers nor missing, in a column of numbers."""
        if self.values is None:
            return []
        return [i for i, value in enumerate(self.values) if value is None and not self.missing[i]]


def parse_column(
    name: str,
    label: str,
    cells: list[str],
    mark: DecimalMark,
    *,
    numeric: bool,
    mostly: float,
    at_least: int,
    missing: frozenset[str] = frozenset(),
    label_column: bool = False,
) -> ParsedColumn:
    """Read a column as numbers when it must be, or when nearly all of its cells are numbers.

    Parameters
    ----------
    name, label : str
        Name in the table and in the file.
    cells : list of str
        Its text.
    mark : {".", ","}
        The sheet's decimal mark.
    numeric : bool
        True for columns that hold numbers whatever they hold.
    mostly : float
        Share of numbers from which another column counts as numbers with mistakes.
    at_least : int
        Fewest cells for which that share is believed.
    missing : frozenset of str
        Further codes for "missing", from the sheet's own description.
    label_column : bool
        True for a column of names, which are no numbers whatever they look like.
    """
    numbers = {cell: None if cell in missing else parse_number(cell, mark) for cell in set(cells)}
    none, nothing = MISSING | missing, MISSING_NUMBER | missing
    if not numeric:
        filled = [cell for cell in cells if cell not in nothing]
        good = sum(numbers[cell] is not None for cell in filled)
        believed = good == len(filled) or (len(filled) >= at_least and good >= mostly * len(filled))
        if label_column or name in LABEL_NAMES or not good or not believed or _are_codes(filled):
            return ParsedColumn(name, label, cells, [cell in none for cell in cells], None)
    values = [numbers[cell] for cell in cells]
    return ParsedColumn(name, label, cells, [cell in nothing for cell in cells], values)


def _are_codes(cells: list[str]) -> bool:
    """Tell identifiers (007, 12345678901234567890) from numbers: as numbers they would lose digits."""
    return any(_CODE.match(cell) for cell in cells)
