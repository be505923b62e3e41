"""Agreement of two coders, column by column, and the cells in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.coders.columns import Column
from alliance_meta.effects.coders.pairs import KEY, Pairs, by_coder, side_by_side, two_sheets
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.errors import DroppedRowsWarning, InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import check_level, did_you_mean
from alliance_meta.result import Result
from alliance_meta.tables.document import Block, Document, Kind, cut, table_of
from alliance_meta.tables.format import level_text

SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class CoderAgreement(Result):
    """How far two coders agree.

    Attributes
    ----------
    estimates : pandas.DataFrame
        One row per column and statistic: ``column statistic kind n estimate ci_lb ci_ub``. Statistics are
        ``percent`` (share of equal cells), ``kappa`` for categories, ``kappa_linear`` and ``kappa_quadratic``
        where the order is given, ``icc1``, ``icc2`` and ``icc3`` for numbers.
    disagreements : pandas.DataFrame
        One row per cell that differs: what names the row, ``column``, both values, their difference.
    unmatched : pandas.DataFrame
        Rows that only one of two sheets has.
    coders : tuple of str
    k : int
        Rows that both have.
    level : float
    notes : tuple of Note
    """

    estimates: pd.DataFrame = field(repr=False)
    disagreements: pd.DataFrame = field(repr=False)
    unmatched: pd.DataFrame = field(repr=False)
    coders: tuple[str, str]
    k: int
    level: float
    notes: tuple[Note, ...] = ()

    def tidy(self) -> pd.DataFrame:
        """Return the estimates, one row per column and statistic."""
        return self.estimates.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "coders": list(self.coders),
            "k": self.k,
            "level": self.level,
            "estimates": _records(self.estimates.reset_index()),
            "disagreements": _records(self.disagreements),
            "unmatched": _records(self.unmatched),
            "notes": [note.to_dict() for note in self.notes],
        }

    def document(self) -> Document:
        """Return what the result says, as data that can be written in several ways."""
        shown = self.estimates.reset_index()
        kinds: dict[str, Kind] = {"statistic": "s", "n": 0, "estimate": 3, "ci_lb": 3, "ci_ub": 3}
        blocks: list[Block] = [table_of(shown.set_index("column"), kinds, label="column")]
        if len(self.disagreements):
            cells = self.disagreements.astype(object).where(self.disagreements.notna(), "")
            first, *rest = map(str, cells.columns)
            table = table_of(
                cells.set_index(first), dict.fromkeys(rest, "s"), f"Cells that differ: {len(cells)}", label=first
            )
            blocks.append(cut(table, SHOWN, "... and {left} more (.disagreements has all)"))
        return self._document(
            f"Agreement of {self.coders[0]} and {self.coders[1]}: {self.k} rows, {level_text(self.level)} intervals",
            *blocks,
        )


def coder_agreement(
    first: CodedTable | pd.DataFrame,
    second: CodedTable | pd.DataFrame | None = None,
    *,
    columns: Sequence[str] | Mapping[str, tuple[str, str]] | None = None,
    by: str | Sequence[str] = KEY,
    coder: str | None = None,
    ordered: Mapping[str, Sequence[Any]] | None = None,
    tolerance: float = 0.0,
    level: float = 0.95,
) -> CoderAgreement:
    """Say how far two coders agree on each column, and list the cells to talk about.

    Percent agreement is easy to read and flatters: two coders who both write "client" nearly everywhere agree by
    chance. Kappa takes that chance off; 0 is agreement by chance, 1 full agreement. For numbers the intraclass
    correlation says how much of the variation is between effects rather than between coders.

    Parameters
    ----------
    first : CodedTable or DataFrame
        The first coder's sheet, or one sheet with both.
    second : CodedTable or DataFrame, optional
        The second coder's sheet. Rows are matched by `by`.
    columns : sequence of str, or mapping of str to two columns, optional
        Columns to compare; all that both sheets have by default. For two columns side by side in one sheet:
        ``{"r": ("r_ada", "r_bo")}``.
    by : str or sequence of str
        Column or columns that name a row in both sheets.
    coder : str, optional
        For one sheet in which each row says who coded it: the column with the coder.
    ordered : mapping of str to sequence, optional
        The order of a column's categories, e.g. ``{"rob": ["low", "some concerns", "high"]}``, for weighted
        kappa.
    tolerance : float
        Numbers that differ by no more than this count as equal.
    level : float
        Confidence level.

    Returns
    -------
    CoderAgreement

    Raises
    ------
    InputError
        Columns that are not there, rows that cannot be matched one to one, values outside the given order.

    Warns
    -----
    DroppedRowsWarning
        Rows that only one sheet has.

    Notes
    -----
    ICC(1): another coder may have done each row. ICC(2, 1): the two stand for coders in general, and one who
    codes higher throughout disagrees. ICC(3, 1): only these two, and one who codes higher throughout still agrees
    (Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420). Intervals: Wilson's for percent, the large-sample one
    for kappa (Fleiss, Cohen & Everitt 1969, doi:10.1037/h0028106), F for the ICC. A cell that one coder left
    empty is a disagreement and enters percent, not kappa or ICC; cells empty in both sheets count nowhere.
    R: ``irr::kappa2``, ``psych::ICC``.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import coder_agreement
    >>> ada = pd.DataFrame({"es_id": [1, 2, 3], "r": [0.2, 0.3, 0.4], "rater": ["client", "client", "observer"]})
    >>> bo = ada.assign(r=[0.2, 0.3, 0.04], rater=["client", "therapist", "observer"])
    >>> found = coder_agreement(ada, bo)
    >>> found.tidy()["estimate"].loc["rater"].round(2).to_dict()
    {'percent': 0.67, 'kappa': 0.5}
    >>> found.disagreements[["es_id", "column", "first", "second"]].values.tolist()
    [[3, 'r', 0.4, 0.04], [2, 'rater', 'client', 'therapist']]
    """
    check_level(level)
    if not tolerance >= 0:
        raise InputError(f"tolerance={tolerance!r} must be 0 or more")
    pairs = _pairs(first, second, columns, [by] if isinstance(by, str) else list(by), coder)
    orders = dict(ordered or {})
    known = [str(name) for name in pairs.first]
    for name in orders:
        if name not in known:
            raise InputError(f"ordered= names {name!r}, which is not compared{did_you_mean(name, known)}")
    rows: list[dict[str, Any]] = []
    differing: list[pd.DataFrame] = []
    for name in known:
        cells = Column(name, pairs.first[name], pairs.second[name], orders.get(name), tolerance)
        rows += cells.estimates(level)
        differing.append(cells.disagreements(pairs))
    notes = _notes(pairs)
    return CoderAgreement(
        estimates=_table(rows),
        disagreements=pd.concat(differing, ignore_index=True),
        unmatched=pairs.unmatched,
        coders=pairs.names,
        k=len(pairs.keys),
        level=level,
        notes=tuple(notes),
    )


def _pairs(first: Any, second: Any, columns: Any, by: list[str], coder: str | None) -> Pairs:
    if second is not None:
        if coder is not None or isinstance(columns, Mapping):
            raise InputError("with two sheets, columns= is a list of names, and coder= is not needed")
        return two_sheets(first, second, by, columns, ("first", "second"))
    if isinstance(columns, Mapping):
        return side_by_side(first, columns)
    if coder is None:
        raise InputError(
            "one sheet needs columns={'r': ('r_ada', 'r_bo')} for columns side by side, or coder='coder' for rows that "
            "say who coded them; or give a second sheet"
        )
    return by_coder(first, coder, by, columns)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        # A float column would turn the reason of a NotApplicable into a bare NaN.
        reasons = any(isinstance(value, NotApplicable) for value in values)
        columns[name] = pd.Series(values, dtype=object if reasons else None)
    return pd.DataFrame(columns).set_index(["column", "statistic"])


def _notes(pairs: Pairs) -> list[Note]:
    if not len(pairs.unmatched):
        return []
    counts = pairs.unmatched["sheet"].value_counts()
    text = " and ".join(f"{counts[name]} only by {name}" for name in pairs.names if name in counts)
    return [
        warn_note(
            "unmatched-rows", f"Rows coded once are left out: {text} (.unmatched).", DroppedRowsWarning, stacklevel=4
        )
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in frame.columns]
    return [
        {name: _plain(value) for name, value in zip(names, row, strict=True)}
        for row in frame.astype(object).itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, NotApplicable):
        return {"not_applicable": value.reason}
    if isinstance(value, np.generic):
        value = value.item()
    return None if not isinstance(value, str) and pd.isna(value) else value
