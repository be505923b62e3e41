"""Factors of random terms: which column a user means, which rows belong to each of its levels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from alliance_meta._typing import AnyArray
from alliance_meta.core.clusters import IntArray
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean

ROWS = "es_id"


def sides(item: str) -> tuple[str, str]:
    """Return what varies and between which groups; ``"1"`` where only the intercept does."""
    left, bar, right = item.partition("|")
    if not bar:
        return "1", left.strip().lstrip("~").strip()
    return left.strip().lstrip("~").strip(), right.strip()


def expand(path: str) -> list[str]:
    """Return the factors of a path: of ``a/b``, a and b within a."""
    parts = [part.strip() for part in path.split("/")]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def factor(name: str, effects: EffectSizes) -> tuple[list[str], IntArray]:
    """Return the levels and the codes of a factor; ``a/b`` is b within a."""
    levels, code = _column(name.split("/")[0].strip(), effects)
    for part in name.split("/")[1:]:
        inner, within = _column(part.strip(), effects)
        both, pairs = pd.factorize(code * len(inner) + within)
        levels = [f"{levels[pair // len(inner)]}/{inner[pair % len(inner)]}" for pair in pairs.tolist()]
        code = both.astype(np.intp)
    return levels, code


def as_level(value: object) -> str:
    """Return a value as text by which levels are compared: 1 and 1.0 are the same."""
    return str(value).removesuffix(".0")


def _column(name: str, effects: EffectSizes) -> tuple[list[str], IntArray]:
    columns = effects.moderators
    if name in columns.columns:
        values = columns[name]
        missing = [effects.slab[i] for i in np.flatnonzero(values.isna().to_numpy())]
        if missing:
            some = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise InputError(f"random factor {name!r} is missing for {some}; fill it in or leave these rows out")
        return _levels(values)
    if name == "study_id":
        return _levels(np.array(effects.study_id, dtype=object))
    if name == ROWS:
        return list(map(str, range(1, effects.k + 1))), np.arange(effects.k, dtype=np.intp)
    known = ["study_id", ROWS, *map(str, columns.columns)]
    raise InputError(f"random names {name!r}, which is not a column{did_you_mean(name, known)}")


def _levels(values: pd.Series | AnyArray) -> tuple[list[str], IntArray]:
    """Return the levels as text, in the order in which they appear, and the codes."""
    found, distinct = pd.factorize(values)
    merged, levels = pd.factorize(np.array([str(value) for value in distinct], dtype=object))
    return levels.tolist(), merged[found].astype(np.intp)
