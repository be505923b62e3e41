"""Columns of a table: the keys they read, their heads, the formats of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from alliance_meta.errors import InputError
from alliance_meta.options import did_you_mean
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.spec import Item

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable

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
