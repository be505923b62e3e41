"""The exact three-level posterior against dense matrices, adaptive quadrature and the two-level engine."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge, priors
from alliance_meta.core.bayes.three_level import given_deviations, thinned
from tests.tolerances import CLOSED_FORM

STUDY = ["a", "a", "a", "b", "c", "c", "d", "e", "e", "f"]
Y = np.array([0.31, 0.22, 0.45, 0.05, 0.52, 0.40, 0.18, 0.29, 0.11, 0.36])
N = np.array([40, 40, 35, 120, 25, 25, 80, 60, 60, 150])
YEAR = np.array([1999.0, 1999, 1999, 2004, 2010, 2010, 2012, 2015, 2015, 2020])
MU, TAU = priors.Normal(0.0, 0.5), priors.HalfNormal(0.3)


def fit_multilevel(es, **options):
    return am.BayesianModel(es, **{"random": ("study_id", "es_id"), **options}).fit()


def effects(rows=slice(None)):
    return am.EffectSizes.from_arrays(
        Y[rows],
        1 / (N[rows] - 3.0),
        mods=pd.DataFrame({"year": YEAR[rows]}),
        study_id=STUDY[rows],
        slab=[f"row {i}" for i in range(len(Y[rows]))],
        measure="ZCOR",
    )


def same(rows=slice(None)):
    study = np.array(STUDY[rows])
    return (study[:, None] == study).astype(float)


def covariance(es, rho, rows=slice(None)):
    s = np.sqrt(es.vi)
    return np.outer(s, s) * (rho * same(rows) + (1 - rho) * np.eye(es.k))


@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("mods", ["1", "year"])
def test_the_likelihood_is_the_dense_normal_density(rho, mods):
    es = effects()
    V = covariance(es, rho)
    fit = fit_multilevel(es, V=am.impute_V(es, rho=rho) if rho else None, mods=mods)
    X = fit.design.X - np.where(np.arange(fit.p) > 0, fit.design.X.mean(axis=0), 0.0)
    sd = np.array([one.sd for one in fit.priors.coefficients])
    s1, s2 = np.array([0.0, 0.1, 0.4, 0.1]), np.array([0.0, 0.05, 0.05, 0.3])
    found = given_deviations(fit.exact.data, s1, s2)
    for i in range(4):
        M = V + s1[i] ** 2 * same() + s2[i] ** 2 * np.eye(10)
        expected = stats.multivariate_normal.logpdf(Y, np.zeros(10), M + X * sd**2 @ X.T)
        assert found.loglik[i] == pytest.approx(expected, abs=1e-9)
        inverse = np.linalg.inv(M)
        vb = np.linalg.inv(X.T @ inverse @ X + np.diag(sd**-2.0))
        assert found.mean[i] == pytest.approx(vb @ X.T @ inverse @ Y, abs=1e-11)
        assert found.root[i].T @ found.root[i] == pytest.approx(vb, rel=1e-8)


def test_a_tiny_case_meets_dense_quadrature():
    """Six rows in three studies: dense normal densities on a fine grid of both deviations, at two resolutions."""
    rows = slice(0, 6)
    es = effects(rows)
    found = []
    for n in (60, 90):
        node, weight = np.polynomial.legendre.leggauss(n)
        edges = np.array([0.0, 0.25, 0.8, 3.0])
        half = 0.5 * np.diff(edges)
        s = ((edges[:-1] + half)[:, None] + half[:, None] * node).ravel()
        w = (half[:, None] * weight).ravel() * stats.halfnorm.pdf(s, scale=0.3)
        M = np.diag(es.vi) + 0.25 + s[:, None, None, None] ** 2 * same(rows) + s[:, None, None] ** 2 * np.eye(6)
        squares = np.einsum("i,abij,j->ab", es.yi, np.linalg.inv(M), es.yi)
        density = np.exp(-0.5 * (squares + np.linalg.slogdet(2 * np.pi * M)[1])) * np.outer(w, w)
        whole = density.sum()
        found.append([np.log(whole), density.sum(axis=1) @ s / whole, density.sum(axis=0) @ s**2 / whole])
    assert found[0] == pytest.approx(found[1], rel=1e-11)
    fit = fit_multilevel(es)
    within = fit.posterior("tau[es_id]")
    ours = [fit.log_marginal_likelihood, fit.posterior("tau[study_id]").mean, within.sd**2 + within.mean**2]
    assert ours == pytest.approx(found[1], abs=1e-9)
    assert fit.error_bound < 1e-8


def test_without_variation_within_it_is_the_model_of_study_means():
    """Inverse-variance means of each study carry all information on the mean and the variance between."""
    es = effects()
    almost = fit_multilevel(es, tau_prior={"study_id": TAU, "es_id": priors.HalfNormal(1e-7)})
    frame = pd.DataFrame({"study": STUDY, "w": 1 / es.vi, "wy": es.yi / es.vi}).groupby("study").sum()
    means = am.EffectSizes.from_arrays(frame["wy"] / frame["w"], 1 / frame["w"], measure="ZCOR")
    two = am.BayesianModel(means, mu_prior=MU, tau_prior=TAU).fit()
    for name, other in (("mu", "mu"), ("tau[study_id]", "tau"), ("theta_new", "theta_new")):
        mine, theirs = almost.posterior(name), two.posterior(other)
        assert mine.mean == pytest.approx(theirs.mean, rel=1e-6)
        assert mine.quantile([0.025, 0.5, 0.975]) == pytest.approx(theirs.quantile([0.025, 0.5, 0.975]), rel=1e-6)


def test_without_variation_between_it_is_the_two_level_model():
    es = effects()
    almost = fit_multilevel(es, mods="year", tau_prior={"study_id": priors.HalfNormal(1e-7), "es_id": TAU})
    with pytest.warns(am.errors.DependenceWarning, match="taken as independent"):
        two = am.BayesianModel(es, mods="year").fit()
    assert almost.log_marginal_likelihood == pytest.approx(two.log_marginal_likelihood, abs=1e-6)
    assert almost.beta == pytest.approx(two.beta, rel=1e-6)
    assert almost.vb == pytest.approx(two.vb, rel=1e-6)
    mine, theirs = almost.blup(), two.blup()
    assert mine.to_numpy(float) == pytest.approx(theirs.to_numpy(float), abs=1e-5)
    data = {"year": [2001.0, 2018.0]}
    for scale in ("z", "r", "r_mean"):
        ours, other = almost.predict(data, scale=scale), two.predict(data, scale=scale)
        assert ours.to_numpy(float) == pytest.approx(other.to_numpy(float), abs=1e-5)


def test_true_effects_are_the_dense_conditional_ones():
    es = effects()
    V = covariance(es, 0.6)
    fit = fit_multilevel(es, V=am.impute_V(es, rho=0.6))
    exact = fit.exact
    mean, square = np.zeros(10), np.zeros(10)
    for i, w in enumerate(exact.weight):
        T = exact.between[i] ** 2 * same() + exact.within[i] ** 2 * np.eye(10) + 0.25
        G = T @ np.linalg.inv(T + V)
        m = G @ Y
        mean += w * m
        square += w * (np.diag(T - G @ T) + m**2)
    table = fit.blup()
    assert table["mean"].to_numpy() == pytest.approx(mean, abs=1e-5)
    assert table["sd"].to_numpy() == pytest.approx(np.sqrt(square - mean**2), rel=1e-5)
    # On the thinned grid itself the agreement is exact.
    few = thinned(exact)
    mean = np.zeros(10)
    for w, s1, s2 in zip(few.weight, few.between, few.within, strict=True):
        T = s1**2 * same() + s2**2 * np.eye(10) + 0.25
        mean += w * (T @ np.linalg.solve(T + V, Y))
    assert table["mean"].to_numpy() == pytest.approx(mean, rel=CLOSED_FORM)


def test_bayes_factors_are_ratios_of_marginal_likelihoods():
    es = effects()
    fit = fit_multilevel(es, mods="year")
    with pytest.warns(am.errors.DependenceWarning, match="taken as independent"):
        two = am.BayesianModel(es, mods="year").fit()
    one = fit.bayes_factor("tau[study_id] = 0")
    assert one.log_bf01 == pytest.approx(two.log_marginal_likelihood - fit.log_marginal_likelihood, abs=1e-8)
    alone = fit_multilevel(es)
    slope = fit.bayes_factor("year = 0")
    assert slope.log_bf01 == pytest.approx(alone.log_marginal_likelihood - fit.log_marginal_likelihood, abs=1e-8)
    assert fit.bayes_factor("mu = 0").bf10 == pytest.approx(
        stats.norm.pdf(0, 0, 0.5) / float(fit.posterior("mu").pdf(0.0)), rel=1e-6
    )


@pytest.mark.parametrize(("rho", "mods"), [(0.0, "1"), (0.6, "year")])
def test_leaving_out_is_fitting_without(rho, mods):
    """Every row and every study: density, coefficients and deviations of a fit to all others."""
    es = effects()
    V = am.impute_V(es, rho=rho) if rho else None
    # Priors that do not follow the design, which changes with the rows.
    options = {"mods": mods, "beta_prior": priors.Normal(0, 0.1) if mods == "year" else None, "mu_prior": priors.Flat()}
    options["tau_prior"] = {"study_id": priors.HalfCauchy(0.2), "es_id": TAU}
    whole = fit_multilevel(es, V=V, **options)
    for cluster in (None, "study_id"):
        table = whole.loo(cluster=cluster).tidy()
        for i in range(len(table)):
            kept = np.array(STUDY) != table.index[i] if cluster else np.arange(10) != i
            other = fit_multilevel(es.take(kept), V=None if V is None else V.take(kept), **options)
            row = table.iloc[i]
            assert row["elpd"] == pytest.approx(whole.exact.log_marginal - other.exact.log_marginal, abs=1e-8)
            name = other.names[-1]
            assert row[f"mean[{name}]"] == pytest.approx(other.beta[-1], rel=1e-8)
            # With a flat prior its tails are heavy, and the squares in them count.
            assert row[f"sd[{name}]"] == pytest.approx(other.se[-1], rel=1e-6)
            for tau in ("tau[study_id]", "tau[es_id]"):
                assert row[f"mean[{tau}]"] == pytest.approx(other.posterior(tau).mean, rel=1e-8)


def one_each():
    """One row of each study, in which only the sum of the two levels shows."""
    return am.EffectSizes.from_arrays(
        Y, 1 / (N - 3.0), mods=pd.DataFrame({"year": YEAR}), study_id=list("abcdefghij"), measure="ZCOR"
    )


def almost_two_levels():
    with pytest.warns(am.errors.NotIdentifiedWarning):
        return fit_multilevel(one_each(), mods="year", tau_prior={"study_id": TAU, "es_id": priors.HalfNormal(1e-7)})


def test_with_one_row_each_everything_is_that_of_two_levels():
    three, two = almost_two_levels(), am.BayesianModel(one_each(), mods="year").fit()
    for cluster in (None, "study_id"):
        ours, theirs = three.loo(cluster=cluster), two.loo()
        assert ours.elpd == pytest.approx(theirs.elpd, abs=1e-6)
        assert ours.elpd_se == pytest.approx(theirs.elpd_se, abs=1e-6)
        assert ours.p_loo == pytest.approx(theirs.p_loo, abs=1e-5)
        table, other = ours.tidy(), theirs.tidy()
        for mine, its in (("mean[year]", "mean[year]"), ("sd[year]", "sd[year]"), ("mean[tau[study_id]]", "mean[tau]")):
            assert table[mine].to_numpy(float) == pytest.approx(other[its].to_numpy(float), rel=1e-5)
    assert three.loo().tidy()["pit"].to_numpy() == pytest.approx(two.loo().tidy()["pit"].to_numpy(), abs=1e-6)
    chosen = [TAU, priors.HalfCauchy(0.15), priors.InverseGamma(1.0, 0.075), priors.Uniform(1.0)]
    means = [MU, priors.Normal(0.2, 0.1)]
    grid = three.prior_sensitivity(tau_priors={"study_id": chosen}, mu_priors=means)
    other = two.prior_sensitivity(tau_priors=chosen, mu_priors=means)
    for mine, its in (("mu", "mu"), ("mu_ci_lb", "mu_ci_lb"), ("pi_ub", "pi_ub"), ("tau[study_id]", "tau")):
        assert grid[mine].to_numpy(float) == pytest.approx(other[its].to_numpy(float), abs=1e-6)
    evidence = "log_marginal_likelihood"
    assert grid[evidence].to_numpy(float) == pytest.approx(other[evidence].to_numpy(float), abs=1e-6)
    labels = list(three.effects.slab)
    pair = {f"theta[{labels[0]}]": 1.0, f"theta[{labels[3]}]": -0.5, "year": 3.0}
    assert three.posterior(pair).mean == pytest.approx(two.posterior(pair).mean, rel=1e-5)
    assert three.posterior(pair).sd == pytest.approx(two.posterior(pair).sd, rel=1e-5)
    for stated in ("mu > 0.2", "year > 0", "mu = 0.1"):
        assert three.bayes_factor(stated).log_bf01 == pytest.approx(two.bayes_factor(stated).log_bf01, abs=1e-5)
    # The share between studies is 1 to 12 digits: too narrow for a density.
    assert isinstance(three.tau, am.NotApplicable)
    with pytest.raises(am.InputError, match="Ask for each by itself"):
        three.posterior("icc")


def test_total_and_share_are_functions_of_both_deviations():
    """Their moments by the grid of the deviations themselves, to which they are no coordinates."""
    fit = fit_multilevel(effects(), V=am.impute_V(effects(), rho=0.5))
    s1, s2, w = fit.exact.between, fit.exact.within, fit.exact.weight
    total, share = np.hypot(s1, s2), s1**2 / (s1**2 + s2**2)
    assert fit.posterior("tau2").mean == pytest.approx(w @ total**2, rel=1e-7)
    assert fit.posterior("tau").mean == pytest.approx(w @ total, rel=1e-7)
    assert fit.posterior("icc").mean == pytest.approx(w @ share, rel=1e-5)
    assert fit.icc == fit.posterior("icc").median
    assert fit.tau2 == pytest.approx(fit.tau**2, rel=1e-9)
    typical = am.MultilevelModel(effects(), V=am.impute_V(effects(), rho=0.5)).fit().vt
    assert fit.posterior("I2").median == pytest.approx(100 * fit.tau2 / (fit.tau2 + typical), rel=1e-9)


def test_the_joint_density_is_that_of_both_deviations():
    fit = fit_multilevel(effects())
    node, weight = np.polynomial.legendre.leggauss(60)
    edges = np.array([0.0, 0.2, 0.6, 2.5])
    half = 0.5 * np.diff(edges)
    s = ((edges[:-1] + half)[:, None] + half[:, None] * node).ravel()
    w = (half[:, None] * weight).ravel()
    density = fit.joint_density(s[:, None], s)
    assert w @ density @ w == pytest.approx(1.0, abs=1e-9)
    assert w @ density @ (w * s) == pytest.approx(fit.posterior("tau[es_id]").mean, rel=1e-8)
    assert fit.joint_density(-0.1, 0.1) == 0


def test_other_priors_are_other_fits():
    es = effects()
    fit = fit_multilevel(es, mods="year")
    chosen = {"study_id": [priors.HalfCauchy(0.1), priors.Uniform(0.5)], "es_id": [TAU, priors.LogNormal(-2, 1)]}
    grid = fit.prior_sensitivity(tau_priors=chosen)
    pairs = [(a, b) for a in chosen["study_id"] for b in chosen["es_id"]]
    for (a, b), (_, row) in zip(pairs, grid.iterrows(), strict=True):
        other = fit_multilevel(es, mods="year", tau_prior={"study_id": a, "es_id": b})
        assert row["log_marginal_likelihood"] == pytest.approx(other.log_marginal_likelihood, abs=1e-8)
        mu, tau = other.posterior("mu").interval(), other.posterior("tau[study_id]").interval()
        assert [row["mu"], row["mu_ci_lb"]] == pytest.approx([mu.estimate, mu.lb], abs=1e-7)
        assert [row["tau[study_id]"], row["tau[study_id]_ci_ub"]] == pytest.approx([tau.estimate, tau.ub], rel=1e-6)


def test_combinations_of_true_effects_are_the_dense_conditional_ones():
    """Rows of one study and of two, and the mean: mean and variance by dense matrices over the same points."""
    es = effects()
    V = covariance(es, 0.6)
    fit = fit_multilevel(es, V=am.impute_V(es, rho=0.6))
    weights = np.zeros(10)
    weights[[0, 1, 4]] = [1.0, -0.7, 0.4]
    found = fit.posterior({f"theta[row {i}]": weights[i] for i in (0, 1, 4)} | {"mu": -0.5})
    few = thinned(fit.exact)
    mean = square = 0.0
    one = np.append(np.ones(10), 1.0)
    for w, s1, s2 in zip(few.weight, few.between, few.within, strict=True):
        # Of true effects and the mean together, with normal prior.
        joint = 0.25 * np.outer(one, one)
        joint[:10, :10] += s1**2 * same() + s2**2 * np.eye(10)
        gain = joint[:, :10] @ np.linalg.inv(joint[:10, :10] + V)
        c = np.append(weights, -0.5)
        m = c @ gain @ Y
        mean += w * m
        square += w * (c @ (joint - gain @ joint[:10]) @ c + m**2)
    assert found.mean == pytest.approx(mean, rel=1e-9)
    assert found.sd == pytest.approx(np.sqrt(square - mean**2), rel=1e-9)


def test_draws_have_the_moments_of_the_posterior():
    """Independent draws: means and quantiles within five standard errors, the same for the same seed."""
    es = effects()
    fit = fit_multilevel(es, mods="year", V=am.impute_V(es, rho=0.6))
    n = 5_000
    draws = {name: one.reshape(n, -1) for name, one in arviz_bridge.draws(fit.to_arviz(draws=n, seed=7)).items()}
    columns = {"tau[study_id]": draws["tau"][:, 0], "tau[es_id]": draws["tau"][:, 1], "year": draws["beta"][:, 1]}
    columns |= {"theta_new": draws["theta_new"][:, 0]} | {f"theta[row {i}]": draws["theta"][:, i] for i in range(10)}
    columns |= {"icc": draws["tau"][:, 0] ** 2 / (draws["tau"] ** 2).sum(axis=1)}
    for name, values in columns.items():
        exact = fit.posterior(name)
        for p in (0.05, 0.5, 0.9):
            assert np.mean(values <= exact.quantile(p)) == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / n)), name
        assert values.mean() == pytest.approx(exact.mean, abs=5 * exact.sd / np.sqrt(n))
    between = np.cov(draws["theta"][:, 0], draws["theta"][:, 1])[0, 1]
    pair = fit.posterior({"theta[row 0]": 1, "theta[row 1]": 1}).sd ** 2
    alone = [fit.posterior(f"theta[row {i}]").sd ** 2 for i in (0, 1)]
    assert between == pytest.approx((pair - sum(alone)) / 2, rel=0.1)
    again = arviz_bridge.draws(fit.to_arviz(draws=40, seed=7))["theta"]
    assert np.array_equal(again, arviz_bridge.draws(fit.to_arviz(draws=40, seed=7))["theta"])


def test_everything_is_ready_for_json_and_print():
    fit = fit_multilevel(effects(), V=am.impute_V(effects(), rho=0.5), interval="hdi")
    as_json = json.loads(json.dumps(fit.to_dict()))
    assert as_json["statistics"]["groups"] == 6
    assert max(map(len, fit.summary().splitlines())) <= 80
    assert "k = 10 effects in 6 groups" in fit.methods_text()
    table = fit.tidy()
    assert list(table.index[:4]) == ["mu", "tau[study_id]", "tau[es_id]", "theta_new"]
    assert (table["ci_lb"] <= table["median"]).all()
    assert (table["median"] <= table["ci_ub"]).all()
    assert fit.prob("tau[es_id] < 0.2") == pytest.approx(float(fit.posterior("tau[es_id]").cdf(0.2)), rel=1e-9)
    assert fit.sigma2 == pytest.approx(np.array(list(fit.taus.values())) ** 2)
    assert list(fit.glance()["k"]) == [10]


def test_heavy_tails_and_few_groups_are_told():
    rows = slice(0, 4)
    fit = fit_multilevel(effects(rows), tau_prior=priors.HalfCauchy(0.3), mu_prior=priors.Flat())
    assert isinstance(fit.tidy()["sd"]["tau[study_id]"], am.NotApplicable)
    assert isinstance(fit.log_marginal_likelihood, am.NotApplicable)
    assert {"prior-bound"} <= {note.code for note in fit.notes}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu_prior": priors.Cauchy(0, 1)}, "normal and flat"),
        ({"tau_prior": {"studyid": TAU}}, "did you mean"),
        ({"V": np.eye(3)}, "3 rows for 10"),
        ({"V": 0.01 * np.eye(10) + 0.001}, "different groups"),
        ({"tau_prior": priors.Uniform(), "mu_prior": priors.Flat(), "rows": slice(0, 4)}, "improper"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    rows = options.pop("rows", slice(None))
    with pytest.raises(am.InputError, match=message):
        fit_multilevel(effects(rows), **options)
