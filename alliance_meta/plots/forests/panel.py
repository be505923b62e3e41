"""A forest on an axes of the user's, which becomes the panel of values; a sheet around it holds everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.scale import FuncScale
from matplotlib.transforms import Bbox

from alliance_meta.plots.forests.layout import Layout, Page
from alliance_meta.plots.forests.parts import effect_text, records
from alliance_meta.plots.sheet.chart import FisherScale
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.tables.format import format_number

if TYPE_CHECKING:
    import pandas as pd

# Draws the whole sheet on an axes, for the limits of the values given.
DrawSheet = Callable[[Axes, tuple[float, float]], None]


class Place:
    """Where the panel lies in the place that the axes had, as shares of it; matplotlib asks before it draws."""

    def __init__(self, base: Any, shares: tuple[float, float, float, float]) -> None:
        self.base, self.shares = base, shares

    def __call__(self, ax: Axes, renderer: Any) -> Bbox:
        """Return the place in the figure."""
        whole = whole_place(ax, self.base)
        left, low, width, height = self.shares
        x, y = whole.x0 + left * whole.width, whole.y0 + low * whole.height
        return Bbox.from_bounds(x, y, width * whole.width, height * whole.height)


def whole_place(ax: Axes, locator: Any) -> Bbox:
    """Return where an axes lies that `locator` places, or its figure."""
    return Bbox(ax.get_position(original=True) if locator is None else locator(ax, None))


def restore(ax: Axes) -> None:
    """Give an axes on which a forest stands its whole place back, so that another one can be drawn."""
    locator = ax.get_axes_locator()
    if isinstance(locator, Place):
        ax.set_axes_locator(locator.base)
        ax.apply_aspect(whole_place(ax, locator.base))


def rows_downwards(ax: Axes, page: Page) -> None:
    """Let row i of the frame stand at y = i, downwards, and stay there."""
    inches = [page.rule, *page.centres, page.axis]
    rows = [float(row) for row in range(-1, len(inches) - 1)]

    def down(row: Any) -> Any:
        return np.interp(row, rows, inches)

    def back(inch: Any) -> Any:
        return np.interp(inch, inches, rows)

    def keep(ax: Axes) -> None:
        ax.set_ylim(rows[-1], rows[0], emit=False)

    ax.set_yscale(FuncScale(ax.yaxis, (down, back)))
    keep(ax)
    ax.callbacks.connect("ylim_changed", keep)


class Sheet(Axes):
    """Columns of text, marks and ticks; drawn again where the axes of the panel has other limits."""

    panel: Axes
    draw_sheet: DrawSheet
    limits: tuple[float, float]

    def follow(self) -> None:
        """Draw everything for the limits that the panel has now."""
        self.limits = self.panel.get_xlim()
        self.clear()
        self.draw_sheet(self, self.limits)

    def draw(self, renderer: Any) -> None:
        """Draw the sheet as it is now."""
        if self.panel.get_xlim() != self.limits:
            self.follow()
        super().draw(renderer)


def become_panel(ax: Axes, layout: Layout, page: Page, size: tuple[float, float], draw: DrawSheet) -> None:
    """Make `ax` the panel of a forest on a sheet of `size` inches, in the units of the axis's labels."""
    (left, right), (width, height) = layout.panel, size
    x, w = left / width, (right - left) / width
    y, h = 1.0 - page.axis / height, (page.axis - page.rule) / height
    place = Place(ax.get_axes_locator(), (x, y, w, h))
    ax.set_axes_locator(place)  # type: ignore[arg-type]
    ax.apply_aspect(place(ax, None))
    ax.set_axis_off()
    if layout.axis.measure == "ZCOR":
        ax.set_xscale(FisherScale(ax.xaxis))
    rows_downwards(ax, page)
    ax.set_xlim(*(to_reader(end, layout.axis.measure) for end in (layout.axis.lo, layout.axis.hi)))
    # A title belongs over the whole sheet; matplotlib itself lifts it above axes inside.
    ax.title.set_x((0.5 - x) / w)
    sheet = ax.inset_axes((-x / w, -y / h, 1.0 / w, 1.0 / h), axes_class=Sheet)
    assert isinstance(sheet, Sheet)
    sheet.panel, sheet.draw_sheet = ax, draw
    sheet.follow()


# Rows of what was found; groups and summaries speak of these.
FOUND = ("study", "effect")


def page_said(frame: pd.DataFrame, rows: Sequence[int], number: tuple[int, int]) -> str:
    """Return the text alternative of one page: that of the whole plot, and what is on this page."""
    measure = str(frame.attrs["measure"])
    own = [row for row in records(frame.iloc[list(rows)]) if row["kind"] in FOUND]
    said = f"{frame.attrs['description']} Page {number[0]} of {number[1]}"
    if not own:
        return f"{said}: summaries."
    first, last = (f"{_named(row)} {row['text'] or effect_text(measure, row)}" for row in (own[0], own[-1]))
    correlation = is_correlation(measure)
    values = [one for row in own if math.isfinite(one := row["r" if correlation else "yi"])]
    ends = [format_number(end, leading_zero=not correlation) for end in (min(values), max(values))] if values else []
    between = f" between {' and '.join(ends)}" if ends else ""
    return f"{said}: {len(own)} results{between}, from {first} to {last}."


def _named(row: dict[str, Any]) -> str:
    """Return the label of a result, with its study before that of one of several."""
    return f"{row['group']}, {row['label']}" if row["kind"] == "effect" and row["group"] else str(row["label"])
