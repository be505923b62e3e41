"""A report's table and figure of the battery: its rows, the numbers that prose may quote, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import alliance_meta as am
from alliance_meta import sensitivity
from alliance_meta.errors import InputError
from alliance_meta.reporting.build import build_report
from alliance_meta.sensitivity import SCENARIOS

DECLARATION = """
title = "Own"
lang = "en"

[[analysis]]
id = "a"
label = "All"
data = "own.csv"
{mods}

[[section]]
heading = "Does it hold?"
item = [
    {{ text = "{{sensitivity.a_bias_worst_case_r}} {{sensitivity.a_client_ci}} of {{sensitivity.a_client_k}}." }},
    {{ table = "sensitivity", of = "a" }},
    {{ figure = "sensitivity", of = "a" }},
]
"""


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
def test_the_table_holds_every_row_and_prose_quotes_it(sheet: Path) -> None:
    (sheet / "own.toml").write_text(DECLARATION.format(mods=""), encoding="utf-8")
    build_report(sheet / "own.toml", formats=["html", "tables", "figures"])
    folder = sheet / "build" / "own"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found = sensitivity.battery(am.escalc(am.read_coded(sheet / "own.csv")))
    table = results["tables"]["sensitivity_a"]
    rows = [row for row in table["rows"] if "group" not in row]
    assert len(rows) == len(SCENARIOS)
    by_label = {row["label"]: row for row in rows}
    for row in found.rows():
        mine = by_label[row["label"]]
        assert mine["words"] == (row["why"] or row["says"])
        assert mine.get("r") == (None if row["why"] else pytest.approx(row["r"]))
    assert table["notes"][:2] == [found.spread(), found.fragile_text()]
    assert len(list((folder / "figures").glob("sensitivity_a*.svg"))) == 1
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"of {found.tidy().loc['client', 'k']:.0f}." in page


def test_moderators_are_refused(sheet: Path) -> None:
    (sheet / "own.toml").write_text(DECLARATION.format(mods='mods = "rater"'), encoding="utf-8")
    with pytest.raises(InputError, match="sensitivity shows mean effects; a has mods ="):
        build_report(sheet / "own.toml", formats=["html"])
