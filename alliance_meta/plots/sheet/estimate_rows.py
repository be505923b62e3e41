"""Estimates one below the other, of any result or of a `Panel`, and why others are not given."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SIZE, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import EFFECT, chart_frame, counted, estimate_key, with_r
from alliance_meta.plots.sheet.measure import POINTS_PER_INCH, is_correlation, line_height, text_width, wrap
from alliance_meta.tables.format import format_count, format_level

if TYPE_CHECKING:
    from alliance_meta.results.panel import Panel

PANEL = 3.2
WIDEST_LABEL = 2.4
PITCH = 0.27
COLUMN_GAP = 0.2
# Intervals so many times as wide as the median one do not widen the axis, but end in an arrow.
WIDE = 4.0


def draw_rows(
    frame: pd.DataFrame,
    ax: Axes | None,
    xlim: Limits | None,
    within: Any = None,
    *,
    pitch: float = PITCH,
    widest: float = WIDEST_LABEL,
    draw: Callable[[Chart], None] | None = None,
) -> Drawn:
    """Draw a frame with ``label k`` and estimates: the dot is the estimate, thick its CI, thin its PI.

    The axis has room for the effects `within`, by default for all. Rows are at least `pitch` inches apart, labels at
    most `widest` wide, and `draw` draws what is to stand in place of the estimates, or with them. A column ``text``
    stands in place of numbers where it is not empty, rows of the kind ``heading`` are bold, and ``attrs["counts"]``
    names the columns of counts.
    """
    labels = [wrap(str(label), SIZE, widest) for label in frame["label"]]
    lowest = max(0.5 * pitch, line_height(SIZE))
    pitch = max(pitch, max(map(len, labels)) * line_height(SIZE) + 0.08)
    least = (PANEL if ax is None else 1.0, len(frame) * (pitch if ax is None else lowest))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        chart.effects("x", frame[list(EFFECT)] if within is None else within, xlim)
        chart.limits("y", len(frame) - 0.5, -0.5)
        reference(chart)
        if draw is None:
            chart.estimates("x", frame, np.arange(len(frame)))
        else:
            draw(chart)
        _names(chart, ["\n".join(one) for one in labels], bold=_headings(frame))
        _columns(chart, frame)
    return chart.made


def usual(frame: pd.DataFrame) -> Any:
    """Return the effects that an axis has room for: all but very wide intervals and what is far from the others."""
    found = []
    for lower, upper in (("pi_lb", "pi_ub"), ("ci_lb", "ci_ub")):
        width = frame[upper] - frame[lower]
        wide = width > WIDE * width.median()
        found.append(frame.loc[~wide, [lower, upper]].to_numpy().ravel())
    near = np.concatenate([*found, frame.loc[~wide, "yi"], [0.0]])
    lo, hi = np.nanmin(near), np.nanmax(near)
    far = frame.loc[wide, "yi"]
    return np.append(near, far[(far - lo > 2.0 * (lo - hi)) & (far - hi < 2.0 * (hi - lo))])


def reference(chart: Chart) -> None:
    """Draw the line of no effect and, where the frame has one, an estimate with its interval to compare with."""
    chart.zero("x")
    if "reference" in chart.attrs:
        estimate, lb, ub = chart.shown(chart.attrs["reference"])
        chart.span("x", lb, ub, "pi")
        chart.rule("x", estimate, "dashed", linestyle="solid")


def _headings(frame: pd.DataFrame) -> list[bool]:
    return [kind == "heading" for kind in frame["kind"]]


def _names(chart: Chart, labels: list[str], *, bold: list[bool]) -> None:
    """Write the rows' names as the ticks of the vertical axis, and over them what they are."""
    ax = chart.ax
    chart.names("y", labels)
    for label, heavy in zip(ax.get_yticklabels(), bold, strict=True):
        if heavy:
            label.set_fontweight("bold")
            lettered(label)
    ax.tick_params(axis="y", length=0.0, pad=6.0)
    ax.spines["left"].set_visible(False)
    chart.name_above_rows()


def _counted(value: Any) -> str:
    return value if isinstance(value, str) else format_count(value) if value == value else ""


def _columns(chart: Chart, frame: pd.DataFrame) -> None:
    """Write the counts, the estimates and the letters of each row at the right of the panel."""
    measure, heavy = chart.measure, _headings(frame)
    estimates = [
        row.get("text") or parts.effect_text(measure, {str(n): v for n, v in row.items()})
        for row in frame.to_dict("records")
    ]
    default = f"{'r' if is_correlation(measure) else 'Effect'} [{format_level(chart.attrs['level'])} CI]"
    counts = chart.attrs.get("counts", {"k": "k"})
    columns = {
        **{head: [_counted(k) for k in frame[name]] for name, head in counts.items()},
        chart.attrs.get("value_label", default): estimates,
        "": frame["letters"].tolist() if "letters" in frame else [],
    }
    chart.headroom = line_height(SIZE)
    x = COLUMN_GAP
    for header, cells in columns.items():
        if not any(cells):
            continue
        width = max(
            text_width(text, SIZE, bold=one) for text, one in zip((header, *cells), (False, *heavy), strict=True)
        )
        side, at = ("right", x + width) if header in counts.values() else ("left", x)
        if header:
            chart.words(1.0, 1.0, header, chart.moved(at, 0.06), ha=side, va="bottom")
        for i, text in enumerate(cells):
            row = chart.ax.annotate(
                text, (1.0, i), (at * POINTS_PER_INCH, 0.0), xycoords=chart.ax.get_yaxis_transform(),
                textcoords="offset points", annotation_clip=True, ha=side, va="center", fontsize=SIZE,
                weight="bold" if heavy[i] else "normal",
            )  # fmt: skip
            lettered(row)
        x += width + COLUMN_GAP


# Intervals so many times as wide as the median one do not widen the axis, but end in an arrow.
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
