"""Reading users' coding sheets: `read_coded` gives a table or every problem, `check_coded` the list."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.checking import ParsedSheet, check_sheet
from alliance_meta.effects.coded import CodedTable
from alliance_meta.effects.columns import (
    ALIASES,
    MISSING_NUMBER,
    MISSING_USUAL,
    DecimalMark,
    ParsedColumn,
    canonical_name,
    count_fractions,
    parse_column,
    parse_number,
)
from alliance_meta.effects.findings import Findings
from alliance_meta.effects.provenance import Provenance
from alliance_meta.effects.reading import Sheet, read_sheet
from alliance_meta.errors import (
    AdaptedInputWarning,
    CannotRunError,
    CodingError,
    InputError,
    Problem,
    SuspiciousInputWarning,
)
from alliance_meta.files import sha256
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import Measure, check_option, did_you_mean

MOSTLY_NUMBERS = 0.8
FEWEST_CELLS = 5
SUSPICION_WORDS = {
    "all-positive": "all r positive",
    "decimal-mixture": "a column with another decimal mark",
    "duplicate-row": "a row entered twice",
    "level-once": "a level with k = 1",
    "level-spelling": "a level spelt two ways",
    "missing": "r or n missing",
    "mojibake": "damaged letters",
    "n-few": "n < 10",
    "r-large": "|r| > .9",
    "same-r-n": "the same r and n twice",
    "sample-two-n": "a sample with two n",
    "year": "an unlikely year",
}


@dataclass(frozen=True)
class Reading:
    """All that one pass over a file gave: a table unless there are errors, the problems, the adaptations."""

    source: str
    table: CodedTable | None
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop the reading."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def suspicions(self) -> list[Problem]:
        """The problems that are only shown."""
        return [problem for problem in self.problems if problem.severity == "suspicion"]


def read_coded(
    path: str | Path, *, ri: str | None = None, ni: str | None = None, measure: Measure = "ZCOR"
) -> CodedTable:
    r"""Read a coding sheet: one row per effect, one column with r, one with n, and any others.

    The file may be comma-, semicolon- or tab-separated, with decimal points or decimal commas, in UTF-8,
    UTF-16 or Windows-1252, as spreadsheets all over the world save it. The reader adapts to these and to the
    usual other names of the columns, says so each time, and never changes a value: what cannot be read as
    it stands is a problem with its row, its column and a way to mend it.

    Parameters
    ----------
    path : str or Path
        The file (CSV, TSV or text; save an Excel sheet as CSV first). Data in a file whose name begins with
        ``synthetic`` are labelled as made up wherever they show.
    ri, ni : str, optional
        Columns with the correlations and the sample sizes, when they are not called ``r`` and ``n`` or one
        of the usual other names (``ri``, ``cor``, ``correlation``, ``ni``, ``sample_size``, ...).
    measure : {"ZCOR", "COR", "UCOR"}
        The effect size that will be made of the rows; it decides the smallest n that can be used.

    Returns
    -------
    CodedTable
        Columns of numbers as numbers, the others as text; the index is the row as a spreadsheet shows it.

    Raises
    ------
    CodingError
        Every error of the sheet at once, in ``.problems``.
    CannotRunError
        If the file is not there or cannot be opened.

    Warns
    -----
    AdaptedInputWarning
        For every encoding, separator, decimal mark, missing-value code and column name that was adapted.
    SuspiciousInputWarning
        Once, if the sheet holds values that look like mistakes; `check_coded` lists them.

    See Also
    --------
    check_coded : the problems as a list, without an exception.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta import escalc, read_coded
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = Path(folder, "sheet.csv")
    ...     _ = sheet.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,-.02,120\n")
    ...     table = read_coded(sheet)
    >>> table.k, table.columns
    (2, ('study', 'r', 'n'))
    >>> escalc(table).k
    2
    """
    reading = examine(path, ri=ri, ni=ni, measure=measure)
    if reading.table is None:
        raise CodingError(reading.errors, source=reading.source)
    for note in reading.notes:
        warnings.warn(note.message, AdaptedInputWarning, stacklevel=2)
    if not reading.suspicions:
        return reading.table
    note = warn_note("suspicions", _suspicion_text(reading), SuspiciousInputWarning)
    return replace(reading.table, notes=(*reading.table.notes, note))


def check_coded(
    path: str | Path, *, ri: str | None = None, ni: str | None = None, measure: Measure = "ZCOR"
) -> list[Problem]:
    r"""List every problem of a coding sheet: errors first, then suspicions, each from the top down.

    Parameters
    ----------
    path, ri, ni, measure
        As for `read_coded`.

    Returns
    -------
    list of Problem
        Empty for a clean sheet. An error stops `read_coded`; a suspicion (n below 10, r beyond .9, the same
        r and n twice, only positive r, a level that occurs once, ...) does not.

    Raises
    ------
    CannotRunError
        If the file is not there or cannot be opened; nothing inside it raises.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta import check_coded
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = Path(folder, "sheet.csv")
    ...     _ = sheet.write_text("study,r,n\nAda 2001,45,48\nBo 2004,-.02,3\n")
    ...     for problem in check_coded(sheet):
    ...         print(problem)
    line 2, r: 45 is outside (-1, 1); coded in percent? write 0.45
    line 3, n: Fisher z needs n >= 4: its variance is 1/(n-3); 3 people are too few, leave the row out
    """
    return list(examine(path, ri=ri, ni=ni, measure=measure).problems)


def examine(path: str | Path, *, ri: str | None = None, ni: str | None = None, measure: Measure = "ZCOR") -> Reading:
    """Read and check a file in one pass; nothing inside the file raises or warns."""
    check_option("measure", measure, Measure)
    if ri is not None and ri == ni:
        raise InputError(f"ri and ni both name the column {ri!r}; r and n need a column each")
    data, source = _read_bytes(Path(path))
    return examine_bytes(data, source, ri=ri, ni=ni, measure=measure)


def examine_bytes(
    data: bytes, source: str, *, ri: str | None = None, ni: str | None = None, measure: Measure = "ZCOR"
) -> Reading:
    """Read and check the bytes of a file called `source`."""
    found = Findings()

    def known(cell: str) -> str | None:
        if cell in (ri, ni):
            return "r" if cell == ri else "n"
        name = canonical_name(cell)
        return None if (name == "r" and ri is not None) or (name == "n" and ni is not None) else name

    try:
        sheet = read_sheet(data, source, found, known=known)
    except CodingError as error:
        problems = [*error.problems, *(problem for problem in found.sorted if problem not in error.problems)]
        return Reading(source, None, tuple(problems), tuple(found.notes))
    names = _name_columns(sheet, ri, ni, found)
    parsed = _parse(sheet, names, ri or "r", ni or "n", measure, found)
    if parsed.lines:
        check_sheet(parsed, found)
    table = None if found.errors else _table(parsed, sha256(data), found)
    return Reading(source, table, tuple(found.sorted), tuple(found.notes))


def _read_bytes(path: Path) -> tuple[bytes, str]:
    if path.is_dir():
        raise CannotRunError(f"{path} is a folder; name the file with the sheet")
    try:
        return path.read_bytes(), path.name
    except FileNotFoundError:
        near: list[str] = []
        if path.parent.is_dir():
            near = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1, cutoff=0.75)
        hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
        raise CannotRunError(f"no such file: {path}{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotRunError(f"cannot read {path}: {reason}") from error


def _name_columns(sheet: Sheet, ri: str | None, ni: str | None, found: Findings) -> dict[str, str]:
    """Return {name in the file: name in the table}; announce renamed columns, report lacking ones."""
    names = {header: header for header in sheet.header}
    for name in ALIASES:
        wanted = {"r": ri, "n": ni}.get(name)
        if wanted is not None:
            if wanted not in names:
                _lacks(sheet, wanted, found, named=True)
            continue
        if name in names:
            continue
        candidates = [h for h in sheet.header if h not in (ri, ni) and canonical_name(h) == name]
        if len(candidates) > 1 and name in ("r", "n"):
            listed = " and ".join(map(repr, candidates))
            option = f"{name}i"
            found.error(
                sheet.header_line,
                None,
                None,
                f"{listed} could each be {name}; say which: {option}={candidates[0]!r} "
                f"(command line: --{option} {candidates[0]})",
                kind="ambiguous-column",
            )
        elif candidates:
            chosen = candidates[0]
            names[chosen] = name
            found.note("column-name", f"{sheet.source}: column {chosen!r} is read as {name!r}")
        elif name in ("r", "n"):
            _lacks(sheet, name, found, named=False)
    return names


def _lacks(sheet: Sheet, name: str, found: Findings, *, named: bool) -> None:
    columns = list(sheet.header)
    if named:
        hint = did_you_mean(name, columns)
    else:
        others = ", ".join(alias for alias in ALIASES[name][1:4])
        fitting = [h for h in columns if _could_be(name, sheet.columns[h])]
        example = fitting[0] if len(fitting) == 1 else "..."
        hint = f" (nor {others}); if another column holds it, say {name}i={example!r}"
        hint += f" (command line: --{name}i {example})"
        if {"yi", "vi"} <= set(columns):
            hint += "; finished effect sizes (yi, vi) go into EffectSizes.from_arrays"
        hint += "."
    found.error(
        None,
        None,
        None,
        f"there is no column {name!r}{hint or '.'} Columns found: {', '.join(map(repr, columns))}",
        kind="lacks-column",
    )


def _could_be(name: str, cells: list[str]) -> bool:
    """Tell whether a column's cells look like correlations, or like sample sizes."""
    filled = [cell for cell in cells if cell not in MISSING_NUMBER]
    values = [parse_number(cell.replace(",", ".")) for cell in filled]
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(filled):
        return False
    if name == "r":
        return all(abs(value) < 1 for value in numbers) and any(value != 0 for value in numbers)
    years = all(1900 <= value <= 2100 for value in numbers)
    return all(value >= 4 and value.is_integer() for value in numbers) and not years


def _parse(sheet: Sheet, names: dict[str, str], r: str, n: str, measure: str, found: Findings) -> ParsedSheet:
    labels = {names[label]: label for label in sheet.header}
    mark = _decimal_mark(sheet, labels.get(r), found)
    columns = {
        name: parse_column(
            name,
            label,
            sheet.columns[label],
            mark,
            numeric=name in (r, n, "year"),
            mostly=MOSTLY_NUMBERS,
            at_least=FEWEST_CELLS,
        )
        for name, label in labels.items()
    }
    _announce_missing(sheet, columns, found)
    _suspect_other_mark(columns, mark, found)
    return ParsedSheet(sheet.source, sheet.lines, columns, r, n, mark, measure)


def _decimal_mark(sheet: Sheet, r: str | None, found: Findings) -> DecimalMark:
    """Decide by the r column, then by all others; announce decimal commas with their first line."""
    points, commas = count_fractions(sheet.columns[r]) if r is not None else (0, 0)
    if points == commas == 0:
        points, commas = count_fractions(cell for cells in sheet.columns.values() for cell in cells)
    if commas <= points:
        return "."
    for cells in [sheet.columns[r]] if r is not None else sheet.columns.values():
        for line, cell in zip(sheet.lines, cells, strict=True):
            if count_fractions([cell]) == (0, 1):
                found.note(
                    "decimal-mark",
                    f"{sheet.source}: decimal commas are read as such (first in line {line}: {cell})",
                )
                return ","
    return ","


def _announce_missing(sheet: Sheet, columns: dict[str, ParsedColumn], found: Findings) -> None:
    codes: Counter[str] = Counter()
    first = None
    for column in columns.values():
        for line, cell, missing in zip(sheet.lines, column.cells, column.missing, strict=True):
            if missing and cell not in MISSING_USUAL:
                codes[cell] += 1
                first = line if first is None else min(first, line)
    if codes:
        listed = ", ".join(f"{code!r} ({count})" for code, count in codes.items())
        found.note("missing-codes", f"{sheet.source}: cells with {listed} count as missing (first in line {first})")


def _suspect_other_mark(columns: dict[str, ParsedColumn], mark: DecimalMark, found: Findings) -> None:
    other: DecimalMark = "," if mark == "." else "."
    for column in columns.values():
        filled = [cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone]
        if column.values is not None or not any(other in cell for cell in filled):
            continue
        if all(parse_number(cell, other) is not None for cell in filled):
            here, sheet = ("commas", "points") if other == "," else ("points", "commas")
            message = f"has decimal {here} (e.g. {filled[0]}) in a sheet with decimal {sheet}; it is read as text"
            found.suspicion(None, column.label, filled[0], message, kind="decimal-mixture")


def _table(sheet: ParsedSheet, digest: str, found: Findings) -> CodedTable:
    index = pd.Index(sheet.lines, name="line")
    frame = pd.DataFrame({name: _series(column, index, sheet.r) for name, column in sheet.columns.items()})
    defaults = {key: name for key, name, usual in (("ri", sheet.r, "r"), ("ni", sheet.n, "n")) if name != usual}
    if "study_id" in sheet.columns:
        defaults["study_id"] = "study_id"
    made_up = sheet.source.lower().startswith("synthetic")
    provenance = Provenance(source=sheet.source, sha256=digest, synthetic=made_up)
    return CodedTable(frame, provenance, notes=tuple(found.notes), defaults=defaults)


def _series(column: ParsedColumn, index: pd.Index[Any], r: str) -> pd.Series[Any]:
    if column.values is None:
        texts = [None if gone else cell for cell, gone in zip(column.cells, column.missing, strict=True)]
        return pd.Series(texts, index=index, dtype="str")
    values = np.array([np.nan if value is None else value for value in column.values], dtype=float)
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all() and (np.abs(values) < 2**53).all())
    return pd.Series(values.astype(np.int64) if whole and column.name != r else values, index=index)


def _suspicion_text(reading: Reading) -> str:
    counts = Counter(SUSPICION_WORDS.get(problem.kind, problem.kind) for problem in reading.suspicions)
    listed = ", ".join(f"{words} ({count})" if count > 1 else words for words, count in counts.items())
    return f"{reading.source}: possible mistakes: {listed}; `alliance-meta check {reading.source}` lists them"
