"""Widths of text in inches, measured in the font that is drawn, without drawing it."""

from __future__ import annotations

import unicodedata
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alliance_meta.errors import MissingFontWarning

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties
    from matplotlib.ft2font import FT2Font

# Capital height of DejaVu Sans as a share of its size; text is centred on it.
CAP_HEIGHT = 0.729
ASCENT, DESCENT = 0.928, 0.236
LINE_SPACING = 1.25

BOX = "\N{WHITE SQUARE}"
POINTS_PER_INCH = 72.0
_EM = 100.0


@cache
def font_path(bold: bool = False) -> Path:
    """Return the DejaVu Sans that ships with matplotlib, so that the system's fonts do not matter."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


@cache
def font(size: float, bold: bool = False, others: tuple[str, ...] = ()) -> FontProperties:
    """Return the drawing font, and after it the families of `others` for letters that it lacks."""
    from matplotlib.font_manager import FontProperties

    weight = "bold" if bold else "normal"
    if others:
        return FontProperties(family=["DejaVu Sans", *others], weight=weight, size=size)
    return FontProperties(family="DejaVu Sans", weight=weight, fname=str(font_path(bold)), size=size)


def font_of(text: str, size: float, bold: bool = False) -> FontProperties:
    """Return the drawing font of a text, with others for the letters that it lacks."""
    lacking = [one for one in dict.fromkeys(text) if not (one.isspace() or has(font_path(), one))]
    found = [fallback(character) for character in lacking]
    return font(size, bold, tuple(dict.fromkeys(one[0] for one in found if one is not None)))


def drawable(text: str) -> str:
    """Return a text as it can be drawn: letters that no installed font has become boxes.

    Warns
    -----
    MissingFontWarning
        Names the letters.
    """
    lost = [one for one in dict.fromkeys(text) if not (one.isspace() or has(font_path(), one) or fallback(one))]
    if lost:
        shown = ", ".join(f"{character} (U+{ord(character):04X})" for character in lost[:4])
        message = f"No installed font has {shown}{' ...' if len(lost) > 4 else ''}: drawn as boxes."
        warnings.warn(MissingFontWarning(message), stacklevel=2)
    return "".join(BOX if character in lost else character for character in text)


@cache
def fallback(character: str) -> tuple[str, Path] | None:
    """Return family and file of an installed font that has the character, one made for its script if there is any."""
    from matplotlib.font_manager import fontManager

    script = unicodedata.name(character, "?").split()[0].casefold()
    wanted = "cjk" if script in ("hiragana", "katakana", "hangul", "ideographic") else script
    fonts = [entry for entry in fontManager.ttflist if not any(word in entry.name for word in ("Last Resort", "Emoji"))]
    for entry in sorted(fonts, key=lambda entry: (wanted not in entry.name.casefold(), "Sans" not in entry.name)):
        if has(Path(entry.fname), character):
            return entry.name, Path(entry.fname)
    return None


def has(path: Path, character: str) -> bool:
    """Return whether a font has a character."""
    return bool(_face(path).get_char_index(ord(character)))


@cache
def _face(path: Path) -> FT2Font:
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(path))
    face.set_size(_EM, POINTS_PER_INCH)
    return face


@cache
def _advance(character: str, bold: bool) -> float:
    """Return the unhinted advance in ems; hinted ones are too narrow and columns would touch."""
    from matplotlib.ft2font import LoadFlags

    own, path = font_path(), font_path(bold)
    if not has(own, character):
        other = fallback(character)
        character, path = (BOX, path) if other is None else (character, other[1])
    glyph = _face(path).load_char(ord(character), flags=LoadFlags.NO_HINTING)
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
