"""Checklists, sentences to paste and references hold what the report shows, and no more."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from alliance_meta.errors import InputError
from alliance_meta.reporting.declaration import declare
from alliance_meta.reporting.html import make_view
from alliance_meta.reporting.text.appendix import AUTHOR, ITEMS
from alliance_meta.reporting.text.references import REFERENCES, bibtex
from tests.reports.cases import REPORTS, Report

PLAIN = {"title": "T", "analysis": [{"id": "a", "label": "A", "data": "molloy2014"}]}


def where(report: Report, name: str) -> dict[str, str]:
    return {row["item"]: row["where"] for row in report.results["tables"][name]["rows"]}


def test_an_item_refers_to_what_is_there_or_to_the_author(reports: dict[str, Report]) -> None:
    report = reports["relationship-raters"]
    shown = {block["number"] for section in make_view(report.results)["sections"]
             for block in section["blocks"] if "number" in block}  # fmt: skip
    for name, items in (("prisma_2020", ITEMS["PRISMA 2020"]), ("apa_mars", ITEMS["APA MARS"])):
        found = where(report, name)
        assert list(found) == list(items)
        assert all(text in shown for text in found.values() if re.match(r"(Figure|Table) ", text))
    found = where(report, "prisma_2020")
    assert (found["5"], found["18"], found["12"]) == (AUTHOR, AUTHOR, "Methods")
    assert found["20b"] == "Table 1"


def test_what_a_report_does_not_show_is_the_authors(reports: dict[str, Report]) -> None:
    assert where(reports["alliance-abstracts"], "prisma_2020")["14"] == AUTHOR
    assert where(reports["relationship-raters"], "prisma_2020")["14"].startswith("Table S")


def test_the_author_answers_an_item_and_a_misspelt_one_is_refused() -> None:
    path = REPORTS / "x.toml"
    assert declare({**PLAIN, "checklist": {"24a": "none"}}, path=path).checklist == {"24a": "none"}
    with pytest.raises(InputError, match=r"no item '24z'; did you mean '24"):
        declare({**PLAIN, "checklist": {"24z": "none"}}, path=path)
    with pytest.raises(InputError, match="write item = 'words'"):
        declare({**PLAIN, "checklist": {"24a": 1}}, path=path)


def test_pairs_in_the_same_order_are_those_of_simulated_clients(reports: dict[str, Report]) -> None:
    found = reports["relationship-raters"].results["quantities"]["che"]
    r = found["r"]["value"]
    x, e = np.random.default_rng(1).normal(size=(2, 2, 200_000))
    y = r * x + math.sqrt(1 - r * r) * e
    share = 100 * np.mean((x[0] > x[1]) == (y[0] > y[1]))
    # Three standard errors of the simulated share.
    assert found["pairs"]["value"] == pytest.approx(share, abs=3 * 50 / math.sqrt(200_000))
    assert found["pairs_ci"]["value"][0] < found["pairs"]["value"] < found["pairs_ci"]["value"][1]


def test_every_reference_is_bibtex_with_its_parts() -> None:
    entries = bibtex(REFERENCES).split("\n\n")
    assert [re.match(r"@\w+\{(\w+),", entry)[1] for entry in entries] == list(REFERENCES)
    for entry, text in zip(entries, REFERENCES.values(), strict=True):
        assert entry.startswith(("@article", "@book"))
        (year, *_) = re.findall(r"[(](\d{4})[)]", text)
        assert f"year = {{{year}}}" in entry
        assert entry.count("{") == entry.count("}")
    assert "author = {Kolden, G. G. and Klein, M. H. and Wang, C.-C. and Austin, S. B.}" in bibtex(["kolden2011"])
    assert "pages = {65--71}" in bibtex(["kolden2011"])


def test_sources_of_studies_come_from_the_sheet(reports: dict[str, Report]) -> None:
    sections = {one["heading"]: one for one in reports["relationship-raters"].results["sections"]}
    items = sections["Included studies"]["blocks"][0]["items"]
    assert items[0].startswith("Bachelor 1991: [doi.org/10.1037/0033-3204.28.4.534]")
