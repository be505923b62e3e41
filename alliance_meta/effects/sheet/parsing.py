"""From named columns of text to numbers, levels and missing cells; what is adapted is announced."""

from __future__ import annotations

from collections import Counter

from alliance_meta.effects.contract.description import Description
from alliance_meta.effects.converting.inputs import COLUMNS as CONVERTED
from alliance_meta.effects.sheet.checking import ParsedSheet
from alliance_meta.effects.sheet.columns import (
    MISSING_USUAL,
    YEAR_PRINTED,
    DecimalMark,
    ParsedColumn,
    count_fractions,
    parse_column,
    parse_number,
    year_number,
)
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.naming import Names, SheetOptions
from alliance_meta.effects.sheet.reading import Sheet


def parse_sheet(
    sheet: Sheet, named: Names, options: SheetOptions, described: Description, found: Findings
) -> ParsedSheet:
    """Read every column as numbers or as text."""
    labels = {named.names[label]: label for label in sheet.header}
    mark = _decimal_mark(sheet, labels.get(named.finished.yi if named.finished else named.r), found)
    used = {named.finished.yi, named.finished.second} if named.finished else {named.r, named.n}
    if named.convertible:
        used |= {"es_value", *CONVERTED}
    declared = described.missing | set(options.missing)
    columns: dict[str, ParsedColumn] = {}
    for name, label in labels.items():
        rules = described.contract.column(name)
        columns[name] = parse_column(
            name,
            label,
            sheet.columns[label],
            mark,
            used=name in used and (rules is None or rules.numeric),
            numeric=rules is not None and rules.numeric,
            names=name == named.study,
            words=None if rules is None else rules.vocabulary,
            codes=declared,
        )
    _keep_letters_of_years(sheet, columns, found)
    _announce_missing(sheet, columns, described.missing, found)
    _suspect_other_mark(columns, mark, found)
    measure = options.measure or "ZCOR"
    return ParsedSheet(sheet.source, sheet.lines, columns, named.r, named.n, mark, measure, named.finished, named.study)


def _keep_letters_of_years(sheet: Sheet, columns: dict[str, ParsedColumn], found: Findings) -> None:
    """Where 2000a is read as the year 2000, keep what was written: its letter tells two publications apart."""
    year = columns.get("year")
    if year is None or year.values is None or not any(year_number(cell) for cell in year.cells):
        return
    if YEAR_PRINTED not in columns:
        columns[YEAR_PRINTED] = ParsedColumn(YEAR_PRINTED, year.label, year.cells, year.missing, None)
    line, cell = next((line, cell) for line, cell in zip(sheet.lines, year.cells, strict=True) if year_number(cell))
    text = f"{sheet.source}: years with a letter are read as the year (first in line {line}: {cell}); "
    found.note("year-letter", f"{text}{YEAR_PRINTED} keeps the letters")


def _decimal_mark(sheet: Sheet, r: str | None, found: Findings) -> DecimalMark:
    """Decide by the r column, then by all others; announce decimal commas with their first line."""
    deciding = [sheet.columns[r]] if r is not None else []
    points, commas = count_fractions(cell for cells in deciding for cell in cells)
    if points == commas == 0:
        deciding = list(sheet.columns.values())
        points, commas = count_fractions(cell for cells in deciding for cell in cells)
    if commas <= points:
        return "."
    first = ((line, cell) for cells in deciding for line, cell in zip(sheet.lines, cells, strict=True))
    line, cell = next((line, cell) for line, cell in first if count_fractions([cell]) == (0, 1))
    found.note("decimal-mark", f"{sheet.source}: decimal commas are read as such (first in line {line}: {cell})")
    return ","


def _announce_missing(
    sheet: Sheet, columns: dict[str, ParsedColumn], declared: frozenset[str], found: Findings
) -> None:
    codes: Counter[str] = Counter()
    first = None
    for column in columns.values():
        for line, cell, missing in zip(sheet.lines, column.cells, column.missing, strict=True):
            if missing and cell not in MISSING_USUAL and cell not in declared:
                codes[cell] += 1
                first = line if first is None else min(first, line)
    if codes:
        listed = ", ".join(f"{code!r} ({count})" for code, count in codes.items())
        found.note("missing-codes", f"{sheet.source}: cells with {listed} count as missing (first in line {first})")


def _suspect_other_mark(columns: dict[str, ParsedColumn], mark: DecimalMark, found: Findings) -> None:
    other: DecimalMark = "," if mark == "." else "."
    for column in columns.values():
        if column.values is not None or not any(other in cell for cell in set(column.cells)):
            continue
        filled = [cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone]
        if filled and all(parse_number(cell, other) is not None for cell in filled):
            here, sheet = ("commas", "points") if other == "," else ("points", "commas")
            message = f"has decimal {here} (e.g. {filled[0]}) in a sheet with decimal {sheet}; it is read as text"
            found.suspicion(None, column.label, filled[0], message, kind="decimal-mixture")
