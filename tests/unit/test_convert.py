"""`convert`, `to_r` and `alliance-meta convert`: what is filled in, what is kept, what is refused and what is said."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from alliance_meta import CodingError, InputError, NotApplicable, convert, escalc
from alliance_meta.cli import main
from alliance_meta.core.correlations import conversions as one
from alliance_meta.core.correlations import conversions as two
from alliance_meta.effects import Conversion, conversions, to_r
from alliance_meta.effects.contract.vocabulary import CALCULATIONS, R_TYPES
from alliance_meta.errors import AdaptedInputWarning, DroppedRowsWarning

SHEET = pd.DataFrame(
    {
        "study": ["A", "B", "C", "D", "E"],
        "r": [0.3, None, None, None, None],
        "n": [60, 40, None, 80, None],
        "es_type": ["r", "t", "Cohen's d", "p", "partial t"],
        "es_value": [None, 2.1, 0.5, 0.03, -2.0],
        "n1": [None, None, 20, None, None],
        "n2": [None, None, 30, None, None],
        "df": [None, None, None, None, 45],
        "n_predictors": [None, None, None, None, 4],
        "es_sign": [None, None, None, "negative", None],
        "page": ["12", "13", "14", "15", "16"],
    }
)


@pytest.fixture
def table():
    with pytest.warns(AdaptedInputWarning, match=r"1 row: a partial or semi-partial correlation answers"):
        return convert(SHEET)


def test_rows_with_r_stay_and_the_others_are_filled(table):
    frame = table.frame
    assert frame["r"].iloc[0] == 0.3
    expected = [float(one.t_to_r(2.1, 38.0)), float(two.d_to_r(0.5, 48 * (1 / 20 + 1 / 30)))]
    np.testing.assert_allclose(frame["r"].iloc[1:3], expected)
    assert frame["n"].tolist() == [60, 40, 50, 80, 50]
    assert frame["es_calc"].tolist() == ["reported", "from_t", "from_d", "from_p", "from_partial"]
    assert frame["r_type"].fillna("").tolist() == ["", "zero-order", "zero-order", "zero-order", "partial"]
    assert np.isnan(frame["r_var"].iloc[0])
    assert np.isfinite(frame[["r_var", "z_var"]].iloc[1:].to_numpy()).all()
    assert frame["r"].iloc[3] < 0


def test_what_was_coded_is_kept_and_the_caller_keeps_his_frame(table):
    before = SHEET.copy(deep=True)
    kept = [name for name in SHEET if name not in ("r", "n")]
    pd.testing.assert_frame_equal(table.frame[kept], SHEET[kept])
    pd.testing.assert_frame_equal(SHEET, before)
    assert table.notes[0].message == "4 correlations were converted: 1 from t, 1 from d, 1 from p, 1 from partial_t."
    assert table.provenance.steps == ("convert: 4 of 5 correlations from other statistics",)


def test_converting_twice_changes_nothing(table):
    again = convert(table)
    pd.testing.assert_frame_equal(again.frame, table.frame)


def test_converted_rows_keep_their_variance_or_count_as_r_or_go(table):
    kept, plain, without = (escalc(table, converted=how) for how in ("keep", "as_r", "drop"))
    np.testing.assert_allclose(kept.vi, [1 / 57, *table.frame["z_var"].iloc[1:]])
    np.testing.assert_allclose(plain.vi, 1 / (table.frame["n"] - 3))
    np.testing.assert_array_equal(kept.yi, plain.yi)
    assert (without.k, without.slab) == (1, ("A",))
    raw = escalc(table, measure="COR")
    np.testing.assert_allclose(raw.vi[1:], table.frame["r_var"].iloc[1:])
    said = {es.notes[-1].code for es in (kept, without)}
    assert said == {"converted-rows", "converted-dropped"}
    assert "converted=drop" in without.provenance.steps[-1]


def test_the_reviewers_own_word_in_es_calc_is_enough_to_drop_a_row():
    frame = pd.DataFrame(
        {"study": list("abc"), "r": [0.1, 0.2, 0.3], "n": 50, "es_calc": ["reported", "from_beta", "author"]}
    )
    assert escalc(frame, converted="drop").yi == pytest.approx(np.arctanh([0.1, 0.3]))
    assert escalc(frame).vi == pytest.approx(1 / 47)
    with pytest.raises(InputError, match="'keep', 'as_r', 'drop'"):
        escalc(frame, converted="no")


def test_an_r_beside_another_statistic_is_kept_and_how_it_was_got_left_open():
    frame = pd.DataFrame(
        {"r": [0.12, 0.2, 0.3], "n": 50, "es_type": ["beta", "r", None], "es_value": [0.07, 0.2, None]}
    )
    table = convert(frame)
    assert table.frame["r"].tolist() == [0.12, 0.2, 0.3]
    assert table.frame["es_calc"].isna().tolist() == [True, False, False]
    assert [note.message for note in table.notes] == [
        "1 row with another statistic in es_type has an r too, which was kept."
    ]


def test_every_problem_of_the_sheet_is_told_at_once():
    bad = pd.DataFrame(
        {
            "es_type": ["tt", "p", "f", "or", "t", "d", "beta", "d", "eta2", "spearman"],
            "es_value": [1, 1.2, -4, 0, "2,1", 0.5, "<.3", 0.4, 0.2, 1.1],
            "n": [40, 40, 40, 40, 40, 60, 40, 2.5, 40, 40],
            "n1": [None, None, None, None, None, 20, None, None, None, None],
            "n2": [None, None, None, None, None, 30, None, None, None, None],
            "df": [None, None, 30, None, None, None, None, None, None, None],
            "es_sign": [None, 1, 1, None, None, None, None, None, "up", None],
        }
    )
    with pytest.raises(CodingError) as caught:
        convert(bad)
    text = "\n".join(map(str, caught.value.problems))
    for part in (
        "line 2, es_type: 'tt' is not one of", "did you mean 't'?", "line 3, es_value: 1.2 is a share",
        "line 4, es_value: -4 cannot be negative (f)", "line 4, df: 30 is not n - 2",
        "line 5, es_value: 0 must be above 0",
        "'2,1' is not a number; write 2.1", "line 7, n: 60 is not n1 + n2", "an inequality gives only a bound",
        "line 9, n: 2.5 must be a whole number", "line 10, es_sign: 'up' is no direction", "1.1 is outside (-1, 1)",
    ):  # fmt: skip
        assert part in text
    assert len(caught.value.problems) == 11


def test_a_row_that_lacks_something_stays_empty_and_is_named():
    sheet = pd.DataFrame({"es_type": ["f", "d", "t"], "es_value": [4.0, 0.5, 2.0], "n": [40, None, 30]})
    with pytest.warns(
        DroppedRowsWarning, match=r"2 rows could not .*line 2 \(f\) lacks es_sign; line 3 \(d\) lacks n1 and"
    ):
        table = convert(sheet)
    assert table.frame["r"].notna().tolist() == [False, False, True]
    assert table.frame["es_calc"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("es_type", "value", "cells", "said"),
    [
        ("beta", 0.2, {"n": 50}, "the rule imputes one"),
        ("beta", 0.7, {"n": 50}, "fitted to values within 0.5"),
        ("ns", None, {"n": 50}, "pulls the mean towards zero"),
        ("or", 2.0, {"n1": 20, "n2": 30}, "needs es_se"),
        ("d", 0.4, {"n": 50}, "two groups of equal size were assumed"),
    ],
)
def test_imputations_and_assumptions_are_said(es_type, value, cells, said):
    assert any(said in note.message for note in to_r(es_type, value, **cells).notes)


def test_the_rule_of_peterson_and_brown():
    assert [to_r("beta", b, n=50).r for b in (0.2, 0.0, -0.2)] == pytest.approx([0.25, 0.05, -0.2])
    assert to_r("beta", 0.2, n=50).r_type == "beta-converted"


def test_an_odds_ratio_without_standard_error_has_no_variance_of_its_own():
    found = to_r("or", 2.0, n1=20, n2=30)
    assert isinstance(found.r_var, NotApplicable)
    assert "es_se" in found.r_var.reason
    with_se, with_interval = to_r("or", 2.0, n=50, es_se=0.5), to_r("or", 2.0, n=50, es_lb=0.750651, es_ub=5.328706)
    assert with_se.r_var == pytest.approx(with_interval.r_var, rel=1e-4)
    sheet = pd.DataFrame({"es_type": ["or"], "es_value": [2.0], "n1": [20], "n2": [30]})
    with pytest.warns(AdaptedInputWarning, match="the variance of an r is used"):
        assert escalc(convert(sheet)).vi == pytest.approx(1 / 47)


def test_one_tailed_p_values_and_their_side():
    two_tailed = to_r("p", 0.04, n=50, es_sign=1).r
    assert to_r("p", 0.02, n=50, es_sign=1, es_tails=1).r == pytest.approx(two_tailed)
    assert to_r("p", 0.98, n=50, es_sign=1, es_tails=1).r == pytest.approx(-two_tailed)


def test_a_slope_among_several_predictors_is_partial():
    assert to_r("slope", 0.4, es_se=0.1, df=36).r_type == "partial"
    assert to_r("slope", 0.4, es_se=0.1, n=40, n_predictors=1).r_type == "zero-order"
    found = to_r("slope", 0.4, es_se=0.1, n=40, n_predictors=3)
    assert (found.r_type, found.r) == ("partial", pytest.approx(4 / np.sqrt(16 + 36)))


def test_soper_exact_and_approximate_agree_where_r_is_small():
    x = np.array([0.05]), np.array([40.0]), np.array([60.0])
    exact, rough = two.from_split(*x), two.from_split(*x, exact=False)
    assert exact.r == rough.r
    assert exact.var_r == pytest.approx(rough.var_r, rel=0.01)
    x = np.array([0.5]), np.array([40.0]), np.array([60.0])
    assert two.from_split(*x).var_r > two.from_split(*x, exact=False).var_r


def test_a_biserial_r_beyond_one_is_refused():
    with pytest.raises(CodingError, match=r"r_pb gives r = 1\.1.*outside \(-1, 1\)"):
        to_r("r_pb", 0.9, n1=30, n2=30)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: to_r("q", 1.0), "'q' is not one of"),
        (lambda: to_r("d", 0.5), "d needs n1 and n2, or n"),
        (lambda: to_r("partial_t", 2.0), "partial_t needs df, or n and n_predictors"),
        (lambda: to_r("d", 0.5, m=3), "'m' is not known"),
        (lambda: to_r("", 0.5), "no statistic is named"),
        (lambda: convert(SHEET.drop(columns="es_type")), "no column 'es_type'.*it names the statistic"),
        (lambda: convert([1]), "needs a table"),
    ],
)
def test_what_cannot_be_done_is_refused(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_words_are_those_of_the_coding_contract():
    table = conversions()
    assert set(table["es_calc"]) <= set(CALCULATIONS.values)
    assert set(table["r_type"]) <= set(R_TYPES.values)
    assert (table["formula"].str.len() > 5).all()
    assert (table["source"].str.len() > 5).all()


def test_a_conversion_prints_and_becomes_plain_values():
    found = to_r("t", 2.1, n=40)
    assert isinstance(found, Conversion)
    assert found.to_dict()["inputs"] == {"es_value": 2.1, "n": 40, "df": 38}
    assert repr(found) == str(found)
    assert "formula: r = t / sqrt(t^2 + df)" in str(found)


@pytest.mark.parametrize(
    ("args", "code", "out", "err"),
    [
        (["d=0.5", "n1=20", "n2=30"], 0, "r = 0.2425 (zero-order)", ""),
        (["F = 4.4 df = 38 sign=+"], 0, "r = 0.3221", ""),
        (["m1=5 sd1=2 n1=20 m2=4 sd2=2 n2=25"], 0, "means: m1 = 5", ""),
        (["d=0.5 n=40"], 0, "r = ", "note: 1 row: only n was given"),
        (["--list"], 0, "Spearman's rank correlation", ""),
        (["d=0,5 n=40"], 1, "", "write 0.5"),
        (["d=0.5 t=2 n=40"], 1, "", "two statistics"),
        (["d=0.5 n=40 n=50"], 1, "", "given twice"),
        (["F=4 df=38 sgn=1"], 1, "", "did you mean 'sign'?"),
        (["nonsense"], 1, "", "cannot be read"),
        (["--nonsense"], 2, "", "No such option"),
    ],
)
def test_the_command(capsys, args, code, out, err):
    with warnings.catch_warnings():
        assert main(["convert", *args]) == code
    captured = capsys.readouterr()
    assert out in captured.out
    assert err in captured.err


def test_the_command_speaks_json(capsys):
    assert main(["convert", "or=2 n=50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["es_calc"] == "from_OR"
    assert "es_se" in found["r_var"]["not_applicable"]
    assert main(["convert", "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["conversions"]) == len(conversions())
