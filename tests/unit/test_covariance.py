"""Sampling covariances: structure, refusals, and the cases at the edge."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import alliance_meta as am
from alliance_meta.core.dependent import nearest_correlation
from alliance_meta.errors import InputError, NotPositiveDefiniteWarning
from tests.tolerances import CLOSED_FORM, ITERATIVE


def effects(study_id, vi=None, **mods):
    k = len(study_id)
    return am.EffectSizes.from_arrays(
        np.linspace(0, 0.5, k), np.linspace(0.01, 0.05, k) if vi is None else vi, study_id=study_id, mods=mods or None
    )


def correlations(V):
    return V.to_dense() / np.sqrt(np.outer(V.vi, V.vi))


# SamplingCovariance


def test_it_says_what_it_rests_on():
    V = am.impute_V(effects(["A", "A", "B"]), rho=0.4)
    assert str(V) == repr(V) == "SamplingCovariance: 3 effects in 2 clusters of 1 to 2; rho = 0.4 within study_id"
    assert (V.cluster, V.rho, V.labels, V.codes.tolist()) == ("study_id", 0.4, ("A", "B"), [0, 0, 1])
    assert V.settings == {"cluster": "study_id", "rho": 0.4, "check": "error"}
    assert [note.code for note in V.notes] == ["assumed-V"]


def test_blocks_follow_the_stacks_and_cannot_be_changed():
    for rho in (0.3, (0.5, 0.2)):
        pair = {} if rho == 0.3 else {"type": "t"}
        V = am.impute_V(effects(list("abacb"), t=list("xxyxx")), rho=rho, **pair)
        assert [rows.tolist() for rows, _ in V.blocks] == [[[3]], [[0, 2], [1, 4]]]
        for rows, values in V.blocks:
            np.testing.assert_array_equal(values, V.block(rows))
            with pytest.raises(ValueError, match="read-only"):
                values[...] = 0
        with pytest.raises(ValueError, match="read-only"):
            V.vi[0] = 1


def test_block_of_any_rows():
    for options in ({"rho": 0.3}, {"rho": (0.5, 0.2), "type": "t"}):
        V = am.impute_V(effects(list("abacb"), t=list("xxyxx")), **options)
        dense = V.to_dense()
        np.testing.assert_array_equal(V.block([4, 0, 2]), dense[np.ix_([4, 0, 2], [4, 0, 2])])
        stack = np.array([[0, 1], [2, 0]])
        np.testing.assert_array_equal(V.block(stack), np.stack([dense[np.ix_(rows, rows)] for rows in stack]))


def test_take_is_the_same_for_some():
    for options in ({"rho": 0.3}, {"rho": (0.5, 0.2), "type": "t"}):
        V = am.impute_V(effects(list("abacb"), t=list("xxyxx")), **options)
        for rows in ([4, 0, 1], np.array([True, False, True, False, True])):
            part, index = V.take(rows), np.arange(5)[rows]
            np.testing.assert_array_equal(part.to_dense(), V.to_dense()[np.ix_(index, index)])
            assert part.rho == V.rho
            assert [part.labels[code] for code in part.codes] == [V.labels[code] for code in V.codes[index]]
    with pytest.raises(InputError, match="twice"):
        V.take([0, 0])


def test_it_can_be_pickled():
    V = am.impute_V(effects(list("aab"), t=list("xyx")), rho=(0.5, 0.2), type="t")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(V)).to_dense(), V.to_dense())


# Matrices from elsewhere


def test_from_matrix_finds_the_blocks():
    given = np.diag([0.04, 0.05, 0.06, 0.07])
    given[0, 2] = given[2, 0] = 0.01
    for form in (given, given.tolist(), sparse.csr_array(given)):
        V = am.effects.SamplingCovariance.from_matrix(form)
        assert V.codes.tolist() == [0, 1, 0, 2]
        assert V.rho is None
        np.testing.assert_array_equal(V.to_dense(), given)
    named = am.effects.SamplingCovariance.from_matrix(given, cluster=["p", "q", "p", "q"])
    assert named.labels == ("p", "q")
    np.testing.assert_array_equal(named.to_dense(), given)


def test_a_diagonal_matrix_has_the_constant_structure():
    assert am.effects.SamplingCovariance.from_matrix(np.diag([0.1, 0.2])).rho == 0


def test_from_blocks_keeps_their_order():
    pair = [[0.02, 0.01], [0.01, 0.03]]
    V = am.effects.SamplingCovariance.from_blocks([0.05, pair, [[0.04]]], labels=["a", "b", "c"])
    assert V.labels == ("a", "b", "c")
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1:3, 1:3], expected[3, 3] = 0.05, pair, 0.04
    np.testing.assert_array_equal(V.to_dense(), expected)


@pytest.mark.parametrize(
    ("V", "message"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (np.zeros((0, 0)), "square"),
        ([[1, np.nan], [np.nan, 1]], "2 values are not finite numbers, the first in row 1, column 2"),
        ([[0, 0], [0, -1]], r"2 variances on the diagonal are not positive \(0 in row 1, -1 in row 2\)"),
        ([[1, 0.2], [0.3, 1]], "not symmetric: 0.2 in row 1, column 2, but 0.3"),
        ([[1, 2], [2, 1]], "V is not positive definite in block 1"),
        ([[1, 1], [1, 1]], "effects 1 and 2 of block 1 correlate by 1"),
    ],
)
def test_a_matrix_that_is_none_is_refused(V, message):
    with pytest.raises(InputError, match=message):
        am.effects.SamplingCovariance.from_matrix(V)


def test_a_matrix_that_crosses_clusters_is_refused():
    with pytest.raises(InputError, match=r"links effects 1 and 2 of different clusters \(p, q\)"):
        am.effects.SamplingCovariance.from_matrix([[1, 0.2], [0.2, 1]], cluster=["p", "q"])
    with pytest.raises(InputError, match="V has 2 rows but cluster has 3"):
        am.effects.SamplingCovariance.from_matrix([[1, 0.2], [0.2, 1]], cluster=["p", "q", "q"])


def test_blocks_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"block 2 has shape \(1, 2\)"):
        am.effects.SamplingCovariance.from_blocks([0.1, [[1, 2]]])
    with pytest.raises(InputError, match="1 blocks and 2 labels"):
        am.effects.SamplingCovariance.from_blocks([0.1], labels=["a", "b"])
    with pytest.raises(InputError, match="at least one block"):
        am.effects.SamplingCovariance.from_blocks([])


# impute_V


@pytest.mark.parametrize("rho", [0.0, 0.999, -0.49])
def test_admissible_rho_in_clusters_of_three(rho):
    V = am.impute_V(effects(["a"] * 3 + ["b"]), rho=rho)
    assert V.is_positive_definite
    values = np.linalg.eigvalsh(correlations(V)[:3, :3])
    np.testing.assert_allclose(values, sorted([1 - rho, 1 - rho, 1 + 2 * rho]), rtol=0, atol=1e-12)


def test_a_cluster_of_200():
    V = am.impute_V(effects(["a"] * 200, vi=np.full(200, 0.02)), rho=0.999)
    assert V.is_positive_definite
    assert np.linalg.eigvalsh(correlations(V))[[0, -1]] == pytest.approx([0.001, 1 + 199 * 0.999], rel=ITERATIVE)


def test_all_in_one_cluster_takes_no_room_until_asked():
    V = am.impute_V(effects(["a"] * 100_000, vi=np.full(100_000, 0.02)))
    assert V.block([[0, 99_999]]).tolist() == [[[0.02, pytest.approx(0.012)], [pytest.approx(0.012), 0.02]]]
    with pytest.raises(InputError, match="cluster a alone holds 100000 effects"):
        V.blocks  # noqa: B018
    with pytest.raises(InputError, match="V of 100000 effects as a full matrix needs 80 GB"):
        V.to_dense()


def test_singletons_are_diagonal_and_say_so():
    V = am.impute_V(effects(list("abc")), rho=0.9)
    np.testing.assert_array_equal(V.to_dense(), np.diag(V.vi))
    assert [note.code for note in V.notes] == ["diagonal-V"]
    assert am.impute_V(effects(list("abc")), rho=1).is_positive_definite


@pytest.mark.parametrize(
    ("rho", "message"),
    [
        (1, r"in b \(3 effects\), c \(2 effects\): rho = 1 makes the effects of a cluster perfectly dependent"),
        (-0.6, r"in b \(3 effects\): 3 effects cannot all correlate by rho = -0.6; .* above -1/2 = -0.5"),
        (-0.5, "3 effects cannot all correlate by rho = -0.5"),
    ],
)
def test_a_rho_that_cannot_be_is_refused_with_the_clusters(rho, message):
    with pytest.raises(InputError, match=message):
        am.impute_V(effects(list("abbbcc")), rho=rho)


def test_contradicting_correlations_are_refused_with_the_cluster():
    es = effects(["s"] * 3 + ["u"], t=["x", "y", "z", "x"])
    rho = {("x", "y"): 0.9, ("y", "z"): 0.9, ("x", "z"): -0.9}
    with pytest.raises(InputError, match=r"in s \(3 effects\): these correlations cannot hold .*eigenvalue -0.8"):
        am.impute_V(es, type="t", rho=rho)
    with pytest.warns(NotPositiveDefiniteWarning, match="cannot hold together"):
        V = am.impute_V(es, type="t", rho=rho, check="warn")
    assert not V.is_positive_definite
    assert V.notes[-1].code == "not-positive-definite"
    with pytest.warns(NotPositiveDefiniteWarning, match="no correlation moved by more than 0.4"):
        mended = am.impute_V(es, type="t", rho=rho, check="nearest")
    assert mended.is_positive_definite
    assert mended.notes[-1].code == "nearest-V"
    assert mended.assumption.endswith("(1 of 2 clusters mended)")
    np.testing.assert_allclose(mended.vi, es.vi, rtol=CLOSED_FORM)
    expected = [[1, 0.5, -0.5], [0.5, 1, 0.5], [-0.5, 0.5, 1]]
    np.testing.assert_allclose(correlations(mended)[:3, :3], expected, rtol=ITERATIVE)


def test_the_nearest_equal_correlation_is_the_bound():
    R = np.full((2, 5, 5), -0.7) + 1.7 * np.eye(5)
    np.testing.assert_allclose(nearest_correlation(R)[:, 0, 1], -0.25, rtol=ITERATIVE)
    with pytest.warns(NotPositiveDefiniteWarning, match="in b"):
        V = am.impute_V(effects(list("abbbc")), rho=-0.7, check="nearest")
    assert V.rho is None
    np.testing.assert_allclose(correlations(V)[1:4, 1:4], 1.5 * np.eye(3) - 0.5, rtol=0, atol=ITERATIVE)


def test_subgroups_are_independent():
    V = am.impute_V(effects(["s"] * 4, sample=[1, 2, 1, 2]), subgroup="sample", rho=0.5)
    assert V.labels == ("s, 1", "s, 2")
    assert V.rho == 0.5
    linked = correlations(V) > 0
    assert linked.tolist() == [[True, False] * 2, [False, True] * 2] * 2
    assert V.assumption == "rho = 0.5 within study_id, 0 across sample"


def test_types_by_pair_mapping_and_table_agree():
    es = effects(["s"] * 3, t=["client", "client", "therapist"])
    names = ["client", "therapist"]
    ways = [
        (0.8, 0.4),
        {("client", "client"): 0.8, ("therapist", "client"): 0.4},
        pd.DataFrame([[0.8, 0.4], [0.4, 1]], index=names, columns=names),
        (0.8, {("client", "therapist"): 0.4}),
    ]
    for rho in ways:
        V = am.impute_V(es, type="t", rho=rho)
        np.testing.assert_allclose(
            correlations(V), [[1, 0.8, 0.4], [0.8, 1, 0.4], [0.4, 0.4, 1]], rtol=CLOSED_FORM, err_msg=str(rho)
        )
    assert am.impute_V(es, type="t", rho=ways[0]).assumption == (
        "rho = 0.8 for the same t and 0.4 for another t within study_id"
    )


def test_time_and_obs():
    es = effects(["s"] * 3, when=[0, 2, 2], what=["BDI", "BDI", "OQ"])
    V = am.impute_V(es, time="when", phi=0.5, obs="what", rho=0.6)
    np.testing.assert_allclose(correlations(V)[0], [1, 0.25, 0.15], rtol=CLOSED_FORM)
    assert correlations(V)[1, 2] == pytest.approx(0.6, rel=CLOSED_FORM)
    alone = am.impute_V(effects(["s"] * 2, when=[0, 3]), time="when", phi=0.5, rho=1)
    assert correlations(alone)[0, 1] == pytest.approx(0.125, rel=CLOSED_FORM)


def test_a_negative_phi_needs_whole_distances():
    es = effects(["s", "s", "u"], when=[0.5, 1.5, 7.25])
    assert correlations(am.impute_V(es, time="when", phi=-0.5))[0, 1] == pytest.approx(-0.3, rel=CLOSED_FORM)
    with pytest.raises(InputError, match="not a whole number"):
        am.impute_V(effects(["s", "s"], when=[0.5, 1.0]), time="when", phi=-0.5)


def test_known_correlations_take_the_place_of_the_assumption():
    es = effects(["a", "b", "a", "b"])
    V = am.impute_V(es, rho=0.5, r={"b": [[1, 0.1], [0.1, 1]]})
    R = correlations(V)
    assert (R[0, 2], R[1, 3]) == (pytest.approx(0.5, rel=CLOSED_FORM), pytest.approx(0.1, rel=CLOSED_FORM))
    assert V.assumption == "rho = 0.5 within study_id; known for 1 cluster"
    with pytest.raises(InputError, match=r"no such cluster.*shape \(3, 3\)") as caught:
        am.impute_V(es, r={"x": np.eye(2), "b": np.eye(3), "a": [[1, 2], [2, 1]]})
    assert "r['a'] is not a correlation matrix" in str(caught.value)


def test_clusters_may_be_given_as_values():
    V = am.impute_V(effects(list("abcd")), cluster=[1, 1, 2, 2], rho=0.5)
    assert V.cluster is None
    assert V.assumption == "rho = 0.5 within the given cluster"
    assert correlations(V)[0, 1] == pytest.approx(0.5, rel=CLOSED_FORM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "stduy_id"}, "not a column; did you mean 'study_id'"),
        ({"cluster": [1, 2]}, "cluster has 2 values for 3 effects"),
        ({"cluster": "gap"}, r"cluster='gap' is empty for 1 of 3 effects \(Study 2\)"),
        ({"rho": 60}, "must lie between -1 and 1; write 0.6"),
        ({"rho": "0.6"}, "is not a number"),
        ({"rho": (0.8, 0.5)}, "say with type="),
        ({"rho": 0.6, "type": "t"}, "would be the same for all types"),
        ({"rho": {"x": 0.6}, "type": "t"}, "not understood"),
        ({"rho": {("x", "y"): 0.6, ("y", "x"): 0.5}, "type": "t"}, "two correlations between 'y' and 'x'"),
        ({"rho": {("x", "z"): 0.6}, "type": "t"}, "no correlation between 'x' and 'y'; 'x' and 'x'"),
        ({"rho": ({("x", "y"): 0.6}, 0.5), "type": "t"}, "say with obs="),
        ({"time": "when"}, "time= and phi= belong together"),
        ({"time": "t", "phi": 0.5}, "must hold numbers, not 'x'"),
        ({"time": "when", "phi": 2}, "phi=2 is a correlation"),
        ({"check": "mend"}, "not one of 'error', 'nearest', 'warn'"),
        ({"obs": "t"}, "effects 1 and 3 of s correlate by 1"),
    ],
)
def test_what_impute_V_refuses(options, message):
    es = effects(["s"] * 3, t=["x", "y", "x"], gap=["p", None, "p"], when=[1, 2, 3])
    with pytest.raises(InputError, match=message):
        am.impute_V(es, **options)
