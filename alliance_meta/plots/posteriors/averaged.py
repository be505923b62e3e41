"""Posteriors averaged over models, and how likely p-values are published."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.averaged.bias_results import RobmaResults
from alliance_meta.bayes.averaged.results import AveragedResults
from alliance_meta.bayes.priors.prior import Normal
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.sheet.axis import Axis, is_correlation, to_reader, value_axis
from alliance_meta.plots.sheet.chart import (
    CI_BAND,
    DASHED,
    DOTTED,
    POINT,
    Chart,
    Sheet,
    across,
    left_margin,
    make_sheet,
    render,
    upright,
)
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_meta, described, make_chart
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import GREY, INK, SUMMARY
from alliance_meta.tables.format import brief, format_interval, format_level, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 5.5, 3.9
STEPS = 241
# The curve reaches to these quantiles of the posterior given the effect.
ENDS = (5e-4, 1.0 - 5e-4)


def averaged_data(
    result: RobmaResults | AveragedResults,
    *,
    what: str = "mu",
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the posterior density of an effect averaged over models, and given that there is one.

    Parameters
    ----------
    result : RobmaResults or AveragedResults
        From `bayes.robma` or `bayes.average`.
    what : str
        The mean effect ``mu``, or a coefficient.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind``: conditional (the density given that the effect is not 0), averaged (the same times the probability
        of that), prior (what was plausible before), lower, median and upper of the conditional posterior; ``x`` on
        the analysis scale, ``r`` as a correlation, and the ``density`` there, by `x`. ``.attrs["spike"]`` is the
        posterior probability that it is exactly 0.

    Raises
    ------
    InputError
        Another result, or a quantity that it does not have.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> found = bayes.average(escalc(load_dataset("molloy2014")), p_effect=0.5)
    >>> frame = plots.averaged_data(found)
    >>> round(frame.attrs["spike"], 3), round(float(frame.set_index("kind").loc["median", "r"]), 3)
    (0.011, 0.146)
    """
    if not isinstance(result, RobmaResults | AveragedResults):
        raise InputError(f"averaged_data needs the result of bayes.robma or bayes.average, not {type(result).__name__}")
    averaged, given = result.posterior(what), result.posterior(what, conditional=True)
    spike = float(getattr(averaged, "spike", 0.0))
    ends = [float(one) for one in given.quantile(ENDS)]
    x = np.linspace(min(ends[0], 0.0), max(ends[1], 0.0), STEPS)
    limits = given.interval(level=result.level)
    measure = result.effects.measure if what == "mu" else "GEN"
    density = given.pdf(x)
    rows = [{"kind": "conditional", "x": a, "density": f} for a, f in zip(x, density, strict=True)]
    rows += [{"kind": "averaged", "x": a, "density": (1.0 - spike) * f} for a, f in zip(x, density, strict=True)]
    prior = _prior(result, what)
    if prior is not None:
        rows += [{"kind": "prior", "x": a, "density": f} for a, f in zip(x, prior.pdf(x), strict=True)]
    marks = (("lower", limits.lb), ("median", limits.estimate), ("upper", limits.ub))
    rows += [{"kind": kind, "x": a, "density": float(given.pdf(a))} for kind, a in marks]
    if measure == "ZCOR":
        rows = [row | {"r": to_reader(float(row["x"]), measure)} for row in rows]
    meta = chart_meta(
        "averaged", "Posterior averaged over models", result.effects.provenance, title=title,
        show_cautions=show_cautions, notes=result.notes,
    )  # fmt: skip
    text = format_level(result.level)
    name = "the effect" if what == "mu" else what
    line = _numbers([to_reader(float(one), measure) for one in (limits.estimate, limits.lb, limits.ub)], measure)
    sure = spike == 0.0
    chance = f"Posterior probability that {name} is exactly 0: {format_number(spike, 3, leading_zero=False)}"
    condition = "Posterior: " if sure else f"If {name} is not 0: "
    label = forest_text.axis_label(measure) if what == "mu" else f"{what} ({result.effects.scale_label} scale)"
    key = [["line", "Posterior" if sure else "Posterior if not 0"]]
    key += [] if sure else [["dashed", "Averaged over all models"]]
    key += [["hair", "Prior" if sure else "Prior if not 0"]] if prior is not None else []
    key += [] if sure else [["thick", "Probability of exactly 0 (full height: 1)"]]
    said = f"Posterior density of {name}. {condition}median and {text} interval {line}." + (
        "" if sure else f" {chance}."
    )
    return make_chart(
        rows,
        meta
        | {
            "description": described(said, meta["synthetic"]),
            "measure": measure,
            "axis_label": "Density",
            "x_label": label,
            "level": result.level,
            "model_label": f"{_count(result)} models",
            "key": key,
            "bottom": [
                f"{condition}{'M' if sure else 'm'}edian and {text} interval {line}",
                *([] if sure else [chance]),
            ],
            "spike": spike,
        },
    )


def averaged(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> NotebookFigure | Axes:
    """Draw the posterior of an effect averaged over models.

    The solid curve is what to believe if there is an effect, the dashed one allows for there being none: its area
    is the probability of an effect. The bar at 0 shows the probability that there is none.

    Parameters
    ----------
    result_or_frame : RobmaResults, AveragedResults or DataFrame
        From `bayes.robma` or `bayes.average`, or a frame from `averaged_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 5.5 x 3.9 inches.
    **data
        Passed to `averaged_data` unless a frame is given: ``what=``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        Another result, a quantity that it does not have, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> found = bayes.average(escalc(load_dataset("molloy2014")), p_effect=0.5)
    >>> plots.averaged(found).plot_description
    'Posterior density of the effect. If the effect is not 0: median and 95% interval .146 [...]. ... exactly 0: .011.'
    """
    frame = as_frame(result_or_frame, "averaged", averaged_data, data)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        first = make_sheet(frame.attrs, width=width, height=height, left=MARGIN)
        length = first.panel[3] - first.panel[2]
        shown = frame.loc[frame["kind"] != "prior", "density"]
        yaxis = value_axis(np.append(shown, 0.0), measure="GEN", length=length, room=upright, zero=False, floor=0.0)
        sheet = make_sheet(frame.attrs, width=width, height=height, left=left_margin(yaxis))
        length = sheet.panel[1] - sheet.panel[0]
        return sheet, value_axis(frame["x"], measure=frame.attrs["measure"], length=length, room=across), yaxis

    return render(frame, ax, plan, _draw, width=WIDTH, height=HEIGHT)


def _numbers(values: list[float], measure: str) -> str:
    """Return an estimate with its interval, to three digits."""
    if is_correlation(measure):
        return f"{format_number(values[0], 3, leading_zero=False)} {format_interval(values[1], values[2], 3)}"
    largest = max(abs(value) for value in values)
    digits = max(3, 2 - math.floor(math.log10(largest))) if largest > 0 else 3
    return f"{format_number(values[0], digits)} {format_interval(values[1], values[2], digits, leading_zero=True)}"


def _prior(result: RobmaResults | AveragedResults, what: str) -> Normal | None:
    if isinstance(result, RobmaResults):
        return result.mu_prior if what == "mu" else None
    if what not in result.priors.names:
        return None
    found = result.priors.coefficients[result.priors.names.index(what)]
    return found if isinstance(found, Normal) else None


def _count(result: RobmaResults | AveragedResults) -> int:
    if isinstance(result, RobmaResults):
        return len(result.ensemble)
    return int(np.isfinite(result.space.log_prior).sum())


def _draw(chart: Chart, frame: pd.DataFrame) -> None:
    spike = float(frame.attrs["spike"])
    shown = ("prior", "averaged", "conditional") if spike else ("prior", "conditional")
    curves = {kind: frame[frame["kind"] == kind] for kind in shown}
    looks: dict[str, dict[str, Any]] = {
        "prior": {"colour": GREY, "points": 0.8},
        "averaged": {"colour": SUMMARY, "points": 1.2, "style": DASHED},
        "conditional": {"colour": SUMMARY, "points": 1.6},
    }
    for kind, curve in curves.items():
        if len(curve):
            chart.curve(chart.x(curve["x"].to_numpy()), chart.y(curve["density"].to_numpy()), **looks[kind])
    marks = frame.set_index("kind")
    for name in ("lower", "upper"):
        x, y = float(chart.x(marks.loc[name, "x"])), float(chart.y(marks.loc[name, "density"]))
        chart.rule(x, x, y, chart.bottom, colour=INK, points=0.9, style=DOTTED, zorder=2)
    x, y = float(chart.x(marks.loc["median", "x"])), float(chart.y(marks.loc["median", "density"]))
    chart.circles([x], [y], [0.05], fill=POINT, zorder=5)
    if spike > 0:
        x = float(chart.x(0.0))
        top = chart.bottom - spike * (chart.bottom - chart.top)
        chart.rule(x, x, chart.bottom, top, colour=SUMMARY, points=3.2, zorder=4)


WEIGHTS_WIDTH, WEIGHTS_HEIGHT = 5.5, 3.6


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

    return render(frame, ax, plan, _draw_weights, width=WEIGHTS_WIDTH, height=WEIGHTS_HEIGHT)


def _p(value: float) -> str:
    return brief(value) if value in (0, 1) else brief(value).lstrip("0")


def _draw_weights(chart: Chart, frame: pd.DataFrame) -> None:
    edges = chart.x(np.arange(len(frame) + 1.0))
    for i, row in enumerate(frame.to_dict("records")):
        x0, x1 = float(edges[i]), float(edges[i + 1])
        chart.box(x0, x1, float(chart.y(row["ci_ub"])), float(chart.y(row["ci_lb"])), CI_BAND)
    x = np.repeat(edges, 2)[1:-1]
    chart.curve(x, np.repeat(chart.y(frame["mean"].to_numpy()), 2), colour=SUMMARY, points=1.6)
