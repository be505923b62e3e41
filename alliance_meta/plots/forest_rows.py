"""`forest_data`: every number of a forest plot, one row per row drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.models.subgroups import SharedTau2
from alliance_meta.notes import Note, merge_notes
from alliance_meta.options import check_level, check_option, did_you_mean
from alliance_meta.plots import forest_text
from alliance_meta.plots.axis import is_correlation, to_reader
from alliance_meta.plots.forest_frame import COLUMNS, column_key, estimate, make_frame
from alliance_meta.plots.forest_groups import fitted_levels, fitted_rows, subgroup_rows
from alliance_meta.results.random_effects import RandomEffectsResults, check_fit

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

MOST_COLUMNS = 3
ROB_LETTERS = {
    **dict.fromkeys(("l", "low", "+"), "L"),
    **dict.fromkeys(("s", "some", "some concerns", "moderate", "unclear", "?"), "S"),
    **dict.fromkeys(("h", "high", "serious", "critical", "-"), "H"),
}

Columns = Sequence[str] | Mapping[str, str]
Order = str | Sequence[str]
Body = tuple[list[dict[str, Any]], list[str], tuple[Note, ...]]


def forest_data(
    fit: RandomEffectsResults,
    *,
    columns: Columns | None = (),
    order: Order = "given",
    by: str | None = None,
    tau2: SharedTau2 = "separate",
    level: float | None = None,
    rob: Columns | None = (),
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame a forest plot is drawn from: every number, unrounded, one row per row drawn.

    Parameters
    ----------
    fit : RandomEffectsResults
        A fitted model. With moderators there is no single mean: the frame then holds fitted values, one per
        level where the model has one categorical moderator, else one beside each study.
    columns : sequence of str or mapping, optional
        Up to three moderators to show beside the labels; a mapping gives their headers.
    order : str or sequence of str
        ``"given"``, ``"effect"``, ``"precision"`` (most precise first), ``"year"``, ``"weight"`` (largest
        first), a moderator, or several of these, e.g. ``("rater", "effect")``. A minus in front reverses.
        Rows without the value come last and are counted in a note.
    by : str, optional
        Moderator whose levels get a heading and a diamond each.
    tau2 : {"separate", "common"}
        Whether each subgroup has its own between-study variance.
    level : float, optional
        Confidence level of every interval; the model's by default.
    rob : sequence of str or mapping, optional
        Risk-of-bias columns (low, some concerns, high), shown as dots with letters.
    title : str, optional
        Title for the saved file; not drawn.
    show_cautions : bool
        Print the data's cautions under the plot.

    Returns
    -------
    DataFrame
        ``kind`` (heading, study, subgroup, fitted, summary, prediction, blank), ``label``, the chosen
        columns, ``group``, ``text``, ``ni``; ``yi ci_lb ci_ub pi_lb pi_ub fit fit_lb fit_ub`` on the analysis
        scale; ``r r_lb r_ub r_pi_lb r_pi_ub``, the same as correlations; ``weight`` in percent; ``position``
        of a study in ``fit.effects``. ``.attrs`` holds scale, labels, the lines under the plot, notes,
        cautions; all of it goes through JSON by `frame_to_dict`.

    Raises
    ------
    InputError
        An unknown column, more than three of them, `by` together with other moderators in the model.

    Notes
    -----
    Intervals of single studies are normal ones, yi -+ 1.96 sqrt(vi), as in metafor's ``forest()``; weights
    are those of the overall model, so that they sum to 100.

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
    check_fit(fit, "a forest plot")
    used = fit.level if level is None else level
    check_level(used)
    check_option("tau2", tau2, SharedTau2)
    effects = fit.effects
    shown = _headers(effects, columns, "columns")
    dots = _headers(effects, rob, "rob")
    if len(shown) > MOST_COLUMNS:
        raise InputError(f"columns: {len(shown)} given, a forest plot has room for {MOST_COLUMNS}")
    positions, notes = sort_rows(fit, order)
    studies = _studies(fit, used, shown, dots)
    simple = is_simple(fit)
    if simple:
        body, extra, more = _simple_body(fit, studies, positions, by, tau2, used)
    else:
        body, extra, more = _moderated_body(fit, studies, positions, by, used)
    return make_frame(
        body,
        {
            **_meta(fit, used, title, show_cautions),
            "columns": [_column(effects, name, header) for name, header in shown.items()],
            "rob": [{"key": _dot_key(name, shown), "title": header} for name, header in dots.items()],
            "pooled": float(fit.beta[0]) if simple else None,
            "description": forest_text.description(fit, used, simple=simple),
            "bottom": [*forest_text.bottom(fit, used, simple=simple), *extra, *forest_text.rob_legend(bool(dots))],
            "notes": [note.to_dict() for note in merge_notes(fit.notes, notes, more)],
            "order": order if isinstance(order, str) else list(order),
            "by": by,
            "tau2": tau2 if by is not None else None,
        },
    )


def is_simple(fit: RandomEffectsResults) -> bool:
    """Return whether the model is a single mean."""
    return bool(fit.p == 1 and fit.design.has_intercept)


def sort_rows(fit: RandomEffectsResults, order: Order) -> tuple[list[int], list[Note]]:
    """Return the positions of the studies in drawing order, and notes on rows that lack a sort value."""
    keys = [order] if isinstance(order, str) else list(order)
    positions = list(range(fit.effects.k))
    notes: list[Note] = []
    for key in reversed(keys):
        reverse = key.startswith("-") and key not in fit.effects.moderators
        name = key[1:] if reverse else key
        values = _sort_values(fit, name)
        present = [i for i in positions if values[i] is not None]
        absent = [i for i in positions if values[i] is None]
        present.sort(key=lambda i: values[i], reverse=reverse)
        positions = present + absent
        if absent:
            listed = f"{len(absent)} of {len(positions)} studies have"
            notes.insert(0, Note("forest-order", f"{listed} no {name!r} and are listed last."))
    return positions, notes


def _sort_values(fit: RandomEffectsResults, name: str) -> list[Any]:
    effects = fit.effects
    if name == "given":
        return list(range(effects.k))
    if name == "effect":
        return list(effects.yi)
    if name == "precision":
        return list(effects.vi)
    if name == "weight":
        return list(-np.asarray(fit.weights))
    moderators = effects.moderators
    if name not in moderators:
        known = ["given", "effect", "precision", "weight", *map(str, moderators.columns)]
        raise InputError(f"order={name!r} is neither a way to sort nor a column{did_you_mean(name, known)}")
    column = moderators[name]
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().sum() == column.notna().sum():
        return [None if math.isnan(value) else value for value in numbers.astype(float)]
    return [None if pd.isna(value) else str(value) for value in column]


def _headers(effects: EffectSizes, columns: Columns | None, option: str) -> dict[str, str]:
    """Return column -> header, or say which column there is not."""
    names = [columns] if isinstance(columns, str) else (columns or ())
    known = [str(name) for name in effects.moderators.columns]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InputError(
            f"{option}: no column {wrong[0]!r}{did_you_mean(wrong[0], known)} Columns: {', '.join(known) or 'none'}"
        )
    if isinstance(names, Mapping):
        return dict(names)
    return {name: forest_text.header(name) for name in names}


def _column(effects: EffectSizes, name: str, header: str) -> dict[str, Any]:
    return {
        "key": column_key(name),
        "title": header,
        "numeric": bool(pd.api.types.is_numeric_dtype(effects.moderators[name])),
    }


def _dot_key(name: str, shown: Mapping[str, str]) -> str:
    return f"{name} (risk of bias)" if name in shown or name in COLUMNS else name


def _studies(
    fit: RandomEffectsResults, level: float, shown: Mapping[str, str], dots: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return one row per study, in the order of the table."""
    from alliance_meta.core.distributions import critical_value

    effects = fit.effects
    moderators = effects.moderators
    half = critical_value(level, None) * effects.sei
    rows = []
    for i, label in enumerate(effects.slab):
        cells = {column_key(name): forest_text.cell(moderators[name].iloc[i]) for name in shown}
        letters = {_dot_key(name, shown): _letter(moderators[name].iloc[i]) for name in dots}
        rows.append(
            {
                "kind": "study",
                "label": label,
                "ni": None if effects.ni is None else effects.ni[i],
                "weight": fit.weights[i],
                "position": i,
                **estimate(effects.measure, effects.yi[i], effects.yi[i] - half[i], effects.yi[i] + half[i]),
                **cells,
                **letters,
            }
        )
    return rows


def _prediction_row(fit: RandomEffectsResults, level: float) -> list[dict[str, Any]]:
    """Return the row of the prediction interval, none where the model has none."""
    predicted = fit.predict(level=level).iloc[0]
    lb, ub = float(predicted["pi_lb"]), float(predicted["pi_ub"])
    if math.isnan(lb) or math.isnan(ub):
        return []
    row: dict[str, Any] = {"kind": "prediction", "label": forest_text.prediction_label(level), "pi_lb": lb, "pi_ub": ub}
    measure = fit.effects.measure
    if is_correlation(measure):
        row |= {"r_pi_lb": to_reader(lb, measure), "r_pi_ub": to_reader(ub, measure)}
    return [row]


def _simple_body(
    fit: RandomEffectsResults,
    studies: list[dict[str, Any]],
    positions: Sequence[int],
    by: str | None,
    tau2: SharedTau2,
    level: float,
) -> Body:
    """Return the rows of a model without moderators, and what to add under the plot."""
    predicted = fit.predict(level=level).iloc[0]
    summary = {
        "kind": "summary",
        "label": f"Pooled effect ({fit.model_label})",
        "ni": _total(fit.effects, positions),
        **estimate(fit.effects.measure, *(predicted[name] for name in ("pred", "ci_lb", "ci_ub"))),
    }
    end = [summary, *_prediction_row(fit, level)]
    if by is None:
        return [*(studies[i] for i in positions), {"kind": "blank"}, *end], [], ()
    body, line, notes = subgroup_rows(fit, studies, positions, by=by, tau2=tau2, level=level)
    return [*body, *end], [line], notes


def _moderated_body(
    fit: RandomEffectsResults,
    studies: list[dict[str, Any]],
    positions: Sequence[int],
    by: str | None,
    level: float,
) -> Body:
    """Return the rows of a meta-regression: fitted values by level, or one beside each study."""
    name, levels = fitted_levels(fit)
    if by is not None and by != name:
        raise InputError(
            f"by={by!r}: subgroups are drawn for a model without moderators, or by the one categorical "
            f"moderator of the model; this fit has mods={fit.design.formula!r}"
        )
    if name is not None:
        return fitted_rows(fit, studies, positions, name, levels, grouped=by is not None, level=level), [], ()
    predicted = fit.predict(level=level)
    body = []
    for i in positions:
        row = predicted.iloc[i]
        body.append({**studies[i], "fit": row["pred"], "fit_lb": row["ci_lb"], "fit_ub": row["ci_ub"]})
    return body, [f"Grey diamonds: fitted values with their {forest_text.level_text(level)} confidence intervals"], ()


def _total(effects: EffectSizes, positions: Sequence[int]) -> float | None:
    """Return the total sample size, None where a study counts more than once."""
    ids = [effects.study_id[i] for i in positions]
    if effects.ni is None or len(set(ids)) < len(ids):
        return None
    return float(effects.ni[list(positions)].sum())


def _letter(value: Any) -> str:
    text = forest_text.cell(value).strip()
    return ROB_LETTERS.get(text.lower(), text[:1].upper())


def _meta(fit: RandomEffectsResults, level: float, title: str | None, show_cautions: bool) -> dict[str, Any]:
    effects, origin = fit.effects, fit.effects.provenance
    return {
        "title": title if title is not None else f"Forest plot: {origin.title or origin.source}",
        "measure": effects.measure,
        "axis_label": forest_text.axis_label(effects.measure),
        "estimate_header": forest_text.estimate_header(effects.measure, level),
        "level": level,
        "model_label": fit.model_label,
        "cautions": list(origin.cautions),
        "show_cautions": show_cautions,
        "synthetic": origin.synthetic,
    }
