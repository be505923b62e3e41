"""Formulas, codings and the messages when they cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, RandomEffectsModel, escalc
from alliance_meta.design import build_design, levels_of
from alliance_meta.errors import DesignError, DroppedRowsWarning, RedundantModeratorWarning
from alliance_meta.models.subgroups import subgroups
from alliance_meta.moderators import marginal_means

MODS = pd.DataFrame(
    {
        "rater": ["client", "therapist", "client", "observer", "client", "observer", "therapist", "client"],
        "year": [2001.0, 2003, 2004, 2008, 2010, 2011, 2015, 2020],
        "quality": [1, 2, 1, 3, 2, 3, 1, 2],
        "published": [True, False, True, True, False, True, False, True],
        "format": ["individual"] * 8,
        "decade": [4002.0, 4006, 4008, 4016, 4020, 4022, 4030, 4040],
        "session number": [1.0, 3, 2, 5, 4, 6, 2, 1],
    }
)
LABELS = tuple("ABCDEFGH")


def design(mods, frame=MODS):
    return build_design(mods, frame, labels=LABELS[: len(frame)])


@pytest.mark.parametrize(
    ("mods", "names"),
    [
        ("1", ("intrcpt",)),
        ("~ year", ("intrcpt", "year")),
        ("rater", ("intrcpt", "rater[T.observer]", "rater[T.therapist]")),
        ("0 + rater", ("rater[client]", "rater[observer]", "rater[therapist]")),
        ("published", ("intrcpt", "published[T.True]")),
        ("C(quality)", ("intrcpt", "C(quality)[T.2]", "C(quality)[T.3]")),
        ("center(year) + published", ("intrcpt", "center(year)", "published[T.True]")),
        ("poly(year, 2)", ("intrcpt", "poly(year, 2)[1]", "poly(year, 2)[2]")),
        ("published * year", ("intrcpt", "published[T.True]", "year", "published[T.True]:year")),
        ("`session number`", ("intrcpt", "session number")),
        ("np.log(year)", ("intrcpt", "np.log(year)")),
    ],
)
def test_coefficient_names(mods, names):
    made = design(mods)
    assert made.names == names
    assert made.X.shape == (8, len(names))
    assert not made.X.flags.writeable


@pytest.mark.parametrize(
    ("mods", "words"),
    [
        ("setting", "mods='setting': no column 'setting'. Columns: rater, year"),
        ("Rater + yaer", "no column 'Rater'; did you mean 'rater'?; no column 'yaer'; did you mean 'year'?"),
        ("format", "moderator 'format' has one level, 'individual', in all 8 effects: nothing to compare"),
        ("year +", "is not a formula"),
        ("r ~ year", "write only the right-hand side"),
        ("rater * C(quality)", "asks for 9 coefficients"),
        ("centre(year)", "'centre' is not one of the functions; did you mean 'center'?"),
        ("poly(rater, 2)", "cannot be computed from these moderators"),
        ("np.log(year - 2001)", "is not a finite number in every effect"),
    ],
)
def test_what_cannot_be_is_named(mods, words):
    with pytest.raises(DesignError) as error:
        design(mods)
    assert words in str(error.value)


def test_a_redundant_column_is_left_out_and_named():
    with pytest.warns(RedundantModeratorWarning, match="'decade' is a combination of 'year'"):
        made = design("year + decade")
    assert made.names == ("intrcpt", "year")
    assert made.terms["decade"] == ()
    with pytest.warns(RedundantModeratorWarning, match="no effect has this combination of levels"):
        design("rater * published")


def test_missing_moderators_drop_rows_aloud():
    frame = MODS.assign(rater=["client", None, *MODS["rater"][2:]], year=[np.nan, *MODS["year"][1:]])
    with pytest.warns(DroppedRowsWarning, match=r"2 of 8 .* \(rater: 1, year: 1\): A, B\."):
        made = design("rater + year", frame)
    assert made.X.shape == (6, 4)
    assert made.rows.tolist() == [False, False] + [True] * 6


def test_every_value_missing():
    with pytest.raises(DesignError, match="every effect lacks a value of year"):
        design("year", MODS.assign(year=np.nan))


def test_new_rows_are_coded_as_the_old_ones():
    made = design("rater + center(year)")
    X, labels = made.new_rows({"rater": ["client", "therapist"], "year": 2005})
    centre = 2005 - MODS["year"].mean()
    np.testing.assert_allclose(X, [[1, 0, 0, centre], [1, 0, 1, centre]])
    assert labels == ["rater = client, year = 2005", "rater = therapist, year = 2005"]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"rater": "client"}, "newdata lacks year; the model uses rater, year"),
        ({"rater": "clent", "year": 2005}, "'clent' is not a level of the fitted model; did you mean 'client'?"),
        ({"rater": None, "year": 2005}, "newdata has an empty cell in 'rater'"),
        ({"rater": ["client"], "year": [1, 2]}, "equally many values"),
        ("client", "newdata is a data frame or a dictionary"),
    ],
)
def test_new_data_that_do_not_fit(new, words):
    with pytest.raises(InputError) as error:
        design("rater + year").new_rows(new)
    assert words in str(error.value)


def test_formulas_see_the_table_and_nothing_else():
    secret = np.ones(8)
    assert secret.any()
    with pytest.raises(DesignError, match="no column 'secret'"):
        design("secret")


def test_text_and_category_columns_are_the_same(rng):
    y, v = rng.normal(0.2, 0.5, 8), rng.uniform(0.01, 0.1, 8)
    text = RandomEffectsModel(EffectSizes.from_arrays(y, v, mods=MODS), mods="rater").fit()
    category = MODS.assign(rater=MODS["rater"].astype("category"))
    again = RandomEffectsModel(EffectSizes.from_arrays(y, v, mods=category), mods="rater").fit()
    np.testing.assert_array_equal(text.beta, again.beta)


def test_the_order_of_categories_is_kept_and_the_first_is_the_reference():
    frame = pd.DataFrame(
        {
            "time": pd.Categorical(["early", "mid", "late"] * 2, ["early", "mid", "late"], ordered=True),
            "arm": pd.Categorical(["x", "y"] * 3, ["never", "y", "x"]),
            "dose": pd.Categorical([1, 2, 10] * 2, [10, 2, 1]),
        }
    )
    made = design("time + arm", frame)
    assert made.names == ("intrcpt", "time[T.mid]", "time[T.late]", "arm[T.x]")
    assert dict(made.levels) == {"time": ("early", "mid", "late"), "arm": ("y", "x")}
    np.testing.assert_array_equal(
        made.new_rows({"time": ["early", "late"], "arm": ["y", "x"]})[0][:, 1:], [[0, 0, 0], [0, 1, 1]]
    )
    assert design("C(dose)", frame).names == ("intrcpt", "C(dose)[T.2]", "C(dose)[T.1]")
    assert design("C(arm, Treatment('x'))", frame).names[1] == "C(arm, Treatment('x'))[T.y]"
    rarest = pd.Series([3.0, 1.0, 20.0, 1.0])
    assert levels_of(rarest) == (1.0, 3.0, 20.0)


def test_means_and_subgroups_follow_the_order_of_categories():
    mods = MODS.assign(rater=pd.Categorical(MODS["rater"], ["therapist", "observer", "client"]))
    es = EffectSizes.from_arrays(np.linspace(-0.6, 0.9, 8), np.full(8, 0.02), mods=mods, measure="ZCOR")
    means = marginal_means(RandomEffectsModel(es, mods="rater").fit(), "rater").tidy()
    assert list(means.index) == ["therapist", "observer", "client"]
    assert list(subgroups(RandomEffectsModel(es).fit(), by="rater").rows) == ["therapist", "observer", "client"]


@pytest.mark.parametrize("mods", ["session number", "session number + year", "Q('session number')"])
def test_a_name_that_is_no_plain_name_gets_the_hint_to_write_it_in_back_ticks(mods):
    with pytest.raises(DesignError, match="Write `session number`, in back-ticks"):
        design(mods)


def test_a_hint_is_given_only_where_it_helps():
    with pytest.raises(DesignError) as error:
        design("`session number` + ratr")
    assert "back-ticks" not in str(error.value)


@pytest.mark.parametrize("mods", ["r", "year + r", "np.log(r)", "seen_r", "fisher"])
def test_the_outcome_is_no_moderator(mods):
    frame = pd.DataFrame({"study": LABELS, "r": [0.1, 0.2, 0.3, 0.4, 0.25, 0.15, 0.33, 0.05], "n": [50] * 8})
    frame = frame.assign(year=MODS["year"], seen_r=frame["r"].round(2), fisher=np.arctanh(frame["r"]).round(3))
    with pytest.raises(DesignError, match="is what the effects were computed from; leave it out"):
        RandomEffectsModel(escalc(frame), mods=mods).fit()


def test_sample_size_and_standard_error_may_be_moderators():
    """Egger's regression and its kin are regressions on these."""
    frame = pd.DataFrame({"study": LABELS, "r": [0.1, 0.2, 0.3, 0.4, 0.25, 0.15, 0.33, 0.05], "n": range(30, 110, 10)})
    frame["sei"] = 1 / np.sqrt(frame["n"] - 3.0)
    for mods in ("n", "sei"):
        assert RandomEffectsModel(escalc(frame), mods=mods).fit().p == 2
