"""The exact engine against brute force, for every prior: a sample; `make validate` compares 200 sets."""

from __future__ import annotations

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.core.bayes.quadrature import RealLine, SincDensity
from tests.equivalence.dense_grid import MEANS, PRIORS, disagreements, kernel, nodes, panels
from tests.tolerances import CLOSED_FORM


# By turns a flat prior of the mean, a normal one, and a moderator.
@pytest.mark.parametrize(("seed", "prior"), [((1, 3, 5)[i % 3], prior) for i, prior in enumerate(PRIORS)], ids=str)
def test_evidence_moments_and_quantiles_are_within_the_stated_error(seed, prior):
    assert not disagreements(seed, prior)


@pytest.mark.parametrize("prior", [am.priors.HalfNormal(0.3), am.priors.Gamma(0.5, 0.4)], ids=str)
def test_so_they_are_with_a_heavy_prior_of_the_mean(prior):
    assert type(MEANS[2]).__name__ == "Cauchy"
    assert not disagreements(2, prior)


def test_the_brute_force_can_tell_priors_apart():
    assert disagreements(1, am.priors.HalfNormal(0.3)) == {}
    scale = am.priors.HalfNormal(0.3001)
    log_density, upper = kernel(scale, np.ones(2))
    u, log_w = nodes(panels(log_density, upper))
    norm = float(np.exp(log_density(u) + log_w).sum())
    assert norm == pytest.approx(0.3001 * np.sqrt(np.pi / 2), rel=CLOSED_FORM)


@pytest.mark.parametrize(
    ("prior", "k", "sd"), [(am.priors.HalfT(1.2, 0.3), 1, 0.9884), (am.priors.LogNormal(-2, 4), 1, None)], ids=str
)
def test_the_spread_of_a_new_effect_obeys_the_law_of_total_variance(prior, k, sd):
    fit = am.BayesianModel(am.EffectSizes.from_arrays([0.3] * k, [0.02] * k), tau_prior=prior).fit()
    tau, mu, new = (fit.posterior(name) for name in ("tau", "mu", "theta_new"))
    total = np.sqrt(mu.sd**2 + tau.sd**2 + tau.mean**2)
    assert new.sd == pytest.approx(total, rel=CLOSED_FORM)
    assert fit.tidy().loc["theta_new", "sd"] == pytest.approx(total, rel=CLOSED_FORM)


def test_what_a_point_adds_to_a_density_is_the_sinc_function_between_on_and_beside_the_points():
    u = np.linspace(-7.3, 11.9, 241)
    step = u[1] - u[0]
    density = SincDensity(RealLine(0.0, 1.0, (-3.0, 3.0)), u, np.exp(-0.5 * u**2) * step / np.sqrt(2 * np.pi))
    at = np.concatenate([np.linspace(-9, 14, 400), u, u + 1e-13, u - 3e-9])
    assert density.heights(at) * step == pytest.approx(np.sinc((at[:, None] - u) / step), abs=CLOSED_FORM)
    # Of a smooth density the series gives every value.
    x = np.array([-1e9, -1.7, 0.0, 0.3, 2.2, 1e9])
    own = density.line.u(x)
    normal = np.exp(-0.5 * own**2 - density.line.log_slope(own * (np.abs(x) < 1e3))) / np.sqrt(2 * np.pi)
    assert density.pdf(x) == pytest.approx(normal, abs=CLOSED_FORM)
    assert density.pdf(x)[[0, -1]].tolist() == [0.0, 0.0]
