"""Where texts stand in a drawn figure."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[0].texts if text.get_text()]


def boxes(figure: Figure) -> np.ndarray:
    """Return x0, y0, x1, y1 of every text in inches, as the renderer measures it."""
    with matplotlib.rc_context({"text.hinting": "none"}):
        figure.draw_without_rendering()
        extents = [text.get_window_extent() for text in texts(figure)]
    return np.array([[b.x0, b.y0, b.x1, b.y1] for b in extents]) / figure.dpi


def overlapping(b: np.ndarray, slack: float = 0.004) -> list[tuple[int, int]]:
    """Return pairs of boxes that overlap by more than a hair in both directions."""
    wide = np.minimum(b[:, None, 2], b[None, :, 2]) - np.maximum(b[:, None, 0], b[None, :, 0])
    high = np.minimum(b[:, None, 3], b[None, :, 3]) - np.maximum(b[:, None, 1], b[None, :, 1])
    return [(int(i), int(j)) for i, j in np.argwhere((wide > slack) & (high > slack)) if i < j]
