"""Figures of a report, drawn from the frames in `results.json` and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    from alliance_meta.plots import figure_bytes, forest, forest_pages, frame_from_dict

    frame = frame_from_dict(figure["frame"])
    pages = forest_pages(frame)
    drawn = tuple(figure_bytes(page, format="svg").decode("utf-8") for page in pages)
    whole = pages[0] if len(pages) == 1 else forest(frame)
    svg = drawn[0] if len(pages) == 1 else figure_bytes(whole, format="svg").decode("utf-8")
    return Drawn(whole=svg, pages=drawn, png=figure_bytes(whole, format="png"))
