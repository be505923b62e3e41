"""The cells of one sheet of a workbook, from its XML: each as the text that is saved there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384
# Cells of a table, rows times width, the empty ones among them.
MOST_CELLS = 10_000_000


class DamagedError(Exception):
    """The XML is not that of a sheet."""


class TooWideError(Exception):
    """The cells span more rows and columns than any coding sheet does."""


class _EnoughError(Exception):
    """As many rows as were asked for."""


@dataclass
class Cells:
    """What a sheet holds.

    Attributes
    ----------
    rows : list of (int, list of str)
        Row number and cells of every row that is not blank; formulas without a saved result are empty here.
    formulas : dict
        Formula by (row number, place in the row).
    merged : list of str
        Merged ranges.
    hidden : int
        Number of hidden rows.
    """

    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    formulas: dict[tuple[int, int], str] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    hidden: int = 0


def read_cells(
    xml: bytes, *, shared: Sequence[Any], dates: Callable[[int, float], str | None], most: int | None = None
) -> Cells:
    """Read the cells of a sheet, at most the first `most` rows that are not blank.

    `shared` are the workbook's words; `dates` gives the text of a number in a cell of this style if it is a date.

    Raises
    ------
    TooWideError
        If rows times width are more than `MOST_CELLS`.
    DamagedError
        If it is no sheet, or rows or cells in it are out of order, so that some would be lost.
    """
    reader = _Reader(shared, dates, most)
    try:
        reader.parse(xml)
    except _EnoughError:
        pass
    except (expat.ExpatError, ValueError, IndexError) as error:
        raise DamagedError(str(error)) from None
    return reader.out


class _Reader:
    """Handlers of the XML parser; one row and one cell at a time."""

    def __init__(self, shared: Sequence[Any], dates: Callable[[int, float], str | None], most: int | None) -> None:
        self.out = Cells()
        self.shared, self.dates, self.most = shared, dates, most
        self.line, self.place, self.width = 0, -1, 0
        self.cells: list[str] = []
        self.kind, self.style = "n", 0
        self.value: list[str] = []
        self.inline: list[str] = []
        self.formula: list[str] | None = None
        self.text: list[str] | None = None
        self.phonetic = False
        self.tags: dict[str, str] = {}
        self.places: dict[str, int] = {}

    def parse(self, xml: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = self.doctype
        parser.Parse(xml, True)

    def doctype(self, *_: Any) -> None:
        # A sheet has none; entities declared in one can unfold to gigabytes.
        raise DamagedError("a document type declaration")

    def characters(self, data: str) -> None:
        if self.text is not None:
            self.text.append(data)

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        tag = self.tags.get(name) or self.tags.setdefault(name, name.rpartition(" ")[2])
        if tag == "c":
            self._start_cell(attributes)
        elif tag == "v":
            self.text = self.value
        elif tag == "t":
            self.text = None if self.phonetic else self.inline
        elif tag == "f":
            self.text = self.formula = []
        elif tag == "row":
            self._start_row(attributes)
        elif tag == "rPh":
            self.phonetic = True
        elif tag == "mergeCell":
            self.out.merged.append(attributes.get("ref", ""))

    def end(self, name: str) -> None:
        tag = self.tags[name]
        if tag == "c":
            self._end_cell()
        elif tag in ("v", "t", "f"):
            self.text = None
        elif tag == "row":
            self._end_row()
        elif tag == "rPh":
            self.phonetic = False

    def _start_row(self, attributes: Mapping[str, str]) -> None:
        line = int(attributes["r"]) if "r" in attributes else self.line + 1
        if not self.line < line <= MOST_ROWS:
            raise DamagedError(f"row {line} after row {self.line}")
        self.line, self.place, self.cells = line, -1, []
        self.out.hidden += attributes.get("hidden") in ("1", "true")

    def _end_row(self) -> None:
        cells = self.cells
        while cells and not cells[-1].strip() and (self.line, len(cells) - 1) not in self.out.formulas:
            cells.pop()
        if cells:
            self.out.rows.append((self.line, cells))
            self.width = max(self.width, len(cells))
            if self.width * len(self.out.rows) > MOST_CELLS:
                raise TooWideError(f"{len(self.out.rows):,} rows and {self.width:,} columns")
            if self.most is not None and len(self.out.rows) >= self.most:
                raise _EnoughError

    def _start_cell(self, attributes: Mapping[str, str]) -> None:
        place = self.place + 1
        if "r" in attributes:
            letters = attributes["r"].rstrip("0123456789")
            known = self.places.get(letters)
            place = self.places.setdefault(letters, _number(letters)) if known is None else known
        if not self.place < place < MOST_COLUMNS:
            raise DamagedError(f"column {place + 1} after column {self.place + 1}")
        self.place = place
        self.kind, self.style = attributes.get("t", "n"), int(attributes.get("s", 0))
        self.value, self.inline, self.formula = [], [], None

    def _end_cell(self) -> None:
        text = self._text()
        if self.formula is not None:
            self.out.formulas[self.line, self.place] = "=" + "".join(self.formula)
        elif not text:
            return
        self.cells += [""] * (self.place - len(self.cells))
        self.cells.append(text)

    def _text(self) -> str:
        value = "".join(self.value)
        if self.kind == "inlineStr":
            return "".join(self.inline).replace("_x000D_", "")
        if not value:
            return ""
        if self.kind == "n":
            number = float(value)
            return self.dates(self.style, number) or value.strip()
        if self.kind == "s":
            place = int(value)
            if place < 0:
                raise DamagedError(f"word {place}")
            return str(self.shared[place]).replace("_x000D_", "")
        if self.kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, value)
        return value


def _number(letters: str) -> int:
    """Place of a column from its letters, counted from 0."""
    if not re.fullmatch("[A-Z]{1,3}", letters):
        raise DamagedError(f"column {letters!r}")
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1
