"""`RandomEffectsModel` against metafor's `rma.uni`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alliance_meta import RandomEffectsModel, escalc, load_dataset
from alliance_meta.models import RandomEffectsResults
from alliance_meta.notes import Tau2Method
from tests.reference.reading import DATASETS, MEASURES, numbers, reference
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = pytest.mark.reference

CLOSED = ("EE", "DL", "HE", "HS", "HSk", "SJ")
SEARCHED = ("REML", "ML", "PM", "PMM", "EB", "DLIT", "SJIT", "GENQ", "GENQM")
# metafor has no two-step estimators; tests/equivalence holds them against their formula.
ELSEWHERE = ("DL2", "HE2")
INFERENCES = ("t", "knha", "adhoc")
SCALARS = {
    "tau2": "tau2",
    "se_tau2": "se_tau2",
    "I2": "I2",
    "H2": "H2",
    "vt": "vt",
    "QE": "QE",
    "QEp": "QEp",
    "QM": "QM",
    "QMp": "QMp",
    "k": "k",
    "p": "p",
}
ARRAYS = {
    "beta": "b",
    "se": "se",
    "stat": "zval",
    "pval": "pval",
    "ci_lb": "ci_lb",
    "ci_ub": "ci_ub",
    "vb": "vb",
}


def same_fit(fit: RandomEffectsResults, expected: dict[str, Any], rel: float) -> None:
    for ours, theirs in ARRAYS.items():
        np.testing.assert_allclose(getattr(fit, ours).ravel(), numbers(expected[theirs]), rtol=rel, err_msg=ours)
    for ours, theirs in SCALARS.items():
        if expected[theirs] is None:
            assert np.isnan(getattr(fit, ours)), ours
        else:
            assert getattr(fit, ours) == pytest.approx(expected[theirs], rel=rel), ours
    criteria = dict(zip(expected["fit_rows"], expected["fit_REML" if fit.method == "REML" else "fit_ML"], strict=True))
    assert fit.loglik == pytest.approx(criteria["ll"], rel=rel)
    for name in ("AIC", "BIC", "AICc"):
        assert fit.glance()[name][0] == pytest.approx(criteria[name], rel=rel), name


def fit(dataset: str, measure: str, **options: Any) -> RandomEffectsResults:
    return RandomEffectsModel(escalc(load_dataset(dataset), measure=measure), **options).fit()


def test_the_grid_does_not_shrink():
    assert {*CLOSED, *SEARCHED, *ELSEWHERE} == set(Tau2Method.__args__)
    for dataset in DATASETS:
        for measure in MEASURES:
            stored = reference(f"{dataset}_{measure}")
            assert set(CLOSED) | set(SEARCHED) <= set(stored["methods"])
            assert set(INFERENCES) == set(stored["tests"])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", CLOSED + SEARCHED)
def test_every_estimator_with_wald_inference(dataset, measure, method):
    expected = reference(f"{dataset}_{measure}")["methods"][method]
    same_fit(fit(dataset, measure, method=method, test="z"), expected, CLOSED_FORM if method in CLOSED else ITERATIVE)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("test", INFERENCES)
def test_every_inference_with_reml(dataset, measure, test):
    expected = reference(f"{dataset}_{measure}")["tests"][test]
    same_fit(fit(dataset, measure, test=test), expected, ITERATIVE)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_q_profile_interval(dataset, measure):
    expected = reference(f"{dataset}_{measure}")["tau2_ci"]["QP"]
    ours = fit(dataset, measure).confint()
    np.testing.assert_allclose(ours["lb"], numbers(expected["lb"]), rtol=ITERATIVE)
    np.testing.assert_allclose(ours["ub"], numbers(expected["ub"]), rtol=ITERATIVE)


KINDS = {
    "QP_DL": ("QP", "DL"),
    "PL_REML": ("PL", "REML"),
    "PL_ML": ("PL", "ML"),
    "GENQ": ("GENQ", "GENQ"),
    "HT": ("HT", "REML"),
}
# metafor's confint(type="GENQ") leaves R's uniroot at its default tolerance, .Machine$double.eps^0.25.
UNIROOT = 1.3e-4


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", KINDS)
def test_other_intervals_for_tau2(dataset, measure, name):
    kind, method = KINDS[name]
    expected = reference(f"{dataset}_{measure}")["tau2_ci"][name]
    ours = fit(dataset, measure, method=method, test="z").confint_tau2(kind=kind)
    loose = UNIROOT if kind == "GENQ" else 0.0
    assert ours.estimate == pytest.approx(expected["est"][0], rel=ITERATIVE)
    assert ours.lb == pytest.approx(expected["lb"][0], rel=ITERATIVE, abs=loose)
    assert ours.ub == pytest.approx(expected["ub"][0], rel=ITERATIVE, abs=loose)


def test_no_interval_of_the_reference_is_left_out():
    assert set(reference("molloy2014_ZCOR")["tau2_ci"]) == {"QP", *KINDS}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("test", ["z", "knha"])
def test_prediction_interval(dataset, measure, test):
    expected = reference(f"{dataset}_{measure}")["predict"][test]
    row = fit(dataset, measure, test=test).predict().iloc[0]
    for name in ("pred", "se", "ci_lb", "ci_ub", "pi_lb", "pi_ub"):
        assert row[name] == pytest.approx(expected[name], rel=ITERATIVE), name


@pytest.mark.parametrize("dataset", DATASETS)
def test_shrunken_effects(dataset):
    expected = reference(f"{dataset}_ZCOR")["blup"]
    ours = fit(dataset, "ZCOR", test="z").blup()
    for name in ("pred", "se", "pi_lb", "pi_ub"):
        np.testing.assert_allclose(ours[name], numbers(expected[name]), rtol=ITERATIVE, err_msg=name)


@pytest.mark.parametrize("dataset", DATASETS)
def test_random_effects(dataset):
    expected = reference(f"{dataset}_ZCOR")["ranef"]
    ours = fit(dataset, "ZCOR", test="z").ranef()
    np.testing.assert_allclose(ours["pred"], numbers(expected["pred"]), rtol=ITERATIVE, atol=1e-12)
    np.testing.assert_allclose(ours["se"], numbers(expected["se"]), rtol=ITERATIVE)


@pytest.mark.parametrize("dataset", DATASETS)
def test_standardised_residuals(dataset):
    expected = numbers(reference(f"{dataset}_ZCOR")["rstandard"])
    np.testing.assert_allclose(
        fit(dataset, "ZCOR", test="z").augment()["rstandard"], expected, rtol=ITERATIVE, atol=1e-9
    )


@pytest.mark.parametrize("dataset", DATASETS)
def test_weights_and_leverage(dataset):
    expected = reference(f"{dataset}_ZCOR")["influence"]
    ours = fit(dataset, "ZCOR", test="z")
    np.testing.assert_allclose(ours.weights, numbers(expected["weight"]), rtol=ITERATIVE)
    np.testing.assert_allclose(ours.fitted.leverage, numbers(expected["hat"]), rtol=ITERATIVE)
