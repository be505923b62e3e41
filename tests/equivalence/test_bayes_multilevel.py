"""The exact three-level posterior against dense matrices, adaptive quadrature and the two-level engine."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import priors
from alliance_meta.core.bayes_multilevel import given_deviations
from alliance_meta.core.bayes_multilevel_effects import thinned
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
    two = am.BayesianModel(es, mods="year").fit()
    one = fit.bayes_factor("tau[study_id] = 0")
    assert one.log_bf01 == pytest.approx(two.log_marginal_likelihood - fit.log_marginal_likelihood, abs=1e-8)
    alone = fit_multilevel(es)
    slope = fit.bayes_factor("year = 0")
    assert slope.log_bf01 == pytest.approx(alone.log_marginal_likelihood - fit.log_marginal_likelihood, abs=1e-8)
    assert fit.bayes_factor("mu = 0").bf10 == pytest.approx(
        stats.norm.pdf(0, 0, 0.5) / float(fit.posterior("mu").pdf(0.0)), rel=1e-6
    )


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
