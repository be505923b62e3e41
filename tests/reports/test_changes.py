"""Two builds of a report are held against each other: what moved, by how much, because of what."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from alliance_meta.cli import main
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.reporting import changes
from tests.reports.cases import Report

R = ("quantities", "che", "r", "value")


@pytest.fixture(scope="module")
def results(reports: dict[str, Report]) -> dict[str, Any]:
    return reports["relationship-raters"].results


def between(folder: Path, first: Any, second: Any) -> Any:
    for name, one in (("old", first), ("new", second)):
        (folder / f"{name}.json").write_text(json.dumps(one), encoding="utf-8")
    return changes(folder / "old.json", folder / "new.json")


def but(results: dict[str, Any], *changed: tuple[tuple[str, ...], Any]) -> dict[str, Any]:
    made = copy.deepcopy(results)
    for (*path, last), value in changed:
        place = made
        for key in path:
            place = place[key]
        place[last] = value
    return made


def test_the_same_build_moved_nothing(results: dict[str, Any], tmp_path: Path) -> None:
    found = between(tmp_path, results, results)
    assert (found.changes, found.notes) == ((), ())
    assert found.compared > 500


@pytest.mark.parametrize(
    ("path", "value", "because", "note"),
    [
        (("analyses", "che", "provenance", "sha256"), "0", "data", "data-differ"),
        (("analyses", "che", "model_label"), "another", "choice", "choice-differ"),
        (("versions", "scipy"), "0.0", "version", "versions-differ"),
        (("report", "title"), "Another", "unknown", None),
    ],
)
def test_what_differs_is_the_reason(
    results: dict[str, Any], tmp_path: Path, path: tuple[str, ...], value: Any, because: str, note: str | None
) -> None:
    r = results["quantities"]["che"]["r"]["value"]
    bias = ("quantities", "bias", "che_selection_r", "value")
    (one, other) = between(tmp_path, results, but(results, (R, r + 0.01), (bias, 0.5), (path, value))).changes
    assert (one.analysis, one.name, one.because) == ("che", "r", because)
    assert one.moved == pytest.approx(0.01)
    assert (other.name, other.because) == ("che_selection_r", because)
    assert [found.code for found in between(tmp_path, results, but(results, (path, value))).notes] == [note] * bool(
        note
    )


def test_an_end_of_an_interval_and_what_is_gone_are_told(results: dict[str, Any], tmp_path: Path) -> None:
    low, high = results["quantities"]["che"]["r_ci"]["value"]
    made = but(results, ((*R[:2], "r_ci", "value"), [low, high + 0.1]))
    del made["quantities"]["rve"]["r"]
    first, second = between(tmp_path, results, made).changes
    assert first.name == "r_ci, upper"
    assert (second.analysis, second.after) == ("rve", None)


def test_the_last_digits_are_no_change(results: dict[str, Any], tmp_path: Path) -> None:
    r = results["quantities"]["che"]["r"]["value"]
    assert between(tmp_path, results, but(results, (R, r * (1 + 1e-12)))).changes == ()


def test_other_files_are_refused(tmp_path: Path) -> None:
    for text in ("[]", "{}", "no"):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError):
            changes(tmp_path / "x.json", tmp_path / "x.json")
    with pytest.raises(CannotRunError):
        changes(tmp_path / "none.json", tmp_path / "x.json")


def test_the_command_prints_them(results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    between(tmp_path, results, but(results, (R, 0.5)))
    assert main(["diff", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0
    assert "che.r" in capsys.readouterr().out
