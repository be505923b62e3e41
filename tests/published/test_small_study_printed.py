"""Small-study effects as others printed them.

The 18 studies "ThirdWave": Harrer, Cuijpers, Furukawa & Ebert (2021), Doing Meta-Analysis with R, chapter 9 (bookdown
source ``11-publication-bias.Rmd``), output of ``lm`` and of the packages meta and metasens; data ``ThirdWave`` of the
package dmetar (MIT licence), to four digits here.

Violent video games: Hilgard, Engelhardt & Rouder (2017, doi:10.1037/bul0000074), from their repository
Joe-Hilgard/Anderson-meta: ``results/full_results.txt``, ``supplement/TAF_output.txt`` and ``10_WAAP.R``, experiments of
best practice; data ``cleaned_data.txt``.

Cognitive behaviour therapy of depression: "Get started" of the R package metapsyTools (MIT licence; commit 5ad666b of
30 November 2022 and since), which runs metasens and meta on its toy data ``depressionPsyCtr``: g of 26 comparisons with
waiting lists or usual care, those of one arm made one by metafor's ``aggregate(rho = 0.6)``.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import bias
from tests.tolerances import printed

pytestmark = pytest.mark.published

LABELS = [
    "Call",
    "Cavanagh",
    "DanitzOrsillo",
    "deVibe",
    "Frazier",
    "Frogeli",
    "Gallego",
    "Hazlett-Stevens",
    "Hintz",
    "Kang",
    "Kuhlmann",
    "Lever",
]
LABELS += ["Phang", "Rasanen", "Ratanasiripong", "Shapiro", "Song", "Warnecke"]
G = [0.7091, 0.3549, 1.7912, 0.1825, 0.4219, 0.6300, 0.7249, 0.5287, 0.2840, 1.2751, 0.1036, 0.3884, 0.5407, 0.4262]
G += [0.5154, 1.4797, 0.6126, 0.6000]
SE = [0.26082, 0.19636, 0.34557, 0.11779, 0.14481, 0.19600, 0.22466, 0.21046, 0.16800, 0.33720, 0.19473, 0.23077]
SE += [0.24431, 0.25794, 0.35127, 0.31528, 0.22668, 0.24900]
N1 = np.array([62, 72, 44, 135, 103, 71, 69, 68, 95, 43, 79, 61, 62, 60, 43, 42, 64, 63])
N2 = np.array([51, 78, 41, 115, 100, 79, 62, 72, 80, 44, 72, 67, 59, 54, 41, 51, 66, 55])
# The right column of limitmeta's output, without the digits behind the second.
SHRUNKEN = [-0.05, -0.09, 0.34, 0.00, 0.13, 0.13, 0.09, 0.00, -0.05, 0.04, -0.29, -0.18, -0.11, -0.25, -0.48, 0.26]
SHRUNKEN += [0.00, -0.09]


def third_wave(vi: np.ndarray | None = None) -> am.EffectSizes:
    return am.EffectSizes.from_arrays(G, np.square(SE) if vi is None else vi, measure="SMD", slab=LABELS)


def test_egger() -> None:
    """Coefficients of ``lm(y ~ x)``: its intercept is the slope here, and its slope the limit."""
    found = bias.regtest(am.RandomEffectsModel(third_wave()).fit(), model="lm")
    assert found.slope == pytest.approx(4.1111, abs=5e-4)  # the data have four digits
    assert found.slope_se == pytest.approx(0.8790, abs=2e-4)
    assert found.stat == printed("4.677")
    assert found.pval == pytest.approx(0.000252, abs=1e-6)
    assert found.limit_estimate == pytest.approx(-0.3407, abs=2e-4)
    assert found.ddf == 16


def test_pet_and_peese_with_the_standard_error_of_the_sample_sizes() -> None:
    """Text: "the limit estimate is g = -1.35"; PEESE "slightly less negative (g = -0.44)"."""
    found = bias.pet_peese(am.RandomEffectsModel(third_wave((N1 + N2) / (N1 * N2))).fit(), model="lm")
    assert found.pet.estimate == printed("-1.35")
    assert found.peese.estimate == printed("-0.44")
    assert found.chosen == "PET"


def test_limit_meta_analysis() -> None:
    fit = am.RandomEffectsModel(third_wave()).fit()
    found = bias.limitmeta(fit)
    assert found.estimate == pytest.approx(-0.0345, abs=1e-4)
    assert np.trunc(found.shrunken["limit"].to_numpy() * 100) / 100 == pytest.approx(SHRUNKEN, abs=1e-9)


def test_the_interval_of_the_limit_was_printed_before_metasens_mended_it() -> None:
    """NEWS of metasens 1.0-1: beta0's error now has random-effects weights and the covariance of alpha and beta.

    Before it was that of the slope with the weights of equal effects, which is still the error of betalim.
    """
    fit = am.RandomEffectsModel(third_wave()).fit()
    old = bias.limitmeta(fit, adjustment="betalim").se
    estimate = bias.limitmeta(fit).estimate
    assert (estimate - 1.959964 * old, estimate + 1.959964 * old) == pytest.approx((-0.3630, 0.2940), abs=1e-4)
    assert estimate / old == printed("-0.21")
    assert bias.limitmeta(fit).se > old


CBT = [0.0, -0.56963793, -0.8660442, -3.59303034, -1.34378967, -1.00327982, -1.12527472, -0.94737496, -0.40970515]
CBT += [-0.32355391, -0.43176168, -0.29700044, -0.2278263, -0.09122732, 0.04807219, -0.1002174, -0.1231215]
CBT_SE = [0.23145502, 0.20590897, 0.18594814, 0.65244311, 0.40635544, 0.38865725, 0.30210372, 0.4237618, 0.32735561]
CBT_SE += [0.36902526, 0.36477889, 0.27974145, 0.15935387, 0.14487712, 0.23095462, 0.08614527, 0.12630097]


def therapy(**choices: str) -> am.models.RandomEffectsResults:
    return am.RandomEffectsModel(am.EffectSizes.from_arrays(CBT, np.square(CBT_SE), measure="SMD"), **choices).fit()


def test_limit_meta_analysis_with_its_interval() -> None:
    """'0.1 [-0.32; 0.52] 0.649', G2 '95.1', and a prediction interval '[-1.05; 1.25]' from t(k - 1)."""
    whole = therapy(test="knha")
    numbers = [float(one[0]) for one in (whole.beta, whole.ci_lb, whole.ci_ub, whole.pval)]
    assert numbers == [printed("-0.54"), printed("-0.89"), printed("-0.18"), printed("0.005")]
    found = bias.limitmeta(whole)
    assert [found.estimate, found.ci_lb, found.ci_ub] == [printed("0.1"), printed("-0.32"), printed("0.52")]
    assert (found.pval, 100 * found.G2) == (printed("0.649"), printed("95.1"))
    half = stats.t.ppf(0.975, found.k - 1) * np.hypot(found.se, found.tau2**0.5)
    assert [found.estimate - half, found.estimate + half] == [printed("-1.05"), printed("1.25")]
    # The error that metasens gave before version 1.0-1 is less than half as large.
    assert bias.limitmeta(whole, adjustment="betalim").se < 0.5 * found.se


def test_selection_model_of_therapy() -> None:
    """'-0.87 [-1.38; -0.36] <0.001': one step at a one-sided .05, by metafor."""
    found = bias.selmodel(therapy(), steps=(0.05,), alternative="less")
    assert [found.estimate, found.ci_lb, found.ci_ub] == [printed("-0.87"), printed("-1.38"), printed("-0.36")]
    assert found.pval < 0.001


def test_trim_and_fill_of_therapy() -> None:
    """'24  -0.16 [-0.62; 0.31] 0.490', with Hartung and Knapp's test."""
    found = bias.trimfill(therapy(method="EE"))
    pooled = am.RandomEffectsModel(found.fit.effects, test="knha").fit()
    assert pooled.k == 24
    numbers = [float(one[0]) for one in (pooled.beta, pooled.ci_lb, pooled.ci_ub, pooled.pval)]
    assert numbers == [printed("-0.16"), printed("-0.62"), printed("0.31"), printed("0.490")]


def test_trim_and_fill() -> None:
    """Package meta trims by the equal-effects mean and pools by REML with Hartung and Knapp's test."""
    found = bias.trimfill(am.RandomEffectsModel(third_wave(), method="EE").fit())
    assert (found.k0, found.side) == (8, "left")
    shown = {"Warnecke": 0.0520, "Song": 0.0395, "Frogeli": 0.0220, "Call": -0.0571, "Gallego": -0.0729}
    shown |= {"Kang": -0.6230, "Shapiro": -0.8277, "DanitzOrsillo": -1.1391}
    assert found.filled.set_index("mirrors")["yi"].to_dict() == pytest.approx(shown, abs=2e-4)
    pooled = am.RandomEffectsModel(found.fit.effects, test="knha").fit()
    numbers = [float(one[0]) for one in (pooled.beta, pooled.ci_lb, pooled.ci_ub, pooled.pval)]
    assert numbers == pytest.approx([0.3428, 0.1015, 0.5841, 0.0072], abs=1e-4)
    assert pooled.tau2 == pytest.approx(0.2557, abs=2e-4)


AFFECT_R = [0.2122, 0.3027, 0.178, 0.531, 0.1864, 0.281, 0.2626, 0.251, 0.249, 0.8686, 0.3893, 0.524, 0.2281, 0.1811]
AFFECT_R += [0.28, 0.4035, 0.6209, 0.3989]
AFFECT_N = [148, 87, 148, 40, 90, 88, 41, 68, 97, 30, 50, 24, 71, 120, 118, 55, 13, 30]
BEHAVIOUR_R = [0.2445, 0.1883, 0.2441, 0.1585, 0.168, 0.2698, 0.377, 0.215, 0.26, 0.2149, 0.1875, 0.2, 0.307, 0.1956]
BEHAVIOUR_R += [0.238, 0.3123, 0.2991, 0.307, 0.3157, 0.2735, 0.1297, 0.1283, 0.4759]
BEHAVIOUR_N = [90, 204, 103, 196, 148, 90, 78, 115, 76, 90, 64, 161, 60, 24, 99, 48, 55, 31, 35, 42, 50, 515, 39]


def games(r: list[float], n: list[int], **choices: str) -> am.models.RandomEffectsResults:
    effects = am.EffectSizes.from_arrays(np.arctanh(r), 1.0 / (np.array(n) - 3.0), ni=n, measure="ZCOR")
    return am.RandomEffectsModel(effects, test="z", **choices).fit()


@pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning")
@pytest.mark.parametrize(
    ("data", "pet", "peese"),
    [
        ((AFFECT_R, AFFECT_N), "-0.12 0.093 3.667 0.78", "0.143 0.045 10.862 2.453"),
        ((BEHAVIOUR_R, BEHAVIOUR_N), "0.072 0.054 1.537 0.549", "0.15 0.032 6.402 2.539"),
    ],
)
def test_pet_and_peese_of_violent_games(data: tuple[list[float], list[int]], pet: str, peese: str) -> None:
    """Printed to three digits, of z not rounded as r is here, from a search that stops at a tau2 within 1e-5."""
    found = bias.pet_peese(games(*data))
    for line, text in ((found.pet, pet), (found.peese, peese)):
        numbers = (line.estimate, line.se, line.slope, line.slope_se)
        assert numbers == pytest.approx([float(one) for one in text.split()], abs=6e-4, rel=5e-4)


def test_trim_and_fill_of_violent_games() -> None:
    found = bias.trimfill(games(AFFECT_R, AFFECT_N, method="EE"))
    assert (found.fit.k, found.k0, found.side) == (24, 6, "left")
    assert list(found.on_r) == [printed("0.238"), printed("0.189"), printed("0.287")]


def test_adequately_powered_studies_of_violent_games() -> None:
    """Comment in ``10_WAAP.R``: "Three studies are adequately powered for two tails, r = .15"."""
    found = bias.waap(games(BEHAVIOUR_R, BEHAVIOUR_N, method="EE"))
    assert (found.powered, found.fallback) == (3, False)
    assert found.on_r[0] == printed("0.15")
