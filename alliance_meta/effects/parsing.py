"""From named columns of text to numbers, levels and missing cells; what is adapted is announced."""

from __future__ import annotations

from collections import Counter

from alliance_meta.effects.checking import ParsedSheet
from alliance_meta.effects.columns import (
    MISSING_USUAL,
    DecimalMark,
    ParsedColumn,
    count_fractions,
    parse_column,
    parse_number,
)
from alliance_meta.effects.description import Description
from alliance_meta.effects.findings import Findings
from alliance_meta.effects.naming import Names
from alliance_meta.effects.reading import Sheet

MOSTLY_NUMBERS = 0.8
FEWEST_CELLS = 5


def parse_sheet(
    sheet: Sheet, named: Names, described: Description, found: Findings, *, r: str, n: str, measure: str
) -> ParsedSheet:
    """Read every column as numbers or as text."""
    labels = {named.names[label]: label for label in sheet.header}
    mark = _decimal_mark(sheet, labels.get(named.finished[0] if named.finished else r), found)
    columns: dict[str, ParsedColumn] = {}
    for name, label in labels.items():
        rules = described.contract.column(name)
        columns[name] = parse_column(
            name,
            label,
            sheet.columns[label],
            mark,
            numeric=name in (r, n) or (rules is not None and rules.numeric),
            # A column of words may hold numbers only; a few words among numbers are no mistake there.
            mostly=MOSTLY_NUMBERS if rules is None else 1.0,
            at_least=FEWEST_CELLS,
            missing=described.missing,
            label_column=name == named.study,
        )
    _announce_missing(sheet, columns, described.missing, found)
    _suspect_other_mark(columns, mark, found)
    return ParsedSheet(sheet.source, sheet.lines, columns, r, n, mark, measure, named.finished, named.study)


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
