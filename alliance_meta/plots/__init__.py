"""Plots: each has a data twin, and matplotlib is loaded only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alliance_meta._lazy import lazy

if TYPE_CHECKING:
    from alliance_meta.plots.figures import figure_bytes as figure_bytes
    from alliance_meta.plots.figures import save_figure as save_figure
    from alliance_meta.plots.forest_plot import forest as forest
    from alliance_meta.plots.forest_plot import forest_pages as forest_pages
    from alliance_meta.plots.forest_rows import forest_data as forest_data
    from alliance_meta.plots.frame_json import frame_from_dict as frame_from_dict
    from alliance_meta.plots.frame_json import frame_to_dict as frame_to_dict
    from alliance_meta.plots.published_rows import published_forest_data as published_forest_data

_HOMES = {
    "figure_bytes": "figures",
    "forest": "forest_plot",
    "forest_data": "forest_rows",
    "forest_pages": "forest_plot",
    "frame_from_dict": "frame_json",
    "frame_to_dict": "frame_json",
    "published_forest_data": "published_rows",
    "save_figure": "figures",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy(__name__, _HOMES)
