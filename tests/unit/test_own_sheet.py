"""`reproduce` on a typed sheet: whether it gives the printed number, and which choice comes nearest."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from alliance_meta import CodingError, InputError, RandomEffectsModel, escalc, load_dataset, reproduce, write_template
from alliance_meta.cli import main
from alliance_meta.evidence.own_sheet import is_sheet


@pytest.fixture
def typed(tmp_path: Path):
    """Return a function that types the sixteen effects of a shipped set into a template, some of them twice."""

    def write(printed: dict[str, Any], *, twice: bool = False, r: str = "", **result: Any) -> Path:
        if not (tmp_path / "effects.csv").exists():
            write_template(tmp_path, "horvath2011")
        path = tmp_path / "effects.csv"
        header = path.read_text().splitlines()[0].split(",")
        stream = io.StringIO()
        writer = csv.DictWriter(stream, header)
        writer.writeheader()
        for i, row in load_dataset("kolden2011_congruence").frame.iterrows():
            for j in range(2 if twice and i == 0 else 1):
                text = {"study_id": f"s{i}", "es_id": f"e{i}{j}", "study": row["study"], "year": row["year"]}
                writer.writerow({**text, "r": r or row["r"], "n": row["n"]})
        path.write_text(stream.getvalue())
        package = json.loads((tmp_path / "datapackage.json").read_text())
        package["alliance_meta"]["published"] = [{"printed": printed, **result}]
        (tmp_path / "datapackage.json").write_text(json.dumps(package))
        return path

    return write


def printed_of(method: str) -> dict[str, str]:
    """Return what an article would print that pooled the sixteen effects by this estimator, with many digits."""
    fit = RandomEffectsModel(escalc(load_dataset("kolden2011_congruence")), method=method, test="z").fit()
    row = fit.predict(scale="r").iloc[0]
    numbers = {"estimate": row["pred"], "ci_lb": row["ci_lb"], "ci_ub": row["ci_ub"]}
    return {"k": "16", **{name: f"{value:.5f}" for name, value in numbers.items()}}


@pytest.mark.parametrize("method", ["DL", "HE"])
def test_a_printed_number_that_comes_out_names_its_route(typed, method: str) -> None:
    table = reproduce(typed(printed_of(method))).set_index("quantity")
    assert table["agrees"].tolist() == [True] * 4
    assert table.loc["estimate", "route"] == f"Fisher z, {method}, Wald z"
    assert table.loc["estimate", "dataset"] == "effects.csv"


def test_one_mean_per_study_is_a_choice_that_is_tried(typed) -> None:
    table = reproduce(typed({"k": "16", "estimate": ".250", "ci_lb": ".118", "ci_ub": ".373"}, twice=True))
    assert "one mean" in table["route"].iloc[0]
    assert "per study_id" in table["route"].iloc[0]
    assert table["agrees"].tolist() == [True] * 4


def test_a_number_that_does_not_come_out_shows_the_nearest_route(typed) -> None:
    table = reproduce(typed({"k": "190", "estimate": ".275"})).set_index("quantity")
    assert table["agrees"].tolist() == [False, False]
    note = table.loc["estimate", "note"]
    assert note.startswith("NOT reproduced: none of the")
    assert "The table gives k = 16 where 190 is printed: rows lack." in note
    assert 0.24 < table.loc["estimate", "ours"] < 0.275


def test_a_declared_route_is_followed(typed) -> None:
    route = {"ri": "r", "ni": "n", "measure": "ZCOR", "vtype": "LS", "method": "EE", "test": "z"}
    table = reproduce(typed({"estimate": ".263"}, route=route, scale="r"))
    assert table["route"].iloc[0] == "Fisher z, EE, Wald z"


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ({}, "lacks 'printed'"),
        ({"estimate": 0.275}, r"printed\.estimate is 0\.275; write it as the paper prints it"),
        ({"estimate": "about .3"}, r"printed\.estimate is 'about \.3'"),
    ],
)
def test_a_printed_result_that_cannot_be_read_is_named(typed, printed, message) -> None:
    with pytest.raises(InputError, match=message):
        reproduce(typed(printed))


def test_a_sheet_with_errors_is_the_users_to_mend(typed) -> None:
    with pytest.raises(CodingError, match=r"coded in percent\? write 0\.45"):
        reproduce(typed({"estimate": ".275"}, r="45"))
    with pytest.raises(InputError, match=r"scale is 'd'; write 'r' or 'z'"):
        reproduce(typed({"estimate": ".275"}, scale="d"))


def test_a_sheet_without_a_printed_result_says_where_to_put_one(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("study,r,n\nAda,.3,50\nBo,-.1,60\n")
    with pytest.raises(InputError, match="no printed result beside it; `alliance-meta template NAME`"):
        reproduce(path)


def test_files_are_told_from_data_sets(tmp_path: Path) -> None:
    assert not is_sheet("molloy2014")
    assert is_sheet("effects.csv")
    assert is_sheet(tmp_path / "molloy2014")


def test_the_command_line_goes_from_template_to_result(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["template", "martin2000"]) == 0
    assert capsys.readouterr().out.split() == [
        f"martin2000/{name}" for name in ("effects.csv", "effects.xlsx", "datapackage.json", "CODEBOOK.md")
    ]
    assert main(["template", "martin2000"]) == 2
    assert "may hold typed rows" in capsys.readouterr().err
    assert main(["template", "nobody1999"]) == 1
    assert main(["template", "sharf2010_dropout", "--out", "d"]) == 0
    assert "prints no pooled r to compare with" in capsys.readouterr().err
    sheet = Path("martin2000/effects.csv")
    header = sheet.read_text().strip().split(",")
    names = ["study_id", "es_id", "study", "year", "r", "n"]
    with sheet.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, header)
        for row in ("ada,1,Ada,2001,.31,48", "bo,2,Bo,2004,.1,120", "cy,3,Cy,2007,.2,61"):
            writer.writerow(dict(zip(names, row.split(","), strict=True)))
    assert main(["check", str(sheet), "--strict"]) == 0
    capsys.readouterr()
    assert main(["reproduce", str(sheet)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "The table gives k = 3 where 79 is printed" in out
    assert main(["codebook", "setting"]) == 0
    assert "day_hospital" in capsys.readouterr().out
    assert main(["codebook"]) == 0
    assert main(["codebook", "settng"]) == 1
