"""What must hold of p-uniform*, p-uniform, p-curve and z-curve for any data, and for data of a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from alliance_meta.core.bias.p_values import densities, mixture_weights, p_curve, p_uniform, p_uniform_star, z_curve
from alliance_meta.core.distributions import critical_value

SOME = settings(max_examples=15)
CRITICAL = critical_value(0.95, None)
seeds = st.integers(0, 2**32 - 1)


def literature(rng, k, *, mu=0.2, tau=0.1, seen=1.0):
    """Return k published effects with their variances; of those that are not significant a share is `seen`."""
    s = rng.uniform(0.05, 0.2, 40 * k)
    y = rng.normal(mu, tau, s.size) + s * rng.normal(size=s.size)
    published = (y > CRITICAL * s) | (rng.uniform(size=s.size) < seen)
    return y[published][:k], s[published][:k] ** 2


@SOME
@given(seeds, st.floats(1e-4, 1e4))
def test_p_uniform_star_has_no_unit_and_no_order(seed, unit):
    rng = np.random.default_rng(seed)
    y, v = literature(rng, int(rng.integers(5, 40)))
    order = rng.permutation(len(y))
    plain, other = (
        p_uniform_star(y, v, CRITICAL, level=0.95),
        p_uniform_star(unit * y[order], unit**2 * v[order], CRITICAL, level=0.95),
    )
    for name, power in {"mu": 1, "se": 1, "tau2": 2, "stat": 0, "stat_tau2": 0}.items():
        value, scaled = getattr(plain, name), getattr(other, name)
        assert scaled == pytest.approx(unit**power * value, rel=1e-5, abs=unit**power * 1e-7, nan_ok=True)
    if np.isfinite(plain.mu):
        # The widest mean over tau2 is found by values: half the digits.
        assert other.ci_lb == pytest.approx(unit * plain.ci_lb, rel=1e-4, abs=1e-5 * unit)
        assert other.ci_ub == pytest.approx(unit * plain.ci_ub, rel=1e-4, abs=1e-5 * unit)
        assert plain.ci_lb <= plain.mu <= plain.ci_ub
        assert plain.tau2_lb <= plain.tau2 <= plain.tau2_ub
        # 0 lies outside the interval where the test rejects it.
        assert (plain.stat > stats.chi2.ppf(0.95, 1) + 1e-6) <= (not plain.ci_lb < 0.0 < plain.ci_ub)


@SOME
@given(seeds, st.floats(1e-4, 1e4))
def test_p_uniform_has_no_unit_and_no_order(seed, unit):
    rng = np.random.default_rng(seed)
    y, v = literature(rng, 30, seen=0.0)
    order = rng.permutation(30)
    plain = p_uniform(y, v, CRITICAL, fixed=0.3, level=0.95)
    other = p_uniform(unit * y[order], unit**2 * v[order], CRITICAL, fixed=0.3 * unit, level=0.95)
    for name, power in {"mu": 1, "ci_lb": 1, "ci_ub": 1, "stat": 0, "pval_bias": 0}.items():
        assert getattr(other, name) == pytest.approx(unit**power * getattr(plain, name), rel=1e-7, abs=unit * 1e-9)
    assert plain.ci_lb < plain.mu < plain.ci_ub


@SOME
@given(seeds)
def test_larger_z_values_skew_the_p_curve_further(seed):
    z = np.random.default_rng(seed).uniform(CRITICAL, 4.0, 12)
    one, other = (p_curve(values, alpha=0.05, level=0.9) for values in (z, z + 0.1))
    assert other.right.full < one.right.full
    assert other.flat.full > one.flat.full
    assert other.power >= one.power
    assert one.power_lb <= one.power <= one.power_ub
    assert one.low == (z > critical_value(0.975, None)).sum()


@SOME
@given(seeds)
def test_no_step_of_the_em_algorithm_raises_the_likelihood_of_z_curve(seed):
    rng = np.random.default_rng(seed)
    z = rng.uniform(CRITICAL, 6.0, int(rng.integers(10, 200)))
    counts = rng.integers(0, 3, (3, len(z))) + np.eye(3, len(z))
    D = densities(z, CRITICAL)
    for weights, count in zip(mixture_weights(D, counts), counts, strict=True):
        best = count @ np.log(D @ weights)
        for start in (weights, 0.9 * weights + 0.1 / 7, rng.dirichlet(np.ones(7))):
            step = start * ((count / (D @ start)) @ D) / count.sum()
            assert count @ np.log(D @ step) <= best + 1e-9 * abs(best)


@SOME
@given(seeds, st.integers(2, 4))
def test_copies_of_every_effect_of_a_study_change_nothing(seed, copies):
    rng = np.random.default_rng(seed)
    z = np.abs(rng.normal(2.5, 1.0, 60))
    alone = z_curve(z, np.arange(60), critical=CRITICAL, level=0.95, iterations=5, seed=1)
    again = z_curve(
        np.repeat(z, copies), np.repeat(np.arange(60), copies), critical=CRITICAL, level=0.95, iterations=5, seed=1
    )
    for name in ("err", "edr", "odr", "beyond"):
        assert getattr(again, name) == pytest.approx(getattr(alone, name), rel=1e-6)
    for name, limits in alone.limits.items():
        assert again.limits[name] == pytest.approx(limits, rel=1e-5)


@pytest.mark.slow
def test_p_uniform_star_undoes_selection():
    """60 literatures of 150 effects, a fifth of what is not significant published."""
    rng = np.random.default_rng(20260)
    found = [p_uniform_star(*literature(rng, 150, seen=0.2), CRITICAL, level=0.95) for _ in range(60)]
    mu, low, high = (np.array([getattr(one, name) for one in found]) for name in ("mu", "ci_lb", "ci_ub"))
    error = mu.std() / np.sqrt(60)
    assert abs(mu.mean() - 0.2) < 3.0 * error + 0.005
    # 57 expected.
    assert ((low < 0.2) & (high > 0.2)).sum() >= 52
    naive = np.mean(
        [np.average(y, weights=1.0 / (v + 0.01)) for y, v in (literature(rng, 150, seen=0.2) for _ in range(20))]
    )
    assert naive - 0.2 > 0.04


def test_z_curve_finds_the_rates_of_a_known_mixture():
    """All tests conducted have means of 0, 2 or 4; what is significant is published."""
    rng = np.random.default_rng(7)
    means = np.array([0.0, 2.0, 4.0])
    power = stats.norm.sf(CRITICAL - means) + stats.norm.cdf(-CRITICAL - means)
    z = np.abs(rng.normal(rng.choice(means, 60_000, p=[0.5, 0.3, 0.2])))
    edr = float(np.array([0.5, 0.3, 0.2]) @ power)
    err = float(np.array([0.5, 0.3, 0.2]) @ (power * stats.norm.sf(CRITICAL - means))) / edr
    z = z[z > CRITICAL]
    found = z_curve(z, np.arange(len(z)), critical=CRITICAL, level=0.95, iterations=20, seed=1)
    assert found.edr == pytest.approx(edr, abs=0.03)
    assert found.err == pytest.approx(err, abs=0.01)
    assert found.odr == 1.0


@pytest.mark.slow
def test_p_curve_and_p_uniform_hold_their_level():
    """300 sets of 20 significant results without an effect."""
    rng = np.random.default_rng(11)
    z = stats.norm.isf(rng.uniform(0.0, 0.025, (300, 20)))
    skewed = sum(p_curve(one, alpha=0.05, level=0.9).right.full_p < 0.05 for one in z)
    found = [p_uniform(0.1 * one, np.full(20, 0.01), CRITICAL, fixed=0.0, level=0.95) for one in z]
    # Binomial (300, .05): 15 expected, 26 or more has p = .005.
    assert 5 <= skewed <= 25
    assert 5 <= sum(one.pval < 0.05 for one in found) <= 25
    assert sum(one.ci_lb < 0.0 < one.ci_ub for one in found) >= 275
