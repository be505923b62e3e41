"""Drapery, rainforest, ranks and timeline: their numbers are those of the fit, and what makes no sense is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alliance_meta import BayesianModel, InputError, LocationScaleModel, RVEModel, che, plots, sensitivity
from tests.plots.cases import dependent, fitted, molloy, quiet
from tests.plots.charts import alike, many, multilevel
from tests.tolerances import CLOSED_FORM, ITERATIVE


def test_p_value_functions_are_the_tests_of_the_model() -> None:
    fit = molloy()
    frame = plots.drapery_data(fit)
    pooled, new = (frame[frame["kind"] == kind] for kind in ("pooled", "prediction"))
    expected = 2 * stats.t.sf(np.abs(pooled["x"] - fit.beta[0]) / fit.se[0], fit.ddf[0])
    np.testing.assert_allclose(pooled["p"], expected, rtol=1e-8)
    spread = np.sqrt(fit.se[0] ** 2 + fit.tau2)
    np.testing.assert_allclose(new["p"], 2 * stats.t.sf(np.abs(new["x"] - fit.beta[0]) / spread, 15), rtol=1e-8)
    at = pooled["x"][np.isclose(pooled["p"], 0.05)]
    np.testing.assert_allclose(at, [fit.ci_lb[0], fit.ci_ub[0]], rtol=CLOSED_FORM)
    effects = frame[frame["kind"] == "effect"]
    alone = int((2 * stats.norm.sf(np.abs(fit.effects.yi) / fit.effects.sei) < 0.05).sum())
    assert f"Alone with p < .05 for no effect: {alone} of 16 effects" in frame.attrs["bottom"]
    np.testing.assert_allclose(effects["se"], fit.effects.sei)


def test_the_curves_of_single_effects_are_drawn_from_their_standard_errors() -> None:
    frame = plots.drapery_data(fitted(5))
    for log in (False, True):
        ax = plots.drapery(frame, log=log).axes[0]
        assert ax.get_yscale() == ("log" if log else "linear")
        x, p = next(line for line in ax.lines if np.isnan(line.get_xdata()).sum() == 5).get_data()
        row = frame.iloc[2]
        own = slice(2 * 82, 2 * 82 + 81)
        expected = 2 * stats.norm.sf(np.abs(np.arctanh(x[own]) - row["yi"]) / row["se"])
        np.testing.assert_allclose(p[own], expected, rtol=1e-6)
        rules = {line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1}
        assert {0.05, 0.01} <= rules


def test_only_one_mean_with_confidence_intervals_has_p_values() -> None:
    with pytest.raises(InputError, match="refit without the moderators rater"):
        plots.drapery(fitted(20, mods="rater"))
    with pytest.raises(InputError, match=r"not a Bayesian model; plots\.posterior draws a posterior"):
        plots.drapery(BayesianModel(fitted(5).effects).fit())
    location = quiet(lambda: LocationScaleModel(fitted(40).effects, scale="rater").fit())
    frame = plots.drapery_data(location)
    assert set(frame["kind"]) == {"effect", "pooled"}
    assert "prediction" not in frame.attrs["description"]


def test_drops_are_as_wide_as_intervals_and_as_high_as_weights() -> None:
    fit = fitted(5)
    frame = plots.rainforest_data(fit, order="estimate")
    effects = frame[frame["kind"] == "effect"]
    assert effects["position"].astype(int).tolist() == np.argsort(fit.effects.yi).tolist()
    np.testing.assert_allclose(effects["weight"], fit.weights[effects["position"].astype(int)])
    mean = frame[frame["kind"] == "summary"].iloc[0]
    expected = fit.predict().iloc[0]
    assert [mean[one] for one in ("yi", "pi_lb", "pi_ub")] == [expected[one] for one in ("pred", "pi_lb", "pi_ub")]
    (drops,) = (one for one in plots.rainforest(frame).axes[0].collections if len(one.get_paths()) == 5)
    ends = [path.vertices for path in drops.get_paths()]
    np.testing.assert_allclose([one[:, 0].min() for one in ends], effects["r_lb"], rtol=CLOSED_FORM)
    np.testing.assert_allclose([one[:, 0].max() for one in ends], effects["r_ub"], rtol=CLOSED_FORM)
    heights = np.array([np.ptp(one[:, 1]) for one in ends])
    assert np.argsort(heights).tolist() == np.argsort(effects["weight"]).tolist()
    darkness = drops.get_facecolors()[:, :3].sum(axis=1)
    assert np.argsort(-darkness).tolist() == np.argsort(effects["weight"]).tolist()


def test_a_rainforest_has_room_for_forty() -> None:
    with pytest.raises(InputError, match=r"room for 40 effects, not 41; plots\.caterpillar\(fit\)"):
        plots.rainforest(fitted(41))
    frame = plots.rainforest_data(fitted(40, mods="rater"))
    assert set(frame["kind"]) == {"effect"}
    assert "No mean effect is drawn: the model rater (REML, HK) has moderators" in frame.attrs["bottom"]


def test_ranks_are_the_shrunken_effects_in_order() -> None:
    fit = molloy()
    frame = plots.ranks_data(fit, smallest_effect=0.1)
    studies, observed = (frame[frame["kind"] == kind] for kind in ("study", "observed"))
    expected = fit.blup().sort_values("pred", ascending=False)
    assert studies["label"].tolist() == expected.index.tolist()
    np.testing.assert_array_equal(studies[["yi", "ci_lb", "ci_ub"]], expected[["pred", "pi_lb", "pi_ub"]])
    rows = observed["row"].astype(int)
    assert [studies["label"].iloc[i] for i in rows] == list(fit.effects.slab)
    np.testing.assert_array_equal(observed["yi"], fit.effects.yi)
    # Only posteriors give probabilities: nothing is invented.
    assert studies[["p_mean", "p_smallest"]].isna().all(axis=None)
    above = int((studies["r_lb"] > 0.1).sum())
    assert f"Dotted: smallest effect of interest, .1; {above} of 16 intervals lie above it" in frame.attrs["bottom"]


def test_posteriors_give_the_chances_of_each_study() -> None:
    fit = BayesianModel(fitted(5).effects).fit()
    frame = plots.ranks_data(fit, smallest_effect=0.1)
    studies = frame[frame["kind"] == "study"]
    for label, p_mean, p_smallest in studies[["label", "p_mean", "p_smallest"]].itertuples(index=False):
        assert p_smallest == pytest.approx(fit.prob(f"theta[{label}] > 0.1", scale="r"), abs=ITERATIVE)
        assert 0 < p_mean < 1
    # By draws from the same posterior.
    _, coefficients, _, theta = fit._drawn(np.random.default_rng(1), 4000)
    above = (theta[:, studies["position"].astype(int)] > coefficients @ fit._mean_row[:, None]).mean(axis=0)
    np.testing.assert_allclose(studies["p_mean"], above, atol=0.03)
    assert frame.attrs["counts"] == {"above": "P(> mean)", "beyond": "P(> .1)"}
    below = plots.ranks_data(fit, smallest_effect=-0.1)
    assert below.attrs["counts"]["beyond"] == "P(< −.1)"
    chance = below.loc[0, "p_smallest"]
    assert chance == pytest.approx(fit.prob(f"theta[{below.loc[0, 'label']}] < -0.1", scale="r"), abs=ITERATIVE)


def test_studies_of_several_effects_stand_in_one_row() -> None:
    fit = quiet(lambda: che(dependent(60, 15)))
    frame = plots.ranks_data(fit)
    studies, observed = (frame[frame["kind"] == kind] for kind in ("study", "observed"))
    assert len(studies) == 15
    assert [studies["label"].iloc[int(row)] for row in observed["row"]] == list(fit.effects.study_id)
    assert "working-model" in [note["code"] for note in frame.attrs["notes"]]
    with pytest.raises(InputError, match="has no blup; ranks need predictions of studies"):
        plots.ranks(RVEModel(dependent(60, 15)).fit())
    with pytest.raises(InputError, match="smallest_effect=2 must be a number above 0 and below 1"):
        plots.ranks(fit, smallest_effect=2)


def test_ranks_without_differences_say_so() -> None:
    lines = plots.ranks_data(alike()).attrs["bottom"]
    assert "The model finds no differences between them: all are the mean, and their order says nothing" in lines
    assert not any("no differences" in line for line in plots.ranks_data(many(300)).attrs["bottom"])


def test_a_timeline_is_the_cumulative_result() -> None:
    found = sensitivity.cumulative(molloy())
    frame, table = plots.timeline_data(found), found.tidy()
    assert frame["x"].tolist() == [float(label) for label in found.labels]
    np.testing.assert_array_equal(frame[["yi", "ci_lb", "ci_ub"]], table[["estimate", "ci_lb", "ci_ub"]].astype(float))
    np.testing.assert_array_equal(frame[["tau2", "I2"]], table[["tau2", "I2"]].astype(float))
    last = table.iloc[-1]
    inside = table["estimate"].between(last["ci_lb"], last["ci_ub"]).tolist()
    since = found.labels[len(inside) - inside[::-1].index(False)]
    assert f"Estimate within the last 95% interval since {since}" in frame.attrs["bottom"]
    apart = (table["ci_lb"] > 0).tolist()
    since = found.labels[len(apart) - apart[::-1].index(False)]
    assert f"Interval without 0 since {since}" in frame.attrs["bottom"]
    assert "(k = 16)" in frame.attrs["description"]


def test_a_timeline_of_other_orders_and_models() -> None:
    by_size = plots.timeline_data(sensitivity.cumulative(molloy(), order="precision"), below="I2")
    assert by_size["x"].tolist() == list(range(1, 17))
    assert by_size.attrs["below"] == "I2"
    of_studies = sensitivity.cumulative(multilevel(), order=np.arange(40) // 8)
    assert plots.timeline_data(of_studies).attrs["below"] == "tau2"
    two = sensitivity.cumulative(fitted(12, mods="rater"), order="given")
    frame = plots.timeline_data(two, term="rater[T.observer]")
    assert frame.attrs["measure"] == "GEN"
    assert frame["yi"].isna().any()
    assert any("steps have too few effects to be fitted" in line for line in frame.attrs["bottom"])
    with pytest.raises(InputError, match="choose one with term="):
        plots.timeline(two)
    with pytest.raises(InputError, match=r"needs the result of sensitivity\.cumulative, not Refits"):
        plots.timeline(sensitivity.leave_one_out(molloy()))
    location = quiet(lambda: LocationScaleModel(fitted(12).effects, scale="rater").fit())
    with pytest.raises(InputError, match="below='tau2': a location-scale model has no tau2"):
        plots.timeline(sensitivity.cumulative(location, order=np.arange(12) // 6), below="tau2")


def test_one_name_of_a_profile_leads_to_the_other() -> None:
    assert plots.profiles_data(molloy()).attrs["plot"] == "profile"
    with pytest.raises(InputError, match="title: give this to profile_data"):
        plots.profiles(plots.profile_data(molloy()), title="A")
    robust = quiet(lambda: che(dependent(12, 5)))
    assert plots.profiles_data(robust, points=5).attrs["plot"] == "profiles"
    clustered = quiet(lambda: fitted(30).robust(cluster="study_id"))
    assert plots.profile_data(clustered).attrs["plot"] == "profile"
    exact = BayesianModel(dependent(24, 8), random="study_id/es_id").fit()
    with pytest.raises(InputError, match=r"no profile: plots\.posterior\(fit, what='tau\[study_id\]'\) has it"):
        plots.profile(exact)
    with pytest.raises(InputError, match="maximises no likelihood of its variances; fit che"):
        plots.profile(quiet(lambda: RVEModel(dependent(24, 8)).fit()))
    with pytest.raises(InputError, match=r"fit\.predict_tau2\(\) has them"):
        plots.profile(quiet(lambda: LocationScaleModel(fitted(40).effects, scale="rater").fit()))
