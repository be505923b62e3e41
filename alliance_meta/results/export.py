"""A result as tables and as JSON-ready values, never rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from alliance_meta.encoding import plain as plain
from alliance_meta.notes import NotApplicable


def tidy(fit: Any) -> pd.DataFrame:
    """Return one row per coefficient of any fitted model."""
    columns = {
        "estimate": fit.beta,
        "se": fit.se,
        "stat": fit.stat,
        "ddf": fit.ddf,
        "pval": fit.pval,
        "ci_lb": fit.ci_lb,
        "ci_ub": fit.ci_ub,
    }
    out = pd.DataFrame(columns, index=pd.Index(fit.names, name="term"))
    out.attrs.update(scale=fit.effects.scale_label, level=fit.level)
    return out


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def one_row(values: Mapping[str, Any]) -> pd.DataFrame:
    """Return named values as a frame of one row."""
    # A float column would turn the reason of a NotApplicable into a bare NaN.
    columns = {
        name: pd.Series([value], dtype=object if isinstance(value, NotApplicable) else None)
        for name, value in values.items()
    }
    return pd.DataFrame(columns)


def columns_of(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the columns of a table as lists; unlike ``to_dict`` of pandas it keeps a `NotApplicable` as it is."""
    return {str(name): list(table[name].array) for name in table.columns}
