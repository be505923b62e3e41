"""Location-scale models that must coincide with simpler ones, and their likelihood against plain algebra."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from alliance_meta import EffectSizes, InputError, LocationScaleModel, RandomEffectsModel
from alliance_meta.core.univariate.location_scale import fit_location_scale
from alliance_meta.errors import AllianceMetaWarning, DesignError, TruncationWarning
from alliance_meta.notes import NotApplicable
from tests.tolerances import CLOSED_FORM, ITERATIVE

METHODS = ("REML", "ML")


@pytest.fixture
def data(rng):
    k = 60
    v = rng.uniform(0.005, 0.05, k)
    x, z = rng.normal(size=k), rng.normal(size=k)
    group = np.where(np.arange(k) % 2, "a", "b")
    y = 0.3 + 0.1 * x + rng.normal(0, np.sqrt(v + np.exp(-3 + 0.8 * z)))
    return EffectSizes.from_arrays(y, v, mods=pd.DataFrame({"x": x, "z": z, "group": group}), measure="ZCOR")


def plain_loglik(y, v, X, tau2, method):
    W = np.diag(1 / (v + tau2))
    A = X.T @ W @ X
    e = y - X @ np.linalg.solve(A, X.T @ W @ y)
    n = len(y) - (X.shape[1] if method == "REML" else 0)
    value = -0.5 * np.log(v + tau2).sum() - 0.5 * e @ W @ e - 0.5 * n * np.log(2 * np.pi)
    if method == "REML":
        value += 0.5 * np.linalg.slogdet(X.T @ X)[1] - 0.5 * np.linalg.slogdet(A)[1]
    return value


@pytest.mark.parametrize("test", ["z", "knha", "adhoc", "t"])
@pytest.mark.parametrize("link", ["log", "identity"])
@pytest.mark.parametrize("method", METHODS)
def test_without_scale_moderators_it_is_the_random_effects_model(data, method, link, test):
    simple = RandomEffectsModel(data, mods="x", method=method, test=test).fit()
    ours = LocationScaleModel(data, mods="x", link=link, method=method, test=test).fit()
    np.testing.assert_allclose(ours.tau2, simple.tau2, rtol=ITERATIVE)
    for name in ("beta", "se", "pval", "ci_lb", "ci_ub", "loglik", "QE", "QEp", "QM", "weights"):
        np.testing.assert_allclose(getattr(ours, name), getattr(simple, name), rtol=ITERATIVE, err_msg=name)
    np.testing.assert_allclose(ours.blup(), simple.blup(), rtol=ITERATIVE)
    np.testing.assert_allclose(ours.predict(scale="r")[["pred", "pi_lb"]], simple.predict(scale="r")[["pred", "pi_lb"]])
    assert ours.scale_lrt.stat != ours.scale_lrt.stat
    assert isinstance(ours.QS, NotApplicable)


@pytest.mark.parametrize("method", METHODS)
def test_the_maximum_its_value_and_its_information(data, method):
    X, Z = np.column_stack([np.ones(60), data.moderators["x"]]), np.column_stack([np.ones(60), data.moderators["z"]])
    ours = fit_location_scale(data.yi, data.vi, X, Z, link="log", restricted=method == "REML")

    def value(alpha):
        return plain_loglik(data.yi, data.vi, X, np.exp(Z @ alpha), method)

    assert ours.loglik == pytest.approx(value(ours.alpha), rel=CLOSED_FORM)
    best = optimize.minimize(lambda a: -value(a), ours.alpha + 0.3, method="Nelder-Mead", options={"fatol": 1e-13})
    assert ours.loglik >= -best.fun - 1e-11
    h = 1e-3
    steps = h * np.eye(2)
    hessian = [
        [sum(i * j * value(ours.alpha + i * a + j * b) for i in (-1, 1) for j in (-1, 1)) / (4 * h * h) for b in steps]
        for a in steps
    ]
    np.testing.assert_allclose(np.linalg.inv(-np.array(hessian)), ours.va, rtol=1e-4)  # differences of h^2


@pytest.mark.parametrize("method", METHODS)
def test_the_identity_link_with_two_groups_is_the_log_link(data, method):
    one = LocationScaleModel(data, scale="group", link="identity", method=method, test="z").fit()
    two = LocationScaleModel(data, scale="group", link="log", method=method, test="z").fit()
    assert one.loglik == pytest.approx(two.loglik, rel=CLOSED_FORM)
    np.testing.assert_allclose(one.tau2, two.tau2, rtol=ITERATIVE)
    # The delta method links the standard errors of log(tau2) and of tau2 of the first group.
    first = one.tau2[one.scale_design.X[:, 1] == 0][0]
    assert one.se_alpha[0] == pytest.approx(two.se_alpha[0] * first, rel=ITERATIVE)


def test_separate_fits_per_group_with_ml(data):
    group = data.moderators["group"].to_numpy()
    both = LocationScaleModel(data, mods="group", scale="group", method="ML", test="z").fit()
    apart = [RandomEffectsModel(data.take(group == g), method="ML", test="z").fit() for g in ("a", "b")]
    assert both.loglik == pytest.approx(sum(fit.loglik for fit in apart), rel=CLOSED_FORM)
    for fit, g in zip(apart, "ab", strict=True):
        np.testing.assert_allclose(both.predict_tau2({"group": [g]})["tau2"], fit.tau2, rtol=ITERATIVE)
        row = both.predict({"group": [g]}).iloc[0]
        for name in ("pred", "se", "ci_lb", "pi_ub"):
            assert row[name] == pytest.approx(fit.predict().iloc[0][name], rel=ITERATIVE)


def test_the_tests_of_the_scale_part(data):
    fit = LocationScaleModel(data, scale="z", method="ML", test="z").fit()
    assert fit.stat_alpha[1] ** 2 == pytest.approx(fit.QS, rel=CLOSED_FORM)
    assert fit.test_scale("z").pval == pytest.approx(fit.pval_alpha[1], rel=CLOSED_FORM)
    constant = RandomEffectsModel(data, method="ML").fit()
    assert fit.scale_lrt.stat == pytest.approx(2 * (fit.loglik - constant.loglik), rel=1e-9)
    assert fit.scale_lrt.df == 1
    t = LocationScaleModel(data, scale="z", method="ML", test="t").fit()
    assert t.QSdf == (1, 58.0)
    assert pytest.approx(fit.QS, rel=CLOSED_FORM) == t.QS
    without = LocationScaleModel(data, scale="0 + z", test="z").fit()
    assert isinstance(without.scale_lrt.stat, NotApplicable)


def test_a_shift_and_a_change_of_unit(data):
    fit = LocationScaleModel(data, mods="x", scale="z", test="z").fit()
    other = EffectSizes.from_arrays(10 * (data.yi + 2), 100 * data.vi, mods=data.moderators)
    moved = LocationScaleModel(other, mods="x", scale="z", test="z").fit()
    np.testing.assert_allclose(moved.alpha, fit.alpha + np.array([np.log(100), 0]), rtol=ITERATIVE)
    np.testing.assert_allclose(moved.se_alpha, fit.se_alpha, rtol=ITERATIVE)
    np.testing.assert_allclose(moved.beta, 10 * (fit.beta + np.array([2, 0])), rtol=ITERATIVE)


def test_predictions_on_r_use_the_tau2_of_their_row(data):
    fit = LocationScaleModel(data, scale="z", test="z").fit()
    means = fit.predict({"z": [-1.0, 2.0]}, scale="r_mean")
    assert means["tau2"].tolist() == fit.predict_tau2({"z": [-1.0, 2.0]})["tau2"].tolist()
    assert means["pred"].iloc[1] < means["pred"].iloc[0] < np.tanh(fit.beta[0])
    width = fit.predict({"z": [-1.0, 2.0]}).eval("pi_ub - pi_lb")
    assert width.iloc[1] > width.iloc[0]


@pytest.mark.parametrize("link", ["log", "identity"])
@pytest.mark.parametrize("method", METHODS)
def test_tau2_of_one_group_at_zero_is_noted(rng, method, link):
    k = 30
    v = rng.uniform(0.01, 0.03, k)
    group = np.arange(k) % 2
    y = 0.2 + rng.normal(0, np.sqrt(v)) * np.where(group, 1, 0.5) + 0.3 * rng.normal(size=k) * group
    es = EffectSizes.from_arrays(y, v, mods={"group": np.where(group, "b", "a")}, measure="ZCOR")
    with pytest.warns(TruncationWarning, match="15 of 30"):
        fit = LocationScaleModel(es, scale="group", link=link, method=method).fit()
    assert [note.code for note in fit.notes] == ["scale-boundary"]
    assert fit.tau2[group == 0].max() < 1e-12 < fit.tau2[group == 1].min()
    # The likelihood is that of a model in which the first group has no heterogeneity at all.
    rows = plain_loglik(y, v, np.ones((k, 1)), np.where(group, fit.tau2.max(), 0), method)
    assert fit.loglik == pytest.approx(rows, rel=1e-9)
    assert isinstance(fit.tidy().loc[("scale", "intrcpt"), "se"], NotApplicable)
    assert isinstance(fit.QS, NotApplicable)
    assert fit.scale_lrt.stat > 0
    assert "n/a" in fit.summary()
    assert "not_applicable" in str(fit.to_dict())


def test_no_heterogeneity_at_all_is_the_equal_effects_model(rng):
    v = rng.uniform(0.01, 0.03, 20)
    es = EffectSizes.from_arrays(0.2 + 0.3 * rng.normal(0, np.sqrt(v)), v, mods={"z": rng.normal(size=20)})
    with pytest.warns(TruncationWarning, match="all 20"):
        fit = LocationScaleModel(es, scale="z", test="z").fit()
    equal = RandomEffectsModel(es, method="EE", test="z").fit()
    np.testing.assert_allclose(fit.beta, equal.beta, rtol=1e-9)
    np.testing.assert_allclose(fit.se, equal.se, rtol=1e-9)


def test_finite_coefficients_beside_an_infinite_one_keep_their_standard_error(rng):
    k = 30
    v = rng.uniform(0.01, 0.03, k)
    group = np.arange(k) % 2
    y = 0.2 + rng.normal(0, np.sqrt(v)) * np.where(group, 1, 0.5) + 0.3 * rng.normal(size=k) * group
    es = EffectSizes.from_arrays(y, v, mods={"group": np.where(group, "b", "a")}, measure="ZCOR")
    with pytest.warns(TruncationWarning, match=r"leaves group\[a\]"):
        fit = LocationScaleModel(es, scale="0 + group", method="ML", test="z").fit()
    assert np.isfinite(fit.se_alpha).tolist() == [False, True]
    assert np.isfinite(fit.predict_tau2({"group": ["a", "b"]})["tau2_lb"]).tolist() == [False, True]


def test_messages(data):
    with pytest.raises(DesignError, match=r"scale='zz': no column 'zz'"):
        LocationScaleModel(data, scale="zz").fit()
    with pytest.raises(InputError, match="link='probit'"):
        LocationScaleModel(data, link="probit")
    with pytest.raises(InputError, match="'REML' or 'ML'"):
        LocationScaleModel(data, method="DL")
    with pytest.raises(DesignError, match="2 effects leave nothing"):
        LocationScaleModel(data.take([0, 1]), scale="z").fit()


def test_rows_without_a_moderator_of_either_part_are_left_out():
    y = [0.1, 0.5, 0.2, 0.3, 0.4, 0.0, 0.35, 0.6]
    mods = {"x": [1, 2, None, 4, 5, 6, 7, 9], "z": [1, 2, 2, None, 1, 2, 1, 2]}
    es = EffectSizes.from_arrays(y, np.full(8, 0.01), mods=mods, measure="ZCOR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        fit = LocationScaleModel(es, mods="x", scale="z", test="z").fit()
    assert fit.k == len(fit.tau2) == 6
    assert [note.code for note in fit.notes].count("dropped-rows") == 2


def test_everything_prints(data):
    fit = LocationScaleModel(data, mods="x", scale="z").fit()
    assert max(map(len, fit.summary().splitlines())) <= 80
    assert 'rma(yi, vi, mods = ~ x, scale = ~ z, data=dat, method="REML", test="knha")' in fit.r_code()
    assert "likelihood-ratio" in fit.methods_text()
    assert "<table>" in fit._repr_html_()
    assert fit.glance().shape[0] == 1
    assert list(fit.augment()) == ["yi", "vi", "fitted", "resid", "tau2", "weight"]
    np.testing.assert_allclose(fit.I2, 100 * (1 - 1 / fit.H2))


@pytest.mark.parametrize("link", ["log", "identity"])
def test_many_studies_recover_the_truth(rng, link):
    k = 20_000
    v, z = rng.uniform(0.005, 0.05, k), rng.uniform(0, 1, k)
    tau2 = np.exp(-3 + z) if link == "log" else 0.05 + 0.05 * z
    es = EffectSizes.from_arrays(rng.normal(0.2, np.sqrt(v + tau2)), v, mods={"z": z})
    fit = LocationScaleModel(es, scale="z", link=link, test="z").fit()
    truth = [-3, 1] if link == "log" else [0.05, 0.05]
    assert (np.abs(fit.alpha - truth) < 4 * fit.se_alpha).all()


@pytest.mark.parametrize("link", ["log", "identity"])
@pytest.mark.parametrize("restricted", [True, False])
def test_no_fit_is_lower_than_the_model_with_one_tau2_that_it_contains(rng, link, restricted):
    z, spread = rng.normal(size=(30, 8)), 10.0 ** rng.uniform(-4.0, 0.0, (30, 1))
    v = 1.0 / (np.exp(rng.uniform(np.log(6.0), np.log(5000.0), (30, 8))) - 3.0)
    y = 0.2 + rng.standard_normal((30, 8)) * np.sqrt(v + spread * (rng.random((30, 1)) < 0.7))
    # Climbing off a bound takes ten times as long.
    for b in range(30 if link == "log" else 12):
        Z = np.column_stack([np.ones(8), z[b]])
        fit = fit_location_scale(y[b], v[b], np.ones((8, 1)), Z, link=link, restricted=restricted)
        assert fit.loglik >= fit.loglik_constant - 1e-9
