"""Random terms of a Bayesian three-level model: spelt as in `MultilevelModel`, two of them, one the rows themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.dependent.groups import ROWS, expand, factor, sides
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError


@dataclass(frozen=True, eq=False)
class TwoTerms:
    """A grouping and the rows within it.

    Attributes
    ----------
    names : tuple of str
        As `MultilevelModel` has them.
    group : ndarray of int, shape (k,)
        Group of each row, numbered as they first appear.
    levels : tuple of str
        What each group is called.
    """

    names: tuple[str, str]
    group: IntArray
    levels: tuple[str, ...]


def read_terms(random: str | Sequence[str], effects: EffectSizes) -> TwoTerms:
    """Read ``"~ 1 | study_id/es_id"``, ``"study_id/es_id"`` or ``("lab", "es_id")``.

    Raises
    ------
    InputError
        An unknown column or one with missing values; other terms than a grouping and the rows within it.
    """
    items = [random] if isinstance(random, str) else [str(one) for one in random]
    paths: list[str] = []
    for item in items:
        left, right = sides(item)
        if left != "1":
            raise _refused(random, f"{item.strip()!r} is no random intercept")
        paths += expand(right)
    repeated = sorted({name for name in paths if paths.count(name) > 1})
    if repeated:
        raise InputError(f"random names {', '.join(repeated)} twice")
    found = [(name, *factor(name, effects)) for name in paths]
    if len(found) != 2:
        raise _refused(random, f"{len(found)} term{'s' if len(found) != 1 else ''} where there must be two")
    (outer, levels, group), (inner, _, rows) = sorted(found, key=lambda one: len(one[1]))
    if len(np.unique(rows)) < effects.k:
        raise _refused(random, f"several rows share one {inner}")
    return TwoTerms((outer, inner), group, tuple(levels))


def _refused(random: object, why: str) -> InputError:
    return InputError(
        f"random={random!r}: {why}. Exact posteriors are there for random intercepts of a grouping and of the rows "
        f"within it, random='~ 1 | study_id/{ROWS}'. Slopes, crossed factors, outcomes within studies, a single term "
        "or more levels need a sampler: write them with bayes.pymc, such as bayes.pymc.multilevel"
    )
