"""The exact distribution of quadratic forms against distributions that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alliance_meta.core.univariate import intervals
from alliance_meta.core.univariate.intervals import generalised_q, quadratic_form_cdf
from alliance_meta.core.univariate.search import NO_ROOT
from alliance_meta.core.univariate.wls import make_batch
from tests.tolerances import CLOSED_FORM


def centring(k):
    return np.ones(k), np.ones((k, 1)) / np.sqrt(k)


@pytest.mark.parametrize("k", [2, 3, 16, 160, 400])
@pytest.mark.parametrize("probability", [1e-6, 0.025, 0.5, 0.7, 0.975, 1 - 1e-6])
def test_equal_eigenvalues_are_chi_squared(k, probability):
    q = stats.chi2.ppf(probability, k - 1)
    assert quadratic_form_cdf(q, *centring(k)) == pytest.approx(probability, rel=CLOSED_FORM, abs=1e-10)


@pytest.mark.parametrize("q", [0.01, 0.1, 1, 3, 5, 20, 40])
def test_pairs_of_eigenvalues_are_sums_of_exponentials(q):
    """Each pair adds an exponential with mean 2 lambda; the hypoexponential distribution function is elementary."""
    values = np.array([1.0, 0.4, 0.1, 0.03])
    others = [np.prod([a / (a - b) for b in values if b != a]) for a in values]
    expected = 1 - sum(c * np.exp(-q / (2 * a)) for a, c in zip(values, others, strict=True))
    ours = quadratic_form_cdf(q, np.repeat(values, 2), np.zeros((8, 1)))
    assert ours == pytest.approx(expected, rel=CLOSED_FORM, abs=1e-14)


def regression_form(rng, k=20):
    weights, variances = rng.uniform(0.5, 2, k), rng.uniform(0.2, 3, k)
    X = np.column_stack([np.ones(k), rng.normal(size=(k, 2))])
    root = np.linalg.cholesky(np.linalg.inv(X.T @ (weights[:, None] * X)))
    return weights * variances, (np.sqrt(variances) * weights)[:, None] * (X @ root)


@pytest.mark.parametrize("q", [1, 5, 20, 40, 80, 150])
def test_with_and_without_eigenvalues(rng, monkeypatch, q):
    d, U = regression_form(rng)
    dense = quadratic_form_cdf(q, d, U)
    monkeypatch.setattr(intervals, "DENSE", 5)
    assert quadratic_form_cdf(q, d, U) == pytest.approx(dense, rel=CLOSED_FORM, abs=1e-13)


@pytest.mark.parametrize("q", [1, 20, 80])
def test_twice_the_points_change_nothing(rng, monkeypatch, q):
    d, U = regression_form(rng)
    before = quadratic_form_cdf(q, d, U)
    monkeypatch.setattr(intervals, "POINTS", 2 * intervals.POINTS)
    assert quadratic_form_cdf(q, d, U) == pytest.approx(before, rel=1e-12, abs=1e-14)


def test_nothing_lies_below_zero():
    assert quadratic_form_cdf(0.0, *centring(4)) == 0.0
    assert quadratic_form_cdf(-1.0, *centring(4)) == 0.0


def test_generalised_q_limits_hold_their_probability(rng):
    """Simulated Q statistics at the limit exceed the observed one as often as they should."""
    k = 12
    v = rng.uniform(0.01, 0.1, k)
    y = rng.normal(0.2, np.sqrt(v + 0.04))
    batch = make_batch(y, v, np.ones((k, 1)))
    weights = 1 / v
    q = weights @ (y - np.average(y, weights=weights)) ** 2
    limit = generalised_q(batch, weights, probability=0.025)
    draws = rng.normal(0, np.sqrt(v + limit), (400_000, k))
    simulated = ((draws - (draws @ weights / weights.sum())[:, None]) ** 2) @ weights
    assert np.mean(simulated <= q) == pytest.approx(0.025, abs=4 * np.sqrt(0.025 * 0.975 / 400_000))


def test_generalised_q_has_no_root_when_chance_is_enough():
    v = np.full(6, 0.1)
    batch = make_batch(np.full(6, 0.2) + np.arange(6) * 1e-3, v, np.ones((6, 1)))
    assert generalised_q(batch, 1 / v, probability=0.5) == NO_ROOT


@pytest.mark.parametrize("k", [5, 41, 301])
def test_equal_variances_give_a_multiple_of_chi_squared(k):
    d, U = np.full(k, 3.0), np.full((k, 1), np.sqrt(3.0 / k))
    for q in (0.5 * k, 3.0 * k, 5.0 * k):
        assert quadratic_form_cdf(q, d, U) == pytest.approx(stats.chi2.cdf(q / 3.0, k - 1), abs=1e-11)
