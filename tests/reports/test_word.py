"""The Word file says what the page says, with real headings, captions, tables and described figures."""

from __future__ import annotations

import io
import json

import docx
import pytest

from alliance_meta.reporting.build import render_word
from alliance_meta.reporting.html import make_view
from tests.reports.cases import Report

# The smallest picture there is, in place of figures.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8ffff3f0005fe02fea735"
    "81e40000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def report(reports: dict[str, Report]) -> Report:
    return reports["relationship-raters"]


@pytest.fixture(scope="module")
def made(report: Report) -> docx.document.Document:
    return docx.Document(str(report.folder / "report.docx"))


def test_headings_are_those_of_the_page(report: Report, made: docx.document.Document) -> None:
    found = [one.text for one in made.paragraphs if one.style.name in ("Heading 1", "Heading 2")]
    sections = report.results["sections"]
    at = next(place for place, one in enumerate(sections) if one.get("supplement"))
    wanted = [one["heading"] for one in sections if one["heading"] != "References"]
    assert [one for one in found if one in wanted] == wanted
    assert found[:2] == ["Abstract", "What these data are"]
    assert found.index("Supplement") < found.index(sections[at]["heading"], found.index("Supplement"))
    assert found[-1] == "References"


def test_tables_hold_the_cells_of_the_page(report: Report, made: docx.document.Document) -> None:
    blocks = [one for section in make_view(report.results)["sections"] for one in section["blocks"] if "rows" in one]
    assert len(made.tables) == len(blocks)
    for table, block in zip(made.tables, blocks, strict=True):
        texts = [[cell.text.replace("\xa0", " ") for cell in row._tr.tc_lst and row.cells] for row in table.rows[:6]]
        assert texts[0] == [head.replace("\xa0", " ") for head in block["headers"]]
        for found, row in zip(texts[1:], block["rows"], strict=False):
            assert found[0] == (row["group"] if "group" in row else row["cells"][0]).replace("\xa0", " ")
            if "cells" in row:
                assert found == [cell.replace("\xa0", " ") for cell in row["cells"]]
        assert table.rows[0]._tr.trPr.find("{*}tblHeader") is not None


def test_figures_say_what_they_show(report: Report, made: docx.document.Document) -> None:
    said = [one.docPr.get("descr") for one in made.element.body.iter("{*}inline")]
    said = said or [picture._inline.docPr.get("descr") for picture in made.inline_shapes]
    for figure in report.results["figures"].values():
        assert any(figure["description"] in text for text in said)


def test_the_same_content_gives_the_same_bytes_without_a_clock(report: Report) -> None:
    view = make_view(report.results)
    figures = {name: (PIXEL,) for name in report.results["figures"]}
    made = render_word(view, figures)
    assert made == render_word(json.loads(json.dumps(view)), figures)
    properties = docx.Document(io.BytesIO(made)).core_properties
    assert properties.created == properties.modified
    assert properties.created.year == 2020
    assert properties.title == report.results["report"]["title"]
