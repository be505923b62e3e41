"""Averages over models against fits of every model, one by one, with the exact engine."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import alliance_meta as am
from alliance_meta.bayes import average, priors, robma
from alliance_meta.bayes.averaged.results import AveragedMarginal
from alliance_meta.bayes.marginals import MixtureMarginal
from alliance_meta.core.bayes.average import SubsetProblem, average_subsets, subset_log_likelihoods, subset_moments
from alliance_meta.core.bayes.quadrature import NormalMixture, TauDensity
from alliance_meta.core.bayes.two_level import ExactProblem, prepare, solve
from tests.tolerances import CLOSED_FORM, ITERATIVE

NAMES = ("rater", "year", "age")
# What the mixtures leave out.
LEFT_OUT = 1e-7
TAU = priors.HalfNormal(0.3)


@pytest.fixture(scope="module")
def effects():
    rng = np.random.default_rng(7)
    n = rng.integers(15, 200, 26)
    mods = pd.DataFrame(
        {
            "rater": np.where(rng.random(26) < 0.5, "patient", np.where(rng.random(26) < 0.5, "observer", "therapist")),
            "year": rng.integers(1990, 2024, 26).astype(float),
            "age": rng.normal(38, 7, 26),
        }
    )
    y = 0.25 + 0.008 * (mods["year"] - 2007) + rng.normal(0, 0.1, 26) + rng.standard_normal(26) / np.sqrt(n - 3)
    return am.EffectSizes.from_arrays(y, 1 / (n - 3.0), ni=n, mods=mods, measure="ZCOR")


@pytest.fixture(scope="module")
def found(effects):
    return average(effects, candidates=NAMES)


@pytest.fixture(scope="module")
def one_by_one(effects, found):
    """Every model as a `BayesianModel`, or with tau held at 0 by the closed form; priors those of the largest."""
    beta = dict(zip(found.priors.names[1:], found.priors.coefficients[1:], strict=True))
    models = []
    for size in range(4):
        for chosen in combinations(NAMES, size):
            formula = " + ".join(chosen) or "1"
            own = am.BayesianModel(effects, mods=formula).fit()
            prior = {name: beta[name] for name in own.names if name in beta}
            fit = am.BayesianModel(effects, mods=formula, beta_prior=prior).fit()
            X = fit.design.X - np.where(np.arange(fit.p) > 0, fit.design.X.mean(axis=0), 0.0)
            sd = np.array([one.sd for one in fit.priors.coefficients])
            models.append((chosen, fit, _equal(effects, X, sd)))
    return models


def _equal(effects, X, sd):
    """Log marginal likelihood, mean and covariance of the coefficients, with the dense covariance of the effects."""
    marginal = stats.multivariate_normal.logpdf(effects.yi, np.zeros(effects.k), np.diag(effects.vi) + X * sd**2 @ X.T)
    V = np.linalg.inv(np.diag(sd**-2.0) + (X.T / effects.vi) @ X)
    return marginal, V @ X.T @ (effects.yi / effects.vi), V


def _log_posterior(one_by_one):
    logs = [[equal[0], fit.log_marginal_likelihood] for _, fit, equal in one_by_one]
    return special.softmax(np.array(logs))


def test_every_marginal_likelihood_is_that_of_the_model_alone(found, one_by_one):
    table = found.models.set_index(["formula", "tau_prior"])
    for chosen, fit, equal in one_by_one:
        formula = " + ".join(chosen) or "1"
        ours = table.loc[formula, "log_marginal_likelihood"]
        assert ours["half-normal(0.3)"] == pytest.approx(fit.log_marginal_likelihood, abs=CLOSED_FORM)
        assert ours["equal effects"] == pytest.approx(equal[0], abs=CLOSED_FORM)
    assert found.error_bound < 1e-10


def test_inclusion_is_the_sum_over_models(found, one_by_one):
    posterior = _log_posterior(one_by_one)
    for name in NAMES:
        there = [name in chosen for chosen, _, _ in one_by_one]
        q = posterior[there].sum()
        assert found.inclusion.loc[name, "posterior"] == pytest.approx(q, rel=1e-9)
        assert found.inclusion.loc[name, "bf10"] == pytest.approx(q / (1 - q), rel=1e-9)
    q = posterior[:, 1].sum()
    assert found.inclusion.loc["heterogeneity", "bf10"] == pytest.approx(q / (1 - q), rel=1e-9)


@pytest.mark.parametrize("name", ["mu", "year", "rater[T.patient]"])
def test_coefficients_are_the_mixture_of_the_models(found, one_by_one, name):
    """Moments and quantiles of the averaged posterior from the posteriors of the single models."""
    posterior = _log_posterior(one_by_one)
    first = second = spike = 0.0
    parts = []
    for (_, fit, equal), (p_equal, p_random) in zip(one_by_one, posterior, strict=True):
        if name != "mu" and name not in fit.names:
            spike += p_equal + p_random
            continue
        j = 0 if name == "mu" else fit.names.index(name)
        normal = stats.norm(equal[1][j], np.sqrt(equal[2][j, j]))
        marginal = fit.posterior(name)
        parts += [(p_equal, normal.cdf), (p_random, marginal.cdf)]
        first += p_equal * normal.mean() + p_random * marginal.mean
        second += p_equal * (normal.var() + normal.mean() ** 2) + p_random * (marginal.sd**2 + marginal.mean**2)
    row = found.tidy().loc[name]
    assert row["p_incl"] == pytest.approx(1 - spike, abs=LEFT_OUT)
    assert row["mean"] == pytest.approx(first, abs=LEFT_OUT)
    assert row["sd"] == pytest.approx(np.sqrt(second - first**2), abs=LEFT_OUT)

    def below(x):
        return sum(p * float(cdf(x)) for p, cdf in parts) + spike * (x >= 0)

    for q in (0.025, 0.2, 0.5, 0.9, 0.975):
        x = float(found.posterior(name).quantile(q))
        assert below(x - 1e-9) - 1e-6 <= q <= below(x) + 1e-6
    conditional = found.tidy(conditional=True).loc[name]
    assert conditional["mean"] == pytest.approx(first / (1 - spike), rel=1e-6)
    x = optimize.brentq(lambda x: sum(p * float(cdf(x)) for p, cdf in parts) / (1 - spike) - 0.975, -3, 3, xtol=1e-12)
    assert conditional["ci_ub"] == pytest.approx(x, abs=1e-6)


def test_tau_and_a_new_study_are_the_mixture_too(found, one_by_one):
    posterior = _log_posterior(one_by_one)
    pairs = list(zip(one_by_one, posterior, strict=True))
    mean = sum(p[1] * fit.posterior("tau").mean for (_, fit, _), p in pairs)
    assert found.posterior("tau").mean == pytest.approx(mean, rel=1e-9)
    assert found.posterior("tau").spike == pytest.approx(posterior[:, 0].sum(), rel=1e-9)
    x = 0.13
    below = sum(p[0] + p[1] * float(fit.posterior("tau").cdf(x)) for (_, fit, _), p in pairs)
    assert found.posterior("tau").cdf(x) == pytest.approx(below, abs=1e-9)
    density = sum(p[1] * float(fit.posterior("tau").pdf(x)) for (_, fit, _), p in pairs)
    assert found.posterior("tau").pdf(x) == pytest.approx(density, rel=ITERATIVE)
    new = sum(p[1] * float(fit.posterior("theta_new").cdf(0.1)) for (_, fit, _), p in pairs)
    new += sum(p[0] * stats.norm.cdf(0.1, equal[1][0], np.sqrt(equal[2][0, 0])) for (_, _, equal), p in pairs)
    assert found.posterior("theta_new").cdf(0.1) == pytest.approx(new, abs=1e-6)


def test_predictions_average_the_models_own(found, one_by_one):
    data = {"rater": ["therapist"], "year": [2015.0], "age": [30.0]}
    expected = 0.0
    for (_, fit, equal), p in zip(one_by_one, _log_posterior(one_by_one), strict=True):
        row = fit.design.new_rows(data)[0][0] if fit.p > 1 else np.ones(1)
        centred = row - np.where(np.arange(fit.p) > 0, fit.design.X.mean(axis=0), 0.0)
        expected += p[0] * float(centred @ equal[1]) + p[1] * float(row @ fit.beta)
    table = found.predict(data)
    assert table["ci_lb"].iloc[0] < expected < table["ci_ub"].iloc[0]
    C = found._own_order(found.design.new_rows(data)[0] @ _centre(found))
    assert found._mixtures(C)[0][1].moments()[0][0] == pytest.approx(expected, abs=LEFT_OUT)
    r = found.predict(data, scale="r")
    assert r["pred"].iloc[0] == pytest.approx(np.tanh(table["pred"].iloc[0]), rel=1e-9)
    assert r["pi_ub"].iloc[0] == pytest.approx(np.tanh(table["pi_ub"].iloc[0]), rel=1e-9)


def _centre(found):
    T = np.eye(found.design.p)
    T[0, 1:] = -found.design.X[:, 1:].mean(axis=0)
    return T


def test_without_doubt_it_is_the_model_itself(effects):
    alone = am.BayesianModel(effects).fit()
    ours = average(effects, p_heterogeneity=1.0).tidy()
    theirs = alone.tidy().loc[["mu", "tau", "theta_new"]]
    assert ours.drop(columns="p_incl").to_numpy(float) == pytest.approx(theirs.to_numpy(float), abs=LEFT_OUT)
    equal = average(effects, p_heterogeneity=0.0)
    assert equal.posterior("tau").spike == 1.0
    assert isinstance(equal.inclusion["bf10"]["heterogeneity"], am.NotApplicable)


def test_four_models_are_robma_without_bias(effects):
    mu, tau = priors.Normal(0, 1), priors.InverseGamma(1, 0.15)
    ours = average(effects, mu_prior=mu, tau_prior=tau, p_effect=0.5)
    theirs = robma(effects, mu_prior=mu, tau_prior=tau, bias=())
    for name in ("effect", "heterogeneity"):
        assert ours.inclusion.loc[name, "bf10"] == pytest.approx(theirs.inclusion.loc[name, "bf10"], rel=1e-8)
    columns = ["p_incl", "mean", "sd", "median", "ci_lb", "ci_ub"]
    for name in ("mu", "tau", "theta_new"):
        one, other = ours.tidy().loc[name, columns], theirs.tidy().loc[name, columns]
        if name == "theta_new":
            one, other = one.drop("p_incl"), other.drop("p_incl")
        assert one.to_numpy(float) == pytest.approx(other.to_numpy(float), abs=1e-6)


def test_several_priors_are_averaged_over(effects):
    both = (priors.HalfNormal(0.3), priors.Uniform(0.5))
    whole = average(effects, tau_prior=both, p_heterogeneity=1.0)
    single = [average(effects, tau_prior=one, p_heterogeneity=1.0) for one in both]
    logs = np.array([one.log_marginal_likelihood for one in single])
    share = special.softmax(logs)
    assert whole.log_marginal_likelihood == pytest.approx(special.logsumexp(logs) - np.log(2), abs=1e-10)
    assert whole.inclusion.loc["tau ~ uniform(0, 0.5)", "posterior"] == pytest.approx(share[1], rel=1e-9)
    mean = share @ [one.posterior("mu").mean for one in single]
    assert whole.posterior("mu").mean == pytest.approx(mean, abs=LEFT_OUT)
    tail = share @ [float(one.posterior("tau").sf(0.2)) for one in single]
    assert whole.posterior("tau").sf(0.2) == pytest.approx(tail, abs=1e-9)


def test_priors_of_the_models(effects):
    by_size = average(effects, candidates=NAMES, p_include="size").models
    number = by_size["formula"].map(lambda formula: 0 if formula == "1" else formula.count("+") + 1)
    assert by_size.groupby(number)["prior"].sum().tolist() == pytest.approx([0.25] * 4)
    doubtful = average(effects, candidates=NAMES, p_include=0.1)
    assert doubtful.inclusion.loc["year", "prior"] == pytest.approx(0.1)
    half = average(effects, candidates=NAMES)
    assert doubtful.inclusion.loc["year", "posterior"] < half.inclusion.loc["year", "posterior"]


def test_an_interaction_enters_only_beside_its_parts(effects):
    found = average(effects, candidates=["rater", "center(year)", "rater:center(year)"])
    formulas = set(found.models["formula"])
    assert len(formulas) == 5
    assert "rater + rater:center(year)" not in formulas
    always = average(effects, candidates=["rater:center(year)", "age"], always=["rater", "center(year)"])
    assert all(formula.startswith("rater + center(year)") for formula in always.models["formula"])
    assert len(set(always.models["formula"])) == 4


def test_many_subsets_meet_the_engine(rng):
    """Ten columns: random ones of the 1,024 models, means and variances included."""
    k, p = 60, 10
    v = 1 / (rng.integers(10, 250, k) - 3.0)
    X = np.column_stack([np.ones(k), rng.normal(size=(k, p))])
    y = 0.25 + 0.05 * X[:, 1] + rng.normal(0, 0.15, k) + rng.standard_normal(k) * np.sqrt(v)
    mean, precision = np.append(0.1, np.full(p, 0.02)), np.append(0.0, np.full(p, 16.0))
    problem = SubsetProblem(y, v, X, mean, precision, 1, (1,) * p)
    density = TauDensity(TAU.logpdf, TAU.upper, TAU.tail, (0.01, 0.2, 0.8), True)
    log_prior = np.full((2, 1024), -np.log(2048))
    found = average_subsets(problem, np.arange(1024), log_prior, [density])
    for number in (0, 1023, *rng.integers(0, 1024, 4)):
        own = problem.columns(int(number))
        exact = solve(ExactProblem(prepare(y, v, X[:, own], mean[own], precision[own]), density))
        assert found.log_marginal[1, number] == pytest.approx(exact.log_marginal, abs=CLOSED_FORM)
        tau = exact.tau[:5]
        m, s2 = subset_moments(problem, np.full(5, number), tau, np.eye(p + 1))
        assert pytest.approx(exact.mean[:5], abs=1e-12) == m[own].T
        assert pytest.approx((exact.root[:5] ** 2).sum(axis=1), rel=1e-10) == s2[own].T
        assert not np.delete(m, own, axis=0).any()
    every = subset_log_likelihoods(problem, np.array([0.0, 0.1]))
    assert every.shape == (1024, 2)


def test_everything_is_ready_for_json_and_print(found):
    as_json = json.loads(json.dumps(found.to_dict()))
    assert as_json["inclusion"]["component"] == [*NAMES, "heterogeneity"]
    assert max(map(len, found.summary().splitlines())) <= 80
    assert "16 models" in found.methods_text()
    assert found.left_out < 1e-6
    assert found.prob("year > 0") == pytest.approx(float(found.posterior("year").sf(0.0)), rel=1e-9)
    assert list(found.glance()["models"]) == [16]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "rater"}, "lists of terms"),
        ({"candidates": ["rater + year"]}, "not one term"),
        ({"candidates": ["year", "year"]}, "twice"),
        ({"candidates": ["rater:year"]}, "needs"),
        ({"candidates": ["colour"]}, "no column"),
        ({"candidates": [f"I(year + {i})" for i in range(15)]}, "at most 14"),
        ({"tau_prior": priors.Jeffreys()}, "improper"),
        ({"mu_prior": priors.Cauchy(0, 1)}, "normal or a flat"),
        ({"mu_prior": priors.Flat(), "p_effect": 0.5}, "flat"),
        ({"p_heterogeneity": 2}, "between 0 and 1"),
        ({"candidates": ["year"], "p_include": -1}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_is_refused(effects, options, message):
    with pytest.raises(am.InputError, match=message):
        average(effects, **options)


def test_one_effect_and_an_endless_tail():
    lonely = am.EffectSizes.from_arrays([0.3], [0.02], measure="ZCOR")
    found = average(lonely, tau_prior=priors.HalfCauchy(0.3), p_heterogeneity=1.0)
    assert isinstance(found.tidy()["sd"]["tau"], am.NotApplicable)
    assert np.isfinite(found.tidy().loc["tau", "median"])


@pytest.mark.parametrize("p", [1e-9, 1e-6, 0.01, 0.5, 1 - 1e-6, 1 - 1e-9])
def test_quantiles_of_an_average_far_out(p):
    parts = [NormalMixture(np.ones(1), np.array([[m]]), np.array([[s]])) for m, s in ((0.0, 1.0), (1.0, 0.5))]
    share = np.array([0.6, 0.4])
    made = AveragedMarginal("mu", share, tuple(MixtureMarginal("mu", one) for one in parts))

    def excess(x):
        # The smaller tail has the digits.
        tail = (special.ndtr, p) if p < 0.5 else (lambda z: special.ndtr(-z), 1 - p)
        return share @ [tail[0]((x - m) / s) for m, s in ((0.0, 1.0), (1.0, 0.5))] - tail[1]

    assert float(made.quantile(p)) == pytest.approx(optimize.brentq(excess, -12, 12, xtol=1e-13), abs=2e-4)
