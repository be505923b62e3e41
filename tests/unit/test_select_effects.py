"""`select_effects`: one effect per study by a declared order of preference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError
from alliance_meta.effects import select_effects
from alliance_meta.errors import DroppedRowsWarning

RATERS = ["client", "therapist", "observer"]


@pytest.fixture
def es():
    mods = {
        "rater": ["therapist", "client", "client", "observer", "therapist", "client", "therapist"],
        "session": [3, 9, 3, 5, 4, np.nan, 6],
        "time": ["early", "late", "early", "mid", "mid", None, "mid"],
    }
    return EffectSizes.from_arrays(
        np.arange(7) / 10,
        [0.03, 0.02, 0.02, 0.02, 0.01, 0.05, 0.04],
        ni=[40, 50, 50, 60, 110, 30, 30],
        study_id=["A", "A", "A", "B", "B", "C", "B"],
        slab=list("abcdefg"),
        mods=mods,
    )


def note(out, code="selected-effects"):
    return next(note.message for note in out.notes if note.code == code)


def test_the_first_moderator_decides_and_the_next_among_what_is_left(es):
    out = select_effects(es, by={"rater": RATERS, "time": ["early", "mid", "late"]}, unlisted="last", ties="largest-n")
    # A: client twice, the early one; B: therapist twice at mid, the larger; C: its only effect.
    assert out.slab == ("c", "e", "f")
    assert out.k == len(set(es.study_id))
    assert note(out) == (
        "4 of 7 effects left out to keep one per study_id: by rater (client, therapist, observer): a, d; "
        "by time (early, mid, late): b; ties (largest-n): g."
    )
    assert out.provenance.steps[-1] == "select_effects by rater, time; ties=largest-n: 3 of 7 effects"
    # Nothing but the choice of rows.
    pd.testing.assert_frame_equal(out.frame, es.take([2, 4, 5]).frame)
    assert out.columns == es.columns


def test_the_order_of_moderators_matters(es):
    out = select_effects(es, by={"session": "lowest", "rater": RATERS}, unlisted="last")
    assert out.slab == ("c", "e", "f")
    assert select_effects(es, by={"session": "highest", "rater": RATERS}, unlisted="last").slab == ("b", "g", "f")


def test_values_that_are_equally_good(es):
    by = {"rater": [("client", "therapist"), "observer"]}
    out = select_effects(es, by=by, ties=("smallest-v", "first"))
    assert out.slab == ("b", "e", "f")
    assert "by rater (client/therapist, observer): d; ties (smallest-v): a, g; ties (first): c." in note(out)
    with pytest.raises(InputError, match=r"2 of 3 clusters with more than one effect \(A, B\), such as a, b, c;"):
        select_effects(es, by=by)


@pytest.mark.parametrize(
    ("ties", "kept"),
    [
        ("first", ("b", "e", "f")),
        ("smallest-v", ("b", "e", "f")),
        (("largest-n", "first"), ("b", "e", "f")),
        (("smallest-v", "largest-n", "first"), ("b", "e", "f")),
    ],
)
def test_rules_for_ties(es, ties, kept):
    if ties == "smallest-v":
        with pytest.raises(InputError, match=r"1 of 3 clusters .*\(A\), such as b, c; add a moderator"):
            select_effects(es, by={"rater": RATERS}, ties=ties)
        return
    assert select_effects(es, by={"rater": RATERS}, ties=ties).slab == kept


def test_the_mean_of_ties(es):
    out = select_effects(es, by={"rater": RATERS}, ties="mean", rho=0.6)
    assert out.study_id == ("A", "B", "C")
    assert out.yi[0] == pytest.approx(0.15)
    assert out.vi[0] == pytest.approx(0.02 * 0.8)
    assert out.yi[1] == pytest.approx(0.5)
    assert "a, d" in note(out)
    assert "5 effects became 3, one per study_id" in note(out, "aggregated")


def test_unlisted_values_are_refused_or_told(es):
    with pytest.raises(InputError, match=r"'rater' has 'observer' in 1 row, not in the order declared"):
        select_effects(es, by={"rater": ["client", "therapist"]})
    with pytest.raises(InputError, match="'client', did you mean 'Client'"):
        select_effects(es, by={"rater": ["Client", "therapist", "observer"]})
    with pytest.raises(InputError, match=r"'session' has \(missing\) in 1 row"):
        select_effects(es, by={"session": "lowest"})
    with pytest.warns(DroppedRowsWarning, match="1 of 3 clusters have no effect in the order declared and are lost: C"):
        out = select_effects(
            es, by={"time": ["late", "early", "mid"], "rater": RATERS[:2]}, unlisted="drop", ties="first"
        )
    assert out.study_id == ("A", "B")
    assert "not in the order declared: d, f" in note(out)
    assert "are lost: C." in note(out, "dropped-rows")


def test_all_problems_in_one_message(es):
    with pytest.raises(InputError) as caught:
        select_effects(es, by={"ratter": RATERS, "rater": ["client", "client"], "time": "lowest", "session": ["3"]})
    text = str(caught.value)
    for part in ("did you mean 'rater'", "lists 'client' twice", "'early', which is no number", "'session' has '9'"):
        assert part in text


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"by": {}}, "at least one moderator"),
        ({"by": "rater"}, "at least one moderator"),
        ({"by": {"rater": "client"}}, "must be a list of values, 'lowest' or 'highest'"),
        ({"ties": "biggest"}, "ties='biggest' is not one of"),
        ({"ties": ("first", "largest-n")}, "no rule can follow"),
        ({"unlisted": "keep"}, "unlisted='keep' is not one of"),
        ({"cluster": "sample"}, "'sample' is not a column"),
    ],
)
def test_refused_with_a_reason(es, options, match):
    with pytest.raises(InputError, match=match):
        select_effects(es, **({"by": {"rater": RATERS}, "ties": "first"} | options))


def test_nothing_listed_is_left():
    es = EffectSizes.from_arrays([0.1], [0.1], mods={"rater": ["x"]})
    with pytest.raises(InputError, match="leaves no effect"):
        select_effects(es, by={"rater": RATERS}, unlisted="drop")


def test_one_effect_per_study_stays_as_it_is(es):
    one = es.take([1, 3, 5])
    out = select_effects(one, by={"rater": RATERS})
    pd.testing.assert_frame_equal(out.frame, one.frame)
    assert "leaves out no effect" in note(out)


def test_without_sample_sizes():
    es = EffectSizes.from_arrays([0.1, 0.2], [0.1, 0.1], mods={"rater": ["client"] * 2}, study_id=["A"] * 2)
    with pytest.raises(InputError, match="needs the sample sizes"):
        select_effects(es, by={"rater": RATERS}, ties="largest-n")


def test_two_hundred_thousand_effects(rng):
    k = 200_000
    study, rater = rng.permutation(np.repeat(np.arange(k // 4), 4)), rng.choice(RATERS, k)
    es = EffectSizes.from_arrays(rng.normal(size=k), rng.uniform(0.01, 0.1, k), study_id=study, mods={"rater": rater})
    out = select_effects(es, by={"rater": RATERS}, ties="first")
    assert out.k == k // 4
    frame = es.frame.assign(rank=pd.Series(rater).map({name: i for i, name in enumerate(RATERS)}))
    best = frame.sort_values("rank", kind="stable").drop_duplicates("study_id").set_index("study_id")
    assert (best.loc[list(out.study_id), "yi"].to_numpy() == out.yi).all()
