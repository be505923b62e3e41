"""Which rows are one study, how many studies, samples and people there are, and whether effects depend.

Readers, `escalc`, models, reports and the command line all ask here, so that `check` counts what models use.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from alliance_meta.core.dependent import IntArray, codes
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.effects.sheet.columns import YEAR_PRINTED, canonical_name, rank_of
from alliance_meta.errors import CodingError, DependenceWarning, InputError, Problem
from alliance_meta.notes import Note, warn_note

# What str() makes of an empty cell: study_id is text whatever it was in the sheet.
EMPTY = ("", "nan", "NaN", "None", "<NA>", "NaT")
FILL = "fill the cells (an effect on its own gets its own value), or leave the rows out"
NO_STUDY_COLUMN = (
    "no column says which study a row belongs to, so that each of the {k} rows counts as a study of its own; if some "
    "share a study, name the column: study= in read_coded, study_id= in escalc, --study on the command line"
)
STUDY = "study_id"
DEPENDENT = "dependent-effects"
MOST_NAMED = 8
FIRST_YEAR, LAST_YEAR = 1000, 2100
_YEAR = re.compile(r"([12][0-9]{3})(?:\.0+)?([a-z]?)")
_FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]*[1-9][0-9]*")
_HAS_YEAR = re.compile(r"(?<![0-9])[12][0-9]{3}(?![0-9])")


@dataclass(frozen=True, slots=True)
class StudyColumns:
    """Which columns tell studies apart."""

    study: str | None  # the column of the study: an identifier, else the labels
    label: str | None  # the column of the labels, as tables show them
    year: str | None  # the year of publication
    sample: str | None  # the column of the sample

    @property
    def separating(self) -> str | None:
        """The column of the year that tells equal labels apart; an identifier needs none."""
        return self.year if self.study == self.label else None


def find_columns(names: Iterable[Any], *, study: str | None = None) -> StudyColumns:
    """Find the columns by their headers: an identifier before a label, the contract's own name before its others.

    `study` names the column of the study labels where its header does not tell.
    """
    ranked: dict[str, tuple[int, str]] = {}
    there = list(map(str, names))
    for name in there:
        what = canonical_name(name)
        if what in ("study_id", "study", "year", "sample_id"):
            rank = rank_of(name, what)
            if what not in ranked or rank < ranked[what][0]:
                ranked[what] = (rank, name)
    found = {what: name for what, (_, name) in ranked.items()}
    if YEAR_PRINTED in there:
        found["year"] = YEAR_PRINTED
    label = study or found.get("study")
    key = label if study is not None and study != found.get("study_id") else found.get("study_id", label)
    return StudyColumns(key, label, found.get("year"), found.get("sample_id"))


def study_keys(labels: Sequence[str], years: Sequence[Any] | None = None) -> tuple[str, ...]:
    """Return the key of each row's study: its label, with the year where equal labels have different years.

    A key shows the year of its study where the label does not. Only calendar years count: a moderator that is
    centred, scaled or empty is no year of publication. A row without a year belongs to the row of its label above it
    that has one, else to the first below.

    >>> study_keys(["Roth", "Roth", "Roth", "Ada", "Ada"], [2015, 2016, 2016, 2001, None])
    ('Roth 2015', 'Roth 2016', 'Roth 2016', 'Ada 2001', 'Ada 2001')
    """
    known = publication_years(years) if years is not None else [None] * len(labels)
    first: dict[str, str] = {}
    for label, year in zip(labels, known, strict=True):
        if year is not None:
            first.setdefault(label, year)
    pairs: list[tuple[str, str | None]] = []
    for label, year in zip(labels, known, strict=True):
        if year is not None:
            first[label] = year
        pairs.append((label, first.get(label)))
    names: dict[tuple[str, str | None], str] = {}
    taken: set[str] = set()
    several = {label for label, n in Counter(label for label, _ in set(pairs)).items() if n > 1}
    for label, year in dict.fromkeys(pairs):
        name = (
            label
            if year is None or not label or (_HAS_YEAR.search(label) and label not in several)
            else f"{label} {year}"
        )
        while name in taken:
            name += " *"
        taken.add(name)
        names[label, year] = name
    return tuple(names[pair] for pair in pairs)


def yearless(labels: Sequence[str], years: Sequence[Any]) -> list[int]:
    """Return the rows without a year whose label stands with several, so that their study is a guess."""
    known = publication_years(years)
    pairs = {(label, year) for label, year in zip(labels, known, strict=True) if year is not None}
    several = {label for label, n in Counter(label for label, _ in pairs).items() if n > 1}
    return [i for i, label in enumerate(labels) if label in several and known[i] is None]


def publication_years(values: Sequence[Any]) -> list[str | None]:
    """Return the calendar year of each row, None where there is none; no years at all where one has a fraction.

    The letter of 2015a stays: it tells two publications of one year apart.
    """
    texts = [plain_text(value) for value in values]
    if any(_FRACTION.fullmatch(text) for text in texts):
        return [None] * len(texts)
    found = [_YEAR.fullmatch(text) for text in texts]
    return [
        match[1] + match[2] if match is not None and FIRST_YEAR <= int(match[1]) <= LAST_YEAR else None
        for match in found
    ]


def empty_labels(labels: Sequence[str], lines: Sequence[int], column: str | None) -> list[Problem]:
    """Return a problem for each row whose study is empty, with "fill down?" where the sheet looks so."""
    empty = [i for i, label in enumerate(labels) if label.strip() in EMPTY]
    if not empty:
        return []
    hint = "; only the first row of each study has its label: fill down?" if looks_filled_down(labels) else ""
    message = f"the study is empty: no one can tell whose effect this is; {FILL}{hint}"
    return [Problem(int(lines[i]), column, "", message, kind="study-empty") for i in empty]


def looks_filled_down(labels: Sequence[str]) -> bool:
    """Tell whether only the first row of each block has its label, as spreadsheets are often typed."""
    empty = [label.strip() in EMPTY for label in labels]
    filled = [label for label, gone in zip(labels, empty, strict=True) if not gone]
    return any(empty) and not empty[0] and len(set(filled)) == len(filled)


def fill_down(labels: Sequence[str]) -> list[str]:
    """Return the labels with each empty cell filled from above."""
    out: list[str] = []
    for label in labels:
        out.append(out[-1] if label.strip() in EMPTY and out else label)
    return out


def sample_codes(studies: IntArray, n: Any, samples: Sequence[Any] | None = None) -> IntArray:
    """Return the sample of each row: within a study, rows of one sample name, else rows with the same n."""
    by_n = pd.factorize(np.asarray(n, dtype=float), use_na_sentinel=False)[0]
    if samples is None:
        return codes(studies * (by_n.max(initial=0) + 1) + by_n)
    named = pd.factorize(np.array([plain_text(one) or None for one in samples], dtype=object))[0]
    within = np.where(named >= 0, named, named.max(initial=0) + 1 + by_n)
    return codes(studies * (within.max(initial=0) + 1) + within)


def count_people(samples: IntArray, n: Any) -> int | None:
    """Return the people behind the rows, each sample counted once with its largest n; None without any n."""
    people = np.asarray(n, dtype=float)
    largest = np.zeros(samples.max(initial=-1) + 1)
    np.maximum.at(largest, samples, np.where(np.isfinite(people), people, 0.0))
    total = float(largest.sum())
    return round(total) if np.isfinite(people).any() and total < 2**53 else None


def spaced(number: int) -> str:
    """Write a count with a space between thousands, as no language reads it as a decimal mark."""
    return f"{number:,}".replace(",", " ")


class Effects(Protocol):
    """Effects that know how many they are, and of how many studies."""

    @property
    def k(self) -> int:
        """Number of effects."""

    @property
    def n_studies(self) -> int:
        """Number of studies."""


def dependence_notes(effects: Effects, *, stacklevel: int = 5) -> list[Note]:
    """Warn, and return the note, where several effects of one study are about to be taken as independent."""
    if effects.k == effects.n_studies:
        return []
    message = (
        f"{effects.k} effects from {effects.n_studies} studies were taken as independent: standard errors, tests and "
        "intervals are too sure of themselves where effects of one study resemble each other. Fit che, "
        "MultilevelModel, or another model with random='study_id/es_id'; or make one effect of each study with "
        "aggregate or select_effects."
    )
    return [warn_note(DEPENDENT, message, DependenceWarning, stacklevel=stacklevel)]


def refuse_dependent(effects: Effects, dependent: str | None, what: str) -> None:
    """Refuse a comparison of models that only holds for independent effects, unless told ``dependent="ignore"``."""
    if dependent not in (None, "ignore"):
        raise InputError(f"dependent={dependent!r} is not known; it is None or 'ignore'")
    if dependent is None and effects.k > effects.n_studies:
        raise InputError(
            f"{what} takes effects as independent, and these {effects.k} come from {effects.n_studies} studies: the "
            "evidence would count what one study says several times. Use a model with random='study_id/es_id', make "
            "one effect of each study with aggregate or select_effects, or say dependent='ignore'"
        )


@dataclass(frozen=True, slots=True)
class Named:
    """Columns that were named: of labels to show, of the study as it stands, of the study's labels."""

    slab: str | Sequence[str] | None = None
    study_id: str | Sequence[str] | None = None
    study: str | None = None


def row_labels(frame: pd.DataFrame, named: Named, source: str) -> tuple[str, ...]:
    """Return the label that tables and plots show for each row of a sheet."""
    if named.slab is not None:
        return _joined(frame, [named.slab] if isinstance(named.slab, str) else named.slab, source)
    places = _places(frame, named)
    label = places.label or places.study
    if "slab" in frame:
        return _joined(frame, ["slab"], source)
    if label is None:
        return tuple(f"Study {i + 1}" for i in range(len(frame)))
    return study_keys(_joined(frame, [label], source), None if places.year is None else frame[places.year].tolist())


def row_studies(
    frame: pd.DataFrame, named: Named, lines: Any, source: str
) -> tuple[pd.DataFrame, tuple[str, ...], list[Note]]:
    """Return the rows of a sheet, the study of each, and what must be said of it."""
    notes: list[Note] = []
    if named.study_id is not None:
        column: list[str] = [named.study_id] if isinstance(named.study_id, str) else list(named.study_id)
        years, studies = None, _joined(frame, column, source)
        if column != [STUDY] and STUDY in frame and not same_groups(frame[STUDY], studies):
            frame = frame.rename(columns={STUDY: f"sheet_{STUDY}"})
            text = (
                f"The study is {' + '.join(column)!r}; the sheet's own column {STUDY!r} is called 'sheet_{STUDY}' here."
            )
            notes.append(Note("study-renamed", text))
    else:
        places = _places(frame, named)
        year = places.separating
        slab = [named.slab] if isinstance(named.slab, str) else list(named.slab or [])
        column = [places.study] if places.study else [name for name in slab if name not in (places.year, "year")]
        if not column:
            return frame, tuple(f"Study {i + 1}" for i in range(len(frame))), _every_row_alone(len(frame))
        years = None if year is None else frame[year].tolist()
        studies = _joined(frame, column, source)
    problems = empty_labels(studies, lines, " ".join(column))
    if problems:
        raise CodingError(problems, source=source)
    if years is not None and (guessed := yearless(studies, years)):
        where = ", ".join(f"line {lines[i]} ({studies[i]})" for i in guessed[:MOST_NAMED])
        text = f"Without a year, though the label stands with several: {where}; counted with the row above."
        notes.append(Note("study-year", text))
    return frame, study_keys(studies, years), notes


def _places(frame: pd.DataFrame, named: Named) -> StudyColumns:
    filled = frame.notna().any().to_numpy()
    return find_columns((name for name, any_ in zip(frame.columns, filled, strict=True) if any_), study=named.study)


def _joined(frame: pd.DataFrame, names: Sequence[str], source: str) -> tuple[str, ...]:
    table = CodedTable(frame, Provenance(source=source))
    parts = [[plain_text(value) for value in table.column(name)] for name in names]
    return tuple(" ".join(filter(None, row)) for row in zip(*parts, strict=True))


def _every_row_alone(k: int) -> list[Note]:
    if k < 2:
        return []
    text = NO_STUDY_COLUMN.format(k=k)
    return [warn_note("no-study-column", f"{text[0].upper()}{text[1:]}.", DependenceWarning, stacklevel=5)]


def same_groups(a: Any, b: Any) -> bool:
    """Tell whether two columns sort the rows into the same groups; an empty cell is like no other."""
    one, other = (pd.factorize(np.array([plain_text(v) or None for v in values], dtype=object))[0] for values in (a, b))
    return bool((one >= 0).all() and (other >= 0).all() and (codes(one) == codes(other)).all())


def plain_text(value: Any) -> str:
    """Return a cell as text, a whole number without decimals."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if pd.isna(value) else str(value)


def listed(labels: Sequence[str], most: int = MOST_NAMED) -> str:
    """Join labels, the first few of many."""
    rest = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {rest} more" if rest > 0 else "")
