"""The command line: what it prints where, its exit codes, and that it leaves nothing half-done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alliance_meta import __version__, list_datasets
from alliance_meta.cli import main
from alliance_meta.cli.fit import LAYOUTS
from alliance_meta.errors import CannotRunError
from alliance_meta.plots.forests.layout import LayoutName
from alliance_meta.plots.sheet.figures import NotebookFigure, Pages

SHEET = """study,year,r,n,rater,setting
Ada,2001,.31,48,client,outpatient
Bo,2004,-.02,120,observer,inpatient
Cy,2007,.18,61,client,outpatient
Di,2008,.25,70,observer,inpatient
Ed,2009,.12,45,client,inpatient
Fy,2010,.40,52,observer,outpatient
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that holds one good sheet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coding.csv").write_text(SHEET, encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Return a function that runs a command and gives (exit code, standard output, error output)."""

    def call(*args: str) -> tuple[int, str, str]:
        code = main(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def strictly(text: str) -> Any:
    """Read JSON as the standard has it, without NaN or Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- in a process of its own ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code"),
    [(["--help"], 0), (["check", "none.csv"], 2)],
)
def test_a_process_ends_with_the_exit_code_and_no_traceback(folder, args, code):
    done = subprocess.run([sys.executable, "-m", "alliance_meta.cli", *args], capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)


def test_a_reader_that_stops_early_gets_no_traceback(folder):
    command = [sys.executable, "-m", "alliance_meta.cli", "data", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert b"Traceback" not in said


# --- help and version -----------------------------------------------------------------------------------


EXCHANGE = ("read", "export", "deposit", "diff")


def test_help_lists_the_commands_that_work_and_no_others(run):
    code, out, _ = run("--help")
    assert code == 0
    commands = {line.split()[0] for line in out.split("Commands:")[1].splitlines() if line.startswith("  ")}
    analysis = {"bias", "fit", "sensitivity", "report", "new-report", "reproduce", "match", "consistency", "claims"}
    assert commands == {"template", "codebook", "check", "convert", "data", "explore", "Exit", *EXCHANGE} | analysis


@pytest.mark.parametrize(
    "command",
    [
        ("template",),
        ("codebook",),
        ("check",),
        ("fit",),
        ("report",),
        ("reproduce",),
        ("match",),
        ("consistency",),
        ("claims",),
        ("data", "list"),
        ("data", "show"),
        ("data", "check"),
        ("data", "seal"),
    ],
)
def test_every_command_explains_itself(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage: alliance-meta" in out


def test_version(run):
    assert run("--version") == (0, f"alliance-meta {__version__}\n", "")


@pytest.mark.parametrize("args", [("fits",), ("fit",), ("fit", "coding.csv", "--nothing"), ("check", "a", "b")])
def test_misused_commands_could_not_run(folder, run, args):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "Error: " in err


# --- data -----------------------------------------------------------------------------------------------


def test_data_list_names_every_data_set(run):
    code, out, err = run("data", "list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(list_datasets()["name"])
    assert [one["name"] for one in strictly(run("data", "list", "--json")[1])["datasets"]] == list(
        list_datasets()["name"]
    )


def test_data_show_begins_with_the_title_and_the_cautions(run):
    code, out, _ = run("data", "show", "kolden2011_congruence")
    assert code == 0
    assert "! Therapy relationship data, not alliance data" in out
    card = strictly(run("data", "show", "kolden2011_congruence", "--json")[1])
    assert card["licence"] == "CC0-1.0"
    assert card["cautions"]


def test_data_show_of_another_name_suggests_one(run):
    code, out, err = run("data", "show", "moloy2014")
    assert (code, out) == (1, "")
    assert "did you mean 'molloy2014'?" in err


def test_data_check_is_content_with_what_is_shipped(run):
    assert run("data", "check")[0] == 0
    assert strictly(run("data", "check", "--json")[1]) == {"problems": []}


# --- check ----------------------------------------------------------------------------------------------


def test_check_of_a_good_sheet_says_what_is_in_it(folder, run):
    code, out, err = run("check", "coding.csv")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "coding.csv: 6 effects from 6 studies; 396 people"
    assert lines[1:8] == [
        "  column   holds    filled  values",
        "  study    labels   6       6 different",
        "  year     numbers  6       2001 to 2010",
        "  r        numbers  6       -0.02 to 0.4, mean 0.207",
        "  n        numbers  6       45 to 120, mean 66",
        "  rater    words    6       client (3), observer (3)",
        "  setting  words    6       outpatient (3), inpatient (3)",
    ]
    assert lines[8] == "  required by the contract and not here: study_id, es_id"
    assert lines[-1] == "no problem found"
    contents = strictly(run("check", "coding.csv", "--json")[1])["contents"]
    assert [column["name"] for column in contents["columns"]] == ["study", "year", "r", "n", "rater", "setting"]
    assert (contents["studies"], contents["people"]) == (6, 396)


def test_check_tells_errors_from_suspicions(folder, run):
    (folder / "bad.csv").write_text(SHEET.replace("Ada,2001,.31", "Ada,2001,45").replace(",48,", ",9,"))
    code, out, _ = run("check", "bad.csv")
    assert code == 1
    assert out.endswith(
        "1 error:\n  line 2, r: 45 is outside (-1, 1); coded in percent? write 0.45\n"
        "1 suspicion:\n  line 2, n: n < 10: so few people say next to nothing about a correlation; check the paper\n"
    )
    document = strictly(run("check", "bad.csv", "--json")[1])
    assert document["errors"][0]["value"] == "45"
    assert document["suspicions"][0]["row"] == 2
    assert document["rows"] is None


def test_check_holds_words_against_the_contract_and_fit_does_not_stop_at_them(folder, run):
    (folder / "words.csv").write_text(SHEET.replace("outpatient", "day clinic"))
    code, out, _ = run("check", "words.csv")
    assert code == 1
    assert "did you mean 'day_hospital'? ... and 2 more rows (lines 4, 7)" in out
    code, out, _ = run("fit", "words.csv", "--mods", "setting")
    assert code == 0
    assert "possible mistakes: words outside the vocabulary (3)" in out


def test_check_strictly_demands_the_required_columns(folder, run):
    code, out, _ = run("check", "coding.csv", "--strict")
    assert code == 1
    assert "2 errors:" in out
    assert "the contract requires the column 'study_id'; did you mean 'study'?" in out


def test_a_suspicion_alone_is_no_failure_and_adaptations_are_notes(folder, run):
    (folder / "odd.csv").write_text(SHEET.replace(",48,", ",9,").replace(",", ";"))
    code, out, err = run("check", "odd.csv")
    assert code == 0
    assert "1 suspicion:" in out
    assert err == "note: odd.csv: cells are separated by semicolons\n"


# --- fit ------------------------------------------------------------------------------------------------


def test_fit_prints_the_summary(folder, run):
    code, out, err = run("fit", "coding.csv", "--mods", "rater + setting", "--method", "DL", "--test", "z")
    assert (code, err) == (0, "")
    assert "k = 6" in out
    assert "rater" in out
    assert names_in(folder) == {"coding.csv"}


def test_fit_of_a_shipped_set_is_the_fit_of_the_library(run):
    from alliance_meta import RandomEffectsModel, escalc, load_dataset

    code, out, err = run("fit", "molloy2014", "--test", "z", "--json")
    assert (code, err) == (0, "")
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), test="z").fit()
    document = strictly(out)
    assert document["coefficients"]["estimate"] == fit.beta.tolist()
    assert document["statistics"]["tau2"] == fit.tau2
    assert document["statistics"]["R2"] == {"not_applicable": fit.R2.reason}
    assert document["provenance"]["dataset"] == "molloy2014"


def test_a_file_comes_before_a_data_set_and_its_columns_can_be_named(folder, run):
    (folder / "molloy2014").write_text(SHEET.replace("r,n", "es,people"))
    code, _, err = run("fit", "molloy2014")
    assert code == 1
    assert "say ri='es' (command line: --ri es)" in err
    code, out, _ = run("fit", "molloy2014", "--ri", "es", "--ni", "people", "--json")
    assert code == 0
    assert strictly(out)["statistics"]["k"] == 6


def test_one_study_alone_gives_reasons_instead_of_numbers(folder, run):
    (folder / "one.csv").write_text("study,r,n\nA,.3,50\n")
    code, out, err = run("fit", "one.csv", "--json")
    assert code == 0
    assert "note: " in err
    statistics = strictly(out)["statistics"]
    assert any(isinstance(value, dict) and "not_applicable" in value for value in statistics.values())


def test_fit_writes_what_it_is_asked_for_into_new_folders(folder, run):
    code, out, err = run(
        "fit", "coding.csv", "--forest", "new/forest.svg", "--by", "rater", "--order", "year", "--out", "new/fit.csv"
    )
    assert code == 0
    assert err.splitlines()[-2:] == ["written: new/forest.svg", "written: new/fit.csv"]
    assert (folder / "new/forest.svg").read_text().startswith("<?xml")
    assert (folder / "new/fit.csv").read_text().startswith("term,estimate,se,")
    assert names_in(folder) == {"coding.csv", "new/forest.svg", "new/fit.csv"}
    assert "k = 6" in out


def test_fit_into_json_is_what_json_prints(folder, run):
    _, out, _ = run("fit", "coding.csv", "--json", "--out", "fit.json")
    assert (folder / "fit.json").read_text(encoding="utf-8") == out


def test_only_rows_that_may_be_pooled_are_pooled(run):
    code, out, err = run("fit", "alliance_abstracts", "--json")
    assert code == 0
    assert "only the rows that may be pooled together" in err
    assert strictly(out)["statistics"]["k"] == 8
    for name in ("alliance_not_poolable", "published", "claims"):
        code, out, err = run("fit", name)
        assert (code, out) == (1, "")
        assert f"{name} cannot be pooled" in err
    code, out, _ = run("fit", "relationship_dependent_effects")
    assert code == 0
    assert out.startswith("Model: correlated and hierarchical effects (che)")


def test_notes_are_said_once_and_travel_in_json(folder, run):
    (folder / "gap.csv").write_text(SHEET.replace(".12", ""))
    code, out, err = run("fit", "gap.csv")
    assert code == 0
    assert "r is missing" not in err
    assert out.count("left out because r or n is missing") + err.count("left out because r or n is missing") == 1
    _, out, err = run("fit", "gap.csv", "--json")
    assert "note: 1 of 6 rows left out because r or n is missing" in err
    assert "dropped-rows" in {note["code"] for note in strictly(out)["notes"]}


BAD_CELLS = {
    "r outside": (SHEET.replace(".31", "1.31"), "line 2, r: 1.31 is outside (-1, 1)"),
    "small n": (SHEET.replace(",48,", ",3,"), "line 2, n: Fisher z needs n >= 4"),
    "text": (SHEET.replace(",48,", ",4B,"), "line 2, n: '4B' is not a number"),
    "no r": (SHEET.replace("year,r,", "year,es,"), "there is no column 'r'"),
    "no n": (SHEET.replace("r,n,", "r,k,"), "there is no column 'n'"),
    "empty": ("", "the file is empty"),
    "no table": ("PK\x03\x04 and so on", "a ZIP archive"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_bad_sheets_are_the_users_to_mend(folder, run, name):
    content, message = BAD_CELLS[name]
    (folder / "bad.csv").write_text(content)
    code, out, err = run("fit", "bad.csv", "--forest", "out/forest.svg", "--out", "out/fit.csv")
    assert (code, out) == (1, "")
    assert err.startswith("error: bad.csv: ")
    assert message in err
    assert names_in(folder) == {"bad.csv", "coding.csv"}
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--mods", "rateer"), 1, "did you mean 'rater'?"),
        (("--mods", "same"), 1, "same"),
        (("--mods", "rater +"), 1, "rater +"),
        (("--subset", "rater == 'nobody'"), 1, "leaves no row"),
        (("--subset", "rating > 3"), 1, "Columns: study, year, r, n, rater, setting"),
        (("--ri", "cor"), 1, "there is no column 'cor'"),
        (("--ri", "r", "--ni", "r"), 1, "a column each"),
        (("--by", "rated"), 1, "no column 'rated'; did you mean 'rater'?"),
        (("--order", "size-ish"), 1, "size-ish"),
        (("--vtype", "UB"), 1, "vtype='UB' is not defined for ZCOR"),
        (("--method", "RELM"), 2, "is not one of 'REML', 'DL'"),
        (("--test", "hksj"), 2, "is not one of 'knha', 'z', 't', 'adhoc'"),
        (("--measure", "r"), 2, "is not one of 'ZCOR', 'COR', 'UCOR'"),
        (("--level", "95"), 2, "for 95% write 0.95"),
        (("--out", "fit.xyz"), 2, "'.xyz' cannot be written; give the file the ending .csv or .json"),
        (("--out", "fit"), 2, "'fit' has no ending"),
        (("--out", "coding.csv"), 2, "is the input itself"),
        (("--out", "coding.csv/fit.csv"), 2, "is a file, not a folder"),
    ],
)
def test_other_mistakes_get_one_message_and_leave_nothing(folder, run, args, code, message):
    sheet = SHEET.replace("setting\n", "setting,same\n").replace("patient\n", "patient,x\n")
    if "same" in args:
        (folder / "coding.csv").write_text(sheet)
    before = (folder / "coding.csv").read_text()
    found, out, err = run("fit", "coding.csv", "--forest", "forest.svg", *args)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert names_in(folder) == {"coding.csv"}
    assert (folder / "coding.csv").read_text() == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("codin.csv", "no such file: codin.csv; did you mean 'coding.csv'?"),
        ("moloy2014", "no file and no shipped data set called 'moloy2014'; did you mean 'molloy2014'?"),
        (".", ". is a folder"),
    ],
)
def test_what_is_not_there_could_not_run(folder, run, source, message):
    code, out, err = run("fit", source, "--forest", "forest.svg")
    assert (code, out) == (2, "")
    assert message in err
    assert names_in(folder) == {"coding.csv"}


def test_shaping_a_plot_that_is_not_drawn_is_said(folder, run):
    for option, value in (("--by", "rater"), ("--layout", "apa")):
        code, _, err = run("fit", "coding.csv", option, value)
        assert code == 2
        assert "add --forest FILE" in err
    code, _, err = run("fit", "coding.csv", "--forest", "f.svg", "--layout", "apaa")
    assert (code, "did you mean 'apa'" in err) == (2, True)
    assert LayoutName == LAYOUTS


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(folder, run):
    (folder / "locked").mkdir(mode=0o500)
    code, _, err = run("fit", "coding.csv", "--forest", "locked/forest.svg")
    assert code == 2
    assert "cannot be written to" in err


def test_many_rows_are_drawn_as_pages(folder, run, monkeypatch):
    small = Pages(NotebookFigure.for_plot(1, 1, {}) for _ in range(2))
    monkeypatch.setattr("alliance_meta.plots.forest_pages", lambda fit, **data: small)
    pages = ["forest.png", "forest-2.png"]
    code, _, err = run("fit", "coding.csv", "--forest", "forest.png")
    assert (code, err.splitlines()[-2:]) == (0, [f"written: {name}" for name in pages])
    assert names_in(folder) == {"coding.csv", *pages}
    assert "earlier forest" not in err
    (folder / "forest-3.png").touch()
    _, _, err = run("fit", "coding.csv", "--forest", "forest.png")
    assert "note: forest-3.png is a page of an earlier forest, which had more of them; it stays" in err
    code, _, err = run("fit", "coding.csv", "--forest", "forest.pdf")
    assert (code, err.splitlines()[-1]) == (0, "written: forest.pdf")
    assert re.findall(rb"/Type /Pages .*?/Count (\d+)", (folder / "forest.pdf").read_bytes(), re.DOTALL) == [b"2"]


def test_dependent_effects_are_drawn_by_level(folder, run):
    code, _, err = run(
        "fit", "crede2010", "--subset", "n < 60", "--forest", "forest.svg", "--by", "criterion", "--layout", "jama"
    )
    assert code == 0, err
    text = (folder / "forest.svg").read_text()
    assert re.search(r"<desc[^>]*>.*By criterion: gpa: Subtotal \(3 studies\) \.\d\d \[.*; one model with", text)


def test_a_plot_that_fails_leaves_no_table(folder, run, monkeypatch):
    def fail(*args: Any, **options: Any) -> bytes:
        raise CannotRunError("no ink")

    monkeypatch.setattr("alliance_meta.cli.fit._drawings", fail)
    code, out, err = run("fit", "coding.csv", "--forest", "forest.svg", "--out", "fit.csv")
    assert (code, out, err) == (2, "", "error: no ink\n")
    assert names_in(folder) == {"coding.csv"}


# --- report and reproduce -------------------------------------------------------------------------------

DECLARATION = """
title = "A small report"
[[analysis]]
id = "own"
label = "Own data"
data = "coding.csv"
[[section]]
heading = "Result"
text = "The mean correlation is {own.r}."
"""


def test_report_prints_the_files_it_wrote(folder, run):
    (folder / "small.toml").write_text(DECLARATION)
    code, out, _ = run("report", "small.toml", "--out", "built", "--formats", "html,methods")
    assert code == 0
    assert set(out.split()) == {"built/results.json", "built/report.html", "built/methods.txt", "built/references.bib"}
    assert names_in(folder) == {"coding.csv", "small.toml", "built/.made", *out.split()}


@pytest.mark.parametrize(
    ("content", "args", "code", "message"),
    [
        (None, (), 2, "small.toml"),
        ("title = ", (), 1, "small.toml"),
        (DECLARATION.replace("coding.csv", "nothing.csv"), (), 1, "nothing.csv"),
        (DECLARATION, ("--formats", "hmtl"), 1, "did you mean 'html'?"),
    ],
)
def test_a_report_that_cannot_be_made_leaves_nothing(folder, run, content, args, code, message):
    if content is not None:
        (folder / "small.toml").write_text(content)
    found, out, err = run("report", "small.toml", "--out", "built", *args)
    assert (found, out) == (code, "")
    assert message in err
    assert not (folder / "built").exists()


def test_reproduce_shows_printed_beside_ours(run):
    code, out, _ = run("reproduce", "molloy2014")
    assert code == 0
    assert "estimate  0.1499   0.149917   yes" in out
    rows = strictly(run("reproduce", "molloy2014", "--json")[1])["rows"]
    assert {row["dataset"] for row in rows} == {"molloy2014"}
    estimate = next(row for row in rows if row["quantity"] == "estimate")
    assert (estimate["printed"], estimate["agrees"]) == ("0.1499", True)


def test_what_was_not_run_is_never_called_reproduced(folder, run):
    printed = {"id": "nobody", "printed": {"estimate": ".21"}, "search": False}
    package = {"resources": [{"path": "coding.csv", "schema": {}}], "alliance_meta": {"published": [printed]}}
    (folder / "datapackage.json").write_text(json.dumps(package))
    rows = strictly(run("reproduce", "coding.csv", "--json")[1])["rows"]
    for row in rows:
        assert isinstance(row["ours"], dict) == (row["agrees"] is None)
    assert any(row["agrees"] is None for row in rows)


def test_reproduce_of_data_without_a_printed_result_says_so(run):
    code, out, err = run("reproduce", "alliance_abstracts")
    assert (code, out) == (1, "")
    assert "has no printed result" in err
