"""Numbers in `results.json`: how they are stored, and how each kind is written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from alliance_meta.encoding import INFINITE, NOT_APPLICABLE, plain
from alliance_meta.notes import Note
from alliance_meta.tables import format as fmt

Quantity = dict[str, Any]

MOST_DECIMALS = 9


def quantity(value: Any, kind: str, label: str) -> Quantity:
    """Return a number with the words and the format it is shown with."""
    return {"label": label, "format": kind, "value": value}


def note_quantities(notes: Iterable[Note]) -> dict[str, Quantity]:
    """Return notes as text that prose may quote."""
    return {f"note_{note.code.replace('-', '_')}": quantity(note.message, "text", "Note") for note in notes}


def dumps(document: Mapping[str, Any]) -> str:
    """Write a document as JSON: the same bytes for the same numbers, everywhere."""
    return json.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def number(value: Any) -> float | None:
    """Return a stored number as a float, None where there is none."""
    if isinstance(value, Mapping):
        return math.copysign(math.inf, value[INFINITE]) if INFINITE in value else None
    return None if value is None else float(value)


def reason(value: Any) -> str | None:
    """Return why a stored number does not exist, if it says so."""
    if isinstance(value, Mapping) and NOT_APPLICABLE in value:
        return str(value[NOT_APPLICABLE])
    if isinstance(value, list) and value:
        return next((found for found in map(reason, value) if found), None)
    return None


def show(value: Any, kind: str) -> str:
    """Write a stored value as its kind asks.

    >>> show(0.2499, "r"), show([0.118, 0.373], "r_interval"), show({"not_applicable": "k = 1"}, "r")
    ('.25', '[.12, .37]', 'n/a')
    """
    if kind == "text":
        return "" if value is None else str(value)
    return FORMATS[kind](value)


def _plain(decimals: int, *, leading_zero: bool = True) -> Callable[[Any], str]:
    return lambda value: fmt.format_number(number(value), decimals, leading_zero=leading_zero)


def _interval(decimals: int, *, leading_zero: bool = True) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if not isinstance(value, list):
            return fmt.NOT_AVAILABLE
        return fmt.format_interval(number(value[0]), number(value[1]), decimals, leading_zero=leading_zero)

    return write


def _one(write: Callable[[float | None], str]) -> Callable[[Any], str]:
    return lambda value: write(number(value))


def _year(value: Any) -> str:
    year = number(value)
    return "" if year is None else f"{int(year)}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "count": _one(fmt.format_count),
    "year": _year,
    "r": _plain(2, leading_zero=False),
    **{f"r{decimals}": _plain(decimals, leading_zero=False) for decimals in range(1, MOST_DECIMALS)},
    **{f"fixed{decimals}": _plain(decimals) for decimals in range(MOST_DECIMALS)},
    "r_interval": _interval(2, leading_zero=False),
    "r3_interval": _interval(3, leading_zero=False),
    "fixed2_interval": _interval(2),
    "z": _plain(3),
    "z_interval": _interval(3),
    "variance": _plain(4),
    "variance_interval": _interval(4),
    "sd": _plain(3),
    "sd_interval": _interval(3),
    "percent": _one(fmt.format_percent),
    "weight": _one(fmt.format_weight),
    "stat": _plain(2),
    "df": _one(fmt.format_df),
    "p": _one(fmt.format_p),
    "p_named": _one(lambda value: fmt.format_p(value, name="p")),
    "bf": _one(fmt.format_bayes_factor),
    "level": lambda value: fmt.format_level(float(value)),
}
