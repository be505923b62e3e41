"""Figures of a report, drawn from the frames in `results.json` and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FOREST = "forest"


@dataclass(frozen=True, slots=True)
class Drawn:
    """One figure: as one SVG, as the pages that print shows, and as a picture."""

    whole: str
    pages: tuple[str, ...]
    png: bytes


def draw_figures(document: Mapping[str, Any]) -> dict[str, Drawn]:
    """Draw every figure of the document."""
    return {identifier: _draw(figure) for identifier, figure in document["figures"].items()}


def _draw(figure: Mapping[str, Any]) -> Drawn:
    from alliance_meta.plots import figure_bytes, frame_from_dict

    whole, pages = _figures(frame_from_dict(figure["frame"]))
    drawn = tuple(figure_bytes(page, format="svg").decode("utf-8") for page in pages)
    svg = drawn[0] if len(pages) == 1 else figure_bytes(whole, format="svg").decode("utf-8")
    return Drawn(whole=svg, pages=drawn, png=figure_bytes(whole, format="png"))


def _figures(frame: pd.DataFrame) -> tuple[Any, tuple[Any, ...]]:
    """Return the figure of a frame as one, and as its pages: the frame says what plot it is of."""
    from alliance_meta import plots

    name = frame.attrs["plot"]
    if name != FOREST:
        whole = getattr(plots, name)(frame)
        return whole, (whole,)
    pages = tuple(plots.forest_pages(frame))
    return pages[0] if len(pages) == 1 else plots.forest(frame), pages
