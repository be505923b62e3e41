"""Baujat plots: what each effect or study adds to the heterogeneity, against how far the result moves without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import Axes, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.names import looks, name_points
from alliance_meta.sensitivity.outliers.baujat import NEEDED, Baujat
from alliance_meta.tables.format import format_count

SIZE, PANEL = (5.8, 4.6), (3.2, 2.6)


def baujat_data(result: Baujat, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of a Baujat plot: one row per effect or study.

    Parameters
    ----------
    result : Baujat
        From `sensitivity.baujat`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: far (in the highest tenth on either axis) or near; ``label``, ``k`` effects; ``x``, the part of Q;
        ``y``, the squared standardised change of the result without it.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.baujat_data(sensitivity.baujat(fit))["kind"].value_counts().to_dict()
    {'near': 13, 'far': 3}
    """
    if not isinstance(result, Baujat):
        raise InputError(f"baujat_data needs the result of sensitivity.baujat, not {type(result).__name__}")
    drawn = np.isfinite(result.y)
    columns = zip(result.labels, result.sizes.tolist(), result.x.tolist(), result.y.tolist(), strict=True)
    rows = [
        {"kind": "far" if far else "near", "label": label, "k": k, "x": x, "y": y}
        for (label, k, x, y), far, known in zip(columns, result.far, drawn, strict=True)
        if known
    ]
    what = "study" if result.by == "study" else "effect"
    named = ", ".join([row["label"] for row in rows if row["kind"] == "far"][:5])
    far_off = f" Far off: {named}." if named else ""
    gone = [label for label, known in zip(result.labels, drawn, strict=True) if not known]
    lost = f"Not drawn: {', '.join(gone[:5])}; {NEEDED}"
    return chart_frame(
        "baujat", "Baujat plot", rows, result.provenance, notes=result.notes, title=title, show_cautions=show_cautions,
        said=f"Part of the heterogeneity and influence on the result, {format_count(len(rows))} points, "
        f"each {'a study' if what == 'study' else 'an effect'}.{far_off}",
        axis_label="Squared change of the result without it", x_label="Part of the heterogeneity statistic Q",
        key=[["mean", f"In the highest tenth on either axis ({what})"], ["dot", "Others"]],
        bottom=[lost] if gone else [],
    )  # fmt: skip


def baujat(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw which effects or studies make the heterogeneity, and which of these move the result.

    Points on the right lie far from the rest; points at the top move the result. Those in the highest tenth on either
    axis are named where there is room.

    Parameters
    ----------
    result_or_frame : Baujat or DataFrame
        From `sensitivity.baujat`, or a frame from `baujat_data`.
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
    >>> plots.baujat(sensitivity.baujat(fit)).plot_description
    "Part of the heterogeneity and influence on the result, 16 points, ... Far off: Jerant et al. 2011, Moran et ..."
    """
    frame = as_frame(result_or_frame, "baujat", baujat_data, data)
    with charting(frame, ax, *SIZE, least=PANEL if ax is None else None) as chart:
        for which in ("x", "y"):
            values = frame[which]
            chart.numbers(which, [0.0, 1.06 * float(values.max()) if len(values) else 1.0])
            chart.limits(which, -0.03 * max(float(values.max()), 1e-12) if len(values) else 0.0, _end(values))
        for kind, mark in (("near", "dot"), ("far", "mean")):
            part = frame[frame["kind"] == kind]
            chart.dots(part["x"], part["y"], mark, **looks(len(frame)))
        far = frame[frame["kind"] == "far"]
        name_points(chart, far, (far["x"] / _end(frame["x"])) ** 2 + (far["y"] / _end(frame["y"])) ** 2, frame)
    return chart.made


def _end(values: pd.Series) -> float:
    """Return where an axis ends."""
    return 1.08 * max(float(values.max()), 1e-12) if len(values) else 1.0
