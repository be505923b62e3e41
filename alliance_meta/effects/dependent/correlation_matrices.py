"""Correlations of one sample: from matrices to a table with one row each, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.errors import InputError, Problem

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
