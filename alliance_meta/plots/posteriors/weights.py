"""How likely results were published, by their p-value, as the models of selection see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.averaged.bias_results import RobmaResults
from alliance_meta.errors import InputError
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import CI_BAND, Chart, Sheet, left_margin, make_sheet, render, upright
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_meta, described, make_chart
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import SUMMARY
from alliance_meta.tables.format import brief, format_level, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 5.5, 3.6


def weight_function_data(
    result: RobmaResults,
    *,
    conditional: bool = False,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the relative probability of publication in each interval of the one-sided p-value.

    Parameters
    ----------
    result : RobmaResults
        From `bayes.robma`, with at least one weight function.
    conditional : bool
        Average only over the weight functions; otherwise models without selection count with 1.
    level : float, optional
        Of the interval; the result's by default.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        One row per interval: ``label``, ``p_from``, ``p_to``, ``mean``, ``median``, ``ci_lb``, ``ci_ub``.

    Raises
    ------
    InputError
        Another result, or models without a weight function.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> es = escalc(load_dataset("molloy2014"))
    >>> found = bayes.robma(es, bias=[bayes.WeightFunction(0.025)])
    >>> plots.weight_function_data(found, conditional=True)["mean"].round(2).tolist()
    [1.0, 0.27]
    """
    if not isinstance(result, RobmaResults):
        raise InputError(f"weight_function_data needs the result of bayes.robma, not {type(result).__name__}")
    used = result.level if level is None else level
    table = result.weight_function(conditional=conditional, level=used)
    names = ("p_from", "p_to", "mean", "median", "ci_lb", "ci_ub")
    rows: list[dict[str, Any]] = []
    for values in zip(*(table[name] for name in names), strict=True):
        row = dict(zip(names, map(float, values), strict=True))
        rows.append({"kind": "interval", "label": f"{_p(row['p_from'])} to {_p(row['p_to'])}", **row})
    meta = chart_meta(
        "weight_function", "Publication by p-value", result.effects.provenance, title=title,
        show_cautions=show_cautions, notes=result.notes,
    )  # fmt: skip
    over = "the weight functions" if conditional else "all models"
    listed = "; ".join(f"p {row['label']}: {format_number(row['mean'], 2)}" for row in rows)
    text = format_level(used)
    return make_chart(
        rows,
        meta
        | {
            "description": described(f"Relative probability of publication, averaged over {over}. {listed}.",
                                     meta["synthetic"]),
            "axis_label": "Relative probability of publication",
            "x_label": f"One-sided p-value, {result.direction} direction favoured",
            "level": used,
            "model_label": f"{len(result.ensemble)} models",
            "key": [["line", "Mean"], ["ci", f"{text} interval"]],
            "bottom": [f"Averaged over {over}; intervals of p are drawn equally wide"],
        },
    )  # fmt: skip


def weight_function(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> NotebookFigure | Axes:
    """Draw how likely results were published by their p-value, beside the most significant ones.

    A step down means that results beyond that p-value are missing. A wide band means that the data hardly tell.

    Parameters
    ----------
    result_or_frame : RobmaResults or DataFrame
        From `bayes.robma`, or a frame from `weight_function_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 5.5 x 3.6 inches.
    **data
        Passed to `weight_function_data` unless a frame is given: ``conditional=``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        Another result, models without a weight function, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> found = bayes.robma(escalc(load_dataset("molloy2014")), bias=[bayes.WeightFunction(0.025)])
    >>> plots.weight_function(found, conditional=True).plot_description
    'Relative probability of publication, averaged over the weight functions. p 0 to .025: 1.00; p .025 to 1: ....'
    """
    frame = as_frame(result_or_frame, "weight_function", weight_function_data, data)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        first = make_sheet(frame.attrs, width=width, height=height, left=MARGIN)
        length = first.panel[3] - first.panel[2]
        yaxis = value_axis([0.0, 1.0], measure="GEN", length=length, room=upright, lim=(0.0, 1.05))
        sheet = make_sheet(frame.attrs, width=width, height=height, left=left_margin(yaxis))
        cuts = [*frame["p_from"], frame["p_to"].iloc[-1]]
        ticks = tuple((float(i), _p(p)) for i, p in enumerate(cuts))
        return sheet, Axis("GEN", 0.0, float(len(frame)), ticks), yaxis

    return render(frame, ax, plan, _draw, width=WIDTH, height=HEIGHT)


def _p(value: float) -> str:
    return brief(value) if value in (0, 1) else brief(value).lstrip("0")


def _draw(chart: Chart, frame: pd.DataFrame) -> None:
    edges = chart.x(np.arange(len(frame) + 1.0))
    for i, row in enumerate(frame.to_dict("records")):
        x0, x1 = float(edges[i]), float(edges[i + 1])
        chart.box(x0, x1, float(chart.y(row["ci_ub"])), float(chart.y(row["ci_lb"])), CI_BAND)
    x = np.repeat(edges, 2)[1:-1]
    chart.curve(x, np.repeat(chart.y(frame["mean"].to_numpy()), 2), colour=SUMMARY, points=1.6)
