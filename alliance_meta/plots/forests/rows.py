"""`forest_data`: every number of a forest plot, one row per row drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.bayes.averaged.results import Averaged
from alliance_meta.bias.given import Adjusted
from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SharedTau2
from alliance_meta.notes import NotApplicable, Note, check_level, check_option, merge_notes
from alliance_meta.plots.forests import parts
from alliance_meta.plots.forests.nested import Dependent, Levels, find_levels, level_rows, nested_data, said
from alliance_meta.plots.forests.parts import (
    Columns,
    Order,
    chosen,
    effect_rows,
    fit_frame,
    fitted_levels,
    fitted_rows,
    sort_rows,
    summary_rows,
)
from alliance_meta.plots.forests.posterior import Posterior, averaged_data, posterior_data
from alliance_meta.result import Result
from alliance_meta.results.exact_correlation import ExactCorrelationResults
from alliance_meta.results.fit import Fit
from alliance_meta.results.location_scale import LocationScaleResults
from alliance_meta.results.random_effects import RandomEffectsResults
from alliance_meta.tables.format import format_level

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

Summaries = Sequence[Any] | Mapping[str, Any]
NOT_ESTIMABLE = "not estimable"


def with_further(frame: pd.DataFrame, fit: Any, summaries: Summaries, *, shrunken: bool) -> pd.DataFrame:
    """Return the frame of a fit with shrunken estimates and with the rows of further summaries at its end.

    Raises
    ------
    InputError
        What is no summary of one mean, is of effects of another kind, or a model without shrunken estimates.
    """
    rows, meta = parts.records(frame), {str(name): value for name, value in frame.attrs.items()}
    if shrunken and not meta["shrunken"]:
        _shrink(rows, fit, meta)
    named = summaries.items() if isinstance(summaries, Mapping) else [(None, one) for one in summaries]
    made = [_row(name, one, fit, meta) for name, one in named]
    words = [f"{row['label']}: {row['text'] or parts.effect_text(meta['measure'], row)}." for row in made]
    meta["description"] = " ".join([meta["description"], *words])
    return parts.make_frame([*rows, *made], meta)


def _shrink(rows: list[dict[str, Any]], fit: Any, meta: dict[str, Any]) -> None:
    if not isinstance(fit, RandomEffectsResults):
        raise InputError(
            "shrunken: this model draws what it makes of each study by itself; leave shrunken=True to models in which "
            "each row is a study"
        )
    own = fit.blup(level=meta["level"])[["pred", "pi_lb", "pi_ub"]].to_numpy(dtype=float)
    for row in rows:
        if math.isfinite(row["position"]):
            row |= dict(zip(("fit", "fit_lb", "fit_ub"), own[int(row["position"])].tolist(), strict=True))
    meta["shrunken"] = True
    meta["bottom"] = [line for line in meta["bottom"] if not line.startswith("Grey diamonds: fitted")]
    interval = format_level(meta["level"])
    text = f"Squares: each study by itself. Circles: what all studies together make of it (BLUP, {interval} interval)"
    meta["bottom"].append(text)


def _row(name: str | None, one: Any, fit: Any, meta: dict[str, Any]) -> dict[str, Any]:
    """Return the row of another summary: the same numbers as its own table has."""
    level = float(meta["level"])
    if isinstance(one, Adjusted):
        measure, k, called = one.measure, one.k, one.called
        values, own = (one.estimate, one.ci_lb, one.ci_ub), one.level
    elif isinstance(one, Fit) and hasattr(one, "design") and parts.single_mean(one):
        measure, k, called, own = one.effects.measure, one.effects.k, f"Pooled effect ({one.model_label})", level
        model: Any = one
        predicted = model.predict(level=level).iloc[0]
        values = tuple(predicted[bound] for bound in ("pred", "ci_lb", "ci_ub"))
    else:
        raise InputError(
            f"summaries: {type(one).__name__} is no summary of one mean; give fits without moderators, or results of "
            "bias methods that adjust the mean"
        )
    if measure != meta["measure"]:
        raise InputError(f"summaries: effects are {measure}, those of the plot {meta['measure']}")
    label = name or called
    if k != fit.effects.k:
        label += f" (k = {k})"
    if not math.isclose(own, level):
        label += f", {format_level(own)} CI"
    if math.isnan(values[0]):
        meta["notes"] = [*meta["notes"], _why(label, one).to_dict()]
        return {"kind": "fitted", "label": label, "text": NOT_ESTIMABLE}
    return {"kind": "fitted", "label": label, "text": "", **parts.estimate(measure, *values)}


def _why(label: str, one: Any) -> Note:
    estimate = one.estimate if isinstance(one, Adjusted) else math.nan
    reason = estimate.reason if isinstance(estimate, NotApplicable) else "it gives no estimate"
    return Note("forest-summary", f"{label} is not drawn: {reason}")


# Models in which each row is a study of its own.
Single = RandomEffectsResults | LocationScaleResults | ExactCorrelationResults


def forest_data(
    fit: Single | Dependent | Posterior | Averaged,
    *,
    columns: Columns | None = (),
    order: Order = "given",
    by: str | None = None,
    tau2: SharedTau2 = "common",
    level: float | None = None,
    rob: Columns | None = (),
    label: str | None = None,
    nest: str | None = None,
    summaries: Summaries = (),
    shrunken: bool = False,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame a forest plot is drawn from: every number, unrounded, one row per row drawn.

    Parameters
    ----------
    fit : a fitted model
        Of any class. With moderators there is no single mean: the frame then holds fitted values, one per level where
        the model has one categorical moderator, else one beside each study. Models of dependent effects have a row for
        each study and under it one for each of its effects. An average of models (`bayes.robma`, `bayes.average`) has
        two means: if there is an effect, and over all models.
    columns : sequence of str or mapping, optional
        Up to three moderators to show beside the labels; a mapping gives their headers.
    order : str or sequence of str
        ``"given"``, ``"effect"``, ``"precision"`` (most precise first), ``"year"``, ``"weight"`` (largest
        first), a moderator, or several of these, e.g. ``("rater", "effect")``. A minus in front reverses.
        Rows without the value come last and are counted in a note.
    by : str, optional
        Moderator whose levels get a heading and a diamond each. The diamonds are the level means of one model: that
        of `fit`, with the same random terms, covariances and robust inference, and a mean for each level. The line
        under the plot is the test of that model that the means are equal. The diamond at the end stays that of `fit`.
        A study with effects at two levels stands under both.
    tau2 : {"common", "separate"}
        Whether the levels of `by` share one between-study variance, or each is fitted by itself, as in `subgroups`;
        of dependent effects only ``common``: `models.sce` has separate ones.
    level : float, optional
        Confidence level of every interval; the model's by default.
    rob : sequence of str or mapping, optional
        Risk-of-bias columns (low, some concerns, high), shown as dots with letters.
    label : str, optional
        For dependent effects: the moderator that says what each effect of a study is, such as its outcome.
    nest : str, optional
        For dependent effects: the column of the studies; by default the coarsest level of the model, or the
        clusters of its robust standard errors.
    summaries : sequence or mapping, optional
        Further diamonds below: other fits of one mean (another estimator, equal effects, a robust one) and results of
        bias methods (`bias.pet_peese`, `bias.selmodel`, ...), each under its name or the key of the mapping.
    shrunken : bool
        Draw an open circle under each square: what all studies together make of that one (`blup`). A posterior has
        these already, and models of dependent effects have it for each study.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind`` (heading, study, subgroup, fitted, summary, prediction, blank; for dependent effects also cluster, a
        study with several effects, and effect, one of them), ``label``, the chosen columns, ``group`` (the study of
        an effect), ``text``, ``ni``; ``yi ci_lb ci_ub pi_lb pi_ub fit fit_lb fit_ub`` on the analysis
        scale; ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations; ``weight`` in percent; ``position``
        of a study in ``fit.effects``. ``.attrs`` holds scale, labels, the lines under the plot, notes,
        cautions; all of it goes through JSON by `frame_to_dict`.

    Raises
    ------
    InputError
        An unknown column, more than three of them, `by` together with other moderators in the model.

    Notes
    -----
    Intervals of single effects are normal ones, yi -+ 1.96 sqrt(vi), as in metafor's ``forest()``; weights
    are those of the overall model, so that they sum to 100. The row of a study with several effects holds the sum of
    their weights and, where the model has a random intercept for studies, the study's mean true effect as `blup` of
    the model predicts it, with its interval; a study with one effect has these in ``fit fit_lb fit_ub``. For a
    posterior these three are what all studies together make of each one (its shrunken effect, the posterior median)
    with its credible interval, and the summary and prediction rows hold posterior medians with credible intervals.

    Examples
    --------
    >>> from alliance_meta import EffectSizes, RandomEffectsModel, plots
    >>> es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], measure="ZCOR")
    >>> frame = plots.forest_data(RandomEffectsModel(es).fit(), order="-effect")
    >>> frame["kind"].tolist()
    ['study', 'study', 'study', 'blank', 'summary', 'prediction']
    >>> frame["label"].tolist()[:3]
    ['Study 3', 'Study 2', 'Study 1']
    """
    if summaries or shrunken:
        frame = forest_data(
            fit, columns=columns, order=order, by=by, tau2=tau2, level=level, rob=rob, label=label, nest=nest,
            title=title, show_cautions=show_cautions,
        )  # fmt: skip
        return with_further(frame, fit, summaries, shrunken=shrunken)
    if isinstance(fit, Dependent):
        return nested_data(
            fit, columns=columns, order=order, level=level, rob=rob, label=label, nest=nest, title=title,
            show_cautions=show_cautions, by=by, tau2=tau2,
        )  # fmt: skip
    if isinstance(fit, Posterior | Averaged):
        if by is not None or rob or label is not None or nest is not None:
            raise InputError("by, rob, label and nest are not for a posterior; order, columns and level are")
        if isinstance(fit, Averaged):
            return averaged_data(
                fit, columns=columns, order=order, level=level, title=title, show_cautions=show_cautions
            )
        return posterior_data(fit, columns=columns, order=order, level=level, title=title, show_cautions=show_cautions)
    if not isinstance(fit, Single):
        raise _no_fit(fit)
    if label is not None or nest is not None:
        raise InputError("label and nest are for models of dependent effects, in which a study has several rows")
    check_option("tau2", tau2, SharedTau2)
    return _of_studies(
        fit, columns=columns, order=order, by=by, tau2=tau2, level=level, rob=rob, title=title,
        show_cautions=show_cautions,
    )  # fmt: skip


def _of_studies(
    fit: Single,
    *,
    columns: Columns | None,
    order: Order,
    by: str | None,
    tau2: SharedTau2,
    level: float | None,
    rob: Columns | None,
    title: str | None,
    show_cautions: bool,
) -> pd.DataFrame:
    """Return the frame of a model in which each row is a study."""
    used = fit.level if level is None else level
    check_level(used)
    effects = fit.effects
    shown, dots = chosen(effects, columns, rob)
    positions, notes = sort_rows(fit, order)
    studies = effect_rows(fit, used, shown, dots)
    end, lines = _mean(fit, used, _total(effects, positions), by)
    more = _unweighted(fit)
    noun = "study" if fit.k == 1 else "effects" if len(set(effects.study_id)) < fit.k else "studies"
    text = parts.description(fit, f"{fit.k} {noun} with confidence intervals at {format_level(used)}", end)
    if by is not None:
        found = find_levels(fit, by, tau2)
        made = _by_level(found, fit.effects.measure, studies, positions, used)
        text, more = f"{text} {said(found, effects.measure, made)}", (*more, *found.notes)
        lines = [*lines, found.test()]
        body = [*made, *end] if end else made[:-1]
    elif end:
        body = [*(studies[i] for i in positions), {"kind": "blank"}, *end]
    else:
        body, extra = _moderated_body(fit, studies, positions, used)
        lines = [*lines, *extra]
    return fit_frame(
        fit, body, level=used, title=title, show_cautions=show_cautions, columns=shown, rob=dots, order=order,
        notes=merge_notes(fit.notes, notes, more), bottom=lines, pooled=float(fit.beta[0]) if end else None,
        description=text, by=by, tau2=tau2 if by is not None else None,
    )  # fmt: skip


# Results that have a drawing of their own.
DRAWN_BY = {
    **{"ModeratorTable": "moderators", "SubgroupResults": "means", "MarginalMeans": "means", "Battery": "battery"},
    **{"BiasPanel": "bias_panel", "RhoGrid": "rho_grid", "DependenceComparison": "dependence"},
}


def _no_fit(given: object) -> InputError:
    """Return the error that says what draws this, or what to do first."""
    name = type(given).__name__
    own = next((DRAWN_BY[one.__name__] for one in type(given).__mro__ if one.__name__ in DRAWN_BY), None)
    mend = "it has no mean with an interval" if isinstance(given, Result) else "call .fit() first"
    return InputError(f"a forest plot needs a fitted model, not {name}; {f'plots.{own} draws it' if own else mend}")


def _unweighted(fit: Single) -> tuple[Note, ...]:
    if not isinstance(fit, ExactCorrelationResults):
        return ()
    return (Note("forest-weights", "Squares are of one size: the exact density of r gives effects no weights."),)


def _mean(fit: Single, level: float, total: float | None, by: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of the single mean, if the model has one, and the lines on heterogeneity."""
    if isinstance(fit, ExactCorrelationResults) and fit.effects.measure != "ZCOR":
        raise InputError("a forest of the exact density of r is drawn on Fisher's z; fit escalc(..., measure='ZCOR')")
    simple = parts.single_mean(fit)
    lines = [parts.heterogeneity(fit, level, simple=simple)]
    if not simple:
        tested = by is None and not isinstance(fit, ExactCorrelationResults)
        return [], [*lines, *([parts.moderator_test(fit)] if tested else [])]
    end = summary_rows(fit, level, total)
    if isinstance(fit, LocationScaleResults) and fit.scale_design.formula != "1":
        end = end[:1]
        lines.append(f"No single prediction interval: τ² differs by {fit.scale_design.formula}")
    return end, lines


def _by_level(
    found: Levels, measure: str, studies: list[dict[str, Any]], positions: Sequence[int], level: float
) -> list[dict[str, Any]]:
    """Return the studies under their levels, each level with its mean."""
    place = {i: at for at, i in enumerate(positions)}

    def body(members: Sequence[int], group: str) -> list[dict[str, Any]]:
        """Return the rows of some studies, in the order chosen."""
        return [{**studies[i], "group": group} for i in sorted(members, key=place.__getitem__)]

    placed = {int(i) for index in found.rows.values() for i in index}
    left = [i for i in positions if i not in placed]
    return level_rows(found, measure, level, body, lambda index: f"k = {len(index)}", left)


def _moderated_body(
    fit: Single,
    studies: list[dict[str, Any]],
    positions: Sequence[int],
    level: float,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a meta-regression: fitted values by level, or one beside each study."""
    name, levels = fitted_levels(fit)
    if name is not None:
        return fitted_rows(fit, studies, positions, name, levels, level=level), []
    predicted = fit.predict(level=level)
    body = []
    for i in positions:
        row = predicted.iloc[i]
        body.append({**studies[i], "fit": row["pred"], "fit_lb": row["ci_lb"], "fit_ub": row["ci_ub"]})
    return body, [f"Grey diamonds: fitted values with their {format_level(level)} confidence intervals"]


def _total(effects: EffectSizes, positions: Sequence[int]) -> float | None:
    """Return the total sample size, None where a study counts more than once."""
    ids = [effects.study_id[i] for i in positions]
    if effects.ni is None or len(set(ids)) < len(ids):
        return None
    return float(effects.ni[list(positions)].sum())
