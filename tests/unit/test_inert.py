"""Outputs are inert: what stands in a sheet runs nowhere that our files are opened."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import alliance_meta as am
from alliance_meta.cli.app import app
from alliance_meta.effects.contract.template import write_template
from alliance_meta.reporting import build_report
from alliance_meta.tables.format import frame_csv, inert

HOSTILE = (
    "=HYPERLINK(1)",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1)",
    "\t=1",
    " =1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "-.5 [-.6, -.4]",
)
SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("text", HOSTILE)
def test_formulas_become_text(text: str) -> None:
    shown = "'" + " ".join(text.splitlines())
    assert inert(text) == shown
    rows = list(csv.reader(io.StringIO(frame_csv(pd.DataFrame({text: [text]}, index=[text])))))
    assert rows == [["", shown], [shown, shown]]


@pytest.mark.parametrize("value", ["-0.5", "+1e-3", "-.5", "-Inf", -0.5, 3, None, True, "a=1", "", "−.5", "–"])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert inert(value) == value
    assert type(inert(value)) is type(value)


def test_tables_of_reports_and_fits_hold_no_formula(tmp_path: Path) -> None:
    rows = [f'"{text}",{0.1 + i / 20},60,{"ab"[i % 2]},{i}' for i, text in enumerate((*HOSTILE, SCRIPT))]
    (tmp_path / "own.csv").write_text("\n".join(["study,r,n,=w,x", *rows]) + "\n", encoding="utf-8", newline="")
    declaration = '[[analysis]]\nid = "a"\nlabel = "=A"\ndata = "own.csv"\nshort = "=s"\n[[section]]\nheading = "=H"\n'
    items = "".join(
        f'[[section.item]]\ntable = "{name}"\nof = ["a"]\n{more}'
        for name, more in (("studies", 'columns = ["=w"]\n'), ("statistics", ""), ("comparison", ""))
    )
    (tmp_path / "own.toml").write_text(f'title = "{SCRIPT}"\n{declaration}{items}', encoding="utf-8")
    built = build_report(tmp_path / "own.toml", formats=["tables", "html"])
    tables = [path for path in built if path.suffix == ".csv"]
    names = {"results", "studies_a", "statistics_a", "comparison_a", "prisma_2020", "apa_mars"}
    assert {path.stem for path in tables} == names
    out = tmp_path / "fit.csv"
    result = CliRunner().invoke(app, ["fit", str(tmp_path / "own.csv"), "--mods", "x", "--out", str(out)])
    assert result.exit_code == 0, result.output
    quoted = 0
    for path in [*tables, out]:
        text = path.read_text(encoding="utf-8")
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert all(inert(cell) == cell for cell in cells)
        quoted += sum(cell.startswith("'") for cell in cells)
    assert quoted >= len(HOSTILE)
    page = next(path for path in built if path.suffix == ".html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_workbook_holds_no_formula(tmp_path: Path) -> None:
    write_template(tmp_path / "sheet")
    with zipfile.ZipFile(tmp_path / "sheet/effects.xlsx") as book:
        sheets = [book.read(name).decode() for name in book.namelist() if name.startswith("xl/worksheets/")]
    assert len(sheets) == 3
    assert not [sheet for sheet in sheets if "<f>" in sheet]


def test_notebooks_show_text_and_no_markup() -> None:
    es = am.EffectSizes.from_arrays([0.1, 0.2], [0.01, 0.02], measure="ZCOR", slab=[SCRIPT, "B"])
    found = am.sensitivity.match("r = .149 [.087, .209], k = 16", am.load_dataset("molloy2014"))
    hostile = type(found)(**{**vars(found), "source": SCRIPT}) if "source" in vars(found) else found
    for text in (es._repr_html_(), hostile._repr_html_(), am.evidence.umbrella()._repr_html_()):
        assert "<script" not in text
