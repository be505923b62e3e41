"""Every number that a page, a PDF or a Word file prints is found in `results.json`."""

from __future__ import annotations

import html
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import docx
import pytest

from tests.reports.cases import Report

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
NAMES = ("relationship-raters", "alliance-claims", "alliance-evidence")
MOST_DECIMALS = 8


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def written(text: str) -> set[str]:
    """Return the numbers of a text, without what only groups or pads them."""
    return {plain(found) for found in NUMBER.findall(text.replace("\u2212", "-"))}


def plain(found: str) -> str:
    found = found.replace(",", "")
    return found[1:] if found.startswith("0.") else found


def known(results: dict[str, Any]) -> set[str]:
    """Return every way to write the numbers in the results: as they stand in words, or rounded to some decimals."""
    found: set[str] = set()
    for leaf in leaves(results):
        if isinstance(leaf, str):
            found |= written(leaf)
        elif isinstance(leaf, (int, float)) and not isinstance(leaf, bool) and math.isfinite(leaf):
            for value in (abs(leaf), 100 * abs(leaf)):
                # Halves are rounded up where the reader sees a half; binary they may lie below it.
                near = (value, value + 1e-9 * max(value, 1.0))
                found |= {plain(f"{one:.{decimals}f}") for one in near for decimals in range(MOST_DECIMALS)}
    return found


@pytest.fixture(scope="module", params=NAMES)
def report(request: pytest.FixtureRequest, reports: dict[str, Report]) -> Report:
    return reports[request.param]


def strays(text: str, report: Report) -> list[str]:
    numbered = re.sub(r"\b(?:Figure|Table) S?\d+", "", text)
    return sorted(written(numbered) - known(report.results))


def test_of_the_page(report: Report) -> None:
    without = re.sub(r"<(style|script|svg|head)\b.*?</\1>", " ", report.page, flags=re.DOTALL)
    assert strays(html.unescape(re.sub(r"<[^>]+>", " ", without)), report) == []


def test_of_the_word_file(report: Report) -> None:
    document = docx.Document(str(report.folder / "report.docx"))
    texts = [one.text for one in document.element.body.iter("{*}t") if one.text]
    assert len(texts) > 100
    assert strays("\n".join(texts), report) == []


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
def test_of_the_pdf(report: Report) -> None:
    command = ["pdftotext", "-layout", str(report.folder / "report.pdf"), "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # The number of each page, and words that a line end tears apart.
    text = re.sub(r"\n *\d+ / \d+\n", "\n", done.stdout)
    assert [one for one in strays(text, report) if "." in one] == []


def test_a_number_of_nobody_is_found(report: Report) -> None:
    assert strays("r = .123456789 in Table 3", report) == [".123456789"]
