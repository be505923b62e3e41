"""The curve of a smooth meta-regression over the effects it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.arviz_bridge import shortest_interval
from alliance_meta.bayes.marginals import KINDS, IntervalKind
from alliance_meta.bayes.sampled.results import FAILED, SampledPosterior
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import check_names
from alliance_meta.options import check_level
from alliance_meta.plots.bubble_plot import HEIGHT, LOWEST, STEPS, WIDTH, draw_line, held_line, held_value, study_rows
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, with_r
from alliance_meta.tables.format import format_count, format_interval, format_level, format_number


def smooth_data(
    posterior: SampledPosterior,
    *,
    at: Mapping[str, Any] | None = None,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a smooth meta-regression: every effect, and the curve with its bands.

    Parameters
    ----------
    posterior : SampledPosterior
        Of a model from `bayes.pymc.smooth`.
    at : mapping, optional
        Values of the model's other moderators. By default numeric ones are held at their mean over the effects,
        categorical ones at their reference level.
    level : float, optional
        Probability inside every interval; that of the posterior by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: study, or line (101 points of the curve: the posterior median of the mean effect, its interval, and
        the interval of the true effect of one new study). ``x`` is the moderator; ``yi ci_lb ci_ub pi_lb pi_ub`` are
        on the analysis scale, ``r ...`` the same as correlations; the interval of a study is its confidence interval;
        ``weight`` is in percent. ``.attrs["held"]`` says where the other moderators are held.

    Raises
    ------
    InputError
        Another result, an unknown moderator or level.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> model = bayes.pymc.smooth(escalc(load_dataset("molloy2014")), by="meanage")
    >>> frame = plots.smooth_data(bayes.sample(model, seed=1))  # doctest: +SKIP
    >>> frame.groupby("kind").size().to_dict()  # doctest: +SKIP
    {'line': 101, 'study': 16}
    """
    recipe = posterior.recipe if isinstance(posterior, SampledPosterior) else None
    if recipe is None or recipe.curve is None:
        raise InputError("smooth_data needs the posterior of a model from bayes.pymc.smooth")
    by = recipe.curve
    used = posterior.level if level is None else level
    check_level(used)
    check_names(recipe.design, list(at or {}))
    if by in (at or {}):
        raise InputError(f"at: {by} is on the axis; give values for the other moderators only")
    table = recipe.effects.moderators
    x = table[by].to_numpy(dtype=float)
    names = [name for name in recipe.design.variables if name != by]
    held = {name: held_value(posterior, name, table, (at or {}).get(name)) for name in names}
    measure = recipe.effects.measure
    line = _curve(posterior, np.linspace(x.min(), x.max(), STEPS), by, held, used)
    rows = [*_studies(posterior, x, used), *(with_r(measure, row) for row in line)]
    text = format_level(used)
    return chart_frame(
        "smooth", "Smooth meta-regression", rows, recipe.effects.provenance, notes=posterior.notes, title=title,
        show_cautions=show_cautions, said=_description(posterior, by, rows, held), measure=measure,
        axis_label=parts.axis_label(measure), x_label=parts.header(by), level=used, model_label="smooth",
        key=[
            ["bubble", "Effect, area by weight"],
            ["line", "Mean (median)"],
            ["ci", f"Its {text} interval"],
            ["pi", f"{text} prediction interval"],
        ],
        bottom=_bottom(posterior, by, held, used), by=by, held=held, whole=bool((x == x.round()).all()),
    )  # fmt: skip


def smooth(posterior_or_frame: Any, *, ax: Axes | None = None, ylim: Limits | None = None, **data: Any) -> Drawn:
    """Draw effects over time or another numeric moderator, with the curve that the mean effect follows.

    The larger a bubble, the more precise the effect. The curve is the mean effect, the inner band how uncertain it is,
    the outer band where the true effect of one new study lies.

    Parameters
    ----------
    posterior_or_frame : SampledPosterior or DataFrame
        Of a model from `bayes.pymc.smooth`, or a frame from `smooth_data`.
    ax, **data
        As in `caterpillar`, and so is what is returned.
    ylim : (float, float), optional
        Limits of the effects as their labels read; by default as far as |r| = .95.

    Raises
    ------
    InputError
        Another result, an unknown moderator, or an `ax` that is too small.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> model = bayes.pymc.smooth(escalc(load_dataset("molloy2014")), by="meanage")
    >>> plots.smooth(bayes.sample(model, seed=1))  # doctest: +SKIP
    """
    frame = as_frame(posterior_or_frame, "smooth", smooth_data, data)

    with charting(frame, ax, WIDTH, HEIGHT, least=(2.0, LOWEST) if ax is None else None) as chart:
        draw_line(chart, frame, ylim)
    return chart.made


def _studies(posterior: SampledPosterior, x: Array, level: float) -> list[dict[str, Any]]:
    weight = 1.0 / (posterior.effects.vi + float(np.median(posterior._flat["tau"])) ** 2)
    return study_rows(posterior.effects, x.tolist(), (100.0 * weight / weight.sum()).tolist(), level)


def _curve(
    posterior: SampledPosterior, x: Array, by: str, held: Mapping[str, Any], level: float
) -> list[dict[str, Any]]:
    """Return the median of the mean effect at each value, its interval and that of a new study's true effect."""
    recipe, draws = posterior.made, posterior._flat
    newdata = pd.DataFrame({by: x, **{name: [value] * len(x) for name, value in held.items()}})
    mean = recipe.fitted(draws, newdata)
    # One and the same draw of the deviation for all values: the limits are smooth curves, too.
    away = recipe.scatter(draws, newdata.iloc[:1], np.random.default_rng(posterior.seed))
    found = [np.median(mean, axis=0)]
    for values in (mean, mean + away):
        found += _limits(values, level, posterior.interval)
    rows = np.column_stack(found).tolist()
    return [
        {"kind": "line", "x": value, "inside": 1.0, **dict(zip(EFFECT, row, strict=True))}
        for value, row in zip(x.tolist(), rows, strict=True)
    ]


def _limits(values: Array, level: float, kind: IntervalKind) -> list[Array]:
    """Return the lower and upper limits of each column of draws."""
    if kind == "hdi":
        found = np.array([shortest_interval(one, level) for one in values.T])
        return [found[:, 0], found[:, 1]]
    return list(np.quantile(values, [0.5 * (1.0 - level), 0.5 * (1.0 + level)], axis=0))


def _bottom(posterior: SampledPosterior, by: str, held: Mapping[str, Any], level: float) -> list[str]:
    draws, kind = posterior._flat, KINDS[posterior.interval]
    prior = posterior.made.priors["tau_smooth"]
    place = posterior.design.names.index(by)
    slope = posterior.made.coefficients(draws)[:, place]
    lines = [FAILED] if posterior.problems else []
    lines += [line.replace("Line at", "Curve at", 1) for line in held_line(held, False)]
    lines += [
        f"Straight part: {_number(slope, level, posterior.interval)} per unit of {by}; deviation from it: tau_smooth = "
        f"{_number(draws['tau_smooth'], level, posterior.interval)} (prior: {prior})",
        f"Between studies: τ = {_number(draws['tau'], level, posterior.interval)}",
        f"Medians and {format_level(level)} {kind} intervals ({posterior.effects.scale_label} scale)",
    ]
    return lines


def _number(values: Array, level: float, kind: IntervalKind) -> str:
    """Return median and interval, the larger limit to three significant digits."""
    lower, upper = (float(one[0]) for one in _limits(values[:, None], level, kind))
    largest = max(abs(lower), abs(upper))
    digits = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 3
    interval = format_interval(lower, upper, digits, leading_zero=True)
    return f"{format_number(float(np.median(values)), digits)} {interval}"


def _description(posterior: SampledPosterior, by: str, rows: list[dict[str, Any]], held: Mapping[str, Any]) -> str:
    measure = posterior.effects.measure
    line = [row for row in rows if row["kind"] == "line"]
    low, high = (pick(line, key=lambda row: row["yi"]) for pick in (min, max))
    ends = " to ".join(f"{parts.effect_text(measure, row)} at {parts.cell(row['x'])}" for row in
                       (line[0], line[-1]))  # fmt: skip
    text = [
        f"Effects of {format_count(posterior.k)} studies against {by}, and a smooth curve.",
        f"The mean effect goes from {ends}; it is lowest at {parts.cell(low['x'])} and highest at "
        f"{parts.cell(high['x'])}.",
    ]
    return " ".join([*text, *(f"{line.replace('Line at', 'Curve at', 1)}." for line in held_line(held, False))])
