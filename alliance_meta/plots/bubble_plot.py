"""Bubble plots of a meta-regression: effects against one moderator, with the fitted line or means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array, Mask
from alliance_meta.errors import InputError
from alliance_meta.moderators.grid import check_names, finite_number, level_values, moderated, one_level
from alliance_meta.notes import NotApplicable, Note, check_level, merge_notes
from alliance_meta.plots.forests import nested
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.layout import MARGIN
from alliance_meta.plots.forests.pages import TICK
from alliance_meta.plots.sheet.axis import Axis, value_axis
from alliance_meta.plots.sheet.chart import (
    CI_BAND,
    DASHED,
    PI_BAND,
    POINT,
    SIZE,
    SMALL,
    Chart,
    Sheet,
    across,
    left_margin,
    make_sheet,
    render,
    upright,
)
from alliance_meta.plots.sheet.chart_frame import (
    EFFECT,
    as_frame,
    chart_meta,
    described,
    make_chart,
    with_beyond,
    with_r,
)
from alliance_meta.plots.sheet.density import swarm
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.pen import FAINT, SUMMARY
from alliance_meta.plots.sheet.text import line_height, text_width, wrap
from alliance_meta.tables.format import format_count, format_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from alliance_meta.bayes.sampled.results import SampledPosterior

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
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

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
    meta = chart_meta(
        "bubble",
        "Bubble plot",
        fit.effects.provenance,
        title=title,
        show_cautions=show_cautions,
        notes=merge_notes(fit.notes, notes),
    )
    return make_chart(
        [*_studies(fit, by, table, categorical, used), *rows],
        meta
        | {
            "description": described(_description(fit, by, rows, held, categorical, used), meta["synthetic"]),
            "measure": fit.effects.measure,
            "axis_label": forest_text.axis_label(fit.effects.measure),
            "x_label": forest_text.header(by),
            "level": used,
            "model_label": fit.model_label,
            "key": _key(used, categorical, rows, "weight" if hasattr(fit, "weights") else "precision"),
            "bottom": [*held_line(held, categorical), *(note.message for note in notes), *_tests(fit, used)],
            "by": by,
            "levels": [str(row["label"]) for row in rows] if categorical else [],
            "held": held,
            "whole": bool(not categorical and (table[by] == table[by].round()).all()),
        },
    )


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
    from alliance_meta.core.distributions import critical_value

    effects = fit.effects
    half = critical_value(level, None) * effects.sei
    weights = fit.weights if hasattr(fit, "weights") else 100.0 / effects.vi / (1.0 / effects.vi).sum()
    if categorical:
        place = {value: i for i, value in enumerate(level_values(by, fit.design, table))}
        x = [float(place[value]) for value in table[by]]
    else:
        x = table[by].astype(float).tolist()
    return [
        with_r(
            effects.measure,
            {
                "kind": "study",
                "label": label,
                "x": x[i],
                "yi": effects.yi[i],
                "ci_lb": effects.yi[i] - half[i],
                "ci_ub": effects.yi[i] + half[i],
                "weight": weights[i],
                "position": i,
            },
        )
        for i, label in enumerate(effects.slab)
    ]


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
            lo, hi = (forest_text.cell(float(value)) for value in (alike.min(), alike.max()))
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
    values = "; ".join(f"{name} = {forest_text.cell(value)}" for name, value in held.items())
    return [f"{'Means' if categorical else 'Line'} at {values}; effects as observed"]


def _tests(fit: Any, level: float) -> list[str]:
    if isinstance(fit.QM, NotApplicable) or isinstance(fit.QE, NotApplicable):
        return [f"{fit.design.formula}; {fit.model_label}"]
    test = f"Test of moderators: {forest_text.test_text(fit.QM, fit.QMdf, fit.QMp)}"
    residual = nested.heterogeneity(fit, level, simple=False)
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
    effect = forest_text.effect_text
    text = f"Bubble plot of {format_count(fit.k)} effects against {by}."
    measure = fit.effects.measure
    if categorical:
        means = "; ".join(f"{row['label']} (k = {row['k']}) {effect(measure, row)}" for row in rows)
        text += f" Fitted means with {format_level(level)} CI: {means}."
    else:
        first, last = rows[0], rows[-1]
        text += (
            f" The fitted mean goes from {effect(measure, first)} at {forest_text.cell(first['x'])} "
            f"to {effect(measure, last)} at {forest_text.cell(last['x'])}."
        )
    return " ".join([text, *(f"{line}." for line in held_line(held, categorical))])


WIDTH, HEIGHT = 6.5, 4.6
# The panel of a figure of our own; the figure grows where long labels would make it lower.
LOWEST = 2.6
SMALLEST, LARGEST = 0.028, 0.13
COLUMN = 0.95
MEAN_SHARE = 0.36
SWARM_SHARE = 0.4


def bubble(
    fit_or_frame: Any,
    by: str | None = None,
    *,
    ax: Axes | None = None,
    ylim: tuple[float, float] | None = None,
    **data: Any,
) -> NotebookFigure | Axes:
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
    ax : matplotlib Axes, optional
        Draw into this axes. By default a figure of 6.5 x 4.6 inches, wider for many levels.
    ylim : (float, float), optional
        Limits of the effects as their labels read; by default as far as |r| = .95.
    **data
        Passed to `bubble_data` when a fitted model is given: ``at``, ``level``, ...

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Raises
    ------
    InputError
        An unknown moderator, or an `ax` that is too small.

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
    columns = bool(frame.attrs["levels"])
    width = max(WIDTH, MARGIN + 0.8 + _least_column(frame) * len(frame.attrs["levels"])) if columns else WIDTH

    def plan(width: float, height: float) -> tuple[Sheet, Axis | None, Axis | None]:
        return (_plan_columns if columns else plan_line)(frame, width, height, ylim, LOWEST if ax is None else None)

    return render(frame, ax, plan, _draw_columns if columns else draw_line, width=width, height=HEIGHT)


def _effects_axis(frame: pd.DataFrame, sheet: Sheet, ylim: tuple[float, float] | None) -> Axis:
    means = frame.loc[frame["kind"] != "study", list(EFFECT)].to_numpy().ravel()
    length = sheet.panel[3] - sheet.panel[2]
    values = np.concatenate([means, _roomy(frame.loc[frame["kind"] == "study", "yi"].to_numpy(), length)])
    return value_axis(values, measure=frame.attrs["measure"], length=length, room=upright, lim=ylim)


def _roomy(values: Array, length: float) -> Array:
    """Return the ends of the values with room for a bubble at each."""
    room = float(np.ptp(values)) * LARGEST / max(length - 2 * LARGEST, LARGEST)
    return np.array([values.min() - room, values.max() + room])


def plan_line(
    frame: pd.DataFrame, width: float, height: float, ylim: tuple[float, float] | None, least: float | None
) -> tuple[Sheet, Axis | None, Axis | None]:
    """Lay out effects against a numeric moderator."""
    sheet, yaxis = _sheet(frame, width, height, ylim, least, 1)
    x = frame.loc[frame["kind"] == "study", "x"].to_numpy()
    length = sheet.panel[1] - sheet.panel[0]
    whole = bool(frame.attrs["whole"] and np.ptp(x) >= 3)
    xaxis = value_axis(_roomy(x, length), measure="GEN", length=length, room=across, zero=False, whole=whole)
    return sheet, xaxis, yaxis


def _plan_columns(
    frame: pd.DataFrame, width: float, height: float, ylim: tuple[float, float] | None, least: float | None
) -> tuple[Sheet, Axis | None, Axis | None]:
    first, _ = _sheet(frame, width, height, ylim, least, 2)
    lines = max(len(cell) for cell in _labels(frame, first)) + 1
    sheet, yaxis = _sheet(frame, width, height, ylim, least, lines)
    return sheet, None, yaxis


def _sheet(
    frame: pd.DataFrame, width: float, height: float, ylim: tuple[float, float] | None, least: float | None, lines: int
) -> tuple[Sheet, Axis]:
    """Lay out twice: the lines under the plot and the left margin depend on the axis of effects."""

    def sheet(attrs: Mapping[Any, Any], left: float) -> Sheet:
        return make_sheet(attrs, width=width, height=height, left=left, tick_lines=lines, least=least)

    attrs = with_beyond(frame, _effects_axis(frame, sheet(frame.attrs, MARGIN), ylim))
    yaxis = _effects_axis(frame, sheet(attrs, MARGIN), ylim)
    return sheet(attrs, left_margin(yaxis)), yaxis


def _least_column(frame: pd.DataFrame) -> float:
    words = [word for level in frame.attrs["levels"] for word in level.split()]
    return max([COLUMN, *(text_width(word, SMALL) + 0.15 for word in words)])


def _labels(frame: pd.DataFrame, sheet: Sheet) -> list[tuple[str, ...]]:
    room = (sheet.panel[1] - sheet.panel[0]) / len(frame.attrs["levels"]) - 0.1
    return [wrap(level, SMALL, room) for level in frame.attrs["levels"]]


def _radii(studies: pd.DataFrame) -> Array:
    """Return radii whose squares stand for the weights, none too small to see."""
    weight = studies["weight"].to_numpy()
    largest = max(SMALLEST + 0.012, min(LARGEST, 0.55 / math.sqrt(len(weight)) + 0.035))
    return np.maximum(SMALLEST, largest * np.sqrt(weight / weight.max()))


def _bubbles(chart: Chart, studies: pd.DataFrame, x: Array, radii: Array) -> None:
    order = np.argsort(-radii, kind="stable")
    y = chart.y(studies["yi"].to_numpy())
    alpha = 0.75 if len(studies) <= 60 else 0.6 if len(studies) <= 300 else 0.3
    chart.circles(x[order], y[order], radii[order], fill=POINT, alpha=alpha, zorder=3)


def _no_effect(chart: Chart) -> None:
    assert chart.yaxis is not None
    if chart.yaxis.lo <= 0 <= chart.yaxis.hi:
        y = float(chart.y(0.0))
        chart.rule(chart.left, chart.right, y, y, colour=FAINT, zorder=1)


def draw_line(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the bubbles, the line of means and its bands."""
    _no_effect(chart)
    studies, line = frame[frame["kind"] == "study"], frame[frame["kind"] == "line"]
    x, y = chart.x(line["x"].to_numpy()), {name: chart.y(line[name].to_numpy()) for name in EFFECT}
    there = np.isfinite(line["yi"].to_numpy())
    for low, high, fill in (("pi_lb", "pi_ub", PI_BAND), ("ci_lb", "ci_ub", CI_BAND)):
        usable = there & np.isfinite(line[low].to_numpy())
        if usable.any():
            chart.area(x[usable], y[low][usable], y[high][usable], fill)
    _bubbles(chart, studies, chart.x(studies["x"].to_numpy()), _radii(studies))
    inside = line["inside"].to_numpy() > 0
    for mask, style in ((there & inside, "solid"), (there & ~inside, DASHED)):
        for run in _runs(mask):
            chart.curve(x[run], y["yi"][run], points=1.6, style=style)


def _runs(mask: Any) -> list[slice]:
    """Return the unbroken stretches of a mask, each reaching to the point where the next begins."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [slice(int(a), min(int(b) + 1, len(mask))) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _draw_columns(chart: Chart, frame: pd.DataFrame) -> None:
    _no_effect(chart)
    studies, levels = frame[frame["kind"] == "study"], frame[frame["kind"] == "level"]
    pitch = (chart.right - chart.left) / len(levels)
    radii = _radii(studies)
    x = np.zeros(len(studies))
    for i in range(len(levels)):
        rows = np.flatnonzero(studies["x"].to_numpy() == i)
        offsets = swarm(chart.y(studies["yi"].to_numpy()[rows]), radii[rows], half=SWARM_SHARE * pitch)
        x[rows] = chart.left + (i + 0.44) * pitch + offsets
    _bubbles(chart, studies, x, radii)
    labels = _labels(frame, chart.sheet)
    for i, row in enumerate(levels.to_dict("records")):
        centre = chart.left + (i + 0.5) * pitch
        _mean(chart, row, chart.left + (i + 0.5 + MEAN_SHARE + 0.06) * pitch)
        base = chart.bottom + TICK + 0.75 * line_height(SIZE)
        texts = [*labels[i], f"k = {format_count(row['k'])}"]
        for j, text in enumerate(texts):
            chart.text(centre, base + j * line_height(SIZE), text, align="center", size=SMALL)


def _mean(chart: Chart, row: dict[Any, Any], x: float) -> None:
    """Draw a mean with its thick confidence and thin prediction interval; hollow where no effect supports it."""
    if not math.isfinite(row["yi"]):
        return
    for low, high, points in (("pi_lb", "pi_ub", 1.0), ("ci_lb", "ci_ub", 3.2)):
        if math.isfinite(row[low]) and math.isfinite(row[high]):
            y0, y1 = float(chart.y(row[low])), float(chart.y(row[high]))
            chart.rule(x, x, y0, y1, colour=SUMMARY, points=points, zorder=4)
            chart.arrows(row[low], row[high], x)
    fill = SUMMARY if row["inside"] else "white"
    chart.circles([x], [float(chart.y(row["yi"]))], [0.058], fill=fill, edge="white" if row["inside"] else SUMMARY,
                  zorder=5)  # fmt: skip
