"""`escalc`: what goes in, what is refused, what is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import CodingError, EffectSizes, InputError, escalc, load_dataset
from alliance_meta.errors import DependenceWarning, DroppedRowsWarning

SHEET = pd.DataFrame(
    {
        "study": ["Ahn 2010", "Bell", "Bell", "Cox 2012"],
        "year": [2010, 2011, 2013, 2012],
        "r": [0.1, 0.2, -0.3, 0.4],
        "n": [20, 30, 40, 50],
        "rater": ["client", "therapist", "client", "observer"],
    }
)


def sheet(**changes):
    return SHEET.assign(**changes)


def test_fisher_z_and_its_variance():
    es = escalc(SHEET)
    np.testing.assert_array_equal(es.yi, np.arctanh(SHEET["r"]))
    np.testing.assert_array_equal(es.vi, 1 / (SHEET["n"] - 3.0))
    assert es.k == len(es) == 4
    assert es.columns == {"ri": "r", "ni": "n"}
    assert list(es.moderators) == list(SHEET)
    assert "escalc measure=ZCOR" in es.provenance.steps[0]


def test_nothing_in_the_table_can_be_changed():
    es = escalc(SHEET)
    with pytest.raises(ValueError, match="read-only"):
        es.yi[0] = 9
    moderators, frame = es.moderators, es.frame
    moderators["rater"] = "changed"
    frame["yi"] = 0
    assert es.moderators["rater"][0] == "client"
    assert es.frame["yi"][0] == es.yi[0]
    with pytest.raises(AttributeError):
        es.measure = "COR"


def test_labels_join_the_year_only_where_none_stands_in_them():
    assert escalc(SHEET).slab == ("Ahn 2010", "Bell 2011", "Bell 2013", "Cox 2012")
    plain = sheet(study=["Ahn", "Bell", "Bell", "Cox"])
    assert escalc(plain).slab == ("Ahn 2010", "Bell 2011", "Bell 2013", "Cox 2012")
    assert escalc(SHEET, slab=["rater", "year"]).slab[1] == "therapist 2011"
    with pytest.warns(DependenceWarning, match="each of the 4 rows counts as a study of its own"):
        es = escalc(SHEET.drop(columns=["study", "year"]))
    assert es.slab == es.study_id == ("Study 1", "Study 2", "Study 3", "Study 4")
    assert [note.code for note in es.notes] == ["no-study-column"]


def test_study_ids_may_come_from_a_column():
    assert escalc(SHEET, study_id="year").study_id == ("2010", "2011", "2013", "2012")
    assert escalc(SHEET).study_id == ("Ahn 2010", "Bell 2011", "Bell 2013", "Cox 2012")


def test_rows_without_r_or_n_are_dropped_aloud():
    with pytest.warns(DroppedRowsWarning, match="2 of 4 rows left out because r or n is missing: Bell 2011, Cox 2012"):
        es = escalc(sheet(r=[0.1, np.nan, 0.2, 0.3], n=[20, 30, 40, np.nan]))
    assert es.k == 2
    assert [note.code for note in es.notes] == ["dropped-rows"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"r": [0.1, 45, 0.2, 0.3]}, "line 3, r: 45 is outside (-1, 1); coded in percent? write 0.45 (Bell 2011)"),
        (
            {"r": [0.1, 1, 0.2, 0.3]},
            "line 3, r: 1 is a perfect correlation, whose Fisher z is infinite; check the paper",
        ),
        ({"r": ["0.1", "31%", "0.2", "0.3"]}, "line 3, r: '31%' is not a number; write 0.31"),
        ({"r": ["0.1", "high", "0.2", "0.3"]}, "line 3, r: 'high' is not a number"),
        ({"n": [20, 3, 40, 50]}, "line 3, n: 3 is too small for ZCOR: the variance of Fisher z is 1/(n - 3)"),
        ({"n": [20, 30.5, 40, 50]}, "line 3, n: 30.5 is not a whole number of people"),
        ({"r": [0.1, np.inf, 0.2, 0.3]}, "line 3, r: is infinite; leave the cell empty"),
    ],
)
def test_each_bad_cell_is_named_with_its_mend(changes, words):
    with pytest.raises(CodingError) as error:
        escalc(sheet(**changes))
    assert words in str(error.value)
    assert len(error.value.problems) == 1


def test_all_problems_come_in_one_pass_in_the_order_of_the_lines():
    with pytest.raises(CodingError) as error:
        escalc(sheet(r=[0.1, 2, 0.2, -1.5], n=[2, 30, 40, 1.5]))
    assert [(p.row, p.column) for p in error.value.problems] == [(2, "n"), (3, "r"), (5, "r"), (5, "n")]


def test_a_column_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"no column 'R'; did you mean 'r'.*Columns: study, year, r, n, rater"):
        escalc(SHEET, ri="R")


def test_text_is_not_a_table():
    with pytest.raises(InputError, match=r"needs a table .* not str; read a file with read_coded"):
        escalc("sheet.csv")


def test_no_usable_row():
    with pytest.raises(InputError, match="no row has both r and n"):
        escalc(sheet(r=[np.nan] * 4))


@pytest.mark.parametrize("option", [{"measure": "zcor"}, {"vtype": "ls"}])
def test_options_are_spelled_out(option):
    with pytest.raises(InputError, match=r"is not one of .*; did you mean '(ZCOR|LS)'"):
        escalc(SHEET, **option)


def test_rows_that_must_not_be_pooled_carry_a_note():
    assert "not-poolable" in {n.code for n in escalc(load_dataset("oswald2013_ex1")).notes}
    table = load_dataset("alliance_abstracts").query("r.notna()")
    assert "not-all-poolable" not in {n.code for n in escalc(table).notes}


def test_arrays_of_unequal_length_and_bad_values():
    with pytest.raises(InputError, match="yi has 2 rows but vi has 1"):
        EffectSizes.from_arrays([0.1, 0.2], [0.1])
    with pytest.raises(InputError, match="yi is empty"):
        EffectSizes.from_arrays([], [])
    with pytest.raises(CodingError, match="a sampling variance must be positive and finite, not 0"):
        EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.0])
