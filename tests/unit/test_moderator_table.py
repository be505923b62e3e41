"""`moderator_table`: what it shares with the functions for one moderator, what it counts, refuses and leaves open."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import moderator_table, moderators, plots
from alliance_meta.errors import AllianceMetaWarning, DependenceWarning
from alliance_meta.models.subgroups import subgroups
from alliance_meta.notes import NotApplicable
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning")
NUMBERS = ["estimate", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub"]
NAMES = ["criterion", "source", "year"]


@pytest.fixture
def crede() -> am.EffectSizes:
    return am.escalc(am.load_dataset("crede2010"))


@pytest.fixture
def alone() -> am.EffectSizes:
    return am.escalc(am.load_dataset("synthetic_alliance"))


def made(k: int, per: int = 1, *, alike: bool = False) -> am.EffectSizes:
    rng = np.random.default_rng(1)
    mods = {
        "rater": [["a", "b", "c"][i % 3] for i in range(k)],
        "x": np.arange(k) * 1.0,
        "flag": [bool(i % 2) for i in range(k)],
        "the set": pd.Categorical([["z", "y"][i % 2] for i in range(k)], ["z", "y"]),
        "one": ["u"] * k,
        "gone": [None] * k,
        "num": [float(i % 2) for i in range(k)],
    }
    y = np.full(k, 0.2) if alike else rng.normal(0.3, 0.2, k)
    studies = [f"s{i // per}" for i in range(k)]
    return am.EffectSizes.from_arrays(
        y, np.full(k, 0.02), ni=np.full(k, 53), mods=mods, study_id=studies, measure="ZCOR"
    )


def same(ours: pd.DataFrame, theirs: pd.DataFrame, names: list[str], rel: float = CLOSED_FORM) -> None:
    np.testing.assert_allclose(ours[names].to_numpy(dtype=float), theirs[names].to_numpy(dtype=float), rtol=rel)


def test_means_and_test_of_che_are_those_of_the_regression(crede):
    found = moderator_table(crede, NAMES)
    fit = am.che(crede, mods="source")
    same(found.tidy().loc["source"], moderators.marginal_means(fit, "source").tidy(), NUMBERS)
    test = found.tests.loc["source"]
    assert (test["stat"], test["df1"], test["df2"], test["pval"]) == (
        fit.omnibus.stat,
        fit.omnibus.df1,
        fit.omnibus.df2,
        fit.omnibus.pval,
    )
    slope = moderators.marginal_slopes(am.che(crede, mods="year"), "year").tidy().iloc[0]
    row = found.tidy().loc[("year", "per unit")]
    assert [row[one] for one in ("estimate", "pval", "r", "r_lb")] == [
        slope[one] for one in ("estimate", "pval", "estimate_r", "ci_lb_r")
    ]
    overall = am.che(crede).predict(scale="r").iloc[0]
    row = found.tidy().loc[("Overall", "all effects")]
    assert [row[one] for one in ("r", "r_lb", "r_pi_ub")] == pytest.approx(
        [overall[one] for one in ("pred", "ci_lb", "pi_ub")], rel=CLOSED_FORM
    )


def test_controlled_means_are_the_marginal_means_of_the_joint_model(crede):
    found = moderator_table(crede, NAMES)
    joint = am.che(crede, mods="criterion + source + year")
    ours = found.tidy().loc["source"].rename(columns={f"{one}_controlled": one for one in NUMBERS[:1] + NUMBERS[2:4]})
    ours = ours.loc[:, ~ours.columns.duplicated(keep="last")]
    same(
        ours, moderators.marginal_means(joint, "source", weights="proportional").tidy(), ["estimate", "ci_lb", "ci_ub"]
    )
    assert found.tests.loc["source", "pval_controlled"] == joint.test("source").pval
    assert (found.k_controlled, found.controlled) == (97, "criterion + source + year, 97 of 97 effects")


def test_the_joint_model_has_the_effects_with_every_moderator_and_levels_of_two_studies(crede):
    table = crede.moderators
    part = crede.take(((table["sampleid"] < 3) & table["class"].notna()).to_numpy())
    found = moderator_table(crede, ["class", "C(sampleid)", "source"])
    there = part.moderators.groupby("sampleid")["study"].nunique()
    assert there.min() >= 2
    fit = am.che(part, mods="class + C(sampleid) + source")
    assert (found.k_controlled, found.tests.loc["source", "pval_controlled"]) == (part.k, fit.test("source").pval)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")
def test_separate_tau2_of_independent_effects_is_subgroups(crede):
    found = moderator_table(crede, "source", model="random", tau2="separate")
    theirs = subgroups(am.RandomEffectsModel(crede).fit(), by="source", tau2="separate")
    same(found.tidy().loc["source"], theirs.tidy(), NUMBERS[:4])
    assert found.tests.loc["source", "stat"] == theirs.QM
    assert found.tests.loc["source", "test"] == "F"
    assert found.tidy().loc["source", "tau"].tolist() == [fit.tau for fit in theirs.fits.values()]


def test_explained_heterogeneity_is_that_of_the_model(alone):
    found = moderator_table(alone, ["rater", "year"], model="random")
    for name in ("rater", "year"):
        assert found.tests.loc[name, "R2"] == pytest.approx(
            am.RandomEffectsModel(alone, mods=name).fit().R2, rel=CLOSED_FORM
        )


def test_che_of_one_effect_per_study_is_the_random_effects_model_with_cr2(alone):
    found = moderator_table(alone, "rater")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        che = am.che(alone, mods="rater")
    same(found.tidy().loc["rater"], moderators.marginal_means(che, "rater").tidy(), NUMBERS, ITERATIVE)
    assert found.tests.loc["rater", "pval"] == pytest.approx(che.omnibus.pval, rel=ITERATIVE)


def test_levels_of_one_study_are_counted_but_not_tested(crede):
    found = moderator_table(crede, "C(sampleid)")
    rows = found.tidy().loc["sampleid"]
    assert list(rows.index) == list("123456789")
    assert rows["why"].tolist() == [""] * 3 + ["fewer than 2 studies"] * 6
    assert isinstance(rows.loc["4", "estimate"], NotApplicable)
    assert (found.tests.loc["sampleid", "k"], found.tests.loc["sampleid", "left_out"]) == (91, 6)
    assert [note.code for note in found.notes] == ["assumed-V", "few-df", "small-levels"]
    keep = crede.take(crede.moderators["sampleid"].to_numpy() <= 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        fit = am.che(keep, mods="C(sampleid)")
    assert found.tests.loc["sampleid", "stat"] == fit.omnibus.stat
    lone = moderator_table(crede, "C(sampleid)", least=1)
    assert lone.tests.loc["sampleid", "k"] == 97
    assert "one cluster alone" in lone.tests.loc["sampleid", "why"]


def test_people_of_a_sample_count_once_and_missing_values_are_counted(crede):
    found = moderator_table(crede, ["criterion", "class"])
    for level in ("gpa", "grade"):
        part = crede.take((crede.moderators["criterion"] == level).to_numpy())
        row = found.tidy().loc[("criterion", level)]
        assert (row["k"], row["studies"], row["people"]) == (part.k, part.n_studies, part.people)
    assert found.tests["missing"].tolist() == [0, 30]
    assert found.tests["within"].tolist() == [10, 0]
    # Where the class is known the criterion is always the grade: there is nothing to control.
    assert "does not vary" in found.controlled


def test_gaps_are_the_cells_that_no_effect_fills(crede):
    found = moderator_table(crede, ["criterion", "source", "class"])
    table = crede.moderators
    assert found.gaps[["level1", "level2"]].values.tolist() == [["gpa", "nonscience"], ["gpa", "science"]]
    assert found.gaps["studies1"].tolist() == [table.loc[table["criterion"] == "gpa", "study"].nunique()] * 2
    assert moderator_table(crede, ["criterion", "class"], gaps=False).gaps.empty
    assert moderator_table(crede, ["criterion", "source", "class"], gaps=["criterion", "source"]).gaps.empty


def test_no_row_depends_on_the_order_of_rows(crede):
    order = np.random.default_rng(2).permutation(crede.k)
    one, other = (moderator_table(es, NAMES) for es in (crede, crede.take(order)))
    same(one.tidy(), other.tidy(), ["k", "people", *NUMBERS], ITERATIVE)
    same(one.tests, other.tests, ["stat", "df2", "pval_adjusted", "pval_controlled"], 1e-6)


@pytest.mark.parametrize("adjust", ["holm", "fdr_bh", "none"])
def test_p_values_are_adjusted_across_moderators(crede, adjust):
    found = moderator_table(crede, NAMES, adjust=adjust)
    expected = moderators.adjust_pvalues(found.tests["pval"].astype(float), method=adjust)
    assert found.tests["pval_adjusted"].astype(float).tolist() == expected.tolist()


def test_codes_that_look_like_amounts_are_named(crede):
    found = moderator_table(made(24), ["num", "x"])
    assert "write 'C(num)'" in next(note.message for note in found.notes if note.code == "numbers-as-codes")


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        ("ratr", {}, "did you mean 'rater'"),
        ([], {}, "at least one moderator"),
        (["rater", "C(rater)"], {}, "named twice"),
        ("rater", {"model": "chee"}, "not one of 'che'"),
        ("rater", {"model": "multilevel", "tau2": "separate"}, "take model='che'"),
        ("rater", {"test": "z"}, "leave test out"),
        ("rater", {"least": 0}, "at least 1"),
        ("rater", {"gaps": ["x"]}, "no categorical moderator"),
        ("rater", {"level": 95}, "write 0.95"),
    ],
)
def test_what_makes_no_sense_is_refused(names, options, says):
    with pytest.raises(am.InputError, match=says):
        moderator_table(made(12), names, **options)


def test_dependent_effects_taken_as_independent_warn(crede):
    with pytest.warns(DependenceWarning, match="97 effects from 68 studies"):
        found = moderator_table(crede, "source", model="random")
    assert [note.code for note in found.notes] == ["dependent-effects"]


def nans(*frames: pd.DataFrame) -> list[Any]:
    cells = [(name, index, value) for one in frames for name in one for index, value in one[name].items()]
    return [
        cell
        for cell in cells
        if isinstance(cell[2], float) and math.isnan(cell[2]) and not isinstance(cell[2], NotApplicable)
    ]


@pytest.mark.parametrize(
    ("model", "tau2", "effects"),
    [
        *[("che", tau2, made(*one)) for tau2 in ("common", "separate") for one in ((1,), (2,), (4, 2), (7, 3))],
        *[("random", tau2, made(*one)) for tau2 in ("common", "separate") for one in ((1,), (3,), (7, 3))],
        *[("multilevel", "common", made(*one)) for one in ((2,), (4, 2))],
        *[(model, "common", made(12, 2, alike=True)) for model in ("che", "random", "multilevel")],
        ("multilevel", "separate", made(3)),
    ],
)
def test_hardly_any_data_have_an_answer_or_a_reason(model, tau2, effects):
    names = ["rater", "x", "flag", "the set", "one", "gone", "C(num)"]
    refused = (model == "che" and effects.n_studies == 1) or (model, tau2) == ("multilevel", "separate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        if refused:
            with pytest.raises(am.InputError):
                moderator_table(effects, names, model=model, tau2=tau2)
            return
        found = moderator_table(effects, names, model=model, tau2=tau2)
    assert nans(found.tidy(), found.tests) == []
    assert list(found.tests.index) == ["rater", "x", "flag", "the set", "one", "gone", "num"]
    assert found.tests.loc["one", "why"]
    assert found.tests.loc["gone", "why"] == "no effect has a value"
    plots.moderators_data(found)


def test_a_name_that_is_no_plain_one_has_the_answer_of_a_plain_one():
    found = moderator_table(made(24, 2), ["the set"], tau2="separate").tidy().loc["the set"]
    plain = am.EffectSizes.from_arrays(
        made(24).yi,
        made(24).vi,
        ni=made(24).ni,
        measure="ZCOR",
        study_id=made(24, 2).study_id,
        mods={"set": made(24).moderators["the set"]},
    )
    same(found, moderator_table(plain, ["set"], tau2="separate").tidy().loc["set"], [*NUMBERS, "tau"])
    assert list(found.index) == ["z", "y"]
