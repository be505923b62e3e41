"""What methods that rest on p-values take: one result of each study, on the side where results are favoured."""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array, Mask
from alliance_meta.bias.given import Given
from alliance_meta.core.dependent import IntArray
from alliance_meta.errors import DependenceWarning
from alliance_meta.notes import Note, warn_note

FEW = 10


def one_each(source: Given, who: str, *, stacklevel: int = 4) -> tuple[IntArray, tuple[Note, ...]]:
    """Return the rows of one effect of each study, chosen without a look at any number, and the note that says which.

    It is the first whose ``focal`` says that it was what its paper set out to test, else the first: p-curve too asks
    for the result that a paper reports first.
    """
    if not source.dependent:
        return np.arange(source.k, dtype=np.intp), ()
    said = source.focal
    focal = np.zeros(source.k, dtype=bool) if said is None else said.fillna(False).to_numpy(dtype=bool)
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


def significant(y: Array, se: Array, critical: float) -> Mask:
    """Say which effects are positive and significant."""
    return y > critical * se


def few_significant(k: int, who: str) -> tuple[Note, ...]:
    """Return the note on few significant results."""
    if not 0 < k < FEW:
        return ()
    few = "one significant result" if k == 1 else f"{k} significant results"
    return (Note("few-significant", f"Only {few}: {who} tells little with fewer than {FEW}."),)
