"""Forest plots: one figure for the screen, pages for print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.forests.draw import draw_page
from alliance_meta.plots.forests.frame import check_frame
from alliance_meta.plots.forests.layout import (
    AIRY,
    DENSE,
    MOST_ON_ONE_PAGE,
    NORMAL,
    WIDTH,
    Density,
    Layout,
    choose_density,
    count_rows,
    make_layout,
)
from alliance_meta.plots.forests.pages import Page, make_page, split_pages
from alliance_meta.plots.sheet.figures import NotebookFigure, Pages
from alliance_meta.plots.sheet.pen import set_inches, size_in_inches
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@overload
def forest(
    fit_or_frame: Any, *, ax: None = None, width: float = ..., xlim: tuple[float, float] | None = ...,
    smallest_effect: float | None = ..., **data: Any,
) -> NotebookFigure: ...  # fmt: skip
@overload
def forest(
    fit_or_frame: Any, *, ax: Axes, width: float = ..., xlim: tuple[float, float] | None = ...,
    smallest_effect: float | None = ..., **data: Any,
) -> Axes: ...  # fmt: skip
def forest(
    fit_or_frame: Any,
    *,
    ax: Axes | None = None,
    width: float = WIDTH,
    xlim: tuple[float, float] | None = None,
    smallest_effect: float | None = None,
    **data: Any,
) -> NotebookFigure | Axes:
    """Draw a forest plot: every study with its interval, and what they say together.

    Each square is one study, the larger the more it weighs; the line through it is its confidence interval.
    The diamond is the mean effect over studies with its interval, the bar below it the range in which the
    true effect of one new study is expected. Correlations analysed as Fisher z are placed on the z scale and
    labelled with r.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults, MultilevelResults, RobustResults, RVEResults or DataFrame
        A fitted model, or a frame from `forest_data` or `published_forest_data`. For dependent effects each study
        stands first, with its effects indented below it.
    ax : matplotlib Axes, optional
        Draw into this axes, whose ticks and frame are switched off. By default a figure of its own.
    width : float
        Least width in inches; the figure grows wider rather than letting text overlap.
    xlim : (float, float), optional
        Limits of the axis as its labels read, e.g. ``(-.2, .8)``. Intervals that leave them end in an arrow.
        By default the limits hold every interval, as far as |r| = .95.
    smallest_effect : float, optional
        Shade effects smaller than this, on the scale of the axis labels.
    **data
        Passed to `forest_data` when a fitted model is given: ``columns``, ``order``, ``by``, ``label``, ...

    Returns
    -------
    Figure or Axes
        A figure that shows itself in a notebook; the axes where `ax` was given.

    Raises
    ------
    InputError
        If `ax` is too small for text of 6.5 points, or an option is misspelt.

    See Also
    --------
    forest_data : the frame that is drawn, with every number.
    forest_pages : the same for print, where there are more rows than one page holds.
    save_figure : SVG, PDF and PNG files that are the same in every run.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> figure = plots.forest(RandomEffectsModel(es).fit())
    >>> figure.plot_description
    'Forest plot of 3 studies with confidence intervals at 95%. Pooled r = .29 [−.21, .67] (REML, HK). ...'
    """
    frame = as_frame(fit_or_frame, **data)
    if ax is not None:
        return _draw_into(ax, frame, xlim=xlim, smallest_effect=smallest_effect)
    layout = make_layout(frame, width=width, xlim=xlim)
    page = make_page(frame, layout, range(len(frame)))
    return _figure(frame, layout, page, smallest_effect)


def forest_pages(
    fit_or_frame: Any,
    *,
    width: float = WIDTH,
    xlim: tuple[float, float] | None = None,
    smallest_effect: float | None = None,
    **data: Any,
) -> Pages:
    """Draw a forest plot on pages for print: up to 64 rows each, all with the same columns and axis.

    Up to 47 rows it is one page. Above that the text is 6.5 points on every page, the header and the axis are
    repeated, a group that runs over a page says so, and the diamond stands on the last page.

    Parameters
    ----------
    fit_or_frame, width, xlim, smallest_effect, **data
        As in `forest`.

    Returns
    -------
    tuple of Figure
        A notebook shows the pages below each other.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit()
    >>> len(plots.forest_pages(fit, order="effect"))
    3
    """
    frame = as_frame(fit_or_frame, **data)
    layout = make_layout(frame, width=width, xlim=xlim)
    pages = split_pages(frame, layout) if count_rows(frame) > MOST_ON_ONE_PAGE else (tuple(range(len(frame))),)
    total = len(pages)
    figures = []
    for i, rows in enumerate(pages, start=1):
        number = (i, total) if total > 1 else None
        page = make_page(frame, layout, rows, number=number, last=i == total)
        figure = _figure(frame, layout, page, smallest_effect)
        if number is not None:
            figure.plot_title = f"{figure.plot_title}, page {i} of {total}"
        figures.append(figure)
    return Pages(figures)


def as_frame(fit_or_frame: Any, **data: Any) -> pd.DataFrame:
    """Return the drawing frame: the one given, or that of a fitted model."""
    if isinstance(fit_or_frame, pd.DataFrame):
        if data:
            raise InputError(f"{', '.join(data)}: give this to forest_data, which made the frame")
        check_frame(fit_or_frame)
        return fit_or_frame
    from alliance_meta.plots.forests.rows import forest_data

    return forest_data(fit_or_frame, **data)


def _figure(frame: pd.DataFrame, layout: Layout, page: Page, smallest_effect: float | None) -> NotebookFigure:
    figure = NotebookFigure.for_plot(layout.width, page.height, frame.attrs)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    set_inches(ax, layout.width, page.height)
    draw_page(ax, frame, layout, page, smallest_effect=smallest_effect)
    return figure


def _draw_into(
    ax: Axes, frame: pd.DataFrame, *, xlim: tuple[float, float] | None, smallest_effect: float | None
) -> Axes:
    """Draw at the loosest density that fits into `ax`; never with smaller text than the densest."""
    width, height = size_in_inches(ax)
    first = choose_density(count_rows(frame))
    for density in _densities_from(first):
        layout = make_layout(frame, width=width, xlim=xlim, density=density)
        page = make_page(frame, layout, range(len(frame)))
        if layout.width <= width + 1e-6 and page.height <= height + 1e-6:
            set_inches(ax, width, height)
            draw_page(ax, frame, layout, page, smallest_effect=smallest_effect)
            return ax
    raise InputError(
        f"ax is {fixed(width, 1)} x {fixed(height, 1)} in; this forest plot needs at least {fixed(layout.width, 1)} x "
        f"{fixed(page.height, 1)} in for text of {DENSE.size} points. Make the figure larger, or leave ax away"
    )


def _densities_from(first: Density) -> tuple[Density, ...]:
    order = (AIRY, NORMAL, DENSE)
    return order[order.index(first) :]
