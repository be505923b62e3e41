"""A forest plot of dependent effects holds each study and, under it, its effects, with the fit's own numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from alliance_meta import (
    EffectSizes,
    MultilevelModel,
    RandomEffectsModel,
    RVEModel,
    che,
    escalc,
    impute_V,
    moderator_table,
)
from alliance_meta.errors import InputError
from alliance_meta.models import sce
from alliance_meta.plots import caterpillar_data, forest_data, forest_pages, frame_from_dict, frame_to_dict
from alliance_meta.plots.forests.layout import continued, estimate_texts
from alliance_meta.plots.forests.parts import test_text as words_of_test
from tests.plots.cases import dependent, molloy, quiet
from tests.plots.geometry import words
from tests.tolerances import CLOSED_FORM, ITERATIVE


@pytest.fixture(scope="module")
def es() -> EffectSizes:
    return dependent(40, 12)


@pytest.fixture(scope="module")
def fit(es):
    return quiet(lambda: che(es))


@pytest.fixture(scope="module")
def frame(fit) -> pd.DataFrame:
    return forest_data(fit)


@pytest.fixture(scope="module")
def table(es):
    return quiet(lambda: moderator_table(es, "rater", control=False))


@pytest.fixture(scope="module")
def grouped(fit) -> pd.DataFrame:
    return forest_data(fit, by="rater")


def single(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["kind"].isin(["study", "effect"])]


class TestRows:
    def test_every_effect_stands_under_its_study(self, es, frame):
        rows = single(frame)
        assert sorted(rows["position"]) == list(range(40))
        position = rows["position"].astype(int)
        np.testing.assert_array_equal(rows["yi"], es.yi[position])
        under = rows["kind"] == "effect"
        assert rows.loc[under, "group"].tolist() == [es.study_id[i] for i in position[under]]
        assert rows.loc[~under, "label"].tolist() == [es.study_id[i] for i in position[~under]] == [es.study_id[-1]]
        assert frame.loc[frame["kind"] == "cluster", "label"].tolist() == list(dict.fromkeys(es.study_id))[:-1]

    def test_a_study_comes_before_its_effects(self, frame):
        inside = ""
        for row in frame.to_dict("records"):
            inside = row["label"] if row["kind"] == "cluster" else inside
            if row["kind"] == "effect":
                assert row["group"] == inside

    def test_the_row_of_a_study_holds_what_the_model_predicts_of_it(self, fit, frame):
        expected = fit.fit.blup()
        for row in frame[frame["kind"] == "cluster"].to_dict("records"):
            one = expected.loc[row["label"]]
            assert (row["yi"], row["ci_lb"], row["ci_ub"]) == pytest.approx(
                (one["pred"], one["pi_lb"], one["pi_ub"]), rel=CLOSED_FORM
            )
            assert row["r"] == pytest.approx(math.tanh(one["pred"]), rel=CLOSED_FORM)
        alone = frame[frame["kind"] == "study"].iloc[0]
        assert alone["fit"] == pytest.approx(expected.loc[alone["label"], "pred"], rel=CLOSED_FORM)

    def test_weights_of_a_study_are_those_of_its_effects(self, fit, frame):
        rows = single(frame)
        np.testing.assert_allclose(rows["weight"], fit.weights[rows["position"].astype(int)], rtol=CLOSED_FORM)
        assert rows["weight"].sum() == pytest.approx(100, rel=CLOSED_FORM)
        total = rows[rows["kind"] == "effect"].groupby("group")["weight"].sum()
        clusters = frame[frame["kind"] == "cluster"].set_index("label")["weight"]
        np.testing.assert_allclose(clusters, total[clusters.index], rtol=CLOSED_FORM)

    def test_the_summary_is_the_fit(self, fit, frame, es):
        expected = fit.predict().iloc[0]
        summary = frame[frame["kind"] == "summary"].iloc[0]
        new = frame[frame["kind"] == "prediction"].iloc[0]
        assert summary[["yi", "ci_lb", "ci_ub"]].tolist() == expected[["pred", "ci_lb", "ci_ub"]].tolist()
        assert new[["pi_lb", "pi_ub"]].tolist() == expected[["pi_lb", "pi_ub"]].tolist()
        assert summary["ni"] == es.ni[[es.study_id.index(study) for study in dict.fromkeys(es.study_id)]].sum()
        assert frame.attrs["pooled"] == fit.beta[0]
        assert "CR2, 12 clusters by study_id" in " ".join(frame.attrs["bottom"])

    def test_sizes_stand_once_for_a_study(self, frame, es):
        assert frame.loc[frame["kind"] == "cluster", "ni"].notna().all()
        assert frame.loc[frame["kind"] == "effect", "ni"].isna().all()
        other = replace(es, ni=es.ni + np.arange(40))
        mixed = forest_data(quiet(lambda: che(other)))
        assert mixed.loc[mixed["kind"] == "cluster", "ni"].isna().all()
        assert single(mixed)["ni"].notna().all()
        assert math.isnan(mixed.loc[mixed["kind"] == "summary", "ni"].item())

    def test_columns_stand_once_where_a_study_agrees(self, es, fit):
        shown = forest_data(fit, columns=["rater"])
        for name, rows in shown[shown["kind"].isin(["cluster", "effect"])].groupby("group"):
            own = es.frame.loc[es.frame["study_id"] == name, "rater"]
            head, under = rows[rows["kind"] == "cluster"]["rater"].item(), rows[rows["kind"] == "effect"]["rater"]
            assert (head, set(under)) == ((own.iloc[0], {""}) if own.nunique() == 1 else ("", set(own)))

    def test_it_goes_through_json(self, frame):
        again = frame_from_dict(json.loads(json.dumps(frame_to_dict(frame), allow_nan=False)))
        pd.testing.assert_frame_equal(again, frame)
        assert again.attrs == frame.attrs


class TestLabels:
    def test_what_the_study_leaves_of_a_label(self, frame):
        effects = frame[frame["kind"] == "effect"]
        assert not effects.duplicated(["group", "label"]).any()
        studies = [frame["label"][frame["group"] == group].iloc[0] for group in effects["group"]]
        assert not any(name.startswith(study) for name, study in zip(effects["label"], studies, strict=True))
        assert "client" in " ".join(effects["label"])

    def test_a_moderator_as_label(self, es, fit):
        rows = single(forest_data(fit, label="modality"))
        for row in rows.to_dict("records"):
            text = es.moderators["modality"].iloc[int(row["position"])]
            expected = text if row["kind"] == "effect" else f"{es.study_id[-1]}: {text}"
            assert row["label"] == expected

    def test_labels_that_share_nothing_are_kept(self):
        one = EffectSizes.from_arrays(
            [0.1, 0.2, 0.3, 0.1], [0.01] * 4, slab=["x", "y", "z", "w"], study_id=["A", "A", "B", "B"], measure="ZCOR"
        )
        rows = single(forest_data(quiet(lambda: MultilevelModel(one).fit())))
        assert rows["label"].tolist() == ["x", "y", "z", "w"]


class TestOrder:
    def test_by_effect_sorts_studies_by_their_mean_and_effects_in_them(self, fit):
        frame = forest_data(fit, order="-effect")
        clusters = frame[frame["kind"] == "cluster"]
        assert clusters["yi"].is_monotonic_decreasing
        for _, rows in frame[frame["kind"] == "effect"].groupby("group"):
            assert rows["yi"].is_monotonic_decreasing

    def test_by_weight(self, fit):
        frame = forest_data(fit, order="weight")
        heads = frame[frame["kind"].isin(["cluster", "study"])]
        assert heads["weight"].is_monotonic_decreasing

    def test_by_precision(self, fit, es):
        frame = forest_data(fit, order="precision")
        heads = frame[frame["kind"].isin(["cluster", "study"])]["label"]
        vi = pd.Series(es.vi).groupby(list(es.study_id)).mean()
        assert vi[heads].is_monotonic_increasing

    def test_by_a_moderator_takes_the_earliest_of_a_study(self, fit, es):
        frame = forest_data(fit, order=("year", "-effect"))
        heads = frame[frame["kind"].isin(["cluster", "study"])]["label"]
        years = es.moderators["year"].groupby(list(es.study_id)).min()
        assert years[heads].is_monotonic_increasing
        assert "effects have no 'year'" in " ".join(note["message"] for note in frame.attrs["notes"])

    def test_an_unknown_way(self, fit):
        with pytest.raises(InputError, match="did you mean 'effect'"):
            forest_data(fit, order="efect")


class TestModels:
    def test_without_robust_inference(self, es):
        fit = quiet(lambda: MultilevelModel(es).fit())
        frame = forest_data(fit)
        assert (frame["kind"] == "cluster").sum() == 11
        assert not any("Cluster-robust" in line for line in frame.attrs["bottom"])
        sigma = np.sqrt(fit.sigma2)
        assert f"σ = {sigma[0]:.2f} between studies, σ = {sigma[1]:.2f} within studies" in frame.attrs["bottom"][0]

    def test_levels_of_a_moderator(self, es):
        fit = quiet(lambda: che(es, mods="rater"))
        frame = forest_data(fit)
        means = frame[frame["kind"] == "fitted"]
        expected = fit.predict({"rater": ["client", "observer", "therapist"]})
        np.testing.assert_allclose(means["yi"], expected["pred"], rtol=CLOSED_FORM)
        np.testing.assert_allclose(means["ci_ub"], expected["ci_ub"], rtol=CLOSED_FORM)
        assert frame.attrs["pooled"] is None
        assert frame.attrs["bottom"][1].startswith("Test of moderators: F(2, ")
        assert not (frame["kind"] == "summary").any()

    def test_other_moderators_have_fitted_values_beside_effects(self, es):
        kept = es.take(es.moderators["year"].notna().to_numpy())
        fit = quiet(lambda: che(kept, mods="year"))
        rows = single(forest_data(fit))
        np.testing.assert_allclose(
            rows["fit"], fit.predict()["pred"].to_numpy()[rows["position"].astype(int)], rtol=CLOSED_FORM
        )

    def test_models_without_a_mean_of_each_study_leave_its_row_empty(self, es):
        for fit in (quiet(lambda: sce(es, subgroup="rater")), quiet(lambda: RVEModel(es).fit())):
            frame = forest_data(fit)
            clusters = frame[frame["kind"] == "cluster"]
            assert len(clusters) == 11
            assert clusters["yi"].isna().all()
            texts = [text for text, kind in zip(estimate_texts(frame), frame["kind"], strict=True) if kind == "cluster"]
            assert set(texts) == {("", "")}
            assert not any("BLUP" in line for line in frame.attrs["bottom"])

    def test_robust_univariate_models(self, es):
        fit = quiet(lambda: RandomEffectsModel(es).fit().robust())
        frame = forest_data(fit)
        assert frame[frame["kind"] == "summary"]["ci_lb"].item() == fit.ci_lb[0]
        assert fit.model_label == "REML, CR2"
        assert "Pooled effect (REML, CR2)" in frame["label"].tolist()

    def test_other_studies_than_the_models(self, es):
        pairs = np.array([f"team {i // 10}" for i in range(40)])
        named = replace(es, _moderators=es.moderators.assign(team=pairs))
        fit = quiet(lambda: MultilevelModel(named).fit())
        frame = forest_data(fit, nest="team")
        assert frame.loc[frame["kind"] == "cluster", "label"].tolist() == [f"team {i}" for i in range(4)]
        assert frame.loc[frame["kind"] == "cluster", "yi"].isna().all()
        same = forest_data(fit, nest="study_id")
        pd.testing.assert_frame_equal(same, forest_data(fit))

    def test_the_coarsest_of_several_levels(self, es):
        team = [f"team {name}" for name in np.array(list(es.study_id))]
        half = replace(es, _moderators=es.moderators.assign(team=[name[:9].strip() for name in team]))
        fit = quiet(lambda: MultilevelModel(half, random=("team", "study_id", "es_id")).fit())
        frame = forest_data(fit)
        assert set(frame.loc[frame["kind"] == "cluster", "label"]) <= set(half.moderators["team"])

    def test_negative_weights_are_drawn_small_and_noted(self):
        one = EffectSizes.from_arrays(
            [0.1, 0.3, 0.2, 0.2, 0.4], [0.001, 0.2, 0.01, 0.01, 0.02], study_id=list("AABBC"), measure="ZCOR"
        )
        fixed = {"sigma2[study_id]": 0.01, "sigma2[study_id/es_id]": 0.0}
        fit = quiet(lambda: MultilevelModel(one, V=impute_V(one, rho=0.95), fixed=fixed).fit())
        assert (fit.weights < 0).any()
        frame = forest_data(fit)
        assert "negative-weights" in [note["code"] for note in frame.attrs["notes"]]
        assert forest_pages(frame)

    def test_what_is_refused(self, fit):
        with pytest.raises(InputError, match=r"draw am\.models\.sce"):
            forest_data(fit, by="rater", tau2="separate")
        with pytest.raises(InputError, match="did you mean 'modality'"):
            forest_data(fit, label="modalty")
        with pytest.raises(InputError, match="room for 3"):
            forest_data(fit, columns=["rater", "modality", "year", "bias"])
        with pytest.raises(InputError, match="for models of dependent effects"):
            forest_data(molloy(), nest="study_id")


class TestLevels:
    """Studies under the levels of a moderator, with the means of one model: those of a table of moderators."""

    def test_the_diamonds_are_the_means_of_the_table_and_the_test_is_its_test(self, grouped, table):
        assert_means(grouped, table.tidy().loc["rater"])
        row = table.tests.loc["rater"]
        line = f"Test for subgroup differences: {words_of_test(row['stat'], (row['df1'], row['df2']), row['pval'])}; "
        assert [one for one in grouped.attrs["bottom"] if one.startswith(line)]
        assert line in grouped.attrs["description"]

    def test_the_last_diamond_is_the_fits_own(self, grouped, frame):
        ends = [one[one["kind"].isin(["summary", "prediction"])].reset_index(drop=True) for one in (grouped, frame)]
        pd.testing.assert_frame_equal(*ends)

    def test_every_effect_stands_once_and_under_its_level(self, es, grouped):
        level = ""
        seen = []
        for row in grouped.to_dict("records"):
            level = row["group"] if row["kind"] == "heading" else level
            if row["kind"] in ("study", "effect"):
                seen.append(int(row["position"]))
                assert es.moderators["rater"].iloc[seen[-1]] == level
        assert sorted(seen) == list(range(40))

    def test_studies_at_several_levels_are_said(self, es, grouped):
        several = es.moderators["rater"].groupby(list(es.study_id)).nunique() > 1
        line = grouped.attrs["bottom"][-1]
        assert line.startswith(f"{several.sum()} studies have effects at several levels of rater and stand under each")
        heads = grouped[grouped["kind"].isin(["cluster", "study"])]["label"].value_counts()
        assert (heads[list(several[several].index)] > 1).all()

    def test_counts_of_a_level(self, es, grouped):
        for name, rows in es.frame.groupby(es.moderators["rater"].to_numpy()):
            label = grouped[(grouped["kind"] == "subgroup") & (grouped["group"] == name)]["label"].item()
            assert label == f"Subtotal ({len(rows)} effects in {rows['study_id'].nunique()} studies)"

    def test_other_models_of_dependent_effects(self, es):
        for make in (
            lambda mods: MultilevelModel(es, mods=mods).fit(),
            lambda mods: RVEModel(es, mods=mods).fit(),
            lambda mods: RandomEffectsModel(es, mods=mods).fit().robust(),
        ):
            expected = quiet(partial(make, "rater")).predict({"rater": LEVELS})
            drawn = forest_data(quiet(partial(make, "1")), by="rater")
            assert_means(drawn, expected.rename(columns={"pred": "estimate"}).set_axis(LEVELS))

    def test_what_the_levels_share_is_said(self, es, grouped):
        assert grouped.attrs["bottom"][-2].endswith("; one model with a common τ² for all subgroups")
        own = forest_data(
            quiet(lambda: MultilevelModel(es, random="rater | study_id", struct="DIAG").fit()), by="rater"
        )
        assert own.attrs["bottom"][-2].endswith("; one model with a mean for each subgroup and the same random terms")
        equal = quiet(lambda: RandomEffectsModel(es, method="EE").fit())
        assert (
            forest_data(equal, by="rater")
            .attrs["bottom"][-1]
            .endswith("; one model with equal effects in each subgroup")
        )

    def test_a_model_that_has_the_levels_draws_its_own(self, es):
        fit = quiet(lambda: sce(es, subgroup="rater"))
        drawn = forest_data(fit, by="rater")
        assert_means(drawn, fit.tidy().set_axis(LEVELS))
        test = quiet(lambda: sce(es, subgroup="rater", mods="rater")).test("rater")
        assert words_of_test(test.stat, (test.df1, test.df2), test.pval) in drawn.attrs["bottom"][-2]
        assert not (drawn["kind"] == "summary").any()

    def test_a_level_of_one_study_has_no_robust_mean(self, es):
        names = [None, *es.moderators["rater"].iloc[1:-1], "other"]
        marked = replace(es, _moderators=es.moderators.assign(rater=names))
        drawn = forest_data(quiet(lambda: che(marked)), by="rater")
        alone = drawn[(drawn["kind"] == "subgroup") & (drawn["group"] == "other")].iloc[0]
        assert (alone["label"], math.isnan(alone["yi"])) == ("No mean (1 study): needs 2 studies", True)
        assert {"small-levels", "dropped-rows"} <= {note["code"] for note in drawn.attrs["notes"]}
        expected = quiet(lambda: moderator_table(marked, "rater", control=False)).tidy().loc["rater"]
        assert_means(drawn, expected.drop("other"))
        assert drawn.loc[drawn["kind"] == "heading", "label"].tolist()[-1] == "not coded"
        assert single(drawn)["position"].nunique() == 40

    def test_few_degrees_of_freedom_are_said(self):
        few = dependent(10, 4)
        drawn = forest_data(quiet(lambda: che(few)), by="rater")
        assert "few-df" in {note["code"] for note in drawn.attrs["notes"]}

    def test_what_has_nothing_to_compare(self, es):
        by_study = replace(es, _moderators=es.moderators.assign(own=list(es.study_id), one="x"))
        fit = quiet(lambda: che(by_study))
        with pytest.raises(InputError, match=r"no levels that 2 studies or more have.*columns=\['own'\]"):
            forest_data(fit, by="own")
        with pytest.raises(InputError, match="one level"):
            forest_data(fit, by="one")


LEVELS = ["client", "observer", "therapist"]


def assert_means(frame: pd.DataFrame, expected: pd.DataFrame) -> None:
    drawn = frame[(frame["kind"] == "subgroup") & frame["yi"].notna()].set_index("group")[["yi", "ci_lb", "ci_ub"]]
    assert list(drawn.index) == list(expected.index)
    np.testing.assert_allclose(drawn, expected[["estimate", "ci_lb", "ci_ub"]].astype(float), rtol=ITERATIVE)


class TestPages:
    def test_a_page_inside_a_level_names_it_and_the_study(self, grouped):
        kinds = grouped["kind"].tolist()
        at = kinds.index("effect") + 1
        study = grouped["label"][kinds.index("cluster")]
        assert continued(grouped, [at]) == f"client, {study} (continued)"
        assert continued(grouped, [kinds.index("cluster")]) == "client (continued)"
        assert continued(grouped, [kinds.index("subgroup")]) == "client (continued)"
        assert continued(grouped, [kinds.index("summary")]) is None

    def test_a_study_is_never_parted_from_its_first_effect_and_is_named_again(self):
        frame = forest_data(quiet(lambda: che(dependent(150, 9))))
        pages = forest_pages(frame)
        texts = [[text.get_text() for text in words(page.axes[0])] for page in pages]
        assert len(pages) == 3
        heads = frame.loc[frame["kind"] == "cluster", "label"].tolist()
        for page in texts[1:]:
            assert sum(text.endswith("(continued)") for text in page) == 1
        for page in texts:
            last = max(i for i, text in enumerate(page) if text.startswith("\N{EM SPACE}") or text in heads)
            assert page[last] not in heads

    def test_effects_are_indented(self, frame):
        figure = forest_pages(frame)[0]
        places = {text.get_text().strip(): text.get_window_extent().x0 for text in words(figure.axes[0])}
        study = next(label for label in frame.loc[frame["kind"] == "cluster", "label"] if label in places)
        figure.canvas.draw()
        assert any(text.get_text().startswith("\N{EM SPACE}client") for text in words(figure.axes[0]))
        assert study in places


def test_a_caterpillar_of_dependent_effects_has_each_effect(fit, es):
    frame = caterpillar_data(fit)
    rows = frame[frame["kind"] == "study"]
    np.testing.assert_array_equal(rows["yi"], np.sort(es.yi))
    assert rows["label"].tolist() == [es.slab[int(i)] for i in rows["position"]]
    assert frame[frame["kind"] == "summary"]["yi"].item() == fit.beta[0]


def test_studies_that_ids_group_are_called_by_their_names() -> None:
    names = ["Abel 2001", "Abel 2001", "Baker 2002", "Cole 2003", "Cole 2003"]
    sheet = {"study_id": [1, 1, 2, 3, 3], "study": names, "r": [0.2, 0.3, 0.1, 0.4, 0.2], "n": [50, 50, 60, 70, 70]}
    # Where two ids share a name, or an id has two, the ids stay.
    for study, expected in (
        (names, ["Abel 2001", "Baker 2002", "Cole 2003"]),
        (["Abel 2001"] * 3 + names[3:], ["1", "2", "3"]),
        (["Abel 2001", "Abel 2002", *names[2:]], ["1", "2", "3"]),
    ):
        frame = quiet(lambda study=study: forest_data(che(escalc(pd.DataFrame({**sheet, "study": study})))))
        assert frame.loc[frame["kind"].isin(["cluster", "study"]), "label"].tolist() == expected
