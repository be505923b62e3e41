"""`convert`: correlations for the rows of a coding sheet that report another statistic."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Mask
from alliance_meta.effects.converting.inputs import Cells, missing, read_cells, statistics
from alliance_meta.effects.converting.rules import REPORTED, RULES
from alliance_meta.effects.converting.statistic import Found, cautions, check_found, compute, count, r_types
from alliance_meta.effects.provenance import Provenance
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.errors import AdaptedInputWarning, CodingError, DroppedRowsWarning, InputError
from alliance_meta.notes import Note, did_you_mean, warn_note

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
