"""`reproduce` on a typed sheet: whether it gives the printed number, and which choice comes nearest."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from alliance_meta import CodingError, InputError, RandomEffectsModel, escalc, load_dataset, write_template
from alliance_meta.cli import main
from alliance_meta.evidence import reproduce
from alliance_meta.evidence.reproduction import is_sheet


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


# --- moderators -----------------------------------------------------------------------------------------


def rated(folder: Path, *levels: dict[str, Any], whole: dict[str, str] | None = None) -> Path:
    """Write a sheet with two raters in most studies, and what was printed of it."""
    rows = ["study_id,r,n,rater"]
    for i, row in load_dataset("kolden2011_congruence").frame.iterrows():
        rows += [f"s{i // 2},{row['r']},{row['n']},{'client' if i % 2 else 'observer'}"]
    (folder / "own.csv").write_text("\n".join(rows) + "\n")
    first = {"id": "horvath2011-printed", "printed": whole or {"estimate": ".25"}}
    package = {
        "resources": [{"path": "own.csv", "schema": {}}],
        "alliance_meta": {"published": [first, *levels]},
    }
    (folder / "datapackage.json").write_text(json.dumps(package))
    return folder / "own.csv"


def of_raters(rater: str, method: str = "HE") -> dict[str, str]:
    frame = load_dataset("kolden2011_congruence").frame
    half = frame[frame.index % 2 == (1 if rater == "client" else 0)]
    row = RandomEffectsModel(escalc(half), method=method, test="z").fit().predict(scale="r").iloc[0]
    return {"k": "8", "estimate": f"{row.pred:.4f}", "ci_lb": f"{row.ci_lb:.4f}", "ci_ub": f"{row.ci_ub:.4f}"}


# Half the rows of this set, read without its card, are three effects of Truax 1971.
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")
def test_levels_of_moderators_are_compared_by_the_route_of_the_whole(tmp_path: Path) -> None:
    level = {"moderator": "rater: client", "subset": "rater == 'client'", "printed": of_raters("client")}
    table = reproduce(rated(tmp_path, level, whole=printed_of("HE")))
    rows = table[table["quantity"].str.endswith("[rater: client]")]
    assert rows["agrees"].tolist() == [True] * 4
    assert set(rows["route"]) == {"Fisher z, HE, Wald z, where rater == 'client'"}
    assert rows["note"].str.startswith("By the route of the whole, each level alone.").all()


def test_a_level_by_another_route_says_so(tmp_path: Path) -> None:
    level = {"moderator": "rater: observer", "subset": "rater == 'observer'", "printed": of_raters("observer", "EE")}
    table = reproduce(rated(tmp_path, level, whole=printed_of("HE")))
    row = table[table["quantity"] == "estimate [rater: observer]"].iloc[0]
    assert row["agrees"]
    assert row["route"].startswith("Fisher z, EE, Wald z")
    assert "it is not given; 1 other usual route gives it" in row["note"]


def test_a_level_whose_rows_nobody_named_is_not_run(tmp_path: Path) -> None:
    table = reproduce(rated(tmp_path, {"moderator": "rater: client", "printed": {"estimate": ".25"}}))
    row = table[table["quantity"] == "estimate [rater: client]"].iloc[0]
    assert row["agrees"] is None
    assert "Say which rows are meant: subset in datapackage.json" in row["note"]


def test_a_level_with_rows_that_cannot_be_named_is_an_error(tmp_path: Path) -> None:
    path = rated(tmp_path, {"moderator": "m: x", "subset": "nothing == 1", "printed": {"estimate": ".25"}})
    with pytest.raises(InputError, match="nothing"):
        reproduce(path)


def test_moderators_without_a_value_are_shown_as_the_article_has_them(tmp_path: Path, capsys) -> None:
    path = rated(tmp_path)
    table = reproduce(path)
    rows = table[table["result"] == "horvath2011-moderators"].set_index("quantity")
    assert rows.loc["moderator [alliance rater]", "printed"] == "client; therapist; observer"
    assert rows["agrees"].isna().all()
    assert main(["reproduce", str(path)]) == 0
    out = capsys.readouterr().out
    assert "moderator [alliance rater]" in out
    assert "the article prints no value" in " ".join(out.split())
    assert "1 printed numbers" in out


def test_a_template_brings_the_printed_levels_along(tmp_path: Path) -> None:
    write_template(tmp_path, "welmers2018_level")
    published = json.loads((tmp_path / "datapackage.json").read_text())["alliance_meta"]["published"]
    levels = {one["moderator"]: one for one in published if "moderator" in one}
    assert len(levels) == 12
    assert levels["referral source: help-seeking"]["printed"] == {
        "k": "9",
        "n_effects": "154",
        "estimate": ".277",
        "se": ".061",
    }
    assert all(one["subset"] is None for one in levels.values())
    assert not any("INTERCEPT" in name for name in levels)


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
