"""t-distributed true effects in PyMC: against plain integration over them, and the normal limit."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy import special, stats

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import pymc
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.core import distributions
from tests.equivalence.pymc_density import OFFSET, as_draws, log_density
from tests.tolerances import CLOSED_FORM

# What the nodes of the mixture promise for nu >= 1, in logs.
PROMISED = 1e-5


@pytest.fixture
def es():
    mods = {"year": [1990.0, 2000, 2004, 2010, 2021]}
    return am.EffectSizes.from_arrays(
        [0.1, -0.4, 1.9, 0.3, 0.5], [0.01, 0.3, 0.002, 0.05, 0.1], mods=mods, measure="ZCOR"
    )


def integrated(away, v, tau, nu, function=stats.norm.pdf):
    """Integrate a function of y - theta over the t distribution of theta, piece by piece, by Gauss's rule."""
    s = np.sqrt(v)
    around = np.array([-10.0, -5, -2, 0, 2, 5, 10])
    marks = sorted({*(3 * around), *(around / 3), *((away + around * s) / tau)})
    x, w = special.roots_legendre(80)
    total = 0.0
    for a, b in pairwise(marks):
        at = a + (b - a) * 0.5 * (x + 1)
        total += 0.5 * (b - a) * (w @ (function(away, tau * at, s) * stats.t.pdf(at, nu)))
    for side, edge in ((-1, marks[0]), (1, marks[-1])):
        # The tails by 1 / |theta|.
        at = edge / (0.5 * (x + 1))
        total += side * 0.5 * edge * (w @ (function(away, tau * at, s) * stats.t.pdf(at, nu) * (at / edge) ** 2))
    return total


@pytest.mark.parametrize("nu", [1.0, 2.5, 7.0, 40.0])
@pytest.mark.parametrize("tau", [0.02, 0.15, 0.8])
def test_the_mixture_is_the_integral_over_true_effects(nu, tau):
    v, away = np.array([0.01, 0.0004, 0.2]), np.array([0.3, 1.2, -0.1])
    arguments = away[None], v, np.array([tau]), np.array([nu])
    expected = np.array([integrated(a, b, tau, nu) for a, b in zip(away, v, strict=True)])
    # A result no parameters would be asked about: less likely than exp(-40).
    seen = expected > np.exp(-40)
    assert seen.sum() >= 2
    np.testing.assert_allclose(distributions.log_density(*arguments)[0][seen], np.log(expected[seen]), atol=PROMISED)
    below = [integrated(a, b, tau, nu, stats.norm.cdf) for a, b in zip(away, v, strict=True)]
    np.testing.assert_allclose(distributions.cdf(*arguments)[0], below, atol=PROMISED)


def test_the_mixture_is_a_t_distribution_where_studies_are_large():
    away = np.array([0.0, 0.1, 0.5, 2.0])
    for nu in (1.0, 4.0, 30.0):
        ours = distributions.log_density(away[None], np.full(4, 1e-12), np.array([0.2]), np.array([nu]))
        np.testing.assert_allclose(ours[0], stats.t.logpdf(away, nu, 0, 0.2), atol=PROMISED)


def point_density(es, mean, tau, nu):
    return distributions.log_density((es.yi - mean)[None], es.vi, np.array([tau]), np.array([nu])).sum()


def test_log_density(es):
    density = log_density(pymc.t_effects(es))
    for mu, tau, nu in ((0.2, 0.1, 3.0), (-0.3, 0.6, 80.0), (0.1, 1e-3, 1.2)):
        expected = point_density(es, mu, tau, nu) + stats.norm.logpdf(mu, 0, 0.5) + stats.halfnorm.logpdf(tau, 0, 0.3)
        expected += stats.gamma.logpdf(nu, 2, scale=10)
        assert density(mu=mu, tau=tau, nu=nu) == pytest.approx(expected, abs=OFFSET)


def test_log_density_with_a_fixed_nu_moderators_and_other_priors(es):
    chosen = {"mu_prior": priors.Cauchy(0, 0.3), "tau_prior": priors.HalfCauchy(0.2), "beta_prior": priors.Normal(0, 1)}
    model = pymc.t_effects(es, nu=4, mods="year", **chosen)
    year = es.moderators["year"].to_numpy()
    expected = point_density(es, 0.2 + 0.01 * (year - year.mean()), 0.3, 4.0) + stats.norm.logpdf(0.01)
    expected += stats.cauchy.logpdf(0.2, 0, 0.3) + stats.halfcauchy.logpdf(0.3, 0, 0.2)
    assert log_density(model)(mu=0.2, tau=0.3, beta=[0.01]) == pytest.approx(expected, abs=OFFSET)
    assert "4 degrees of freedom" in model.recipe.words
    assert "nu" not in model.recipe.priors


@pytest.mark.slow
def test_the_slope_is_that_of_the_density(es):
    model = pymc.t_effects(es)
    density, slope = log_density(model), model.compile_dlogp(mode="FAST_COMPILE")
    mu, tau, nu, h = 0.2, 0.15, 3.0, 1e-5
    found = slope({"mu": np.array(mu), "tau_log__": np.log(tau), "nu_log__": np.log(nu)})
    up, down = np.exp(h), np.exp(-h)
    in_mu = (density(mu=mu + h, tau=tau, nu=nu) - density(mu=mu - h, tau=tau, nu=nu)) / (2 * h)
    in_tau = (density(mu=mu, tau=tau * up, nu=nu) - density(mu=mu, tau=tau * down, nu=nu)) / (2 * h)
    in_nu = (density(mu=mu, tau=tau, nu=nu * up) - density(mu=mu, tau=tau, nu=nu * down)) / (2 * h)
    np.testing.assert_allclose(found, [in_mu, in_tau + 1, in_nu + 1], rtol=1e-5)


def test_many_degrees_of_freedom_give_the_normal_model(es):
    heavy, normal = log_density(pymc.t_effects(es, nu=1e9)), log_density(pymc.normal_normal(es))
    for mu, tau in ((0.2, 0.1), (-0.3, 0.6)):
        assert heavy(mu=mu, tau=tau) == pytest.approx(normal(mu=mu, tau=tau), rel=1e-6)


def test_an_outlier_pulls_less(es):
    """One study at 1.9 among others near .3: the centre with heavy tails stays with the others."""
    mu = np.linspace(-0.5, 1.5, 81)
    tau = np.full(81, 0.2)
    ours = distributions.log_density(es.yi - mu[:, None], es.vi, tau, np.full(81, 2.0)).sum(axis=1)
    normal = stats.norm.logpdf(es.yi, mu[:, None], np.sqrt(es.vi + 0.04)).sum(axis=1)
    assert mu[ours.argmax()] < 0.45 < 0.8 < mu[normal.argmax()]


def test_log_likelihood_of_draws(es):
    recipe = pymc.t_effects(es).recipe
    draws = as_draws({"mu": 0.2, "tau": 0.1, "nu": 3.0}, {"mu": -0.3, "tau": 0.6, "nu": 1.5})
    ours, below = recipe.log_likelihood(draws), recipe.cdf(draws)
    assert ours.shape == below.shape == (2, es.k)
    for s in range(2):
        mu, tau, nu = (draws[name][s] for name in ("mu", "tau", "nu"))
        for i in (0, 1, 3):
            away = es.yi[i] - mu
            assert ours[s, i] == pytest.approx(np.log(integrated(away, es.vi[i], tau, nu)), abs=PROMISED)
            assert below[s, i] == pytest.approx(integrated(away, es.vi[i], tau, nu, stats.norm.cdf), abs=PROMISED)


def test_scatter_of_true_effects(es, rng):
    n = 40_000
    draws = {"mu": np.zeros(n), "tau": np.full(n, 0.3), "nu": np.full(n, 5.0)}
    scatter = pymc.t_effects(es).recipe.scatter
    one = scatter(draws, None, rng)
    assert one.shape == (n, 1)
    assert stats.kstest(one[:, 0] / 0.3, stats.t(5).cdf).pvalue > 1e-3
    assert scatter(draws, es.moderators.iloc[:3], rng).shape == (n, 3)
    fixed = pymc.t_effects(es, nu=2).recipe.scatter({"tau": np.full(n, 0.1)}, None, rng)
    assert stats.kstest(fixed[:, 0] / 0.1, stats.t(2).cdf).pvalue > 1e-3


def test_results_are_drawn_from_the_model(es):
    pm = load("pymc")
    known = {"mu_prior": priors.Normal(0.2, 1e-6), "tau_prior": priors.Uniform(1e-3)}
    with warnings.catch_warnings(), pymc.t_effects(es, nu=2, **known) as model:
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS", category=UserWarning)
        pm.set_data({"vi": np.full(es.k, 1e-12)})
        found = pm.sample_prior_predictive(draws=4000, random_seed=1)
    tau = found.prior["tau"].to_numpy().reshape(-1, 1)
    away = (found.prior_predictive["y"].to_numpy().reshape(4000, -1) - 0.2) / tau
    assert tau.min() > 0
    assert len(model.free_RVs) == 2
    # Where tau is far above the spread of mu.
    away = away[tau[:, 0] > 1e-4]
    assert stats.kstest(away.ravel(), stats.t(2).cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(away[:, 0], away[:, 1]).statistic) < 4 / np.sqrt(len(away))


def test_other_data(es):
    recipe = pymc.t_effects(es).recipe
    rebuilt, data = recipe.rebuilt(es.take([0, 3]))
    assert set(data) == {"yi", "vi"}
    draws = as_draws({"mu": 0.2, "tau": 0.1, "nu": 3.0})
    np.testing.assert_allclose(rebuilt.log_likelihood(draws), recipe.log_likelihood(draws)[:, [0, 3]], rtol=CLOSED_FORM)


def test_few_studies_are_noted_and_one_will_do(es):
    one = pymc.t_effects(es.take([0]))
    assert [note.code for note in one.recipe.notes] == ["prior-bound"]
    assert pymc.t_effects(es.take([0]), nu=4).recipe.notes == ()
    expected = point_density(es.take([0]), 0.2, 0.1, 3.0) + stats.norm.logpdf(0.2, 0, 0.5)
    expected += stats.halfnorm.logpdf(0.1, 0, 0.3) + stats.gamma.logpdf(3.0, 2, scale=10)
    assert log_density(one)(mu=0.2, tau=0.1, nu=3.0) == pytest.approx(expected, abs=OFFSET)
    assert str(one.recipe.priors["nu"]) == "gamma(2, 10)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nu": 0.5}, "nu=0.5 must be a prior of positive values"),
        ({"nu": np.inf}, "take normal_normal"),
        ({"nu": priors.Normal(4, 1)}, "must be a prior of positive values"),
        ({"nu": True}, "nu=True"),
        ({"nu": priors.Jeffreys()}, "the prior Jeffreys of nu is improper"),
        ({"tau_prior": priors.Jeffreys()}, "the prior Jeffreys of tau is improper"),
        ({"mods": "yaer"}, "did you mean 'year'"),
    ],
)
def test_bad_arguments(es, arguments, message):
    with pytest.raises(am.InputError, match=message):
        pymc.t_effects(es, **arguments)
