"""`Moves`: how far each difference between two versions of a sheet moves the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from functools import partial

import pandas as pd

from alliance_meta.effects.exchange.versions import SHOWN, SheetDiff
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.errors import AllianceMetaError
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Block, Document, Kind, cut, table_of
from alliance_meta.tables.format import fixed

# What an analysis finds in a table: the name of each number, and the number.
Means = Callable[[CodedTable], Mapping[str, float]]
ALL = "all changes"


@dataclass(frozen=True, kw_only=True)
class Move:
    """What one change, or all of them, did to one number."""

    # analysis, term: the analysis, and which of its numbers: ``"r"``, ``"r, observer"``.
    analysis: str
    term: str
    # change, row, column: what changed and where; ``"all changes"`` is the new version as it is.
    change: str
    row: str = ""
    column: str = ""
    # before, after, moved: the number in the old version, with this change alone, and the difference.
    before: float
    after: float
    moved: float


HEAD = [one.name for one in fields(Move)]


@dataclass(frozen=True, eq=False, repr=False)
class Moves(Result):
    """How far each difference between two versions of a sheet moves the results.

    Attributes
    ----------
    diff : SheetDiff
        The differences.
    moves : tuple of Move
        Of each number first what all changes do together, then each of them alone, the largest first. A number that
        cannot be computed is a `NotApplicable` with the reason.
    notes : tuple of Note
        Which versions are fitted by another model than the old one.
    """

    diff: SheetDiff
    moves: tuple[Move, ...]
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return one row per number and change: ``analysis term change row column before after moved``."""
        frame = pd.DataFrame([astuple(one) for one in self.moves], columns=HEAD, dtype=object)
        # A float column would turn the reason of a NotApplicable into a bare NaN.
        whole = [name for name in HEAD[-3:] if not any(isinstance(cell, NotApplicable) for cell in frame[name])]
        return frame.astype(dict.fromkeys(whole, float)).set_index("analysis")

    def _content(self) -> Document:
        blocks = [self._block(*one) for one in dict.fromkeys((move.analysis, move.term) for move in self.moves)]
        return self._document("What each change alone moves, the largest first", *blocks)

    def _block(self, analysis: str, term: str) -> Block:
        whole, *single = (one for one in self.moves if (one.analysis, one.term) == (analysis, term))
        name = f"{analysis}, {term}" if term else analysis
        moved = "" if isinstance(whole.moved, NotApplicable) else f", moved {_said(whole.moved)}"
        said = f"{name}: {_said(whole.before)} before, {_said(whole.after)} after{moved}"
        if not single:
            return [said]
        frame = pd.DataFrame([astuple(one) for one in single], columns=HEAD, dtype=object).set_index("change")
        kinds: dict[str, Kind] = {"row": "s", "column": "s", "after": _short, "moved": _short}
        why = [one.moved.reason if isinstance(one.moved, NotApplicable) else "" for one in single]
        if any(why):
            frame, kinds = frame.assign(why=why), {**kinds, "why": "s"}
        table = table_of(frame, kinds, said, label="change", heads={"after": "alone"})
        return cut(table, SHOWN, "... and {left} more (.tidy() has all)")


def moves(diff: SheetDiff, analyses: Mapping[str, Means]) -> tuple[Move, ...]:
    """Return what the changes do to the numbers of each analysis, together and alone."""
    singles = list(diff.one_at_a_time())
    found: list[Move] = []
    for name, means in analyses.items():
        before, after = _tried(means, diff.old), _tried(means, diff.new)
        alone = [] if isinstance(before, NotApplicable) else [(one, _tried(means, table)) for one, table in singles]
        for term in _terms(before, after):
            made = partial(_move, name, term, before)
            each = (made(now, change=one.what, row=one.row, column=one.column) for one, now in alone)
            found += [made(after, change=ALL), *sorted(each, key=_size)]
    return tuple(found)


Found = Mapping[str, float] | NotApplicable


def _tried(means: Means, table: CodedTable) -> Found:
    try:
        return means(table)
    except AllianceMetaError as error:
        return NotApplicable(str(error))


def _terms(*found: Found) -> Iterator[str]:
    """Yield the names of the numbers, each once; one without name where nothing could be fitted."""
    names = dict.fromkeys(name for one in found if not isinstance(one, NotApplicable) for name in one)
    yield from names or ("",)


def _move(name: str, term: str, old: Found, new: Found, **change: str) -> Move:
    before, after = (
        one if isinstance(one, NotApplicable) else one.get(term, NotApplicable("not in this version"))
        for one in (old, new)
    )
    gone = next((one for one in (before, after) if isinstance(one, NotApplicable)), None)
    return Move(
        analysis=name, term=term, **change, before=before, after=after, moved=after - before if gone is None else gone
    )


def _size(move: Move) -> float:
    return 1.0 if isinstance(move.moved, NotApplicable) else -abs(move.moved)


def _said(value: float) -> str:
    return f"n/a ({value.reason})" if isinstance(value, NotApplicable) else _short(value)


def _short(value: float) -> str:
    return "n/a" if isinstance(value, NotApplicable) else fixed(value, 4)
