"""The MAP prior by other routes: the synthesis with the new study in it, integrals, predictive consistency."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

import alliance_meta as am
from alliance_meta import EffectSizes, priors
from alliance_meta.bayes import map_prior
from alliance_meta.core.bayes import map_prior as core
from alliance_meta.core.bayes.mixture import NormalMixture
from tests.tolerances import CLOSED_FORM, ITERATIVE

# Two quadratures of the same integral.
QUADRATURE = 1e-11
P = np.array([1e-4, 0.025, 0.3, 0.5, 0.9, 0.975])


def made(k, *, seed=1, mods=False):
    rng = np.random.default_rng(seed)
    v = 1 / (rng.integers(20, 200, k) - 3.0)
    table = {"x": rng.normal(3, 1, k)} if mods else None
    return EffectSizes.from_arrays(0.25 + rng.normal(size=k) * np.sqrt(v + 0.02), v, mods=table, measure="ZCOR")


def with_one_more(es, y, v, x=None):
    mods = None if x is None else {"x": np.append(es.moderators["x"], x)}
    return EffectSizes.from_arrays(np.append(es.yi, y), np.append(es.vi, v), mods=mods, measure="ZCOR")


def assert_same(after, whole, fit, k):
    label = f"theta[{whole.effects.slab[k]}]"
    mine, theirs = after.marginal(), whole.posterior(label)
    np.testing.assert_allclose(mine.quantile(P), theirs.quantile(P), rtol=QUADRATURE, atol=QUADRATURE)
    assert mine.mean == pytest.approx(theirs.mean, rel=QUADRATURE)
    assert mine.sd == pytest.approx(theirs.sd, rel=QUADRATURE)
    difference = whole.log_marginal_likelihood - fit.log_marginal_likelihood
    assert after.log_predictive == pytest.approx(difference, abs=1e-11 * abs(whole.log_marginal_likelihood) + 1e-12)
    r = after.marginal(scale="r").interval()
    expected = whole.posterior(label, scale="r").interval()
    assert (r.lb, r.ub) == pytest.approx((expected.lb, expected.ub), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mu_prior": priors.Cauchy(0, 0.3)},
        {"tau_prior": priors.HalfCauchy(0.15)},
        {"mu_prior": priors.Normal(0.2, 0.1), "tau_prior": priors.InverseGamma(1, 0.075)},
    ],
    ids=["default", "heavy mu", "heavy tau", "informative"],
)
# The last two lie far from the other studies.
@pytest.mark.parametrize(("r", "n"), [(0.35, 60), (0.1, 8), (0.9, 300), (-0.8, 2000)])
def test_prior_and_result_are_the_synthesis_of_all_studies(options, r, n):
    es = made(9)
    fit = am.BayesianModel(es, **options).fit()
    whole = am.BayesianModel(with_one_more(es, np.arctanh(r), 1 / (n - 3)), **options).fit()
    assert_same(map_prior(fit).update(ri=r, ni=n), whole, fit, 9)


@pytest.mark.parametrize("x", [1.0, 3.2, 9.0])
def test_with_moderators_too(x):
    es = made(14, mods=True)
    # Without an intercept the priors do not move with the average of the moderator.
    options = {"mods": "0 + x", "beta_prior": priors.Normal(0, 0.2)}
    fit = am.BayesianModel(es, **options).fit()
    whole = am.BayesianModel(with_one_more(es, 0.6, 0.02, x), **options).fit()
    after = map_prior(fit, newdata={"x": [x]}).update(yi=0.6, vi=0.02)
    assert_same(after, whole, fit, 14)
    assert map_prior(fit, newdata={"x": [x]}).tidy().loc["theta_new", "ci_lb"] == pytest.approx(
        fit.predict({"x": [x]})["pi_lb"].iloc[0], rel=CLOSED_FORM
    )


def test_with_flat_priors_it_is_the_synthesis_too():
    es = made(6)
    options = {"mu_prior": priors.Flat(), "tau_prior": priors.Uniform(2)}
    fit = am.BayesianModel(es, **options).fit()
    whole = am.BayesianModel(with_one_more(es, 0.4, 0.01), **options).fit()
    after = map_prior(fit).update(yi=0.4, vi=0.01)
    theirs = whole.posterior(f"theta[{whole.effects.slab[6]}]").quantile(P)
    np.testing.assert_allclose(after.marginal().quantile(P), theirs, rtol=QUADRATURE, atol=QUADRATURE)
    assert after.log_predictive == pytest.approx(whole.exact.log_marginal - fit.exact.log_marginal, abs=1e-11)


def test_the_vague_part_takes_over_by_bayes_theorem():
    fit = am.BayesianModel(made(9)).fit()
    plain, robust = (map_prior(fit, robust=w).update(ri=0.7, ni=50) for w in (0.0, 0.2))
    y, v = np.arctanh(0.7), 1 / 47
    like = stats.norm.pdf(y, 0, np.sqrt(1 + v)), np.exp(plain.log_predictive)
    share = 0.2 * like[0] / (0.2 * like[0] + 0.8 * like[1])
    assert robust.robust == pytest.approx(share, rel=1e-10)
    assert robust.log_predictive == pytest.approx(np.log(0.2 * like[0] + 0.8 * like[1]), rel=1e-10)
    alone = stats.norm(y / (1 + v), np.sqrt(v / (1 + v)))
    x = np.array([0.3, 0.6, 0.85, 1.0])
    expected = share * alone.cdf(x) + (1 - share) * plain.marginal().cdf(x)
    np.testing.assert_allclose(robust.marginal().cdf(x), expected, rtol=1e-10)


def test_predictive_p_is_that_of_the_prior_and_the_sampling_error():
    fit = am.BayesianModel(made(9)).fit()
    prior = map_prior(fit, robust=0.1)
    after = prior.update(ri=0.5, ni=40)
    sd = 1 / np.sqrt(37)

    def joint(theta):
        return float(prior.marginal().pdf(theta)) * stats.norm.cdf(np.arctanh(0.5), theta, sd)

    assert after.pit == pytest.approx(integrate.quad(joint, -6, 6, points=(0.1, 0.3), epsabs=1e-12)[0], rel=1e-8)
    assert after.p == pytest.approx(2 * (1 - after.pit), rel=CLOSED_FORM)


def log_density(mixture, x):
    return float(stats.norm.logpdf(x, mixture.mean[0], mixture.sd[0]).max()) + float(
        np.log(
            mixture.weight
            @ np.exp(
                stats.norm.logpdf(x, mixture.mean[0], mixture.sd[0])
                - stats.norm.logpdf(x, mixture.mean[0], mixture.sd[0]).max()
            )
        )
    )


def second_difference(mixture, x, h=1e-3):
    """Return -(log p)'' by differences of the eighth order."""
    c = np.array([-1 / 560, 8 / 315, -1 / 5, 8 / 5, -205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560])
    return -sum(w * log_density(mixture, x + j * h) for w, j in zip(c, range(-4, 5), strict=True)) / h**2


TWO = NormalMixture(np.array([0.3, 0.7]), np.array([[0.0, 0.2]]), np.array([[0.5, 0.1]]))


def test_elir_is_the_mean_curvature():
    def integrand(x):
        return np.exp(log_density(TWO, x)) * second_difference(TWO, x)

    pieces = [integrate.quad(integrand, a, b, epsabs=1e-9, limit=200)[0] for a, b in ((-3, 0), (0, 0.4), (0.4, 3))]
    found, error = core.mean_information(TWO)
    assert found == pytest.approx(sum(pieces), rel=1e-7)
    assert error < 1e-10 * found


def test_one_normal_has_one_effective_sample_size():
    one = NormalMixture(np.ones(1), np.array([[0.3]]), np.array([[0.2]]))
    assert core.mean_information(one)[0] == pytest.approx(25, rel=CLOSED_FORM)
    assert core.peak_information(one) == pytest.approx((0.3, 25), rel=ITERATIVE)


def test_elir_of_a_student_t_is_its_fisher_information():
    """The heavy-tailed prior of Neuenschwander et al. (2020): (df + 1) / (df + 3) / scale^2."""
    df, scale = 5.0, 0.2
    u, w = np.polynomial.legendre.leggauss(300)
    spread = scale / np.sqrt(stats.chi2.ppf((u + 1) / 2, df) / df)
    t = NormalMixture(w / w.sum(), np.zeros((1, 300)), spread[None])
    assert core.mean_information(t)[0] == pytest.approx((df + 1) / (df + 3) / scale**2, rel=5e-6)


def test_elir_is_predictively_consistent():
    """Over results as they are to be expected the prior's size and that of the data add up, on average."""
    n = 40.0
    total = TWO.sd[0] ** 2 + 1 / n
    ahead = NormalMixture(TWO.weight, TWO.mean, np.sqrt(total)[None])
    grid = np.linspace(-3.5, 3.5, 701)
    sizes = []
    for y in grid:
        log = np.log(TWO.weight) + stats.norm.logpdf(y, TWO.mean[0], np.sqrt(total))
        weight = np.exp(log - log.max())
        own = TWO.sd[0] ** 2 / total
        mean = TWO.mean[0] + own * (y - TWO.mean[0])
        after = NormalMixture(weight / weight.sum(), mean[None], np.sqrt(own / n)[None])
        sizes.append(core.mean_information(after)[0])
    average = np.trapezoid(ahead.pdf(grid[None])[0] * sizes, grid)
    assert average == pytest.approx(core.mean_information(TWO)[0] + n, rel=1e-8)


def test_the_three_effective_sample_sizes_of_a_synthesis():
    fit = am.BayesianModel(made(12)).fit()
    prior = map_prior(fit)
    one = fit.posterior("theta_new")
    assert prior.ess("moment") == pytest.approx(one.sd**-2, rel=CLOSED_FORM)
    x = np.linspace(0.0, 0.5, 2001)
    mode = x[np.argmax(one.pdf(x))]
    peak = max(second_difference(prior.mixture, at) for at in np.linspace(mode - 5e-4, mode + 5e-4, 11))
    assert prior.ess("morita") == pytest.approx(peak, rel=1e-3)
    assert prior.ess("moment") < prior.ess() < prior.ess("morita")

    def integrand(z):
        step = 1e-5
        slope = (float(one.pdf(z + step)) - float(one.pdf(z - step))) / (2 * step)
        return slope**2 / float(one.pdf(z))

    pieces = [integrate.quad(integrand, a, b, epsabs=1e-8)[0] for a, b in ((-1.5, 0), (0, 0.25), (0.25, 0.5), (0.5, 2))]
    assert prior.ess() == pytest.approx(sum(pieces), rel=1e-5)


def test_few_normals_are_near_and_come_nearer():
    fit = am.BayesianModel(made(12)).fit()
    exact = map_prior(fit).marginal()
    grid, wide = np.linspace(-1.5, 2, 3001), np.linspace(-3, 3.5, 6001)
    last = np.inf
    for count in (1, 2, 3, 4):
        prior = map_prior(fit, components=count)
        few = prior.components
        cdf = stats.norm.cdf(grid[:, None], few["mean"], few["sd"]) @ few["weight"]
        assert np.abs(cdf - exact.cdf(grid)).max() == pytest.approx(prior.normals.error, rel=0.02)
        p = exact.pdf(wide)
        q = stats.norm.pdf(wide[:, None], few["mean"], few["sd"]) @ few["weight"]
        shown = (p > 1e-30) & (q > 1e-300)
        divergence = np.trapezoid(p[shown] * np.log(p[shown] / q[shown]), wide[shown])
        assert divergence == pytest.approx(prior.normals.divergence, rel=1e-5, abs=1e-8)
        assert divergence < last
        last = divergence
    one = map_prior(fit, components=1).components.iloc[0]
    # The nearest normal has the moments of the prior.
    assert one[["mean", "sd"]].tolist() == pytest.approx([exact.mean, exact.sd], rel=1e-6)
