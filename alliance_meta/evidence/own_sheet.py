"""A typed sheet and the printed result in the datapackage beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from alliance_meta.conditions import check_subset
from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.description import PACKAGE
from alliance_meta.effects.converting.rows import convert
from alliance_meta.effects.datasets import load_dataset
from alliance_meta.effects.provenance import Provenance
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.examine import examine
from alliance_meta.effects.sheet.ingest import read_coded
from alliance_meta.errors import CodingError, InputError, quiet
from alliance_meta.evidence.routes import route_from
from alliance_meta.formulas import parse_formula

SHEETS = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm")


def is_sheet(name: str | Path) -> bool:
    """Tell a file from the name of a shipped data set."""
    path = Path(name)
    return path.suffix.lower() in SHEETS or path.name != str(name) or path.is_file()


def read_sheet(name: str | Path, **naming: Any) -> tuple[CodedTable, list[PublishedResult]]:
    """Return the rows of a sheet and the printed results beside it; `naming` says what `SheetOptions` does.

    Raises `CodingError`, `InputError`: errors in the sheet; no printed result beside it, or one that cannot be read.
    """
    reading = examine(name, hold="read", **naming)
    if reading.table is None:
        raise CodingError(reading.errors, source=reading.source)
    wrong = [problem for problem in reading.problems if problem.kind in ("description", "published")]
    if wrong:
        raise CodingError(wrong, source=reading.source)
    if not reading.published:
        raise InputError(
            f"{reading.source} has no printed result beside it; `alliance-meta template NAME` writes a sheet with one, "
            f"or name it in {PACKAGE}: alliance_meta.published = [{{'printed': {{'estimate': '.275', 'k': '190'}}}}]"
        )
    table = with_r(reading.table)
    for place, result in enumerate(reading.published):
        _check(result, list(table.columns), f"{PACKAGE}: alliance_meta.published[{place}]")
    return table, list(reading.published)


def read_rows(table: Any, ri: str | None, ni: str | None, *, who: str) -> CodedTable:
    """Return the rows that a user names: a table, a data frame, a file, or a shipped data set; `who` asks."""
    if isinstance(table, CodedTable):
        return table
    if isinstance(table, pd.DataFrame):
        return CodedTable(table, Provenance(source="data frame"))
    if not isinstance(table, str | Path):
        raise InputError(f"{who} needs rows: a table, a file or the name of a data set, not {type(table).__name__}")
    return with_r(read_coded(table, ri=ri, ni=ni)) if is_sheet(table) else load_dataset(str(table))


def printed_results(name: str | Path, **naming: Any) -> tuple[PublishedResult, ...]:
    """Return the printed results of a sheet or of a shipped data set."""
    if is_sheet(name):
        return tuple(read_sheet(name, **naming)[1])
    card = load_dataset(str(name)).card
    return () if card is None else card.published


def _check(result: PublishedResult, columns: list[str], where: str) -> None:
    """Refuse what a description asks for and no table can give, before anything is run."""
    if result.subset is not None:
        check_subset(result.subset, columns, where=f"{where}.subset")
    if result.route is None:
        return
    route = route_from(result.route, where=f"{where}.route")
    if route.subset is not None:
        check_subset(route.subset, columns, where=f"{where}.route.subset")
    parse_formula(route.mods, where=f"{where}.route.mods")


def with_r(table: CodedTable) -> CodedTable:
    """Make r of other statistics where the sheet has them."""
    if "es_type" not in table.columns or table.column("es_type").isna().all():
        return table
    with quiet():
        return convert(table)
