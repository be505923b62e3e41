"""A tagged PDF (PDF/UA-1) from the same view as the HTML page, set by typst with its own fonts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from alliance_meta.errors import CannotRunError

STANDARD: Final = "ua-1"
# A row takes a tenth of a megabyte to set.
MOST_ROWS = 1_000
# Letters beyond Latin, Greek and Cyrillic with their punctuation and signs: typst brings no font for them.
FOREIGN = re.compile("[^\\u0000-\\u058f\\u1e00-\\u2bff]")


def pdf_available() -> bool:
    """Return whether typst is installed."""
    try:
        import typst  # noqa: F401
    except ImportError:
        return False
    return True


def render_pdf(view: Mapping[str, Any], figures: Mapping[str, Sequence[str]]) -> bytes:
    """Return the PDF; the same content gives the same bytes, but where it needs the system's fonts.

    Raises
    ------
    CannotRunError
        If typst is not installed or refuses the document (a figure without a description, for one).
    """
    try:
        import typst
    except ImportError as error:
        raise CannotRunError("the PDF needs typst: pip install typst") from error
    view = {**view, "sections": [_cut(section) for section in view["sections"]]}
    source = files("alliance_meta.reporting").joinpath("templates/report.typ").read_bytes()
    text = json.dumps(view, ensure_ascii=False)
    foreign, fonts = bool(FOREIGN.search(text)), list[Any]()
    if foreign:
        from alliance_meta.plots.sheet.text import drawable, font_path

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


def _cut(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section whose tables have no more rows than print should hold; a note says where the others are."""
    return {**section, "blocks": [_cut_table(block) if "rows" in block else block for block in section["blocks"]]}


def _cut_table(table: Mapping[str, Any]) -> dict[str, Any]:
    rows = table["rows"]
    if len(rows) <= MOST_ROWS:
        return dict(table)
    note = f"The first {MOST_ROWS:,} of {len(rows):,} rows; all are in "
    place = {"t": "code", "s": f"tables/{table['id']}.csv"}
    return {**table, "rows": rows[:MOST_ROWS], "notes": [*table["notes"], [{"t": "text", "s": note}, place]]}
