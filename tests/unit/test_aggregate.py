"""`aggregate`: what an average keeps, what it says, and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, RandomEffectsModel, aggregate, escalc, impute_V, load_dataset
from alliance_meta.effects.dependent.aggregate import Aggregation
from tests.tolerances import CLOSED_FORM

HOWS = Aggregation.__args__


@pytest.fixture
def sheet():
    return pd.DataFrame(
        {
            "study": ["A", "B", "A", "C", "A", "B"],
            "year": [2001, 2005, 2001, 2010, 2001, 2005],
            "r": [0.2, 0.5, 0.3, 0.1, 0.4, 0.3],
            "n": [50, 80, 50, 40, 50, 60],
            "rater": ["client", "client", "therapist", "client", None, "client"],
            "quality": [1.0, 2.0, 1.0, 3.0, np.nan, 2.5],
            "rct": [True, False, True, True, True, True],
            "comment": [None] * 6,
        }
    )


def message(es, code):
    return next(note.message for note in es.notes if note.code == code)


def codes(es):
    return [note.code for note in es.notes]


def test_a_mean_by_hand(sheet):
    es = aggregate(escalc(sheet, study_id="study"), rho=0.5)
    z, v = np.arctanh([0.2, 0.3, 0.4]), 1 / 47
    assert es.yi[0] == pytest.approx(z.mean(), rel=CLOSED_FORM)
    assert es.vi[0] == pytest.approx(v * (3 + 6 * 0.5) / 9, rel=CLOSED_FORM)
    assert es.slab == ("A 2001", "B 2005", "C 2010")
    assert es.study_id == ("A", "B", "C")


def test_a_composite_by_hand(sheet):
    es = aggregate(escalc(sheet, study_id="study"), how="composite", rho=0.5)
    r = 0.9 / np.sqrt(3 + 6 * 0.5)
    assert es.yi[0] == pytest.approx(np.arctanh(r), rel=CLOSED_FORM)
    assert es.vi[0] == pytest.approx(1 / 47, rel=CLOSED_FORM)
    assert "1.225 times" in message(es, "composite-larger")
    raw = aggregate(escalc(sheet, study_id="study", measure="COR"), how="composite", rho=0.5)
    assert raw.yi[0] == pytest.approx(r, rel=CLOSED_FORM)
    assert raw.vi[0] == pytest.approx((1 - r**2) ** 2 / 49, rel=CLOSED_FORM)


def test_the_composite_of_four_is_larger_by_1_265():
    es = EffectSizes.from_arrays([0.3] * 4, [0.01] * 4, ni=[100] * 4, study_id=["A"] * 4, measure="COR")
    assert aggregate(es, how="composite").yi[0] / aggregate(es).yi[0] == pytest.approx(1.2649110640673518)


def test_what_agrees_is_kept_and_what_does_not_is_named(sheet):
    es = aggregate(escalc(sheet, study_id="study"))
    frame = es.moderators
    assert frame["year"].tolist() == [2001, 2005, 2010]
    assert frame["year"].dtype == sheet["year"].dtype
    # A: client, therapist and a gap; B: client twice.
    assert frame["rater"].tolist() == ["mixed", "client", "client"]
    assert frame["quality"].isna().tolist() == [True, True, False]
    assert frame["rct"].isna().tolist() == [False, True, False]
    assert frame["comment"].isna().all()
    note = message(es, "aggregated-mixed")
    assert "rater (1)" in note
    assert "quality (2)" in note
    assert "rct (1)" in note
    assert not {"year", "comment", "study"} & set(note.replace("(", "").split())
    assert es.ni.tolist() == [50, 70, 40]
    assert "differs within B" in message(es, "aggregated-n")


def test_a_gap_beside_one_known_value_is_a_gap():
    mods = {"rater": ["client", None], "group": pd.Categorical(["a", "b"])}
    frame = aggregate(EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.1], study_id=["A"] * 2, mods=mods)).moderators
    assert frame["rater"].isna().all()
    assert frame["group"].tolist() == ["mixed"]


def test_a_model_reads_the_averages(sheet):
    es = aggregate(escalc(sheet, study_id="study"))
    fit = RandomEffectsModel(es, test="z").fit()
    assert fit.k == 3
    assert "escalc(" not in fit.r_code()
    assert "6 effects became 3" in fit.summary().replace("\n  ", " ")


def test_what_was_done_is_said(sheet):
    es = aggregate(escalc(sheet, study_id="study"), rho=0.25, how="CS")
    assert es.provenance.steps[-1] == "aggregate cluster=study_id, how=CS, rho=0.25: k = 6 to 3"
    note = message(es, "aggregated")
    for part in ("6 effects became 3", "study_id", "2 clusters of 2 to 3", "least variance", "rho=0.25, an assumption"):
        assert part in note


@pytest.mark.parametrize("how", HOWS)
def test_nothing_to_average(how):
    es = escalc(load_dataset("molloy2014"))
    one = aggregate(es, how=how)
    assert (one.yi == es.yi).all()
    assert (one.vi == es.vi).all()
    assert one.slab == es.slab
    pd.testing.assert_frame_equal(one.moderators, es.moderators)
    assert one.columns == es.columns
    assert "nothing was averaged" in message(one, "aggregated")


@pytest.mark.parametrize("how", HOWS)
def test_a_single_effect_passes_unchanged(sheet, how):
    es = escalc(sheet, study_id="study")
    one = aggregate(es, how=how)
    assert one.yi[2] == es.yi[3]
    assert one.vi[2] == es.vi[3]


def test_clusters_by_columns_labels_and_series(sheet):
    es = escalc(sheet, study_id="study")
    assert aggregate(es, cluster=["study", "rct"]).k == 4
    by_labels = aggregate(es, cluster=["x", "x", "x", "y", "y", "y"])
    assert by_labels.k == 2
    assert by_labels.slab == ("x", "y")
    assert by_labels.study_id == ("x", "y")
    assert (
        aggregate(es, cluster=pd.Series([1, 1, 1, 2, 2, 2], name="half"))
        .provenance.steps[-1]
        .startswith("aggregate cluster=half")
    )
    assert aggregate(es, cluster=np.array([1.0, 1, 1, 2, 2, 2])).study_id == ("1", "2")


def test_how_many_were_averaged(sheet):
    assert aggregate(escalc(sheet, study_id="study"), addk=True).moderators["ki"].tolist() == [3, 2, 1]


def test_labels_of_averages_stay_apart():
    es = EffectSizes.from_arrays(
        [0.1] * 4, [0.1] * 4, slab=["Lo 2001", "Lo 2001", "Lo 2001", "Lo 2001"], study_id=["1", "1", "2", "2"]
    )
    assert aggregate(es).slab == ("Lo 2001a", "Lo 2001b")


def test_weights_of_equal_variances_are_equal(rng):
    es = EffectSizes.from_arrays(rng.normal(size=200), [0.04] * 200, study_id=["A"] * 200)
    for rho in (0, 0.5, 0.999, 1 - 1e-9, -0.005):
        one = aggregate(es, how="CS", rho=rho)
        # Rounding in the variances is multiplied by 1 / (1 - rho).
        np.testing.assert_allclose(one.yi, es.yi.mean(), rtol=1e-6)
        assert one.vi[0] == pytest.approx(0.04 * (1 + 199 * rho) / 200, rel=CLOSED_FORM)


@pytest.mark.parametrize("how", ["mean", "CS", "gleser-olkin"])
def test_a_cluster_of_two_hundred(rng, how):
    n = rng.integers(20, 200, 200)
    y, v, one = rng.normal(0.2, 0.1, 200), 1 / (n - 3), np.ones(200)
    es = EffectSizes.from_arrays(y, v, ni=n, study_id=["A"] * 200, measure="ZCOR")
    R = np.full((200, 200), 0.5) + 0.5 * np.eye(200)
    d = 2 * np.sinh(y)
    V = R * np.sqrt(np.outer(v, v)) if how != "gleser-olkin" else (8 * R + np.outer(d, d) * R**2) / (2 * n.mean())
    w = one / 200 if how == "mean" else np.linalg.inv(V) @ one / (one @ np.linalg.inv(V) @ one)
    mean, variance = w @ (d if how == "gleser-olkin" else y), w @ V @ w
    if how == "gleser-olkin":
        mean, variance = np.arcsinh(mean / 2), variance / (mean**2 + 4)
    found = aggregate(es, how=how, rho=0.5)
    assert found.yi[0] == pytest.approx(mean, rel=CLOSED_FORM)
    assert found.vi[0] == pytest.approx(variance, rel=CLOSED_FORM)


def test_perfect_correlation_gains_nothing():
    es = EffectSizes.from_arrays([0.1, 0.3], [0.04, 0.04], study_id=["A", "A"])
    assert aggregate(es, rho=1).vi[0] == pytest.approx(0.04, rel=CLOSED_FORM)


def test_negative_weights_are_told():
    es = EffectSizes.from_arrays([0.1, 0.3], [0.01, 0.5], study_id=["A", "A"])
    one = aggregate(es, how="CS", rho=0.9)
    assert one.yi[0] < 0.1
    assert "negative weight in A" in message(one, "negative-weights")
    assert "negative-weights" not in codes(aggregate(es, how="CS", rho=0.1))


def test_v_with_its_own_variances_is_told():
    es = EffectSizes.from_arrays([0.1, 0.3], [0.1, 0.2], study_id=["A", "A"])
    one = aggregate(es, V=np.array([[0.2, 0.1], [0.1, 0.2]]))
    assert one.vi[0] == pytest.approx(0.15)
    assert message(one, "v-variances").startswith("V has other variances than the table for 1 of 2")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rho": 1.2}, "rho=1.2 is a correlation"),
        ({"rho": np.nan}, "rho=nan is a correlation"),
        ({"rho": "0.5"}, "must be a number"),
        ({"rho": True}, "must be a number"),
        ({"rho": -0.5}, r"rho=-0.5 is impossible for 3 effects.*-1/\(m - 1\) = -0.5.*: A"),
        ({"rho": -0.6, "how": "composite"}, "rho=-0.6 is impossible"),
        ({"rho": 1, "how": "CS"}, "rho=1 makes the covariance matrix.*how='mean'.*A, B"),
        ({"rho": 1, "how": "gleser-olkin"}, "rho=1 makes the covariance matrix"),
        ({"rho": {"A": 0.5}}, "lacks B"),
        ({"rho": {"A": 0.5, "B": 0.5, "Z": 0.5}}, "no cluster: Z"),
        ({"how": "cs"}, "did you mean 'CS'"),
        ({"weighted": True}, "the weighted mean is how='CS'"),
        ({"weighted": True, "how": "composite"}, "its own weights"),
        ({"cluster": "studyid"}, "did you mean 'study_id'"),
        ({"cluster": ["a", "b"]}, "cluster has 2 values for 6 effects"),
        ({"cluster": "rater"}, r"empty.*1 of 6 effects \(A 2001c\)"),
        ({"V": np.eye(3)}, r"shape \(3, 3\)"),
        ({"V": np.eye(6), "rho": 0.3}, "either V"),
        ({"V": np.eye(6), "how": "composite"}, "makes its own covariance matrix"),
        ({"V": np.full((6, 6), 0.01)}, "between clusters"),
        ({"V": np.triu(np.ones((6, 6)))}, "symmetric"),
    ],
)
def test_refused_with_a_reason(sheet, options, match):
    with pytest.raises(InputError, match=match):
        aggregate(escalc(sheet, study_id="study"), **options)


def test_a_matrix_that_is_none():
    es = EffectSizes.from_arrays([0.1, 0.2, 0.3], [0.1] * 3, study_id=["A", "A", "B"])
    V = np.diag([0.1, 0.1, 0.1])
    V[0, 1] = V[1, 0] = 0.1
    with pytest.raises(InputError, match=r"not positive definite in 1 cluster \(A\).*use how='mean'"):
        aggregate(es, V=V, how="CS")
    assert aggregate(es, V=V).vi[0] == pytest.approx(0.1)
    V[0, 1] = V[1, 0] = 0.2
    with pytest.raises(InputError, match=r"not positive semi-definite in 1 cluster \(A\)"):
        aggregate(es, V=V)


def test_v_of_other_effects(sheet):
    es = escalc(sheet, study_id="study")
    with pytest.raises(InputError, match="V is for 5 effects, the table has 6"):
        aggregate(es, V=impute_V(es.take(slice(5)), rho=0.5))
    with pytest.raises(InputError, match="V links effects of different clusters of slab"):
        aggregate(es, V=impute_V(es, rho=0.5), cluster="slab")


def test_raw_correlations_are_needed(sheet):
    general = EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.1], study_id=["A", "A"])
    with pytest.raises(InputError, match="defined for raw correlations"):
        aggregate(general, how="composite")
    with pytest.raises(InputError, match="defined for raw correlations"):
        aggregate(escalc(sheet, study_id="study", measure="UCOR"), how="gleser-olkin")
    with pytest.raises(InputError, match="vtype='LS', not 'AV'"):
        aggregate(escalc(sheet, study_id="study", measure="COR", vtype="AV"), how="composite")
    without_n = EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.1], study_id=["A", "A"], measure="ZCOR")
    with pytest.raises(InputError, match="needs the sample sizes"):
        aggregate(without_n, how="gleser-olkin")
    small = EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.1], ni=[3, 9], study_id=["A", "A"], measure="ZCOR")
    with pytest.raises(InputError, match=r"n >= 4.*Study 1"):
        aggregate(small, how="composite")
    perfect = EffectSizes.from_arrays([1.0, 0.2], [0.1, 0.1], ni=[30, 30], study_id=["A", "A"], measure="COR")
    with pytest.raises(InputError, match="between -1 and 1: Study 1"):
        aggregate(perfect, how="gleser-olkin")


def test_an_impossible_composite():
    es = EffectSizes.from_arrays([0.8, 0.8], [0.1, 0.1], ni=[30, 30], study_id=["A", "A"], measure="COR")
    with pytest.raises(InputError, match=r"composite of A is 1.131.*only 0; raise rho"):
        aggregate(es, how="composite", rho=0)


def test_a_gap_in_study_id_is_no_cluster():
    sheet = pd.DataFrame({"study": ["A", "B", "C"], "id": ["1", None, None], "r": [0.1] * 3, "n": [30] * 3})
    with pytest.raises(InputError, match=r"line 3, id: the study is empty.* fill down\? \.\.\. and 1 more row"):
        escalc(sheet, study_id="id")


def test_something_else_than_effects():
    with pytest.raises(InputError, match="needs EffectSizes, not DataFrame"):
        aggregate(pd.DataFrame())  # type: ignore[arg-type]


@pytest.mark.parametrize("how", HOWS)
def test_two_hundred_thousand_effects(rng, how):
    # The slowest way stands for the others, which get a tenth.
    k = 200_000 if how == "CS" else 20_000
    study = rng.permutation(np.repeat(np.arange(k // 4), 4))
    es = EffectSizes.from_arrays(
        rng.normal(0.2, 0.1, k),
        rng.uniform(0.01, 0.1, k),
        ni=rng.integers(20, 99, k),
        study_id=study,
        mods={"rater": rng.choice(["client", "therapist"], k)},
        measure="ZCOR",
    )
    one = aggregate(es, how=how)
    assert one.k == k // 4
    j = int(np.flatnonzero(np.array(one.study_id) == "7")[0])
    rows = study == 7
    if how == "mean":
        assert one.yi[j] == pytest.approx(es.yi[rows].mean(), rel=CLOSED_FORM)
    few = aggregate(es.take(rows), how=how)
    assert one.yi[j] == pytest.approx(few.yi[0], rel=CLOSED_FORM)
    assert one.vi[j] == pytest.approx(few.vi[0], rel=CLOSED_FORM)
