"""Conversions and their variances on simulated people."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alliance_meta.core.correlations import conversions as one
from alliance_meta.core.correlations import conversions as two
from tests import inverses

pytestmark = pytest.mark.slow

RHO = 0.4
REPEATS = 4000


def people(rng, n):
    x, e = rng.standard_normal((2, REPEATS, n))
    return x, RHO * x + np.sqrt(1 - RHO**2) * e


def close(found, bias=0.01, variance=0.12):
    assert found.r.mean() == pytest.approx(RHO, abs=bias)
    assert found.var_r.mean() / found.r.var(ddof=1) == pytest.approx(1, abs=variance)
    assert found.var_z.mean() / np.arctanh(found.r).var(ddof=1) == pytest.approx(1, abs=variance)


def cohens_d(y, upper, lower):
    n1, n2 = upper.sum(axis=1), lower.sum(axis=1)
    means = [(y * part).sum(axis=1) / part.sum(axis=1) for part in (upper, lower)]
    squares = sum(
        ((y - mean[:, None]) ** 2 * part).sum(axis=1) for mean, part in zip(means, (upper, lower), strict=True)
    )
    return (means[0] - means[1]) / np.sqrt(squares / (n1 + n2 - 2)), n1.astype(float), n2.astype(float)


def test_rank_correlations(rng):
    x, y = people(rng, 60)
    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]
    ranks = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    rho = (ranks[0] * ranks[1]).sum(axis=1) / np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    close(one.from_spearman(rho, np.full(REPEATS, 60.0)), variance=0.15)
    tau = np.array([stats.kendalltau(a, b)[0] for a, b in zip(x[:1500], y[:1500], strict=True)])
    close(one.from_kendall(tau, np.full(1500, 60.0)), variance=0.15)


@pytest.mark.parametrize("cut", [0.0, 0.8])
def test_a_variable_cut_in_two(rng, cut):
    x, y = people(rng, 120)
    d, n1, n2 = cohens_d(y, x > cut, x <= cut)
    close(two.from_split(two.d_to_r(d, two.split_factor(n1, n2)), n1, n2))


@pytest.mark.parametrize(("upper", "lower"), [(0.27, 0.27), (0.5, 0.5), (0.2, 0.4)])
def test_extreme_groups(rng, upper, lower):
    x, y = people(rng, 200)
    d, n1, n2 = cohens_d(y, x > stats.norm.isf(upper), x < stats.norm.ppf(lower))
    close(two.from_extreme_groups(d, n1, n2, upper, lower), variance=0.15)


def test_a_real_dichotomy(rng):
    n1, n2 = 30, 70
    delta = inverses.r_to_d(RHO, 1 / (0.3 * 0.7))
    y = rng.standard_normal((REPEATS, n1 + n2))
    upper = np.zeros(y.shape, dtype=bool)
    upper[:, :n1] = True
    d, a, b = cohens_d(y + delta * upper, upper, ~upper)
    close(two.from_d(d, a, b))
