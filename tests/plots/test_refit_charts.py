"""Frames of the plots of what refits a multilevel model."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, RandomEffectsModel, sensitivity
from alliance_meta.errors import NotIdentifiedWarning
from alliance_meta.plots import (
    cumulative,
    cumulative_data,
    forest,
    influence_data,
    leave_one_out,
    leave_one_out_data,
    profile,
    profile_data,
    profiles,
    profiles_data,
)
from alliance_meta.plots.sheet.figures import figure_bytes
from tests.plots.cases import molloy, quiet
from tests.plots.charts import multilevel, nested
from tests.plots.geometry import texts
from tests.tolerances import CLOSED_FORM, ITERATIVE


def test_profiles_peak_at_the_estimates_and_are_cut_at_the_intervals() -> None:
    fit = multilevel()
    frame, bounds = profiles_data(fit, points=15), fit.confint()
    for name, part in frame.groupby("label"):
        points = part.set_index("kind")
        assert points.loc["maximum", "value"] == pytest.approx(bounds.loc[name, "estimate"], rel=CLOSED_FORM)
        assert points.loc["maximum", "loglik"] == pytest.approx(fit.loglik, rel=CLOSED_FORM)
        assert (points.loc["curve", "loglik"] <= fit.loglik + ITERATIVE).all()
        assert len(points.loc["curve"]) == 15
        assert points.loc["upper", "value"] == pytest.approx(bounds.loc[name, "ub"], rel=CLOSED_FORM)
        assert points.loc["upper", "loglik"] == frame.attrs["cutoff"]
    # The variance of studies may be 0 here: its curve ends above the cut-off, and there is no lower limit to mark.
    assert "lower" not in frame.loc[frame["label"] == "sigma2[study_id]", "kind"].tolist()
    assert fit.loglik - frame.attrs["cutoff"] == pytest.approx(3.841458820694124 / 2, rel=CLOSED_FORM)


def test_profile_draws_multilevel_models_too() -> None:
    fit = multilevel()
    frame = profile_data(fit)
    assert frame.attrs["plot"] == "profiles"
    expected = figure_bytes(profiles(frame))
    assert figure_bytes(profile(fit)) == expected
    assert figure_bytes(profile(frame)) == expected
    assert figure_bytes(profiles(sensitivity.profile(fit))) == expected


def test_a_panel_each_named_with_its_interval() -> None:
    frame = profiles_data(multilevel(), points=9)
    shown = {line for text in texts(profiles(frame)) for line in text.get_text().split("\n")}
    assert {"sigma2[study_id]", "sigma2[study_id/es_id]", *frame.attrs["intervals"].values()} <= shown
    assert frame.attrs["intervals"]["sigma2[study_id/es_id]"].startswith("0.0217 [0.0112")


def test_a_flat_profile_is_said_under_the_plot() -> None:
    fit = multilevel(random=("study_id", "rater | modality", "es_id"))
    with pytest.warns(NotIdentifiedWarning, match=r"rho\[rater \| modality\] does not fall"):
        frame = profiles_data(fit, points=9)
    assert frame.attrs["bottom"][-1] == "rho[rater | modality] is flat on one side: not identified"


def test_profiles_refuse_what_they_cannot_draw() -> None:
    fit = multilevel()
    with pytest.raises(InputError, match=r"a profile needs a fitted RandomEffectsModel or MultilevelModel, not int"):
        profiles_data(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="points: the profile of a single tau2 has points of its own"):
        profiles_data(quiet(RandomEffectsModel(nested()).fit), points=9)
    with pytest.raises(InputError, match=r"give this to sensitivity\.profile"):
        profiles_data(sensitivity.profile(fit, points=5), level=0.9)


@pytest.fixture(scope="module")
def left_out() -> sensitivity.Refits:
    return sensitivity.leave_one_out(multilevel())


def test_rows_without_each_study(left_out: sensitivity.Refits) -> None:
    frame, table = leave_one_out_data(left_out, order="estimate"), left_out.tidy().set_index("label")
    rows = frame[frame["kind"] == "study"].set_index("label")
    assert len(rows) == len(table) == 12
    assert (np.diff(rows["yi"]) >= 0).all()
    for drawn, told in (("yi", "estimate"), ("ci_lb", "ci_lb"), ("pi_ub", "pi_ub")):
        np.testing.assert_array_equal(rows[drawn], table.loc[rows.index, told])
    np.testing.assert_array_equal(rows["k"].astype(int), table.loc[rows.index, "k"])
    np.testing.assert_allclose(rows["r"], np.tanh(rows["yi"]), rtol=CLOSED_FORM)
    assert rows["I2"].tolist() == [f"{x:.1f}" for x in table.loc[rows.index, "I2"]]
    whole = frame[frame["kind"] == "summary"].iloc[0]
    assert whole["yi"] == left_out.fit.beta[0]
    assert leave_one_out_data(left_out)["label"].tolist()[:12] == sorted(rows.index)
    assert figure_bytes(forest(left_out, order="estimate")) == figure_bytes(leave_one_out(frame))


def test_steps_end_with_the_fit_of_all_effects() -> None:
    fit = molloy()
    frame = cumulative_data(sensitivity.cumulative(fit))
    steps = frame[frame["kind"] == "study"]
    assert steps["label"].str.startswith("+ ").all()
    assert steps["yi"].iloc[-1] == pytest.approx(fit.beta[0], rel=ITERATIVE)
    assert steps["k"].iloc[-1] == "16"
    assert "up to each of" in cumulative(frame).plot_description


def test_a_forest_of_refits_needs_a_term_and_a_known_order(left_out: sensitivity.Refits) -> None:
    several = sensitivity.leave_one_out(multilevel(mods="rater"))
    with pytest.raises(InputError, match="choose one with term=: intrcpt, rater"):
        leave_one_out_data(several)
    with pytest.raises(InputError, match="did you mean 'rater"):
        leave_one_out_data(several, term="rater[T.observe]")
    frame = leave_one_out_data(several, term="rater[T.observer]")
    assert frame["r"].isna().all()
    with pytest.raises(InputError, match="order='size'"):
        leave_one_out_data(left_out, order="size")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs the result of sensitivity\.leave_one_out"):
        leave_one_out_data(multilevel())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs the result of sensitivity\.cumulative"):
        cumulative_data(left_out)
    with pytest.raises(InputError, match="give this to leave_one_out_data"):
        leave_one_out(frame, term="rater[T.observer]")


def test_a_study_that_is_needed_has_no_estimate() -> None:
    es = nested(12, 3)
    only = ["a" if study == "S0" else "b" for study in es.study_id]
    frame = es.moderators.assign(group=only)
    made = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
    found = sensitivity.leave_one_out(quiet(lambda: MultilevelModel(made, mods="group").fit()))
    data = leave_one_out_data(found, term="group[T.b]")
    gone = data[(data["kind"] == "study") & data["yi"].isna()]
    assert gone["text"].tolist() == ["not estimable"]
    assert leave_one_out(data).plot_description


def test_the_influence_plot_has_a_point_for_each_unit_and_measure() -> None:
    found = sensitivity.influence(molloy())
    frame, table = influence_data(found), found.tidy()
    for name, rows in frame[frame["kind"].isin(("unit", "flagged"))].groupby("measure"):
        np.testing.assert_array_equal(rows["value"], table[name])
    cut = frame[(frame["kind"] == "cutoff") & (frame["measure"] == "hat")]
    assert cut["value"].tolist() == [3 / 16]
    with pytest.raises(InputError, match=r"needs the result of sensitivity\.influence"):
        influence_data(molloy())  # type: ignore[arg-type]
