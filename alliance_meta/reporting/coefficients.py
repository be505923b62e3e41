"""Coefficients, the columns of tables, and the choices of an analysis in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.not_applicable import NotApplicable
from alliance_meta.options import did_you_mean
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item
from alliance_meta.reporting.writing import Quantity, quantity

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable

SYMBOLS = {"sigma2": "σ²", "tau2": "τ²", "rho": "ρ"}
LEVELS = {"study_id": "between studies", "study_id/es_id": "within studies"}
WITH_MODERATORS = NotApplicable("depends on the moderators; see the coefficients")
NO_PROFILE = NotApplicable("no profile interval for this covariance structure")


def coefficient_quantities(fitted: Fitted) -> dict[str, Quantity]:
    """Return every coefficient of a meta-regression, and the mean at each level of a single categorical moderator."""
    fit = fitted.fit
    if fit.p == 1:
        return {}
    scale = fitted.number
    out: dict[str, Quantity] = {}
    for i, name in enumerate(fit.names):
        key = f"b_{slug(name)}"
        out[key] = quantity(fit.beta[i], scale, name)
        out[f"{key}_ci"] = quantity([fit.ci_lb[i], fit.ci_ub[i]], f"{scale}_interval", f"{name}, CI")
        out[f"{key}_df"] = quantity(fit.ddf[i], "df", f"{name}, df")
        out[f"{key}_p"] = quantity(fit.pval[i], "p", f"{name}, p")
    for row in level_rows(fitted):
        key, label = slug(row["level"]), row["level"]
        name, kind = ("r", "r") if fitted.on_r else ("estimate", scale)
        out[f"{name}_{key}"] = quantity(row[name], kind, f"{name}, {label}")
        out[f"{name}_{key}_ci"] = quantity([row["ci_lb"], row["ci_ub"]], f"{kind}_interval", f"{name}, {label}, CI")
        out[f"k_{key}"] = quantity(row["k"], "count", f"Effects, {label}")
        out[f"studies_{key}"] = quantity(row["studies"], "count", f"Studies, {label}")
    return out


def level_rows(fitted: Fitted) -> list[dict[str, Any]]:
    """Return the mean at each level of the one categorical moderator; empty for any other model."""
    fit, effects = fitted.fit, fitted.effects
    variables = fit.design.variables
    if len(variables) != 1 or variables[0] not in fit.design.levels:
        return []
    levels = list(fit.design.levels[variables[0]])
    predicted = fit.predict(pd.DataFrame({variables[0]: levels}), scale="r" if fitted.on_r else None)
    values = effects.moderators[variables[0]].tolist()
    rows = []
    for i, level in enumerate(levels):
        row = predicted.iloc[i]
        there = [study for study, value in zip(effects.study_id, values, strict=True) if value == level]
        rows.append(
            {
                "level": str(level),
                "k": len(there),
                "studies": len(set(there)),
                "r" if fitted.on_r else "estimate": float(row["pred"]),
                "ci_lb": float(row["ci_lb"]),
                "ci_ub": float(row["ci_ub"]),
                "ddf": float(row["ddf"]) if "ddf" in row else float(fit.ddf.min()),
            }
        )
    return rows


def slug(name: str) -> str:
    """Return a name as placeholders write it.

    >>> slug("sigma2[study_id]"), slug("sigma2[study_id/es_id]"), slug("rater[T.observer]")
    ('sigma2_study_id', 'sigma2_es_id', 'rater_t_observer')
    """
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\bstudy_id/es_id\b", "es_id", name).lower()).strip("_")


def components(fitted: Fitted) -> list[dict[str, Any]]:
    """Return what varies by how much in a multilevel model, one record for each variance and correlation."""
    model = fitted.model
    intervals = model.confint()
    rows = []
    for name, row in model.components.iterrows():
        found = str(name) in intervals.index
        ends = intervals.loc[name] if found else {"lb": NO_PROFILE, "ub": NO_PROFILE}
        kind, _, inside = str(name).partition("[")
        term = inside.rstrip("]")
        rows.append(
            {
                "name": str(name),
                "key": slug(str(name)),
                "label": f"{SYMBOLS.get(kind, kind)} {LEVELS.get(term, term)}",
                "term": term,
                "estimate": row["estimate"],
                "ci": [ends["lb"], ends["ub"]],
                "groups": int(row["groups"]),
            }
        )
    return rows


Table = dict[str, Any]

RIGHT = "right"


def column(keys: str | Sequence[str], label: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    """Return a column: the keys it reads, its head, the format of its numbers."""
    listed = [keys] if isinstance(keys, str) else list(keys)
    align = "left" if kind == "text" else RIGHT
    return {"keys": listed, "label": label, "format": kind, "align": align, **more}


def effect_columns(chosen: Sequence[Fitted], head: str) -> list[dict[str, Any]]:
    """Return the columns of a mean and its interval: of r, or of the effect where the effects are no correlations."""
    on_r = [fitted for fitted in chosen if fitted.on_r]
    others = [fitted for fitted in chosen if not fitted.on_r]
    kind = "r3" if on_r else "z"
    columns = [column("r", "r", "r3")] if on_r else []
    columns += [column("estimate", f"Mean {others[0].effects.scale_label}", "z")] if others else []
    return [*columns, column(["ci_lb", "ci_ub"], head, f"{kind}_interval", blank="n/a")]


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
    return f"{words}: {'; '.join(fitted.spec.label for fitted in chosen)}."


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
        out.append(column(name, title, _kind_of(name, frame[name])))
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
