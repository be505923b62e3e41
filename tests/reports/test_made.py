"""No stale report: what it was made of is recorded, and `make reports` asks the record."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.reporting import build_report, made
from alliance_meta.reporting.made import RECORD, is_fresh
from tests.reports.cases import small_sheet
from tests.reports.test_build import FOREST, OWN, contents

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_sheet(tmp_path_factory.mktemp("once"))
    (folder / "own.toml").write_text(OWN + FOREST, encoding="utf-8")
    build_report(folder / "own.toml")
    return folder


@pytest.fixture
def built(once: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copy the folder of a report that was built: declaration and report."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "own.toml", tmp_path / "build/own"


def change_sheet(sheet: Path, _: Path) -> None:
    """Change one cell and put an older time on the file, as a copy from elsewhere has it."""
    text = (sheet / "own.csv").read_text(encoding="utf-8")
    (sheet / "own.csv").write_text(text.replace(".20", ".21"), encoding="utf-8")
    os.utime(sheet / "own.csv", (0, 0))


@pytest.mark.parametrize(
    "change",
    [
        change_sheet,
        lambda sheet, _: (sheet / "own.csv").unlink(),
        lambda sheet, _: (sheet / "datapackage.json").write_text("{}"),
        lambda sheet, _: (sheet / "own.toml").write_text(OWN),
        lambda _, folder: (folder / "figures/forest_a.png").unlink(),
        lambda _, folder: (folder / "results.json").unlink(),
        lambda _, folder: (folder / RECORD).unlink(),
        lambda _, folder: (folder / RECORD).write_text("[]"),
        lambda _, folder: (folder / RECORD).write_text("[" * 100_000),
        lambda _, folder: (folder / RECORD).write_text(json.dumps({"schema": made.SCHEMA, "inputs": 3})),
        lambda sheet, folder: build_report(sheet / "own.toml", formats=["html"]) and (folder / "report.pdf").unlink(),
    ],
)
def test_whatever_changes_makes_a_report_stale(
    built: tuple[Path, Path], change: Callable[[Path, Path], object]
) -> None:
    declaration, folder = built
    assert is_fresh(declaration, folder)
    change(declaration.parent, folder)
    assert not is_fresh(declaration, folder)


def test_another_package_makes_a_report_stale(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "package_hash", lambda: "another")
    assert not is_fresh(*built)


def test_a_report_of_some_formats_is_not_the_whole(sheet: Path) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    build_report(sheet / "own.toml", formats=["methods"])
    assert not is_fresh(sheet / "own.toml", sheet / "build/own")


def test_other_formats_stay_with_the_same_results_and_go_with_others(built: tuple[Path, Path]) -> None:
    declaration, folder = built
    before = contents(folder)
    assert build_report(declaration, formats=["methods"]).notes == ()
    assert contents(folder) == before
    declaration.write_text((OWN + FOREST).replace("Own", "New"), encoding="utf-8")
    (note,) = build_report(declaration, formats=["methods"]).notes
    gone = set(before) - set(contents(folder))
    assert set(contents(folder)) == {"results.json", "methods.txt", "references.bib", RECORD}
    assert all(name in note.message for name in gone)
    assert "report.pdf" in gone


def test_results_are_never_newer_than_their_pages(built: tuple[Path, Path]) -> None:
    declaration, folder = built
    build_report(declaration, formats=["tables"])
    first = (folder / "results.json").stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns >= first for path in folder.rglob("*.*"))


FORGED = {"schema": "alliance_meta/report/1", "files": ["../victim.csv", "mine.txt", "figures/mine.txt", 3]}


@pytest.mark.parametrize("forged", [FORGED, FORGED | {"schema": "x", "files": ["report.html"]}, [], 3])
def test_a_forged_manifest_removes_nothing_of_others(sheet: Path, forged: object) -> None:
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    folder = sheet / "build/own"
    folder.mkdir(parents=True)
    mine = {"mine.txt": "mine", "../victim.csv": "victim", "report.html": "my own page"}
    for name, text in mine.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(forged), encoding="utf-8")
    notes = build_report(sheet / "own.toml").notes
    kept = {name: folder / (f"{name}.kept" if name == "report.html" else name) for name in mine}
    assert {name: path.read_text(encoding="utf-8") for name, path in kept.items()} == mine
    assert any(
        "report.html is no file that a report made; it was kept as report.html.kept" in str(note) for note in notes
    )


@pytest.mark.parametrize("identifier", ["../x", "/x", "a b", "A", "x" * 81, "", "é", "a\n"])
def test_ids_are_names_and_no_paths(sheet: Path, identifier: str) -> None:
    item = f'[[section.item]]\nforest = "a"\nid = {json.dumps(identifier)}\n'
    (sheet / "own.toml").write_text(OWN + item, encoding="utf-8")
    with pytest.raises(InputError, match="must be lower-case letters"):
        build_report(sheet / "own.toml")
    assert sorted(os.listdir(sheet)) == ["own.csv", "own.toml"]


def test_a_name_of_dots_has_no_folder(sheet: Path) -> None:
    (sheet / "...toml").write_text(OWN, encoding="utf-8")
    with pytest.raises(InputError, match="rename the file"):
        build_report(sheet / "...toml")
    assert sorted(os.listdir(sheet)) == ["...toml", "own.csv"]


def test_a_link_leads_nowhere_unless_it_is_named(sheet: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (sheet / "own.toml").write_text(OWN, encoding="utf-8")
    (sheet / "build").symlink_to(elsewhere)
    with pytest.raises(CannotRunError, match="is a link to"):
        build_report(sheet / "own.toml")
    assert not any(elsewhere.iterdir())
    build_report(sheet / "own.toml", formats=["methods"], out=elsewhere / "own")
    assert (elsewhere / "own/methods.txt").exists()


def test_the_command_that_rebuilds_a_report_runs_nothing_else(sheet: Path) -> None:
    (sheet / "$(touch ran) `x`.toml").write_text(OWN, encoding="utf-8")
    (path, *_) = build_report(sheet / "$(touch ran) `x`.toml", formats=["methods"])
    command = json.loads(path.read_text(encoding="utf-8"))["report"]["rebuild"]
    assert command == "alliance-meta report '$(touch ran) `x`.toml'"


# What stands for the command here: it makes a page and the record, and does not load the package.
COMMAND = f"""#!{sys.executable}
import runpy, sys
from pathlib import Path
from urllib.parse import unquote
made = runpy.run_path("alliance_meta/reporting/made.py")
path = Path(sys.argv[-1])
assert sys.argv[1:-1] == ["report", "--"], sys.argv
print("made", path.name, flush=True)
if path.name.startswith("bad"):
    sys.exit(1)
folder = path.parent / "build" / path.stem
folder.mkdir(parents=True, exist_ok=True)
of = made["fingerprint"](path, ["sheet.csv"])
(folder / "report.html").write_text("page")
(folder / ".made").write_bytes(made["record"](of, formats=made["FORMATS"], outputs=["report.html"]))
"""
NAMES = ("`touch ran`", "$(touch ran)", "a b", "'; touch ran; '", "-x", "bad", "ok", "%", "a:b", "a\nb")


@pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="needs make")
def test_make_builds_what_changed_whatever_it_is_called(tmp_path: Path) -> None:
    checkout = tmp_path / "check out `touch ran` $x"
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / "reports/build").mkdir(parents=True)
    (checkout / "alliance_meta/reporting").mkdir(parents=True)
    for name in ("Makefile", "alliance_meta/reporting/made.py"):
        shutil.copy(ROOT / name, checkout / name)
    for name in ("pyproject.toml", "requirements.lock", "reports/sheet.csv"):
        (checkout / name).write_text("", encoding="utf-8")
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    (checkout / ".venv/bin/alliance-meta").write_text(COMMAND, encoding="utf-8")
    (checkout / ".venv/bin/alliance-meta").chmod(0o755)
    version = ".".join(map(str, sys.version_info[:3]))
    (checkout / ".venv/locked").write_text(f"{version} {checkout}\n", encoding="utf-8")
    (checkout / ".venv/stamp").touch()
    for name in NAMES:
        (checkout / f"reports/{name}.toml").write_text("", encoding="utf-8")

    def make() -> tuple[int, str]:
        command = ["make", "-s", "reports", f"PYTHON={sys.executable}"]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert not list(tmp_path.rglob("ran"))
        return done.returncode, done.stdout

    status, said = make()
    assert status != 0
    assert all(f"made {name}.toml" in said for name in NAMES)
    assert all(f"reports/build/{name}/report.html" in said for name in NAMES if name != "bad")
    index = (checkout / "reports/build/index.html").read_text("utf-8")
    assert [unquote(place) for place in re.findall(r'href="([^"]+)/report.html"', index)] == sorted(
        set(NAMES) - {"bad"}
    )
    assert "build/bad" not in said
    (checkout / "reports/bad.toml").unlink()
    (checkout / "reports/-x.toml").unlink()
    status, said = make()
    assert status == 0
    assert "made" not in said
    assert "reports/build/-x" not in said
    (checkout / "reports/build/ok/report.html").unlink()
    assert "made ok.toml" in make()[1]
    (checkout / "requirements.lock").write_text("numpy", encoding="utf-8")
    (checkout / ".venv/locked").touch()
    (checkout / ".venv/stamp").touch()
    assert make()[1].count("made ") == len(NAMES) - 2
    (checkout / "reports/sheet.csv").write_text("r,n", encoding="utf-8")
    assert make()[1].count("made ") == len(NAMES) - 2
