"""Results as plain text of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from alliance_meta.notes import Note

WIDTH = 80


def number(value: float, digits: int = 4) -> str:
    """Return a number with so many digits after the point, or n/a."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def pvalue(value: float) -> str:
    """Return "0.0123", "<.0001" or n/a."""
    return "<.0001" if value < 0.0001 else number(value)


def table(frame: pd.DataFrame, formats: Mapping[str, str], *, width: int = WIDTH) -> list[str]:
    """Print the columns that `formats` names ("p", "s", "d" or digits) after the row labels, cut to fit."""
    body = {name: [name, *(_cell(value, formats[name]) for value in frame[name])] for name in formats}
    widths = {name: max(map(len, column)) for name, column in body.items()}
    labels = ["", *map(str, frame.index)]
    room = max(8, min(max(map(len, labels)), width - sum(w + 1 for w in widths.values())))
    return [
        f"{_cut(label, room):{room}}" + "".join(f" {body[name][i]:>{widths[name]}}" for name in formats)
        for i, label in enumerate(labels)
    ]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def remarks(notes: Iterable[Note]) -> list[str]:
    """Print notes, wrapped, after an empty line."""
    lines = [line for note in notes for line in textwrap.wrap(f"Note: {note}", WIDTH, subsequent_indent="  ")]
    return ["", *lines] if lines else []


def wrapped(text: str) -> list[str]:
    """Wrap one sentence."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def percent(level: float) -> str:
    """Return "95 %"."""
    return f"{100 * level:g} %"


def _cell(value: object, how: str) -> str:
    if how == "s":
        return str(value)
    if how == "p":
        return pvalue(float(value))  # type: ignore[arg-type]
    return number(float(value), int(how))  # type: ignore[arg-type]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
