"""Selection models give metafor's numbers, and where metafor's integrals are rough, those of a finer one."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special

import alliance_meta as am
from alliance_meta import bias
from tests.reference.reading import DATASETS, numbers, reference
from tests.reference.running import missing_packages, run_each
from tests.tolerances import OPTIMISER, printed

# Steps of Vevea & Woods (2005) and their moderate one-tailed weights, as in metafor's help page.
VEVEA_WOODS = {
    "steps": [0.005, 0.01, 0.05, 0.10, 0.25, 0.35, 0.50, 0.65, 0.75, 0.90, 0.95, 0.99, 0.995, 1],
    "delta": [1, 0.99, 0.95, 0.8, 0.75, 0.65, 0.60, 0.55, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
}
STEPS = {
    "step025": {"steps": [0.025]},
    "step025_5": {"steps": [0.025, 0.5]},
    "step05_two": {"steps": [0.05], "alternative": "two.sided"},
    "vw_mod": VEVEA_WOODS,
}
SMOOTH = ("beta", "halfnorm", "negexp", "logistic", "power", "negexppow")
# metafor's optimiser stops where the likelihood is 1e-8 below its top: 1e-4 standard errors away.
STOPPED = 3e-4
# p-values are not let nearer to 0 and 1 than this by metafor.
CLIPPED = {"beta": 1e-5, "power": 1e-5}


def effects(name: str) -> am.EffectSizes:
    data = reference(f"{name}_ZCOR")
    return am.EffectSizes.from_arrays(numbers(data["yi"]), numbers(data["vi"]), measure="ZCOR")


def fit(name: str) -> am.models.RandomEffectsResults:
    return am.RandomEffectsModel(effects(name)).fit()


@pytest.mark.parametrize("case", STEPS)
@pytest.mark.parametrize("name", DATASETS)
def test_step_functions_are_metafors(name, case):
    stored = reference(f"{name}_ZCOR")["selmodel"][case]
    found = bias.selmodel(fit(name), **STEPS[case])
    assert -1e-9 < found.loglik - stored["ll"] < 1e-7
    error = STOPPED * stored["se"]
    assert found.estimate == pytest.approx(stored["b"], abs=error)
    assert found.se == pytest.approx(stored["se"], rel=STOPPED)
    assert found.tau2 == pytest.approx(stored["tau2"], abs=STOPPED * stored["se_tau2"])
    assert found.se_tau2 == pytest.approx(stored["se_tau2"], rel=STOPPED)
    assert found.delta == pytest.approx(stored["delta"], rel=2 * STOPPED)
    for mine, other in zip(found.se_delta, numbers(stored["se_delta"]), strict=True):
        assert isinstance(mine, am.NotApplicable) if math.isnan(other) else mine == pytest.approx(other, rel=2e-3)
    assert found.lrt.df == stored["LRTdf"]
    assert found.lrt.stat == pytest.approx(stored["LRT"], abs=1e-7)
    assert found.lrt_tau2.stat == pytest.approx(stored["LRT_tau2"], abs=1e-6)
    if stored["LRTp"] is not None:
        assert found.lrt.pval == pytest.approx(stored["LRTp"], rel=OPTIMISER)
        assert found.lrt_tau2.pval == pytest.approx(stored["LRTp_tau2"], rel=OPTIMISER)
    else:
        assert isinstance(found.lrt.pval, am.NotApplicable)


def log_weight(type: str, p: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Return the logs of metafor's weight functions, as its help page defines them."""
    if type == "beta":
        return (delta[0] - 1.0) * np.log(p) + (delta[1] - 1.0) * np.log1p(-p)
    if type == "halfnorm":
        return -delta[0] * p**2
    if type == "negexp":
        return -delta[0] * p
    if type == "logistic":
        return np.log(2.0) - delta[0] * p - np.log1p(np.exp(-delta[0] * p))
    if type == "power":
        return delta[0] * np.log1p(-p)
    return -delta[0] * p ** (1.0 / delta[1])


def by_quadrature(name: str, type: str, mu: float, tau2: float, delta: np.ndarray) -> float:
    """Return the log-likelihood, with the chance to be seen by SciPy's adaptive integral between the kinks."""
    data = reference(f"{name}_ZCOR")
    y, se = numbers(data["yi"]), np.sqrt(numbers(data["vi"]))
    sd = np.sqrt(se**2 + tau2)
    least = CLIPPED.get(type, 0.0)
    kink = -special.ndtri(1e-5)
    total = 0.0
    for i in range(len(y)):

        def integrand(x: float, i: int = i) -> float:
            p = min(max(special.ndtr(-x), least), 1.0 - least)
            z = (x * se[i] - mu) / sd[i]
            return (
                float(np.exp(log_weight(type, np.array(p), delta) - 0.5 * z * z))
                * se[i]
                / sd[i]
                / math.sqrt(2 * math.pi)
            )

        ends = np.unique(np.clip([mu / se[i] + j * sd[i] / se[i] for j in range(-12, 13, 4)], -60.0, 60.0))
        ends = np.sort(np.concatenate([ends, [-kink, kink, -8.0, 8.0]]))
        ends = ends[(ends >= (mu - 12.5 * sd[i]) / se[i]) & (ends <= (mu + 12.5 * sd[i]) / se[i])]
        chance = sum(
            integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in pairwise(ends)
        )
        p = min(max(float(special.ndtr(-y[i] / se[i])), least), 1.0 - least)
        z = (y[i] - mu) / sd[i]
        total += float(log_weight(type, np.array(p), delta)) - 0.5 * z * z - math.log(sd[i] * math.sqrt(2 * math.pi))
        total -= math.log(chance)
    return total


@pytest.mark.parametrize("case", SMOOTH)
def test_smooth_weights_are_as_likely_as_an_adaptive_integral_says_and_no_less_than_metafors(case):
    name = "molloy2014"
    stored = reference(f"{name}_ZCOR")["selmodel"][case]
    found = bias.selmodel(fit(name), case)
    mine = by_quadrature(name, case, found.estimate, found.tau2, np.maximum(found.delta, 1e-12))
    assert found.loglik == pytest.approx(mine, abs=1e-9)
    theirs = by_quadrature(name, case, stored["b"], stored["tau2"], np.atleast_1d(stored["delta"]))
    assert found.loglik >= theirs - 1e-9
    # How wrong metafor's own log-likelihood is: by more where the weight still changes far below p = 1e-5.
    assert abs(theirs - stored["ll"]) < (3e-3 if case == "negexppow" else 3e-5)


@pytest.mark.parametrize("case", SMOOTH)
@pytest.mark.parametrize("name", DATASETS)
def test_smooth_weights_are_metafors_as_far_as_its_integrals_go(name, case):
    stored = reference(f"{name}_ZCOR")["selmodel"][case]
    found = bias.selmodel(fit(name), case)
    assert found.loglik > stored["ll"] - 5e-4
    assert found.lrt.df == stored["LRTdf"]
    # A likelihood that is higher by so much allows for so many standard errors of difference.
    higher = math.sqrt(2.0 * max(found.loglik - stored["ll"], 0.0)) + 0.02
    if not isinstance(found.se_delta[0], am.NotApplicable):
        assert abs(found.estimate - stored["b"]) < higher * found.se
        assert abs(found.tau2 - stored["tau2"]) < higher * found.se_tau2
        for mine, other, se in zip(found.delta, np.atleast_1d(stored["delta"]), found.se_delta, strict=True):
            assert abs(mine - other) < higher * se


# metafor 3.8-1, R 4.2.2: confint(selmodel(rma(yi, vi, method="ML"), type="stepfun", steps=...)), to a third of a
# thousandth of the estimate's distance from its limit: its root finder stops there.
INTERVALS = {
    ("molloy2014", 0.025): {"tau2": (0.00054644, 0.02274191), "delta[2]": (0.04439115, 1.21116332)},
    ("crede2010", 0.025): {"tau2": (0.04593409, 0.10941761), "delta[2]": (0.12771734, 0.84308902)},
    ("crede2010", 0.025, 0.5): {
        "tau2": (0.05219808, 0.18111054),
        "delta[2]": (0.14179206, 0.84408470),
        "delta[3]": (0.00887618, 0.56235675),
    },
}


@pytest.mark.parametrize("case", INTERVALS)
def test_profile_intervals_are_metafors(case):
    name, *steps = case
    table = bias.selmodel(fit(name), steps=steps).confint()
    for row, (lb, ub) in INTERVALS[case].items():
        estimate = table.loc[row, "estimate"]
        assert table.loc[row, "ci_lb"] == pytest.approx(lb, abs=5e-3 * (estimate - lb))
        assert table.loc[row, "ci_ub"] == pytest.approx(ub, abs=5e-3 * (ub - estimate))


# Baskerville, Liddy & Hogg (2012): standardised mean differences and standard errors, metadat's dat.baskerville2012.
SMD = "1.01 .82 .59 .44 .84 .73 1.12 .04 .24 .32 1.04 1.31 .59 .66 .62 .47 1.08 .98 .26 .39 .6 .94 .11"
SMD_SE = ".52 .46 .23 .18 .29 .29 .36 .37 .15 .4 .32 .57 .29 .19 .31 .27 .32 .32 .18 .18 .31 .53 .27"


def test_the_example_of_the_beta_model_is_what_metafor_prints():
    """Citkowicz & Vevea (2017); the first example in the help page of metafor's selmodel, printed by metafor 3.8-1."""
    yi, sei = (np.array(text.split(), dtype=float) for text in (SMD, SMD_SE))
    found = bias.selmodel(am.RandomEffectsModel(am.EffectSizes.from_arrays(yi, sei**2, measure="SMD")).fit(), "beta")
    shown = [found.estimate, found.se, *found.delta, found.se_delta[0], found.lrt.stat, found.lrt.pval, found.tau2]
    texts = ["0.115", "0.166", "0.473", "4.461", "0.235", "7.847", "0.020", "0.000"]
    assert [one == printed(text) for one, text in zip(shown, texts, strict=True)] == [True] * 8
    # metafor's tau2 stays at 2e-6 with a standard error of its own, which the others know of.
    assert [found.ci_lb, found.ci_ub, found.se_delta[1]] == pytest.approx([-0.212, 0.441, 2.185], abs=2e-3)


CALLS = {
    "step": {},
    "steps, small effects": {"steps": (0.025, 0.5), "alternative": "less"},
    "two-sided": {"steps": (0.05,), "alternative": "two.sided"},
    "given": VEVEA_WOODS,
    "moderator": {},
    "equal effects": {},
    "half-normal": {"type": "halfnorm"},
}


def asked(case: str) -> bias.SelectionResult:
    rng = np.random.default_rng(8)
    k = {"given": 8, "half-normal": 16}.get(case, 40)  # R takes its time for these
    r, n = np.tanh(rng.normal(0.2, 0.25, k)).round(3), rng.integers(20, 160, k)
    r = abs(r) if case == "half-normal" else r  # else no selection is found
    frame = {"study": [f"S{i}" for i in range(k)], "r": r, "n": n, "arm": ["a", "b", "b", "a"] * (k // 4)}
    es = am.escalc(pd.DataFrame(frame))
    method = "EE" if case == "equal effects" else "REML"
    model = am.RandomEffectsModel(es, mods="arm" if case == "moderator" else "1", method=method)
    return bias.selmodel(model.fit(), **CALLS[case])


@pytest.fixture(scope="module")
def fits() -> dict[str, bias.SelectionResult]:
    return {case: asked(case) for case in CALLS}


@pytest.fixture(scope="module")
def in_r(fits, tmp_path_factory):
    """Estimates and standard errors of each, by one run of R."""
    if why := missing_packages(("metafor",)):
        pytest.skip(why)
    return run_each(
        {case: f"{one.r_code()}\nshow_fit(sel)" for case, one in fits.items()}, tmp_path_factory.mktemp("r")
    )


@pytest.mark.parametrize("case", CALLS)
def test_the_r_code_of_a_selection_model_gives_it(case, fits, in_r):
    found, shown = fits[case], in_r[case][-1]
    near = 2e-3 if found.type == "stepfun" else 2e-2  # metafor's integrals are rough
    assert [row[0] for row in shown] == pytest.approx(list(found.beta), abs=near * float(np.sqrt(found.vb[0, 0])))
    assert [row[1] for row in shown] == pytest.approx(list(np.sqrt(np.diag(found.vb))), rel=2 * near)
