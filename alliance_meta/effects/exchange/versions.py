"""`diff`: two versions of a sheet compared cell by cell, and how far each difference moves the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import partial
from itertools import zip_longest
from typing import Any, Literal

import pandas as pd

from alliance_meta.effects.exchange.export import cell_text
from alliance_meta.effects.exchange.foreign import squeezed
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.columns import number_of
from alliance_meta.errors import AllianceMetaError, InputError
from alliance_meta.notes import NotApplicable, Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Block, Document, Kind, cut, table_of
from alliance_meta.tables.format import fixed

What = Literal["column added", "column gone", "column renamed", "row added", "row gone", "cell changed"]
KEY, STUDIES = "es_id", ("study_id", "study")
HEAD = ("what", "row", "line_old", "line_new", "column", "old", "new")
SHOWN = 200
Place = int | None


@dataclass(frozen=True)
class Change:
    """One difference between two versions of a sheet."""

    # ``"column added"``, ``"column gone"``, ``"column renamed"``, ``"row added"``, ``"row gone"`` or ``"cell
    # changed"``.
    what: What
    # row, column: the row's name and the column, where one is concerned.
    row: str = ""
    column: str = ""
    # old, new: the cell in both versions; of a column its names.
    old: str = ""
    new: str = ""
    # old_place, new_place: which row of the old and of the new sheet, counted from 0.
    old_place: int | None = None
    new_place: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class SheetDiff(Result):
    """What differs between two versions of a sheet.

    Attributes
    ----------
    old, new : CodedTable
        The two versions.
    changes : tuple of Change
        Columns first, then rows and cells in the order of the new sheet, at last the rows that are gone.
    notes : tuple of Note
        How rows were matched.
    """

    old: CodedTable
    new: CodedTable
    changes: tuple[Change, ...]
    notes: tuple[Note, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def tidy(self) -> pd.DataFrame:
        """Return one row per change: ``what row line_old line_new column old new``."""
        lines = [_lines(table) for table in (self.old, self.new)]
        rows = [
            (
                one.what,
                one.row,
                "" if one.old_place is None else str(lines[0][one.old_place]),
                "" if one.new_place is None else str(lines[1][one.new_place]),
                one.column,
                one.old,
                one.new,
            )
            for one in self.changes
        ]
        return pd.DataFrame(rows, columns=list(HEAD), index=pd.RangeIndex(1, len(rows) + 1, name="change"))

    def _content(self) -> Document:
        counts = Counter(one.what for one in self.changes)
        said = ", ".join(f"{count} {_plural(what) if count > 1 else what}" for what, count in counts.items())
        title = f"{self.old.provenance.source} and {self.new.provenance.source}: {said or 'no difference'}"
        kinds: dict[str, Kind] = dict.fromkeys(HEAD, "s")
        blocks: list[Block] = []
        if self.changes:
            table = table_of(self.tidy().set_index("what"), {name: kinds[name] for name in HEAD[1:]}, label="what")
            blocks.append(cut(table, SHOWN, "... and {left} more (.tidy() has all)"))
        return self._document(title, *blocks)

    def one_at_a_time(self) -> Iterator[tuple[Change, CodedTable]]:
        """Yield every change of a row or cell with the old sheet in which only this one is made."""
        old, new = self.old.frame, self.new.frame.rename(columns={now: was for was, now in self.names.items()})
        for one in self.changes:
            if one.what == "row gone" and one.old_place is not None:
                changed = old.iloc[[place for place in range(len(old)) if place != one.old_place]]
            elif one.what == "row added" and one.new_place is not None:
                row = new.iloc[[one.new_place]]
                changed = pd.concat([old, row[[name for name in old if name in row]]])
            elif one.what == "cell changed" and one.old_place is not None:
                cells = list(old[one.column])
                cells[one.old_place] = list(new[one.column])[one.new_place or 0]
                changed = old.assign(**{one.column: pd.Series(cells, index=old.index).infer_objects()})
            else:
                continue
            changed.index.name = old.index.name
            yield one, replace(self.old, _frame=changed)


def diff(old: CodedTable, new: CodedTable) -> SheetDiff:
    r"""Compare two versions of a coding sheet cell by cell.

    Rows are matched by ``es_id`` where both sheets have one for every row. Without it they are matched within their
    study: rows that are equal first, the others in their order; a note says so.

    Parameters
    ----------
    old, new : CodedTable
        The earlier and the later version.

    Returns
    -------
    SheetDiff
        Every row that was added or is gone, every cell that changed, and columns that were added, are gone or were
        renamed (a name that differs only in case and signs, or the same cells under another name).

    Raises
    ------
    InputError
        Tables in which nothing tells the rows apart: neither ``es_id`` nor a column of studies.

    See Also
    --------
    coder_agreement : two coders of the same effects.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import alliance_meta as am
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = Path(folder, "sheet.csv")
    ...     _ = sheet.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,-.02,120\n")
    ...     old = am.read_coded(sheet)
    ...     _ = sheet.write_text("study,r,n\nAda 2001,.31,84\nBo 2004,-.02,120\nCy 2005,.2,60\n")
    ...     new = am.read_coded(sheet)
    >>> am.effects.diff(old, new).tidy()[["what", "row", "column", "old", "new"]].values.tolist()
    [['cell changed', 'Ada 2001', 'n', '48', '84'], ['row added', 'Cy 2005', '', '', '']]
    """
    frames = old.frame, new.frame
    pairs, labels, note = _matched(*frames)
    there = [[str(name) for name in frame] for frame in frames]
    names = _renamed(frames, there, [(a, b) for a, b in pairs if a is not None and b is not None])
    changes = [Change("column renamed", "", now, was, now) for was, now in names.items() if was != now]
    changes += [Change("column gone", "", name, name) for name in there[0] if name not in names]
    changes += [Change("column added", "", name, "", name) for name in there[1] if name not in names.values()]
    columns = [(was, _texts(frames[0][was], frames[1][now])) for was, now in names.items()]
    for (a, b), label in zip(pairs, labels, strict=True):
        if a is None or b is None:
            changes.append(Change("row added" if a is None else "row gone", label, old_place=a, new_place=b))
            continue
        for was, (before, after) in columns:
            if before[a] != after[b]:
                changes.append(Change("cell changed", label, was, before[a], after[b], a, b))
    return SheetDiff(old, new, tuple(changes), () if note is None else (note,), names)


def _plural(what: str) -> str:
    """Return what changed of several: ``rows gone``."""
    return what.replace(" ", "s ", 1)


def _matched(old: pd.DataFrame, new: pd.DataFrame) -> tuple[list[tuple[Place, Place]], list[str], Note | None]:
    """Return pairs of places of the same row, in the order of the new sheet, with the rows' names."""
    if all(KEY in frame and frame[KEY].notna().all() and frame[KEY].is_unique for frame in (old, new)):
        keys = [[cell_text(value) for value in frame[KEY]] for frame in (old, new)]
        return (*_paired(*keys), None)
    name = next((one for one in STUDIES if one in old and one in new), None)
    if name is None:
        raise InputError(
            "the sheets share neither es_id nor a column of studies, so that no row can be told from another"
        )
    groups = [[cell_text(value) for value in frame[name]] for frame in (old, new)]
    shared = [str(column) for column in old if column in new]
    texts = [_texts(old[column], new[column]) for column in shared]
    rows = [list(zip(*(pair[side] for pair in texts), strict=True)) for side in (0, 1)]
    keys = _keys_in_groups(groups, rows)
    message = (
        f"rows were matched within {name}: equal rows first, the others in their order; es_id would tell them apart"
    )
    return (*_paired(*keys), Note("matched", message))


def _keys_in_groups(groups: Sequence[list[str]], rows: Sequence[list[Any]]) -> list[list[str]]:
    """Return a key for each row of both sheets: the study with the number of the pair within it."""
    keys = [[""] * len(side) for side in groups]
    places: list[dict[str, list[int]]] = [{}, {}]
    for names, found in zip(groups, places, strict=True):
        for row, group in enumerate(names):
            found.setdefault(group, []).append(row)
    for group in {**places[0], **places[1]}:
        pairs = _within(places[0].get(group, []), places[1].get(group, []), rows)
        for number, pair in enumerate(pairs, 1):
            for side, place in enumerate(pair):
                if place is not None:
                    keys[side][place] = group if len(pairs) == 1 else f"{group} ({number})"
    return keys


def _within(left: list[int], right: list[int], rows: Sequence[list[Any]]) -> list[tuple[Place, Place]]:
    """Pair the rows of one study: equal ones first, the others in their order; what is left stands alone."""
    free: dict[Any, list[int]] = {}
    for place in reversed(right):
        free.setdefault(rows[1][place], []).append(place)
    equal = {place: free[rows[0][place]].pop() for place in left if free.get(rows[0][place])}
    taken = set(equal.values())
    rest = [place for place in left if place not in equal], [place for place in right if place not in taken]
    return [*equal.items(), *zip_longest(*rest)]


def _paired(old: list[str], new: list[str]) -> tuple[list[tuple[Place, Place]], list[str]]:
    places = {key: i for i, key in enumerate(old)}
    pairs: list[tuple[Place, Place]] = [(places.get(key), j) for j, key in enumerate(new)]
    kept = set(new)
    gone = [i for i, key in enumerate(old) if key not in kept]
    return [*pairs, *((i, None) for i in gone)], [*new, *(old[i] for i in gone)]


def _renamed(frames: Sequence[pd.DataFrame], there: list[list[str]], pairs: list[tuple[int, int]]) -> dict[str, str]:
    """Return what each column of the old sheet that is still there is called in the new one."""
    names = {name: name for name in there[0] if name in there[1]}
    gone = [name for name in there[0] if name not in names]
    added = [name for name in there[1] if name not in names]
    for was in gone:
        alike = [now for now in added if squeezed(now) == squeezed(was)]
        alike += [now for now in added if _same_cells(frames[0][was], frames[1][now], pairs)]
        if alike:
            names[was] = alike[0]
            added.remove(alike[0])
    return names


def _same_cells(old: pd.Series[Any], new: pd.Series[Any], pairs: list[tuple[int, int]]) -> bool:
    before, after = _texts(old, new)
    return len({before[a] for a, _ in pairs}) > 1 and all(before[a] == after[b] for a, b in pairs)


def _texts(old: pd.Series[Any], new: pd.Series[Any]) -> tuple[list[str], list[str]]:
    """Return two columns as text; where one is of numbers and the other is not, equal numbers are equal texts."""
    sides = [[cell_text(value) for value in column.array] for column in (old, new)]
    numeric = [pd.api.types.is_numeric_dtype(column) for column in (old, new)]
    if numeric[0] != numeric[1]:
        mixed = numeric.index(False)
        sides[mixed] = [text if (value := number_of(text)) is None else cell_text(value) for text in sides[mixed]]
    return sides[0], sides[1]


def _lines(table: CodedTable) -> list[int]:
    frame = table.frame
    return list(frame.index) if frame.index.name == "line" else list(range(2, len(frame) + 2))


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


MOVE_HEAD = [one.name for one in fields(Move)]


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
        frame = pd.DataFrame([astuple(one) for one in self.moves], columns=MOVE_HEAD, dtype=object)
        # A float column would turn the reason of a NotApplicable into a bare NaN.
        whole = [name for name in MOVE_HEAD[-3:] if not any(isinstance(cell, NotApplicable) for cell in frame[name])]
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
        frame = pd.DataFrame([astuple(one) for one in single], columns=MOVE_HEAD, dtype=object).set_index("change")
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
