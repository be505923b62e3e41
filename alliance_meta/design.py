"""Moderators: from a formula and a table to a design matrix that remembers how it was made."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.collinear import independent_columns, null_space, partners
from alliance_meta.effects.sheet.missing import strays
from alliance_meta.errors import DesignError, DroppedRowsWarning, InputError, RedundantModeratorWarning
from alliance_meta.expressions import plain_text, shown
from alliance_meta.formulas import check_size, read_formula
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import did_you_mean

if TYPE_CHECKING:
    from formulaic import Formula, ModelSpec

    from alliance_meta.effects.table import EffectSizes

INTERCEPT = "intrcpt"
NO_SUCH = "0 in every effect (no effect has this combination of levels)"
# Rows are of order 1 on the scale of `Design.beyond`; what is smaller is rounding.
UNDETERMINED = 1e-6
# Functions of a formula that formulaic does not bring along.
CONTEXT = {"sqrt": np.sqrt, "abs": np.abs}


@dataclass(frozen=True, eq=False)
class Design:
    """A design matrix and the coding that made it, so that new data are coded the same way.

    Attributes
    ----------
    formula : str
        The right-hand side, ``"1"`` for an intercept only.
    X : ndarray of shape (k, p)
    names : tuple of str
        Coefficient names; the intercept is ``intrcpt`` as in metafor.
    terms : mapping
        Term of the formula -> positions of its coefficients.
    variables : tuple of str
        Columns of the table that the formula uses.
    levels : mapping
        Categorical variable -> its levels; the first is the reference.
    rows : ndarray of bool
        Which rows of the table take part.
    notes : tuple of Note
    """

    formula: str
    X: Array
    names: tuple[str, ...]
    terms: Mapping[str, tuple[int, ...]]
    variables: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    rows: Mask
    notes: tuple[Note, ...] = ()
    _spec: ModelSpec | None = field(default=None, repr=False)
    _kept: tuple[int, ...] = field(default=(), repr=False)
    _null: Array | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.X.flags.writeable = False
        self.rows.flags.writeable = False

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.names)

    @property
    def has_intercept(self) -> bool:
        """Whether the model has an intercept."""
        return INTERCEPT in self.names

    @property
    def tested(self) -> tuple[int, ...]:
        """Positions of the coefficients that QM tests: all but the intercept, or the intercept alone."""
        others = tuple(i for i, name in enumerate(self.names) if name != INTERCEPT)
        return others or (0,)

    def new_rows(self, newdata: pd.DataFrame | Mapping[str, Any], *, averaged: bool = False) -> tuple[Array, list[str]]:
        """Code new data as the model's own were coded; return the rows (m, p) and a label for each.

        `averaged` is for rows of which only an average is used: it may be known where a row is not, so that the
        caller asks `estimable` of the average of `beyond`.

        Raises
        ------
        InputError
            For a missing moderator, an empty cell, a level the model has not seen, or a row that no effect tells
            about.
        """
        if self._spec is None:
            k = len(as_frame(newdata))
            return np.ones((k, 1)), [str(i + 1) for i in range(k)]
        X, frame = self._code(newdata)
        labels = [", ".join(f"{n} = {_short(v)}" for n, v in row.items()) for row in frame.to_dict("records")]
        known = self.estimable(X[:, :0] if averaged or self._null is None else X @ self._null)
        if not known.all():
            lost = "; ".join(np.array(labels)[~known])
            raise InputError(f"newdata: no effect tells about {lost}; its column was left out as redundant")
        return X[:, list(self._kept)], labels

    @staticmethod
    def estimable(beyond: Array) -> Mask:
        """Return where rows of `beyond`, or averages of its rows, (m, d), can be estimated, (m,)."""
        return np.abs(beyond).max(axis=1, initial=0.0) <= UNDETERMINED

    def beyond(self, newdata: pd.DataFrame | Mapping[str, Any]) -> Array:
        """Return what of each new row no effect tells about, (m, d): zeros where the mean can be estimated.

        d is the number of redundant columns left out. The measure is linear in the row: that of an average
        of rows is the average of theirs, on a scale where rows are of order 1.
        """
        if self._null is None or self._spec is None:
            return np.zeros((len(as_frame(newdata)), 0))
        return self._code(newdata)[0] @ self._null

    def _code(self, newdata: pd.DataFrame | Mapping[str, Any]) -> tuple[Array, pd.DataFrame]:
        from formulaic.errors import FormulaicError

        assert self._spec is not None
        given = as_frame(newdata)
        self._check_new(_whole_codes(self.formula, _plain(given)))
        frame = _whole_codes(self.formula, _plain(given[list(self.variables)]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return np.asarray(self._spec.get_model_matrix(frame, context=CONTEXT), dtype=float), frame
            except (FormulaicError, ValueError, ArithmeticError) as error:
                raise InputError(f"newdata cannot be coded as the model's moderators were: {error}") from error

    def _check_new(self, frame: pd.DataFrame) -> None:
        lacking = [name for name in self.variables if name not in frame]
        if lacking:
            raise InputError(f"newdata lacks {', '.join(lacking)}; the model uses {', '.join(self.variables)}")
        for name in self.variables:
            if frame[name].isna().any():
                raise InputError(f"newdata has an empty cell in {name!r}; every moderator needs a value")
            known = self.levels.get(name)
            strange = sorted({str(v) for v in frame[name]} - set(known)) if known else []
            if strange:
                raise InputError(
                    f"newdata: {name}={strange[0]!r} is not a level of the fitted model"
                    f"{did_you_mean(strange[0], list(known or ()))} Levels: {', '.join(known or ())}"
                )


def design_of(mods: str, effects: EffectSizes) -> Design:
    """Build the design matrix of `mods` for these effects; see `build_design`."""
    return build_design(mods, effects.moderators, labels=effects.slab, outcome=effects.outcome_columns())


def build_design(
    mods: str, moderators: pd.DataFrame, *, labels: Sequence[str], outcome: Collection[str] = ()
) -> Design:
    """Build the design matrix of `mods` from the moderators of k effects.

    Parameters
    ----------
    mods : str
        Right-hand side of a formula, with or without ``~``: ``"1"``, ``"rater + setting"``,
        ``"rater * center(year)"``, ``"bs(year, df=3)"``, ``"0 + rater"``. Text columns are categorical, with
        the first level in alphabetical order as the reference; a pandas ``Categorical`` keeps the order of its
        categories, and the first is the reference. ``C(x)`` makes a number categorical.
    moderators : DataFrame of k rows
    labels : sequence of str
        Study labels, for messages.
    outcome : collection of str
        Columns that hold the effects themselves, which cannot be moderators.

    Raises
    ------
    DesignError
        An unknown moderator, one with a single level, the outcome as a moderator, or fewer effects than
        coefficients; the message names them.

    Warns
    -----
    DroppedRowsWarning
        Effects with a missing moderator are left out.
    RedundantModeratorWarning
        A column that is a combination of earlier ones is left out and named, as metafor does.
    """
    formula = _right_hand_side(mods)
    k = len(moderators)
    if formula == "1":
        return Design("1", np.ones((k, 1)), (INTERCEPT,), {"1": (0,)}, (), {}, np.ones(k, dtype=bool))
    known = [str(c) for c in moderators.columns]
    checked = read_formula(formula, columns=known, where="mods")
    names = [name for name in known if name in checked.variables]
    told = ", ".join(repr(name) for name in names if name in outcome)
    if told:
        raise DesignError(f"mods={formula!r}: {told} is what the effects were computed from; leave it out of mods")
    _refuse_strays(formula, moderators[names], labels)
    frame = _plain(moderators[names])
    rows = frame.notna().all(axis=1).to_numpy()
    notes = _missing_note(frame, rows, labels)
    used = _whole_codes(formula, frame[rows].reset_index(drop=True))
    levels = _levels(formula, used)
    _check_levels(used, levels)
    check_size(checked.formula, levels, where=f"mods={shown(formula)}")
    X, columns, terms, spec = _materialise(formula, checked.formula, used)
    _check_size(X, columns, formula)
    kept, redundant = _redundant(X, columns)
    place = {j: i for i, j in enumerate(kept)}
    return Design(
        formula=formula,
        X=X[:, kept],
        names=tuple(columns[j] for j in kept),
        terms={term: tuple(place[j] for j in slots if j in place) for term, slots in terms.items()},
        variables=tuple(names),
        levels=levels,
        rows=rows,
        notes=(*notes, *redundant),
        _spec=spec,
        _kept=tuple(kept),
        _null=null_space(X, rank=len(kept)),
    )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _right_hand_side(mods: str) -> str:
    formula = plain_text(mods, where="mods").strip()
    if formula.count("~") > 1 or ("~" in formula and not formula.startswith("~")):
        raise DesignError(f"mods={shown(mods)}: write only the right-hand side, such as 'rater + setting'")
    return formula.lstrip("~").strip() or "1"


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy in which every column is float or text, the two kinds a formula distinguishes."""
    plain: dict[Any, Any] = {}
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            plain[name] = column.astype(float)
        else:
            text = column.astype(object).map(str, na_action="ignore")
            ordered = isinstance(column.dtype, pd.CategoricalDtype)
            plain[name] = pd.Categorical(text, list(map(str, levels_of(column)))) if ordered else text.astype(object)
    return pd.DataFrame(plain, index=frame.index)


def _refuse_strays(formula: str, moderators: pd.DataFrame, labels: Sequence[str]) -> None:
    """Refuse a column of numbers that a few cells of text make one of words, unless C() says that it is."""
    for name in [name for name in moderators if name not in _explicit(formula)]:
        cells = moderators[name].tolist()
        stray = strays(str(name), cells)
        if stray:
            shown = ", ".join(f"{cells[i]!r} ({labels[i]})" for i in stray[:5])
            more = f" and {len(stray) - 5} more" if len(stray) > 5 else ""
            raise DesignError(
                f"moderator {name!r} holds numbers but for {shown}{more}; mend these cells, leave them empty, or write "
                f"C({name}) if it is a column of words"
            )


def levels_of(column: pd.Series[Any]) -> tuple[Any, ...]:
    """Return the values a categorical column has: a Categorical's in their order, numbers by size, else by name."""
    found = set(column.dropna())
    if isinstance(column.dtype, pd.CategoricalDtype):
        return tuple(value for value in column.cat.categories if value in found)
    return tuple(sorted(found) if pd.api.types.is_numeric_dtype(column) else sorted(found, key=str))


def _missing_note(frame: pd.DataFrame, rows: Mask, labels: Sequence[str]) -> tuple[Note, ...]:
    if rows.all():
        return ()
    if not rows.any():
        raise DesignError(f"every effect lacks a value of {' or '.join(map(str, frame.columns))}")
    per_column = ", ".join(f"{name}: {int(n)}" for name, n in frame.isna().sum().items() if n)
    lost = [labels[int(i)] for i in np.flatnonzero(~rows)]
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    message = f"{len(lost)} of {len(rows)} effects left out because a moderator is missing ({per_column}): {shown}."
    return (warn_note("dropped-rows", message, DroppedRowsWarning, stacklevel=6),)


def _explicit(formula: str) -> set[str]:
    return set(re.findall(r"\bC\(\s*([A-Za-z_]\w*)", formula))


def _whole_codes(formula: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Turn numbers that C() makes categorical into integers where they are whole: levels 1, 2 and not 1.0, 2.0."""
    codes = [
        name
        for name in _explicit(formula) & set(frame)
        if pd.api.types.is_float_dtype(frame[name]) and (frame[name] == frame[name].round()).all()
    ]
    return frame.astype({name: int for name in codes})


def _levels(formula: str, used: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    explicit = _explicit(formula)
    found = {}
    for name, column in used.items():
        if name in explicit or not pd.api.types.is_numeric_dtype(column):
            found[str(name)] = tuple(map(str, levels_of(column)))
    return found


def _check_levels(used: pd.DataFrame, levels: Mapping[str, tuple[str, ...]]) -> None:
    single = []
    for name, column in used.items():
        if column.nunique() == 1:
            kind = "one level" if name in levels else "one value"
            single.append(f"moderator {name!r} has {kind}, {column.iloc[0]!r}, in all {len(used)} effects")
    if single:
        raise DesignError("; ".join(single) + ": nothing to compare, leave it out of mods")


def _materialise(
    formula: str, checked: Formula, used: pd.DataFrame
) -> tuple[Array, tuple[str, ...], dict[str, tuple[int, ...]], ModelSpec]:
    from formulaic import model_matrix
    from formulaic.errors import FormulaicError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matrix = model_matrix(checked, used, context=CONTEXT, na_action="raise")
    except (FormulaicError, ValueError, TypeError, ArithmeticError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DesignError(f"mods={formula!r} cannot be computed from these moderators: {reason}") from error
    spec = matrix.model_spec
    X = np.array(matrix, dtype=float)
    columns = tuple(INTERCEPT if c == "Intercept" else str(c) for c in spec.column_names)
    if not np.isfinite(X).all():
        bad = [columns[j] for j in np.flatnonzero(~np.isfinite(X).all(axis=0))]
        raise DesignError(f"mods={formula!r}: {', '.join(bad)} is not a finite number in every effect")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DesignError(f"mods={shown(formula)} gives two coefficients the name {twice!r}; rename a column")
    terms = {str(term): tuple(int(i) for i in slots) for term, slots in spec.term_indices.items()}
    return X, columns, terms, spec


def _check_size(X: Array, columns: tuple[str, ...], formula: str) -> None:
    k, p = X.shape
    if k < p:
        raise DesignError(
            f"mods={formula!r} asks for {p} coefficients ({', '.join(columns)}) from {k} "
            f"effect{'s' if k != 1 else ''}; use fewer moderators"
        )


def _redundant(X: Array, columns: tuple[str, ...]) -> tuple[list[int], tuple[Note, ...]]:
    """Return the positions of columns that add something to those before them, and a note for all others."""
    kept = independent_columns(X)
    redundant = []
    for j in sorted(set(range(len(columns))) - set(kept)):
        before = [i for i in kept if i < j]
        involved = [columns[before[i]] for i in partners(X[:, before], X[:, j])]
        why = f"a combination of {', '.join(map(repr, involved))}" if involved else NO_SUCH
        redundant.append(f"{columns[j]!r} is {why}")
    if not redundant:
        return kept, ()
    message = f"Left out of the model because it says nothing new: {'; '.join(redundant)}."
    return kept, (warn_note("redundant-moderator", message, RedundantModeratorWarning, stacklevel=6),)


def as_frame(newdata: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """Return new data as a frame; a single value stands for every row."""
    if isinstance(newdata, pd.DataFrame):
        return newdata.reset_index(drop=True)
    try:
        lists = {name: list(v) for name, v in newdata.items() if pd.api.types.is_list_like(v)}
        m = max((len(v) for v in lists.values()), default=1)
        columns = {name: lists.get(name, [v] * m) for name, v in newdata.items()}
        return pd.DataFrame(columns)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError("newdata is a data frame or a dictionary of moderators with equally many values") from error
