"""Selection models of dependent effects: derivatives, sandwiches and resampling against slower ways to the same."""

from __future__ import annotations

import numpy as np
import pytest

from alliance_meta.core.resampling import bootstrap_limits, stream
from alliance_meta.core.selection.dependent import (
    PenalisedProblem,
    Refitting,
    draw_weights,
    equations,
    penalised,
    solve,
)
from alliance_meta.core.selection.weights import SelectionProblem, selection_problem
from alliance_meta.core.univariate.search import maximise
from alliance_meta.core.univariate.wls import make_batch
from tests.tolerances import CLOSED_FORM, ITERATIVE

RNG = np.random.default_rng(5)
CLUSTER = np.repeat(np.arange(24), RNG.integers(1, 5, 24))
K = len(CLUSTER)
V = RNG.uniform(0.004, 0.03, K)
Y = 0.15 + RNG.normal(0, 0.15, 24)[CLUSTER] + RNG.normal(0, np.sqrt(V + 0.01))
ONES = np.ones((K, 1))
MODERATOR = np.column_stack([np.ones(K), RNG.normal(size=K)])


def problem(
    family: str = "stepfun", steps: tuple[float, ...] = (0.025, 0.5), **designs: np.ndarray
) -> SelectionProblem:
    X = designs.pop("X", ONES)
    return selection_problem(Y, V, X, family=family, steps=np.array(steps), **designs)  # type: ignore[arg-type]


def start(one: SelectionProblem) -> np.ndarray:
    theta = np.zeros((1, one.n))
    theta[0, 0], theta[0, one.slices[1].start] = Y.mean(), np.log(0.03)
    return theta


def natural(theta: np.ndarray) -> np.ndarray:
    return np.concatenate([theta[:1], np.exp(theta[1:])])


PROBLEMS = {
    "step": problem(steps=(0.025,)),
    "two steps": problem(),
    "two-sided": selection_problem(Y, V, ONES, steps=np.array([0.05]), alternative="two.sided"),
    "moderators": problem(steps=(0.025,), X=MODERATOR, Z=MODERATOR, U=MODERATOR),
    "focal": selection_problem(Y, V, ONES, steps=np.array([0.025]), selected=np.arange(K) % 3 > 0),
    "beta": problem("beta"),
}


@pytest.mark.parametrize("estimator", ["CML", "ARGL"])
@pytest.mark.parametrize("weak", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_derivatives_are_those_by_differences(name: str, weak: bool, estimator: str) -> None:
    one = penalised(PROBLEMS[name]) if weak else PROBLEMS[name]
    theta = start(one)[0] + np.random.default_rng(2).normal(0, 0.2, one.n)
    weights = np.random.default_rng(3).uniform(0, 3, (1, K))

    def left(at: np.ndarray) -> np.ndarray:
        return equations(one, at[None], weights, estimator).left[0]  # type: ignore[arg-type]

    h = 1e-5
    moved = [(left(theta + h * e) - left(theta - h * e)) / (2 * h) for e in np.eye(one.n)]
    found = equations(one, theta[None], weights, estimator)  # type: ignore[arg-type]
    assert pytest.approx(np.array(moved), rel=1e-6, abs=1e-5) == found.jacobian[0].T
    assert found.contributions[0].sum(axis=0) == pytest.approx(found.left[0], rel=CLOSED_FORM, abs=1e-9)


def test_the_penalty_is_the_gradient_of_its_value() -> None:
    one = penalised(PROBLEMS["two steps"])
    assert isinstance(one, PenalisedProblem)
    theta, h = np.array([0.3, -3.0, -1.0, 0.4]), 1e-5
    values = [(one.at((theta + h * e)[None]).loglik() - one.at((theta - h * e)[None]).loglik())[0] for e in np.eye(4)]
    assert one.at(theta[None]).gradient()[0] == pytest.approx(np.array(values) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("estimator", ["CML", "ARGL"])
def test_with_clusters_of_one_the_sandwich_is_hubers(estimator: str) -> None:
    one = PROBLEMS["two steps"]
    solved = solve(one, start(one), np.ones((1, K)), estimator)  # type: ignore[arg-type]
    at = equations(one, solved.theta, np.ones((1, K)), estimator)  # type: ignore[arg-type]
    J, S = at.jacobian[0], at.contributions[0]
    huber = np.linalg.solve(J, np.linalg.solve(J, S.T @ S).T).T
    assert at.sandwich(np.arange(K), solved.free)[0] == pytest.approx(huber.T, rel=ITERATIVE)
    summed = np.array([S[j == CLUSTER].sum(axis=0) for j in range(24)])
    clustered = np.linalg.inv(J) @ summed.T @ summed @ np.linalg.inv(J).T
    assert at.sandwich(CLUSTER, solved.free)[0] == pytest.approx(clustered, rel=ITERATIVE)
    # The order of the rows says nothing.
    order = np.random.default_rng(1).permutation(K)
    mixed = selection_problem(Y[order], V[order], ONES, steps=np.array([0.025, 0.5]))
    again = equations(mixed, solved.theta, np.ones((1, K)), estimator)  # type: ignore[arg-type]
    assert again.sandwich(CLUSTER[order], solved.free)[0] == pytest.approx(clustered, rel=ITERATIVE)


@pytest.mark.parametrize("estimator", ["CML", "ARGL"])
def test_with_weights_of_one_it_is_maximum_likelihood(estimator: str) -> None:
    one = PROBLEMS["step"]
    held = np.array([False, False, True])
    solved = solve(one, start(one), np.ones((1, K)), estimator, held)  # type: ignore[arg-type]
    tau2 = float(maximise(make_batch(Y, V, ONES), restricted=False).tau2[0])
    w = 1.0 / (V + tau2)
    assert solved.found.all()
    assert solved.free.tolist() == [[True, True, False]]
    assert solved.theta[0] == pytest.approx([w @ Y / w.sum(), np.log(tau2), 0.0], rel=ITERATIVE, abs=1e-12)


def test_argl_leaves_tau2_at_zero_where_it_would_be_negative() -> None:
    y = np.linspace(-0.02, 0.02, K)
    one = selection_problem(y, np.full(K, 0.02), ONES, steps=np.array([0.5]))
    solved = solve(one, np.array([[0.0, -4.0, 0.0]]), np.ones((1, K)), "ARGL")
    assert solved.found.all()
    assert np.exp(solved.theta[0, 1]) < 1e-8
    left = equations(one, solved.theta, np.ones((1, K)), "ARGL").left[0]
    assert left == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("estimator", ["CML", "ARGL"])
def test_a_replicate_is_a_fit_to_repeated_rows(estimator: str) -> None:
    one = PROBLEMS["step"]
    theta = solve(one, start(one), np.ones((1, K)), estimator).theta  # type: ignore[arg-type]
    counts = draw_weights(np.random.default_rng(8), 3, CLUSTER, "two-stage")
    together = solve(one, np.tile(theta, (3, 1)), counts, estimator)  # type: ignore[arg-type]
    assert together.found.all()
    for row, found in zip(counts.astype(int), together.theta, strict=True):
        rows = np.repeat(np.arange(K), row)
        repeated = selection_problem(Y[rows], V[rows], ONES[rows], steps=np.array([0.025]))
        alone = solve(repeated, theta, np.ones((1, len(rows))), estimator).theta[0]  # type: ignore[arg-type]
        assert natural(found) == pytest.approx(natural(alone), rel=1e-6, abs=1e-9)


def test_the_jackknife_leaves_out_clusters() -> None:
    one = PROBLEMS["step"]
    theta = solve(one, start(one), np.ones((1, K)), "CML").theta[0]
    found = Refitting(one, CLUSTER, theta, "CML", np.zeros(3, dtype=bool)).without_clusters()
    kept = CLUSTER != 7
    without = selection_problem(Y[kept], V[kept], ONES[kept], steps=np.array([0.025]))
    assert found.shape == (24, 3)
    assert found[7] == pytest.approx(solve(without, theta[None], np.ones((1, kept.sum()))).theta[0], rel=1e-6)


@pytest.mark.parametrize("how", ["two-stage", "multinomial", "exponential"])
def test_resampling_counts_clusters(how: str) -> None:
    counts = draw_weights(np.random.default_rng(1), 4000, CLUSTER, how)  # type: ignore[arg-type]
    sizes = np.bincount(CLUSTER)
    assert counts.shape == (4000, K)
    assert counts.mean(axis=0) == pytest.approx(np.ones(K), abs=0.12)
    sums = np.array([counts[:, j == CLUSTER].sum(axis=1) for j in range(24)])
    if how == "exponential":
        assert (counts > 0).all()
        assert sums / sizes[:, None] == pytest.approx(np.array([counts[:, j == CLUSTER][:, 0] for j in range(24)]))
    else:
        drawn = sums / sizes[:, None]
        assert drawn == pytest.approx(np.round(drawn))
        assert drawn.sum(axis=0) == pytest.approx(24.0)
        within = np.array([np.ptp(counts[:, j == CLUSTER], axis=1).max() for j in range(24)])
        assert (within[sizes > 1] > 0).all() == (how == "two-stage")
        few = draw_weights(np.random.default_rng(1), 500, np.array([0, 0, 1, 2]), how)  # type: ignore[arg-type]
        assert ((few > 0) @ np.eye(4)[[0, 0, 2, 3]]).astype(bool).sum(axis=1).min() >= 2


def test_the_bootstrap_is_the_same_on_any_number_of_cores() -> None:
    one = PROBLEMS["step"]
    theta = solve(one, start(one), np.ones((1, K)), "CML").theta[0]
    refit = Refitting(one, CLUSTER, theta, "CML", np.zeros(3, dtype=bool))
    alone = refit.bootstrap("two-stage", B=2500, seed=4)
    shared = refit.bootstrap("two-stage", B=2500, seed=4, cores=2)
    assert len(alone.theta) + alone.lost == 2500
    assert (alone.theta == shared.theta).all()
    assert (alone.se == shared.se).all()
    # Its first block is what its first random stream gives, and each error that of its own data.
    weights = draw_weights(stream(4, 0), (1 << 16) // K, CLUSTER, "two-stage")
    first = equations(one, alone.theta[:1], weights[:1])
    assert alone.se[0] == pytest.approx(np.sqrt(np.diag(first.sandwich(CLUSTER, np.ones((1, 3), dtype=bool))[0])))


def test_limits_of_a_symmetric_bootstrap_agree() -> None:
    values = np.linspace(-1.0, 1.0, 1999)
    # No skewness and no bias: BCa is the percentile interval, and so is its mirror image.
    for kind in ("percentile", "basic", "bca"):
        found = bootstrap_limits(values, 0.0, kind, 0.9, np.linspace(-1, 1, 9))  # type: ignore[arg-type]
        assert found == pytest.approx((-0.9009009, 0.9009009), abs=1e-3)
    assert bootstrap_limits(values, 2.0, "bca", 0.9, values) is None
