"""Published reliabilities of alliance measures, and their use for rows that report none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.effects.contract.vocabulary import ALLIANCE_MEASURES, RATERS, Vocabulary, plain
from alliance_meta.effects.datasets import data_root, read_resource
from alliance_meta.errors import AdaptedInputWarning, InputError
from alliance_meta.notes import Note, warn_note
from alliance_meta.tables.format import fixed, plural

SAME = ("alliance_measure", "alliance_rater")
SHEET, PUBLISHED, MEAN = "sheet", "published", "mean of the others"


def published_reliabilities() -> pd.DataFrame:
    """Return what is printed of the reliability of alliance measures, one row per coefficient."""
    return read_resource(data_root() / "published", "reliability")


def with_published(frame: pd.DataFrame, own: Array) -> tuple[Array, list[str], Note | None]:
    """Fill missing reliabilities of the alliance with published ones of the same measure and rater.

    Only Cronbach's alpha of the whole score counts: subscales are less reliable, and a retest or a
    generalizability coefficient answers another question. Several published values are averaged.

    `frame`: columns of the sheet; ``alliance_measure`` and ``alliance_rater`` must be among them.
    `own` (k,): the reliabilities of the rows, NaN where missing; never changed where known.
    Returns values, origins, note: the filled values, where each comes from (``sheet``, ``published`` or ``mean of the
      others``), and what was taken; None if nothing was.
    Raises `InputError`: if the sheet does not say measure and rater.
    """
    lacking = [name for name in SAME if name not in frame]
    if lacking:
        raise InputError(
            f"published reliabilities go by measure and rater: the sheet has no {' and no '.join(lacking)}"
        )
    table = published_reliabilities()
    table = table[(table["kind"] == "alpha") & table["value"].notna() & (table["measure"] != "other")]
    known = {key: rows for key, rows in table.groupby(["measure", "rater"])}
    values, taken = own.copy(), dict[tuple[str, str], int]()
    for i in np.flatnonzero(np.isnan(own)):
        row = frame.iloc[i]
        key = (_word(row["alliance_measure"], ALLIANCE_MEASURES), _word(row["alliance_rater"], RATERS))
        if key in known and _whole(row.get("alliance_component")):
            values[i] = float(known[key]["value"].mean())
            taken[key] = taken.get(key, 0) + 1
    origins = np.where(np.isfinite(own), SHEET, np.where(np.isfinite(values), PUBLISHED, MEAN)).tolist()
    if not taken:
        return values, origins, None
    said = "; ".join(_said(key, known[key], count) for key, count in taken.items())
    text = f"Reliability of the alliance taken from publications where the sheet has none: {said}."
    return values, origins, warn_note("artifact-published", text, AdaptedInputWarning)


def _word(cell: Any, words: Vocabulary) -> str:
    """Return the word that the cell is, in any spelling or its other names; never one that is only similar."""
    if pd.isna(cell):
        return ""
    same = (term.value for term in words.terms if plain(str(cell)) in map(plain, (term.value, *term.also)))
    return next(same, "")


def _whole(component: Any) -> bool:
    return component is None or pd.isna(component) or str(component) == "total"


def _said(key: tuple[str, str], rows: pd.DataFrame, count: int) -> str:
    sources = ", ".join(f"{row['title']} ({row['evidence_location']})" for _, row in rows.iterrows())
    effects = plural(count, "effect")
    return f"{key[0]} by the {key[1]} {fixed(rows['value'].mean(), 2)} in {effects}, from {sources}"
