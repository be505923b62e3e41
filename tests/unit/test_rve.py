"""Robust variance estimation: what must hold whatever the data, and every degenerate case."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alliance_meta import EffectSizes, NotApplicable, RandomEffectsModel, RVEModel, escalc, load_dataset
from alliance_meta.core.robust.rve import correlated, fit_rve, hierarchical
from alliance_meta.errors import DesignError, DroppedRowsWarning, FewStudiesWarning, InputError, TruncationWarning
from tests.tolerances import CLOSED_FORM

# Eight clusters leave few degrees of freedom to most moderators; where that matters the warning is asked for.
pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning")

SIZES = (1, 4, 2, 3, 1, 5, 2, 2)
CLUSTER = np.repeat(np.arange(len(SIZES)), SIZES)
K = CLUSTER.size


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def table(rng: np.random.Generator) -> EffectSizes:
    return random_effects(rng)


def random_effects(rng: np.random.Generator) -> EffectSizes:
    v = rng.uniform(0.01, 0.06, K)
    y = 0.3 + rng.normal(0, 0.3, len(SIZES))[CLUSTER] + rng.normal(0, 0.5, K) + rng.normal(size=K) * np.sqrt(v)
    mods = {"x": rng.normal(size=K), "group": np.where(CLUSTER % 3 == 0, "a", "b")}
    return EffectSizes.from_arrays(y, v, mods=mods, measure="ZCOR", study_id=[f"Team {c}" for c in CLUSTER])


def mean_of_quadratic(function: Callable[[np.ndarray], Any], covariance: np.ndarray) -> Any:
    """Return E f(y) of f(y) = y'Ay + c, y with mean 0: exact, from the columns of a root of the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    constant = function(np.zeros(len(root)))
    return constant + sum(function(column) - constant for column in root.T)


def together() -> np.ndarray:
    return (CLUSTER[:, None] == CLUSTER[None, :]).astype(float)


# What the moment estimators are made for.


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_tau2_of_correlated_effects_is_unbiased(table, rng, rho):
    X = np.column_stack([np.ones(K), rng.normal(size=K)])
    mean_v = np.array([table.vi[c == CLUSTER].mean() for c in CLUSTER])
    together_v = together() * mean_v
    errors = rho * together_v + (1 - rho) * np.diag(mean_v)
    expected = mean_of_quadratic(
        lambda y: correlated(y, table.vi, X, CLUSTER, rho=rho).tau2_raw, errors + 0.07 * together()
    )
    assert expected == pytest.approx(0.07, rel=CLOSED_FORM)


def test_omega2_and_qe_of_hierarchical_effects_are_unbiased(table, rng):
    X = np.column_stack([np.ones(K), rng.normal(size=K)])
    covariance = np.diag(table.vi + 0.03) + 0.07 * together()
    omega2 = mean_of_quadratic(lambda y: hierarchical(y, table.vi, X, CLUSTER).omega2_raw, covariance)
    assert omega2 == pytest.approx(0.03, rel=CLOSED_FORM)
    QE = mean_of_quadratic(lambda y: hierarchical(y, table.vi, X, CLUSTER).QE, np.diag(table.vi))
    assert pytest.approx(K - 2, rel=CLOSED_FORM) == QE


def test_the_covariance_is_unbiased_under_the_working_model_of_given_weights(table, rng):
    X, w = np.column_stack([np.ones(K), rng.normal(size=K)]), rng.uniform(1, 5, K)
    mean_v = np.array([table.vi[c == CLUSTER].mean() for c in CLUSTER])

    def vb(y: np.ndarray) -> np.ndarray:
        options: dict[str, Any] = {"working": "CORR", "rho": 0.8, "small": True, "level": 0.95}
        return fit_rve(y, table.vi, X, CLUSTER, weights=w, **options).sandwich.vb

    bread = np.linalg.inv(X.T @ (w[:, None] * X)) @ (w[:, None] * X).T
    np.testing.assert_allclose(
        mean_of_quadratic(vb, np.diag(mean_v)), bread @ np.diag(mean_v) @ bread.T, rtol=CLOSED_FORM
    )


# What must not matter.


@pytest.mark.parametrize("working", ["CORR", "HIER"])
def test_row_order_does_not_matter(table, rng, working):
    fits = [RVEModel(t, mods="x + group", working=working).fit() for t in (table, table.take(rng.permutation(K)))]
    for name in ("beta", "vb", "ddf", "tau2", "QE", "QM", "QMp"):
        np.testing.assert_allclose(*(getattr(fit, name) for fit in fits), rtol=CLOSED_FORM, err_msg=name)


@pytest.mark.parametrize("working", ["CORR", "HIER"])
def test_the_scale_of_effects_does_not_matter(table, working):
    mods = table.moderators
    larger = EffectSizes.from_arrays(10 * table.yi, 100 * table.vi, mods=mods, study_id=table.study_id)
    first, second = (RVEModel(t, mods="x", working=working).fit() for t in (table, larger))
    np.testing.assert_allclose(second.beta, 10 * first.beta, rtol=CLOSED_FORM)
    np.testing.assert_allclose(second.stat, first.stat, rtol=CLOSED_FORM)
    np.testing.assert_allclose(second.ddf, first.ddf, rtol=CLOSED_FORM)
    assert second.tau2 == pytest.approx(100 * first.tau2, rel=CLOSED_FORM)


@pytest.mark.parametrize("working", ["CORR", "HIER"])
def test_one_effect_per_study_is_the_univariate_model_of_dersimonian_and_laird(working):
    es = escalc(load_dataset("molloy2014"))
    fit, usual = (
        RVEModel(es, mods="quality", working=working).fit(),
        RandomEffectsModel(es, "quality", method="DL").fit(),
    )
    assert fit.tau2 == pytest.approx(usual.tau2, rel=CLOSED_FORM)
    np.testing.assert_allclose(fit.beta, usual.beta, rtol=CLOSED_FORM)
    np.testing.assert_allclose(fit.weights, usual.weights, rtol=CLOSED_FORM)
    # CR2 with clusters of one is HC2: squared residuals over 1 - leverage.
    X, w, e = fit.design.X, 1 / (es.vi + fit.tau2), es.yi - fit.design.X @ fit.beta
    bread = np.linalg.inv(X.T @ (w[:, None] * X))
    leverage = w * np.einsum("kp,pq,kq->k", X, bread, X)
    hc2 = bread @ (X.T * (w**2 * e**2 / (1 - leverage))) @ X @ bread
    np.testing.assert_allclose(fit.vb, hc2, rtol=CLOSED_FORM)
    if working == "HIER":
        assert isinstance(fit.omega2, NotApplicable)
        assert "omega2-unidentified" in {note.code for note in fit.notes}


def test_copies_of_an_effect_count_as_one_when_their_errors_are_one():
    es = escalc(load_dataset("molloy2014"))
    copies = np.repeat(np.arange(es.k), np.arange(es.k) % 4 + 1)
    copies = np.concatenate([copies, np.zeros(200, dtype=int)])
    many = EffectSizes.from_arrays(es.yi[copies], es.vi[copies], study_id=[es.study_id[i] for i in copies])
    first, second = RVEModel(es).fit(), RVEModel(many, rho=1.0).fit()
    assert int(second.clusters.sizes.max()) == 201
    for name in ("beta", "se", "ddf", "tau2", "I2"):
        np.testing.assert_allclose(getattr(second, name), getattr(first, name), rtol=CLOSED_FORM, err_msg=name)


def test_tau2_is_linear_in_rho(table):
    tau2 = RVEModel(table).fit().sensitivity([0.0, 0.5, 1.0])["tau2"].to_numpy()
    assert tau2[0] > 0
    assert tau2[2] > tau2[0]
    assert tau2[1] == pytest.approx((tau2[0] + tau2[2]) / 2, rel=CLOSED_FORM)


def test_a_single_contrast_is_the_t_test(table):
    fit = RVEModel(table, mods="x + group").fit()
    test = fit.test("x")
    assert test.stat == pytest.approx(fit.stat[1] ** 2, rel=CLOSED_FORM)
    assert (test.df2, test.pval) == (pytest.approx(fit.ddf[1]), pytest.approx(fit.pval[1]))


# Predictions.


def test_predictions_of_the_mean_are_the_coefficient(table):
    fit = RVEModel(table, working="HIER").fit()
    row = fit.predict().loc["mean effect"]
    assert list(row[["pred", "se", "ddf", "ci_lb", "ci_ub"]]) == pytest.approx(
        [fit.beta[0], fit.se[0], fit.ddf[0], fit.ci_lb[0], fit.ci_ub[0]], rel=CLOSED_FORM
    )
    ratio = (row["pi_ub"] - row["pred"]) / (row["ci_ub"] - row["pred"])
    assert ratio == pytest.approx(np.sqrt(1 + (fit.tau2 + fit.omega2) / fit.se[0] ** 2), rel=CLOSED_FORM)
    on_r = fit.predict(scale="r").loc["mean effect"]
    assert on_r["ci_lb"] == pytest.approx(np.tanh(row["ci_lb"]), rel=CLOSED_FORM)


def test_each_prediction_has_its_own_degrees_of_freedom(table):
    fit = RVEModel(table, mods="group").fit()
    rows = fit.predict({"group": ["a", "b"]}, level=0.9)
    assert rows.loc["group = a", "ddf"] == pytest.approx(fit.ddf[0], rel=CLOSED_FORM)
    # With b as the reference, its mean is the intercept.
    mods = {"group": table.moderators["group"].replace("a", "z")}
    es = EffectSizes.from_arrays(table.yi, table.vi, study_id=table.study_id, mods=mods)
    other = RVEModel(es, mods="group").fit()
    assert rows.loc["group = b", "ddf"] == pytest.approx(other.ddf[0], rel=CLOSED_FORM)
    assert rows.loc["group = b", "se"] == pytest.approx(other.se[0], rel=CLOSED_FORM)
    assert rows.attrs["level"] == 0.9


def test_given_weights_leave_no_distribution_of_effects(table):
    fit = RVEModel(table, weights=np.ones(K)).fit()
    assert fit.beta[0] == pytest.approx(table.yi.mean(), rel=CLOSED_FORM)
    for name in ("tau2", "omega2", "I2", "QE", "rho"):
        assert isinstance(getattr(fit, name), NotApplicable)
    rows = fit.predict()
    assert rows[["pi_lb", "pi_ub"]].isna().all(axis=None)
    assert "tau2 not estimated" in rows.attrs["pi_note"]
    with pytest.raises(InputError, match="r_mean"):
        fit.predict(scale="r_mean")
    with pytest.raises(InputError, match="given weights do not use rho"):
        fit.sensitivity()


@pytest.mark.parametrize("options", [{}, {"working": "HIER"}, {"weights": np.linspace(1, 3, K)}])
def test_other_adjustments_start_from_the_same_weights(table, options):
    fit = RVEModel(table, mods="x", **options).fit()
    robust = fit.robust()
    for name in ("beta", "vb", "ddf", "pval", "ci_ub", "QM", "QMp"):
        np.testing.assert_allclose(getattr(robust, name), getattr(fit, name), rtol=CLOSED_FORM, err_msg=name)
    large = RVEModel(table, mods="x", small=False, **options).fit()
    np.testing.assert_allclose(fit.robust(type="CR1p").vb, large.vb, rtol=CLOSED_FORM)
    np.testing.assert_allclose(fit.robust(cluster="slab", type="CR1p").beta, fit.beta)
    frame, own = robust.predict({"x": [0.5]}), fit.predict({"x": [0.5]})
    if "weights" not in options:
        np.testing.assert_allclose(frame[own.columns].to_numpy(), own.to_numpy(), rtol=CLOSED_FORM)
    assert "Robust variance estimation" in robust.summary()


def test_a_level_of_one_cluster_is_said_whatever_the_reference(table):
    mods = {"level": np.where(CLUSTER == 1, "only", "others")}
    es = EffectSizes.from_arrays(table.yi, table.vi, mods=mods, study_id=table.study_id)
    with pytest.warns(FewStudiesWarning, match=r"Cluster Team 1 alone tells about intrcpt, level\[T.others\]"):
        RVEModel(es, mods="level", small=False).fit()


# Degenerate data.


def test_one_cluster_is_refused_with_the_reason(table):
    with pytest.raises(DesignError, match="puts every effect into one cluster, 'same'"):
        RVEModel(table, cluster=["same"] * K).fit()


def test_two_clusters_have_one_degree_of_freedom(table):
    es = EffectSizes.from_arrays([0.1, 0.3, 0.5, 0.9], [0.02] * 4, study_id=list("aabb"))
    with pytest.warns(FewStudiesWarning, match="Fewer than 4 degrees of freedom for intrcpt"):
        fit = RVEModel(es).fit()
    assert fit.ddf[0] == pytest.approx(1.0)
    # The mean of two clusters' means, and half their distance.
    assert (fit.beta[0], fit.se[0]) == (pytest.approx(0.45), pytest.approx(0.25))
    assert "few-df" in {note.code for note in fit.notes}


def test_no_heterogeneity_is_said(rng):
    y = np.full(K, 0.3) + rng.normal(0, 0.001, K)
    es = EffectSizes.from_arrays(y, np.full(K, 0.02), study_id=CLUSTER)
    with pytest.warns(TruncationWarning, match=r"tau2 \(CORR\) was set to 0"):
        fit = RVEModel(es).fit()
    assert fit.tau2 == fit.I2 == 0.0
    assert "tau2-truncated" in {note.code for note in fit.notes}
    with pytest.warns(TruncationWarning) as caught:
        fit = RVEModel(es, working="HIER").fit()
    assert {str(warning.message).split(" was")[0] for warning in caught} == {"tau2 (HIER)", "omega2"}
    assert fit.tau2 == fit.omega2 == 0.0


def test_a_coefficient_that_rests_on_one_cluster_has_no_robust_error(table):
    mods = {"level": np.where(CLUSTER == 1, "only", "others")}
    es = EffectSizes.from_arrays(table.yi, table.vi, mods=mods, study_id=CLUSTER)
    with pytest.warns(FewStudiesWarning, match=r"Cluster 1 alone tells about level\[only\]"):
        fit = RVEModel(es, mods="0 + level").fit()
    row = fit.tidy().iloc[0]
    assert np.isfinite(row["estimate"])
    assert isinstance(row["se"], NotApplicable)
    assert "rests on one cluster alone" in row["pval"].reason
    assert "one-cluster-term" in {note.code for note in fit.notes}
    assert isinstance(fit.test("level").stat, NotApplicable)
    assert np.isfinite(fit.se[1])
    assert "n/a" in fit.summary()


def test_moderators_that_explain_every_cluster_are_refused(table):
    es = EffectSizes.from_arrays(table.yi, table.vi, mods={"team": [f"t{c}" for c in CLUSTER]}, study_id=CLUSTER)
    for working in ("CORR", "HIER"):
        with pytest.raises(DesignError, match="no difference between clusters"):
            RVEModel(es, mods="team", working=working).fit()


def test_the_large_sample_form_needs_more_clusters_than_coefficients():
    es = EffectSizes.from_arrays([0.1, 0.3, 0.5, 0.9], [0.02] * 4, mods={"x": [1, 2, 1, 2]}, study_id=list("aabb"))
    with pytest.raises(DesignError, match="2 - 2"):
        RVEModel(es, mods="x", small=False).fit()


def test_effects_without_a_moderator_leave_with_their_weight_and_cluster(table):
    x = table.moderators["x"].to_numpy().copy()
    x[0] = np.nan
    es = EffectSizes.from_arrays(table.yi, table.vi, mods={"x": x}, study_id=table.study_id)
    w = np.linspace(1, 2, K)
    with pytest.warns(DroppedRowsWarning):
        fit = RVEModel(es, mods="x", weights=w).fit()
    assert (fit.k, fit.n_clusters, fit.clusters.labels[0]) == (K - 1, len(SIZES) - 1, "Team 1")
    assert fit.clusters.name == "study_id"
    np.testing.assert_allclose(fit.weights, 100 * w[1:] / w[1:].sum(), rtol=CLOSED_FORM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 1.2}, "between 0 and 1"),
        ({"working": "CORRR"}, "did you mean 'CORR'"),
        ({"level": 95}, "write 0.95"),
        ({"cluster": "studyid"}, "cluster"),
        ({"weights": [1.0]}, "1 values"),
        ({"weights": [0.0] * K}, "positive"),
    ],
)
def test_wrong_options_are_refused(table, options, message):
    with pytest.raises(InputError, match=message):
        RVEModel(table, **options).fit()


def test_arrays_are_no_effect_sizes():
    with pytest.raises(InputError, match="make them with escalc"):
        RVEModel([0.1, 0.2])


def test_rho_is_for_correlated_effects(table):
    fit = RVEModel(table).fit()
    with pytest.raises(InputError, match=r"rho=1\.5"):
        fit.sensitivity([0.5, 1.5])
    with pytest.raises(InputError, match="hierarchical effects have no rho"):
        RVEModel(table, working="HIER").fit().sensitivity()


# What a reader sees.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"working": "HIER", "mods": "x + group"},
        {"small": False},
        {"weights": np.ones(K), "cluster": CLUSTER},
        {"cluster": ["study_id", "group"]},
    ],
)
def test_every_form_says_the_same(table, options):
    fit = RVEModel(table, **options).fit()
    whole = fit.to_dict()
    json.dumps(whole, allow_nan=False)
    assert whole["coefficients"]["estimate"] == fit.beta.tolist()
    assert max(map(len, fit.summary().splitlines())) <= 80
    assert f"{fit.beta[0]:.4f}" in fit.summary()
    assert f"{fit.beta[0]:.4f}" in fit._repr_html_()
    assert f"m = {fit.n_clusters} clusters" in fit.methods_text()
    assert fit.by_cluster()["weight"].sum() == pytest.approx(100.0)
    assert fit.by_cluster()["effects"].sum() == fit.k == len(fit.augment())
    assert fit.glance().loc[0, "QMp"] == fit.QMp


def test_r_code_names_the_choices(table):
    code = RVEModel(table, mods="x + group", rho=0.5).fit().r_code()
    assert (
        'robu(yi ~ x + group, data=dat, studynum=factor(study_id), var.eff.size=vi, modelweights="CORR", rho=0.5'
        in code
    )
    assert 'Wald_test(fit, constraints=constrain_zero(2:3), vcov="CR2", test="HTZ")' in code
    given = RVEModel(table, weights=np.ones(K), cluster=CLUSTER, small=False).fit().r_code()
    assert "studynum=factor(cluster), var.eff.size=vi, userweights=w, small=FALSE" in given
    assert "Wald_test" not in given


def test_glance_keeps_the_reason(table):
    value = RVEModel(table).fit().glance().loc[0, "omega2"]
    assert isinstance(value, NotApplicable)


def test_a_level_of_one_cluster_has_no_large_sample_error_either():
    rng = np.random.default_rng(1)
    study = np.repeat(np.arange(8), 3)
    es = EffectSizes.from_arrays(
        rng.normal(0.3, 0.1, 24),
        np.full(24, 0.01),
        mods={"g": np.where(study == 0, "a", "b")},
        study_id=[f"s{i}" for i in study],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = RVEModel(es, mods="0 + g", small=False).fit()
    assert np.isnan([fit.se[0], fit.pval[0], fit.ddf[0]]).all()
    assert np.isfinite([fit.se[1], fit.pval[1]]).all()
    assert isinstance(fit.QMp, NotApplicable)
    assert "n/a" in fit.summary()
