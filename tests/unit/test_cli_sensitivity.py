"""``alliance-meta sensitivity``: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import sensitivity
from alliance_meta.cli import main
from tests.unit.test_battery import ALL

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
QUICK = ("--scenario", "che", "--scenario", "lowest", "--scenario", "published", "--scenario", "one")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sheet = ALL.moderators.assign(study=list(ALL.study_id))
    sheet.to_csv(tmp_path / "coding.csv", index=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(("sensitivity", *args))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_prints_what_the_battery_gives_and_writes_figure_and_table(folder, capsys):
    code, out, err = run(capsys, "coding.csv", *QUICK, "--figure", "b.svg", "--out", "b.csv", "--rho", ".4")
    assert code == 0, err
    effects = am.escalc(am.read_coded("coding.csv"))
    found = sensitivity.battery(effects, rho=0.4, scenarios=["che", "lowest", "published", "one"])
    sentence = (
        "Model: correlated and hierarchical effects (che), rho = 0.4, CR2 standard errors (the headline; 42 effects"
    )
    assert out.startswith(sentence)
    assert found.summary() in out
    assert (folder / "b.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    table = pd.read_csv(folder / "b.csv")
    assert table["scenario"].tolist() == ["che", "lowest", "published", "one"]
    assert table["estimate"].iloc[0] == pytest.approx(found.tidy()["estimate"].iloc[0])


def test_a_rule_of_one_effect_per_study_can_be_said(folder, capsys):
    code, out, err = run(capsys, "coding.csv", *QUICK, "--select", "alliance_rater=client,judge", "--json")
    assert code == 0, err
    (row,) = (one for one in json.loads(out)["analyses"] if one["scenario"] == "one")
    assert (row["k"], row["why"]) == (14, "")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--scenario", "lowes"), 1, "did you mean 'lowest'"),
        (("--select", "rater"), 2, "is no COLUMN=VALUE,VALUE"),
        (("--select", "who=client"), 1, "who"),
        (("--figure", "b.gif"), 2, "'.gif' cannot be written"),
        (("--rho", "2"), 1, "must lie between 0 and 1"),
    ],
)
def test_what_cannot_be_asked_writes_nothing(folder, capsys, args, code, message):
    found, out, err = run(capsys, "coding.csv", "--out", "b.csv", *args)
    assert (found, out) == (code, "") or args[0] == "--select"
    assert message in err + out
    assert args[0] == "--select" or not (folder / "b.csv").exists()
