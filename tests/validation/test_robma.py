"""All 36 models of publication bias by importance sampling, which has a standard error of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import alliance_meta as am
from tests.equivalence.importance import log_marginal

pytestmark = pytest.mark.slow

DATA = json.loads((Path(__file__).parents[1] / "reference" / "R" / "robma_k24.json").read_text())["data"]


def test_quadrature_and_importance_sampling_agree_on_every_model_and_on_the_average():
    y, se = np.array(DATA["yi"]), np.array(DATA["sei"])
    found = am.bayes.robma(am.EffectSizes.from_arrays(y, se**2, measure="ZCOR"))
    logs, z = [], []
    for one in found.ensemble:
        kind = one.bias.kind if one.bias is not None else None
        value, error = log_marginal(
            y, se, "none" if kind is None else kind.kind, effect=one.effect, heterogeneity=one.heterogeneity,
            steps=() if kind is None else kind.steps, sides="one" if kind is None else kind.sides,
            scale=1.0 if kind is None else kind.scale, points=12 if kind is not None and kind.steps else 15,
        )  # fmt: skip
        logs.append(np.log(one.prior) + value)
        z.append((one.solved.log_marginal - value) / np.hypot(error, 1e-4))
    # The far-off null models are hard for the sampler, whose error is then itself uncertain.
    assert np.mean(np.abs(z) < 3) > 0.9
    assert np.abs(z).max() < 8
    posterior = special.softmax(logs)
    assert posterior == pytest.approx(found.posterior_probabilities, abs=0.01)
    with_effect = np.array([one.effect for one in found.ensemble])
    odds = posterior[with_effect].sum() / posterior[~with_effect].sum()
    assert odds == pytest.approx(found.inclusion.loc["effect", "bf10"], rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_errors_are_as_small_as_they_claim(seed):
    """Two accuracies of the same integrals, for data of many kinds; both have an error."""
    from alliance_meta.core.bayes.quadrature import TauDensity
    from alliance_meta.core.selection import robma as bayes_robma

    rng = np.random.default_rng(seed)
    k = int(rng.choice([3, 8, 15, 40]))
    se = 1 / np.sqrt(rng.integers(10, 300, k) - 3.0)
    y = rng.normal(rng.choice([0.0, 0.3]), rng.choice([0.0, 0.2]), k) + se * rng.standard_normal(k)
    prior = am.priors.InverseGamma(1, 0.15)
    density = TauDensity(prior.logpdf, prior.upper, prior.tail, (), True)
    problem = bayes_robma.BiasProblem(y, se, 0.0, 1.0, density)
    for bias in (am.bayes.PSMA[0], am.bayes.PSMA[3], am.bayes.PSMA[6], am.bayes.PSMA[7]):
        for effect in (False, True):
            for heterogeneity in (False, True):
                usual = bayes_robma.solve_bias(problem, bias.kind, effect=effect, heterogeneity=heterogeneity)
                fine = bayes_robma.solve_bias(
                    problem, bias.kind, effect=effect, heterogeneity=heterogeneity, tolerance=1e-9
                )
                assert abs(usual.log_marginal - fine.log_marginal) < 3 * (usual.error + fine.error) + 1e-7
