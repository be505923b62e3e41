"""Worst case and its neighbours: other ways to the same numbers, and what selection does to a literature."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import integrate, stats

from alliance_meta import EffectSizes, RandomEffectsModel, RVEModel, bias, che, escalc, load_dataset
from alliance_meta.core.bias import significance, worst_case
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")


@pytest.fixture(scope="module")
def clustered():
    return che(escalc(load_dataset("crede2010")))


def rve(effects: EffectSizes, tau2: float, kept=None):
    kept = np.ones(effects.k, dtype=bool) if kept is None else kept
    ids = [one for one, there in zip(effects.study_id, kept, strict=True) if there]
    part = EffectSizes.from_arrays(effects.yi[kept], effects.vi[kept], study_id=ids)
    return RVEModel(part, weights=1 / (part.vi + tau2), small=True).fit()


def same(row, fit) -> None:
    """Compare all that does not rest on degrees of freedom, which robumeta works out in another way than RVEModel."""
    assert row["estimate"] == pytest.approx(float(fit.beta[0]), rel=CLOSED_FORM)
    assert row["se"] == pytest.approx(float(fit.se[0]), rel=CLOSED_FORM)
    half = stats.t.isf(0.025, row["ddf"]) * row["se"]
    assert [row["ci_lb"], row["ci_ub"]] == pytest.approx([row["estimate"] - half, row["estimate"] + half], rel=1e-9)
    assert row["pval"] == pytest.approx(2 * stats.t.sf(abs(row["estimate"]) / row["se"], row["ddf"]), rel=ITERATIVE)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning")
def test_no_selection_is_robust_meta_analysis_and_endless_selection_that_of_the_others(clustered):
    effects = clustered.effects
    found = bias.worst_case(clustered, ratios=[1])
    others = effects.yi / np.sqrt(effects.vi) <= stats.norm.ppf(0.975)
    assert found.nonaffirmative == others.sum()
    same(found.curve.iloc[0], rve(effects, found.tau2))
    same(found.curve.iloc[1], rve(effects, found.tau2, others))


def test_s_values_bring_the_mean_and_its_limit_where_they_say(clustered):
    for q in (0.2, 0.3):
        found = bias.worst_case(clustered, q=q)
        there = bias.worst_case(clustered, ratios=[found.svalue_limit, found.svalue])
        assert there.curve["ci_lb"][0] == pytest.approx(q, rel=1e-9)
        assert there.curve["estimate"][1] == pytest.approx(q, rel=1e-9)
        assert 1 < found.svalue_limit < found.svalue


def test_a_ratio_of_three_is_every_other_effect_three_times(clustered):
    effects = clustered.effects
    found = bias.worst_case(clustered, ratios=[3])
    others = effects.yi / np.sqrt(effects.vi) <= stats.norm.ppf(0.975)
    times = np.where(others, 3, 1)
    mean = np.average(np.repeat(effects.yi, times), weights=1 / (np.repeat(effects.vi, times) + found.tau2))
    assert found.curve["estimate"][0] == pytest.approx(mean, rel=CLOSED_FORM)


@pytest.mark.parametrize("method", ["worst_case", "rtma", "unseen"])
def test_effects_with_the_other_sign_give_the_other_sign(method):
    effects = escalc(load_dataset("molloy2014"))
    plus, minus = (
        getattr(bias, method)(RandomEffectsModel(EffectSizes.from_arrays(sign * effects.yi, effects.vi)).fit())
        for sign in (1, -1)
    )
    assert (plus.side, minus.side) == ("right", "left")
    assert minus.estimate == pytest.approx(-plus.estimate, rel=ITERATIVE)
    assert [-1.0 * minus.ci_ub, -1.0 * minus.ci_lb] == pytest.approx(
        [plus.ci_lb, plus.ci_ub], rel=ITERATIVE, nan_ok=True
    )
    for name in ("svalue", "svalue_limit", "tau", "missing_estimate"):
        if hasattr(plus, name):
            assert getattr(minus, name) == pytest.approx(getattr(plus, name), rel=ITERATIVE, nan_ok=True)


def test_two_tails_count_what_is_significant_in_either_direction():
    fit = RandomEffectsModel(EffectSizes.from_arrays([0.5, 0.4, -0.6, 0.05, 0.1, -0.02], [0.01] * 6)).fit()
    assert bias.worst_case(fit).affirmative == 2
    assert bias.worst_case(fit, side="left").affirmative == 1
    assert bias.worst_case(fit, tails=2).affirmative == 3
    assert bias.worst_case(fit, alpha=1e-7).affirmative == 0


def test_the_true_ratio_undoes_the_selection(rng):
    """60,000 studies of which those not affirmative are published one time in five."""
    v = rng.uniform(0.005, 0.05, 60_000)
    y = rng.normal(0.1, np.sqrt(v + 0.01))
    affirmative = y > stats.norm.ppf(0.975) * np.sqrt(v)
    there = affirmative | (rng.uniform(size=len(y)) < 0.2)
    fit = RandomEffectsModel(EffectSizes.from_arrays(y[there], v[there])).fit()
    found = bias.worst_case(fit, ratios=[1, 5], q=0.1)
    se = found.curve["se"][1]
    assert found.curve["estimate"][1] == pytest.approx(0.1, abs=4 * se)
    assert found.curve["estimate"][0] > 0.1 + 20 * se
    assert found.estimate < 0.1 - 20 * se
    assert found.svalue == pytest.approx(5, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("hacked", "mu"), [(0.0, 0.1), (0.5, 0.1), (0.5, -0.05)])
def test_right_truncation_finds_the_mean_behind_hacked_results(rng, hacked, mu):
    """Hacked studies are analysed again until they are affirmative; the others are as they came."""
    v = rng.uniform(0.005, 0.05, 2500)
    bar = stats.norm.ppf(0.975) * np.sqrt(v)
    y = rng.normal(mu, np.sqrt(v + 0.01))
    hack = rng.uniform(size=len(y)) < hacked
    y = np.where(hack, bar + rng.exponential(0.02, len(y)), y)
    found = bias.rtma(RandomEffectsModel(EffectSizes.from_arrays(y, v)).fit(), side="right")
    assert found.ci_lb < mu < found.ci_ub
    assert found.ci_ub - found.ci_lb < 0.1
    assert found.tau_lb < 0.1 < found.tau_ub


def test_right_truncation_never_looks_at_affirmative_results():
    y, v = np.array([0.1, 0.15, -0.05, 0.02, 0.3, 0.5]), np.full(6, 0.01)
    one, other = (
        bias.rtma(RandomEffectsModel(EffectSizes.from_arrays([*y[:4], *more], v)).fit(), side="right")
        for more in (y[4:], (5.0, 2.0))
    )
    assert (one.estimate, one.ci_lb, one.median, one.tau) == (other.estimate, other.ci_lb, other.median, other.tau)


Y, V = np.array([0.12, -0.1, 0.15, 0.02, 0.08, 0.17]), np.array([0.01, 0.02, 0.01, 0.04, 0.005, 0.01])


def scores(y: np.ndarray, mu: float, tau: float, v: float, u: float) -> np.ndarray:
    """Return the derivatives of the log density of a truncated normal, by differences."""

    def log_density(m, t):
        sd = math.hypot(t, math.sqrt(v))
        return stats.norm.logpdf(y, m, sd) - stats.norm.logcdf(u, m, sd)

    h = 1e-5
    return np.array(
        [
            (log_density(mu + h, tau) - log_density(mu - h, tau)) / (2 * h),
            (log_density(mu, tau + h) - log_density(mu, tau - h)) / (2 * h),
        ]
    )


def test_posterior_of_right_truncation_is_truncated_normals_under_jeffreys_prior():
    """The information as the integral of what scores multiply to, at points near and far."""
    u = 1.96 * np.sqrt(V)
    ours, theirs = [], []
    points = [(0.1, 0.1), (0.0, 0.05), (0.3, 0.2), (-0.2, 0.3), (0.6, 0.4)]
    for mu, tau in points:
        information, loglik = np.zeros((2, 2)), 0.0
        for y, v, bar in zip(Y, V, u, strict=True):
            sd = math.hypot(tau, math.sqrt(v))
            at = np.linspace(min(mu, bar) - 9 * sd, bar, 20_001)
            density = np.exp(stats.norm.logpdf(at, mu, sd) - stats.norm.logcdf(bar, mu, sd))
            s = scores(at, mu, tau, v, bar)
            information += integrate.simpson(s[:, None] * s[None] * density, x=at)
            loglik += stats.norm.logpdf(y, mu, sd) - stats.norm.logcdf(bar, mu, sd)
        theirs.append(loglik + 0.5 * math.log(np.linalg.det(information)))
        ours.append(float(significance.Truncated(Y, V, u).log_joint(np.array([mu]), np.array([tau]))[0]))
    assert np.ptp(np.subtract(ours, theirs)) < 1e-5
    assert np.ptp(ours) > 1


@pytest.mark.slow
def test_quantiles_of_right_truncation_by_brute_force():
    """By Simpson's rule on a wide grid of a million points; read off between them, that of tau is the coarser."""
    u = 1.96 * np.sqrt(V)
    problem = significance.Truncated(Y, V, u)
    a, b = np.linspace(-5.0, 16.0, 2101), np.linspace(-14.0, 12.0, 521)
    mu, tau = 0.1 + 0.1 * np.sinh(a), np.exp(b)
    M, T = np.meshgrid(mu, tau, indexing="ij")
    log = problem.log_joint(M.ravel(), T.ravel()).reshape(M.shape) + b + np.log(np.cosh(a))[:, None]
    mass = np.exp(log - log.max())
    of_mu = integrate.cumulative_simpson(mass.sum(axis=1), x=a, initial=0.0)
    of_tau = integrate.cumulative_simpson(mass.sum(axis=0), x=b, initial=0.0)
    posterior = significance.solve(Y, V, u)
    for p in (0.025, 0.25, 0.5, 0.9, 0.975):
        assert np.interp(posterior.quantile(p), mu, of_mu / of_mu[-1]) == pytest.approx(p, abs=1e-5)
        assert np.interp(posterior.quantile_of_tau(p), tau, of_tau / of_tau[-1]) == pytest.approx(p, abs=2e-4)
    assert posterior.grid.error < 1e-6


@pytest.mark.parametrize("alternative", ["two.sided", "greater", "less"])
def test_power_is_the_integral_over_true_effects(alternative):
    for theta, tau, se in product((-0.3, 0.2), (0.05, 0.4), (0.05, 0.2)):
        ours = float(significance.power(theta, tau**2, np.array([se]), alpha=0.05, alternative=alternative)[0])
        bar = stats.norm.isf(0.025 if alternative == "two.sided" else 0.05) * se

        def chance(true, bar=bar, se=se):
            up, down = stats.norm.sf(bar, true, se), stats.norm.cdf(-bar, true, se)
            return {"two.sided": up + down, "greater": up, "less": down}[alternative]

        whole = integrate.quad(
            lambda true, theta=theta, tau=tau, chance=chance: chance(true) * stats.norm.pdf(true, theta, tau),
            theta - 12 * tau, theta + 12 * tau, epsabs=1e-13, limit=200,
        )[0]  # fmt: skip
        assert ours == pytest.approx(whole, rel=1e-8)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 12])
def test_counts_of_successes_by_going_through_all_outcomes(rng, k):
    chances = rng.uniform(size=k)
    expected = np.zeros(k + 1)
    for outcome in product((0, 1), repeat=k):
        expected[sum(outcome)] += np.prod(np.where(outcome, chances, 1 - chances))
    np.testing.assert_allclose(significance.counts(chances), expected, rtol=1e-12, atol=1e-16)


def test_counts_of_many_successes_are_binomial_to_the_last_tail():
    k = 3000
    ours, expected = significance.counts(np.full(k, 0.3)), stats.binom.logpmf(np.arange(k + 1), k, 0.3)
    there = expected > math.log(1e-280)
    np.testing.assert_allclose(np.log(ours[there]), expected[there], atol=1e-9)


@pytest.mark.parametrize("direction", ["greater", "less"])
@pytest.mark.parametrize("test", ["exact", "chi2", "binom"])
def test_the_limit_of_the_mean_gives_the_test_its_level(test, direction):
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014"))).fit()
    own = {"test": test, "tes_alternative": direction, "tes_alpha": 0.1, "tau2": 0.0}
    limit = bias.tes(fit, **own).theta_lim
    assert bias.tes(fit, theta=limit, **own).pval == pytest.approx(0.1, rel=1e-8)


def test_the_bound_is_that_of_publishing_the_largest(rng):
    """Of 40,000 studies of every size, for each size the same share of the largest is published."""
    v, tau2 = np.repeat([0.005, 0.02, 0.08], 40_000), 0.01
    y = rng.normal(0.0, np.sqrt(v + tau2))
    share = 0.8
    there = y > stats.norm.ppf(1 - share) * np.sqrt(v + tau2)
    mean = np.average(y[there], weights=1 / (v[there] + tau2))
    ours = worst_case.largest_bias(v[there], tau2, np.array([(~there).sum()]))[0]
    assert ours == pytest.approx(mean, rel=0.02)
    # Any other way to leave out as many moves it less.
    worse = y[rng.permutation(len(y))[: there.sum()]].mean()
    assert worse < ours


@pytest.mark.parametrize("dataset", ["molloy2014", "mcdaniel1994"])
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning")
def test_the_least_number_of_unpublished_studies_is_the_least(dataset):
    fit = RandomEffectsModel(escalc(load_dataset(dataset))).fit()
    found = bias.unseen(fit, q=0.05)
    for number, column in ((found.missing_estimate, "estimate"), (found.missing_limit, "ci_lb")):
        table = bias.unseen(fit, missing=[int(number) - 1, int(number)]).table
        assert table[column].iloc[1] <= 0.05 < table[column].iloc[0]


def test_limits_on_r_are_those_of_the_analysis_scale(clustered):
    found = bias.worst_case(clustered)
    assert found.on_r == pytest.approx(tuple(np.tanh([found.estimate, found.ci_lb, found.ci_ub])), rel=CLOSED_FORM)


@pytest.mark.parametrize("dataset", ["molloy2014", "mcdaniel1994", "crede2010"])
@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DroppedRowsWarning")
def test_the_general_fail_safe_number_under_equal_effects_is_rosenbergs(dataset):
    found = bias.fsn(RandomEffectsModel(escalc(load_dataset(dataset)), method="EE", test="z").fit())
    assert found.general == found.rosenberg > 100


def test_no_effect_need_be_missing_where_nothing_is_significant():
    fit = RandomEffectsModel(EffectSizes.from_arrays([0.3, -0.2, -0.1, 0.05], [0.01] * 4)).fit()
    found = bias.fsn(fit)
    assert found.rosenthal == found.rosenberg == found.general == 0
