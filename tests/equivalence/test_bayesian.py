"""The exact posterior by other routes: refits, restricted models, closed forms, sums over grids, draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

import alliance_meta as am
from alliance_meta import EffectSizes, priors
from alliance_meta.bayes import arviz_bridge
from alliance_meta.core.bayes.two_level import search_range
from tests.tolerances import CLOSED_FORM

# Two quadratures of the same integral.
QUADRATURE = 1e-11


def made(k, *, seed=1, p=0):
    rng = np.random.default_rng(seed)
    v = 1 / (rng.integers(20, 200, k) - 3.0)
    mods = {f"x{j}": rng.normal(3, 1, k) for j in range(p)} or None
    return EffectSizes.from_arrays(0.25 + rng.normal(size=k) * np.sqrt(v + 0.02), v, mods=mods, measure="ZCOR")


@pytest.fixture(scope="module")
def plain():
    return am.BayesianModel(made(12)).fit()


@pytest.fixture(scope="module")
def regression():
    return am.BayesianModel(made(20, p=2), mods="x0 + x1").fit()


def dense(fit, tau):
    """Return the log density of y at each tau from its covariance matrix, the coefficients integrated out."""
    es, design = fit.effects, fit.design
    centred = design.X - np.r_[0, design.X[:, 1:].mean(axis=0)]
    spread = centred * np.array([prior.sd for prior in fit.priors.coefficients])
    return np.array(
        [stats.multivariate_normal.logpdf(es.yi, cov=np.diag(es.vi + t**2) + spread @ spread.T) for t in tau]
    )


@pytest.mark.parametrize("name", ["plain", "regression"])
def test_marginal_likelihood_and_tau_by_brute_force(name, request):
    """A dense covariance matrix and Simpson's rule, nothing shared with the engine."""
    fit = request.getfixturevalue(name)
    tau = np.linspace(0, 1.2, 1601)
    logs = dense(fit, tau) + stats.halfnorm.logpdf(tau, scale=0.3)
    weight = np.exp(logs - logs.max())
    total = integrate.simpson(weight, x=tau)
    assert fit.log_marginal_likelihood == pytest.approx(logs.max() + np.log(total), abs=1e-8)
    assert fit.posterior("tau").mean == pytest.approx(integrate.simpson(weight * tau, x=tau) / total, rel=1e-8)


def test_the_density_of_tau_is_the_slope_of_its_probabilities(plain):
    tau = plain.posterior("tau")
    x = np.linspace(0.01, 0.6, 40)
    step = 1e-5
    np.testing.assert_allclose(tau.pdf(x), (tau.cdf(x + step) - tau.cdf(x - step)) / (2 * step), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(tau.cdf(x) + tau.sf(x), 1, atol=1e-14)
    p = np.array([1e-9, 1e-4, 0.3, 0.5, 0.9, 1 - 1e-9])
    np.testing.assert_allclose(tau.cdf(tau.quantile(p)), p, rtol=1e-6)


@pytest.mark.parametrize("what", ["mu", "theta_new", "theta[3]"])
@pytest.mark.parametrize("scale", ["z", "r"])
def test_effects_hang_together(plain, what, scale):
    name = f"theta[{plain.effects.slab[2]}]" if what == "theta[3]" else what
    one = plain.posterior(name, scale=scale)
    x = np.linspace(-0.2, 0.7, 19)
    step = 1e-5
    np.testing.assert_allclose(one.pdf(x), (one.cdf(x + step) - one.cdf(x - step)) / (2 * step), rtol=1e-5, atol=1e-7)
    p = np.array([1e-6, 0.025, 0.5, 0.975, 1 - 1e-6])
    np.testing.assert_allclose(one.cdf(one.quantile(p)), p, rtol=1e-9)
    grid = np.linspace(-0.999, 0.999, 20001) if scale == "r" else np.linspace(-4, 5, 20001)
    density = one.pdf(grid)
    mean = np.trapezoid(density * grid, grid)
    assert one.mean == pytest.approx(mean, rel=1e-7)
    assert one.sd == pytest.approx(np.sqrt(np.trapezoid(density * (grid - mean) ** 2, grid)), rel=1e-6)


def test_the_joint_density_has_the_margins(plain):
    mu, tau = np.linspace(-1, 1.5, 1201), np.linspace(0, 1.6, 1201)
    joint = plain.joint_density(mu[:, None], tau)
    np.testing.assert_allclose(
        np.trapezoid(joint, tau)[::100], plain.posterior("mu").pdf(mu[::100]), rtol=1e-5, atol=1e-7
    )
    over_mu = np.trapezoid(joint, mu, axis=0)
    np.testing.assert_allclose(over_mu[1::100], plain.posterior("tau").pdf(tau[1::100]), rtol=1e-5, atol=1e-9)


def test_without_heterogeneity_it_is_the_conjugate_update():
    es, prior = made(8), priors.Normal(0.1, 0.2)
    fit = am.BayesianModel(es, mu_prior=prior, tau_prior=priors.HalfNormal(1e-9)).fit()
    precision = (1 / es.vi).sum() + 1 / 0.2**2
    mean = ((es.yi / es.vi).sum() + 0.1 / 0.2**2) / precision
    assert fit.beta[0] == pytest.approx(mean, rel=CLOSED_FORM)
    assert fit.se[0] == pytest.approx(precision**-0.5, rel=CLOSED_FORM)
    assert fit.bayes_factor("tau = 0").bf01 == pytest.approx(1, abs=1e-9)


def test_flat_priors_and_a_fixed_tau_give_the_frequentist_fit():
    es = made(15, p=2)
    model = am.RandomEffectsModel(es, mods="x0 + x1", method="EE", test="z").fit()
    flat = {"mu_prior": priors.Flat(), "beta_prior": priors.Flat(), "tau_prior": priors.HalfNormal(1e-9)}
    fit = am.BayesianModel(es, mods="x0 + x1", **flat).fit()
    np.testing.assert_allclose(fit.beta, model.beta, rtol=1e-10)
    np.testing.assert_allclose(fit.vb, model.vb, rtol=1e-9)
    np.testing.assert_allclose(fit.ci_lb, model.ci_lb, rtol=1e-9)


def test_the_restricted_likelihood_is_the_posterior_of_tau():
    """With flat coefficients and a uniform tau the density of tau has its top where REML has its estimate."""
    es = made(40, p=1)
    fit = am.BayesianModel(
        es, mods="x0", mu_prior=priors.Flat(), beta_prior=priors.Flat(), tau_prior=priors.Uniform(5)
    ).fit()
    reml = am.RandomEffectsModel(es, mods="x0", test="z").fit()
    tau, x = fit.posterior("tau"), np.sqrt(reml.tau2)
    assert tau.pdf(x) > max(tau.pdf(x - 1e-4), tau.pdf(x + 1e-4))
    # Twice the log of a ratio of densities is the likelihood ratio.
    other = am.RandomEffectsModel(es, mods="x0", test="z", tau2=0.04).fit()
    ratio = np.log(float(tau.pdf(x) / tau.pdf(0.2)))
    assert ratio == pytest.approx(reml.loglik - other.loglik, rel=1e-9)


def test_every_study_left_out_is_a_refit(plain):
    loo = plain.loo()
    table = loo.tidy()
    es = plain.effects
    for i in (0, 5, 11):
        rows = np.delete(np.arange(12), i)
        rest = am.BayesianModel(es.take(rows)).fit()
        row = table.iloc[i]
        assert row["elpd"] == pytest.approx(plain.log_marginal_likelihood - rest.log_marginal_likelihood, abs=1e-11)
        assert row["mean[mu]"] == pytest.approx(rest.beta[0], rel=QUADRATURE)
        assert row["sd[mu]"] == pytest.approx(rest.se[0], rel=QUADRATURE)
        assert row["mean[tau]"] == pytest.approx(rest.posterior("tau").mean, rel=QUADRATURE)
        # What the others predict for this study: a new true effect and its sampling error.
        weight, tau = rest.exact.weight, rest.exact.tau
        sd = np.sqrt(rest.exact.root[:, 0, 0] ** 2 + tau**2 + es.vi[i])
        pit = weight @ special.ndtr((es.yi[i] - rest.exact.mean[:, 0]) / sd)
        assert row["pit"] == pytest.approx(pit, rel=1e-10)
    assert loo.elpd == pytest.approx(table["elpd"].sum(), rel=CLOSED_FORM)
    assert 0 < loo.p_loo < 4
    assert loo.error_bound < 1e-10


@pytest.mark.parametrize("heavy", [False, True])
def test_leaving_out_with_moderators_is_a_refit(heavy):
    es = made(14, p=1)
    own = {"x0": priors.Cauchy(0, 0.1) if heavy else priors.Normal(0, 0.2)}
    # Without centring: the prior of the mean effect would move with the average of the moderator.
    es = EffectSizes.from_arrays(
        es.yi, es.vi, mods={"x0": es.moderators["x0"], "g": np.where(np.arange(14) % 2, "a", "b")}, measure="ZCOR"
    )
    groups = {"g[a]": priors.Normal(0, 0.5), "g[b]": priors.Normal(0, 0.5)}
    fit = am.BayesianModel(es, mods="0 + g + x0", beta_prior=own | groups).fit()
    rest = am.BayesianModel(es.take(np.arange(1, 14)), mods="0 + g + x0", beta_prior=own | groups).fit()
    row = fit.loo().tidy().iloc[0]
    assert row["elpd"] == pytest.approx(fit.log_marginal_likelihood - rest.log_marginal_likelihood, abs=1e-11)
    np.testing.assert_allclose([row[f"mean[{name}]"] for name in fit.names], rest.beta, rtol=1e-10)
    np.testing.assert_allclose([row[f"sd[{name}]"] for name in fit.names], rest.se, rtol=1e-10)


def test_a_point_null_is_the_model_without_the_coefficient(regression):
    es = regression.effects
    factor = regression.bayes_factor("x1 = 0")
    chosen = dict(zip(regression.priors.names, regression.priors.coefficients, strict=True))
    without = am.BayesianModel(es, mods="x0", beta_prior={"x0": chosen["x0"]}).fit()
    log = without.log_marginal_likelihood - regression.log_marginal_likelihood
    assert factor.log_bf01 == pytest.approx(log, abs=1e-11)
    # Savage and Dickey's ratio is the third route.
    assert factor.check == pytest.approx(factor.bf01, rel=1e-11)


def test_a_point_null_of_the_mean_is_the_model_with_the_mean_fixed(plain):
    es = plain.effects
    fixed = am.BayesianModel(es, mu_prior=priors.Normal(0, 1e-9)).fit()
    log = fixed.log_marginal_likelihood - plain.log_marginal_likelihood
    assert plain.bayes_factor("mu = 0").log_bf01 == pytest.approx(log, abs=1e-9)
    assert plain.bayes_factor("mu = 0").check == pytest.approx(plain.bayes_factor("mu = 0").bf01, rel=1e-10)


def test_bayes_factors_far_out_keep_their_digits():
    """Hundreds of standard errors from 0, where the nodes of the posterior have no digits left."""
    rng = np.random.default_rng(2)
    es = EffectSizes.from_arrays(1 + rng.normal(0, 0.01, 30), np.full(30, 1e-4), measure="ZCOR")
    fit = am.BayesianModel(es).fit()
    fixed = am.BayesianModel(es, mu_prior=priors.Normal(0, 1e-9)).fit()
    factor = fit.bayes_factor("mu = 0")
    assert factor.log_bf01 == pytest.approx(fixed.log_marginal_likelihood - fit.log_marginal_likelihood, rel=1e-9)
    assert factor.log_bf01 < -80
    assert factor.error < 1e-11


def test_ranges_are_sums(plain):
    """P(a < mu < b) of posterior and prior by their distribution functions."""
    prior = plain.priors.coefficients[0]
    for text, lower, upper in (("mu > 0.1", 0.1, np.inf), ("|mu| < 0.2", -0.2, 0.2), ("mu < 0.3", -np.inf, 0.3)):
        p, q = plain.posterior("mu").prob(lower, upper), float(prior.cdf(upper) - prior.cdf(lower))
        factor = plain.bayes_factor(text)
        assert factor.bf01 == pytest.approx((p / (1 - p)) / (q / (1 - q)), rel=1e-9)
        assert factor.check == pytest.approx(factor.bf01, rel=1e-9)
    p, q = plain.posterior("tau").prob(0, 0.1), float(plain.priors.tau.cdf(0.1))
    assert plain.bayes_factor("tau < 0.1").bf01 == pytest.approx((p / (1 - p)) / (q / (1 - q)), rel=1e-10)


@pytest.mark.parametrize("k", [1, 5, 30])
def test_a_cauchy_prior_is_voigt_s_profile(k):
    """Given tau a Cauchy prior and a normal likelihood make a Voigt profile, which SciPy has."""
    es = made(k)
    fit = am.BayesianModel(es, mu_prior=priors.Cauchy(0.1, 0.3)).fit()
    flat = am.BayesianModel(es, mu_prior=priors.Flat()).fit()
    weight, tau = flat.exact.density.weight[0], flat.exact.density.tau
    total = es.vi + tau[:, None] ** 2
    precision = (1 / total).sum(axis=1)
    mean = (es.yi / total).sum(axis=1) / precision
    inside = weight > 1e-25
    voigt = special.voigt_profile(mean[inside] - 0.1, precision[inside] ** -0.5, 0.3)
    log = flat.exact.log_marginal + np.log(weight[inside] @ voigt)
    assert fit.log_marginal_likelihood == pytest.approx(log, abs=1e-10)
    x = np.linspace(-1, 1.5, 11)
    # The density of mu: the Cauchy prior times the normal likelihood, mixed over tau.
    likelihood = stats.norm.pdf(x[:, None], mean[inside], precision[inside] ** -0.5)
    density = stats.cauchy.pdf(x, 0.1, 0.3) * (likelihood @ weight[inside]) / (weight[inside] @ voigt)
    np.testing.assert_allclose(fit.posterior("mu").pdf(x), density, rtol=1e-9, atol=1e-12)


def test_a_t_prior_with_many_degrees_of_freedom_is_normal():
    es = made(10, p=1)
    near = am.BayesianModel(es, mods="x0", mu_prior=priors.StudentT(1e6, 0, 0.5)).fit()
    exact = am.BayesianModel(es, mods="x0").fit()
    np.testing.assert_allclose(near.tidy().to_numpy(dtype=float), exact.tidy().to_numpy(dtype=float), rtol=1e-5)
    assert near.log_marginal_likelihood == pytest.approx(exact.log_marginal_likelihood, abs=1e-5)


def test_a_t_prior_s_bayes_factor_is_savage_and_dickey_s():
    fit = am.BayesianModel(made(10), mu_prior=priors.StudentT(3, 0, 0.3)).fit()
    factor = fit.bayes_factor("mu = 0")
    assert factor.check == pytest.approx(factor.bf01, rel=1e-10)
    fixed = am.BayesianModel(made(10), mu_prior=priors.Normal(0, 1e-9)).fit()
    assert factor.log_bf01 == pytest.approx(fixed.log_marginal_likelihood - fit.log_marginal_likelihood, abs=1e-9)


def test_combinations_of_true_effects(plain):
    a, b = (f"theta[{label}]" for label in plain.effects.slab[:2])
    difference = plain.posterior({a: 1, b: -1})
    assert difference.mean == pytest.approx(plain.posterior(a).mean - plain.posterior(b).mean, rel=1e-9)
    assert plain.posterior({a: 1}).quantile(0.9) == pytest.approx(plain.posterior(a).quantile(0.9), rel=CLOSED_FORM)
    # Given tau the two share only the mean effect.
    weight, tau = plain.exact.weight, plain.exact.tau
    v, root = plain.effects.vi[:2], plain.exact.root[:, 0, 0]
    own = tau[:, None] ** 2 / (v + tau[:, None] ** 2)
    mean = plain.exact.mean + own * (plain.effects.yi[:2] - plain.exact.mean)
    gap, away = mean[:, 0] - mean[:, 1], own[:, 0] - own[:, 1]
    within = own @ v + (away * root) ** 2
    centre = weight @ gap
    assert difference.sd == pytest.approx(np.sqrt(weight @ (within + (gap - centre) ** 2)), rel=1e-10)


def test_the_mean_true_correlation(plain):
    """Its distribution from many independent draws of mu and tau, within their error."""
    row = plain.predict(scale="r_mean").iloc[0]
    draws = {name: x.ravel() for name, x in arviz_bridge.draws(plain.to_arviz(draws=8000, seed=3)).items()}
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    mean = np.tanh(draws["mu"][:, None] + draws["tau"][:, None] * nodes) @ weights / np.sqrt(2 * np.pi)
    assert row.pred == pytest.approx(np.median(mean), abs=5 * 1.25 * mean.std() / 8000**0.5)
    assert row.se == pytest.approx(mean.std(), rel=0.04)
    assert (mean < row.ci_lb).mean() == pytest.approx(0.025, abs=0.008)
    assert (mean > row.ci_ub).mean() == pytest.approx(0.025, abs=0.008)


@pytest.mark.parametrize("heavy", [False, True])
def test_draws_come_from_the_posterior(heavy):
    es = made(6)
    fit = am.BayesianModel(es, mu_prior=priors.Cauchy(0, 0.3) if heavy else priors.Normal(0, 0.5)).fit()
    draws = arviz_bridge.draws(fit.to_arviz(draws=4000, seed=8))
    assert draws["mu"].shape == (4, 1000)
    named = {"mu": draws["mu"], "tau": draws["tau"], "theta_new": draws["theta_new"]}
    named |= {f"theta[{label}]": draws["theta"][..., i] for i, label in enumerate(es.slab[:2])}
    for name, values in named.items():
        # The seed is fixed: a p-value this small means a wrong sampler.
        assert stats.kstest(values.ravel(), fit.posterior(name).cdf).pvalue > 1e-3
    a, b = draws["mu"].ravel(), draws["theta"][..., 0].ravel()
    expected = _correlation(fit)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(expected, abs=0.06)


def _correlation(fit):
    """Return the posterior correlation of mu and the first true effect, from the variance of their difference."""
    name = f"theta[{fit.effects.slab[0]}]"
    mu, theta = fit.posterior("mu").sd, fit.posterior(name).sd
    return (mu**2 + theta**2 - fit.posterior({"mu": 1, name: -1}).sd ** 2) / (2 * mu * theta)


HEAVY = [
    # Of tau the moments below df + 1 exist, but not all within reach of the quadrature; of mu those below df + df + 1.
    (priors.Normal(0, 0.5), priors.HalfT(1.1, 0.2), (True, True), (True, True)),
    (priors.Normal(0, 0.5), priors.HalfT(1.01, 0.2), (False, False), (True, True)),
    (priors.Normal(0, 0.5), priors.HalfT(0.05, 0.2), (False, False), (True, True)),
    (priors.Normal(0, 0.5), priors.HalfCauchy(0.2), (True, False), (True, True)),
    (priors.Cauchy(0, 0.3), priors.HalfCauchy(0.2), (True, False), (True, True)),
    (priors.StudentT(0.3, 0, 0.3), priors.HalfT(0.5, 0.2), (True, False), (True, False)),
    (priors.StudentT(0.2, 0, 0.3), priors.Lomax(0.7, 0.2), (True, False), (True, False)),
]


@pytest.mark.parametrize(("mu", "tau", "of_tau", "of_mu"), HEAVY, ids=str)
def test_moments_under_heavy_tails_are_right_or_not_given(mu, tau, of_tau, of_mu):
    """One study: tau on a grid of logarithms that reaches to 1e150."""
    y, v = 0.3, 0.02
    fit = am.BayesianModel(EffectSizes.from_arrays([y], [v], measure="ZCOR"), mu_prior=mu, tau_prior=tau).fit()
    found = {name: (fit.posterior(name).mean, fit.posterior(name).sd) for name in ("tau", "mu")}
    assert [one == one for one in (*found["tau"], *found["mu"])] == [*of_tau, *of_mu]
    s = np.linspace(np.log(1e-8), np.log(1e150), 40001)
    t = np.exp(s)
    if isinstance(mu, priors.Normal):
        weight = stats.norm.pdf(y, 0, np.sqrt(v + t**2 + 0.25)) * tau.pdf(t) * t
        mean = (weight * t).sum() / weight.sum()
        spread = np.sqrt((weight * (t - mean) ** 2).sum() / weight.sum())
        for known, exact in zip(found["tau"], (mean, spread), strict=True):
            assert known != known or known == pytest.approx(exact, rel=1e-7)


def test_the_mass_of_tau_lies_where_it_is_looked_for():
    """Many studies that agree, and no prior that says how small tau is: it lies far below every standard error."""
    y = np.random.default_rng(0).normal(0, 0.1, 2000)
    es = EffectSizes.from_arrays(y, np.full(2000, 0.01))
    fit = am.BayesianModel(es, mu_prior=priors.Flat(), tau_prior=priors.Uniform()).fit()
    low, high = search_range(fit.exact.problem)
    assert low < fit.posterior("tau").quantile(1e-3) < fit.posterior("tau").quantile(0.999) < high
