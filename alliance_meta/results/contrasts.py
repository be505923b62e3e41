"""What a test of coefficients asks for, as a matrix and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.tables.format import brief


def contrast(
    L: str | Sequence[str] | Any, *, names: tuple[str, ...], terms: Mapping[str, tuple[int, ...]]
) -> tuple[Array, str]:
    """Return the matrix of a term, of several, or of `L` itself, with its null hypothesis in words."""
    if isinstance(L, str) or (isinstance(L, Sequence) and L and all(isinstance(x, str) for x in L)):
        words = [L] if isinstance(L, str) else list(L)
        slots = sorted({slot for word in words for slot in _slots(word, names, terms)})
        if not slots:
            raise InputError(f"{' and '.join(words)} has no coefficient in this model: left out as redundant")
        return np.eye(len(names))[slots], " and ".join(names[i] for i in slots) + " = 0"
    matrix = np.atleast_2d(np.asarray(L, dtype=float))
    if matrix.shape[1] != len(names):
        raise InputError(f"L has {matrix.shape[1]} columns; the model has {len(names)}: {', '.join(names)}")
    if np.linalg.matrix_rank(matrix) < len(matrix):
        raise InputError("the rows of L repeat each other; give linearly independent combinations")
    rows = [" + ".join(f"{brief(c)} {n}" for c, n in zip(row, names, strict=True) if c) for row in matrix]
    return matrix, "; ".join(f"{row} = 0" for row in rows)


def _slots(word: str, names: tuple[str, ...], terms: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    if word in names:
        return (names.index(word),)
    if word in terms:
        return terms[word]
    raise InputError(
        f"no term or coefficient {word!r}{did_you_mean(word, [*terms, *names])} "
        f"Terms: {', '.join(terms)}. Coefficients: {', '.join(names)}"
    )
