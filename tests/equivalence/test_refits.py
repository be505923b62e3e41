"""What refits a multilevel model must agree with the model itself, with dense matrices, and with plain refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, impute_V, sensitivity
from alliance_meta.core.mixed.covariance import Reordered, Unstructured
from alliance_meta.core.mixed.predictions import simulate
from alliance_meta.core.mixed.profile import profile
from alliance_meta.results.multilevel_quantities import by_name, slots
from alliance_meta.sensitivity.refitting import part, refitted
from tests.equivalence.test_multilevel import KINDS, dense_problem
from tests.tolerances import CLOSED_FORM, ITERATIVE, OPTIMISER
from tests.unit.test_multilevel import effects


def correlations(es):
    levels = sorted(set(es.study_id))
    return {"study_id": pd.DataFrame(0.5 * np.eye(len(levels)) + 0.5, levels, levels)}


CASES = {
    "levels": {"random": ("study_id", "es_id")},
    "crossed": {"random": ("study_id", "measure", "es_id")},
    "CS": {"random": "rater | study_id", "struct": "CS"},
    "UN": {"random": ("measure | study_id", "es_id"), "struct": "UN"},
    "HCS": {"random": ("measure | study_id", "es_id"), "struct": "HCS"},
    "DIAG": {"random": ("measure | study_id", "es_id"), "struct": "DIAG"},
    "ID": {"random": ("rater | study_id", "es_id"), "struct": "ID"},
    "slopes": {"random": ("1 + x | study_id", "es_id")},
    "R": {"random": ("study_id", "es_id"), "R": "study_id"},
    "held": {"random": ("study_id", "es_id"), "fixed": {"sigma2[study_id]": 0.01}},
}


def model(es, case, V):
    arguments = dict(CASES[case])
    if "R" in arguments:
        arguments["R"] = correlations(effects(40, 10))
    return MultilevelModel(es, V=V, mods="x", **arguments)


@pytest.mark.parametrize("with_V", [False, True], ids=["independent", "V"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_part_is_the_model_of_those_rows(case, with_V):
    es = effects(40, 10)
    V = impute_V(es, rho=0.6) if with_V else None
    fit = model(es, case, V).fit()
    whole = part(fit)
    assert whole.problem.at(by_name(fit).theta).loglik == pytest.approx(fit.loglik, abs=CLOSED_FORM)
    rows = np.flatnonzero(np.array(es.study_id) != "s3")
    warm = refitted(fit, part(fit, rows), rows)
    cold = model(es.take(rows), case, None if V is None else V.take(rows)).fit()
    assert warm.loglik == pytest.approx(cold.loglik, abs=1e-9)
    np.testing.assert_allclose([warm.beta, warm.se], [cold.beta, cold.se], rtol=OPTIMISER, atol=1e-9)
    np.testing.assert_array_equal(warm.ddf, cold.ddf)
    assert warm.k == cold.k == 36


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.NotIdentifiedWarning")
def test_a_level_that_is_left_out_takes_its_variance_along():
    es = effects(40, 10)
    frame = es.moderators.assign(measure=np.where(np.array(es.study_id) == "s3", "rare", es.moderators["measure"]))
    es = EffectSizes.from_arrays(es.yi, es.vi, mods=frame, study_id=es.study_id, measure="ZCOR")
    for struct in ("DIAG", "HCS", "UN"):
        arguments = {"random": ("measure | study_id", "es_id"), "struct": struct}
        fit = MultilevelModel(es, **arguments).fit()
        rows = np.flatnonzero(np.array(es.study_id) != "s3")
        warm = refitted(fit, part(fit, rows), rows)
        cold = MultilevelModel(es.take(rows), **arguments).fit()
        assert warm.loglik == pytest.approx(cold.loglik, abs=1e-7)
        assert sorted(warm.components.index) == sorted(cold.components.index)
        found = sensitivity.leave_one_out(fit).tidy().set_index("label")
        assert "no effect of this level is left" in repr(found.loc["s3", "tau2[measure | study_id: rare]"])


def test_copies_of_a_study_are_independent_studies():
    es = effects(24, 6)
    V = impute_V(es, rho=0.5)
    fit = MultilevelModel(es, V=V).fit()
    rows, copy = np.tile(np.arange(24), 2), np.repeat([0, 1], 24)
    twice = part(fit, rows, copy=copy)
    study = [f"{es.study_id[i]}.{c}" for i, c in zip(rows, copy, strict=True)]
    made = EffectSizes.from_arrays(es.yi[rows], es.vi[rows], study_id=study, measure="ZCOR")
    same = MultilevelModel(made, V=impute_V(made, rho=0.5)).fit()
    assert twice.problem.at(same.fitted.theta).loglik == pytest.approx(same.loglik, abs=CLOSED_FORM)


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_effects_have_the_covariance_of_the_model(kind):
    problems, covariance, theta, (_, X, *_) = dense_problem(np.random.default_rng([1, 7]), kind)
    point, B = problems[0].at(theta), 20_000
    made = problems[0].plan.restore(simulate(point, np.random.default_rng(0), B))
    M = covariance(theta)
    error = np.sqrt((np.outer(np.diag(M), np.diag(M)) + M**2) / B)
    # 900 elements, seeded: the largest of so many normal deviates.
    assert np.abs((np.cov(made) - M) / error).max() < 5
    assert np.abs((made.mean(axis=1) - X @ point.beta) / np.sqrt(np.diag(M) / B)).max() < 4.5


@pytest.mark.parametrize("front", [(0,), (2,), (1, 3), (3, 0)])
def test_a_turned_covariance(front):
    rng = np.random.default_rng(2)
    root = rng.normal(size=(4, 4))
    G, structure = root @ root.T, Reordered(4, front)
    theta = structure.theta(G)
    np.testing.assert_allclose(structure.matrices(theta)[0], G, rtol=1e-8, atol=1e-8)
    assert theta[0] ** 2 == pytest.approx(G[front[0], front[0]], rel=1e-8)
    if len(front) == 2:
        i, j = front
        assert theta[2] == pytest.approx(G[i, j] / np.sqrt(G[i, i] * G[j, j]), rel=1e-8)
    for at, moved in enumerate(structure.derivatives(theta)):
        if len(front) == 2 and at == 2:
            continue
        e = np.zeros(theta.size)
        e[at] = 1e-6
        slope = (structure.matrices(theta + e)[0] - structure.matrices(theta - e)[0]) / 2e-6
        np.testing.assert_allclose(moved[0], slope, atol=1e-7)
    assert structure.n == Unstructured(4).n == len(structure.bounds[0])


def test_variances_and_correlations_of_three_outcomes_are_parameters_of_their_own():
    rng = np.random.default_rng(3)
    study, outcome = np.repeat(np.arange(30), 6), np.tile(np.repeat([0, 1, 2], 2), 30)
    root = np.linalg.cholesky(np.array([[0.04, 0.02, 0.01], [0.02, 0.05, 0.015], [0.01, 0.015, 0.03]]))
    y = (rng.normal(size=(30, 3)) @ root.T)[study, outcome] + rng.normal(0, 0.14, 180)
    frame = pd.DataFrame({"outcome": np.array(["a", "b", "c"])[outcome]})
    es = EffectSizes.from_arrays(y, np.full(180, 0.01), mods=frame, study_id=study, measure="ZCOR")
    fit = MultilevelModel(es, random=("outcome | study_id", "es_id"), struct="UN").fit()
    found = {slot.name: slot for slot in slots(fit)}
    assert list(found) == list(fit.components.index)
    for name, slot in found.items():
        at = slot.fit.theta[slot.parameter]
        assert at**slot.power == pytest.approx(float(fit.components.loc[name, "estimate"]), rel=1e-6)
        [height] = profile(slot.fit, slot.parameter, [at])
        assert height == pytest.approx(fit.loglik, abs=1e-7)
    name = "rho[outcome | study_id: a, b]"
    slot = found[name]
    [low] = profile(slot.fit, slot.parameter, [0.0])
    # With that correlation 0 the covariance is what a factor with a 0 in its place makes.
    held = MultilevelModel(
        es,
        random=("outcome | study_id", "es_id"),
        struct="UN",
        fixed={"chol[outcome | study_id: b, a]": 0.0},
    ).fit()
    assert low == pytest.approx(held.loglik, abs=1e-7)


@pytest.mark.parametrize("case", ["levels", "crossed", "slopes"])
def test_deletion_in_closed_form_is_a_refit_with_variances_held(case):
    es = effects(40, 10)
    fit = model(es, case, impute_V(es, rho=0.6)).fit()
    found = sensitivity.influence(fit, by="study", reestimate=False)
    M = fit.working().block(np.arange(40)[None])[0]
    study, X, y = np.array(es.study_id), fit.design.X, es.yi
    for i, label in enumerate(found.labels):
        keep = study != label
        W = np.linalg.inv(M[np.ix_(keep, keep)])
        vb = np.linalg.inv(X[keep].T @ W @ X[keep])
        moved = fit.beta - vb @ X[keep].T @ W @ y[keep]
        np.testing.assert_allclose(found.dfbetas[i], moved / fit.se, rtol=1e-7, atol=1e-10)
        assert found.cook_d[i] == pytest.approx(moved @ np.linalg.solve(fit.vb, moved), rel=1e-7)
        assert found.cov_r[i] == pytest.approx(np.linalg.det(vb) / np.linalg.det(fit.vb), rel=1e-7)
    assert found.weight.sum() == pytest.approx(100)


def test_one_effect_per_study_is_the_univariate_bootstrap_model():
    """The sampling distribution of tau2 must not depend on which engine simulates and refits."""
    es = effects(16, 16)
    ours = MultilevelModel(es, random="study_id", test="z").fit()
    plain = RandomEffectsModel(es, test="z").fit()
    one = sensitivity.bootstrap(ours, iterations=400, seed=3).samples["sigma2[study_id]"]
    other = sensitivity.bootstrap(plain, iterations=400, seed=4).samples["tau2"]
    error = np.sqrt((one.var() + other.var()) / 400)
    assert abs(one.mean() - other.mean()) < 4 * error
    assert one.std() == pytest.approx(other.std(), rel=0.25)


def test_the_confidence_limits_are_those_of_the_profile():
    fit = MultilevelModel(effects(40, 10)).fit()
    bounds, check = fit.confint(), sensitivity.profile(fit, points=9).check()
    np.testing.assert_allclose(
        bounds[["estimate", "lb", "ub"]].astype(float), check[["estimate", "lb", "ub"]].astype(float), rtol=ITERATIVE
    )
