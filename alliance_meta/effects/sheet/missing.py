"""What counts as a missing cell, said once: for every column of a file, and for data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.effects.sheet.columns import (
    FEWEST_CELLS,
    LABEL_NAMES,
    MISSING_USUAL,
    MOSTLY_NUMBERS,
    is_missing,
    number_of,
    year_number,
)
from alliance_meta.errors import SuspiciousInputWarning
from alliance_meta.notes import Note, shell_words, warn_note

# What spreadsheets and SPSS users write for "missing" in a column of numbers.
NUMBER_CODES = (-9.0, -77.0, -88.0, -99.0, -888.0, -999.0, -9999.0, 88.0, 99.0, 888.0, 999.0, 9999.0, 99999.0)
FEWEST_OTHERS = 3


def far_codes(values: Array) -> list[tuple[float, int, float, float]]:
    """Return the usual number codes that lie far outside the other values: code, count, lowest and highest other."""
    found = []
    finite = values[np.isfinite(values)]
    for code in sorted(set(finite.tolist()) & set(NUMBER_CODES)):
        others = finite[(finite != code) & ~np.isin(finite, [one for one in NUMBER_CODES if abs(one) > abs(code)])]
        if others.size < FEWEST_OTHERS:
            continue
        low, high = float(others.min()), float(others.max())
        beyond = max(low - code, code - high)
        if beyond > max(high - low, abs(high) / 2) or (code < 0 <= low and code in (-99.0, -999.0, -9999.0)):
            found.append((code, int((finite == code).sum()), low, high))
    return found


def far_code_message(code: float, count: int, low: float, high: float) -> str:
    """Say that a number is probably a code, and how to declare it."""
    cells = f" in {count} cells" if count > 1 else ""
    return (
        f"{code:g}{cells} lies far outside the others ({low:g} to {high:g}): a code for a missing value? then say "
        f"missing={f'{code:g}'!r} (command line: {shell_words('--missing', f'{code:g}')})"
    )


def without_codes(frame: pd.DataFrame, declared: Any = (), *, stacklevel: int = 4) -> tuple[pd.DataFrame, list[Note]]:
    """Return a data frame whose cells that stand for "missing" are missing, and what there is to say of it."""
    codes = (str(declared),) if isinstance(declared, str | int | float) else tuple(map(str, declared))
    changed: dict[Any, pd.Series[Any]] = {}
    met: dict[str, int] = {}
    doubtful = []
    for name, column in frame.items():
        label = str(name) in LABEL_NAMES
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        if pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype=float, na_value=np.nan)
            gone = np.isin(values, [number for code in codes if (number := number_of(code)) is not None])
            if not label:
                doubtful += [f"{name}: {far_code_message(*one)}" for one in far_codes(values[~gone])]
        else:
            texts = {cell: is_missing(cell.strip(), codes, label=label) for cell in column if isinstance(cell, str)}
            gone = np.array([isinstance(cell, str) and texts[cell] for cell in column], dtype=bool)
        if gone.any() and not (label and pd.api.types.is_numeric_dtype(column)):
            for cell in column[gone].astype(str):
                met[cell.strip()] = met.get(cell.strip(), 0) + 1
            changed[name] = column.mask(gone)
    notes = []
    if told := {code: count for code, count in met.items() if code not in MISSING_USUAL}:
        listed = ", ".join(f"{code!r} ({count})" for code, count in told.items())
        notes.append(Note("missing-codes", f"Cells with {listed} count as missing."))
    if doubtful:
        text = "Possible mistakes: " + "; ".join(doubtful)
        notes.append(warn_note("suspicions", text, SuspiciousInputWarning, stacklevel=stacklevel))
    return (frame.assign(**{str(name): cells for name, cells in changed.items()}) if changed else frame), notes


def strays(name: str, cells: Sequence[Any]) -> list[int]:
    """Return the places of cells that are no numbers in a column of text that nearly is one of numbers."""
    read = {cell: _as_number(name, cell) for cell in cells if isinstance(cell, str)}
    filled = [i for i, cell in enumerate(cells) if isinstance(cell, str) and not is_missing(cell)]
    good = sum(read[cells[i]] is not None for i in filled)
    believed = name == "year" or (len(filled) >= FEWEST_CELLS and good >= MOSTLY_NUMBERS * len(filled))
    if not good or not believed:
        return []
    return [i for i in filled if read[cells[i]] is None]


def _as_number(name: str, cell: str) -> float | None:
    value = number_of(cell)
    return year_number(cell) if value is None and name == "year" else value
