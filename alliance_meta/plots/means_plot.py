"""Means side by side: marginal means of a meta-regression, or the means of subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SubgroupResults
from alliance_meta.moderators.comparisons import NAMES as ADJUSTMENTS
from alliance_meta.moderators.comparisons import PairwiseResults
from alliance_meta.moderators.marginal import MarginalMeans
from alliance_meta.notes import merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart import Axes, Drawn, Limits
from alliance_meta.plots.sheet.chart_frame import EFFECT, as_frame, chart_frame, estimate_key, with_r
from alliance_meta.plots.sheet.estimate_rows import draw_rows
from alliance_meta.tables.format import brief, format_level

# Scale of marginal means -> measure of the axis on which they are drawn, and its label.
SCALES = {
    "z": ("ZCOR", "Correlation r (Fisher z scale)"),
    "r": ("COR", "Correlation r"),
    "r_mean": ("COR", "Mean true correlation"),
    "analysis": ("GEN", "Effect size"),
}


def means_data(
    result: MarginalMeans | SubgroupResults,
    *,
    pairwise: PairwiseResults | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a plot of means: one row per level.

    Parameters
    ----------
    result : MarginalMeans or SubgroupResults
        From `moderators.marginal_means`, or the subgroups of a model without moderators.
    pairwise : PairwiseResults, optional
        Comparisons of the same levels: levels that share a letter do not differ.
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
        Comparisons of other levels.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, moderators, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="design").fit()
    >>> frame = plots.means_data(moderators.marginal_means(fit, "design"))
    >>> frame[["label", "k", "r"]].round(3).values.tolist()
    [['cross-sectional', 5.0, 0.168], ['prospective', 11.0, 0.139]]
    """
    if isinstance(result, SubgroupResults):
        if pairwise is not None:
            raise InputError("pairwise compares marginal means; subgroups are compared by the test under the plot")
        rows, meta = _of_subgroups(result)
    elif isinstance(result, MarginalMeans):
        rows, meta = _of_margins(result, pairwise)
    else:
        raise InputError(f"means_data needs marginal means or subgroups, not {type(result).__name__}")
    origin = meta.pop("origin")
    notes = merge_notes(result.notes, () if pairwise is None else pairwise.notes)
    measure, level = meta["measure"], meta["level"]
    made = [with_r(measure, {"kind": "mean", **row}) for row in rows]
    texts = "; ".join(f"{row['label']} (k = {row['k']}) {parts.effect_text(measure, row)}" for row in made)
    words = f"Means with {format_level(level)} confidence intervals: {texts}."
    return chart_frame(
        "means", "Means", made, origin, notes=notes, title=title, show_cautions=show_cautions, said=words, **meta
    )


def means(fit_or_frame: Any, *, ax: Axes | None = None, xlim: Limits | None = None, **data: Any) -> Drawn:
    """Draw means one below the other: the dot is the mean, the thick line its confidence interval.

    The thin line is the prediction interval: where the true effect of one new study of that kind is expected.
    It overlaps between levels far more often than the confidence intervals do.

    Parameters
    ----------
    fit_or_frame : MarginalMeans, SubgroupResults or DataFrame
        From `moderators.marginal_means`, subgroups, or a frame from `means_data`.
    ax, xlim, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, moderators, plots
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), mods="design").fit()
    >>> plots.means(moderators.marginal_means(fit, "design")).plot_description
    'Means with 95% confidence intervals: cross-sectional (k = 5) .17 [.05, .29]; prospective (k = 11) .14 ...'
    """
    frame = as_frame(fit_or_frame, "means", means_data, data)
    return draw_rows(frame, ax, xlim)


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
        {"label": label, "letters": shown.get(str(label), ""), **{str(name): value for name, value in row.items()}}
        for label, row in zip(table.index, table[["k", *EFFECT]].to_dict("records"), strict=True)
    ]
    measure, axis_label = SCALES[result.scale]
    evened = [f"averaged over {', '.join(result.over)}"] if result.over else []
    evened += [f"{name} held at {parts.cell(value)}" for name, value in result.held.items()]
    bottom = [f"Marginal means of {result.formula} ({result.model_label}){''.join(f'; {one}' for one in evened)}"]
    if pairwise is not None:
        alpha = brief(1 - pairwise.level).removeprefix("0")
        correction = ADJUSTMENTS[pairwise.adjust]
        bottom.append(f"Means without a common letter differ, p < {alpha} ({correction} correction)")
    meta = _meta(measure, axis_label, result.level, result.by, rows) | {
        "model_label": result.model_label,
        "bottom": bottom,
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
    meta = _meta(measure, parts.axis_label(measure), one.level, (result.by,), rows) | {
        "bottom": [f"Test of subgroup differences: {test} ({each})"],
        "origin": one.effects.provenance,
    }
    return rows, meta


def _meta(
    measure: str, axis_label: str, level: float, by: tuple[str, ...], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    text = format_level(level)
    return {
        "measure": measure,
        "axis_label": ", ".join(map(parts.header, by)) or "Mean",
        "x_label": axis_label,
        "level": level,
        "key": estimate_key("Mean", f"{text} CI", rows, text),
    }
