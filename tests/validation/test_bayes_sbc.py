"""The posterior is calibrated: in the committed simulation of 1,000 sets of data, and in a small fresh one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from alliance_meta import priors
from tests.validation import bayes_sbc
from tests.validation.bayes_sbc import BINS, FAMILIES, LEVEL, RESULT, describe, probabilities

# There are 27 histograms: a p-value this small would be a surprise in all of them together.
SMALLEST = 1e-3


@pytest.fixture(scope="module")
def committed():
    return json.loads(RESULT.read_text("utf-8"))


def test_the_committed_result_is_whole(committed):
    assert committed["replicates"] >= 1000
    assert list(committed["families"]) == list(FAMILIES)
    quantities = [quantity for family in committed["families"].values() for quantity in family]
    assert len(quantities) == 27
    assert {"mu", "tau", "theta_new", "theta[s0]", "x0", "x1"} == set(quantities)
    for family in committed["families"].values():
        for found in family.values():
            assert len(found["counts"]) == BINS
            assert sum(found["counts"]) == committed["replicates"]


def test_every_histogram_is_flat(committed):
    n = committed["replicates"]
    for name, family in committed["families"].items():
        for quantity, found in family.items():
            counts = np.array(found["counts"])
            assert found["chi2"] == pytest.approx(((counts - n / BINS) ** 2).sum() / (n / BINS), rel=1e-12)
            assert stats.chi2.sf(found["chi2"], BINS - 1) > SMALLEST, (name, quantity)
            assert found["ks_p"] > SMALLEST, (name, quantity)
            # Each bin of a flat histogram, 1 in 10,000 outside.
            low, high = stats.binom.interval(0.9999, n, 1 / BINS)
            assert ((counts >= low) & (counts <= high)).all(), (name, quantity)


def test_intervals_hold_what_they_promise(committed):
    n = committed["replicates"]
    error = np.sqrt(LEVEL * (1 - LEVEL) / n)
    coverages = [found["coverage"] for family in committed["families"].values() for found in family.values()]
    assert max(abs(one - LEVEL) for one in coverages) < 4 * error


def test_a_hundred_fresh_sets_of_data():
    for values in probabilities("k = 5", replicates=100, seed=7).values():
        assert stats.kstest(values, "uniform").pvalue > SMALLEST


def test_a_wrong_prior_would_show(monkeypatch):
    """Data from one prior, analysed with another: the histograms of tau and of the mean bend."""
    right = FAMILIES["k = 5"]
    draw = priors.HalfNormal(0.9)

    class Drawn(priors.HalfNormal):
        """Draws from a wider prior than the one it is."""

        def _quantile(self, p):
            return draw._quantile(p)

    monkeypatch.setitem(bayes_sbc.FAMILIES, "k = 5", (right[0], right[1], Drawn(0.3), ()))
    found = probabilities("k = 5", replicates=100, seed=7)
    assert stats.kstest(found["tau"], "uniform").pvalue < SMALLEST
    assert describe(found["tau"])["coverage"] < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_committed_result_can_be_made_again(committed, name):
    """On any machine: a rounding difference may move a probability across the edge of a bin."""
    found = probabilities(name, replicates=committed["replicates"], seed=committed["seed"])
    for quantity, values in found.items():
        counts = np.array(describe(values)["counts"])
        assert np.abs(counts - committed["families"][name][quantity]["counts"]).sum() <= 4
