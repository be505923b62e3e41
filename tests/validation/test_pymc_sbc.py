"""The PyMC models are calibrated: in committed simulations of 200 sets of data or more, and in small fresh ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import priors
from tests.validation import pymc_sbc, pymc_sbc_independent
from tests.validation.pymc_sbc import BINS, LEVEL, RESULT, describe, families, shares

# There are dozens of histograms: a p-value this small would be a surprise in all of them together.
SMALLEST = 5e-4


@pytest.fixture(scope="module")
def committed():
    return json.loads(RESULT.read_text("utf-8"))


def test_every_model_has_its_result(committed):
    assert set(committed) == set(families())
    assert {"mu", "tau"} == set(committed["normal_normal"]["quantities"])
    for result in committed.values():
        assert result["replicates"] >= 200
        for found in result["quantities"].values():
            assert len(found["counts"]) == BINS
            assert sum(found["counts"]) == result["replicates"]


def test_every_histogram_is_flat(committed):
    for name, result in committed.items():
        n = result["replicates"]
        for quantity, found in result["quantities"].items():
            counts = np.array(found["counts"])
            assert found["chi2"] == pytest.approx(((counts - n / BINS) ** 2).sum() / (n / BINS), rel=1e-12)
            assert stats.chi2.sf(found["chi2"], BINS - 1) > SMALLEST, (name, quantity)
            assert found["ks_p"] > SMALLEST, (name, quantity)
            # Each bin of a flat histogram, 1 in 10,000 outside.
            low, high = stats.binom.interval(0.9999, n, 1 / BINS)
            assert ((counts >= low) & (counts <= high)).all(), (name, quantity)


def test_intervals_hold_what_they_promise(committed):
    for name, result in committed.items():
        error = np.sqrt(LEVEL * (1 - LEVEL) / result["replicates"])
        for quantity, found in result["quantities"].items():
            assert abs(found["coverage"] - LEVEL) < 4 * error, (name, quantity)


def test_names_of_elements():
    draws = {"mu": np.zeros((2, 5)), "theta": np.arange(30.0).reshape(2, 5, 3)}
    assert pymc_sbc.element(draws, "mu").shape == (2, 5)
    assert pymc_sbc.element(draws, "theta[1]")[0].tolist() == [1, 4, 7, 10, 13]


@pytest.mark.slow
@pytest.mark.parametrize("name", families())
def test_fresh_sets_of_data(name):
    found, _ = shares(name, replicates=30, seed=7)
    for quantity, values in found.items():
        assert stats.kstest(values, "uniform").pvalue > SMALLEST, quantity


@pytest.mark.slow
def test_a_wrong_prior_would_show(monkeypatch):
    """Data from one prior, analysed with another: the histogram of tau bends."""
    narrow = replace(
        families()["normal_normal"],
        model=lambda es: am.bayes.pymc.normal_normal(es, tau_prior=priors.HalfNormal(0.1)),
    )
    monkeypatch.setitem(pymc_sbc_independent.FAMILIES, "normal_normal", narrow)
    found, _ = shares("normal_normal", replicates=100, seed=7)
    assert stats.kstest(found["tau"], "uniform").pvalue < SMALLEST
    assert describe(found["tau"])["coverage"] < 0.9
