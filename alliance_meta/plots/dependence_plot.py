"""How the pooled result moves with the way dependence is handled, and with the assumed correlation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import Chart, Sheet, across, left_margin, make_sheet, render, upright
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_meta, described, make_chart, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import FAINT, SUMMARY
from alliance_meta.sensitivity.assumed_rho import RhoGrid
from alliance_meta.sensitivity.dependence import METHODS, DependenceComparison
from alliance_meta.tables.format import brief, fixed, format_count, format_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dependence_data(
    result: DependenceComparison, *, term: str | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the plot of several methods for dependent effects: one row per method.

    Parameters
    ----------
    result : DependenceComparison
        From `compare_dependence`.
    term : str, optional
        The coefficient to show; needed where the models have several.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind`` (method), ``label``, ``k`` effects and ``studies`` used; ``yi ci_lb ci_ub`` on the analysis scale,
        with ``pi_lb pi_ub`` where the models have one mean effect; ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as
        correlations. Methods that could not be used are named under the plot.

    Raises
    ------
    InputError
        No `term` for models with several coefficients, or one that they do not have.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots
    >>> from alliance_meta.sensitivity import compare_dependence
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> frame = plots.dependence_data(compare_dependence(es, methods=("mean", "CHE + CR2")))
    >>> frame[["label", "k", "r"]].round(3).values.tolist()
    [['Mean of each study', 54.0, 0.449], ['CHE + CR2', 67.0, 0.448]]
    """
    if not isinstance(result, DependenceComparison):
        raise InputError(f"dependence_data needs the result of compare_dependence, not {type(result).__name__}")
    shown = _term(result, term)
    effects, level = result.effects, result.level
    measure = effects.measure if result.is_mean else "GEN"
    rows = [with_r(measure, row) for row in _rows(result, shown)]
    meta = chart_meta(
        "dependence",
        "Dependent effects by several methods",
        effects.provenance,
        title=title,
        show_cautions=show_cautions,
        notes=result.notes,
    )
    text = format_level(level)
    what = "Mean effect" if result.is_mean else f"Coefficient of {shown}"
    values = "; ".join(f"{row['label']} {forest_text.effect_text(measure, row)}" for row in rows)
    new = any(not math.isnan(row["pi_lb"]) for row in rows)
    return make_chart(
        rows,
        meta
        | {
            "description": described(f"{what} with {text} confidence intervals: {values}.", meta["synthetic"]),
            "measure": measure,
            "axis_label": "Method",
            "x_label": forest_text.axis_label(measure) if result.is_mean else f"{what} ({effects.scale_label} scale)",
            "level": level,
            "key": [["thick", f"{what}, {text} CI"], *([["thin", f"{text} prediction interval"]] if new else [])],
            "bottom": _bottom(result, shown),
        },
    )


def dependence(
    result_or_frame: Any, *, ax: Axes | None = None, xlim: tuple[float, float] | None = None, **data: Any
) -> NotebookFigure | Axes:
    """Draw the pooled result of the same dependent effects by every method, one below the other.

    Dots in one line mean that the choice of method does not matter for the mean; how far the thick lines reach says
    what it does to the confidence interval, the thin ones to the prediction interval.

    Parameters
    ----------
    result_or_frame : DependenceComparison or DataFrame
        From `compare_dependence`, or a frame from `dependence_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure as wide as its text needs.
    xlim : (float, float), optional
        Limits of the axis as its labels read; intervals that leave them end in an arrow.
    **data
        Passed to `dependence_data` unless a frame is given: ``term=``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        No `term` for models with several coefficients, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots
    >>> from alliance_meta.sensitivity import compare_dependence
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> plots.dependence(compare_dependence(es, methods=("mean", "CHE + CR2"))).plot_description
    'Mean effect with 95% confidence intervals: Mean of each study .45 [.39, .50]; CHE + CR2 .45 [.39, .50].'
    """
    frame = as_frame(result_or_frame, "dependence", dependence_data, data)
    return draw_rows(frame, ax, xlim)


def _term(result: DependenceComparison, term: str | None) -> str:
    terms = list(result.terms)
    if term is None and len(terms) > 1:
        raise InputError(f"the models have several coefficients; choose one with term=: {', '.join(terms)}")
    if term is not None and term not in terms:
        raise InputError(f"term={term!r} is no coefficient{did_you_mean(term, terms)}; there are: {', '.join(terms)}")
    return term or terms[0]


def _rows(result: DependenceComparison, term: str) -> list[dict[str, Any]]:
    table = result.tidy()
    if result.is_mean:
        names = [str(name) for name in table.index]
    else:
        table = table[table.index.get_level_values("term") == term]
        names = [str(name) for name in table.index.get_level_values("method")]
    rows = []
    for method, row in zip(names, table.rename(columns={"estimate": "yi"}).to_dict("records"), strict=True):
        if not math.isnan(row["yi"]):
            numbers = {name: float(row[name]) for name in ("k", "studies", *EFFECT)}
            rows.append({"kind": "method", "label": METHODS[method], **numbers})
    return rows


def _bottom(result: DependenceComparison, term: str) -> list[str]:
    settings = result.settings
    effects, studies = format_count(result.effects.k), format_count(result.clusters.n)
    lines = [
        f"{effects} effects in {studies} studies; assumed correlation of sampling errors ρ = {brief(settings['rho'])}"
    ]
    if not result.is_mean:
        lines[0] += f"; moderators: {settings['mods']}"
    lines += [f"{METHODS[name]} left out: {reason.reason}" for name, reason in result.left_out.items()]
    lacking = [METHODS[name] for name, fit in result.fits.items() if term not in fit.names]
    return [*lines, *([f"Without {term}: {', '.join(lacking)}"] if lacking else [])]


WIDTH, HEIGHT = 5.5, 3.8
PAD = 0.06
X_LABEL = "Assumed correlation within clusters, ρ"


def rho_grid_data(
    grid: RhoGrid, *, term: str | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the plot of a pooled result over assumed correlations: one row per rho.

    Parameters
    ----------
    grid : RhoGrid
        From `sensitivity.rho_grid`.
    term : str, optional
        The coefficient to show; needed where the model has several.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind`` (fit), ``label``, ``rho``; ``yi ci_lb ci_ub`` on the analysis scale, with ``pi_lb pi_ub`` where the
        model has one mean effect; ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations.

    Raises
    ------
    InputError
        No `term` for a model with several coefficients, or one that it does not have.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> frame = plots.rho_grid_data(sensitivity.rho_grid(es, rho=(0, 0.4, 0.8)))
    >>> frame[["rho", "r"]].round(4).values.tolist()
    [[0.0, 0.448], [0.4, 0.4487], [0.8, 0.4493]]
    """
    if not isinstance(grid, RhoGrid):
        raise InputError(f"rho_grid_data needs the result of sensitivity.rho_grid, not {type(grid).__name__}")
    shown, mean = _grid_term(grid, term)
    one = grid.fits[0]
    measure = one.effects.measure if mean else "GEN"
    rows = [with_r(measure, row) for row in _grid_rows(grid, shown, mean)]
    level = float(one.level)
    text = format_level(level)
    meta = chart_meta(
        "rho_grid",
        "Sensitivity to the assumed correlation",
        one.effects.provenance,
        title=title,
        show_cautions=show_cautions,
        notes=grid.notes,
    )
    what = "Mean effect" if mean else f"Coefficient of {shown}"
    values = "; ".join(f"ρ = {row['label']}: {forest_text.effect_text(measure, row)}" for row in rows)
    new = any(not math.isnan(row["pi_lb"]) for row in rows)
    scale = forest_text.axis_label(measure) if mean else f"{what} ({one.effects.scale_label} scale)"
    moves = float(grid.span()["moves"][shown])
    model = getattr(one, "model_label", "")
    return make_chart(
        rows,
        meta
        | {
            "description": described(f"{what} with {text} confidence interval. {values}.", meta["synthetic"]),
            "measure": measure,
            "axis_label": scale,
            "x_label": X_LABEL,
            "level": level,
            "model_label": model,
            "key": [["thick", f"{what}, {text} CI"], *([["thin", f"{text} prediction interval"]] if new else [])],
            "bottom": [
                f"{grid.assumption[:1].upper()}{grid.assumption[1:]}{f' ({model})' if model else ''}; "
                f"the estimate moves by {fixed(moves, 2)} standard errors over the grid"
            ],
        },
    )


def rho_grid(grid_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> NotebookFigure | Axes:
    """Draw the pooled result for each correlation that was assumed between the effects of one study.

    A level row of dots means that the assumption does not matter. Where the dots climb or fall, or an interval
    leaves or meets 0, the report has to say for which correlations its conclusion holds.

    Parameters
    ----------
    grid_or_frame : RhoGrid or DataFrame
        From `sensitivity.rho_grid`, or a frame from `rho_grid_data`.
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 5.5 x 3.8 inches.
    **data
        Passed to `rho_grid_data` unless a frame is given: ``term=``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        No `term` for a model with several coefficients, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> plots.rho_grid(sensitivity.rho_grid(es, rho=(0, 0.8))).plot_description
    'Mean effect with 95% confidence interval. ρ = 0: .45 [.39, .50]; ρ = 0.8: .45 [.39, .50].'
    """
    frame = as_frame(grid_or_frame, "rho_grid", rho_grid_data, data)

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        first = make_sheet(frame.attrs, width=width, height=height, left=MARGIN)
        values = frame[list(EFFECT)].to_numpy()
        length = first.panel[3] - first.panel[2]
        yaxis = value_axis(values, measure=frame.attrs["measure"], length=length, room=upright)
        sheet = make_sheet(frame.attrs, width=width, height=height, left=left_margin(yaxis))
        length = sheet.panel[1] - sheet.panel[0]
        lo, hi = float(frame["rho"].min()), float(frame["rho"].max())
        lim = (lo - max(PAD * (hi - lo), PAD), hi + max(PAD * (hi - lo), PAD))
        return sheet, value_axis(frame["rho"], measure="GEN", length=length, room=across, lim=lim), yaxis

    return render(frame, ax, plan, _draw_grid, width=WIDTH, height=HEIGHT)


def _grid_term(grid: RhoGrid, term: str | None) -> tuple[str, bool]:
    """Return the coefficient to show, and whether it is the mean effect."""
    terms = [str(name) for name in grid.tidy().index.unique("term")]
    if term is None and len(terms) > 1:
        raise InputError(f"the model has several coefficients; choose one with term=: {', '.join(terms)}")
    if term is not None and term not in terms:
        raise InputError(f"term={term!r} is no coefficient{did_you_mean(term, terms)}; there are: {', '.join(terms)}")
    return term or terms[0], len(terms) == 1 and terms[0] == "intrcpt"


def _grid_rows(grid: RhoGrid, term: str, mean: bool) -> list[dict[str, Any]]:
    found = {(one["rho"], one["term"]): one for one in grid.tidy().reset_index().to_dict(orient="records")}
    rows = []
    for value, fit in zip(grid.rho, grid.fits, strict=True):
        if (value, term) not in found:
            continue
        one = found[value, term]
        row = {"kind": "fit", "label": brief(value), "rho": value, "yi": float(one["estimate"])}
        row |= {"ci_lb": float(one["ci_lb"]), "ci_ub": float(one["ci_ub"]), "pi_lb": math.nan, "pi_ub": math.nan}
        if mean and hasattr(fit, "predict"):
            new = fit.predict().iloc[0]
            row |= {name: float(new[name]) for name in ("pi_lb", "pi_ub") if name in new}
        rows.append(row)
    return rows


def _draw_grid(chart: Chart, frame: pd.DataFrame) -> None:
    axis = chart.yaxis
    assert axis is not None
    if axis.lo <= 0 <= axis.hi:
        y = float(chart.y(0.0))
        chart.rule(chart.left, chart.right, y, y, colour=FAINT, zorder=1)
    frame = frame.sort_values("rho", kind="stable")
    chart.curve(chart.x(frame["rho"].to_numpy()), chart.y(frame["yi"].to_numpy()), points=0.8)
    for row in frame.to_dict("records"):
        x = float(chart.x(row["rho"]))
        for low, high, points in (("pi_lb", "pi_ub", 1.0), ("ci_lb", "ci_ub", 3.2)):
            if row[low] <= axis.hi and row[high] >= axis.lo:
                y0, y1 = float(chart.y(row[low])), float(chart.y(row[high]))
                chart.rule(x, x, y0, y1, colour=SUMMARY, points=points, zorder=4)
                chart.arrows(row[low], row[high], x)
        chart.circles([x], [float(chart.y(row["yi"]))], [0.058], fill=SUMMARY, zorder=5)
