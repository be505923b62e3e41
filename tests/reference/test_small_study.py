"""Small-study effects against metafor, clubSandwich and metasens."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.errors import AllianceMetaWarning, FewStudiesWarning
from tests.reference.reading import DATASETS, numbers, reference
from tests.reference.running import grammar_faults, missing_packages, run
from tests.tolerances import CLOSED_FORM, ITERATIVE, OPTIMISER

pytestmark = pytest.mark.reference
MODELS = {"EE": "ee", "REML": "rma", "lm": "lm"}
# metafor's plain REML stops when tau2 moves by less than 1e-5.
LOOSE = 1e-5
REGTESTS = ("regtest", "regtest_knha")
FAMILIES = {
    "TE.adjust": "estimate",
    "seTE.adjust": "se",
    "lower.adjust": "ci_lb",
    "upper.adjust": "ci_ub",
    "pval.adjust": "pval",
    "alpha.r": "alpha",
    "beta.r": "beta",
    "Q": "Q",
    "Q.small": "Q_small",
    "Q.resid": "Q_resid",
    "G.squared": "G2",
}


def effects(name: str) -> am.EffectSizes:
    found = reference(f"{name}_ZCOR")
    return am.EffectSizes.from_arrays(found["yi"], found["vi"], ni=found["ni"], measure="ZCOR")


def fit(name: str, **choices: Any) -> am.models.RandomEffectsResults:
    return am.RandomEffectsModel(effects(name), **({"test": "z"} | choices)).fit()


def grouped() -> am.EffectSizes:
    data = reference("small_study")["che"]["data"]
    rows = {name: [row[name] for row in data] for name in data[0]}
    more = {"mods": {"criterion": rows["criterion"]}, "study_id": rows["studyid"]}
    return am.EffectSizes.from_arrays(rows["yi"], rows["vi"], ni=rows["ni"], measure="ZCOR", **more)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("kind", REGTESTS)
def test_regression_tests_are_metafors(name: str, kind: str) -> None:
    model = fit(name, test="z" if kind == "regtest" else "knha")
    for expected in reference("small_study")[kind][name]:
        found = bias.regtest(model, predictor=expected["predictor"], model=expected["model"])
        near = CLOSED_FORM if expected["model"] == "lm" else ITERATIVE
        assert found.stat == pytest.approx(expected["stat"], rel=near)
        assert found.pval == pytest.approx(expected["pval"], rel=near)
        assert found.ddf == (np.inf if expected["ddf"] is None else expected["ddf"])
        if expected["est"] is None:
            assert isinstance(found.limit_estimate, am.NotApplicable)
        else:
            limit = (found.limit_estimate, *found.limit_ci)
            assert limit == pytest.approx([expected[one] for one in ("est", "ci_lb", "ci_ub")], rel=near)


@pytest.mark.parametrize("name", DATASETS)
def test_what_a_plain_call_of_metafor_prints(name: str) -> None:
    """With its own stopping rule for tau2: the models above are the same, driven to the end."""
    for expected in reference(f"{name}_ZCOR")["regtest"]:
        found = bias.regtest(fit(name), predictor=expected["predictor"], model=expected["model"])
        assert found.stat == pytest.approx(expected["zval"], abs=2e-4)
        assert found.pval == pytest.approx(expected["pval"], abs=2e-4)


@pytest.mark.parametrize("name", DATASETS)
def test_rank_tests_are_metafors(name: str) -> None:
    expected = reference(f"{name}_ZCOR")["ranktest"]
    found = bias.ranktest(fit(name))
    assert (found.tau, found.pval) == pytest.approx((expected["tau"], expected["pval"]), rel=CLOSED_FORM)
    assert not found.exact


@pytest.mark.parametrize("name", ["few", "some", "many", "ties"])
def test_rank_tests_with_and_without_ties(name: str) -> None:
    expected = reference("small_study")["ranktest"][name]
    found = bias.ranktest(am.RandomEffectsModel(am.EffectSizes.from_arrays(expected["yi"], expected["vi"])).fit())
    assert (found.tau, found.pval) == pytest.approx((expected["tau"], expected["pval"]), rel=CLOSED_FORM)
    assert found.exact == (name != "ties")


@pytest.mark.parametrize("name", DATASETS)
def test_trim_and_fill_is_metafors(name: str) -> None:
    for key, expected in reference(f"{name}_ZCOR")["trimfill"].items():
        if key == "default":
            found = bias.trimfill(fit(name))
        else:
            estimator, method, side = key.split("_")
            found = bias.trimfill(fit(name, method=method), estimator=estimator, side=side)
        assert (found.k0, found.side) == (expected["k0"], expected["side"])
        assert found.fit.k == found.k + found.k0
        near = {"abs": LOOSE} if "REML" in key or key == "default" else {"rel": CLOSED_FORM}
        assert (found.estimate, found.se) == pytest.approx((expected["b"], expected["se"]), **near)
        if key != "default":
            assert found.k0_se == pytest.approx(expected["se_k0"], rel=CLOSED_FORM)
            assert found.fit.tau2 == pytest.approx(expected["tau2"], **near)
            pval = None if isinstance(found.k0_pval, am.NotApplicable) else found.k0_pval
            assert pval == (None if expected["pk0"] is None else pytest.approx(expected["pk0"], rel=CLOSED_FORM))


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("kind", MODELS)
def test_pet_and_peese_are_metafors(name: str, kind: str) -> None:
    found = bias.pet_peese(fit(name), model=MODELS[kind])
    for line in (found.pet, found.peese):
        expected = reference(f"{name}_ZCOR")["petpeese"][f"{line.called}_{kind}"]
        near = ITERATIVE if kind == "REML" else CLOSED_FORM
        assert (line.estimate, line.slope) == pytest.approx(expected["b"], rel=near)
        assert (line.se, line.slope_se) == pytest.approx(expected["se"], rel=near)
        assert line.pval == pytest.approx(expected.get("pval", expected.get("p"))[0], rel=near)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("adjustment", ["beta0", "betalim", "mulim"])
def test_the_limit_is_that_of_metasens(name: str, adjustment: str) -> None:
    """`limitmeta` of metasens 1.5-2, run from its source with tau2 of a REML fit driven to the end."""
    expected = reference("small_study")["limitmeta"][name][adjustment]
    found = bias.limitmeta(fit(name), adjustment=adjustment)
    ours = [getattr(found, one) for one in FAMILIES.values()]
    assert ours == pytest.approx([expected[one] for one in FAMILIES], rel=ITERATIVE)
    assert found.shrunken["limit"].to_numpy() == pytest.approx(numbers(expected["shrunken"]), rel=ITERATIVE)


@pytest.mark.parametrize("mods", ["1", "criterion"])
def test_the_multilevel_egger_test_is_that_of_metafor_and_clubsandwich(mods: str) -> None:
    fitted = am.che(grouped(), mods=mods)
    for predictor, expected in reference("small_study")["che"]["plain" if mods == "1" else mods].items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewStudiesWarning)
            found = bias.regtest(fitted, predictor=predictor)
        ours = (found.slope, found.slope_se, found.stat, found.ddf, found.pval)
        # rma.mv's search ends where sigma2 moves by 1e-10 of the likelihood.
        assert ours == pytest.approx([expected[one][-1] for one in ("b", "se", "t", "df", "p")], rel=OPTIMISER)
        assert found.model == "che"
        if mods == "1" and predictor in ("sei", "vi", "ninv", "sqrtninv"):
            assert found.limit_estimate == pytest.approx(expected["b"][0], rel=OPTIMISER)


def test_pet_and_peese_of_dependent_effects_are_the_same_regressions() -> None:
    found = bias.pet_peese(am.che(grouped()))
    for line, predictor in ((found.pet, "sei"), (found.peese, "vi")):
        expected = reference("small_study")["che"]["plain"][predictor]
        assert (line.estimate, line.slope) == pytest.approx(expected["b"], rel=OPTIMISER)
        assert (line.se, line.slope_se) == pytest.approx(expected["se"], rel=OPTIMISER)
        assert line.pval == pytest.approx(expected["p"][0], rel=1e-5)


def test_moderators_of_the_fit_stay_in_the_regression() -> None:
    fitted = am.RandomEffectsModel(grouped(), mods="criterion", test="z").fit()
    found = bias.regtest(fitted, model="rma")
    expected = reference("small_study")["moderators"]
    assert (found.stat, found.pval) == pytest.approx((expected["stat"], expected["pval"]), rel=ITERATIVE)


@pytest.mark.parametrize("name", [*DATASETS, "studies"])
def test_weighted_averages_are_those_of_lm_and_clubsandwich(name: str) -> None:
    fitted = fit(name) if name in DATASETS else am.che(grouped())
    expected = reference("small_study")["averages"][name]
    for method in (bias.uwls, bias.waap):
        found = method(fitted)
        wanted = expected[method.__name__]
        assert (found.estimate, found.se, found.pval) == pytest.approx(wanted, rel=CLOSED_FORM)
    assert bias.waap(fitted).powered == expected["powered"]
    found3 = bias.uwls3(fitted)
    estimate, se, pval = expected["uwls3"]
    ours = (np.tanh(found3.estimate), found3.se * (1.0 - estimate**2), found3.pval)
    assert ours == pytest.approx((estimate, se, pval), rel=CLOSED_FORM)


def codes() -> dict[str, tuple[str, list[tuple[float, float]]]]:
    """Return R code by name, and the last coefficient and standard error of each fit that it makes."""
    plain, che = fit("molloy2014"), am.che(grouped())
    tests = [bias.regtest(plain, model=model, predictor="sqrtninv") for model in ("rma", "lm")] + [bias.regtest(che)]
    found = {f"regtest {one.model}": (one.r_code(), [(one.slope, one.slope_se)]) for one in tests}
    filled = bias.trimfill(plain, estimator="L0")
    means = [(float(one.beta[0]), float(one.se[0])) for one in (filled.before, filled.fit)]
    found["trimfill"] = (filled.r_code(), means)
    studies = bias.trimfill(che, estimator="R0", side="left")
    means = [(float(one.beta[0]), float(one.se[0])) for one in (studies.before, studies.fit)]
    found["trimfill of means"] = (studies.r_code(), means)
    own = fit("molloy2014", tau2=0.02, test="t", level=0.9)
    given = bias.trimfill(own, estimator="L0")
    means = [(float(one.beta[0]), float(one.se[0])) for one in (given.before, given.fit)]
    found["trimfill with tau2 given"] = (given.r_code(), means)
    ranks = bias.ranktest(plain)
    shown = "fit <- list(beta=ranktest(fit)$tau, se=ranktest(fit)$pval)"
    code = ranks.r_code().replace("\nranktest(fit)", f"\n{shown}")
    found["ranktest"] = (code, [(float(plain.beta[0]), float(plain.se[0])), (ranks.tau, ranks.pval)])
    return found


def test_r_gives_the_same_from_the_code(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        written = codes()
    for code, _ in written.values():
        assert grammar_faults(code) == []
    if why := missing_packages(("metafor", "clubSandwich")):
        pytest.skip(why)
    shown = run("\n".join(code for code, _ in written.values()), tmp_path)
    expected = [pair for _, pairs in written.values() for pair in pairs]
    assert len(shown) == len(expected)
    for found, pair in zip(shown, expected, strict=True):
        assert found[-1][:2] == pytest.approx(pair, rel=2e-4)
