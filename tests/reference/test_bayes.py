"""The exact posterior against 30-digit arithmetic, R's bayesmeta, and Stan's draws for the eight schools."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import priors
from tests.reference.reading import reference

pytestmark = pytest.mark.reference

HERE = Path(__file__).parent
KINDS = {
    "half-normal": priors.HalfNormal,
    "half-cauchy": priors.HalfCauchy,
    "inverse-gamma": priors.InverseGamma,
}
# Double precision against 30 digits: what is left is rounding.
EXACT = 1e-12
# bayesmeta integrates tau to about 11 digits, and mu on a grid (see the README).
BAYESMETA = 1e-8
GRID = 2e-5


@cache
def oracle():
    return {case["name"]: case for case in json.loads((HERE / "mpmath" / "bayes.json").read_text("utf-8"))["cases"]}


NAMES = (
    "small half-normal",
    "small half-cauchy flat",
    "small inverse-gamma",
    "molloy half-normal",
    "molloy inverse-gamma flat",
    "24 half-cauchy",
    "24 regression",
    "79 half-normal",
)


def fitted(case, *, scale=1.0):
    """Fit a case; `scale` changes the scale of the prior of tau."""
    kind, *arguments = case["prior"]
    arguments[-1] *= scale
    own = [
        priors.Flat() if precision == 0 else priors.Normal(mean, precision**-0.5)
        for mean, precision in zip(case["mean"], case["precision"], strict=True)
    ]
    mods = None if case["x"] is None else {"x": case["x"]}
    es = am.EffectSizes.from_arrays(case["y"], case["v"], mods=mods, measure="ZCOR")
    return am.BayesianModel(
        es,
        mods="x" if mods else "1",
        mu_prior=own[0],
        tau_prior=KINDS[kind](*arguments),
        beta_prior=own[1] if mods else None,
    ).fit()


def differences(case, fit):
    """Return how far off every number of the oracle is: relative for moments, absolute for probabilities."""
    found = {"log_marginal": abs(fit.exact.log_marginal - float(case["log_marginal"]))}
    pairs = {"tau": "tau", "beta0": "mu", "theta_1": f"theta[{fit.effects.slab[0]}]", "theta_new": "theta_new"}
    if case["x"]:
        pairs["beta1"] = "x"
    for key, name in pairs.items():
        posterior, wanted = fit.posterior(name), case[key]
        x, cdf = np.array(wanted["x"]), np.array(wanted["cdf"], dtype=float)
        found[f"{key} cdf"] = np.abs(posterior.cdf(x) - cdf).max()
        # Where the distribution function is flat its inverse has no digits.
        steep = (cdf > 1e-4) & (cdf < 1 - 1e-4)
        if steep.any():
            found[f"{key} quantile"] = np.abs(posterior.quantile(cdf[steep]) - x[steep]).max()
        for moment in ("mean", "sd"):
            value = getattr(posterior, moment)
            if moment in wanted and value == value:
                found[f"{key} {moment}"] = abs(value / float(wanted[moment]) - 1)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_thirty_digits(name):
    case = oracle()[name]
    fit = fitted(case)
    found = differences(case, fit)
    assert {"log_marginal", "tau cdf", "tau quantile", "beta0 mean", "theta_1 sd", "theta_1 cdf"} <= set(found)
    assert {key: value for key, value in found.items() if not value < EXACT} == {}
    # The bound that the result states is one.
    probabilities = [value for key, value in found.items() if key.endswith("cdf")]
    assert max(found["log_marginal"], *probabilities) <= fit.error_bound < 1e-12


def test_no_case_is_left_out():
    assert tuple(oracle()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_prior_changed_in_the_fourth_digit_shows(name):
    """The scale .3 becomes .3001: the comparison above would fail in every number, by far."""
    case = oracle()[name]
    found = differences(case, fitted(case, scale=0.3001 / 0.3))
    assert (
        min(found[key] for key in ("log_marginal", "tau cdf", "tau mean", "beta0 mean", "theta_1 mean")) > 100 * EXACT
    )


@pytest.fixture(scope="module")
def molloy():
    data = reference("bayesmeta")["data"]
    es = am.EffectSizes.from_arrays(data["yi"], np.array(data["sei"]) ** 2, measure="ZCOR")
    return {
        "flat_mu": am.BayesianModel(es, mu_prior=priors.Flat()).fit(),
        "normal01_mu_tight": am.BayesianModel(es, mu_prior=priors.Normal(0, 1)).fit(),
    }


@pytest.mark.parametrize("model", ["flat_mu", "normal01_mu_tight"])
def test_tau_is_bayesmeta_s(molloy, model):
    wanted, found = reference("bayesmeta")[model]["tau"], molloy[model].tidy().loc["tau"]
    assert found["mean"] == pytest.approx(wanted["mean"], rel=BAYESMETA)
    assert found["sd"] == pytest.approx(wanted["sd"], rel=BAYESMETA)
    assert found["median"] == pytest.approx(wanted["median"], rel=BAYESMETA)
    assert found["ci_lb"] == pytest.approx(wanted["ci95_lb"], rel=BAYESMETA)
    assert found["ci_ub"] == pytest.approx(wanted["ci95_ub"], rel=BAYESMETA)


@pytest.mark.parametrize(("row", "key"), [("mu", "mu"), ("theta_new", "theta_new"), ("theta[1]", "theta_1")])
def test_effects_are_bayesmeta_s_to_its_grid(molloy, row, key):
    fit = molloy["normal01_mu_tight"]
    label = f"theta[{fit.effects.slab[0]}]" if row == "theta[1]" else row
    wanted, found = reference("bayesmeta")["normal01_mu_tight"][key], fit.tidy().loc[label]
    columns = {"mean": "mean", "sd": "sd", "median": "median", "ci95_lb": "ci_lb", "ci95_ub": "ci_ub"}
    for theirs, ours in columns.items():
        if theirs in wanted:
            assert found[ours] == pytest.approx(wanted[theirs], abs=GRID)


def test_bayes_factors_are_bayesmeta_s(molloy):
    wanted, fit = reference("bayesmeta")["normal01_mu_default"], molloy["normal01_mu_tight"]
    assert fit.bayes_factor("tau = 0").bf01 == pytest.approx(wanted["BF01_tau0"], rel=BAYESMETA)
    assert fit.bayes_factor("mu = 0").bf01 == pytest.approx(wanted["BF01_mu0"], rel=BAYESMETA)
    # Printed with seven digits.
    assert np.exp(fit.log_marginal_likelihood) == pytest.approx(wanted["marginal_likelihood"], abs=5e-5)


def test_eight_schools():
    """Rubin's eight schools: every mean within 3 Monte-Carlo errors of Stan's, and most within 1.5."""
    wanted = json.loads((HERE / "posteriordb" / "eight_schools.json").read_text("utf-8"))
    es = am.EffectSizes.from_arrays(wanted["yi"], np.array(wanted["sei"], dtype=float) ** 2)
    fit = am.BayesianModel(es, mu_prior=priors.Normal(0, 5), tau_prior=priors.HalfCauchy(5)).fit()
    means = fit.tidy()["mean"].astype(float)
    theirs = np.array([wanted["mu"]["mean"], wanted["tau"]["mean"], *wanted["theta"]["mean"]])
    errors = np.array([wanted["mu"]["mcse"], wanted["tau"]["mcse"], *wanted["theta"]["mcse"]])
    z = (means.drop("theta_new").to_numpy() - theirs) / errors
    assert np.abs(z).max() < 3
    assert (np.abs(z) < 1.5).sum() >= 8
