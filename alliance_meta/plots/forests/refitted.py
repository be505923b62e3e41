"""The frames of forests of the result without each effect or study, and of the result of the effects so far."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.notes import check_option
from alliance_meta.plots.forests import parts
from alliance_meta.plots.sheet.chart_frame import counted, one_term
from alliance_meta.plots.sheet.measure import is_correlation, to_reader
from alliance_meta.sensitivity.deletion.left_out import Refits
from alliance_meta.tables.format import fixed, format_count, format_interval, format_level, format_p

Order = Literal["given", "estimate"]
SHOWN = {"k": "k", "p": "p", "tau2": "τ²", "I2": "I² %", "pi": "PI"}


def leave_one_out_data(
    result: Refits,
    *,
    term: str | None = None,
    order: Order = "given",
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of the forest of a result without each effect or study: one row per unit left out.

    Parameters
    ----------
    result : Refits
        From `sensitivity.leave_one_out`.
    term : str, optional
        The coefficient to show; needed where the model has several.
    order : {"given", "estimate"}
        Rows as the result has them, or the smallest estimate first.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        As `forest_data`, with a ``study`` row for each unit left out (``k p tau2 I2 pi`` as text), and that of all
        effects last, ``summary`` and ``prediction``.

    Raises
    ------
    InputError
        Another kind of result, no `term` for a model with several coefficients, or one that it does not have.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.leave_one_out_data(sensitivity.leave_one_out(fit), order="estimate")
    >>> frame.loc[[0, 15], ["label", "p", "I2"]].values.tolist()
    [["O'Cleirigh et al. 2007", '< .001', '55.0'], ['Jerant et al. 2011', '< .001', '43.6']]
    """
    return _data(result, "without", "leave_one_out", term, order, title, show_cautions=show_cautions)


def cumulative_data(
    result: Refits, *, term: str | None = None, title: str | None = None, show_cautions: bool = False
) -> pd.DataFrame:
    """Return the frame of the forest of a result of the effects so far: one row per step.

    Parameters
    ----------
    result : Refits
        From `sensitivity.cumulative`.
    term, title, show_cautions
        As in `leave_one_out_data`, and so are the errors.

    Returns
    -------
    DataFrame
        As `leave_one_out_data`, with a ``study`` row for each step.

    Examples
    --------
    >>> from alliance_meta import RandomEffectsModel, escalc, load_dataset, plots, sensitivity
    >>> fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    >>> frame = plots.cumulative_data(sensitivity.cumulative(fit))
    >>> frame.loc[frame["kind"] == "study", ["label", "k"]].head(2).values.tolist()
    [['+ 1995', '1'], ['+ 1997', '3']]
    """
    return _data(result, "up to", "cumulative", term, "given", title, show_cautions=show_cautions)


def refits_data(result: Refits, **data: Any) -> pd.DataFrame:
    """Return the frame of either question, for `forest_data`."""
    unknown = sorted(set(data) - {"term", "order", "title", "show_cautions"})
    if unknown:
        raise InputError(f"{', '.join(unknown)}: not for refits; term, order and title are")
    return (leave_one_out_data if result.question == "without" else cumulative_data)(result, **data)


def _data(
    result: Any, question: str, who: str, term: str | None, order: Order, title: str | None, *, show_cautions: bool
) -> pd.DataFrame:
    if not isinstance(result, Refits) or result.question != question:
        raise InputError(f"{who}_data needs the result of sensitivity.{who}, not {type(result).__name__}")
    check_option("order", order, Order)
    fit = result.fit
    shown = one_term(fit.names, term)[0]
    measure = fit.effects.measure if result.is_mean else "GEN"
    rows = [_row(row, question, measure) for row in parts.records(result.tidy(term=shown))]
    if order == "estimate":
        rows.sort(key=lambda row: (row["yi"] != row["yi"], row["yi"]))
    end = _all(fit, shown, measure, mean=result.is_mean)
    text, what = format_level(fit.level), "Mean effect" if result.is_mean else f"Coefficient of {shown}"
    origin = fit.effects.provenance
    name = {"without": f"Without each {result.by}", "up to": f"Cumulative by {result.by}"}[question]
    line = _lines(rows, end[0], measure, question)
    each = f"each of {len(rows)}" + ("" if question == "without" else f" steps by {result.by}")
    return parts.make_frame(
        [*rows, {"kind": "blank"}, *end],
        {
            "title": title if title is not None else f"{name}: {origin.title or origin.source}",
            "description": parts.described(f"{what} {question} {each}: {line}.", origin.synthetic),
            "measure": measure,
            "axis_label": parts.axis_label(measure) if result.is_mean else f"{what} ({fit.effects.scale_label})",
            "estimate_header": parts.estimate_header(measure, fit.level),
            "label_header": "Without" if question == "without" else name,
            "columns": [_column(key, rows) for key in SHOWN if any(row[key] for row in rows)],
            "level": fit.level,
            "model_label": fit.model_label,
            "pooled": float(end[0]["yi"]),
            "bottom": [
                f"{what} of all {counted(fit.k)} below the line ({fit.model_label}); intervals {text}",
                f"{line[:1].upper()}{line[1:]}",
            ],
            "notes": [note.to_dict() for note in result.notes],
            "cautions": list(origin.cautions),
            "show_cautions": show_cautions,
            "synthetic": origin.synthetic,
            "order": order,
            "direction": parts.directions(fit.effects.direction) if result.is_mean else None,
        },
    )


def _column(key: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"key": key, "title": SHOWN[key], "numeric": key != "pi"}


def _row(row: dict[str, Any], question: str, measure: str) -> dict[str, Any]:
    values = {name: float(row[name]) for name in ("estimate", "ci_lb", "ci_ub", "pval", "tau2", "I2", "pi_lb", "pi_ub")}
    gone = values["estimate"] != values["estimate"]
    return {
        "kind": "study",
        "label": str(row["label"]) if question == "without" else f"+ {row['label']}",
        "text": "not estimable" if gone else "",
        **parts.estimate(measure, values["estimate"], values["ci_lb"], values["ci_ub"]),
        "pi_lb": values["pi_lb"],
        "pi_ub": values["pi_ub"],
        "k": format_count(row["k"]),
        "p": "" if gone or values["pval"] != values["pval"] else format_p(values["pval"]),
        "tau2": "" if values["tau2"] != values["tau2"] else fixed(values["tau2"], 3),
        "I2": "" if values["I2"] != values["I2"] else fixed(values["I2"], 1),
        "pi": _interval(values["pi_lb"], values["pi_ub"], measure),
    }


def _interval(lb: float, ub: float, measure: str) -> str:
    if lb != lb:
        return ""
    r = is_correlation(measure)
    lower, upper = (to_reader(x, measure) if r else x for x in (lb, ub))
    return format_interval(lower, upper, leading_zero=not r)


def _all(fit: Any, term: str, measure: str, *, mean: bool) -> list[dict[str, Any]]:
    """Return the rows of the fit of all effects."""
    if mean and hasattr(fit.design, "has_intercept") and fit.design.has_intercept:
        return parts.summary_rows(fit, fit.level, None, f"All {counted(fit.k)}")
    at = fit.names.index(term)
    values = (float(np.asarray(getattr(fit, name))[at]) for name in ("beta", "ci_lb", "ci_ub"))
    return [{"kind": "summary", "label": f"All {counted(fit.k)}", **parts.estimate(measure, *values)}]


def _lines(rows: list[dict[str, Any]], whole: dict[str, Any], measure: str, question: str) -> str:
    """Say where the estimate lies with all effects, and which refits move it furthest."""
    left = sorted((row for row in rows if row["yi"] == row["yi"]), key=lambda row: row["yi"])
    text = f"all effects {parts.effect_text(measure, whole)}"
    if not left:
        return text
    ends = {"lowest": left[0], "highest": left[-1]}
    for which, row in ends.items():
        text += f"; {which} {parts.effect_text(measure, row)} {question} {row['label'].removeprefix('+ ')}"
    return text
