"""How a synthesis changed from year to year."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.sequence import SURPRISE, SequentialResults
from alliance_meta.errors import InputError
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.measure import INK
from alliance_meta.plots.sheet.steps import held_steps, rising_numbers, step_axis
from alliance_meta.tables.format import format_level, plural

WIDTH, HEIGHT = 6.5, 4.4
# Diameters in points.
DOT, RING = 5.8, 11.5
CUT_OFF = "Wider prediction intervals are cut off at the edges of the plot"
STEPS = ("mu", "mu_ci_lb", "mu_ci_ub", "pi_lb", "pi_ub")


def sequential_data(
    result: SequentialResults, *, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a plot of a synthesis over the years: one row per step and one per study.

    Parameters
    ----------
    result : SequentialResults
        From `bayes.sequential`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: step (the synthesis of all studies up to then) or study (the result that came in); ``label``, ``x``
        (the value ordered by; the number of the step where that is no number), ``k``; ``yi ci_lb ci_ub pi_lb
        pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations; of a study ``p``, how
        surprising it was. Steps without a posterior have no estimate.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.sequential_data(bayes.sequential(fit))
    >>> frame.query("kind == 'step'")[["x", "k", "r"]].iloc[-1].round(3).tolist()
    [2012.0, 16.0, 0.147]
    """
    if not isinstance(result, SequentialResults):
        raise InputError(f"sequential_data needs the result of bayes.sequential, not {type(result).__name__}")
    fit, measure = result.fit, result.fit.effects.measure
    table, studies = result.tidy(), result.surprises()
    values = rising_numbers(table["at"])
    named = values is not None
    places = values if values is not None else np.arange(1.0, len(table) + 1.0)
    rows = []
    for x, (label, row) in zip(places, table.iterrows(), strict=True):
        numbers = dict(zip(EFFECT, [float(row[name]) for name in STEPS], strict=True))
        rows.append(with_r(measure, {"kind": "step", "label": str(label), "x": x, "k": row["k"]} | numbers))
    for label, row in studies.iterrows():
        one = {"kind": "study", "label": str(label), "x": places[int(row["step"]) - 1], "yi": float(row["yi"])}
        rows.append(with_r(measure, one | {"p": float(row["p"])}))
    text = format_level(fit.level)
    known = [row for row in rows if row["kind"] == "step" and not math.isnan(row["yi"])]
    surprising = len(result.surprising)
    ringed = f"Ringed: results surprising after those before, p < .05 ({surprising} of {_predicted(studies)})"
    last = f"After all studies: {parts.effect_text(measure, known[-1])}" if known else "No step has a posterior"
    return chart_frame(
        "sequential", "Synthesis from year to year", rows, fit.effects.provenance, notes=result.notes, title=title,
        show_cautions=show_cautions, said=_description(result, known, measure), measure=measure,
        axis_label=parts.axis_label(measure),
        x_label=_x_label(result.order) if named else f"Step, ordered by {result.order}", level=fit.level,
        model_label=f"k = {fit.k}",
        key=[
            ["line", "Mean so far"], ["ci", f"{text} interval"], ["pi", "Prediction interval"],
            ["dot", "Result that came in"],
        ],
        bottom=[
            "Bands hold until the next step: compare a result with the bands on its left", last,
            *([CUT_OFF] if _cut_off(rows) else []), *([ringed] if surprising else []),
        ],
        whole=bool((places == np.round(places)).all()),
    )  # fmt: skip


def sequential(result_or_frame: Any, *, ax: Axes | None = None, ylim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the synthesis as it stood after each year, with the results as they came in.

    The line is the mean effect of all studies up to then, the inner band its credible interval, the outer band the
    prediction interval: where the true effect of a further study was to be expected. A ringed result lay far from
    that.

    Parameters
    ----------
    result_or_frame : SequentialResults or DataFrame
        From `bayes.sequential`, or a frame from `sequential_data`.
    ax, **data
        As in `caterpillar`, and so are the errors.
    ylim : (float, float), optional
        Limits of the effects as their labels read. By default they hold all results and intervals of the mean, as
        far as |r| = .95; the early prediction intervals may go beyond.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import BayesianModel, bayes, escalc, load_dataset, plots
    >>> fit = BayesianModel(escalc(load_dataset("molloy2014"))).fit()
    >>> plots.sequential(bayes.sequential(fit)).plot_description
    'Mean effect after each of 12 steps by year, 16 effects. First .23 [−.31, .58]; last .15 [.08, .22]. ...'
    """
    frame = as_frame(result_or_frame, "sequential", sequential_data, data)

    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        steps, studies = frame[frame["kind"] == "step"], frame[frame["kind"] == "study"]
        chart.effects("y", frame[["yi", "ci_lb", "ci_ub"]], ylim)
        chart.zero("y")
        step_axis(chart, steps["x"].to_numpy(), whole=frame.attrs["whole"])
        edges, held = held_steps(steps)
        for low, high, mark in (("pi_lb", "pi_ub", "pi"), ("ci_lb", "ci_ub", "ci")):
            chart.area(edges, chart.shown(held[low]), chart.shown(held[high]), mark, step="post")
        chart.line(edges, chart.shown(held["yi"]), "line", drawstyle="steps-post")
        far = studies[studies["p"] < SURPRISE]
        chart.dots(far["x"], chart.shown(far["yi"]), "ring", s=RING**2, facecolors="none", edgecolors=INK)
        chart.dots(studies["x"], chart.shown(studies["yi"]), s=DOT**2)
    return chart.made


def _x_label(order: str) -> str:
    return "Year" if order == "year" else "Studies so far" if order == "the order given" else order


def _cut_off(rows: list[dict[str, Any]]) -> bool:
    """Return whether prediction intervals reach further than the results and the intervals of the mean."""
    frame = pd.DataFrame(rows)
    shown, wide = frame[["yi", "ci_lb", "ci_ub"]].to_numpy(), frame[["pi_lb", "pi_ub"]].to_numpy()
    if not np.isfinite(wide).any():
        return False
    return bool(np.nanmin(wide) < np.nanmin(shown) or np.nanmax(wide) > np.nanmax(shown))


def _predicted(studies: pd.DataFrame) -> int:
    return int(studies["p"].astype(float).notna().sum())


def _description(result: SequentialResults, known: list[dict[str, Any]], measure: str) -> str:
    steps = len(result.steps)
    text = f"Mean effect after each of {plural(steps, 'step')} by {result.order}, {counted(result.fit.k)}."
    if known:
        first, last = (parts.effect_text(measure, row) for row in (known[0], known[-1]))
        text += f" First {first}; last {last}."
    return f"{text} Surprising results (p < .05): {len(result.surprising)} of {_predicted(result.studies)}."
