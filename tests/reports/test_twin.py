"""The forest of a page that can be asked: what is embedded, and a walk through it in a browser."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.plots import frame_from_dict
from alliance_meta.plots.forests.parts import effect_text
from alliance_meta.reporting import build_report
from alliance_meta.reporting.twin import NOT_COMPUTED
from tests.reports.browsing import needs_browser, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "</script><script>alert(1)</script>"
QUOTED = "o'neil \" onmouseover=alert(1) & <b>"
ROWS = [
    ("A", 2001, 0.20, 50, "client", "group"),
    (HOSTILE, 2003, 0.35, 80, "client", "single"),
    ("C", 2002, 0.02, 40, QUOTED, "group"),
    ("D", 2005, 0.21, 60, "therapist", "group"),
    ("E", 2006, 0.48, 90, "client", "single"),
    ("F", 2010, 0.10, 70, "therapist", "single"),
]
LABELS = [f"{row[0]} {row[1]}" for row in ROWS]
A, B, E = (LABELS[i] for i in (0, 1, 4))
DECLARED = """
title = "T"
[[analysis]]
id = "a"
label = "L"
data = "own.csv"
[[section]]
heading = "H"
[[section.item]]
forest = "a"
columns = ["rater", "format"]
[[analysis]]
id = "nested"
label = "L"
data = "nested.csv"
[[section.item]]
forest = "nested"
label = "rater"
"""
NESTED = """study,r,n,rater
Ash,.10,40,client
Ash,.50,40,observer
Birk,.30,60,client
Cole,.45,50,client
Cole,.20,50,observer
Cole,.25,50,therapist
Dorn,.05,70,observer
Ewe,.40,80,client
Ewe,.35,80,therapist
"""
FIRST, SECOND = (f"[data-twin=forest_{name}]" for name in ("a", "nested"))


@dataclass(frozen=True)
class Built:
    """A small report with a forest: its page, its results, what the page has embedded."""

    path: Path
    page: str
    figure: dict[str, Any]
    data: dict[str, Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("twin")
    names = ["study", "year", "r", "n", "rater", "format"]
    pd.DataFrame(ROWS, columns=names).to_csv(folder / "own.csv", index=False)
    (folder / "nested.csv").write_text(NESTED, encoding="utf-8")
    (folder / "own.toml").write_text(DECLARED, encoding="utf-8")
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        build_report(folder / "own.toml", formats=("html",))
    results = json.loads((folder / "build/own/results.json").read_text(encoding="utf-8"))
    path = folder / "build/own/report.html"
    page = path.read_text(encoding="utf-8")
    data, _ = re.findall(r'<script type="application/json">(.*?)</script>', page)
    return Built(path, page, results["figures"]["forest_a"], json.loads(data))


def test_embedded_numbers_are_those_of_the_results(built: Built) -> None:
    frame = frame_from_dict(built.figure["frame"])
    assert [row["kind"] for row in built.data["rows"]] == frame["kind"].tolist()
    for row, drawn in zip(built.data["rows"], frame.to_dict("records"), strict=True):
        for key, value in row["numbers"].items():
            assert value == drawn[key]
        if row["sort"]:
            assert set(row["numbers"]) == {"yi", "ci_lb", "ci_ub"}
            width = drawn["ci_ub"] - drawn["ci_lb"]
            assert row["sort"][0] == drawn["label"]
            assert row["sort"][3:] == [ROWS[row["position"]][1], drawn["ni"], drawn["r"], width, drawn["weight"]]
    assert len(built.data["sets"]) == len(built.figure["selections"]["sets"]) == 5
    for shown, kept in zip(built.data["sets"], built.figure["selections"]["sets"], strict=True):
        assert shown["rows"] == kept["rows"]
        assert all(value == kept[key] for key, value in shown.get("numbers", {}).items())
        assert ("numbers" in shown) == ("refused" not in kept)


def test_hostile_labels_are_inert(built: Built) -> None:
    assert built.page.count("<script") == built.page.count("</script>") == 3
    assert "<b>" not in built.page
    assert '" onmouseover' not in re.sub(r"<script.*?</script>", "", built.page, flags=re.DOTALL)
    assert built.data["filters"][0]["levels"] == ["client", QUOTED, "therapist"]


FOCUSED = """() => {
  const one = document.activeElement, part = one.closest("thead") ? "head" : one.closest("tbody") ? "body" : "";
  return one === document.body ? "" : [one.tagName, part, one.textContent.trim()].join("|");
}"""


def tab_to(page: Page, start: str) -> str:
    for _ in range(30):
        page.keyboard.press("Tab")
        if (found := str(page.evaluate(FOCUSED))).startswith(start):
            return found
    raise AssertionError(f"the tab key does not reach {start}")


def text(page: Page, name: str) -> str:
    return str(page.locator(f"{FIRST} .{name}").inner_text())


def shapes(page: Page, selector: str) -> int:
    """Count the squares, diamonds and bars among paths: those that are closed."""
    paths = page.locator(selector).evaluate_all("all => all.map((one) => one.getAttribute('d').trim())")
    return sum(path.lower().endswith("z") for path in paths)


def studies(page: Page) -> list[str]:
    return [one.inner_text() for one in page.locator(f"{FIRST} tbody tr:visible th").all()]


def marked(page: Page) -> float:
    """Return how far down the row stands that is marked in the picture."""
    return float(str(page.locator(f"{FIRST} svg rect.here").get_attribute("y")))


def fitted(rows: list[int]) -> str:
    """Return what a model of these rows gives, fitted here."""
    r, n = ([ROWS[i][at] for i in rows] for at in (2, 3))
    with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
        effects = am.EffectSizes.from_arrays(np.arctanh(r), 1.0 / (np.array(n) - 3.0), measure="ZCOR")
        found = am.RandomEffectsModel(effects).fit().predict(scale="r").iloc[0]
    return effect_text("ZCOR", {"r": found["pred"], "r_lb": found["ci_lb"], "r_ub": found["ci_ub"]})


@needs_browser
def test_a_walk_by_keyboard_alone(tab: Page, built: Built) -> None:
    with opened(tab, built.path) as page:
        tab_to(page, "SELECT")
        page.keyboard.press("ArrowDown")
        assert f"Rater: client. 3 effects of 3 studies: Pooled r = {fitted([0, 1, 4])}" in text(page, "chosen")
        assert studies(page) == [A, B, E]
        page.keyboard.press("ArrowDown")
        assert "no pooled value; one effect" in text(page, "chosen")
        page.keyboard.press("ArrowUp")
        tab_to(page, "SELECT")
        page.keyboard.press("ArrowDown")
        found = f"Rater: client; Format: group. 1 row: {NOT_COMPUTED} Weights stay those of the model of all rows."
        assert text(page, "chosen") == found
        assert studies(page) == [A]
        page.keyboard.press("ArrowUp")
        # Sort by r, then the other way.
        tab_to(page, "BUTTON|head|r")
        page.keyboard.press("Enter")
        head = page.locator(f"{FIRST} thead th[aria-sort=ascending]")
        assert head.inner_text() == "r"
        assert studies(page) == [A, B, E]
        page.keyboard.press("Space")
        assert page.locator(f"{FIRST} thead th[aria-sort=descending]").inner_text() == "r"
        assert studies(page) == [E, B, A]
        assert text(page, "heard") == "Sorted by r, descending."
        # One stop for all rows; the arrows go through those that are shown, in the picture too.
        assert tab_to(page, "BUTTON|body") == f"BUTTON|body|{A}"
        lowest = marked(page)
        assert text(page, "said").startswith(f"{A}. Rater: client. Format: group. Year: 2001. n: 50. r: .20. 95% CI: [")
        page.keyboard.press("ArrowUp")
        assert text(page, "said").startswith(f"{B}. Rater: client.")
        page.keyboard.press("Home")
        assert text(page, "said").startswith(f"{E}. ")
        assert marked(page) < lowest
        page.keyboard.press("Escape")
        assert page.locator(f"{FIRST} .said").text_content() == ""
        # No trap: the next stop is behind the rows.
        page.keyboard.press("Tab")
        assert "|body|" not in str(page.evaluate(FOCUSED))


@needs_browser
def test_the_picture_shows_no_mean_of_other_rows(tab: Page, built: Built) -> None:
    with opened(tab, built.path) as page:
        own = page.locator(f"{FIRST} svg text.own-text")
        assert own.count() == 0
        page.locator(f"{FIRST} select").nth(0).select_option("client")
        assert own.all_text_contents()[:2] == ["Rater: client (k = 3)", fitted([0, 1, 4])]
        assert page.locator(f"{FIRST} svg path.own").count() == 1
        # The line and the diamond of all rows are gone, the studies not chosen are faint.
        hidden = page.locator(f"{FIRST} svg .gone").evaluate_all(
            "all => all.map((one) => getComputedStyle(one).visibility)"
        )
        assert set(hidden) == {"hidden"}
        assert page.locator(f"{FIRST} svg path.gone[stroke-dasharray]").count() == 1
        assert shapes(page, f"{FIRST} svg path.off") == 3
        assert page.locator(f"{FIRST} svg g.off[transform]").count() >= 3 * 7
        assert page.locator(f"{FIRST} svg use.off").count() == 0
        page.locator(f"{FIRST} select").nth(1).select_option("group")
        assert own.all_text_contents() == ["Rater: client; Format: group (k = 1): no pooled value"]
        page.locator(f"{FIRST} .tools button").click()
        assert page.locator(", ".join(f"{FIRST} svg {one}" for one in (".gone", ".off", ".own-text"))).count() == 0
        assert f"All 6 rows. Pooled r = {fitted(list(range(6)))}" in text(page, "chosen")
        page.locator(f"{FIRST} select").nth(1).select_option("single")
        assert shapes(page, f"{FIRST} svg path.off") == 3
        page.locator(f"{FIRST} svg").hover(position={"x": 40, "y": 60})
        assert re.match(r"(A|</script>.*|C|D) \d{4}\. Rater: ", text(page, "said"))


@needs_browser
def test_a_study_moves_with_its_effects(tab: Page, built: Built) -> None:
    with opened(tab, built.path) as page:
        page.locator(f"{SECOND} thead button", has_text="r").nth(1).click(click_count=2)
        assert page.locator(f"{SECOND} thead th[aria-sort=descending]").inner_text() == "r"
        drawn = []
        for button in page.locator(f"{SECOND} tbody button").all():
            button.focus()
            name = button.inner_text()
            said = str(page.locator(f"{SECOND} .said").inner_text())
            y = float(str(page.locator(f"{SECOND} svg rect.here").get_attribute("y")))
            drawn.append((y, name.partition(":")[0], float(re.findall(r"\. r: (\.\d+)", said)[0])))
        values = [r for _, _, r in drawn]
        assert values == sorted(values, reverse=True)
        runs = [(study, [r for _, _, r in rows]) for study, rows in groupby(sorted(drawn), key=lambda one: one[1])]
        assert [study for study, _ in runs] == ["Ash", "Cole", "Ewe", "Birk", "Dorn"]
        assert all(inside == sorted(inside, reverse=True) for _, inside in runs)
        # The mean that the model of all rows predicts for a study goes, its name stays.
        page.locator(f"{SECOND} select").select_option("observer")
        # Three such diamonds, that of all rows, and their prediction interval, whichever way each is written.
        assert shapes(page, f"{SECOND} svg path.gone") + page.locator(f"{SECOND} svg use.gone").count() == 3 + 2
        assert "stay those of the model of all rows" in page.locator(f"{SECOND} .chosen").inner_text()


@needs_browser
def test_without_scripts_everything_is_there(browser: Browser, built: Built) -> None:
    with opened(browser.new_page(java_script_enabled=False), built.path) as page:
        assert page.locator(f"{FIRST} svg").is_visible()
        assert studies(page) == LABELS
        assert page.locator("button, select, .said").count() == 0


@needs_browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1000), ("dark", 360)])
def test_axe_finds_nothing(tab: Page, built: Built, scheme: Any, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    with opened(tab, built.path) as page:
        page.locator(f"{FIRST} select").nth(0).select_option("client")
        page.locator(f"{FIRST} tbody button").first.focus()
        # To a reader of the screen a picture is one image; axe would look at each of its thousand letters.
        page.evaluate("document.querySelectorAll('svg > g').forEach((one) => one.remove())")
        found = Axe().run(page, context="[data-twin]").response["violations"]
        # Contrast of every word of the page takes seconds; its words have the colours of these.
        found += page.evaluate("axe.run({rules: {'color-contrast': {enabled: false}}}).then((one) => one.violations)")
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
