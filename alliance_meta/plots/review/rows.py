"""What plots of a whole sheet share: its rows, the study of each, their weights, and the heads of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.effects.studies import Named, row_studies
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.plots.sheet.chart import SIZE, SMALL, Chart, lettered
from alliance_meta.plots.sheet.measure import cut, text_width, wrap
from alliance_meta.results.fit import Fit


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a sheet.

    Attributes
    ----------
    frame : DataFrame
        Columns of the sheet.
    studies : tuple of str
        Study of each row.
    weights : ndarray or None
        Weight of each row in the fit, in percent; None without a fit, or where it has none.
    lines : sequence of int or None
        Line of each row in the file; None where it is not known.
    fit : Fit or None
        The model, if one was given.
    """

    frame: pd.DataFrame
    studies: tuple[str, ...]
    provenance: Provenance
    notes: tuple[Note, ...] = ()
    weights: Array | None = None
    lines: Sequence[int] | None = None
    fit: Fit | None = None

    def find(self, name: str, option: str) -> str:
        """Return the column of a name; ``rater`` stands for ``alliance_rater`` where only that is there.

        Raises
        ------
        InputError
            If there is none.
        """
        known = [str(column) for column in self.frame.columns]
        for candidate in (name, f"alliance_{name}", name.removeprefix("alliance_")):
            if candidate in known:
                return candidate
        raise InputError(
            f"{option}: no column {name!r}{did_you_mean(str(name), known) or '.'} Columns: {', '.join(known) or 'none'}"
        )


def rows_of(source: Any, plot: str) -> Rows:
    """Return the rows of a table, of effects, of a fit's effects or of a data frame.

    Raises
    ------
    InputError
        If `source` is none of these, or has no row.
    """
    if isinstance(source, Fit):
        found = rows_of(source.effects, plot)
        return Rows(found.frame, found.studies, found.provenance, source.notes, _weights(source), None, source)
    if isinstance(source, EffectSizes):
        frame = source.moderators.reset_index(drop=True)
        return Rows(frame, tuple(map(str, source.study_id)), source.provenance, source.notes)
    if isinstance(source, pd.DataFrame):
        source = CodedTable(source, Provenance("data frame"))
    if not isinstance(source, CodedTable):
        kind = type(source).__name__
        raise InputError(f"{plot} needs a table, effects, a fit or a data frame of one row per effect, not {kind}")
    if not source.k:
        raise InputError(f"{plot}: {source.provenance.source} has no row")
    frame = source.frame
    lines = frame.index if frame.index.name == "line" else np.arange(len(frame)) + 2
    frame, studies, notes = row_studies(frame, Named(), list(lines), source.provenance.source)
    notes = [*source.notes, *notes]
    return Rows(frame.reset_index(drop=True), studies, source.provenance, tuple(notes), lines=list(map(int, lines)))


def _weights(fit: Fit) -> Array | None:
    try:
        weights = np.asarray(getattr(fit, "weights", None), dtype=float)
    except (InputError, TypeError, ValueError):
        return None
    return weights if weights.shape == (fit.effects.k,) and np.isfinite(weights).all() else None


def joined(texts: Sequence[str], most: int) -> str:
    """Join texts that may hold commas, the first `most` of many."""
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more


LONGEST, MOST_LINES = 1.7, 3


def heads(chart: Chart, names: Sequence[str], pitch: float, label: str = "") -> None:
    """Write names above columns that are `pitch` inches apart: across where all have room, else upwards.

    `label` says over them what they are.
    """
    ax, room = chart.ax, pitch - 0.08
    across = [wrap(name, SMALL, room) for name in names]
    flat = all(len(one) <= MOST_LINES and all(text_width(line, SMALL) <= room for line in one) for one in across)
    upwards = [tuple(cut(line, SMALL, LONGEST) for line in _two(wrap(name, SMALL, LONGEST))) for name in names]
    texts = ["\n".join(lines) for lines in (across if flat else upwards)]
    ax.xaxis.tick_top()
    ax.xaxis.set_ticks(
        np.arange(len(names)), texts, fontsize=SMALL, rotation=0 if flat else 90, va="bottom", ha="center"
    )
    ax.tick_params(axis="x", length=0.0, pad=4.0)
    for text in ax.get_xticklabels():
        lettered(text)
    ax.xaxis.set_label_position("top")
    ax.set_xlabel(label, labelpad=8.0)
    lettered(ax.xaxis.label, label, SIZE)
    chart.tick_lines = 0
    if chart.attrs["synthetic"]:
        chart.headroom = chart.overhang()[2]


def _two(lines: Sequence[str]) -> Sequence[str]:
    return [lines[0], " ".join(lines[1:])] if len(lines) > 1 else lines
