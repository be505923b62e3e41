"""Worst case, right-truncated meta-analysis, bound, excess significance, fail-safe numbers: bad input and notes."""

from __future__ import annotations

import json
import math
import warnings
from functools import cache

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import EffectSizes, RandomEffectsModel, bias
from alliance_meta.bias.given import Adjusted
from alliance_meta.errors import DependenceWarning, InputError
from alliance_meta.tables.document import Document
from tests.unit import test_every_result as every

METHODS = {
    "worst_case": bias.worst_case,
    "rtma": bias.rtma,
    "tes": bias.tes,
    "fsn": bias.fsn,
    "unseen": bias.unseen,
}
INDEPENDENT = ("rtma", "tes", "fsn")


def fitted(y, v, study_id=None, measure="ZCOR"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        return RandomEffectsModel(EffectSizes.from_arrays(y, v, measure=measure, study_id=study_id)).fit()


def codes(result) -> list[str]:
    return [note.code for note in result.notes]


DEGENERATE = {
    "one": ([0.3], [0.01]),
    "one, not affirmative": ([0.3], [0.1]),
    "two": ([0.3, 0.1], [0.01, 0.01]),
    "three": ([0.1, 0.05, 0.2], [0.04, 0.01, 0.02]),
    "equal errors": ([0.1, 0.2, 0.3, 0.4] * 3, [0.01] * 12),
    "no heterogeneity": ([0.2] * 12, [0.02] * 12),
    "all affirmative": ([0.5, 0.6, 0.7, 0.8] * 3, [0.01] * 12),
    "none affirmative": ([0.01, 0.02, -0.03, 0.05] * 3, [0.01] * 12),
    "all 0": ([0.0] * 5, [0.01] * 5),
    "negative": ([-0.1, -0.5, -0.6, 0.2, -0.3, -0.3], [0.01] * 6),
    "one cluster": ([0.1, 0.2, 0.3, 0.6], [0.01, 0.02, 0.01, 0.02], ["a"] * 4),
    "huge": ([1e6, 2e6, -3e6, 5e6] * 3, [1e10] * 12, None, "GEN"),
    "tiny": ([1e-9, 2e-9, 3e-10, 1e-9] * 3, [1e-18] * 12, None, "GEN"),
    "of every precision": ([0.1, 0.2, 5.0, -4.0, 0.3], [1e-8, 1e4, 1.0, 1.0, 0.01], None, "GEN"),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("method", METHODS)
def test_every_number_is_one_or_says_why_not(method, case):
    fit = fitted(*DEGENERATE[case])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        result = METHODS[method](fit)
    for name, value in result._values().items():
        if isinstance(value, float) and math.isnan(value):
            assert isinstance(value, am.NotApplicable), name
            assert len(value.reason) > 5
    assert isinstance(result.document(), Document)
    assert "nan" not in str(result)
    json.dumps(result.to_dict(), allow_nan=False)


@cache
def fit_of(name: str, dependent: bool):
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore", am.errors.AllianceMetaWarning)
        if dependent:
            patched.setattr(every, "effects", every.dependent)
        return every.FITS[name]()


# The one has moderators, the other refuses several effects of a study.
CASES = [
    (name, dependent)
    for name in every.FITS
    for dependent in (False, True)
    if name != "AveragedResults" and not (dependent and name == "RobmaResults")
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "dependent"), CASES)
def test_every_fit_is_accepted(name, dependent, method):
    """Or, where a method needs what a model does not have, refused in one sentence that says what to give."""
    fit = fit_of(name, dependent)
    if method == "tes" and name in ("LocationScaleResults", "BayesianCorrelationResults", "RobmaResults"):
        with pytest.raises(InputError, match=r"; give (tau2|theta)="):
            bias.tes(fit)
        return
    several = len(set(fit.effects.study_id)) < fit.effects.k
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = METHODS[method](fit)
    announced = method in INDEPENDENT and several
    assert any(one.category is DependenceWarning for one in told) == announced
    assert ("dependence-ignored" in codes(result)) == announced
    if isinstance(result, Adjusted):
        assert math.isfinite(result.estimate)


@pytest.mark.parametrize("method", METHODS)
def test_what_makes_no_sense_is_refused(method):
    ask = METHODS[method]
    fit = every.fit()
    with pytest.raises(InputError, match="fitted model"):
        ask(every.effects())
    with pytest.raises(InputError, match="mods='1'"):
        ask(every.fit("arm"))
    if method != "unseen":
        for alpha in (0.0, 0.5, -1.0, float("nan")):
            with pytest.raises(InputError, match="alpha"):
                ask(fit, alpha=alpha)
    if method in ("worst_case", "rtma", "unseen"):
        with pytest.raises(InputError, match="side"):
            ask(fit, side="up")
        with pytest.raises(InputError, match="level"):
            ask(fit, level=95)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("worst_case", {"ratios": [0.5]}, "1 or more"),
        ("worst_case", {"ratios": [float("nan")]}, "1 or more"),
        ("worst_case", {"tails": 3}, "neither 1 nor 2"),
        ("worst_case", {"q": float("nan")}, "finite"),
        ("unseen", {"q": float("inf")}, "finite"),
        ("unseen", {"missing": [-1]}, "whole"),
        ("unseen", {"missing": [1.5]}, "whole"),
        ("fsn", {"target": float("nan")}, "finite"),
        ("tes", {"theta": float("inf")}, "finite"),
        ("tes", {"tau2": -1.0}, "0 or more"),
        ("tes", {"tes_alpha": 1.0}, "between 0 and 1"),
        ("tes", {"test": "t"}, "test"),
        ("tes", {"alternative": "both"}, "alternative"),
        ("tes", {"tes_alternative": "both"}, "tes_alternative"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(method, options, says):
    with pytest.raises(InputError, match=says):
        METHODS[method](every.fit(), **options)


MANY = np.linspace(-0.15, 0.15, 12)
SIGNIFICANT = [0.5, 0.6]


def test_the_note_on_few_effects_counts_those_the_answer_rests_on():
    few = fitted([*MANY[:9], *SIGNIFICANT], [0.01] * 11)
    enough = fitted([*MANY[:10], *SIGNIFICANT], [0.01] * 12)
    for method in ("worst_case", "rtma"):
        note = next(note for note in METHODS[method](few).notes if note.code == "few-effects")
        assert note.message.startswith("Effects that are not affirmative: 9. ")
        assert "few-effects" not in codes(METHODS[method](enough))
    nine, ten = (fitted(MANY[:k] + 0.1, [0.01] * k) for k in (9, 10))
    for method in ("tes", "unseen"):
        assert "few-effects" in codes(METHODS[method](nine))
        assert "few-effects" not in codes(METHODS[method](ten))


def test_the_note_on_few_degrees_of_freedom():
    for k, said in ((4, True), (12, False)):
        found = bias.worst_case(fitted(MANY[:k] + 0.1, [0.01] * k))
        assert (found.ddf < 4) == said
        assert ("few-df" in codes(found)) == said


def test_the_note_on_power_at_a_mean_that_may_be_biased():
    assert "power-at-the-mean" in codes(bias.tes(every.fit()))
    assert "power-at-the-mean" not in codes(bias.tes(every.fit(), theta=0.1))


def test_every_fail_safe_number_comes_with_its_caution():
    assert "fail-safe-caution" in codes(bias.fsn(every.fit()))


def test_the_note_on_a_mean_that_is_hardly_identified():
    """Effects that pile up under the line of significance are silent on how many lie beyond it."""
    piled = bias.rtma(fitted(np.linspace(0.05, 0.19, 12), [0.01] * 12))
    spread = bias.rtma(fitted(np.tile(MANY, 4), [0.01] * 48))
    assert math.isnan(piled.ci_ub)
    assert math.isfinite(spread.ci_ub)
    assert ("hardly-identified" in codes(piled)) == (piled.beyond > 0.05) == True  # noqa: E712
    assert ("hardly-identified" in codes(spread)) == (spread.beyond > 0.05) == False  # noqa: E712


def test_the_bound_says_when_it_averaged():
    assert "aggregated" not in codes(bias.unseen(every.fit()))
    with pytest.warns(DependenceWarning):
        fit = RandomEffectsModel(every.dependent()).fit()
    found = bias.unseen(fit)
    assert "aggregated" in codes(found)
    assert found.k == 6


def test_s_values_say_why_there_is_none():
    none = bias.worst_case(fitted(*DEGENERATE["none affirmative"]))
    assert none.svalue.reason.startswith("no effect is affirmative")
    every_one = bias.worst_case(fitted(*DEGENERATE["all affirmative"]))
    assert every_one.svalue.reason.startswith("every effect is affirmative")
    assert every_one.estimate.reason == "every effect is affirmative"
    beyond = bias.worst_case(every.fit(), q=5.0)
    assert beyond.svalue.reason == beyond.svalue_limit.reason == "it is there or beyond without any selection"
    single = bias.worst_case(fitted(*DEGENERATE["one cluster"]))
    assert single.svalue_limit.reason == "the mean has no robust interval"
    assert "single study" in single.se.reason


def test_right_truncation_needs_three_effects():
    two = bias.rtma(fitted([0.1, 0.05, 0.8, 0.9], [0.01] * 4))
    assert two.k == 2
    assert two.estimate.reason == "needs at least 3 effects that are not affirmative"
    assert math.isfinite(bias.rtma(fitted([0.1, 0.05, 0.02, 0.9], [0.01] * 4)).estimate)


def test_fail_safe_numbers_without_a_target():
    found = bias.fsn(every.fit())
    assert found.orwin.reason == found.general_target.reason == "no target was given"
    assert list(found.tidy().index) == ["Rosenthal", "Rosenberg", "general"]
    never = bias.fsn(every.fit(), target=0.0)
    assert math.isinf(never.orwin)
    assert math.isinf(never.general_target)
    assert "infinite" in str(never)
    assert math.isinf(bias.fsn(every.fit(), target=1e-320).general_target)
    beyond = bias.fsn(every.fit(), target=2.0)
    assert beyond.orwin == beyond.orwin_weighted == beyond.general_target == 0


def many(rng, k: int):
    v = rng.uniform(0.003, 0.05, k)
    return fitted(rng.normal(0.2, np.sqrt(v + 0.02)), v)


@pytest.mark.parametrize("method", ["worst_case", "tes", "fsn", "unseen"])
def test_twenty_thousand_effects(method, rng):
    result = METHODS[method](many(rng, 20_000))
    assert math.isfinite(result.general if method == "fsn" else result.pval if method == "tes" else result.estimate)
    if method == "worst_case":
        assert result.estimate < 0.2 < result.uncorrected + 0.01


def test_right_truncation_finds_the_mean_of_many_effects(rng):
    found = bias.rtma(many(rng, 3000))
    assert found.ci_lb < 0.2 < found.ci_ub < 0.25
    assert found.tau_lb < 0.02**0.5 < found.tau_ub
