"""`match`: what it reads, how it ranks, what it says."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.cli import main
from alliance_meta.errors import CodingError, InputError
from alliance_meta.evidence.printed import cut_off, distance, half_unit, read_number
from alliance_meta.evidence.route_engine import follow
from alliance_meta.evidence.routes import Route, code, route_from
from alliance_meta.evidence.scan import read_line
from alliance_meta.sensitivity import match
from tests.tolerances import CLOSED_FORM


@pytest.fixture(scope="module")
def molloy():
    return am.load_dataset("molloy2014")


def dependent() -> pd.DataFrame:
    """Six studies, three of them with two effects."""
    rows = [("A", 0.3, 50), ("A", 0.2, 50), ("B", 0.1, 80), ("C", 0.5, 40), ("C", 0.4, 40), ("D", 0.2, 120)]
    rows += [("E", 0.25, 60), ("E", 0.45, 60), ("F", 0.15, 90)]
    return pd.DataFrame(rows, columns=["study_id", "r", "n"])


# --- reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scale", "numbers"),
    [
        ("r=.149 [.087, .209]", "r", {"estimate": ".149", "ci_lb": ".087", "ci_ub": ".209"}),
        (".27", "r", {"estimate": ".27"}),
        ("z = .15 (SE .03), p < .001", "z", {"estimate": ".15", "se": ".03", "pval": "< .001"}),
        (
            "The mean was r = .24, 95% CI [.12, .36]. Heterogeneity: Q(15) = 38.16, I2 = 61.7%, k = 16, N = 863",
            "r",
            {"estimate": ".24", "ci_lb": ".12", "QE": "38.16", "QEdf": "15", "I2": "61.7%", "k": "16", "N": "863"},
        ),
    ],
)
def test_a_printed_line_is_read_as_papers_write_it(text, scale, numbers) -> None:
    line = read_line(text)
    assert line.scale == scale
    assert {name: line.numbers[name].text for name in numbers} == numbers
    assert line.ignored == ()


def test_what_is_not_read_is_said(molloy) -> None:
    assert read_line("r = .15, zeta 3.1").ignored == ("zeta 3.1",)
    assert read_line("r = .15, d = .30").ignored == ("d .30",)
    notes = {note.code: note.message for note in match("r = .15, zeta 3.1", molloy).notes}
    assert notes["not-compared"] == "Not compared: zeta 3.1."


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("d = .50 [.40, .60]", "neither a correlation nor Fisher's z"),
        ("nothing", "holds no result that can be read"),
        ("Q(15) = 38.2, p < .001", "no estimate among the printed numbers"),
        ("r = .15. Then r = .16", "prints estimate twice"),
        ({"estimate": 0.15}, "write it as printed, in quotation marks"),
        ({"estimate": "about"}, "is not a printed number"),
        ({"estimate": ".15", "ci_lb": ".10"}, "both limits"),
        ({"k": "16"}, "no estimate"),
        ({"estmate": ".15"}, "did you mean 'estimate'"),
        (3, "give text such as"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(printed, message) -> None:
    with pytest.raises(InputError, match=message):
        read_line(printed)


def test_the_level_of_the_interval_counts(molloy) -> None:
    fit = am.RandomEffectsModel(am.escalc(molloy), test="z", level=0.9).fit().predict(scale="r").iloc[0]
    found = match(f"r = {fit.pred:.4f}, 90% CI [{fit.ci_lb:.4f}, {fit.ci_ub:.4f}]", molloy)
    assert found.best.route.words == "Fisher z, REML, Wald z"
    assert found.outcome == "usual"
    again = match({"r": f"{fit.pred:.4f}", "ci_lb": f"{fit.ci_lb:.4f}", "ci_ub": f"{fit.ci_ub:.4f}"}, molloy, level=0.9)
    assert again.fits[0].route == found.fits[0].route


# --- nearness -------------------------------------------------------------------------------------------


def test_half_units_and_digits_cut_off() -> None:
    assert half_unit(".087") == pytest.approx(0.0005, rel=CLOSED_FORM)
    assert distance(0.0878, ".087") == pytest.approx(1.6, rel=1e-6)
    values = np.array([0.0878, 0.0869, 0.0880])
    assert cut_off(values, read_number(".087")).tolist() == [True, False, False]
    assert cut_off(-values, read_number("-.087")).tolist() == [True, False, False]
    with pytest.raises(InputError, match="is not a printed number"):
        half_unit("about .3")


def test_a_slip_needs_two_numbers_beside_it(molloy) -> None:
    """That .1488 reads .148 once cut off says little where .148 is all that is printed."""
    assert match("r = .148", molloy).slips == ()
    assert [one.route.words for one in match("r=.148 [.088, .209]", molloy).slips] == ["Fisher z, REML, Wald z"]


# --- ranking --------------------------------------------------------------------------------------------


def test_a_number_of_digits_names_one_route(molloy) -> None:
    for method, test in (("DL", "z"), ("HE", "knha"), ("HS", "t")):
        fit = am.RandomEffectsModel(am.escalc(molloy, measure="UCOR", vtype="UB"), method=method, test=test).fit()
        printed = {"estimate": f"{fit.beta[0]:.6f}", "ci_lb": f"{fit.ci_lb[0]:.6f}", "ci_ub": f"{fit.ci_ub[0]:.6f}"}
        found = match(printed, molloy)
        assert [(one.route.method, one.route.test, one.route.measure) for one in found.fits] == [(method, test, "UCOR")]
        assert found.outcome == "rare"


def test_routes_that_are_the_same_are_all_named(molloy) -> None:
    """Paule and Mandel's tau2 makes Q equal to k - 1, and so the factor of Knapp and Hartung 1."""
    fit = am.RandomEffectsModel(am.escalc(molloy), method="PM", test="knha").fit().predict(scale="r").iloc[0]
    found = match(f"r = {fit.pred:.6f} [{fit.ci_lb:.6f}, {fit.ci_ub:.6f}]", molloy)
    assert {one.route.test for one in found.fits} == {"knha", "t", "adhoc"}
    assert {one.route.method for one in found.fits} == {"PM"}


def test_three_level_and_averaged_routes_are_told_apart() -> None:
    table = dependent()
    es = am.escalc(table, study_id="study_id")
    fit = am.MultilevelModel(es, random=("study_id", "es_id"), test="t", dfs="contain").fit()
    row = fit.predict(scale="r").iloc[0]
    found = match(f"r = {row.pred:.5f} [{row.ci_lb:.5f}, {row.ci_ub:.5f}]", table)
    assert [one.route.words for one in found.fits] == ["Fisher z, three-level (study_id / row), REML, t (groups - 1)"]
    assert found.outcome == "usual"
    mean = am.RandomEffectsModel(am.aggregate(es, rho=0.5), method="DL", test="z").fit().predict(scale="r").iloc[0]
    found = match(f"r = {mean.pred:.5f} [{mean.ci_lb:.5f}, {mean.ci_ub:.5f}], k = 6", table)
    assert [one.route.words for one in found.fits if one.route.usual] == [
        "Fisher z, DL, Wald z, one mean per study_id (rho .5)"
    ]


def test_routes_to_another_number_of_studies_come_last() -> None:
    found = match("r = .28, k = 6", dependent())
    assert found.best.values["k"] == 6
    everything = found.search.best()
    assert {one.values["k"] for one in everything[-5:]} == {9.0}


def test_the_table_says_what_routes_differ_in(molloy) -> None:
    frame = match("r=.149 [.088, .209]", molloy).tidy()
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    assert frame.loc[0, "differs_in"] == ""
    assert frame.loc[1, "route"] == "Fisher z, DL, Wald z"
    assert frame.loc[1, "differs_in"] == "estimator"
    assert frame["usual"].iloc[0]


def test_counts_are_said_and_right(molloy) -> None:
    found = match("r = .15", molloy)
    assert found.tried == len(found.search) == 7 * 8 + 3
    assert found.usual == sum(route.usual for route in found.search.followed.routes)
    values = found.search.followed.values["estimate"]
    assert found.different == len(np.unique(np.round(values / 0.01)))
    assert f"{found.tried} routes followed, {found.usual} of them usual" in str(found)
    assert f"{len(found.fits)} routes give the printed one" in str(found)


def test_everything_is_ready_for_json(molloy) -> None:
    found = match("r=.149 [.087, .209], p < .001, t = 3", molloy).to_dict()
    text = json.dumps(found, default=str)
    assert "Infinity" not in text
    assert "NaN" not in text.replace("NotApplicable", "")
    assert found["routes"][0]["route"]["method"]
    assert (
        match("r = .3", molloy)
        ._repr_html_()
        .startswith("<div><p><strong>printed: r = .3 (molloy2014)</strong><br>NONE of")
    )


# --- tables ---------------------------------------------------------------------------------------------


def test_a_scale_that_cannot_be_made_is_not_tried() -> None:
    table = pd.DataFrame({"study": list("ABCD"), "r": [0.1, 0.2, 0.3, 0.25], "n": [40, 50, 60, 4]})
    found = match("r = .22", table)
    assert {route.measure for route in found.search.followed.routes} == {"ZCOR", "COR"}
    assert any(note.code == "not-tried" and note.message.startswith("unbiased r") for note in found.notes)


def test_studies_without_a_name_are_not_put_together() -> None:
    table = dependent()
    table.loc[3, "study_id"] = None
    with pytest.raises(CodingError, match=r"line 5, study_id: the study is empty"):
        match("r = .28", table)


def test_what_match_refuses() -> None:
    with pytest.raises(CodingError, match="outside"):
        match("r = .2", pd.DataFrame({"study": ["A"], "r": [1.2], "n": [40]}))
    with pytest.raises(InputError, match="needs rows"):
        match("r = .2", [1, 2])
    with pytest.raises(InputError, match="puts no two effects together"):
        match("r = .2", am.load_dataset("molloy2014"), cluster="study_id", subset="n > 10")
    with pytest.raises(InputError, match="scale='d'"):
        match("r = .2", dependent(), scale="d")


def test_people_of_another_number_are_noted() -> None:
    found = match("r = .28, N = 999", dependent())
    assert any(note.code == "other-people" and "N = 999 is printed" in note.message for note in found.notes)


# --- routes ---------------------------------------------------------------------------------------------


# Papers took dependent effects as independent, and their routes are followed as they are.
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")
@pytest.mark.parametrize(
    "route",
    [
        Route("r", "n"),
        Route("r", "n", measure="COR", vtype="AV", method="DL", test="knha", subset="n > 45"),
        Route("r", "n", per="study_id", how="CS", rho=0.5),
        Route("r", "n", measure="COR", model="mean", method="ni"),
        Route("r", "n", model="multilevel", random=("study_id", "es_id"), test="t", dfs="residual", rho=0.6),
        Route("r", "n", model="multilevel", random=("study_id", "es_id"), test="t", robust="study_id"),
        Route("r", "n", model="rve", method="CORR", test="t", rho=0.8, random="study_id"),
    ],
)
def test_the_code_of_a_route_follows_it(route) -> None:
    table = am.load_dataset("oswald2013_ex1")
    value = eval(code(route), {"am": am, "table": table})
    expected = follow(route, table, scale="z")["estimate"]
    got = value.rows["estimate"].iloc[0] if hasattr(value, "rows") else value.beta[0]
    assert float(got) == pytest.approx(expected, rel=CLOSED_FORM)


def test_a_route_goes_through_a_data_card_and_back() -> None:
    route = Route("r", "n", model="multilevel", random=("study_id", "es_id"), test="t", dfs="contain", rho=0.8)
    again = route_from(json.loads(json.dumps(route.to_dict())))
    assert again == route
    assert again.differs_from(Route("r", "n")) == ("correlation assumed", "model", "inference")
    with pytest.raises(InputError, match="a route has no 'metod'; did you mean 'method'"):
        route_from({"ri": "r", "ni": "n", "metod": "DL"})


# --- the command ----------------------------------------------------------------------------------------


def run(capsys, *args: str) -> tuple[int, str, str]:
    status = main(args)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_names_the_route(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    am.load_dataset("molloy2014").frame[["study", "year", "r", "n"]].to_csv("sheet.csv", index=False)
    status, out, err = run(capsys, "match", "sheet.csv", "--printed", "r=.149 [.087, .209]")
    assert status == 0
    assert "1. Fisher z, REML, Wald z [usual; fits, one number cut off]" in out
    assert "differs from 1 in: estimator" in out
    assert "no proof that it was taken" in err


def test_the_command_takes_what_the_data_card_prints(capsys) -> None:
    status, out, _ = run(capsys, "match", "farber2011_positive_regard", "--json")
    assert status == 0
    matches = json.loads(out)["matches"]
    assert [one["printed"]["estimate"] for one in matches] == [".27", "0.304669", "0.310123"]
    assert [one["outcome"] for one in matches] == ["rare", "usual", "rare"]
    assert all(math.isfinite(one["tried"]) for one in matches)


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (("molly2014", "--printed", "r=.1"), 2, "did you mean 'molloy2014'"),
        (("none.csv", "--printed", "r=.1"), 2, "none.csv"),
        (("molloy2014", "--printed", "words"), 1, "holds no result"),
        (("alliance_abstracts",), 1, "has no printed mean"),
    ],
)
def test_what_the_command_cannot_do(capsys, args, status, message) -> None:
    found, out, err = run(capsys, "match", *args)
    assert (found, out) == (status, "")
    assert message in err
