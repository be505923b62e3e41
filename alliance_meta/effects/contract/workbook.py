"""The blank coding sheet as an Excel workbook: drop-down lists, checks while typing, the codebook."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import datetime
from typing import Any

from alliance_meta.effects.contract.codebook import COLUMNS, rows_of
from alliance_meta.effects.contract.schema import Column, Contract

LAST_ROW = 2000
MOMENT = datetime(2000, 1, 1)
SHADES = {"required": "FF1F4E79", "advised": "FF2E75B6", "optional": "FF7F7F7F"}
EXCEL_HINT = 250


def blank_workbook(contract: Contract) -> bytes:
    """Return a workbook with the sheets ``effects``, ``codebook`` and, hidden, ``words``; the same bytes each time."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "effects"
    words = book.create_sheet("words")
    lists = _write_words(words, contract)
    _write_effects(sheet, contract, lists)
    _write_codebook(book.create_sheet("codebook", 1), contract)
    words.sheet_state = "hidden"
    for cell in (cell for page in book for row in page.iter_rows() for cell in row if cell.data_type == "f"):
        cell.data_type = "s"
    stream = io.BytesIO()
    book.save(stream)
    return _without_clock(stream.getvalue())


def _write_words(sheet: Any, contract: Contract) -> dict[str, str]:
    """Write one vocabulary per column; return where each stands."""
    from openpyxl.utils import get_column_letter

    places = {}
    for place, column in enumerate((one for one in contract.columns if one.vocabulary is not None), 1):
        assert column.vocabulary is not None
        for row, word in enumerate((f"words of {column.name}", *column.vocabulary.values), 1):
            sheet.cell(row, place, word)
        letter = get_column_letter(place)
        places[column.name] = f"words!${letter}$2:${letter}${len(column.vocabulary.values) + 1}"
    return places


def _write_effects(sheet: Any, contract: Contract, lists: dict[str, str]) -> None:
    from openpyxl.styles import Font, PatternFill
    from openpyxl.utils import get_column_letter

    for place, column in enumerate(contract.columns, 1):
        letter = get_column_letter(place)
        head = sheet.cell(1, place, column.name)
        head.font = Font(bold=True, color="FFFFFFFF")
        head.fill = PatternFill("solid", fgColor=SHADES[column.need])
        sheet.column_dimensions[letter].width = max(11, len(column.name) + 3)
        if not column.numeric:
            # As text, or a spreadsheet makes a date of session 3-5.
            sheet.column_dimensions[letter].number_format = "@"
        rule = _validation(column, lists)
        if rule is not None:
            rule.add(f"{letter}2:{letter}{LAST_ROW}")
            sheet.add_data_validation(rule)
    sheet.freeze_panes = "A2"


def _validation(column: Column, lists: dict[str, str]) -> Any:
    """Return what Excel checks while a cell is typed, or None."""
    from openpyxl.worksheet.datavalidation import DataValidation

    said: dict[str, Any] = {
        "allow_blank": True,
        "showErrorMessage": True,
        "showInputMessage": True,
        "promptTitle": column.title[:31],
        "prompt": column.description[:EXCEL_HINT],
        "errorTitle": column.name[:31],
    }
    if column.vocabulary is not None:
        text = "Not a word of the vocabulary. Keep it only if datapackage.json adds it."
        return DataValidation("list", formula1=lists[column.name], errorStyle="warning", error=text, **said)
    if column.type == "boolean":
        return DataValidation("list", formula1='"yes,no"', errorStyle="warning", error="yes or no", **said)
    if not column.numeric:
        return None
    low = column.minimum if column.above is None else column.above
    high = column.maximum if column.below is None else column.below
    kind = "whole" if column.type == "integer" else "decimal"
    text = f"A {'whole number' if kind == 'whole' else 'number'}{f' {column.bounds}' if column.bounds else ''}."
    if low is None or high is None:
        least = "-1000000000" if low is None else f"{low:g}"
        return DataValidation(kind, operator="greaterThanOrEqual", formula1=least, error=text, **said)
    return DataValidation(kind, operator="between", formula1=f"{low:g}", formula2=f"{high:g}", error=text, **said)


def _write_codebook(sheet: Any, contract: Contract) -> None:
    from openpyxl.styles import Alignment, Font

    sheet.append(["column", *COLUMNS])
    for row in rows_of(contract):
        sheet.append(row)
    sheet.append([])
    sheet.append(["column", "word", "meaning"])
    second = sheet.max_row
    for column in contract.columns:
        for term in column.vocabulary.terms if column.vocabulary is not None else ():
            sheet.append([column.name, term.value, term.meaning])
    for cell in (*sheet[1], *sheet[second]):
        cell.font = Font(bold=True)
    for letter, width in zip("ABCDEFGH", (20, 24, 12, 10, 14, 48, 60, 20), strict=True):
        sheet.column_dimensions[letter].width = width
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            cell.number_format = "@"
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    sheet.freeze_panes = "B2"


def _without_clock(data: bytes) -> bytes:
    """Return the archive with every time in it set to one and the same moment."""
    stream = io.BytesIO()
    moment = MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "docProps/core.xml":
                part = re.sub(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*", rb"\g<1>" + moment, part)
            entry = zipfile.ZipInfo(name, date_time=MOMENT.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, part)
    return stream.getvalue()
