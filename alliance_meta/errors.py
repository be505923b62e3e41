"""Errors and warnings: one root each, so that a caller can catch all of ours and nothing else.

The command line turns them into exit codes: `InputError` is 1 (problems in the input),
`CannotRunError` is 2 (it could not run at all).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "suspicion"]

MOST_LINES = 20


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


class DroppedRowsWarning(AllianceMetaWarning):
    """Rows were left out of an analysis."""


class TruncationWarning(AllianceMetaWarning):
    """An estimate was outside its range and was set to the boundary."""


class ConvergenceWarning(AllianceMetaWarning):
    """A search stopped before it met its tolerance."""


class FewStudiesWarning(AllianceMetaWarning):
    """Fewer studies than the method needs to be trusted."""


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
    """

    row: int | None
    column: str | None
    value: str | None
    message: str
    severity: Severity = "error"

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
        lines = [f"{self.source}: {n} problem{'s' if n != 1 else ''}"]
        lines += [f"  {problem}" for problem in self.problems[:MOST_LINES]]
        if n > MOST_LINES:
            lines.append(f"  ... and {n - MOST_LINES} more (error.problems holds them all)")
        return "\n".join(lines)
