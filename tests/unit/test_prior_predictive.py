"""What priors say before any data: by other integrals, in words, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special, stats

import alliance_meta as am
from alliance_meta import EffectSizes, NotApplicable, priors
from alliance_meta.bayes import Marginal, PriorPredictive, prior_predictive
from alliance_meta.bayes.priors.predictions import TauPriorMarginal
from alliance_meta.errors import InputError
from tests.tolerances import CLOSED_FORM, OPTIMISER

# Two quadratures of the same integral, the other one adaptive.
QUADRATURE = 1e-9
TAUS = [
    priors.HalfNormal(0.3), priors.HalfCauchy(0.2), priors.Exponential(0.2), priors.Lomax(3, 0.5), priors.Uniform(0.8),
    priors.InverseGamma(1, 0.075), priors.LogNormal(-2, 0.5), priors.DuMouchel([0.01, 0.02]),
    priors.Shrinkage([0.01, 0.02]),
]  # fmt: skip


def over_tau(tau, function):
    """Integrate over tau piece by piece between quantiles of its prior."""
    p = np.concatenate([np.logspace(-9, -1, 9), np.linspace(0.2, 0.8, 7), 1 - np.logspace(-1, -9, 9)])
    edges = np.concatenate([[0.0], tau.quantile(p), [min(tau.upper, float(tau.quantile(1 - 1e-12)))]])

    def inner(t):
        return function(t) * float(tau.pdf(t))

    return sum(integrate.quad(inner, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in pairwise(edges))


@pytest.mark.slow
@pytest.mark.parametrize("tau", TAUS, ids=str)
def test_a_new_study_by_adaptive_quadrature(tau):
    found = prior_predictive(mu_prior=priors.Normal(0.1, 0.5), tau_prior=tau, n=40, scale="z")
    for name, v in (("theta_new", 0.0), ("yi", 1 / 37)):
        for x in (-0.7, 0.4):
            expected = over_tau(tau, lambda t, x=x, v=v: stats.norm.cdf(x, 0.1, np.sqrt(0.25 + t**2 + v)))
            assert float(found.prior(name).cdf(x)) == pytest.approx(expected, abs=QUADRATURE)


@pytest.mark.parametrize("tau", [priors.HalfNormal(0.3), priors.HalfCauchy(0.2)], ids=str)
def test_a_cauchy_mean_with_normal_deviations_is_a_voigt_profile(tau):
    found = prior_predictive(mu_prior=priors.Cauchy(0.1, 0.3), tau_prior=tau, scale="z").prior("theta_new")
    for x in (-3.0, 0.1, 0.5):
        expected = over_tau(tau, lambda t, x=x: special.voigt_profile(x - 0.1, t, 0.3))
        assert float(found.pdf(x)) == pytest.approx(expected, rel=OPTIMISER)


@pytest.mark.parametrize("mu", [priors.Normal(0.1, 0.4), priors.StudentT(4, 0, 0.3), priors.Cauchy(0, 0.3)], ids=str)
def test_the_mean_is_the_prior_itself_as_correlations(mu):
    found = prior_predictive(mu_prior=mu)
    p = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(found.prior("mu").quantile(p), np.tanh(mu.quantile(p)), rtol=CLOSED_FORM, atol=1e-12)
    np.testing.assert_allclose(found.tidy().loc["mu"], found.prior("mu").quantile(p))
    np.testing.assert_allclose(found.tidy().loc["tau"], found.tau_prior.quantile(p))
    r = np.array([-0.5, 0.1, 0.6])
    np.testing.assert_allclose(found.prior("mu").pdf(r), mu.pdf(np.arctanh(r)) / (1 - r**2), rtol=1e-9)


def test_moments_of_tau():
    tau = TauPriorMarginal("tau", priors.HalfNormal(0.3))
    assert tau.mean == pytest.approx(0.3 * np.sqrt(2 / np.pi), rel=CLOSED_FORM)
    assert tau.sd == pytest.approx(0.3 * np.sqrt(1 - 2 / np.pi), rel=CLOSED_FORM)
    assert isinstance(TauPriorMarginal("tau", priors.HalfCauchy(0.3)).mean, NotApplicable)
    heavy = prior_predictive(mu_prior=priors.StudentT(1.5, 0, 1), tau_prior=priors.Lomax(1.8, 1), scale="z")
    assert heavy.prior("theta_new").mean == pytest.approx(0.0, abs=1e-12)
    assert isinstance(heavy.prior("theta_new").sd, NotApplicable)
    assert isinstance(prior_predictive(mu_prior=priors.Cauchy(), scale="z").prior("mu").mean, NotApplicable)


# Half-t with 3 degrees of freedom and scale .3: mean and standard deviation.
HALF_T = 0.6 * np.sqrt(3) / np.pi, 0.3 * np.sqrt(3 - 12 / np.pi**2)


@pytest.mark.parametrize(
    ("prior", "theirs"),
    [
        (priors.LogNormal(-2, 9), stats.lognorm(9, scale=np.exp(-2))),
        (priors.LogNormal(-2, 1e-6), (np.exp(-2), 1e-6 * np.exp(-2))),
        (priors.HalfT(3, 0.3), HALF_T),
        (priors.Exponential(0.2), stats.expon(scale=0.2)),
        (priors.Lomax(2.1, 1), stats.lomax(2.1)),
        (priors.InverseGamma(2.5, 0.1), stats.invgamma(2.5, scale=0.1)),
        (priors.Gamma(0.3, 10), stats.gamma(0.3, scale=10)),
        (priors.Uniform(1.5), stats.uniform(0, 1.5)),
    ],
    ids=lambda one: str(one)[:25],
)
def test_moments_are_closed_forms(prior, theirs):
    """Also where the tail holds most of them, so that no quadrature finds it."""
    mean, sd = theirs if isinstance(theirs, tuple) else (theirs.mean(), theirs.std())
    tau = TauPriorMarginal("tau", prior)
    assert (tau.mean, tau.sd) == pytest.approx((mean, sd), rel=1e-9)


def test_a_new_effect_has_only_moments_that_are_in_reach():
    far = prior_predictive(tau_prior=priors.LogNormal(-2, 9), scale="z").prior("theta_new")
    assert isinstance(far.sd, NotApplicable)
    assert isinstance(TauPriorMarginal("tau", priors.LogNormal(-2, 50)).mean, NotApplicable)
    near = prior_predictive(tau_prior=priors.LogNormal(-2, 0.77), scale="z").prior("theta_new")
    tau = TauPriorMarginal("tau", priors.LogNormal(-2, 0.77))
    assert near.sd == pytest.approx(np.sqrt(0.25 + tau.sd**2 + tau.mean**2), rel=CLOSED_FORM)


def test_the_same_numbers_as_a_fit_without_information():
    """One study that says nothing leaves the priors as they were."""
    found = prior_predictive(scale="z")
    nothing = am.BayesianModel(EffectSizes.from_arrays([0.0], [1e12], measure="ZCOR")).fit()
    for name in ("mu", "tau", "theta_new"):
        p = [0.025, 0.5, 0.8]
        np.testing.assert_allclose(found.prior(name).quantile(p), nothing.posterior(name).quantile(p), atol=1e-10)


def test_words():
    text = str(prior_predictive(n=50))
    assert text == repr(prior_predictive(n=50))
    assert max(map(len, text.splitlines())) <= 80
    plain = " ".join(text.split())
    assert "Mean correlation: half between -.33 and .33, 95% between -.75 and .75." in plain
    assert "tau: median .20, 95% below .59." in plain
    assert "correlation" not in str(prior_predictive(scale="z")).lower()
    assert "90% between" in str(prior_predictive(level=0.9))


def test_table_and_dictionary():
    found = prior_predictive(n=30, level=0.9)
    assert isinstance(found, PriorPredictive)
    table = found.tidy()
    assert list(table.index) == ["mu", "theta_new", "yi", "tau"]
    assert list(table.columns) == ["ci_lb", "q25", "median", "q75", "ci_ub"]
    assert table.attrs == {"level": 0.9, "scale": "r"}
    assert (table.loc["mu", "ci_ub"] < table.loc["theta_new", "ci_ub"] < table.loc["yi", "ci_ub"]) is np.True_
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["prior"]["parameter"] == list(table.index)
    assert all(isinstance(found.prior(name), Marginal) for name in table.index)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu_prior": priors.Flat()}, "flat is improper: .* predicts nothing before data"),
        ({"tau_prior": priors.Jeffreys([0.1])}, "Jeffreys is improper"),
        ({"tau_prior": priors.DuMouchel()}, "DuMouchel depends on the sampling variances: give vi"),
        ({"tau_prior": priors.Normal()}, "tau_prior=.* is not a prior of tau"),
        ({"mu_prior": 0.5}, "mu_prior=0.5 is not a prior of an effect"),
        ({"n": 3}, "n=3: Fisher's z needs a whole number of at least 4 people"),
        ({"n": 30.5}, "n=30.5"),
        ({"n": True}, "n=True"),
        ({"level": 95}, "level"),
        ({"scale": "d"}, "scale"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        prior_predictive(**options)


def test_unknown_quantities_are_refused():
    with pytest.raises(InputError, match="no quantity 'yi'; the observed effect yi needs n"):
        prior_predictive().prior("yi")


def test_a_prior_with_half_its_mass_near_0_is_found():
    """Gamma(0.01): its median is 1e-31; the same average by quantiles, between which it is smooth."""
    prior = priors.Gamma(0.01, 0.4)
    median = float(prior.quantile(0.5))
    x, w = np.polynomial.legendre.leggauss(400)
    ends = [0, 1e-12, 1e-8, 1e-5, 1e-3, 0.05, 0.5, 0.95, 0.999, 1 - 1e-5, 1 - 1e-8, 1 - 1e-12]
    total = 0.0
    for a, b in pairwise(ends):
        q = np.maximum(0.5 * (b - a) * (x + 1) + a, 1e-300)
        total += 0.5 * (b - a) * float(w @ (1 / (1 + prior.quantile(q) / median)))
    assert TauPriorMarginal("tau", prior).average(lambda tau: 1 / (1 + tau / median)) == pytest.approx(total, abs=1e-7)
