"""Dependent effects: draws and quadrature agree within Monte-Carlo error, whatever is integrated out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import alliance_meta as am
from alliance_meta import priors
from alliance_meta.bayes import arviz_bridge, pymc

pytestmark = pytest.mark.slow

# A normal deviate this large turns up in about one of 15,000 comparisons; there are some 50 here.
DEVIATIONS = 4.0
TAILS = np.array([0.025, 0.25, 0.5, 0.75, 0.975])


def agree(sampled, row, truth):
    """Check one parameter's draws (chain, draw) against its exact posterior."""
    error = truth.sd / np.sqrt(float(row["ess_bulk"]))
    assert abs(sampled.mean() - truth.mean) < DEVIATIONS * error
    # How much of the exact posterior lies below the sampler's quantiles, in standard errors of a share.
    below = truth.cdf(np.quantile(sampled, TAILS))
    size = min(float(row["ess_bulk"]), float(row["ess_tail"]))
    assert np.abs((below - TAILS) / np.sqrt(TAILS * (1 - TAILS) / size)).max() < DEVIATIONS
    assert np.abs(special.ndtri(below) - special.ndtri(TAILS)).max() < 0.35


def data(name):
    sheet = am.load_dataset(name)
    # The one study whose signs are not aligned.
    return am.escalc(sheet.query("study != 'Jones 1982'") if name.startswith("relationship") else sheet)


@pytest.mark.parametrize(
    ("name", "rho", "mods"),
    [
        ("crede2010", None, "1"),
        ("crede2010", 0.6, "criterion"),
        ("relationship_dependent_effects", 0.6, "1"),
    ],
)
def test_two_levels_agree_with_the_exact_posterior(name, rho, mods):
    es = data(name)
    V = None if rho is None else am.impute_V(es, rho=rho)
    model = pymc.multilevel(es, V=V, mods=mods)
    exact = am.BayesianModel(es, V=V, mods=mods, random=("study_id", "es_id")).fit()
    fit = am.bayes.sample(model, seed=2011, draws=3000, cores=1)
    assert fit.converged
    table, draws = arviz_bridge.summary(fit.container), arviz_bridge.draws(fit.container)
    agree(draws["mu"], table.loc["mu"], exact.posterior("mu"))
    for i, term in enumerate(("study_id", "es_id")):
        agree(draws["tau"][..., i], table.loc[f"tau[{term}]"], exact.posterior(f"tau[{term}]"))
    for j, name in enumerate(model.coords.get("coefficient", ())):
        agree(draws["beta"][..., j], table.loc[f"beta[{name}]"], exact.posterior(name))


def test_three_levels_with_a_vanishing_one_are_two():
    es = data("crede2010")
    exact = am.BayesianModel(es, random=("study_id", "es_id")).fit()
    taus = {"source": priors.HalfNormal(1e-4)}
    fit = am.bayes.sample(
        pymc.multilevel(es, random="source/study_id/es_id", tau_prior=taus), seed=1, draws=3000, cores=1
    )
    table, draws = arviz_bridge.summary(fit.container), arviz_bridge.draws(fit.container)
    agree(draws["mu"], table.loc["mu"], exact.posterior("mu"))


def test_crossed_with_a_vanishing_factor_is_multilevel():
    es = data("crede2010")
    exact = am.BayesianModel(es, random=("study_id", "es_id")).fit()
    taus = {"criterion": priors.HalfNormal(1e-4)}
    model = pymc.crossed(es, random=("study_id", "criterion", "es_id"), tau_prior=taus)
    fit = am.bayes.sample(model, seed=1, draws=3000, cores=1)
    assert fit.converged
    table, draws = arviz_bridge.summary(fit.container), arviz_bridge.draws(fit.container)
    agree(draws["mu"], table.loc["mu"], exact.posterior("mu"))
    for i, term in ((0, "study_id"), (2, "es_id")):
        agree(draws["tau"][..., i], table.loc[f"tau[{term}]"], exact.posterior(f"tau[{term}]"))


def test_crossed_agrees_with_raters_integrated_out():
    """A second route for the crossed model: a grid of the three taus, the whole covariance matrix at each point."""
    es = data("crede2010")
    V = am.impute_V(es, rho=0.6)
    model = pymc.crossed(es, V=V, random=("study_id", "criterion", "es_id"))
    fit = am.bayes.sample(model, seed=3, draws=2000, cores=1)
    table, draws = arviz_bridge.summary(fit.container), arviz_bridge.draws(fit.container)
    mean, sd, low = exact_by_grid(es, V)
    for name, value, spread, chains in (
        ("mu", mean[0], sd[0], draws["mu"]),
        *((f"tau[{t}]", mean[i + 1], sd[i + 1], draws["tau"][..., i]) for i, t in enumerate(model.coords["term"])),
    ):
        row = table.loc[name]
        assert abs(chains.mean() - value) < DEVIATIONS * spread / np.sqrt(float(row["ess_bulk"])) + low


def exact_by_grid(es, V):
    """Return means and sds of mu and the three taus, tau by Gauss-Legendre and mu analytic; and the grid's error."""
    coarse, fine = moments(es, V, 30, 12), moments(es, V, 40, 16)
    return *fine, float(np.abs(coarse[0] - fine[0]).max())


def nodes(n):
    """Return values of tau and their weights under its prior; tau = 1.5 t^2, so that nodes gather near 0."""
    x, w = np.polynomial.legendre.leggauss(n)
    t = 0.5 * (x + 1)
    return 1.5 * t**2, 1.5 * w * t * np.exp(-0.5 * (1.5 * t**2 / 0.3) ** 2)


def moments(es, V, studies, raters):
    (tau, weight), dense = nodes(120), V.to_dense()
    groups = [np.array(es.study_id), es.moderators["criterion"].to_numpy()]
    shared = [(g[:, None] == g).astype(float) for g in groups]
    parts = []
    for study, a in zip(*nodes(studies), strict=True):
        for rater, b in zip(*nodes(raters), strict=True):
            d, Q = np.linalg.eigh(dense + study**2 * shared[0] + rater**2 * shared[1])
            y, one = Q.T @ es.yi, Q.sum(axis=0)
            D = 1.0 / (d + tau[:, None] ** 2)
            # The prior of mu is normal with standard deviation 0.5.
            precision, sums = D @ one**2 + 4.0, D @ (one * y)
            logs = 0.5 * (np.log(D).sum(axis=1) - np.log(precision) - D @ y**2 + sums**2 / precision)
            taus = np.broadcast_to([study, rater], (len(tau), 2))
            parts.append(np.column_stack([logs, a * b * weight, sums / precision, 1 / precision, taus, tau]))
    logs, prior, mu, variance, *taus = np.concatenate(parts).T
    p = prior * np.exp(logs - logs.max())
    p /= p.sum()
    values, squares = np.array([mu, *taus]), np.array([mu**2 + variance, *(one**2 for one in taus)])
    return values @ p, np.sqrt(squares @ p - (values @ p) ** 2)
