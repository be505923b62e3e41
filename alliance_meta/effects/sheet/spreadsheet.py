"""Excel workbooks: the sheet that has the columns, every cell as the text of the value that is saved in it."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any

from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.worksheet import Cells, TooWideError, read_cells
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.options import did_you_mean, shell_words
from alliance_meta.tables.format import thousands

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

    Parameters
    ----------
    data, source : bytes, str
        The workbook and its name.
    found : Findings
        Takes what was adapted and what is wrong in cells.
    has_columns : callable
        Tells whether rows hold the header of a coding sheet.
    sheet : str or None
        Name of the sheet; by default the one that has the columns.

    Raises
    ------
    CodingError
        If the workbook is damaged, or it is not clear which sheet is meant.
    """
    with _guarded(source):
        _refuse_bombs(data, source)
        book = _Book(data)
        tabs = list(book.pages)
        name = _choose(book, has_columns, source) if sheet is None else sheet
        if name not in tabs:
            message = f"there is no sheet {name!r}{did_you_mean(name, tabs) or '.'} Sheets: {_listed(tabs)}"
            raise _refuse(source, message, "sheet")
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
        raise _refuse(source, message, "not-a-table") from None
    except Exception:
        raise _refuse(source, DAMAGED, "not-a-table") from None


def _refuse_bombs(data: bytes, source: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > LARGEST:
        message = (
            f"this workbook unpacks to {thousands(size / 1e6)} MB, which no coding sheet does; save the sheet as CSV"
        )
        raise _refuse(source, message, "not-a-table")


class _Book:
    """A workbook's sheets with what their cells need: its words, its date formats, its first day."""

    def __init__(self, data: bytes) -> None:
        from openpyxl.reader.excel import ExcelReader
        from openpyxl.styles.stylesheet import apply_stylesheet

        # Without the reader's own step through the sheets, which counts on what they say of their size.
        reader = ExcelReader(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        reader.read_manifest()
        reader.read_strings()
        reader.read_workbook()
        apply_stylesheet(reader.archive, reader.wb)
        self.archive, self.book, self.words = reader.archive, reader.wb, reader.shared_strings
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

        duration = style in self.book._timedelta_formats
        if not duration and style not in self.book._date_formats:
            return None
        return date_as_text(from_excel(number, self.book.epoch, timedelta=duration))


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
    raise _refuse(source, message, "sheet")


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
        shown = "=..." if formula == "=" else formula if len(formula) <= 40 else formula[:37] + "..."
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


def _refuse(source: str, message: str, kind: str) -> CodingError:
    return CodingError([Problem(None, None, None, message, kind=kind)], source=source)
