"""Finished effects: a sheet that has effect sizes with their variances in place of r and n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.correlations.pearson import var_z
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.studies import Named, row_labels, row_studies
from alliance_meta.effects.table import EffectSizes, impossible, unique_labels
from alliance_meta.errors import CodingError, DroppedRowsWarning, InputError, Problem
from alliance_meta.notes import Note, warn_note
from alliance_meta.options import Measure

SCALE_NOTE = (
    "The effects were finished before they came here, on a scale the sheet does not tell; "
    "measure='ZCOR' (command line: --measure ZCOR) says that they are Fisher z."
)


def finished_columns(table: CodedTable) -> tuple[str, str, str] | None:
    """Return the columns of finished effects and of what gives their variances, and which that is: vi, sei or ni."""
    yi = table.defaults.get("yi")
    if yi not in table.columns:
        return None
    for kind in ("vi", "sei", "ni"):
        second = table.defaults.get(kind, "n" if kind == "ni" else None)
        if second in table.columns:
            return yi, second, kind
    return None


def finished_effects(
    table: CodedTable,
    *,
    named: Named,
    lines: Any,
    direction: str | None,
    notes: Sequence[Note],
    measure: Measure | None = None,
) -> EffectSizes:
    """Turn a table of finished effects into `EffectSizes`, leaving out incomplete rows with a warning."""
    found = finished_columns(table)
    assert found is not None
    *columns, kind = found
    measure = measure or table.defaults.get("measure")
    frame = table.frame.reset_index(drop=True)
    yi, second = (pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float) for name in columns)
    labels = row_labels(frame, named, table.provenance.source)
    keep = np.isfinite(yi) & np.isfinite(second)
    if not keep.any():
        raise InputError(f"{table.provenance.source}: no row has both {columns[0]} and {columns[1]}")
    least = 3 if kind == "ni" else 0
    wrong = [int(i) for i in np.flatnonzero(keep & (second <= least))]
    if wrong:
        problems = [
            Problem(i + 2, columns[1], f"{second[i]:g}", f"{second[i]:g} is not > {least} ({labels[i]})") for i in wrong
        ]
        raise CodingError(problems, source=table.provenance.source)
    with np.errstate(over="ignore"):
        vi = var_z(second[keep]) if kind == "ni" else second[keep] ** 2 if kind == "sei" else second[keep]
    _check_size(yi[keep], vi, np.flatnonzero(keep), columns, table.provenance.source)
    said = [*notes, *([] if measure else [Note("finished-effects", SCALE_NOTE)])]
    if not keep.all():
        lost = [label for label, there in zip(labels, keep, strict=True) if not there]
        text = f"{len(lost)} of {len(keep)} rows left out because {' or '.join(columns)} is missing: {', '.join(lost)}."
        said.append(warn_note("dropped-rows", text, DroppedRowsWarning, stacklevel=4))
    kept = frame[keep].reset_index(drop=True)
    kept_labels = (label for label, there in zip(labels, keep, strict=True) if there)
    kept, studies, more = row_studies(kept, named, np.asarray(lines)[keep], table.provenance.source)
    return EffectSizes(
        yi=yi[keep],
        vi=vi,
        ni=second[keep] if kind == "ni" else None,
        slab=unique_labels([label or study for label, study in zip(kept_labels, studies, strict=True)]),
        study_id=studies,
        _moderators=kept,
        measure=measure or "GEN",
        vtype=None,
        direction=direction or (table.card.direction if table.card else "as given"),
        provenance=table.provenance.after(
            f"finished effects yi={columns[0]}, {kind}={columns[1]}{f', measure={measure}' if measure else ''}"
        ),
        notes=(*said, *more),
        columns={"yi": columns[0], kind: columns[1]},
    )


def _check_size(yi: Array, vi: Array, rows: IntArray, columns: Sequence[str], source: str) -> None:
    """Raise a `CodingError` that lists effects and variances beyond what any can be."""
    problems = [
        Problem(int(rows[i]) + 2, columns[name == "vi"], value, why) for i, name, value, why in impossible(yi, vi)
    ]
    if problems:
        raise CodingError(problems, source=source)
