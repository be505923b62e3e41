"""Inference that must coincide with dense algebra, with textbook tests, or with itself done one at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy import integrate, special, stats

from alliance_meta import EffectSizes, RandomEffectsModel, sensitivity
from alliance_meta.core import resampling
from alliance_meta.core.bias.small_study import henmi_copas
from alliance_meta.core.univariate.fit import estimate_tau2
from alliance_meta.core.univariate.likelihood_ratio import Profile, score_statistic
from alliance_meta.core.univariate.search import log_likelihood
from alliance_meta.core.univariate.wls import make_batch, wls
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning")


def effects(rng, k, **mods):
    return EffectSizes.from_arrays(rng.normal(0.2, 0.3, k), rng.uniform(0.01, 0.08, k), mods=mods or None)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("k", [2, 5, 40])
def test_the_henmi_copas_limit_solves_its_equation(rng, k, level):
    """The defining integral by adaptive quadrature, in the authors' notation."""
    y, v = rng.normal(0.2, 0.4, k), rng.uniform(0.01, 0.1, k)
    found = henmi_copas(y, v, level=level)
    w, t = 1 / v, found.tau2
    W1, W2, W3, W4 = w.sum(), *((w**j).sum() / w.sum() for j in (2, 3, 4))
    VR = 1 + t * W2
    x = found.quantile / np.sqrt(VR)

    def integrand(r):
        R = np.sqrt(VR) * r
        c = R**2 / VR**2 - 1 / VR
        mean = k - 1 + t * (W1 - W2) + t**2 * c * (W3 - W2**2)
        var = 2 * (k - 1) + 4 * t * (W1 - W2) + 2 * t**2 * (W1 * W2 - 2 * W3 + W2**2)
        var += 4 * t**2 * c * (W3 - W2**2) + 4 * t**3 * c * (W4 - 2 * W2 * W3 + W2**3)
        var += 2 * t**4 * (1 / VR**2 - 2 * R**2 / VR**3) * (W3 - W2**2) ** 2
        bound = (W1 / W2 - 1) * ((r / x) ** 2 - 1) + k - 1
        return special.gammainc(mean**2 / var, bound * mean / var) * stats.norm.pdf(r)

    total = sum(
        integrate.quad(integrand, a, b, epsabs=1e-14, epsrel=1e-13, limit=500)[0]
        for a, b in ((x, x + 0.01), (x + 0.01, x + 1), (x + 1, x + 12))
    )
    assert total == pytest.approx(0.5 * (1 - level), rel=1e-8)


@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize(("k", "p"), [(4, 1), (12, 1), (12, 3), (40, 4)])
def test_the_score_test_is_its_dense_form(rng, k, p, restricted):
    v = rng.uniform(0.01, 0.1, k)
    v[0] = 0.0015  # a row of high leverage
    X = np.column_stack([np.ones(k), rng.normal(size=(k, p - 1))])
    fit = wls(make_batch(rng.normal(0, 0.3, (3, k)), v, X), np.array([0.0, 0.02, 0.1]))
    found = score_statistic(fit, restricted=restricted)
    for b in range(3):
        W = np.diag(fit.w[b])
        P = W - W @ X @ np.linalg.inv(X.T @ W @ X) @ X.T @ W if restricted else W
        score = 0.5 * (fit.u[b] ** 2 - np.diag(P))
        assert found[b] == pytest.approx(score @ np.linalg.solve(0.5 * P * P, score), rel=1e-8)


def test_the_score_test_knows_when_the_information_is_singular():
    v = np.full(2, 0.02)
    fit = wls(make_batch(np.array([0.1, 0.5]), v, np.ones((2, 1))), np.array([0.03]))
    assert np.isnan(score_statistic(fit, restricted=True)[0])


def test_every_arrangement_of_a_design_once():
    group = np.array([0, 1, 0, 2, 1, 0])
    found = resampling.arrangements(group)
    assert len(found) == resampling.number_of_arrangements(group) == 60
    assert all(sorted(order) == [*range(6)] for order in found.tolist())
    # Which design row each observation is paired with, rows that are alike being one.
    paired = {tuple(group[np.argsort(order)]) for order in found.tolist()}
    assert paired == {tuple(group[list(order)]) for order in permutations(range(6))}


def test_every_sign_pattern_once():
    found = resampling.sign_patterns(0, 8, 4)
    assert {tuple(row) for row in found} == {(1.0, *rest) for rest in product([1.0, -1.0], repeat=3)}


@pytest.mark.parametrize(
    "options", [{}, {"test": "z"}, {"method": "PM", "test": "adhoc"}, {"method": "EE", "test": "z"}]
)
def test_exact_permutations_are_single_fits(rng, options):
    k = 5
    es = effects(rng, k, rater=["a", "b", "b", "a", "a"])
    fit = RandomEffectsModel(es, mods="rater", **options).fit()
    ours = sensitivity.permutation_test(fit, exact=True)
    p, QMp, count = 0.0, 0.0, 0
    for order in permutations(range(k)):
        again = EffectSizes.from_arrays(es.yi[list(order)], es.vi[list(order)], mods={"rater": list("abbaa")})
        one = RandomEffectsModel(again, mods="rater", **options).fit()
        p = p + (np.abs(one.stat) >= np.abs(fit.stat) - 1e-8)
        QMp += one.QM >= fit.QM - 1e-8
        count += 1
    assert ours.iterations == 10
    np.testing.assert_allclose(ours.pval, p / count, rtol=CLOSED_FORM)
    assert pytest.approx(QMp / count, rel=CLOSED_FORM) == ours.QMp


def test_sign_flips_with_equal_variances_are_those_of_the_mean(rng):
    y = rng.normal(0.2, 0.4, 9)
    fit = RandomEffectsModel(EffectSizes.from_arrays(y, np.full(9, 0.01))).fit()
    ours = sensitivity.permutation_test(fit, exact=True)
    expected = stats.permutation_test((y,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert float(ours.pval[0]) == pytest.approx(expected.pvalue, rel=CLOSED_FORM)


@pytest.mark.parametrize("options", [{"weights": np.linspace(1, 2, 8)}, {"method": "GENQ"}, {"tau2": 0.05}])
def test_weights_and_a_given_tau2_travel_with_their_effect(rng, options):
    es = effects(rng, 8, x=[1, 1, 1, 2, 2, 2, 2, 2])
    fit = RandomEffectsModel(es, mods="x", test="t", **options).fit()
    ours = sensitivity.permutation_test(fit, exact=True)
    np.testing.assert_allclose(ours.stat, fit.stat, rtol=CLOSED_FORM)
    order = np.array([7, 1, 2, 3, 4, 5, 6, 0])
    if "weights" in options:
        options = {"weights": options["weights"][order]}
    again = EffectSizes.from_arrays(es.yi[order], es.vi[order], mods={"x": [1, 1, 1, 2, 2, 2, 2, 2]})
    single = RandomEffectsModel(again, mods="x", test="t", **options).fit()
    assert np.isclose(ours.stats[:, 1], single.stat[1], rtol=1e-9).any()


@pytest.mark.parametrize("method", ["REML", "DL", "SJ", "PM", "HSk"])
def test_rows_drawn_several_times_are_rows_written_several_times(rng, method):
    k = 12
    y, v, X = rng.normal(0.2, 0.3, k), rng.uniform(0.01, 0.08, k), np.column_stack([np.ones(k), rng.normal(size=k)])
    counts = resampling.draw_counts(rng, 6, k)
    assert (counts.sum(axis=1) == k).all()
    how = resampling.Recipe(X, method, "z", None, 0.0, (1,))
    together = resampling.refit_estimates(how, resampling.counted_batch(y, v, X, counts)[0])
    for b in range(6):
        rows = np.repeat(np.arange(k), counts[b])
        alone = estimate_tau2(make_batch(y[rows], v[rows], X[rows]), method=method)
        assert together["tau2"][b] == pytest.approx(alone.tau2[0], rel=1e-9, abs=1e-13)
        beta = wls(make_batch(y[rows], v[rows], X[rows]), alone.tau2).beta[0]
        np.testing.assert_allclose(together["beta"][b], beta, rtol=1e-8)


@pytest.mark.parametrize("options", [{"method": "GENQ"}, {"weights": np.linspace(1, 2, 10)}, {"method": "EE"}])
def test_samples_left_short_by_a_row_are_fits_without_it(rng, options):
    es = effects(rng, 10, x=np.arange(10.0))
    boot = sensitivity.bootstrap(
        RandomEffectsModel(es, mods="x", test="z", **options).fit(), kind="nonparametric", iterations=2, seed=1
    )
    for i in range(10):
        keep = np.arange(10) != i
        less = {**options, "weights": options["weights"][keep]} if "weights" in options else options
        alone = RandomEffectsModel(es.take(keep), mods="x", test="z", **less).fit()
        for name in boot.quantities:
            expected = replace(boot, fit=alone).estimate(name)
            assert boot._left_out[name][i] == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_the_parametric_bootstrap_repeats_what_the_equal_effects_model_knows(rng):
    fit = RandomEffectsModel(effects(rng, 30), method="EE", test="z").fit()
    table = sensitivity.bootstrap(fit, iterations=20_000, seed=4).tidy()
    # 20,000 samples give a standard deviation to 0.5%, a limit to about 2% of the standard error.
    assert table["se"]["intrcpt"] == pytest.approx(fit.se[0], rel=0.02)
    assert table["ci_lb"]["intrcpt"] == pytest.approx(fit.ci_lb[0], abs=0.08 * fit.se[0])
    assert table["ci_ub"]["intrcpt"] == pytest.approx(fit.ci_ub[0], abs=0.08 * fit.se[0])


def test_bca_is_scipys(rng):
    es = effects(rng, 25)
    boot = sensitivity.bootstrap(
        RandomEffectsModel(es, method="HE").fit(), kind="nonparametric", iterations=4000, seed=2
    )

    def tau2(rows, axis=-1):
        batch = make_batch(es.yi[rows].reshape(-1, 25), es.vi[rows].reshape(-1, 25), np.ones((25, 1)))
        return estimate_tau2(batch, method="HE").tau2.reshape(rows.shape[:-1])

    left_out = np.array([tau2_without(es, i) for i in range(25)])
    np.testing.assert_allclose(boot._left_out["tau2"], left_out, rtol=1e-9)
    gap = left_out.mean() - left_out
    a = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5)
    samples, estimate = boot.samples["tau2"], boot.fit.tau2
    z0 = stats.norm.ppf(stats.percentileofscore(samples, estimate, kind="mean") / 100)
    z = z0 + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(samples, stats.norm.cdf(z0 + z / (1 - a * z)), method="weibull")
    interval = boot.confint("tau2", kind="bca")
    assert [interval.lb, interval.ub] == pytest.approx(expected, rel=CLOSED_FORM)


def tau2_without(es, i):
    keep = np.arange(es.k) != i
    return estimate_tau2(make_batch(es.yi[keep], es.vi[keep], np.ones((es.k - 1, 1))), method="HE").tau2[0]


@pytest.mark.parametrize("p", [1, 3])
def test_bartletts_factor_with_equal_variances_is_that_of_linear_regression(rng, p):
    """E[k log(1 + t^2 / (k - p))] = 1 + (p + 1/2) / k to order 1 / k."""
    k = 30
    X = np.column_stack([np.ones(k), rng.normal(size=(k, p - 1))])
    profile = Profile(rng.normal(0.2, 0.5, k), np.full(k, 0.02), X, p - 1)
    assert profile.bartlett_factor == pytest.approx(1 + (p + 0.5) / k, rel=CLOSED_FORM)


@pytest.mark.parametrize("p", [1, 3])
def test_with_equal_variances_the_likelihood_ratio_is_a_function_of_t(rng, p):
    k = 14
    X = np.column_stack([np.ones(k), rng.normal(size=(k, p - 1))])
    y = X @ np.full(p, 0.15) + rng.normal(0, 0.5, k)
    profile = Profile(y, np.full(k, 0.02), X, p - 1)
    residual = y - X @ np.linalg.lstsq(X, y)[0]
    se = np.sqrt(residual @ residual / (k - p) * np.linalg.inv(X.T @ X)[-1, -1])
    t = float(profile.beta[-1]) / se
    assert abs(profile.r(0.0)) == pytest.approx(np.sqrt(k * np.log1p(t**2 / (k - p))), rel=ITERATIVE)
    # Third-order accuracy (Guolo 2012): the normal p-value of r* is nearly that of the exact t test.
    exact = stats.t.sf(abs(t), k - p)
    plain, corrected = (stats.norm.sf(abs(x)) for x in (profile.r(0.0), profile.skovgaard(0.0)))
    assert corrected == pytest.approx(exact, rel=0.03)
    assert abs(corrected - exact) < 0.2 * abs(plain - exact)


def test_limits_are_where_the_statistic_says(rng):
    profile = Profile(rng.normal(0.2, 0.4, 12), rng.uniform(0.01, 0.1, 12), np.ones((12, 1)), 0)
    for statistic in (profile.r, profile.skovgaard):
        lb, ub = profile.limits(statistic, 1.96)
        assert (statistic(lb), statistic(ub)) == pytest.approx((1.96, -1.96), rel=CLOSED_FORM)


def test_skovgaards_statistic_has_no_hole_at_the_estimate(rng):
    profile = Profile(rng.normal(0.2, 0.4, 12), rng.uniform(0.01, 0.1, 12), np.ones((12, 1)), 0)
    best = float(profile.beta[0])
    values = [profile.skovgaard(best + d * profile.se) for d in np.linspace(-0.2, 0.2, 41)]
    assert np.ptp(np.diff(values)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("p", [1, 2])
def test_bartletts_factor_is_the_mean_of_the_statistic(p):
    """Unequal variances, k = 80: simulated means have a standard error of .003, terms in 1 / k^2 are near .002."""
    rng = np.random.default_rng(5)
    k, tau2 = 80, 0.4
    v = rng.uniform(0.01, 0.5, k)
    X = np.column_stack([np.ones(k), 3 * v])[:, :p]
    profile = Profile(np.zeros(k), v, X, p - 1)
    profile.__dict__["tau2"] = tau2
    statistics = []
    for _ in range(40):
        y = rng.normal(0, np.sqrt(v + tau2), (5000, k))
        likelihoods = []
        for design in (X, X[:, : p - 1]):
            batch = make_batch(y, v, design)
            fit = wls(batch, estimate_tau2(batch, method="ML").tau2)
            likelihoods.append(log_likelihood(fit, restricted=False))
        statistics.append(2 * (likelihoods[0] - likelihoods[1]))
    assert np.concatenate(statistics).mean() == pytest.approx(profile.bartlett_factor, abs=0.012)


@pytest.mark.slow
def test_skovgaards_statistic_is_standard_normal_where_the_plain_one_is_not():
    """k = 12 with a moderator: 2,000 data sets, so that a rejection rate of 5% has a standard error of .5%."""
    rng = np.random.default_rng(6)
    k = 12
    v, x = rng.uniform(0.01, 0.1, k), rng.normal(size=k)
    X = np.column_stack([np.ones(k), x])
    found = []
    for _ in range(2000):
        profile = Profile(rng.normal(0, np.sqrt(v + 0.2)), v, X, 1)
        found.append((profile.r(0.0), profile.skovgaard(0.0)))
    plain, corrected = np.array(found).T
    corrected = corrected[np.isfinite(corrected)]
    assert (np.abs(plain) > 1.96).mean() > 0.07
    assert (np.abs(corrected) > 1.96).mean() == pytest.approx(0.05, abs=0.015)
    assert corrected.std() == pytest.approx(1.0, abs=0.04)
