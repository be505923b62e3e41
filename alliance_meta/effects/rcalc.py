"""`rcalc`: effects and their exact large-sample covariances from correlation matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.clusters import IntArray, codes, stacks
from alliance_meta.core.dependent_correlations import covariance_of_r, covariance_of_z
from alliance_meta.core.sampling_covariance import SamplingCovariance
from alliance_meta.effects.assumed_correlations import correlation_table, plain
from alliance_meta.effects.coded import CodedTable
from alliance_meta.effects.correlation_matrices import long_table
from alliance_meta.effects.escalc import escalc
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import AdaptedInputWarning, CodingError, InputError, Problem
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import PositiveDefiniteCheck, SampleSizeRule, check_option, did_you_mean

# Below this many people the large-sample covariance says nothing.
LEAST_N = 5
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
    assumed : float or mapping or DataFrame, optional
        Correlations to go on with where a study does not give one that its covariances need: one number, or by
        pair of variables. They become no effects. Without it such a study is refused.
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
        Correlations without r or n are left out.
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
    >>> from alliance_meta import rcalc
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
    check_option("check", check, PositiveDefiniteCheck)
    if not _is_long(x):
        x, ni, ri, var1, var2, study = long_table(x, ni), "n", "r", "var1", "var2", "study"
    table, names = _table(x, var1, var2, study)
    effects, r = _effects(table, names, measure=measure, ri=ri, ni=ni, direction=direction)
    of = codes(np.array(effects.study_id, dtype=str))
    labels = tuple(effects.study_id[i] for i in np.unique(of, return_index=True)[1])
    effects = _common_n(effects, of, labels, nfun, measure)
    blocks = _blocks(effects, r, of, labels, names, assumed)
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
) -> tuple[EffectSizes, Array]:
    """Return effects and their r, or raise with everything that is wrong in the rows."""
    frame = table.frame if isinstance(table, CodedTable) else table
    problems = _pair_problems(frame, names)
    try:
        effects = escalc(table, measure=measure, ri=ri, ni=ni, study_id=names[2], direction=direction)
    except CodingError as error:
        raise CodingError(
            sorted([*error.problems, *problems], key=lambda problem: problem.row or 0), source=error.source
        ) from None
    if problems:
        raise CodingError(problems, source=effects.provenance.source)
    few = [i for i in range(effects.k) if effects.ni is not None and effects.ni[i] < LEAST_N]
    if few:
        shown = ", ".join(f"n = {effects.ni[i]:g} in {effects.slab[i]}" for i in few[:5])  # type: ignore[index]
        raise InputError(f"{shown}: too few people for a large-sample covariance, which needs n >= {LEAST_N}")
    return effects, effects.moderators[effects.columns["ri"]].to_numpy(dtype=float)


def _pair_problems(frame: pd.DataFrame, names: tuple[str, str, str]) -> list[Problem]:
    lines = list(frame.index) if frame.index.name == "line" else list(range(2, len(frame) + 2))
    own = (frame[names[0]].astype(str) == frame[names[1]].astype(str)).to_numpy()
    again = frame.duplicated([names[2], "pair"]).to_numpy() & ~own
    return [
        *(
            Problem(int(lines[i]), names[1], str(frame[names[1]].iloc[i]), "is correlated with itself", kind="self")
            for i in np.flatnonzero(own)
        ),
        *(
            Problem(
                int(lines[i]),
                names[0],
                str(frame["pair"].iloc[i]),
                f"study {frame[names[2]].iloc[i]} gives {frame['pair'].iloc[i]} twice; keep one row",
                kind="twice",
            )
            for i in np.flatnonzero(again)
        ),
    ]


def _common_n(
    effects: EffectSizes, of: IntArray, labels: tuple[str, ...], nfun: SampleSizeRule, measure: str
) -> EffectSizes:
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
    lost = 3.0 if measure == "ZCOR" else 1.0
    return replace(effects, ni=common, vi=effects.vi * (n - lost) / (common - lost), notes=(*effects.notes, note))


def _blocks(
    effects: EffectSizes, r: Array, of: IntArray, labels: tuple[str, ...], names: tuple[str, str, str], assumed: Any
) -> list[Array]:
    """Return the covariance matrices (n, m, m) of the studies, stack by stack."""
    frame = effects.moderators
    numbers, levels = pd.factorize(pd.concat([frame[names[0]], frame[names[1]]]).astype(str), sort=True)
    variable = numbers.reshape(2, -1)
    guess = None if assumed is None else correlation_table(assumed, levels, "assumed")
    out: list[Array] = []
    missing = []
    for rows in stacks(of):
        R, ends, used = _matrices(r, variable, rows)
        unknown = np.isnan(R) & (used[:, :, None] >= 0) & (used[:, None, :] >= 0)
        if guess is not None:
            R = np.where(unknown, guess[used[:, :, None], used[:, None, :]], R)
            unknown &= np.isnan(R)
        for n, a, b in np.argwhere(np.triu(unknown)):
            missing.append(f"{levels[used[n, a]]} with {levels[used[n, b]]} in {labels[of[rows[n, 0]]]}")
        V = covariance_of_r(R, *ends)
        lost = 3.0 if effects.measure == "ZCOR" else 1.0
        if effects.measure == "ZCOR":
            V = covariance_of_z(V, r[rows])
        out.append(V / (np.asarray(effects.ni)[rows[:, 0]] - lost)[:, None, None])
    if missing:
        shown = "; ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise InputError(
            f"the covariances need correlations that are missing: {shown}. Add them, leave out effects that need them, "
            "or give assumed="
        )
    return out


def _matrices(r: Array, variable: IntArray, rows: IntArray) -> tuple[Array, tuple[IntArray, IntArray], IntArray]:
    """Return each study's correlation matrix, its effects as places in it, and which variable each place is (-1: none).

    `variable` (2, k) holds the two variables of each effect, `rows` (n, m) the effects of n studies.
    """
    n, m = rows.shape
    both = variable[:, rows].transpose(1, 0, 2).reshape(n, 2 * m)
    ordered = np.sort(both, axis=1)
    fresh = np.concatenate([np.ones((n, 1), dtype=bool), ordered[:, 1:] > ordered[:, :-1]], axis=1)
    rank = np.cumsum(fresh, axis=1) - 1
    p = int(rank.max()) + 1
    study = np.arange(n)[:, None]
    used = np.full((n, p), -1, dtype=np.intp)
    used[study, rank] = ordered
    # Where in its study's sorted variables each variable stands.
    places = np.empty((n, 2 * m), dtype=np.intp)
    places[study, np.argsort(both, axis=1, kind="stable")] = rank
    first, second = places[:, :m], places[:, m:]
    R = np.full((n, p, p), np.nan)
    R[:, np.arange(p), np.arange(p)] = 1.0
    R[study, first, second] = R[study, second, first] = r[rows]
    return R, (first, second), used
