"""Quadrature over tabulated likelihoods: normal ones give the exact engine, those of r a plain dense grid."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from scipy import special, stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import exact_correlation
from alliance_meta.bayes.exact.setup import tau_density
from alliance_meta.core.bayes.tabulated import TabulatedProblem, grouped, solve_tabulated
from alliance_meta.core.correlations.likelihood import correlations, log_marginal, marginal, tabulated_correlations
from alliance_meta.notes import NotApplicable
from tests.tolerances import CLOSED_FORM

# The sinc series through the points of the grid, by which probabilities are read.
SERIES = 1e-6


def as_z(r, n):
    r, n = np.asarray(r, dtype=float), np.asarray(n, dtype=float)
    return am.EffectSizes.from_arrays(np.arctanh(r), 1 / (n - 3), ni=n, measure="ZCOR")


@pytest.fixture(scope="module")
def es():
    return as_z([0.1, -0.4, 0.65, 0.3, 0.5, 0.22, 0.05], [12, 5, 9, 300, 40, 25, 70])


@pytest.fixture(scope="module")
def fit(es):
    return exact_correlation(es)


@pytest.mark.parametrize("tau", [1e-4, 3e-3, 0.02, 0.15, 0.7, 3.0])
def test_integrals_over_true_effects(es, tau):
    r, n, mu = np.tanh(es.yi), es.ni, np.linspace(-0.8, 1.2, 7)
    ours = np.empty((es.k, 7))
    for studies in tabulated_correlations(r, n):
        ours[studies.rows] = studies.integrals(mu, tau)
    for j, one in enumerate(mu):
        expected = marginal(correlations(r, n), np.full(es.k, one), tau**2).value + np.log1p(-(r**2))
        np.testing.assert_allclose(ours[:, j], expected, atol=1e-11)


def test_tables_grow_with_what_is_asked(es):
    (studies, *_) = tabulated_correlations(np.tanh(es.yi), es.ni)
    first = studies.integrals(np.array([0.2]), 0.3)
    studies.integrals(np.array([-3.0, 4.0]), 0.3)
    np.testing.assert_allclose(studies.integrals(np.array([0.2]), 0.3), first, rtol=1e-13)


def normal_problem(y, v, mu_prior, tau_prior):
    def likelihood(rows):
        return lambda theta: stats.norm.logpdf(y[rows, None], theta, np.sqrt(v[rows, None]))

    studies = grouped(np.sqrt(v), y, lambda rows: lambda depth: np.sqrt(2 * depth * v[rows].max()), likelihood)
    return TabulatedProblem(studies, mu_prior.logpdf, tau_density(tau_prior))


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize(
    "tau_prior", [priors.HalfNormal(0.3), priors.HalfCauchy(0.15), priors.Uniform(1.0), priors.InverseGamma(1, 0.075)]
)
def test_normal_likelihoods_give_the_exact_engine(rng, k, tau_prior):
    y, v = rng.normal(0.3, 0.2, k), rng.uniform(0.005, 0.08, k)
    usual = am.BayesianModel(am.EffectSizes.from_arrays(y, v, measure="ZCOR"), tau_prior=tau_prior).fit()
    ours = solve_tabulated(normal_problem(y, v, priors.Normal(0, 0.5), tau_prior))
    assert ours.log_marginal == pytest.approx(usual.log_marginal_likelihood, abs=1e-8)
    assert ours.error < 1e-8
    for name, grid in (("mu", ours.mu), ("tau", ours.tau), ("theta_new", ours.theta_new)):
        exact = usual.posterior(name)
        x = exact.quantile([0.01, 0.1, 0.5, 0.9, 0.99])
        np.testing.assert_allclose(grid.cdf(x), [0.01, 0.1, 0.5, 0.9, 0.99], atol=SERIES, err_msg=name)
        np.testing.assert_allclose(grid.pdf(x), exact.pdf(x), rtol=2e-4, err_msg=name)


def test_an_outlier_of_twenty_standard_errors():
    y, v = np.array([0.1, 0.12, 0.15, 2.1]), np.full(4, 0.01)
    usual = am.BayesianModel(am.EffectSizes.from_arrays(y, v, measure="ZCOR")).fit()
    ours = solve_tabulated(normal_problem(y, v, priors.Normal(0, 0.5), priors.HalfNormal(0.3)))
    assert ours.log_marginal == pytest.approx(usual.log_marginal_likelihood, abs=1e-9)
    # A prior that leaves no room for it either.
    tight = priors.HalfNormal(0.02)
    usual = am.BayesianModel(am.EffectSizes.from_arrays(y, v, measure="ZCOR"), tau_prior=tight).fit()
    ours = solve_tabulated(normal_problem(y, v, priors.Normal(0, 0.5), tight))
    assert ours.log_marginal == pytest.approx(usual.log_marginal_likelihood, abs=1e-9)


def test_the_posterior_is_that_of_a_dense_grid(es, fit):
    """Gauss and Legendre's rule over mu and tau, with the integrals of the frequentist model."""
    x, w = special.roots_legendre(80)
    mu, tau = 0.2 + 1.3 * x, 0.9 * (x + 1)
    data, step = correlations(np.tanh(es.yi), es.ni), np.log1p(-(np.tanh(es.yi) ** 2)).sum()
    logs = np.empty((80, 80))
    for j, t in enumerate(tau):
        logs[:, j] = log_marginal(data, np.tile(mu[:, None], (1, es.k)), np.full(80, t)).sum(axis=1)
    logs += step + stats.norm.logpdf(mu, 0, 0.5)[:, None] + stats.halfnorm.logpdf(tau, 0, 0.3)
    weight = np.exp(logs) * np.outer(1.3 * w, 0.9 * w)
    assert fit.log_marginal_likelihood == pytest.approx(np.log(weight.sum()), abs=1e-7)
    weight /= weight.sum()
    mean, spread = weight.sum(axis=1) @ mu, weight.sum(axis=0) @ tau
    assert fit.posterior("mu").mean == pytest.approx(mean, abs=1e-7)
    assert fit.posterior("mu").sd == pytest.approx(np.sqrt(weight.sum(axis=1) @ (mu - mean) ** 2), abs=1e-7)
    assert fit.posterior("tau").mean == pytest.approx(spread, abs=1e-7)
    # A new study: the same mean, and the variances of mu and of true effects together.
    assert fit.posterior("theta_new").mean == pytest.approx(fit.posterior("mu").mean, abs=1e-9)
    total = fit.posterior("mu").sd ** 2 + fit.posterior("tau").sd ** 2 + fit.posterior("tau").mean ** 2
    assert fit.posterior("theta_new").sd ** 2 == pytest.approx(total, rel=1e-8)
    for wave in (np.cos, np.sin):
        # Waves are damped by exp(-tau^2 / 2).
        expected = (weight * wave(mu)[:, None] * np.exp(-0.5 * tau**2)).sum()
        assert fit.posterior("theta_new").average(wave) == pytest.approx(expected, abs=1e-8)


def test_bayes_factors(es, fit):
    of_mu, of_tau = fit.bayes_factor("mu = 0"), fit.bayes_factor("tau = 0")
    # Savage and Dickey's ratio of densities is another route.
    assert of_mu.bf01 == pytest.approx(of_mu.check, rel=1e-6)
    # Without heterogeneity only mu is left: a sum over a fine grid.
    r, n, mu = np.tanh(es.yi), es.ni, np.linspace(-1.5, 2, 20_001)
    logs = marginal_without_spread(r, n, mu) + stats.norm.logpdf(mu, 0, 0.5)
    expected = np.log(np.exp(logs).sum() * (mu[1] - mu[0])) - fit.log_marginal_likelihood
    assert of_tau.log_bf01 == pytest.approx(expected, abs=1e-9)
    assert of_tau.bf10 == pytest.approx(1 / of_tau.bf01, rel=CLOSED_FORM)
    with pytest.raises(am.InputError, match="compares 'mu = 0' and 'tau = 0'"):
        fit.bayes_factor("mu > 0")


def marginal_without_spread(r, n, mu):
    from alliance_meta.core.correlations.likelihood import log_density

    return log_density(correlations(r, n), np.tile(mu, (len(r), 1))).sum(axis=0) + np.log1p(-(r**2)).sum()


def test_the_mean_moves_by_the_bias_of_fishers_z(rng):
    n = rng.integers(20, 200, 24)
    es = as_z(np.tanh(rng.normal(0.25, 0.15, 24) + rng.normal(size=24) / np.sqrt(n - 3)), n)
    table = exact_correlation(es).compare()
    tau2 = table.loc["tau", "normal"] ** 2
    expected = -np.average(np.tanh(es.yi) / (2 * (n - 1)), weights=1 / (es.vi + tau2))
    assert table.loc["mu", "difference"] == pytest.approx(expected, rel=0.3)
    assert -0.003 < table.loc["mu", "difference"] < -0.0005
    assert table.loc["mu", "normal"] == pytest.approx(am.BayesianModel(es).fit().posterior("mu").median, rel=1e-12)


def test_large_samples_give_the_normal_model(rng):
    n = np.full(6, 20_000)
    table = exact_correlation(as_z(np.tanh(rng.normal(0.3, 0.1, 6)), n)).compare()
    assert np.abs(table["difference"]).max() < 2e-4


def test_raw_correlations_are_the_same_data(es, fit):
    r = np.tanh(es.yi)
    raw = am.EffectSizes.from_arrays(r, (1 - r**2) ** 2 / (es.ni - 1), ni=es.ni, measure="COR")
    other = exact_correlation(raw)
    assert other.log_marginal_likelihood == pytest.approx(fit.log_marginal_likelihood, abs=1e-10)
    assert other.effects.provenance.steps[-1] == "Fisher z of r"


def test_order_does_not_matter(es, fit):
    turned = exact_correlation(es.take(np.arange(es.k)[::-1]))
    assert turned.log_marginal_likelihood == pytest.approx(fit.log_marginal_likelihood, abs=1e-10)


@pytest.mark.parametrize("n", [4, 30])
def test_one_study_alone(n):
    fit = exact_correlation(as_z([0.5], [n]))
    assert [note.code for note in fit.notes] == ["prior-bound"]
    # Prior and one study pull against one another; its z is biased away from 0.
    assert 0 < fit.posterior("mu").median < np.arctanh(0.5)
    assert fit.posterior("tau").median < priors.HalfNormal(0.3).quantile(0.6)
    flat = exact_correlation(as_z([0.5], [n]), mu_prior=priors.Flat(), tau_prior=priors.HalfNormal(0.1))
    assert isinstance(flat.log_marginal_likelihood, NotApplicable)
    assert isinstance(flat.bayes_factor("mu = 0").bf01, NotApplicable)
    assert flat.bayes_factor("tau = 0").bf01 == pytest.approx(1, abs=1e-6)
    assert list(flat.compare().index) == ["mu", "tau", "theta_new"]


def test_a_heavy_tail_leaves_no_mean():
    fit = exact_correlation(as_z([0.5], [10]), mu_prior=priors.Flat(), tau_prior=priors.HalfCauchy(0.15))
    table = fit.tidy()
    assert all(isinstance(table.loc[name, "mean"], NotApplicable) for name in ("mu", "tau", "theta_new"))
    assert np.isfinite(table.loc["mu", "median"])


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_moments_under_cauchy_priors_are_there_where_they_are_finite(es, k):
    """The true effects in closed form, mu and tau by Gauss and Legendre's rule far into both tails."""
    mu_prior, tau_prior = priors.Cauchy(0, 0.3), priors.HalfCauchy(0.15)
    with warnings.catch_warnings():
        # So wide a grid is coarse where there is little data, and says so.
        warnings.simplefilter("ignore", am.errors.ConvergenceWarning)
        fit = exact_correlation(as_z(np.tanh(es.yi[:k]), es.ni[:k]), mu_prior=mu_prior, tau_prior=tau_prior)
    x, w = special.roots_legendre(160)
    u, log_tau = 9.0 * x, 11.75 * x - 2.25
    mu, tau = 0.2 + 0.15 * np.sinh(u), 0.15 * np.exp(log_tau)
    data, logs = correlations(np.tanh(es.yi[:k]), es.ni[:k]), np.empty((160, 160))
    for j, t in enumerate(tau):
        logs[:, j] = log_marginal(data, np.tile(mu[:, None], (1, k)), np.full(160, t)).sum(axis=1)
    logs += mu_prior.logpdf(mu)[:, None] + tau_prior.logpdf(tau)
    weight = np.exp(logs - logs.max()) * np.outer(w * np.cosh(u), w * tau)
    weight /= weight.sum()
    of_mu, of_tau = weight.sum(axis=1), weight.sum(axis=0)
    mean, spread, square = of_mu @ mu, of_tau @ tau, of_tau @ tau**2
    variance = of_mu @ (mu - mean) ** 2
    expected = {
        "mu": (mean, np.sqrt(variance)),
        "tau": (spread, np.sqrt(square - spread**2)),
        "theta_new": (mean, np.sqrt(variance + square)),
    }
    table = fit.tidy()
    for name, (first, second) in expected.items():
        assert table.loc[name, "mean"] == pytest.approx(first, rel=3e-4), name
        # One study leaves tau a tail like tau^-3.
        if k == 1 and name != "mu":
            assert isinstance(table.loc[name, "sd"], NotApplicable)
        else:
            assert table.loc[name, "sd"] == pytest.approx(second, rel=3e-4), name
        one = fit.posterior(name)
        assert one.cdf(one.quantile([0.025, 0.5, 0.975])) == pytest.approx([0.025, 0.5, 0.975], abs=1e-9)


def test_predictions_and_probabilities(fit):
    z, r = fit.predict().iloc[0], fit.predict(scale="r").iloc[0]
    np.testing.assert_allclose(np.tanh(z[["pred", "ci_lb", "ci_ub", "pi_lb", "pi_ub"]].astype(float)),
                               r[["pred", "ci_lb", "ci_ub", "pi_lb", "pi_ub"]].astype(float), atol=1e-8)  # fmt: skip
    short = fit.predict(interval="hdi", level=0.8).iloc[0]
    assert short["ci_ub"] - short["ci_lb"] < fit.predict(level=0.8).iloc[0][["ci_lb", "ci_ub"]].diff().iloc[1] + 1e-9
    assert fit.prob("mu > 0.1") == pytest.approx(fit.posterior("mu").sf(0.1), abs=1e-10)
    assert fit.prob("theta_new > 0.1", scale="r") == pytest.approx(fit.prob(f"theta_new > {np.arctanh(0.1)}"), abs=1e-8)
    low, high = fit.posterior("mu").interval().lb, fit.posterior("mu").interval().ub
    assert fit.posterior("mu").prob(low, high) == pytest.approx(0.95, abs=1e-8)


def test_everything_prints(fit):
    assert max(map(len, fit.summary().splitlines())) <= 80
    assert "higher" in fit.summary()
    assert str(fit) == repr(fit) == fit.summary()
    assert "Hotelling, 1953" in fit.methods_text()
    assert "<table>" in fit._repr_html_()
    assert fit.glance().shape[0] == 1
    assert json.loads(json.dumps(fit.to_dict()))["model"]["priors"]["tau"] == {"prior": "HalfNormal", "scale": 0.3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau_prior": priors.Jeffreys()}, "the prior Jeffreys of tau is improper"),
        ({"mu_prior": 0.5}, "mu_prior=0.5 is not a prior of an effect"),
        ({"level": 95}, "level"),
        ({"interval": "both"}, "interval"),
    ],
)
def test_bad_arguments(es, arguments, message):
    with pytest.raises(am.InputError, match=message):
        exact_correlation(es, **arguments)


def test_bad_data_and_bad_names(fit):
    with pytest.raises(am.InputError, match="not list; make them with escalc"):
        exact_correlation([0.1])
    with pytest.raises(am.InputError, match="n >= 4"):
        exact_correlation(am.EffectSizes.from_arrays([0.1], [0.5], ni=[3], measure="COR"))
    with pytest.raises(am.InputError, match="did you mean 'theta_new'"):
        fit.posterior("theta_neu")
    with pytest.raises(am.InputError, match="tau is no effect"):
        fit.posterior("tau", scale="r")
    with pytest.raises(am.InputError, match=r"scale='r_mean': .* cannot be shown so"):
        fit.predict(scale="r_mean")
    with pytest.raises(am.InputError, match="a single value has probability 0"):
        fit.prob("mu = 0")
