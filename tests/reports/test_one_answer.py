"""One sheet, three ways in: the command line, a notebook and a report give one number, and count people once."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import alliance_meta as am
from alliance_meta.cli.app import app
from alliance_meta.errors import AllianceMetaWarning
from alliance_meta.reporting.build import build_report
from tests.tolerances import CLOSED_FORM

STUDIES, EFFECTS = 40, 95


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """95 made-up effects in 40 studies, as a German spreadsheet saves them; effect ids begin anew in each study."""
    rng = np.random.default_rng(95)
    each = np.bincount(np.r_[np.arange(STUDIES), rng.integers(0, STUDIES, EFFECTS - STUDIES)], minlength=STUDIES)
    study = np.repeat(np.arange(STUDIES), each)
    truth = np.repeat(rng.normal(0.3, 0.15, STUDIES), each) + rng.normal(0, 0.1, EFFECTS)
    frame = pd.DataFrame(
        {
            "Autor": [f"Müller-Lüdenscheidt {chr(65 + i % 26)}{i // 26}" for i in study],
            "Jahr": 1990 + study % 30,
            "es_id": np.concatenate([np.arange(1, size + 1) for size in each]),
            "r": np.tanh(truth + rng.normal(0, 0.1, EFFECTS)).round(3),
            "n": np.repeat(rng.integers(20, 180, STUDIES), each),
            "rater": np.resize(["Klient", "Therapeut", "Außenstehende"], EFFECTS),
        }
    )
    path = tmp_path_factory.mktemp("own") / "eigene.csv"
    path.write_bytes(frame.to_csv(sep=";", decimal=",", index=False).encode("cp1252"))
    return path


@pytest.fixture(scope="module")
def in_a_notebook(sheet: Path) -> am.models.RobustResults:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return am.che(am.escalc(am.read_coded(sheet)), rho=0.6)


def people(sheet: Path) -> int:
    frame = pd.read_csv(sheet, sep=";", decimal=",", encoding="cp1252")
    return int(frame.groupby("Autor")["n"].first().sum())


def test_the_command_line_chooses_che_and_gives_the_number(sheet: Path, in_a_notebook: am.models.RobustResults) -> None:
    said = CliRunner().invoke(app, ["fit", str(sheet), "--json"])
    assert said.exit_code == 0
    found = json.loads(said.stdout)
    table = found["coefficients"]
    assert table["estimate"][0] == pytest.approx(in_a_notebook.beta[0], rel=CLOSED_FORM)
    assert table["se"][0] == pytest.approx(in_a_notebook.se[0], rel=CLOSED_FORM)
    plain = CliRunner().invoke(app, ["fit", str(sheet)]).stdout
    assert "correlated and hierarchical effects (che)" in plain.splitlines()[0]
    assert f"{people(sheet):,}".replace(",", " ") in plain.replace("\u202f", " ").replace("\xa0", " ")


def test_check_counts_what_the_model_counts(sheet: Path, in_a_notebook: am.models.RobustResults) -> None:
    first = CliRunner().invoke(app, ["check", str(sheet)]).stdout.splitlines()[0]
    assert f"{STUDIES} studies" in first
    assert str(people(sheet)) in first.replace(" ", "").replace(",", "").replace("\u202f", "").replace("\xa0", "")
    assert (in_a_notebook.k, in_a_notebook.n_clusters) == (EFFECTS, STUDIES)
    assert (in_a_notebook.effects.n_studies, in_a_notebook.effects.people) == (STUDIES, people(sheet))


def test_a_report_gives_the_number(sheet: Path, in_a_notebook: am.models.RobustResults) -> None:
    declaration = sheet.with_name("eigene.toml")
    analysis = '[[analysis]]\nid = "a"\nlabel = "Alles"\ndata = "eigene.csv"\n'
    declaration.write_text(f'title = "Eigene"\n\n{analysis}', encoding="utf-8")
    out = sheet.with_name("built")
    build_report(declaration, out=out, formats=("html",))
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    (row,) = results["analyses"]["a"]["coefficients"]
    assert row["estimate"] == pytest.approx(in_a_notebook.beta[0], rel=CLOSED_FORM)
    assert row["se"] == pytest.approx(in_a_notebook.se[0], rel=CLOSED_FORM)
    assert results["quantities"]["a"]["n_total"]["value"] == people(sheet)
