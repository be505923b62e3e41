"""``alliance-meta consistency``: what it prints, its exit codes, and what it says of files it cannot read."""

from __future__ import annotations

import json

import pytest

from alliance_meta.cli import main

GOOD = "Overall, r = .278, 95% CI [.256, .299].\n"
BAD = "First line.\nThe groups differed, t(38) = 2.20, p = .34.\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        code = main(["consistency", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_text_that_agrees_ends_with_0(run, tmp_path) -> None:
    (tmp_path / "paper.txt").write_text(GOOD, encoding="utf-8")
    code, out, err = run("paper.txt")
    assert code == 0
    assert out.startswith("1 result with 2 checks\n")
    assert "note: Every printed number stands for all that can have been rounded to it" in err
    assert "estimate inside its interval" in run("paper.txt", "--all")[1]


def test_a_text_that_disagrees_ends_with_1_and_names_the_line(run, tmp_path) -> None:
    (tmp_path / "paper.txt").write_text(BAD, encoding="utf-8")
    code, out, _ = run("paper.txt")
    assert code == 1
    assert out.splitlines()[:3] == [
        "line 2: t(38) = 2.20, p = .34",
        "  p from t: t = 2.20, df = 38",
        "  printed .34, follows 0.0336 to 0.0343: INCONSISTENT IN THE DECISION",
    ]


def test_json_holds_every_check(run, tmp_path) -> None:
    (tmp_path / "paper.txt").write_text(GOOD + BAD, encoding="utf-8")
    code, out, _ = run("paper.txt", "--json")
    document = json.loads(out)
    assert code == 1
    assert document["counts"] == {"consistent": 2, "inconsistent in the decision": 1}
    assert document["checks"][-1]["line"] == 3


def test_a_table_and_the_registry(run, tmp_path) -> None:
    (tmp_path / "table.csv").write_text("id,r,d\nA,.19,.39\nB,.26,.56\n", encoding="utf-8")
    code, out, _ = run("table.csv")
    assert code == 1
    assert "line 3: B" in out
    assert "line 2: A" not in out
    code, out, _ = run()
    assert code == 1
    assert [name in out for name in ("burlingame2018_cohesion", "igra2020", "ocd_cbt2022")] == [True] * 3


def test_a_pdf_is_answered_with_how_to_get_its_text(run, tmp_path) -> None:
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7\n...")
    code, _, err = run("paper.pdf")
    assert code == 2
    assert "pdftotext -layout paper.pdf paper.txt" in err


def test_what_cannot_be_read_ends_with_2_and_what_is_wrong_with_1(run, tmp_path) -> None:
    assert run("nowhere.txt")[0] == 2
    (tmp_path / "table.csv").write_text("r,ci_lb\nx,.2\n", encoding="utf-8")
    code, _, err = run("table.csv")
    assert code == 1
    assert "'x' is not a printed number" in err
    assert run("table.csv", "--alpha", "7")[0] == 1


def test_the_encoding_of_windows_is_read(run, tmp_path) -> None:
    (tmp_path / "paper.txt").write_bytes("Flückiger: r = .278, 95% CI [.256–.299]".encode("cp1252"))
    assert run("paper.txt")[0] == 0
