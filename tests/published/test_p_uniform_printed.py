"""p-uniform, and once more z-curve, as a textbook prints them.

Lakens (2022, doi:10.5281/zenodo.6409077; CC BY 4.0), Improving Your Statistical Inferences, chapter 12, "Bias
detection" (github.com/Lakens/statistical_inferences, commit 87820ff, ``docs/12-bias.html``): output of the packages
puniform and zcurve for 100 simulated comparisons of two groups without an effect, of which 96 were "published" because
they were significant. ``published_when_significant.csv`` holds the size of each group and the t value, from the
chapter's own code and seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from alliance_meta import EffectSizes, RandomEffectsModel, bias
from alliance_meta.core.p_values.p_uniform import p_uniform
from tests.tolerances import printed

pytestmark = pytest.mark.published

N, T = np.loadtxt(Path(__file__).with_name("published_when_significant.csv"), delimiter=",", skiprows=1, unpack=True)
DF = 2 * N - 2


def fit(y: np.ndarray, v: np.ndarray):
    return RandomEffectsModel(EffectSizes.from_arrays(y, v, measure="SMD"), method="EE", test="z").fit()


def test_the_data_are_those_of_the_chapter():
    """'t(136)=0.208132209831132' and 't(188)=2.43353676652346' are the first and the fifth."""
    assert (DF[0], DF[4]) == (136, 188)
    assert (T[0], T[4]) == (pytest.approx(0.208132209831132, abs=5e-7), pytest.approx(2.43353676652346, abs=5e-7))


def test_p_uniform():
    """'0.0126 -0.0811 0.0887 -0.2904 0.3857 96' and, for bias, '7.9976 <.001'.

    Hedges' g is significant where t was, so each study has a critical value of its own; that of `bias.puniform` is the
    same for all, because the effects that it takes are tested by z.
    """
    correction = 1 - 3 / (4 * DF - 1)
    y = correction * T * np.sqrt(2 / N)
    v = 2 / N + (1 - (DF - 2) / (DF * correction**2)) * y**2
    whole = fit(y, v)
    assert [whole.beta[0], whole.se[0]] == [printed("0.2701"), printed("0.0125")]
    assert whole.beta[0] / whole.se[0] == printed("21.6025")
    assert [whole.ci_lb[0], whole.ci_ub[0]] == [printed("0.2456"), printed("0.2946")]
    assert (whole.QE, whole.QEp) == (printed("77.6031"), printed("0.945"))
    chosen = stats.t.sf(T, DF) < 0.025
    assert chosen.sum() == 96
    y, v = y[chosen], v[chosen]
    critical = (correction * stats.t.ppf(0.975, DF) * np.sqrt(2 / N))[chosen] / np.sqrt(v)
    found = p_uniform(y, v, critical, fixed=float(whole.beta[0]), level=0.95)
    assert [found.mu, found.ci_lb, found.ci_ub] == [printed("0.0126"), printed("-0.0811"), printed("0.0887")]
    assert (found.stat, found.pval) == (printed("-0.2904"), printed("0.3857"))
    assert (found.stat_bias, found.pval_bias < 0.001) == (printed("7.9976"), True)


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning")
def test_z_curve():
    """ODR 'is 0.96, 95% CI[0.89; 0.99]', EDR 'is only 0.053', ERR 'is only 0.052'."""
    z = -special.ndtri(stats.t.sf(np.abs(T), DF))
    found = bias.zcurve(fit(0.1 * z, np.full(len(z), 0.01)), iterations=100, seed=1)
    assert (found.odr, found.odr_lb, found.odr_ub) == (printed("0.96"), printed("0.89"), printed("0.99"))
    assert (found.edr, found.err) == (printed("0.053"), printed("0.052"))
    # "The confidence interval of the EDR does not overlap with the ODR."
    assert found.edr_ub < found.odr
