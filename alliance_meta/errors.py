"""Errors and warnings: one root each, so that a caller can catch all of ours and nothing else.

The command line turns them into exit codes: `InputError` is 1 (problems in the input),
`CannotRunError` is 2 (it could not run at all).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "suspicion"]

MOST_LINES = 40
ROWS_PER_KIND = 5


class AllianceMetaError(Exception):
    """Root of every error this package raises on purpose."""


class InputError(AllianceMetaError, ValueError):
    """The input has a problem that its owner can mend (exit code 1)."""


class DesignError(InputError):
    """The moderators asked for cannot be fitted to these data."""


class CannotRunError(AllianceMetaError, RuntimeError):
    """The work could not start: a missing file, a missing tool (exit code 2)."""


class AllianceMetaWarning(UserWarning):
    """Root of every warning this package gives."""


@contextmanager
def quiet(category: type[AllianceMetaWarning] = AllianceMetaWarning) -> Iterator[None]:
    """Keep warnings of the package back, or those of one kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


class MissingFontWarning(AllianceMetaWarning):
    """A figure has letters that no installed font has; the name of their script stands for them."""


class SmallLettersWarning(AllianceMetaWarning):
    """A figure is saved so small that its letters are hard to read."""


class DroppedRowsWarning(AllianceMetaWarning):
    """Rows were left out of an analysis."""


class TruncationWarning(AllianceMetaWarning):
    """An estimate was outside its range and was set to the boundary."""


class SecondPeakWarning(AllianceMetaWarning):
    """Another estimate is nearly as likely as the one reported."""


class SuspiciousInputWarning(AllianceMetaWarning):
    """The sheet holds values that are possible and look like mistakes."""


class ConvergenceWarning(AllianceMetaWarning):
    """A search stopped before it met its tolerance."""


class NotPositiveDefiniteWarning(AllianceMetaWarning):
    """A covariance matrix holds correlations that contradict one another."""


class FewStudiesWarning(AllianceMetaWarning):
    """Fewer studies than the method needs to be trusted."""


class NotIdentifiedWarning(AllianceMetaWarning):
    """The data cannot tell some variances of a model apart."""


class RedundantModeratorWarning(AllianceMetaWarning):
    """A column of the design repeats what others say and was left out."""


class DependenceWarning(AllianceMetaWarning):
    """Effects of one study were taken as independent, or no column tells which rows are one study."""


class FallbackWarning(AllianceMetaWarning):
    """A program is not there, and another one did the work."""


class AdaptedInputWarning(AllianceMetaWarning):
    """The reader adapted an encoding, a separator, a decimal mark or a column name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in a coded sheet.

    Attributes
    ----------
    row : int or None
        Line in the file as a spreadsheet shows it (the header is line 1); None for the whole sheet.
    column : str or None
        Column as named in the file.
    value : str or None
        The text that stands there.
    message : str
        What is wrong and how to mend it.
    severity : {"error", "suspicion"}
        A suspicion is shown and does not stop the reading.
    kind : str
        Stable slug such as ``"r-range"``; problems of one kind in one column are printed together.
    """

    row: int | None
    column: str | None
    value: str | None
    message: str
    severity: Severity = "error"
    kind: str = ""

    def __str__(self) -> str:
        where = [f"line {self.row}"] if self.row is not None else []
        if self.column is not None:
            where.append(self.column)
        return f"{', '.join(where)}: {self.message}" if where else self.message

    def to_dict(self) -> dict[str, Any]:
        """Return the problem as a plain dictionary, for ``--json``."""
        return asdict(self)


class CodingError(InputError):
    """A coded sheet has problems; all of them are in `problems`."""

    def __init__(self, problems: Sequence[Problem], *, source: str = "the sheet") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(self._text())

    def _text(self) -> str:
        n = len(self.problems)
        lines = problem_lines(self.problems)
        text = [
            f"{self.source}: {n} problem{'s' if n != 1 else ''}",
            *(f"  {line}" for line in lines[:MOST_LINES]),
        ]
        if len(lines) > MOST_LINES:
            text.append(f"  ... and {len(lines) - MOST_LINES} more lines (error.problems holds every problem)")
        return "\n".join(text)


def problem_lines(problems: Sequence[Problem], *, rows_per_kind: int = ROWS_PER_KIND) -> list[str]:
    """Print problems with at most a few lines of each kind, followed by how many more rows have it.

    Rows with one and the same message share a line, so that a word mistyped a thousand times leaves room for the
    others.
    """
    groups: dict[object, dict[str, list[Problem]]] = {}
    for position, problem in enumerate(problems):
        key = (problem.kind, problem.column) if problem.kind else position
        groups.setdefault(key, {}).setdefault(problem.message, []).append(problem)
    lines = []
    for messages in groups.values():
        alike = list(messages.values())
        lines += [f"{same[0]}{_also(same[1:])}" for same in alike[:rows_per_kind]]
        rest = [problem for same in alike[rows_per_kind:] for problem in same]
        if rest:
            lines.append(f"... and {_more_rows(rest)} like this{_listed_rows(rest)}")
    return lines


def _also(rest: Sequence[Problem]) -> str:
    return f" ... and {_more_rows(rest)}{_listed_rows(rest)}" if rest else ""


def _more_rows(rest: Sequence[Problem]) -> str:
    return f"{len(rest)} more row{'s' if len(rest) > 1 else ''}"


def _listed_rows(rest: Sequence[Problem]) -> str:
    if rest[0].row is None:
        return ""
    rows = ", ".join(str(problem.row) for problem in rest[:3])
    return f" (line{'s' if len(rest) > 1 else ''} {rows}{', ...' if len(rest) > 3 else ''})"
