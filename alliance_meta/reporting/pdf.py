"""A tagged PDF (PDF/UA-1) from the same view as the HTML page, set by typst with its own fonts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from alliance_meta.errors import CannotRunError

STANDARD: Final = "ua-1"


def pdf_available() -> bool:
    """Return whether typst is installed."""
    try:
        import typst  # noqa: F401
    except ImportError:
        return False
    return True


def render_pdf(view: Mapping[str, Any], figures: Mapping[str, Sequence[str]]) -> bytes:
    """Return the PDF; the same content gives the same bytes.

    Raises
    ------
    CannotRunError
        If typst is not installed or refuses the document (a figure without a description, for one).
    """
    try:
        import typst
    except ImportError as error:
        raise CannotRunError("the PDF needs typst: pip install typst") from error
    source = files("alliance_meta.reporting").joinpath("templates/report.typ").read_bytes()
    inputs = {"view": json.dumps(view, ensure_ascii=False), "figures": json.dumps(dict(figures), ensure_ascii=False)}
    try:
        return bytes(
            typst.compile(
                source,
                format="pdf",
                sys_inputs=inputs,
                ignore_system_fonts=True,
                pdf_standards=[STANDARD],
                timestamp=0,
            )
        )
    except typst.TypstError as error:
        raise CannotRunError(f"typst could not set the PDF: {error}") from error
