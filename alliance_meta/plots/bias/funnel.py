"""Funnel plots: effects against their standard errors, with where they are significant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bias.small_study.adjusted import TrimFill
from alliance_meta.bias.small_study.asymmetry import RegressionTest
from alliance_meta.bias.small_study.precision import Peese, Pet, PetPeese
from alliance_meta.core.distributions import critical_value, two_sided_p
from alliance_meta.errors import InputError
from alliance_meta.notes import NotApplicable, Note, merge_notes
from alliance_meta.plots.bias.points import (
    PANEL,
    SIZE,
    By,
    Points,
    draw_points,
    mean_row,
    read_points,
    scale_axes,
    se_label,
)
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import FILLS, Axes, Chart, Drawn, Limits, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, with_r
from alliance_meta.plots.sheet.measure import GREY
from alliance_meta.results.fit import SAME
from alliance_meta.tables.format import format_count, format_level, format_number, format_p, plural

# Of a standard error, what stands beside the slope.
SHAPES: dict[str, Callable[[Array], Array]] = {"sei": lambda se: se, "vi": np.square}
MARKS = ("dashed", "dashdot")
OTHER = "the result is not of the effects of this fit"


def beside(points: Points, by: By, filled: Any) -> Points:
    """Return the points that trim and fill started from: means of studies where effects depend."""
    if not isinstance(filled, TrimFill):
        raise InputError(f"filled needs the result of bias.trimfill, not {type(filled).__name__}")
    if points.given.dependent and by == "effect":
        raise InputError("trim and fill adds means of studies; draw them beside such: by='study'")
    before, source = filled.before.effects, points.given
    if before.k != source.studies or not (source.dependent or np.allclose(before.yi, source.yi)):
        raise InputError(f"filled: {OTHER}")
    return replace(points, effects=before) if source.dependent else points


def filled_rows(filled: TrimFill | None) -> list[dict[str, Any]]:
    """Return the effects that were added, and the mean with them."""
    if filled is None:
        return []
    measure, rows = filled.measure, []
    for label, row in filled.filled.iterrows():
        se = float(np.sqrt(row["vi"]))
        p = float(two_sided_p(np.array(row["yi"] / se), None))
        rows.append(with_r(measure, {"kind": "filled", "label": str(label), "yi": float(row["yi"]), "se": se, "p": p}))
    name = f"Trim and fill ({filled.estimator}, {filled.k0} added)"
    own = {"kind": "adjusted", "label": name, "yi": filled.estimate, "ci_lb": filled.ci_lb, "ci_ub": filled.ci_ub}
    return [*rows, with_r(measure, own)]


def line_rows(points: Points, lines: Sequence[Any], depths: Array) -> list[dict[str, Any]]:
    """Return each regression at every standard error, and its limit at 0."""
    if isinstance(lines, str) or not isinstance(lines, Sequence):
        lines = [lines]
    measure = points.effects.measure
    rows: list[dict[str, Any]] = []
    for name, limit, slope, predictor in (found for one in lines for found in _read(one, points.given.k)):
        if isinstance(limit[0], NotApplicable) or isinstance(slope, NotApplicable):
            reason = getattr(slope, "reason", "") or getattr(limit[0], "reason", "")
            raise InputError(f"{name} has no line to draw: {reason}")
        start, lb, ub = map(float, limit)
        y = start + float(slope) * SHAPES[predictor](depths)
        ends = {"kind": "limit", "label": name, "se": 0.0, "yi": start, "ci_lb": lb, "ci_ub": ub}
        rows += [with_r(measure, ends)]
        rows += [with_r(measure, {"kind": "line", "label": name, "se": se, "yi": value})
                 for se, value in zip(depths.tolist(), y.tolist(), strict=True)]  # fmt: skip
    if len({row["label"] for row in rows}) > len(MARKS):
        raise InputError(f"lines: a funnel has room for {len(MARKS)}; give fewer")
    return rows


def _read(one: Any, k: int) -> Iterator[tuple[str, tuple[Any, Any, Any], Any, str]]:
    """Yield name, limit with its interval, slope and predictor of each line of a result."""
    if not isinstance(one, RegressionTest | PetPeese):
        raise InputError(f"lines needs results of bias.regtest or bias.pet_peese, not {type(one).__name__}")
    if one.k != k:
        raise InputError(f"lines: {OTHER}")
    if one.predictor not in SHAPES:
        raise InputError(f"lines: a regression on {one.predictor} is no line over standard errors; use predictor='sei'")
    if isinstance(one, RegressionTest):
        yield "Regression test", (one.limit_estimate, *one.limit_ci), one.slope, one.predictor
        return
    parts_of: tuple[tuple[Pet | Peese, str], ...] = ((one.pet, "sei"), (one.peese, "vi"))
    for part, predictor in parts_of:
        yield part.called, (part.estimate, part.ci_lb, part.ci_ub), part.slope, predictor


def more_key(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the key of what was added."""
    limits = [row for row in rows if row["kind"] == "limit"]
    measure = "ZCOR" if any("r" in row for row in rows) else "GEN"
    key = [[mark, f"{row['label']}, limit {parts.effect_text(measure, row)}"]
           for mark, row in zip(MARKS, limits, strict=False)]  # fmt: skip
    if any(row["kind"] == "filled" for row in rows):
        key.append(["ring", "Filled"])
    return key + [["pale", f"{row['label']} {parts.effect_text(measure, row)}"]
                  for row in rows if row["kind"] == "adjusted"]  # fmt: skip


def draw_more(chart: Chart, frame: pd.DataFrame) -> None:
    """Draw the lines, their limits at 0, and the mean with filled effects."""
    for value in frame.loc[frame["kind"] == "adjusted", "yi"]:
        chart.rule("x", float(chart.shown(value)), "pale", zorder=3)
    limits = frame[frame["kind"] == "limit"]
    for mark, name in zip(MARKS, limits["label"], strict=False):
        line = frame[(frame["kind"] == "line") & (frame["label"] == name)]
        chart.line(chart.shown(line["yi"].to_numpy()), line["se"], mark, zorder=4)
    found = {name: chart.shown(limits[name].to_numpy()) for name in ("yi", "ci_lb", "ci_ub")}
    # Where two intervals lie upon each other, the paler one is the second.
    for i, stroke in zip(range(len(limits)), ("thick", "pale"), strict=False):
        own = slice(i, i + 1)
        chart.intervals("x", found["ci_lb"][own], found["ci_ub"][own], limits["se"][own], stroke, zorder=4)
    chart.dots(found["yi"], limits["se"], "hollow", zorder=6, clip_on=False)


# Two-sided p-values at which the shade changes, and the fill inside each; outside all of them the last.
CONTOURS = {0.01: "p05", 0.05: "p10", 0.10: "open"}
OUTSIDE = "p01"
STEPS = 41
FEW = 10


def funnel_data(
    fit: Any,
    *,
    by: By = "effect",
    rho: float | None = None,
    lines: Sequence[Any] = (),
    filled: TrimFill | None = None,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a funnel plot: every effect with its standard error, the mean, and where p is small.

    Parameters
    ----------
    fit : a fitted model
        Of any kind. With moderators there is no single mean, and only the effects are drawn.
    by : {"effect", "study"}
        Where effects depend: every effect, or the plain mean of each study, so that no study counts more than once.
    rho : float, optional
        For means of studies: correlation of the sampling errors of one study's effects; by default what the model
        takes it for, and .6 for a model that knows none.
    lines : sequence of results
        Of `bias.regtest` by ``"sei"`` or ``"vi"``, or of `bias.pet_peese`: each is drawn as its regression line, with
        the limit estimate and its interval where the standard error is 0.
    filled : TrimFill, optional
        From `bias.trimfill`: its filled effects are drawn, beside the effects that it started from.
    level : float, optional
        Confidence level of the mean and of the limits around it; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: effect or study (a point, with its two-sided ``p`` and the ``k`` effects that it stands for); mean;
        limits (at the standard error ``se``, between which 95% of studies would lie if all had the mean effect);
        contour (between which the effects have a p-value above ``p``); line (of a regression, at ``se``) and limit
        (its estimate at 0); filled (a point that trim and fill added) and adjusted (the mean with these).
        ``yi ci_lb ci_ub`` are on the analysis scale, ``r r_lb r_ub`` the same as correlations.

    Raises
    ------
    InputError
        What is no fit, a `by` that is neither, covariances that link effects of different studies; a line that is
        none over standard errors, filled means of studies beside single effects, or results of other effects.

    Notes
    -----
    Contours around no effect: Peters, Sutton, Jones, Abrams & Rushton (2008, doi:10.1016/j.jclinepi.2007.11.010).
    R: ``funnel(fit, level = c(90, 95, 99), refline = 0)``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> frame = plots.funnel_data(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit())
    >>> frame["kind"].value_counts().to_dict()
    {'contour': 123, 'limits': 41, 'effect': 16, 'mean': 1}
    """
    points = read_points(fit, "funnel", by, level, rho)
    if filled is not None:
        points = beside(points, by, filled)
    effects, text = points.effects, format_level(points.level)
    mean = mean_row(fit, points.level)
    depths = np.linspace(0.0, points.deepest, STEPS)
    more = [*line_rows(points, lines, depths), *filled_rows(filled)]
    body = [*([mean] if mean else []), *_limits(points, mean, depths), *_contours(points, depths), *more]
    outside, notes = _outside(points, mean), [*points.notes, *_cautions(points)]
    key = [["dot", points.called]]
    if mean:
        key += [["line", f"Mean effect {parts.effect_text(effects.measure, mean)}"],
                ["dotted", f"{text} limits, if all had this effect"]]  # fmt: skip
    key += more_key(more)
    key += [["p10", "p < .10"], ["p05", "p < .05"], ["p01", "p < .01 (two-sided)"]]
    return chart_frame(
        "funnel", "Funnel plot", [*points.rows(), *body], effects.provenance,
        notes=merge_notes(fit.notes, notes), title=title, show_cautions=show_cautions,
        said=_description(points, mean, outside, more), measure=effects.measure,
        axis_label=se_label(effects), x_label=parts.axis_label(effects.measure), level=points.level,
        model_label=fit.model_label, key=key,
        bottom=[*outside, *(note.message for note in notes)], deepest=points.deepest,
    )  # fmt: skip


def _cautions(points: Points) -> list[Note]:
    """Say what keeps the shape of this plot from telling anything."""
    effects, notes = points.effects, []
    if effects.k < FEW:
        text = f"With {plural(effects.k, 'point')} an uneven plot cannot be told from chance."
        notes.append(Note("few-points", text))
    if effects.k > 1 and np.ptp(effects.vi) <= SAME * effects.vi.max():
        text = "All standard errors are equal: small studies cannot be compared with large ones."
        notes.append(Note("equal-standard-errors", text))
    if effects.measure in ("COR", "UCOR") and effects.vtype != "AV":
        text = (
            "The standard error of a raw correlation falls as the correlation rises, which leans the plot without "
            "any bias; that of Fisher z does not."
        )
        notes.append(Note("funnel-raw-r", text))
    return notes


def _limits(points: Points, mean: dict[str, Any] | None, depths: Array) -> list[dict[str, Any]]:
    """Return the limits around the mean at each standard error."""
    if mean is None:
        return []
    half, measure = critical_value(points.level, None), points.effects.measure
    return [
        with_r(measure, {"kind": "limits", "se": se, "ci_lb": mean["yi"] - half * se, "ci_ub": mean["yi"] + half * se})
        for se in depths.tolist()
    ]


def _contours(points: Points, depths: Array) -> list[dict[str, Any]]:
    """Return between which effects p is above each of the p-values, at each standard error."""
    measure, out = points.effects.measure, []
    for p in CONTOURS:
        half = critical_value(1.0 - p, None)
        for se in depths.tolist():
            row = {"kind": "contour", "label": f"p = {format_p(p)}", "p": p, "se": se}
            out.append(with_r(measure, {**row, "ci_lb": -half * se, "ci_ub": half * se}))
    return out


def _outside(points: Points, mean: dict[str, Any] | None) -> list[str]:
    """Say how many points lie outside the limits."""
    if mean is None:
        return ["No mean is drawn: the model has moderators, which may make the plot uneven without any bias"]
    far = np.abs(points.effects.yi - mean["yi"]) > critical_value(points.level, None) * points.sei
    lost = int(far.sum())
    of = f"{format_count(lost)} of {format_count(points.effects.k)} points"
    return [f"{of} {'lies' if lost == 1 else 'lie'} outside the dotted limits, which ignore that true effects differ"]


def _description(points: Points, mean: dict[str, Any] | None, outside: list[str], more: list[dict[str, Any]]) -> str:
    least, most = (format_number(float(end), 3) for end in (points.sei.min(), points.sei.max()))
    text = f"Funnel plot of {points.called} against their standard errors, {least} to {most}."
    if mean:
        text += f" Mean effect {parts.effect_text(points.effects.measure, mean)}. {outside[0]}."
    small = ", ".join(f"{format_count(int((points.pval < p).sum()))} below {format_p(p)}" for p in sorted(CONTOURS))
    own = "".join(f" {name}." for mark, name in more_key(more) if mark != "ring")
    return f"{text} Two-sided p-values: {small}.{own}"


def funnel(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw a funnel plot: every effect against its standard error, large studies on top.

    Small studies scatter more, evenly to both sides. Where one side is empty among the small ones, and that side is
    the white region of results that are not significant, such results may be missing; where the empty side is
    shaded, something else makes small studies differ. Neither proves the one or the other, and with few studies
    chance does the same.

    Parameters
    ----------
    fit_or_frame : a fitted model or DataFrame
        A fit of any kind, or a frame from `funnel_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> plots.funnel(RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()).plot_description
    'Funnel plot of 16 effects against their standard errors, ...'
    """
    frame = as_frame(fit_or_frame, "funnel", funnel_data, data)
    with charting(frame, ax, *SIZE, panel=PANEL) as chart:
        points = frame[frame["kind"].isin(("effect", "study"))]
        limits = frame[frame["kind"] == "limits"]
        last = limits[["ci_lb", "ci_ub"]].iloc[-1:].to_numpy().ravel()
        filled = frame[frame["kind"] == "filled"]
        scale_axes(chart, frame, np.concatenate([points["yi"], filled["yi"], last]), xlim)
        _shades(chart, frame[frame["kind"] == "contour"])
        chart.rule("x", 0.0, "hair")
        for name in ("ci_lb", "ci_ub"):
            chart.line(chart.shown(limits[name].to_numpy()), limits["se"], "dotted", zorder=3)
        for value in frame.loc[frame["kind"] == "mean", "yi"]:
            chart.rule("x", float(chart.shown(value)), "line", zorder=3)
        draw_more(chart, frame)
        draw_points(chart, points)
        if len(filled):
            draw_points(chart, filled, "ring", len(points), linewidths=0.5)
    return chart.made


def _shades(chart: Chart, contours: pd.DataFrame) -> None:
    """Shade where p is small, the darker the smaller; one region upon the other, from the outermost inwards."""
    ends = contours["se"].agg(["min", "max"])
    chart.ax.axhspan(ends["min"], ends["max"], color=FILLS[OUTSIDE], linewidth=0, zorder=0.1)
    for p, fill in CONTOURS.items():
        one = contours[contours["p"] == p]
        lower, upper = (chart.shown(one[name].to_numpy()) for name in ("ci_lb", "ci_ub"))
        chart.ax.fill_betweenx(
            one["se"], lower, upper, facecolor=FILLS[fill], edgecolor=GREY, linewidth=0.4, zorder=0.2
        )
