"""Random terms as a user writes them, and what they mean for the likelihood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.mixed.plan import Term
from alliance_meta.core.mixed.structures import CompoundSymmetry, Correlated, Scaled, Structure, Unstructured
from alliance_meta.core.robust.clusters import IntArray, codes
from alliance_meta.design import design_of
from alliance_meta.effects.dependent.groups import Levels, expand, factor, sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import DesignError, InputError
from alliance_meta.options import Struct, check_option
from alliance_meta.results.components import RandomTerm

PARAMETERS = {"CS": ("tau2", "rho"), "ID": ("tau2",), "AR": ("tau2", "rho"), "CAR": ("tau2", "rho")}


@dataclass(frozen=True, eq=False)
class ParsedTerm:
    """One random term: its description for the result, its structure and its terms for the likelihood."""

    label: RandomTerm
    structure: Structure
    terms: tuple[Term, ...]


def parse_random(
    random: Sequence[str] | str, effects: EffectSizes, *, struct: Any, R: Mapping[str, Any] | None
) -> list[ParsedTerm]:
    """Parse every random term; `struct` names the covariance of those with an inner part, in their order."""
    items: list[Any] = [random] if not isinstance(random, list | tuple) else list(random)
    if other := [item for item in items if not isinstance(item, str)]:
        raise InputError(
            f"random has {other[0]!r}, which is {type(other[0]).__name__}; name columns in text, such as "
            "random='study_id/es_id'"
        )
    if not items:
        raise InputError("random is empty; name at least one factor, such as random='study_id/es_id'")
    wide = [item for item in items if sides(item)[0] != "1"]
    structs = _structs(struct, wide)
    unknown = [name for name in (R or {}) if name not in [p for item in items for p in _paths(item)]]
    if unknown:
        raise InputError(f"R has {', '.join(map(repr, unknown))}, which random does not name")
    found: list[ParsedTerm] = []
    known: dict[str, tuple[Levels, IntArray]] = {}
    for item in items:
        left, right = sides(item)
        if left == "1":
            found += [_intercept(path, effects, (R or {}).get(path), known) for path in expand(right)]
        else:
            found.append(_wide(left, right, structs[wide.index(item)], effects))
    names = [p.label.name for p in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    return found


def _paths(item: str) -> list[str]:
    left, right = sides(item)
    return expand(right) if left == "1" else [right]


def _structs(struct: Any, wide: list[str]) -> list[Struct]:
    default = ["GEN" if _is_slope(sides(item)[0]) else "CS" for item in wide]
    given: list[Any] = default if struct is None else [struct] * len(wide) if isinstance(struct, str) else list(struct)
    if struct is not None and not wide:
        raise InputError("struct is given, but no random term has the form 'inner | outer'")
    if len(given) != len(wide):
        raise InputError(f"struct has {len(given)} names for {len(wide)} terms of the form 'inner | outer'")
    for name in given:
        check_option("struct", name, Struct)
    return [given[i] for i in range(len(wide))]


def _is_slope(left: str) -> bool:
    return "+" in left or not re.fullmatch(r"[A-Za-z_]\w*", left)


def _intercept(path: str, effects: EffectSizes, R: Any, known: dict[str, tuple[Levels, IntArray]]) -> ParsedTerm:
    levels, group = factor(path, effects, known)
    name = f"sigma2[{path}]"
    if R is None:
        label = RandomTerm(path, "ID", (name,), levels, group)
        return ParsedTerm(label, Scaled(np.ones((1, 1))), (Term(group),))
    matrix = _correlations(R, path, levels)
    label = RandomTerm(path, "R", (name,), levels, group)
    return ParsedTerm(label, Scaled(matrix), (Term(group, linked=True),))


def _correlations(R: Any, path: str, levels: Levels) -> Array:
    if not isinstance(R, pd.DataFrame):
        raise InputError(f"R[{path!r}] must be a DataFrame whose rows and columns are the levels of {path}")
    frame = R.copy()
    frame.index, frame.columns = frame.index.map(str), frame.columns.map(str)
    missing = [level for level in levels if level not in frame.index or level not in frame.columns]
    if missing:
        raise InputError(f"R[{path!r}] has no row and column for {', '.join(map(repr, missing[:5]))}")
    matrix = frame.loc[list(levels), list(levels)].to_numpy(dtype=float)
    if not (np.isfinite(matrix).all() and np.allclose(matrix, matrix.T, atol=1e-12)):
        raise InputError(f"R[{path!r}] must be symmetric and without missing values")
    if np.linalg.eigvalsh(matrix)[0] < -1e-8:
        raise InputError(f"R[{path!r}] is not positive semi-definite: it is no correlation matrix")
    return np.asarray(matrix)


def _wide(left: str, right: str, struct: Struct, effects: EffectSizes) -> ParsedTerm:
    outer_levels, outer = factor(right, effects)
    name = f"{left} | {right}"
    if struct == "GEN":
        try:
            design = design_of(left, effects)
        except DesignError as error:
            raise DesignError(str(error).replace("mods=", f"random term {name!r}: ", 1)) from error
        if not design.rows.all():
            gone = ", ".join(effects.slab[i] for i in np.flatnonzero(~design.rows)[:5])
            raise InputError(f"random term {name!r}: a value is missing for {gone}; fill it in or leave the rows out")
        structure: Structure = Unstructured(design.p)
        names = _matrix_names(name, design.names)
        label = RandomTerm(name, struct, names, outer_levels, outer, design.names, slopes=design)
        return ParsedTerm(label, structure, (Term(outer, design.X),))
    levels, inner = factor(left, effects)
    columns = tuple(levels)
    if struct in ("CS", "ID"):
        both = codes(outer * (int(inner.max()) + 1) + inner)
        names = tuple(f"{p}[{name}]" for p in PARAMETERS[struct])
        label = RandomTerm(name, struct, names, outer_levels, outer, columns, inner)
        if struct == "ID":
            return ParsedTerm(label, Scaled(np.ones((1, 1))), (Term(both),))
        most = int(np.bincount(outer[np.unique(both, return_index=True)[1]]).max())
        return ParsedTerm(label, CompoundSymmetry(most), (Term(outer), Term(both)))
    if struct in ("AR", "HAR", "CAR"):
        columns, inner = _ordered(columns, inner, numeric=struct == "CAR", name=left)
    q = len(columns)
    Z = np.zeros((effects.k, q))
    Z[np.arange(effects.k), inner] = 1.0
    structure, names = _structure(struct, columns, name)
    label = RandomTerm(name, struct, names, outer_levels, outer, columns, inner)
    return ParsedTerm(label, structure, (Term(outer, Z),))


def _ordered(levels: tuple[str, ...], inner: IntArray, *, numeric: bool, name: str) -> tuple[tuple[str, ...], IntArray]:
    """Return the levels in the order of time: as numbers where they are, else as they first appear."""
    try:
        times = np.array([float(level) for level in levels])
    except ValueError:
        if numeric:
            raise InputError(f"struct='CAR' needs numbers in {name!r}; {levels[0]!r} is not one") from None
        return levels, inner
    order = np.argsort(times)
    place = np.empty(order.size, dtype=np.intp)
    place[order] = np.arange(order.size)
    return tuple(levels[i] for i in order), place[inner]


def _structure(struct: Struct, levels: tuple[str, ...], name: str) -> tuple[Structure, tuple[str, ...]]:
    q = len(levels)
    variances = tuple(f"tau2[{name}: {level}]" for level in levels)
    steps = np.abs(np.subtract.outer(np.arange(q), np.arange(q))).astype(float)
    rho = f"rho[{name}]"
    if struct == "UN":
        return Unstructured(q), _matrix_names(name, levels)
    if struct == "DIAG":
        return Correlated(q), variances
    if struct == "HCS":
        return Correlated(q, np.ones((q, q))), (*variances, rho)
    if struct == "HAR":
        return Correlated(q, steps), (*variances, rho)
    if struct == "CAR":
        times = np.array([float(level) for level in levels])
        steps = np.abs(np.subtract.outer(times, times))
    return Correlated(q, steps, common=True), (f"tau2[{name}]", rho)


def _matrix_names(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1)]
    return tuple(f"chol[{name}: {columns[i]}, {columns[j]}]" for i, j in pairs)
