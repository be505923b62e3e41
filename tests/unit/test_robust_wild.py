"""The cluster wild bootstrap: options, edges, what is printed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alliance_meta import (
    EffectSizes,
    InputError,
    MultilevelModel,
    NotApplicable,
    RandomEffectsModel,
    RVEModel,
    sensitivity,
)
from alliance_meta.core.resampling import sign_patterns, stream
from alliance_meta.core.robust.sandwich import draw
from alliance_meta.tables.document import WIDTH
from tests.tolerances import CLOSED_FORM
from tests.unit.test_robust import K, effects, lonely

# The subject: what robust inference makes of a model that takes effects as independent.
pytestmark = [
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning"),
]


@pytest.fixture
def es(rng):
    return effects(rng)


@pytest.fixture
def fit(es):
    return RandomEffectsModel(es, mods="rater + year").fit()


def by_hand(fit, L, type, weights=None):
    """Every sign vector, each with a regression and a robust covariance of its own."""
    parts = fit.robust(cluster="study_id", type=type)
    X, y = fit.design.X, fit.effects.yi
    w = 1.0 / (fit.effects.vi + fit.tau2) if weights is None else weights
    bread = np.linalg.inv(X.T @ (w[:, None] * X))
    beta = bread @ X.T @ (w * y)
    null = beta - bread @ L.T @ np.linalg.solve(L @ bread @ L.T, L @ beta)
    resid = y - X @ null
    clusters = parts._clusters
    # Multipliers follow the clusters in the order of their stacks.
    order = np.concatenate([clusters.cluster[rows[:, 0]] for rows, _ in clusters.model.blocks])
    found = []
    for signs in sign_patterns(0, 2 ** (clusters.n - 1), clusters.n):
        by_code = np.empty(clusters.n)
        by_code[order] = signs
        again = EffectSizes.from_arrays(
            X @ null + resid * by_code[clusters.cluster], fit.effects.vi, mods=fit.effects.moderators,
            study_id=fit.effects.study_id,
        )  # fmt: skip
        refit = RandomEffectsModel(again, mods=fit.design.formula, tau2=fit.tau2, weights=weights, test="z").fit()
        robust = refit.robust(type=type)
        estimate = L @ robust.beta
        found.append(estimate @ np.linalg.solve(L @ robust.vb @ L.T, estimate) / len(L))
    return np.array(found)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("type", ["CR0", "CR2"])
def test_every_replicate_is_a_refit_with_the_working_model_held_fixed(rng, type, given):
    es = effects(rng)
    few = es.take([i for i, name in enumerate(es.study_id) if name in {f"Study {j}" for j in range(7)}])
    weights = rng.uniform(5, 90, few.k) if given else None
    fit = RandomEffectsModel(few, mods="rater + year", test="z", weights=weights).fit()
    test = sensitivity.wild_bootstrap(fit, "rater", type=type)
    L = np.eye(4)[[1, 2]]
    expected = by_hand(fit, L, type, weights)
    assert (test.exact, test.iterations, len(test.stats)) == (True, 128, 64)
    assert test.stats == pytest.approx(expected, rel=1e-8)
    assert test.stat == pytest.approx(expected[0], rel=1e-8)
    assert test.pval == pytest.approx((expected >= expected[0] * (1 - 1e-9)).mean())


def test_defaults_test_all_moderators_and_know_robust_results(fit):
    plain = sensitivity.wild_bootstrap(fit, seed=1, iterations=199)
    assert (plain.df1, plain.null) == (3, fit.omnibus.null)
    robust = fit.robust(cluster="slab", type="CR1")
    other = sensitivity.wild_bootstrap(robust, seed=1, iterations=199)
    assert (other.cluster, other.type, other.n_clusters) == ("slab", "CR1", K)
    again = sensitivity.wild_bootstrap(robust, cluster="study_id", type="CR2", seed=1, iterations=199)
    assert (again.pval, again.stat) == (plain.pval, pytest.approx(plain.stat))
    assert plain.pval_htz == pytest.approx(fit.robust().QMp, rel=CLOSED_FORM)


@pytest.mark.parametrize("weights", ["rademacher", "webb", "mammen"])
def test_the_same_seed_gives_the_same_result_on_any_number_of_cores(fit, weights):
    one, two, three = (
        sensitivity.wild_bootstrap(fit, iterations=6000, seed=seed, cores=cores, weights=weights)
        for seed, cores in ((1, 1), (1, 2), (2, 1))
    )
    assert (one.stats == two.stats).all()
    assert one.pval == two.pval
    assert (one.stats != three.stats).any()
    assert abs(one.pval - three.pval) < 5 * np.hypot(one.mc_se, three.mc_se) + 1e-3
    at_least = (one.stats >= one.stat * (1 - 1e-9)).sum()
    assert one.pval == pytest.approx((1 + at_least) / 6001)


@pytest.mark.parametrize(("weights", "third"), [("rademacher", 0.0), ("webb", 0.0), ("mammen", 1.0)])
def test_multipliers_have_mean_0_and_variance_1(weights, third):
    values = draw(stream(1, 0), 4000, 50, weights)
    error = 5 / np.sqrt(values.size)
    assert values.mean() == pytest.approx(0, abs=error)
    assert (values**2).mean() == pytest.approx(1, abs=2 * error)
    assert (values**3).mean() == pytest.approx(third, abs=5 * error)
    assert len(np.unique(values)) == {"rademacher": 2, "webb": 6, "mammen": 2}[weights]


def test_adjusted_residuals_are_larger(fit):
    plain, adjusted = (
        sensitivity.wild_bootstrap(fit, "rater", seed=1, iterations=499, adjust=adjust) for adjust in ("CR0", "CR2")
    )
    assert (plain.stats != adjusted.stats).any()
    assert "residuals: CR2" in adjusted.summary()
    assert "residuals: as they are" in plain.summary()


def test_few_clusters_have_few_sign_vectors(es):
    five = es.take([i for i, name in enumerate(es.study_id) if name in {f"Study {j}" for j in range(5)}])
    test = sensitivity.wild_bootstrap(RandomEffectsModel(five).fit())
    assert (test.exact, test.possible, test.mc_se, test.seed) == (True, 32, 0.0, None)
    assert test.pval >= 2 / 32
    assert [note.code for note in test.notes if note.code.startswith("few-s")] == ["few-sign-vectors"]
    with pytest.raises(InputError, match="need a seed"):
        sensitivity.wild_bootstrap(RandomEffectsModel(five).fit(), weights="webb")


def test_other_models_are_known(es):
    for fit in (MultilevelModel(es, mods="rater").fit(), RVEModel(es, mods="rater").fit()):
        test = sensitivity.wild_bootstrap(fit, "rater", seed=1, iterations=199)
        assert (test.df1, test.cluster) == (2, "study_id")
        assert 0 < test.pval <= 1
    robust = fit.test("rater")
    eta = robust.df2 + 2 - 1
    assert test.stat == pytest.approx(robust.stat * eta / robust.df2, rel=1e-8)
    assert test.pval_htz == pytest.approx(robust.pval, rel=1e-8)


def test_a_test_without_variance_has_no_p_value(rng):
    fit = RandomEffectsModel(lonely(rng), mods="0 + C(therapy)", test="z").fit()
    test = sensitivity.wild_bootstrap(fit, seed=1, iterations=19)
    assert isinstance(test.stat, NotApplicable)
    assert isinstance(test.pval, NotApplicable)
    assert "n/a" in test.summary()
    json.dumps(test.to_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "need a seed"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1, "weights": "normal"}, "is not one of 'rademacher'"),
        ({"seed": 1, "adjust": "HC2"}, "is not one of 'CR2'"),
        ({"seed": 1, "iterations": 1}, "at least 2"),
        ({"seed": 1, "cores": 0}, "at least 1"),
        ({"exact": True, "weights": "webb"}, "an exact test needs Rademacher weights"),
        ({"exact": True, "cluster": "slab"}, "sign vectors, more than 5,000,000"),
        ({"seed": 1, "exact": "yes"}, "is not one of 'auto', True, False"),
        ({"seed": 1, "cluster": "rater", "adjust": "CR1p"}, "more clusters than coefficients"),
    ],
)
def test_what_cannot_be_done_is_refused(fit, arguments, message):
    with pytest.raises(InputError, match=message):
        sensitivity.wild_bootstrap(fit, "rater", **arguments)


def test_a_model_that_was_not_fitted_is_refused(es):
    with pytest.raises(InputError, match="not RandomEffectsModel; call"):
        sensitivity.wild_bootstrap(RandomEffectsModel(es))


def test_what_is_printed(fit):
    test = sensitivity.wild_bootstrap(fit, seed=1, iterations=199)
    text = test.summary()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert str(test) == repr(test) == text
    assert "Cluster wild bootstrap (199 replicates, seed 1)" in text
    assert list(test.tidy().columns) == ["stat", "df1", "pval", "mc_se", "pval_htz"]
    assert json.loads(json.dumps(test.to_dict()))["n_clusters"] == 14
