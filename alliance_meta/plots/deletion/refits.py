"""Forests of the result without each effect or study, and of the result of the effects so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.forests.plot import forest
from alliance_meta.plots.forests.refitted import cumulative_data, leave_one_out_data
from alliance_meta.plots.sheet.chart import Axes
from alliance_meta.plots.sheet.figures import NotebookFigure


def leave_one_out(
    result_or_frame: Any, *, ax: Axes | None = None, xlim: tuple[float, float] | None = None, **data: Any
) -> NotebookFigure | Axes:
    """Draw the result without each effect or study, one below the other.

    Rows in one line with the diamond say that no single study makes the result. A row far off names the study on
    which it rests. Beside each: p, τ², I² and the prediction interval without it.

    Parameters
    ----------
    result_or_frame : Refits or DataFrame
        From `sensitivity.leave_one_out`, or a frame from `leave_one_out_data`.
    ax, xlim
        As in `forest`; `forest_pages` draws the frame on pages.
    **data
        As in `leave_one_out_data`.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.leave_one_out(sensitivity.leave_one_out(fit)).plot_description
    "Mean effect without each of 16: all effects .15 [.08, .22]; lowest .13 [.07, .20] without ..."
    """
    return _draw(result_or_frame, leave_one_out_data, ax, xlim, data)


def cumulative(
    result_or_frame: Any, *, ax: Axes | None = None, xlim: tuple[float, float] | None = None, **data: Any
) -> NotebookFigure | Axes:
    """Draw the result of the effects so far, one step below the other.

    Rows that move no more say since when the answer stands; an interval that had left 0 and came back says that an
    early answer was too sure.

    Parameters
    ----------
    result_or_frame : Refits or DataFrame
        From `sensitivity.cumulative`, or a frame from `cumulative_data`.
    ax, xlim, **data
        As in `leave_one_out`.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.cumulative(sensitivity.cumulative(fit)).plot_description
    'Mean effect up to each of 12 steps by year: all effects .15 [.08, .22]; lowest .08 [−.36, .50] up to 1997; ...'
    """
    return _draw(result_or_frame, cumulative_data, ax, xlim, data)


def _draw(
    source: Any, make: Callable[..., pd.DataFrame], ax: Axes | None, xlim: Any, data: dict[str, Any]
) -> NotebookFigure | Axes:
    if isinstance(source, pd.DataFrame) and data:
        raise InputError(f"{', '.join(data)}: give this to {make.__name__}, which made the frame")
    frame = source if isinstance(source, pd.DataFrame) else make(source, **data)
    return forest(frame, xlim=xlim) if ax is None else forest(frame, ax=ax, xlim=xlim)
