"""What is in a coding sheet: studies, people and, column by column, what stands there."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alliance_meta.core.dependent import codes
from alliance_meta.effects.contract.schema import Contract
from alliance_meta.effects.sheet.checking import ParsedSheet
from alliance_meta.effects.sheet.columns import LABEL_NAMES, ParsedColumn
from alliance_meta.effects.sheet.findings import short
from alliance_meta.effects.studies import count_people, sample_codes, spaced
from alliance_meta.tables.format import brief

MOST_LEVELS = 12
SHOWN_LEVELS = 4


@dataclass(frozen=True, slots=True)
class ColumnContents:
    """What one column holds."""

    # name, label: its name in the table and in the file.
    name: str
    label: str
    kind: str  # {"numbers", "words", "labels", "empty"}: numbers; words that group the rows; names or prose
    # filled, different: cells that are filled, and different values among them.
    filled: int
    different: int
    summary: str  # range and mean of numbers, counts of words
    contract: bool  # whether the contract knows the column


@dataclass(frozen=True, slots=True)
class Contents:
    """What a sheet holds."""

    rows: int  # rows below the header
    effects: int  # rows with an effect; only these count for what follows
    # studies, samples: different studies and samples, if there is a column that tells them.
    studies: int | None
    samples: int | None
    most_effects: int | None  # largest number of effects of one study
    # Sum of n over samples, each counted once: within a study, the rows of one sample, or the rows with the same n.
    people: int | None
    columns: tuple[ColumnContents, ...]  # column by column
    # lacks_required, lacks_advised: columns of the contract that are not there.
    lacks_required: tuple[str, ...]
    lacks_advised: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents as a plain dictionary, for ``--json``."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The whole sheet in one line."""
        parts = [_count(self.effects, "effect")]
        if self.samples is not None:
            parts.append(f"from {_count(self.samples, 'sample')}")
        if self.studies is not None:
            parts.append(f"{'in' if self.samples is not None else 'from'} {_count(self.studies, 'study', 'studies')}")
        text = " ".join(parts)
        if self.most_effects is not None and self.most_effects > 1:
            text += f", at most {self.most_effects} from one study"
        if self.studies is None and self.effects > 1:
            text += ", each counted as a study of its own"
        if self.people is not None:
            text += f"; {spaced(self.people)} people"
        if self.rows > self.effects:
            text += f"; {_count(self.rows - self.effects, 'row')} without an effect"
        return text


def contents_of(sheet: ParsedSheet, contract: Contract) -> Contents:
    """Summarise a sheet; effects, studies, samples and people are those that an analysis uses."""
    used = np.flatnonzero(sheet.usable)
    there = {sheet.r: "r", sheet.n: "n"}
    names = {there.get(name, name) for name in sheet.columns}
    if sheet.finished or "es_type" in names:
        names |= {"r", "n"}
    n = sheet.numbers(sheet.n)[used]
    studies = codes([sheet.study_keys[i] for i in used])
    sample = sheet.places.sample
    named = None if sample is None else [sheet.texts(sample)[i] for i in used]
    samples = sample_codes(studies, n, named)
    known = sheet.study_labels is not None
    return Contents(
        rows=len(sheet.lines),
        effects=int(used.size),
        studies=int(studies.max(initial=-1)) + 1 if known else None,
        samples=None if named is None else int(samples.max(initial=-1)) + 1,
        most_effects=int(np.bincount(studies).max(initial=0)) if known else None,
        people=count_people(samples, n),
        columns=tuple(_contents(column, contract) for column in sheet.columns.values()),
        lacks_required=tuple(column.name for column in contract.named("required") if column.name not in names),
        lacks_advised=tuple(column.name for column in contract.named("advised") if column.name not in names),
    )


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
    return span if low == high or column.name == "year" else f"{span}, mean {brief(mean, 3)}"


def _levels(counts: Counter[str]) -> str:
    listed = [f"{short(level, 24)} ({count})" for level, count in counts.most_common(SHOWN_LEVELS)]
    rest = len(counts) - SHOWN_LEVELS
    return ", ".join(listed) + (f" and {rest} more" if rest > 0 else "")


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
