"""The flow of records, risk of bias and the map of the evidence in a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alliance_meta.errors import InputError
from alliance_meta.plots import frame_from_dict
from alliance_meta.reporting import build_report
from alliance_meta.reporting.declaration import inputs, read_declaration
from tests.reports.cases import small_sheet

FLOW = """[flow]
database_results = 120
duplicates = 20
records_screened = 100
records_excluded = 90
dbr_sought_reports = 10
dbr_notretrieved_reports = 0
dbr_assessed = 10
new_studies = 6
dbr_excluded = "No correlation, 3; no therapy, 1"
"""
ANALYSIS = """
[[analysis]]
id = "own"
label = "Own"
data = "own.csv"
"""
SECTION = """
[[section]]
heading = "The review"
text = "Of {flow.records_screened} records {flow.dbr_excluded} were excluded; see {ref.prisma_flow}."
[[section.item]]
figure = "prisma"
[[section.item]]
table = "flow"
"""
FIGURES = """
[[section.item]]
figure = "rob"
of = "own"
[[section.item]]
figure = "rob_bar"
of = "own"
[[section.item]]
figure = "evidence_map"
of = "own"
columns = ["rob_sample"]
by = "rater + setting"
"""


def written(folder: Path, text: str) -> Path:
    small_sheet(folder)
    sheet = folder / "own.csv"
    lines = sheet.read_text(encoding="utf-8").splitlines()
    more = ["rob_sample,rob_overall,setting", "low,low,a", "low,high,a", "unclear,high,b", ",,b", "high,moderate,a"]
    sheet.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, more, strict=True)) + "\n", encoding="utf-8")
    path = folder / "own.toml"
    path.write_text(f'title = "T"\n{text}', encoding="utf-8")
    return path


def test_a_report_shows_the_flow_and_reads_its_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, FLOW + ANALYSIS + SECTION + FIGURES)
    build_report(path, formats=["tables"])
    results = json.loads((tmp_path / "build" / "own" / "results.json").read_text(encoding="utf-8"))
    assert results["quantities"]["flow"]["dbr_excluded"]["value"] == 4
    figures = results["figures"]
    assert sorted(figures) == ["evidence_map_own", "prisma_flow", "rob_bar_own", "rob_own"]
    flow = figures["prisma_flow"]
    assert "Records screened (n = 100). Records excluded (n = 90)." in flow["description"]
    assert any(text.endswith("has effects of 5 of the 6 included studies.") for text in flow["notes"])
    rows = results["tables"]["flow"]["rows"]
    numbers = {row["label"]: row["n"] for row in rows if "group" not in row}
    assert numbers["Reports excluded: no therapy"] == 1
    assert numbers["Records identified from: Databases"] == 120
    assert [row["group"] for row in rows if "group" in row] == ["Databases and registers", "Included"]
    frame = frame_from_dict(figures["rob_own"]["frame"])
    assert frame["judgement"].tolist() == ["L", "L", "L", "H", "?", "H", "–", "–", "H", "S"]
    bars = frame_from_dict(figures["rob_bar_own"]["frame"])
    assert bars.attrs["x_label"].startswith("Share of the weight in the model")
    crossed = frame_from_dict(figures["evidence_map_own"]["frame"])
    assert crossed.attrs["across_label"] == "Rater × Setting"
    assert any("PRISMA 2020 statement" in text for text in _references(results))


def _references(results: dict) -> list[str]:  # type: ignore[type-arg]
    return [text for one in results["sections"] for block in one["blocks"] for text in block.get("items", ())]


def test_a_flow_alone_is_a_report_and_its_file_an_input(tmp_path: Path) -> None:
    rows = [line.split(" = ") for line in FLOW.splitlines()[1:]]
    (tmp_path / "flow.csv").write_text("data,n\n" + "".join(f"{key},{n}\n" for key, n in rows), encoding="utf-8")
    path = written(tmp_path, '[flow]\nfile = "flow.csv"\n' + SECTION)
    assert "flow.csv" in list(inputs(read_declaration(path)))
    build_report(path, formats=["methods"])
    results = json.loads((tmp_path / "build" / "own" / "results.json").read_text(encoding="utf-8"))
    assert [origin["source"] for origin in results["data"]] == ["flow.csv"]
    path.write_text(path.read_text(encoding="utf-8").replace("flow.csv", "none.csv"), encoding="utf-8")
    with pytest.raises(InputError, match=r"\[flow\]: cannot read .*none\.csv"):
        read_declaration(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("records_excluded = 90", "records_excluded = 91", r"\[flow\]: dbr_sought_reports: 10 contradicts the rest"),
        ("duplicates = 20", "duplicate = 20", r"\[flow\]: duplicate: .*did you mean 'duplicates'"),
        ("new_studies = 6", "new_studies = 4", r"\[flow\]: new_studies: 4 included, but own\.csv has 5 studies"),
        ("new_studies = 6", 'new_studies = 6\nfile = "flow.csv"', r"\[flow\]: file and database_results.*not both"),
        ("new_studies = 6", 'new_studies = 6\ncheck = "wran"', r"check='wran' is not one of 'error', 'warn'"),
        ('figure = "prisma"', 'figure = "prisma"\nof = "own"', "figure='prisma' shows of = 'flow', not 'own'"),
        ("[flow]", "[consistency]\n[[analysis]]", r"\[flow\] is not declared, and 'prisma' shows it"),
        ("rob_sample", "rob_smaple", "no column 'rob_smaple'; did you mean 'rob_sample'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = written(tmp_path, (FLOW + ANALYSIS + SECTION + FIGURES).replace(old, new))
    with pytest.raises(InputError, match=words):
        build_report(path, formats=["methods"])


def test_contradictions_that_are_let_pass_stand_under_the_figure(tmp_path: Path) -> None:
    text = FLOW.replace("records_excluded = 90", 'records_excluded = 91\ncheck = "warn"')
    path = written(tmp_path, text + SECTION)
    build_report(path, formats=["methods"])
    results = json.loads((tmp_path / "build" / "own" / "results.json").read_text(encoding="utf-8"))
    assert "10 contradicts the rest" in results["figures"]["prisma_flow"]["notes"][0]
