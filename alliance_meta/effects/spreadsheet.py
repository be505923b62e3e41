"""Excel workbooks: the sheet that has the columns, every cell as the text of the value that is saved in it."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from alliance_meta.effects.findings import Findings
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.options import did_you_mean

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
LARGEST = 1_000_000_000
HEADER_SEARCH_ROWS = 12
DAMAGED = "a damaged Excel workbook (cut off, or not wholly copied?): open and save it again, or save the sheet as CSV"
MOST_ROWS = 1_048_576
_ROW = re.compile(rb"<(?:\w+:)?row\s[^>]*?\br=[\"']([^\"']*)[\"']")
_FORMULA = re.compile(rb"<(?:\w+:)?f[ >/]")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell [^>]*ref=\"([A-Z]+[0-9]+:[A-Z]+[0-9]+)\"")
_HIDDEN = re.compile(rb"<(?:\w+:)?row [^>]*\bhidden=\"(?:1|true)\"")

Rows = list[tuple[int, list[str]]]
Header = Callable[[list[list[str]]], bool]


@dataclass(frozen=True)
class Tab:
    """One sheet of a workbook: its name, its rows that are not blank, and what its file says of them."""

    name: str
    rows: Rows
    merged: tuple[str, ...] = ()
    hidden: int = 0


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
        with _opened(data, values=True) as book:
            tabs = [page.title for page in book.worksheets]
            name = _choose(book, tabs, has_columns, source) if sheet is None else sheet
            if name not in tabs:
                message = f"there is no sheet {name!r}{did_you_mean(name, tabs) or '.'} Sheets: {_listed(tabs)}"
                raise _refuse(source, message, "sheet")
            tab = _read(data, book[name], found, source)
    if len(tabs) > 1:
        found.note("sheet", f"{source}: sheet {tab.name!r} is read (of {_listed(tabs)})")
    if tab.hidden:
        some = "a hidden row is" if tab.hidden == 1 else f"{tab.hidden} hidden rows are"
        found.note("hidden-rows", f"{source}: {some} read too")
    for span in tab.merged:
        first, last = (int(re.sub("[A-Z]", "", corner)) for corner in span.split(":"))
        if tab.rows and last > tab.rows[0][0]:
            message = f"the cells {span} are merged, so only the first holds a value; unmerge them and fill each in"
            found.error(first, None, None, message, kind="merged-cells")
    return tab.rows


@contextmanager
def _guarded(source: str) -> Iterator[None]:
    """Turn whatever a damaged workbook does to its readers into one message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CodingError, InputError, MemoryError):
        raise
    except Exception:
        raise _refuse(source, DAMAGED, "not-a-table") from None


def _refuse_bombs(data: bytes, source: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > LARGEST:
        message = f"this workbook unpacks to {size / 1e9:.1f} GB, which no coding sheet does; save the sheet as CSV"
        raise _refuse(source, message, "not-a-table")


@contextmanager
def _opened(data: bytes, *, values: bool) -> Iterator[Any]:
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(data), read_only=True, data_only=values, keep_links=False)
    try:
        yield book
    finally:
        book.close()


def _choose(book: Any, tabs: list[str], has_columns: Header, source: str) -> str:
    """Return the sheet with the columns; the only sheet of a workbook is taken in any case."""
    if len(tabs) == 1:
        return tabs[0]
    fitting = [page.title for page in book.worksheets if has_columns(_head(page))]
    if len(fitting) == 1:
        return str(fitting[0])
    if not fitting:
        message = f"no sheet has a column for r and one for n, or finished effects. Sheets: {_listed(tabs)}"
    else:
        message = (
            f"{_listed(fitting)} could each be the coding sheet; say which: sheet={fitting[0]!r} "
            f"(command line: --sheet {fitting[0]!r})"
        )
    raise _refuse(source, message, "sheet")


def _head(page: Any) -> list[list[str]]:
    page.reset_dimensions()
    rows = []
    for place, row in enumerate(page.iter_rows(values_only=True)):
        cells = [text_of(value) for value in row]
        if any(cells):
            rows.append(cells)
        if len(rows) >= HEADER_SEARCH_ROWS or place > 1000:
            break
    return rows


def _read(data: bytes, page: Any, found: Findings, source: str) -> Tab:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        raw = archive.read(page._worksheet_path)
    numbers = [int(number) for number in _ROW.findall(raw)]
    # Rows out of order would be dropped without a word, and a row number without end would be counted up to.
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > MOST_ROWS):
        raise _refuse(source, DAMAGED, "not-a-table")
    rows = list(_rows(page))
    if _FORMULA.search(raw):
        with _opened(data, values=False) as book:
            _take_formulas(rows, book[page.title], found)
    width = max((len(cells) for _, cells in rows), default=0)
    padded = [(line, cells + [""] * (width - len(cells))) for line, cells in rows]
    return Tab(page.title, padded, tuple(one.decode() for one in _MERGED.findall(raw)), len(_HIDDEN.findall(raw)))


def _rows(page: Any) -> Iterator[tuple[int, list[str]]]:
    # What a file says of its own size may be wrong, or a million empty rows.
    page.reset_dimensions()
    for line, row in enumerate(page.iter_rows(values_only=True), 1):
        cells = [text_of(value) for value in row]
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            yield line, cells


def _take_formulas(rows: Rows, page: Any, found: Findings) -> None:
    """Report cells that hold a formula; where no result is saved, the formula itself becomes the cell's text."""
    lines = {line: cells for line, cells in rows}
    names = [" ".join(name.split()) for name in rows[0][1]] if rows else []
    page.reset_dimensions()
    extra: Rows = []
    for line, row in enumerate(page.iter_rows(), 1):
        for place, cell in enumerate(row):
            if getattr(cell, "data_type", None) != "f":
                continue
            formula = str(getattr(cell.value, "text", cell.value))
            cells = lines.get(line)
            if cells is None:
                cells = lines[line] = []
                extra.append((line, cells))
            cells += [""] * (place + 1 - len(cells))
            label = names[place] if place < len(names) and names[place] else None
            shown = formula if len(formula) <= 40 else formula[:37] + "..."
            if cells[place]:
                message = f"{cells[place]} is the saved result of the formula {shown}; type the number itself"
                found.suspicion(line, label, cells[place], message, kind="formula")
            else:
                cells[place] = formula
                message = f"{shown!r} is a formula without a saved result; type its result"
                found.error(line, label, formula, message, kind="formula")
    rows.extend(extra)
    rows.sort(key=lambda row: row[0])


def text_of(value: Any) -> str:
    """Return the text of a cell's value, with every digit that is saved.

    >>> text_of(48.0), text_of(0.31), text_of(None), text_of(True)
    ('48', '0.31', '', 'TRUE')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time(0) else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value).replace("_x000D_", "")


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _refuse(source: str, message: str, kind: str) -> CodingError:
    return CodingError([Problem(None, None, None, message, kind=kind)], source=source)
