"""A typed sheet and the printed result in the datapackage beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.coded import CodedTable
from alliance_meta.effects.convert import convert
from alliance_meta.effects.datasets import load_dataset
from alliance_meta.effects.description import PACKAGE
from alliance_meta.effects.examine import examine
from alliance_meta.errors import AllianceMetaWarning, CodingError, InputError

SHEETS = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm")
USUAL: dict[str, Any] = {
    "id": "printed",
    "label": "printed result",
    "kind": "published",
    "source": "not stated",
    "where": "not stated",
    "doi": None,
    "scale": "r",
    "coefficient": "intrcpt",
    "route": None,
    "search": True,
    "note": "",
    "moderator": "",
    "subset": None,
}


def is_sheet(name: str | Path) -> bool:
    """Tell a file from the name of a shipped data set."""
    path = Path(name)
    return path.suffix.lower() in SHEETS or path.name != str(name) or path.is_file()


def read_sheet(name: str | Path, **naming: Any) -> tuple[CodedTable, list[PublishedResult]]:
    """Return the rows of a sheet and the printed results beside it; `naming` says what `SheetOptions` does.

    Raises
    ------
    CodingError, InputError
        Errors in the sheet; no printed result beside it, or one that cannot be read.
    """
    reading = examine(name, hold="read", **naming)
    if reading.table is None:
        raise CodingError(reading.errors, source=reading.source)
    if not reading.published:
        raise InputError(
            f"{reading.source} has no printed result beside it; `alliance-meta template NAME` writes a sheet with one, "
            f"or name it in {PACKAGE}: alliance_meta.published = [{{'printed': {{'estimate': '.275', 'k': '190'}}}}]"
        )
    results = [_result(block, place) for place, block in enumerate(reading.published)]
    return with_r(reading.table), results


def printed_results(name: str | Path, **naming: Any) -> tuple[PublishedResult, ...]:
    """Return the printed results of a sheet or of a shipped data set."""
    if is_sheet(name):
        return tuple(read_sheet(name, **naming)[1])
    card = load_dataset(str(name)).card
    return () if card is None else card.published


def _result(block: Mapping[str, Any], place: int) -> PublishedResult:
    printed = block.get("printed")
    if not isinstance(printed, Mapping) or not printed:
        raise InputError(f"{PACKAGE}: alliance_meta.published[{place}] lacks 'printed', e.g. {{'estimate': '.275'}}")
    for quantity, text in printed.items():
        if not isinstance(text, str) or not _is_number(text):
            raise InputError(
                f"{PACKAGE}: alliance_meta.published[{place}].printed.{quantity} is {text!r}; "
                "write it as the paper prints it, in quotation marks: '.275'"
            )
    result = PublishedResult.from_dict({**USUAL, **block, "printed": dict(printed)})
    if result.scale not in ("r", "z"):
        raise InputError(f"{PACKAGE}: alliance_meta.published[{place}].scale is {result.scale!r}; write 'r' or 'z'")
    return result


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace("−", "-")))
    except ValueError:
        return False


def with_r(table: CodedTable) -> CodedTable:
    """Make r of other statistics where the sheet has them."""
    if "es_type" not in table.columns or table.column("es_type").isna().all():
        return table
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return convert(table)
