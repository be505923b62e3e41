"""A page of headings, words, tables and figures, set as a PDF that screen readers can read (PDF/UA)."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from alliance_meta.errors import CannotRunError, MissingFontWarning

STANDARD: Final = "ua-1"
# Letters beyond Latin, Greek and Cyrillic with their punctuation and signs: typst brings no font for them.
FOREIGN = re.compile("[^\\u0000-\\u058f\\u1e00-\\u2bff]")

# The words of a page that are not its content, in English.
WORDS: Final = {"abstract": "Abstract", "cautions": "What these data are", "supplement": "Supplement", "page": "page"}
NO_FONT, BOX = "could not be displayed", "\N{WHITE SQUARE}"


def pdf_available() -> bool:
    """Return whether typst is installed."""
    try:
        import typst  # noqa: F401
    except ImportError:
        return False
    return True


def typeset(view: Mapping[str, Any], figures: Mapping[str, Sequence[str]], *, fonts: Sequence[str] = ()) -> bytes:
    """Return the PDF; the same content gives the same bytes, but where it needs the system's fonts.

    `view` holds title, subtitle, lang, version, cautions, sections and words (`WORDS`, and by what it was `made`);
    ``page.typ`` says what their blocks are.
    `figures` are the pages of each figure, as SVG; `fonts` are folders with fonts for foreign letters.

    Raises
    ------
    CannotRunError
        If typst is not installed or refuses the document (a figure without a description, for one).

    Warns
    -----
    MissingFontWarning
        Where no font has some foreign letter; all of them are boxes then.
    """
    try:
        import typst
    except ImportError as error:
        raise CannotRunError("the PDF needs typst: pip install typst") from error
    text, drawn = json.dumps(view, ensure_ascii=False), json.dumps(dict(figures), ensure_ascii=False)
    try:
        try:
            return _compiled(text, drawn, fonts)
        except typst.TypstError as error:
            if NO_FONT not in str(error) or not FOREIGN.search(text):
                raise
            message = f"{str(error).removeprefix('PDF/UA-1 error: ')}: foreign letters are boxes in the PDF."
            warnings.warn(MissingFontWarning(message), stacklevel=2)
            return _compiled(FOREIGN.sub(BOX, text), drawn, fonts)
    except typst.TypstError as error:
        raise CannotRunError(f"typst could not set the PDF: {error}") from error


def _compiled(view: str, figures: str, fonts: Sequence[str]) -> bytes:
    import typst

    foreign = bool(FOREIGN.search(view))
    return bytes(
        typst.compile(
            files("alliance_meta.tables").joinpath("page.typ").read_bytes(),
            format="pdf",
            sys_inputs={"view": view, "figures": figures},
            ignore_system_fonts=not foreign,
            font_paths=list[Any](fonts if foreign else ()),
            pdf_standards=[STANDARD],
            timestamp=0,
        )
    )
