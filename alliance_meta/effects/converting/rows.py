"""`convert` and `to_r`: other statistics as correlations, for a whole sheet or one at a time."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.correlations.conversions import LARGEST_BETA
from alliance_meta.effects.converting.inputs import COLUMNS, Cells, missing, read_cells, statistics
from alliance_meta.effects.converting.rules import OTHER_NAMES, REPORTED, RULES, Rule
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.errors import AdaptedInputWarning, CodingError, DroppedRowsWarning, InputError, Problem
from alliance_meta.notes import NotApplicable, Note, did_you_mean, warn_note
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


LISTED = 5


def convert(data: CodedTable | pd.DataFrame, *, ri: str | None = None, ni: str | None = None) -> CodedTable:
    """Fill in r for the rows of a coding sheet that report another statistic.

    Papers report t, F, p, d, odds ratios or regression coefficients where a meta-analysis needs r. Code what the
    paper prints: the name of the statistic in ``es_type``, its value in ``es_value``, and what goes with it
    (``df``, ``n1``, ``n2``, ``es_se``, ``es_sign`` ...; `conversions` lists what each needs). Rows with an r stay
    as they are; where such a row names another statistic too, how its r was got is left open.

    Parameters
    ----------
    data : CodedTable or DataFrame
        With a column ``es_type``. F, chi-squared, p and eta squared have lost the direction of the effect:
        give it in ``es_sign`` (1 or -1).
    ri, ni : str, optional
        Columns with the correlations and the sample sizes; ``"r"`` and ``"n"`` by default. They are made if
        they are not there.

    Returns
    -------
    CodedTable
        The sheet with r and n filled in, and further columns: ``es_calc`` (how r was got), ``r_var`` and
        ``z_var`` (sampling variances of the converted r, as r and as Fisher z; `escalc` uses them) and
        ``r_type`` where it was empty. What was coded is kept.

    Raises
    ------
    CodingError
        Values that cannot be (p = 1.2, an n that is not n1 + n2, an unknown es_type ...), all at once.
    InputError
        No column ``es_type``.

    Warns
    -----
    DroppedRowsWarning
        Rows that lack something stay without r; the warning says what.
    AdaptedInputWarning
        Rows whose r is an imputation (standardised beta, "not significant") or whose variance is unknown.

    See Also
    --------
    to_r : the same for one value.
    escalc : ``converted="drop"`` leaves the converted rows out.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import convert
    >>> sheet = pd.DataFrame(
    ...     {"r": [0.3, None, None], "n": [60, 40, None], "es_type": ["r", "t", "d"],
    ...      "es_value": [None, 2.1, 0.5], "n1": [None, None, 20], "n2": [None, None, 30]}
    ... )
    >>> convert(sheet).frame[["r", "es_calc"]].round(3).to_numpy().tolist()
    [[0.3, 'reported'], [0.322, 'from_t'], [0.243, 'from_d']]
    """
    table = data if isinstance(data, CodedTable) else _wrap(data)
    frame = table.frame
    source = table.provenance.source
    if "es_type" not in frame:
        known = [str(c) for c in frame.columns]
        raise InputError(
            f"{source} has no column 'es_type'{did_you_mean('es_type', known)}: it names the statistic that es_value "
            f"holds. Columns: {', '.join(known)}"
        )
    r_name, n_name = ri or table.defaults.get("ri", "r"), ni or table.defaults.get("ni", "n")
    lines = frame.index.to_numpy() if frame.index.name == "line" else np.arange(len(frame)) + 2
    reported = ~_empty(_objects(frame, r_name))
    cells, problems = read_cells(frame, ~reported, lines, n_name=n_name)
    if problems:
        raise CodingError(sorted(problems, key=lambda problem: problem.row or 0), source=source)
    lacking = missing(cells)
    found = compute(cells, lacking)
    check_found(found, cells, lines, source)
    other = reported & np.array([name not in ("", "r") for name in statistics(frame["es_type"])], dtype=bool)
    notes = [*_both(int(other.sum())), *_notes(cells, found, lacking, lines)]
    out = _filled(frame, cells, found, reported & ~other, r_name=r_name, n_name=n_name)
    step = f"convert: {int(np.isfinite(found[0]).sum())} of {table.k} correlations from other statistics"
    return replace(table, _frame=out, provenance=table.provenance.after(step), notes=(*table.notes, *notes))


def _wrap(frame: pd.DataFrame) -> CodedTable:
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"convert needs a table (CodedTable or DataFrame), not {type(frame).__name__}")
    return CodedTable(frame, Provenance(source="data frame"))


def _both(rows: int) -> list[Note]:
    text = f"{count(rows)} with another statistic in es_type {'have' if rows > 1 else 'has'} an r too, which was kept."
    return [Note("r-kept", text)] if rows else []


def _filled(
    frame: pd.DataFrame, cells: Cells, found: Found, reported: Mask, *, r_name: str, n_name: str
) -> pd.DataFrame:
    done = np.isfinite(found[0])
    rows = cells.rows[done]
    k = len(frame)
    out = frame.copy()
    column = _objects(out, r_name)
    column[rows] = found[0][done]
    out[r_name] = pd.Series(column, index=out.index).infer_objects()
    sizes = _objects(out, n_name)
    sizes[rows] = np.where(_empty(sizes[rows]), cells.numbers["n"][done], sizes[rows])
    out[n_name] = pd.Series(sizes, index=out.index).infer_objects()
    for name, values in (("r_var", found[1]), ("z_var", found[2])):
        full = _objects(out, name)
        full[rows] = values[done]
        out[name] = full.astype(float)
    kinds = [cells.kinds[i] for i in np.flatnonzero(done)]
    calc = np.where(reported, REPORTED, "").astype(object)
    calc[rows] = [RULES[kind].es_calc for kind in kinds]
    out["es_calc"] = _where_empty(out, "es_calc", calc, overwrite=rows)
    types = np.full(k, "", dtype=object)
    types[rows] = np.array(r_types(cells), dtype=object)[done]
    out["r_type"] = _where_empty(out, "r_type", types)
    return out


def _objects(frame: pd.DataFrame, name: str) -> Any:
    """Return a column as an array of objects of its own; missing cells, or all of them, are NaN."""
    if name not in frame:
        return np.full(len(frame), np.nan, dtype=object)
    return np.array(frame[name].to_numpy(dtype=object, na_value=np.nan))


def _where_empty(frame: pd.DataFrame, name: str, values: Any, overwrite: Any = ()) -> pd.Series[Any]:
    """Return a text column with its empty cells filled; rows in `overwrite` are filled in any case."""
    old = _objects(frame, name)
    fill = _empty(old)
    fill[list(overwrite)] = True
    new = np.where(fill, values, old)
    return pd.Series(np.where(_empty(new), None, new), index=frame.index, dtype="str")


def _empty(column: Any) -> Mask:
    blank = np.array([isinstance(cell, str) and not cell.strip() for cell in column], dtype=bool)
    return blank | np.asarray(pd.isna(column), dtype=bool)


def _notes(cells: Cells, found: Found, lacking: dict[int, list[str]], lines: Any) -> list[Note]:
    notes: list[Note] = []
    counts = Counter(kind for i, kind in enumerate(cells.kinds) if np.isfinite(found[0][i]) and kind != "r")
    if counts:
        listed = ", ".join(f"{rows} from {kind}" for kind, rows in counts.items())
        total = sum(counts.values())
        notes.append(Note("converted", f"{total} correlation{'s were' if total > 1 else ' was'} converted: {listed}."))
    if lacking:
        told = [
            f"line {lines[cells.rows[i]]} ({cells.kinds[i]}) lacks {', '.join(gone)}" for i, gone in lacking.items()
        ]
        rest = f"; and {len(told) - LISTED} more" if len(told) > LISTED else ""
        text = f"{count(len(told))} could not be converted: {'; '.join(told[:LISTED])}{rest}."
        notes.append(warn_note("not-converted", text, DroppedRowsWarning, stacklevel=4))
    heard = cautions(cells, found)
    for note in heard:
        warnings.warn(note.message, AdaptedInputWarning, stacklevel=3)
    return [*notes, *heard]
