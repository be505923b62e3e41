"""The frame a forest plot is drawn from holds the fit's own numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import InputError
from alliance_meta.evidence.umbrellas import umbrella
from alliance_meta.models.subgroups import subgroups
from alliance_meta.plots import forest_data, frame_from_dict, frame_to_dict, published_forest_data
from alliance_meta.plots.forests.layout import estimate_texts
from alliance_meta.plots.forests.parts import test_text as words_of_test
from alliance_meta.plots.sheet.measure import make_axis, to_reader
from tests.plots.cases import FRAMES, fitted, made, made_up, molloy, quiet
from tests.tolerances import CLOSED_FORM, printed


def studies(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["kind"] == "study"].reset_index(drop=True)


def only(frame: pd.DataFrame, kind: str) -> pd.Series[Any]:
    rows = frame[frame["kind"] == kind]
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_summary_is_the_fit() -> None:
    fit = molloy()
    frame = forest_data(fit)
    summary, prediction = only(frame, "summary"), only(frame, "prediction")
    expected = fit.predict().iloc[0]
    on_r = fit.predict(scale="r").iloc[0]
    for drawn, name in (("yi", "pred"), ("ci_lb", "ci_lb"), ("ci_ub", "ci_ub")):
        assert summary[drawn] == pytest.approx(expected[name], rel=CLOSED_FORM)
    for drawn, name in (("r", "pred"), ("r_lb", "ci_lb"), ("r_ub", "ci_ub")):
        assert summary[drawn] == pytest.approx(on_r[name], rel=CLOSED_FORM)
    for name in ("pi_lb", "pi_ub"):
        assert prediction[name] == pytest.approx(expected[name], rel=CLOSED_FORM)
        assert prediction[f"r_{name}"] == pytest.approx(on_r[name], rel=CLOSED_FORM)
    assert summary["yi"] == printed("0.1499")
    assert summary["ni"] == fit.effects.ni.sum()
    assert frame.attrs["pooled"] == summary["yi"]


def test_studies_keep_order_effects_and_weights() -> None:
    fit = molloy()
    rows = studies(forest_data(fit))
    assert rows["label"].tolist() == list(fit.effects.slab)
    np.testing.assert_allclose(rows["yi"], fit.effects.yi, rtol=CLOSED_FORM)
    np.testing.assert_allclose(rows["r"], np.tanh(fit.effects.yi), rtol=CLOSED_FORM)
    np.testing.assert_allclose(rows["weight"], fit.weights, rtol=CLOSED_FORM)
    np.testing.assert_allclose(rows["weight"].sum(), 100, rtol=CLOSED_FORM)
    half = 1.959963984540054 * fit.effects.sei
    np.testing.assert_allclose(rows["ci_lb"], fit.effects.yi - half, rtol=CLOSED_FORM)
    np.testing.assert_allclose(rows["r_ub"], np.tanh(fit.effects.yi + half), rtol=CLOSED_FORM)


def test_another_level_changes_every_interval_and_its_labels() -> None:
    fit = molloy()
    wide, narrow = forest_data(fit, level=0.99), forest_data(fit, level=0.8)
    drawn = wide["kind"].isin(["study", "summary"])
    assert (wide.loc[drawn, "ci_lb"] < narrow.loc[drawn, "ci_lb"]).all()
    assert wide.attrs["estimate_header"] == "r [99% CI]"
    assert only(narrow, "prediction")["label"] == "80% prediction interval"


@pytest.mark.parametrize(
    ("order", "column", "ascending"),
    [("effect", "yi", True), ("-effect", "yi", False), ("weight", "weight", False), ("-weight", "weight", True)],
)
def test_order(order: str, column: str, ascending: bool) -> None:
    rows = studies(forest_data(fitted(20), order=order))
    assert rows[column].is_monotonic_increasing if ascending else rows[column].is_monotonic_decreasing
    assert sorted(rows["position"]) == list(range(20))


def test_precision_puts_the_largest_study_first() -> None:
    rows = studies(forest_data(fitted(20), order="precision"))
    assert rows["ni"].is_monotonic_decreasing


def test_missing_sort_values_come_last_and_are_counted() -> None:
    fit = fitted(20)
    missing = int(fit.effects.moderators["year"].isna().sum())
    assert missing > 0
    for order in ("year", "-year"):
        frame = forest_data(fit, order=order, columns=["year"])
        years = studies(frame)["year"].tolist()
        assert years[-missing:] == [""] * missing
        known = [int(year) for year in years[:-missing]]
        assert known == sorted(known, reverse=order.startswith("-"))
        assert f"{missing} of 20 studies have no 'year' and are listed last." in {
            note["message"] for note in frame.attrs["notes"]
        }


def test_order_by_moderator_then_effect() -> None:
    rows = studies(forest_data(fitted(30), order=("rater", "-effect"), columns=["rater"]))
    assert rows["rater"].is_monotonic_increasing
    assert all(group["yi"].is_monotonic_decreasing for _, group in rows.groupby("rater"))


@pytest.mark.parametrize("tau2", ["separate", "common"])
def test_subgroup_diamonds_are_the_subgroup_fits(tau2: Any) -> None:
    fit = fitted(30)
    frame = forest_data(fit, by="rater", tau2=tau2)
    groups = subgroups(fit, by="rater", tau2=tau2)
    diamonds = frame[frame["kind"] == "subgroup"].set_index("group")
    expected = groups.tidy()
    assert list(diamonds.index) == list(groups.levels)
    for level in groups.levels:
        for drawn, name in (("yi", "estimate"), ("ci_lb", "ci_lb"), ("ci_ub", "ci_ub")):
            assert diamonds.loc[level, drawn] == pytest.approx(expected.loc[level, name], rel=CLOSED_FORM)
        members = studies(frame[frame["group"] == level])["position"].astype(int).tolist()
        assert members == [int(i) for i in groups.rows[level]]
    line = next(line for line in frame.attrs["bottom"] if line.startswith("Test for subgroup differences"))
    assert ("common τ²" in line) == (tau2 == "common")
    assert line.startswith(f"Test for subgroup differences: {words_of_test(groups.QM, groups.QMdf, groups.QMp)}; ")
    assert line in frame.attrs["description"] + "."


def test_one_study_is_no_subgroup_summary() -> None:
    effects = made_up(6)
    moderators = effects.moderators.assign(site=["a", "a", "b", "a", "a", None])
    fit = quiet(lambda: RandomEffectsModel(_with(effects, moderators)).fit())
    frame = forest_data(fit, by="site", tau2="separate")
    alone = frame[(frame["kind"] == "subgroup") & (frame["group"] == "b")].iloc[0]
    assert alone["label"] == "No mean (k = 1)"
    assert math.isnan(alone["yi"])
    shared = forest_data(fit, by="site")
    resting = shared[(shared["kind"] == "subgroup") & (shared["group"] == "b")].iloc[0]
    assert resting["label"] == "Subtotal (k = 1, τ² of all levels)"
    assert resting["yi"] == pytest.approx(effects.yi[2], rel=CLOSED_FORM)
    headings = frame.loc[frame["kind"] == "heading", "label"].tolist()
    assert headings == ["a", "b", "not coded"]
    assert frame.attrs["label_header"] == "Study, by site"
    assert len(studies(frame)) == 6
    assert "b has one effect" in " ".join(note["message"] for note in frame.attrs["notes"])


def test_levels_are_headed_in_words_and_their_column_is_named_once() -> None:
    effects = made_up(6)
    moderators = effects.moderators.assign(manual_used=[True, False] * 3, decade=[1990.0, 2000.0, None] * 2)
    fit = quiet(lambda: RandomEffectsModel(_with(effects, moderators)).fit())
    for by, heads in (("manual_used", ["no", "yes"]), ("decade", ["1990", "2000", "not coded"])):
        frame = quiet(lambda by=by: forest_data(fit, by=by))
        assert frame.loc[frame["kind"] == "heading", "label"].tolist() == heads
        assert frame.attrs["label_header"] == f"Study, by {by.replace('_', ' ')}"


def _with(effects: EffectSizes, moderators: pd.DataFrame) -> EffectSizes:
    return EffectSizes.from_arrays(
        effects.yi, effects.vi, ni=effects.ni, mods=moderators, measure="ZCOR", slab=effects.slab
    )


def test_a_regression_has_no_pooled_diamond_but_fitted_values() -> None:
    fit = fitted(25, mods="year")
    frame = forest_data(fit)
    assert set(frame["kind"]) == {"study"}
    assert frame.attrs["pooled"] is None
    predicted = fit.predict()
    np.testing.assert_allclose(frame["fit"], predicted["pred"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(frame["fit_ub"], predicted["ci_ub"], rtol=CLOSED_FORM)
    assert any(line.startswith("Test of moderators: F(1, ") for line in frame.attrs["bottom"])
    assert any(line.startswith("Residual heterogeneity: Q(") for line in frame.attrs["bottom"])


@pytest.mark.parametrize("by", [None, "rater"])
def test_one_categorical_moderator_gives_a_fitted_mean_per_level(by: str | None) -> None:
    fit = fitted(25, mods="rater")
    frame = forest_data(fit, by=by)
    means = frame[frame["kind"] == ("fitted" if by is None else "subgroup")]
    levels = ["client", "observer", "therapist"]
    predicted = fit.predict(pd.DataFrame({"rater": levels}))
    np.testing.assert_allclose(means["yi"], predicted["pred"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(means["r_lb"], np.tanh(predicted["ci_lb"]), rtol=CLOSED_FORM)
    if by is None:
        assert [label.split(" (")[0] for label in means["label"]] == [f"Fitted mean: {level}" for level in levels]
        assert studies(frame)["position"].tolist() == list(range(25))
    else:
        assert frame.loc[frame["kind"] == "heading", "label"].tolist() == levels


def test_equal_effects_have_neither_tau_nor_prediction_interval() -> None:
    frame = forest_data(molloy(method="EE", test="z"))
    assert "prediction" not in set(frame["kind"])
    assert "τ" not in frame.attrs["bottom"][0]


def test_one_study_says_that_heterogeneity_cannot_be_seen() -> None:
    frame = forest_data(fitted(1))
    assert frame["kind"].tolist() == ["study", "blank", "summary"]
    assert frame.attrs["bottom"] == ["Heterogeneity cannot be estimated from one study"]


def test_raw_correlations_keep_their_scale() -> None:
    frame = made("raw r")
    rows = studies(frame)
    np.testing.assert_array_equal(rows["r"], rows["yi"])
    assert frame.attrs["axis_label"] == "Correlation r"


def test_plain_effects_have_no_r() -> None:
    frame = made("plain")
    assert frame["r"].isna().all()
    assert estimate_texts(frame)[1][0] == "30.50"


def test_printed_and_drawn_numbers_are_the_same() -> None:
    frame = forest_data(molloy())
    texts = estimate_texts(frame)
    summary = frame.index[frame["kind"] == "summary"][0]
    assert texts[summary] == (".15", "[.08, .22]")
    assert texts[summary + 1] == ("", "[−.05, .34]")
    assert texts[summary - 1] == ("", "")


def test_the_lines_under_the_plot() -> None:
    assert forest_data(molloy()).attrs["bottom"] == [
        "Heterogeneity: Q(15) = 38.16, p < .001; τ = 0.09 [0.04, 0.19] (z scale); I² = 61.7%"
    ]


def test_several_effects_of_one_study_are_not_summed() -> None:
    effects = made_up(4)
    twice = EffectSizes.from_arrays(
        effects.yi, effects.vi, ni=effects.ni, measure="ZCOR", slab=list("abcd"), study_id=["s", "s", "t", "u"]
    )
    fit = quiet(lambda: RandomEffectsModel(twice).fit())
    assert math.isnan(only(forest_data(fit), "summary")["ni"])


def test_cautions_and_synthetic_data_are_handed_on() -> None:
    effects = made_up(5)
    origin = Provenance(source="lesson.csv", cautions=("Made up.",), synthetic=True, title="A lesson")
    object.__setattr__(effects, "provenance", origin)
    frame = forest_data(quiet(lambda: RandomEffectsModel(effects).fit()))
    assert frame.attrs["synthetic"] is True
    assert frame.attrs["cautions"] == ["Made up."]
    assert frame.attrs["title"] == "Forest plot: A lesson"


def test_risk_of_bias_becomes_letters_with_a_key() -> None:
    fit = fitted(20)
    frame = forest_data(fit, rob=["bias"])
    letters = {"low": "L", "some concerns": "S", "high": "H"}
    assert studies(frame)["bias"].tolist() == [letters[value] for value in fit.effects.moderators["bias"]]
    assert "Risk of bias: L low, S some concerns, H high" in frame.attrs["bottom"]


def test_a_column_named_like_one_of_the_frame_does_not_replace_it() -> None:
    fit = fitted(6)
    frame = forest_data(fit, columns={"r": "Coded r"})
    assert frame.attrs["columns"] == [{"key": "r (column)", "title": "Coded r", "numeric": True}]
    np.testing.assert_allclose(studies(frame)["r"], np.tanh(fit.effects.yi), rtol=CLOSED_FORM)


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_frames_survive_json(name: str) -> None:
    frame = made(name)
    text = json.dumps(frame_to_dict(frame), allow_nan=False)
    again = frame_from_dict(json.loads(text))
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert again.attrs == frame.attrs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["ratr"]}, "did you mean 'rater'"),
        ({"columns": ["rater", "year", "bias", "modality"]}, "room for 3"),
        ({"rob": ["biass"]}, "did you mean 'bias'"),
        ({"order": "effct"}, "did you mean 'effect'"),
        ({"by": "ratr"}, "did you mean 'rater'"),
        ({"tau2": "seperate", "by": "rater"}, "'common', 'separate'"),
        ({"level": 95}, "write 0.95"),
    ],
)
def test_misspelt_options_name_the_right_ones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        forest_data(fitted(8), **options)


def test_subgroups_of_a_regression_are_refused() -> None:
    with pytest.raises(InputError, match="mods='year'"):
        forest_data(fitted(25, mods="year"), by="rater")


def test_a_frame_without_meta_data_is_refused() -> None:
    frame = forest_data(molloy())
    with pytest.raises(InputError, match=r"lost its \.attrs"):
        frame_to_dict(pd.DataFrame(frame.to_dict()))
    with pytest.raises(InputError, match="lacks yi"):
        frame_to_dict(frame.drop(columns="yi"))
    with pytest.raises(InputError, match="lacks rows, meta"):
        frame_from_dict({"columns": []})


def published(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"label": ["A", "B"], "r": [0.3, 0.2], "ci_lb": [0.1, None], "ci_ub": [0.45, None], **columns})


def test_published_results_are_never_pooled_or_filled_in() -> None:
    frame = published_forest_data(published(k=[20, None], n=[1500, None]))
    assert frame["kind"].tolist() == ["study", "study"]
    assert frame["k"].tolist() == ["20", ""]
    assert frame["n"].tolist() == ["1,500", ""]
    assert estimate_texts(frame) == [(".30", "[.10, .45]"), (".20", "")]
    assert frame["weight"].isna().all()
    assert frame.attrs["pooled"] is None
    np.testing.assert_allclose(frame["yi"], np.arctanh([0.3, 0.2]), rtol=CLOSED_FORM)
    assert frame.attrs["bottom"][-1].startswith("Open squares")


def test_published_results_keep_their_printed_digits() -> None:
    frame = published_forest_data(published(text=["0.300 [0.100, 0.45]", "-0.2"]))
    assert estimate_texts(frame) == [(".300", "[.100, .45]"), ("−.2", "")]


def test_intervals_of_another_level_name_it() -> None:
    frame = published_forest_data(published(ci_level=[0.9, None]))
    assert estimate_texts(frame) == [(".30", "[.10, .45] (90%)"), (".20", "")]
    assert estimate_texts(published_forest_data(published(ci_level=[0.95, None])))[0] == (".30", "[.10, .45]")


def test_published_results_without_r_are_counted() -> None:
    frame = published_forest_data(published(r=[0.3, None]))
    assert frame["label"].tolist() == ["A"]
    assert frame.attrs["notes"][0]["message"].startswith("1 of 2 published results")


def test_published_results_are_checked_all_at_once() -> None:
    with pytest.raises(InputError, match=r"(?s)A: r = 1.2.*B: the interval \[0.5, 0.6\]"):
        published_forest_data(published(r=[1.2, 0.2], ci_lb=[0.1, 0.5], ci_ub=[0.5, 0.6]))
    with pytest.raises(InputError, match="nothing to draw"):
        published_forest_data(published(r=[None, None]))
    with pytest.raises(InputError, match="lack the columns ci_ub"):
        published_forest_data(published().drop(columns="ci_ub"))


def test_the_umbrella_is_drawn_as_it_is() -> None:
    source = umbrella().frame
    frame = published_forest_data(source)
    rows = studies(frame)
    assert rows["label"].tolist() == source["label"].tolist()
    np.testing.assert_allclose(rows["r"], source["estimate"], rtol=CLOSED_FORM)
    assert frame.loc[frame["kind"] == "heading", "label"].tolist() == list(dict.fromkeys(source["heading"]))
    turned = source["sign_flipped"].to_numpy(dtype=bool)
    assert turned.any()
    assert not any(text.startswith("−") for text, flip in zip(rows["text"], turned, strict=True) if flip)


@pytest.mark.parametrize(
    ("r", "limits"), [(0.3, [0.0, 0.4]), (0.4, [0.0, 0.4]), (-0.1, [-0.2, 0.2]), (0.9, [0.0, 0.95])]
)
def test_the_axis_of_published_results_ends_at_whole_steps(r: float, limits: list[float]) -> None:
    frame = published_forest_data(pd.DataFrame({"label": ["a"], "r": [r], "ci_lb": [math.nan], "ci_ub": [math.nan]}))
    assert frame.attrs["xlim"] == limits
    axis = make_axis(frame, width=3.0, size=7.0)
    shown = [to_reader(place, "ZCOR") for place, _ in axis.ticks]
    if limits[1] < 0.95:
        assert [shown[0], shown[-1]] == pytest.approx(limits, abs=CLOSED_FORM)
