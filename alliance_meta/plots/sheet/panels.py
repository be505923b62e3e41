"""The engine of plots of a `Panel`: its estimates one below the other, and under them why others are not given."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import chart_frame, counted, estimate_key, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.tables.format import format_level

if TYPE_CHECKING:
    import pandas as pd

    from alliance_meta.results.panel import Panel

# Intervals so many times as wide as the median one do not widen the axis, but end in an arrow.
WIDE = 4.0
MINUS = re.compile(r"(?<![\w.)])-(?=[\d.])")
PREDICTION = ["pi_lb", "pi_ub"]
NUMBERS = {"yi": "estimate", "ci_lb": "ci_lb", "ci_ub": "ci_ub", "pi_lb": "pi_lb", "pi_ub": "pi_ub"}


def panel_frame(
    panel: Panel,
    plot: str,
    *,
    texts: Callable[[Mapping[str, Any]], dict[str, str]],
    reference: str,
    words: Mapping[str, str],
    bottom: Iterable[str],
    title: str | None,
    show_cautions: bool,
) -> pd.DataFrame:
    """Return the frame of a plot of a panel: the rows that give a mean, and `bottom`, lines under the plot.

    `texts` gives the columns of text of a row, among them ``kind``; the first row of the kind `reference` is compared
    with. `words`: ``heading``, ``axis`` (what a row is), ``said`` (how the description begins, with {k}) and ``beside``
    (what the shaded band is).
    """
    rows = [_row(row, texts(row), panel.measure) for row in panel.rows() if not row["why"]]
    own = next((row for row in rows if row["kind"] == reference), None)
    level = format_level(panel.level)
    below = [MINUS.sub("−", text) for text in bottom]
    said = "; ".join(f"{row['label']} {parts.effect_text(panel.measure, row)}" for row in rows)
    key = estimate_key("Mean effect", f"{level} CI", rows, level)
    begun = words["said"].format(k=counted(panel.k))
    return chart_frame(
        plot, words["heading"], rows, panel.provenance, notes=panel.notes, title=title, show_cautions=show_cautions,
        said=f"{begun}: {said}. {below[0]}", measure=panel.measure, axis_label=words["axis"],
        x_label=parts.axis_label(panel.measure), level=panel.level, model_label="",
        key=[*key, *([["pi", words["beside"]]] if own else [])], bottom=below,
        **({"reference": [own["yi"], own["ci_lb"], own["ci_ub"]]} if own else {}),
    )  # fmt: skip


def _row(row: Mapping[str, Any], texts: Mapping[str, str], measure: str) -> dict[str, Any]:
    names = {**NUMBERS, "k": "k", "studies": "studies"}
    values = {new: float(row[old]) if row.get(old) is not None else math.nan for new, old in names.items()}
    return with_r(measure, {**texts, "label": row["label"], **values})


def draw_panel(frame: pd.DataFrame, ax: Axes | None, xlim: Limits | None) -> Drawn:
    """Draw a frame of a panel; the axis has room for all but what is far from the other rows."""
    return draw_rows(frame, ax, xlim, _within(frame), widest=3.0)


def _within(frame: pd.DataFrame) -> Any:
    """Return the effects that the axis has room for: all but very wide intervals and what is far from the others.

    Of prediction intervals that of the first row.
    """
    width = frame["ci_ub"] - frame["ci_lb"]
    wide = width > WIDE * width.median()
    near = np.append(
        frame.loc[~wide, ["yi", "ci_lb", "ci_ub"]].to_numpy(), [0.0, *frame.loc[:0, PREDICTION].to_numpy().ravel()]
    )
    lo, hi = np.nanmin(near), np.nanmax(near)
    far = frame.loc[wide, "yi"]
    return np.append(near, far[(far - lo > 2.0 * (lo - hi)) & (far - hi < 2.0 * (hi - lo))])
