"""Means side by side: of a model by the levels of its moderators, of subgroups, or the one mean of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.bayes.marginals import KINDS, Posterior
from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SubgroupResults
from alliance_meta.moderators.comparisons import NAMES as ADJUSTMENTS
from alliance_meta.moderators.comparisons import PairwiseResults
from alliance_meta.moderators.marginal import MarginalMeans, marginal_means
from alliance_meta.notes import Note, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.posterior import refusal
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, estimate_key, with_r, without_interval
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.plots.sheet.measure import is_correlation
from alliance_meta.results.fit import Fit, records_of
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.tables.format import brief, format_level

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
