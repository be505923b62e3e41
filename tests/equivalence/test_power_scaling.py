"""Power-scaled posteriors by other routes: scaled priors, brute force, importance sampling, ArviZ's own diagnostic."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

import alliance_meta as am
from alliance_meta import EffectSizes, priors
from alliance_meta.bayes import power_scaling
from alliance_meta.bayes.arviz_bridge import load
from alliance_meta.core.bayes.reweighted import Powers, cumulative_distance, probe_points, solve_power
from alliance_meta.core.bayes.three_level import solve_multilevel_power
from tests.tolerances import CLOSED_FORM

# Two quadratures of the same integral.
QUADRATURE = 1e-11
ALPHA = 0.8
TAU = np.linspace(0.005, 0.6, 60)
PARTS = ("prior", "likelihood")


def made(k=12, *, p=0, seed=1):
    rng = np.random.default_rng(seed)
    v = 1 / (rng.integers(20, 200, k) - 3.0)
    mods = {f"x{j}": rng.normal(3, 1, k) for j in range(p)} or None
    return EffectSizes.from_arrays(0.25 + rng.normal(size=k) * np.sqrt(v + 0.02), v, mods=mods, measure="ZCOR")


def fitted(mu=priors.Normal(0, 0.5), tau=priors.HalfNormal(0.3), **options):  # noqa: B008
    return am.BayesianModel(made(**options), mu_prior=mu, tau_prior=tau).fit()


@pytest.fixture(scope="module")
def fit():
    return fitted()


def of_mu(posterior, x):
    return posterior.coefficients(np.ones((1, 1))).cdf(x[None])[0]


@pytest.mark.parametrize(
    ("mu", "tau", "powered"),
    [
        (
            priors.Normal(0.1, 0.5),
            priors.HalfNormal(0.3),
            (priors.Normal(0.1, 0.5 / ALPHA**0.5), priors.HalfNormal(0.3 / ALPHA**0.5)),
        ),
        (
            priors.Cauchy(0.1, 0.3),
            priors.Exponential(0.2),
            (priors.StudentT(2 * ALPHA - 1, 0.1, 0.3 / (2 * ALPHA - 1) ** 0.5), priors.Exponential(0.2 / ALPHA)),
        ),
        (
            priors.StudentT(5, 0, 0.4),
            priors.Lomax(6, 1),
            (priors.StudentT(6 * ALPHA - 1, 0, 0.4 * (5 / (6 * ALPHA - 1)) ** 0.5), priors.Lomax(7 * ALPHA - 1, 1)),
        ),
    ],
)
def test_a_power_of_these_priors_is_such_a_prior_again(mu, tau, powered):
    found = solve_power(fitted(mu, tau).exact.problem, Powers(ALPHA, ALPHA))
    expected = fitted(*powered).exact
    x = np.linspace(-0.2, 0.8, 50)
    np.testing.assert_allclose(of_mu(found, x), of_mu(expected, x), atol=QUADRATURE, rtol=0)
    np.testing.assert_allclose(found.density.cdf(TAU), expected.density.cdf(TAU), atol=QUADRATURE, rtol=0)
    one = np.ones((1, 1))
    np.testing.assert_allclose(
        found.new_effects(one).cdf(x[None]), expected.new_effects(one).cdf(x[None]), atol=QUADRATURE, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 0.99, 1.01, 3.0])
def test_a_power_of_the_likelihood_by_brute_force(fit, alpha):
    """Prior and likelihood written out on a grid of mu and tau; nothing shared with the engine."""
    es = fit.effects
    mu, tau = 0.3 + np.linspace(-1.2, 1.2, 1501) / np.sqrt(max(alpha, 1.0)), np.linspace(0, 2, 1601)
    total = es.vi + tau[:, None] ** 2
    logs = stats.norm.logpdf(mu, 0, 0.5) + stats.halfnorm.logpdf(tau, scale=0.3)[:, None]
    for i in range(es.k):
        logs = logs + alpha * stats.norm.logpdf(es.yi[i], mu, np.sqrt(total[:, i])[:, None])
    density = np.exp(logs - logs.max())
    of_tau = integrate.simpson(density, x=mu, axis=1)
    below = integrate.cumulative_simpson(of_tau, x=tau, initial=0.0) / integrate.simpson(of_tau, x=tau)
    by_mu = integrate.simpson(density, x=tau, axis=0)
    left = integrate.cumulative_simpson(by_mu, x=mu, initial=0.0) / integrate.simpson(by_mu, x=mu)
    found = solve_power(fit.exact.problem, Powers(likelihood=alpha))
    np.testing.assert_allclose(found.density.cdf(tau[::40]), below[::40], atol=2e-8)
    np.testing.assert_allclose(of_mu(found, mu[::30]), left[::30], atol=2e-8)


def test_the_likelihood_of_a_meta_regression_by_its_covariance_matrix():
    """L^a is a normal density with the covariance divided by a, times what depends on tau alone."""
    fit = am.BayesianModel(made(20, p=2), mods="x0 + x1").fit()
    es, alpha = fit.effects, 0.7
    centred = fit.design.X - np.r_[0, fit.design.X[:, 1:].mean(axis=0)]
    spread = centred * np.array([prior.sd for prior in fit.priors.coefficients])
    tau = np.linspace(0, 1.2, 1201)
    logs = []
    for t in tau:
        total = es.vi + t**2
        cov = np.diag(total / alpha) + spread @ spread.T
        logs.append(stats.multivariate_normal.logpdf(es.yi, cov=cov) + 0.5 * (1 - alpha) * np.log(total).sum())
    density = np.exp(np.array(logs) - max(logs)) * stats.halfnorm.pdf(tau, scale=0.3)
    below = integrate.cumulative_simpson(density, x=tau, initial=0.0) / integrate.simpson(density, x=tau)
    found = solve_power(fit.exact.problem, Powers(likelihood=alpha))
    np.testing.assert_allclose(found.density.cdf(tau[::50]), below[::50], atol=1e-8)


def test_the_power_1_is_the_posterior(fit):
    same = solve_power(fit.exact.problem, Powers())
    x = np.linspace(-0.2, 0.8, 50)
    np.testing.assert_allclose(of_mu(same, x), of_mu(fit.exact, x), atol=QUADRATURE, rtol=0)
    np.testing.assert_allclose(same.density.cdf(TAU), fit.exact.density.cdf(TAU), atol=QUADRATURE, rtol=0)


def written_out(P, Q, width):
    """The definition term by term, from one side (R: priorsense's cjs_dist)."""
    m = 0.5 * (P + Q)
    one = (width * P * np.log2(P / m)).sum() + 0.5 / np.log(2) * (width * (Q - P)).sum()
    other = (width * Q * np.log2(Q / m)).sum() + 0.5 / np.log(2) * (width * (P - Q)).sum()
    return np.sqrt((one + other) / (width * (P + Q)).sum())


@pytest.mark.parametrize(("shift", "scale"), [(0.3, 1.0), (0.0, 1.3), (-2.0, 0.5), (1e-3, 1.0)])
def test_the_distance_is_its_definition(shift, scale):
    x, width = probe_points(-3.5, 3.5)
    first, second = stats.norm(), stats.norm(shift, scale)
    P, Q = np.stack([first.cdf(x), first.sf(x)]), np.stack([second.cdf(x), second.sf(x)])
    expected = max(written_out(P[0], Q[0], width), written_out(P[1], Q[1], width))
    # The sum of large terms loses digits that the stable form keeps.
    assert cumulative_distance(P, Q, width) == pytest.approx(expected, rel=1e-8)
    assert cumulative_distance(Q, P, width) == pytest.approx(expected, rel=1e-8)
    assert cumulative_distance(P, P, width) == 0.0


def exact_sensitivity(fit, name, part, low, high):
    """The sensitivity with the range that some draws have."""
    x, width = probe_points(low, high)

    def both(posterior):
        if name == "tau":
            return np.stack([posterior.density.cdf(x), posterior.density.sf(x)])
        made = posterior.coefficients(np.ones((1, 1)))
        return np.stack([made.cdf(x[None])[0], made.sf(x[None])[0]])

    base, found = both(fit.exact), []
    for alpha in (0.99, 1.01):
        powers = Powers(alpha, alpha) if part == "prior" else Powers(likelihood=alpha)
        other = both(solve_power(fit.exact.problem, powers))
        found.append(cumulative_distance(base, other, width) / abs(np.log2(alpha)))
    return np.mean(found)


def draws_of(fit, draws):
    data = fit.to_arviz(draws=draws, seed=11)
    mu, tau = (np.asarray(data["posterior"][name]).ravel() for name in ("mu", "tau"))
    own = fit.priors
    logs = {
        "prior": own.coefficients[0].logpdf(mu) + own.tau.logpdf(tau),
        "likelihood": stats.norm.logpdf(fit.effects.yi, mu[:, None], np.sqrt(fit.effects.vi + tau[:, None] ** 2)).sum(
            axis=1
        ),
    }
    return {"mu": mu, "tau": tau}, logs


@pytest.mark.parametrize("conflict", [False, True])
def test_sensitivities_by_importance_sampling(fit, conflict):
    fit = fitted(priors.Normal(0.7, 0.1)) if conflict else fit
    values, logs = draws_of(fit, 80_000)
    for name, x in values.items():
        order = np.argsort(x)
        width = np.diff(x[order])
        P = np.arange(1, len(x)) / len(x)
        for part in PARTS:
            found = []
            for alpha in (0.99, 1.01):
                w = np.exp((alpha - 1) * (logs[part] - logs[part].max()))[order]
                Q = (np.cumsum(w) / w.sum())[:-1]
                distance = max(written_out(P, Q, width), written_out(1 - P, 1 - Q, width))
                found.append(distance / abs(np.log2(alpha)))
            expected = exact_sensitivity(fit, name, part, x.min(), x.max())
            assert np.mean(found) == pytest.approx(expected, rel=0.04), (name, part)


def arviz_sensitivity(values: dict[str, Any], log: Any, part: str) -> dict[str, float]:
    """Ask the installed ArviZ, of either generation."""
    az = load("arviz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = {name: one.reshape(4, -1) for name, one in values.items()}
        group = {"joint": log.reshape(4, -1)}
        if hasattr(az, "psens"):
            data = az.from_dict(posterior=posterior)
            data.add_groups({f"log_{part}": group})
            found = az.psens(data, component=part)
        else:
            data = az.from_dict({"posterior": posterior, f"log_{part}": group})
            found = az.psense(data, group=part)
    return {name: float(found[name]) for name in values}


@pytest.mark.parametrize("part", PARTS)
def test_arviz_says_the_same(fit, part):
    values, logs = draws_of(fit, 40_000)
    found = arviz_sensitivity(values, logs[part], part)
    for name, x in values.items():
        assert found[name] == pytest.approx(exact_sensitivity(fit, name, part, x.min(), x.max()), rel=0.05)


def test_the_range_is_that_of_4000_draws(fit):
    """What `power_scaling` reports uses the range without 1/4000 at each end."""
    table = power_scaling(fit).tidy()
    for name in ("mu", "tau"):
        low, high = fit.posterior(name).quantile([1 / 4000, 1 - 1 / 4000])
        for part in PARTS:
            assert table.loc[name, part] == pytest.approx(
                exact_sensitivity(fit, name, part, float(low), float(high)), rel=CLOSED_FORM
            )


def test_another_unit_changes_nothing():
    """Effects and priors in another unit: the same sensitivities."""
    es = made()
    other = EffectSizes.from_arrays(3.0 * es.yi, 9.0 * es.vi)
    first = am.BayesianModel(es, mu_prior=priors.Normal(0.1, 0.2), tau_prior=priors.HalfT(3, 0.1)).fit()
    second = am.BayesianModel(other, mu_prior=priors.Normal(0.3, 0.6), tau_prior=priors.HalfT(3, 0.3)).fit()
    one, two = (power_scaling(fit).tidy().drop(columns="diagnosis").astype(float) for fit in (first, second))
    np.testing.assert_allclose(two, one, rtol=1e-6)


@pytest.fixture(scope="module")
def levels():
    es = replace(made(10, seed=4), study_id=tuple("AAABBCCDDD"))
    return am.BayesianModel(es, random="~ 1 | study_id/es_id").fit()


def test_powers_of_the_priors_of_three_levels(levels):
    own = (priors.Normal(0, 0.5 / ALPHA**0.5), priors.HalfNormal(0.3 / ALPHA**0.5))
    other = am.BayesianModel(
        levels.effects, random="~ 1 | study_id/es_id", mu_prior=own[0], tau_prior=own[1]
    ).fit()  # fmt: skip
    found = solve_multilevel_power(levels.exact.data, levels.priors.densities, Powers(ALPHA, ALPHA))
    x = np.linspace(-0.2, 0.8, 50)
    np.testing.assert_allclose(of_mu(found, x), of_mu(other.exact, x), atol=1e-9, rtol=0)
    for i in range(2):
        np.testing.assert_allclose(found.deviation(i).cdf(TAU), other.exact.deviation(i).cdf(TAU), atol=1e-8, rtol=0)


@pytest.mark.parametrize("alpha", [0.7, 1.5])
def test_a_power_of_the_likelihood_of_three_levels_by_covariance_matrices(levels, alpha):
    es, k = levels.effects, levels.k
    same = levels.group[:, None] == levels.group
    # Closer together near 0, where the deviations are.
    u = np.linspace(0, 1, 129)
    s = 1.6 * u**2
    logs = np.empty((len(s), len(s)))
    for i, between in enumerate(s):
        S = np.diag(es.vi) + between**2 * same + s[:, None, None] ** 2 * np.eye(k)
        cov = S / alpha + 0.25
        half = np.linalg.solve(cov, np.broadcast_to(es.yi[:, None], (len(s), k, 1)))[:, :, 0] @ es.yi
        dets = np.linalg.slogdet(cov)[1] - (1 - alpha) * np.linalg.slogdet(S)[1]
        logs[i] = -0.5 * (half + dets) + stats.halfnorm.logpdf(between, scale=0.3) + stats.halfnorm.logpdf(s, scale=0.3)
    density = np.exp(logs - logs.max())
    found = solve_multilevel_power(levels.exact.data, levels.priors.densities, Powers(likelihood=alpha))
    for i in range(2):
        one = integrate.simpson(density * (u if i == 0 else u[:, None]), x=u, axis=1 - i) * u
        below = integrate.cumulative_simpson(one, x=u, initial=0.0) / integrate.simpson(one, x=u)
        np.testing.assert_allclose(found.deviation(i).cdf(s[4::8]), below[4::8], atol=1e-6)


def test_sensitivities_of_three_levels_are_these_distances(levels):
    table = levels.power_scaling().tidy()
    name = "tau[study_id]"
    x, width = probe_points(*levels.posterior(name).quantile([1 / 4000, 1 - 1 / 4000]))
    base, found = levels.exact.deviation(0).cdf(x), []
    for alpha in (0.99, 1.01):
        powered = solve_multilevel_power(levels.exact.data, levels.priors.densities, Powers(likelihood=alpha))
        other = powered.deviation(0).cdf(x)
        distance = cumulative_distance(np.stack([base, 1 - base]), np.stack([other, 1 - other]), width)
        found.append(distance / abs(np.log2(alpha)))
    assert table.loc[name, "likelihood"] == pytest.approx(np.mean(found), rel=CLOSED_FORM)
    assert list(table.index) == ["mu", name, "tau[study_id/es_id]", "theta_new"]
    # One prior after the other moves nearly as far as both together.
    parts = table[["prior_effects", "prior_tau"]].astype(float).max(axis=1)
    assert (parts <= table["prior"].astype(float) * 1.5).all()
