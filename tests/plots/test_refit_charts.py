"""Frames of the plots of what refits a multilevel model."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, RandomEffectsModel, sensitivity
from alliance_meta.errors import NotIdentifiedWarning
from alliance_meta.plots import leave_out, leave_out_data, profile, profile_data, profiles, profiles_data
from alliance_meta.plots.sheet.figures import figure_bytes
from tests.plots.cases import quiet
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
    with pytest.raises(InputError, match="needs a fitted MultilevelModel"):
        profiles_data(quiet(RandomEffectsModel(nested()).fit))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"give this to sensitivity\.profile"):
        profiles_data(sensitivity.profile(fit, points=5), level=0.9)


@pytest.fixture(scope="module")
def left_out() -> sensitivity.ClustersLeftOut:
    return sensitivity.leave_out_clusters(multilevel())


def test_rows_without_each_study(left_out: sensitivity.ClustersLeftOut) -> None:
    frame, table = leave_out_data(left_out), left_out.tidy().set_index("label")
    rows = frame[frame["kind"] == "without"].set_index("label")
    assert len(rows) == len(table) == 12
    assert (np.diff(rows["yi"]) >= 0).all()
    np.testing.assert_array_equal(rows["yi"], table.loc[rows.index, "estimate"])
    np.testing.assert_array_equal(rows["ci_lb"], table.loc[rows.index, "ci_lb"])
    np.testing.assert_array_equal(rows["k"], 40 - table.loc[rows.index, "k"])
    np.testing.assert_allclose(rows["r"], np.tanh(rows["yi"]), rtol=CLOSED_FORM)
    last = frame.iloc[-1]
    assert [last["kind"], last["k"], last["yi"]] == ["all", 40, left_out.fit.beta[0]]
    assert frame.attrs["reference"] == [last["yi"], last["ci_lb"], last["ci_ub"]]
    by_name = leave_out_data(left_out, order="label")
    assert by_name["label"].tolist()[:-1] == sorted(rows.index)


def test_many_studies_are_not_named() -> None:
    found = sensitivity.leave_out_clusters(multilevel(60, 50))
    figure = leave_out(found)
    shown = [text.get_text() for text in texts(figure)]
    assert "S7" not in shown
    assert figure.get_size_inches().tolist() == [7.0, 4.5]
    frame = leave_out_data(found)
    lowest = frame.loc[frame["kind"] == "without", "label"].iloc[0]
    assert f"without {lowest}" in frame.attrs["bottom"][0]


def test_leave_out_needs_a_term_and_a_known_order(left_out: sensitivity.ClustersLeftOut) -> None:
    several = sensitivity.leave_out_clusters(multilevel(mods="rater"))
    with pytest.raises(InputError, match="choose one with term=: intrcpt, rater"):
        leave_out_data(several)
    with pytest.raises(InputError, match="did you mean 'rater"):
        leave_out_data(several, term="rater[T.observe]")
    frame = leave_out_data(several, term="rater[T.observer]")
    assert frame["r"].isna().all()
    with pytest.raises(InputError, match="order='size'"):
        leave_out_data(left_out, order="size")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs the result of leave_out_clusters"):
        leave_out_data(multilevel())


def test_a_study_that_is_needed_has_no_row_of_its_own() -> None:
    es = nested(12, 3)
    only = ["a" if study == "S0" else "b" for study in es.study_id]
    frame = es.moderators.assign(group=only)
    made = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
    found = sensitivity.leave_out_clusters(quiet(lambda: MultilevelModel(made, mods="group").fit()))
    data = leave_out_data(found, term="group[T.b]")
    assert data["yi"].isna().sum() == 1
    assert leave_out(data).plot_description
