"""Caterpillar plots: every effect with its interval, sorted, for any number of studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.plots.forests.parts import described, pooled_texts, prediction_label, records
from alliance_meta.plots.forests.rows import forest_data
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import COLUMNS, EFFECT, as_frame, counted, make_chart
from alliance_meta.plots.sheet.measure import GREY, INK, SUMMARY, is_correlation
from alliance_meta.tables.format import format_interval, format_level

if TYPE_CHECKING:
    from alliance_meta.results.random_effects import RandomEffectsResults

WIDTH, HEIGHT = 7.0, 4.5
HAIR = 0.4
# Above this many effects the points touch and are drawn as one line.
MOST_POINTS = 250
DENSE_GREY = "#949494"


def caterpillar_data(
    fit: RandomEffectsResults, *, level: float | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of a caterpillar plot: every effect, smallest first, then the pooled one.

    Parameters
    ----------
    fit : RandomEffectsResults, MultilevelResults, RobustResults or RVEResults
        A fitted model. With moderators there is no single mean, and only the effects are in the frame.
    level : float, optional
        Confidence level of every interval; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (study, summary, prediction), ``label``; ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale;
        ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations; ``weight`` in percent; ``position`` in
        ``fit.effects``. The numbers are those of `forest_data`.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.5, 0.1, 0.3], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> plots.caterpillar_data(RandomEffectsModel(es).fit())["label"].tolist()[:3]
    ['Study 2', 'Study 3', 'Study 1']
    """
    forest = forest_data(fit, order="effect", level=level, title=title, show_cautions=show_cautions)
    # Of several means that of all models.
    forest = forest[(forest["kind"] != "summary") | (forest["yi"] == forest.attrs["pooled"])]
    single = forest["kind"].isin(("study", "effect"))
    effects = forest[single].sort_values("yi", kind="stable")
    effects = effects.assign(kind="study", label=[fit.effects.slab[int(i)] for i in effects["position"]])
    columns = [name for names in COLUMNS["caterpillar"] for name in names]
    rows = pd.concat([effects, forest[forest["kind"].isin(("summary", "prediction"))]])[columns].to_dict("records")
    attrs = dict(forest.attrs)
    simple = attrs["pooled"] is not None
    name = fit.effects.provenance.title or fit.effects.provenance.source
    meta = {key: attrs[key] for key in ("measure", "level", "model_label", "notes", "cautions", "synthetic")}
    return make_chart(
        rows,
        meta
        | {
            "plot": "caterpillar",
            "title": title if title is not None else f"Caterpillar plot: {name}",
            "description": _description(forest, fit),
            "x_label": attrs["axis_label"],
            "key": _key(fit.k, attrs["level"], forest, simple),
            "bottom": [*_pooled_line(forest), *([] if simple else [_no_mean(fit)]), attrs["bottom"][0]],
            "show_cautions": show_cautions,
        },
    )


def caterpillar(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw a caterpillar plot: all effects sorted, each with its interval, and the pooled effect behind them.

    It shows at a glance how far effects scatter, however many there are, where a forest plot would need pages.
    The steeper the caterpillar leans, the more the effects differ.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults or DataFrame
        A fitted model, or a frame from `caterpillar_data`.
    ax : matplotlib Axes, optional
        Draw on this axes. Its units are those that its labels read (correlations as such, placed by Fisher's z), so
        that limits, ticks and title can be set and other marks added; key and notes stand below it. By default a
        figure of its own.
    xlim : (float, float), optional
        Limits of the horizontal axis as its labels read; thick and thin intervals that leave them end in an arrow.
        By default they hold every interval, as far as |r| = .95.
    **data
        Passed to the function that makes the frame, here `caterpillar_data`, unless a frame is given.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        What the function that makes the frame refuses, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> figure = plots.caterpillar(RandomEffectsModel(escalc(load_dataset("mcdaniel1994"))).fit())
    >>> figure.get_size_inches().tolist()
    [7.0, 4.5]
    """
    frame = as_frame(fit_or_frame, "caterpillar", caterpillar_data, data)
    with charting(frame, ax, WIDTH, HEIGHT) as chart:
        chart.effects("x", frame[list(EFFECT)], xlim)
        _background(chart, frame)
        studies = frame[frame["kind"] == "study"]
        chart.count_beyond(studies["yi"], "x")
        draw_ranked(chart, studies, HAIR)
    return chart.made


def _key(k: int, level: float, forest: pd.DataFrame, simple: bool) -> list[list[str]]:
    key = [["hair", f"{counted(k)} with {format_level(level)} CI"]]
    if simple:
        key += [["line", "Pooled effect"], ["ci", f"Its {format_level(level)} CI"]]
        if (forest["kind"] == "prediction").any():
            key.append(["pi", prediction_label(level)])
    return key


def _pooled_line(forest: pd.DataFrame) -> list[str]:
    end = records(forest[forest["kind"].isin(("summary", "prediction"))])
    return ["; ".join(pooled_texts(forest.attrs["measure"], forest.attrs["model_label"], end))] if end else []


def _no_mean(fit: RandomEffectsResults) -> str:
    return f"No pooled effect is drawn: the model {fit.design.formula} ({fit.model_label}) has moderators"


def _description(forest: pd.DataFrame, fit: RandomEffectsResults) -> str:
    studies = forest[forest["kind"].isin(("study", "effect"))]
    zero = not is_correlation(fit.effects.measure)
    values = studies["yi" if zero else "r"]
    span = format_interval(values.min(), values.max(), leading_zero=zero).strip("[]").replace(", ", " to ")
    text = f"Caterpillar plot of {counted(fit.k)}, sorted, from {span}."
    return described(" ".join([text, *(f"{line}." for line in _pooled_line(forest))]), forest.attrs["synthetic"])


def _background(chart: Chart, frame: pd.DataFrame) -> None:
    for kind, names, fill in (("prediction", ("pi_lb", "pi_ub"), "pi"), ("summary", ("ci_lb", "ci_ub"), "ci")):
        for row in frame[frame["kind"] == kind].to_dict("records"):
            ends = chart.shown([row[name] for name in names])
            chart.span("x", ends[0], ends[1], fill)
            for x in ends if kind == "prediction" else ():
                chart.rule("x", x, "dotted", color=SUMMARY, linewidth=0.7, zorder=6)
    chart.zero("x")
    for value in frame.loc[frame["kind"] == "summary", "yi"]:
        chart.rule("x", float(chart.shown(value)), "line", zorder=6)


def draw_ranked(chart: Chart, rows: pd.DataFrame, hair: float) -> None:
    """Draw sorted effects from top to bottom with their intervals; very many points become one line."""
    k = len(rows)
    chart.no_axis("y")
    chart.ax.spines["left"].set_visible(False)
    margin = 0.02 * k + 0.5
    chart.limits("y", k - 1 + margin, -margin)
    lb, yi, ub = (chart.shown(rows[name].to_numpy()) for name in ("ci_lb", "yi", "ci_ub"))
    many = k > MOST_POINTS
    chart.intervals("x", lb, ub, np.arange(k), "hair", linewidth=hair, color=DENSE_GREY if many else GREY, zorder=3)
    if many:
        chart.line(yi, np.arange(k), "line", color=INK, linewidth=1.2, zorder=5)
    else:
        diameter = min(4.3, max(1.6, 220.0 / k))
        chart.dots(yi, np.arange(k), s=diameter**2, facecolors=INK, edgecolors="none")
