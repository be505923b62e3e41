"""The numbers of a conversion, whichever way it was asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.core.correlations.conversions import LARGEST_BETA
from alliance_meta.effects.converting.inputs import Cells
from alliance_meta.effects.converting.rules import RULES
from alliance_meta.errors import CodingError, Problem
from alliance_meta.notes import Note
from alliance_meta.tables.format import brief

NO_VARIANCE = "an odds ratio needs es_se, or es_lb and es_ub, for a variance of its own"
Found = tuple[Array, Array, Array]


def compute(cells: Cells, lacking: Collection[int]) -> Found:
    """Return r, its variance and that of Fisher z; NaN where something is lacking."""
    r, r_var, z_var = (np.full(len(cells.rows), np.nan) for _ in range(3))
    complete = np.array([place not in lacking for place in range(len(cells.rows))], dtype=bool)
    kinds = np.array(cells.kinds, dtype=object)
    for kind in dict.fromkeys(cells.kinds):
        places = np.flatnonzero((kinds == kind) & complete)
        if places.size:
            numbers = {name: values[places] for name, values in cells.numbers.items()}
            # A statistic beyond any correlation is refused by name afterwards; on the way it may overflow.
            with np.errstate(over="ignore", invalid="ignore"):
                r[places], r_var[places], z_var[places] = RULES[kind].compute(numbers)
    return r, r_var, z_var


def check_found(found: Found, cells: Cells, lines: Any, source: str) -> None:
    """Refuse correlations outside (-1, 1), which say that a value or a size is wrong."""
    problems = [
        Problem(
            int(lines[cells.rows[i]]),
            "es_value",
            f"{cells.numbers['es_value'][i]:g}",
            f"{cells.kinds[i]} gives r = {brief(found[0][i], 3)}, outside (-1, 1); check the value and the sizes",
            kind="r-range",
        )
        for i in np.flatnonzero(np.abs(found[0]) >= 1.0)
    ]
    if problems:
        raise CodingError(problems, source=source)


def r_types(cells: Cells) -> list[str]:
    """Name the kind of each correlation; a slope among several predictors gives a partial one."""
    n, df = cells.numbers["n"], cells.numbers["df"]
    return [
        "partial" if kind == "slope" and not abs(n[i] - 2.0 - df[i]) <= 0.5 else RULES[kind].r_type
        for i, kind in enumerate(cells.kinds)
    ]


def cautions(cells: Cells, found: Found) -> list[Note]:
    """Return what a reader must know of the rows that were converted."""
    done = np.isfinite(found[0])
    notes = []
    for text in dict.fromkeys(RULES[kind].caution for kind in cells.kinds):
        rows = sum(RULES[kind].caution == text and done[i] for i, kind in enumerate(cells.kinds))
        if text and rows:
            notes.append(Note("converted-caution", f"{count(rows)}: {text}."))
    wide = sum(
        kind == "beta" and abs(cells.numbers["es_value"][i]) > LARGEST_BETA for i, kind in enumerate(cells.kinds)
    )
    if wide:
        text = f"{count(wide)}: the rule for beta was fitted to values within {LARGEST_BETA:g} and is stretched here."
        notes.append(Note("beta-range", text))
    if unknown := int((done & ~np.isfinite(found[1])).sum()):
        notes.append(Note("converted-variance", f"{count(unknown)}: {NO_VARIANCE}; the variance of an r is used."))
    if halved := int((cells.assumed_equal & done).sum()):
        notes.append(
            Note("equal-groups", f"{count(halved)}: only n was given, and two groups of equal size were assumed.")
        )
    return notes


def count(rows: int) -> str:
    """Return ``1 row`` or ``2 rows``."""
    return f"{rows} row{'s' if rows > 1 else ''}"
