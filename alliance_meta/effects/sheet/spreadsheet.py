"""Excel workbooks: the sheet that has the columns, every cell as the text of the value that is saved in it."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any
from xml.parsers import expat

from alliance_meta.effects.sheet.findings import Findings, refuse, short
from alliance_meta.errors import CodingError, InputError
from alliance_meta.notes import did_you_mean, shell_words
from alliance_meta.tables.format import thousands

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
    """What a sheet holds."""

    # List of (int, list of str): row number and cells of every row that is not blank; formulas without a saved result
    # are empty here.
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    formulas: dict[tuple[int, int], str] = field(default_factory=dict)  # formula by (row number, place in the row)
    merged: list[str] = field(default_factory=list)  # merged ranges
    hidden: int = 0  # number of hidden rows


def read_cells(
    xml: bytes, *, shared: Sequence[Any], dates: Callable[[int, float], str | None], most: int | None = None
) -> Cells:
    """Read the cells of a sheet, at most the first `most` rows that are not blank.

    `shared` are the workbook's words; `dates` gives the text of a number in a cell of this style if it is a date.

    Raises `TooWideError`: if rows times width are more than `MOST_CELLS`; `DamagedError`: if it is no sheet, or rows or
    cells in it are out of order, so that some would be lost.
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
        """Go through the XML of a sheet."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.characters
        parser.StartDoctypeDeclHandler = self.doctype
        parser.Parse(xml, True)

    def doctype(self, *_: Any) -> None:
        """Refuse a declaration of document types."""
        # A sheet has none; entities declared in one can unfold to gigabytes.
        raise DamagedError("a document type declaration")

    def characters(self, data: str) -> None:
        """Take the text of an element that is read."""
        if self.text is not None:
            self.text.append(data)

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin a row, a cell, or one of its parts."""
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
        """End what was begun."""
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


ZIP = (b"PK\x03\x04", b"PK\x05\x06")
LARGEST = 300_000_000
HEADER_SEARCH_ROWS = 12
DAMAGED = "a damaged Excel workbook (cut off, or not wholly copied?): open and save it again, or save the sheet as CSV"

Rows = list[tuple[int, list[str]]]
Header = Callable[[list[list[str]]], bool]


def is_workbook(data: bytes) -> bool:
    """Tell an Excel workbook, whatever it is called."""
    if not data.startswith(ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return b"xl/workbook.xml" in data or b"xl/worksheets" in data


def read_workbook(data: bytes, source: str, found: Findings, *, has_columns: Header, sheet: str | None) -> Rows:
    """Return (row number, cells) of every row of one sheet that is not blank, all rows equally long.

    `has_columns` tells whether rows hold the header of a coding sheet, and so which sheet is meant where none is named.

    Raises `CodingError`: if the workbook is damaged, or it is not clear which sheet is meant.
    """
    with _guarded(source):
        _refuse_bombs(data, source)
        book = _Book(data)
        tabs = list(book.pages)
        name = _choose(book, has_columns, source) if sheet is None else sheet
        if name not in tabs:
            message = f"there is no sheet {name!r}{did_you_mean(name, tabs) or '.'} Sheets: {_listed(tabs)}"
            raise refuse(source, message, "sheet")
        cells = book.cells(name)
    if len(tabs) > 1:
        found.note("sheet", f"{source}: sheet {name!r} is read (of {_listed(tabs)})")
    if cells.hidden:
        some = "a hidden row is" if cells.hidden == 1 else f"{cells.hidden} hidden rows are"
        found.note("hidden-rows", f"{source}: {some} read too")
    _take_formulas(cells, found)
    _report_merged(cells, found)
    width = max((len(row) for _, row in cells.rows), default=0)
    return [(line, row + [""] * (width - len(row))) for line, row in cells.rows]


@contextmanager
def _guarded(source: str) -> Iterator[None]:
    """Turn whatever a damaged workbook does to its readers into one message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CodingError, InputError, MemoryError):
        raise
    except TooWideError as error:
        message = f"the cells span {error}, which no coding sheet does; delete stray cells, or save the sheet as CSV"
        raise refuse(source, message, "not-a-table") from None
    except Exception:
        raise refuse(source, DAMAGED, "not-a-table") from None


def _refuse_bombs(data: bytes, source: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > LARGEST:
        message = (
            f"this workbook unpacks to {thousands(size / 1e6)} MB, which no coding sheet does; save the sheet as CSV"
        )
        raise refuse(source, message, "not-a-table")


class _Book:
    """A workbook's sheets with what their cells need: its words, its date formats, its first day."""

    def __init__(self, data: bytes) -> None:
        from openpyxl.reader.excel import ExcelReader
        from openpyxl.styles.stylesheet import Stylesheet
        from openpyxl.xml.constants import ARC_STYLE
        from openpyxl.xml.functions import fromstring

        # Without the reader's own step through the sheets, which counts on what they say of their size.
        reader = ExcelReader(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        reader.read_manifest()
        reader.read_strings()
        reader.read_workbook()
        self.archive, self.epoch, self.words = reader.archive, reader.wb.epoch, reader.shared_strings
        # Which styles of cells are those of a day or a time, and of a duration.
        self.days: Collection[int] = ()
        self.durations: Collection[int] = ()
        if ARC_STYLE in reader.valid_files:
            styles = Stylesheet.from_tree(fromstring(self.archive.read(ARC_STYLE)))
            self.days, self.durations = styles.date_formats, styles.timedelta_formats
        self.pages: dict[str, str] = {
            page.name: link.target
            for page, link in reader.parser.find_sheets()
            if link.target in reader.valid_files and "chartsheet" not in link.Type
        }
        if not self.pages:
            raise ValueError("no sheets")

    def cells(self, name: str, most: int | None = None) -> Cells:
        """Read one sheet."""
        return read_cells(self.archive.read(self.pages[name]), shared=self.words, dates=self.date, most=most)

    def date(self, style: int, number: float) -> str | None:
        """Return the text of a number in a cell that is formatted as a date or a time, else None."""
        from openpyxl.utils.datetime import from_excel

        duration = style in self.durations
        if not duration and style not in self.days:
            return None
        return date_as_text(from_excel(number, self.epoch, timedelta=duration))


def _choose(book: _Book, has_columns: Header, source: str) -> str:
    """Return the sheet with the columns; the only sheet of a workbook is taken in any case."""
    tabs = list(book.pages)
    if len(tabs) == 1:
        return tabs[0]
    heads = {name: [row for _, row in book.cells(name, HEADER_SEARCH_ROWS).rows] for name in tabs}
    fitting = [name for name, rows in heads.items() if has_columns(rows)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        message = (
            f"no sheet has a column for r and one for n, or finished effects. Sheets: {_listed(tabs)}; name one to see "
            f"what its columns could be: sheet={tabs[0]!r} (command line: {shell_words('--sheet', tabs[0])})"
        )
    else:
        message = (
            f"{_listed(fitting)} could each be the coding sheet; say which: sheet={fitting[0]!r} "
            f"(command line: {shell_words('--sheet', fitting[0])})"
        )
    raise refuse(source, message, "sheet")


def _take_formulas(cells: Cells, found: Findings) -> None:
    """Report formulas, one line a column; where no result is saved, the formula itself becomes the cell's text."""
    rows = dict(cells.rows)
    names = [" ".join(name.split()) for name in cells.rows[0][1]] if cells.rows else []
    columns: dict[tuple[int, bool], list[tuple[int, str]]] = {}
    for (line, place), formula in cells.formulas.items():
        saved = bool(rows[line][place])
        columns.setdefault((place, saved), []).append((line, formula))
        if not saved:
            rows[line][place] = formula
    for (place, saved), (first, *others) in columns.items():
        line, formula = first
        label = names[place] if place < len(names) and names[place] else None
        shown = "=..." if formula == "=" else short(formula)
        more = f" (and {len(others)} more cell{'s' if len(others) > 1 else ''} of this column)" if others else ""
        text = rows[line][place]
        if saved:
            message = f"{text} is the saved result of the formula {shown}{more}; type the number itself"
            found.suspicion(line, label, text, message, kind="formula")
        else:
            message = f"{shown!r} is a formula without a saved result{more}; type its result"
            found.error(line, label, formula, message, kind="formula")


def _report_merged(cells: Cells, found: Findings) -> None:
    """Report merged cells below the header: all but one of them have no value."""
    for span in cells.merged:
        first, _, last = ("".join(c for c in corner if c.isdigit() or c == ":") for corner in span.partition(":"))
        if first and last and cells.rows and int(last) > cells.rows[0][0]:
            message = f"the cells {span} are merged, so only the first holds a value; unmerge them and fill each in"
            found.error(int(first), None, None, message, kind="merged-cells")


def date_as_text(value: Any) -> str:
    """Return the text of a cell that is formatted as a date or a time.

    >>> date_as_text(datetime(2001, 2, 3)), date_as_text(time(7, 30))
    ('2001-02-03', '07:30:00')
    """
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time(0) else value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))
