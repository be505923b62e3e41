"""The exact density of r in PyMC: against SciPy's 2F1, the integral over true effects, and the normal limit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import integrate, special, stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.core.correlations.likelihood import correlations, hypergeometric_nodes, log_marginal
from tests.equivalence.pymc_density import OFFSET, as_draws, log_density
from tests.tolerances import CLOSED_FORM


def as_z(r, n, **others):
    r, n = np.asarray(r, dtype=float), np.asarray(n, dtype=float)
    return am.EffectSizes.from_arrays(np.arctanh(r), 1 / (n - 3), ni=n, measure="ZCOR", **others)


@pytest.fixture
def es():
    mods = {"year": [1990.0, 2000, 2004, 2010, 2021]}
    return as_z([0.1, -0.4, 0.85, 0.3, 0.5], [12, 5, 9, 300, 40], mods=mods)


def hotelling(r, n, rho):
    """Hotelling's formula with the log density of Fisher's z, by SciPy's 2F1."""
    front = np.log(n - 2) + special.gammaln(n - 1) - 0.5 * np.log(2 * np.pi) - special.gammaln(n - 0.5)
    powers = (n - 1) / 2 * np.log1p(-(rho**2)) + (n - 4) / 2 * np.log1p(-(r**2)) - (n - 1.5) * np.log1p(-rho * r)
    return front + powers + np.log(special.hyp2f1(0.5, 0.5, n - 0.5, 0.5 * (1 + rho * r))) + np.log1p(-(r**2))


@pytest.mark.parametrize(
    ("n", "x", "error"),
    [
        ((10, 11, 20, 50, 400), (0.01, 0.5, 0.8, 0.95, 0.999), 2e-11),
        ((6, 8), (0.01, 0.5, 0.8, 0.95), 2e-9),
        ((4, 5), (0.01, 0.5, 0.75, 0.9), 5e-9),
        ((4, 5), (0.95,), 1e-7),
    ],
)
def test_the_short_sum_is_the_hypergeometric_function(n, x, error):
    node, weight = hypergeometric_nodes(np.array(n, dtype=float))
    for value in x:
        ours = (weight / np.sqrt(1 - value * node)).sum(axis=1)
        np.testing.assert_allclose(ours, special.hyp2f1(0.5, 0.5, np.array(n) - 0.5, value), rtol=error)


@pytest.mark.parametrize("n", [1e3, 1e6, 1e9])
def test_the_short_sum_for_large_samples(n):
    # The first terms of the power series; the third is of order n^-3.
    c, x = n - 0.5, 0.7
    node, weight = hypergeometric_nodes(np.array([n]))
    ours = (weight / np.sqrt(1 - x * node)).sum() - 1
    assert ours == pytest.approx(0.25 * x / c + 0.28125 * x**2 / (c * (c + 1)), rel=1e-13 * n + 3 / n**2)


def test_log_density(es):
    density = log_density(pymc.exact_correlation(es))
    r, n = np.tanh(es.yi), es.ni
    for mu, tau, z in ((0.2, 0.15, [0.5, -1, 2, 0, 0.3]), (-0.6, 0.8, [0.1, 0.2, 1.8, 1, 1.5])):
        expected = hotelling(r, n, np.tanh(mu + tau * np.array(z))).sum() + stats.norm.logpdf(z).sum()
        expected += stats.norm.logpdf(mu, 0, 0.5) + stats.halfnorm.logpdf(tau, 0, 0.3)
        assert density(mu=mu, tau=tau, z=z) == pytest.approx(expected, abs=OFFSET)


def test_log_density_with_moderators_and_other_priors(es):
    chosen = {"mu_prior": priors.Cauchy(0, 0.3), "tau_prior": priors.HalfCauchy(0.2), "beta_prior": priors.Normal(0, 1)}
    density = log_density(pymc.exact_correlation(es, mods="year", **chosen))
    z, year = np.array([0.5, -1, 2, 0, 0.3]), es.moderators["year"].to_numpy()
    rho = np.tanh(0.2 + 0.01 * (year - year.mean()) + 0.3 * z)
    expected = hotelling(np.tanh(es.yi), es.ni, rho).sum() + stats.norm.logpdf(z).sum() + stats.norm.logpdf(0.01)
    expected += stats.cauchy.logpdf(0.2, 0, 0.3) + stats.halfcauchy.logpdf(0.3, 0, 0.2)
    assert density(mu=0.2, tau=0.3, beta=[0.01], z=z) == pytest.approx(expected, abs=OFFSET)


@pytest.mark.slow
def test_the_slope_is_that_of_the_density(es):
    model = pymc.exact_correlation(es)
    density, slope = log_density(model), model.compile_dlogp(mode="FAST_COMPILE")
    z, h = np.array([0.5, -1, 2, 0, 0.3]), 1e-5
    # The order of the parameters is that of the model; tau is differentiated by its logarithm.
    found = slope({"mu": np.array(0.2), "tau_log__": np.log(0.3), "z": z})
    in_mu = (density(mu=0.2 + h, tau=0.3, z=z) - density(mu=0.2 - h, tau=0.3, z=z)) / (2 * h)
    in_tau = (density(mu=0.2, tau=0.3 * np.exp(h), z=z) - density(mu=0.2, tau=0.3 * np.exp(-h), z=z)) / (2 * h)
    assert found[0] == pytest.approx(in_mu, rel=1e-6)
    assert found[1] == pytest.approx(in_tau + 1, rel=1e-6)


def test_raw_correlations_are_the_same_model(es):
    raw = am.EffectSizes.from_arrays(np.tanh(es.yi), (1 - np.tanh(es.yi) ** 2) ** 2 / es.ni, ni=es.ni, measure="COR")
    one, two = log_density(pymc.exact_correlation(es)), log_density(pymc.exact_correlation(raw))
    point = {"mu": 0.2, "tau": 0.15, "z": [0.5, -1, 2, 0, 0.3]}
    assert one(**point) == pytest.approx(two(**point), abs=1e-12)
    effects = pymc.exact_correlation(raw).recipe.effects
    assert effects.measure == "ZCOR"
    np.testing.assert_allclose(effects.vi, es.vi, rtol=CLOSED_FORM)


def test_log_likelihood_is_the_integral_over_true_effects(es):
    model = pymc.exact_correlation(es, mods="year")
    points = [
        {"mu": 0.2, "beta": [0.01], "intrcpt": 0.2 - 0.01 * 2005, "tau": 0.15},
        {"mu": -0.3, "beta": [0.0], "intrcpt": -0.3, "tau": 0.7},
        {"mu": 0.4, "beta": [0.02], "intrcpt": 0.4 - 0.02 * 2005, "tau": 1e-9},
    ]
    ours = model.recipe.log_likelihood(as_draws(*points))
    year, r = es.moderators["year"].to_numpy(), np.tanh(es.yi)
    for s, point in enumerate(points):
        mean, tau = point["intrcpt"] + point["beta"][0] * year, point["tau"]
        for i in range(es.k):
            if tau < 1e-6:
                expected = hotelling(r[i], es.ni[i], np.tanh(mean[i]))
            else:
                area = integrate.quad(
                    lambda x, i=i, m=mean[i], t=tau: (
                        np.exp(hotelling(r[i], es.ni[i], np.tanh(m + t * x))) * stats.norm.pdf(x)
                    ),
                    -9, 9, points=[(es.yi[i] - mean[i]) / tau], epsrel=1e-11, epsabs=0, limit=200,
                )  # fmt: skip
                expected = np.log(area[0])
            assert ours[s, i] == pytest.approx(expected, abs=1e-8)


def test_many_draws_are_worked_through_in_pieces(es, rng, monkeypatch):
    from alliance_meta.core.correlations import likelihood as module

    data, mu, tau = correlations(np.tanh(es.yi), es.ni), rng.normal(size=(30, es.k)), rng.uniform(0.01, 1, 30)
    whole = log_marginal(data, mu, tau)
    monkeypatch.setattr(module, "CHUNK", 2000)
    np.testing.assert_allclose(log_marginal(data, mu, tau), whole, rtol=1e-12)


def test_large_samples_give_the_normal_model(rng):
    n = np.full(4, 4e7)
    es = as_z(np.tanh(rng.normal(0.2, 0.1, 4)), n)
    point = as_draws({"mu": 0.2, "tau": 0.1}, {"mu": 0.1, "tau": 0.5})
    exact, normal = (model(es).recipe.log_likelihood(point) for model in (pymc.exact_correlation, pymc.normal_normal))
    np.testing.assert_allclose(exact, normal, atol=1e-6)


def drawn(es, mu):
    """Return Fisher's z drawn from the model with practically known parameters, (draws, k)."""
    pm = load("pymc")
    with (
        warnings.catch_warnings(),
        pymc.exact_correlation(es, mu_prior=priors.Normal(mu, 1e-6), tau_prior=priors.HalfNormal(1e-6)),
    ):
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        found = pm.sample_prior_predictive(draws=5000, random_seed=1)
    return found.prior_predictive["y"].to_numpy().reshape(5000, -1)


@pytest.mark.slow
def test_simulated_correlations_have_the_density(es):
    z = drawn(es, 0.5)
    grid = np.linspace(-6, 7, 4001)
    for i in range(es.k):
        f = np.exp(hotelling(np.tanh(grid), es.ni[i], np.tanh(0.5)))
        below = np.interp(z[:, i], grid, np.cumsum(f) * (grid[1] - grid[0]))
        assert stats.kstest(below, "uniform").pvalue > 1e-3


def test_a_single_study():
    density = log_density(pymc.exact_correlation(as_z([0.3], [20])))
    expected = hotelling(0.3, 20, np.tanh(0.25)) + stats.norm.logpdf(0.5) + stats.norm.logpdf(0.2, 0, 0.5)
    assert density(mu=0.2, tau=0.1, z=[0.5]) == pytest.approx(expected + stats.halfnorm.logpdf(0.1, 0, 0.3), abs=OFFSET)


def test_what_the_recipe_says(es):
    recipe = pymc.exact_correlation(es).recipe
    assert recipe.units == es.slab
    assert list(recipe.priors) == ["mu", "tau"]
    assert "exact sampling density" in recipe.words
    other = as_z([0.2] * 5, [20] * 5, mods={"year": [2000.0] * 5})
    rebuilt, data = recipe.rebuilt(other)
    assert rebuilt.effects is other
    assert data["node"].shape == (5, 10)
    draws = as_draws({"mu": 0.2, "tau": 0.1})
    np.testing.assert_allclose(rebuilt.log_likelihood(draws), rebuilt.log_likelihood(draws)[:, :1] * np.ones(5))
    with pytest.raises(am.InputError, match="parameter for each of its 5 studies"):
        recipe.rebuilt(other.take(slice(0, 4)))


@pytest.mark.parametrize(
    ("effects", "arguments", "message"),
    [
        ([0.1], {}, "not list; make them with escalc"),
        (am.EffectSizes.from_arrays([0.1], [0.1]), {}, "Pearson correlations; these effects are 'GEN'"),
        (am.EffectSizes.from_arrays([0.1], [0.1], measure="ZCOR"), {}, "sample sizes; give ni="),
        (am.EffectSizes.from_arrays([0.1], [0.5], ni=[3], measure="COR"), {}, "n >= 4"),
        (am.EffectSizes.from_arrays([1.0], [0.5], ni=[9], measure="COR"), {}, "exactly 1 or -1"),
        (am.EffectSizes.from_arrays([0.1], [0.5], ni=[9], measure="ZCOR"), {}, "not 1 / "),
        (as_z([0.1], [9]), {"tau_prior": priors.Jeffreys()}, "the prior Jeffreys of tau is improper"),
        (as_z([0.1], [9]), {"mods": "year"}, "year"),
    ],
)
def test_bad_arguments(effects, arguments, message):
    with pytest.raises(am.InputError, match=message):
        pymc.exact_correlation(effects, **arguments)
