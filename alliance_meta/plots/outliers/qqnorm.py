"""Normal quantile plots of residuals with a simulated envelope."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.names import looks, name_points
from alliance_meta.sensitivity.outliers.qqnorm import QQNorm
from alliance_meta.tables.format import fixed, format_count, format_level

SIZE, PANEL = (5.4, 5.0), (3.0, 2.8)
NAMES = {"rstandard": "Standardised residual", "rstudent": "Residual from the fit without it, standardised"}


def qqnorm_data(result: QQNorm, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a normal quantile plot: one row per residual, the lowest first.

    Parameters
    ----------
    result : QQNorm
        From `sensitivity.qqnorm`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: inside or outside (of the envelope); ``label``, ``x`` (normal quantile), ``y`` (residual), and the
        envelope at this rank, ``lower`` to ``upper``.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.qqnorm_data(sensitivity.qqnorm(fit, seed=1))
    >>> frame["kind"].value_counts().to_dict()
    {'inside': 16}
    """
    if not isinstance(result, QQNorm):
        raise InputError(f"qqnorm_data needs the result of sensitivity.qqnorm, not {type(result).__name__}")
    rows = [
        {"kind": "outside" if row.outside else "inside", "label": row.Index, "x": row.x, "y": row.y,
         "lower": row.lower, "upper": row.upper}
        for row in result.tidy().itertuples()
    ]  # fmt: skip
    text, n, lost = format_level(result.level), len(rows), int(result.outside.sum())
    said = (
        f"{format_count(lost)} of {format_count(n)} outside the envelope; as many or more in "
        f"{fixed(100.0 * result.outside_p, 0)}% of data sets from the model"
    )
    return chart_frame(
        "qqnorm", "Normal quantile plot", rows, result.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=f"Residuals by {result.by} against normal quantiles. {said}.",
        axis_label=NAMES[result.type], x_label="Normal quantile", level=result.level,
        key=[
            ["dot", f"{'Studies' if result.by == 'study' else 'Effects'}"],
            *([["mean", "Outside the envelope"]] if lost else []),
            ["pi", f"{text} of {format_count(result.iterations)} data sets from the model, at each rank"],
            ["hair", "Residuals as normal as the quantiles"],
        ],
        bottom=[said],
    )  # fmt: skip


def qqnorm(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw residuals against normal quantiles, with the band that data from the model fill.

    Points along the diagonal are as a normal distribution has them. Those outside the band are named where there is
    room.

    Parameters
    ----------
    result_or_frame : QQNorm or DataFrame
        From `sensitivity.qqnorm`, or a frame from `qqnorm_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.qqnorm(sensitivity.qqnorm(fit, seed=1)).plot_description
    'Residuals by effect against normal quantiles. 0 of 16 outside the envelope; as many or more in 100% of ...'
    """
    frame = as_frame(result_or_frame, "qqnorm", qqnorm_data, data)
    with charting(frame, ax, *SIZE, least=PANEL if ax is None else None) as chart:
        chart.numbers("x", frame["x"])
        chart.numbers("y", frame[["y", "lower", "upper"]])
        chart.area(frame["x"], frame["lower"], frame["upper"], "pi")
        ends = np.array([frame["x"].min(), frame["x"].max()])
        chart.line(ends, ends, "hair", zorder=2)
        for kind, mark in (("inside", "dot"), ("outside", "mean")):
            part = frame[frame["kind"] == kind]
            chart.dots(part["x"], part["y"], mark, **looks(len(frame)))
        out = frame[frame["kind"] == "outside"]
        name_points(chart, out, np.maximum(out["lower"] - out["y"], out["y"] - out["upper"]), frame)
    return chart.made
