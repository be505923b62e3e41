"""Finished effects: a sheet that has effect sizes with their variances in place of r and n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects.coded import CodedTable
from alliance_meta.effects.studies import Named, row_labels, row_studies
from alliance_meta.effects.table import EffectSizes, unique_labels
from alliance_meta.errors import CodingError, DroppedRowsWarning, InputError, Problem
from alliance_meta.notes import Note, warn_note

SCALE_NOTE = (
    "The effects were finished before they came here, on a scale the sheet does not tell; "
    "EffectSizes.from_arrays(..., measure='ZCOR') says that they are Fisher z."
)


def finished_columns(table: CodedTable) -> tuple[str, str] | None:
    """Return the columns of finished effects and of their variances (or standard errors), if the table has them."""
    yi = table.defaults.get("yi")
    second = table.defaults.get("vi") or table.defaults.get("sei")
    return (yi, second) if yi in table.columns and second in table.columns else None


def finished_effects(
    table: CodedTable, *, named: Named, lines: Any, direction: str | None, notes: Sequence[Note]
) -> EffectSizes:
    """Turn a table of finished effects into `EffectSizes`, leaving out incomplete rows with a warning."""
    columns = finished_columns(table)
    assert columns is not None
    frame = table.frame.reset_index(drop=True)
    yi, second = (pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float) for name in columns)
    labels = row_labels(frame, named, table.provenance.source)
    squared = table.defaults.get("vi") is None
    vi = second**2 if squared else second
    keep = np.isfinite(yi) & np.isfinite(vi)
    if not keep.any():
        raise InputError(f"{table.provenance.source}: no row has both {columns[0]} and {columns[1]}")
    wrong = [int(i) for i in np.flatnonzero(keep & (second <= 0))]
    if wrong:
        problems = [
            Problem(i + 2, columns[1], f"{second[i]:g}", f"{second[i]:g} is not > 0 ({labels[i]})") for i in wrong
        ]
        raise CodingError(problems, source=table.provenance.source)
    said = [*notes, Note("finished-effects", SCALE_NOTE)]
    if not keep.all():
        lost = [label for label, there in zip(labels, keep, strict=True) if not there]
        text = f"{len(lost)} of {len(keep)} rows left out because {' or '.join(columns)} is missing: {', '.join(lost)}."
        said.append(warn_note("dropped-rows", text, DroppedRowsWarning, stacklevel=4))
    kept = frame[keep].reset_index(drop=True)
    kept_labels = (label for label, there in zip(labels, keep, strict=True) if there)
    kept, studies, more = row_studies(kept, named, np.asarray(lines)[keep], table.provenance.source)
    return EffectSizes(
        yi=yi[keep],
        vi=vi[keep],
        ni=None,
        slab=unique_labels([label or study for label, study in zip(kept_labels, studies, strict=True)]),
        study_id=studies,
        _moderators=kept,
        measure="GEN",
        vtype=None,
        direction=direction or (table.card.direction if table.card else "as given"),
        provenance=table.provenance.after(
            f"finished effects yi={columns[0]}, {'sei' if squared else 'vi'}={columns[1]}"
        ),
        notes=(*said, *more),
        columns={"yi": columns[0], "sei" if squared else "vi": columns[1]},
    )
