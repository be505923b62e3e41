"""Corrections for artifacts on simulated people and studies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import escalc
from alliance_meta.core.correlations import artifacts as core
from alliance_meta.sensitivity import hunter_schmidt

pytestmark = pytest.mark.slow

RHO, RXX, RYY, N = 0.5, 0.8, 0.7, 1_000_000


def people(rng):
    true = rng.standard_normal(N)
    goal = RHO * true + np.sqrt(1 - RHO**2) * rng.standard_normal(N)
    x = np.sqrt(RXX) * true + np.sqrt(1 - RXX) * rng.standard_normal(N)
    y = np.sqrt(RYY) * goal + np.sqrt(1 - RYY) * rng.standard_normal(N)
    return true, goal, x, y


@pytest.mark.parametrize("kind", ["direct", "indirect"])
@pytest.mark.parametrize("cut", [-0.5, 0.3])
def test_range_restriction(rng, kind, cut):
    true, goal, x, y = people(rng)
    selector = x if kind == "direct" else 0.7 * true + np.sqrt(0.51) * rng.standard_normal(N)
    kept = selector > cut
    u = np.array([x[kept].std() / x.std()])
    ryy = np.array([np.corrcoef(goal[kept], y[kept])[0, 1] ** 2])
    rxx = core.restricted_reliability(np.array([RXX]), u)
    by = core.steps(rxx, ryy, np.ones(1), np.ones(1), u, kind=kind)
    r = np.array([np.corrcoef(x[kept], y[kept])[0, 1]])
    assert core.correct(r, by).rho[0] == pytest.approx(RHO, abs=0.006)


def test_reliability_and_splits(rng):
    _, _, x, y = people(rng)
    r = np.array([np.corrcoef(x > 0.8, y > -0.2)[0, 1]])
    shares = [np.array([(x > 0.8).mean()]), np.array([(y > -0.2).mean()])]
    by = core.steps(np.array([RXX]), np.array([RYY]), core.dichotomy(shares[0]), core.dichotomy(shares[1]), np.ones(1))
    # Two splits are not quite the product of two factors: the tetrachoric r is a little smaller.
    assert core.correct(r, by).rho[0] == pytest.approx(RHO, abs=0.03)
    r = np.array([np.corrcoef(x > 0.8, y)[0, 1]])
    by = core.steps(np.array([RXX]), np.array([RYY]), core.dichotomy(shares[0]), np.ones(1), np.ones(1))
    assert core.correct(r, by).rho[0] == pytest.approx(RHO, abs=0.006)


@pytest.mark.parametrize("method", ["individual", "distribution"])
@pytest.mark.parametrize("u_range", [(1.0, 1.0), (0.6, 0.95)])
def test_mean_and_sd_of_rho_are_recovered(rng, method, u_range):
    k, mean, sd = 3000, 0.4, 0.12
    rho = np.clip(rng.normal(mean, sd, k), -0.8, 0.8)
    n = rng.integers(40, 200, k)
    rxx, ryy, u = rng.uniform(0.75, 0.95, k), rng.uniform(0.6, 0.9, k), rng.uniform(*u_range, k)
    one = np.ones(k)
    population = core.attenuate(rho, core.steps(rxx, ryy, one, one, u))
    r = np.tanh(rng.normal(np.arctanh(population), 1 / np.sqrt(n - 3)))
    es = escalc(pd.DataFrame({"study": range(len(r)), "r": r, "n": n, "rxx": rxx, "ryy": ryy, "u": u}), measure="COR")
    found = hunter_schmidt(es, rel_alliance="rxx", rel_outcome="ryy", u_alliance="u", method=method).tidy()
    assert found.loc["corrected", "estimate"] == pytest.approx(mean, abs=0.015)
    assert found.loc["corrected", "sd_true"] == pytest.approx(sd, abs=0.02)
    inside = (rho > found.loc["corrected", "cr_lb"]) & (rho < found.loc["corrected", "cr_ub"])
    assert inside.mean() == pytest.approx(0.8, abs=0.05)
