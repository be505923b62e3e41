"""Texts of any script: in the order and the forms that matplotlib draws, and what stands for letters of no font."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

BOX = "\N{WHITE SQUARE}"
# Marks that keep letters apart or join them: part of how a Persian name is written.
JOINERS = "\u200c\u200d"
READ = "_alliance_meta_words"
# Hebrew, Arabic and their kin, with the forms for display of either.
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# These, and the scripts of South and South East Asia: letters change with their neighbours.
JOINED = re.compile("[\u0590-\u109f\u1780-\u17ff\ufb1d-\ufdff\ufe70-\ufefc]")


def shapes_itself() -> bool:
    """Return whether this matplotlib orders and joins letters, as it does since 3.11."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


def shaped(text: str) -> str:
    """Return a text as it is given to matplotlib: older ones draw letters as they come, from left to right."""
    if not RIGHT_TO_LEFT.search(text) or shapes_itself():
        return text
    from arabic_reshaper import ArabicReshaper  # type: ignore[import-untyped]
    from bidi import get_display  # type: ignore[import-untyped]

    # DejaVu Sans has the other ligatures.
    joined = ArabicReshaper({"delete_harakat": False, "ARABIC LIGATURE ALLAH": False}).reshape(text)
    return "\n".join(str(get_display(line)) for line in joined.split("\n"))


def put(artist: Text, words: str, **looks: Any) -> Text:
    """Write words on a text of matplotlib, dollar signs as such, and remember the order that they are read in."""
    artist.set(text=shaped(words), parse_math=False, **looks)
    setattr(artist, READ, words)
    return artist


def texts_of(figure: Figure) -> Iterator[Text]:
    """Yield every text of a figure, those of a `Lettering` too."""
    from matplotlib.text import Text

    for artist in figure.findobj():
        if isinstance(artist, Text):
            yield artist
        elif hasattr(artist, "as_texts"):
            yield from artist.as_texts()


@contextmanager
def as_read(figure: Figure) -> Iterator[None]:
    """Give texts back the order that they are read in: programs that show the text of an SVG order it themselves."""
    texts = [] if shapes_itself() else [(one, one.get_text()) for one in texts_of(figure)]
    changed = [(one, drawn) for one, drawn in texts if shaped(words := getattr(one, READ, "")) == drawn != words]
    for one, _ in changed:
        one.set_text(getattr(one, READ))
    try:
        yield
    finally:
        for one, drawn in changed:
            one.set_text(drawn)


def stand_ins(text: str, has: Callable[[str], bool]) -> str:
    """Return a text with the name of their script for letters that no font has: "[Thai] 2004"."""
    shown: list[str] = []
    for character in text:
        mark = character if character.isspace() or has(character) else _name(character)
        if mark is character or not shown or shown[-1] != mark:
            shown.append(mark)
    return re.sub(r"(\[\w+\])(?:\s+\1)+", r"\1", "".join(shown))


def _name(character: str) -> str:
    """Return the script of a letter in brackets, and a box for a sign."""
    script = unicodedata.name(character, "").partition(" ")[0]
    if not script or unicodedata.category(character)[0] not in "LM":
        return BOX
    return f"[{script if script == 'CJK' else script.capitalize()}]"
