"""`bias.selmodel` of dependent effects: what it rests on by default, its bootstrap, its notes, and when it refuses."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.core.selection.dependent import Solved, equations, penalised, solve
from alliance_meta.core.selection.weights import selection_problem
from tests.tolerances import CLOSED_FORM, ITERATIVE

RNG = np.random.default_rng(3)
STUDY = np.repeat(np.arange(45), RNG.integers(1, 5, 45))
K = len(STUDY)
V = RNG.uniform(0.005, 0.03, K)
Y = 0.15 + RNG.normal(0, 0.15, 45)[STUDY] + RNG.normal(0, np.sqrt(V + 0.01))
BOOT: dict[str, Any] = {"vcov": "bootstrap", "seed": 1, "iterations": 300}


def effects(y: Any = Y, v: Any = V, study: Any = STUDY) -> am.EffectSizes:
    return am.EffectSizes.from_arrays(y, v, measure="ZCOR", study_id=[f"S{one}" for one in study])


def fitted(*arrays: Any) -> am.models.RandomEffectsResults:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        return am.RandomEffectsModel(effects(*arrays)).fit()


def codes(found: Any) -> set[str]:
    return {one.code for one in found.notes}


@pytest.fixture(scope="module")
def clustered() -> bias.SelectionResult:
    return bias.selmodel(fitted())


@pytest.fixture(scope="module")
def resampled() -> bias.SelectionResult:
    return bias.selmodel(fitted(), **BOOT)


def test_by_default_dependence_is_allowed_for_and_nothing_warns(clustered):
    assert (clustered.how.estimator, clustered.how.vcov, clustered.studies, clustered.k) == ("CML", "CR0", 45, K)
    assert "clustered" in codes(clustered)
    assert not codes(clustered) & {"dependent-effects", "few-clusters", "penalised"}
    with pytest.warns(am.errors.DependenceWarning, match="taken as independent"):
        plain = bias.selmodel(fitted(), vcov="model")
    assert plain.how.plain
    assert "dependent-effects" in codes(plain)
    assert "clustered" not in codes(plain)
    # The estimate is that of independent effects; how sure it is, is not.
    assert clustered.fitted.theta == pytest.approx(plain.fitted.theta, rel=CLOSED_FORM)
    assert clustered.loglik == plain.loglik
    assert abs(clustered.se / plain.se - 1.0) > 0.02


def test_the_sandwich_is_made_of_differences_of_the_log_likelihood(clustered):
    theta, h = clustered.fitted.theta, 1e-4
    problem = clustered.fitted.problem
    steps = h * np.eye(len(theta))

    def by_study(at: np.ndarray) -> np.ndarray:
        return np.bincount(STUDY, problem.at(at[None]).loglik_i[0])

    scores = np.array([(by_study(theta + e) - by_study(theta - e)) / (2 * h) for e in steps]).T

    def total(at: np.ndarray) -> float:
        return float(by_study(at).sum())

    curvature = [
        [(total(theta + a + b) - total(theta + a - b) - total(theta - a + b) + total(theta - a - b)) for b in steps]
        for a in steps
    ]
    bread = np.linalg.inv(np.array(curvature) / (4 * h * h))
    assert clustered.covariance == pytest.approx(bread @ scores.T @ scores @ bread, rel=1e-4)
    J = 45
    once = bias.selmodel(fitted(), vcov="CR1")
    assert once.covariance == pytest.approx(clustered.covariance * J / (J - 1), rel=CLOSED_FORM)


def test_with_one_effect_per_study_the_curvature_is_the_default_and_the_sandwich_hubers():
    alone = fitted(Y, V, range(K))
    assert bias.selmodel(alone).how.plain
    huber = bias.selmodel(alone, vcov="CR0")
    at = huber.fitted.problem.at(huber.fitted.theta[None])
    bread, scores = np.linalg.inv(at.hessian()[0]), at.scores[0]
    assert huber.covariance == pytest.approx(bread @ scores.T @ scores @ bread, rel=ITERATIVE)
    with pytest.raises(am.InputError, match="no likelihood"):
        bias.selmodel(alone, estimator="ARGL", vcov="model")
    assert bias.selmodel(alone, estimator="ARGL").how.vcov == "CR0"


def test_every_class_of_fit_gives_the_same(clustered):
    es = effects()
    fits = (
        am.MultilevelModel(es, random="study_id/es_id").fit(),
        am.MultilevelModel(es, random="study_id/es_id").fit().robust(),
        am.RVEModel(es).fit(),
    )
    for one in fits:
        assert bias.selmodel(one).tidy().equals(clustered.tidy())


def test_clusters_may_be_others_than_studies():
    alone, labels = fitted(Y, V, range(K)), [f"team {one}" for one in STUDY]
    assert bias.selmodel(alone, cluster=labels).se == pytest.approx(bias.selmodel(fitted()).se, rel=CLOSED_FORM)


@pytest.mark.parametrize("estimator", ["CML", "ARGL"])
@pytest.mark.parametrize("weak", [False, True])
def test_equations_are_solved_where_it_says(weak, estimator):
    found = bias.selmodel(fitted(), estimator=estimator, penalised=weak, steps=(0.025, 0.5))
    problem = selection_problem(Y, V, np.ones((K, 1)), steps=np.array([0.025, 0.5]))
    at = equations(penalised(problem) if weak else problem, found.fitted.theta[None], np.ones((1, K)), estimator)
    assert at.left[0] == pytest.approx(0.0, abs=1e-6)
    assert ("penalised" in codes(found)) == weak


def test_walds_test_of_no_selection_takes_all_weights_together():
    found = bias.selmodel(fitted(), steps=(0.025, 0.5))
    zeta, V = found.fitted.theta[2:], found.covariance[2:, 2:]
    stat = zeta @ np.linalg.inv(V) @ zeta
    assert found.wald == pytest.approx((stat, 2, stats.chi2.sf(stat, 2)), rel=ITERATIVE)
    assert f"Wald's chi2(2) = {stat:.4f}" in str(found)
    assert isinstance(found.lrt.stat, am.NotApplicable)
    assert isinstance(bias.selmodel(fitted(), delta=(1, 0.5)).wald.stat, am.NotApplicable)
    assert isinstance(bias.selmodel(fitted(), "halfnorm").wald.stat, am.NotApplicable)


def test_smooth_weights_change_between_the_steps_only():
    found = bias.selmodel(fitted(), "beta", steps=(0.025, 0.975))
    weight = found.weights.set_index("p")["weight"]
    assert weight[0.001] == weight[0.02] == 1.0
    assert weight[0.98] == weight[0.99] != weight[0.9]
    a, b = found.delta
    p = np.array([0.025, 0.4])
    one, two = p ** (a - 1) * (1 - p) ** (b - 1)
    assert weight[0.4] == pytest.approx(two / one, rel=ITERATIVE)
    assert found.intervals.empty
    with pytest.raises(am.InputError, match="two p-values"):
        bias.selmodel(fitted(), "beta", steps=(0.025,))


def test_the_bootstrap_gives_what_its_replicates_say(resampled):
    made = resampled.replicates
    assert made is not None
    draws = made.theta[:, 0]
    assert len(draws) == 300
    assert resampled.se == pytest.approx(draws.std(ddof=1), rel=CLOSED_FORM)
    low, high = np.quantile(draws, [0.025, 0.975], method="weibull")
    assert (resampled.ci_lb, resampled.ci_ub) == pytest.approx((low, high), rel=CLOSED_FORM)
    assert isinstance(resampled.pval, am.NotApplicable)
    basic = resampled.confint(kind="basic")
    twice = 2 * resampled.estimate
    assert basic.loc["intrcpt", ["ci_lb", "ci_ub"]].tolist() == pytest.approx([twice - high, twice - low])
    t = np.quantile((draws - resampled.estimate) / made.se[:, 0], [0.975, 0.025], method="weibull")
    error = np.sqrt(resampled.covariance[0, 0])
    student = resampled.confint(kind="student").loc["intrcpt", ["ci_lb", "ci_ub"]].tolist()
    assert student == pytest.approx((resampled.estimate - t * error).tolist())
    # Weights of a bootstrap are shown with quantiles of their replicates.
    quantile = np.quantile(np.exp(made.theta[:, 2]), [0.025, 0.975], method="weibull")
    assert resampled.weights.iloc[-1, 2:].tolist() == pytest.approx(quantile.tolist(), rel=CLOSED_FORM)
    # Between two replicates the quantile of logs lies elsewhere, by little.
    assert resampled.intervals.iloc[1]["ci_ub"] == pytest.approx(quantile[1], rel=1e-4)
    wider = resampled.confint(level=0.99)
    assert wider.loc["intrcpt", "ci_ub"] > resampled.ci_ub


@pytest.mark.slow
def test_bca_agrees_with_scipys():
    """Clusters of one, so that SciPy's bootstrap of rows is the same; seeds differ, hence the room."""
    y, v = Y[:30], V[:30]
    alone = fitted(y, v, range(30))
    found = bias.selmodel(alone, bootstrap="multinomial", interval="bca", **{**BOOT, "iterations": 2000})

    def mean(rows: np.ndarray) -> float:
        problem = selection_problem(y[rows], v[rows], np.ones((len(rows), 1)), steps=np.array([0.025]))
        return float(am.core.selection.search.fit_selection(problem).theta[0])

    other = stats.bootstrap(
        (np.arange(30),), mean, n_resamples=400, vectorized=False, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    near = 0.5 * found.se
    assert (found.ci_lb, found.ci_ub) == pytest.approx((other.low, other.high), abs=near)


def test_a_bootstrap_is_the_same_again_and_needs_a_seed(resampled):
    assert bias.selmodel(fitted(), **BOOT, cores=2).tidy().equals(resampled.tidy())
    assert not bias.selmodel(fitted(), **{**BOOT, "seed": 2}).tidy().equals(resampled.tidy())
    with pytest.raises(am.InputError, match="300 resampled data sets need a seed"):
        bias.selmodel(fitted(), vcov="bootstrap", iterations=300)


def test_the_bootstrap_and_the_sandwich_agree_on_many_clusters():
    """Two ways to the same standard error; with 400 clusters they differ by little but chance."""
    rng = np.random.default_rng(8)
    study = np.repeat(np.arange(400), 2)
    v = rng.uniform(0.005, 0.03, 800)
    y = 0.2 + rng.normal(0, 0.12, 400)[study] + rng.normal(0, np.sqrt(v + 0.01))
    fit = fitted(y, v, study)
    sandwich = bias.selmodel(fit)
    for how in ("multinomial", "exponential"):
        again = bias.selmodel(fit, bootstrap=how, **BOOT)
        assert again.se == pytest.approx(sandwich.se, rel=0.15)
    # Drawing within clusters adds their own spread.
    assert bias.selmodel(fit, bootstrap="two-stage", **BOOT).se > 1.05 * sandwich.se


def test_notes_say_what_was_done_and_only_that(resampled):
    few = fitted(Y[:40], V[:40], STUDY[:40])
    assert "few-clusters" in codes(bias.selmodel(few))
    assert "few-clusters" not in codes(bias.selmodel(few, **BOOT))
    text = next(one.message for one in resampled.notes if one.code == "clustered")
    assert "300 two-stage bootstrap samples of 45 clusters" in text
    assert not codes(resampled) & {"replicates-lost", "replicates-at-bound"}
    y = np.where(np.arange(K) == 0, 0.9, 0.05 * np.sign(Y))
    scarce = bias.selmodel(fitted(y, V, STUDY), **BOOT)
    at_end = int((np.abs(scarce.replicates.theta[:, 2:]) >= 16).any(axis=1).sum())
    assert at_end > 50
    text = next(one.message for one in scarce.notes if one.code == "replicates-at-bound")
    assert text.startswith(f"In {at_end} of 300 ")
    for kind in ("basic", "student"):
        low = scarce.confint(kind=kind).loc["delta[2]", "ci_lb"]
        assert isinstance(low, am.NotApplicable)
        assert "mirrored" in low.reason


def test_too_few_clusters_and_wrong_words_are_refused_with_a_mend():
    for studies, many in ((np.zeros(K, int), "1 cluster is"), (np.arange(K) % 3, "3 clusters are")):
        for options in ({}, BOOT):
            with pytest.raises(am.InputError, match=rf"{many} too few .* takes 4\. vcov='model'"):
                bias.selmodel(fitted(Y, V, studies), **options)
    with pytest.raises(am.InputError, match="ARGL is for step functions"):
        bias.selmodel(fitted(), "beta", estimator="ARGL")
    with pytest.raises(am.InputError, match="independent effects"):
        bias.selmodel(fitted()).confint(kind="PL")
    with pytest.raises(am.InputError, match="vcov='bootstrap'"):
        bias.selmodel(fitted()).confint(kind="bca")
    for wrong in ({"vcov": "CR2"}, {"estimator": "ML"}, {"interval": "t"}, {"bootstrap": "rows"}, {"iterations": 1}):
        with pytest.raises(am.InputError, match=next(iter(wrong))):
            bias.selmodel(fitted(), **{"seed": 1, **wrong})


@pytest.mark.parametrize("estimator", ["CML", "ARGL"])
def test_without_heterogeneity_tau2_is_zero_and_the_rest_has_answers(estimator):
    y = 0.2 + 0.3 * np.sqrt(V) * np.sign(np.sin(np.arange(K)))
    for options in ({}, BOOT):
        found = bias.selmodel(fitted(y, V, STUDY), estimator=estimator, **options)
        assert found.tau2 == 0.0
        assert isinstance(found.se_tau2, am.NotApplicable)
        assert found.ci_lb < found.estimate < found.ci_ub
        assert "tau2-zero" in codes(found)
        table = found.confint(kind="percentile") if options else found.confint()
        assert np.isfinite(table.loc[["intrcpt", "delta[2]"]].astype(float)).all(axis=None)
    assert table.loc["tau2", "ci_lb"] == 0.0
    basic = found.confint(kind="basic").loc["tau2", "ci_lb"]
    assert isinstance(basic, am.NotApplicable)
    assert "percentile" in basic.reason


def test_given_weights_have_clustered_errors_and_no_weights_to_resample():
    found = bias.selmodel(fitted(), delta=(1, 0.5), **BOOT)
    assert found.delta == (1.0, 0.5)
    assert found.ci_lb < found.estimate < found.ci_ub
    assert list(found.confint().loc["delta[2]"].map(type))[1:] == [am.NotApplicable] * 2
    grid = bias.vevea_woods(fitted())
    assert {one.how.vcov for one in grid.models.values()} == {"CR0"}
    assert "dependent-effects" not in codes(grid)


def test_argl_is_solved_from_equal_weights_where_cmls_solution_leads_nowhere():
    kept = (Y / np.sqrt(V) > 1.96) | (np.arange(K) % 6 == 0)
    y, v = np.append(Y[kept], 8.0), np.append(V[kept], 0.005)
    found = bias.selmodel(fitted(y, v, np.append(STUDY[kept], 99)), estimator="ARGL")
    at = equations(found.fitted.problem, found.fitted.theta[None], np.ones((1, len(y))), "ARGL")
    assert at.left[0] == pytest.approx(0.0, abs=1e-6)


def test_argl_without_a_solution_says_so(monkeypatch):
    def unsolved(*arguments: Any) -> Solved:
        return replace(solve(*arguments), found=np.array([False]))

    monkeypatch.setattr("alliance_meta.bias.selection_models.result.solve", unsolved)
    with pytest.raises(am.InputError, match=r"ARGL's equations have no solution .* estimator='CML'"):
        bias.selmodel(fitted(), estimator="ARGL")


def test_replicates_without_a_solution_are_counted(monkeypatch):
    def some(*arguments: Any) -> Solved:
        found = solve(*arguments)
        return replace(found, found=found.found & (np.arange(len(found.found)) % 10 > 0))

    monkeypatch.setattr("alliance_meta.core.selection.dependent.solve", some)
    found = bias.selmodel(fitted(), **BOOT)
    assert len(found.replicates.theta) == 270
    assert "30 of 300 resampled data sets have no solution" in str(found).replace("\n  ", " ")
