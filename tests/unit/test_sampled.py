"""A sampled posterior says what the exact one says, within Monte-Carlo error; no sampler is needed for that."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge as bridge
from alliance_meta.bayes.marginals import Marginal
from alliance_meta.bayes.sampled.quantities import FAILED, SamplerSettings
from alliance_meta.bayes.sampled.results import SampledPosterior
from alliance_meta.errors import ConvergenceWarning
from tests.tolerances import CLOSED_FORM

# Independent draws at a fixed seed: deviations above 4 standard errors would be a mistake.
SIGMAS = 4.0
COLUMNS = ["mean", "sd", "median", "ci_lb", "ci_ub", "mcse", "ess_bulk", "ess_tail", "rhat"]


@pytest.fixture(scope="module")
def molloy():
    return am.escalc(am.load_dataset("molloy2014"))


@pytest.fixture(scope="module")
def exact(molloy):
    return am.BayesianModel(molloy).fit()


@pytest.fixture(scope="module")
def recipe(molloy):
    return am.bayes.pymc.normal_normal(molloy).recipe


@pytest.fixture(scope="module")
def sampled(exact, recipe):
    return SampledPosterior(exact.to_arviz(draws=8000, seed=1), recipe.notes, 1, recipe)


@pytest.fixture(scope="module")
def with_year(molloy):
    """Return an exact meta-regression and the same as draws in PyMC's coordinates."""
    fit = am.BayesianModel(molloy, mods="year").fit()
    recipe = am.bayes.pymc.normal_normal(molloy, mods="year").recipe
    found = bridge.draws(fit.to_arviz(draws=8000, seed=2))
    intercept, slope = np.moveaxis(found["beta"], -1, 0)
    draws = {"mu": intercept + slope * recipe.design.X[:, 1].mean(), "intrcpt": intercept, "tau": found["tau"]}
    container = bridge.from_draws(
        draws | {"beta": slope[..., None]}, dims={"beta": ["coefficient"]}, coords={"coefficient": ["year"]}
    )
    return fit, SampledPosterior(container, recipe.notes, 2, recipe)


def failing(recipe=None, **settings):
    rng = np.random.default_rng(4)
    draws = {"mu": rng.normal(size=(4, 300)) + np.arange(4)[:, None], "tau": rng.uniform(0.1, 0.2, (4, 300))}
    return SampledPosterior(bridge.from_draws(draws), (), 1, recipe, **settings)


def test_tidy_has_the_rows_of_the_exact_result_and_agrees(exact, sampled):
    theirs, ours = exact.tidy(), sampled.tidy()
    assert list(ours.columns) == COLUMNS
    assert list(ours.index) == list(theirs.index)
    error = theirs["sd"] / np.sqrt(8000)
    assert (((ours["mean"] - theirs["mean"]) / error).abs() < SIGMAS).all()
    assert ours["mcse"].to_numpy(dtype=float) == pytest.approx(error.to_numpy(dtype=float), rel=0.1)
    for limit, share in (("ci_lb", 0.025), ("median", 0.5), ("ci_ub", 0.975)):
        below = np.array([float(exact.posterior(name).cdf(x)) for name, x in ours[limit].items()])
        assert (np.abs(below - share) < SIGMAS * np.sqrt(share * (1 - share) / 8000)).all()
    assert ours.attrs["interval"] == theirs.attrs["interval"] == "eti"
    assert ours.attrs["scale"] == theirs.attrs["scale"]


def test_tidy_with_moderators_prints_the_coefficients(with_year):
    exact, sampled = with_year
    table = sampled.tidy()
    assert list(table.index)[:5] == ["mu", "intrcpt", "year", "tau", "theta_new"]
    assert list(table.index)[5:] == [f"theta[{label}]" for label in exact.effects.slab]
    theirs = exact.tidy().loc[["intrcpt", "year", "tau", "theta_new"]]
    z = (table.loc[theirs.index, "mean"] - theirs["mean"]) / (theirs["sd"] / np.sqrt(8000))
    assert (z.abs() < SIGMAS).all()
    assert sampled.beta == pytest.approx(table.loc[["intrcpt", "year"], "mean"].to_numpy(), rel=CLOSED_FORM)
    assert np.sqrt(np.diag(sampled.vb)) == pytest.approx(sampled.se, rel=CLOSED_FORM)
    assert sampled.ci_lb == pytest.approx(table.loc[["intrcpt", "year"], "ci_lb"].to_numpy(), rel=CLOSED_FORM)


@pytest.mark.parametrize("scale", [None, "r", "r_mean"])
@pytest.mark.parametrize("kind", ["eti", "hdi"])
def test_predictions_agree(exact, sampled, scale, kind):
    theirs, ours = (fit.predict(scale=scale, interval=kind, level=0.9) for fit in (exact, sampled))
    assert list(ours.columns) == list(theirs.columns)
    assert list(ours.index) == list(theirs.index)
    # The limits of shortest intervals vary most between runs.
    close = 0.06 if kind == "eti" else 0.2
    width = (theirs["pi_ub"] - theirs["pi_lb"]).iloc[0] / 3.3
    assert ours[["pi_lb", "pi_ub"]].to_numpy() == pytest.approx(
        theirs[["pi_lb", "pi_ub"]].to_numpy(), abs=close * width
    )
    own = ["pred", "se", "ci_lb", "ci_ub"]
    assert ours[own].to_numpy() == pytest.approx(theirs[own].to_numpy(), abs=close * theirs["se"].iloc[0])
    shared = ("scale", "scale_label", "level", "interval", "pred")
    assert {name: ours.attrs[name] for name in shared} == {name: theirs.attrs[name] for name in shared}


def test_predictions_for_moderators(with_year):
    exact, sampled = with_year
    new = {"year": [1995, 2010]}
    for given in (new, None):
        theirs, ours = exact.predict(given, scale="r"), sampled.predict(given, scale="r")
        assert list(ours.index) == list(theirs.index)
        assert (np.abs(ours["pred"] - theirs["pred"]) < 0.08 * theirs["se"]).all()
        assert (np.abs(ours["pi_ub"] - theirs["pi_ub"]) < 0.05).all()
    assert sampled.predict(new, seed=5).equals(sampled.predict(new, seed=5))
    assert not sampled.predict(new, seed=5)["pi_lb"].equals(sampled.predict(new)["pi_lb"])
    with pytest.raises(am.InputError, match="year"):
        sampled.predict({"yaer": [1]})


def test_mean_correlation_without_a_closed_form(sampled):
    plain = replace(sampled.recipe, scatter=lambda draws, newdata, rng: sampled.recipe.scatter(draws, newdata, rng))
    thin = bridge.from_draws({name: sampled.draws(name)[:, :250] for name in ("mu", "tau")})
    nested, closed = (SampledPosterior(thin, (), 1, one).predict(scale="r_mean") for one in (plain, sampled.recipe))
    assert nested.iloc[0, :4].to_numpy() == pytest.approx(closed.iloc[0, :4].to_numpy(), abs=0.003)


def test_a_marginal_is_a_marginal_and_knows_its_error(exact, sampled):
    ours, theirs = sampled.posterior("mu"), exact.posterior("mu")
    assert isinstance(ours, Marginal)
    assert abs(ours.mean - theirs.mean) < SIGMAS * ours.mcse_mean
    assert abs(ours.sd - theirs.sd) < SIGMAS * ours.mcse_sd
    assert abs(ours.median - theirs.median) < SIGMAS * ours.mcse_median
    assert abs(float(ours.quantile(0.9)) - float(theirs.quantile(0.9))) < SIGMAS * ours.mcse_quantile(0.9)
    assert abs(ours.prob(0.1, 0.2) - theirs.prob(0.1, 0.2)) < SIGMAS * ours.mcse_prob(0.1, 0.2)
    assert abs(float(ours.cdf(0.1)) - float(theirs.cdf(0.1))) < SIGMAS * ours.mcse_cdf(0.1)
    assert float(ours.cdf(0.1)) + float(ours.sf(0.1)) == pytest.approx(1.0, rel=CLOSED_FORM)
    x = np.linspace(0.05, 0.25, 9)
    assert ours.pdf(x) == pytest.approx(theirs.pdf(x), rel=0.12)
    assert "95% equal-tailed; Monte-Carlo error of the median 0.000" in str(ours).replace(")", "")


def test_monte_carlo_errors_are_those_of_independent_draws(rng):
    draws = SampledPosterior(bridge.from_draws({"x": rng.normal(size=(4, 5000))}), (), 1).posterior("x")
    n = 20000
    expected = {
        "mean": 1 / np.sqrt(n),
        "sd": 1 / np.sqrt(2 * n),
        "median": np.sqrt(np.pi / 2 / n),
        "quantile": np.sqrt(0.9 * 0.1 / n) / stats.norm.pdf(stats.norm.ppf(0.9)),
        "prob": 0.5 / np.sqrt(n),
    }
    found = {
        "mean": draws.mcse_mean,
        "sd": draws.mcse_sd,
        "median": draws.mcse_median,
        "quantile": draws.mcse_quantile(0.9),
        "prob": draws.mcse_prob(0.0),
    }
    assert found == pytest.approx(expected, rel=0.2)
    theirs = bridge.load("arviz").mcse(draws.chains, method="quantile", prob=0.9)
    assert draws.mcse_quantile(0.9) == pytest.approx(float(theirs), rel=CLOSED_FORM)


def test_a_certain_event_is_not_certain_to_the_last_digit(sampled):
    mu = sampled.posterior("mu")
    assert mu.prob(-1.0, 1.0) == 1.0
    assert 1e-5 < mu.mcse_prob(-1.0, 1.0) < 1e-3


def test_the_density_of_tau_ends_at_0(sampled):
    table = sampled.posterior("tau").density(points=400)
    assert table["x"].min() >= 0
    assert np.trapezoid(table["density"], table["x"]) == pytest.approx(0.999, abs=0.01)
    assert float(sampled.posterior("tau").pdf(-0.01)) == 0


def test_named_quantities(exact, sampled):
    for name in ("tau2", "I2", "theta_new"):
        ours, theirs = sampled.posterior(name), exact.posterior(name)
        assert abs(ours.median - theirs.median) < SIGMAS * ours.mcse_median
    label = exact.effects.slab[0]
    both = sampled.posterior({"mu": 1, f"theta[{label}]": -1})
    assert both.mean == pytest.approx(
        exact.posterior({"mu": 1, f"theta[{label}]": -1}).mean, abs=SIGMAS * both.mcse_mean
    )
    assert abs(sampled.tau - exact.tau) < 0.002
    assert abs(sampled.I2 - exact.I2) < 1.5
    assert sampled.prob("mu > 0.1") == pytest.approx(exact.prob("mu > 0.1"), abs=0.012)
    assert sampled.prob("mu > 0.1", scale="r") == sampled.prob(f"mu > {float(np.arctanh(0.1))!r}")


def test_true_effects_are_drawn_where_the_model_integrated_them_out(exact, sampled):
    container = bridge.from_draws({name: sampled.draws(name) for name in ("mu", "tau")})
    fit = replace(sampled, container=container)
    ours, theirs = fit.blup(), exact.blup()
    assert list(fit.tidy().index) == list(exact.tidy().index)
    assert list(ours.index) == list(theirs.index)
    assert (((ours["mean"] - theirs["mean"]) / ours["mcse"]).abs() < SIGMAS).all()
    assert ours["sd"].to_numpy(float) == pytest.approx(theirs["sd"].to_numpy(float), rel=0.05)
    with pytest.raises(am.InputError, match="integrated out"):
        replace(fit, recipe=replace(fit.recipe, true_effects=None)).blup()


def test_I2_is_for_a_single_normal_tau(sampled):
    other = replace(sampled, recipe=replace(sampled.recipe, scatter=lambda draws, newdata, rng: draws["tau"][:, None]))
    assert isinstance(other.I2, am.NotApplicable)
    with pytest.raises(am.InputError, match="I2 needs"):
        other.posterior("I2")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda fit: fit.posterior("muu"), "did you mean 'mu'"),
        (lambda fit: fit.posterior("tau", scale="r"), "tau is no effect"),
        (lambda fit: fit.prob("mu = 0"), "probability 0"),
        (lambda fit: fit.posterior({"mu": 0}), "every weight"),
        (lambda fit: fit.posterior({"mu": np.nan}), "finite number"),
        (lambda fit: fit.predict(scale="d"), "not one of"),
        (lambda fit: fit.tidy(level=95), "level"),
        (lambda fit: fit.tidy(interval="central"), "interval"),
        (lambda fit: fit.posterior("mu").mcse_quantile(1.0), "strictly between"),
    ],
)
def test_bad_questions(sampled, ask, message):
    with pytest.raises(am.InputError, match=message):
        ask(sampled)


def test_shortest_intervals(exact, sampled):
    theirs, ours = (fit.tidy(interval="hdi", level=0.8).loc["tau"] for fit in (exact, sampled))
    assert ours["ci_lb"] == pytest.approx(theirs["ci_lb"], abs=0.006)
    assert ours["ci_ub"] == pytest.approx(theirs["ci_ub"], abs=0.006)
    own = sampled.posterior("tau")
    lb, ub = own.interval(level=0.8, kind="hdi").lb, own.interval(level=0.8, kind="hdi").ub
    assert own.prob(lb, ub) == pytest.approx(0.8, abs=0.001)
    assert (lb, ub) == (ours["ci_lb"], ours["ci_ub"])


def test_summary_fits_and_states_its_intervals(sampled, exact):
    text = sampled.summary()
    assert max(map(len, text.splitlines())) <= 80
    assert "Intervals: equal-tailed, 95% of the posterior" in text
    assert "Priors: mu ~ normal(0, 0.5); tau ~ half-normal(0.3)" in text
    assert str(sampled) == repr(sampled) == text
    assert FAILED not in text
    for caution in exact.effects.provenance.cautions:
        assert caution[:40] in text
    mu = sampled.tidy().loc["mu"]
    assert re.search(rf"^mu +{mu['mean']:.4f} +{mu['sd']:.4f}", text, re.MULTILINE)
    html = sampled._repr_html_()
    assert re.search(r"Monte-Carlo errors of the means: at most 1\.[12]% of the sd\.", text)
    assert "95% equal-tailed intervals" in html
    assert "<script" not in html


def test_the_words_follow_level_kind_and_sampler(sampled):
    settings = SamplerSettings("nutpie", 1000, 0.9)
    other = replace(sampled, level=0.8, interval="hdi", sampler=settings)
    assert "Intervals: highest-density, 80% of the posterior" in other.summary()
    text = other.methods_text()
    assert "shortest (highest-density) 80% credible intervals" in text
    assert "No-U-Turn sampler as implemented in nutpie" in text
    assert "4 chains of 2000 draws each after 1000 draws of tuning" in text
    assert "the true effects of studies follow a normal distribution" in text
    assert other.glance()["level"].iloc[0] == 0.8
    assert other.to_dict()["sampler"] == {
        "program": "nutpie", "tune": 1000, "target_accept": 0.9, "chains": 4, "draws": 2000, "seed": 1,
    }  # fmt: skip


def test_glance_and_to_dict(sampled):
    row = sampled.glance().iloc[0]
    assert row["converged"]
    assert (row["k"], row["p"], row["chains"], row["draws"]) == (16, 1, 4, 2000)
    assert isinstance(row["divergences"], am.NotApplicable)
    found = json.loads(json.dumps(sampled.to_dict(), allow_nan=False))
    assert found["converged"] is True
    assert found["problems"] == []
    assert found["posterior"]["parameter"][0] == "mu"
    assert found["model"]["priors"]["tau"] == sampled.recipe.priors["tau"].to_dict()


NUMBERS = {
    "tidy": lambda fit: fit.tidy(),
    "predict": lambda fit: fit.predict(),
    "blup": lambda fit: fit.blup(),
    "posterior": lambda fit: fit.posterior("mu"),
    "prob": lambda fit: fit.prob("mu > 0"),
    "glance": lambda fit: fit.glance(),
    "to_dict": lambda fit: fit.to_dict(),
    "beta": lambda fit: fit.beta,
    "se": lambda fit: fit.se,
    "vb": lambda fit: fit.vb,
    "ci_lb": lambda fit: fit.ci_lb,
    "ci_ub": lambda fit: fit.ci_ub,
    "tau": lambda fit: fit.tau,
    "tau2": lambda fit: fit.tau2,
    "I2": lambda fit: fit.I2,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_whatever_gives_numbers_warns_where_draws_fail_their_checks_and_each_time(recipe, sampled, name):
    bad = failing(recipe)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning, match=r"DO NOT RELY.*rhat, few-effective-draws"):
            NUMBERS[name](bad)
    NUMBERS[name](sampled)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.ConvergenceWarning")
def test_a_fit_that_fails_says_so_first_everywhere(recipe):
    bad = failing(recipe)
    assert not bad.converged
    assert {note.code for note in bad.problems} == {"rhat", "few-effective-draws"}
    assert bad.summary().startswith(FAILED)
    assert str(bad).startswith(FAILED)
    assert bad._repr_html_().startswith(f"<div><p><strong>{FAILED}")
    assert bad.methods_text().startswith(FAILED)
    assert list(bad.to_dict())[:2] == ["converged", "problems"]
    assert bad.to_dict()["converged"] is False
    assert not bad.glance()["converged"].iloc[0]
    assert bad.glance().columns[0] == "converged"
    assert bad.tidy().attrs["converged"] is False
    assert bad.predict().attrs["converged"] is False
    assert "FAILS ITS CHECKS: rhat, few-effective-draws" in str(bad.posterior("mu"))
    assert all(len(line) <= 80 for line in bad.summary().splitlines())


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.ConvergenceWarning")
def test_draws_of_any_other_model_can_still_be_read():
    other = failing()
    assert list(other.tidy().index) == ["mu", "tau"]
    assert other.summary().startswith(FAILED)
    assert other.posterior("tau").interval().lb > 0.1
    assert other.to_dict()["converged"] is False
    assert "k" not in other.glance()
    for ask in (other.predict, other.methods_text, lambda: other.posterior("mu", scale="r"), lambda: other.k):
        with pytest.raises(am.InputError, match=r"not from bayes\.pymc"):
            ask()


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.ConvergenceWarning")
def test_serving_variables_are_not_shown_but_checked(recipe, rng):
    stuck = rng.normal(size=(4, 600)) + np.arange(4)[:, None]
    draws = {"mu": rng.normal(size=(4, 600)), "tau": rng.uniform(size=(4, 600)), "tau_share": stuck}
    draws |= {"z": rng.normal(size=(4, 600, 16)), "tau_log__": -draws["mu"]}
    fit = SampledPosterior(bridge.from_draws(draws), (), 1, recipe)
    assert list(fit.tidy().index)[:4] == ["mu", "tau", "theta_new", f"theta[{recipe.effects.slab[0]}]"]
    assert "tau_share" in fit.problems[0].message
    shown = [*fit.diagnostics.table.index, *fit.to_arviz().posterior.data_vars]
    assert "tau_share" in shown
    assert "tau_log__" not in shown
    assert list(fit.posterior("tau_share").chains[0, :2]) == list(stuck[0, :2])


def test_constants_of_a_matrix_need_no_rhat(rng):
    r = rng.uniform(-0.5, 0.5, (4, 800))
    one = np.ones_like(r)
    made = bridge.from_draws({"cor": np.stack([one, r, r, one], axis=-1)})
    assert SampledPosterior(made, (), 1).converged
    assert not SampledPosterior(bridge.from_draws({"cor": one}), (), 1).converged


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.ConvergenceWarning")
def test_degenerate_draws():
    few = SampledPosterior(bridge.from_draws({"mu": [[0.1, 0.3]]}), (), 1)
    row = few.tidy().loc["mu"]
    assert isinstance(row["mcse"], am.NotApplicable)
    assert row["mean"] == pytest.approx(0.2)
    assert few.to_dict()["posterior"]["rhat"] == [{"not_applicable": "needs at least 4 draws per chain"}]
    assert [note.code for note in few.problems] == ["unchecked"]
    one = SampledPosterior(bridge.from_draws({"mu": [[0.1]]}), (), 1)
    assert isinstance(one.posterior("mu").sd, am.NotApplicable)
    assert "n/a" in one.summary()
    assert isinstance(one.posterior("mu").mcse_prob(0.0), am.NotApplicable)
    with pytest.raises(am.InputError, match="never change"):
        one.posterior("mu").pdf(0.1)


def test_an_interval_kind_is_checked_at_once(sampled):
    with pytest.raises(am.InputError, match="interval"):
        replace(sampled, interval="middle")
    with pytest.raises(am.InputError, match="level"):
        replace(sampled, level=1.5)


def test_no_intercept(molloy, rng):
    frame = pd.DataFrame({"kind": ["a", "b"] * 8})
    es = am.EffectSizes.from_arrays(molloy.yi, molloy.vi, mods=frame, measure="ZCOR")
    normal = am.priors.Normal(0, 0.5)
    recipe = am.bayes.pymc.normal_normal(es, mods="0 + kind", beta_prior=normal).recipe
    names = list(recipe.design.names)
    draws = {"beta": rng.normal(0.2, 0.05, (4, 600, 2)), "tau": rng.uniform(0.1, 0.2, (4, 600))}
    container = bridge.from_draws(draws, dims={"beta": ["coefficient"]}, coords={"coefficient": names})
    fit = SampledPosterior(container, (), 3, recipe)
    assert list(fit.tidy().index)[:4] == [*names, "tau", "theta_new"]
    assert fit.posterior(names[0], scale="r").mean == pytest.approx(np.tanh(draws["beta"][..., 0]).mean())
    assert fit.posterior("mu").mean == pytest.approx(draws["beta"].mean(), rel=CLOSED_FORM)
    assert max(map(len, fit.summary().splitlines())) <= 80


def test_methods_of_the_exact_likelihood_speak_of_no_variance():
    es = am.escalc(am.load_dataset("kolden2011"))
    recipe = am.bayes.pymc.exact_correlation(es).recipe
    draws = am.BayesianModel(es).fit().to_arviz(draws=400, seed=1)
    text = am.bayes.SampledPosterior(draws, (), 1, recipe).methods_text()
    assert "exact sampling distribution" in text
    assert "1/(n - 3)" not in text
