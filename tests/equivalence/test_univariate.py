"""Models that must coincide, and eight lines of algebra that the engine must repeat."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats
from statsmodels.stats.oneway import anova_oneway

from alliance_meta import EffectSizes, RandomEffectsModel
from alliance_meta.core.correlations.pearson import mean_of_tanh, unbiased_r
from alliance_meta.core.univariate.fit import ESTIMATORS, estimate_tau2
from alliance_meta.core.univariate.intervals import q_profile
from alliance_meta.core.univariate.wls import make_batch, wls
from alliance_meta.models.subgroups import subgroups
from tests.tolerances import CLOSED_FORM, ITERATIVE, OPTIMISER

LIKELIHOOD = ("ML", "REML")


@pytest.fixture
def data(rng):
    k = 24
    v = rng.uniform(0.005, 0.08, k)
    x = np.column_stack([np.ones(k), rng.normal(size=k), rng.integers(0, 2, k)])
    y = x @ [0.3, 0.1, -0.05] + rng.normal(0, np.sqrt(v + 0.05))
    return y, v, x


def dense(v, x, tau2):
    W = np.diag(1 / (v + tau2))
    return W - W @ x @ np.linalg.inv(x.T @ W @ x) @ x.T @ W


def test_traces_and_forms_without_a_dense_matrix(data):
    y, v, x = data
    P = dense(v, x, 0.03)
    fit = wls(make_batch(y, v, x), np.array([0.03]))
    ones, V = np.ones((1, len(v))), np.diag(v)
    assert fit.rss[0] == pytest.approx(y @ P @ y, rel=CLOSED_FORM)
    assert fit.yPPy[0] == pytest.approx(y @ P @ P @ y, rel=CLOSED_FORM)
    assert fit.yPPPy[0] == pytest.approx(y @ P @ P @ P @ y, rel=CLOSED_FORM)
    assert fit.trace(ones)[0] == pytest.approx(np.trace(P), rel=CLOSED_FORM)
    assert fit.trace(ones, ones)[0] == pytest.approx(np.trace(P @ P), rel=CLOSED_FORM)
    assert fit.trace(v[None], v[None])[0] == pytest.approx(np.trace(P @ V @ P @ V), rel=CLOSED_FORM)
    assert fit.trace(v[None], ones)[0] == pytest.approx(np.trace(P @ V @ P), rel=CLOSED_FORM)


@pytest.mark.parametrize("method", ESTIMATORS)
def test_products_of_columns_that_are_not_held_change_nothing(data, method, monkeypatch):
    y, v, x = data
    held = estimate_tau2(make_batch(y, v, x), method=method).tau2
    monkeypatch.setattr("alliance_meta.core.univariate.wls.MOST_CELLS", 0)
    batch = make_batch(y, v, x)
    assert batch.QQ is None
    assert estimate_tau2(batch, method=method).tau2 == pytest.approx(held, rel=ITERATIVE)
    assert batch.only(np.array([], dtype=int)).gram(np.empty((0, len(y)))).shape == (0, 3, 3)


@pytest.mark.parametrize("method", LIKELIHOOD)
def test_the_likelihood_is_at_its_maximum(data, method):
    y, v, x = data

    def minus(tau2):
        W = 1 / (v + tau2)
        beta = np.linalg.solve(x.T @ (W[:, None] * x), x.T @ (W * y))
        value = -0.5 * np.log(v + tau2).sum() - 0.5 * W @ (y - x @ beta) ** 2
        return -(value - 0.5 * np.linalg.slogdet(x.T @ (W[:, None] * x))[1] * (method == "REML"))

    best = optimize.minimize_scalar(minus, bounds=(0, 1), method="bounded", options={"xatol": 1e-12})
    ours = float(estimate_tau2(make_batch(y, v, x), method=method).tau2[0])
    assert minus(ours) <= best.fun + 1e-14
    assert ours == pytest.approx(best.x, rel=1e-4)  # a flat top: the argument is known to half the digits


def test_paule_mandel_makes_q_its_expectation(data):
    y, v, x = data
    fit = estimate_tau2(make_batch(y, v, x), method="PM")
    assert y @ dense(v, x, fit.tau2[0]) @ y == pytest.approx(len(y) - 3, rel=CLOSED_FORM)


@pytest.mark.parametrize(("method", "first"), [("DL2", "DL"), ("HE2", "HE")])
def test_two_step_estimators_are_moment_estimators_with_the_first_steps_weights(data, method, first):
    y, v, x = data
    start = estimate_tau2(make_batch(y, v, x), method=first).tau2[0]
    P = dense(v, x, start)
    expected = (y @ P @ y - np.trace(P @ np.diag(v))) / np.trace(P)
    assert estimate_tau2(make_batch(y, v, x), method=method).tau2[0] == pytest.approx(expected, rel=CLOSED_FORM)


def test_the_median_unbiased_paule_mandel_makes_q_its_median(data):
    y, v, x = data
    fit = estimate_tau2(make_batch(y, v, x), method="PMM")
    assert y @ dense(v, x, fit.tau2[0]) @ y == pytest.approx(stats.chi2.median(len(y) - 3), rel=CLOSED_FORM)


def test_a_negative_tau2_is_given_when_asked_for():
    v = np.full((1, 12), 0.06)
    y = 0.2 + 0.22 * np.resize([1.0, -1.0], (1, 12))
    batch = make_batch(y, v, np.ones((12, 1)))
    for method in ("DL", "HE", "REML", "ML", "PM"):
        free = estimate_tau2(batch, method=method, lowest=-0.05)
        assert free.tau2[0] == pytest.approx(y.var(ddof=method != "ML") - 0.06, rel=ITERATIVE), method
        assert not free.truncated[0]
        bound = estimate_tau2(batch, method=method)
        assert (bound.tau2[0], bool(bound.truncated[0])) == (0.0, True)


def test_the_q_profile_interval_inverts_q(data):
    y, v, x = data
    lb, ub = q_profile(y, v, x, level=0.9)
    assert y @ dense(v, x, lb) @ y == pytest.approx(stats.chi2.ppf(0.95, 21), rel=CLOSED_FORM)
    assert y @ dense(v, x, ub) @ y == pytest.approx(stats.chi2.ppf(0.05, 21), rel=CLOSED_FORM)


def test_two_studies_by_hand():
    fit = RandomEffectsModel(EffectSizes.from_arrays([0.1, 0.5], [0.02, 0.04]), method="DL", test="z").fit()
    w = np.array([50.0, 25.0])
    mean = w @ [0.1, 0.5] / 75
    Q = w @ (np.array([0.1, 0.5]) - mean) ** 2
    assert pytest.approx(fit.QE, rel=CLOSED_FORM) == Q
    assert fit.tau2 == pytest.approx((Q - 1) / (75 - (w @ w) / 75), rel=CLOSED_FORM)


@pytest.mark.parametrize("method", sorted(set(ESTIMATORS) - {"EE", "SJ", "HS", "HSk", "ML", "PMM"}))
def test_equal_variances_give_every_unbiased_estimator_the_sample_variance(rng, method):
    y = rng.normal(0.3, 0.4, 30)
    fit = RandomEffectsModel(EffectSizes.from_arrays(y, np.full(30, 0.01)), method=method).fit()
    assert fit.tau2 == pytest.approx(y.var(ddof=1) - 0.01, rel=ITERATIVE)
    assert float(fit.beta[0]) == pytest.approx(y.mean(), rel=ITERATIVE)


def test_knapp_hartung_with_equal_variances_is_the_one_sample_t_test(rng):
    y = rng.normal(0.3, 0.4, 12)
    fit = RandomEffectsModel(EffectSizes.from_arrays(y, np.full(12, 0.01))).fit()
    t = stats.ttest_1samp(y, 0.0)
    assert float(fit.stat[0]) == pytest.approx(t.statistic, rel=ITERATIVE)
    assert float(fit.pval[0]) == pytest.approx(t.pvalue, rel=ITERATIVE)


def test_no_heterogeneity_is_the_equal_effects_model():
    es = EffectSizes.from_arrays([0.30, 0.31, 0.29, 0.30], [0.02, 0.03, 0.02, 0.05])
    with pytest.warns(UserWarning, match="set to 0"):
        random = RandomEffectsModel(es, test="z").fit()
    equal = RandomEffectsModel(es, method="EE", test="z").fit()
    np.testing.assert_array_equal(random.beta, equal.beta)
    np.testing.assert_array_equal(random.se, equal.se)


@pytest.mark.parametrize("method", sorted(ESTIMATORS))
def test_a_batch_is_its_single_fits(rng, method):
    v = rng.uniform(0.01, 0.1, (7, 15))
    y = rng.normal(0.2, 0.3, (7, 15))
    x = np.column_stack([np.ones(15), rng.normal(size=15)])
    together = estimate_tau2(make_batch(y, v, x), method=method)
    for b in range(7):
        alone = estimate_tau2(make_batch(y[b], v[b], x), method=method)
        assert together.tau2[b] == pytest.approx(alone.tau2[0], rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("method", sorted(ESTIMATORS))
def test_an_absent_row_is_as_if_it_were_not_there(rng, method):
    v, y = rng.uniform(0.01, 0.1, 12), rng.normal(0.2, 0.3, 12)
    present = np.ones((1, 12))
    present[0, 4] = 0
    x = np.ones((12, 1))
    masked = make_batch(y, v, x, present)
    keep = np.arange(12) != 4
    short = make_batch(y[keep], v[keep], x[keep])
    left, right = estimate_tau2(masked, method=method), estimate_tau2(short, method=method)
    assert left.tau2[0] == pytest.approx(right.tau2[0], rel=CLOSED_FORM, abs=1e-14)
    assert wls(masked, left.tau2).beta[0, 0] == pytest.approx(wls(short, right.tau2).beta[0, 0], rel=CLOSED_FORM)


def test_common_tau2_subgroups_are_the_cell_means_regression(rng):
    group = np.repeat(["a", "b", "c"], 8)
    es = EffectSizes.from_arrays(rng.normal(0.2, 0.3, 24), rng.uniform(0.01, 0.1, 24), mods={"rater": group})
    overall = RandomEffectsModel(es, test="z").fit()
    cells = RandomEffectsModel(es, mods="0 + rater", test="z").fit()
    parts = subgroups(overall, by="rater", tau2="common")
    np.testing.assert_allclose(parts.tidy()["estimate"], cells.beta, rtol=CLOSED_FORM)
    np.testing.assert_allclose(parts.tidy()["se"], cells.se, rtol=CLOSED_FORM)
    assert parts.QMp == pytest.approx(RandomEffectsModel(es, mods="rater", test="z").fit().QMp, rel=CLOSED_FORM)


def test_separate_subgroups_are_separate_fits(rng):
    group = np.array(["a"] * 10 + ["b"] * 9)
    es = EffectSizes.from_arrays(rng.normal(0.2, 0.6, 19), rng.uniform(0.01, 0.1, 19), mods={"rater": group})
    parts = subgroups(RandomEffectsModel(es).fit(), by="rater", tau2="separate")
    alone = RandomEffectsModel(es.take(group == "b")).fit()
    np.testing.assert_array_equal(parts.fits["b"].beta, alone.beta)
    a, b = (parts.fits[level] for level in parts.levels)
    z = (a.beta[0] - b.beta[0]) / np.hypot(a.se[0], b.se[0])
    assert pytest.approx(z**2, rel=CLOSED_FORM) == parts.QM
    # Of two levels Welch's test is the t test with Satterthwaite's degrees of freedom.
    va, vb = a.se[0] ** 2, b.se[0] ** 2
    df2 = (va + vb) ** 2 / (va**2 / a.ddf[0] + vb**2 / b.ddf[0])
    assert parts.QMdf == (1, pytest.approx(df2, rel=CLOSED_FORM))
    assert parts.QMp == pytest.approx(2 * stats.t.sf(abs(z), df2), rel=CLOSED_FORM)
    normal = subgroups(RandomEffectsModel(es, test="z").fit(), by="rater", tau2="separate")
    assert normal.QMdf == (1, None)


def test_separate_means_of_groups_are_compared_as_welch_compares_means():
    """Effects of equal weight: means with their standard errors are those of a one-way layout (statsmodels' Welch)."""
    rng = np.random.default_rng(4)
    samples = [rng.normal(0.3, 0.3, 6), rng.normal(0.5, 0.6, 9), rng.normal(0.2, 0.9, 7)]
    es = EffectSizes.from_arrays(
        np.concatenate(samples), np.full(22, 1e-9), mods={"g": np.repeat(list("abc"), [6, 9, 7])}
    )
    found = subgroups(RandomEffectsModel(es).fit(), by="g", tau2="separate").between
    theirs = anova_oneway(samples, use_var="unequal", welch_correction=True)
    assert (found.stat, found.pval) == pytest.approx((theirs.statistic, theirs.pvalue), rel=OPTIMISER)
    assert found.df2 == pytest.approx(theirs.df_denom, rel=OPTIMISER)


@pytest.mark.parametrize("tau2", [0.01, 0.1225, 0.6])
def test_mean_true_correlation_is_the_integral_it_says(tau2):
    mu = 0.2855
    density = stats.norm(mu, np.sqrt(tau2)).pdf
    expected = integrate.quad(lambda t: np.tanh(t) * density(t), mu - 12, mu + 12, epsabs=1e-13, limit=400)[0]
    assert float(mean_of_tanh(np.array(mu), tau2)) == pytest.approx(expected, rel=CLOSED_FORM)


@pytest.mark.parametrize(("n", "rho"), [(8, 0.5), (9, 0.3), (30, -0.7)])
def test_unbiased_r_is_unbiased(n, rho):
    """E[unbiased r] = rho under the sampling density of r (Hotelling 1953), odd and even n."""

    def density(r):
        log = (
            special.gammaln(n - 1)
            - special.gammaln(n - 0.5)
            + (n - 1) / 2 * np.log1p(-(rho**2))
            + (n - 4) / 2 * np.log1p(-(r**2))
            + (1.5 - n) * np.log1p(-rho * r)
        )
        return (n - 2) / np.sqrt(2 * np.pi) * np.exp(log) * special.hyp2f1(0.5, 0.5, n - 0.5, (1 + rho * r) / 2)

    assert integrate.quad(density, -1, 1, epsabs=1e-13)[0] == pytest.approx(1.0, rel=CLOSED_FORM)
    mean = integrate.quad(lambda r: density(r) * float(unbiased_r(np.array(r), np.array(n))), -1, 1, epsabs=1e-13)[0]
    assert mean == pytest.approx(rho, rel=CLOSED_FORM)
