"""The likelihood of selected effects: derivatives by differences, chances by adaptive integrals, other ways to it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, special

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.core.selection.search import fit_selection
from alliance_meta.core.selection.weights import selection_problem
from tests.reference.reading import DATASETS, numbers, reference
from tests.tolerances import CLOSED_FORM, ITERATIVE

RNG = np.random.default_rng(4)
K = 40
V = RNG.uniform(0.005, 0.05, K)
Y = 0.2 + RNG.normal(0, np.sqrt(V + 0.02))
ONES = np.ones((K, 1))
MODERATOR = np.column_stack([np.ones(K), RNG.normal(size=K)])
STEPS = np.array([0.025, 0.5])
FAMILIES = ("stepfun", "beta", "halfnorm", "negexp", "logistic", "power", "negexppow")


@pytest.mark.parametrize("alternative", ["greater", "less", "two.sided"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("moderated", [False, True])
def test_derivatives_of_every_family_are_those_by_differences(family, alternative, moderated):
    weights = {"steps": STEPS} if family == "stepfun" else {"family": family}
    designs = {"X": MODERATOR, "Z": MODERATOR, "U": MODERATOR} if moderated else {"X": ONES}
    one = selection_problem(Y, V, alternative=alternative, **weights, **designs)
    theta = np.random.default_rng(6).normal(0, 0.3, one.n)
    theta[one.slices[1].start] = -3.0
    at, h = one.at(theta[None]), 1e-5
    for j, step in enumerate(h * np.eye(one.n)):
        up, down = one.at((theta + step)[None]), one.at((theta - step)[None])
        assert (up.loglik() - down.loglik()) / (2 * h) == pytest.approx(at.gradient()[:, j], rel=1e-5, abs=1e-6)
        assert (up.gradient() - down.gradient()) / (2 * h) == pytest.approx(at.hessian()[:, j], rel=1e-5, abs=1e-5)
    assert at.scores[0].sum(axis=0) == pytest.approx(at.gradient()[0], rel=CLOSED_FORM, abs=1e-9)
    assert at.loglik_i.sum() == pytest.approx(at.loglik()[0], rel=CLOSED_FORM)


def test_the_chance_to_be_seen_under_steps_is_that_by_integration():
    weights, mu, tau2 = (1.0, 0.4, 0.1), 0.12, 0.03
    theta = np.array([[mu, math.log(tau2), *np.log(weights[1:])]])
    mine = selection_problem(Y, V, ONES, steps=STEPS).at(theta).loglik_i[0]
    for i in range(0, K, 7):
        s, sd = math.sqrt(V[i]), math.sqrt(V[i] + tau2)
        cuts = [mu - 12 * sd, *(-special.ndtri(STEPS) * s)[::-1], mu + 12 * sd]

        def density(y: float, sd: float = sd) -> float:
            return math.exp(-0.5 * ((y - mu) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))

        parts = [integrate.quad(density, a, b, epsabs=1e-13)[0] for a, b in pairwise(cuts)]
        own = weights[int(np.searchsorted(STEPS, special.ndtr(-Y[i] / s)))]
        expected = math.log(own * density(Y[i]) / sum(w * one for w, one in zip(weights, parts[::-1], strict=True)))
        assert mine[i] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_other_search_finds_a_higher_likelihood(family):
    weights = {"steps": STEPS[:1]} if family == "stepfun" else {"family": family}
    chosen = (Y / np.sqrt(V) > 1.96) | (np.arange(K) % 2 == 0)
    one = selection_problem(Y[chosen], V[chosen], np.ones((chosen.sum(), 1)), **weights)
    found = fit_selection(one)
    rng = np.random.default_rng(1)
    for _ in range(4):
        start = np.concatenate([[0.1, -3.5], np.zeros(one.weights.d)]) + rng.normal(0, 0.7, one.n)
        other = optimize.minimize(
            lambda theta: -float(one.at(theta[None]).loglik()[0]),
            start,
            jac=lambda theta: -one.at(theta[None]).gradient()[0],
            method="L-BFGS-B",
            bounds=[(-3, 3), (-25, 5), *[one.weights.reach] * one.weights.d],
        )
        assert found.loglik > -other.fun - 1e-6


def fit(name: str) -> am.models.RandomEffectsResults:
    data = reference(f"{name}_ZCOR")
    return am.RandomEffectsModel(am.EffectSizes.from_arrays(numbers(data["yi"]), numbers(data["vi"]))).fit()


@pytest.mark.parametrize("name", DATASETS)
def test_equal_weights_give_the_model_without_selection(name):
    one = fit(name)
    plain = am.RandomEffectsModel(one.effects, method="ML").fit()
    found = bias.selmodel(one, delta=(1, 1))
    assert found.estimate == pytest.approx(float(plain.beta[0]), rel=ITERATIVE)
    assert found.tau2 == pytest.approx(plain.tau2, rel=ITERATIVE)
    assert found.loglik == pytest.approx(plain.loglik, rel=ITERATIVE)
    assert (found.lrt.stat, found.lrt.df) == (0.0, 0)


@pytest.mark.parametrize("name", DATASETS)
def test_the_grid_of_given_weights_has_the_rows_of_the_table(name):
    table = bias.vevea_woods(fit(name)).tidy()
    plain = am.RandomEffectsModel(fit(name).effects, method="ML").fit()
    assert table.loc["no selection", "estimate"] == pytest.approx(float(plain.beta[0]), rel=ITERATIVE)
    assert table.loc["moderate, one-tailed", "estimate"] == pytest.approx(
        reference(f"{name}_ZCOR")["selmodel"]["vw_mod"]["b"], abs=1e-5
    )
    # The more severe, the lower; two-tailed selection takes less from a mean that is not near 0.
    means = table["estimate"]
    for tails in ("one-tailed", "two-tailed"):
        assert means[f"severe, {tails}"] < means[f"moderate, {tails}"] < means["no selection"]


def test_moderators_of_the_weights_by_group_are_two_models_where_all_else_is_given():
    """With moderators of mean, tau2 and weights that tell two groups apart, each group has its own model."""
    group = np.repeat(["a", "b"], K // 2)
    design = np.column_stack([np.ones(K), group == "b"]).astype(float)
    together = fit_selection(selection_problem(Y, V, design, steps=STEPS[:1], Z=design, U=design))
    apart = [
        fit_selection(selection_problem(Y[g], V[g], ONES[g], steps=STEPS[:1])) for g in (group == "a", group == "b")
    ]
    assert together.loglik == pytest.approx(sum(one.loglik for one in apart), rel=1e-6)
    assert together.theta[0] == pytest.approx(apart[0].theta[0], abs=1e-4)


def test_the_weight_function_is_one_at_first_and_its_limits_enclose_it():
    one = bias.selmodel(fit("crede2010"), steps=(0.025, 0.5))
    table = one.weights
    assert table["p"].tolist() == [0, 0.025, 0.025, 0.5, 0.5, 1]
    assert table["weight"].to_numpy() == pytest.approx(np.repeat(one.delta, 2))
    assert table["ci_ub"].to_numpy()[2:] == pytest.approx(
        np.repeat(one.intervals["ci_ub"].to_numpy(dtype=float)[1:], 2)
    )
    smooth = bias.selmodel(fit("crede2010"), "negexp").weights
    assert isinstance(smooth, pd.DataFrame)
    assert smooth["weight"].is_monotonic_decreasing
    assert ((smooth["ci_lb"] <= smooth["weight"]) & (smooth["weight"] <= smooth["ci_ub"])).all()
