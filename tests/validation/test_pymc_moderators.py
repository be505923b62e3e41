"""Models of difficult moderators, sampled: against quadrature, against multiple imputation, against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta.bayes import arviz_bridge
from alliance_meta.core.smooth_basis import smooth_basis
from alliance_meta.moderators import fit_imputed, impute_moderators

pytestmark = pytest.mark.slow

# A normal deviate this large turns up in about one of 15,000 comparisons.
DEVIATIONS = 4.0


def sampled(model, **settings):
    """Return mean, sd, and the Monte-Carlo error of each mean."""
    posterior = am.bayes.sample(model, **{"seed": 2011, "draws": 2000, "cores": 1} | settings)
    table = arviz_bridge.summary(posterior.container)
    error = table["sd"].astype(float) / np.sqrt(table["ess_bulk"].astype(float))
    return posterior, {name: (float(table.loc[name, "mean"]), error[name]) for name in table.index}


def test_a_smooth_curve_agrees_with_quadrature():
    """Given both deviations everything is normal: two integrals are left, done on a grid."""
    es = am.escalc(am.load_dataset("molloy2014"))
    _, found = sampled(am.bayes.pymc.smooth(es, by="meanage"))
    age = es.moderators["meanage"].to_numpy(dtype=float)
    X = np.column_stack([np.ones(es.k), age - age.mean()])
    G = smooth_basis(age, knots=6).at(age)
    prior = np.diag([0.25, (0.25 / age.std()) ** 2])
    taus, bends = (np.exp(np.linspace(np.log(1e-4), np.log(upper), 160)) for upper in (0.8, 0.8))
    logs, means = np.empty((160, 160)), np.empty((160, 160, 2))
    for i, tau in enumerate(taus):
        for j, bend in enumerate(bends):
            V = np.diag(es.vi + tau**2) + bend**2 * G @ G.T
            logs[i, j] = stats.multivariate_normal.logpdf(es.yi, np.zeros(es.k), V + X @ prior @ X.T)
            means[i, j] = prior @ X.T @ np.linalg.solve(V + X @ prior @ X.T, es.yi)
        logs[i] += stats.halfnorm.logpdf(tau, 0, 0.3) + stats.halfnorm.logpdf(bends, 0, 0.125)
    # On a grid of logarithms each cell counts by the size of its values.
    weight = np.exp(logs - logs.max()) * taus[:, None] * bends
    weight /= weight.sum()
    expected = {
        "tau": (weight.sum(axis=1) * taus).sum(),
        "tau_smooth": (weight.sum(axis=0) * bends).sum(),
        "mu": (weight * means[..., 0]).sum(),
        "beta[meanage]": (weight * means[..., 1]).sum(),
    }
    for name, value in expected.items():
        mean, error = found[name]
        assert abs(mean - value) < DEVIATIONS * error, name


def test_missing_moderators_agree_with_multiple_imputation():
    """The same assumptions by another algorithm, with flat priors; sampling error of the imputations included."""
    es = am.escalc(am.load_dataset("mcdaniel1994"))
    posterior, found = sampled(am.bayes.pymc.missing_moderators(es, mods="struct + type"))
    imputed = fit_imputed(impute_moderators(es, mods="struct + type", m=40, seed=1, sweeps=60))
    for name, estimate, se in zip(imputed.names, imputed.pooled.beta, imputed.pooled.se, strict=True):
        mean, _ = found["intrcpt"] if name == "intrcpt" else found[f"beta[{name}]"]
        assert abs(mean - estimate) < 0.25 * se, name
    assert len(posterior.effects) == 160
    replicated = arviz_bridge.draws(posterior.posterior_predictive(seed=1), group="posterior_predictive")["y"]
    spread = replicated.std(axis=(0, 1)) / np.sqrt(200.0)
    assert (np.abs(replicated.mean(axis=(0, 1)) - posterior.predict()["pred"]) < DEVIATIONS * spread).all()


def test_measurement_error_undoes_the_attenuation():
    """With a reliability of one half an ordinary meta-regression finds half of the slope."""
    rng = np.random.default_rng(12)
    k, slope = 600, 0.2
    true = rng.normal(0, 1, k)
    yi = rng.normal(0.2 + slope * true, np.sqrt(0.1**2 + 0.01))
    mods = {"quality": rng.normal(true, 1.0)}
    es = am.EffectSizes.from_arrays(yi, np.full(k, 0.01), mods=mods, measure="ZCOR")
    naive = am.BayesianModel(es, mods="quality").fit().posterior("quality")
    assert abs(naive.mean - slope / 2) < DEVIATIONS * naive.sd
    assert naive.mean + DEVIATIONS * naive.sd < slope
    _, found = sampled(am.bayes.pymc.measurement_error(es, mods="quality", error={"quality": 1.0}))
    posterior, _ = sampled(am.bayes.pymc.measurement_error(es, mods="quality", reliability={"quality": 0.5}))
    sd = posterior.draws("beta").std()
    assert abs(posterior.draws("beta").mean() - slope) < DEVIATIONS * sd
    assert abs(found["beta[quality]"][0] - slope) < DEVIATIONS * sd
    assert abs(posterior.draws("tau").mean() - 0.1) < DEVIATIONS * posterior.draws("tau").std()
