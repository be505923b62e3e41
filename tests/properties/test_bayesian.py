"""What must hold for every exact posterior, whatever the data and the priors."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import alliance_meta as am
from alliance_meta import EffectSizes, priors

# Two quadratures on other nodes.
SAME = 1e-9
EXAMPLES = settings(max_examples=10, deadline=None)

TAUS = (
    priors.HalfNormal(0.3),
    priors.HalfCauchy(0.2),
    priors.HalfT(3.0, 0.3),
    priors.Exponential(0.2),
    priors.Lomax(3.0, 0.5),
    priors.InverseGamma(1.0, 0.075),
    priors.LogNormal(-2.0, 0.8),
    priors.Uniform(1.0),
    priors.DuMouchel(),
    priors.Shrinkage(),
)


@st.composite
def data(draw, least=2, most=12):
    k = draw(st.integers(least, most))
    number = st.floats(-1.5, 1.5, allow_subnormal=False).map(lambda x: round(x, 6))
    y = draw(st.lists(number, min_size=k, max_size=k))
    n = draw(st.lists(st.integers(8, 2000), min_size=k, max_size=k))
    return np.array(y), 1.0 / (np.array(n) - 3.0)


def fit(y, v, *, mu=None, tau=TAUS[0]):
    es = EffectSizes.from_arrays(y, v, measure="ZCOR")
    return am.BayesianModel(es, mu_prior=mu or priors.Normal(0, 0.5), tau_prior=tau).fit()


def numbers(result):
    return result.tidy().drop(columns=["mean", "sd"]).astype(float)


@EXAMPLES
@given(data(), st.sampled_from(TAUS), st.randoms(use_true_random=False))
def test_the_order_of_studies_does_not_matter(given_data, tau, random):
    y, v = given_data
    order = list(range(len(y)))
    random.shuffle(order)
    a, b = fit(y, v, tau=tau), fit(y[order], v[order], tau=tau)
    np.testing.assert_allclose(numbers(a)[:3], numbers(b)[:3], rtol=SAME, atol=SAME)
    np.testing.assert_allclose(numbers(a)[3:].to_numpy()[order], numbers(b)[3:], rtol=SAME, atol=SAME)
    assert abs(a.log_marginal_likelihood - b.log_marginal_likelihood) < SAME


@EXAMPLES
@given(data(), st.floats(-3, 3))
def test_moving_data_and_prior_moves_the_posterior(given_data, shift):
    y, v = given_data
    a, b = fit(y, v), fit(y + shift, v, mu=priors.Normal(shift, 0.5))
    np.testing.assert_allclose(numbers(a).drop("tau") + shift, numbers(b).drop("tau"), atol=SAME)
    np.testing.assert_allclose(numbers(a).loc["tau"], numbers(b).loc["tau"], atol=SAME)
    assert abs(a.log_marginal_likelihood - b.log_marginal_likelihood) < SAME


@EXAMPLES
@given(data(), st.floats(-6, 6))
def test_another_unit_changes_only_the_unit(given_data, log10):
    y, v = given_data
    c = 10.0**log10
    a = fit(y, v)
    b = fit(c * y, c**2 * v, mu=priors.Normal(0, 0.5 * c), tau=priors.HalfNormal(0.3 * c))
    np.testing.assert_allclose(numbers(a) * c, numbers(b), rtol=SAME, atol=SAME * c)
    # A density of k numbers, each in the new unit.
    assert abs(a.log_marginal_likelihood - b.log_marginal_likelihood - len(y) * np.log(c)) < 1e-8


@EXAMPLES
@given(data(), st.sampled_from(TAUS))
def test_new_studies_vary_more_than_the_mean(given_data, tau):
    y, v = given_data
    table = numbers(fit(y, v, tau=tau))
    width = table["ci_ub"] - table["ci_lb"]
    assert width["theta_new"] > width["mu"]
    assert (table["ci_lb"] < table["median"]).all()
    assert (table["median"] < table["ci_ub"]).all()


@EXAMPLES
@given(data(), st.sampled_from(TAUS))
def test_the_error_bound_stays_at_rounding(given_data, tau):
    y, v = given_data
    assert fit(y, v, tau=tau).error_bound < 1e-11


@EXAMPLES
@given(data(), st.floats(-1, 1), st.sampled_from(TAUS))
def test_probabilities_add_up(given_data, x, tau):
    y, v = given_data
    result = fit(y, v, tau=tau)
    for name in ("mu", "theta_new"):
        assert abs(result.prob(f"{name} > {x:.17g}") + result.prob(f"{name} < {x:.17g}") - 1) < 1e-12
    one, other = result.bayes_factor(f"mu > {x:.17g}"), result.bayes_factor(f"mu < {x:.17g}")
    assert abs(one.log_bf01 + other.log_bf01) < 1e-8


@EXAMPLES
@given(data(least=3))
def test_a_wide_prior_becomes_a_flat_one(given_data):
    y, v = given_data
    wide, flat = fit(y, v, mu=priors.Normal(0, 1e6)), fit(y, v, mu=priors.Flat())
    np.testing.assert_allclose(numbers(wide), numbers(flat), rtol=1e-6, atol=1e-6)


@EXAMPLES
@given(data(least=3), st.sampled_from(TAUS))
def test_a_study_that_says_nothing_changes_nothing(given_data, tau):
    y, v = given_data
    if isinstance(tau, priors.DuMouchel | priors.Shrinkage):
        tau = tau.given(v)
    a, b = fit(y, v, tau=tau), fit(np.append(y, 0.3), np.append(v, 1e10), tau=tau)
    np.testing.assert_allclose(numbers(a), numbers(b)[:-1], rtol=1e-8, atol=1e-8)


@EXAMPLES
@given(data(least=3))
def test_the_sum_of_predictions_one_after_the_other_is_the_marginal_likelihood(given_data):
    """Adding studies one at a time, each predicted from those before, multiplies up to the density of all."""
    y, v = given_data
    total = fit(y[:1], v[:1]).log_marginal_likelihood
    for i in range(1, len(y)):
        loo = fit(y[: i + 1], v[: i + 1]).loo().tidy()
        total += float(loo["elpd"].iloc[i])
    assert abs(total - fit(y, v).log_marginal_likelihood) < 1e-9
