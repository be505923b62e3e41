"""What the reader of a coding sheet has to say: problems, and notes on what it adapted."""

from __future__ import annotations

from dataclasses import dataclass, field

from alliance_meta.errors import Problem, Severity
from alliance_meta.notes import Note


@dataclass
class Findings:
    """Collects everything found in one pass over a sheet.

    Attributes
    ----------
    problems, notes : list
        What was found, and what was adapted.
    departures : {"error", "suspicion"}
        How heavy a departure from the contract weighs that makes no number wrong.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    departures: Severity = "error"

    def error(self, row: int | None, column: str | None, value: str | None, message: str, *, kind: str) -> None:
        """Add a problem that stops the reading."""
        self.problems.append(Problem(row, column, value, message, "error", kind))

    def suspicion(self, row: int | None, column: str | None, value: str | None, message: str, *, kind: str) -> None:
        """Add something that is possible and looks like a mistake."""
        self.problems.append(Problem(row, column, value, message, "suspicion", kind))

    def departure(self, row: int | None, column: str | None, value: str | None, message: str, *, kind: str) -> None:
        """Add a departure from the contract."""
        self.problems.append(Problem(row, column, value, message, self.departures, kind))

    def note(self, code: str, message: str) -> None:
        """Announce an adaptation."""
        self.notes.append(Note(code, message))

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop the reading."""
        return [problem for problem in self.sorted if problem.severity == "error"]

    @property
    def suspicions(self) -> list[Problem]:
        """The problems that are only shown."""
        return [problem for problem in self.sorted if problem.severity == "suspicion"]

    @property
    def sorted(self) -> list[Problem]:
        """Errors before suspicions, each from the top of the sheet down."""
        return sorted(self.problems, key=lambda p: (p.severity, -1 if p.row is None else p.row))
