"""Tables of a report as data: columns with a format each, and rows of unrounded numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.reporting.declaration import Item
from alliance_meta.reporting.fitting import Fitted, statistics
from alliance_meta.tables.format import format_df

if TYPE_CHECKING:
    from alliance_meta.effects.coded import CodedTable

Table = dict[str, Any]

RIGHT = "right"
GROUPS = {"k": "Data", "measure": "Model", "estimate": "Pooled effect", "tau2": "Heterogeneity", "R2": "Moderators"}


def column(keys: str | Sequence[str], label: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """Return a column: the keys it reads, its head, the format of its numbers."""
    listed = [keys] if isinstance(keys, str) else list(keys)
    align = "left" if kind == "text" else RIGHT
    return {"keys": listed, "label": label, "format": kind, "align": align, **more}


def studies(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return every study of one analysis, or of several side by side."""
    chosen = [fits[name] for name in item.of]
    if len(chosen) == 1:
        return _studies_of_one(item, chosen[0])
    columns = [column("label", "Study")]
    rows: dict[str, dict[str, Any]] = {}
    for fitted in chosen:
        name = fitted.spec.id
        columns += [
            column(f"n_{name}", f"n, {_lower(fitted.heading)}", "count"),
            column(f"r_{name}", f"r, {_lower(fitted.heading)}", "r"),
        ]
        for row in study_rows(fitted):
            record = rows.setdefault(row["label"], {"label": row["label"]})
            record |= {f"n_{name}": row["n"], f"r_{name}": row["r"]}
    if len(chosen) == 2:
        first, second = (f"r_{fitted.spec.id}" for fitted in chosen)
        columns.append(column("difference", "Difference in r", "r"))
        for record in rows.values():
            if first in record and second in record:
                record["difference"] = record[second] - record[first]
    caption = item.caption or f"Studies: {'; '.join(fitted.spec.label for fitted in chosen)}."
    return {"caption": caption, "columns": columns, "rows": list(rows.values())}


def study_rows(fitted: Fitted) -> list[dict[str, Any]]:
    """Return label, n, r, interval and weight of each effect, in the sheet's order."""
    from alliance_meta.plots import forest_data

    frame = forest_data(fitted.fit, order="given")
    effects = fitted.effects
    coded = effects.moderators
    drawn = frame[frame["kind"] == "study"].reset_index(drop=True)
    rows = []
    for position, label in enumerate(effects.slab):
        one = drawn.iloc[position]
        rows.append(
            {
                "label": label,
                "n": None if effects.ni is None else int(effects.ni[position]),
                "r": _coded_r(coded, effects.columns, position, float(one["r"])),
                "ci_lb": float(one["r_lb"]),
                "ci_ub": float(one["r_ub"]),
                "weight": float(one["weight"]),
                **{
                    str(name): _in_words(str(name), value, fitted.table)
                    for name, value in coded.iloc[position].items()
                    if name not in _OWN
                },
            }
        )
    return rows


def _studies_of_one(item: Item, fitted: Fitted) -> Table:
    level = f"{100 * fitted.spec.level:g}%"
    rows = study_rows(fitted)
    extra = _extra_columns(item.columns, fitted.table)
    columns = [
        column("label", "Study"),
        *extra,
        column("n", "n", "count"),
        column("r", "r", "r"),
        column(["ci_lb", "ci_ub"], f"{level} CI", "r_interval"),
        column("weight", "Weight, %", "weight"),
    ]
    kept = {key for one in columns for key in one["keys"]}
    rows = [{key: value for key, value in row.items() if key in kept} for row in rows]
    return {"caption": item.caption or f"Studies: {fitted.spec.label}.", "columns": columns, "rows": rows}


def statistics_table(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the standard block: one row per statistic, one column per analysis."""
    chosen = [fits[name] for name in item.of]
    blocks = {fitted.spec.id: statistics(fitted) for fitted in chosen}
    one_each = all(block["studies"]["value"] == block["k"]["value"] for block in blocks.values())
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys(key for block in blocks.values() for key in block):
        if key == "studies" and one_each:
            continue
        if key in GROUPS:
            rows.append({"group": GROUPS[key]})
        found = {name: block[key] for name, block in blocks.items() if key in block}
        for label in dict.fromkeys(entry["label"] for entry in found.values()):
            cells = {name: _cell(entry) for name, entry in found.items() if entry["label"] == label}
            rows.append({"statistic": label, **cells})
    columns = [column("statistic", "Statistic")]
    columns += [column(fitted.spec.id, fitted.heading, "r", blank="–") for fitted in chosen]
    caption = item.caption or f"Every statistic: {'; '.join(fitted.spec.label for fitted in chosen)}."
    rules = dict.fromkeys(rule for rule in map(prediction_rule, chosen) if rule)
    return {"kind": "statistics", "caption": caption, "columns": columns, "rows": rows, "notes": list(rules)}


def prediction_rule(fitted: Fitted) -> str:
    """Say how the prediction interval was made; empty where there is none."""
    if fitted.fit.method == "EE" or fitted.fit.p > 1:
        return ""
    df = float(fitted.fit.ddf[0])
    reference = "the normal distribution" if math.isinf(df) else f"t with {format_df(df)} degrees of freedom"
    return (
        "Prediction interval: where the true correlation of one new, similar study is expected; "
        f"{reference}, variance τ² plus the squared standard error, on the model's scale."
    )


def coefficients(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the coefficients of one model."""
    fitted = fits[item.of[0]]
    fit, level = fitted.fit, f"{100 * fitted.spec.level:g}%"
    kind = "z" if fitted.spec.measure == "ZCOR" else "r3"
    rows = [
        {
            "term": name,
            "estimate": fit.beta[i],
            "se": fit.se[i],
            "stat": fit.stat[i],
            "p": fit.pval[i],
            "ci_lb": fit.ci_lb[i],
            "ci_ub": fit.ci_ub[i],
        }
        for i, name in enumerate(fit.names)
    ]
    columns = [
        column("term", "Term"),
        column("estimate", f"Estimate ({fitted.effects.scale_label})", kind),
        column("se", "SE", kind),
        column("stat", "z" if math.isinf(fit.ddf[0]) else "t", "stat"),
        column("p", "p", "p"),
        column(["ci_lb", "ci_ub"], f"{level} CI", f"{kind}_interval"),
    ]
    return {"caption": item.caption or f"Coefficients: {fitted.spec.label}.", "columns": columns, "rows": rows}


def comparison(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return one row per analysis: the choices and what they lead to."""
    rows = []
    for name in item.of:
        fitted = fits[name]
        block = statistics(fitted)
        rows.append(
            {
                "label": fitted.spec.label,
                "model": fitted.fit.model_label,
                **{key: block[key]["value"] for key in ("measure", "k", "r", "tau2", "I2")},
                **_ends("r_ci", block),
                **_ends("pi", block),
            }
        )
    columns = [
        column("label", "Analysis"),
        column("measure", "Scale"),
        column("model", "Model"),
        column("k", "k", "count"),
        column("r", "r", "r3"),
        column(["r_ci_lb", "r_ci_ub"], "CI", "r3_interval", blank="n/a"),
        column(["pi_lb", "pi_ub"], "Prediction interval", "r3_interval", blank="n/a"),
        column("tau2", "τ²", "variance"),
        column("I2", "I²", "percent"),
    ]
    return {"caption": item.caption or "The same rows under different choices.", "columns": columns, "rows": rows}


_OWN = frozenset({"label", "n", "r", "ci_lb", "ci_ub", "weight"})


def left_out(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the rows of the data set that the analysis's subset leaves out."""
    fitted = fits[item.of[0]]
    whole = fitted.whole.frame
    rest = whole.drop(index=fitted.table.frame.index)
    label = next((name for name in ("study", "slab", "author", "study_id") if name in rest), None)
    columns = [*([column(label, "Study")] if label else []), *_extra_columns(item.columns, fitted.whole)]
    kept = list(dict.fromkeys(key for one in columns for key in one["keys"]))
    rows = [
        {str(name): _in_words(str(name), value, fitted.whole) for name, value in row.items()}
        for row in rest[kept].to_dict("records")
    ]
    caption = item.caption or f"Rows of the data set left out of: {fitted.spec.label}."
    return {"caption": caption, "columns": columns, "rows": rows}


def _extra_columns(names: Sequence[str], table: CodedTable) -> list[dict[str, Any]]:
    """Return columns of the sheet, headed as its data card titles them."""
    known = list(table.columns)
    missing = [f"{name!r}{did_you_mean(name, known)}" for name in names if name not in known]
    if missing:
        raise InputError(f"{table.provenance.source} has no column {', '.join(missing)} (columns: {', '.join(known)})")
    frame = table.frame
    out = []
    for name in names:
        field = table.card.field(name) if table.card else None
        title = field.title if field else name.replace("_", " ").capitalize()
        out.append(column(name, title, _kind_of(name, frame[name])))
    return out


def _in_words(name: str, value: Any, table: CodedTable) -> Any:
    """Return a category's label where the data card has one."""
    field = table.card.field(name) if table.card else None
    plain = _plain(value)
    return field.categories.get(str(plain), plain) if field else plain


def _kind_of(name: str, values: pd.Series[Any]) -> str:
    if name == "year":
        return "year"
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "text"
    whole = bool((values.dropna() % 1 == 0).all())
    return "count" if whole else "r"


def _cell(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": entry["value"], "format": entry["format"]}


def _ends(key: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """Return both ends of an interval under names of their own."""
    value = block[key]["value"]
    lb, ub = value if isinstance(value, list) else (value, value)
    return {f"{key}_lb": lb, f"{key}_ub": ub}


def _coded_r(coded: pd.DataFrame, columns: Mapping[str, str], position: int, otherwise: float) -> float:
    """Return r as it stands in the sheet, so that .24 stays .24 and is not tanh(atanh(.24))."""
    name = columns.get("ri")
    return otherwise if name is None or name not in coded else float(coded[name].iloc[position])


def _plain(value: Any) -> Any:
    return None if value is None or value is pd.NA or (isinstance(value, float) and value != value) else value


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


MAKERS: dict[str, Callable[[Item, Mapping[str, Fitted]], Table]] = {
    "studies": studies,
    "statistics": statistics_table,
    "coefficients": coefficients,
    "comparison": comparison,
    "left_out": left_out,
}
