"""Models of publication bias by other routes: brute-force integrals, importance sampling, limits, symmetry."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from scipy import integrate, stats

import alliance_meta as am
from alliance_meta.bayes import PEESE, PET, PSMA, WeightFunction, priors, robma
from alliance_meta.core.bayes.quadrature import HalfLine, RealLine, TauDensity, integrate_grid
from alliance_meta.core.selection.robma import BiasKind, BiasProblem, solve_bias
from alliance_meta.core.selection.steps import FINEST, USUAL, integrate_weights, log_density, probabilities, step_data
from tests.equivalence.importance import log_marginal
from tests.tolerances import CLOSED_FORM, ITERATIVE

Y = np.array([0.42, 0.05, 0.31, 0.55, 0.18, 0.24, -0.08, 0.36, 0.61, 0.12])
SE = 1 / np.sqrt(np.array([40.0, 150, 90, 22, 60, 200, 35, 75, 18, 110]) - 3)
TAU = priors.InverseGamma(1.0, 0.15)
PROBLEM = BiasProblem(Y, SE, 0.0, 1.0, TauDensity(TAU.logpdf, TAU.upper, TAU.tail, (), True))
STEPS = [((0.05,), "two"), ((0.05, 0.1), "two"), ((0.05,), "one"), ((0.025, 0.5), "one"), ((0.025, 0.05, 0.5), "one")]


def effects(y=Y, se=SE):
    return am.EffectSizes.from_arrays(y, se**2, measure="ZCOR")


def brute(data, mu, tau):
    """Integrate over ordered probabilities on a fine grid of the cube, one midpoint per cell and Richardson."""
    P = probabilities(data, np.array([mu]), np.array([tau]))[:, 0]
    node, weight = np.polynomial.legendre.leggauss(60)
    node, weight = 0.5 * (node + 1), 0.5 * weight
    axes = np.meshgrid(*[node] * data.m, indexing="ij")
    weights = np.prod(np.meshgrid(*[weight] * data.m, indexing="ij"), axis=0)
    omega = [np.ones_like(axes[0])]
    for i, b in enumerate(axes):
        omega.append(omega[-1] * b)
        weights = weights * (data.m - i) * b ** (data.m - 1 - i)
    logs = sum(n * np.log(w) for n, w in zip(data.counts, omega, strict=True))
    logs = logs - sum(np.log(sum(w * p for w, p in zip(omega, P[:, i], strict=True))) for i in range(len(data.y)))
    return float(np.log((weights * np.exp(logs)).sum()))


@pytest.mark.parametrize(("steps", "sides"), STEPS)
@pytest.mark.parametrize(("mu", "tau"), [(0.2, 0.1), (0.0, 0.0), (-0.1, 0.3), (0.5, 0.05)])
def test_publication_probabilities_are_integrated_out(steps, sides, mu, tau):
    data = step_data(Y, SE, steps, sides)
    expected = brute(data, mu, tau)
    at = np.array([mu]), np.array([tau])
    assert integrate_weights(data, *at, level=USUAL)[0] == pytest.approx(expected, abs=2e-6)
    assert integrate_weights(data, *at, level=FINEST)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("steps", "sides"), STEPS)
def test_selection_that_makes_no_difference_is_no_selection(steps, sides):
    """With every probability 1 the normalising constants are 1: the intervals cover everything."""
    data = step_data(Y, SE, steps, sides)
    mu, tau = np.array([0.1, -0.4]), np.array([0.0, 0.2])
    assert probabilities(data, mu, tau).sum(axis=0) == pytest.approx(1.0, abs=CLOSED_FORM)
    for i in range(2):
        whole = stats.norm.logpdf(Y, mu[i], np.sqrt(SE**2 + tau[i] ** 2)).sum()
        assert log_density(data, mu, tau)[i] == pytest.approx(whole, rel=CLOSED_FORM)


def test_a_plateau_of_small_probabilities_is_followed_to_its_end():
    """Hardly any study could be significant: every probability down to 1e-7 makes the data equally likely."""
    y, se = (
        np.array([-1.5, -0.3, -0.1, -0.4, -0.15, -0.25, 0.0, 0.14]),
        np.array([70, 85, 52, 82, 62, 81, 74, 50]) / 1000,
    )
    data = step_data(y, se, (0.05,), "one")
    assert data.counts.tolist() == [1, 7]
    P = probabilities(data, np.array([-0.26]), np.array([0.0]))[:, 0]
    x = np.linspace(-60, 0, 400_001)
    logs = 8 * x - np.log(P[0][:, None] + np.exp(x) * P[1][:, None]).sum(axis=0)
    expected = np.log(integrate.trapezoid(np.exp(logs), x))
    at = np.array([-0.26]), np.array([0.0])
    assert integrate_weights(data, *at)[0] == pytest.approx(expected, abs=1e-3)
    assert integrate_weights(data, *at, level=FINEST)[0] == pytest.approx(expected, abs=1e-6)


def test_favouring_small_effects_is_the_mirror_image():
    mirrored = step_data(-Y, SE, (0.025, 0.05), "one", sign=-1.0)
    data = step_data(Y, SE, (0.025, 0.05), "one")
    mu, tau = np.array([0.2, 0.0]), np.array([0.1, 0.0])
    assert integrate_weights(mirrored, -mu, tau) == pytest.approx(integrate_weights(data, mu, tau), abs=CLOSED_FORM)


def test_the_trapezoid_rule_meets_known_integrals():
    """A t density times a half-normal one, and a beta density on a limited range."""
    lines = [RealLine(0.3, 0.2, (-9.0, 9.0)), HalfLine(0.5, (-3.4, 9.0))]
    grid = integrate_grid(
        lambda a, b: stats.t.logpdf(a, 7, 0.1, 0.3) + stats.halfnorm.logpdf(b, scale=0.4), lines, tolerance=1e-11
    )
    assert grid.log_integral == pytest.approx(0.0, abs=1e-7)
    x = np.array([-0.5, 0.0, 0.1, 0.7])
    assert grid.marginal(0).cdf(x) == pytest.approx(stats.t.cdf(x, 7, 0.1, 0.3), abs=1e-6)
    assert grid.marginal(0).pdf(x) == pytest.approx(stats.t.pdf(x, 7, 0.1, 0.3), rel=1e-4)
    x = np.array([0.001, 0.1, 0.5, 1.2])
    assert grid.marginal(1).cdf(x) == pytest.approx(stats.halfnorm.cdf(x, scale=0.4), abs=1e-6)
    limited = integrate_grid(
        lambda a: stats.beta.logpdf(a / 2, 2.5, 4) - np.log(2), [HalfLine(1.0, (-3.2, 3.2), 2.0)], tolerance=1e-11
    )
    assert limited.log_integral == pytest.approx(0.0, abs=1e-8)
    assert limited.marginal(0).cdf(np.array([0.4, 1.0])) == pytest.approx(stats.beta.cdf([0.2, 0.5], 2.5, 4), abs=1e-7)


def test_without_bias_the_model_is_the_random_effects_model():
    exact = am.BayesianModel(effects(), mu_prior=priors.Normal(0, 1), tau_prior=TAU).fit()
    ours = solve_bias(PROBLEM, BiasKind("none"), effect=True, heterogeneity=True)
    assert ours.log_marginal == pytest.approx(exact.log_marginal_likelihood, abs=1e-8)
    found = robma(effects(), bias=(), p_effect=1.0, p_heterogeneity=1.0)
    row, other = found.tidy().loc["mu"], exact.tidy().loc["mu"]
    assert row[["mean", "sd", "median", "ci_lb", "ci_ub"]].to_numpy(float) == pytest.approx(
        other.to_numpy(float), abs=ITERATIVE
    )
    assert found.tidy().loc["tau", "ci_ub"] == pytest.approx(exact.tidy().loc["tau", "ci_ub"], abs=1e-6)
    assert found.tidy().loc["theta_new", "ci_lb"] == pytest.approx(exact.tidy().loc["theta_new", "ci_lb"], abs=1e-6)


@pytest.mark.parametrize(("kind", "scale"), [("PET", 1.0), ("PEESE", 5.0)])
@pytest.mark.parametrize("effect", [False, True])
def test_regressions_meet_adaptive_quadrature(kind, scale, effect):
    """Without heterogeneity: the dense normal density of the data, integrated over the coefficient by SciPy."""
    x = SE if kind == "PET" else SE**2
    V = np.diag(SE**2) + effect * np.ones((10, 10))

    def density(beta):
        return stats.multivariate_normal.pdf(Y, beta * x, V) * stats.halfcauchy.pdf(beta, scale=scale)

    expected = integrate.quad(density, 0, np.inf, epsabs=0, epsrel=1e-10, limit=300)[0]
    ours = solve_bias(PROBLEM, BiasKind(kind, scale=scale), effect=effect, heterogeneity=False)
    assert ours.log_marginal == pytest.approx(np.log(expected), abs=1e-8)
    first = integrate.quad(lambda b: b * density(b), 0, np.inf, epsabs=0, epsrel=1e-9, limit=300)[0] / expected
    assert ours.slope is not None
    assert ours.slope.weight @ ours.slope.value == pytest.approx(first, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bias", "effect", "heterogeneity"),
    [
        (PSMA[5], True, True),
        (PSMA[1], True, False),
        (PSMA[3], False, True),
        (PSMA[6], True, True),
        (PSMA[7], False, True),
    ],
)
def test_importance_sampling_gives_the_same(bias, effect, heterogeneity):
    kind = bias.kind
    expected, error = log_marginal(
        Y, SE, kind.kind, effect=effect, heterogeneity=heterogeneity, steps=kind.steps, sides=kind.sides,
        scale=kind.scale, points=11 if kind.steps else 15,
    )  # fmt: skip
    ours = solve_bias(PROBLEM, kind, effect=effect, heterogeneity=heterogeneity)
    assert ours.error < 1e-4
    assert error < 0.02
    assert abs(ours.log_marginal - expected) < 4 * error + 1e-4


def test_selection_that_nobody_shows_is_what_the_prior_says():
    """One step so far out that every study lies on its near side: only the prior mean of the constant is left."""
    y = np.array([2.0, 2.2, 1.9])
    se = np.full(3, 0.1)
    data = step_data(y, se, (0.5,), "one")
    assert data.counts.tolist() == [3, 0]
    assert integrate_weights(data, np.array([2.0]), np.array([0.1]))[0] == pytest.approx(0.0, abs=2e-6)


def small():
    return robma(effects(), bias=(WeightFunction((0.05,), weight=1.0), PET(weight=2.0), PEESE(weight=1.0)))


def test_probabilities_add_up_and_a_bayes_factor_is_a_ratio_of_odds():
    found = small()
    table = found.models
    assert len(table) == 16
    assert table["prior"].sum() == pytest.approx(1.0, rel=CLOSED_FORM)
    assert table["posterior"].sum() == pytest.approx(1.0, rel=CLOSED_FORM)
    assert table.loc[table["bias"].str.startswith("PET"), "prior"].sum() == pytest.approx(0.25, rel=CLOSED_FORM)
    for name, mask in (("effect", table["effect"]), ("bias", table["bias"] != "none")):
        p, q = table.loc[mask, "prior"].sum(), table.loc[mask, "posterior"].sum()
        assert found.inclusion.loc[name, "bf10"] == pytest.approx(q / (1 - q) / (p / (1 - p)), rel=1e-9)
    one = found.bayes_factor("tau = 0")
    assert one.bf10 == pytest.approx(found.inclusion.loc["heterogeneity", "bf10"], rel=CLOSED_FORM)


@pytest.mark.slow
def test_averages_hold_the_spike():
    found = small()
    averaged, conditional = found.posterior("mu"), found.posterior("mu", conditional=True)
    p = found.inclusion.loc["effect", "posterior"]
    assert averaged.mean == pytest.approx(p * conditional.mean, rel=1e-9)
    assert averaged.spike == pytest.approx(1 - p, rel=1e-9)
    assert found.prob("mu > 0") == pytest.approx(p * found.prob("mu > 0", conditional=True), rel=1e-7)
    assert found.prob("mu < 0") + found.prob("mu > 0") == pytest.approx(p, rel=1e-7)
    for q in (0.01, 0.3, 0.5, 0.9, 0.99):
        x = averaged.quantile(q)
        assert averaged.cdf(x - 1e-9) - 1e-7 <= q <= averaged.cdf(x) + 1e-7
    inside = integrate.trapezoid(averaged.pdf(x := np.linspace(-1, 1.5, 4001)), x)
    assert inside == pytest.approx(p, abs=1e-5)
    r = found.posterior("mu", scale="r")
    assert r.prob(0.0, 0.3) == pytest.approx(averaged.prob(0.0, np.arctanh(0.3)), rel=1e-9)
    assert float(r.quantile(0.97)) == pytest.approx(np.tanh(float(averaged.quantile(0.97))), rel=1e-9)


def test_publication_probabilities_have_the_posterior_of_a_dense_grid():
    """The one-step model without heterogeneity on a grid of mu and omega."""
    found = robma(effects(), bias=(WeightFunction((0.05,)),), p_bias=1.0, p_effect=1.0, p_heterogeneity=0.0)
    data = step_data(Y, SE, (0.05,), "one")
    mu, omega = np.linspace(-1.5, 1.2, 1200), (np.arange(1500) + 0.5) / 1500
    P = probabilities(data, mu, np.zeros(1200))
    logs = log_density(data, mu, np.zeros(1200)) + stats.norm.logpdf(mu)
    total = np.stack([np.log(P[0] + w * P[1]).sum(axis=1) for w in omega], axis=1)
    joint = np.exp(logs[:, None] + data.counts[1] * np.log(omega) - total)
    of_omega = joint.sum(axis=0) / joint.sum()
    posterior = found.posterior("omega[0.2]")
    assert posterior.mean == pytest.approx(of_omega @ omega, abs=1e-5)
    assert posterior.cdf([0.1, 0.4, 0.8]) == pytest.approx(
        np.interp([0.1, 0.4, 0.8], omega + 1 / 3000, of_omega.cumsum()), abs=2e-4
    )
    of_mu = joint.sum(axis=1) / joint.sum()
    assert found.posterior("mu").mean == pytest.approx(of_mu @ mu, abs=1e-6)
    assert found.posterior("mu").sd == pytest.approx(np.sqrt(of_mu @ (mu - of_mu @ mu) ** 2), abs=1e-5)
    table = found.weight_function()
    assert table["mean"].tolist() == pytest.approx([1.0, posterior.mean])


def test_the_other_direction_is_the_mirror_image():
    bias = (WeightFunction((0.025,)), PET())
    one, other = robma(effects(), bias=bias), robma(effects(-Y), bias=bias, direction="negative")
    assert other.inclusion["bf10"].tolist() == pytest.approx(one.inclusion["bf10"].tolist(), rel=1e-5)
    assert other.posterior("mu").mean == pytest.approx(-one.posterior("mu").mean, rel=1e-4)
    assert other.posterior("PET").mean == pytest.approx(one.posterior("PET").mean, rel=1e-4)


def test_everything_is_ready_for_json_and_print():
    found = small()
    as_json = json.loads(json.dumps(found.to_dict()))
    assert as_json["statistics"]["bf10_effect"] == found.inclusion.loc["effect", "bf10"]
    assert max(map(len, found.summary().splitlines())) <= 80
    assert "k = 10" in found.methods_text()
    assert "prior_PET" in found.r_code()
    assert robma(effects(), bias=(), p_effect=1.0).r_code().count("priors_bias=NULL") == 1
    assert list(found.glance()["models"]) == [16]
    alone = robma(effects(), bias=(), p_effect=1.0)
    assert isinstance(alone.inclusion["bf10"]["bias"], am.NotApplicable)
    assert isinstance(alone.bayes_factor("mu = 0").bf01, am.NotApplicable)
    assert "n/a" in alone.summary()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu_prior": priors.Cauchy(0, 1)}, "normal prior"),
        ({"tau_prior": priors.Uniform()}, "improper"),
        ({"p_effect": 1.5}, "between 0 and 1"),
        ({"bias": ("PET",)}, "takes WeightFunction"),
        ({"bias": (), "p_bias": 1.0}, "needs a model of bias"),
        ({"direction": "up"}, "direction="),
        ({"bias": (PET(), PET())}, "twice"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(am.InputError, match=message):
        robma(effects(), **options)


@pytest.mark.parametrize("steps", [(), (0.05, 0.01), (0.01, 0.02, 0.03, 0.04), (1.2,)])
def test_steps_that_cannot_be_are_refused(steps):
    with pytest.raises(am.InputError, match="steps="):
        WeightFunction(steps)


@pytest.mark.parametrize(("y", "se"), [([0.1, 3.0], [0.1, 0.1]), ([0.3] * 5, [0.001] * 5), ([0.0, 0.0], [0.5, 0.2])])
def test_extreme_data_have_an_answer(y, se):
    """An outlier of 20 standard errors, results without any spread, and none but zeros."""
    found = robma(effects(np.array(y), np.array(se)))
    assert np.isfinite(found.models["log_marginal_likelihood"]).all()
    assert (found.posterior_probabilities * found.errors).sum() < 1e-4
    assert np.isfinite(found.tidy().to_numpy(float)).all()


@pytest.mark.parametrize(
    ("y", "se", "bias", "heterogeneity"),
    [
        ([0.22707817, 0.29654903], [0.08032193, 0.08111071], PSMA[1], True),
        (
            [-0.3, 0.5, 0.99, 0.72, 0.43, 0.06, -0.24, -0.1, 0.29, 0.07, 0.01, -0.36],
            [0.209, 0.2, 0.354, 0.316, 0.146, 0.141, 0.577, 0.162, 0.158, 0.16, 0.189, 0.174],
            PSMA[0],
            False,
        ),
    ],
)
def test_no_error_is_larger_than_claimed(y, se, bias, heterogeneity):
    """Where the inner integrals are worst away from the top, and where half the points happen to do as well as all."""
    problem = BiasProblem(np.array(y), np.array(se), 0.0, 1.0, PROBLEM.tau)
    usual, fine = (
        solve_bias(problem, bias.kind, effect=True, heterogeneity=heterogeneity, tolerance=tolerance)
        for tolerance in (1e-5, 1e-8)
    )
    assert abs(usual.log_marginal - fine.log_marginal) < 3 * usual.error


def test_every_combination_is_there_once():
    table = robma(effects()).models
    assert len(table) == 36
    combinations = set(product((False, True), (False, True), set(table["bias"])))
    assert set(table[["effect", "heterogeneity", "bias"]].itertuples(index=False, name=None)) == combinations
