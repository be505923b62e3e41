"""`rcalc`: effects and their exact large-sample covariances from correlation matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import covariance_of_r, covariance_of_z
from alliance_meta.core.dependent import IntArray, SamplingCovariance, codes, stacks
from alliance_meta.effects.dependent.covariance import correlation_table, plain
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sizes import escalc
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AdaptedInputWarning, CodingError, DroppedRowsWarning, InputError, Problem
from alliance_meta.notes import Note, PositiveDefiniteCheck, SampleSizeRule, check_option, did_you_mean, warn_note

# Below this many people the large-sample covariance says nothing.
LEAST_N = 5


def long_table(x: Any, ni: Any) -> pd.DataFrame:
    """Return one row per correlation of the matrices `x`, each one's upper triangle column by column."""
    single = isinstance(x, pd.DataFrame) or (isinstance(x, np.ndarray) and x.ndim == 2) or _is_nested(x)
    if isinstance(x, Mapping):
        given = {str(name): matrix for name, matrix in x.items()}
    else:
        given = {str(number + 1): matrix for number, matrix in enumerate([x] if single else x)}
    sizes = _sizes(ni, list(given))
    parts = []
    for (name, matrix), n in zip(given.items(), sizes, strict=True):
        R = np.array(matrix, dtype=float)
        _check_matrix(R, name)
        variables = matrix.columns if isinstance(matrix, pd.DataFrame) else [f"x{i + 1}" for i in range(len(R))]
        columns, lines = (axis.tolist() for axis in np.tril_indices(len(R), -1))
        parts.append(
            pd.DataFrame(
                {
                    "study": name,
                    "var1": [str(variables[i]) for i in lines],
                    "var2": [str(variables[j]) for j in columns],
                    "r": R[lines, columns],
                    "n": n,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _is_nested(x: Any) -> bool:
    """Tell a matrix written as lists of numbers from a list of matrices."""
    return isinstance(x, Sequence) and len(x) > 0 and np.ndim(x[0]) == 1


def _sizes(ni: Any, names: list[str]) -> list[Any]:
    if isinstance(ni, Mapping):
        by_name = {str(name): n for name, n in ni.items()}
        lost = [name for name in names if name not in by_name]
        if lost:
            raise InputError(f"ni has no sample size for {', '.join(lost)}")
        return [by_name[name] for name in names]
    sizes = [ni] if np.ndim(ni) == 0 else list(ni)
    if ni is None or isinstance(ni, str) or len(sizes) != len(names):
        raise InputError(f"ni={ni!r} must give the sample size of each of {len(names)} studies")
    return sizes


def _check_matrix(R: Array, name: str) -> None:
    if R.ndim != 2 or R.shape[0] != R.shape[1] or len(R) < 2:
        raise InputError(f"study {name}: a correlation matrix is square with two or more variables, not {R.shape}")
    if not np.array_equal(R, R.T, equal_nan=True) or (np.diag(R) != 1).any():
        raise InputError(f"study {name}: a correlation matrix is symmetric with 1 on its diagonal; NaN where unknown")


def row_problems(frame: pd.DataFrame, names: tuple[str, str, str], *, r: str, n: str) -> list[Problem]:
    """Return what is wrong with the rows of a long table beyond what `escalc` finds."""
    var1, var2, study = names
    lines = list(frame.index) if frame.index.name == "line" else list(range(2, len(frame) + 2))
    own = (frame[var1].astype(str) == frame[var2].astype(str)).to_numpy()
    again = frame.duplicated([study, "pair"]).to_numpy() & ~own
    out = [
        Problem(int(lines[i]), var2, str(frame[var2].iloc[i]), "is correlated with itself", kind="self")
        for i in np.flatnonzero(own).tolist()
    ]
    for i in np.flatnonzero(again).tolist():
        pair = str(frame["pair"].iloc[i])
        text = f"study {frame[study].iloc[i]} gives {pair} twice; keep one row"
        out.append(Problem(int(lines[i]), var1, pair, text, kind="twice"))
    if n in frame and r in frame:
        size = pd.to_numeric(frame[n], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        for i in np.flatnonzero((size < LEAST_N) & frame[r].notna().to_numpy()).tolist():
            text = f"{size[i]:g} is too small for a large-sample covariance; needs n >= {LEAST_N}"
            out.append(Problem(int(lines[i]), n, f"{size[i]:g}", text, kind="few"))
    return out


def matrices(r: Array, variable: IntArray, rows: IntArray) -> tuple[Array, tuple[IntArray, IntArray], IntArray]:
    """Return correlation matrices (n, p, p) of n studies, NaN where unknown.

    `variable` (2, k) holds the two variables of each effect, `rows` (n, m) the effects of the studies. Also
    returned: the row and the column of each effect in its matrix, twice (n, m); and the variable of each row of
    the matrices (n, p), -1 where a study has fewer.
    """
    n, m = rows.shape
    both = variable[:, rows].transpose(1, 0, 2).reshape(n, 2 * m)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    rank = np.cumsum(np.diff(ordered, axis=1, prepend=ordered[:, :1]) > 0, axis=1)
    p = int(rank.max()) + 1
    study = np.arange(n)[:, None]
    used = np.full((n, p), -1, dtype=np.intp)
    used[study, rank] = ordered
    places = np.empty((n, 2 * m), dtype=np.intp)
    places[study, order] = rank
    first, second = places[:, :m], places[:, m:]
    R = np.full((n, p, p), np.nan)
    R[:, np.arange(p), np.arange(p)] = 1.0
    R[study, first, second] = R[study, second, first] = r[rows]
    return R, (first, second), used


# What each measure takes off n.
LOST = {"ZCOR": 3.0, "COR": 1.0}
RULES: dict[str, tuple[str, Callable[[Array], Any]]] = {
    "min": ("smallest", np.min),
    "harmonic": ("harmonic mean", lambda n: 1.0 / np.mean(1.0 / n)),
    "mean": ("mean", np.mean),
}


def rcalc(
    x: Any,
    *,
    ni: Any = None,
    measure: Literal["ZCOR", "COR"] = "ZCOR",
    ri: str | None = None,
    var1: str = "var1",
    var2: str = "var2",
    study: str | None = None,
    nfun: SampleSizeRule = "min",
    missing: Literal["error", "drop"] = "error",
    assumed: Any = None,
    direction: str | None = None,
    check: PositiveDefiniteCheck = "error",
) -> tuple[EffectSizes, SamplingCovariance]:
    """Turn the correlation matrices of studies into effects with their exact covariances.

    Two correlations of one sample err together, and by how much follows from the other correlations: those of
    client-rated and of therapist-rated alliance with outcome err the more alike, the more client and therapist
    agree. Where studies print these correlations, nothing has to be assumed.

    Parameters
    ----------
    x : CodedTable, DataFrame, array, mapping or sequence
        A long table, one row per correlation, with columns for its two variables, r, n and the study; or the
        correlation matrix of one study (a DataFrame names its variables); or one matrix per study, as a
        mapping from study to matrix or a sequence. NaN in a matrix is a correlation that was not reported.
    ni : str, int, mapping or sequence
        Long table: the column with the sample size, ``"n"`` unless the data card names another. Matrices: the
        sample size of each study, as a number, by study, or in order.
    measure : {"ZCOR", "COR"}
        ``ZCOR``: Fisher's z; ``COR``: r itself.
    ri, var1, var2, study : str, optional
        Columns of a long table: the correlation, its variables, the study.
    nfun : {"min", "harmonic", "mean"}
        Which n holds for a study whose correlations rest on different numbers of people.
    missing : {"error", "drop"}
        What to do where a study gives r(alliance, outcome) of two raters, but not the correlation of the raters,
        which their covariance needs: refuse, or leave those effects out (as metafor's ``rma.mv`` does).
    assumed : float or mapping or DataFrame, optional
        Correlations to go on with in that case: one number, or by pair of variables. They become no effects.
    direction : str, optional
        What a positive effect means; from the data card, else ``"as coded"``.
    check : {"error", "nearest", "warn"}
        What to do if the correlations of a study contradict one another, see `SamplingCovariance.checked`.

    Returns
    -------
    effects : EffectSizes
        One row per correlation; the moderators name its variables (`var1`, `var2`) and both in alphabetical
        order (`pair`, such as ``"alliance.outcome"``). Rows of a long table keep their order; a matrix gives
        its upper triangle column by column.
    V : SamplingCovariance
        To go on with some of the pairs, take the same rows of both: ``effects.take(rows), V.take(rows)``.

    Raises
    ------
    CodingError
        r outside (-1, 1), n below 5, a variable correlated with itself, a pair given twice; every problem at once.
    InputError
        A column that is not there; a correlation that a covariance needs is missing; correlations of a study
        that no data can have; a matrix that is not square, not symmetric or has no 1 on its diagonal.

    Warns
    -----
    DroppedRowsWarning
        Correlations without r or n are left out; with ``missing="drop"``, also those named there.
    AdaptedInputWarning
        n differs within a study, and one was taken for all its correlations.

    Notes
    -----
    With r_ij the correlation of variables i and j, N times cov(r_ij, r_kl) is r_ij r_kl (r_ik² + r_il² + r_jk² +
    r_jl²) / 2 + r_ik r_jl + r_il r_jk - (r_ij r_ik r_il + r_ij r_jk r_jl + r_ik r_jk r_kl + r_il r_jl r_kl), for
    normal data in large samples: Olkin & Siotani (1976); Steiger (1980, doi:10.1037/0033-2909.87.2.245). As in
    metafor, N = n - 1 for r; for z the covariance is divided by (1 - r_ij²)(1 - r_kl²) and N = n - 3, so that
    the variances are those of `escalc`. R: ``rcalc(ri ~ var1 + var2 | study, ni=ni, data=dat, rtoz=TRUE)``.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta.effects import rcalc
    >>> names = ["client", "therapist", "outcome"]
    >>> R = pd.DataFrame([[1, 0.4, 0.3], [0.4, 1, 0.2], [0.3, 0.2, 1]], index=names, columns=names)
    >>> effects, V = rcalc(R, ni=103)
    >>> effects.moderators["pair"].tolist()
    ['client.therapist', 'client.outcome', 'outcome.therapist']
    >>> V.to_dense().round(4).tolist()
    [[0.01, 0.0014, 0.0026], [0.0014, 0.01, 0.0037], [0.0026, 0.0037, 0.01]]
    """
    check_option("measure", measure, Literal["ZCOR", "COR"])
    check_option("nfun", nfun, SampleSizeRule)
    check_option("missing", missing, Literal["error", "drop"])
    check_option("check", check, PositiveDefiniteCheck)
    if not _is_long(x):
        x, ni, ri, var1, var2, study = long_table(x, ni), "n", "r", "var1", "var2", "study"
    table, names = _table(x, var1, var2, study)
    effects = _effects(table, names, measure=measure, ri=ri, ni=ni, direction=direction)
    of, labels = _studies(effects)
    effects = _common_n(effects, of, labels, nfun)
    blocks, unknown = _blocks(effects, of, names, assumed)
    if unknown and missing == "error":
        raise InputError(_missing(unknown, labels))
    if unknown:
        effects = _without(effects, of, blocks, unknown, labels)
        of, labels = _studies(effects)
        blocks, _ = _blocks(effects, of, names, assumed)
    words = "correlations of each study (large samples, normal data)"
    if assumed is not None:
        words += "; assumed where a study does not give one"
    V = SamplingCovariance.from_stacks(
        effects.vi,
        of,
        blocks,
        labels=labels,
        cluster=names[2],
        assumption=words,
        settings={"measure": measure, "nfun": nfun} | ({} if assumed is None else {"assumed": plain(assumed)}),
        notes=() if assumed is None else (Note("assumed-correlations", f"Covariances follow from the {words}."),),
    )
    return effects, V.checked(check, _stacklevel=4)


def _studies(effects: EffectSizes) -> tuple[IntArray, tuple[str, ...]]:
    of = codes(np.array(effects.study_id, dtype=str))
    return of, tuple(effects.study_id[i] for i in np.unique(of, return_index=True)[1])


def _is_long(x: Any) -> bool:
    return isinstance(x, CodedTable) or (
        isinstance(x, pd.DataFrame) and list(map(str, x.index)) != list(map(str, x.columns))
    )


def _table(x: CodedTable | pd.DataFrame, var1: str, var2: str, study: str | None) -> tuple[Any, tuple[str, str, str]]:
    """Return the table with a column `pair`, and the names of the columns that hold variables and study."""
    frame = x.frame if isinstance(x, CodedTable) else x.copy()
    defaults = x.defaults if isinstance(x, CodedTable) else {}
    names = (var1, var2, study or defaults.get("study_id") or ("study" if "study" in frame else "study_id"))
    known = [str(column) for column in frame.columns]
    lost = [name for name in names if name not in frame]
    if lost:
        hints = ", ".join(f"{name!r}{did_you_mean(name, known)}" for name in lost)
        raise InputError(
            f"the table has no column {hints}; name the columns with var1=, var2= and study=. "
            f"Columns: {', '.join(known)}"
        )
    if "pair" in frame:
        raise InputError("the table has a column 'pair', the name that rcalc gives to the two variables: rename it")
    for name in names:
        gaps = np.flatnonzero(frame[name].isna())
        if gaps.size:
            raise InputError(
                f"column {name!r} is empty in {gaps.size} rows, the first number {gaps[0] + 1}; fill the cells"
            )
    both = zip(frame[var1].astype(str), frame[var2].astype(str), strict=True)
    frame["pair"] = [".".join(sorted(pair)) for pair in both]
    return (replace(x, _frame=frame) if isinstance(x, CodedTable) else frame), names


def _effects(
    table: Any, names: tuple[str, str, str], *, measure: Any, ri: Any, ni: Any, direction: str | None
) -> EffectSizes:
    """Return the effects, or raise with everything that is wrong in the rows."""
    frame = table.frame if isinstance(table, CodedTable) else table
    defaults = table.defaults if isinstance(table, CodedTable) else {}
    problems = row_problems(frame, names, r=ri or defaults.get("ri", "r"), n=ni or defaults.get("ni", "n"))
    source = table.provenance.source if isinstance(table, CodedTable) else "data frame"
    try:
        effects = escalc(table, measure=measure, ri=ri, ni=ni, study_id=names[2], direction=direction)
    except CodingError as error:
        problems += error.problems
    if problems:
        raise CodingError(sorted(problems, key=lambda problem: problem.row or 0), source=source)
    return effects


def _common_n(effects: EffectSizes, of: IntArray, labels: tuple[str, ...], nfun: SampleSizeRule) -> EffectSizes:
    """Return the effects with one n, and its variance, for all correlations of a study."""
    n = np.asarray(effects.ni, dtype=float)
    least, most = np.full(len(labels), np.inf), np.zeros(len(labels))
    np.minimum.at(least, of, n)
    np.maximum.at(most, of, n)
    differing = np.flatnonzero(least < most)
    if not differing.size:
        return effects
    word, rule = RULES[nfun]
    common = n.copy()
    for study in differing:
        common[of == study] = rule(n[of == study])
    shown = ", ".join(labels[study] for study in differing[:5]) + (", ..." if differing.size > 5 else "")
    note = warn_note(
        "differing-n",
        f"n differs within {differing.size} of {len(labels)} studies ({shown}); the {word} of each study was taken for "
        "all its correlations.",
        AdaptedInputWarning,
        stacklevel=4,
    )
    lost = LOST[effects.measure]
    return replace(effects, ni=common, vi=effects.vi * (n - lost) / (common - lost), notes=(*effects.notes, note))


def _blocks(
    effects: EffectSizes, of: IntArray, names: tuple[str, str, str], assumed: Any
) -> tuple[list[Array], list[tuple[int, str]]]:
    """Return the covariances (n, m, m) of the studies, NaN where unknown, and the studies and pairs that lack."""
    frame = effects.moderators
    r = frame[effects.columns["ri"]].to_numpy(dtype=float)
    numbers, levels = pd.factorize(pd.concat([frame[names[0]], frame[names[1]]]).astype(str), sort=True)
    variable = numbers.reshape(2, -1).astype(np.intp)
    guess = None if assumed is None else correlation_table(assumed, list(levels), "assumed")
    out: list[Array] = []
    missing = []
    for rows in stacks(of):
        R, ends, used = matrices(r, variable, rows)
        unknown = np.isnan(R) & (used[:, :, None] >= 0) & (used[:, None, :] >= 0)
        if guess is not None:
            R = np.where(unknown, guess[used[:, :, None], used[:, None, :]], R)
            unknown &= np.isnan(R)
        for n, a, b in np.argwhere(np.triu(unknown)).tolist():
            missing.append((int(of[rows[n, 0]]), f"{levels[int(used[n, a])]} with {levels[int(used[n, b])]}"))
        V = covariance_of_r(R, *ends)
        if effects.measure == "ZCOR":
            V = covariance_of_z(V, r[rows])
        out.append(V / (np.asarray(effects.ni)[rows[:, 0]] - LOST[effects.measure])[:, None, None])
    return out, missing


def _missing(unknown: list[tuple[int, str]], labels: tuple[str, ...]) -> str:
    shown = "; ".join(f"{pair} in {labels[code]}" for code, pair in unknown[:8])
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return (
        f"the covariances need correlations that are missing: {shown}{more}. Add them, give assumed=, or leave out the "
        "effects that need them: missing='drop'"
    )


def _without(
    effects: EffectSizes, of: IntArray, blocks: list[Array], unknown: list[tuple[int, str]], labels: tuple[str, ...]
) -> EffectSizes:
    """Return the effects whose covariances are all known."""
    keep = np.ones(effects.k, dtype=bool)
    for rows, V in zip(stacks(of), blocks, strict=True):
        keep[rows] = ~np.isnan(V).any(axis=2)
    studies = list(dict.fromkeys(labels[code] for code, _ in unknown))
    if not keep.any():
        raise InputError(_missing(unknown, labels) + " (here nothing would be left)")
    shown = ", ".join(studies[:5]) + (", ..." if len(studies) > 5 else "")
    note = warn_note(
        "unknown-covariances",
        f"{int((~keep).sum())} of {effects.k} effects left out because their study ({shown}) does not give the "
        "correlations that their covariances need.",
        DroppedRowsWarning,
        stacklevel=4,
    )
    return replace(effects.take(keep, step="rcalc missing=drop"), notes=(*effects.notes, note))
