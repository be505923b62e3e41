"""Averages of a model's predictions over the levels of its moderators, as combinations of coefficients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.design import Design
from alliance_meta.errors import DesignError, InputError
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.results.fit import Fit
from alliance_meta.tables.format import brief

Weights = Literal["equal", "proportional"]


@dataclass(frozen=True, eq=False)
class Averages:
    """Rows of coefficients, each an average of predictions."""

    cells: tuple[Mapping[str, Any], ...]  # what each row stands for: moderator -> value
    L: Array  # (m, p)
    known: Mask  # (m,): false where no effect tells about the row
    k: Array  # (m,): effects with the row's levels
    held: Mapping[str, float]  # numeric moderators and the value at which each was held
    over: tuple[str, ...]  # categorical moderators averaged over


def averages(fit: Fit, by: Sequence[str], *, at: Mapping[str, Any] | None, weights: Weights) -> Averages:
    """Average the model's rows for each combination of the moderators `by` over the levels of the others."""
    design, table = moderated(fit), fit.effects.moderators
    check_names(design, [*by, *(at or {})])
    values = {name: _values(name, design, table, (at or {}).get(name), name in by) for name in design.variables}
    over = tuple(name for name in design.variables if name in design.levels and name not in by)
    held = {n: float(values[n][0]) for n in design.variables if n not in by and n not in design.levels}
    cells = [dict(zip(by, combo, strict=True)) for combo in product(*(values[name] for name in by))]
    others, share = _mix({name: values[name] for name in over}, table, weights)
    frame = pd.DataFrame([{**held, **cell, **other} for cell in cells for other in others])
    shape = (len(cells), len(others), -1)
    X = design.new_rows(frame, averaged=True)[0].reshape(shape)
    beyond = design.beyond(frame).reshape(*shape[:2], design.beyond(frame.head(1)).shape[1])
    outside = np.einsum("o,cod->cd", share, beyond)
    levels_only = [{name: v for name, v in cell.items() if name in design.levels} for cell in cells]
    return Averages(
        cells=tuple(cells),
        L=np.einsum("o,cop->cp", share, X),
        known=design.estimable(outside),
        k=np.array([_matching(cell, table).sum() for cell in levels_only], dtype=int),
        held=held,
        over=over,
    )


def label(cell: Mapping[str, Any]) -> str:
    """Return the values of a cell, ``"client, 2010"``."""
    texts = [brief(value) if isinstance(value, float) else str(value) for value in cell.values()]
    return ", ".join(texts) or "average"


def level_values(name: str, design: Design, table: pd.DataFrame) -> list[Any]:
    """Return the levels of a categorical moderator as they stand in the table, in the model's order."""
    found = {_text(value): value for value in table[name].dropna()}
    return [found[level] for level in design.levels[name]]


def moderated(fit: Fit) -> Design:
    """Return the design of a fitted model's moderators; refuse what is no fit, or a model that takes none."""
    if not isinstance(fit, Fit):
        raise InputError(f"this needs a fitted model, not {type(fit).__name__}; call .fit() first")
    design = getattr(fit, "design", None)
    if not isinstance(design, Design):
        raise DesignError(f"{fit.called} takes no moderators")
    return design


def check_names(design: Design, names: Sequence[str]) -> None:
    """Raise unless every name is a moderator of the model."""
    if not design.variables:
        raise DesignError("the model has no moderators; fit one with mods=")
    for name in names:
        if name not in design.variables:
            known = list(design.variables)
            hint = did_you_mean(str(name), known)
            raise InputError(f"the model has no moderator {name!r}{hint} Moderators: {', '.join(known)}")


def missing_note(rows: Averages) -> tuple[Note, ...]:
    """Return the note on rows that the effects say nothing about."""
    unknown = [label(cell) for cell, known in zip(rows.cells, rows.known, strict=True) if not known]
    if not unknown:
        return ()
    message = f"Not estimable, because no effect has a combination of levels it needs: {'; '.join(unknown)}."
    return (Note("not-estimable", message),)


def interaction_note(design: Design, by: Sequence[str], over: Sequence[str]) -> tuple[Note, ...]:
    """Return a caution when `by` interacts with a moderator that is averaged over."""
    partners = []
    for term in design.terms:
        inside = [name for name in design.variables if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", term)]
        if set(by) & set(inside):
            partners += [name for name in inside if name in over]
    if not partners:
        return ()
    found = ", ".join(dict.fromkeys(partners))
    message = f"{', '.join(by)} interacts with {found}: an average over it can hide opposite patterns. Use at= or by=."
    return (Note("interaction-averaged", message),)


def _text(value: Any) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _values(name: str, design: Design, table: pd.DataFrame, given: Any, wanted: bool) -> list[Any]:
    if name in design.levels:
        known = level_values(name, design, table)
        if given is None:
            return known
        chosen = [one_level(name, value, known) for value in (given if is_list(given) else [given])]
        if not chosen:
            raise InputError(f"at: {name} has an empty list")
        return list(dict.fromkeys(chosen))
    if given is None:
        return [float(table[name].mean())]
    values = [finite_number(name, value) for value in (given if is_list(given) else [given])]
    if not values:
        raise InputError(f"at: {name} has an empty list")
    if len(values) > 1 and not wanted:
        raise InputError(f"at: {name} can be held at one value; to have a row for each, name it in by")
    return values


def finite_number(name: str, value: Any) -> float:
    """Return the value as a float, or say that it is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(f"at: {name} is numeric; {value!r} is not a finite number")
    return number


def one_level(name: str, value: Any, known: list[Any]) -> Any:
    """Return the level as the table spells it, or say that there is none."""
    names = {_text(one): one for one in known}
    if _text(value) not in names:
        hint = did_you_mean(str(value), list(names))
        raise InputError(f"at: {value!r} is not a level of {name}{hint} Levels: {', '.join(names)}")
    return names[_text(value)]


def is_list(value: Any) -> bool:
    """Return whether there are several values."""
    return pd.api.types.is_list_like(value)


def _mix(over: Mapping[str, list[Any]], table: pd.DataFrame, weights: Weights) -> tuple[list[dict[str, Any]], Array]:
    """Return the combinations of levels to average over, and how much each counts: all alike, or as they occur."""
    if weights == "equal" or not over:
        cells = [dict(zip(over, combo, strict=True)) for combo in product(*over.values())]
        return cells, np.full(len(cells), 1.0 / len(cells))
    counts = table.groupby(list(over), observed=True, sort=False).size()
    keys = [key if isinstance(key, tuple) else (key,) for key in counts.index]
    found = [(dict(zip(over, key, strict=True)), n) for key, n in zip(keys, counts, strict=True)]
    found = [(cell, n) for cell, n in found if all(value in over[name] for name, value in cell.items())]
    if not found:
        raise InputError("weights='proportional': no effect has the combination of levels asked for in at")
    occurring = np.array([n for _, n in found], dtype=float)
    return [cell for cell, _ in found], occurring / occurring.sum()


def _matching(cell: Mapping[str, Any], table: pd.DataFrame) -> Mask:
    found = np.ones(len(table), dtype=bool)
    for name, value in cell.items():
        found &= (table[name] == value).to_numpy(dtype=bool)
    return found
