"""One pass over a coding sheet: the table, every problem, what was adapted, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.conforming import check_contract
from alliance_meta.effects.contract.description import Description, describe
from alliance_meta.effects.provenance import Layout, Provenance
from alliance_meta.effects.sheet.checking import ParsedSheet, check_sheet
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.columns import ParsedColumn
from alliance_meta.effects.sheet.contents import Contents, contents_of
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.naming import SheetOptions, name_columns
from alliance_meta.effects.sheet.parsing import parse_sheet
from alliance_meta.effects.sheet.reading import read_sheet
from alliance_meta.effects.sheet.suspicions import suspect
from alliance_meta.errors import CannotRunError, CodingError, Problem
from alliance_meta.files import read_regular, sha256
from alliance_meta.notes import Note

Hold = Literal["read", "check", "strict"]


@dataclass(frozen=True)
class Reading:
    """All that one pass over a file gave: a table unless there are errors, the problems, the adaptations.

    Attributes
    ----------
    source : str
        Name of the file.
    table : CodedTable or None
        The rows, unless there are errors.
    problems : tuple of Problem
        Errors first, then suspicions.
    notes : tuple of Note
        What was adapted.
    contents : Contents or None
        What is in the sheet, if it is a table at all.
    published : tuple of PublishedResult
        Printed results that the sheet's description names.
    """

    source: str
    table: CodedTable | None
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    contents: Contents | None = None
    published: tuple[PublishedResult, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop the reading."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def suspicions(self) -> list[Problem]:
        """The problems that are only shown."""
        return [problem for problem in self.problems if problem.severity == "suspicion"]


def examine(path: str | Path, *, hold: Hold = "check", **options: Any) -> Reading:
    """Read and check a file in one pass; nothing inside the file raises or warns.

    With ``hold="check"`` what departs from the contract is an error, with ``"strict"`` also what it lacks; with
    ``"read"`` departures are suspicions, since they make no number wrong. `options` are those of `SheetOptions`.
    """
    wanted = SheetOptions(**options)
    data, source = _read_bytes(Path(path))
    found = Findings(departures="suspicion" if hold == "read" else "error")
    return _examine(data, source, found, describe(Path(path), found), wanted, strict=hold == "strict")


def examine_bytes(data: bytes, source: str, *, hold: Hold = "check", **options: Any) -> Reading:
    """Read and check the bytes of a file called `source`."""
    found = Findings(departures="suspicion" if hold == "read" else "error")
    return _examine(data, source, found, Description(), SheetOptions(**options), strict=hold == "strict")


def _examine(
    data: bytes, source: str, found: Findings, described: Description, options: SheetOptions, *, strict: bool
) -> Reading:
    try:
        text = read_sheet(data, source, found, known=options.known_as, sheet=options.sheet, encoding=options.encoding)
    except CodingError as error:
        problems = [*error.problems, *(problem for problem in found.sorted if problem not in error.problems)]
        return Reading(source, None, tuple(problems), tuple(found.notes), published=described.published)
    named = name_columns(text, options, found)
    parsed = parse_sheet(text, named, options, described, found)
    if parsed.lines:
        check_sheet(parsed, found)
        check_contract(parsed, described, found, strict=strict)
        suspect(parsed, found)
    table = None if found.errors else _table(parsed, options, sha256(data), found, text.separator)
    contents = contents_of(parsed, described.contract)
    return Reading(source, table, tuple(found.sorted), tuple(found.notes), contents, described.published)


def _read_bytes(path: Path) -> tuple[bytes, str]:
    if path.is_dir():
        raise CannotRunError(f"{path} is a folder; name the file with the sheet")
    try:
        return read_regular(path), path.name
    except FileNotFoundError:
        near: list[str] = []
        if path.parent.is_dir():
            near = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1, cutoff=0.75)
        hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
        raise CannotRunError(f"no such file: {path}{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotRunError(f"cannot read {path}: {reason}") from error


def _table(sheet: ParsedSheet, options: SheetOptions, digest: str, found: Findings, separator: str) -> CodedTable:
    index = pd.Index(sheet.lines, name="line")
    frame = pd.DataFrame({name: _series(column, index, sheet.keys[0]) for name, column in sheet.columns.items()})
    defaults = {key: name for key, name, usual in (("ri", sheet.r, "r"), ("ni", sheet.n, "n")) if name != usual}
    if sheet.finished:
        defaults |= {"yi": sheet.finished.yi, sheet.finished.kind: sheet.finished.second}
        if options.measure is not None:
            defaults["measure"] = options.measure
    if sheet.study is not None:
        defaults["study"] = sheet.study
    elif "study_id" in sheet.columns and not all(sheet.columns["study_id"].missing):
        defaults["study_id"] = "study_id"
    made_up = sheet.source.lower().startswith("synthetic")
    renamed = tuple((column.label, name) for name, column in sheet.columns.items() if column.label != name)
    layout = Layout(separator, sheet.mark, renamed)
    provenance = Provenance(source=sheet.source, sha256=digest, synthetic=made_up, layout=layout)
    return CodedTable(frame, provenance, notes=tuple(found.notes), defaults=defaults)


def _series(column: ParsedColumn, index: pd.Index[Any], effect: str) -> pd.Series[Any]:
    if column.values is None:
        texts = [None if gone else cell for cell, gone in zip(column.cells, column.missing, strict=True)]
        return pd.Series(texts, index=index, dtype="str")
    values = np.array([np.nan if value is None else value for value in column.values], dtype=float)
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all() and (np.abs(values) < 2**53).all())
    return pd.Series(values.astype(np.int64) if whole and column.name != effect else values, index=index)
