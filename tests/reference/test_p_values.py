"""p-uniform*, p-uniform and p-curve against R; R/make_p_values.R wrote the first two."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from alliance_meta import EffectSizes, RandomEffectsModel, bias, escalc, load_dataset
from alliance_meta.core.bias.p_values import irwin_hall_quantile
from alliance_meta.errors import AllianceMetaWarning
from tests.reference.reading import reference
from tests.tolerances import CLOSED_FORM, OPTIMISER, printed

KNOWN = reference("p_values")
MCCALL = {
    "ri": np.array([0.61, 0.43, 0.29, 0.55, 0.60, 0.54, 0.29, 0.46, 0.52, 0.40, 0.39, 0.39]),
    "ni": np.array([11, 21, 91, 18, 28, 14, 96, 20, 22, 57, 29, 40]),
}
# puniform stops its bisection of p-uniform when the interval is that short.
BISECTION = 1e-4


def fit(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        if name == "mccall1993":
            es = EffectSizes.from_arrays(np.arctanh(MCCALL["ri"]), 1.0 / (MCCALL["ni"] - 3.0), measure="ZCOR")
        else:
            es = escalc(load_dataset(name))
        return RandomEffectsModel(es).fit()


def test_the_reference_is_whole():
    assert set(KNOWN) == {"mccall1993", "molloy2014", "mcdaniel1994", "equal", "clustered"}


@pytest.mark.parametrize("name", ["mccall1993", "molloy2014", "mcdaniel1994"])
def test_p_uniform_star(name):
    known, found = KNOWN[name]["star"], bias.puniform(fit(name))
    pairs = {"mu": "estimate"} | {one: one for one in ("ci_lb", "ci_ub", "tau2_ub", "tau2_lb", "stat")}
    for theirs, ours in pairs.items():
        assert getattr(found, ours) == pytest.approx(known[theirs], rel=OPTIMISER, abs=1e-9)
    assert found.tau2 == pytest.approx(known["tau2"], rel=OPTIMISER, abs=1e-12)
    assert found.stat_tau2 == pytest.approx(known["stat_tau2"], rel=OPTIMISER, abs=1e-9)


@pytest.mark.parametrize("name", ["mccall1993", "molloy2014", "mcdaniel1994"])
def test_p_uniform(name):
    known, found = KNOWN[name]["original"], bias.puniform(fit(name), method="original")
    for theirs, ours in {"mu": "estimate", "ci_lb": "ci_lb", "ci_ub": "ci_ub"}.items():
        assert getattr(found, ours) == pytest.approx(known[theirs], abs=BISECTION)
    for one in ("stat", "pval", "stat_bias", "pval_bias"):
        assert getattr(found, one) == pytest.approx(known[one], rel=CLOSED_FORM)


def test_with_equal_standard_errors_it_is_the_selection_model_with_one_step():
    known = KNOWN["equal"]
    y = np.array(known["yi"])
    found = bias.puniform(RandomEffectsModel(EffectSizes.from_arrays(y, [known["vi"]] * len(y))).fit())
    # What metafor's BFGS leaves.
    for theirs, ours in {"mu": "estimate", "se": "se", "tau2": "tau2"}.items():
        assert getattr(found, ours) == pytest.approx(known[theirs], rel=1e-5)


@pytest.mark.parametrize(
    ("k", "quantile"), [(1, 0.025), (2, 0.2236068), (3, 0.5313293), (10, 3.2185166), (30, 11.9054094), (60, 25.6204742)]
)
def test_the_quantile_of_a_sum_of_uniform_variables(k, quantile):
    """Table in puniform's get_cv_P, computed with Mathematica."""
    assert irwin_hall_quantile(0.025, k) == pytest.approx(quantile, abs=5e-8)
    assert irwin_hall_quantile(0.975, k) == pytest.approx(k - quantile, abs=5e-8)


def test_the_quantile_of_a_sum_of_many_uniform_variables():
    assert irwin_hall_quantile(0.025, 61) == pytest.approx(26.0840778, rel=OPTIMISER)
    assert irwin_hall_quantile(0.025, 100) == pytest.approx(44.3444582, rel=OPTIMISER)


# p-curve: the code of its app, version 4.1 (archived in github.com/richarddmorey/MoreyDavisStober_pcurveASA), was given
# the z values. Its root of the noncentrality parameter has four digits, its count for a power of 33% is that of 4.06:
# 4.1 counts with the share of p < .025 among all tests in place of that among the significant ones.
APP = 1e-5
MOLLOY = {
    "right_full": -3.8951000073990305,
    "right_full_p": 0.0000490791108587,
    "right_half": -3.2401830568261238,
    "right_half_p": 0.0005972649299676,
    "right_binomial_p": 0.01953125,
    "flat_full": 1.6501425714881659,
    "flat_full_p": 0.9505431103139907,
    "flat_half": 1.3242300421724997,
    "flat_half_p": 0.9072866718490951,
    "flat_binomial_p": 0.951671661022,
    "power": 0.679854499845,
    "power_lb": 0.334471082116,
    "power_ub": 0.890729393412,
}


@pytest.mark.parametrize("name", MOLLOY)
def test_p_curve(name):
    found = bias.pcurve(fit("molloy2014"), level=0.9)
    power = 1e-4 if name.startswith("power") else APP
    assert getattr(found, name) == pytest.approx(MOLLOY[name], rel=power)


# Studies of third-wave therapies of Harrer et al. (2021), Doing Meta-Analysis with R, without the outliers 3 and 16.
THIRD_WAVE = (
    (0.709136, 0.260820), (0.354864, 0.196362), (0.182455, 0.117787), (0.421851, 0.144812), (0.63, 0.196),
    (0.724884, 0.224664), (0.528664, 0.210461), (0.284, 0.168), (1.275068, 0.337200), (0.103608, 0.194727),
    (0.388391, 0.230769), (0.540740, 0.244313), (0.426159, 0.257938), (0.515397, 0.351274), (0.612578, 0.226683),
    (0.6, 0.249),
)  # fmt: skip


def test_p_curve_as_a_textbook_prints_it():
    """Harrer et al., section 9.2.3.2; its flatness test of the half is that of the app before version 4.1."""
    y, se = np.array(THIRD_WAVE).T
    found = bias.pcurve(RandomEffectsModel(EffectSizes.from_arrays(y, se**2)).fit(), level=0.9)
    assert (found.k, found.significant, found.low, found.evidence) == (16, 9, 8, "present")
    assert found.right_binomial_p == printed("0.020")
    assert (found.right_full, found.right_half) == (printed("-3.797"), printed("-2.743"))
    assert found.right_half_p == printed("0.003")
    assert (found.flat_binomial_p, found.flat_full, found.flat_full_p) == (
        printed("0.952"),
        printed("1.540"),
        printed("0.938"),
    )
    assert (round(found.power, 2), round(found.power_lb, 3), round(found.power_ub, 3)) == (0.66, 0.311, 0.878)
