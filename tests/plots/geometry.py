"""Where texts stand in a drawn figure."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from alliance_meta.plots.sheet.figures import Lettering


def texts(figure: Figure) -> list[Text]:
    """Return the texts that are drawn, those of ticks and keys included."""
    return [text for ax in panels(figure) for text in _texts(ax) if text.get_visible() and text.get_text()]


def words(ax: Axes) -> list[Text]:
    """Return the texts of one axes."""
    return list(_texts(ax))


def panels(figure: Figure) -> list[Axes]:
    """Return the axes of a figure and those inside them."""
    return [one for ax in figure.axes for one in (ax, *ax.child_axes) if one.get_visible()]


def _texts(ax: Axes) -> Iterator[Text]:
    yield from ax.texts
    for one in ax.get_children():
        yield from one.as_texts() if isinstance(one, Lettering) else ()
    legend = ax.get_legend()
    yield from legend.get_texts() if legend is not None else ()
    yield from (ax.title, ax._left_title, ax._right_title)  # type: ignore[attr-defined]
    if not ax.axison:
        return
    for axis in (ax.xaxis, ax.yaxis):
        yield axis.label
        lo, hi = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if lo <= tick.get_loc() <= hi:
                yield from (label for label in (tick.label1, tick.label2) if label.get_visible())


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
