"""Widths of text in inches, measured in the font that is drawn, without drawing it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties
    from matplotlib.ft2font import FT2Font

# Capital height of DejaVu Sans as a share of its size; text is centred on it.
CAP_HEIGHT = 0.729
ASCENT, DESCENT = 0.928, 0.236
LINE_SPACING = 1.25

POINTS_PER_INCH = 72.0
_EM = 100.0


@cache
def font_path(bold: bool = False) -> Path:
    """Return the DejaVu Sans that ships with matplotlib, so that the system's fonts do not matter."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


@cache
def font(size: float, bold: bool = False) -> FontProperties:
    """Return the drawing font."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(
        family="DejaVu Sans", weight="bold" if bold else "normal", fname=str(font_path(bold)), size=size
    )


@cache
def _face(bold: bool) -> FT2Font:
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(font_path(bold)))
    face.set_size(_EM, POINTS_PER_INCH)
    return face


@cache
def _advance(character: str, bold: bool) -> float:
    """Return the unhinted advance in ems; hinted ones are too narrow and columns would touch."""
    from matplotlib.ft2font import LoadFlags

    glyph = _face(bold).load_char(ord(character), flags=LoadFlags.NO_HINTING)
    return float(glyph.linearHoriAdvance) / 65536 / _EM


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in inches of `text` at `size` points (kerning, which only narrows, is left out)."""
    return sum(_advance(character, bold) for character in text) * size / POINTS_PER_INCH


def line_height(size: float) -> float:
    """Return the distance of two baselines in inches."""
    return LINE_SPACING * size / POINTS_PER_INCH


def wrap(text: str, size: float, width: float, *, bold: bool = False) -> tuple[str, ...]:
    """Break `text` at spaces so that no line is wider than `width` inches, unless one word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines) or ("",)
