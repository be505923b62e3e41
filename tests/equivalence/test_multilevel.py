"""A multilevel model must collapse to what it contains, and agree with its dense definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, impute_V
from alliance_meta.core.dependent import codes
from alliance_meta.core.mixed.covariance import CompoundSymmetry, Correlated, Scaled, Term, Unstructured, blocks_of
from alliance_meta.core.mixed.likelihood import Component, mixed_problem
from alliance_meta.core.mixed.predictions import predicted_effects, true_effects
from alliance_meta.effects import SamplingCovariance
from tests.tolerances import CLOSED_FORM

ONE = np.ones((1, 1))


def dataset(seed=3, studies=12, k=40) -> EffectSizes:
    rng = np.random.default_rng(seed)
    study = rng.integers(0, studies, k)
    frame = pd.DataFrame(
        {
            "study": [f"s{i}" for i in study],
            "measure": rng.choice(["WAI", "HAq", "CALPAS"], k),
            "sample": [f"s{i}.{j}" for i, j in zip(study, rng.integers(0, 2, k), strict=True)],
            "year": rng.integers(1990, 2020, k),
            "x": rng.normal(size=k),
        }
    )
    v = rng.uniform(0.004, 0.04, k)
    y = 0.28 + rng.normal(0, 0.15, studies)[study] + rng.normal(0, 0.1, k) + rng.normal(size=k) * np.sqrt(v)
    return EffectSizes.from_arrays(y, v, mods=frame, measure="ZCOR", study_id=frame["study"])


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning")
def test_rows_alone_are_the_univariate_model():
    es = dataset()
    for mods in ("1", "x"):
        ours = MultilevelModel(es, mods=mods, random="es_id", test="t", dfs="residual").fit()
        plain = RandomEffectsModel(es, mods=mods, test="t").fit()
        for name in ("beta", "se", "pval", "ci_lb", "ci_ub", "ddf"):
            np.testing.assert_allclose(getattr(ours, name), getattr(plain, name), rtol=1e-8, err_msg=name)
        assert ours.sigma2[0] == pytest.approx(plain.tau2, rel=1e-8)
        # At a maximum the likelihood moves by the square of an error in tau2.
        assert ours.loglik == pytest.approx(plain.loglik, abs=CLOSED_FORM)
        assert pytest.approx(plain.QE, rel=CLOSED_FORM) == ours.QE
        assert pytest.approx(plain.I2, rel=1e-8) == ours.I2
        np.testing.assert_allclose(ours.weights, plain.weights, rtol=1e-8)
        np.testing.assert_allclose(ours.augment()["true"], plain.blup()["pred"], rtol=1e-7)
        np.testing.assert_allclose(ours.augment()["se_true"], plain.blup()["se"], rtol=1e-7)


def test_one_effect_per_study_is_the_univariate_model():
    es = dataset()
    first = np.unique(es.study_id, return_index=True)[1]
    mask = np.zeros(es.k, dtype=bool)
    mask[first] = True
    alone = es.take(mask, step="first effects")
    ours = MultilevelModel(alone, random="study_id", test="z").fit()
    plain = RandomEffectsModel(alone, test="z").fit()
    np.testing.assert_allclose([ours.beta, ours.se], [plain.beta, plain.se], rtol=1e-8)
    V = impute_V(alone, cluster="study_id", rho=0.8)
    same = MultilevelModel(alone, V=V, random="study_id", test="z").fit()
    np.testing.assert_allclose([same.beta, same.se], [ours.beta, ours.se], rtol=1e-10)


def test_a_correlation_of_outcomes_is_three_levels_rewritten():
    es = dataset()
    levels = MultilevelModel(es, random=("study", "es_id"), test="z").fit()
    rows = EffectSizes.from_arrays(
        es.yi, es.vi, mods=es.moderators.assign(row=[str(i) for i in range(es.k)]), measure="ZCOR"
    )
    outcomes = MultilevelModel(rows, random="row | study", struct="CS", test="z").fit()
    tau2, rho = outcomes.components["estimate"].astype(float)
    np.testing.assert_allclose(levels.sigma2, [rho * tau2, (1 - rho) * tau2], rtol=1e-6)
    assert outcomes.loglik == pytest.approx(levels.loglik, abs=CLOSED_FORM)


def dense_problem(rng, kind):
    """Return a problem with its dense covariance as a function of the parameters."""
    k, p = 30, 2
    study, measure = codes(rng.integers(0, 7, k)), codes(rng.integers(0, 4, k))
    sample = codes(study * 2 + rng.integers(0, 2, k))
    v = rng.uniform(0.01, 0.05, k)
    y, X = rng.normal(size=k), np.column_stack([np.ones(k), rng.normal(size=k)])
    V, blocks = np.diag(v), None
    if kind in ("correlated", "slopes", "finer"):
        s = np.sqrt(v)
        V = np.where(study[:, None] == study, 0.6 * np.outer(s, s), 0.0)
        np.fill_diagonal(V, v)
        blocks = blocks_of(V, study)

    def same(g):
        return (g[:, None] == g).astype(float)

    Z = np.column_stack([np.ones(k), rng.normal(size=k)])
    wide = np.eye(4)[measure]
    rows = Term(np.arange(k))
    if kind in ("nested", "correlated"):
        terms, components = [Term(study), Term(sample), rows], [Component(Scaled(ONE), (j,)) for j in range(3)]
        covariance = lambda t: V + t[0] * same(study) + t[1] * same(sample) + t[2] * np.eye(k)  # noqa: E731
        theta = rng.uniform(0.01, 0.2, 3)
    elif kind == "finer":
        terms, components = [Term(sample)], [Component(Scaled(ONE), (0,))]
        covariance, theta = lambda t: V + t[0] * same(sample), rng.uniform(0.01, 0.2, 1)
    elif kind == "crossed":
        terms, components = [Term(measure), Term(study), rows], [Component(Scaled(ONE), (j,)) for j in range(3)]
        covariance = lambda t: V + t[0] * same(measure) + t[1] * same(study) + t[2] * np.eye(k)  # noqa: E731
        theta = rng.uniform(0.01, 0.2, 3)
    elif kind == "outcomes":
        both = codes(study * 4 + measure)
        terms, components = [Term(study), Term(both)], [Component(CompoundSymmetry(4), (0, 1))]
        covariance = lambda t: V + t[0] * (t[1] * same(study) + (1 - t[1]) * same(both))  # noqa: E731
        theta = np.array([0.1, -0.2])
    elif kind == "linked":
        R = np.exp(-np.abs(np.subtract.outer(np.arange(7), np.arange(7))) / 3)
        terms, components = [Term(study, linked=True), rows], [Component(Scaled(R), (0,)), Component(Scaled(ONE), (1,))]
        covariance = lambda t: V + t[0] * R[study[:, None], study] + t[1] * np.eye(k)  # noqa: E731
        theta = rng.uniform(0.01, 0.2, 2)
    else:
        structure = {
            "slopes": Unstructured(2),
            "unstructured": Unstructured(4),
            "heterogeneous": Correlated(4, np.ones((4, 4))),
            "autoregressive": Correlated(4, np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0))), common=True),
            "diagonal": Correlated(4),
        }[kind]
        U = Z if kind == "slopes" else wide
        terms, components = [Term(study, U), rows], [Component(structure, (0,)), Component(Scaled(ONE), (1,))]

        def covariance(t):
            return V + same(study) * (U @ structure.matrices(t[:-1])[0] @ U.T) + t[-1] * np.eye(k)

        theta = np.append(structure.start(0.1) * rng.uniform(0.7, 1.3, structure.n), 0.05)
    problems = [
        mixed_problem(y, X, v, terms=terms, components=components, blocks=blocks, restricted=r) for r in (True, False)
    ]
    return problems, covariance, theta, (y, X, v, V, p)


def dense_loglik(M, y, X, *, restricted):
    k, p = X.shape
    inverse = np.linalg.inv(M)
    Q = X.T @ inverse @ X
    resid = y - X @ np.linalg.solve(Q, X.T @ inverse @ y)
    value = np.linalg.slogdet(M)[1] + resid @ inverse @ resid
    if restricted:
        value += np.linalg.slogdet(Q)[1] - np.linalg.slogdet(X.T @ X)[1] - p * np.log(2 * np.pi)
    return -0.5 * (value + k * np.log(2 * np.pi))


KINDS = (
    "nested",
    "correlated",
    "finer",
    "crossed",
    "outcomes",
    "linked",
    "slopes",
    "unstructured",
    "heterogeneous",
    "autoregressive",
    "diagonal",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_blocks_agree_with_the_dense_matrix(kind, seed):
    problems, covariance, theta, (y, X, v, V, _) = dense_problem(np.random.default_rng([seed, 7]), kind)
    M = covariance(theta)
    inverse = np.linalg.inv(M)
    for problem, restricted in zip(problems, (True, False), strict=True):
        point = problem.at(theta)
        assert point.loglik == pytest.approx(dense_loglik(M, y, X, restricted=restricted), abs=CLOSED_FORM)
        step = 1e-6
        slope = [
            (
                dense_loglik(covariance(theta + e), y, X, restricted=restricted)
                - dense_loglik(covariance(theta - e), y, X, restricted=restricted)
            )
            / (2 * step)
            for e in step * np.eye(theta.size)
        ]
        np.testing.assert_allclose(point.gradient, slope, rtol=1e-5, atol=1e-6)
    point = problems[0].at(theta)
    plan = problems[0].plan
    np.testing.assert_allclose(plan.restore(point.factored.solve(plan.rotate(X))), inverse @ X, rtol=1e-8, atol=1e-9)
    vb = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ vb @ X.T @ inverse
    true, error = true_effects(point, y, v)
    np.testing.assert_allclose(true, y - V @ P @ y, atol=1e-10)
    np.testing.assert_allclose(error, np.diag(V - V @ P @ V), atol=1e-10)
    half = [
        [
            0.5
            * y
            @ P
            @ (covariance(theta + a) - covariance(theta - a))
            @ P
            @ (covariance(theta + b) - covariance(theta - b))
            @ P
            @ y
            / (4 * step**2)
            for b in step * np.eye(theta.size)
        ]
        for a in step * np.eye(theta.size)
    ]
    np.testing.assert_allclose(point.average_information, half, rtol=1e-5, atol=1e-4)


def test_predicted_effects_are_those_of_the_definition():
    problems, covariance, theta, (y, X, *_) = dense_problem(np.random.default_rng(5), "crossed")
    point = problems[0].at(theta)
    inverse = np.linalg.inv(covariance(theta))
    vb = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ vb @ X.T @ inverse
    rng = np.random.default_rng(5)
    study, measure = codes(rng.integers(0, 7, 30)), codes(rng.integers(0, 4, 30))
    for at, group in ((0, measure), (1, study), (2, np.arange(30))):
        Z = np.eye(group.max() + 1)[group]
        found = predicted_effects(point, at)
        np.testing.assert_allclose(found.value[:, 0], theta[at] * Z.T @ P @ y, atol=1e-10)
        expected = theta[at] - theta[at] ** 2 * np.diag(Z.T @ P @ Z)
        np.testing.assert_allclose(found.error[:, 0, 0], expected, atol=1e-10)


def test_the_order_of_rows_does_not_matter():
    es = dataset()
    V = impute_V(es, cluster="study_id", rho=0.6)
    order = np.random.default_rng(0).permutation(es.k)
    turned = EffectSizes.from_arrays(
        es.yi[order],
        es.vi[order],
        mods=es.moderators.iloc[order].reset_index(drop=True),
        measure="ZCOR",
        study_id=[es.study_id[i] for i in order],
    )
    first = MultilevelModel(es, V=V, mods="x", random=("study", "measure", "es_id")).fit()
    again = MultilevelModel(
        turned, V=impute_V(turned, cluster="study_id", rho=0.6), mods="x", random=("study", "measure", "es_id")
    ).fit()
    np.testing.assert_allclose(again.beta, first.beta, rtol=1e-8)
    np.testing.assert_allclose(again.sigma2, first.sigma2, rtol=1e-6, atol=1e-9)
    assert again.loglik == pytest.approx(first.loglik, abs=CLOSED_FORM)
    np.testing.assert_allclose(again.weights, first.weights[order], rtol=1e-7)


def test_the_working_covariance_is_the_model_s():
    es = dataset()
    V = impute_V(es, cluster="study_id", rho=0.6)
    fit = MultilevelModel(es, V=V, random=("study", "1 + x | measure", "sample"), test="z").fit()
    working = fit.working()
    M = working.block(np.arange(es.k)[None])[0]
    np.testing.assert_allclose(M @ working.solve(np.eye(es.k)), np.eye(es.k), atol=1e-8)
    np.testing.assert_allclose(fit.vb, np.linalg.inv(fit.design.X.T @ np.linalg.solve(M, fit.design.X)), rtol=1e-9)


def test_effects_that_hang_together_perfectly_count_once():
    """With rho = 1 and equal variances the second of two equal effects adds nothing."""
    y, v = np.repeat([0.1, 0.4, 0.3], 2), np.repeat([0.01, 0.02, 0.015], 2)
    es = EffectSizes.from_arrays(y, v, study_id=list("aabbcc"))
    near = SamplingCovariance.from_blocks([vi * np.array([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]]) for vi in v[::2]])
    pairs = MultilevelModel(es, V=near, random="study_id", test="z").fit()
    alone = RandomEffectsModel(EffectSizes.from_arrays(y[::2], v[::2]), test="z").fit()
    np.testing.assert_allclose([pairs.beta[0], pairs.se[0]], [alone.beta[0], alone.se[0]], rtol=1e-6)


def test_years_cost_no_digits():
    es = dataset()
    far = MultilevelModel(es, mods="year + x").fit()
    near = MultilevelModel(es, mods="center(year) + x").fit()
    assert far.fitted.steps <= near.fitted.steps + 1
    assert far.loglik == pytest.approx(near.loglik, rel=CLOSED_FORM)
    np.testing.assert_allclose(far.fitted.maxima, far.loglik, rtol=0, atol=1e-12)
    np.testing.assert_allclose(far.sigma2, near.sigma2, rtol=1e-8)
    np.testing.assert_allclose(far.beta[1:], near.beta[1:], rtol=1e-8)
    np.testing.assert_allclose(far.se[1:], near.se[1:], rtol=1e-8)
