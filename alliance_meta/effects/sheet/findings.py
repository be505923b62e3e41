"""What the reader of a coding sheet has to say: problems, and notes on what it adapted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from alliance_meta.effects.sheet.columns import SPREADSHEET_ERRORS, DecimalMark, parse_number
from alliance_meta.errors import CodingError, Problem, Severity
from alliance_meta.notes import Note, shell_words
from alliance_meta.tables.format import brief


@dataclass
class Findings:
    """Collects everything found in one pass over a sheet."""

    # problems, notes: what was found, and what was adapted.
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    departures: Severity = "error"  # how heavy a departure from the contract weighs that makes no number wrong

    def error(self, row: int | None, column: str | None, value: str | None, message: str, *, kind: str) -> None:
        """Add a problem that stops the reading."""
        self.problems.append(Problem(row, column, value, message, "error", kind))

    def suspicion(self, row: int | None, column: str | None, value: str | None, message: str, *, kind: str) -> None:
        """Add something that is possible and looks like a mistake."""
        self.problems.append(Problem(row, column, value, message, "suspicion", kind))

    def departure(self, row: int | None, column: str | None, value: str | None, message: str, *, kind: str) -> None:
        """Add a departure from the contract."""
        self.problems.append(Problem(row, column, value, message, self.departures, kind))

    def note(self, code: str, message: str) -> None:
        """Announce an adaptation."""
        self.notes.append(Note(code, message))

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop the reading."""
        return [problem for problem in self.sorted if problem.severity == "error"]

    @property
    def suspicions(self) -> list[Problem]:
        """The problems that are only shown."""
        return [problem for problem in self.sorted if problem.severity == "suspicion"]

    @property
    def sorted(self) -> list[Problem]:
        """Errors before suspicions, each from the top of the sheet down."""
        return sorted(self.problems, key=lambda p: (p.severity, -1 if p.row is None else p.row))


def refuse(source: str, message: str, kind: str = "not-a-table") -> CodingError:
    """Return the error of a file that is no table at all."""
    return CodingError([Problem(None, None, None, message, kind=kind)], source=source)


def short(text: str, width: int = 40) -> str:
    """Return text on one line and cut to `width`."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:[.,'’  ][0-9]{3})+")
_MINUS = str.maketrans(dict.fromkeys("−–—‒﹣-", "-"))
_LOOKALIKES = str.maketrans({"O": "0", "o": "0", "l": "1", "I": "1"})
_MONTH = r"(?:jan|feb|mar|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*\.?"
_DATE = re.compile(
    rf"(?:[0-9]{{1,2}}[-. ]*{_MONTH}|{_MONTH}[-. ]*[0-9]{{1,4}}|"
    r"[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{2,4}|[0-9]{4}-[0-9]{2}-[0-9]{2}.*)",
    flags=re.IGNORECASE,
)
_MARKS = re.compile(r"(?:\s*(?:\*+|[†‡§¹²³]+|\([a-z]\)|[a-d]))+\Z")
_INSIDE = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)")

Guess = tuple[str, float | None]


def write(value: float, mark: DecimalMark = ".") -> str:
    """Write a number as the sheet should hold it.

    >>> write(0.45), write(-0.3, ","), write(120.0)
    ('0.45', '-0,3', '120')
    """
    return brief(value, 10).replace(".", mark)


def why_not_a_number(text: str, mark: DecimalMark, *, is_r: bool) -> str:
    """Say what is wrong with a cell that should be a number, and what to write.

    >>> why_not_a_number("31%", ".", is_r=True)
    "'31%' is not a number; write 0.31"
    >>> why_not_a_number("2oo1", ".", is_r=False)
    "'2oo1' is not a number: letters among the digits? write 2001"
    """
    shown = repr(short(text))
    for attempt in _ATTEMPTS:
        guess = attempt(text, mark, is_r)
        if guess:
            reason, value = guess
            link = " write" if reason.endswith("?") else "; write"
            return f"{shown} {reason}" + ("" if value is None else f"{link} {write(value, mark)}")
    return f"{shown} is not a number; write the number or leave the cell empty"


def _error_value(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    if text in SPREADSHEET_ERRORS:
        return "is a spreadsheet's error; correct its formula or leave the cell empty", None
    if text.startswith("="):
        return "is a formula; save the sheet with values instead of formulas", None
    return None


def _thousands(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    if is_r or not _THOUSANDS.fullmatch(text):
        return None
    return "is not a number: a thousands separator?", float(re.sub(r"[^0-9]", "", text))


def _other_mark(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    value = parse_number(text, "," if mark == "." else ".")
    if value is None:
        return None
    here, sheet = ("comma", "points") if mark == "." else ("point", "commas")
    return f"has a decimal {here} in a sheet with decimal {sheet}", value


def _percent(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    value = parse_number(text.rstrip("% ").replace(",", mark).replace(".", mark), mark)
    if "%" not in text or value is None:
        return None
    return "is not a number", value / 100 if is_r else value


def _minus(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    value = parse_number(re.sub(r"^-\s+", "-", text.translate(_MINUS)), mark)
    return None if value is None else ("has a minus sign that is not the keyboard's '-'", value)


def _date(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    if not _DATE.fullmatch(text):
        return None
    return "looks like a date that a spreadsheet made of a number; type the number again", None


def _lookalikes(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    value = parse_number(text.translate(_LOOKALIKES), mark) if re.search("[0-9]", text) else None
    return None if value is None else ("is not a number: letters among the digits?", value)


def _footnote(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    value = parse_number(_MARKS.sub("", text), mark)
    return None if value is None else ("is not a number: a footnote or significance mark?", value)


def _inside(text: str, mark: DecimalMark, is_r: bool) -> Guess | None:
    if re.search(r"[<>≤≥]", text):
        return "is a bound, not a number; find the value in the paper or leave the cell empty", None
    numbers = _INSIDE.findall(text.translate(_MINUS))
    value = parse_number(numbers[0].replace(",", mark), mark) if len(numbers) == 1 else None
    return None if value is None else ("is not a number: text beside the number?", value)


_ATTEMPTS: tuple[Callable[[str, DecimalMark, bool], Guess | None], ...] = (
    _error_value,
    _thousands,
    _other_mark,
    _percent,
    _minus,
    _date,
    _lookalikes,
    _footnote,
    _inside,
)


def why_not_r(value: float, text: str, mark: DecimalMark) -> str:
    """Say why a number outside (-1, 1) cannot be a correlation.

    >>> why_not_r(45.0, "45", ".")
    '45 is outside (-1, 1); coded in percent? write 0.45'
    """
    if abs(value) == 1:
        return f"{text} is a perfect correlation, whose Fisher z is infinite; check the paper"
    if value in (-9, -99, -999, -9999, 99, 999, 9999):
        return f"{text} is outside (-1, 1); a code for a missing value? {declare_missing(text)}"
    if 2 <= abs(value) < 100:
        return f"{text} is outside (-1, 1); coded in percent? write {write(value / 100, mark)}"
    return f"{text} is outside (-1, 1); a misplaced decimal mark, a Fisher z or a d? check the paper"


def declare_missing(text: str) -> str:
    """Say how a code for "missing" is declared.

    >>> declare_missing("-99")
    "leave the cell empty, or say missing='-99' (command line: --missing -99)"
    """
    return f"leave the cell empty, or say missing={text!r} (command line: {shell_words('--missing', text)})"
