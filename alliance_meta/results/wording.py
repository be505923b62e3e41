"""Small words that every printed result shares."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

from alliance_meta.notes import Note

WIDTH = 80


def number(value: float, digits: int = 4) -> str:
    """Return the number rounded for print, or ``n/a``."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def p_value(value: float) -> str:
    """Return ``= 0.0123``, ``< .0001`` or ``n/a``."""
    if math.isnan(value):
        return "n/a"
    return "< .0001" if value < 0.0001 else f"= {value:.4f}"


def bare_p(value: float) -> str:
    """Return ``0.0123``, ``<.0001`` or ``n/a``, for a column headed pval."""
    return "<.0001" if value < 0.0001 else number(value)


def level_text(level: float) -> str:
    """Return ``95 %``."""
    return f"{100 * level:g} %"


def remarks(notes: Iterable[Note]) -> list[str]:
    """Return the notes as lines, after an empty one; nothing without notes."""
    lines = [line for note in notes for line in wrapped(f"Note: {note.message}")]
    return ["", *lines] if lines else []


def wrapped(text: str) -> list[str]:
    """Return a sentence as lines of at most 80 columns."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")
