"""Effects and covariances from correlation matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.errors import CodingError, DroppedRowsWarning, InputError, NotPositiveDefiniteWarning
from tests.tolerances import CLOSED_FORM

NAMES = ["client", "therapist", "outcome"]
R = pd.DataFrame([[1, 0.4, 0.3], [0.4, 1, 0.2], [0.3, 0.2, 1]], index=NAMES, columns=NAMES)


def long(**changes):
    return pd.DataFrame(
        {
            "study": ["A", "A", "A", "B"],
            "var1": ["client", "client", "therapist", "client"],
            "var2": ["therapist", "outcome", "outcome", "outcome"],
            "r": [0.4, 0.3, 0.2, 0.5],
            "n": [103, 103, 103, 53],
            **changes,
        }
    )


def test_matrices_and_tables_give_the_same():
    from_table, V = am.effects.rcalc(long())
    B = pd.DataFrame([[1, 0.5], [0.5, 1]], index=["client", "outcome"], columns=["client", "outcome"])
    from_matrices, W = am.effects.rcalc({"A": R, "B": B}, ni={"B": 53, "A": 103})
    assert from_table.study_id == from_matrices.study_id
    assert from_table.moderators["pair"].tolist() == from_matrices.moderators["pair"].tolist()
    np.testing.assert_array_equal(from_table.yi, from_matrices.yi)
    np.testing.assert_array_equal(V.to_dense(), W.to_dense())
    for other in (R.to_numpy(), R.to_numpy().tolist(), [R]):
        np.testing.assert_array_equal(am.effects.rcalc(other, ni=103)[1].to_dense(), V.to_dense()[:3, :3])


def test_effects_are_those_of_escalc():
    for measure in ("ZCOR", "COR"):
        es, V = am.effects.rcalc(long(), measure=measure)
        plain = am.escalc(long(), measure=measure)
        np.testing.assert_array_equal(es.yi, plain.yi)
        np.testing.assert_array_equal(es.vi, plain.vi)
        np.testing.assert_array_equal(V.vi, plain.vi)


def test_direction_of_the_pair_does_not_matter():
    turned = long(var1=["therapist", "outcome", "therapist", "client"], var2=["client", "client", "outcome", "outcome"])
    (one, V), (two, W) = am.effects.rcalc(long()), am.effects.rcalc(turned)
    assert one.moderators["pair"].tolist() == two.moderators["pair"].tolist()
    np.testing.assert_allclose(V.to_dense(), W.to_dense(), rtol=CLOSED_FORM)


def test_uncorrelated_variables_have_uncorrelated_correlations():
    _, V = am.effects.rcalc(np.eye(4), ni=[50], measure="COR")
    np.testing.assert_array_equal(V.to_dense(), np.eye(6) / 49)


def test_a_correlation_that_is_needed_and_missing():
    table = long(r=[np.nan, 0.3, 0.2, 0.5])
    with pytest.warns(DroppedRowsWarning, match="1 of 4 rows"), pytest.raises(InputError, match=r"client with .* in A"):
        am.effects.rcalc(table)
    with pytest.warns(DroppedRowsWarning, match="1 of 4 rows"):
        es, V = am.effects.rcalc(table, assumed=0.4)
    assert es.moderators["pair"].tolist() == ["client.outcome", "outcome.therapist", "client.outcome"]
    _, full = am.effects.rcalc(long())
    np.testing.assert_allclose(V.to_dense(), full.take([1, 2, 3]).to_dense(), rtol=CLOSED_FORM)
    assert V.notes[0].code == "assumed-correlations"
    with pytest.warns(DroppedRowsWarning):
        _, same = am.effects.rcalc(table, assumed={("therapist", "client"): 0.4})
    np.testing.assert_array_equal(same.to_dense(), V.to_dense())
    with (
        pytest.warns(DroppedRowsWarning, match="1 of 4 rows"),
        pytest.warns(DroppedRowsWarning, match=r"2 of 3 effects left out because their study \(A\)"),
    ):
        es, V = am.effects.rcalc(table, missing="drop")
    assert (es.study_id, V.k) == (("B",), 1)
    assert [note.code for note in es.notes] == ["dropped-rows", "unknown-covariances"]


def test_all_problems_of_a_table_at_once():
    wrong = long(r=[1.4, 0.3, 0.2, 0.5], n=[103, 103, 103, 4], var2=["client", "outcome", "outcome", "outcome"])
    wrong = pd.concat([wrong, wrong.iloc[[1]]], ignore_index=True)
    with pytest.raises(CodingError) as caught:
        am.effects.rcalc(wrong)
    text = str(caught.value)
    for part in ("1.4 is outside (-1, 1)", "correlated with itself", "4 is too small", "client.outcome twice"):
        assert part in text


def test_correlations_that_contradict_one_another():
    bad = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    with pytest.raises(InputError, match=r"not positive definite in 1 \(3 effects\)"):
        am.effects.rcalc(bad, ni=100)
    with pytest.warns(NotPositiveDefiniteWarning):
        assert am.effects.rcalc(bad, ni=100, check="nearest")[1].is_positive_definite


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (R, {}, "ni=None must give the sample size of each of 1 studies"),
        (R, {"ni": [3, 4]}, "each of 1 studies"),
        ({"A": R}, {"ni": {"B": 10}}, "no sample size for A"),
        (np.ones((2, 3)), {"ni": 10}, "square"),
        ([[1, 0.2], [0.3, 1]], {"ni": 10}, "symmetric"),
        (long().drop(columns="var2"), {}, "no column 'var2'"),
        (long(pair=1), {}, "rename"),
        (long(var1=["client", None, "therapist", "client"]), {}, "column 'var1' is empty in 1 rows"),
        (long(), {"measure": "UCOR"}, "not one of 'ZCOR', 'COR'"),
    ],
)
def test_what_rcalc_refuses(x, options, message):
    with pytest.raises(InputError, match=message):
        am.effects.rcalc(x, **options)
