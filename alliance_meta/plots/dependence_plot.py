"""The same dependent effects by several methods, one below the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_meta, described, make_chart, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.sensitivity.dependence_result import METHODS, DependenceComparison
from alliance_meta.tables.format import brief, format_count, format_level

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
