"""The weight function of a selection model: how likely results are to be seen by their p-value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from alliance_meta._typing import Array
from alliance_meta.bias.selection_models.result import SIDES, SelectionResult
from alliance_meta.errors import InputError
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted
from alliance_meta.plots.sheet.measure import INK
from alliance_meta.tables.format import brief, format_count, format_estimate, format_level, format_number

SIZE = (6.2, 4.6)
PANEL = (3.6, 2.6)
TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
NAMED = (0.05, 0.1, 0.25, 0.5, 0.95)
# Weights are drawn up to so many times the largest estimate.
MOST = 2.0


def selection_weights_data(
    result: SelectionResult, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the plot of a weight function: the chance to be seen at every p-value.

    Parameters
    ----------
    result : SelectionResult
        From `bias.selmodel`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: weight (at ``p``: ``weight`` relative to the smallest p, with ``ci_lb ci_ub``; a step function has
        both ends of every interval), effect (the ``p`` of each effect, by which the model selects).

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.selection_weights_data(bias.selmodel(fit))
    >>> frame["kind"].value_counts().to_dict()
    {'effect': 16, 'weight': 4}
    """
    if not isinstance(result, SelectionResult):
        raise InputError(f"selection_weights needs the result of bias.selmodel, not {type(result).__name__}")
    effects, table = result.fit.effects, result.weights
    names = ("p", "weight", "ci_lb", "ci_ub")
    rows: list[dict[str, Any]] = [
        {"kind": "weight", **dict(zip(names, map(float, row), strict=True))} for row in table[list(names)].to_numpy()
    ]
    p = p_values(effects.yi / np.sqrt(effects.vi), result.alternative)
    rows += [{"kind": "effect", "label": label, "p": one} for label, one in zip(effects.slab, p.tolist(), strict=True)]
    listed = "; ".join(_listed(result, table))
    known = table[["ci_lb", "ci_ub"]].notna().all(axis=None)
    key = [["line", "Weight"], *([["ci", f"{format_level(result.level)} CI"]] if known else []), ["tick", "Effects"]]
    counts = [f"Effects in the intervals: {', '.join(map(format_count, result.counts))}"] if result.counts else []
    return chart_frame(
        "selection_weights", "Selection", rows, effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=f"Chance to be seen by p-value, {counted(effects.k)}. {listed}.",
        axis_label="Relative chance to be seen", x_label=f"{SIDES[result.alternative][:1].upper()}"
        f"{SIDES[result.alternative][1:]}, square-root scale",
        level=result.level, model_label=result.called, key=key, bottom=[listed, *counts],
    )  # fmt: skip


def p_values(z: Array, alternative: str) -> Array:
    """Return the p-values by which a model selects."""
    if alternative == "two.sided":
        return np.asarray(2.0 * special.ndtr(-np.abs(z)))
    return np.asarray(special.ndtr(-z if alternative == "greater" else z))


def _listed(result: SelectionResult, table: pd.DataFrame) -> list[str]:
    """Write the weight of each interval of a step function, of other functions that at a few p-values."""
    if result.type == "stepfun":
        ends = [table.iloc[i : i + 2] for i in range(0, len(table), 2)]
        return [f"p {_p(one['p'].iloc[0])} to {_p(one['p'].iloc[1])}: {_weight(one.iloc[0])}" for one in ends]
    shown = [table.iloc[int(np.abs(table["p"] - p).argmin())] for p in NAMED]
    return [f"{'' if i else 'p = '}{_p(row['p'])}: {_weight(row)}" for i, row in enumerate(shown)]


def _p(value: float) -> str:
    return brief(value).removeprefix("0") if 0 < value < 1 else brief(value)


def _weight(row: Any) -> str:
    if math.isnan(row["ci_lb"]) or row["ci_lb"] == row["ci_ub"]:
        return format_number(row["weight"])
    return format_estimate(row["weight"], row["ci_lb"], row["ci_ub"], leading_zero=True)


def selection_weights(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw how likely results were to be seen by their p-value, beside the most significant ones.

    A weight of .2 says that of results with such a p-value one in five became known. A wide band says that the data
    hardly tell: an interval with few effects in it has one. The ticks below are the effects.

    Parameters
    ----------
    result_or_frame : SelectionResult or DataFrame
        From `bias.selmodel`, or a frame from `selection_weights_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, bias, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.selection_weights(bias.selmodel(fit)).plot_description
    'Chance to be seen by p-value, 16 effects. p 0 to .025: 1.00; p .025 to 1: ...'
    """
    frame = as_frame(result_or_frame, "selection_weights", selection_weights_data, data)
    with charting(frame, ax, *SIZE, least=PANEL if ax is None else None) as chart:
        line = frame[frame["kind"] == "weight"]
        top = max(1.05, float(line["weight"].max()) * 1.05)
        highest = float(np.nanmax(line["ci_ub"], initial=0.0))
        most = max(top, min(highest * 1.05, MOST * top))
        chart.numbers("y", [], (0.0, most))
        if highest > most:
            chart.notes.append("The interval goes on beyond the axis")
        _p_axis(chart)
        chart.area(line["p"], line["ci_lb"], line["ci_ub"], "ci")
        chart.line(line["p"], line["weight"], "line")
        effects = frame.loc[frame["kind"] == "effect", "p"]
        chart.ax.plot(
            effects, np.zeros(len(effects)), linestyle="none", marker="|", markersize=9.0, markeredgewidth=0.7,
            color=INK, alpha=float(np.clip(8.0 / math.sqrt(len(effects)), 0.15, 0.9)), zorder=6, clip_on=False,
        )  # fmt: skip
    return chart.made


def _p_axis(chart: Chart) -> None:
    """Scale the axis of p by square roots, which leaves room for the small ones."""
    chart.ax.set_xscale("function", functions=(lambda p: np.sqrt(np.clip(p, 0.0, None)), np.square))
    chart.limits("x", 0.0, 1.0)
    chart.names("x", [_p(one) for one in TICKS], TICKS)
