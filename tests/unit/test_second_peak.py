"""What is said, and drawn, where the likelihood has two peaks; and that nothing is said where it has one."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta.errors import DependenceWarning, SecondPeakWarning, TruncationWarning
from tests.equivalence.test_peaks import TWO_PEAKS

# Mean difference and its variance in dat.gibson2002 of R's metadat (GPL), to metafor's digits.
GIBSON = (
    [-3, -16.5, 0.15, -0.57, -15.08, -1.46, -2, -7.7, -0.9, 0.52, -3, 0.26, -18],
    [
        *(6.134576518519, 15.252554621849, 0.018061098398, 0.623189635885, 20.868517142857, 2.026945252525),
        *(2.325072639225, 22.9825, 0.488994208916, 1.985205302521, 7.939393939394, 0.039869767442, 245.126666666667),
    ],
)
PAGE = Path(__file__).parents[2] / "docs" / "two-answers.md"
NEAR = TWO_PEAKS.assign(r=[0.23, 0.19, 0.22, 0.67, 0.29, 0.4, 0.23, 0.56])


def fitted(table=NEAR, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecondPeakWarning)
        warnings.simplefilter("ignore", TruncationWarning)
        return am.RandomEffectsModel(am.escalc(table), **settings).fit()


def said(fit, code="second-peak"):
    return [note.message for note in fit.notes if note.code == code]


def test_a_second_peak_within_two_log_units_is_named_with_its_mean():
    with pytest.warns(SecondPeakWarning, match="has two peaks"):
        fit = am.RandomEffectsModel(am.escalc(NEAR)).fit()
    at_zero = am.RandomEffectsModel(am.escalc(NEAR), tau2=0.0).fit()
    lower = fit.loglik - at_zero.loglik
    assert 0 < lower < 2
    assert said(fit) == [
        f"The likelihood (REML) has two peaks: the estimate, tau2 {fit.tau2:.4g} with mean {fit.beta[0]:.4g}, and one "
        f"{lower:.2g} log units lower, tau2 0 with mean {at_zero.beta[0]:.4g}. The data do not choose between them: "
        "report both, and look at plots.profile."
    ]


def test_one_that_is_much_lower_or_not_there_is_not_spoken_of():
    assert said(fitted(TWO_PEAKS)) == []
    assert said(fitted(NEAR, method="PM")) == []
    assert said(am.RandomEffectsModel(am.escalc(am.load_dataset("molloy2014"))).fit()) == []


def test_sampling_errors_do_not_explain_what_q_says_they_do_not():
    fit = fitted(method="ML")
    assert fit.tau2 == 0
    assert fit.QEp < 0.01
    (message,) = said(fit, "tau2-truncated")
    assert "explain" not in message
    assert f"Q(7) = {fit.QE:.2f}, p = {fit.QEp:.2g}, says that the effects differ" in message
    assert "peaks: the estimate, tau2 0 with" in said(fit)[0]
    alike = fitted(TWO_PEAKS.assign(r=[0.2, 0.21, 0.2, 0.25, 0.2, 0.22, 0.2, 0.19]))
    assert "vary no more than their sampling errors explain" in said(alike, "tau2-truncated")[0]


def test_with_moderators_every_coefficient_is_named():
    table = NEAR.assign(year=[0, 0, 0, 1, 0, 0, 1, 1])
    fit = fitted(table, mods="year", method="ML")
    (message,) = said(fit)
    for name, value in zip(fit.names, fit.beta, strict=True):
        assert f"{name} {value:.4g}" in message


def test_a_confidence_set_in_two_parts_is_reported_with_its_hull():
    fit = fitted()
    whole = fit.confint_tau2(kind="PL", level=0.95)
    assert whole.remark == ""
    split = fit.confint_tau2(kind="PL", level=0.63)
    assert (split.lb, split.ub) == (0.0, pytest.approx(split.ub))
    assert "[0, " in split.remark
    assert split.remark.count("[") == 2
    assert split.remark in str(split)
    assert split.to_dict()["remark"] == split.remark
    parts = [float(end) for part in split.remark.split("[")[1:] for end in part.split("]")[0].split(", ")]
    cutoff = fit.loglik - 0.5 * 0.8037
    for tau2 in (parts[1], parts[2], split.ub):
        assert fitted(tau2=tau2).loglik == pytest.approx(cutoff, abs=2e-3)
    assert fitted(tau2=0.5 * (parts[1] + parts[2])).loglik < cutoff - 0.02


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_the_profile_shows_both_peaks(method):
    fit = fitted(method=method)
    frame = am.plots.profile_data(fit)
    (other,) = frame[frame["kind"] == "peak"].to_dict("records")
    (best,) = frame[frame["kind"] == "maximum"].to_dict("records")
    assert best["tau2"] == fit.tau2
    assert best["loglik"] == pytest.approx(fit.loglik, abs=1e-9)
    assert frame["loglik"].max() <= best["loglik"] + 1e-12
    assert min(best["tau2"], other["tau2"]) == 0
    assert other["loglik"] < best["loglik"]
    curve = frame[frame["kind"] == "curve"].sort_values("tau2")
    between = curve[curve["tau2"].between(*sorted((best["tau2"], other["tau2"])))]
    assert between["loglik"].min() < other["loglik"] - 1e-4
    figure = am.plots.profile(fit)
    assert "another peak at" in figure.plot_description
    assert "another peak" not in am.plots.profile(fitted(NEAR.assign(r=0.2))).plot_description


def test_tests_that_compare_likelihoods_use_the_highest():
    ml = fitted(TWO_PEAKS, method="ML")
    equal = fitted(TWO_PEAKS, method="EE")
    assert ml.tau2 > 0.02
    assert 2 * (ml.loglik - equal.loglik) == pytest.approx(4.7115, abs=1e-3)
    test = am.sensitivity.lr_test(fitted(TWO_PEAKS))
    row = test.tidy().loc[("intrcpt", "none")]
    assert test.tau2 == pytest.approx(ml.tau2, rel=1e-8)
    for limit in (row["ci_lb"], row["ci_ub"]):
        away = am.EffectSizes.from_arrays(ml.effects.yi - limit, ml.effects.vi)
        v, y = away.vi, away.yi
        grid = np.append(0.0, np.geomspace(1e-6, 10.0, 40001))[:, None]
        height = -0.5 * (np.log(2 * np.pi * (v + grid)) + y**2 / (v + grid)).sum(axis=1)
        assert 2 * (ml.loglik - height.max()) == pytest.approx(3.8415, abs=1e-3)


def test_thirteen_trials_have_the_peaks_that_the_page_and_metafor_give():
    """metafor's logLik with tau2 fixed: -37.5573, -39.3159 (REML), -39.2903, -39.4469 (ML)."""
    effects, page = am.EffectSizes.from_arrays(*map(np.array, GIBSON)), PAGE.read_text("utf-8")
    for method, first, second in (
        ("REML", (9.679243, -2.457, -37.5573), (0.0, 0.0892, -39.3159)),
        ("ML", (0.0, 0.0892, -39.2903), (0.69469, -0.7772, -39.4469)),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = am.RandomEffectsModel(effects, method=method).fit()
            other = am.RandomEffectsModel(effects, method=method, tau2=fit.fitted.tau2.rival[0]).fit()
        assert len(said(fit)) == 1
        for found, (tau2, mean, loglik) in ((fit, first), (other, second)):
            assert found.tau2 == pytest.approx(tau2, rel=1e-5)
            assert (found.beta[0], found.loglik) == pytest.approx((mean, loglik), abs=5e-5)
            assert f"| {method} | {found.tau2:.4g} | {found.beta[0]:.3f} | {found.loglik:.3f} |" in page
        if method == "REML":
            assert f"{other.pval[0]:.2f}" == "0.67"
            assert f"Q(12) = {fit.QE:.1f}" in page


def test_notes_stand_in_one_order_whether_they_were_warned_of_or_not():
    effects = am.EffectSizes.from_arrays(
        [0.20, 0.21, 0.19, 0.20], [0.01, 0.02, 0.01, 0.02], study_id=["A", "A", "B", "C"], measure="ZCOR"
    )
    with pytest.warns(TruncationWarning), pytest.warns(DependenceWarning):
        fit = am.RandomEffectsModel(effects).fit()
    assert [note.code for note in fit.warned] == ["tau2-truncated", "dependent-effects"]
    assert [note.code for note in fit.notes] == [
        "tau2-truncated",
        "tau2-interval-empty",
        "knha-narrower",
        "few-for-tau2",
        "dependent-effects",
    ]
