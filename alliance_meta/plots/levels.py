"""Means by the levels of moderators: side by side, with all effects behind them (orchard), or one below the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta._typing import Array
from alliance_meta.bayes.marginals import KINDS, Posterior
from alliance_meta.core.dependent import IntArray
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SubgroupResults
from alliance_meta.moderators.comparisons import NAMES as ADJUSTMENTS
from alliance_meta.moderators.comparisons import PairwiseResults
from alliance_meta.moderators.grid import moderated
from alliance_meta.moderators.marginal import MarginalMeans, marginal_means
from alliance_meta.moderators.table import ModeratorTable
from alliance_meta.moderators.table_rows import PER_SD, PER_UNIT, read_moderators
from alliance_meta.notes import Note, merge_notes
from alliance_meta.plots.forests import nested, parts
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.sheet.chart import Axes, Chart, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import (
    EFFECT,
    as_frame,
    chart_frame,
    counted,
    estimate_key,
    with_r,
    without_interval,
)
from alliance_meta.plots.sheet.estimate_rows import draw_rows, usual
from alliance_meta.plots.sheet.measure import POINTS_PER_INCH, is_correlation, size_in_inches
from alliance_meta.plots.sheet.points import radii_of, see_through, swarm, without_overlap
from alliance_meta.results.fit import Fit, records_of
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.tables.format import brief, format_count, format_interval, format_level, format_p, plural

# Scale of marginal means -> measure of the axis on which they are drawn, and its label.
SCALES = {
    "z": ("ZCOR", "Correlation r (Fisher z scale)"),
    "r": ("COR", "Correlation r"),
    "r_mean": ("COR", "Mean true correlation"),
    "analysis": ("GEN", "Effect size"),
}


def means_data(
    result: Fit | MarginalMeans | SubgroupResults,
    *,
    by: str | Sequence[str] | None = None,
    pairwise: PairwiseResults | None = None,
    level: float | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a plot of means: one row per level.

    Parameters
    ----------
    result : a fitted model, MarginalMeans or SubgroupResults
        Any model; what `moderators.marginal_means` made of one; or the subgroups of a model without moderators.
    by : str or sequence of str, optional
        For a model: the moderators whose levels have a row each, by `moderators.marginal_means`. By default the one
        categorical moderator of the model; a model without moderators has one row.
    pairwise : PairwiseResults, optional
        Comparisons of the same levels: levels that share a letter do not differ.
    level : float, optional
        For a model: confidence level of every interval; the model's by default.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind`` (mean), ``label``, ``letters``, ``k``; ``yi ci_lb ci_ub pi_lb pi_ub`` on the scale of the result;
        ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations.

    Raises
    ------
    InputError
        Comparisons of other levels; several moderators and no `by`.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="design").fit()
    >>> frame = plots.means_data(fit)
    >>> frame[["label", "k", "r"]].round(3).values.tolist()
    [['cross-sectional', 5.0, 0.168], ['prospective', 11.0, 0.139]]
    """
    rows, meta, notes = means_of(result, by, pairwise, level)
    origin = meta.pop("origin")
    measure = meta["measure"]
    made = [with_r(measure, {"kind": "mean", **row}) for row in rows]
    texts = "; ".join(f"{row['label']} (k = {row['k']}) {parts.effect_text(measure, row)}" for row in made)
    words = f"Means with {format_level(meta['level'])} {interval_words(result)} intervals: {texts}."
    return chart_frame(
        "means", "Means", made, origin, notes=notes, title=title, show_cautions=show_cautions, said=words,
        key=key_of(result, made, meta["level"]), **value_label(result, measure, meta["level"]), **meta,
    )  # fmt: skip


def means(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw means one below the other: the dot is the mean, the thick line its confidence interval.

    The thin line is the prediction interval: where the true effect of one new study of that kind is expected.
    It overlaps between levels far more often than the confidence intervals do.

    Parameters
    ----------
    fit_or_frame : a fitted model, MarginalMeans, SubgroupResults or DataFrame
        A model, what `moderators.marginal_means` made of one, subgroups, or a frame from `means_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="design").fit()
    >>> plots.means(fit, by="design").plot_description
    'Means with 95% confidence intervals: cross-sectional (k = 5) .17 [.05, .29]; prospective (k = 11) .14 ...'
    """
    frame = as_frame(fit_or_frame, "means", means_data, data)
    return draw_rows(frame, ax, xlim)


Found = tuple[list[dict[str, Any]], dict[str, Any], tuple[Note, ...]]


def means_of(
    result: Any, by: str | Sequence[str] | None, pairwise: PairwiseResults | None, level: float | None
) -> Found:
    """Return the means of a result, the meta data of their plot, and its notes."""
    if isinstance(result, Fit):
        names = names_by(result, by)
        if not names:
            if pairwise is not None:
                raise InputError("pairwise compares levels; the model has no moderators")
            return _of_mean(result, result._level(level))
        found = marginal_means(result, names, level=level)
        rows, meta = _of_margins(found, pairwise)
        why = _own_spread(result, names, found, rows)
        meta["bottom"] = [*refusal(result), *meta["bottom"], *_words(result, found.level, why)]
        return rows, meta, merge_notes(result.notes, found.notes, () if pairwise is None else pairwise.notes)
    if by is not None or level is not None:
        raise InputError("by and level are for a fitted model; these means have theirs")
    if isinstance(result, SubgroupResults):
        if pairwise is not None:
            raise InputError("pairwise compares marginal means; subgroups are compared by the test under the plot")
        return *_of_subgroups(result), merge_notes(result.notes)
    if not isinstance(result, MarginalMeans):
        raise InputError(
            f"this needs a fitted model, marginal means or subgroups, not {type(result).__name__}; call .fit() first"
        )
    return *_of_margins(result, pairwise), merge_notes(result.notes, () if pairwise is None else pairwise.notes)


def variables_of(fit: Any) -> tuple[str, ...]:
    """Return the moderators of a model."""
    design = getattr(fit, "design", None)
    return tuple(design.variables) if design is not None else ()


def names_by(fit: Any, by: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the moderators whose levels have a row each; none of a model that has no moderators."""
    known = variables_of(fit)
    if by is not None:
        names = (by,) if isinstance(by, str) else tuple(by)
        if not known:
            raise InputError(
                f"by={by!r}: {fit.model_label} has no moderators; fit it with mods={' + '.join(names)!r}, or give the "
                "subgroups of it"
            )
        return names
    if len(known) == 1 and known[0] not in fit.design.levels:
        raise InputError(f"{known[0]} is numeric and has no levels: plots.bubble(fit, {known[0]!r}) draws it")
    if len(known) > 1:
        raise InputError(f"the model has the moderators {', '.join(known)}; name one that is categorical with by=")
    return known


def interval_words(result: Any) -> str:
    """Return what the intervals of a result are."""
    return "credible" if isinstance(result, Posterior) else "confidence"


def _words(fit: Any, level: float, why: str) -> list[str]:
    """Return what the intervals of a posterior are, and why there are none for a new study."""
    lines = [f"No prediction interval: {why}"] if why else []
    if isinstance(fit, Posterior):
        kind = KINDS[getattr(fit, "interval", "eti")]
        lines.append(f"Posterior medians with {format_level(level)} credible intervals ({kind})")
    return lines


def _own_spread(fit: Any, names: Sequence[str], found: MarginalMeans, rows: list[dict[str, Any]]) -> str:
    """Return why there is no interval for a new study; levels that are whole rows of the model may have their own."""
    if not any(math.isnan(row["pi_lb"]) and not math.isnan(row["yi"]) for row in rows):
        return ""
    why = next((note.message.rstrip(".") for note in found.notes if note.code == "no-prediction-interval"), "")
    needed = {*fit.design.variables, *(fit.scale_design.variables if isinstance(fit, LocationScaleResults) else ())}
    if needed <= set(names):
        known = [row for row in rows if not math.isnan(row["yi"])]
        new = fit.predict(pd.DataFrame([row["cell"] for row in known]), level=found.level)
        for row, lb, ub in zip(known, new["pi_lb"], new["pi_ub"], strict=True):
            row |= {"pi_lb": float(lb), "pi_ub": float(ub)}
        if not new["pi_lb"].isna().any():
            return ""
    return f"{why[:1].lower()}{why[1:]}" or "the model gives none for averages of its rows"


def _of_mean(fit: Any, level: float) -> Found:
    """Return the one mean of a model without moderators."""
    predicted = fit.predict(level=level).rename(columns={"pred": "yi"})
    found = {name: float(predicted[name].iloc[0]) for name in EFFECT}
    why = str(predicted.attrs.get("pi_note", ""))
    if len(predicted) > 1 and np.ptp(predicted["pi_lb"]) > 0:
        found |= {"pi_lb": math.nan, "pi_ub": math.nan}
        why = str(fit.new_variance.reason)
    rows = [{"label": "Mean effect", "letters": "", "k": fit.k, **found}]
    measure = fit.effects.measure
    spread = [] if isinstance(fit, Posterior) else [parts.heterogeneity(fit, level, simple=True)]
    meta = _meta(measure, parts.axis_label(measure), level, ()) | {
        "model_label": fit.model_label,
        "bottom": [*refusal(fit), f"Model: {fit.model_label}", *spread, *_words(fit, level, why)],
        "origin": fit.effects.provenance,
    }
    return rows, meta, merge_notes(fit.notes)


def _of_margins(result: MarginalMeans, pairwise: PairwiseResults | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    table = result.tidy().rename(columns={"estimate": "yi"})
    shown: Mapping[str, str] = {}
    if pairwise is not None:
        if pairwise.by != result.by or not set(pairwise.letters) <= set(table.index):
            raise InputError(
                f"pairwise compares {', '.join(pairwise.by)}; the means are those of {', '.join(result.by) or 'all'}"
            )
        shown = pairwise.letters
    rows = [
        {
            "label": label,
            "letters": shown.get(str(label), ""),
            "cell": cell,
            "k": int(row[0]),
            **dict(zip(EFFECT, row[1:], strict=True)),
        }
        for label, cell, row in zip(
            table.index, records_of(table[list(result.by)]), table[["k", *EFFECT]].to_numpy(dtype=float), strict=True
        )
    ]
    measure, axis_label = SCALES[result.scale]
    evened = [f"averaged over {', '.join(result.over)}"] if result.over else []
    evened += [f"{name} held at {parts.cell(value)}" for name, value in result.held.items()]
    bottom = [f"Marginal means of {result.formula} ({result.model_label}){''.join(f'; {one}' for one in evened)}"]
    if pairwise is not None:
        alpha = brief(1 - pairwise.level).removeprefix("0")
        correction = ADJUSTMENTS[pairwise.adjust]
        bottom.append(f"Means without a common letter differ, p < {alpha} ({correction} correction)")
    meta = _meta(measure, axis_label, result.level, result.by) | {
        "model_label": result.model_label,
        "bottom": [*bottom, *without_interval(rows)],
        "origin": result.provenance,
    }
    return rows, meta


def _of_subgroups(result: SubgroupResults) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    predicted = result.predict().rename(columns={"pred": "yi"})[list(EFFECT)].to_dict("records")
    rows = [
        {"label": label, "letters": "", "k": len(index), **{name: float(row[name]) for name in EFFECT}}
        for (label, index), row in zip(result.rows.items(), predicted, strict=True)
    ]
    one = next(iter(result.fits.values())) if result.model is None else result.model
    measure = one.effects.measure
    test = parts.test_text(result.QM, result.QMdf, result.QMp)
    each = "one τ² each" if result.tau2 == "separate" else "one model, a common τ²"
    meta = _meta(measure, parts.axis_label(measure), one.level, (result.by,)) | {
        "bottom": [f"Test of subgroup differences: {test} ({each})"],
        "origin": one.effects.provenance,
    }
    return rows, meta


def _meta(measure: str, axis_label: str, level: float, by: tuple[str, ...]) -> dict[str, Any]:
    return {
        "measure": measure,
        "axis_label": ", ".join(map(parts.header, by)) or "Mean",
        "x_label": axis_label,
        "level": level,
    }


def value_label(result: Any, measure: str, level: float) -> dict[str, str]:
    """Return the header over the printed numbers of a posterior, whose intervals are credible ones."""
    if not isinstance(result, Posterior):
        return {}
    return {"value_label": f"{'r' if is_correlation(measure) else 'Effect'} [{format_level(level)} credible]"}


def key_of(result: Any, rows: Sequence[Mapping[str, Any]], level: float) -> list[list[str]]:
    """Return the key of means with their intervals."""
    text = format_level(level)
    if isinstance(result, Posterior):
        return estimate_key("Median", f"{text} credible interval", rows, text)
    return estimate_key("Mean", f"{text} CI", rows, text)


NO_SLOPE_DRAWN = "Slopes are differences per standard deviation, not means: they stand in words"


def moderators_data(table: ModeratorTable, *, title: str | None = None, show_cautions: bool = False) -> pd.DataFrame:
    """Return the frame of the forest of moderators: one row for each level, under a heading for each moderator.

    Parameters
    ----------
    table : ModeratorTable
        From `moderator_table`.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: overall, heading, level or slope; ``label``, ``group`` (the moderator), ``text`` in place of an
        estimate (the test of a heading, the slope per standard deviation); ``k`` effects and ``studies``;
        ``yi ci_lb ci_ub pi_lb pi_ub`` on the analysis scale, ``r r_lb r_ub r_pi_lb r_pi_ub`` as correlations. Slopes
        have no mean: they have no numbers here but those in ``text``.

    Raises
    ------
    InputError
        Another result.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, moderator_table, plots
    >>> found = moderator_table(escalc(load_dataset("crede2010")), ["criterion", "year"])
    >>> frame = plots.moderators_data(found)
    >>> frame[["kind", "label"]].values.tolist()[1:4], frame["r"].round(2).tolist()[2:4]
    ([['heading', 'Criterion'], ['level', 'gpa'], ['level', 'grade']], [0.36, 0.45])
    """
    if not isinstance(table, ModeratorTable):
        raise InputError(f"moderators needs the result of moderator_table, not {type(table).__name__}")
    overall, *others = records_of(table.frame.reset_index())
    tests = {row["moderator"]: row for row in records_of(table.tests.reset_index())}
    rows = [_row(table.measure, overall, "overall", "Overall"), *_under_headings(table, others, tests)]
    text, own = format_level(table.level), rows[0]
    said = "; ".join(f"{row['label']} {parts.effect_text(table.measure, row)}" for row in rows if _drawn(row))
    gone = [f"No test of {name}: {row['why']}" for name, row in tests.items() if row["why"]]
    gone += [f"No mean of {row['level']}: {row['why']}" for row in others
             if row["why"] and not tests[row["moderator"]]["why"]]  # fmt: skip
    model = model_words(table)
    slopes = any(row["kind"] == "slope" for row in rows)
    key = estimate_key("Mean effect", f"{text} CI", [row for row in rows if _drawn(row)], text)
    return chart_frame(
        "moderators", "Moderators", rows, table.provenance, notes=table.notes, title=title,
        show_cautions=show_cautions, measure=table.measure, axis_label="Moderator",
        said=f"Mean effect of {counted(table.k)} by moderator: {said}.", x_label=parts.axis_label(table.measure),
        level=table.level, model_label=table.model_label, key=[*key, ["pi", "CI of the overall mean"]],
        bottom=[f"Model: {model}", *([NO_SLOPE_DRAWN] if slopes else []), *gone],
        counts={"k": "k", "studies": "Studies"}, reference=[own["yi"], own["ci_lb"], own["ci_ub"]],
    )  # fmt: skip


def model_words(table: ModeratorTable) -> str:
    """Return the model of a table in letters that a reader expects."""
    return table.model_label.replace("tau2", "τ²").replace("se^2", "SE²").replace("rho", "ρ")


def _drawn(row: Mapping[str, Any]) -> bool:
    return row["kind"] in ("overall", "level") and not row.get("text")


def _under_headings(
    table: ModeratorTable, rows: list[dict[str, Any]], tests: Mapping[Any, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    last = None
    for row in rows:
        name = row["moderator"]
        if name != last:
            words = test_words(tests[name], table.adjust, many=len(tests) > 1)
            yield {"kind": "heading", "label": parts.header(str(name)), "group": name, "text": words}
        last = name
        if row["level"] == PER_UNIT and row["kind"] == "slope":
            continue
        label = f"{PER_SD} ({brief(tests[name]['sd'], 3)})" if row["kind"] == "slope" else str(row["level"])
        yield _row(table.measure, row, row["kind"], label)


def _row(measure: str, row: Mapping[str, Any], kind: str, label: str) -> dict[str, Any]:
    made = {"kind": kind, "label": label, "group": row["moderator"], "k": row["k"], "studies": row["studies"]}
    numbers = dict(zip(EFFECT, (float(row[name]) for name in ("estimate", *EFFECT[1:])), strict=True))
    if math.isnan(numbers["yi"]):
        return made | {"text": "–"}
    if kind != "slope":
        return made | with_r(measure, numbers)
    # On Fisher's z the change in r at the average study, which is no transformation of the slope.
    change = {name: row[name] for name in ("r", "r_lb", "r_ub")} if measure == "ZCOR" else {}
    change |= with_r(measure, numbers) if not change else {}
    words = parts.effect_text(measure if is_correlation(measure) else "GEN", {**numbers, **change})
    return made | {"text": words if words.startswith("−") else f"+{words}"}


def test_words(test: Mapping[str, Any], adjust: str, *, many: bool) -> str:
    """Return the test of a moderator in words."""
    if test["why"]:
        return "no test"
    second = test["df2"] if test["df2"] == test["df2"] else None
    words = parts.test_text(test["stat"], (test["df1"], second), test["pval"])
    adjusted = f" ({ADJUSTMENTS[adjust]} {format_p(test['pval_adjusted'])})"
    return words + (adjusted if many and adjust != "none" else "")


def moderators(table_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw the mean effect at every level of every moderator, under its name and its test.

    The shaded band is the interval of the overall mean. Two levels whose intervals overlap may still differ, and the
    reverse where levels share studies: the test in bold decides, not the eye. The thin lines say where the true effect
    of a new study of that kind is expected.

    Parameters
    ----------
    table_or_frame : ModeratorTable or DataFrame
        From `moderator_table`, or a frame from `moderators_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import escalc, load_dataset, moderator_table, plots
    >>> found = moderator_table(escalc(load_dataset("crede2010")), ["criterion", "year"])
    >>> plots.moderators(found).plot_description
    'Mean effect of 97 effects by moderator: Overall .43 [.38, .47]; gpa .36 [.27, .45]; grade .45 [.40, .50].'
    """
    frame = as_frame(table_or_frame, "moderators", moderators_data, data)
    return draw_rows(frame, ax, xlim, usual(frame))


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
