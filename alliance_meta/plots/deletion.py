"""The result without each effect or study, and of the effects so far: influence, forests, a timeline."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.plot import forest
from alliance_meta.plots.forests.refitted import cumulative_data, leave_one_out_data
from alliance_meta.plots.sheet.chart import SIZE, SMALL, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, one_term, with_r
from alliance_meta.plots.sheet.estimate_rows import usual
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.measure import line_height, size_in_inches, wrap
from alliance_meta.plots.sheet.points import held_steps, name_points, rising_numbers, step_axis
from alliance_meta.sensitivity.deletion.influences import MEASURES, Influence
from alliance_meta.sensitivity.deletion.left_out import Refits
from alliance_meta.tables.format import fixed, format_count, format_level

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


def leave_one_out(
    result_or_frame: Any, *, ax: Axes | None = None, xlim: tuple[float, float] | None = None, **data: Any
) -> NotebookFigure | Axes:
    """Draw the result without each effect or study, one below the other.

    Rows in one line with the diamond say that no single study makes the result. A row far off names the study on
    which it rests. Beside each: p, τ², I² and the prediction interval without it.

    Parameters
    ----------
    result_or_frame : Refits or DataFrame
        From `sensitivity.leave_one_out`, or a frame from `leave_one_out_data`.
    ax, xlim
        As in `forest`; `forest_pages` draws the frame on pages.
    **data
        As in `leave_one_out_data`.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.leave_one_out(sensitivity.leave_one_out(fit)).plot_description
    "Mean effect without each of 16: all effects .15 [.08, .22]; lowest .13 [.07, .20] without ..."
    """
    return _draw(result_or_frame, leave_one_out_data, ax, xlim, data)


def cumulative(
    result_or_frame: Any, *, ax: Axes | None = None, xlim: tuple[float, float] | None = None, **data: Any
) -> NotebookFigure | Axes:
    """Draw the result of the effects so far, one step below the other.

    Rows that move no more say since when the answer stands; an interval that had left 0 and came back says that an
    early answer was too sure.

    Parameters
    ----------
    result_or_frame : Refits or DataFrame
        From `sensitivity.cumulative`, or a frame from `cumulative_data`.
    ax, xlim, **data
        As in `leave_one_out`.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.cumulative(sensitivity.cumulative(fit)).plot_description
    'Mean effect up to each of 12 steps by year: all effects .15 [.08, .22]; lowest .08 [−.36, .50] up to 1997; ...'
    """
    return _draw(result_or_frame, cumulative_data, ax, xlim, data)


def _draw(
    source: Any, make: Callable[..., pd.DataFrame], ax: Axes | None, xlim: Any, data: dict[str, Any]
) -> NotebookFigure | Axes:
    if isinstance(source, pd.DataFrame) and data:
        raise InputError(f"{', '.join(data)}: give this to {make.__name__}, which made the frame")
    frame = source if isinstance(source, pd.DataFrame) else make(source, **data)
    return forest(frame, xlim=xlim) if ax is None else forest(frame, ax=ax, xlim=xlim)


Below = Literal["tau2", "I2"]
WORDS = {"tau2": "τ²", "I2": "I² %"}
WIDTH, HEIGHT = 5.6, 4.0
# The panel of estimates and the one below it, by their heights.
SHARES = (2.4, 1.0)
MARGIN, TOP, BOTTOM = 0.75, 0.08, 1.6 * line_height(SIZE)
NUMBERS = {"yi": "estimate", "ci_lb": "ci_lb", "ci_ub": "ci_ub", "pi_lb": "pi_lb", "pi_ub": "pi_ub"}
GIVEN = "the order given"
CUT_OFF = "Wider intervals are cut off at the edges of the plot"
DOT, MOST_DOTS = 4.6, 60


def timeline_data(
    result: Refits,
    *,
    term: str | None = None,
    below: Below | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of the course of a synthesis: one row per step of `sensitivity.cumulative`.

    Parameters
    ----------
    result : Refits
        From `sensitivity.cumulative`.
    term : str, optional
        The coefficient to show; needed where the model has several.
    below : {"tau2", "I2"}, optional
        The heterogeneity in the lower panel; by default tau2 where the model has one, else I2.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (step), ``label``, ``x`` (what the steps are ordered by where these are rising numbers, else the number
        of the step), ``k`` effects so far; ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb
        r_pi_ub`` as correlations; ``tau2 I2``. Steps of too few effects have no numbers.

    Raises
    ------
    InputError
        Another kind of result, no `term` for a model with several coefficients, or one that it does not have; no step
        that can be fitted, or none with the heterogeneity asked for.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.timeline_data(sensitivity.cumulative(fit))
    >>> frame[["x", "k", "r"]].tail(2).round(3).values.tolist()
    [[2011.0, 15.0, 0.15], [2012.0, 16.0, 0.149]]
    """
    if not isinstance(result, Refits) or result.question != "up to":
        raise InputError(f"timeline_data needs the result of sensitivity.cumulative, not {type(result).__name__}")
    if below is not None:
        check_option("below", below, Below)
    fit = result.fit
    shown = one_term(fit.names, term)[0]
    measure = fit.effects.measure if result.is_mean else "GEN"
    rows = _rows(result, shown, measure)
    known = [row for row in rows if not math.isnan(row["yi"])]
    if not known:
        raise InputError(f"no step has effects enough to be fitted: {result.notes[-1].message}")
    # An equal-effects model has no tau2, whatever the steps say.
    asked = [below] if below else list(WORDS)[getattr(fit, "method", "") == "EE" :]
    panel = next((one for one in asked if any(row[one] == row[one] for row in known)), None)
    if below is not None and panel is None:
        raise InputError(f"below={below!r}: {fit.model_label} has no {below}; leave below away")
    text, what = format_level(fit.level), "Mean effect" if result.is_mean else f"Coefficient of {shown}"
    label = parts.axis_label(measure) if result.is_mean else f"{what} ({fit.effects.scale_label} scale)"
    named = any(row["x"] != i + 1 for i, row in enumerate(rows))
    lines = _said(known, measure, text)
    early = len(rows) - len(known)
    step = f"Step{' in' if result.by == GIVEN else ', ordered by'} {result.by}"
    steps = f"{format_count(early)} of {format_count(len(rows))} steps have too few effects to be fitted"
    return chart_frame(
        "timeline", f"Synthesis by {result.by}", rows, fit.effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, measure=measure, axis_label=label, level=fit.level, model_label=fit.model_label,
        said=f"{what} after each of {len(rows)} steps by {result.by}, {counted(fit.k)}: {'. '.join(lines)}.",
        x_label=parts.header(result.by) if named else step, below=panel or "",
        key=[["line", f"{what} so far"], ["ci", f"Its {text} interval"], ["dashed", "All effects"]],
        bottom=[f"{what} ({fit.model_label}). {lines[0]}", *lines[1:], *([steps] if early else [])],
        whole=all(float(row["x"]).is_integer() for row in rows),
    )  # fmt: skip


def timeline(result_or_frame: Any, *, ax: Axes | None = None, ylim: Limits | None = None, **data: Any) -> Drawn:
    """Draw what each year's synthesis would have said: the estimate, its interval, and below it the heterogeneity.

    A line that has run level for years says that the answer stands, and that further studies of the same kind would
    hardly change it; a heterogeneity that climbs while the line is level, that later studies differ more.

    Parameters
    ----------
    result_or_frame : Refits or DataFrame
        From `sensitivity.cumulative`, or a frame from `timeline_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.
    ylim : (float, float), optional
        Limits of the estimates as their labels read. By default they hold all but very wide intervals.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given; its two panels are axes inside it.

    See Also
    --------
    cumulative : the same as a forest, with numbers.
    sequential : of a Bayesian model, for which looking again and again costs nothing.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.timeline(sensitivity.cumulative(fit)).plot_description
    'Mean effect after each of 12 steps by year, 16 effects: First .27 [.04, .47] at 1995 (k = 1); ...'
    """
    frame = as_frame(result_or_frame, "timeline", timeline_data, data)
    shares = SHARES if frame.attrs["below"] else SHARES[:1]
    room = len(shares) * (TOP + BOTTOM)
    least = (MARGIN + WIDTH, HEIGHT + room) if ax is None else (MARGIN + 1.2, 1.6 + room)
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        if ax is None:
            chart.fit(0.0, 0.0, 0.0, 0.0)
        panels = chart.grid(shares, [1.0], left=MARGIN, head=TOP, tail=BOTTOM, gap=0.0)
        _estimates(panels[0], frame, ylim)
        for panel in panels[1:]:
            _below(panel, frame)
        lettered(panels[-1].ax.xaxis.label, frame.attrs["x_label"], SIZE)
        chart.tick_lines = 1
    return chart.made


def _rows(result: Refits, term: str, measure: str) -> list[dict[str, Any]]:
    table = result.tidy(term=term)
    places = rising_numbers(pd.to_numeric(table["label"], errors="coerce"))
    x = np.arange(1.0, len(table) + 1.0) if places is None or not np.isfinite(places).all() else places
    rows = []
    for at, row in zip(x.tolist(), parts.records(table), strict=True):
        numbers = {new: float(row[old]) for new, old in NUMBERS.items()} | {one: float(row[one]) for one in WORDS}
        rows.append(with_r(measure, {"kind": "step", "label": row["label"], "x": at, "k": float(row["k"]), **numbers}))
    return rows


def _said(known: list[dict[str, Any]], measure: str, text: str) -> list[str]:
    """Say where the estimate began and ended, since when it has stayed, and since when it has excluded 0."""
    first, last = known[0], known[-1]
    ends = "; ".join(
        f"{name} {parts.effect_text(measure, row)} at {row['label']} (k = {format_count(row['k'])})"
        for name, row in zip(("First", "last"), (first, last)[: len(known)], strict=False)
    )
    stays = _since(known, lambda row: last["ci_lb"] <= row["yi"] <= last["ci_ub"])
    lines = [ends, f"Estimate within the last {text} interval since {stays['label']}"] if stays is not None else [ends]
    apart = _since(known, lambda row: row["ci_lb"] > 0 or row["ci_ub"] < 0)
    return [*lines, f"Interval without 0 since {apart['label']}" if apart is not None else "The last interval holds 0"]


def _since(known: list[dict[str, Any]], holds: Any) -> dict[str, Any] | None:
    """Return the first of the last steps in a row for which something holds."""
    found = None
    for row in reversed(known):
        if not holds(row):
            break
        found = row
    return found


def _estimates(chart: Chart, frame: pd.DataFrame, ylim: Limits | None) -> None:
    chart.effects("y", usual(frame.assign(pi_lb=np.nan, pi_ub=np.nan)), ylim)
    chart.zero("y")
    step_axis(chart, frame["x"].to_numpy(), whole=frame.attrs["whole"])
    edges, held = held_steps(frame)
    chart.area(edges, chart.shown(held["ci_lb"]), chart.shown(held["ci_ub"]), "ci", step="post")
    chart.rule("y", float(chart.shown(frame["yi"].iloc[-1])), "dashed", linewidth=0.9, zorder=2)
    chart.line(edges, chart.shown(held["yi"]), "line", drawstyle="steps-post")
    if len(frame) <= MOST_DOTS:
        chart.dots(frame["x"], chart.shown(frame["yi"]), s=DOT**2)
    lo, hi = chart.ax.get_ylim()
    if (chart.shown(frame["ci_lb"]) < lo).any() or (chart.shown(frame["ci_ub"]) > hi).any():
        chart.notes.append(CUT_OFF)
    _label(chart, chart.attrs["axis_label"])
    chart.ax.tick_params(labelbottom=not chart.attrs["below"])


def _below(chart: Chart, frame: pd.DataFrame) -> None:
    name = frame.attrs["below"]
    highest = frame[name].max()
    chart.numbers("y", [0.0, highest if highest > 0 else 0.01], floor=0.0)
    step_axis(chart, frame["x"].to_numpy(), whole=frame.attrs["whole"])
    edges, held = held_steps(frame)
    chart.area(edges, 0.0, held[name], "pi", step="post")
    chart.line(edges, held[name], "line", drawstyle="steps-post")
    _label(chart, WORDS[name])


def _label(chart: Chart, text: str) -> None:
    """Write the label of a panel on lines that it has room for."""
    lines = wrap(text, SMALL, max(0.8, size_in_inches(chart.ax)[1]))
    lettered(chart.ax.yaxis.label, "\n".join(lines), SMALL)
