"""A forest plot of a posterior holds each study as found and as shrunken, with the numbers of the tables."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from alliance_meta import BayesianModel, EffectSizes, bayes, escalc, load_dataset, plots
from alliance_meta.bayes import SampledPosterior, arviz_bridge
from alliance_meta.errors import ConvergenceWarning, InputError
from alliance_meta.plots import forest, forest_data, forest_pages, frame_from_dict, frame_to_dict
from alliance_meta.plots.forests.parts import make_frame
from tests.plots.cases import dependent, made_up, molloy
from tests.tolerances import CLOSED_FORM


@pytest.fixture(scope="module")
def fit():
    return BayesianModel(escalc(load_dataset("kolden2011"))).fit()


@pytest.fixture(scope="module")
def frame(fit):
    return forest_data(fit, order="effect")


def test_each_study_stands_with_what_all_make_of_it(fit, frame):
    studies = frame[frame["kind"] == "study"]
    at = studies["position"].astype(int)
    own = fit.blup()
    for name, column in (("fit", "median"), ("fit_lb", "ci_lb"), ("fit_ub", "ci_ub")):
        np.testing.assert_array_equal(studies[name], own[column].iloc[at])
    np.testing.assert_array_equal(studies["yi"], fit.effects.yi[at])
    assert (np.diff(studies["yi"]) >= 0).all()
    # Shrinkage pulls every study towards the mean, and never beyond it.
    mean = fit.posterior("mu").median
    assert (np.abs(studies["fit"] - mean) <= np.abs(studies["yi"] - mean) + 0.01).all()


def test_mean_and_new_study_are_those_of_predict(fit, frame):
    expected = fit.predict().iloc[0]
    (summary,) = frame[frame["kind"] == "summary"].to_dict("records")
    (new,) = frame[frame["kind"] == "prediction"].to_dict("records")
    assert [summary[name] for name in ("yi", "ci_lb", "ci_ub")] == [expected[n] for n in ("pred", "ci_lb", "ci_ub")]
    assert [new["pi_lb"], new["pi_ub"]] == [expected["pi_lb"], expected["pi_ub"]]
    assert frame.attrs["pooled"] == expected["pred"]
    assert "half-normal(0.3)" in " ".join(frame.attrs["bottom"])


def test_weights_are_averaged_over_tau(fit):
    assert fit.weights.sum() == pytest.approx(100, rel=CLOSED_FORM)
    rng = np.random.default_rng(1)
    draws = fit.posterior("tau").quantile(rng.random(20_000))
    weights = 1 / (fit.effects.vi + draws[:, None] ** 2)
    shares = 100 * weights / weights.sum(axis=1, keepdims=True)
    error = shares.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(shares.mean(axis=0) - fit.weights) < 4 * error + 1e-9).all()


def test_a_level_of_its_own(fit):
    wide, narrow = forest_data(fit, level=0.95), forest_data(fit, level=0.5)
    assert (narrow["fit_lb"].dropna() > wide["fit_lb"].dropna()).all()
    assert narrow.attrs["estimate_header"] == "r [50% CI]"
    assert "50% credible" in narrow[narrow["kind"] == "summary"]["label"].iloc[0]


def test_a_categorical_moderator_has_a_mean_for_each_level():
    fit = BayesianModel(molloy().effects, mods="design").fit()
    frame = forest_data(fit)
    fitted = frame[frame["kind"] == "fitted"]
    expected = fit.predict({"design": ["cross-sectional", "prospective"]})
    np.testing.assert_array_equal(fitted["yi"], expected["pred"])
    assert not (frame["kind"] == "summary").any()


def test_a_number_as_moderator_has_no_diamond():
    fit = BayesianModel(molloy().effects, mods="meanage").fit()
    assert set(forest_data(fit)["kind"]) == {"study"}


@pytest.mark.parametrize("k", [1, 2, 70])
def test_few_and_many_studies_can_be_drawn(k):
    rng = np.random.default_rng(k)
    es = EffectSizes.from_arrays(rng.normal(0.2, 0.2, k), np.full(k, 0.02), measure="ZCOR")
    fit = BayesianModel(es).fit()
    assert len(forest_pages(fit)) == (1 if k < 40 else 2)
    (circles,) = [one for one in forest(fit).axes[0].collections if type(one).__name__ == "EllipseCollection"]
    assert len(circles.get_offsets()) == k


def test_the_frame_goes_through_json(frame):
    again = frame_from_dict(json.loads(json.dumps(frame_to_dict(frame))))
    assert forest(again).plot_description == forest(frame).plot_description


def test_other_frames_keep_their_diamonds():
    assert make_frame([], {}).attrs["shrunken"] is False


def test_what_a_posterior_has_not(fit):
    with pytest.raises(InputError, match="not for a posterior"):
        forest_data(fit, by="rater")


def test_synthetic_data_say_so():
    es = made_up(5)
    es = replace(es, provenance=replace(es.provenance, synthetic=True))
    fit = BayesianModel(es).fit()
    assert forest_data(fit).attrs["description"].startswith("SYNTHETIC DATA")


@pytest.fixture(scope="module")
def sampled(fit):
    """Independent draws from the exact posterior, as if PyMC had drawn them."""
    recipe = bayes.pymc.normal_normal(fit.effects).recipe
    return SampledPosterior(fit.to_arviz(draws=8000, seed=1), recipe.notes, 1, recipe)


def test_draws_give_the_same_forest_within_their_error(fit, frame, sampled):
    drawn = forest_data(sampled, order="effect")
    assert drawn["label"].tolist() == frame["label"].tolist()
    for column in ("fit", "fit_lb", "fit_ub", "ci_lb", "ci_ub", "pi_lb", "pi_ub"):
        np.testing.assert_allclose(drawn[column], frame[column], atol=0.04)
    assert "tau ~ half-normal(0.3)" in " ".join(drawn.attrs["bottom"])
    assert np.isnan(drawn["weight"]).all()


def test_draws_give_the_same_chances_of_studies(fit, sampled):
    drawn, exact = (plots.ranks_data(one, smallest_effect=0.1) for one in (sampled, fit))
    order = [frame[frame["kind"] == "study"].sort_values("label") for frame in (drawn, exact)]
    for column in ("yi", "p_mean", "p_smallest"):
        np.testing.assert_allclose(order[0][column], order[1][column], atol=0.03)


def test_draws_without_studies_have_no_circles(fit, sampled):
    names = {name: values for name, values in arviz_bridge.draws(sampled.container).items() if name in ("mu", "tau")}
    recipe = replace(sampled.recipe, true_effects=None)
    bare = replace(sampled, container=arviz_bridge.from_draws(names), recipe=recipe)
    frame = forest_data(bare)
    assert frame.attrs["shrunken"] is False
    assert not [one for one in forest(bare).axes[0].patches if type(one).__name__ == "Circle"]


def test_draws_that_fail_their_checks_say_so_first(fit, sampled):
    names = {name: values[:, :40] for name, values in arviz_bridge.draws(sampled.container).items()}
    names.pop("theta")
    few = replace(sampled, container=arviz_bridge.from_draws(names))
    with pytest.warns(ConvergenceWarning, match="DO NOT RELY"):
        frames = [make(few) for make in (forest_data, plots.means_data, plots.orchard_data, plots.rainforest_data)]
    assert all(frame.attrs["bottom"][0].startswith("DO NOT RELY ON THESE NUMBERS") for frame in frames)
    bottom = frames[0].attrs["bottom"]
    assert "Too few effective draws" in " ".join(bottom[1:])


def test_three_levels_have_a_circle_for_every_row():
    es = dependent(24, 8)
    fit = BayesianModel(es, random=("study_id", "es_id")).fit()
    frame = forest_data(fit)
    assert (frame["kind"] == "study").sum() == 24
    assert frame["fit"].notna().sum() == 24
    assert "τ[study_id]" in frame.attrs["bottom"][0]
    assert "forest-weights" in [note["code"] for note in frame.attrs["notes"]]
