"""Effects against a moderator, with the fitted line, means or smooth curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.bayes.arviz_bridge import shortest_interval
from alliance_meta.bayes.marginals import KINDS, IntervalKind
from alliance_meta.bayes.sampled.results import FAILED, SampledPosterior
from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import check_names, finite_number, level_values, moderated, one_level
from alliance_meta.notes import NotApplicable, Note, check_level, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.sheet.chart import DASHED, SMALL, Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import (
    EFFECT,
    as_frame,
    chart_frame,
    with_r,
    without_interval,
)
from alliance_meta.plots.sheet.measure import POINTS_PER_INCH, text_width, wrap
from alliance_meta.plots.sheet.points import radii_of, see_through, swarm
from alliance_meta.tables.format import format_count, format_interval, format_level, format_number, plural

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

STEPS = 101


def bubble_data(
    fit: Any,
    by: str,
    *,
    at: Mapping[str, Any] | None = None,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a bubble plot: every effect at its value of a moderator, and the fitted line or means.

    Parameters
    ----------
    fit : a fitted model
        With moderators.
    by : str
        The moderator on the horizontal axis.
    at : mapping, optional
        Values of the model's other moderators. By default numeric ones are held at their mean over the effects,
        categorical ones at their reference level.
    level : float, optional
        Confidence level of every interval; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: study; line (101 points of the fitted line of a numeric moderator); level (the fitted mean of one
        level of a categorical one). ``x`` is the moderator's value, or the number of the level, and ``label``
        the study or the level; ``k`` counts the effects of a level; ``yi ci_lb ci_ub pi_lb pi_ub`` are on the
        analysis scale, ``r ...`` the same as correlations; ``weight`` is in percent. ``inside`` is 1 where effects
        with the held levels reach, 0 on a stretch that only other effects cover. ``.attrs["held"]`` says where
        the other moderators are held.

    Raises
    ------
    DesignError
        For a model without moderators.
    InputError
        An unknown moderator or level.

    Notes
    -----
    The line is never drawn beyond the values that effects have. R: ``regplot(fit, mod = "year")``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="design + meanage").fit()
    >>> frame = plots.bubble_data(fit, "meanage")
    >>> frame["kind"].value_counts().to_dict(), frame.attrs["held"]
    ({'line': 101, 'study': 16}, {'design': 'cross-sectional'})
    """
    check_names(moderated(fit), [by, *(at or {})])
    used = fit.level if level is None else level
    check_level(used)
    if by in (at or {}):
        raise InputError(f"at: {by} is on the axis; give values for the other moderators only")
    table = fit.effects.moderators
    held = {name: held_value(fit, name, table, (at or {}).get(name)) for name in fit.design.variables if name != by}
    categorical = by in fit.design.levels
    alike = _alike(fit, table, held)
    rows = _levels(fit, by, table, held, alike, used) if categorical else _line(fit, by, table, held, alike, used)
    notes = _notes(rows, by, table.loc[alike, by], categorical)
    return chart_frame(
        "bubble", "Bubble plot", [*_studies(fit, by, table, categorical, used), *rows], fit.effects.provenance,
        notes=merge_notes(fit.notes, notes), title=title, show_cautions=show_cautions,
        said=_description(fit, by, rows, held, categorical, used), measure=fit.effects.measure,
        axis_label=parts.axis_label(fit.effects.measure), x_label=parts.header(by), level=used,
        model_label=fit.model_label,
        key=_key(used, categorical, rows, weights_of(fit)[1]),
        bottom=[
            *refusal(fit), *held_line(held, categorical), *(note.message for note in notes),
            *(without_interval(rows) if categorical else []), *_tests(fit, used),
        ],
        by=by,
        levels=[str(row["label"]) for row in rows] if categorical else [], held=held,
        whole=bool(not categorical and (table[by] == table[by].round()).all()),
    )  # fmt: skip


def held_value(fit: Any | SampledPosterior, name: str, table: pd.DataFrame, given: Any) -> Any:
    """Return the value at which a moderator that is not on the axis is held."""
    if name in fit.design.levels:
        known = level_values(name, fit.design, table)
        found = known[0] if given is None else one_level(name, given, known)
        return found.item() if isinstance(found, np.generic) else found
    return float(table[name].mean()) if given is None else finite_number(name, given)


def _alike(fit: Any, table: pd.DataFrame, held: Mapping[str, Any]) -> Mask:
    """Say which effects have the held levels of the other categorical moderators."""
    found = np.ones(len(table), dtype=bool)
    for name, value in held.items():
        if name in fit.design.levels:
            found &= (table[name] == value).to_numpy(dtype=bool)
    return found


def _studies(fit: Any, by: str, table: pd.DataFrame, categorical: bool, level: float) -> list[dict[str, Any]]:
    weights, _ = weights_of(fit)
    if categorical:
        place = {value: i for i, value in enumerate(level_values(by, fit.design, table))}
        return study_rows(fit.effects, [float(place[value]) for value in table[by]], weights, level)
    return study_rows(fit.effects, table[by].astype(float).tolist(), weights, level)


def weights_of(fit: Any) -> tuple[Array, str]:
    """Return the weights of a fit in percent, or the share of each effect in the precision, and which these are."""
    if hasattr(fit, "weights"):
        return fit.weights, "weight"
    precision = 1.0 / fit.effects.vi
    return 100.0 * precision / precision.sum(), "precision"


def study_rows(
    effects: EffectSizes, x: Sequence[float], weights: Sequence[float] | Array, level: float
) -> list[dict[str, Any]]:
    """Return the rows of all effects with their normal intervals, each at its `x`."""
    half = critical_value(level, None) * effects.sei
    found = zip(effects.slab, x, effects.yi, effects.yi - half, effects.yi + half, weights, strict=True)
    names = ("label", "x", "yi", "ci_lb", "ci_ub", "weight", "position")
    rows = [dict(zip(names, (*row, i), strict=True)) for i, row in enumerate(found)]
    return [with_r(effects.measure, {"kind": "study", **row}) for row in rows]


def _predicted(fit: Any, by: str, values: list[Any], held: Mapping[str, Any], level: float) -> list[dict[str, Any]]:
    """Return the fitted mean at each value, empty where the effects do not determine it."""
    newdata = pd.DataFrame({by: values, **{name: [value] * len(values) for name, value in held.items()}})
    known = fit.design.estimable(fit.design.beyond(newdata))
    found = np.full((len(values), len(EFFECT)), np.nan)
    if known.any():
        frame = fit.predict(newdata.iloc[np.flatnonzero(known)], level=level).rename(columns={"pred": "yi"})
        found[known] = frame[list(EFFECT)].to_numpy()
    return [with_r(fit.effects.measure, dict(zip(EFFECT, row, strict=True))) for row in found.tolist()]


def _line(
    fit: Any, by: str, table: pd.DataFrame, held: Mapping[str, Any], alike: Mask, level: float
) -> list[dict[str, Any]]:
    found: Array = table[by].to_numpy(dtype=float)
    x = np.linspace(found.min(), found.max(), STEPS)
    own = found[alike]
    inside = (x >= own.min()) & (x <= own.max()) if own.size else np.zeros(STEPS, dtype=bool)
    rows = _predicted(fit, by, x.tolist(), held, level)
    return [
        {"kind": "line", "x": at, "inside": float(there), **row} for at, there, row in zip(x, inside, rows, strict=True)
    ]


def _levels(
    fit: Any, by: str, table: pd.DataFrame, held: Mapping[str, Any], alike: Mask, level: float
) -> list[dict[str, Any]]:
    values = level_values(by, fit.design, table)
    rows = _predicted(fit, by, values, held, level)
    out = []
    for i, (value, row) in enumerate(zip(values, rows, strict=True)):
        members = (table[by] == value).to_numpy(dtype=bool)
        inside = float((members & alike).any())
        label = fit.design.levels[by][i]
        out.append({"kind": "level", "label": label, "x": float(i), "k": int(members.sum()), "inside": inside, **row})
    return out


def _notes(rows: list[dict[str, Any]], by: str, alike: pd.Series[Any], categorical: bool) -> list[Note]:
    outside = [row for row in rows if not row["inside"] and not np.isnan(row["yi"])]
    notes = []
    if outside and categorical:
        names = ", ".join(row["label"] for row in outside)
        message = f"Hollow: no effect of {names} has the held levels; the mean there rests on the model alone."
        notes.append(Note("beyond-the-data", message))
    elif outside:
        where = "no effect has the held levels"
        if len(alike):
            lo, hi = (parts.cell(float(value)) for value in (alike.min(), alike.max()))
            where = f"effects with the held levels reach from {by} = {lo} to {hi} only"
        notes.append(Note("beyond-the-data", f"Dashed: {where}; the line rests on the model alone there."))
    lost = [row for row in rows if np.isnan(row["yi"])]
    if lost:
        names = f" for {', '.join(row['label'] for row in lost)}" if categorical else " where the line is missing"
        message = f"No fitted mean{names}: no effect has the combination of levels it needs."
        notes.append(Note("not-estimable", message))
    return notes


def held_line(held: Mapping[str, Any], categorical: bool) -> list[str]:
    """Return the line under the plot that says where other moderators are held, if there are any."""
    if not held:
        return []
    values = "; ".join(f"{name} = {parts.cell(value)}" for name, value in held.items())
    return [f"{'Means' if categorical else 'Line'} at {values}; effects as observed"]


def _tests(fit: Any, level: float) -> list[str]:
    if isinstance(fit.QM, NotApplicable) or isinstance(fit.QE, NotApplicable):
        return [f"{fit.design.formula}; {fit.model_label}"]
    test = f"Test of moderators: {parts.test_text(fit.QM, fit.QMdf, fit.QMp)}"
    residual = parts.heterogeneity(fit, level, simple=False)
    return [f"{test} ({fit.design.formula}; {fit.model_label})", residual]


def _key(level: float, categorical: bool, rows: list[dict[str, Any]], area: str) -> list[list[str]]:
    text = format_level(level)
    new = any(not np.isnan(row["pi_lb"]) for row in rows)
    if categorical:
        key = [["bubble", f"Effect, area by {area}"], ["thick", f"Fitted mean, {text} CI"]]
        return [*key, ["thin", f"{text} prediction interval"]] if new else key
    key = [["bubble", f"Effect, area by {area}"], ["line", "Fitted mean"], ["ci", f"Its {text} CI"]]
    return [*key, ["pi", f"{text} prediction interval"]] if new else key


def _description(
    fit: Any,
    by: str,
    rows: list[dict[str, Any]],
    held: Mapping[str, Any],
    categorical: bool,
    level: float,
) -> str:
    effect = parts.effect_text
    text = f"Bubble plot of {plural(fit.k, 'effect')} against {by}."
    measure = fit.effects.measure
    if categorical:
        means = "; ".join(f"{row['label']} (k = {row['k']}) {effect(measure, row)}" for row in rows)
        text += f" Fitted means with {format_level(level)} CI: {means}."
    else:
        first, last = rows[0], rows[-1]
        text += (
            f" The fitted mean goes from {effect(measure, first)} at {parts.cell(first['x'])} "
            f"to {effect(measure, last)} at {parts.cell(last['x'])}."
        )
    return " ".join([text, *(f"{line}." for line in held_line(held, categorical))])


WIDTH, HEIGHT = 6.5, 4.6
# The panel of a figure of our own; the figure grows where long labels would make it lower.
LOWEST = 2.6
COLUMN = 0.95
# Where bubbles and mean stand beside the middle of their column, and how wide the bubbles spread, as shares of it.
ASIDE, MEAN = 0.06, 0.42
SWARM_SHARE = 0.4


def bubble(
    fit_or_frame: Any,
    by: str | None = None,
    *,
    ax: Axes | None = None,
    ylim: Limits | None = None,
    **data: Any,
) -> Drawn:
    """Draw effects against one moderator of a meta-regression, with what the model says of it.

    The larger a bubble, the more that effect weighs. For a numeric moderator the line is the mean effect that the
    model expects, the inner band its confidence interval, the outer band the prediction interval: where the true
    effect of one new study lies. For a categorical one each level has its column, with the mean beside it.

    Parameters
    ----------
    fit_or_frame : RandomEffectsResults or DataFrame
        A fitted meta-regression, or a frame from `bubble_data`.
    by : str, optional
        The moderator on the horizontal axis; with a frame it is known.
    ax, **data
        As in `caterpillar`, and so are the errors.
    ylim : (float, float), optional
        Limits of the effects as their labels read; by default as far as |r| = .95.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Notes
    -----
    The line is drawn for given values of the other moderators, which the lines under the plot name, and never
    beyond the values that effects have.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="meanage").fit()
    >>> figure = plots.bubble(fit, "meanage")
    >>> figure.plot_description
    'Bubble plot of 16 effects against meanage. The fitted mean goes from .22 [.07, .36] at 22 to .09 ...'
    """
    if by is not None:
        data = {"by": by, **data}
    frame = as_frame(fit_or_frame, "bubble", bubble_data, data)
    columns = len(frame.attrs["levels"])
    width = max(WIDTH, 1.0 + _least_column(frame) * columns) if columns else WIDTH
    with charting(frame, ax, width, HEIGHT, panel=(2.0, LOWEST)) as chart:
        (_draw_columns if columns else draw_line)(chart, frame, ylim)
    return chart.made


def draw_line(chart: Chart, frame: pd.DataFrame, ylim: Limits | None) -> None:
    """Draw the bubbles, the line of means and its bands."""
    studies, line = frame[frame["kind"] == "study"], frame[frame["kind"] == "line"]
    _effects(chart, frame, ylim)
    values = studies["x"].to_numpy()
    chart.numbers("x", _roomy(values), whole=bool(frame.attrs["whole"]))
    x, y = line["x"].to_numpy(), {name: chart.shown(line[name].to_numpy()) for name in EFFECT}
    there, inside = np.isfinite(line["yi"].to_numpy()), line["inside"].to_numpy() > 0
    for low, high, mark in (("pi_lb", "pi_ub", "pi"), ("ci_lb", "ci_ub", "ci")):
        chart.area(x, y[low], y[high], mark)
    _bubbles(chart, studies, values)
    # A stretch reaches to the point where the next begins.
    for mask, style in ((there & inside, "solid"), (there & ~inside, DASHED)):
        reach = there & (mask | np.concatenate([[False], mask[:-1]]))
        if mask.any():
            chart.line(x, np.where(reach, y["yi"], np.nan), "line", linestyle=style)


def _effects(chart: Chart, frame: pd.DataFrame, ylim: Limits | None) -> None:
    effects = frame.loc[frame["kind"] == "study", "yi"].to_numpy()
    means = frame.loc[frame["kind"] != "study", list(EFFECT)].to_numpy().ravel()
    chart.effects("y", np.concatenate([means, _roomy(effects)]), ylim)
    chart.count_beyond(effects, "y")
    chart.zero("y")


def _roomy(values: Array) -> Array:
    """Return the ends of the values with room for a bubble at each."""
    room = 0.04 * float(np.ptp(values))
    return np.array([values.min() - room, values.max() + room])


def _least_column(frame: pd.DataFrame) -> float:
    words = [word for level in frame.attrs["levels"] for word in level.split()]
    return max([COLUMN, *(text_width(word, SMALL) + 0.15 for word in words)])


def _bubbles(chart: Chart, studies: pd.DataFrame, x: Array) -> None:
    radii = radii_of(studies["weight"].to_numpy())
    order = np.argsort(-radii, kind="stable")
    area = (2.0 * radii * POINTS_PER_INCH) ** 2
    y = chart.shown(studies["yi"].to_numpy())
    chart.dots(x[order], y[order], s=area[order], alpha=see_through(len(studies)), zorder=3)


def _draw_columns(chart: Chart, frame: pd.DataFrame, ylim: Limits | None) -> None:
    """Draw a column of bubbles for each level, at 0, 1, ..., with the mean beside it."""
    studies, levels = frame[frame["kind"] == "study"], frame[frame["kind"] == "level"]
    _effects(chart, frame, ylim)
    chart.limits("x", -0.5, len(levels) - 0.5)
    width, height = chart.panel_size()
    pitch, lim = width / len(levels), chart.ax.get_ylim()
    radii, x = radii_of(studies["weight"].to_numpy()), studies["x"].to_numpy().copy()
    place = chart.ax.yaxis.get_transform().transform
    y = (place(chart.shown(studies["yi"].to_numpy())) - place(lim[0])) / np.ptp(place(np.array(lim))) * height
    for i in range(len(levels)):
        rows = np.flatnonzero(studies["x"].to_numpy() == i)
        x[rows] += swarm(y[rows], radii[rows], half=SWARM_SHARE * pitch) / pitch - ASIDE
    _bubbles(chart, studies, x)
    at, supported = levels["x"].to_numpy() + MEAN, levels["inside"].to_numpy() > 0
    chart.estimates("y", levels, at)
    chart.dots(at[~supported], chart.shown(levels["yi"].to_numpy()[~supported]), "hollow", zorder=6)
    texts = [
        "\n".join([*wrap(level, SMALL, pitch - 0.1), f"k = {format_count(k)}"])
        for level, k in zip(frame.attrs["levels"], levels["k"], strict=True)
    ]
    chart.names("x", texts, size=SMALL)


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
    rows = [*_curve_studies(posterior, x, used), *(with_r(measure, row) for row in line)]
    text = format_level(used)
    return chart_frame(
        "smooth", "Smooth meta-regression", rows, recipe.effects.provenance, notes=posterior.notes, title=title,
        show_cautions=show_cautions, said=_curve_said(posterior, by, rows, held), measure=measure,
        axis_label=parts.axis_label(measure), x_label=parts.header(by), level=used, model_label="smooth",
        key=[
            ["bubble", "Effect, area by weight"],
            ["line", "Mean (median)"],
            ["ci", f"Its {text} interval"],
            ["pi", f"{text} prediction interval"],
        ],
        bottom=_curve_lines(posterior, by, held, used), by=by, held=held, whole=bool((x == x.round()).all()),
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
        As in `caterpillar`, and so are the errors.
    ylim : (float, float), optional
        Limits of the effects as their labels read; by default as far as |r| = .95.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import bayes, escalc, load_dataset, plots
    >>> model = bayes.pymc.smooth(escalc(load_dataset("molloy2014")), by="meanage")
    >>> plots.smooth(bayes.sample(model, seed=1))  # doctest: +SKIP
    """
    frame = as_frame(posterior_or_frame, "smooth", smooth_data, data)

    with charting(frame, ax, WIDTH, HEIGHT, panel=(2.0, LOWEST)) as chart:
        draw_line(chart, frame, ylim)
    return chart.made


def _curve_studies(posterior: SampledPosterior, x: Array, level: float) -> list[dict[str, Any]]:
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
        found += _curve_limits(values, level, posterior.interval)
    rows = np.column_stack(found).tolist()
    return [
        {"kind": "line", "x": value, "inside": 1.0, **dict(zip(EFFECT, row, strict=True))}
        for value, row in zip(x.tolist(), rows, strict=True)
    ]


def _curve_limits(values: Array, level: float, kind: IntervalKind) -> list[Array]:
    """Return the lower and upper limits of each column of draws."""
    if kind == "hdi":
        found = np.array([shortest_interval(one, level) for one in values.T])
        return [found[:, 0], found[:, 1]]
    return list(np.quantile(values, [0.5 * (1.0 - level), 0.5 * (1.0 + level)], axis=0))


def _curve_lines(posterior: SampledPosterior, by: str, held: Mapping[str, Any], level: float) -> list[str]:
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
    lower, upper = (float(one[0]) for one in _curve_limits(values[:, None], level, kind))
    largest = max(abs(lower), abs(upper))
    digits = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 3
    interval = format_interval(lower, upper, digits, leading_zero=True)
    return f"{format_number(float(np.median(values)), digits)} {interval}"


def _curve_said(posterior: SampledPosterior, by: str, rows: list[dict[str, Any]], held: Mapping[str, Any]) -> str:
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
