from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import sha256
from alliance_meta.reporting import build, build_report
from alliance_meta.reporting.made import is_fresh
from tests.reports.cases import NAMES, REPORTS, Report

OWN = """
title = "Own"
[[analysis]]
id = "a"
label = "A"
data = "own.csv"
[[analysis]]
id = "m"
label = "M"
data = "own.csv"
mods = "rater"
[[section]]
heading = "H"
text = "{a.r}"
"""
FOREST = """
[[section.item]]
forest = "a"
by = "rater"
"""


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()) for path in files}


def test_every_kind_of_file_is_made(report: Report) -> None:
    made = set(contents(report.folder))
    assert {"results.json", "report.html", "report.pdf", "methods.txt"} <= made
    assert {f"figures/{name}.{kind}" for name in report.results["figures"] for kind in ("svg", "png")} <= made
    assert {f"tables/{name}.csv" for name in report.results["tables"]} <= made
    assert made == {"results.json", *report.results["files"]}


# Two that between them hold every kind of figure and table; of dependent effects the numbers.
WHOLE, DEPENDENT = ("alliance-claims", "relationship-bayes"), "relationship-raters"
AGAIN = """
import sys
from alliance_meta.reporting import build_report
for name in sys.argv[2:]:
    formats = ["methods"] if name == sys.argv[-1] else None
    build_report(f"{sys.argv[1]}/{name}.toml", out=name, formats=formats)
"""


def test_another_process_writes_the_same_bytes(reports: dict[str, Report], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": str(REPORTS.parent)}
    command = [sys.executable, "-W", "error", "-c", AGAIN, str(REPORTS), *WHOLE, DEPENDENT]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    for name in WHOLE:
        assert contents(tmp_path / name) == contents(reports[name].folder)
    results = json.loads((tmp_path / DEPENDENT / "results.json").read_bytes())
    # Which files there are it says itself.
    assert json.dumps(results | {"files": 0}) == json.dumps({**reports[DEPENDENT].results, "files": 0})


def test_no_path_and_no_clock(report: Report) -> None:
    for path in report.folder.rglob("*"):
        if path.suffix in (".json", ".html", ".txt", ".csv", ".svg"):
            text = path.read_text(encoding="utf-8")
            assert str(REPORTS.parent) not in text
            assert not re.search(r"\b20\d\d-\d\d-\d\dT?\d\d:", text)


def test_a_failed_build_leaves_the_old_files(sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    build_report(sheet / "own.toml")
    before = contents(sheet / "build")
    (sheet / "own.toml").write_text(OWN.replace("Own", "New"), encoding="utf-8")

    def fail(*_: object) -> bytes:
        raise CannotRunError("no")

    monkeypatch.setattr(build, "render_html", fail)
    with pytest.raises(CannotRunError):
        build_report(sheet / "own.toml")
    assert contents(sheet / "build") == before


def test_a_failed_pdf_costs_nothing_else(sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")

    def fail(*_: object) -> bytes:
        raise CannotRunError("no font")

    monkeypatch.setattr(build, "render_pdf", fail)
    built = build_report(sheet / "own.toml")
    assert {path.name for path in built} >= {"report.html", "methods.txt"}
    assert "no font" in built.notes[0].message
    assert not is_fresh(sheet / "own.toml", sheet / "build/own")


def test_files_of_an_earlier_run_go_and_strangers_stay(sheet: Path) -> None:
    (sheet / "own.toml").write_text(OWN + FOREST, encoding="utf-8")
    build_report(sheet / "own.toml")
    figures = sheet / "build" / "own" / "figures"
    (figures / "mine.svg").write_text("mine", encoding="utf-8")
    assert (figures / "forest_a.svg").exists()
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    build_report(sheet / "own.toml")
    assert [path.name for path in figures.iterdir()] == ["mine.svg"]


def test_without_typst_the_page_is_still_made(sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    monkeypatch.setattr(build, "pdf_available", lambda: False)
    built = build_report(sheet / "own.toml")
    names = {path.name for path in built}
    assert "report.html" in names
    assert "report.pdf" not in names
    assert [note.code for note in built.notes] == ["no-pdf"]


def test_formats_can_be_chosen(sheet: Path) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    built = build_report(sheet / "own.toml", out=sheet / "there", formats=["methods"])
    assert [path.name for path in built] == ["results.json", "methods.txt", "references.bib"]
    with pytest.raises(InputError, match=r"'htm'; did you mean 'html'"):
        build_report(sheet / "own.toml", formats=["htm"])


def test_a_model_with_moderators_shows_its_coefficients(sheet: Path) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    build_report(sheet / "own.toml", formats=["tables", "html"])
    lines = (sheet / "build/own/tables/coefficients_m.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split(",") == ["term", "estimate", "se", "stat", "p", "ci_lb", "ci_ub"]
    assert [line.split(",")[0] for line in lines[1:]] == [
        "Intercept (rater: client)",
        "rater: therapist (against client)",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_prose_holds_no_typed_numbers(name: str) -> None:
    data = tomllib.loads((REPORTS / f"{name}.toml").read_text(encoding="utf-8"))
    texts = [data["subtitle"], *(section.get("text", "") for section in data["section"])]
    texts += [item.get("caption", "") for section in data["section"] for item in section.get("item", ())]
    for text in texts:
        prose = re.sub(r"\{[^}]*\}", "", text)
        assert not re.findall(r"[.\d]\d*\d(?<!\b(?:19|20)\d\d)(?!\d)", re.sub(r"\b(?:19|20)\d\d\b", "", prose))
