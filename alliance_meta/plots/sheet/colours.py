"""Colours of all plots, and the label that synthetic data must carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1a1a1a"
SUMMARY = "#14304f"
PREDICTION = "#6f8fb3"
GREY = "#8c8c8c"
FAINT = "#c9c9c9"
WARNING = "#9b1c1c"

SYNTHETIC = "SYNTHETIC DATA"
SYNTHETIC_REST = "made up for teaching; not evidence"


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of `ax`."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi
