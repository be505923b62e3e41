"""What each effect or study does to the result: eight measures of influence, one panel each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import SMALL, Axes, Chart, Drawn, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted
from alliance_meta.plots.sheet.measure import size_in_inches
from alliance_meta.plots.sheet.names import name_points
from alliance_meta.sensitivity.deletion.influences import MEASURES, Influence
from alliance_meta.tables.format import fixed, format_count

TITLES = {
    "rstudent": "Deletion residual (rstudent)",
    "dffits": "DFFITS",
    "cook_d": "Cook's distance",
    "cov_r": "Covariance ratio",
    "tau2_del": "τ² without it",
    "QE_del": "Q without it",
    "hat": "Leverage (hat)",
    "weight": "Weight (%)",
}
# Width and height of a panel in inches, and the least in a user's axes.
PANEL, SMALLEST = (3.0, 1.15), (1.4, 0.5)
LEFT, HEAD, TAIL, GAP = 0.55, 0.28, 0.34, 0.6
# Beyond so many units the line from point to point is left away.
NUMBERED = 40
MOST_NAMED = 12
TAIL_P = 1.96


def influence_data(result: Influence, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of the influence plot: one row per measure and unit, and one per line drawn.

    Parameters
    ----------
    result : Influence
        From `sensitivity.influence`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: unit, flagged (a unit that is), all (the value with nothing left out), cutoff; ``measure`` (as in
        ``result.tidy()``), ``label``, ``position`` (1, 2, ...) and ``value``. A measure that the model does not have
        has no values.

    Raises
    ------
    InputError
        Another kind of result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit()
    >>> frame = plots.influence_data(sensitivity.influence(fit))
    >>> frame[frame["measure"] == "cook_d"]["kind"].value_counts().to_dict()
    {'unit': 158, 'flagged': 2, 'cutoff': 1}
    """
    if not isinstance(result, Influence):
        raise InputError(f"influence_data needs the result of sensitivity.influence, not {type(result).__name__}")
    table, fit = result.tidy(), result.fit
    rows = [
        {"kind": "flagged" if hit else "unit", "measure": name, "label": label, "position": i + 1, "value": float(x)}
        for name in MEASURES
        for i, (label, hit, x) in enumerate(zip(table["label"], table["influential"], table[name], strict=True))
    ]
    rows += _lines(result)
    origin = fit.effects.provenance
    flagged = [f"{i + 1} {label}" for i, label in enumerate(result.labels) if result.influential[i]]
    more = f" and {len(flagged) - MOST_NAMED} more" if len(flagged) > MOST_NAMED else ""
    listed = "; ".join(flagged[:MOST_NAMED]) + more
    top = int(np.nanargmax(result.cook_d)) if np.isfinite(result.cook_d).any() else None
    largest = ""
    if top is not None:
        largest = f" The largest Cook's distance, {fixed(result.cook_d[top], 2)}: {result.labels[top]}."
    units = (
        counted(len(result.labels))
        if result.by == "effect"
        else f"{format_count(len(result.labels))} values of {result.by}"
    )
    return chart_frame(
        "influence", "Influence", rows, origin, notes=result.notes, title=title, show_cautions=show_cautions,
        said=f"Eight measures of influence of {units}; {len(flagged)} flagged.{largest}",
        measure="GEN", axis_label="", x_label="", level=fit.level, model_label=fit.model_label,
        key=[["dot", result.by.capitalize()], ["flagged", "Flagged as influential"], ["dashed", "Cut-off"],
             ["zero", "Nothing left out; 0 or 1"]],
        bottom=[
            f"{units}, numbered as in tidy(); {fit.model_label}",
            f"Flagged: {listed}" if flagged else "None is flagged",
        ],
    )  # fmt: skip


def _lines(result: Influence) -> list[dict[str, Any]]:
    """Return the lines of each panel: cut-offs, and what holds with nothing left out."""
    fit, cut = result.fit, result.cutoffs
    J = len(result.labels)
    found = {
        "rstudent": [("all", 0.0), ("cutoff", -TAIL_P), ("cutoff", TAIL_P)],
        "dffits": [("all", 0.0), ("cutoff", -cut["dffits"]), ("cutoff", cut["dffits"])],
        "cook_d": [("cutoff", cut["cook_d"])],
        "cov_r": [("all", 1.0)],
        "tau2_del": [("all", _number(fit.tau2))],
        "QE_del": [("all", _number(fit.QE))],
        "hat": [("all", len(result.names) / J), ("cutoff", cut["hat"])],
        "weight": [("all", 100.0 / J)],
    }
    return [
        {"kind": kind, "measure": name, "value": value}
        for name, lines in found.items()
        for kind, value in lines
        if np.isfinite(value)
    ]


def _number(value: Any) -> float:
    values = np.ravel(np.asarray(value, dtype=float))
    return float(values[0]) if np.ptp(values) == 0 else float("nan")


def influence(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw eight measures of influence, one panel each, one point for each effect or study left out.

    Look for points that stand alone. Beyond the dashed lines a point is far off by the usual conventions; one in fifty
    effects or so is, without anything being wrong. In the panels of τ² and Q the line is the value with nothing left
    out: a study whose point lies far below it makes much of the heterogeneity.

    Parameters
    ----------
    result_or_frame : Influence or DataFrame
        From `sensitivity.influence`, or a frame from `influence_data`.
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
    >>> plots.influence(sensitivity.influence(fit)).plot_description
    "Eight measures of influence of 16 effects; 0 flagged. The largest Cook's distance, 0.20: Jerant et al. 2011."
    """
    frame = as_frame(result_or_frame, "influence", influence_data, data)
    wide, high = PANEL if ax is None else SMALLEST
    across = 2 if ax is None or size_in_inches(ax)[0] < LEFT + 4 * (wide + GAP) - GAP else 4
    rows = len(MEASURES) // across
    least = (LEFT + across * (wide + GAP) - GAP, rows * (HEAD + high + TAIL))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        panels = chart.grid(rows, [1.0] * across, left=LEFT, head=HEAD, tail=TAIL, gap=GAP)
        for panel, name in zip(panels, MEASURES, strict=True):
            _panel(panel, frame[frame["measure"] == name], name)
    return chart.made


def _panel(chart: Chart, frame: pd.DataFrame, name: str) -> None:
    lettered(chart.ax.set_title("", loc="left"), TITLES[name], SMALL)
    points = frame[frame["kind"].isin(("unit", "flagged"))]
    if points["value"].isna().all():
        chart.no_axis("x")
        chart.no_axis("y")
        where = {"ha": "center", "va": "center", "fontsize": SMALL}
        chart.words(0.5, 0.5, "not defined for this model", chart.ax.transAxes, **where)
        return
    n = len(points)
    lines = frame[frame["kind"].isin(("all", "cutoff"))]
    lo, hi = 0.5 - 0.02 * n, n + 0.5 + 0.02 * n
    near = lines[(lines["kind"] == "all") | (lines["value"].abs() <= 2.0 * points["value"].abs().max())]
    values = pd.concat([points["value"], near["value"]])
    # Room for whole points, and for the number of one at the top.
    room = 0.1 * float(np.ptp(values.dropna()))
    chart.numbers("y", [float(values.min()) - room, float(values.max()) + room])
    chart.numbers("x", [1.0, float(n)], (lo, hi), whole=True)
    for row in lines.to_dict("records"):
        chart.rule("y", float(row["value"]), "zero" if row["kind"] == "all" else "dashed", zorder=2)
    if n <= NUMBERED:
        chart.line(points["position"], points["value"], "hair", zorder=3)
    size = 16.0 if n <= NUMBERED else 7.0
    for kind, mark in (("unit", "dot"), ("flagged", "flagged")):
        own = points[points["kind"] == kind]
        chart.dots(own["position"], own["value"], mark, s=size if kind == "unit" else 2.0 * size)
    at = points[points["value"].notna()].rename(columns={"position": "x", "value": "y"})
    flagged = at[at["kind"] == "flagged"]
    numbers = flagged.assign(label=flagged["x"].astype(int).astype(str))
    name_points(chart, numbers, (flagged["y"] - at["y"].median()).abs(), at)
