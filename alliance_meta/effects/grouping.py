"""Columns that say which effects belong together: named, or given as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.clusters import IntArray
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

if TYPE_CHECKING:
    from alliance_meta._typing import Array
    from alliance_meta.effects.table import EffectSizes


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Effects sorted into groups.

    Attributes
    ----------
    name : str or None
        The column; None for values that were given as they are.
    codes : ndarray of int, shape (k,)
        Group of each effect, numbered from 0 as they first appear.
    levels : tuple
        What each group is called, by code.
    """

    name: str | None
    codes: IntArray
    levels: tuple[Any, ...]


def grouping(effects: EffectSizes, spec: Any, argument: str) -> Grouping:
    """Return the groups that `spec` makes: ``"study_id"``, ``"slab"``, a moderator, or k values."""
    values = _values(effects, spec, argument)
    codes, levels = pd.factorize(values)
    _refuse_gaps(effects, codes < 0, spec, argument)
    return Grouping(spec if isinstance(spec, str) else None, codes.astype(np.intp), tuple(levels))


def numeric_column(effects: EffectSizes, spec: Any, argument: str) -> Array:
    """Return the numbers (k,) that `spec` names or is."""
    values = pd.Series(_values(effects, spec, argument))
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    text = values[np.isnan(numbers) & values.notna().to_numpy()]
    if len(text):
        raise InputError(
            f"{_called(spec, argument)} must hold numbers, not {text.iloc[0]!r} ({effects.slab[text.index[0]]})"
        )
    _refuse_gaps(effects, ~np.isfinite(numbers), spec, argument)
    return numbers


def _values(effects: EffectSizes, spec: Any, argument: str) -> Any:
    if isinstance(spec, str):
        if spec in ("study_id", "slab"):
            return np.array(getattr(effects, spec), dtype=object)
        frame = effects.moderators
        if spec not in frame:
            known = ["study_id", "slab", *map(str, frame.columns)]
            raise InputError(
                f"{argument}={spec!r} is not a column{did_you_mean(spec, known)}. Columns: {', '.join(known)}"
            )
        return frame[spec].reset_index(drop=True)
    values = pd.Series(list(spec)) if np.ndim(spec) == 1 else None
    if values is None or len(values) != effects.k:
        size = "one value" if values is None else f"{len(values)} values"
        raise InputError(f"{argument} has {size} for {effects.k} effects; name a column, or give one value per effect")
    return values


def _refuse_gaps(effects: EffectSizes, gaps: Any, spec: Any, argument: str) -> None:
    lost = np.flatnonzero(gaps)
    if lost.size:
        shown = ", ".join(effects.slab[i] for i in lost[:5]) + (f" and {lost.size - 5} more" if lost.size > 5 else "")
        raise InputError(
            f"{_called(spec, argument)} is empty or infinite for {lost.size} of {effects.k} effects ({shown}); "
            "fill the cells, or leave the rows out"
        )


def _called(spec: Any, argument: str) -> str:
    return f"{argument}={spec!r}" if isinstance(spec, str) else argument
