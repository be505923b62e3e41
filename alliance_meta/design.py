"""Moderators: from a formula and a table to a design matrix that remembers how it was made."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.effects.sheet.columns import strays
from alliance_meta.errors import DesignError, DroppedRowsWarning, InputError, RedundantModeratorWarning
from alliance_meta.expressions import plain_text, shown
from alliance_meta.formulas import check_size, parse_formula, read_formula
from alliance_meta.notes import Note, did_you_mean, warn_note

if TYPE_CHECKING:
    from formulaic import Formula, ModelSpec

    from alliance_meta.effects.table import EffectSizes

# Columns whose residual on the others is below this share of their length are called collinear; R's qr uses 1e-7.
COLLINEAR = 1e-7


def independent_columns(X: Array) -> list[int]:
    """Return the positions of columns that add something to those before them."""
    basis = np.zeros((len(X), 0))
    kept: list[int] = []
    for j, column in enumerate(X.T):
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > COLLINEAR * np.linalg.norm(column):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
            kept.append(j)
    return kept


def null_space(X: Array, *, rank: int) -> Array | None:
    """Return the combinations of columns (P, P - rank) that are 0 in every row, None where there are none."""
    if rank == X.shape[1]:
        return None
    length = np.abs(X).max(axis=0)
    scale = np.where(length > 0, length, 1.0)
    return np.linalg.svd(X / scale)[2][rank:].T / scale[:, None]


def partners(X: Array, column: Array) -> list[int]:
    """Return the columns of X of which another is a combination; none where it is 0."""
    if not column.any():
        return []
    weights = np.linalg.lstsq(X, column, rcond=None)[0]
    size = np.abs(weights) * np.linalg.norm(X, axis=0)
    return [int(i) for i in np.flatnonzero(size > 1e-6 * size.max())]


INTERCEPT = "intrcpt"
NO_SUCH = "0 in every effect (no effect has this combination of levels)"
# Rows are of order 1 on the scale of `Design.beyond`; what is smaller is rounding.
UNDETERMINED = 1e-6
# Columns by name, all rows or those that take part: numbers, text, or text in an order that was given.
Columns = dict[str, Any]
# Functions of a formula that formulaic does not bring along.
CONTEXT = {"sqrt": np.sqrt, "abs": np.abs}


@dataclass(frozen=True, eq=False)
class Design:
    """A design matrix and the coding that made it, so that new data are coded the same way."""

    formula: str  # the right-hand side, ``"1"`` for an intercept only
    X: Array  # (k, p)
    names: tuple[str, ...]  # coefficient names; the intercept is ``intrcpt`` as in metafor
    terms: Mapping[str, tuple[int, ...]]  # term of the formula -> positions of its coefficients
    variables: tuple[str, ...]  # columns of the table that the formula uses
    levels: Mapping[str, tuple[str, ...]]  # categorical variable -> its levels; the first is the reference
    rows: Mask  # which rows of the table take part
    notes: tuple[Note, ...] = ()
    _spec: ModelSpec | None = field(default=None, repr=False)
    _kept: tuple[int, ...] = field(default=(), repr=False)
    _null: Array | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.X.flags.writeable = False
        self.rows.flags.writeable = False

    @property
    def words(self) -> tuple[str, ...]:
        """Coefficient names as a reader says them: ``rater: observer (against client)`` for ``rater[T.observer]``."""
        coded = {
            f"{variable}[T.{level}]": f"{variable}: {level} (against {levels[0]})"
            for variable, levels in self.levels.items()
            for level in levels[1:]
        }
        at = ", ".join(f"{variable}: {levels[0]}" for variable, levels in self.levels.items())
        coded[INTERCEPT] = f"Intercept ({at})" if at else "Intercept"
        return tuple(coded.get(name) or _product(name, coded) for name in self.names)

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

    def taking_part(self, effects: EffectSizes) -> EffectSizes:
        """Return the effects with every moderator, of those that the design was built for."""
        if self.rows.all():
            return effects
        return effects.take(self.rows, step=f"{int(self.rows.sum())} effects with every moderator")

    def new_rows(self, newdata: pd.DataFrame | Mapping[str, Any], *, averaged: bool = False) -> tuple[Array, list[str]]:
        """Code new data as the model's own were coded; return the rows (m, p) and a label for each.

        `averaged` is for rows of which only an average is used: it may be known where a row is not, so that the
        caller asks `estimable` of the average of `beyond`.

        Raises `InputError`: for a missing moderator, an empty cell, a level the model has not seen, or a row that no
        effect tells about.
        """
        if self.formula == "1":
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
        if self._null is None:
            return np.zeros((len(as_frame(newdata)), 0))
        return self._code(newdata)[0] @ self._null

    @cached_property
    def _coding(self) -> ModelSpec:
        """How formulaic codes new rows; what was coded without it needs the levels alone for that."""
        if self._spec is not None:
            return self._spec
        m = max(map(len, self.levels.values()), default=1)
        like: Columns = {name: np.zeros(m) for name in self.variables}
        like |= {
            name: pd.Categorical([own[i % len(own)] for i in range(m)], list(own)) for name, own in self.levels.items()
        }
        return _by_formulaic(self.formula, parse_formula(self.formula, where="mods").formula, like, m)[3]

    def _code(self, newdata: pd.DataFrame | Mapping[str, Any]) -> tuple[Array, pd.DataFrame]:
        from formulaic.errors import FormulaicError

        given = as_frame(newdata)
        lacking = [name for name in self.variables if name not in given]
        if lacking:
            raise InputError(f"newdata lacks {', '.join(lacking)}; the model uses {', '.join(self.variables)}")
        columns = _whole_codes(self.formula, _numbers_or_text({name: given[name] for name in self.variables}))
        self._check_new(columns)
        frame = _frame(columns, len(given))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return np.asarray(self._coding.get_model_matrix(frame, context=CONTEXT), dtype=float), frame
            except (FormulaicError, ValueError, ArithmeticError) as error:
                raise InputError(f"newdata cannot be coded as the model's moderators were: {error}") from error

    def _check_new(self, columns: Columns) -> None:
        for name, values in columns.items():
            if _empty(values).any():
                raise InputError(f"newdata has an empty cell in {name!r}; every moderator needs a value")
            known = self.levels.get(name)
            strange = sorted({str(v) for v in values} - set(known)) if known else []
            if strange:
                raise InputError(
                    f"newdata: {name}={strange[0]!r} is not a level of the fitted model"
                    f"{did_you_mean(strange[0], list(known or ()))} Levels: {', '.join(known or ())}"
                )


def _product(name: str, coded: Mapping[str, str]) -> str:
    """Return a product of coefficients in words, and any other name as it is."""
    known = "|".join(map(re.escape, sorted(coded, key=len, reverse=True)))
    return " × ".join(coded.get(part, part) for part in re.findall(f"{known}|[^:]+", name))


def design_of(mods: str, effects: EffectSizes) -> Design:
    """Build the design matrix of `mods` for these effects; see `build_design`."""
    if mods == "1":
        return _mean_alone(effects.k)
    return build_design(mods, effects.moderators, labels=effects.slab, outcome=effects.outcome_columns)


def build_design(
    mods: str,
    moderators: pd.DataFrame,
    *,
    labels: Sequence[str],
    outcome: Callable[[Sequence[str]], Collection[str]] | None = None,
) -> Design:
    """Build the design matrix of `mods` from the moderators of k effects.

    `mods`: right-hand side of a formula, with or without ``~``: ``"1"``, ``"rater + setting"``, ``"rater *
      center(year)"``, ``"bs(year, df=3)"``, ``"0 + rater"``. Text columns are categorical, with the first level in
      alphabetical order as the reference; a pandas ``Categorical`` keeps the order of its categories, and the first is
      the reference. ``C(x)`` makes a number categorical.
    `labels`: study labels, for messages.
    `outcome`: tells which of the columns named hold the effects themselves, which cannot be moderators.
    Raises `DesignError`: an unknown moderator, one with a single level, the outcome as a moderator, or fewer effects
      than coefficients; the message names them.
    Warns `DroppedRowsWarning`: effects with a missing moderator are left out; `RedundantModeratorWarning`: a column
      that is a combination of earlier ones is left out and named, as metafor does.
    """
    formula = _right_hand_side(mods)
    if formula == "1":
        return _mean_alone(len(moderators))
    known = [str(c) for c in moderators.columns]
    checked = read_formula(formula, columns=known, where="mods")
    names = [name for name in known if name in checked.variables]
    told = ", ".join(map(repr, outcome(names) if outcome is not None else ()))
    if told:
        raise DesignError(f"mods={formula!r}: {told} is what the effects were computed from; leave it out of mods")
    table = {name: moderators[name] for name in names}
    _refuse_strays(formula, table, labels)
    given = _numbers_or_text(table)
    rows = ~np.any([np.zeros(len(moderators), dtype=bool), *(_empty(values) for values in given.values())], axis=0)
    notes = _missing_note(given, rows, labels)
    used = _whole_codes(formula, given if rows.all() else {name: values[rows] for name, values in given.items()})
    levels = _levels(formula, used)
    _check_levels(used, levels)
    check_size(checked.formula, levels, where=f"mods={shown(formula)}")
    X, columns, terms, spec = _materialise(formula, checked.formula, used, levels, int(rows.sum()))
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


def _mean_alone(k: int) -> Design:
    return Design("1", np.ones((k, 1)), (INTERCEPT,), {"1": (0,)}, (), {}, np.ones(k, dtype=bool))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _right_hand_side(mods: str) -> str:
    formula = plain_text(mods, where="mods").strip()
    if formula.count("~") > 1 or ("~" in formula and not formula.startswith("~")):
        raise DesignError(f"mods={shown(mods)}: write only the right-hand side, such as 'rater + setting'")
    return formula.lstrip("~").strip() or "1"


def _numbers_or_text(table: Mapping[str, pd.Series[Any]]) -> Columns:
    """Return columns as numbers or text, the two kinds a formula distinguishes."""
    found: Columns = {}
    for name, column in table.items():
        if is_number(column):
            found[name] = column.to_numpy(dtype=float, na_value=np.nan)
            continue
        text = column.astype(object).map(str, na_action="ignore")
        ordered = isinstance(column.dtype, pd.CategoricalDtype)
        found[name] = (
            pd.Categorical(text, list(map(str, levels_of(column)))) if ordered else text.to_numpy(dtype=object)
        )
    return found


def _empty(values: Any) -> Mask:
    return np.asarray(pd.isna(values))


def _frame(columns: Columns, k: int) -> pd.DataFrame:
    texts = {n: pd.Series(v, dtype=object) for n, v in columns.items() if v.dtype == object}
    return pd.DataFrame(columns | texts, index=range(k))


def is_number(column: Any) -> bool:
    """Tell whether a column holds numbers, which yes and no are not."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _refuse_strays(formula: str, table: Mapping[str, pd.Series[Any]], labels: Sequence[str]) -> None:
    """Refuse a column of numbers that a few cells of text make one of words, unless C() says that it is."""
    explicit = _explicit(formula)
    for name, column in table.items():
        if name in explicit or is_number(column):
            continue
        cells = column.tolist()
        stray = strays(name, cells)
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


def _missing_note(columns: Columns, rows: Mask, labels: Sequence[str]) -> tuple[Note, ...]:
    if rows.all():
        return ()
    if not rows.any():
        raise DesignError(f"every effect lacks a value of {' or '.join(columns)}")
    counts = {name: int(_empty(values).sum()) for name, values in columns.items()}
    per_column = ", ".join(f"{name}: {n}" for name, n in counts.items() if n)
    lost = [labels[int(i)] for i in np.flatnonzero(~rows)]
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    message = f"{len(lost)} of {len(rows)} effects left out because a moderator is missing ({per_column}): {shown}."
    return (warn_note("dropped-rows", message, DroppedRowsWarning, stacklevel=6),)


def _explicit(formula: str) -> set[str]:
    return set(re.findall(r"\bC\(\s*([A-Za-z_]\w*)", formula))


def _whole_codes(formula: str, columns: Columns) -> Columns:
    """Turn numbers that C() makes categorical into integers where they are whole: levels 1, 2 and not 1.0, 2.0."""
    found = dict(columns)
    for name in _explicit(formula) & set(columns):
        values = columns[name]
        if is_number(values) and np.isfinite(values).all() and (values == np.round(values)).all():
            found[name] = values.astype(int)
    return found


def _levels(formula: str, used: Columns) -> dict[str, tuple[str, ...]]:
    explicit = _explicit(formula)
    return {
        name: tuple(map(str, levels_of(pd.Series(values))))
        for name, values in used.items()
        if name in explicit or not is_number(values)
    }


def _check_levels(used: Columns, levels: Mapping[str, tuple[str, ...]]) -> None:
    single = []
    for name, values in used.items():
        if len(values) and (values == values[0]).all():
            kind = "one level" if name in levels else "one value"
            single.append(f"moderator {name!r} has {kind}, {str(values[0])!r}, in all {len(values)} effects")
    if single:
        raise DesignError("; ".join(single) + ": nothing to compare, leave it out of mods")


Coded = tuple[Array, tuple[str, ...], dict[str, tuple[int, ...]], "ModelSpec | None"]


def _materialise(formula: str, checked: Formula, used: Columns, levels: Mapping[str, tuple[str, ...]], k: int) -> Coded:
    """Return the matrix, the names of its columns, the columns of each term, and formulaic's record if it made them."""
    X, columns, terms, spec = _products(checked, used, levels, k) or _by_formulaic(formula, checked, used, k)
    if not np.isfinite(X).all():
        bad = [columns[j] for j in np.flatnonzero(~np.isfinite(X).all(axis=0))]
        raise DesignError(f"mods={formula!r}: {', '.join(bad)} is not a finite number in every effect")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DesignError(f"mods={shown(formula)} gives two coefficients the name {twice!r}; rename a column")
    return X, columns, terms, spec


def _products(checked: Formula, used: Columns, levels: Mapping[str, tuple[str, ...]], k: int) -> Coded | None:
    """Code an intercept, columns and their products as formulaic does, without its delay.

    None where that is not all, or where a product of categories comes without those below it.
    """
    terms = {
        str(term): [str(one.expr) for one in term.factors if one.eval_method.value == "lookup"] for term in checked
    }
    whole = all(len(terms[str(term)]) == len(term.factors) or str(term) == "1" for term in checked)
    words = {name for name, values in used.items() if not is_number(values)}
    odd = [n for n in words if isinstance(v := used[n], pd.Categorical) and tuple(v.categories) != levels[n]]
    if not whole or "1" not in terms or len(terms) < len(checked) or odd:
        return None
    there = set(map(frozenset, terms.values()))
    for names in terms.values():
        below = (frozenset(some) for m in range(1, len(names)) for some in combinations(names, m))
        if not words.isdisjoint(names) and not there.issuperset(below):
            return None
    parts = {name: _treatment(name, v, levels[name] if name in words else None) for name, v in used.items()}
    found: dict[str, Array] = {INTERCEPT: np.ones(k)}
    places: dict[str, tuple[int, ...]] = {"1": (0,)}
    for term, names in terms.items():
        made = {} if term == "1" else _multiplied([parts[name] for name in names])
        places[term] = places.get(term) or tuple(range(len(found), len(found) + len(made)))
        if not found.keys().isdisjoint(made):
            return None
        found |= made
    return np.array(list(found.values())).T, tuple(found), {term: places[term] for term in terms}, None


def _treatment(name: str, values: Any, levels: Sequence[str] | None) -> dict[str, Array]:
    """Return a column of numbers as it is, or one column for each level but the first."""
    if levels is None:
        return {name: np.asarray(values)}
    codes = pd.Categorical(values, list(levels)).codes
    return {f"{name}[T.{level}]": (codes == at).astype(float) for at, level in enumerate(levels) if at}


def _multiplied(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the products of one column of each part; those of the first part follow each other."""
    found = {}
    with np.errstate(all="ignore"):
        for chosen in product(*reversed(parts)):
            names = chosen[::-1]
            found[":".join(names)] = reduce(np.multiply, [part[n] for part, n in zip(parts, names, strict=True)])
    return found


def _by_formulaic(formula: str, checked: Formula, used: Columns, k: int) -> Coded:
    from formulaic import model_matrix
    from formulaic.errors import FormulaicError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matrix = model_matrix(checked, _frame(used, k), context=CONTEXT, na_action="raise")
    except (FormulaicError, ValueError, TypeError, ArithmeticError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DesignError(f"mods={formula!r} cannot be computed from these moderators: {reason}") from error
    spec = matrix.model_spec
    columns = tuple(INTERCEPT if c == "Intercept" else str(c) for c in spec.column_names)
    terms = {str(term): tuple(int(i) for i in slots) for term, slots in spec.term_indices.items()}
    return np.array(matrix, dtype=float), columns, terms, spec


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
