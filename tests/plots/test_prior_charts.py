"""The frames of priors, posteriors and predictive checks hold the numbers of the results themselves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from scipy import integrate, stats

from alliance_meta import BayesianModel, EffectSizes, plots, priors
from alliance_meta.bayes import predictive_check, prior_predictive
from alliance_meta.bayes.priors.predictions import prior_of
from alliance_meta.errors import InputError
from alliance_meta.plots import (
    posterior_data,
    predictive,
    predictive_data,
    prior_data,
    prior_predictive_data,
    prior_sensitivity_data,
)
from tests.plots.cases import molloy, quiet
from tests.plots.chains_cases import sampled
from tests.plots.geometry import texts
from tests.plots.prior_cases import bayesian, bayesian_levels, checked
from tests.tolerances import CLOSED_FORM

SET = priors.sensitivity_set()


def test_a_prior_plot_holds_densities_and_quantiles():
    frame = prior_data(SET)
    for prior in SET:
        one = frame[frame["label"] == str(prior)]
        curve, marks = one[one["kind"] == "density"], one[one["kind"] == "quantile"]
        inside = curve["x"] < prior.upper
        np.testing.assert_array_equal(curve["density"][inside], prior.pdf(curve["x"][inside]))
        np.testing.assert_array_equal(marks["x"], prior.quantile(marks["p"]))
    uniform = frame[(frame["label"] == "uniform(0, 1)") & (frame["kind"] == "density")]
    assert uniform.loc[uniform["x"] == 1.0, "density"].tolist() == [1.0, 0.0]
    assert uniform.loc[uniform["x"] > 1.0, "density"].unique().tolist() == [0.0]
    assert frame.attrs["bottom"][0] == "half-normal(0.3): median 0.20, 95% below 0.59"
    assert frame.attrs["bottom"][2] == "half-Cauchy(0.3): median 0.30, 95% below 3.81; 11% beyond the axis"


def test_an_effect_prior_as_correlations_integrates_to_1():
    frame = prior_data({"mine": priors.Normal(0.1, 0.4)}, scale="r")
    curve = frame[frame["kind"] == "density"]
    assert integrate.simpson(curve["density"], x=curve["x"]) == pytest.approx(1.0, abs=1e-6)
    marks = frame[frame["kind"] == "quantile"].set_index("p")["x"]
    assert marks[0.975] == pytest.approx(np.tanh(0.1 + 0.4 * stats.norm.ppf(0.975)), rel=CLOSED_FORM)
    assert frame.attrs["key"] == [["line", "mine"]]


def test_a_prior_plots_itself():
    figure = priors.HalfNormal(0.3).plot(title="Mine")
    assert figure.plot_title == "Mine"
    assert "half-normal(0.3): median 0.20, 95% below 0.59" in [text.get_text() for text in texts(figure)]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "draws one to 6 different priors of am.priors, not 0"),
        ([priors.Normal(0, s) for s in range(1, 8)], {}, "not 7"),
        ([priors.Normal(), 3], {}, "not int"),
        (0.5, {}, "not float"),
        ([priors.Normal(), priors.HalfNormal(1)], {}, "do not share an axis"),
        (priors.Flat(), {}, "flat is improper: .* cannot be drawn"),
        (priors.HalfNormal(1), {"scale": "r"}, "tau is a standard deviation"),
        (priors.Normal(), {"scale": "d"}, "scale"),
    ],
)
def test_priors_that_cannot_be_drawn(given, options, message):
    with pytest.raises(InputError, match=message):
        prior_data(given, **options)


def test_a_prior_predictive_plot_holds_its_numbers():
    result = prior_predictive(n=40)
    frame = prior_predictive_data(result)
    labels = list(dict.fromkeys(frame["label"]))
    assert labels == ["Mean correlation", "True correlation in a new study", "Observed correlation, n = 40"]
    for label, name in zip(labels, ("mu", "theta_new", "yi"), strict=True):
        one = frame[frame["label"] == label]
        curve, marks = one[one["kind"] == "density"], one[one["kind"] == "quantile"].set_index("p")["x"]
        np.testing.assert_array_equal(curve["density"], result.prior(name).pdf(curve["x"]))
        table = result.tidy().loc[name]
        assert marks[[0.025, 0.25, 0.5, 0.75, 0.975]].tolist() == pytest.approx(table.tolist(), rel=CLOSED_FORM)
    with pytest.raises(InputError, match=r"needs the result of bayes\.prior_predictive, not Normal"):
        prior_predictive_data(priors.Normal())


@pytest.mark.parametrize("what", ["mu", "tau", "theta_new"])
def test_a_posterior_plot_holds_prior_posterior_and_interval(what):
    fit = bayesian()
    frame = posterior_data(fit, what=what)
    after, before = (frame[frame["kind"] == kind] for kind in ("posterior", "prior"))
    np.testing.assert_array_equal(after["density"], fit.posterior(what).pdf(after["x"]))
    np.testing.assert_allclose(before["density"], prior_of(fit, what).pdf(before["x"]))
    limits = fit.posterior(what).interval()
    marks = frame.set_index("kind")["x"]
    assert marks[["lower", "median", "upper"]].tolist() == [limits.lb, limits.estimate, limits.ub]
    if what != "tau":
        np.testing.assert_allclose(frame["r"], np.tanh(frame["x"]), rtol=CLOSED_FORM)
        chances = frame.attrs["chances"]
        assert chances["r > 0"] == [pytest.approx(0.5), pytest.approx(fit.prob(f"{what} > 0"))]
        assert chances["r > .1"][1] == pytest.approx(fit.prob(f"{what} > 0.1", scale="r"))


def test_scales_of_a_posterior():
    fit = bayesian()
    r, z = posterior_data(fit, scale="r"), posterior_data(fit, scale="z")
    assert (r.attrs["measure"], z.attrs["measure"]) == ("COR", "GEN")
    curve = r[r["kind"] == "posterior"]
    np.testing.assert_allclose(
        curve["density"], fit.posterior("mu").pdf(np.arctanh(curve["x"])) / (1 - curve["x"] ** 2), rtol=1e-9
    )
    assert r.attrs["chances"] == {name: [pytest.approx(one) for one in pair] for name, pair in
                                  posterior_data(fit).attrs["chances"].items()}  # fmt: skip
    assert z.attrs["chances"]["mu > 0"][1] == pytest.approx(fit.prob("mu > 0"))


def test_priors_of_linear_combinations():
    """With moderators the intercept and a study's true effect have normal priors, the sums of normals."""
    fit = bayesian("meanage")
    x = fit.design.X
    own = fit.priors.coefficients
    centre = x.mean(axis=0)[1]
    intercept = prior_of(fit, "intrcpt")
    assert intercept.sd == pytest.approx(np.hypot(own[0].sd, centre * own[1].sd), rel=CLOSED_FORM)
    slope = prior_of(fit, "meanage")
    assert slope.sd == pytest.approx(own[1].sd, rel=CLOSED_FORM)
    study = prior_of(fit, f"theta[{fit.effects.slab[3]}]")
    spread = own[0].sd ** 2 + ((x[3, 1] - centre) * own[1].sd) ** 2 + 0.3**2
    assert study.sd == pytest.approx(np.sqrt(spread), rel=1e-9)


def test_priors_of_three_levels():
    fit = bayesian_levels()
    new = prior_of(fit, "theta_new")
    tau = fit.priors.taus
    second = [integrate.quad(lambda t, one=one: t**2 * float(one.pdf(t)), 0, 10)[0] for one in tau]
    assert new.sd == pytest.approx(np.sqrt(fit.priors.coefficients[0].sd ** 2 + sum(second)), rel=1e-7)
    x = np.array([0.1, 0.5])
    np.testing.assert_allclose(prior_of(fit, "tau[study_id]").pdf(x), tau[0].pdf(x))
    np.testing.assert_allclose(prior_of(fit, "tau[es_id]").pdf(x), tau[1].pdf(x))
    assert posterior_data(fit, what="tau[es_id]").attrs["what"] == "tau[study_id/es_id]"
    with pytest.raises(InputError, match=r"tau has no prior of its own .* draw tau\[study_id\] or"):
        posterior_data(fit, what="tau")


def test_improper_priors_are_not_drawn():
    fit = bayesian(mu_prior=priors.Flat())
    for what, line in (("mu", "The prior (flat) is improper and not drawn"), ("theta_new", "The prior is improper")):
        frame = posterior_data(fit, what=what)
        assert set(frame["kind"]) == {"posterior", "lower", "median", "upper"}
        assert line in frame.attrs["bottom"]
    assert "Prior: normal(0, 0.5)" in posterior_data(bayesian()).attrs["bottom"]
    jeffreys = bayesian(tau_prior=priors.Jeffreys())
    assert prior_of(jeffreys, "tau") is None
    assert prior_of(jeffreys, "theta_new") is None


def test_posteriors_that_cannot_be_drawn():
    fit = bayesian()
    with pytest.raises(InputError, match="needs the result of a Bayesian model, not RandomEffectsResults"):
        posterior_data(molloy())
    with pytest.raises(InputError, match="tau2 has no prior of its own"):
        posterior_data(fit, what="tau2")
    with pytest.raises(InputError, match="scale='r': tau"):
        posterior_data(fit, what="tau", scale="r")
    with pytest.raises(InputError, match="no quantity 'nu'"):
        posterior_data(fit, what="nu")
    other = quiet(lambda: BayesianModel(EffectSizes.from_arrays([0.2, 0.4], [0.1, 0.1])).fit())
    with pytest.raises(InputError, match="cannot be shown so"):
        posterior_data(other, scale="z")
    assert posterior_data(other).attrs["x_label"] == "Effect size"


@pytest.mark.parametrize("what", ["mu", "tau"])
def test_the_grid_of_priors_is_the_table(what):
    fit = bayesian()
    table, frame = fit.prior_sensitivity(), prior_sensitivity_data(fit, what=what)
    assert frame["label"].tolist() == table["tau_prior"].tolist()
    names = [what, f"{what}_ci_lb", f"{what}_ci_ub"]
    np.testing.assert_array_equal(frame[["yi", "ci_lb", "ci_ub"]], table[names])
    if what == "mu":
        np.testing.assert_array_equal(frame[["pi_lb", "pi_ub"]], table[["pi_lb", "pi_ub"]])
        np.testing.assert_allclose(frame["r"], np.tanh(table["mu"]), rtol=CLOSED_FORM)
    assert frame.attrs["reference"] == pytest.approx(frame.loc[0, ["yi", "ci_lb", "ci_ub"]].tolist())
    with pytest.raises(InputError, match="needs the result of BayesianModel"):
        prior_sensitivity_data(molloy())
    with pytest.raises(
        InputError, match="what='theta_new' is not in the table of prior_sensitivity; there are mu, tau"
    ):
        prior_sensitivity_data(fit, what="theta_new")


def test_the_grid_of_three_levels_names_the_priors_that_differ():
    fit = bayesian_levels()
    given = [priors.HalfNormal(0.1), priors.HalfCauchy(0.3)]
    term = fit.priors.terms[1]
    frame = prior_sensitivity_data(fit, what=f"tau[{term}]", tau_priors=given)
    table = fit.prior_sensitivity(tau_priors=given)
    assert frame["label"].tolist()[:2] == ["half-normal(0.1); half-normal(0.1)", "half-normal(0.1); half-Cauchy(0.3)"]
    np.testing.assert_array_equal(frame["yi"], table[f"tau[{term}]"])
    assert frame.attrs["axis_label"] == f"Priors of τ[study_id]; τ[{term}]"


def test_a_predictive_plot_holds_the_check():
    check = checked()
    bins = predictive_data(check)
    np.testing.assert_array_equal(
        bins[["lb", "ub", "count", "expected", "ci_lb", "ci_ub"]].to_numpy(), check.bins.to_numpy(dtype=float)
    )
    frame = predictive_data(check, what="Q")
    counts = frame[frame["kind"] == "bin"]
    observed = check.table.loc["Q", "observed"]
    assert counts["count"].sum() == 1000
    assert counts["tail"].sum() == (check.replicated["Q"] >= observed).sum()
    assert frame.loc[frame["kind"] == "observed", "value"].tolist() == [observed]
    signs = predictive_data(check, what="negative")
    tail = signs["tail"].sum()
    ties = (check.replicated["negative"] == check.table.loc["negative", "observed"]).mean()
    assert tail / 1000 - 0.5 * ties == pytest.approx(check.table.loc["negative", "p_value"])
    assert predictive_data(check, what="largest").attrs["bottom"][0].startswith("Observed .370; p = ")


def test_studies_stand_at_their_probabilities():
    check = checked()
    frame = predictive_data(check, what="studies")
    np.testing.assert_array_equal(frame["value"], np.sort(check.studies["pit"]))
    k = len(frame)
    np.testing.assert_allclose(frame["ci_lb"], stats.beta.ppf(0.025, np.arange(1, k + 1), np.arange(k, 0, -1)))
    np.testing.assert_allclose(frame["ci_ub"], stats.beta.ppf(0.975, np.arange(1, k + 1), np.arange(k, 0, -1)))
    ax = predictive(frame).axes[0]
    corners = next(one for one in ax.collections if isinstance(one, PolyCollection)).get_paths()[0].vertices
    for name in ("ci_lb", "ci_ub"):
        for corner in frame[["expected", name]].to_numpy():
            assert np.abs(corners - corner).max(axis=1).min() < 1e-12


def test_surprising_studies_are_named():
    rng = np.random.default_rng(2)
    v = rng.uniform(0.005, 0.02, 12)
    y = rng.normal(0.2, np.sqrt(v))
    y[7] = 1.9
    es = EffectSizes.from_arrays(y, v, measure="ZCOR", slab=[f"S{i}" for i in range(12)])
    check = predictive_check(BayesianModel(es).fit(), seed=1, draws=200)
    line = predictive_data(check, what="studies").attrs["bottom"][1]
    assert line == "Outside the central 95% of their prediction: S7 (about 0.6 expected)"


def test_checks_that_cannot_be_drawn():
    check = checked()
    with pytest.raises(InputError, match="what='skew' was not checked"):
        predictive_data(check, what="skew")
    with pytest.raises(InputError, match=r"needs the result of bayes\.predictive_check, not DataFrame"):
        predictive_data(check.table)
    with pytest.raises(InputError, match="give this to predictive_data"):
        plots.predictive(predictive_data(check), what="Q")


@pytest.mark.parametrize("what", ["mu", "tau", "theta_new"])
def test_draws_have_a_posterior_plot_too(what):
    fit = sampled()
    frame = posterior_data(fit, what=what)
    kinds = frame.set_index("kind")
    after = fit.posterior(what)
    np.testing.assert_array_equal(kinds.loc["posterior", "density"], after.pdf(kinds.loc["posterior", "x"].to_numpy()))
    limits = after.interval()
    assert kinds.loc[["lower", "median", "upper"], "x"].tolist() == [limits.lb, limits.estimate, limits.ub]
    drawn = ["The prior is not drawn"] if what == "theta_new" else [f"Prior: {fit.made.priors[what]}"]
    assert frame.attrs["bottom"][-1:] == drawn
    assert ("prior" in kinds.index) == (what != "theta_new")
