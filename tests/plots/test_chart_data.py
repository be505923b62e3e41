"""The frames of the plots with two axes hold the fit's own numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alliance_meta import BayesianModel, EffectSizes, RandomEffectsModel, moderators, sensitivity
from alliance_meta.errors import DesignError, InputError
from alliance_meta.models.subgroups import subgroups
from alliance_meta.notes import NotApplicable
from alliance_meta.plots import (
    averaged,
    averaged_data,
    bubble,
    bubble_data,
    caterpillar,
    caterpillar_data,
    dependence_data,
    means_data,
    posterior,
    profile,
    profile_data,
    resampled,
    resampled_data,
    rho_grid_data,
    weight_function_data,
)
from alliance_meta.plots.sheet.points import swarm
from tests.plots.cases import fitted, molloy, quiet
from tests.plots.charts import alike, compared, crossed, ensemble, many, multiplied, permuted, several, synthetic
from tests.plots.geometry import texts
from tests.tolerances import CLOSED_FORM, ITERATIVE

EFFECT = ["yi", "ci_lb", "ci_ub", "pi_lb", "pi_ub"]
AS_R = ["r", "r_lb", "r_ub", "r_pi_lb", "r_pi_ub"]


def notes(frame: pd.DataFrame) -> list[str]:
    return [note["code"] for note in frame.attrs["notes"]]


def test_a_caterpillar_holds_every_effect_sorted_and_the_pooled_one() -> None:
    fit = many(3000)
    frame = caterpillar_data(fit)
    studies = frame[frame["kind"] == "study"]
    np.testing.assert_array_equal(studies["yi"], np.sort(fit.effects.yi))
    np.testing.assert_array_equal(studies["yi"], fit.effects.yi[studies["position"].astype(int)])
    np.testing.assert_allclose(studies["r"], np.tanh(studies["yi"]), rtol=CLOSED_FORM)
    expected = fit.predict().iloc[0]
    pooled = frame[frame["kind"] == "summary"].iloc[0]
    new = frame[frame["kind"] == "prediction"].iloc[0]
    assert pooled[["yi", "ci_lb", "ci_ub"]].tolist() == expected[["pred", "ci_lb", "ci_ub"]].tolist()
    assert new[["pi_lb", "pi_ub"]].tolist() == expected[["pi_lb", "pi_ub"]].tolist()


def test_a_regression_has_no_pooled_effect_to_draw() -> None:
    frame = caterpillar_data(fitted(60, mods="rater"))
    assert set(frame["kind"]) == {"study"}
    assert "No pooled effect is drawn: the model rater (REML, HK) has moderators" in frame.attrs["bottom"]


def test_effects_beyond_the_axis_are_counted() -> None:
    frame = caterpillar_data(molloy())
    lost = int((frame.loc[frame["kind"] == "study", "r"] > 0.2).sum())
    shown = [text.get_text() for text in texts(caterpillar(frame, xlim=(-0.5, 0.2)))]
    assert f"{lost} effects lie beyond the axis" in shown
    assert not any("beyond the axis" in text.get_text() for text in texts(caterpillar(frame)))


def test_hairlines_stand_where_the_intervals_are() -> None:
    frame = caterpillar_data(molloy())
    hairs = next(line for line in caterpillar(frame).axes[0].lines if line.get_linewidth() == 0.4)
    ends = np.column_stack(hairs.get_data()).reshape(-1, 3, 2)
    studies = frame[frame["kind"] == "study"]
    np.testing.assert_allclose(ends[:, 0, 0], studies["r_lb"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(ends[:, 1, 0], studies["r_ub"], rtol=CLOSED_FORM)
    assert np.isnan(ends[:, 2, 0]).all()
    assert ends[:, 0, 1].tolist() == list(range(len(studies)))


def test_the_line_of_a_bubble_plot_is_the_prediction_at_the_held_values() -> None:
    fit = molloy("meanage + design")
    frame = bubble_data(fit, "meanage")
    line = frame[frame["kind"] == "line"]
    assert frame.attrs["held"] == {"design": "cross-sectional"}
    newdata = pd.DataFrame({"meanage": line["x"], "design": "cross-sectional"})
    expected = fit.predict(newdata)
    np.testing.assert_allclose(line[EFFECT], expected[["pred", *EFFECT[1:]]], rtol=CLOSED_FORM)
    np.testing.assert_allclose(line[AS_R], np.tanh(line[EFFECT]), rtol=CLOSED_FORM)
    ages = fit.effects.moderators["meanage"]
    assert (line["x"].min(), line["x"].max()) == (ages.min(), ages.max())
    assert "Line at design = cross-sectional; effects as observed" in frame.attrs["bottom"]


def test_the_line_says_where_it_goes_beyond_the_held_levels() -> None:
    fit = molloy("meanage + design")
    frame = bubble_data(fit, "meanage")
    table = fit.effects.moderators
    own = table.loc[table["design"] == "cross-sectional", "meanage"]
    line = frame[frame["kind"] == "line"]
    np.testing.assert_array_equal(line["inside"] == 1, line["x"].between(own.min(), own.max()))
    assert notes(frame).count("beyond-the-data") == 1
    styles = {one.get_linestyle() for one in bubble(frame).axes[0].lines if len(one.get_xdata()) > 2}
    assert styles == {"-", "--"}
    alone = bubble_data(molloy("meanage"), "meanage")
    assert (alone.loc[alone["kind"] == "line", "inside"] == 1).all()
    assert "beyond-the-data" not in notes(alone)


def test_other_moderators_can_be_held_elsewhere() -> None:
    fit = crossed()
    frame = bubble_data(fit, "year", at={"rater": "observer"})
    assert frame.attrs["held"] == {"rater": "observer", "modality": "CBT"}
    levels = bubble_data(fit, "rater", at={"year": 2000})
    assert levels.attrs["held"] == {"modality": "CBT", "year": 2000.0}
    with pytest.raises(InputError, match="at: year is on the axis"):
        bubble_data(fit, "year", at={"year": 2000})
    with pytest.raises(InputError, match="the model has no moderator 'yaer'; did you mean 'year'"):
        bubble_data(fit, "yaer")
    with pytest.raises(InputError, match="'obs' is not a level of rater"):
        bubble_data(fit, "year", at={"rater": "obs"})
    with pytest.raises(DesignError, match="has no moderators"):
        bubble_data(molloy(), "year")


def test_the_levels_of_a_bubble_plot_are_predictions_with_their_counts() -> None:
    fit = fitted(60, mods="rater + year")
    frame = bubble_data(fit, "rater")
    levels = frame[frame["kind"] == "level"]
    table = fit.effects.moderators
    assert levels["label"].tolist() == ["client", "observer", "therapist"]
    assert levels["k"].tolist() == table["rater"].value_counts().sort_index().tolist()
    expected = fit.predict({"rater": levels["label"].tolist(), "year": [table["year"].mean()] * 3})
    np.testing.assert_allclose(levels[EFFECT], expected[["pred", *EFFECT[1:]]], rtol=CLOSED_FORM)
    studies = frame[frame["kind"] == "study"]
    assert [levels["label"].iloc[int(x)] for x in studies["x"]] == table["rater"].tolist()
    np.testing.assert_array_equal(studies["weight"], fit.weights)


def test_a_mean_that_cannot_be_told_is_not_drawn() -> None:
    fit = quiet(lambda: fitted(12, n=(5, 9), mods="rater*modality"))
    frame = bubble_data(fit, "modality")
    lost = frame.loc[(frame["kind"] == "level") & frame["yi"].isna(), "label"].tolist()
    assert lost == ["CBT"]
    assert "not-estimable" in notes(frame)
    assert any(line.startswith("No fitted mean for CBT") for line in frame.attrs["bottom"])


def test_bubbles_have_areas_proportional_to_weights() -> None:
    frame = bubble_data(molloy("meanage"), "meanage")
    bubbles = next(c for c in bubble(frame).axes[0].collections if len(c.get_offsets()) == 16)
    weights = np.sort(frame.loc[frame["kind"] == "study", "weight"])[::-1]
    np.testing.assert_allclose(bubbles.get_sizes() / bubbles.get_sizes()[0], weights / weights[0], rtol=CLOSED_FORM)


def test_a_swarm_does_not_overlap_and_keeps_to_its_column() -> None:
    rng = np.random.default_rng(5)
    y, radii = rng.normal(0, 0.3, 60), rng.uniform(0.02, 0.06, 60)
    x = swarm(y, radii, half=5.0)
    distance = np.hypot(x[:, None] - x, y[:, None] - y) + np.diag(np.full(60, np.inf))
    assert (distance >= radii[:, None] + radii - 1e-9).all()
    np.testing.assert_array_equal(x, swarm(y, radii, half=5.0))
    for size in (60, 2000):
        narrow = swarm(rng.normal(0, 0.3, size), np.full(size, 0.03), half=0.2)
        assert np.abs(narrow).max() <= 0.2 - 0.03 + 1e-12


@pytest.mark.parametrize("method", ["ML", "REML"])
def test_a_profile_peaks_at_the_estimate_and_is_cut_at_the_interval(method: str) -> None:
    fit = molloy(method=method)
    frame = profile_data(fit)
    points = frame[frame["kind"] != "curve"].set_index("kind")
    curve = frame[frame["kind"] == "curve"]
    interval = fit.confint_tau2(kind="PL")
    assert points.loc["maximum", "tau2"] == fit.tau2
    assert points.loc["maximum", "loglik"] == pytest.approx(fit.loglik, rel=CLOSED_FORM)
    assert points.loc[["lower", "upper"], "tau2"].tolist() == [interval.lb, interval.ub]
    assert points.loc["upper", "loglik"] == pytest.approx(frame.attrs["cutoff"], rel=ITERATIVE)
    assert fit.loglik - frame.attrs["cutoff"] == pytest.approx(3.841458820694124 / 2, rel=CLOSED_FORM)
    assert curve["loglik"].max() <= fit.loglik + ITERATIVE
    given = RandomEffectsModel(fit.effects, method=method, tau2=float(curve["tau2"].iloc[150])).fit()
    assert curve["loglik"].iloc[150] == pytest.approx(given.loglik, rel=CLOSED_FORM)


def test_a_profile_at_the_boundary() -> None:
    frame = profile_data(alike()).set_index("kind")
    assert frame.loc["maximum", "tau2"] == frame.loc["lower", "tau2"] == 0.0
    assert (np.diff(frame.loc["curve", "loglik"]) < 0).all()
    assert frame.attrs["bottom"][0].endswith("; maximum at the boundary")


def test_what_has_no_likelihood_has_no_profile() -> None:
    with pytest.raises(InputError, match="'DL' maximises no likelihood; refit with method='REML' or 'ML'"):
        profile(molloy(method="DL"))
    with pytest.raises(InputError, match="tau2 was given"):
        profile(molloy(tau2=0.01))
    with pytest.raises(InputError, match="1 effect and 1 coefficient leave"):
        profile(fitted(1))


def test_means_are_those_of_the_result() -> None:
    margins = moderators.marginal_means(crossed(), "rater")
    pairs = moderators.pairwise(crossed(), "rater")
    frame = means_data(margins, pairwise=pairs)
    table = margins.tidy()
    assert frame["label"].tolist() == table.index.tolist()
    assert frame["letters"].tolist() == [pairs.letters[label] for label in table.index]
    np.testing.assert_array_equal(frame[["k", *EFFECT]], table[["k", "estimate", *EFFECT[1:]]])
    np.testing.assert_allclose(frame["r"], np.tanh(table["estimate"]), rtol=CLOSED_FORM)
    with pytest.raises(InputError, match="pairwise compares modality; the means are those of rater"):
        means_data(margins, pairwise=moderators.pairwise(crossed(), "modality"))


def test_means_on_the_scale_of_r_are_not_transformed_again() -> None:
    margins = moderators.marginal_means(crossed(), "rater", scale="r_mean")
    frame = means_data(margins)
    np.testing.assert_array_equal(frame["r"], margins.tidy()["estimate"])
    assert frame.attrs["measure"] == "COR"
    assert frame.attrs["x_label"] == "Mean true correlation"


def test_means_of_subgroups_are_those_of_their_fits() -> None:
    groups = subgroups(fitted(40), by="rater", tau2="separate")
    frame = means_data(groups)
    np.testing.assert_array_equal(
        frame[["k", "yi", "ci_lb", "ci_ub"]], groups.tidy()[["k", "estimate", "ci_lb", "ci_ub"]]
    )
    expected = [float(fit.predict()["pi_ub"].iloc[0]) for fit in groups.fits.values()]
    assert frame["pi_ub"].tolist() == expected
    shared = subgroups(fitted(40), by="rater")
    together = means_data(shared)
    np.testing.assert_array_equal(together[["yi", "pi_lb"]], shared.predict()[["pred", "pi_lb"]])
    assert together.attrs["bottom"][0].endswith("(one model, a common τ²)")
    with pytest.raises(InputError, match="subgroups are compared by the test"):
        means_data(groups, pairwise=moderators.pairwise(crossed(), "rater"))
    with pytest.raises(InputError, match="needs a fitted model, marginal means or subgroups, not int"):
        means_data(3)  # type: ignore[arg-type]


def test_made_up_data_stay_labelled_after_resampling_and_averaging() -> None:
    fit = synthetic(crossed())
    test = sensitivity.permutation_test(fit, seed=1, iterations=20)
    boot = sensitivity.bootstrap(fit, seed=1, iterations=20)
    frames = [resampled_data(result) for result in (test, boot, multiplied(fit))]
    frames.append(means_data(moderators.marginal_means(fit, "rater")))
    assert all(frame.attrs["synthetic"] for frame in frames)


def test_the_tails_of_an_exact_test_are_its_p_value() -> None:
    test = permuted()
    frame = resampled_data(test)
    bins = frame[frame["kind"] == "bin"]
    assert bins["count"].sum() == test.possible
    assert bins["tail"].sum() / bins["count"].sum() == test.pval[0]
    np.testing.assert_array_equal(bins["count"], bins["count"][::-1])
    assert frame.loc[frame["kind"] == "observed", "value"].abs().tolist() == [abs(test.stat[0])] * 2


@pytest.mark.parametrize("quantity", ["QM", "year"])
def test_the_tails_of_a_random_test_are_its_p_value(quantity: str) -> None:
    test = sensitivity.permutation_test(crossed(), seed=1, iterations=100)
    frame = resampled_data(test, quantity=quantity)
    expected = test.QMp if quantity == "QM" else test.pval[test.names.index(quantity)]
    assert frame["tail"].sum() / frame["count"].sum() == pytest.approx(expected, rel=CLOSED_FORM)
    assert len(frame[frame["kind"] == "observed"]) == (1 if quantity == "QM" else 2)
    assert frame.attrs["pval"] == expected


def test_the_tail_of_a_wild_bootstrap_is_its_p_value() -> None:
    test = multiplied(crossed())
    frame = resampled_data(test)
    assert (1 + frame["tail"].sum()) / (1 + frame["count"].sum()) == pytest.approx(test.pval, rel=CLOSED_FORM)
    assert frame.loc[frame["kind"] == "observed", "value"].tolist() == [test.stat]
    assert frame.attrs["x_label"] == "Robust F (CR2) if year = 0"
    with pytest.raises(InputError, match="'year' was not resampled; known: F"):
        resampled_data(test, quantity="year")
    with pytest.raises(InputError, match="no observed statistic to draw: gone"):
        resampled_data(replace(test, stat=NotApplicable("gone")))


def test_a_bootstrap_shows_its_samples_and_its_interval() -> None:
    boot = sensitivity.bootstrap(molloy(), seed=1, iterations=200)
    for quantity in boot.quantities:
        frame = resampled_data(boot, quantity=quantity, kind="basic", level=0.9)
        interval = boot.confint(quantity, kind="basic", level=0.9)
        marks = frame[frame["kind"] != "bin"].set_index("kind")["value"]
        assert marks.to_dict() == {"observed": boot.estimate(quantity), "lower": interval.lb, "upper": interval.ub}
        bins = frame[frame["kind"] == "bin"]
        assert bins["count"].sum() == 200
        assert bins["lb"].iloc[0] == boot.samples[quantity].min()
        np.testing.assert_array_equal(bins["ub"].iloc[:-1], bins["lb"].iloc[1:])
    assert resampled_data(boot).attrs["measure"] == "ZCOR"
    assert resampled_data(boot, quantity="tau2").attrs["measure"] == "GEN"
    share = (boot.samples["tau2"] == 0).mean()
    assert (
        f"{100 * share:.1f}% of the samples are at the bound 0" in resampled_data(boot, quantity="tau2").attrs["bottom"]
    )


def test_values_that_are_not_finite_are_counted() -> None:
    effects = EffectSizes.from_arrays([0.2] * 4, [0.01] * 4, measure="ZCOR")
    test = quiet(lambda: sensitivity.permutation_test(RandomEffectsModel(effects).fit()))
    frame = resampled_data(test)
    infinite = int((~np.isfinite(test.stats)).sum())
    assert infinite > 0
    assert frame["count"].sum() == 2 * (test.stats.size - infinite)
    assert any("are not drawn" in line for line in frame.attrs["bottom"])
    assert not math.isnan(frame.attrs["pval"])
    assert resampled(frame).plot_description


def test_unknown_quantities_are_refused() -> None:
    with pytest.raises(InputError, match="'tau2' was not resampled; known: intrcpt, QM"):
        resampled_data(permuted(), quantity="tau2")
    with pytest.raises(InputError, match="needs a permutation test or a bootstrap, not int"):
        resampled_data(3)  # type: ignore[arg-type]


def test_a_grid_of_correlations_holds_each_fit() -> None:
    grid = several(rho=(0.6, 0))
    frame = rho_grid_data(grid)
    for row, fit in zip(frame.to_dict("records"), grid.fits, strict=True):
        expected = fit.predict().iloc[0]
        assert [row[name] for name in EFFECT] == expected[["pred", *EFFECT[1:]]].tolist()
        assert row["r"] == pytest.approx(math.tanh(expected["pred"]), rel=CLOSED_FORM)
    assert frame["rho"].tolist() == [0.6, 0.0]
    assert notes(frame) == [note.code for note in grid.notes]


def test_a_grid_of_a_regression_needs_a_coefficient() -> None:
    grid = several(rho=(0, 0.9), mods="rater")
    with pytest.raises(InputError, match=r"choose one with term=: intrcpt, rater"):
        rho_grid_data(grid)
    with pytest.raises(InputError, match=r"did you mean 'rater\[T.mixed\]'"):
        rho_grid_data(grid, term="rater[T.mix]")
    with pytest.raises(InputError, match="needs the result of sensitivity"):
        rho_grid_data(molloy())  # type: ignore[arg-type]
    frame = rho_grid_data(grid, term="rater[T.mixed]")
    assert frame["yi"].tolist() == [fit.beta[list(fit.names).index("rater[T.mixed]")] for fit in grid.fits]
    assert frame[["pi_lb", "r"]].isna().all(axis=None)


def test_methods_for_dependent_effects_hold_each_fit() -> None:
    result = compared(methods=("mean", "CHE + CR2", "RVE HIER"))
    frame = dependence_data(result)
    for row, fit in zip(frame.to_dict("records"), result.fits.values(), strict=True):
        expected = fit.predict().iloc[0]
        assert [row[name] for name in EFFECT] == expected[["pred", *EFFECT[1:]]].tolist()
        assert row["r"] == pytest.approx(math.tanh(expected["pred"]), rel=CLOSED_FORM)
        assert (row["k"], row["studies"]) == (fit.k, 12)
    assert frame["label"].tolist() == ["Mean of each study", "CHE + CR2", "RVE hierarchical"]
    assert notes(frame) == [note.code for note in result.notes]


def test_methods_left_out_are_named_under_the_plot() -> None:
    frame = dependence_data(compared())
    assert "One effect per study" not in frame["label"].tolist()
    assert frame.attrs["bottom"][1].startswith("One effect per study left out: no rule")


def test_methods_of_a_regression_need_a_coefficient() -> None:
    result = compared(mods="rater", methods=("three-level", "CHE + CR2"))
    with pytest.raises(InputError, match=r"choose one with term=: intrcpt, rater"):
        dependence_data(result)
    with pytest.raises(InputError, match=r"did you mean 'rater\[T.observer\]'"):
        dependence_data(result, term="rater[T.obs]")
    with pytest.raises(InputError, match="needs the result of compare_dependence"):
        dependence_data(molloy())  # type: ignore[arg-type]
    frame = dependence_data(result, term="rater[T.observer]")
    assert frame["yi"].tolist() == [
        fit.beta[list(fit.names).index("rater[T.observer]")] for fit in result.fits.values()
    ]
    assert frame[["pi_lb", "r"]].isna().all(axis=None)


def test_an_averaged_posterior_holds_the_models_numbers() -> None:
    found = ensemble()
    frame = averaged_data(found)
    spike = frame.attrs["spike"]
    assert spike == pytest.approx(1 - found.inclusion.loc["effect", "posterior"], rel=CLOSED_FORM)
    given, whole = (frame[frame["kind"] == kind] for kind in ("conditional", "averaged"))
    np.testing.assert_allclose(given["density"], found.posterior("mu", conditional=True).pdf(given["x"].to_numpy()))
    np.testing.assert_allclose(whole["density"], found.posterior("mu").pdf(whole["x"].to_numpy()), rtol=1e-6)
    assert np.trapezoid(given["density"], given["x"]) == pytest.approx(1.0, abs=2e-3)
    limits = found.tidy(conditional=True).loc["mu"]
    marks = frame.set_index("kind")["x"]
    assert marks[["lower", "median", "upper"]].tolist() == limits[["ci_lb", "median", "ci_ub"]].tolist()
    assert frame.loc[frame["kind"] == "median", "r"].iloc[0] == pytest.approx(math.tanh(limits["median"]))
    prior = frame[frame["kind"] == "prior"]
    np.testing.assert_allclose(prior["density"], found.mu_prior.pdf(prior["x"].to_numpy()))
    with pytest.raises(InputError, match=r"bayes\.robma or bayes\.average"):
        averaged_data(molloy())


def test_a_spike_is_as_high_as_its_probability() -> None:
    ax = averaged(averaged_data(ensemble())).axes[0]
    bar = max(ax.lines, key=lambda line: line.get_linewidth())
    foot, top = (bar.get_transform().transform(end) for end in np.column_stack(bar.get_data()))
    place = ax.transAxes.inverted().transform
    assert place(top)[1] - place(foot)[1] == pytest.approx(averaged_data(ensemble()).attrs["spike"], rel=1e-9)
    assert ax.transData.inverted().transform(foot)[0] == pytest.approx(0.0, abs=CLOSED_FORM)


def test_a_weight_function_holds_the_models_numbers() -> None:
    found = ensemble()
    table = found.weight_function(conditional=True)
    frame = weight_function_data(found, conditional=True)
    columns = ["p_from", "p_to", "mean", "median", "ci_lb", "ci_ub"]
    pd.testing.assert_frame_equal(frame[columns], table[columns])
    assert frame["label"].tolist() == ["0 to .025", ".025 to .5", ".5 to .975", ".975 to 1"]
    with pytest.raises(InputError, match=r"needs the result of bayes\.robma"):
        weight_function_data(molloy())


@pytest.mark.parametrize("k", [3, 40])
def test_densities_reach_both_ends_of_an_axis_that_begins_at_no_effect(k: int) -> None:
    effects = fitted(k).effects
    ax = posterior(BayesianModel(replace(effects, yi=effects.yi + 0.6)).fit()).axes[0]
    x = np.concatenate([line.get_xdata() for line in ax.lines[:2]]).astype(float)
    assert ax.get_xlim() == pytest.approx((x.min(), x.max()))
    assert x.min() <= 0.0 < x.max()
