"""Correlation matrices as a long table: one row per correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.errors import InputError


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
