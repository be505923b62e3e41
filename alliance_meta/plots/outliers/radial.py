"""Radial (Galbraith) plots, with rays that say where effects of a size lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SMALL, Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.measure import is_correlation, tick_labels, to_reader
from alliance_meta.plots.sheet.names import looks, name_points
from alliance_meta.sensitivity.outliers.radial import Radial
from alliance_meta.tables.format import format_count, format_level

SIZE, PANEL = (5.8, 4.8), (3.2, 2.8)
STEPS, MOST_RAYS = (0.05, 0.1, 0.2, 0.25, 0.5), 7
ROOM = 1.06


def radial_data(result: Radial, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a radial plot: points, the line of the mean with its band, and rays of round effects.

    Parameters
    ----------
    result : Radial
        From `sensitivity.radial`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: inside or outside (of the band), with ``label``, ``k`` effects, ``yi`` (and ``r``), ``x`` and ``y``;
        line (its two ends, ``y`` with the band ``lb`` to ``ub``); ray (its end; the label says which effect it is).

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.radial_data(sensitivity.radial(fit))
    >>> frame.loc[frame["kind"] == "ray", "label"].tolist()
    ['−.1', '0', '.1', '.2', '.3', '.4']
    """
    if not isinstance(result, Radial):
        raise InputError(f"radial_data needs the result of sensitivity.radial, not {type(result).__name__}")
    rows = [
        {"kind": "outside" if row.pop("outside") else "inside", **row, **_both(row["yi"], result.measure)}
        for row in result.tidy().reset_index().to_dict("records")
    ]
    end, half = ROOM * float(result.x.max()), critical_value(result.level, None)
    for x in (0.0, end):
        y = result.estimate * x
        rows.append({"kind": "line", "x": x, "y": y, "lb": y - half, "ub": y + half})
    rows += _rays(result, end)
    text, lost, n = format_level(result.level), int(result.outside.sum()), len(result.labels)
    own = parts.estimate(result.measure, result.estimate, result.ci_lb, result.ci_ub)
    mean = f"Mean effect {parts.effect_text(result.measure, own)}"
    said = f"{mean}; {format_count(lost)} of {format_count(n)} outside the band"
    what = "studies" if result.by == "study" else "effects"
    return chart_frame(
        "radial", "Radial plot", rows, result.provenance, notes=result.notes, title=title, show_cautions=show_cautions,
        said=f"Radial plot of {format_count(n)} {what}. {said}.",
        axis_label="Effect in standard deviations", x_label="Precision (1 / standard deviation under the model)",
        level=result.level, measure=result.measure,
        key=[
            ["dot", what.capitalize()], *([["mean", "Outside the band"]] if lost else []),
            ["line", "Mean effect"], ["pi", f"{text} band of {what}"],
            ["zero", f"Rays: {'r' if is_correlation(result.measure) else 'effects'} of the size at their end"],
        ],
        bottom=[said],
    )  # fmt: skip


def _both(yi: float, measure: str) -> dict[str, float]:
    return {"yi": yi, **({"r": float(to_reader(yi, measure))} if is_correlation(measure) else {})}


def _rays(result: Radial, end: float) -> list[dict[str, Any]]:
    """Return the ends of rays of round effects that span those of the points."""
    effects = result.y / result.x
    low, high = (float(to_reader(one, result.measure)) for one in (effects.min(), effects.max()))
    scale = 1.0 if is_correlation(result.measure) else 10.0 ** math.ceil(math.log10(max(high - low, 1e-300)))
    step = next((s * scale for s in STEPS if (high - low) / (s * scale) < MOST_RAYS), scale)
    values = step * np.arange(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    if is_correlation(result.measure):
        values = values[np.abs(values) < 0.995]
    labels = tick_labels(values, leading_zero=not is_correlation(result.measure))
    slopes = np.arctanh(values) if result.measure == "ZCOR" else values
    return [
        {"kind": "ray", "label": label, "x": end, "y": float(slope * end), **_both(float(slope), result.measure)}
        for label, slope in zip(labels, slopes, strict=True)
    ]


def radial(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw effects in units of their standard deviation against their precision.

    The slope of the line is the mean effect. Points outside the band do not fit the model, and are named where there
    is room. A ray from the origin holds effects of one size.

    Parameters
    ----------
    result_or_frame : Radial or DataFrame
        From `sensitivity.radial`, or a frame from `radial_data`.
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
    >>> plots.radial(sensitivity.radial(fit)).plot_description
    'Radial plot of 16 effects. Mean effect .15 [.08, .22]; 0 of 16 outside the band.'
    """
    frame = as_frame(result_or_frame, "radial", radial_data, data)
    line, rays = (frame[frame["kind"] == kind] for kind in ("line", "ray"))
    points = frame[frame["kind"].isin(("inside", "outside"))]
    end = float(line["x"].max())
    with charting(frame, ax, *SIZE, least=PANEL if ax is None else None) as chart:
        chart.numbers("x", [], (0.0, end))
        chart.numbers("y", np.concatenate([points["y"], line["lb"], line["ub"], rays["y"]]))
        chart.area(line["x"], line["lb"], line["ub"], "pi")
        for label, x, y in zip(rays["label"], rays["x"], rays["y"], strict=True):
            chart.line([0.0, x], [0.0, y], "zero", zorder=1)
            base = chart.moved(0.05, 0.0, chart.ax.transData)
            chart.words(x, y, label, base, va="center", fontsize=SMALL)
        chart.line(line["x"], line["y"], "line", zorder=3)
        for kind, mark in (("inside", "dot"), ("outside", "mean")):
            part = points[points["kind"] == kind]
            chart.dots(part["x"], part["y"], mark, **looks(len(points)))
        out = points[points["kind"] == "outside"]
        name_points(chart, out, (out["y"] - out["x"] * float(line["y"].iloc[-1]) / end).abs(), points)
    return chart.made
