"""Priors: densities, probabilities and draws agree with SciPy's and with one another; bad parameters are refused."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from alliance_meta import EffectSizes, priors
from alliance_meta.bayes.priors import MU, TAU
from alliance_meta.errors import InputError
from tests.tolerances import CLOSED_FORM, printed

V = np.array([0.01, 0.02, 0.05])
S0 = np.sqrt(3 / np.sum(1 / V))

SCIPY = [
    (priors.Normal(0.2, 0.5), stats.norm(0.2, 0.5)),
    (priors.StudentT(4, 0.1, 0.5), stats.t(4, 0.1, 0.5)),
    (priors.Cauchy(0.1, 0.35), stats.cauchy(0.1, 0.35)),
    (priors.HalfNormal(0.3), stats.halfnorm(scale=0.3)),
    (priors.HalfCauchy(0.3), stats.halfcauchy(scale=0.3)),
    (priors.Exponential(0.2), stats.expon(scale=0.2)),
    (priors.Lomax(6, 1), stats.lomax(6, scale=1)),
    (priors.InverseGamma(1, 0.075), stats.invgamma(1, scale=0.075)),
    (priors.Gamma(2, 10), stats.gamma(2, scale=10)),
    (priors.LogNormal(-1.9, 0.8), stats.lognorm(0.8, scale=np.exp(-1.9))),
    (priors.Uniform(1.5), stats.uniform(0, 1.5)),
]
# Densities of (tau, sampling variances) as R's bayesmeta documents them.
FORMULAS = [
    (priors.Jeffreys(V), lambda t: np.sqrt(np.sum((t / (V + t**2)) ** 2))),
    (priors.BergerDeely(V), lambda t: np.prod((t / (V + t**2)) ** (1 / 3))),
    (priors.DuMouchel(V), lambda t: S0 / (S0 + t) ** 2),
    (priors.Shrinkage(V), lambda t: 2 * S0**2 * t / (S0**2 + t**2) ** 2),
    (priors.HalfT(4, 0.3), lambda t: 2 * stats.t.pdf(t / 0.3, 4) / 0.3),
]
OF_TAU = [prior for prior, _ in [*SCIPY[3:], *FORMULAS]]
PROPER = [prior for prior, _ in SCIPY] + [prior for prior, _ in FORMULAS if prior.proper]


@pytest.mark.parametrize(("prior", "theirs"), SCIPY, ids=lambda one: str(one)[:20])
def test_scipy_agrees(prior, theirs):
    x = np.array([-0.7, -0.1, 1e-3, 0.05, 0.2, 0.9, 1.4, 4.0])
    np.testing.assert_allclose(prior.logpdf(x), theirs.logpdf(x), rtol=CLOSED_FORM)
    np.testing.assert_allclose(prior.pdf(x), theirs.pdf(x), rtol=CLOSED_FORM)
    np.testing.assert_allclose(prior.cdf(x), theirs.cdf(x), rtol=CLOSED_FORM, atol=1e-15)
    p = [1e-6, 0.2, 0.5, 0.9, 1 - 1e-6]
    np.testing.assert_allclose(prior.quantile(p), theirs.ppf(p), rtol=1e-8)


@pytest.mark.parametrize(("prior", "density"), FORMULAS, ids=lambda one: str(one)[:20])
def test_formulas(prior, density):
    for t in (1e-3, 0.05, 0.2, 1.7):
        assert float(prior.pdf(t)) == pytest.approx(density(t), rel=CLOSED_FORM)


@pytest.mark.parametrize("prior", PROPER, ids=str)
def test_proper_priors_hang_together(prior):
    p = np.array([1e-4, 0.1, 0.5, 0.8, 0.999])
    x = prior.quantile(p)
    np.testing.assert_allclose(prior.cdf(x), p, rtol=1e-9)
    # The density is the slope of the distribution function: an integral between two quantiles.
    mass = integrate.quad(lambda t: float(prior.pdf(t)), x[1], x[3], epsabs=1e-12, epsrel=1e-12)[0]
    assert mass == pytest.approx(0.7, abs=1e-9)
    draws = prior.rvs(4000, seed=1)
    assert np.isfinite(draws).all()
    assert stats.kstest(draws, prior.cdf).pvalue > 1e-4
    assert (draws == prior.rvs(4000, seed=1)).all()
    assert (draws != prior.rvs(4000, seed=2)).any()


@pytest.mark.parametrize("prior", OF_TAU, ids=str)
def test_tau_is_never_negative(prior):
    assert (prior.logpdf([-1.0, -1e-9]) == -np.inf).all()
    assert not np.isnan(prior.logpdf([0.0, 1e-300, 1e150])).any()


@pytest.mark.parametrize("prior", OF_TAU, ids=str)
def test_the_tail_is_what_it_says(prior):
    a, far = prior.tail, np.array([1e8, 1e9])
    logs = prior.logpdf(far)
    if np.isfinite(a):
        assert -np.diff(logs)[0] / np.log(10) == pytest.approx(a, abs=1e-6)
    else:
        # Faster than the fourth power, which every moment in use needs.
        assert logs[1] == -np.inf or -np.diff(logs)[0] / np.log(10) > 4


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (priors.Normal, (0, 0), "Normal: sd=0 must be positive"),
        (priors.Normal, ("a", -1), "mean='a' is not a finite number; sd=-1 must be positive"),
        (priors.HalfNormal, (np.inf,), "HalfNormal: scale=inf is not a finite number"),
        (priors.StudentT, (-2,), "df=-2 must be positive"),
        (priors.HalfCauchy, (True,), "scale=True is not a finite number"),
        (priors.Uniform, (0,), "Uniform: upper=0 must be a positive number"),
        (priors.Jeffreys, ([0.1, -1],), "Jeffreys: vi must hold positive, finite sampling variances"),
    ],
)
def test_bad_parameters_are_named(kind, arguments, message):
    with pytest.raises(InputError) as caught:
        kind(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("prior", [priors.Flat(), priors.Uniform(), priors.Jeffreys(V), priors.BergerDeely(V)], ids=str)
def test_improper_priors_have_no_probabilities(prior):
    assert not prior.proper
    for ask in (lambda: prior.cdf(0.1), lambda: prior.quantile(0.5), lambda: prior.rvs(3, seed=1)):
        with pytest.raises(InputError, match="is improper: its density does not integrate to 1"):
            ask()


def test_priors_of_the_data_wait_for_them():
    unbound = priors.DuMouchel()
    with pytest.raises(InputError, match="DuMouchel depends on the sampling variances: give vi"):
        unbound.pdf(0.1)
    bound = unbound.given(V)
    assert float(bound.quantile(0.5)) == pytest.approx(S0, rel=CLOSED_FORM)
    assert bound.given(10 * V) is bound
    with pytest.raises(ValueError, match="read-only"):
        bound.vi[0] = 1.0


def test_a_probability_outside_0_and_1_is_refused():
    with pytest.raises(InputError, match=r"probability=1.2 must lie between 0 and 1"):
        priors.HalfNormal(0.3).quantile(1.2)


def test_in_words_and_as_a_dictionary():
    assert str(priors.InverseGamma(1, 0.075)) == "inverse-gamma(1, 0.075)"
    assert str(priors.Flat()) == "flat"
    assert priors.HalfT(4, 0.3).to_dict() == {"prior": "HalfT", "df": 4, "scale": 0.3}
    assert priors.Shrinkage(V).to_dict() == {"prior": "Shrinkage", "vi": V.tolist()}
    assert priors.HalfNormal(0.3) == priors.HalfNormal(0.3) != priors.HalfNormal(0.31)


def test_what_is_said_of_the_defaults_is_true():
    assert float(TAU.quantile(0.5)) == pytest.approx(0.20, abs=0.005)
    assert float(TAU.quantile(0.95)) == pytest.approx(0.59, abs=0.005)
    assert np.tanh(MU.quantile([0.025, 0.975])) == pytest.approx([-0.75, 0.75], abs=0.005)
    assert priors.sensitivity_set()[0] == TAU
    # Fisher z of one person more: v = 1 / (n - 3), so that n v is near 1.
    es = EffectSizes.from_arrays([0.1], [1 / 97], ni=[100], measure="ZCOR")
    assert float(np.sqrt(es.ni[0] * es.vi[0])) == pytest.approx(1.0, abs=0.02)


def test_the_models_for_pymc_have_the_same_defaults():
    from alliance_meta.bayes import pymc

    for name in pymc.__all__:
        given = {one.name: one.default for one in signature(getattr(pymc, name)).parameters.values()}
        assert given["mu_prior"] == MU, name
        assert given.get("tau_prior", TAU) == TAU, name


@pytest.mark.parametrize("prior", [prior for prior, _ in SCIPY] + [priors.HalfT(4, 0.3), priors.Flat()], ids=str)
def test_a_prior_is_read_from_its_own_words(prior):
    assert priors.parse(str(prior)) == prior
    assert priors.parse(f" {type(prior).__name__.upper()}{str(prior).partition(prior.label)[2]} ") == prior


@pytest.mark.parametrize("kind", [priors.Jeffreys, priors.BergerDeely, priors.DuMouchel, priors.Shrinkage])
def test_a_prior_from_the_variances_is_read_by_its_name(kind):
    assert type(priors.parse(kind.label)) is kind
    assert type(priors.parse(kind.__name__)) is kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half-norml(0.3)", "did you mean 'half-normal'"),
        ("half-normal", "needs scale"),
        ("half-normal(a)", "'a' is not a number"),
        ("half-normal(-1)", "scale=-1.0 must be positive"),
        ("half-normal(1, 2)", "takes 1 numbers"),
        ("Jeffreys(1)", "takes 0 numbers"),
        ("half-normal(0.3", "is no prior"),
        ("", "is no prior"),
    ],
)
def test_words_that_are_no_prior(text, message):
    with pytest.raises(InputError, match=message):
        priors.parse(text)


def test_the_prior_from_the_literature_is_that_of_its_data():
    found = json.loads((Path(__file__).parents[1] / "reference" / "van_erp2017.json").read_text("utf-8"))
    assert (found["mean_of_log"], found["sd_of_log"]) == (printed("-2.00"), printed("0.77"))
    prior = priors.TAU_FOUND
    assert (prior.mean, prior.sd) == (-2.0, 0.77)
    # Estimates of few digits that are not exactly log-normal; the tail of the prior is the heavier one.
    quantiles = found["quantiles_of_positive"]
    for share in ("0.25", "0.5", "0.75"):
        assert float(prior.quantile(float(share))) == pytest.approx(quantiles[share], abs=0.03)
    assert float(prior.quantile(0.95)) > quantiles["0.95"]
