"""Moderators with gaps: which, what may stand in each gap, and what that would change in the mean effect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray, Array, Mask
from alliance_meta.design import Design, build_design, levels_of
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError

# Of missing levels: each study needs that many normal densities.
MOST_COMBINATIONS = 48
# How far a moderator's effect on the mean may be from linear, relative to its size.
LINEAR = 1e-8


@dataclass(frozen=True, eq=False)
class Numeric:
    """A numeric moderator with gaps: centre and unit of its observed values."""

    name: str
    centre: float
    unit: float


@dataclass(frozen=True, eq=False)
class Factor:
    """A categorical moderator with gaps: its levels, the first the reference, and their observed shares."""

    name: str
    levels: tuple[str, ...]
    values: tuple[Any, ...]
    shares: Array


@dataclass(frozen=True, eq=False)
class Coding:
    """How moderators are coded, with what stands in for a gap; of the effects that made the model.

    Attributes
    ----------
    design : Design
        With an average row where a moderator is missing.
    numeric : tuple of Numeric
        Those with gaps, in the order in which one is explained by those before.
    factors : tuple of Factor
    combinations : tuple of tuple of int
        Of levels of the factors; one, empty, without factors.
    complete : tuple of (str, object)
        Moderators without gaps: the name, and centre and unit of a numeric one or levels and their shares.
    missing : mapping of str to int
        Moderator -> number of gaps.
    """

    design: Design
    numeric: tuple[Numeric, ...]
    factors: tuple[Factor, ...]
    combinations: tuple[tuple[int, ...], ...]
    complete: tuple[tuple[str, Any], ...]
    missing: Mapping[str, int]

    def predictors(self, before: int, *, of_factor: bool) -> list[str]:
        """Name what explains the factor or numeric moderator at a place."""
        names = [name for one, coded in self.complete for name in _labels(one, coded)]
        factors = self.factors[:before] if of_factor else self.factors
        names += [f"{one.name}[T.{level}]" for one in factors for level in one.levels[1:]]
        return names if of_factor else names + [one.name for one in self.numeric[:before]]


@dataclass(frozen=True, eq=False)
class Rows:
    """The moderators of k effects: C combinations of levels, b numeric moderators with gaps, p coefficients.

    Attributes
    ----------
    X : ndarray of shape (k, C, p)
        Rows of the design if the factors had these levels and the numeric moderators their centres.
    change : ndarray of shape (k, C, b, p)
        What one unit of each numeric moderator adds.
    u, seen : ndarray of shape (k, b)
        Values in units from their centre, 0 where missing; 1 where observed.
    open : ndarray of bool of shape (k, C)
        Whether the observed levels leave a combination possible.
    Z : ndarray of shape (k, q)
        The complete moderators, centred and scaled.
    """

    X: Array
    change: Array
    u: Array
    seen: Array
    open: Mask
    Z: Array


def code(effects: EffectSizes, mods: str) -> Coding:
    """Find the gaps in the moderators of `mods`, and code everything else.

    Raises
    ------
    DesignError
        The model cannot be fitted, a numeric moderator with gaps has more than a linear effect, or there are too many
        combinations of missing levels.
    """
    table = effects.moderators
    filled = _filled(table, mods)
    design = build_design(mods, filled, labels=effects.slab)
    missing = {name: int(table[name].isna().sum()) for name in design.variables if table[name].isna().any()}
    holes = sorted(missing, key=lambda name: missing[name])
    numeric = tuple(_numeric(name, table[name]) for name in holes if name not in design.levels)
    factors = tuple(_factor(name, table[name], design.levels[name]) for name in holes if name in design.levels)
    levels = tuple(product(*(range(len(one.levels)) for one in factors)))
    if len(levels) > MOST_COMBINATIONS:
        listed = ", ".join(f"{one.name} ({len(one.levels)} levels)" for one in factors)
        raise DesignError(
            f"{listed} have gaps: {len(levels)} combinations of levels would have to be weighed for each study, and "
            f"{MOST_COMBINATIONS} are the most; leave one of them out of mods, or impute with impute_moderators"
        )
    complete = tuple((name, _plain_coding(table[name], design.levels.get(name))) for name in design.variables
                     if name not in missing)  # fmt: skip
    found = Coding(design, numeric, factors, levels, complete, missing)
    return replace(found, design=averaged(found, rows_of(found, table))) if missing else found


def rows_of(coding: Coding, moderators: pd.DataFrame) -> Rows:
    """Code the moderators of effects, gaps and all.

    Raises
    ------
    InputError
        A gap in a moderator that had none, or a level that is new.
    """
    gaps = [name for name in coding.design.variables if name not in coding.missing and moderators[name].isna().any()]
    if gaps:
        raise InputError(f"{', '.join(gaps)} had no gaps when the model was made; make the model anew")
    k, b = len(moderators), len(coding.numeric)
    centred = moderators.assign(**{one.name: one.centre for one in coding.numeric})
    X, change = [], []
    for levels in coding.combinations:
        frame = centred.assign(**{one.name: moderators[one.name].where(moderators[one.name].notna(), one.values[level])
                                  for one, level in zip(coding.factors, levels, strict=True)})  # fmt: skip
        base, steps = _linear(coding, frame)
        X.append(base)
        change.append(steps)
    raw = [(moderators[one.name].to_numpy(dtype=float) - one.centre) / one.unit for one in coding.numeric]
    values = np.array(raw).reshape(b, k).T
    return Rows(
        X=np.stack(X, axis=1),
        change=np.stack(change, axis=1),
        u=np.where(np.isnan(values), 0.0, values),
        seen=(~np.isnan(values)).astype(float),
        open=_open(coding, moderators),
        Z=_complete(coding, moderators),
    )


def explaining(coding: Coding, rows: Rows, before: int, *, of_factor: bool) -> Array:
    """Return what explains the factor or numeric moderator at a place, but for numeric ones with gaps, (k, C, q)."""
    k, c = rows.open.shape
    factors = coding.factors[:before] if of_factor else coding.factors
    dummies = [
        np.array([float(levels[place] == level) - one.shares[level] for levels in coding.combinations])
        for place, one in enumerate(factors)
        for level in range(1, len(one.levels))
    ]
    own = np.broadcast_to(rows.Z[:, None, :], (k, c, rows.Z.shape[1]))
    given = np.broadcast_to(np.array(dummies).reshape(len(dummies), c).T, (k, c, len(dummies)))
    return np.concatenate([own, given], axis=2)


def averaged(coding: Coding, rows: Rows) -> Design:
    """Return the design with an average row in the place of each gap: centres, and levels by their shares."""
    shares = np.array([
        np.prod([one.shares[level] for one, level in zip(coding.factors, levels, strict=True)])
        for levels in coding.combinations
    ])  # fmt: skip
    weight = rows.open * shares
    weight = weight / weight.sum(axis=1, keepdims=True)
    each = rows.X + np.einsum("kcbp,kb->kcp", rows.change, rows.u)
    return replace(coding.design, X=np.einsum("kc,kcp->kp", weight, each), rows=np.ones(len(each), dtype=bool))


def _filled(table: pd.DataFrame, mods: str) -> pd.DataFrame:
    """Return the table with the mean or the most frequent value in each gap; a column without values stays empty."""
    coded = set(re.findall(r"\bC\(\s*`?([^`,)]+?)`?\s*[,)]", mods))
    filled = table.copy()
    for name, column in table.items():
        known = column.dropna()
        if len(known) in (0, len(column)):
            continue
        if _is_number(column) and name not in coded:
            filled[name] = column.where(column.notna(), float(known.astype(float).mean()))
        else:
            counts = known.value_counts()
            often = min((value for value, n in counts.items() if n == counts.max()), key=str)
            filled[name] = column.where(column.notna(), often)
    return filled


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _numeric(name: str, column: pd.Series[Any]) -> Numeric:
    known = column.dropna().to_numpy(dtype=float)
    return Numeric(name, float(known.mean()), float(known.std()))


def _factor(name: str, column: pd.Series[Any], levels: Sequence[str]) -> Factor:
    known = column.dropna()
    values = levels_of(known)
    shares = np.array([(known == value).mean() for value in values])
    return Factor(name, tuple(levels), values, shares)


def _plain_coding(column: pd.Series[Any], levels: Sequence[str] | None) -> Any:
    """Return centre and unit of a numeric moderator, levels and shares of a categorical one."""
    if levels is None:
        x = column.to_numpy(dtype=float)
        return float(x.mean()), float(x.std())
    return _factor(str(column.name), column, levels)


def _labels(name: str, coded: Any) -> list[str]:
    return [f"{name}[T.{level}]" for level in coded.levels[1:]] if isinstance(coded, Factor) else [name]


def _complete(coding: Coding, moderators: pd.DataFrame) -> Array:
    columns: list[AnyArray] = []
    for name, coded in coding.complete:
        if isinstance(coded, Factor):
            columns += [
                (moderators[name] == value).to_numpy(dtype=float) - share
                for value, share in zip(coded.values[1:], coded.shares[1:], strict=True)
            ]
        else:
            columns.append((moderators[name].to_numpy(dtype=float) - coded[0]) / coded[1])
    return np.array(columns, dtype=float).reshape(len(columns), len(moderators)).T


def _open(coding: Coding, moderators: pd.DataFrame) -> Mask:
    out = np.ones((len(moderators), len(coding.combinations)), dtype=bool)
    for place, one in enumerate(coding.factors):
        column = moderators[one.name]
        for c, levels in enumerate(coding.combinations):
            out[:, c] &= (column.isna() | (column == one.values[levels[place]])).to_numpy(dtype=bool)
    return out


def _linear(coding: Coding, frame: pd.DataFrame) -> tuple[Array, Array]:
    """Return the rows (k, p) at the centres, and what one unit of each numeric moderator adds, (k, b, p)."""

    def at(*steps: tuple[Numeric, float]) -> Array:
        moved = frame.assign(**{one.name: one.centre + n * one.unit for one, n in steps})
        return coding.design.new_rows(moved, averaged=True)[0]

    base = coding.design.new_rows(frame, averaged=True)[0]
    k, p = base.shape
    steps, crooked = [], set()
    for one in coding.numeric:
        try:
            steps.append(at((one, 1.0)) - base)
            far = at((one, -3.0)) - base
        except InputError:
            crooked.add(one.name)
            continue
        if np.abs(far + 3.0 * steps[-1]).max() > LINEAR * np.abs(steps[-1]).max():
            crooked.add(one.name)
    if not crooked:
        for (i, one), (j, other) in combinations(enumerate(coding.numeric), 2):
            both = at((one, 1.0), (other, 1.0)) - base
            if np.abs(both - steps[i] - steps[j]).max() > LINEAR * max(np.abs(steps[i]).max(), np.abs(steps[j]).max()):
                crooked |= {one.name, other.name}
    if crooked:
        raise DesignError(
            f"mods={coding.design.formula!r}: {' and '.join(sorted(crooked))} with gaps may only have a straight-"
            "line effect here, without a curve and without an interaction of two such moderators; impute_moderators "
            "can do that"
        )
    return base, np.stack(steps, axis=1) if steps else np.zeros((k, 0, p))
