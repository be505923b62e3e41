"""How a forest looks in a journal: frozen data, by the names of the option `layout`, and what is left out there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.sheet.measure import GREY, INK, PREDICTION, SUMMARY, is_correlation
from alliance_meta.tables.format import format_number, format_percent

LayoutName = Literal["default", "apa", "bmj", "jama"]
Prediction = Literal["bar", "line", "density"]
Directions = Sequence[str] | None
KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Style:
    """Colours, sizes and words of one layout.

    Attributes
    ----------
    header : str
        Over the studies, in place of "Study".
    bold : tuple of str
        Kinds of rows that are bold.
    panel : float
        Least width of the panel, in inches.
    square_share : float
        Side of the largest square, as a share of a row.
    least : float
        Smallest text, in points.
    below : float
        By how many points the text under the plot is smaller.
    blanks : bool
        Whether blank rows part the groups.
    without : tuple of str
        How parts of the lines under the plot begin that are left out.
    coloured : bool
        Whether judgements of bias are coloured beside having letters.
    """

    square: str = "#3f6c9e"
    summary: str = SUMMARY
    subgroup: str = "#a9c3de"
    edge: str = SUMMARY
    outline: str = "none"
    fitted: str = "#d5d5d5"
    prediction: str = PREDICTION
    band: str = "#eef1e6"
    header: str = "Study"
    bold: tuple[str, ...] = ("heading", "summary")
    panel: float = 0.0
    square_share: float = 0.8
    least: float = 6.5
    below: float = 0.0
    blanks: bool = True
    without: tuple[str, ...] = ()
    coloured: bool = True


STYLES: dict[str, Style] = {
    "default": Style(),
    "apa": Style(
        square=INK, summary=INK, subgroup="white", edge=INK, prediction=GREY, band="#efefef", least=8.0,
        coloured=False,
    ),
    "bmj": Style(
        square="#2a6ebb", summary="#2a6ebb", subgroup="#2a6ebb", edge="#2a6ebb", bold=("heading",), panel=3.15,
        square_share=0.9, below=1.0,
    ),
    "jama": Style(
        square="#00008b", summary="#add8e6", subgroup="#add8e6", edge=INK, outline=INK, prediction="white",
        header="Source", panel=3.15, blanks=False, without=("τ", "σ"),
    ),
}  # fmt: skip


def style_of(frame: pd.DataFrame) -> Style:
    """Return how the frame is drawn."""
    return STYLES[frame.attrs["layout"]]


def styled(
    frame: pd.DataFrame,
    *,
    layout: LayoutName,
    prediction: Prediction | Literal[False],
    direction: Directions | Literal["known"],
    smallest_effect: float | None,
) -> pd.DataFrame:
    """Return the frame as it is drawn: with the options in its ``.attrs``, and without rows that a layout leaves out.

    Raises
    ------
    InputError
        An unknown option, or a density of an interval that is not symmetric.
    """
    check_option("layout", layout, LayoutName)
    if prediction is not False:
        check_option("prediction", prediction, Prediction)
    style = STYLES[layout]
    gone = [*(() if style.blanks else ("blank",)), *(("prediction",) if prediction is False else ())]
    kept = ~frame["kind"].isin(gone)
    out = frame[kept].reset_index(drop=True)
    out.attrs = {**frame.attrs, "layout": layout, "prediction": prediction or None}
    if out.attrs["label_header"].startswith("Study"):
        out.attrs["label_header"] = style.header + out.attrs["label_header"].removeprefix("Study")
    if direction != KNOWN:
        out.attrs["direction"] = _checked(direction)
    out.attrs["bottom"] = [line for line in (_without(line, style.without) for line in frame.attrs["bottom"]) if line]
    if smallest_effect is not None:
        out.attrs["bottom"].append(_band_line(out.attrs, smallest_effect))
    if prediction == "density" and (out["kind"] == "prediction").any():
        _check_symmetry(out)
        out.attrs["bottom"].append(_density_line(out.attrs["level"]))
    return out


def _checked(direction: Any) -> list[str] | None:
    if direction is None:
        return None
    if isinstance(direction, str) or len(direction) != 2 or not all(isinstance(word, str) for word in direction):
        raise InputError(f"direction={direction!r} must be the words for the left and for the right, or None")
    return [" ".join(word.split()) for word in direction]


def _without(line: str, left_out: Sequence[str]) -> str:
    """Return a line under the plot without the parts that a layout leaves out."""
    name, colon, rest = line.partition(": ")
    if not colon or not left_out:
        return line
    parts = [part for part in rest.split("; ") if not part.startswith(tuple(left_out))]
    return f"{name}: {'; '.join(parts)}" if parts else ""


def _band_line(attrs: dict[Any, Any], smallest: float) -> str:
    correlation = is_correlation(attrs["measure"])
    value = format_number(smallest, leading_zero=not correlation)
    return f"Shaded: {'correlations' if correlation else 'effects'} within ±{value}, too small to matter"


def _density_line(level: float) -> str:
    low = (1.0 - level) / 2.0
    ends = f"{format_percent(100 * low)} and {format_percent(100 * (1 - low))}"
    return f"Curve: the normal density whose quantiles at {ends} are the limits of the prediction interval"


SYMMETRIC = 0.02


def _check_symmetry(frame: pd.DataFrame) -> None:
    means = frame[frame["kind"] == "summary"]
    for (_, mean), (_, new) in zip(means.iterrows(), frame[frame["kind"] == "prediction"].iterrows(), strict=False):
        below, above = mean["yi"] - new["pi_lb"], new["pi_ub"] - mean["yi"]
        if abs(below - above) > SYMMETRIC * (below + above):
            raise InputError(
                "prediction='density' draws a normal curve, and this prediction interval is not symmetric about the "
                "mean; use prediction='bar' or 'line'"
            )
