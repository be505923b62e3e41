"""Orchard plots: at each level of a moderator all effects, and behind them the mean with both intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.core.dependent import IntArray
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SubgroupResults
from alliance_meta.moderators.grid import moderated
from alliance_meta.moderators.table import ModeratorTable
from alliance_meta.moderators.table_rows import read_moderators
from alliance_meta.plots.forests import nested, parts
from alliance_meta.plots.levels.means import Found, interval_words, key_of, means_of, names_by, value_label
from alliance_meta.plots.moderators_plot import model_words, test_words
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame, counted, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows, usual
from alliance_meta.plots.sheet.measure import POINTS_PER_INCH, is_correlation, size_in_inches
from alliance_meta.plots.sheet.swarm import radii_of, see_through, swarm, without_overlap
from alliance_meta.results.fit import Fit, records_of
from alliance_meta.tables.format import format_count, format_interval, format_level, plural

# Height of a row in inches; of many effects it is higher.
PITCH, TALLEST = 0.8, 1.3
# How far points spread from the middle of their row, as a share of its height.
SPREAD = 0.4
SHARES, LEAST = (1.0, 0.8, 0.65, 0.5), 0.4
# An interval could hide points up to this diameter (in points): where effects are few these stand before it. Of many
# it would not be seen.
HIDDEN, FEW = 6.4, 60
POINT = ("label", "yi", "se", "position")
NUMBERS = {"yi": "estimate", "ci_lb": "ci_lb", "ci_ub": "ci_ub", "pi_lb": "pi_lb", "pi_ub": "pi_ub"}


def orchard_data(
    result: Fit | ModeratorTable | SubgroupResults,
    *,
    by: str | Sequence[str] | None = None,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of an orchard plot: a row for each level of a moderator, and one for each effect.

    Parameters
    ----------
    result : a fitted model, ModeratorTable or SubgroupResults
        Any model; the result of `moderator_table`; subgroups of a model without moderators.
    by : str or sequence of str, optional
        Categorical moderators: of a model as in `means_data`, of a table one of its moderators. A model without
        moderators has one row.
    level : float, optional
        For a model: confidence level of every interval; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: level (``k`` effects and ``studies``, the mean and both intervals, ``yi ci_lb ci_ub pi_lb pi_ub`` on
        the analysis scale, ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations) or effect (``yi``, ``r``, the standard
        error ``se``, its ``position``); ``label`` of the level or effect, and ``row``, the number of the level. Means
        and intervals are those of `moderators.marginal_means`, of the table, or of ``fit.predict()``.

    Raises
    ------
    InputError
        Another result, an unknown or numeric moderator, several and no `by`.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, moderator_table, plots
    >>> table = moderator_table(escalc(load_dataset("crede2010")), "criterion")
    >>> frame = plots.orchard_data(table)
    >>> frame.loc[frame["kind"] == "level", ["label", "k", "studies"]].values.tolist()
    [['gpa', 30.0, 24.0], ['grade', 67.0, 54.0]]
    """
    (rows, meta, notes), groups, total = _read(result, by, level)
    origin, measure, used = meta.pop("origin"), meta["measure"], float(meta["level"])
    levels = [
        with_r(measure, {**row, "kind": "level", "row": i, "k": own.effects.k, "studies": own.studies,
                         "text": "–" if np.isnan(row["yi"]) else ""})
        for i, (row, own) in enumerate(zip(rows, groups, strict=True))
    ]  # fmt: skip
    points = [
        with_r(measure, {"kind": "effect", "row": i, **dict(zip(POINT, one, strict=True))})
        for i, own in enumerate(groups)
        for one in zip(own.effects.slab, own.effects.yi, own.effects.sei, own.position, strict=True)
    ]
    lost = total - len(points)
    gone = [f"{counted(lost)} without a level {'are' if lost > 1 else 'is'} not drawn"] if lost else []
    said = "; ".join(_said(measure, row, used) for row in levels)
    return chart_frame(
        "orchard", "Orchard plot", [*levels, *points], origin, notes=notes, title=title, show_cautions=show_cautions,
        said=f"{counted(len(points))} with means and {format_level(used)} {interval_words(result)} intervals: {said}.",
        key=[*key_of(result, levels, used), ["bubble", "Effect, diameter by precision (1/SE)"]],
        counts={"k": "k", "studies": "Studies"}, **value_label(result, measure, used),
        **meta | {"bottom": [*meta["bottom"], *gone]},
    )  # fmt: skip


def orchard(result_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw all effects at each level of a moderator, with the mean, its interval and that of a new study.

    The large dot is the mean (the trunk of a tree), the thick line its confidence interval (a branch), the thin one
    the prediction interval (a twig): where the true effect of a new study of that kind is expected. Around it hang the
    effects (fruit), the larger the more precise; they are moved up and down only so that none hides another.

    Parameters
    ----------
    result_or_frame : a fitted model, ModeratorTable, SubgroupResults or DataFrame
        As in `orchard_data`, or a frame from it.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Notes
    -----
    Nakagawa et al. (2021, doi:10.1002/jrsm.1424). R: ``orchaRd::orchard_plot(fit, mod = "rater", group = "study_id")``.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="design").fit()
    >>> plots.orchard(fit).plot_description
    '16 effects with means and 95% confidence intervals: cross-sectional (k = 5 in 5 studies) .17 [.05, .29], ...'
    """
    frame = as_frame(result_or_frame, "orchard", orchard_data, data)
    levels, points = frame[frame["kind"] == "level"], frame[frame["kind"] == "effect"]

    def draw(chart: Chart) -> None:
        _fruit(chart, points, len(levels))
        chart.estimates("x", levels, levels["row"])

    values = points["yi"].to_numpy()
    room = 0.05 * np.ptp(values) if len(values) else 0.0
    pitch = min(TALLEST, max(PITCH, 0.3 + 0.12 * math.sqrt(levels["k"].max())))
    within = np.concatenate([usual(levels), values - room, values + room])
    return draw_rows(levels, ax, xlim, within, pitch=pitch, draw=draw)


def _fruit(chart: Chart, points: pd.DataFrame, levels: int) -> None:
    """Draw the effects of each row, moved aside so that none hides another."""
    width, height = chart.least if chart.figure is not None else size_in_inches(chart.ax)
    pitch, lim = height / levels, chart.ax.get_xlim()
    place = chart.ax.xaxis.get_transform().transform
    x = chart.shown(points["yi"].to_numpy())
    along = (place(x) - place(lim[0])) / np.ptp(place(np.array(lim))) * width
    radii = np.minimum(radii_of(points["se"].to_numpy() ** -2.0), 0.4 * SPREAD * pitch)
    own = [np.flatnonzero(points["row"] == row) for row in np.unique(points["row"])]
    # All points are drawn smaller where some would not have room beside one another.
    share = next((s for s in SHARES if all(_aside(along, s * radii, rows, pitch) is not None for rows in own)), LEAST)
    radii, y = share * radii, points["row"].to_numpy().copy()
    for rows in own:
        y[rows] += swarm(along[rows], radii[rows], half=SPREAD * pitch) / pitch
    order = np.argsort(-radii, kind="stable")
    diameter, few = 2.0 * radii[order] * POINTS_PER_INCH, len(points) <= FEW
    before = few & (diameter < HIDDEN)
    alpha = 0.75 if few else min(0.55, see_through(len(points)))
    for some, zorder in ((~before, 2.0), (before, 4.5)):
        chart.dots(x[order][some], y[order][some], "bubble", s=diameter[some] ** 2, alpha=alpha, zorder=zorder)
    chart.count_beyond(points["yi"], "x")


def _aside(along: Array, radii: Array, rows: IntArray, pitch: float) -> Array | None:
    return without_overlap(along[rows], radii[rows], half=SPREAD * pitch)


def _said(measure: str, row: Mapping[str, Any], level: float) -> str:
    """Return the numbers of a row in words."""
    studies = plural(row["studies"], "study", "studies")
    effect = "no mean" if np.isnan(row["yi"]) else parts.effect_text(measure, row)
    text = f"{row['label']} (k = {format_count(row['k'])} in {studies}) {effect}"
    if np.isnan(row["pi_lb"]):
        return text
    r = is_correlation(measure)
    ends = (row[name] for name in (("r_pi_lb", "r_pi_ub") if r else ("pi_lb", "pi_ub")))
    return f"{text}, prediction {format_interval(*ends, leading_zero=not r)}"


@dataclass(frozen=True)
class Group:
    """The effects of a row: themselves, their positions among all effects, and how many studies they are from."""

    effects: EffectSizes
    position: IntArray
    studies: int


def _read(result: Any, by: str | Sequence[str] | None, level: float | None) -> tuple[Found, list[Group], int]:
    """Return the means of the rows, the effects of each, and how many effects there are."""
    if isinstance(result, ModeratorTable):
        if level is not None:
            raise InputError("level: give this to moderator_table, which made the intervals")
        return _of_table(result, by)
    found = means_of(result, by, None, level)
    if isinstance(result, SubgroupResults):
        effects = {name: result.effects(name) for name in result.levels}
        groups = [Group(own, np.asarray(result.rows[name]), own.n_studies) for name, own in effects.items()]
        return found, groups, sum(group.effects.k for group in groups)
    if not isinstance(result, Fit):
        raise InputError("marginal means lack the effects that an orchard plot shows; give the fitted model, with by=")
    names = names_by(result, by)
    numeric = [name for name in names if name not in moderated(result).levels]
    if numeric:
        raise InputError(f"by: {numeric[0]} is numeric and has no levels; plots.bubble draws it")
    codes = _studies(result)
    members = [_members(result.effects, row["cell"]) for row in found[0]] if names else [np.arange(result.k)]
    groups = [Group(result.effects.take(own), own, len(set(codes[own].tolist()))) for own in members]
    return found, groups, result.k


def _studies(fit: Fit) -> IntArray:
    """Return the study of each effect: robust clusters, the model's groups, or those of the data."""
    if isinstance(fit, nested.Dependent):
        return nested.find_nest(fit, None, fit.level).clusters.codes
    return read_clusters(fit.effects, "study_id").codes


def _members(effects: EffectSizes, cell: Mapping[str, Any]) -> IntArray:
    there = np.ones(effects.k, dtype=bool)
    for name, value in cell.items():
        there &= (effects.moderators[name] == value).to_numpy(dtype=bool)
    return np.flatnonzero(there)


def _of_table(table: ModeratorTable, by: str | Sequence[str] | None) -> tuple[Found, list[Group], int]:
    known = [str(name) for name in table.tests.index]
    name = known[0] if by is None and len(known) == 1 else by
    if name not in known:
        raise InputError(f"by={by!r} must name one moderator of the table: {', '.join(known)}")
    shown = [row for row in records_of(table.frame.reset_index()) if row["moderator"] == name]
    if shown[0]["kind"] == "slope":
        raise InputError(f"by: {name} is numeric and has no levels; fit it with mods={name!r} for plots.bubble")
    one = read_moderators(table.effects, [f"C({name})"])[0]
    rows = [
        {"label": str(row["level"]), **{new: float(row[old]) for new, old in NUMBERS.items()}} for row in shown
    ]  # fmt: skip
    own = [np.flatnonzero(one.codes == one.levels.index(row["label"])) for row in rows]
    groups = [
        Group(table.effects.take(rows), rows, int(row["studies"])) for rows, row in zip(own, shown, strict=True)
    ]  # fmt: skip
    test = {str(at): row for at, row in zip(table.tests.index, records_of(table.tests), strict=True)}[str(name)]
    why = [f"No mean of {row['level']}: {row['why']}" for row in shown if row["why"]]
    meta = {
        "measure": table.measure,
        "axis_label": parts.header(str(name)),
        "x_label": parts.axis_label(table.measure),
        "level": table.level,
        "model_label": table.model_label,
        "bottom": [
            f"Model: {model_words(table)}",
            f"Test of {name}: {test_words(test, table.adjust, many=len(known) > 1)}",
            *why,
        ],
        "origin": table.provenance,
    }
    return (rows, meta, table.notes), groups, table.effects.k
