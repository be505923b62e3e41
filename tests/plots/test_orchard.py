"""Orchard plots, and means of any model: the numbers drawn are those of the model or of its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alliance_meta import BayesianModel, InputError, LocationScaleModel, RVEModel, che, moderators, plots
from alliance_meta.models import sce
from alliance_meta.models.subgroups import subgroups
from alliance_meta.plots.levels import HIDDEN
from tests.plots.cases import dependent, fitted, quiet
from tests.plots.charts import crossed, many, multilevel, tabled
from tests.tolerances import CLOSED_FORM

EFFECT = ["yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub"]
FITS: dict[str, Callable[[], Any]] = {
    "random": lambda: fitted(40, mods="rater"),
    "location-scale": lambda: LocationScaleModel(fitted(40).effects, mods="rater", scale="year").fit(),
    "multilevel": lambda: multilevel(mods="rater"),
    "RVE": lambda: RVEModel(dependent(60, 15), mods="rater").fit(),
    "che": lambda: che(dependent(60, 15), mods="rater"),
    "sce": lambda: sce(dependent(60, 15), subgroup="rater"),
    "Bayes": lambda: BayesianModel(fitted(40).effects, mods="rater").fit(),
    "Bayes, three levels": lambda: BayesianModel(dependent(60, 15), mods="rater", random="study_id/es_id").fit(),
}


@pytest.mark.parametrize("name", FITS)
def test_the_levels_of_any_model_are_its_marginal_means(name: str) -> None:
    fit = quiet(FITS[name])
    frame = plots.orchard_data(fit)
    levels, points = frame[frame["kind"] == "level"], frame[frame["kind"] == "effect"]
    expected = moderators.marginal_means(fit, "rater").tidy()
    found = levels[EFFECT].to_numpy()
    np.testing.assert_array_equal(found[:, :3], expected[["estimate", "ci_lb", "ci_ub"]].to_numpy(dtype=float))
    # Marginal means leave the interval of a new study open where levels differ in their variance; predictions do not.
    new = fit.predict({"rater": levels["label"].tolist()}) if name == "sce" else expected
    np.testing.assert_array_equal(found[:, 3:], new[["pi_lb", "pi_ub"]].to_numpy(dtype=float))
    np.testing.assert_array_equal(plots.means_data(fit)[EFFECT].to_numpy(), found)
    # Without an interval for a new study the plot says why.
    assert np.isnan(found[:, 3]).any() == any("No prediction interval" in line for line in frame.attrs["bottom"])
    assert levels["k"].tolist() == expected["k"].tolist()
    table = fit.effects.moderators["rater"]
    for row, level in enumerate(levels["label"]):
        own = points[points["row"] == row]["position"].astype(int)
        assert (table.iloc[own] == level).all()
        assert levels["studies"].iloc[row] == len({fit.effects.study_id[i] for i in own})
    assert sorted(points["position"]) == np.flatnonzero(table.notna()).tolist()
    np.testing.assert_array_equal(points["se"], fit.effects.sei[points["position"].astype(int)])


def test_a_location_scale_model_predicts_levels_that_tell_their_own_variance() -> None:
    fit = quiet(lambda: LocationScaleModel(fitted(40).effects, mods="rater", scale="rater").fit())
    frame = plots.means_data(fit)
    expected = fit.predict({"rater": frame["label"].tolist()})
    np.testing.assert_array_equal(frame[EFFECT], expected[["pred", *EFFECT[1:]]])
    mean = plots.means_data(quiet(lambda: LocationScaleModel(fitted(40).effects, scale="rater").fit()))
    assert mean["pi_lb"].isna().all()
    assert any("differs between studies" in line for line in mean.attrs["bottom"])


def test_the_rows_of_a_table_are_the_table() -> None:
    table = tabled(24, 20, ["rater", "modality"], control=False)
    frame = plots.orchard_data(table, by="rater")
    levels = frame[frame["kind"] == "level"]
    expected = table.tidy().loc["rater"]
    np.testing.assert_array_equal(levels[EFFECT], expected[["estimate", *EFFECT[1:]]].astype(float))
    assert levels[["k", "studies"]].astype(int).values.tolist() == expected[["k", "studies"]].values.tolist()
    assert frame.attrs["bottom"][1].startswith("Test of rater: F(2, ")
    with pytest.raises(InputError, match="must name one moderator of the table: rater, modality"):
        plots.orchard_data(table)


def test_a_level_without_a_mean_keeps_its_effects() -> None:
    table = tabled(24, 20, ["bias"], least=8, control=False)
    frame = plots.orchard_data(table)
    levels = frame[frame["kind"] == "level"]
    lost = levels["yi"].isna()
    assert 0 < lost.sum() < 3
    assert levels["text"].tolist() == ["–" if one else "" for one in lost]
    assert ((frame["kind"] == "effect") & frame["row"].isin(levels["row"][lost])).any()
    name = levels["label"][lost].iloc[0]
    assert f"No mean of {name}: fewer than 8 studies" in frame.attrs["bottom"]
    assert "no mean" in frame.attrs["description"]


def test_one_mean_stands_in_one_row() -> None:
    fit = many(300)
    frame = plots.orchard_data(fit)
    (row,) = frame[frame["kind"] == "level"].to_dict("records")
    expected = fit.predict().iloc[0]
    assert [row[name] for name in EFFECT] == expected[["pred", *EFFECT[1:]]].tolist()
    np.testing.assert_allclose(row["r"], np.tanh(row["yi"]), rtol=CLOSED_FORM)
    assert "(k = 300 in 300 studies)" in frame.attrs["description"]
    groups = subgroups(fitted(40), by="rater")
    of_groups = plots.orchard_data(groups)
    np.testing.assert_array_equal(of_groups[of_groups["kind"] == "level"][EFFECT], plots.means_data(groups)[EFFECT])


def test_no_point_hides_another_and_the_precise_are_larger() -> None:
    frame = plots.orchard_data(crossed(), by="rater")
    figure = plots.orchard(frame)
    dots = max(figure.axes[0].collections, key=lambda one: len(one.get_offsets()))
    points = frame[frame["kind"] == "effect"]
    x, y = dots.get_offsets().T
    order = [int(np.abs(points["r"] - one).argmin()) for one in x]
    np.testing.assert_allclose(np.abs(y - points["row"].iloc[order]).max(), 0.0, atol=0.4)
    sizes = dots.get_sizes()
    assert (np.diff(sizes) <= 1e-9).all()
    assert (np.diff(points["se"].iloc[order]) >= -1e-12).all()
    at = figure.axes[0].transData.transform(np.column_stack([x, y])) / figure.dpi
    gap = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
    touch = (np.sqrt(sizes)[:, None] + np.sqrt(sizes)) / 2 / 72
    assert (gap + 0.02 >= touch)[~np.eye(len(x), dtype=bool)].all()


def test_what_has_no_levels_is_refused_with_a_mend() -> None:
    with pytest.raises(InputError, match=r"plots\.bubble\(fit, 'year'\) draws it"):
        plots.orchard(fitted(40, mods="year"))
    with pytest.raises(InputError, match="has no moderators; fit it with mods='rater'"):
        plots.means(fitted(5), by="rater")
    with pytest.raises(InputError, match="name one that is categorical with by="):
        plots.means(crossed())
    with pytest.raises(InputError, match=r"give the fitted model, with by="):
        plots.orchard(moderators.marginal_means(crossed(), "rater"))


@pytest.mark.parametrize("draw", [plots.means_data, plots.orchard_data, lambda fit: plots.bubble_data(fit, "rater")])
def test_a_level_that_one_study_alone_tells_about_says_why_it_has_no_interval(draw: Any) -> None:
    whole = dependent(60, 15)
    first = [name == whole.study_id[0] for name in whole.study_id]
    for lonely, others in ((True, np.where(first, "observer", "client")), (False, np.tile(["observer", "client"], 30))):
        effects = replace(whole, _moderators=whole.moderators.assign(rater=others))
        fit = quiet(lambda effects=effects: che(effects, mods="rater"))
        lines = [line for line in draw(fit).attrs["bottom"] if line.startswith("No interval of")]
        assert lines == (["No interval of observer: too few clusters for a robust standard error"] if lonely else [])


def test_effects_that_an_interval_could_hide_stand_before_it_where_they_are_few() -> None:
    for k, few in ((30, True), (100, False)):
        ax = plots.orchard(fitted(k)).axes[0]
        interval = max(ax.lines, key=lambda line: line.get_linewidth())
        assert interval.get_linewidth() < HIDDEN
        before, behind = (
            [
                diameter
                for points in ax.collections
                if points.get_zorder() == zorder
                for diameter in np.sqrt(np.broadcast_to(points.get_sizes(), len(points.get_offsets())))
            ]
            for zorder in (4.5, 2.0)
        )
        assert len(before) + len(behind) == k
        # A larger one is seen on both sides of the interval, and would hide it.
        assert max(before, default=0.0) < HIDDEN
        assert bool(before) == few
        assert not few or min(behind) >= HIDDEN
        assert 2.0 < interval.get_zorder() < 4.5
