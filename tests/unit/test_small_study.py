"""Small-study effects: what is said and when, what does not exist and why, what is refused, what does not matter."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

import alliance_meta as am
from alliance_meta import bias, models
from alliance_meta.core.bias.small_study import MOST_EXACT, kendall, plus_three
from alliance_meta.errors import AllianceMetaWarning, DependenceWarning, InputError
from tests.tolerances import CLOSED_FORM, ITERATIVE

pytestmark = [
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.FewStudiesWarning"),
]
Method = Callable[[Any], Any]
MEANS: list[Method] = [bias.trimfill, bias.pet_peese, bias.uwls, bias.uwls3, bias.waap, bias.limitmeta]
METHODS: list[Method] = [bias.regtest, bias.ranktest, *MEANS]


def effects(k: int = 14, *, studies: int | None = None, measure: str = "ZCOR", **other: Any) -> am.EffectSizes:
    rng = np.random.default_rng(5)
    n = rng.permutation(np.arange(30, 30 + 17 * k, 17))[:k]
    y = rng.normal(0.3, 0.2, k)
    study = None if studies is None else [f"s{i % studies}" for i in range(k)]
    v = 1.0 / (n - 3.0) if measure == "ZCOR" else (1.0 - y**2) ** 2 / (n - 1.0)
    given = {"yi": y, "vi": v, "ni": n, "measure": measure, "study_id": study} | other
    return am.EffectSizes.from_arrays(given.pop("yi"), given.pop("vi"), **given)


def fit(data: am.EffectSizes | None = None, **choices: Any) -> models.RandomEffectsResults:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DependenceWarning)
        return am.RandomEffectsModel(effects() if data is None else data, **choices).fit()


def codes(result: Any) -> set[str]:
    return {note.code for note in result.notes}


@pytest.mark.parametrize("method", METHODS)
def test_few_studies_are_said_below_ten_and_not_from_ten(method: Method) -> None:
    nine, ten, of_nine = (effects(k, yi=np.linspace(0.6, 0.7, k), studies=s) for k, s in ((9, 9), (10, 10), (18, 9)))
    assert "few-studies-bias" in codes(method(fit(nine)))
    assert "few-studies-bias" not in codes(method(fit(ten)))
    assert "few-studies-bias" in codes(method(models.che(of_nine)))


@pytest.mark.parametrize("method", [bias.regtest, bias.ranktest, bias.pet_peese, bias.limitmeta])
def test_standard_errors_that_know_more_than_n_are_said(method: Method) -> None:
    assert "se-not-size" not in codes(method(fit()))
    assert "se-not-size" in codes(method(fit(effects(measure="COR"))))
    assert "se-not-size" in codes(method(fit(effects(ni=None))))


@pytest.mark.parametrize("method", [bias.regtest, bias.pet_peese])
def test_nothing_is_said_of_standard_errors_that_are_not_the_predictor(method: Any) -> None:
    assert "se-not-size" not in codes(method(fit(effects(measure="COR")), predictor="inv_sqrt_n"))


def test_means_of_several_correlations_know_more_than_n() -> None:
    assert "se-not-size" in codes(bias.ranktest(models.che(effects(24, studies=11))))


def test_the_normal_p_value_of_ranks_is_said() -> None:
    assert "rank-test-normal" not in codes(bias.ranktest(fit()))
    tied = effects(yi=np.repeat(np.linspace(0.1, 0.4, 7), 2), vi=np.repeat(np.linspace(0.01, 0.02, 7), 2), ni=None)
    found = bias.ranktest(fit(tied))
    assert "rank-test-normal" in codes(found)
    assert "ties" in found.summary()
    many = bias.ranktest(fit(effects(MOST_EXACT + 1)))
    assert not many.exact
    assert f"more than {MOST_EXACT}" in many.summary()


def test_the_fall_back_of_the_powered_is_said_when_it_happens() -> None:
    found, small = bias.waap(fit(effects(yi=np.full(14, 0.6)))), bias.waap(fit(effects(yi=np.tile([0.01, -0.005], 7))))
    assert (found.fallback, small.fallback) == (False, True)
    assert "waap-fallback" not in codes(found)
    assert "waap-fallback" in codes(small)
    assert small.estimate == bias.uwls(fit(effects(yi=np.tile([0.01, -0.005], 7)))).estimate


def test_one_powered_study_of_several_effects_is_one_study() -> None:
    v = np.array([0.0005, 0.0005, *np.full(10, 0.09)])
    data = effects(12, yi=np.full(12, 0.1) + np.linspace(0, 0.01, 12), vi=v, study_id=["a", "a", *range(10)], ni=None)
    found = bias.waap(fit(data))
    assert found.fallback
    assert found.powered == 2
    assert "2 effects of one study had 80% power" in found.summary()


def test_the_side_is_said_to_be_taken_where_no_slope_tells() -> None:
    equal = effects(vi=np.full(14, 0.01), ni=np.full(14, 103))
    assert "trim-side" in codes(bias.trimfill(fit(equal)))
    assert bias.trimfill(fit(equal)).side == "left"
    assert "trim-side" not in codes(bias.trimfill(fit()))
    assert "trim-side" not in codes(bias.trimfill(fit(equal), side="right"))


@pytest.mark.parametrize("method", [bias.regtest, bias.pet_peese, bias.limitmeta])
def test_no_slope_without_spread_of_precision(method: Method) -> None:
    found = method(fit(effects(vi=np.full(14, 0.01), ni=np.full(14, 103))))
    value = found.stat if method is bias.regtest else found.estimate
    assert isinstance(value, am.NotApplicable)
    assert "same precision" in value.reason
    assert "same precision" in found.summary()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2])
def test_one_and_two_effects_give_a_reason(method: Method, k: int) -> None:
    if method is bias.trimfill and k == 1:
        with pytest.raises(InputError, match="at least 2"):
            method(fit(effects(k)))
        return
    found = method(fit(effects(k)))
    value = {"regtest": "stat", "ranktest": "tau"}.get(method.__name__, "estimate")
    value = getattr(found, value)
    pair = method in (bias.trimfill, bias.uwls, bias.uwls3, bias.waap) and k == 2
    assert math.isfinite(value) if pair else isinstance(value, am.NotApplicable) and "at least" in value.reason
    json.dumps(found.to_dict())


@pytest.mark.parametrize("method", [bias.uwls, bias.waap, bias.pet_peese])
def test_effects_on_a_line_leave_no_error(method: Method) -> None:
    found = method(fit(effects(yi=np.full(14, 0.3)), method="EE", test="knha"))
    assert found.estimate == pytest.approx(0.3, rel=CLOSED_FORM)
    assert isinstance(found.se, am.NotApplicable)
    assert "no residual" in found.se.reason


def test_effects_that_are_all_the_same_lack_nothing() -> None:
    found = bias.trimfill(fit(effects(yi=np.full(14, 0.3))))
    assert (found.k0, len(found.filled)) == (0, 0)
    assert isinstance(bias.ranktest(fit(effects(yi=np.full(14, 0.3)))).tau, am.NotApplicable)


@pytest.mark.parametrize("method", [bias.regtest, bias.pet_peese, bias.uwls])
def test_one_study_is_refused_with_the_reason(method: Method) -> None:
    with pytest.raises(InputError, match="one cluster"):
        method(fit(effects(studies=1)))


@pytest.mark.parametrize("method", [one for one in METHODS if one is not bias.regtest])
def test_moderators_are_refused(method: Method) -> None:
    data = effects(mods={"x": np.arange(14.0)})
    with pytest.raises(InputError, match="without moderators"):
        method(fit(data, mods="x"))
    with pytest.raises(InputError, match="needs a fitted model"):
        method(data)


def test_options_are_refused_with_a_mend() -> None:
    with pytest.raises(InputError, match="sei"):
        bias.regtest(fit(), predictor="se")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give ni="):
        bias.regtest(fit(effects(ni=None)), predictor="sqrtninv")
    with pytest.raises(InputError, match="one-sided"):
        bias.pet_peese(fit(), alpha=0.7)
    with pytest.raises(InputError, match="see uwls"):
        bias.uwls3(fit(effects(measure="SMD")))
    with pytest.raises(InputError, match="weights of its own"):
        bias.trimfill(fit(effects(studies=7), test="z", weights=np.ones(14)))


@pytest.mark.parametrize("method", [bias.regtest, bias.pet_peese])
def test_ignoring_dependence_warns(method: Any) -> None:
    fitted = models.che(effects(20, studies=12))
    with pytest.warns(DependenceWarning):
        method(fitted, model="rma")
    assert method(fitted).model == "che"
    assert method(fit()).model == "rma"


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_fit_is_taken(method: Method) -> None:
    """The means of dependent effects are of the effects alone, whatever model was fitted to them."""
    data = effects(24, studies=12)
    fits = [models.MultilevelModel(data).fit(), models.che(data), models.RVEModel(data).fit(), fit(data).robust()]
    first, *rest = [method(one) for one in fits]
    shown = [one.tidy().iloc[0].to_numpy(float) for one in rest]
    for numbers in shown if method is not bias.pet_peese and method is not bias.regtest else []:
        assert numbers == pytest.approx(first.tidy().iloc[0].to_numpy(float), rel=ITERATIVE, nan_ok=True)


@pytest.mark.parametrize("method", METHODS)
def test_turning_all_signs_turns_the_answer(method: Method) -> None:
    data = effects(ni=effects().ni)
    turned = effects(yi=-data.yi)
    ours, theirs = method(fit(data, test="z")), method(fit(turned, test="z"))
    for name in ("estimate", "stat", "tau"):
        if hasattr(ours, name):
            assert getattr(theirs, name) == pytest.approx(-getattr(ours, name), rel=ITERATIVE)
    if isinstance(ours, bias.TrimFill):
        assert {ours.side, theirs.side} == {"left", "right"}
        assert ours.k0 == theirs.k0


def test_pet_peese_takes_peese_only_where_pet_finds_an_effect_in_the_direction_of_the_mean() -> None:
    strong = bias.pet_peese(fit(effects(yi=np.full(14, 0.5) + np.linspace(0, 0.02, 14))))
    none = bias.pet_peese(fit(effects(yi=2.0 * np.sqrt(effects().vi) + np.tile([0.03, -0.03], 7))))
    assert (strong.chosen, none.chosen) == ("PEESE", "PET")
    assert strong.estimate == strong.peese.estimate
    assert none.estimate == none.pet.estimate
    # A mean that is positive and a PET that is negative beyond chance finds nothing in that direction.
    steep = bias.pet_peese(fit(effects(yi=-0.3 + 6.0 * np.sqrt(effects().vi) + np.tile([0.003, -0.003], 7))))
    assert steep.pet.pval < 0.01
    assert steep.pet.estimate < 0
    assert steep.chosen == "PET"


def test_the_test_of_pet_is_one_sided() -> None:
    fitted = fit()
    half = 0.5 * bias.pet_peese(fitted).pet.pval
    assert bias.pet_peese(fitted).pet.estimate > 0
    assert bias.pet_peese(fitted, alpha=half * 1.01).chosen == "PEESE"
    assert bias.pet_peese(fitted, alpha=half * 0.99).chosen == "PET"


def test_what_is_averaged_first_is_said_by_the_names_of_the_studies() -> None:
    data = effects(6, studies=3)
    found = [bias.hc(fit(data)), bias.trimfill(fit(data))]
    said = [note.message for one in found for note in one.notes if note.code == "aggregated"]
    assert len(said) == 2
    assert all("6 effects became 3, one per study_id" in text for text in said)
    uneven = [note.message for note in found[0].notes if "size differs" in note.message]
    assert all(name in uneven[0] for name in data.study_id)


def test_dependence_is_that_of_the_fit_or_the_default() -> None:
    data = effects(30, studies=12)
    plain, che, other = (bias.regtest(one).stat for one in (fit(data), models.che(data), models.che(data, rho=0.2)))
    assert plain == pytest.approx(che, rel=ITERATIVE)
    assert abs(other - che) > 1e-3


def test_the_tests_of_the_limit_have_one_degree_of_freedom_less_each() -> None:
    found = bias.limitmeta(fit())
    for Q, pval, df in (
        (found.Q, found.Q_pval, 13),
        (found.Q_small, found.Q_small_pval, 1),
        (found.Q_resid, found.Q_resid_pval, 12),
    ):
        assert pval == pytest.approx(stats.chi2.sf(Q, df), rel=CLOSED_FORM)


def test_the_limit_has_no_bias_where_effects_do_not_hang_on_precision() -> None:
    """Effects on the mean line: beta0 is the mean, alpha 0, and nothing goes with small studies."""
    found = bias.limitmeta(fit(effects(yi=np.full(14, 0.3))))
    assert (found.estimate, found.alpha) == pytest.approx((0.3, 0.0), abs=1e-12)
    assert found.Q_small + found.Q_resid == pytest.approx(found.Q, abs=1e-12)


def test_three_more_degrees_of_freedom_keep_t() -> None:
    r, df = np.array([-0.9, 0.0, 0.2, 0.999]), np.array([8.0, 20.0, 100.0, 5.0])
    shrunk, v = plus_three(r, df)
    t = r * np.sqrt(df / (1 - r**2))
    assert shrunk == pytest.approx(t / np.sqrt(t**2 + df + 3), rel=CLOSED_FORM)
    assert v == pytest.approx((1 - shrunk**2) / (df + 3), rel=CLOSED_FORM)
    assert plus_three(np.array([1.0]), np.array([8.0]))[0] == pytest.approx([1.0])


def test_kendall_is_scipys_without_and_with_ties() -> None:
    rng = np.random.default_rng(3)
    for k, digits in ((4, 6), (30, 6), (200, 6), (2_000, 6), (50, 1), (400, 2)):
        x, y = rng.normal(size=k).round(digits), rng.normal(size=k).round(digits)
        tau, pval, exact = kendall(x, y)
        there = stats.kendalltau(x, y, method="exact" if exact else "asymptotic")
        assert (tau, pval) == pytest.approx((there.statistic, there.pvalue), rel=1e-9)


def test_filled_rows_mirror_the_effects_they_name() -> None:
    data = effects(yi=0.1 + 3.0 * np.sqrt(effects().vi))
    found = bias.trimfill(fit(data, method="EE"))
    assert found.k0 > 0
    assert found.fit.k == data.k + found.k0 == data.k + len(found.filled)
    by_label = dict(zip(data.slab, zip(data.yi, data.vi, strict=True), strict=True))
    centres = [(row.yi + by_label[row.mirrors][0]) / 2 for row in found.filled.itertuples()]
    assert np.ptp(centres) == pytest.approx(0.0, abs=1e-12)
    assert [row.vi for row in found.filled.itertuples()] == [by_label[m][1] for m in found.filled["mirrors"]]


@pytest.mark.parametrize("method", METHODS)
def test_twenty_thousand_effects(method: Method) -> None:
    rng = np.random.default_rng(8)
    n = rng.integers(20, 900, 20_000)
    data = am.EffectSizes.from_arrays(rng.normal(0.2, 0.2, 20_000), 1.0 / (n - 3.0), ni=n, measure="ZCOR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        found = method(fit(data))
    value = next(getattr(found, name) for name in ("estimate", "stat", "tau") if hasattr(found, name))
    assert math.isfinite(value)
