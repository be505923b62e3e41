"""Numbers of one fit that come in rows: coefficients, levels of a moderator, components of variance."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from alliance_meta.not_applicable import NotApplicable
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.numbers import Quantity, quantity

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
