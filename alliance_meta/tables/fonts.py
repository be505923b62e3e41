"""The font that everything is drawn and set in, and others for the letters that it lacks."""

from __future__ import annotations

import unicodedata
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alliance_meta.errors import MissingFontWarning

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

BOX = "\N{WHITE SQUARE}"
POINTS_PER_INCH = 72.0
# How large a face is loaded to be measured.
EM = 100.0


@cache
def font_path(bold: bool = False) -> Path:
    """Return the DejaVu Sans that ships with matplotlib, so that the system's fonts do not matter."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


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
    return bool(face(path).get_char_index(ord(character)))


@cache
def face(path: Path) -> FT2Font:
    """Return a font that can be measured."""
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(path))
    face.set_size(EM, POINTS_PER_INCH)
    return face
