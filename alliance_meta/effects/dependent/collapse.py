"""Labels, sample sizes and moderators of rows that become one: kept where they agree, named where they do not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Mask
from alliance_meta.core.robust.clusters import IntArray
from alliance_meta.effects.dependent.groups import Clusters
from alliance_meta.effects.table import EffectSizes, unique_labels
from alliance_meta.notes import Note

MIXED = "mixed"
# The letters that `unique_labels` put behind a label.
LETTERED = re.compile(r"^(.*\d)[a-z]+$|^(.*\D) [a-z]+$", re.S)


def collapse(effects: EffectSizes, clusters: Clusters, *, addk: bool = False) -> tuple[EffectSizes, list[Note]]:
    """Return the first row of each cluster with what the cluster's rows agree on, and notes on what they do not."""
    out = effects.take(clusters.first)
    if clusters.n == effects.k:
        return (replace(out, _moderators=_counted(out.moderators, clusters)) if addk else out), []
    notes = []
    frame, varying = _moderators(effects.moderators, clusters)
    if varying:
        named = ", ".join(f"{name} ({count})" for name, count in varying.items())
        notes.append(
            Note(
                "aggregated-mixed",
                "Differs within some clusters (how many in brackets), and is missing there or, if text, "
                f"{MIXED!r}: {named}.",
            )
        )
    ni = effects.ni
    if ni is not None:
        uneven = _uneven(_codes(ni), clusters)[0]
        ni = np.where(uneven, clusters.mean(ni), ni[clusters.first])
        if uneven.any():
            shown = clusters.named(np.flatnonzero(uneven))
            message = f"The sample size differs within {shown}; the mean of each cluster stands there."
            notes.append(Note("aggregated-n", message))
    return (
        replace(
            out,
            ni=ni,
            slab=unique_labels(_labels(effects, clusters)),
            study_id=_study_ids(effects, clusters),
            _moderators=_counted(frame, clusters) if addk else frame,
            # r and n of the sheet are not those of the averages.
            columns={},
        ),
        notes,
    )


def _counted(frame: pd.DataFrame, clusters: Clusters) -> pd.DataFrame:
    return frame.assign(ki=clusters.sizes)


def _codes(values: Any) -> IntArray:
    return pd.factorize(np.asarray(values) if isinstance(values, tuple | list) else values)[0].astype(np.intp)


def _uneven(codes: IntArray, clusters: Clusters) -> tuple[Mask, Mask]:
    """Return in which clusters the cells (codes, -1 missing) differ, and in which two known ones do."""
    lowest, highest = clusters.extremes(codes)
    known = clusters.extremes(np.where(codes < 0, np.iinfo(np.intp).max, codes))[0]
    differ = lowest < highest
    return differ, differ & (known < highest)


def _moderators(frame: pd.DataFrame, clusters: Clusters) -> tuple[pd.DataFrame, dict[str, int]]:
    varying = {}
    columns: dict[Any, Any] = {}
    for name in frame.columns:
        column = frame[name]
        differ, clash = _uneven(_codes(column), clusters)
        one = column.iloc[clusters.first].reset_index(drop=True)
        if differ.any():
            varying[str(name)] = int(differ.sum())
            one = _blanked(one, differ, clash)
        columns[name] = one
    return pd.DataFrame(columns, index=range(clusters.n)), varying


def _blanked(column: pd.Series[Any], differ: Mask, clash: Mask) -> pd.Series[Any]:
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return _blanked(column.astype(object), differ, clash)
    if pd.api.types.is_bool_dtype(kind):
        return column.astype("boolean").mask(differ)
    if pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        return column.mask(differ)
    return column.mask(differ).mask(clash, MIXED)


def _study_ids(effects: EffectSizes, clusters: Clusters) -> tuple[str, ...]:
    differ = _uneven(_codes(effects.study_id), clusters)[0]
    return tuple(
        clusters.labels[c] if differ[c] else effects.study_id[int(row)] for c, row in enumerate(clusters.first)
    )


def _labels(effects: EffectSizes, clusters: Clusters) -> tuple[str, ...]:
    """Return the label of each cluster: that of its only row, or what its rows share, or the study, or the cluster."""
    bare = [effects.slab[i] if clusters.sizes[c] == 1 else _bare(effects.slab[i]) for i, c in enumerate(clusters.codes)]
    no_label = _uneven(_codes(bare), clusters)[0]
    no_study = _uneven(_codes(effects.study_id), clusters)[0]
    out = []
    for c, row in enumerate(clusters.first):
        own = effects.study_id[int(row)] if not no_study[c] else clusters.labels[c]
        out.append(own if no_label[c] else bare[int(row)])
    return tuple(out)


def _bare(label: str) -> str:
    match = LETTERED.match(label)
    return next(part for part in match.groups() if part is not None) if match else label
