"""How well two coders agree: the pairs they coded, column by column, and kappa or ICC of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Mask
from alliance_meta.core.correlations import agreement as core
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.columns import without_codes
from alliance_meta.errors import DroppedRowsWarning, InputError
from alliance_meta.notes import NotApplicable, Note, check_level, did_you_mean, warn_note
from alliance_meta.result import Result
from alliance_meta.tables.document import Block, Document, Kind, cut, table_of
from alliance_meta.tables.format import format_level

KEY = "es_id"
# Columns in which coders differ by nature.
PERSONAL = frozenset({"coder", "note", "notes", "comment", "comments", "source", "page"})
Sheet = CodedTable | pd.DataFrame


@dataclass(frozen=True)
class Pairs:
    """What two coders wrote into the same cells."""

    keys: pd.DataFrame  # what names each row: the key columns, or the line
    # first, second: the same columns and rows of both.
    first: pd.DataFrame
    second: pd.DataFrame
    names: tuple[str, str]  # what the two are called
    unmatched: pd.DataFrame  # rows of one sheet only: the key and ``sheet``


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


KAPPAS: dict[str, core.Weights] = {"kappa": "none", "kappa_linear": "linear", "kappa_quadratic": "quadratic"}
ICCS = {"icc1": core.icc1, "icc2": core.icc2, "icc3": core.icc3}
ONE_CATEGORY = "both coders used one and the same category throughout"
CONSTANT = "one coder used a single category throughout, so that kappa is 0 whatever the other did"
NO_SPREAD = "the values do not vary"
PERFECT = "the coders never differ"
FEW = "needs at least 2 rows that both coded"
SAME = 1e-12


class Column:
    """One column as both coders filled it."""

    def __init__(
        self, name: str, first: pd.Series[Any], second: pd.Series[Any], order: Sequence[Any] | None, tolerance: float
    ) -> None:
        self.name = name
        self.order = None if order is None else [_text(value) for value in order]
        numbers = [pd.to_numeric(cells, errors="coerce") for cells in (first, second)]
        self.numeric = order is None and all(
            bool((number.notna() == cells.notna()).all())
            for number, cells in zip(numbers, (first, second), strict=True)
        )
        read = numbers if self.numeric else [cells.map(_text, na_action="ignore") for cells in (first, second)]
        self.first, self.second = (
            cells.to_numpy(dtype=float if self.numeric else object, na_value=np.nan) for cells in read
        )
        self.given = first.notna().to_numpy(), second.notna().to_numpy()
        self.both: Mask = self.given[0] & self.given[1]
        self.same = self._same(tolerance)

    def _same(self, tolerance: float) -> Mask:
        if self.numeric:
            with np.errstate(invalid="ignore"):
                return self.both & (np.abs(self.first - self.second) <= tolerance + SAME)
        return self.both & (self.first == self.second)

    def estimates(self, level: float) -> list[dict[str, Any]]:
        """Return one row per statistic."""
        kind = "number" if self.numeric else "category" if self.order is None else "ordered"
        any_given = self.given[0] | self.given[1]
        found: dict[str, tuple[int, core.Agreement | str]] = {}
        n, n_both = int(any_given.sum()), int(self.both.sum())
        found["percent"] = n, core.share(int(self.same.sum()), n, level=level) if n else FEW
        if self.numeric:
            found |= {name: (n_both, value) for name, value in self._iccs(level).items()}
        else:
            found |= {name: (n_both, value) for name, value in self._kappas(level).items()}
        return [
            {"column": self.name, "statistic": name, "kind": kind, "n": size, **_cells(value)}
            for name, (size, value) in found.items()
        ]

    def _kappas(self, level: float) -> dict[str, core.Agreement | str]:
        wanted = KAPPAS if self.order is not None else {"kappa": KAPPAS["kappa"]}
        a, b = self.first[self.both], self.second[self.both]
        if not a.size:
            return dict.fromkeys(wanted, FEW)
        categories = self.order or list(dict.fromkeys([*a, *b]))
        unknown = sorted({*a, *b} - set(categories))
        if unknown:
            raise InputError(f"{self.name}: {unknown[0]!r} is not in the given order ({', '.join(categories)})")
        table = np.zeros((len(categories), len(categories)))
        place = {category: i for i, category in enumerate(categories)}
        np.add.at(table, ([place[x] for x in a], [place[x] for x in b]), 1.0)
        found = {name: core.kappa(table, weights=weights, level=level) for name, weights in wanted.items()}
        return {name: ONE_CATEGORY if np.isnan(value.estimate) else value for name, value in found.items()}

    def _iccs(self, level: float) -> dict[str, core.Agreement | str]:
        ratings = np.column_stack([self.first, self.second])[self.both]
        if len(ratings) < 2:
            return dict.fromkeys(ICCS, FEW)
        ms = core.mean_squares(ratings)
        found = {name: icc(ms, level=level) for name, icc in ICCS.items()}
        return {name: NO_SPREAD if np.isnan(value.estimate) else value for name, value in found.items()}

    def disagreements(self, pairs: Pairs) -> pd.DataFrame:
        """Return the cells that differ, an empty one beside a filled one among them."""
        here = np.flatnonzero((self.given[0] | self.given[1]) & ~self.same)
        out = pairs.keys.iloc[here].reset_index(drop=True)
        values: dict[str, AnyArray | str] = {"column": self.name}
        for name, cells in zip(pairs.names, (self.first, self.second), strict=True):
            values[name] = cells[here].astype(object)
        difference = self.second[here] - self.first[here] if self.numeric else np.full(here.size, np.nan)
        return out.assign(**values, difference=difference)


def _text(value: Any) -> str:
    text = str(value).strip()
    return text.removesuffix(".0") if isinstance(value, float) else text


def _cells(value: core.Agreement | str) -> dict[str, float]:
    if isinstance(value, str):
        gone = NotApplicable(value)
        return {"estimate": gone, "ci_lb": gone, "ci_ub": gone}
    why = NotApplicable(CONSTANT if np.isnan(value.se) and value.estimate == 0 else PERFECT)
    limits = [limit if np.isfinite(limit) else why for limit in (value.lb, value.ub)]
    return {"estimate": value.estimate, "ci_lb": limits[0], "ci_ub": limits[1]}


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

    def _values(self) -> dict[str, Any]:
        tables = {"estimates": self.estimates.reset_index()}
        tables |= {"disagreements": self.disagreements, "unmatched": self.unmatched}
        out: dict[str, Any] = {name: getattr(self, name) for name in ("coders", "k", "level")}
        for name, table in tables.items():
            # `to_dict` of pandas would make a bare NaN of a NotApplicable.
            rows = table.astype(object).itertuples(index=False, name=None)
            out[name] = [dict(zip(table.columns, row, strict=True)) for row in rows]
        return out

    def _content(self) -> Document:
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
            f"Agreement of {self.coders[0]} and {self.coders[1]}: {self.k} rows, {format_level(self.level)} intervals",
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
    >>> from alliance_meta.effects import coder_agreement
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
