"""One self-contained, accessible HTML page: no script, no request to anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from alliance_meta.tables.document import Table, html_table
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_PROLOGUE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'((?:xlink:)?href="#|url\(#)([^")]+)')
_OPENING = re.compile(r"<svg\b[^>]*>")
_LABELS = re.compile(r"\s*<(title|desc)\b[^>]*>.*?</\1>", re.DOTALL)
_SIZE = re.compile(r'\bwidth="([\d.]+)pt"')
_VIEWBOX = re.compile(r'\bviewBox="[^"]+"')

# How far a figure may be scaled from its drawn size before a page scrolls sideways instead.
SMALLEST_SHARE, LARGEST_SHARE = 0.82, 1.15
PIXELS_PER_POINT = 96 / 72


def render_html(view: Mapping[str, Any], figures: Mapping[str, Sequence[str]]) -> str:
    """Return the page; `figures` holds the SVG text of each figure, page by page."""
    described = {
        block["id"]: block for section in view["sections"] for block in section["blocks"] if block["type"] == "figure"
    }
    inline = {
        identifier: [
            inline_svg(
                svg,
                prefix=f"{identifier}-{page}",
                title=described[identifier]["title"] + (f", page {page}" if len(pages) > 1 else ""),
                description=described[identifier]["description"],
            )
            for page, svg in enumerate(pages, 1)
        ]
        for identifier, pages in figures.items()
        if identifier in described
    }
    return environment().get_template("report.html.j2").render(view=view, figures=inline, css=style())


def table_html(block: Mapping[str, Any], caption: Markup) -> Markup:
    """Return a table of the view as HTML under a caption that is HTML already."""
    from markupsafe import Markup

    rows = tuple((row["group"],) if "group" in row else tuple(row["cells"]) for row in block["rows"])
    words = tuple(i for i, align in enumerate(block["aligns"]) if align == "left")
    table = Table(tuple(block["headers"]), rows, words=words)
    return Markup(html_table(table, identifier=block["id"], caption=str(caption)))


def environment() -> Environment:
    """Return what fills the templates: every text is escaped, and a name that is not there is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("alliance_meta.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.globals["table_html"] = table_html
    return made


def style() -> Markup:
    """Return the style sheet of every page."""
    from markupsafe import Markup

    return Markup(files("alliance_meta.reporting").joinpath("templates/report.css").read_text(encoding="utf-8"))


def inline_svg(svg: str, *, prefix: str, title: str, description: str) -> str:
    """Return an SVG that can stand in a page: ids of its own, a title and a description, no prologue.

    Raises
    ------
    ValueError
        If the text holds no SVG element with a view box.
    """
    text = _METADATA.sub("", _PROLOGUE.sub("", svg, count=1))
    opening = _OPENING.search(text)
    view_box = opening and _VIEWBOX.search(opening[0])
    if opening is None or view_box is None:
        raise ValueError("not an SVG with a viewBox")
    size = _SIZE.search(opening[0])
    width = float(size[1]) * PIXELS_PER_POINT if size else 700.0
    body = _LABELS.sub("", text[opening.end() :])
    body = _ID.sub(lambda match: f'id="{prefix}-{match[1]}"', body)
    body = _REFERENCE.sub(lambda match: f"{match[1]}{prefix}-{match[2]}", body)
    most, least = (fixed(share * width, 0) for share in (LARGEST_SHARE, SMALLEST_SHARE))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view_box[0]} '
        f'role="img" aria-labelledby="{prefix}-title {prefix}-desc" '
        f'style="width:100%;max-width:{most}px;min-width:{least}px">'
        f'<title id="{prefix}-title">{escape(title)}</title>'
        f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    )
    return head + body.strip()
