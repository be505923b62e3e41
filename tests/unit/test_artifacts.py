"""Corrections for artifacts: what is read, said and refused, and how the pieces agree."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from alliance_meta import CodingError, EffectSizes, InputError, NotApplicable, RandomEffectsModel, escalc
from alliance_meta.effects import correct_artifacts
from alliance_meta.errors import AdaptedInputWarning, AllianceMetaWarning, TruncationWarning
from alliance_meta.sensitivity import attenuation, dependability, hunter_schmidt

SHEET = pd.DataFrame(
    {
        "study": list("ABCDEF"),
        "r": [0.2, 0.35, 0.1, 0.28, 0.15, 0.4],
        "n": [40, 80, 120, 60, 95, 50],
        "rel_alliance": [0.9, 0.85, None, 0.8, None, 0.93],
        "rel_outcome": [0.8, 0.75, 0.9, 0.7, 0.85, 0.8],
        "text": "x",
    }
)


@pytest.fixture
def effects():
    return escalc(SHEET, measure="COR")


@pytest.fixture
def fit():
    return RandomEffectsModel(escalc(SHEET)).fit()


def test_a_reliability_divides_the_effect_by_its_root_and_the_variance_by_itself(effects):
    found = correct_artifacts(effects, rel_outcome="rel_outcome")
    np.testing.assert_allclose(found.yi, effects.yi / np.sqrt(SHEET["rel_outcome"]))
    np.testing.assert_allclose(found.vi, effects.vi / SHEET["rel_outcome"])
    np.testing.assert_allclose(found.moderators["attenuation"], np.sqrt(SHEET["rel_outcome"]))
    assert found.provenance.steps[-1] == "corrected for artifacts: reliability of the outcome 0.82 on average, by row"
    assert found.notes[-1].code == "corrected-artifacts"


def test_fisher_z_is_corrected_as_r_is(effects):
    z = correct_artifacts(escalc(SHEET), rel_outcome=0.8)
    np.testing.assert_allclose(np.tanh(z.yi), correct_artifacts(effects, rel_outcome=0.8).yi)
    # The variance of z = atanh(r / a) by the delta method from that of r.
    r = SHEET["r"].to_numpy()
    raw = (1 - r**2) ** 2 / (SHEET["n"] - 3)
    np.testing.assert_allclose(z.vi, raw / 0.8 / (1 - r**2 / 0.8) ** 2)


def test_rows_without_a_value_get_the_mean_and_it_is_said(effects):
    with pytest.warns(AdaptedInputWarning, match=r"known in 4 of 6 rows, 0\.86 elsewhere"):
        found = correct_artifacts(effects, rel_alliance="rel_alliance")
    known = SHEET.dropna()
    mean = np.average(known["rel_alliance"], weights=known["n"])
    assert found.moderators["attenuation"].iloc[2] == pytest.approx(np.sqrt(mean))
    with pytest.raises(InputError, match="every row needs a value"):
        correct_artifacts(effects, rel_alliance="rel_alliance", missing="error")


def test_a_split_is_undone_as_by_the_biserial_correlation(effects):
    from alliance_meta.core.correlations.conversions import from_split

    found = correct_artifacts(effects, split_alliance=0.3)
    n = effects.ni
    np.testing.assert_allclose(found.yi, from_split(effects.yi, 0.3 * n, 0.7 * n).r)


def test_corrected_correlations_beyond_one():
    sheet = pd.DataFrame({"study": ["A", "B"], "r": [0.7, 0.2], "n": [40, 50]})
    with pytest.raises(CodingError, match=r"r = 0\.7 becomes 1\.4, which has no Fisher z; use escalc\(measure='COR'\)"):
        correct_artifacts(escalc(sheet), rel_outcome=0.25)
    found = correct_artifacts(escalc(sheet, measure="COR"), rel_outcome=0.25)
    assert found.yi[0] == pytest.approx(1.4)
    assert any(note.code == "beyond-one" for note in found.notes)


def test_reliabilities_of_sample_and_population_agree_where_they_should(effects):
    here = correct_artifacts(effects, rel_alliance=0.75, u_alliance=0.8)
    there = correct_artifacts(effects, rel_alliance=1 - 0.64 * 0.25, u_alliance=0.8, rel_alliance_in="population")
    np.testing.assert_allclose(here.yi, there.yi)
    np.testing.assert_allclose(here.vi, there.vi)


def test_indirect_restriction_corrects_more_than_direct(effects):
    direct, indirect = (
        correct_artifacts(effects, rel_alliance=0.8, u_alliance=0.7, range_restriction=kind)
        for kind in ("direct", "indirect")
    )
    assert (indirect.yi > direct.yi).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "name at least one artifact: rel_alliance="),
        ({"rel_alliance": 85}, "85 is not possible; a reliability lies in .*write 0.85"),
        ({"rel_alliance": 0.0}, "0 is not possible"),
        ({"split_outcome": 1.0}, "share of people on one side"),
        ({"u_alliance": -1}, "standard deviation in the sample"),
        ({"rel_alliance": "rel_aliance"}, "did you mean 'rel_alliance'"),
        ({"rel_alliance": "text"}, "'x' in column 'text' is not a number"),
        ({"rel_alliance": [0.8, 0.9]}, "2 values for 6 effects"),
        ({"rel_alliance": [np.nan] * 6}, "no row has a value"),
        ({"rel_alliance": {0.8: -1}}, "weights above 0"),
        ({"rel_alliance": {0.8: 1}}, "every row needs a value"),
        ({"u_alliance": 0.8, "range_restriction": "indirect"}, "needs rel_alliance= beside u_alliance="),
        ({"u_alliance": 0.2, "rel_alliance": 0.8, "rel_alliance_in": "population"}, "contradict each other"),
        ({"rel_alliance": 0.8, "range_restriction": "indirekt"}, "did you mean 'indirect'"),
    ],
)
def test_what_cannot_be_corrected_is_refused(effects, options, match):
    with pytest.raises(InputError, match=match):
        correct_artifacts(effects, **options)


def test_effects_that_are_no_correlations_are_refused():
    other = EffectSizes.from_arrays([0.1, 0.2], [0.01, 0.01])
    with pytest.raises(InputError, match="artifacts attenuate correlations"):
        correct_artifacts(other, rel_outcome=0.8)
    with pytest.raises(InputError, match="have none; make them with escalc"):
        hunter_schmidt(other, rel_outcome=0.8)


# --- Hunter and Schmidt ----------------------------------------------------------------------------------


def test_hunter_schmidt_chooses_the_method_by_what_is_known(effects):
    assert hunter_schmidt(effects).method == "bare-bones"
    assert hunter_schmidt(effects, rel_outcome="rel_outcome").method == "individual"
    assert hunter_schmidt(effects, rel_alliance="rel_alliance").method == "distribution"
    assert hunter_schmidt(effects, rel_alliance={0.8: 2, 0.9: 1}).method == "distribution"
    with pytest.raises(InputError, match="use 'distribution'"):
        hunter_schmidt(effects, rel_alliance="rel_alliance", method="individual")


def test_a_distribution_from_elsewhere_is_one_by_rows_with_those_weights(effects):
    n = effects.ni
    rows = [0.8, 0.9, 0.8, 0.9, 0.8, 0.9]
    weight = {0.8: float(n[::2].sum()), 0.9: float(n[1::2].sum())}
    by_row = hunter_schmidt(effects, rel_alliance=rows, method="distribution").tidy()
    np.testing.assert_allclose(
        hunter_schmidt(effects, rel_alliance=weight).tidy().to_numpy(dtype=float), by_row.to_numpy(dtype=float)
    )


def test_hunter_schmidt_intervals_and_options(effects):
    plain, t = (hunter_schmidt(effects, test=test).tidy().loc["as observed"] for test in ("z", "t"))
    assert (plain.ci_ub - plain.estimate) / plain.se == pytest.approx(1.959964, rel=1e-6)
    assert (t.ci_ub - t.estimate) / t.se == pytest.approx(2.570582, rel=1e-6)
    unbiased = hunter_schmidt(effects, unbiased=True).tidy().loc["as observed"]
    assert unbiased.var_total == pytest.approx(plain.var_total * 6 / 5)
    n = SHEET["n"]
    lifted = np.average(SHEET["r"] * (2 * n - 1) / (2 * n - 2), weights=n)
    assert hunter_schmidt(effects, small_sample=True).tidy()["estimate"].iloc[0] == pytest.approx(lifted)


def test_hunter_schmidt_where_chance_explains_everything():
    sheet = pd.DataFrame({"study": ["A", "B", "C"], "r": [0.2, 0.21, 0.19], "n": [30, 40, 50]})
    found = hunter_schmidt(escalc(sheet), rel_outcome=0.8)
    assert found.tidy()["sd_true"].tolist() == [0, 0]
    assert (found.tidy()["var_true"] < 0).all()
    assert any(note.code == "var-true-truncated" for note in found.notes)
    assert "more than all" in str(found).replace("\n  ", " ")


def test_hunter_schmidt_with_one_study():
    found = hunter_schmidt(escalc(SHEET.iloc[:1]), rel_outcome=0.64)
    row = found.tidy().loc["corrected"]
    assert row.estimate == pytest.approx(0.25)
    assert isinstance(row.ci_lb, NotApplicable)
    assert "not_applicable" in json.dumps(found.to_dict(), allow_nan=False)


def test_no_true_correlation_explains_the_mean():
    sheet = pd.DataFrame({"study": ["A", "B"], "r": [0.8, 0.85], "n": [90, 120]})
    with pytest.raises(InputError, match="no true correlation"):
        hunter_schmidt(escalc(sheet), rel_outcome={0.3: 1, 0.4: 1})


# --- the table of corrections ----------------------------------------------------------------------------


def test_attenuation_is_the_same_model_on_corrected_effects(fit):
    found = attenuation(fit, rel_alliance=0.9, rel_outcome="rel_outcome", split_outcome=0.4, assumed=[0.7])
    rows = found.tidy()
    assert list(rows.index) == [
        "as observed", "alliance reliability", "outcome reliability", "outcome split", "both reliabilities", "all",
        "both reliabilities 0.7",
    ]  # fmt: skip
    by_hand = RandomEffectsModel(correct_artifacts(fit.effects, rel_alliance=0.9, rel_outcome="rel_outcome")).fit()
    expected = by_hand.predict(scale="r").iloc[0]
    row = rows.loc["both reliabilities"]
    assert (row.estimate, row.ci_lb, row.pi_ub, row.tau2) == (
        expected.pred,
        expected.ci_lb,
        expected.pi_ub,
        by_hand.tau2,
    )
    assert rows.loc["as observed", "estimate"] == fit.predict(scale="r")["pred"].iloc[0]
    assert (rows["estimate"].iloc[1:] > rows["estimate"].iloc[0]).all()
    assert rows.loc["all", "assumption"].endswith("outcome cut in two 0.40")
    assert "both reliabilities: reliability of the alliance 0.90" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_attenuation_keeps_the_settings_of_the_fit():
    fit = RandomEffectsModel(escalc(SHEET, measure="COR"), method="DL", test="z", level=0.9).fit()
    found = attenuation(fit, rel_outcome=0.64).tidy().loc["outcome reliability"]
    assert found.estimate == pytest.approx(fit.beta[0] / 0.8)
    assert found.ci_ub == pytest.approx(fit.ci_ub[0] / 0.8)
    assert found.tau2 == pytest.approx(fit.tau2 / 0.64)
    equal = attenuation(RandomEffectsModel(escalc(SHEET), method="EE").fit(), rel_outcome=0.8).tidy()
    assert all(isinstance(value, NotApplicable) for value in equal["pi_lb"])


def test_what_a_refit_says_stands_in_the_notes_under_its_row():
    sheet = pd.DataFrame(
        {"study": list("ABCD"), "r": [0.2, 0.21, 0.3, 0.25], "n": [30, 40, 50, 60], "rel": [0.8, 0.81, 0.9, 0.7]}
    )
    with pytest.warns(TruncationWarning):
        fit = RandomEffectsModel(escalc(sheet)).fit()
    codes = [note.code for note in attenuation(fit, rel_outcome="rel").notes]
    assert codes.count("tau2-truncated") == 1
    # Studies that differ in nothing but the reliability of the outcome.
    r = np.array([0.1, 0.2, 0.3, 0.35])
    spread = RandomEffectsModel(escalc(pd.DataFrame({"study": range(len(r)), "r": r, "n": 400}))).fit()
    with pytest.warns(AllianceMetaWarning) as caught:
        found = attenuation(spread, rel_outcome=(r / 0.4) ** 2)
    assert [one for one in caught if one.category is TruncationWarning]
    assert all(str(one.message).startswith("outcome reliability: ") for one in caught)
    assert found.tidy()["estimate"].iloc[1] == pytest.approx(0.4)
    said = [note.message for note in found.notes if note not in spread.notes]
    assert said[0].startswith("outcome reliability: tau2 (REML) was set to 0")


def test_attenuation_of_indirect_restriction_has_no_row_without_reliability(fit):
    rows = attenuation(fit, rel_alliance=0.8, u_alliance=0.9, range_restriction="indirect").tidy()
    assert list(rows.index) == ["as observed", "alliance reliability", "all"]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda fit: attenuation(fit), "name at least one artifact"),
        (lambda fit: attenuation(fit, assumed=[7]), "7 is not possible"),
        (
            lambda fit: attenuation(RandomEffectsModel(fit.effects, mods="n", test="z").fit(), rel_outcome=0.8),
            "fit the model without moderators",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
def test_attenuation_refuses(fit, call, match):
    with pytest.raises(InputError, match=match):
        call(fit)


# --- sessions --------------------------------------------------------------------------------------------


def test_dependability_by_spearman_brown_and_by_variance_components():
    one = dependability([1, 2, 4], single=0.4).tidy()
    assert one["dependability"].tolist() == pytest.approx([0.4, 0.8 / 1.4, 1.6 / 2.2])
    parts = dependability([1, 2, 4], var_patient=0.4, var_residual=0.6, var_session=0.3).tidy()
    pd.testing.assert_frame_equal(parts, one)
    absolute = dependability([1], var_patient=0.4, var_residual=0.6, var_session=0.3, absolute=True).tidy()
    assert absolute["dependability"].tolist() == pytest.approx([0.4 / 1.3])
    averaged = dependability([1, 2, 4], single=0.8 / 1.4, averaged=2).tidy()
    pd.testing.assert_frame_equal(averaged, one)


def test_a_correlation_grows_with_the_sessions_averaged_up_to_its_corrected_value():
    found = dependability([1, 4], single=0.5, r=0.2)
    assert found.tidy()["r"].tolist() == pytest.approx([0.2, 0.2 * np.sqrt(0.8 / 0.5), 0.2 / np.sqrt(0.5)])
    assert "r = 0.2 observed with 1 session" in " ".join(str(found).split())
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"]["sessions"] == [1, 4, {"infinite": 1}]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dependability(), "give single=, or var_patient="),
        (lambda: dependability(single=0.5, var_patient=1, var_residual=1), "give single=, or var_patient="),
        (lambda: dependability(single=60), "write 0.6"),
        (lambda: dependability([0.5], single=0.6), "whole numbers, 1 or more"),
        (lambda: dependability(single=0.6, absolute=True), "belong to variance components"),
        (lambda: dependability(var_patient=0, var_residual=1), "must be above 0"),
        (lambda: dependability(single=0.6, r=1.2), "outside"),
        (lambda: dependability(single=0.2, r=0.9), "contradict each other"),
        (lambda: dependability(single=0.6, averaged=0), "averaged=0 must be"),
    ],
)
def test_dependability_refuses(call, match):
    with pytest.raises(InputError, match=match):
        call()


def test_one_number_of_sessions_is_a_sequence_of_one():
    assert dependability(4, single=0.77).tidy().equals(dependability([4], single=0.77).tidy())
    with pytest.raises(InputError, match="must be whole numbers, 1 or more"):
        dependability("four", single=0.77)


MEASURED = SHEET.assign(
    rel_alliance=[0.7, None, None, None, None, None],
    alliance_measure=["WAI", "WAI", "CALPAS", "CALPAS", "WAI-S", "WAI"],
    alliance_rater=["client", "client", "client", "therapist", "therapist", "client"],
    alliance_component=["total", "total", None, "total", "total", "bond"],
)


def test_published_reliabilities_fill_only_what_is_missing_and_say_so():
    with pytest.warns(AdaptedInputWarning) as said:
        found = correct_artifacts(escalc(MEASURED, measure="COR"), reliability="published")
    # .90 and .83 and .90 are printed; a bond is no whole score, and no therapist's CALPAS is there.
    known = np.array([0.7, 0.9, 0.83, 0.9])
    n = MEASURED["n"].to_numpy()[[0, 1, 2, 4]]
    expected = [0.7, 0.9, 0.83, known @ n / n.sum(), 0.9, known @ n / n.sum()]
    np.testing.assert_allclose(found.moderators["attenuation"] ** 2, expected)
    assert found.moderators["rel_alliance_from"].tolist() == [
        "sheet",
        "published",
        "published",
        "mean of the others",
        "published",
        "mean of the others",
    ]
    text = str(said[0].message)
    assert "WAI by the client 0.90 in 1 effect, from Assessment of the therapeutic alliance" in text
    assert [note.code for note in found.notes][-3:] == ["artifact-published", "artifact-mean", "corrected-artifacts"]


def test_published_reliabilities_are_used_only_when_asked_for():
    effects = escalc(MEASURED, measure="COR")
    with pytest.warns(AdaptedInputWarning, match="known in 1 of 6 rows"):
        found = correct_artifacts(effects, rel_alliance="rel_alliance")
    np.testing.assert_allclose(found.moderators["attenuation"] ** 2, 0.7)
    assert "rel_alliance_from" not in found.moderators
    complete = correct_artifacts(effects, rel_alliance=0.8, reliability="published")
    assert set(complete.moderators["rel_alliance_from"]) == {"sheet"}
    np.testing.assert_allclose(complete.yi, correct_artifacts(effects, rel_alliance=0.8).yi)


def test_published_reliabilities_need_measure_rater_and_rows():
    with pytest.raises(InputError, match="no alliance_measure and no alliance_rater"):
        correct_artifacts(escalc(SHEET), reliability="published")
    with pytest.raises(InputError, match="belongs to no row"):
        correct_artifacts(escalc(MEASURED), rel_alliance={0.8: 1.0}, reliability="published")
    strange = escalc(MEASURED.assign(alliance_measure="FIT", rel_alliance=None))
    with pytest.raises(InputError, match="rel_alliance: no row has a value"):
        correct_artifacts(strange, reliability="published")


def test_published_reliabilities_go_by_other_names_but_not_by_similar_ones():
    named = MEASURED.assign(alliance_measure=["WAI-12", "WAI-T", *["wai"] * 4], alliance_rater="patient")
    with pytest.warns(AdaptedInputWarning):
        found = correct_artifacts(escalc(named.assign(rel_alliance=None)), reliability="published")
    assert found.moderators["rel_alliance_from"].tolist()[:3] == ["published", "mean of the others", "published"]
    np.testing.assert_allclose(found.moderators["attenuation"].iloc[[0, 2]] ** 2, [0.86, 0.9])
