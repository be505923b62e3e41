"""Two coders' sheets brought side by side, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.missing import without_codes
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

KEY = "es_id"
# Columns in which coders differ by nature.
PERSONAL = frozenset({"coder", "note", "notes", "comment", "comments", "source", "page"})
Sheet = CodedTable | pd.DataFrame


@dataclass(frozen=True)
class Pairs:
    """What two coders wrote into the same cells.

    Attributes
    ----------
    keys : pandas.DataFrame
        What names each row: the key columns, or the line.
    first, second : pandas.DataFrame
        The same columns and rows of both.
    names : tuple of str
        What the two are called.
    unmatched : pandas.DataFrame
        Rows of one sheet only: the key and ``sheet``.
    """

    keys: pd.DataFrame
    first: pd.DataFrame
    second: pd.DataFrame
    names: tuple[str, str]
    unmatched: pd.DataFrame


def side_by_side(sheet: Sheet, columns: Mapping[str, tuple[str, str]]) -> Pairs:
    """Take pairs of columns of one sheet."""
    frame = _frame(sheet)
    for pair in columns.values():
        if isinstance(pair, str) or len(pair) != 2:
            raise InputError(
                f"columns= names two columns for each quantity, e.g. {{'r': ('r_ada', 'r_bo')}}, not {pair!r}"
            )
    _check(frame, [name for pair in columns.values() for name in pair], "the sheet")
    parts = [
        pd.DataFrame({name: frame[pair[place]] for name, pair in columns.items()}).reset_index(drop=True)
        for place in (0, 1)
    ]
    keys = frame[[KEY]].reset_index(drop=True) if KEY in frame else _lines(frame)
    return Pairs(keys, parts[0], parts[1], ("first", "second"), pd.DataFrame(columns=[*keys, "sheet"]))


def two_sheets(
    first: Sheet, second: Sheet, by: Sequence[str], columns: Sequence[str] | None, names: tuple[str, str]
) -> Pairs:
    """Match the rows of two sheets by their key."""
    frames = [_frame(first), _frame(second)]
    for frame, name in zip(frames, names, strict=True):
        _check(frame, by, f"{name} sheet")
        twice = frame.duplicated(list(by))
        if twice.any():
            shown = ", ".join(map(str, frame.loc[twice, list(by)].iloc[0]))
            raise InputError(
                f"{name} sheet: {' and '.join(by)} = {shown} stands in more than one row; rows are matched by it, "
                "so name columns in by= that are unique together"
            )
    if columns is None:
        columns = [str(c) for c in frames[0] if c in frames[1] and c not in by and c not in PERSONAL]
    for frame, name in zip(frames, names, strict=True):
        _check(frame, columns, f"{name} sheet")
    if not columns:
        raise InputError("the two sheets share no column to compare")
    indexed = [frame.set_index(list(by)) for frame in frames]
    common = indexed[0].index[indexed[0].index.isin(indexed[1].index)]
    if not len(common):
        raise InputError(f"no row of the two sheets has the same {' and '.join(by)}")
    apart = [
        one.index[~one.index.isin(other.index)].to_frame(index=False).assign(sheet=name)
        for one, other, name in zip(indexed, indexed[::-1], names, strict=True)
    ]
    parts = [one.loc[common, list(columns)].reset_index(drop=True) for one in indexed]
    keys = common.to_frame(index=False)
    return Pairs(keys, parts[0], parts[1], names, pd.concat(apart, ignore_index=True))


def by_coder(sheet: Sheet, coder: str, by: Sequence[str], columns: Sequence[str] | None) -> Pairs:
    """Split one sheet by who coded the row."""
    frame = _frame(sheet)
    _check(frame, [coder], "the sheet")
    names = [str(name) for name in dict.fromkeys(frame[coder].dropna())]
    if len(names) != 2:
        raise InputError(f"{coder} has {len(names)} coders ({', '.join(names[:5])}); agreement is of two at a time")
    parts = [frame[frame[coder].astype(str) == name].drop(columns=coder) for name in names]
    return two_sheets(parts[0], parts[1], by, columns, (names[0], names[1]))


def _frame(sheet: Sheet) -> pd.DataFrame:
    if isinstance(sheet, CodedTable):
        return sheet.frame
    if isinstance(sheet, pd.DataFrame):
        return without_codes(sheet, stacklevel=6)[0]
    raise InputError(f"coder_agreement needs tables (CodedTable or DataFrame), not {type(sheet).__name__}")


def _lines(frame: pd.DataFrame) -> pd.DataFrame:
    lines: Any = frame.index if frame.index.name == "line" else range(2, len(frame) + 2)
    return pd.DataFrame({"line": list(lines)})


def _check(frame: pd.DataFrame, names: Sequence[str], what: str) -> None:
    known = [str(c) for c in frame.columns]
    gone = [name for name in names if name not in frame]
    if gone:
        raise InputError(
            f"{what} has no column "
            + " and no column ".join(f"{name!r}{did_you_mean(str(name), known)}" for name in gone)
            + f". Columns: {', '.join(known)}"
        )
