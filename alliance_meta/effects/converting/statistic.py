"""`to_r`: one statistic as a correlation, and the list of all that can be converted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.conversions import LARGEST_BETA
from alliance_meta.effects.converting.inputs import COLUMNS, Cells, missing, read_cells
from alliance_meta.effects.converting.rules import OTHER_NAMES, RULES, Rule
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.notes import NotApplicable, Note, did_you_mean
from alliance_meta.tables.format import brief, fixed, fixed_r

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


NO_N = "needs n"


@dataclass(frozen=True)
class Conversion:
    """One statistic turned into a correlation.

    Attributes
    ----------
    es_type : str
        The statistic that was given.
    es_calc : str
        The word for it in a coding sheet's column of that name.
    inputs : dict of float
        What was given and what followed from it (n, n1, n2, df).
    r, r_var : float
        The correlation and its sampling variance.
    z, z_var : float
        Fisher's z and its sampling variance.
    n : float
        Number of people.
    r_type : str
        ``zero-order``, ``partial``, ``semi-partial`` or ``beta-converted``.
    formula, source : str
        What was computed and where it is from.
    notes : tuple of Note
    """

    es_type: str
    es_calc: str
    inputs: dict[str, float]
    r: float
    r_var: float
    z: float
    z_var: float
    n: float
    r_type: str
    formula: str
    source: str
    notes: tuple[Note, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**own, "inputs": dict(self.inputs), "notes": [note.to_dict() for note in self.notes]}

    def __str__(self) -> str:
        given = ", ".join(f"{name} = {value:g}" for name, value in self.inputs.items())
        lines = [
            f"{self.es_type}: {given}",
            f"r = {fixed_r(self.r)} ({self.r_type}), variance {fixed(self.r_var, 6)}",
            f"Fisher z = {fixed(self.z)}, variance {fixed(self.z_var, 6)}",
            f"formula: {self.formula}",
            f"source: {self.source}",
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return str(self)


def to_r(es_type: str, value: float | None = None, **cells: float | str) -> Conversion:
    """Turn one statistic into a correlation, with its variance, the formula and its source.

    Parameters
    ----------
    es_type : str
        The statistic; `conversions` lists them.
    value : float, optional
        Its value. Not needed where the other numbers say it all (``means``, ``ns``).
    **cells : float or str
        What goes with it: ``n``, ``n1``, ``n2``, ``df``, ``es_sign`` ... named as the columns of a sheet.

    Returns
    -------
    Conversion

    Raises
    ------
    InputError
        Something is missing, misspelt or impossible; the message says what.

    See Also
    --------
    convert : the same for the rows of a coding sheet.

    Examples
    --------
    >>> from alliance_meta.effects import to_r
    >>> print(to_r("t", 2.1, n=40))
    t: es_value = 2.1, n = 40, df = 38
    r = 0.3225 (zero-order), variance 0.020586
    Fisher z = 0.3344, variance 0.027027
    formula: r = t / sqrt(t^2 + df), df = n - 2; var(z) = 1/(n - 3), with n1 and n2 the variance of a point-biserial r
    source: exact; metafor COR and RPB
    """
    given: dict[str, Any] = {"es_type": es_type, "es_value": value, **cells}
    known = ["value", *COLUMNS]
    for name in cells:
        if name not in COLUMNS:
            raise InputError(f"{name!r} is not known{did_you_mean(name, known)}; known: {', '.join(COLUMNS)}")
    found, problems = read_cells(pd.DataFrame([given], dtype=object), np.array([True]), [1], n_name="n")
    if not found.rows.size and not problems:
        raise InputError(f"no statistic is named; known: {', '.join(RULES)}")
    if problems:
        raise InputError("; ".join(f"{problem.column}: {problem.message}" for problem in problems))
    rule = RULES[found.kinds[0]]
    if gone := missing(found):
        raise InputError(f"{rule.es_type} needs {', '.join(gone[0])}")
    values = compute(found, ())
    check_found(values, found, [1], rule.es_type)
    r, r_var, z_var = (float(column[0]) for column in values)
    n = float(found.numbers["n"][0])
    return Conversion(
        es_type=rule.es_type,
        es_calc=rule.es_calc,
        inputs=_inputs(rule, found),
        r=r,
        r_var=r_var if np.isfinite(r_var) else NotApplicable(NO_VARIANCE),
        z=float(np.arctanh(r)),
        z_var=z_var if np.isfinite(z_var) else NotApplicable(NO_VARIANCE),
        n=n if np.isfinite(n) else NotApplicable(NO_N),
        r_type=r_types(found)[0],
        formula=rule.formula,
        source=rule.source,
        notes=tuple(cautions(found, values)),
    )


def conversions() -> pd.DataFrame:
    """List the statistics that can be turned into a correlation.

    Returns
    -------
    DataFrame
        One row per ``es_type``: what ``es_value`` is, which columns are needed and which are used, the name in
        ``es_calc``, the kind of correlation, formula, source and caution.

    Examples
    --------
    >>> from alliance_meta.effects import conversions
    >>> conversions().loc["f", ["needs", "es_calc"]].tolist()
    ['es_value, df, es_sign', 'from_F']
    """
    rows = [
        {
            "es_type": rule.es_type,
            "es_value": rule.value,
            "needs": ", ".join((("es_value",) if rule.value else ()) + rule.needs),
            "takes": ", ".join(rule.takes),
            "also": ", ".join(name for name, meant in OTHER_NAMES.items() if meant == rule.es_type),
            **{name: getattr(rule, name) for name in ("es_calc", "r_type", "formula", "source", "caution")},
        }
        for rule in RULES.values()
    ]
    return pd.DataFrame(rows).set_index("es_type")


def _inputs(rule: Rule, cells: Cells) -> dict[str, float]:
    names = [*(("es_value",) if rule.value else ()), *dict.fromkeys((*rule.takes, *rule.needs, "n"))]
    return {name: float(x) for name in names if np.isfinite(x := cells.numbers[name][0])}
