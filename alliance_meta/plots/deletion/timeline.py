"""How the result of the effects so far moved: estimate, interval and heterogeneity from step to step."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import SIZE, SMALL, Axes, Chart, Drawn, Limits, charting, lettered
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, one_term, with_r
from alliance_meta.plots.sheet.estimate_rows import usual
from alliance_meta.plots.sheet.measure import line_height, size_in_inches, wrap
from alliance_meta.plots.sheet.steps import held_steps, rising_numbers, step_axis
from alliance_meta.sensitivity.deletion.left_out import Refits
from alliance_meta.tables.format import format_count, format_level

Below = Literal["tau2", "I2"]
WORDS = {"tau2": "τ²", "I2": "I² %"}
WIDTH, HEIGHT = 5.6, 4.0
# The panel of estimates and the one below it, by their heights.
SHARES = (2.4, 1.0)
LEFT, HEAD, TAIL = 0.75, 0.08, 1.6 * line_height(SIZE)
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
    lines = _lines(known, measure, text)
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
    room = len(shares) * (HEAD + TAIL)
    least = (LEFT + WIDTH, HEIGHT + room) if ax is None else (LEFT + 1.2, 1.6 + room)
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        if ax is None:
            chart.fit(0.0, 0.0, 0.0, 0.0)
        panels = chart.grid(shares, [1.0], left=LEFT, head=HEAD, tail=TAIL, gap=0.0)
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


def _lines(known: list[dict[str, Any]], measure: str, text: str) -> list[str]:
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
