"""Rainforest plots: a forest in which each effect is a drop, thick where it is likely, and the thicker it weighs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap

from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import moderated
from alliance_meta.notes import check_option
from alliance_meta.plots.bubble_plot import study_rows, weights_of
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.forests.refitted import Order
from alliance_meta.plots.levels.means import key_of, means_of, variables_of
from alliance_meta.plots.sheet.chart import CI_BAND, Axes, Beyond, Chart, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, usual
from alliance_meta.plots.sheet.measure import SUMMARY
from alliance_meta.results.fit import Fit
from alliance_meta.tables.format import format_level, format_percent

MOST = 40
STEPS, PITCH = 61, 0.25
# Half the height of the heaviest drop and of the lightest, as shares of a row.
HIGHEST, LOWEST = 0.46, 0.1
SHADES = LinearSegmentedColormap.from_list("weight", [CI_BAND, "#3f6c9e", SUMMARY])


def rainforest_data(
    fit: Any,
    *,
    order: Order = "given",
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    r"""Return the frame of a rainforest plot: one row per effect and one for the mean.

    Parameters
    ----------
    fit : a fitted model
        Any, of at most 40 effects. With moderators there is no single mean, and only the
        effects are in the frame.
    order : {"given", "estimate"}
        Rows as in the data, or the smallest effect first.
    level, title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (effect, summary), ``label``; ``yi ci_lb ci_ub`` and of the mean ``pi_lb pi_ub`` on the analysis scale,
        ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations; ``weight`` in percent (of a model without weights the share
        of the precision) and ``share``, the same as text. A drop is as wide as the interval and as high at x as
        :math:`1 - ((x - y_i) / h)^2`, with h half the width: the log-likelihood above that at its ends.

    Raises
    ------
    InputError
        More than 40 effects.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.rainforest_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame["kind"].value_counts().to_dict(), frame["share"].tolist()[:2]
    ({'effect': 16, 'summary': 1}, ['5.7%', '10.5%'])
    """
    check_option("order", order, Order)
    if not isinstance(fit, Fit):
        raise InputError(f"a rainforest plot needs a fitted model, not {type(fit).__name__}; call .fit() first")
    if fit.k > MOST:
        raise InputError(
            f"a rainforest plot has room for {MOST} effects, not {fit.k}; plots.caterpillar(fit) draws any number, "
            "plots.forest_pages(fit) a forest on pages"
        )
    used, measure = fit._level(level), fit.effects.measure
    weights, by = weights_of(fit)
    effects = study_rows(fit.effects, [math.nan] * fit.k, weights.tolist(), used)
    if order == "estimate":
        effects.sort(key=lambda row: row["yi"])
    rows = [{**row, "kind": "effect", "share": format_percent(row["weight"])} for row in effects]
    text, label = format_level(used), fit.model_label
    key = [["ci", f"Effect, width {text} CI, height and shade by {by}"]]
    if variables_of(fit):
        bottom = [
            *refusal(fit),
            f"No mean effect is drawn: the model {moderated(fit).formula} ({label}) has moderators",
        ]
    else:
        (mean,), meta, _ = means_of(fit, None, None, used)
        rows.append(with_r(measure, {**mean, "kind": "summary"}))
        key, bottom = [*key, *key_of(fit, rows[-1:], used)], meta["bottom"]
    heavy = max(effects, key=lambda row: row["weight"])
    said = [f"Mean effect {parts.effect_text(measure, rows[-1])}"] if rows[-1]["kind"] == "summary" else []
    said += [*bottom, f"Largest {by}: {heavy['label']}, {format_percent(heavy['weight'])}"]
    return chart_frame(
        "rainforest", "Rainforest plot", rows, fit.effects.provenance, notes=fit.notes, title=title,
        show_cautions=show_cautions, said=f"Rainforest plot of {counted(fit.k)}. {'. '.join(said)}.", measure=measure,
        axis_label="Effect", level=used, x_label=parts.axis_label(measure), model_label=label, key=key, bottom=bottom,
        counts={"share": by.capitalize()},
    )  # fmt: skip


def rainforest(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw each effect as a drop: as wide as its interval, thickest where the true effect is likely to lie.

    In a forest plot the longest lines catch the eye, and these are the least precise effects. Here the heavy ones do:
    the more an effect weighs, the thicker and darker its drop.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        As in `rainforest_data`, or a frame from it.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Notes
    -----
    Schild & Voracek (2015, doi:10.1002/jrsm.1125); drops: Barrowman & Myers (2003, doi:10.1198/0003130032369).
    R: ``metaviz::viz_rainforest(fit)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> figure = plots.rainforest(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit(), order="estimate")
    >>> figure.plot_description
    'Rainforest plot of 16 effects. Mean effect .15 [.08, .22]. Model: REML, HK. Heterogeneity: Q(15) = 38.16, ...'
    """
    frame = as_frame(fit_or_frame, "rainforest", rainforest_data, data)

    def draw(chart: Chart) -> None:
        _drops(chart, frame[frame["kind"] == "effect"])
        chart.estimates("x", frame[frame["kind"] == "summary"], np.flatnonzero(frame["kind"] == "summary"))

    return draw_rows(frame, ax, xlim, usual(frame), pitch=PITCH, widest=3.4, draw=draw)


def _drops(chart: Chart, rows: pd.DataFrame) -> None:
    """Draw the drops with a white mark at each estimate."""
    lb, ub = rows["ci_lb"].to_numpy(), rows["ci_ub"].to_numpy()
    share = rows["weight"].to_numpy() / rows["weight"].max()
    along = np.linspace(-1.0, 1.0, STEPS)
    x = chart.shown(0.5 * (lb + ub)[:, None] + along * 0.5 * (ub - lb)[:, None])
    high = (LOWEST + (HIGHEST - LOWEST) * share)[:, None] * (1.0 - along**2)
    at = np.arange(len(rows))[:, None]
    outline = np.stack([np.hstack([x, x[:, ::-1]]), np.hstack([at - high, (at + high)[:, ::-1]])], axis=2)
    drops = PolyCollection(list(outline), facecolors=SHADES(share), edgecolors=SUMMARY, linewidths=0.4, zorder=3)
    chart.ax.add_collection(drops, autolim=False)
    for ends, side in ((lb, -1), (ub, 1)):
        Beyond(chart.ax, "x", chart.shown(ends), at[:, 0], side)
    chart.dots(chart.shown(rows["yi"].to_numpy()), at[:, 0], s=5.0, facecolors="white", edgecolors="none")
