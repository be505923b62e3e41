"""What is said beside the numbers: notes, numbers that do not exist, and how options are spelled and refused."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

from alliance_meta.errors import AllianceMetaWarning, InputError


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


class NotApplicable(float):
    """A float NaN that knows why it is one.

    Arithmetic and arrays treat it as NaN; printing and JSON show the reason.

    Examples
    --------
    >>> from alliance_meta.notes import NotApplicable
    >>> x = NotApplicable("needs at least 2 studies")
    >>> x
    NotApplicable('needs at least 2 studies')
    >>> x != x
    True
    """

    reason: str

    def __new__(cls, reason: str) -> NotApplicable:
        """Make the NaN of this reason."""
        self = super().__new__(cls, "nan")
        self.reason = reason
        return self

    def __repr__(self) -> str:
        return f"NotApplicable({self.reason!r})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return f"n/a ({self.reason})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (NotApplicable, (self.reason,))


Measure = Literal["ZCOR", "COR", "UCOR"]
VType = Literal["LS", "UB", "AV", "H0"]
ConvertedRows = Literal["keep", "as_r", "drop"]
Tau2Method = Literal[
    "REML",
    "DL",
    "HE",
    "HS",
    "HSk",
    "SJ",
    "SJIT",
    "ML",
    "EB",
    "PM",
    "PMM",
    "GENQ",
    "GENQM",
    "DLIT",
    "DL2",
    "HE2",
    "EE",
]
Test = Literal["knha", "z", "t", "adhoc"]
Struct = Literal["CS", "HCS", "UN", "DIAG", "ID", "AR", "HAR", "CAR", "GEN"]
Degrees = Literal["contain", "residual"]
Scale = Literal["z", "r", "r_mean"]
Link = Literal["log", "identity"]
PositiveDefiniteCheck = Literal["error", "nearest", "warn"]
SampleSizeRule = Literal["min", "harmonic", "mean"]
RobustType = Literal["CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3"]
WildWeights = Literal["rademacher", "webb", "mammen"]
Tau2IntervalKind = Literal["QP", "PL", "GENQ", "HT", "SJ", "Wald", "Wald-log"]


def did_you_mean(word: str, known: list[str]) -> str:
    """Return "; did you mean 'x'?" when one of `known` is close, else an empty string."""
    lowered = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def shell_words(*words: object) -> str:
    """Return words as a shell takes them, each in quotation marks where it needs them.

    >>> shell_words("--ri", "r (alliance-outcome)")
    "--ri 'r (alliance-outcome)'"
    """
    return shlex.join(map(str, words))


def backtick_hint(expression: str, known: list[str]) -> str:
    """Return how to write those of the `known` names in an expression that are no plain names, else nothing."""
    bare = re.sub(r"`[^`]*`", "", expression)
    odd = [name for name in known if not name.isidentifier() and name in bare]
    return f" Write {' and '.join(f'`{name}`' for name in odd)}, in back-ticks." if odd else ""


def check_option(name: str, value: object, options: Any) -> None:
    """Raise an `InputError` that lists the spellings unless `value` is one of them."""
    known = list(get_args(options))
    if value not in known:
        raise InputError(
            f"{name}={value!r} is not one of {', '.join(map(repr, known))}{did_you_mean(str(value), known)}"
        )


def check_level(level: float) -> None:
    """Raise an `InputError` unless `level` is a fraction strictly between 0 and 1."""
    if not 0 < level < 1:
        hint = f"; for {level:g}% write {level / 100:g}" if 1 < level < 100 else ""
        raise InputError(f"level={level!r} is a confidence level and must lie between 0 and 1{hint}")


def check_iterations(iterations: int) -> None:
    """Raise an `InputError` unless `iterations` is a whole number of at least 2."""
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 2:
        raise InputError(f"iterations={iterations!r} must be a whole number of at least 2")


def check_seed(seed: int | None, why: str) -> int:
    """Return the seed, or raise an `InputError` that says why one is needed."""
    if seed is None:
        raise InputError(f"{why} need a seed, so that the result can be repeated: give seed=1 or any whole number")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed={seed!r} must be a whole number, 0 or larger")
    return seed


def check_cores(cores: int) -> None:
    """Raise an `InputError` unless `cores` is a whole number of at least 1."""
    if not isinstance(cores, int) or isinstance(cores, bool) or cores < 1:
        raise InputError(f"cores={cores!r} must be a whole number of at least 1")
