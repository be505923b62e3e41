from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from alliance_meta.reporting.html import inline_svg
from alliance_meta.tables.format import format_interval, format_r
from tests.reports.browsing import needs_browser, opened
from tests.reports.cases import Report

if TYPE_CHECKING:
    from playwright.sync_api import Page

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Element:
    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element] = []
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def find(self, *tags: str) -> list[Element]:
        found = []
        for child in self.children:
            if child.tag in tags:
                found.append(child)
            found += child.find(*tags)
        return found


class Tree(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {}, None)
        self.current = self.root
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs}, self.current)
        self.current.children.append(element)
        if tag not in VOID:
            self.current = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.current.children.append(Element(tag, {key: value or "" for key, value in attrs}, self.current))

    def handle_endtag(self, tag: str) -> None:
        assert self.current.tag == tag, f"</{tag}> closes <{self.current.tag}>"
        assert self.current.parent is not None
        self.current = self.current.parent

    def handle_data(self, data: str) -> None:
        element: Element | None = self.current
        while element is not None:
            element.pieces.append(data)
            element = element.parent


@cache
def parsed(page: str) -> Element:
    """Return the elements of a page, read once for all tests that look at them."""
    parser = Tree(page)
    assert parser.current is parser.root
    return parser.root


@pytest.fixture
def tree(report: Report) -> Element:
    return parsed(report.page)


def test_language_title_and_landmarks(tree: Element, report: Report) -> None:
    (html,) = tree.find("html")
    assert html.attributes["lang"] == "en"
    assert [title.text for title in html.find("head")[0].find("title")] == [report.results["report"]["title"]]
    for landmark in ("header", "main", "nav", "footer"):
        assert len(html.find(landmark)) == 1
    skip = html.find("a")[0]
    assert skip.attributes == {"class": "skip", "href": "#content"}
    assert html.find("main")[0].attributes["id"] == "content"


def test_headings_descend_one_level_at_a_time(tree: Element) -> None:
    levels = [int(heading.tag[1]) for heading in tree.find("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_every_reference_has_its_target(tree: Element) -> None:
    everything = tree.find(*{element.tag for element in all_elements(tree)})
    ids = Counter(element.attributes["id"] for element in everything if "id" in element.attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    for element in everything:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(element.attributes.get(name, "").split()) <= set(ids)
        for name in ("href", "xlink:href"):
            target = element.attributes.get(name, "")
            if target.startswith("#"):
                assert target[1:] in ids
        for target in re.findall(r"url\(#([^)]+)\)", element.attributes.get("clip-path", "")):
            assert target in ids


def test_tables_have_captions_and_scopes(tree: Element) -> None:
    tables = tree.find("table")
    assert tables
    for table in tables:
        assert table.find("caption")[0].text.strip()
        heads = table.find("th")
        assert all(head.attributes.get("scope") in ("col", "row", "rowgroup") for head in heads)
        columns = len(table.find("thead")[0].find("th"))
        for row in (row for body in table.find("tbody") for row in body.find("tr")):
            spans = sum(int(cell.attributes.get("colspan", "1")) for cell in row.find("th", "td"))
            assert spans == columns


def test_figures_say_what_they_show(tree: Element, report: Report) -> None:
    drawn = tree.find("svg")
    assert len(drawn) == len(report.results["figures"])
    for svg in drawn:
        assert svg.attributes["role"] == "img"
        assert svg.find("title")[0].text.strip()
        assert svg.find("desc")[0].text.strip()
    assert all(figure.find("figcaption")[0].text.strip() for figure in tree.find("figure"))


def test_nothing_is_fetched_from_anywhere(tree: Element, report: Report) -> None:
    assert tree.find("iframe", "object", "embed", "img", "audio", "video") == []
    assert [link.attributes["href"] for link in tree.find("link")] == ["data:,"]
    for element in all_elements(tree):
        for name in ("src", "href", "xlink:href", "data", "action"):
            target = element.attributes.get(name, "")
            allowed = r"#|https://doi\.org/|$" if element.tag == "a" else r"#|data:|$"
            assert re.match(allowed, target), target
    style = "".join(element.text for element in tree.find("style"))
    assert "url(" not in style
    assert "@import" not in style


def test_only_this_style_sheet_and_this_script_are_let_through(tree: Element, report: Report) -> None:
    found = [meta for meta in tree.find("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in found[0].attributes["content"].split("; "))
    (style,) = tree.find("style")
    scripts = [one for one in tree.find("script") if one.attributes != {"type": "application/json"}]
    assert len(scripts) == any(figure["kind"] == "forest" for figure in report.results["figures"].values())
    assert all(script.attributes == {} for script in scripts)
    inside = {"style-src": style} | ({"script-src": scripts[0]} if scripts else {})
    shut = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "img-src": "data:"}
    assert rules == shut | {name: f"'sha256-{digest(element.text)}'" for name, element in inside.items()}
    assert not [one for one in all_elements(tree) for name in one.attributes if name == "style" or name[:2] == "on"]


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def test_the_abstract_stands_first_and_what_the_data_are_second(tree: Element, report: Report) -> None:
    abstract, cautions = tree.find("main")[0].children[:2]
    assert abstract.attributes["class"] == "abstract"
    assert [one.text for one in abstract.find("dt")] == [part["label"] for part in report.results["abstract"]]
    assert cautions.attributes["class"] == "caution"
    for group in report.results["cautions"]:
        for text in group["texts"]:
            assert " ".join(text.split()) in " ".join(cautions.text.split())


def test_what_few_read_stands_in_the_supplement(tree: Element, report: Report) -> None:
    headings = [one.text for one in tree.find("h2")]
    at = headings.index("Supplement")
    kept = [section for section in report.results["sections"] if section.get("supplement")]
    assert [section["heading"] for section in kept if section["heading"] not in headings[at:]] == []
    assert headings[-1] == "References"
    tables = {one.attributes["id"]: one.text.split(".")[0].strip() for one in tree.find("table")}
    for section in report.results["sections"]:
        for block in section["blocks"]:
            if block["type"] == "table":
                assert tables[block["id"]].startswith("Table S") == bool(section.get("supplement"))


MOST_PAGES = {"relationship-2011": 6, "relationship-raters": 7}


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
@pytest.mark.parametrize("name", MOST_PAGES)
def test_page_one_has_the_answer_and_few_pages_come_before_the_supplement(
    name: str, reports: dict[str, Report]
) -> None:
    command = ["pdftotext", str(reports[name].folder / "report.pdf"), "-"]
    pages = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\f")
    first = next(iter(reports[name].results["quantities"].values()))
    assert pages[0].index("Abstract") < pages[0].index(format_interval(*first["r_ci"]["value"]))
    before = next(number for number, text in enumerate(pages) if "\nSupplement\n" in f"\n{text}")
    assert 0 < before <= MOST_PAGES[name]


def test_the_table_prints_the_numbers_of_the_results(reports: dict[str, Report]) -> None:
    report = reports["relationship-2011"]
    table = next(
        table for table in Tree(report.page).root.find("table") if table.attributes["id"] == "statistics_kolden"
    )
    cells = {row.children[0].text: [cell.text for cell in row.find("td")] for row in table.find("tr")}
    found = [report.results["quantities"][name] for name in ("kolden_reported", "kolden_recoded")]
    assert cells["95% CI of r"] == [format_interval(*one["r_ci"]["value"]) for one in found]
    assert cells["r (from Fisher z: tanh(μ), the median)"] == [format_r(one["r"]["value"]) for one in found]
    assert cells["Effects (k)"] == ["16", "16"]


def test_prose_prints_the_numbers_of_the_results(reports: dict[str, Report]) -> None:
    report = reports["alliance-abstracts"]
    found: dict[str, Any] = report.results["quantities"]["abstracts"]
    words = " ".join(Tree(report.page).root.find("main")[0].text.split())
    assert f"{format_r(found['r']['value'])} {format_interval(*found['r_ci']['value'])} (REML, Knapp-Hartung)" in words


def test_no_placeholder_is_left(tree: Element) -> None:
    for element in tree.find("p", "li", "caption", "figcaption", "td", "th"):
        assert not re.search(r"[{}]|\bnan\b|\bNone,|not_applicable", element.text), element.text


def test_svg_gets_ids_of_its_own() -> None:
    svg = (
        '<?xml version="1.0"?><svg width="72pt" height="9pt" viewBox="0 0 72 9" xmlns="http://www.w3.org/2000/svg">'
        '<metadata>x</metadata><title>old</title><defs><style type="text/css">*{stroke-linejoin: round}</style>'
        '<clipPath id="f01234567-c"/></defs><g clip-path="url(#f01234567-c)"/>'
        '<path style="fill: none; stroke: #fff"/></svg>'
    )
    text = inline_svg(svg, prefix="f1", title="A & B", description='"d"')
    assert 'id="f1-c"' in text
    assert "url(#f1-c)" in text
    assert '<path fill="none" stroke="#fff"/>' in text
    assert "style" not in text
    assert "A &amp; B" in text
    assert "old" not in text
    assert "metadata" not in text
    with pytest.raises(ValueError, match="viewBox"):
        inline_svg("<p>", prefix="f", title="", description="")


@needs_browser
def test_a_browser_has_nothing_to_complain_about(report: Report, tab: Page) -> None:
    with opened(tab, report.folder / "report.html") as page:
        assert report.results["report"]["title"] in page.title()


def all_elements(element: Element) -> list[Element]:
    return [one for child in element.children for one in (child, *all_elements(child))]
