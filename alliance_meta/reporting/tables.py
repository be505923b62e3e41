"""Tables of a report as data: columns with a format each, and rows of unrounded numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alliance_meta.bayes.exact.results import BayesianResults
    from alliance_meta.effects.sheet.coded import CodedTable

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from alliance_meta.core.distributions import critical_value
from alliance_meta.errors import InputError
from alliance_meta.notes import did_you_mean
from alliance_meta.reporting.fitted import WITH_MODERATORS, Fitted, level_rows, slug
from alliance_meta.reporting.items.posterior import CELLS, NAMES, cells, tau_words, terms
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.words import marked, named, tr
from alliance_meta.reporting.writing import Quantity, escape

Table = dict[str, Any]


RIGHT = "right"


def column(keys: str | Sequence[str], label: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """Return a column of the report's own: the keys it reads, its head in the report's language, its format."""
    return own_column(keys, tr(label), kind, **more)


def own_column(keys: str | Sequence[str], label: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """Return a column whose head is the author's, or the sheet's, and is not translated."""
    listed = [keys] if isinstance(keys, str) else list(keys)
    align = "left" if kind == "text" else RIGHT
    return {"keys": listed, "label": label, "format": kind, "align": align, **more}


def effect_columns(chosen: Sequence[Fitted], head: str) -> list[dict[str, Any]]:
    """Return the columns of a mean and its interval: of r, or of the effect where the effects are no correlations."""
    on_r = [fitted for fitted in chosen if fitted.on_r]
    others = [fitted for fitted in chosen if not fitted.on_r]
    kind = "r3" if on_r else "z"
    columns = [column("r", "r", "r3")] if on_r else []
    columns += [column("estimate", tr("Mean {scale}", scale=others[0].effects.scale_label), "z")] if others else []
    return [*columns, own_column(["ci_lb", "ci_ub"], head, f"{kind}_interval", blank="n/a")]


def stacked(
    item: Item,
    chosen: Sequence[Fitted],
    columns: list[dict[str, Any]],
    rows_of: Callable[[Fitted], list[dict[str, Any]]],
    words: str,
) -> Table:
    """Return a table of the rows of each analysis, those of several below one another, each under its label."""
    rows: list[dict[str, Any]] = []
    for fitted in chosen:
        rows += [{"group": fitted.spec.label}] if len(chosen) > 1 else []
        rows += rows_of(fitted)
    return {"caption": item.caption or caption(words, chosen), "columns": columns, "rows": rows}


def caption(words: str, chosen: Iterable[Fitted]) -> str:
    """Return the caption of a table that declares none."""
    return f"{tr(words)}: {'; '.join(fitted.spec.label for fitted in chosen)}."


def ends(value: Any) -> tuple[Any, Any]:
    """Return both ends of an interval, or twice why there is none."""
    return (value[0], value[1]) if isinstance(value, list) else (value, value)


def extra_columns(names: Sequence[str], table: CodedTable) -> list[dict[str, Any]]:
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
        out.append(own_column(name, title, _kind_of(name, frame[name])))
    return out


def in_words(name: str, value: Any, table: CodedTable) -> Any:
    """Return a category's label where the data card has one."""
    field = table.card.field(name) if table.card else None
    plain = plain_value(value)
    return field.categories.get(str(plain), plain) if field else plain


def _kind_of(name: str, values: pd.Series[Any]) -> str:
    if name == "year":
        return "year"
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "text"
    whole = bool((values.dropna() % 1 == 0).all())
    return "count" if whole else "r"


def plain_value(value: Any) -> Any:
    """Return a cell of a data frame, None where it is empty."""
    return None if value is None or value is pd.NA or (isinstance(value, float) and value != value) else value


HEADS = marked(
    {
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
)
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
    entries = _entries(item.columns or [key for key in usual if key in _known(chosen)], chosen)
    keys = tuple(entries)
    rows = []
    short = len({fitted.heading for fitted in chosen}) == len(chosen)
    for fitted in chosen:
        row: dict[str, Any] = {"label": fitted.heading if short else fitted.spec.label, "model": fitted.short_label()}
        there = [key for key in keys if key in fitted.statistics]
        for key in sorted(there, key=lambda key: _paired(entries[key])):
            value = fitted.statistics[key]["value"]
            paired = zip((f"{key}_lb", f"{key}_ub"), ends(value), strict=True)
            row |= dict(paired) if _paired(entries[key]) else {key: value}
        rows.append(row)
    columns = [column("label", "Analysis"), *_columns(keys, entries, dependent)]
    if not item.columns:
        columns.insert(1 if dependent else 2, column("model", "Model"))
    return {"caption": item.caption or tr("The same rows under different choices."), "columns": columns, "rows": rows}


def _entries(keys: Sequence[str], chosen: Sequence[Fitted]) -> dict[str, Quantity]:
    """Return one entry of each statistic, for its head and its format."""
    known = _known(chosen)
    wrong = [f"{key!r}{did_you_mean(key, list(known))}" for key in keys if key not in known]
    if wrong:
        raise InputError(f"columns: no statistic {', '.join(wrong)} (known: {', '.join(known)})")
    return {key: known[key] for key in keys}


def _known(chosen: Sequence[Fitted]) -> dict[str, Quantity]:
    return {key: entry for fitted in reversed(chosen) for key, entry in fitted.statistics.items()}


def _columns(keys: Sequence[str], entries: Mapping[str, Quantity], dependent: bool) -> Iterator[dict[str, Any]]:
    for key in keys:
        kind = str(entries[key]["format"])
        shown = PRECISE.get(kind, kind)
        head = tr(HEADS[key]) if key in HEADS else str(entries[key]["label"])
        paired = _paired(entries[key])
        blank = {"blank": "n/a"} if paired else {"blank": "–"} if dependent else {}
        yield own_column([f"{key}_lb", f"{key}_ub"] if paired else key, head, shown, **blank)


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
        column("estimate", tr("Estimate ({scale})", scale=chosen[0].effects.scale_label), kind, error="se"),
        column("se", "SE", kind, error="se"),
        column("stat", "z" if all(math.isinf(fitted.fit.ddf[0]) for fitted in chosen) else "t", "stat"),
        *([column("ddf", "df", "df")] if dependent else []),
        column("p", "p", "p"),
        column(["ci_lb", "ci_ub"], tr("{level} CI", level=chosen[0].level), f"{kind}_interval", error="se"),
    ]
    return stacked(item, chosen, columns, _coefficient_rows, "Coefficients")


def _coefficient_rows(fitted: Fitted) -> list[dict[str, Any]]:
    fit = fitted.fit
    return [
        {
            "term": words,
            "estimate": fit.beta[i],
            "se": fit.se[i],
            "stat": fit.stat[i],
            **({"ddf": fit.ddf[i]} if fitted.dependent else {}),
            "p": fit.pval[i],
            "ci_lb": fit.ci_lb[i],
            "ci_ub": fit.ci_ub[i],
        }
        for i, words in enumerate(fit.design.words)
    ]


def components(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return what varies by how much: one row for each component of variance of each analysis."""
    chosen = [fits[name] for name in item.of]
    columns = [
        column("component", "What varies"),
        column("groups", "Groups", "count", blank="–"),
        column("estimate", "Variance", "variance"),
        column(["ci_lb", "ci_ub"], tr("{level} CI", level=chosen[0].level), "variance_interval", blank="–"),
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
        entry = block.get(f"I2_{slug(one['term'])}")
        share = None if entry is None else entry["value"]
        ci = block[f"{one['key']}_ci"]
        if one["name"].startswith("rho"):
            rows.append({"component": one["label"], "groups": one["groups"], "estimate": one["estimate"], **_ci(ci)})
        else:
            rows.append({**_component(one["label"], one["estimate"], share=share, ci=ci), "groups": one["groups"]})
    return [*rows, _component(tr("τ², all together"), block["tau2"]["value"], share=block["I2"]["value"])]


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
        *effect_columns(chosen, tr("{level} CI", level=chosen[0].level)),
        column("ddf", "df", "df"),
    ]
    return stacked(item, chosen, columns, _level_rows, "Mean effect at each level")


def _level_rows(fitted: Fitted) -> list[dict[str, Any]]:
    found = level_rows(fitted)
    if not found:
        raise InputError(f"table='levels' of {fitted.spec.id!r}: needs mods = one categorical moderator")
    return found


GROUPS = marked(
    {
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
)
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
            own_column(f"n_{name}", f"n, {_lower(fitted.heading)}", "count"),
            own_column(f"r_{name}", f"r, {_lower(fitted.heading)}", "r"),
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
    from alliance_meta.plots.forests.parts import estimate

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
        column("r", "r", "r")
        if fitted.on_r
        else own_column("estimate", fitted.effects.scale_label.capitalize(), "fixed2"),
        column(
            ["ci_lb", "ci_ub"], tr("{level} CI", level=fitted.level), "r_interval" if fitted.on_r else "fixed2_interval"
        ),
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
            rows.append({"group": tr(heading)})
            headings.add(heading)
        for label in dict.fromkeys(entry["label"] for entry in found.values()):
            alike = {name: entry for name, entry in found.items() if entry["label"] == label}
            cells = {name: {key: entry[key] for key in ("value", "format")} for name, entry in alike.items()}
            rows.append({"statistic": label, **cells})
    columns = [column("statistic", "Statistic")]
    columns += [own_column(fitted.spec.id, fitted.heading, "r", blank="–") for fitted in chosen]
    predicting = [one for one in chosen if one.fit.p == 1 and one.spec.method != "EE"]
    rules = dict.fromkeys(fitted.prediction_rule() for fitted in predicting)
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
            notes.append(tr("{what}, for every row: {text}.", what=one["label"], text=escape(text)))
        else:
            kept.append(one)
    return kept, notes


def _coded_r(coded: pd.DataFrame, columns: Mapping[str, str], position: int, otherwise: float) -> float:
    """Return r as it stands in the sheet, so that .24 stays .24 and is not tanh(atanh(.24))."""
    name = columns.get("ri")
    return otherwise if name is None or name not in coded else float(coded[name].iloc[position])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def posterior(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return median, sd and interval of each quantity of one posterior, or of several below each other."""
    chosen = [fits[name] for name in item.of]
    _check_bayesian(chosen, "posterior")
    kind = chosen[0].number
    level = tr("{level} credible", level=chosen[0].level)
    columns = [
        column("quantity", "Quantity"),
        column("median", tr("Median ({scale})", scale=chosen[0].effects.scale_label), kind),
        own_column(["ci_lb", "ci_ub"], level, f"{kind}_interval"),
        column("r", "as r", "r", blank="–"),
        own_column(["r_lb", "r_ub"], f"{level}, r", "r_interval", blank="–"),
        column("positive", "P(> 0)", "p", blank="–"),
    ]
    return stacked(item, chosen, columns, _posterior_rows, "Posterior")


def _posterior_rows(fitted: Fitted) -> list[dict[str, Any]]:
    fit: BayesianResults = fitted.fit
    table = fit.tidy()
    rows = []
    taus = [f"tau[{term}]" for term in terms(fit)] or ["tau"]
    for name in [*fit.names, *taus, "theta_new"]:
        shown = "mu" if fit.design.formula == "1" and name == fit.names[0] else name
        ends = dict(zip(CELLS, cells(table, shown), strict=True))
        term = name.removeprefix("tau[").rstrip("]")
        words = tau_words(term) if term in terms(fit) and name in taus else named(NAMES, shown)
        found: dict[str, Any] = {"quantity": words, **ends}
        if name not in taus:
            found["positive"] = fit.prob(f"{shown} > 0")
        if shown in ("mu", "theta_new") and fit._scale == "z":
            found |= {"r": math.tanh(found["median"])}
            found |= {"r_lb": math.tanh(found["ci_lb"]), "r_ub": math.tanh(found["ci_ub"])}
        rows.append(found)
    return rows


def other_priors(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return what other priors of tau would have given; the first row of each analysis is as it was fitted."""
    chosen = [fits[name] for name in item.of]
    _check_bayesian(chosen, "priors")
    several = [fitted.spec.id for fitted in chosen if terms(fitted.fit)]
    if several:
        raise InputError(f"table='priors' shows models with one τ; {', '.join(several)} has random =")
    on_r = all(fitted.on_r for fitted in chosen)
    name = "r" if on_r else "estimate"
    level = tr("{level} credible", level=chosen[0].level)
    columns = [
        column("prior", "Prior of τ"),
        column(name, "r", "r3") if on_r else column(name, "Mean effect", "z"),
        own_column([f"{name}_lb", f"{name}_ub"], level, "r3_interval" if on_r else "z_interval"),
        column("tau", "τ", "sd"),
        own_column(["tau_lb", "tau_ub"], level, "sd_interval"),
        column(["pi_lb", "pi_ub"], "New study, r" if on_r else "New study", "r_interval" if on_r else "z_interval"),
    ]
    return stacked(item, chosen, columns, partial(_prior_rows, name=name), "Other priors of τ")


def _prior_rows(fitted: Fitted, name: str) -> list[dict[str, Any]]:
    fit: BayesianResults = fitted.fit
    to_r = math.tanh if fit._scale == "z" else float
    rows = []
    for row in fit.prior_sensitivity().to_dict("records"):
        found: dict[str, Any] = {"prior": row["tau_prior"], "tau": row["tau"]}
        found |= {"tau_lb": row["tau_ci_lb"], "tau_ub": row["tau_ci_ub"]}
        found |= {name: to_r(row["mu"]), f"{name}_lb": to_r(row["mu_ci_lb"]), f"{name}_ub": to_r(row["mu_ci_ub"])}
        rows.append(found | {"pi_lb": to_r(row["pi_lb"]), "pi_ub": to_r(row["pi_ub"])})
    return rows


def _check_bayesian(chosen: Sequence[Fitted], table: str) -> None:
    others = [fitted.spec.id for fitted in chosen if fitted.table_kind != "posterior"]
    if others:
        raise InputError(f"table={table!r} shows analyses of kind = 'bayes'; {', '.join(others)} has none")


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
