"""z-curve as the R package zcurve prints it for the z values of the Open Science Collaboration (2015)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from alliance_meta import EffectSizes, RandomEffectsModel, bias
from alliance_meta.core.bias.p_values import MEANS, densities, rates, soric
from alliance_meta.errors import DependenceWarning
from tests.reference.reading import reference
from tests.tolerances import printed

pytestmark = pytest.mark.published

# OSC.z of zcurve: original studies with a clear outcome, recoded. Rounded here; no z lies near a limit but the one of
# p = .05, which counts as not significant.
OSC = """
2.4091751 3.2452511 2.1641924 3.1912289 2.7020592 3.1370507 8.4028576 3.7184600 4.2932746 3.5124964 1.9737770 7.0660526
4.3830393 3.5362659 3.3925369 2.1948771 3.0593740 4.6372279 3.9822800 2.1693383 1.9467090 2.2682126 4.1805702 3.4595499
3.7313955 1.8368483 3.1000001 10 2.9677379 2.1834865 2.4089155 2.3656181 2.2571292 1.9685917 3.9099011 2.2734347 10
2.3079845 2.2903679 2.9677379 2.0140908 10 10 3.2905267 2.4323791 2.0140908 2.5758293 10 2.3079845 2.9677379 2.9677379
1.7928307 3.2905267 1.9599639 2.2974081 2.0537489 10 2.5426988 2.4036546 10 3.4107330 2.9752938 3.8496391 10 2.2734347
2.1065889 3.6948923 2.1959436 2.3079845 4.1788996 1.9514798 2.9677379 2.2262118 2.2903679 2.9677379 2.7806376 2.6120541
10 2.6520698 10 2.7254937 2.6520698 3.0427245 2.6520698 2.9706563 2.2571292 2.3867077 3.4034610 2.1200717 2.6888517
"""
Z = np.array([float(one) for one in OSC.split()])
CRITICAL = 1.959963984540054


@pytest.fixture(scope="module")
def found():
    return bias.zcurve(RandomEffectsModel(EffectSizes.from_arrays(0.1 * Z, np.full(len(Z), 0.01))).fit(), seed=666)


def test_counts_and_observed_discovery_rate(found):
    """'Fitted using 73 z-values. 90 supplied, 85 significant (ODR = 0.94, 95% CI [0.87, 0.98])' (README)."""
    assert (found.k, found.significant) == (90, 85)
    assert ((found.z > CRITICAL) & (found.z < 6)).sum() == 73
    assert (found.odr, found.odr_lb, found.odr_ub) == (printed("0.94"), printed("0.87"), printed("0.98"))


def test_the_likelihood_is_no_lower_than_printed(found):
    """Q = -60.61 after 783 steps of the EM algorithm; the weights printed are not yet those of the highest point."""
    curve = found.curve(6001)
    z = Z[(Z > CRITICAL) & (Z < 6)]
    Q = np.log(np.interp(z, curve["z"], curve["density"])).sum()
    assert printed("-60.61") == Q
    assert Q > -60.6125
    for ours, theirs in zip(found.weights, (0.056, 0.005, 0.734, 0.205, 0, 0, 0), strict=True):
        assert ours == pytest.approx(theirs, abs=0.006)


# The 59th of 100 Dirichlet draws after set.seed(666), the start that zcurve goes on with.
START = (
    0.11885595177044982, 0.030778438828148028, 0.635371372677151602, 0.069234887366987324, 0.00035911070577683747,
    0.066282094184629869, 0.079118144466854638,
)  # fmt: skip


def climbed(weights, D, stop):
    """Return weights, log-likelihood and steps of the EM algorithm, which ends where a step gains less than `stop`."""
    before = 0.0
    for steps in range(1, 10001):
        joint = D * weights
        density = joint.sum(axis=1)
        weights, Q = (joint / density[:, None]).mean(axis=0), np.log(density).sum()
        if abs(Q - before) < stop:
            return weights, Q, steps
        before = Q
    raise AssertionError("the EM algorithm did not end")


def test_rates_where_the_search_printed_ends():
    """'0.6145784 0.3884366', '27 + 783 iterations', 'Q = -60.61': zcurve 2.4.3, test-zcurve.R and README.

    Our densities and rates, with the start, the stopping rule and the share beyond 6 of zcurve.
    """
    D = densities(Z[(Z > CRITICAL) & (Z < 6)], CRITICAL)
    near, _, first = climbed(np.array(START), D, 1e-3)
    weights, Q, more = climbed(near, D, 1e-6)
    assert (first, more) == (27, 783)
    assert printed("-60.61") == Q
    shown = ("0.056", "0.005", "0.734", "0.205", "0.000", "0.000", "0.000")
    assert list(weights) == [printed(one) for one in shown]
    theirs = rates(weights[None], np.array([12 / 90]), CRITICAL)
    assert (theirs["err"][0], theirs["edr"][0]) == (printed("0.615"), printed("0.388"))
    assert theirs["err"][0] == printed("0.6145784")
    assert theirs["edr"][0] == printed("0.3884366")
    edr = float(theirs["edr"][0])
    # zcurve 1.0.0 printed the rates with the share beyond 6 of the 85 that are significant, and a power of both sides.
    ours = np.array([12 / 85])
    assert rates(weights[None], ours, CRITICAL)["edr"][0] == printed("0.391")
    power = special.ndtr(MEANS - CRITICAL) + special.ndtr(-MEANS - CRITICAL)
    assert weights @ power * (1 - ours[0]) + ours[0] == printed("0.619")
    assert soric(edr, 0.05) == printed("0.083")
    assert (1 / edr - 1, 85 / edr, 85 / edr - 90) == (printed("1.574"), printed("219"), printed("129"))


def test_rates(found):
    """The estimates differ from those printed (0.615, 0.388) by the share beyond 6 and by the end of the search."""
    assert found.err == pytest.approx(0.618, abs=5e-4)
    assert found.edr == pytest.approx(0.387, abs=5e-4)
    assert found.fdr == printed("0.083")
    assert found.drawer == pytest.approx(1.574, abs=0.02)


def test_limits(found):
    """ERR [0.443, 0.740], EDR [0.070, 0.699]: 1,000 samples, drawn with other random numbers."""
    assert (found.err_lb, found.err_ub) == (pytest.approx(0.443, abs=0.02), pytest.approx(0.740, abs=0.02))
    assert (found.edr_lb, found.edr_ub) == (pytest.approx(0.070, abs=0.02), pytest.approx(0.699, abs=0.02))
    assert found.fdr_ub == pytest.approx(0.705, abs=0.15)


def test_dependent_results():
    """ERR .767, EDR .730 as zcurve_clustered(method = "b") averages 20 draws of a result per cluster (test-zcurve.R).

    Its observed rate, .60 [.55, .64], and ours count clusters otherwise.
    """
    known = reference("p_values")["clustered"]
    z = np.array(known["z"])
    effects = EffectSizes.from_arrays(0.1 * z, np.full(len(z), 0.01), study_id=[f"s{one}" for one in known["id"]])
    with pytest.warns(DependenceWarning):
        fit = RandomEffectsModel(effects).fit()
    found = bias.zcurve(fit, iterations=50)
    assert (found.k, found.significant) == (500, 299)
    # Of 20 draws: the error of their mean is about .004.
    assert found.err == pytest.approx(0.767, abs=0.008)
    assert found.edr == pytest.approx(0.730, abs=0.008)
    # Without weights, as if results were independent.
    alone = bias.zcurve(RandomEffectsModel(EffectSizes.from_arrays(0.1 * z, np.full(len(z), 0.01))).fit(), iterations=2)
    assert abs(alone.err - 0.767) > 0.008 or abs(alone.edr - 0.730) > 0.008
