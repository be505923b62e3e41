"""The exact density of r against its definition, and the model built on it against plain quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from alliance_meta import EffectSizes, InputError, RandomEffectsModel, escalc, load_dataset
from alliance_meta.core.correlations.likelihood import (
    correlations,
    log_density,
    marginal,
    profile_interval,
    signed_root,
)
from alliance_meta.errors import AllianceMetaWarning, TruncationWarning
from alliance_meta.models import ExactCorrelationModel
from alliance_meta.notes import NotApplicable
from tests.tolerances import CLOSED_FORM, ITERATIVE

SIZES = (4, 5, 8, 20, 21, 30, 49, 50, 51, 99, 100, 101, 500, 5_000, 1_000_000)


def density(r, rho, n):
    r = np.atleast_1d(np.asarray(r, dtype=float))
    data = correlations(r, np.full(r.shape, float(n)))
    return np.exp(log_density(data, np.full(r.shape, np.arctanh(rho))))


def simulated(rng, *, k, n, mu, tau):
    """Correlations of bivariate normal samples, by Bartlett's decomposition of their covariance matrix."""
    rho = np.tanh(rng.normal(mu, tau, k))
    a, b = np.sqrt(rng.chisquare(n - 1, k)), rng.normal(size=k)
    c = np.sqrt(rng.chisquare(n - 2, k))
    x = rho * a + np.sqrt(1 - rho**2) * b
    return x / np.hypot(x, np.sqrt(1 - rho**2) * c)


def effects(r, n, measure="ZCOR"):
    r, n = np.asarray(r, dtype=float), np.broadcast_to(np.asarray(n, dtype=float), np.shape(r))
    if measure == "ZCOR":
        return EffectSizes.from_arrays(np.arctanh(r), 1 / (n - 3), ni=n, measure=measure)
    return EffectSizes.from_arrays(r, (1 - r**2) ** 2 / (n - 1), ni=n, measure=measure)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, -0.99])
@pytest.mark.parametrize("n", SIZES)
def test_the_density_integrates_to_one(n, rho):
    # On the z scale the integrand is analytic and the trapezoid rule exact; tails fall like exp(-(n - 2) |z|).
    centre, step = np.arctanh(rho), 0.1 / np.sqrt(n)
    reach = min(18.0 - abs(centre), 40 / np.sqrt(n) + 60 / n)
    z = centre + step * np.arange(-int(reach / step), int(reach / step) + 1)
    total = (density(np.tanh(z), rho, n) * (1 - np.tanh(z) ** 2)).sum() * step
    assert total == pytest.approx(1, abs=1e-12)


def test_the_density_of_three_pairs_integrates_to_one():
    total = integrate.quad(lambda a: density(np.sin(a), 0.6, 3)[0] * np.cos(a), -np.pi / 2 + 1e-9, np.pi / 2 - 1e-9)[0]
    assert total == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("rho", [0.0, 0.4, -0.8])
@pytest.mark.parametrize("n", [3, 4, 7, 20, 21, 60, 101, 400])
def test_it_is_fishers_integral(n, rho):
    # Fisher (1915): the same density as an integral, without a hypergeometric function.
    for r in (-0.7, 0.0, 0.35, 0.95):
        front = (n - 2) / np.pi * (1 - rho**2) ** ((n - 1) / 2) * (1 - r**2) ** ((n - 4) / 2)
        area = integrate.quad(lambda w, r=r: (np.cosh(w) - rho * r) ** (1 - n), 0, 40 / n**0.5, epsabs=0, epsrel=1e-12)
        assert density(r, rho, n)[0] == pytest.approx(front * area[0], rel=1e-9)


@pytest.mark.parametrize(("n", "rho"), [(4, 0.5), (8, 0.3), (25, 0.8)])
def test_it_is_the_distribution_of_simulated_correlations(rng, n, rho):
    x = rng.normal(size=(40_000, n))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean(axis=1, keepdims=True)
    r = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    for point in (-0.2, 0.2, 0.5, 0.8):
        below = integrate.quad(lambda a: density(np.sin(a), rho, n)[0] * np.cos(a), -np.pi / 2 + 1e-9, np.arcsin(point))
        share = (r < point).mean()
        assert abs(share - below[0]) < 4 * np.sqrt(below[0] * (1 - below[0]) / len(r))


@pytest.mark.parametrize("n", [10, 40, 200])
def test_the_known_bias_of_fishers_z(n):
    rho = 0.4
    z = np.linspace(-4, 5, 8001)
    f = density(np.tanh(z), rho, n) * (1 - np.tanh(z) ** 2)
    mean = (z * f).sum() / f.sum()
    bias = mean - np.arctanh(rho)
    # rho / (2 (n - 1)) with an error of order n^-2 (Hotelling 1953).
    assert bias == pytest.approx(rho / (2 * (n - 1)), rel=3 / n)
    assert ((z - mean) ** 2 * f).sum() / f.sum() == pytest.approx(1 / (n - 3), rel=3 / n)


@pytest.mark.parametrize("tau", [0.02, 0.15, 0.6])
def test_the_marginal_likelihood_is_its_integral(tau):
    r, n = np.array([-0.5, 0.1, 0.45, 0.97, 0.3]), np.array([3.0, 6.0, 15.0, 12.0, 4_000.0])
    mu = np.array([0.2, 0.2, 0.3, 0.1, 0.25])
    ours = marginal(correlations(r, n), mu, tau**2).value
    for i in range(len(r)):
        one = correlations(r[i : i + 1], n[i : i + 1])
        mode = (n[i] * np.arctanh(r[i]) + mu[i] / tau**2) / (n[i] + 1 / tau**2)

        def integrand(theta, one=one, i=i):
            return np.exp(log_density(one, np.array([theta]))[0]) * stats.norm.pdf(theta, mu[i], tau)

        area = integrate.quad(
            integrand, mu[i] - 12 * tau, mu[i] + 12 * tau, points=[mode], epsrel=1e-11, epsabs=0, limit=200
        )
        assert ours[i] == pytest.approx(np.log(area[0]), abs=1e-8)


def test_the_derivatives_of_the_marginal_likelihood():
    data = correlations(np.array([-0.5, 0.1, 0.45, 0.9]), np.array([4.0, 9.0, 40.0, 300.0]))
    mu, tau2, h = np.full(4, 0.3), 0.04, 1e-5
    here = marginal(data, mu, tau2)
    in_mu = [marginal(data, mu + s * h, tau2) for s in (-1, 1)]
    in_tau2 = [marginal(data, mu, tau2 + s * h) for s in (-1, 1)]

    def difference(pair, name):
        return (getattr(pair[1], name) - getattr(pair[0], name)) / (2 * h)

    for pair, name, slope in (
        (in_mu, "value", "mu"),
        (in_tau2, "value", "tau2"),
        (in_mu, "mu", "mu_mu"),
        (in_tau2, "mu", "mu_tau2"),
        (in_tau2, "tau2", "tau2_tau2"),
    ):
        np.testing.assert_allclose(getattr(here, slope), difference(pair, name), rtol=1e-5, atol=1e-6)


def test_the_limit_without_heterogeneity():
    data = correlations(np.array([-0.5, 0.1, 0.45, 0.9, 0.2]), np.array([4.0, 9.0, 40.0, 300.0, 9_000.0]))
    mu = np.full(5, 0.3)
    limit, near = marginal(data, mu, 0.0), marginal(data, mu, 1e-9)
    # The distance is of order n^2 tau2, and rounding is magnified by 1 / tau2.
    for name in ("value", "mu", "tau2", "mu_mu"):
        np.testing.assert_allclose(getattr(limit, name), getattr(near, name), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(limit.value, log_density(data, mu), rtol=CLOSED_FORM)


def test_many_studies_are_worked_through_in_pieces(rng, monkeypatch):
    from alliance_meta.core.correlations import likelihood as module

    data = correlations(simulated(rng, k=50, n=12, mu=0.3, tau=0.2), rng.integers(5, 150, 50))
    whole = marginal(data, np.full(50, 0.3), 0.04).value
    monkeypatch.setattr(module, "CHUNK", 500)
    np.testing.assert_allclose(marginal(data, np.full(50, 0.3), 0.04).value, whole, rtol=1e-13)


@pytest.mark.parametrize("tau", [0.12, 0.4])
def test_the_fit_is_the_maximum_and_its_interval_the_drop(rng, tau):
    n = rng.integers(5, 60, 30)
    fit = ExactCorrelationModel(effects(simulated(rng, k=30, n=n, mu=0.3, tau=tau), n)).fit()
    data = fit.fitted.data

    def value(mu, tau2):
        return marginal(data, np.full(30, mu), tau2).value.sum()

    best = optimize.minimize(
        lambda p: -value(p[0], p[1] ** 2), [0.2, 0.3], method="Nelder-Mead", options={"fatol": 1e-12, "xatol": 1e-10}
    )
    assert fit.loglik >= -best.fun - 1e-10
    assert fit.beta[0] == pytest.approx(best.x[0], abs=1e-5)
    drop = fit.loglik - stats.chi2.ppf(0.95, 1) / 2
    for limit in (fit.ci_lb[0], fit.ci_ub[0]):
        profile = optimize.minimize_scalar(lambda t, m=limit: -value(m, t), bounds=(0, 1), method="bounded")
        assert -profile.fun == pytest.approx(drop, abs=1e-5)
    interval = fit.confint_tau2()
    for limit in (interval.lb, interval.ub):
        if limit > 0:
            profile = optimize.minimize_scalar(lambda m, t=limit: -value(m, t), bounds=(-1, 1), method="bounded")
            assert -profile.fun == pytest.approx(drop, abs=1e-5)
    assert fit.pval[0] == pytest.approx(2 * stats.norm.sf(abs(signed_root(fit.fitted, 0, 0.0))), rel=CLOSED_FORM)


def test_large_samples_give_the_normal_model(rng):
    n = 200_000
    es = effects(simulated(rng, k=15, n=n, mu=0.3, tau=0.1), n)
    ours, usual = ExactCorrelationModel(es).fit(), RandomEffectsModel(es, method="ML", test="z").fit()
    np.testing.assert_allclose(ours.beta, usual.beta, atol=2e-6)
    np.testing.assert_allclose(ours.tau2, usual.tau2, rtol=1e-4)
    assert ours.compare().loc["loglik", "difference"] == pytest.approx(0, abs=1e-3)


def test_compare_holds_the_usual_model(rng):
    n = rng.integers(8, 80, 20)
    es = effects(simulated(rng, k=20, n=n, mu=0.3, tau=0.2), n)
    fit = ExactCorrelationModel(es).fit()
    usual = RandomEffectsModel(es, method="ML", test="z").fit()
    table = fit.compare()
    assert table.loc["intrcpt", "normal"] == pytest.approx(usual.beta[0], rel=CLOSED_FORM)
    assert table.loc["tau2", "normal"] == pytest.approx(usual.tau2, rel=CLOSED_FORM)
    jacobian = -np.log1p(-(np.tanh(es.yi) ** 2)).sum()
    assert table.loc["loglik", "normal"] == pytest.approx(usual.loglik + jacobian, rel=CLOSED_FORM)
    expected = -np.average(np.tanh(es.yi) / (2 * (n - 1)), weights=usual.weights)
    assert table.loc["intrcpt", "difference"] == pytest.approx(expected, rel=0.5)


def test_raw_r_and_fisher_z_are_the_same_data(rng):
    n = rng.integers(8, 80, 12)
    r = simulated(rng, k=12, n=n, mu=0.3, tau=0.2)
    one, two = ExactCorrelationModel(effects(r, n)).fit(), ExactCorrelationModel(effects(r, n, "COR")).fit()
    assert one.loglik == pytest.approx(two.loglik, rel=CLOSED_FORM)
    np.testing.assert_allclose(one.beta, two.beta, rtol=ITERATIVE)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning")
def test_it_removes_the_bias_of_small_samples(rng):
    exact, usual = [], []
    for _ in range(8):
        es = effects(simulated(rng, k=500, n=8, mu=0.5, tau=0.15), 8)
        fit = ExactCorrelationModel(es).fit()
        exact.append(fit.beta[0])
        usual.append(fit.compare().loc["intrcpt", "normal"])
    error = np.std(exact) / np.sqrt(8)
    assert abs(np.mean(exact) - 0.5) < 3.5 * error
    assert np.mean(usual) - 0.5 > 3.5 * error


def test_moderators(rng):
    n = rng.integers(10, 60, 40)
    x = rng.normal(size=40)
    r = simulated(rng, k=40, n=n, mu=0.3 + 0.15 * x, tau=0.1)
    es = EffectSizes.from_arrays(np.arctanh(r), 1 / (n - 3), ni=n, mods={"x": x}, measure="ZCOR")
    fit = ExactCorrelationModel(es, mods="x").fit()
    assert fit.ci_lb[1] < fit.beta[1] < fit.ci_ub[1]
    moved = EffectSizes.from_arrays(np.arctanh(r), 1 / (n - 3), ni=n, mods={"x": 10 * x + 3}, measure="ZCOR")
    other = ExactCorrelationModel(moved, mods="x").fit()
    assert other.loglik == pytest.approx(fit.loglik, rel=CLOSED_FORM)
    np.testing.assert_allclose(other.ci_ub[1] * 10, fit.ci_ub[1], rtol=ITERATIVE)
    row = fit.predict({"x": [1.0]}, scale="r").iloc[0]
    assert np.arctanh(row.pred) == pytest.approx(fit.beta.sum(), rel=CLOSED_FORM)


def test_years_far_from_zero_change_the_intercept_only(rng):
    year, n = np.arange(2000.0, 2018.0), rng.integers(30, 150, 18)
    z = rng.normal(0.3, 0.25, 18)
    one, other = (
        ExactCorrelationModel(
            EffectSizes.from_arrays(z, 1 / (n - 3), ni=n, measure="ZCOR", mods={"year": x, "arm": ["x", "y", "x"] * 6}),
            mods="year + arm",
        ).fit()
        for x in (year, year - 2008.5)
    )
    assert one.fitted.converged
    assert one.loglik == pytest.approx(other.loglik, abs=CLOSED_FORM)
    for name in ("beta", "se", "ci_lb", "ci_ub"):
        np.testing.assert_allclose(getattr(one, name)[1:], getattr(other, name)[1:], rtol=ITERATIVE, err_msg=name)
    np.testing.assert_allclose(one.beta[0] + 2008.5 * one.beta[1], other.beta[0], rtol=ITERATIVE)


def test_no_heterogeneity_is_noted():
    es = effects([0.3, 0.31, 0.29, 0.3, 0.28], [20, 30, 25, 15, 40])
    with pytest.warns(TruncationWarning, match="is 0"):
        fit = ExactCorrelationModel(es).fit()
    assert fit.tau2 == 0
    assert isinstance(fit.se_tau2, NotApplicable)
    assert fit.confint_tau2().lb == 0 < fit.confint_tau2().ub
    assert np.isfinite(fit.se[0])
    assert [note.code for note in fit.notes] == ["tau2-truncated"]
    assert "not_applicable" in str(fit.to_dict())


def test_a_study_of_three_and_a_single_study():
    es = EffectSizes.from_arrays([0.2, 0.5, 0.4, -0.1], [0.2, 0.05, 0.1, 0.1], ni=[3, 12, 9, 10], measure="COR")
    with pytest.warns(AllianceMetaWarning):
        fit = ExactCorrelationModel(es).fit()
    assert "n-three" in [note.code for note in fit.notes]
    with pytest.warns(TruncationWarning):
        alone = ExactCorrelationModel(effects([0.5], [10])).fit()
    # The likelihood of one r is highest a little below it: the bias of Fisher's z again.
    assert 0 < np.arctanh(0.5) - alone.beta[0] < 0.5 / 9
    assert alone.ci_lb[0] < alone.beta[0] < alone.ci_ub[0]


def test_messages():
    with pytest.raises(InputError, match="Pearson correlations; these effects are 'GEN'"):
        ExactCorrelationModel(EffectSizes.from_arrays([0.1], [0.1]))
    with pytest.raises(InputError, match="sample sizes"):
        ExactCorrelationModel(EffectSizes.from_arrays([0.1], [0.1], measure="ZCOR"))
    with pytest.raises(InputError, match="n >= 3"):
        ExactCorrelationModel(EffectSizes.from_arrays([0.1], [0.1], ni=[2], measure="COR"))
    with pytest.raises(InputError, match="exactly 1"):
        ExactCorrelationModel(EffectSizes.from_arrays([1.0], [0.1], ni=[20], measure="COR"))
    with pytest.raises(InputError, match="not 1 / "):
        ExactCorrelationModel(EffectSizes.from_arrays([0.3], [0.1], ni=[20], measure="ZCOR"))
    with pytest.raises(InputError, match="DataFrame"):
        ExactCorrelationModel(load_dataset("molloy2014").frame)


def test_everything_prints():
    fit = ExactCorrelationModel(escalc(load_dataset("molloy2014"))).fit()
    assert max(map(len, fit.summary().splitlines())) <= 80
    assert "Hotelling" in fit.methods_text()
    assert "<table" in fit._repr_html_()
    assert fit.glance().shape[0] == 1
    assert list(fit.tidy()) == ["estimate", "se", "stat", "pval", "ci_lb", "ci_ub"]
    wide, narrow = fit.predict(level=0.99).iloc[0], fit.predict(level=0.9).iloc[0]
    assert wide.ci_lb < narrow.ci_lb < fit.beta[0] < narrow.ci_ub < wide.ci_ub
    assert profile_interval(fit.fitted, 0, level=0.99) == pytest.approx((wide.ci_lb, wide.ci_ub))
