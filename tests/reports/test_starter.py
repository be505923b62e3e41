"""A first declaration is chosen by the sheet, can be built, and cannot be talked into anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alliance_meta.cli import main
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.reporting import build_report, new_report
from alliance_meta.reporting.declaration import read_declaration

ROWS = [f"S{i} {2000 + i},.{30 + i},{40 + i},{'client' if i % 2 else 'therapist'}" for i in range(8)]


def sheet(folder: Path, name: str = "own.csv", *, twice: bool = False) -> Path:
    rows = ROWS + ([row.replace(",.3", ",-.2") for row in ROWS[:3]] if twice else [])
    path = folder / name
    path.write_text("\n".join(["study,r,n,rater", *rows]) + "\n", encoding="utf-8")
    return path


def test_independent_effects_get_random_effects_and_the_moderator(tmp_path: Path) -> None:
    found = read_declaration(new_report("first", sheet(tmp_path), folder=tmp_path / "reports"))
    (main_analysis,) = found.analysis
    assert (main_analysis.kind, main_analysis.data) == ("random", "../own.csv")
    assert [item.columns for section in found.section for item in section.item if item.columns] == [("rater",)] * 2


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
def test_a_moderator_that_cannot_be_compared_is_named_with_the_reason(tmp_path: Path) -> None:
    path = sheet(tmp_path)
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    lines = [f"{row},{'group' if i else 'both'}" for i, row in enumerate(rows)]
    path.write_text("\n".join([head + ",{format}", *lines]) + "\n", encoding="utf-8")
    text = new_report("first", path, folder=tmp_path).read_text(encoding="utf-8")
    assert "#   {format}: one study alone has both\n" in text
    assert "one study alone" not in new_report("other", sheet(tmp_path), folder=tmp_path).read_text(encoding="utf-8")


def test_dependent_effects_get_che(tmp_path: Path) -> None:
    (found,) = read_declaration(new_report("first", sheet(tmp_path, twice=True), folder=tmp_path)).analysis
    assert (found.kind, found.robust, found.rho) == ("multilevel", "CR2", 0.6)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
def test_what_a_sheet_of_others_needs_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    rows = [f"S{i // 2},{0.1 * i:.1f},.0{i + 1},999" for i in range(6)]
    path.write_text("\n".join(["Trial id,g,var g,age", *rows]) + "\n", encoding="utf-8")
    naming = {"yi": "g", "vi": "var g", "study": "Trial id", "missing": ["999"]}
    declared = new_report("raw", path, folder=tmp_path, **naming)
    (found,) = read_declaration(declared).analysis
    assert {key: getattr(found, key) for key in naming} == naming | {"missing": ("999",)}
    assert found.kind == "multilevel"
    text = declared.read_text(encoding="utf-8")
    assert "{main.estimate} is read" in text
    short = text[: text.index("[[section]]")] + '[[section]]\nheading = "H"\ntext = "{main.studies}"\n'
    declared.write_text(short, encoding="utf-8")
    results, methods, *_ = build_report(declared, formats=["methods"])
    assert "k = 6 effects from 3 studies" in methods.read_text(encoding="utf-8")
    # Nobody said how many people there are, nor that these are relations within them.
    opening = str(json.loads(results.read_text(encoding="utf-8"))["abstract"])
    assert "{main.k} effects from {main.studies} studies.'" in opening
    assert "averages over studies" in opening
    assert "same clients" not in opening


def test_it_is_begun_in_the_language_that_is_asked_for(tmp_path: Path) -> None:
    found = read_declaration(new_report("first", sheet(tmp_path), folder=tmp_path, lang="de"))
    assert (found.lang, found.analysis[0].label) == ("de", "Alle Effekte")
    assert [section.heading for section in found.section][:2] == ["Alle Studien", "Moderatoren"]
    assert found.section[0].text.startswith("{ref.studies} zeigt")
    with pytest.raises(InputError, match="known: en, de"):
        new_report("second", sheet(tmp_path), folder=tmp_path, lang="xx")


def test_a_shipped_data_set_says_itself_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="study: this is of a file"):
        new_report("first", "molloy2014", folder=tmp_path, study="id")


def test_it_is_built_as_it_stands(tmp_path: Path) -> None:
    declared = new_report("first", sheet(tmp_path, twice=True), folder=tmp_path)
    text = declared.read_text(encoding="utf-8")
    short = text[: text.index('[[section]]\nheading = "If findings')]
    declared.write_text(short, encoding="utf-8")
    built = build_report(declared, formats=["methods"])
    assert built[0].name == "results.json"


@pytest.mark.parametrize("name", ['a"b\n[abstract].csv', "a'''.csv", "ü\\u0041{x}.csv"])
def test_a_file_name_is_a_name_and_no_toml(tmp_path: Path, name: str) -> None:
    found = read_declaration(new_report("first", sheet(tmp_path, name), folder=tmp_path))
    assert found.analysis[0].data == name


@pytest.mark.parametrize("name", ["../up", "a b", "", "-x", "x/y", "x\n"])
def test_a_name_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a report"):
        new_report(name, "molloy2014", folder=tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_report("first", "molloy2014", folder=tmp_path)
    with pytest.raises(CannotRunError, match="is there already"):
        new_report("first", "kolden2011_congruence", folder=tmp_path)


def test_the_command_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(sheet(tmp_path)), "--study", "study"]
    assert main(["new-report", "first", *data, "--folder", str(tmp_path)]) == 0
    assert 'study = "study"\n' in (tmp_path / "first.toml").read_text(encoding="utf-8")
    said = capsys.readouterr()
    assert said.out.strip().endswith("first.toml")
    assert "alliance-meta report" in said.err
