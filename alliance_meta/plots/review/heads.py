"""The names of columns above a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alliance_meta.plots.sheet.chart import SIZE, SMALL, Chart, lettered
from alliance_meta.plots.sheet.measure import cut, text_width, wrap

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
