"""What a synthesis says about the next study, and what is left of that once the study's result is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.borrowing.map_results import MapPrior
from alliance_meta.bayes.borrowing.map_update import MapUpdate
from alliance_meta.bayes.marginals import Marginal, MixtureMarginal
from alliance_meta.core.bayes.mixture import NormalMixture
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.sheet.axis import Axis, to_reader, value_axis
from alliance_meta.plots.sheet.chart import (
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
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_meta, described, make_chart, with_r
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import FAINT, GREY, INK, SUMMARY
from alliance_meta.tables.format import format_level, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 5.5, 3.9
STEPS = 481
# Curves reach to these quantiles.
ENDS = (2e-3, 1.0 - 2e-3)
LOOKS: dict[str, dict[str, Any]] = {
    "vague": {"colour": GREY, "points": 0.8},
    "before": {"colour": GREY, "points": 0.8},
    "study": {"colour": SUMMARY, "points": 1.2, "style": DASHED},
    "main": {"colour": SUMMARY, "points": 1.6},
}


def map_prior_data(
    result: MapPrior | MapUpdate, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the densities of a MAP prior, or of the update of one.

    Parameters
    ----------
    result : MapPrior or MapUpdate
        From `bayes.map_prior`, or its ``update``.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind``: main (the prior; after an update the posterior), vague (the vague part times its probability),
        before (the prior, after an update) and study (the result alone); lower, median and upper of main. ``x`` on
        the analysis scale, ``r`` as a correlation, and the ``density`` there, by `x`.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> prior = bayes.map_prior(BayesianModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame = plots.map_prior_data(prior.update(ri=0.35, ni=60))
    >>> frame.set_index("kind").loc[["lower", "median", "upper"], "r"].round(2).tolist()
    [0.07, 0.22, 0.4]
    """
    if not isinstance(result, MapPrior | MapUpdate):
        raise InputError(f"map_prior_data needs the result of bayes.map_prior, not {type(result).__name__}")
    prior = result if isinstance(result, MapPrior) else result.prior
    main = result.marginal()
    curves = _of_prior(result) if isinstance(result, MapPrior) else _of_update(result)
    fit, measure = prior.fit, prior.fit.effects.measure
    ends = np.array([one.quantile(ENDS) for name, one in curves.items() if name != "vague"])
    x = np.linspace(float(ends[:, 0].min()), float(ends[:, 1].max()), STEPS)
    rows: list[dict[str, Any]] = []
    for name, one in curves.items():
        share = prior.robust if name == "vague" else 1.0
        rows += [{"kind": name, "x": a, "density": f} for a, f in zip(x, share * one.pdf(x), strict=True)]
    limits = main.interval(level=fit.level)
    marks = (("lower", limits.lb), ("median", limits.estimate), ("upper", limits.ub))
    rows += [{"kind": kind, "x": a, "density": float(main.pdf(a))} for kind, a in marks]
    if measure == "ZCOR":
        rows = [row | {"r": to_reader(float(row["x"]), measure)} for row in rows]
    text = format_level(fit.level)
    line = forest_text.effect_text(
        measure, with_r(measure, {"yi": limits.estimate, "ci_lb": limits.lb, "ci_ub": limits.ub})
    )
    said = _said(result, f"median and {text} interval {line}")
    return make_chart(
        rows,
        chart_meta(
            "map_prior", "MAP prior of a new study", fit.effects.provenance, title=title, show_cautions=show_cautions,
            notes=result.notes,
        )
        | {
            "description": described(" ".join(f"{one}." for one in said), fit.effects.provenance.synthetic),
            "measure": measure,
            "axis_label": "Density",
            "x_label": f"True effect in {prior.label}: {_scale(measure)}",
            "level": fit.level,
            "model_label": f"k = {fit.k}",
            "key": _key(result),
            "bottom": said,
        },
    )  # fmt: skip


def map_prior(result_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> NotebookFigure | Axes:
    """Draw a MAP prior, or what is believed once the new study's result is in.

    The prior is wide even after many studies where these differ: it is about one study, not about the mean. After
    an update the posterior lies between the prior and the result, nearer to the narrower of the two.

    Parameters
    ----------
    result_or_frame : MapPrior, MapUpdate or DataFrame
        From `bayes.map_prior` or its ``update``, or a frame from `map_prior_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 5.5 x 3.9 inches.
    **data
        Passed to `map_prior_data` unless a frame is given.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        Another result, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> prior = bayes.map_prior(BayesianModel(escalc(load_dataset("molloy2014"))).fit())
    >>> plots.map_prior(prior).plot_description
    'Prior for the true effect of a new study: median and 95% interval .15 [−.08, .36]. Worth 92 clients ...'
    """
    frame = as_frame(result_or_frame, "map_prior", map_prior_data, data)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        first = make_sheet(frame.attrs, width=width, height=height, left=MARGIN)
        length = first.panel[3] - first.panel[2]
        density = np.append(frame["density"], 0.0)
        yaxis = value_axis(density, measure="GEN", length=length, room=upright, zero=False, floor=0.0)
        sheet = make_sheet(frame.attrs, width=width, height=height, left=left_margin(yaxis))
        length = sheet.panel[1] - sheet.panel[0]
        xaxis = value_axis(frame["x"], measure=frame.attrs["measure"], length=length, room=across, zero=False)
        return sheet, xaxis, yaxis

    return render(frame, ax, plan, _draw, width=WIDTH, height=HEIGHT)


def _of_prior(prior: MapPrior) -> dict[str, Marginal]:
    found: dict[str, Marginal] = {"main": prior.marginal()}
    if prior.robust:
        found["vague"] = _normal(prior.vague.mean, prior.vague.sd)
    return found


def _of_update(after: MapUpdate) -> dict[str, Marginal]:
    return {"before": after.prior.marginal(), "study": _normal(after.yi, after.vi**0.5), "main": after.marginal()}


def _normal(mean: float, sd: float) -> MixtureMarginal:
    return MixtureMarginal("normal", NormalMixture(np.ones(1), np.array([[mean]]), np.array([[sd]])))


def _scale(measure: str) -> str:
    return "correlation r (Fisher z scale)" if measure == "ZCOR" else forest_text.axis_label(measure)


def _key(result: MapPrior | MapUpdate) -> list[list[str]]:
    if isinstance(result, MapUpdate):
        return [["hair", "Prior"], ["dashed", "Result alone"], ["line", "Posterior"]]
    return [["line", "Prior"], *([["hair", "Vague part"]] if result.robust else [])]


def _said(result: MapPrior | MapUpdate, found: str) -> list[str]:
    """Return the lines under the plot."""
    if isinstance(result, MapUpdate):
        p = "p < .001" if result.p < 0.001 else f"p = {format_number(result.p, 3, leading_zero=False)}"
        lines = [f"Posterior: {found}", f"How surprising the result was after the earlier studies: {p}"]
        if result.prior.robust:
            before, now = (format_number(one, 2, leading_zero=False) for one in (result.prior.robust, result.robust))
            lines.append(f"Probability that the study is not like the earlier ones: {before} before, {now} after")
        return lines
    ess = result.ess()
    worth = [f"Worth {ess:.0f} clients (effective sample size, ELIR)"] if ess == ess else []
    return [f"Prior for the true effect of {result.label}: {found}", *worth]


def _draw(chart: Chart, frame: pd.DataFrame) -> None:
    axis = chart.xaxis
    assert axis is not None
    if axis.lo <= 0 <= axis.hi:
        x = float(chart.x(0.0))
        chart.rule(x, x, chart.top, chart.bottom, colour=FAINT, zorder=1)
    for kind, look in LOOKS.items():
        curve = frame[frame["kind"] == kind]
        if len(curve):
            at = curve["x"].to_numpy()
            inside = (at >= axis.lo) & (at <= axis.hi)
            points = chart.x(at[inside]), chart.y(curve["density"].to_numpy()[inside])
            chart.curve(*points, **look)
    marks = frame.set_index("kind")
    for name in ("lower", "upper"):
        end = float(marks["x"][name])
        if axis.lo <= end <= axis.hi:
            x, y = float(chart.x(end)), float(chart.y(float(marks["density"][name])))
            chart.rule(x, x, y, chart.bottom, colour=INK, points=0.9, style=DOTTED, zorder=2)
    x, y = (float(place(float(marks[name]["median"]))) for place, name in ((chart.x, "x"), (chart.y, "density")))
    chart.circles([x], [y], [0.05], fill=POINT, zorder=5)
