"""p-uniform, p-uniform*, and once more z-curve, as others print them.

Lakens (2022, doi:10.5281/zenodo.6409077; CC BY 4.0), Improving Your Statistical Inferences, chapter 12, "Bias
detection" (github.com/Lakens/statistical_inferences, commit 87820ff, ``docs/12-bias.html``): output of the packages
puniform and zcurve for 100 simulated comparisons of two groups without an effect, of which 96 were "published" because
they were significant. ``published_when_significant.csv`` holds the size of each group and the t value, from the
chapter's own code and seed.

Vembye, "Publication bias testing in Dalgaard et al. (2025)", group-based interventions in mental illness
(github.com/MikkelVembye/Group-based-interventions, GPL-3, commit 07b5f4c, ``pub_bias.html``): a table with the output
of ``puni_star`` of puniform 0.2.8. ``group_interventions.csv`` holds the t values (there g by its standard error) and
the group sizes of the 144 effects on mental health.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from alliance_meta import EffectSizes, RandomEffectsModel, bias
from alliance_meta.core.bias.p_values import p_uniform, p_uniform_star
from tests.tolerances import printed

pytestmark = pytest.mark.published


def columns(name: str):
    return np.loadtxt(Path(__file__).with_name(name), delimiter=",", skiprows=1, unpack=True)


N, T = columns("published_when_significant.csv")
DF = 2 * N - 2


def effects(t, n1, n2):
    """Return Hedges' g, its variance, and the z at which it is significant because t was, as puniform takes them."""
    df, a = n1 + n2 - 2, 1 / n1 + 1 / n2
    scale = (1 - 3 / (4 * df - 1)) * np.sqrt(a)
    g = scale * t
    v = a + (1 - (df - 2) / df * a / scale**2) * g**2
    return g, v, scale * stats.t.ppf(0.975, df) / np.sqrt(v)


def fit(y: np.ndarray, v: np.ndarray):
    return RandomEffectsModel(EffectSizes.from_arrays(y, v, measure="SMD"), method="EE", test="z").fit()


def test_the_data_are_those_of_the_chapter():
    """'t(136)=0.208132209831132' and 't(188)=2.43353676652346' are the first and the fifth."""
    assert (DF[0], DF[4]) == (136, 188)
    assert (T[0], T[4]) == (pytest.approx(0.208132209831132, abs=5e-7), pytest.approx(2.43353676652346, abs=5e-7))


def test_p_uniform():
    """'0.0126 -0.0811 0.0887 -0.2904 0.3857 96' and, for bias, '7.9976 <.001'.

    Each study has a critical value of its own here; that of `bias.puniform` is the same for all, because the effects
    that it takes are tested by z.
    """
    y, v, critical = effects(T, N, N)
    whole = fit(y, v)
    assert [whole.beta[0], whole.se[0]] == [printed("0.2701"), printed("0.0125")]
    assert whole.beta[0] / whole.se[0] == printed("21.6025")
    assert [whole.ci_lb[0], whole.ci_ub[0]] == [printed("0.2456"), printed("0.2946")]
    assert (whole.QE, whole.QEp) == (printed("77.6031"), printed("0.945"))
    chosen = stats.t.sf(T, DF) < 0.025
    assert chosen.sum() == 96
    found = p_uniform(y[chosen], v[chosen], critical[chosen], fixed=float(whole.beta[0]), level=0.95)
    assert [found.mu, found.ci_lb, found.ci_ub] == [printed("0.0126"), printed("-0.0811"), printed("0.0887")]
    assert (found.stat, found.pval) == (printed("-0.2904"), printed("0.3857"))
    assert (found.stat_bias, found.pval_bias < 0.001) == (printed("7.9976"), True)


def test_p_uniform_star():
    """'0.598 [0.454, 0.763] 0.000', tau '0.421'."""
    y, v, critical = effects(*columns("group_interventions.csv"))
    found = p_uniform_star(y, v, critical, level=0.95)
    assert (len(y), found.mu) == (144, printed("0.598"))
    assert [found.ci_lb, found.ci_ub] == [printed("0.454"), printed("0.763")]
    assert (found.pval, found.tau2**0.5) == (printed("0.000"), printed("0.421"))


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning")
def test_z_curve():
    """ODR 'is 0.96, 95% CI[0.89; 0.99]', EDR 'is only 0.053', ERR 'is only 0.052'."""
    z = -special.ndtri(stats.t.sf(np.abs(T), DF))
    found = bias.zcurve(fit(0.1 * z, np.full(len(z), 0.01)), iterations=100, seed=1)
    assert (found.odr, found.odr_lb, found.odr_ub) == (printed("0.96"), printed("0.89"), printed("0.99"))
    assert (found.edr, found.err) == (printed("0.053"), printed("0.052"))
    # "The confidence interval of the EDR does not overlap with the ODR."
    assert found.edr_ub < found.odr
