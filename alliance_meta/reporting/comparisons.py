"""Tables that set analyses beside each other: results, coefficients, components of variance, levels of a moderator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.reporting import coefficients as read
from alliance_meta.reporting.coefficients import Table, column, effect_columns, ends, stacked
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.numbers import Quantity
from alliance_meta.reporting.spec import Item

HEADS = {
    "measure": "Scale",
    "k": "k",
    "studies": "Studies",
    "r": "r",
    "r_ci": "CI",
    "estimate": "Mean effect",
    "ci": "CI",
    "ddf": "df",
    "pi": "Prediction interval",
    "tau2": "τ²",
    "I2": "I²",
    "rho": "ρ",
}
PLAIN = ("measure", "k", "r", "r_ci", "pi", "tau2", "I2")
DEPENDENT = ("k", "studies", "r", "r_ci", "ddf", "pi", "tau2", "I2")
# What stands for r where effects are no correlations.
FINISHED = {"r": ("estimate",), "r_ci": ("ci",)}
PRECISE = {"r": "r3", "r_interval": "r3_interval"}


def comparison(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return one row per analysis: the choices and what they lead to, or the chosen statistics."""
    chosen = [fits[name] for name in item.of]
    dependent = any(fitted.dependent for fitted in chosen)
    usual = DEPENDENT if dependent else PLAIN
    if not all(fitted.on_r for fitted in chosen):
        usual = tuple(name for key in usual for name in (key, *FINISHED.get(key, ())))
    entries = _entries(item.columns, chosen) or _usual(usual, chosen)
    keys = tuple(entries)
    rows = []
    for fitted in chosen:
        row: dict[str, Any] = {"label": fitted.spec.label, "model": fitted.short_label()}
        there = [key for key in keys if key in fitted.statistics]
        for key in sorted(there, key=lambda key: _paired(entries[key])):
            value = fitted.statistics[key]["value"]
            paired = zip((f"{key}_lb", f"{key}_ub"), ends(value), strict=True)
            row |= dict(paired) if _paired(entries[key]) else {key: value}
        rows.append(row)
    columns = [column("label", "Analysis"), *_columns(keys, entries, dependent)]
    if not item.columns:
        columns.insert(1 if dependent else 2, column("model", "Model"))
    return {"caption": item.caption or "The same rows under different choices.", "columns": columns, "rows": rows}


def _entries(keys: Sequence[str], chosen: Sequence[Fitted]) -> dict[str, Quantity]:
    """Return one entry of each statistic, for its head and its format."""
    known = _known(chosen)
    wrong = [f"{key!r}{did_you_mean(key, list(known))}" for key in keys if key not in known]
    if wrong:
        raise InputError(f"columns: no statistic {', '.join(wrong)} (known: {', '.join(known)})")
    return {key: known[key] for key in keys}


def _usual(keys: Sequence[str], chosen: Sequence[Fitted]) -> dict[str, Quantity]:
    known = _known(chosen)
    return {key: known[key] for key in keys if key in known}


def _known(chosen: Sequence[Fitted]) -> dict[str, Quantity]:
    return {key: entry for fitted in reversed(chosen) for key, entry in fitted.statistics.items()}


def _columns(keys: Sequence[str], entries: Mapping[str, Quantity], dependent: bool) -> Iterator[dict[str, Any]]:
    for key in keys:
        kind = str(entries[key]["format"])
        shown = PRECISE.get(kind, kind)
        head = HEADS.get(key, str(entries[key]["label"]))
        paired = _paired(entries[key])
        blank = {"blank": "n/a"} if paired else {"blank": "–"} if dependent else {}
        yield column([f"{key}_lb", f"{key}_ub"] if paired else key, head, shown, **blank)


def _paired(entry: Quantity) -> bool:
    return str(entry["format"]).endswith("interval")


def coefficients(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the coefficients of one model, or of several one below the other."""
    chosen = [fits[name] for name in item.of]
    bayesian = [fitted.spec.id for fitted in chosen if fitted.table_kind != "coefficients"]
    if bayesian:
        raise InputError(f"table='coefficients': {', '.join(bayesian)} is Bayesian; its table is 'posterior'")
    kind = chosen[0].number
    dependent = any(fitted.dependent for fitted in chosen)
    columns = [
        column("term", "Term"),
        column("estimate", f"Estimate ({chosen[0].effects.scale_label})", kind),
        column("se", "SE", kind),
        column("stat", "z" if all(math.isinf(fitted.fit.ddf[0]) for fitted in chosen) else "t", "stat"),
        *([column("ddf", "df", "df")] if dependent else []),
        column("p", "p", "p"),
        column(["ci_lb", "ci_ub"], f"{chosen[0].level} CI", f"{kind}_interval"),
    ]
    return stacked(item, chosen, columns, _coefficient_rows, "Coefficients")


def _coefficient_rows(fitted: Fitted) -> list[dict[str, Any]]:
    fit = fitted.fit
    return [
        {
            "term": name,
            "estimate": fit.beta[i],
            "se": fit.se[i],
            "stat": fit.stat[i],
            **({"ddf": fit.ddf[i]} if fitted.dependent else {}),
            "p": fit.pval[i],
            "ci_lb": fit.ci_lb[i],
            "ci_ub": fit.ci_ub[i],
        }
        for i, name in enumerate(fit.names)
    ]


def components(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return what varies by how much: one row for each component of variance of each analysis."""
    chosen = [fits[name] for name in item.of]
    columns = [
        column("component", "What varies"),
        column("groups", "Groups", "count", blank="–"),
        column("estimate", "Variance", "variance"),
        column(["ci_lb", "ci_ub"], f"{chosen[0].level} CI", "variance_interval", blank="–"),
        column("sd", "SD", "sd", blank="–"),
        column("share", "I²", "percent", blank="–"),
    ]
    return stacked(item, chosen, columns, _component_rows, "Components of variance on the model's scale")


def _component_rows(fitted: Fitted) -> list[dict[str, Any]]:
    block = fitted.statistics
    if not fitted.components:
        share = (block.get("I2") or block["I2_Q"])["value"]
        rows = [_component("τ²", block["tau2"]["value"], share=share, ci=block.get("tau2_ci"))]
        rows += [_component("ω²", block["omega2"]["value"])] if "omega2" in block else []
        return rows
    rows = []
    for one in fitted.components:
        entry = block.get(f"I2_{read.slug(one['term'])}")
        share = None if entry is None else entry["value"]
        ci = block[f"{one['key']}_ci"]
        if one["name"].startswith("rho"):
            rows.append({"component": one["label"], "groups": one["groups"], "estimate": one["estimate"], **_ci(ci)})
        else:
            rows.append({**_component(one["label"], one["estimate"], share=share, ci=ci), "groups": one["groups"]})
    return [*rows, _component("τ², all together", block["tau2"]["value"], share=block["I2"]["value"])]


def _component(name: str, value: float, *, share: Any = None, ci: Quantity | None = None) -> dict[str, Any]:
    sd = math.sqrt(value) if value >= 0 else value
    return {"component": name, "estimate": value, **_ci(ci), "sd": sd, "share": share}


def _ci(entry: Quantity | None) -> dict[str, Any]:
    return {} if entry is None else dict(zip(("ci_lb", "ci_ub"), entry["value"], strict=True))


def levels(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the mean effect at each level of a categorical moderator, as each analysis has it."""
    chosen = [fits[name] for name in item.of]
    columns = [
        column("level", "Level"),
        column("k", "Effects", "count"),
        column("studies", "Studies", "count"),
        *effect_columns(chosen, f"{chosen[0].level} CI"),
        column("ddf", "df", "df"),
    ]
    return stacked(item, chosen, columns, _level_rows, "Mean effect at each level")


def _level_rows(fitted: Fitted) -> list[dict[str, Any]]:
    found = read.level_rows(fitted)
    if not found:
        raise InputError(f"table='levels' of {fitted.spec.id!r}: needs mods = one categorical moderator")
    return found
