"""Tables of a report as data: columns with a format each, and rows of unrounded numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from alliance_meta.core.distributions import critical_value
from alliance_meta.reporting.coefficients import WITH_MODERATORS, Table, caption, column, extra_columns, in_words
from alliance_meta.reporting.comparisons import coefficients, comparison, components, levels
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.numbers import Quantity
from alliance_meta.reporting.posterior import other_priors, posterior
from alliance_meta.reporting.prose import escape
from alliance_meta.reporting.spec import Item

GROUPS = {
    "k_rows": "Data",
    "k": "Data",
    "measure": "Model",
    "estimate": "Pooled effect",
    "tau2": "Heterogeneity",
    "R2": "Moderators",
    "R2_marginal": "Moderators",
    "QM": "Moderators",
    "asked": "Evidence",
}
LONG = 60


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
    return {"caption": item.caption or caption("Studies", chosen), "columns": columns, "rows": list(rows.values())}


def study_rows(fitted: Fitted) -> list[dict[str, Any]]:
    """Return label, n, r, interval and weight of each effect, in the sheet's order."""
    from alliance_meta.plots.forests.frame import estimate

    effects = fitted.effects
    coded = effects.moderators
    half = critical_value(fitted.spec.level, None) * effects.sei
    # A Bayesian model of dependent effects has no weights.
    weights = getattr(fitted.fit, "weights", None)
    rows = []
    for position, label in enumerate(effects.slab):
        y = effects.yi[position]
        one = estimate(effects.measure, y, y - half[position], y + half[position])
        rows.append(
            {
                "label": label,
                "n": None if effects.ni is None else int(effects.ni[position]),
                **(
                    {
                        "r": _coded_r(coded, effects.columns, position, one["r"]),
                        "ci_lb": one["r_lb"],
                        "ci_ub": one["r_ub"],
                    }
                    if fitted.on_r
                    else {"estimate": one["yi"], "ci_lb": one["ci_lb"], "ci_ub": one["ci_ub"]}
                ),
                "weight": None if weights is None else float(weights[position]),
                **{
                    str(name): in_words(str(name), value, fitted.table)
                    for name, value in coded.iloc[position].items()
                    if name not in _OWN
                },
            }
        )
    return rows


def _studies_of_one(item: Item, fitted: Fitted) -> Table:
    rows = study_rows(fitted)
    extra = extra_columns(item.columns, fitted.table)
    columns = [
        column("label", "Study"),
        *extra,
        *([column("n", "n", "count")] if fitted.effects.ni is not None else []),
        column("r", "r", "r") if fitted.on_r else column("estimate", fitted.effects.scale_label.capitalize(), "fixed2"),
        column(["ci_lb", "ci_ub"], f"{fitted.level} CI", "r_interval" if fitted.on_r else "fixed2_interval"),
        *([column("weight", "Weight, %", "weight")] if hasattr(fitted.fit, "weights") else []),
    ]
    kept = {key for one in columns for key in one["keys"]}
    rows = [{key: value for key, value in row.items() if key in kept} for row in rows]
    return {"caption": item.caption or caption("Studies", [fitted]), "columns": columns, "rows": rows}


def statistics_table(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the standard block: one row per statistic, one column per analysis."""
    chosen = [fits[name] for name in item.of]
    blocks = {fitted.spec.id: fitted.statistics for fitted in chosen}
    one_each = all(block["studies"]["value"] == block["k"]["value"] for block in blocks.values())
    rows: list[dict[str, Any]] = []
    headings: set[str] = set()
    for heading, key in _keys_by_group(blocks.values()):
        if key == "studies" and one_each:
            continue
        found = {name: block[key] for name, block in blocks.items() if key in block}
        if all(_in_coefficients(entry["value"]) for entry in found.values()):
            continue
        if heading not in headings:
            rows.append({"group": heading})
            headings.add(heading)
        for label in dict.fromkeys(entry["label"] for entry in found.values()):
            cells = {name: _cell(entry) for name, entry in found.items() if entry["label"] == label}
            rows.append({"statistic": label, **cells})
    columns = [column("statistic", "Statistic")]
    columns += [column(fitted.spec.id, fitted.heading, "r", blank="–") for fitted in chosen]
    rules = dict.fromkeys(rule for rule in map(_prediction_rule, chosen) if rule)
    words = item.caption or caption("Every statistic", chosen)
    return {"kind": "statistics", "caption": words, "columns": columns, "rows": rows, "notes": list(rules)}


def _in_coefficients(value: Any) -> bool:
    """Return whether the value is that of no single mean: the coefficients have it."""
    first = value[0] if isinstance(value, list) else value
    return first is WITH_MODERATORS


def _keys_by_group(blocks: Iterable[Mapping[str, Quantity]]) -> list[tuple[str, str]]:
    """Return heading and key of every statistic, those of one heading together, in reading order."""
    found: dict[tuple[str, str], None] = {}
    for block in blocks:
        heading = ""
        for key in block:
            heading = GROUPS.get(key, heading)
            found[heading, key] = None
    order = list(dict.fromkeys(GROUPS.values()))
    return sorted(found, key=lambda pair: order.index(pair[0]))


def _prediction_rule(fitted: Fitted) -> str:
    """Say how the prediction interval was made; empty where there is none."""
    return "" if fitted.fit.p > 1 or fitted.spec.method == "EE" else fitted.prediction_rule()


_OWN = frozenset({"label", "n", "r", "estimate", "ci_lb", "ci_ub", "weight"})


def left_out(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the rows of the data set that the analysis's subset leaves out."""
    fitted = fits[item.of[0]]
    whole = fitted.whole.frame
    rest = whole.drop(index=fitted.table.frame.index)
    label = next((name for name in ("study", "slab", "author", "study_id") if name in rest), None)
    columns = [*([column(label, "Study")] if label else []), *extra_columns(item.columns, fitted.whole)]
    kept = list(dict.fromkeys(key for one in columns for key in one["keys"]))
    rows = [
        {str(name): in_words(str(name), value, fitted.whole) for name, value in row.items()}
        for row in rest[kept].to_dict("records")
    ]
    columns, notes = _said_once(columns, rows)
    words = item.caption or caption("Rows of the data set left out of", [fitted])
    return {"caption": words, "columns": columns, "rows": rows, **({"notes": notes} if notes else {})}


def _said_once(
    columns: list[dict[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the columns without those of long text that is the same in every row, and that text as notes."""
    kept, notes = [], []
    for one in columns:
        found = {row.get(one["keys"][0]) for row in rows}
        text = next(iter(found)) if len(found) == 1 and len(rows) > 1 else None
        if isinstance(text, str) and len(text) > LONG:
            notes.append(f"{one['label']}, for every row: {escape(text)}.")
        else:
            kept.append(one)
    return kept, notes


def _cell(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": entry["value"], "format": entry["format"]}


def _coded_r(coded: pd.DataFrame, columns: Mapping[str, str], position: int, otherwise: float) -> float:
    """Return r as it stands in the sheet, so that .24 stays .24 and is not tanh(atanh(.24))."""
    name = columns.get("ri")
    return otherwise if name is None or name not in coded else float(coded[name].iloc[position])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


MAKERS: dict[str, Callable[[Item, Mapping[str, Fitted]], Table]] = {
    "studies": studies,
    "statistics": statistics_table,
    "coefficients": coefficients,
    "comparison": comparison,
    "components": components,
    "levels": levels,
    "left_out": left_out,
    "posterior": posterior,
    "priors": other_priors,
}
