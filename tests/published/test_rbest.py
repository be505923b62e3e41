"""Effective sample sizes as RBesT's own pages print them, and its MAP prior of the Crohn's disease example.

RBesT 1.8-1, reference page of ``ess`` (a mixture with its numbers), and RBesT 1.9-0, article "RBesT for a Normal
Endpoint" (six placebo groups, change in CDAI, sigma = 88; drawn by MCMC there, so that its quantiles have three
digits at most).
"""

from __future__ import annotations

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, priors
from alliance_meta.bayes import map_prior
from alliance_meta.core.bayes.map_prior import mean_information, peak_information
from alliance_meta.core.bayes.mixture import NormalMixture
from tests.tolerances import printed

SIGMA = 88.0
N = np.array([74, 166, 328, 20, 25, 58])
Y = np.array([-51.0, -49, -36, -47, -90, -54])
NMIX = NormalMixture(np.array([0.5, 0.5]), np.array([[0.0, 3.0]]), np.array([[2.0, 4.0]]))
CROHN = NormalMixture(
    np.array([0.50104846, 0.41871594, 0.08023561]) / 1.00000001,
    np.array([[-51.42408665, -47.25917128, -55.07086416]]),
    np.array([[19.04525409, 7.85193726, 44.57325000]]),
)
ROBUST = NormalMixture(
    np.append(0.8 * CROHN.weight, 0.2), np.append(CROHN.mean, [[-50.0]], axis=1), np.append(CROHN.sd, [[88.0]], axis=1)
)


def test_a_mixture_of_two_normals():
    assert 10**2 * mean_information(NMIX)[0] == printed("10.82796")
    assert 20**2 * mean_information(NMIX)[0] == printed("43.31185")
    assert 10**2 / NMIX.moments()[1][0] ** 2 == printed("8.163265")


def test_the_mixture_of_the_example():
    assert SIGMA**2 * mean_information(CROHN)[0] == printed("39")
    assert SIGMA**2 / CROHN.moments()[1][0] ** 2 == printed("21")
    assert SIGMA**2 * mean_information(ROBUST)[0] == printed("28")
    # RBesT takes off the information of a normal with a hundred times the largest variance.
    vague = 1.0 / (100 * CROHN.sd.max() ** 2)
    assert SIGMA**2 * (peak_information(CROHN)[1] - vague) == printed("89")


@pytest.fixture(scope="module")
def crohn():
    es = EffectSizes.from_arrays(Y, SIGMA**2 / N)
    return am.BayesianModel(es, mu_prior=priors.Normal(0, 88), tau_prior=priors.HalfNormal(44)).fit()


def test_the_prior_of_the_example(crohn):
    """Up to MCMC error: RBesT keeps 4,000 draws, so that a mean of theirs is good to sd / 40 or so."""
    theirs = {"mean": -50.0, "sd": 19.3, "median": -48.6, "ci_lb": -93.1, "ci_ub": -13.8}
    mine = map_prior(crohn, unit_sd=SIGMA).tidy().loc["theta_new"]
    for name, value in theirs.items():
        assert mine[name] == pytest.approx(value, abs=3 if name.startswith("ci") else 1)
    tau = crohn.tidy().loc["tau", ["mean", "sd", "median", "ci_lb", "ci_ub"]]
    np.testing.assert_allclose(tau.astype(float), [14.30, 9.99, 12.20, 1.35, 38.40], rtol=0.07)


def test_its_effective_sample_sizes(crohn):
    """Theirs (39, 21) rest on a mixture fitted to those draws."""
    prior = map_prior(crohn, unit_sd=SIGMA)
    assert prior.ess() == pytest.approx(39, rel=0.12)
    assert prior.ess("moment") == pytest.approx(21, rel=0.12)
    robust = map_prior(crohn, unit_sd=SIGMA, robust=0.2, vague=priors.Normal(-50, 88))
    assert robust.ess() == pytest.approx(28, rel=0.12)
