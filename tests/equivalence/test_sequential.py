"""Sequential updating: each step is a fit of its own, and predictions made step by step add up to the evidence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

import alliance_meta as am
from alliance_meta import EffectSizes, priors
from alliance_meta.bayes import sequential
from tests.tolerances import CLOSED_FORM

YEARS = [2001, 1995, 1995, 2010, 1999, 2003, 2010, 2010, 2015, 1990]


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(4)
    v = 1 / (rng.integers(20, 200, 10) - 3.0)
    y = 0.2 + rng.normal(size=10) * np.sqrt(v + 0.03)
    es = EffectSizes.from_arrays(y, v, mods={"year": YEARS, "x": rng.normal(5, 2, 10)}, measure="ZCOR")
    return am.BayesianModel(es).fit()


@pytest.mark.parametrize("ties", ["together", "rows"])
@pytest.mark.parametrize("order", ["year", "-year", "given", list("cabjehdgfi")])
def test_every_step_is_a_fit_of_its_own(fit, order, ties):
    found = sequential(fit, order=order, ties=ties)
    table, studies = found.tidy(), found.surprises()
    rows = [list(fit.effects.slab).index(label) for label in studies.index]
    assert sorted(rows) == list(range(10))
    for i in (0, len(table) // 2, len(table) - 1):
        step = table.iloc[i]
        part = am.BayesianModel(fit.effects.take(sorted(rows[: int(step["k"])]))).fit()
        mu, tau, new = (part.posterior(name).interval() for name in ("mu", "tau", "theta_new"))
        assert step[["mu", "mu_ci_lb", "mu_ci_ub"]].tolist() == pytest.approx([mu.estimate, mu.lb, mu.ub], rel=1e-9)
        assert step[["tau", "tau_ci_lb", "tau_ci_ub"]].tolist() == pytest.approx(
            [tau.estimate, tau.lb, tau.ub], rel=1e-9
        )
        assert step[["pi_lb", "pi_ub"]].tolist() == pytest.approx([new.lb, new.ub], rel=1e-9)
        assert step["bf10"] == pytest.approx(part.bayes_factor("mu = 0").bf10, rel=1e-9)
        assert step["log_marginal_likelihood"] == pytest.approx(part.log_marginal_likelihood, abs=1e-11)


def test_the_last_step_is_the_whole_synthesis(fit):
    last = sequential(fit).tidy().iloc[-1]
    assert last["log_marginal_likelihood"] == fit.log_marginal_likelihood
    assert last[["mu", "tau"]].tolist() == pytest.approx([fit.posterior("mu").median, fit.tau], rel=1e-13)
    assert last["bf10"] == pytest.approx(fit.bayes_factor("mu = 0").bf10, rel=CLOSED_FORM)


@pytest.mark.parametrize("options", [{}, {"mu_prior": priors.Cauchy(0.1, 0.3)}], ids=["normal", "Cauchy"])
def test_one_step_predictions_add_up_to_the_evidence(fit, options):
    """Each result under the prediction of a true effect from those before it, and its own sampling error."""
    es = fit.effects.take(range(4))
    whole = am.BayesianModel(es, **options).fit()
    found = sequential(whole, order="given")
    total = am.BayesianModel(es.take([0]), **options).fit().log_marginal_likelihood
    for i in range(1, es.k):
        before = am.BayesianModel(es.take(range(i)), **options).fit()
        new = before.exact.new_effects(before._mean_row[None])
        result = stats.norm(new.mean[0], np.sqrt(new.sd[0] ** 2 + es.vi[i]))
        total += np.log(new.weight @ result.pdf(es.yi[i]))
        below, above = new.weight @ result.cdf(es.yi[i]), new.weight @ result.sf(es.yi[i])
        assert found.surprises()[["pit", "p"]].iloc[i].tolist() == pytest.approx(
            [below, 2 * min(below, above)], rel=1e-9
        )
    assert total == pytest.approx(whole.log_marginal_likelihood, abs=1e-10)
    assert found.tidy()["log_predictive"].sum() == pytest.approx(total, abs=1e-10)


def test_the_order_does_not_change_what_they_add_up_to(fit):
    sums = [
        sequential(fit, order=order, ties="rows").tidy()["log_predictive"].sum() for order in ("year", "-year", "x")
    ]
    assert sums == pytest.approx([fit.log_marginal_likelihood] * 3, abs=1e-11)


def test_the_first_step_by_brute_force(fit):
    """One study: tau by Simpson's rule, the mean by its conjugate normal."""
    found = sequential(fit, order="given").tidy().iloc[0]
    y, v = fit.effects.yi[0], fit.effects.vi[0]
    tau = np.linspace(0, 3, 6001)
    prior = stats.halfnorm.pdf(tau, scale=0.3)
    evidence = integrate.simpson(prior * stats.norm.pdf(y, 0, np.sqrt(0.25 + v + tau**2)), x=tau)
    null = integrate.simpson(prior * stats.norm.pdf(y, 0, np.sqrt(v + tau**2)), x=tau)
    assert found["log_predictive"] == pytest.approx(np.log(evidence), abs=1e-9)
    assert found["bf10"] == pytest.approx(evidence / null, rel=1e-8)


def test_with_moderators_the_coding_stays_that_of_all_studies(fit):
    whole = am.BayesianModel(fit.effects, mods="x").fit()
    found = sequential(whole, order="year")
    assert found.tidy()["log_predictive"].sum() == pytest.approx(whole.log_marginal_likelihood, abs=1e-11)
    assert found.tidy()["mu"].iloc[-1] == pytest.approx(whole.posterior("mu").median, rel=1e-12)
    assert found.tidy()["bf10"].iloc[-1] == pytest.approx(whole.bayes_factor("mu = 0").bf10, rel=CLOSED_FORM)
    # The step with the earliest two studies, by a dense covariance matrix.
    es, rows = fit.effects, [9, 1, 2]
    x = whole.design.X[:, 1]
    slope = whole.priors.coefficients[1].sd
    X = np.column_stack([np.ones(3), x[rows] - x.mean()]) * [0.5, slope]
    tau = np.linspace(0, 2.5, 2501)
    density = [
        stats.multivariate_normal.pdf(es.yi[rows], cov=np.diag(es.vi[rows] + t**2) + X @ X.T)
        * stats.halfnorm.pdf(t, scale=0.3)
        for t in tau
    ]
    assert found.tidy()["log_marginal_likelihood"].iloc[1] == pytest.approx(
        np.log(integrate.simpson(density, x=tau)), abs=1e-8
    )


def test_predictive_p_values_are_uniform_where_the_model_holds():
    """Results drawn from the model itself: the Kolmogorov distance stays below its 99.9% point."""
    rng = np.random.default_rng(2026)
    p = []
    for _ in range(15):
        tau, mu = abs(rng.normal(0, 0.3)), rng.normal(0, 0.5)
        v = rng.uniform(0.005, 0.05, 6)
        es = EffectSizes.from_arrays(rng.normal(mu, np.sqrt(v + tau**2)), v, measure="ZCOR")
        p += sequential(am.BayesianModel(es).fit(), order="given").surprises()["pit"].astype(float).tolist()[1:]
    assert stats.kstest(p, "uniform").statistic < 1.95 / np.sqrt(len(p))
