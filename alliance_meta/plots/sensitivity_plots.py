"""What a pooled result rests on: the way dependence is handled, the assumed correlation."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, estimate_key, one_term, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.plots.sheet.measure import SUMMARY
from alliance_meta.sensitivity.assumed_rho import RhoGrid
from alliance_meta.sensitivity.dependence import METHODS, DependenceComparison
from alliance_meta.tables.format import brief, fixed, format_level, plural


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
    title, show_cautions
        As in `forest_data`.

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
    shown, _ = one_term(list(result.terms), term)
    effects, level = result.effects, result.level
    measure = effects.measure if result.is_mean else "GEN"
    rows = [with_r(measure, row) for row in _method_rows(result, shown)]
    text = format_level(level)
    what = "Mean effect" if result.is_mean else f"Coefficient of {shown}"
    values = "; ".join(f"{row['label']} {parts.effect_text(measure, row)}" for row in rows)
    return chart_frame(
        "dependence", "Dependent effects by several methods", rows, effects.provenance, notes=result.notes,
        title=title, show_cautions=show_cautions, said=f"{what} with {text} confidence intervals: {values}.",
        measure=measure, axis_label="Method",
        x_label=parts.axis_label(measure) if result.is_mean else f"{what} ({effects.scale_label} scale)",
        level=level,
        key=estimate_key(what, f"{text} CI", rows, text),
        bottom=_method_lines(result, shown),
    )  # fmt: skip


def dependence(result_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the pooled result of the same dependent effects by every method, one below the other.

    Dots in one line mean that the choice of method does not matter for the mean; how far the thick lines reach says
    what it does to the confidence interval, the thin ones to the prediction interval.

    Parameters
    ----------
    result_or_frame : DependenceComparison or DataFrame
        From `compare_dependence`, or a frame from `dependence_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

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


def _method_rows(result: DependenceComparison, term: str) -> list[dict[str, Any]]:
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


def _method_lines(result: DependenceComparison, term: str) -> list[str]:
    settings = result.settings
    many = f"{plural(result.effects.k, 'effect')} in {plural(result.clusters.n, 'study', 'studies')}"
    lines = [f"{many}; assumed correlation of sampling errors ρ = {brief(settings['rho'])}"]
    if not result.is_mean:
        lines[0] += f"; moderators: {settings['mods']}"
    lines += [f"{METHODS[name]} left out: {reason.reason}" for name, reason in result.left_out.items()]
    lacking = [METHODS[name] for name, fit in result.fits.items() if term not in fit.names]
    return [*lines, *([f"Without {term}: {', '.join(lacking)}"] if lacking else [])]


RHO_SIZE = (5.5, 3.8)
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
    title, show_cautions
        As in `forest_data`.

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
    shown, mean = one_term([str(name) for name in grid.tidy().index.unique("term")], term)
    one = grid.fits[0]
    measure = one.effects.measure if mean else "GEN"
    rows = [with_r(measure, row) for row in _grid_rows(grid, shown, mean)]
    level = float(one.level)
    text = format_level(level)
    what = "Mean effect" if mean else f"Coefficient of {shown}"
    values = "; ".join(f"ρ = {row['label']}: {parts.effect_text(measure, row)}" for row in rows)
    scale = parts.axis_label(measure) if mean else f"{what} ({one.effects.scale_label} scale)"
    moves = float(grid.span()["moves"][shown])
    model = getattr(one, "model_label", "")
    return chart_frame(
        "rho_grid", "Sensitivity to the assumed correlation", rows, one.effects.provenance, notes=grid.notes,
        title=title, show_cautions=show_cautions, said=f"{what} with {text} confidence interval. {values}.",
        measure=measure, axis_label=scale, x_label=X_LABEL, level=level, model_label=model,
        key=estimate_key(what, f"{text} CI", rows, text),
        bottom=[
            f"{grid.assumption[:1].upper()}{grid.assumption[1:]}{f' ({model})' if model else ''}; "
            f"the estimate moves by {fixed(moves, 2)} standard errors over the grid"
        ],
    )  # fmt: skip


def rho_grid(grid_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the pooled result for each correlation that was assumed between the effects of one study.

    A level row of dots means that the assumption does not matter. Where the dots climb or fall, or an interval
    leaves or meets 0, the report has to say for which correlations its conclusion holds.

    Parameters
    ----------
    grid_or_frame : RhoGrid or DataFrame
        From `sensitivity.rho_grid`, or a frame from `rho_grid_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, plots, sensitivity
    >>> es = escalc(load_dataset("crede2010").query("criterion == 'grade'"))
    >>> plots.rho_grid(sensitivity.rho_grid(es, rho=(0, 0.8))).plot_description
    'Mean effect with 95% confidence interval. ρ = 0: .45 [.39, .50]; ρ = 0.8: .45 [.39, .50].'
    """
    frame = as_frame(grid_or_frame, "rho_grid", rho_grid_data, data)

    with charting(frame, ax, *RHO_SIZE) as chart:
        chart.effects("y", frame[list(EFFECT)])
        lo, hi = float(frame["rho"].min()), float(frame["rho"].max())
        pad = max(PAD * (hi - lo), PAD)
        chart.numbers("x", [], (lo - pad, hi + pad))
        chart.zero("y")
        rows = frame.sort_values("rho", kind="stable")
        chart.line(rows["rho"].to_numpy(), chart.shown(rows["yi"].to_numpy()), "hair", color=SUMMARY)
        chart.estimates("y", rows, rows["rho"])
    return chart.made


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
