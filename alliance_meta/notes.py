"""Notes: what a reader must know about a result, carried by the result and printed by every report."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from alliance_meta.errors import AllianceMetaWarning


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence that travels with a result.

    Attributes
    ----------
    code : str
        Stable slug such as ``"dropped-rows"``, for programs.
    message : str
        The sentence a report prints.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, str]:
        """Return the note as a plain dictionary."""
        return asdict(self)


def warn_note(code: str, message: str, category: type[AllianceMetaWarning], *, stacklevel: int = 3) -> Note:
    """Warn now and return the note that repeats the warning in every report."""
    warnings.warn(message, category, stacklevel=stacklevel)
    return Note(code, message)


def merge_notes(*groups: Iterable[Note]) -> tuple[Note, ...]:
    """Join notes in order, each once."""
    return tuple(dict.fromkeys(note for group in groups for note in group))
