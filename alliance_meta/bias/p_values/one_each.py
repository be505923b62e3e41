"""What methods that rest on p-values take: one result of each study, on the side where results are favoured."""

from __future__ import annotations

from typing import Literal

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Given
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.contract.schema import TRUE
from alliance_meta.errors import DependenceWarning, InputError
from alliance_meta.notes import Note, check_option, warn_note

FOCAL = "focal"
FEW = 10

Side = Literal["right", "left"]


def one_each(source: Given, who: str, *, stacklevel: int = 4) -> tuple[IntArray, tuple[Note, ...]]:
    """Return the rows of one effect of each study, chosen without a look at any number, and the note that says which.

    It is the first whose ``focal`` says that it was what its paper set out to test, else the first: p-curve too asks
    for the result that a paper reports first.
    """
    if not source.dependent:
        return np.arange(source.k, dtype=np.intp), ()
    focal = _focal(source)
    order = np.lexsort((np.arange(source.k), ~focal, source.cluster))
    first = np.unique(source.cluster[order], return_index=True)[1]
    rows: IntArray = np.sort(order[first])
    which = (
        "the first that was the point of its paper (focal), else the first listed"
        if focal.any()
        else "the first listed, as no column focal says which was the point of its paper"
    )
    message = (
        f"{who} takes results as independent: it used one effect of each study, {which}; {len(rows)} of {source.k}."
    )
    return rows, (warn_note("one-per-study", message, DependenceWarning, stacklevel=stacklevel),)


def _focal(source: Given) -> Mask:
    moderators = source.effects.moderators
    if FOCAL not in moderators:
        return np.zeros(source.k, dtype=bool)
    return np.array([str(value).strip().casefold() in TRUE for value in moderators[FOCAL].tolist()])


def sign_of(source: Given, side: Side | None) -> float:
    """Return 1 where positive results are favoured, else -1; by default the sign of the mean."""
    if side is None:
        return source.sign
    check_option("side", side, Side)
    return 1.0 if side == "right" else -1.0


def significant(y: Array, se: Array, critical: float) -> Mask:
    """Say which effects are positive and significant."""
    return y > critical * se


def check_alpha(alpha: float) -> None:
    """Raise an `InputError` unless a two-sided level of significance makes sense."""
    if not 0.0 < alpha < 0.5:
        raise InputError(f"alpha={alpha!r} is the two-sided level of significance of the studies, between 0 and 0.5")


def few_significant(k: int, who: str) -> tuple[Note, ...]:
    """Return the note on few significant results."""
    if not 0 < k < FEW:
        return ()
    few = "one significant result" if k == 1 else f"{k} significant results"
    return (Note("few-significant", f"Only {few}: {who} tells little with fewer than {FEW}."),)
