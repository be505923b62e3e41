"""The table of an analysis under other assumed correlations of sampling errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.reporting.columns import Table, caption, column, effect_columns, ends
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.numbers import Quantity
from alliance_meta.reporting.spec import Item

RHOS = (0.3, 0.5, 0.7)
PLAIN = ("ddf", "tau2", "sigma2_study_id", "sigma2_es_id")


def rho_table(item: Item, fits: Mapping[str, Fitted]) -> tuple[Table, dict[str, Quantity]]:
    """Return analyses under three values of rho, everything else as declared, and the numbers prose may quote.

    Raises
    ------
    InputError
        For an analysis that assumes no correlation.
    """
    rows: list[dict[str, Any]] = []
    quantities: dict[str, Quantity] = {}
    for name in item.of:
        fitted = fits[name]
        if fitted.spec.rho is None:
            raise InputError(f"table='rho' of {name!r}: that analysis assumes no correlation; give it rho =")
        rows.append({"group": fitted.spec.label})
        for rho in RHOS:
            block = _under(fitted, rho)
            interval = "r_ci" if fitted.on_r else "ci"
            lb, ub = ends(block[interval]["value"])
            there = {key: block[key]["value"] for key in ("r" if fitted.on_r else "estimate", *PLAIN) if key in block}
            rows.append({"rho": rho, **there, "ci_lb": lb, "ci_ub": ub})
            for key in (*there, interval):
                quantities[f"{name}_{round(100 * rho)}_{key}"] = block[key]
    known = {key for row in rows for key in row}
    columns = [
        column("rho", "ρ", "r2", align="left"),
        *effect_columns([fits[name] for name in item.of], "CI"),
        column("ddf", "df", "df"),
        column("tau2", "τ²", "variance"),
    ]
    heads = {"sigma2_study_id": "σ² between studies", "sigma2_es_id": "σ² within studies"}
    columns += [column(key, head, "variance", blank="–") for key, head in heads.items() if key in known]
    words = caption("Under other assumed correlations of sampling errors", (fits[name] for name in item.of))
    return {"caption": item.caption or words, "columns": columns, "rows": rows}, quantities


def _under(fitted: Fitted, rho: float) -> Mapping[str, Quantity]:
    if fitted.spec.rho == rho:
        return fitted.statistics
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        return fitted.under(fitted.spec.but(rho=rho)).statistics
