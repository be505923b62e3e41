"""A page of headings, words, tables and figures, set as a PDF that screen readers can read (PDF/UA)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from alliance_meta.errors import CannotRunError
from alliance_meta.tables.fonts import drawable, font_path

STANDARD: Final = "ua-1"
# Letters beyond Latin, Greek and Cyrillic with their punctuation and signs: typst brings no font for them.
FOREIGN = re.compile("[^\\u0000-\\u058f\\u1e00-\\u2bff]")


def pdf_available() -> bool:
    """Return whether typst is installed."""
    try:
        import typst  # noqa: F401
    except ImportError:
        return False
    return True


def typeset(view: Mapping[str, Any], figures: Mapping[str, Sequence[str]]) -> bytes:
    """Return the PDF; the same content gives the same bytes, but where it needs the system's fonts.

    `view` holds title, subtitle, lang, version, kind, cautions and sections; ``page.typ`` says what their blocks are.
    `figures` are the pages of each figure, as SVG.

    Raises
    ------
    CannotRunError
        If typst is not installed or refuses the document (a figure without a description, for one).
    """
    try:
        import typst
    except ImportError as error:
        raise CannotRunError("the PDF needs typst: pip install typst") from error
    source = files("alliance_meta.tables").joinpath("page.typ").read_bytes()
    text = json.dumps(view, ensure_ascii=False)
    foreign, fonts = bool(FOREIGN.search(text)), list[Any]()
    if foreign:
        text, fonts = drawable(text), [str(font_path().parent)]
    inputs = {"view": text, "figures": json.dumps(dict(figures), ensure_ascii=False)}
    try:
        return bytes(
            typst.compile(
                source,
                format="pdf",
                sys_inputs=inputs,
                ignore_system_fonts=not foreign,
                font_paths=fonts,
                pdf_standards=[STANDARD],
                timestamp=0,
            )
        )
    except typst.TypstError as error:
        raise CannotRunError(f"typst could not set the PDF: {error}") from error
