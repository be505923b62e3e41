"""Intervals, tests, and what a test of coefficients asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from alliance_meta._typing import Array
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.tables.format import brief, fixed, fixed_interval, p_value, plain_df


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, lb, ub : float
    level : float
        Confidence level, a fraction.
    kind : str
        How the interval was made, e.g. ``"QP"``.
    quantity : str
        What is estimated, with its scale.
    remark : str
        What a reader must know about this interval; mostly empty.
    """

    estimate: float
    lb: float
    ub: float
    level: float
    kind: str
    quantity: str
    remark: str = ""

    def map(self, function: Callable[[float], float], quantity: str) -> Interval:
        """Return the interval of an increasing function of the quantity."""
        return replace(
            self,
            estimate=function(self.estimate),
            lb=function(self.lb),
            ub=function(self.ub),
            quantity=quantity,
        )

    def __str__(self) -> str:
        text = f"{self.quantity} {fixed(self.estimate)} {fixed_interval(self.lb, self.ub)} ({self.kind})"
        return f"{text}. {self.remark}" if self.remark else text

    def to_dict(self) -> dict[str, Any]:
        """Return the interval as a plain dictionary."""
        return {name: value for name, value in asdict(self).items() if name != "remark" or value}


@dataclass(frozen=True, slots=True)
class WaldTest:
    """A test of one or several linear combinations of coefficients.

    Attributes
    ----------
    stat : float
        Chi-squared, or F when `df2` is given.
    df1 : int
        Number of combinations tested.
    df2 : float or None
        Denominator degrees of freedom of F.
    pval : float
    null : str
        The null hypothesis in words.
    """

    stat: float
    df1: int
    df2: float | None
    pval: float
    null: str

    @property
    def label(self) -> str:
        """``QM(df = 2)`` for a chi-squared test, ``F(df1 = 2, df2 = 20)`` for an F test."""
        return f"QM(df = {self.df1})" if self.df2 is None else f"F(df1 = {self.df1}, df2 = {plain_df(self.df2)})"

    def __str__(self) -> str:
        return f"{self.label} = {fixed(self.stat)}, p {p_value(self.pval)}; null: {self.null}"

    def to_dict(self) -> dict[str, Any]:
        """Return the test as a plain dictionary."""
        return asdict(self)


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
