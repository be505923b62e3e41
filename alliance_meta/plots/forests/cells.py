"""Parts that every forest plot of a fit is made of: cells, rows of effects, headers, meta data."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.plots.forests import text as forest_text
from alliance_meta.plots.forests.frame import COLUMNS, column_key, estimate
from alliance_meta.plots.sheet.axis import is_correlation, to_reader

if TYPE_CHECKING:
    from alliance_meta.effects.table import EffectSizes

MOST_COLUMNS = 3
ROB_LETTERS = {
    **dict.fromkeys(("l", "low", "+"), "L"),
    **dict.fromkeys(("s", "some", "some concerns", "moderate"), "S"),
    **dict.fromkeys(("unclear", "no information", "not enough information", "?"), forest_text.UNCLEAR),
    **dict.fromkeys(("h", "high", "serious", "critical", "-"), "H"),
}

Columns = Sequence[str] | Mapping[str, str]
Order = str | Sequence[str]


def headers(effects: EffectSizes, columns: Columns | None, option: str) -> dict[str, str]:
    """Return column -> header, or say which column there is not."""
    names = [columns] if isinstance(columns, str) else (columns or ())
    if not isinstance(names, Collection):
        raise InputError(f"{option}={columns!r} must name columns of the effects, such as {option}=['rob']")
    known = [str(name) for name in effects.moderators.columns]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InputError(
            f"{option}: no column {wrong[0]!r}{did_you_mean(wrong[0], known)} Columns: {', '.join(known) or 'none'}"
        )
    if isinstance(names, Mapping):
        return dict(names)
    return {name: forest_text.header(name) for name in names}


def column(effects: EffectSizes, name: str, header: str) -> dict[str, Any]:
    """Return what the frame says of a chosen column."""
    return {
        "key": column_key(name),
        "title": header,
        "numeric": bool(pd.api.types.is_numeric_dtype(effects.moderators[name])),
    }


def dot_key(name: str, shown: Mapping[str, str]) -> str:
    """Return the name of a risk-of-bias column in the frame."""
    return f"{name} (risk of bias)" if name in shown or name in COLUMNS else name


def effect_rows(fit: Any, level: float, shown: Mapping[str, str], dots: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one row per study, in the order of the table."""
    effects = fit.effects
    moderators = effects.moderators
    half = critical_value(level, None) * effects.sei
    weights = getattr(fit, "weights", None)
    rows = []
    for i, label in enumerate(effects.slab):
        cells = {column_key(name): forest_text.cell(moderators[name].iloc[i]) for name in shown}
        found = {dot_key(name, shown): letter(moderators[name].iloc[i]) for name in dots}
        rows.append(
            {
                "kind": "study",
                "label": label,
                "ni": None if effects.ni is None else effects.ni[i],
                "weight": None if weights is None else weights[i],
                "position": i,
                **estimate(effects.measure, effects.yi[i], effects.yi[i] - half[i], effects.yi[i] + half[i]),
                **cells,
                **found,
            }
        )
    return rows


def sort_values(fit: Any, name: str) -> list[Any]:
    """Return what `order` sorts each effect by, None where it has no value."""
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
    cells = moderators[name]
    numbers = pd.to_numeric(cells, errors="coerce")
    if numbers.notna().sum() == cells.notna().sum():
        return [None if math.isnan(value) else value for value in numbers.astype(float)]
    return [None if pd.isna(value) else str(value) for value in cells]


def prediction_row(fit: Any, level: float) -> list[dict[str, Any]]:
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


def letter(value: Any) -> str:
    """Return the letter of a judgement."""
    text = forest_text.cell(value).strip()
    return ROB_LETTERS.get(text.lower(), text[:1].upper())


def rob_legend(effects: EffectSizes, dots: Mapping[str, str]) -> list[str]:
    """Return the key of the letters in the risk-of-bias columns, if there are any."""
    found = {letter(value) for name in dots for value in effects.moderators[name]} if dots else set()
    more = f", {forest_text.UNCLEAR} unclear" if forest_text.UNCLEAR in found else ""
    return [forest_text.ROB_LEGEND + more] if dots else []


def chosen(effects: EffectSizes, columns: Columns | None, rob: Columns | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the chosen columns and the risk-of-bias columns with their headers."""
    shown, dots = headers(effects, columns, "columns"), headers(effects, rob, "rob")
    if len(shown) > MOST_COLUMNS:
        raise InputError(f"columns: {len(shown)} given, a forest plot has room for {MOST_COLUMNS}")
    return shown, dots


def columns_meta(effects: EffectSizes, shown: Mapping[str, str], dots: Mapping[str, str]) -> dict[str, Any]:
    """Return the meta data of the chosen columns."""
    return {
        "columns": [column(effects, name, header) for name, header in shown.items()],
        "rob": [{"key": dot_key(name, shown), "title": header} for name, header in dots.items()],
    }


def frame_meta(fit: Any, level: float, title: str | None, show_cautions: bool) -> dict[str, Any]:
    """Return the meta data that forests of all models have."""
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


def sort_rows(fit: Any, order: Order) -> tuple[list[int], list[Note]]:
    """Return the positions of the studies in drawing order, and notes on rows that lack a sort value."""
    keys = [order] if isinstance(order, str) else list(order)
    positions = list(range(fit.effects.k))
    notes: list[Note] = []
    for key in reversed(keys):
        reverse = key.startswith("-") and key not in fit.effects.moderators
        name = key[1:] if reverse else key
        values = sort_values(fit, name)
        present = [i for i in positions if values[i] is not None]
        absent = [i for i in positions if values[i] is None]
        present.sort(key=lambda i: values[i], reverse=reverse)
        positions = present + absent
        if absent:
            listed = f"{len(absent)} of {len(positions)} studies have"
            notes.insert(0, Note("forest-order", f"{listed} no {name!r} and are listed last."))
    return positions, notes
