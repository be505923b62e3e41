"""Agreement of coders: printed and independent values, how sheets are matched, and what is listed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alliance_meta import InputError, NotApplicable
from alliance_meta.core.correlations import agreement as core
from alliance_meta.effects import coder_agreement
from alliance_meta.errors import DroppedRowsWarning
from tests.tolerances import CLOSED_FORM, printed

# Shrout & Fleiss (1979), Table 2: six targets, four judges.
JUDGED = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)
# The intervals are printed in the manual of R's psych package for the same data.
PRINTED = {"icc1": (".17", "-0.133", "0.72"), "icc2": (".29", "0.019", "0.76"), "icc3": (".71", "0.342", "0.95")}

ADA = pd.DataFrame(
    {
        "es_id": [1, 2, 3, 4, 5],
        "r": [0.2, 0.3, 0.1, 0.4, None],
        "rater": ["client", "client", "observer", "client", "therapist"],
        "rob": ["low", "high", "low", "some", "low"],
        "coder": "Ada",
        "note": ["x", None, None, None, None],
    }
)
BO = ADA.assign(
    r=[0.2, 0.3, 0.1, 0.14, 0.3],
    rater=["client", "therapist", " observer", "client", None],
    rob=["low", "some", "low", "low", "low"],
    coder="Bo",
)


@pytest.mark.parametrize("name", PRINTED)
def test_iccs_of_shrout_and_fleiss(name):
    found = getattr(core, name)(core.mean_squares(JUDGED))
    assert [found.estimate, found.lb, found.ub] == [printed(text) for text in PRINTED[name]]


def test_mean_squares_printed_by_shrout_and_fleiss():
    ms = core.mean_squares(JUDGED)
    assert [ms.between, ms.within, ms.raters, ms.error] == [printed(x) for x in ("11.24", "6.26", "32.49", "1.02")]


@given(arrays(np.int64, (4, 4), elements=st.integers(1, 30)))
def test_kappa_is_that_of_statsmodels(table):
    from statsmodels.stats.inter_rater import cohens_kappa

    for weights in ("none", "linear", "quadratic"):
        ours = core.kappa(table, weights=weights)
        theirs = cohens_kappa(table, wt=None if weights == "none" else weights)
        assert ours.estimate == pytest.approx(theirs.kappa, rel=1e-8, abs=1e-12)
        assert ours.se**2 == pytest.approx(theirs.var_kappa, rel=1e-6, abs=1e-10)


def test_kappa_printed_by_fleiss_cohen_and_everitt():
    """Fleiss, Cohen & Everitt (1969): 200 subjects, three categories; kappa .429."""
    table = 200 * np.array([[0.53, 0.05, 0.02], [0.11, 0.14, 0.05], [0.01, 0.06, 0.03]])
    assert core.kappa(table).estimate == printed(".429")


def test_quadratic_kappa_is_an_icc_in_large_samples():
    """Fleiss & Cohen (1973): with squared weights kappa is ICC(2, 1) but for a term of order 1/n."""
    rng = np.random.default_rng(3)
    first = rng.integers(0, 5, 20000)
    second = np.clip(first + rng.integers(-1, 2, 20000), 0, 4)
    table = np.zeros((5, 5))
    np.add.at(table, (first, second), 1.0)
    icc = core.icc2(core.mean_squares(np.column_stack([first, second]).astype(float)))
    assert core.kappa(table, weights="quadratic").estimate == pytest.approx(icc.estimate, abs=1e-4)


@given(arrays(float, (7, 2), elements=st.integers(-9, 9).map(float)), st.floats(-3, 3), st.floats(0.5, 4))
def test_iccs_do_not_depend_on_the_unit_and_only_two_see_a_shift(ratings, shift, unit):
    one, other = core.mean_squares(ratings), core.mean_squares(unit * ratings + 1)
    moved = core.mean_squares(ratings + np.array([0.0, shift]))
    for name in PRINTED:
        icc = getattr(core, name)
        np.testing.assert_allclose(icc(one).estimate, icc(other).estimate, rtol=1e-7, atol=1e-9)
    if one.error > 1e-9:
        np.testing.assert_allclose(core.icc3(moved).estimate, core.icc3(one).estimate, rtol=1e-7, atol=1e-9)


def test_two_sheets():
    found = coder_agreement(ADA, BO, ordered={"rob": ["low", "some", "high"]})
    table = found.tidy()["estimate"]
    assert (found.k, found.coders) == (5, ("first", "second"))
    assert set(table.index.get_level_values("column")) == {"r", "rater", "rob"}
    assert table["r", "percent"] == 0.6
    assert table["rater", "percent"] == 0.6
    kept = core.kappa(np.array([[2, 0, 1], [0, 1, 0], [0, 0, 0]]))
    assert table["rater", "kappa"] == pytest.approx(kept.estimate, rel=CLOSED_FORM)
    ratings = np.column_stack([ADA["r"], BO["r"]])[:4]
    assert table["r", "icc2"] == pytest.approx(core.icc2(core.mean_squares(ratings)).estimate, rel=CLOSED_FORM)
    assert {"kappa", "kappa_linear", "kappa_quadratic"} <= set(table["rob"].index)


def test_the_cells_that_differ_are_listed_and_no_others():
    found = coder_agreement(ADA, BO)
    cells = found.disagreements[["es_id", "column", "first", "second"]].fillna("-").values.tolist()
    assert cells == [
        [4, "r", 0.4, 0.14], [5, "r", "-", 0.3], [2, "rater", "client", "therapist"], [5, "rater", "therapist", "-"],
        [2, "rob", "high", "some"], [4, "rob", "some", "low"],
    ]  # fmt: skip
    assert found.disagreements["difference"].iloc[0] == pytest.approx(-0.26)
    assert "Cells that differ: 6" in str(found)


def test_rows_are_matched_by_key_whatever_their_order_and_the_others_named():
    other = pd.concat([BO.iloc[::-1], BO.iloc[[0]].assign(es_id=77)])
    with pytest.warns(DroppedRowsWarning, match="1 only by second"):
        found = coder_agreement(ADA, other)
    pd.testing.assert_frame_equal(found.disagreements, coder_agreement(ADA, BO).disagreements)
    assert found.unmatched.to_numpy().tolist() == [[77, "second"]]


def test_one_sheet_by_coder_or_by_columns_gives_the_same():
    two = coder_agreement(ADA, BO, columns=["r", "rater"])
    long = coder_agreement(pd.concat([ADA, BO]), coder="coder", columns=["r", "rater"])
    assert long.coders == ("Ada", "Bo")
    pd.testing.assert_frame_equal(long.tidy(), two.tidy())
    wide = ADA[["es_id", "r", "rater"]].assign(r2=BO["r"], rater2=BO["rater"])
    wide = coder_agreement(wide, columns={"r": ("r", "r2"), "rater": ("rater", "rater2")})
    pd.testing.assert_frame_equal(wide.tidy(), two.tidy())
    bare = coder_agreement(pd.DataFrame({"a": [0.1, 0.2], "b": [0.1, 0.3]}), columns={"r": ("a", "b")})
    assert bare.disagreements["line"].tolist() == [3]


def test_a_tolerance_makes_near_numbers_equal():
    assert coder_agreement(ADA, BO, tolerance=0.26).tidy()["estimate"]["r", "percent"] == 0.8


def test_what_does_not_exist_says_why_also_in_json():
    same = pd.DataFrame({"es_id": [1, 2], "a": "x", "b": [1.0, 1.0], "c": [1.0, 2.0], "d": [np.nan, np.nan]})
    found = coder_agreement(same, same)
    reasons = {key: value.reason for key, value in found.tidy()["estimate"].items() if isinstance(value, NotApplicable)}
    assert reasons["a", "kappa"] == "both coders used one and the same category throughout"
    assert reasons["b", "icc2"] == "the values do not vary"
    assert reasons["d", "icc1"] == "needs at least 2 rows that both coded"
    assert "never differ" in found.tidy()["ci_lb"]["c", "icc1"].reason
    assert not len(found.disagreements)
    text = json.dumps(coder_agreement(ADA, BO).to_dict(), allow_nan=False)
    assert json.loads(text)["disagreements"][1]["first"] is None
    assert "not_applicable" in json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: coder_agreement(ADA), "one sheet needs columns="),
        (lambda: coder_agreement(ADA, BO, by="id"), "has no column 'id'"),
        (lambda: coder_agreement(pd.concat([ADA, ADA]), BO), "es_id = 1 stands in more than one row"),
        (lambda: coder_agreement(ADA, BO.assign(es_id=range(10, 15))), "no row of the two sheets"),
        (lambda: coder_agreement(ADA, BO, columns=["ratr"]), "did you mean 'rater'"),
        (lambda: coder_agreement(ADA, BO, columns={"r": ("r", "r")}), "with two sheets"),
        (lambda: coder_agreement(ADA, columns={"r": "r2"}), "names two columns for each"),
        (lambda: coder_agreement(ADA, coder="coder"), "has 1 coders"),
        (lambda: coder_agreement(ADA, BO, ordered={"rob": ["low", "high"]}), "'some' is not in the given order"),
        (lambda: coder_agreement(ADA, BO, ordered={"robb": []}), "did you mean 'rob'"),
        (lambda: coder_agreement(ADA[["es_id"]], BO), "share no column"),
        (lambda: coder_agreement(ADA, BO, tolerance=-1), "must be 0 or more"),
        (lambda: coder_agreement(ADA, BO, level=95), "write 0.95"),
        (lambda: coder_agreement(3, BO), "needs tables"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_kappa_of_a_coder_who_used_one_category_is_0_without_an_interval():
    found = core.kappa(np.array([[5.0, 3.0], [0.0, 0.0]]))
    assert found.estimate == 0
    assert np.isnan([found.se, found.lb, found.ub]).all()
    frame = pd.DataFrame({"study": list("abcd"), "x_1": ["low"] * 4, "x_2": ["low", "high", "low", "high"]})
    table = coder_agreement(frame, columns={"x": ("x_1", "x_2")}).estimates
    assert table.loc[("x", "kappa"), "estimate"] == 0
    assert table.loc[("x", "kappa"), ["ci_lb", "ci_ub"]].isna().all()
