from __future__ import annotations

import contextlib
import json
import re
import zlib
from typing import Any

import pytest

from alliance_meta.errors import CannotRunError
from alliance_meta.reporting.build import draw_figures, render_pdf
from alliance_meta.reporting.html import make_view
from tests.reports.cases import Report


def test_tagged_titled_and_in_a_language(report: Report) -> None:
    for mark in (b"/StructTreeRoot", b"/MarkInfo", b"/Lang", b"/DisplayDocTitle true"):
        assert mark in report.pdf
    assert re.search(rb"<pdfuaid:part>1</pdfuaid:part>", report.pdf)
    assert report.results["report"]["title"].encode() in report.pdf


def plain(pdf: bytes) -> bytes:
    """Return a PDF with its compressed streams unpacked."""
    parts = [pdf]
    for packed in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        with contextlib.suppress(zlib.error):
            parts.append(zlib.decompress(packed))
    return b"\n".join(parts)


def test_its_fonts_are_its_own(report: Report) -> None:
    fonts = set(re.findall(rb"/FontName\s*/[A-Z]{6}\+(\w+)", plain(report.pdf)))
    assert fonts
    assert all(name.startswith((b"LibertinusSerif", b"DejaVuSansMono")) for name in fonts)


def test_a_figure_without_a_description_is_refused(reports: dict[str, Report]) -> None:
    document: dict[str, Any] = json.loads(json.dumps(reports["alliance-abstracts"].results))
    view = make_view(document)
    pages = {name: drawn.pages for name, drawn in draw_figures(document).items()}
    assert render_pdf(view, pages) == reports["alliance-abstracts"].pdf
    for section in view["sections"]:
        for block in section["blocks"]:
            if block["type"] == "figure":
                del block["title"]
    with pytest.raises(CannotRunError, match="typst could not set the PDF"):
        render_pdf(view, pages)


def test_each_page_of_a_figure_has_its_own_description(reports: dict[str, Report]) -> None:
    report = reports["alliance-abstracts"]
    view = make_view(json.loads(json.dumps(report.results)))
    name = next(block["id"] for one in view["sections"] for block in one["blocks"] if block["type"] == "figure")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><desc id="d">Page {} of A &amp; B</desc></svg>'
    others = {key: drawn.pages for key, drawn in draw_figures(report.results).items()}
    pdf = plain(render_pdf(view, {**others, name: (svg.format(1), svg.format("2"))}))
    for words in (". Page 1 of A & B", ", page 2. Page 2 of A & B"):
        assert words.encode() in pdf or words.encode("utf-16-be") in pdf
