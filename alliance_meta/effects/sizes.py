"""`escalc`: effect sizes and sampling variances from correlations and sample sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.core.correlations.pearson import r_to_z, unbiased_r, var_r, var_z
from alliance_meta.effects.contract.schema import TRUE
from alliance_meta.effects.converting.inputs import read_signs
from alliance_meta.effects.converting.rules import NOT_CONVERTED
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.effects.sheet.columns import without_codes
from alliance_meta.effects.sheet.findings import why_not_a_number, why_not_r
from alliance_meta.effects.studies import Named, listed, plain_text, row_labels, row_studies
from alliance_meta.effects.table import EffectSizes, impossible, unique_labels
from alliance_meta.errors import CodingError, DroppedRowsWarning, InputError, Problem
from alliance_meta.notes import ConvertedRows, Measure, Note, VType, check_option, did_you_mean, warn_note


def converted_rows(frame: pd.DataFrame) -> Mask:
    """Tell the rows whose ``es_calc`` says that r was derived from another statistic."""
    if "es_calc" not in frame:
        return np.zeros(len(frame), dtype=bool)
    words = ["" if pd.isna(cell) else str(cell).strip() for cell in frame["es_calc"].to_numpy(dtype=object)]
    return ~np.isin(np.array(words, dtype=str), NOT_CONVERTED)


def own_variances(frame: pd.DataFrame, vi: Array, *, measure: str) -> tuple[Array, list[Note]]:
    """Give converted rows the sampling variance that `convert` wrote beside them."""
    column = "z_var" if measure == "ZCOR" else "r_var"
    derived = converted_rows(frame)
    if column not in frame or not derived.any():
        return vi, []
    own = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    use: Any = derived & (own > 0) & np.isfinite(own)
    if not use.any():
        return vi, []
    text = (
        f"{int(use.sum())} of {len(vi)} correlations were converted from other statistics and have the sampling "
        "variance of their conversion; converted='drop' leaves them out, converted='as_r' treats them as printed."
    )
    return np.where(use, own, vi), [Note("converted-rows", text)]


SCALE_NOTE = (
    "The effects were finished before they came here, on a scale the sheet does not tell; "
    "measure='ZCOR' (command line: --measure ZCOR) says that they are Fisher z."
)


def finished_columns(table: CodedTable) -> tuple[str, str, str] | None:
    """Return the columns of finished effects and of what gives their variances, and which that is: vi, sei or ni."""
    yi = table.defaults.get("yi")
    if yi not in table.columns:
        return None
    for kind in ("vi", "sei", "ni"):
        second = table.defaults.get(kind, "n" if kind == "ni" else None)
        if second in table.columns:
            return yi, second, kind
    return None


def finished_effects(
    table: CodedTable,
    *,
    named: Named,
    lines: Any,
    direction: str | None,
    notes: Sequence[Note],
    measure: Measure | None = None,
) -> EffectSizes:
    """Turn a table of finished effects into `EffectSizes`, leaving out incomplete rows with a warning."""
    found = finished_columns(table)
    assert found is not None
    *columns, kind = found
    measure = measure or table.defaults.get("measure")
    frame = table.frame.reset_index(drop=True)
    yi, second = (pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float) for name in columns)
    labels = row_labels(frame, named, table.provenance.source)
    keep = np.isfinite(yi) & np.isfinite(second)
    if not keep.any():
        raise InputError(f"{table.provenance.source}: no row has both {columns[0]} and {columns[1]}")
    vi = _finished_vi(yi, second, keep, kind, columns, labels, table.provenance.source)
    said = [*notes, *([] if measure else [Note("finished-effects", SCALE_NOTE)])]
    if not keep.all():
        lost = [label for label, there in zip(labels, keep, strict=True) if not there]
        text = f"{len(lost)} of {len(keep)} rows left out because {' or '.join(columns)} is missing: {', '.join(lost)}."
        said.append(warn_note("dropped-rows", text, DroppedRowsWarning, stacklevel=4))
    kept = frame[keep].reset_index(drop=True)
    kept, studies, more = row_studies(kept, named, np.asarray(lines)[keep], table.provenance.source)
    return EffectSizes(
        yi=yi[keep],
        vi=vi,
        ni=second[keep] if kind == "ni" else None,
        slab=_slab(labels, keep, studies),
        study_id=studies,
        _moderators=kept,
        measure=measure or "GEN",
        vtype=None,
        direction=direction or (table.card.direction if table.card else "as given"),
        provenance=table.provenance.after(
            f"finished effects yi={columns[0]}, {kind}={columns[1]}{f', measure={measure}' if measure else ''}"
        ),
        notes=(*said, *more),
        columns={"yi": columns[0], kind: columns[1]},
    )


def _finished_vi(
    yi: Array, second: Array, keep: Mask, kind: str, columns: Sequence[str], labels: Sequence[str], source: str
) -> Array:
    """Return the variances, or raise a `CodingError` that lists effects and variances beyond what any can be."""
    least, rows = 3 if kind == "ni" else 0, np.flatnonzero(keep)
    problems = [
        Problem(int(i) + 2, columns[1], f"{second[i]:g}", f"{second[i]:g} is not > {least} ({labels[i]})")
        for i in rows[second[keep] <= least]
    ]
    with np.errstate(over="ignore"):
        vi = var_z(second[keep]) if kind == "ni" else second[keep] ** 2 if kind == "sei" else second[keep]
    problems = problems or [
        Problem(int(rows[i]) + 2, columns[name == "vi"], value, why) for i, name, value, why in impossible(yi[keep], vi)
    ]
    if problems:
        raise CodingError(problems, source=source)
    return vi


def _slab(labels: Sequence[str], keep: Mask, studies: Sequence[str]) -> tuple[str, ...]:
    kept = (label for label, there in zip(labels, keep, strict=True) if there)
    return unique_labels([label or study for label, study in zip(kept, studies, strict=True)])


VTYPES = {"ZCOR": ("LS",), "COR": ("LS", "AV", "H0"), "UCOR": ("LS", "AV", "UB")}
LEAST_N = {"ZCOR": 4, "COR": 2, "UCOR": 5}
# Beyond it weights differ by more than a number has digits.
MOST_N = 1e21
WHY_LEAST_N = {
    "ZCOR": "the variance of Fisher z is 1/(n - 3)",
    "COR": "the variance of r divides by n - 1",
    "UCOR": "the unbiased r needs n - 4 degrees of freedom",
}


def escalc(
    data: CodedTable | pd.DataFrame,
    *,
    measure: Measure | None = None,
    ri: str | None = None,
    ni: str | None = None,
    vtype: VType = "LS",
    converted: ConvertedRows = "keep",
    slab: str | Sequence[str] | None = None,
    study_id: str | Sequence[str] | None = None,
    direction: str | None = None,
    missing: str | Sequence[str | float] = (),
) -> EffectSizes:
    """Turn correlations and sample sizes into effect sizes with sampling variances.

    A study's correlation is known only as well as its sample size allows. This gives every row its effect
    on the scale the models work on, and the variance that says how far chance alone would move it.

    Parameters
    ----------
    data : CodedTable or DataFrame
        One row per effect.
    measure : {"ZCOR", "COR", "UCOR"}, optional
        ``ZCOR``: Fisher's z = atanh(r) with variance 1/(n - 3), the default, whose variance does not depend
        on r. ``COR``: r itself. ``UCOR``: r corrected for its small downward bias (Olkin & Pratt 1958). For finished
        effects it says what they are.
    ri, ni : str, optional
        Columns with the correlations (in (-1, 1)) and the sample sizes (whole numbers); ``"r"`` and
        ``"n"`` unless the table's data card names others.
    vtype : {"LS", "AV", "H0", "UB"}
        Variance of a raw correlation: ``LS`` (1 - r^2)^2 / (n - 1) with the row's own r, ``AV`` with the
        mean r of all rows, ``H0`` 1 / (n - 1) (``COR`` only), ``UB`` unbiased (``UCOR`` only). Two packages
        that differ here give different pooled values from the same table. Fisher z has one variance.
    converted : {"keep", "as_r", "drop"}
        Rows whose ``es_calc`` says that r was derived from another statistic (`convert` writes it): keep them with
        the sampling variance of their conversion, treat them as printed correlations of n people, or leave them
        out.
    slab : str or sequence of str, optional
        Column, or columns joined by a space, with the study labels.
    study_id : str or sequence of str, optional
        Column, or columns that together, say which study a row belongs to, taken as they stand. By default a column
        ``study_id``, else the study labels, of which equal ones are told apart by the year of publication, else
        `slab`.
    direction : str, optional
        What a positive effect means; from the data card, else ``"as coded"``.
    missing : str, number or sequence of these
        Of a DataFrame: further codes for "missing", such as 999.

    Returns
    -------
    EffectSizes
        Every other column is kept as a possible moderator. A table that holds finished effects (``yi`` with ``vi``
        or ``sei``) in place of r and n gives those, with ``measure="GEN"`` unless `measure` says what they are.

    Raises
    ------
    CodingError
        r outside (-1, 1), n too small for the measure, text where a number belongs; every problem at once,
        each with row, column, value and mend.
    InputError
        A column that is not there, or a `vtype` that `measure` does not have.

    Warns
    -----
    DroppedRowsWarning
        Rows without r or n are left out; the labels stand in the warning and in ``.notes``.
    DependenceWarning
        No column tells which rows are one study, so that each row counts as a study of its own.

    Notes
    -----
    R: ``escalc(measure="ZCOR", ri=r, ni=n, data=dat)``. Variances as in metafor 5.1. Fisher z:
    Fisher (1921); raw r: Hedges (1989, doi:10.1037/0021-9010.74.3.469).

    See Also
    --------
    EffectSizes.from_arrays : effect sizes that were computed elsewhere.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import escalc
    >>> es = escalc(pd.DataFrame({"study": ["A", "B"], "r": [0.2, 0.3], "n": [53, 103]}))
    >>> es.yi.round(4).tolist(), es.vi.tolist()
    ([0.2027, 0.3095], [0.02, 0.01])
    """
    _check_options(measure or "ZCOR", vtype, converted)
    table = data if isinstance(data, CodedTable) else _wrap(data, missing)
    defaults, source = table.defaults, table.provenance.source
    notes: list[Note] = [*table.notes, *_pooling_notes(table)]
    frame, lines = _numbered(table)
    named = Named(slab or defaults.get("slab"), study_id or defaults.get("study_id"), defaults.get("study"))
    if ri is None and ni is None and "ri" not in defaults and finished_columns(table):
        return finished_effects(table, named=named, lines=lines, direction=direction, notes=notes, measure=measure)
    measure = measure or "ZCOR"
    r_name, n_name = ri or defaults.get("ri", "r"), ni or defaults.get("ni", "n")
    _check_columns(frame, [r_name, n_name], source)
    if converted == "drop":
        frame, lines = _as_reported(frame, np.asarray(lines), notes)
    labels = row_labels(frame, named, source)
    r, n, keep = _numbers(frame, r_name, n_name, labels, lines, measure=measure, source=source)
    silent = says_yes(frame, "ns") & ~keep & np.isfinite(n)
    notes += _lost(labels, keep, int(silent.sum()))
    yi, vi = _effects(r[keep], n[keep], measure=measure, vtype=vtype)
    there = keep | silent
    rows = frame[there].reset_index(drop=True)
    rows, of_all, said = row_studies(rows, named, np.asarray(lines)[there], source)
    kept, studies = rows[keep[there]].reset_index(drop=True), tuple(compress(of_all, keep[there]))
    vi, own = own_variances(kept, vi, measure=measure) if converted == "keep" else (vi, [])
    notes += [*said, *own]
    step = f"escalc measure={measure}, vtype={vtype}, ri={r_name}, ni={n_name}"
    return EffectSizes(
        yi=yi,
        vi=vi,
        ni=n[keep],
        slab=_slab(labels, keep, studies),
        study_id=studies,
        _moderators=kept,
        measure=measure,
        vtype=vtype,
        direction=direction or (table.card.direction if table.card else "as coded"),
        provenance=table.provenance.after(step if converted == "keep" else f"{step}, converted={converted}"),
        notes=tuple(notes),
        columns={"ri": r_name, "ni": n_name},
        unreported=_unreported(rows[silent[there]], silent, labels, of_all, n, np.asarray(lines), source),
    )


def _as_reported(frame: pd.DataFrame, lines: Any, notes: list[Note]) -> tuple[pd.DataFrame, Any]:
    """Return the rows, and their lines, whose r was not converted from something else, and note how many went."""
    derived = converted_rows(frame)
    if derived.any():
        notes.append(
            Note("converted-dropped", f"{derived.sum()} of {len(frame)} rows left out: their r was converted.")
        )
    return frame[~derived].reset_index(drop=True), lines[~derived]


def _unreported(
    rows: pd.DataFrame, silent: Mask, labels: Sequence[str], studies: Sequence[str], n: Array, lines: Any, source: str
) -> pd.DataFrame | None:
    """Return what is known of rows that have no r because it was not significant; None without any."""
    if rows.empty:
        return None
    problems: list[Problem] = []
    sign = read_signs(rows, lines[silent], problems)
    if problems:
        raise CodingError(problems, source=source)
    columns = {"slab": list(compress(labels, silent)), "study_id": [studies[i] for i in rows.index]}
    return pd.DataFrame(columns | {"ni": n[silent], "sign": sign})


def says_yes(frame: pd.DataFrame, name: str) -> Mask:
    """Tell the rows where a column of yes and no says yes; none without the column."""
    if name not in frame:
        return np.zeros(len(frame), dtype=bool)
    return np.array([plain_text(cell).casefold() in TRUE for cell in frame[name]], dtype=bool)


def _check_options(measure: Measure, vtype: VType, converted: ConvertedRows) -> None:
    check_option("measure", measure, Measure)
    check_option("vtype", vtype, VType)
    check_option("converted", converted, ConvertedRows)
    if vtype not in VTYPES[measure]:
        raise InputError(f"vtype={vtype!r} is not defined for {measure}; use {' or '.join(VTYPES[measure])}")


def _numbered(table: CodedTable) -> tuple[pd.DataFrame, Any]:
    """Return the rows, and the line of each in its file; where there was none, they count from line 2."""
    lines = table.frame.index if table.frame.index.name == "line" else np.arange(table.k) + 2
    return table.frame.reset_index(drop=True), lines


def _check_columns(frame: pd.DataFrame, wanted: Sequence[str], source: str) -> None:
    missing = [name for name in wanted if name not in frame]
    if not missing:
        return
    known = [str(c) for c in frame.columns]
    raise InputError(
        f"{source} has no column "
        + " and no column ".join(f"{name!r}{did_you_mean(name, known)}" for name in missing)
        + f"; name the columns with ri= and ni=. Columns: {', '.join(known)}"
    )


def _lost(labels: Sequence[str], keep: Mask, silent: int) -> list[Note]:
    """Say which rows have no r or n, and how many of them say at least that r was not significant."""
    if keep.all():
        return []
    lost = [labels[i] for i in np.flatnonzero(~keep).tolist()]
    message = f"{len(lost)} of {len(keep)} rows left out because r or n is missing: {listed(lost)}."
    if silent:
        message += f" Of these {silent} say that r was not significant (ns): bias.unreported can use them."
    return [warn_note("dropped-rows", message, DroppedRowsWarning, stacklevel=4)]


def _pooling_notes(table: CodedTable) -> tuple[Note, ...]:
    card = table.card
    if card is None:
        return ()
    if not card.poolable:
        return (Note("not-poolable", f"{card.name}: one pooled value of these rows means nothing. {card.cautions[0]}"),)
    if card.subset is not None and table.k == card.k:
        return (Note("not-all-poolable", f"{card.name}: only the rows where {card.subset} may be pooled together."),)
    return ()


def _effects(r: Array, n: Array, *, measure: str, vtype: str) -> tuple[Array, Array]:
    if measure == "ZCOR":
        return r_to_z(r), var_z(n)
    estimate = unbiased_r(r, n) if measure == "UCOR" else r
    return estimate, var_r(r, n, vtype=vtype, estimate=estimate)


def _wrap(frame: pd.DataFrame, missing: Any) -> CodedTable:
    if not isinstance(frame, pd.DataFrame):
        raise InputError(
            f"escalc needs a table (CodedTable or DataFrame), not {type(frame).__name__}; "
            "read a file with read_coded, or use EffectSizes.from_arrays"
        )
    if "not_studies" in frame.attrs:
        raise InputError(f"escalc: {frame.attrs['not_studies']}")
    clean, notes = without_codes(frame, missing, stacklevel=5)
    return CodedTable(clean, Provenance(source="data frame"), notes=tuple(notes))


def _numbers(
    frame: pd.DataFrame, r_name: str, n_name: str, labels: tuple[str, ...], lines: Any, *, measure: str, source: str
) -> tuple[Array, Array, Mask]:
    problems: list[Problem] = []
    r = _column(frame[r_name], lines, problems, is_r=True)
    n = _column(frame[n_name], lines, problems)
    least, why_least = LEAST_N[measure], WHY_LEAST_N[measure]
    rules: list[tuple[str, Array, Mask, Callable[[float], str]]] = [
        (r_name, r, np.abs(r) >= 1, lambda x: why_not_r(x, f"{x:g}", ".")),
        (n_name, n, n < least, lambda x: f"{x:g} is too small for {measure}: {why_least}; needs n >= {least}"),
        (n_name, n, n > MOST_N, lambda x: f"{x:g} people are not possible"),
        (n_name, n, (n >= least) & (n != np.round(n)), lambda x: f"{x:g} is not a whole number of people"),
    ]
    for name, values, bad, why in rules:
        problems += [
            Problem(int(lines[i]), name, f"{values[i]:g}", f"{why(float(values[i]))} ({labels[i]})")
            for i in np.flatnonzero(bad & np.isfinite(values))
        ]
    if problems:
        raise CodingError(sorted(problems, key=lambda problem: problem.row or 0), source=source)
    keep = np.isfinite(r) & np.isfinite(n)
    if not keep.any():
        raise InputError(f"{source}: no row has both {r_name} and {n_name}")
    return r, n, keep


def _column(series: pd.Series[Any], lines: Any, problems: list[Problem], *, is_r: bool = False) -> Array:
    numbers = pd.to_numeric(series, errors="coerce")
    for i in np.flatnonzero(numbers.isna() & series.notna()):
        text = str(series.iloc[i])
        problems.append(Problem(int(lines[i]), str(series.name), text, why_not_a_number(text, ".", is_r=is_r)))
    values = numbers.to_numpy(dtype=float, na_value=np.nan)
    problems.extend(
        Problem(int(lines[i]), str(series.name), str(values[i]), "is infinite; leave the cell empty")
        for i in np.flatnonzero(np.isinf(values))
    )
    return np.where(np.isinf(values), np.nan, values)


def pearson(effects: EffectSizes, *, smallest: int = 3) -> tuple[Array, Array]:
    """Return r (k,) and n (k,) of plain Pearson correlations.

    Raises `InputError`: the effects are not such correlations, their sample sizes are missing or below `smallest`, an r
    is 1 or -1.
    """
    if effects.measure not in ("ZCOR", "COR"):
        raise InputError(
            f"the exact likelihood is that of Pearson correlations; these effects are {effects.measure!r}. "
            "Use escalc with measure='ZCOR' or 'COR'"
        )
    if effects.ni is None:
        raise InputError("the exact likelihood needs the sample sizes; give ni=")
    r, n = np.tanh(effects.yi) if effects.measure == "ZCOR" else effects.yi, effects.ni
    small = [effects.slab[int(i)] for i in np.flatnonzero(~(n >= smallest))]
    if small:
        raise InputError(f"the density of r needs n >= {smallest}; smaller or missing in: {', '.join(small)}")
    perfect = [effects.slab[int(i)] for i in np.flatnonzero(~(np.abs(r) < 1))]
    if perfect:
        raise InputError(f"a correlation of exactly 1 or -1 has no likelihood: {', '.join(perfect)}")
    if effects.measure == "ZCOR":
        other = np.flatnonzero((n > 3) & ~np.isclose(effects.vi * (n - 3.0), 1.0, rtol=1e-6))
        if len(other):
            raise InputError(
                f"{effects.slab[int(other[0])]}: its variance is not 1 / (n - 3), so this z is not that of a plain "
                "Pearson correlation of n pairs; the exact likelihood does not apply"
            )
    return r, n


def as_fisher_z(effects: EffectSizes) -> EffectSizes:
    """Return Pearson correlations with n >= 4 on Fisher's z; others are refused as by `pearson`."""
    r, n = pearson(effects, smallest=4)
    if effects.measure == "ZCOR":
        return effects
    return replace(
        effects,
        yi=np.arctanh(r),
        vi=1.0 / (n - 3.0),
        measure="ZCOR",
        vtype=None,
        provenance=effects.provenance.after("Fisher z of r"),
    )
