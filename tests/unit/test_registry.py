"""The registry of published results: its validator, and how a changed file is taken over."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alliance_meta.cli import main
from alliance_meta.effects import datasets
from alliance_meta.effects.datasets import check_datasets, data_root
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.evidence.consistency_check import check_registry
from tools import readings
from tools.readings import PAGE

ENTRY = {
    "id": "someone2026",
    "authors": "Someone & Else",
    "year": "2026",
    "title": "Alliance in somewhere",
    "doi": "10.1000/xyz123",
    "population": "adult",
    "relation": "alliance-outcome",
    "metric": "r",
    "k": "12",
    "n_total": "1200",
    "estimate": ".25",
    "ci_low": ".20",
    "ci_high": ".30",
    "ci_level": "0.95",
    "evidence_level": "author abstract",
    "evidence_location": "abstract",
    "independent": "True",
}
GROUP = {
    "id": "someone2026",
    "heading_order": "1",
    "heading": "Adults, individual therapy",
    "population_group": "Adults",
    "format_group": "Individual",
    "label": "Someone & Else 2026",
    "outcome_sign": "1",
    "psychotherapy": "True",
    "role": "main",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped data that the package takes for its own."""
    copy = tmp_path / "data"
    for name in ("published", "claims"):
        shutil.copytree(data_root() / name, copy / name)
    for module in (datasets, datasets):
        monkeypatch.setattr(module, "data_root", lambda: copy)
    monkeypatch.setattr("alliance_meta.evidence.consistency_check.data_root", lambda: copy)
    monkeypatch.setattr("alliance_meta.evidence.published_results.data_root", lambda: copy)
    return copy


@pytest.fixture
def add(root: Path) -> Callable[..., Path]:
    """Return a function that adds a line to one of the registry's files."""

    def write(file: str, **cells: str) -> Path:
        path = root / "published" / f"{file}.csv"
        header = next(csv.reader(io.StringIO(path.read_text("utf-8"))))
        stream = io.StringIO()
        csv.DictWriter(stream, header, lineterminator="\n").writerow(cells)
        with path.open("a", encoding="utf-8", newline="") as file_:
            file_.write(stream.getvalue())
        return root / "published"

    return write


def test_the_shipped_registry_is_sound() -> None:
    assert check_registry() == []


def test_the_page_says_where_every_entry_was_read_a_second_time() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert readings.written(page) == page, "run python tools/readings.py"
    rows = list(csv.DictReader(io.StringIO((data_root() / "published" / "readings.csv").read_text("utf-8"))))
    assert [row["id"] for row in rows] == list(datasets.load_dataset("published").frame["id"])
    for row in rows:
        assert bool(row["second_reading"]) == (row["outcome"] not in ("not found again", "not looked for"))
        assert f"| `{row['id']}` |" in page


def test_an_entry_is_added_checked_sealed_and_found(add, root, capsys) -> None:
    add("results", **ENTRY)
    folder = add("groups", **GROUP)
    assert check_registry(folder) == []
    assert any("differs from the file" in problem.message for problem in check_datasets())
    first, second, _ = json.loads((folder / "datapackage.json").read_text())["version"].split(".")
    assert main(["data", "seal", "published"]) == 0
    assert capsys.readouterr().out == f"published is sealed as version {first}.{int(second) + 1}.0\n"
    assert check_datasets() == []
    package = json.loads((folder / "datapackage.json").read_text())
    assert package["alliance_meta"]["k"] == len(datasets.load_dataset("published").frame)
    assert "someone2026" in set(datasets.load_dataset("published").frame["id"])
    assert main(["data", "seal", "published"]) == 0
    assert json.loads((folder / "datapackage.json").read_text()) == package


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"id": "Some One"}, "'Some One' is no name: small letters"),
        ({"doi": "https://doi.org/10.1000/x"}, "is no DOI; write it bare"),
        ({"doi": "", "title": "", "authors": ""}, "nobody could find the source"),
        ({"evidence_location": ""}, "say where in the source"),
        ({"evidence_location": "secondary: a blog"}, "its level is 'secondary citation'"),
        ({"metric": ""}, "is missing for a printed estimate"),
        ({"ci_high": ""}, "give both limits, or none"),
        ({"ci_level": ""}, "give both, or none"),
        ({"estimate": "1.25", "ci_low": "", "ci_high": "", "ci_level": ""}, "'1.25' is no correlation"),
        ({"n_total": "8"}, "people in 12 studies: are the columns swapped?"),
        ({"estimate": ".35"}, "estimate inside its interval"),
        ({"notes": "d=.90"}, "d from r: r = .25, printed .90"),
        ({"estimate": "high"}, "is not a printed number"),
    ],
)
def test_every_kind_of_mistake_is_named_with_its_line(add, cells, message) -> None:
    folder = add("results", **{**ENTRY, **cells})
    add("groups", **{**GROUP, "id": cells.get("id", GROUP["id"])})
    problems = check_registry(folder)
    lines = (folder / "results.csv").read_text("utf-8").count("\n")
    assert [problem for problem in problems if problem.row == lines]
    assert any(message in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"value": ".81"}, "'.81' is not what is printed: .80"),
        ({"sessions": "2"}, "'2' goes with the kind G"),
        ({"kind": "G"}, "goes with the kind G"),
        ({"doi": "https://doi.org/10.1000/x"}, "is no DOI"),
        ({"measure": "WAY"}, "'WAY' is no word of the sheet's alliance_measure"),
        ({"rater": "nurse"}, "'nurse' is no word of the sheet's rater"),
    ],
)
def test_every_mistake_in_a_reliability_is_named(add, cells, message) -> None:
    sound = {"measure": "WAI", "rater": "client", "kind": "alpha", "value": ".80", "printed": ".80"}
    folder = add("reliability", **{**sound, **cells})
    (problem,) = check_registry(folder)
    assert message in str(problem)


def test_a_repeated_result_is_named(add) -> None:
    add("results", **ENTRY)
    folder = add("results", **{**ENTRY, "id": "someone2026_again"})
    add("groups", **GROUP)
    add("groups", **{**GROUP, "id": "someone2026_again"})
    (problem,) = check_registry(folder)
    assert "repeats line" in problem.message
    assert problem.value == "someone2026_again"


def test_a_contradiction_that_was_read_again_is_no_problem(add) -> None:
    add("results", **{**ENTRY, "notes": "d=.90"})
    folder = add("groups", **GROUP)
    assert len(check_registry(folder)) == 1
    add(
        "expected_consistency",
        id="someone2026",
        check="d from r",
        printed="r=.25, d=.90",
        computed=".52",
        verdict="INCONSISTENT",
    )
    assert check_registry(folder) == []


@pytest.mark.parametrize(
    ("file", "cells", "message"),
    [
        ("moderators", {"id": "nobody", "moderator": "rater", "level": "x"}, "'nobody' is no entry of results.csv"),
        (
            "moderators",
            {"id": "martin2000", "moderator": "m", "level": "x", "estimate": ".5", "ci_low": ".1", "ci_high": ".2"},
            "is outside its printed interval",
        ),
        ("groups", {**GROUP, "id": "nobody"}, "'nobody' is no entry"),
        ("expected_consistency", {"id": "nobody", "verdict": "ok"}, "'nobody' is no entry"),
        ("results", ENTRY, "has no line here: give it heading, sign and role"),
    ],
)
def test_files_must_fit_together(add, file, cells, message) -> None:
    problems = check_registry(add(file, **cells))
    assert any(message in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"heading_order": "3"}, "is 1 for the same heading above"),
        ({"role": "subsample"}, "goes with another role than main"),
        ({"role": "subsample", "part_of": "fluckiger2018_internet"}, "is no entry with the role main"),
        ({"outcome_sign": ""}, "is missing for someone2026, which is shown"),
    ],
)
def test_headings_signs_and_roles(add, cells, message) -> None:
    add("results", **ENTRY)
    (problem,) = check_registry(add("groups", **{**GROUP, **cells}))
    assert message in str(problem)


def test_words_outside_the_vocabulary_stop_the_seal(add, capsys) -> None:
    add("results", **{**ENTRY, "relation": "alliance-hope"})
    folder = add("groups", **GROUP)
    before = (folder / "datapackage.json").read_bytes()
    assert main(["data", "seal", "published"]) == 1
    assert "'alliance-hope' is not one of 'alliance-outcome'" in capsys.readouterr().out
    assert (folder / "datapackage.json").read_bytes() == before


def test_a_ragged_line_is_named(root) -> None:
    path = root / "published" / "results.csv"
    with path.open("a", encoding="utf-8") as file:
        file.write("someone2026,Someone, Else,2026\n")
    problems, _ = datasets.seal_dataset(root / "published")
    assert any("a comma needs quotes" in problem.message for problem in problems)


def test_what_cannot_be_sealed(root, monkeypatch, tmp_path) -> None:
    with pytest.raises(InputError, match="no data set is called 'nobody'"):
        datasets.folder_of("nobody")
    with pytest.raises(InputError, match=r"not of the form 1\.2\.3"):
        datasets.seal_dataset(root / "published", version="2")
    assert datasets.seal_dataset(root / "published", version="2.0.0") == ([], "2.0.0")
    monkeypatch.setattr(datasets, "data_root", lambda: tmp_path / "_data")
    with pytest.raises(CannotRunError, match="in a checkout"):
        datasets.folder_of("published")


def test_a_registry_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"results\.csv cannot be read"):
        check_registry(tmp_path)
