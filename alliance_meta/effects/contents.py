"""What is in a coding sheet: studies, people and, column by column, what stands there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alliance_meta.effects.checking import ParsedSheet
from alliance_meta.effects.columns import LABEL_NAMES, ParsedColumn
from alliance_meta.effects.schema import Contract

MOST_LEVELS = 12
SHOWN_LEVELS = 4


@dataclass(frozen=True, slots=True)
class ColumnContents:
    """What one column holds.

    Attributes
    ----------
    name, label : str
        Its name in the table and in the file.
    kind : {"numbers", "words", "labels", "empty"}
        Numbers; words that group the rows; names or prose.
    filled, different : int
        Cells that are filled, and different values among them.
    summary : str
        Range and mean of numbers, counts of words.
    contract : bool
        Whether the contract knows the column.
    """

    name: str
    label: str
    kind: str
    filled: int
    different: int
    summary: str
    contract: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What a sheet holds.

    Attributes
    ----------
    rows : int
        Rows below the header.
    studies, samples : int or None
        Different studies and samples, if there is a column that tells them.
    most_effects : int or None
        Largest number of rows of one study.
    people : int or None
        Sum of n over samples (over rows if there is no column of samples).
    columns : tuple of ColumnContents
        Column by column.
    lacks_required, lacks_advised : tuple of str
        Columns of the contract that are not there.
    """

    rows: int
    studies: int | None
    samples: int | None
    most_effects: int | None
    people: int | None
    columns: tuple[ColumnContents, ...]
    lacks_required: tuple[str, ...]
    lacks_advised: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents as a plain dictionary, for ``--json``."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The whole sheet in one line."""
        parts = [_count(self.rows, "effect")]
        if self.samples is not None:
            parts.append(f"from {_count(self.samples, 'sample')}")
        if self.studies is not None:
            parts.append(f"{'in' if self.samples is not None else 'from'} {_count(self.studies, 'study', 'studies')}")
        text = " ".join(parts)
        if self.most_effects is not None and self.most_effects > 1:
            text += f", at most {self.most_effects} from one study"
        if self.people is not None:
            text += f"; {self.people:,} people".replace(",", " ")
        return text


def contents_of(sheet: ParsedSheet, contract: Contract) -> Contents:
    """Summarise a sheet."""
    studies = _filled(sheet, ("study_id", "study"))
    samples = _filled(sheet, ("sample_id",))
    there = {sheet.r: "r", sheet.n: "n"}
    names = {there.get(name, name) for name in sheet.columns}
    if sheet.finished or "es_type" in names:
        names |= {"r", "n"}
    return Contents(
        rows=len(sheet.lines),
        studies=None if studies is None else len(set(studies)),
        samples=None if samples is None else len(set(_samples(sheet, samples, studies))),
        most_effects=None if studies is None else max(Counter(studies).values(), default=0),
        people=_people(sheet, samples, studies),
        columns=tuple(_contents(column, contract) for column in sheet.columns.values()),
        lacks_required=tuple(column.name for column in contract.named("required") if column.name not in names),
        lacks_advised=tuple(column.name for column in contract.named("advised") if column.name not in names),
    )


def _filled(sheet: ParsedSheet, names: Sequence[str]) -> list[str] | None:
    """Return the first of these columns that is not empty; an empty cell stands for itself alone."""
    for name in names:
        column = sheet.columns.get(name)
        if column is not None and not all(column.missing):
            cells = zip(column.cells, column.missing, sheet.lines, strict=True)
            return [f"\0{line}" if gone else cell for cell, gone, line in cells]
    return None


def _samples(sheet: ParsedSheet, samples: list[str], studies: list[str] | None) -> list[tuple[str, str]]:
    return list(zip(studies or [""] * len(sheet.lines), samples, strict=True))


def _people(sheet: ParsedSheet, samples: list[str] | None, studies: list[str] | None) -> int | None:
    n = sheet.numbers(sheet.n)
    if not np.isfinite(n).any():
        return None
    if samples is None:
        return _whole(n[np.isfinite(n)].tolist())
    largest: dict[tuple[str, str], float] = {}
    for key, people in zip(_samples(sheet, samples, studies), n, strict=True):
        if np.isfinite(people):
            largest[key] = max(largest.get(key, 0.0), float(people))
    return _whole(list(largest.values()))


def _whole(people: list[float]) -> int | None:
    total = sum(people)
    return int(total) if abs(total) < 2**53 else None


def _contents(column: ParsedColumn, contract: Contract) -> ColumnContents:
    filled = [cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone]
    counts = Counter(filled)
    kind, summary = "labels", f"{len(counts)} different"
    if not filled:
        kind, summary = "empty", ""
    elif column.values is not None:
        kind, summary = "numbers", _range(column)
    elif column.name not in LABEL_NAMES and len(counts) <= MOST_LEVELS:
        kind, summary = "words", _levels(counts)
    known = contract.column(column.name) is not None
    return ColumnContents(column.name, column.label, kind, len(filled), len(counts), summary, known)


def _range(column: ParsedColumn) -> str:
    values = np.array([value for value in column.values or () if value is not None])
    if not values.size:
        return "no number"
    with np.errstate(over="ignore"):
        low, high, mean = values.min(), values.max(), values.mean()
    span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return span if low == high or column.name == "year" else f"{span}, mean {mean:.3g}"


def _levels(counts: Counter[str]) -> str:
    listed = [f"{_short(level)} ({count})" for level, count in counts.most_common(SHOWN_LEVELS)]
    rest = len(counts) - SHOWN_LEVELS
    return ", ".join(listed) + (f" and {rest} more" if rest > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:21] + "..."


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
