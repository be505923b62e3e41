"""A correlation in other words: values from elsewhere, round trips, intervals, and what does not exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import alliance_meta as am
from alliance_meta.core.correlations import conversions as core
from alliance_meta.errors import InputError
from alliance_meta.evidence.meanings import CONVERTERS
from tests import inverses
from tests.tolerances import CLOSED_FORM, ITERATIVE, printed

CORRELATIONS = st.floats(-0.95, 0.95)


@given(CORRELATIONS, st.floats(0.1, 0.9))
def test_r_to_d_and_back(r, share) -> None:
    assert inverses.d_to_r(core.r_to_d(r, share=share), share=share) == pytest.approx(r, rel=CLOSED_FORM, abs=1e-15)


@given(CORRELATIONS)
def test_every_other_conversion_and_back(r) -> None:
    d = core.r_to_d(r)
    near = {"rel": 1e-8, "abs": 1e-12}
    assert inverses.odds_ratio_to_d(core.d_to_odds_ratio(d)) == pytest.approx(d, **near)
    assert inverses.besd_to_r(core.besd(r)) == pytest.approx(r, **near)
    assert inverses.pairs_to_r(core.pairs(r)) == pytest.approx(r, **near)
    assert inverses.common_language_to_d(core.common_language(d)) == pytest.approx(d, **near)
    assert inverses.u3_to_d(core.u3(d)) == pytest.approx(d, **near)
    assert inverses.overlap_to_d(core.overlap(d)) == pytest.approx(abs(d), **near)
    if abs(r) > 1e-6:
        assert inverses.needed_to_d(core.needed(d)) == pytest.approx(d, **near)


def test_values_printed_elsewhere() -> None:
    """The registry's d of .278 and odds ratio of d = .55; the examples of the articles the formulas are from."""
    assert float(core.r_to_d(0.278)) == printed(".579")
    assert float(core.d_to_odds_ratio(0.55)) == printed("2.71")
    # Rosenthal & Rubin 1982: r = .32 shows as 66% against 34%.
    assert am.evidence.meaning(0.32)["besd"] == printed(".66")
    # Cohen 1988, table 2.2.1: d = .5 has U3 = 69.1%, d = .8 has 78.8%.
    assert [100 * float(core.u3(d)) for d in (0.5, 0.8)] == [printed("69.1"), printed("78.8")]


@pytest.mark.parametrize("r", [-0.6, -0.1, 0.17, 0.278, 0.5])
def test_pairs_are_the_orthants_of_the_bivariate_normal(r) -> None:
    both = stats.multivariate_normal([0, 0], [[1, r], [r, 1]]).cdf([0, 0])
    assert core.pairs(r) == pytest.approx(2 * both, rel=ITERATIVE)


@pytest.mark.parametrize("d", [-0.9, 0.2, 0.58, 1.4])
def test_groups_by_integration(d) -> None:
    def lower(x):
        return min(stats.norm.pdf(x), stats.norm.pdf(x, d))

    area, _ = integrate.quad(lower, -12, 12, points=[d / 2])
    above, _ = integrate.quad(lambda x: stats.norm.pdf(x) * stats.norm.sf(x, d), -12, 12)
    assert core.overlap(d) == pytest.approx(area, rel=ITERATIVE)
    assert core.common_language(d) == pytest.approx(above, rel=ITERATIVE)
    assert core.needed(d) == pytest.approx(1 / (2 * above - 1), rel=ITERATIVE)
    assert core.needed_at(d, 0.3) == pytest.approx(1 / (stats.norm.sf(stats.norm.isf(0.3) - d) - 0.3), rel=ITERATIVE)


def test_d_is_the_difference_whose_point_biserial_correlation_is_r() -> None:
    d = float(core.r_to_d(0.3))
    groups = np.repeat([0.0, 1.0], 5000)
    within = np.tile(stats.norm.ppf((np.arange(5000) + 0.5) / 5000), 2)
    within /= within.std()
    assert np.corrcoef(groups, groups * d + within)[0, 1] == pytest.approx(0.3, rel=1e-9)


def test_an_interval_is_converted_and_ordered() -> None:
    found = am.evidence.meaning(0.2, ci_lb=0.1, ci_ub=0.3).tidy().set_index("measure")
    assert (found["ci_lb"] < found["value"]).all()
    assert (found["value"] < found["ci_ub"]).all()
    assert found.loc["overlap", "ci_lb"] == pytest.approx(float(core.overlap(core.r_to_d(0.3))), rel=CLOSED_FORM)
    assert found.loc["needed", "ci_ub"] == pytest.approx(float(core.needed(core.r_to_d(0.1))), rel=CLOSED_FORM)


def test_an_interval_across_zero() -> None:
    found = am.evidence.meaning(0.05, ci_lb=-0.1, ci_ub=0.2).tidy().set_index("measure")
    assert (found.loc["r2", "ci_lb"], found.loc["overlap", "ci_ub"]) == (0.0, 1.0)
    assert "the interval of r includes 0" in found.loc["needed", "ci_lb"].reason
    assert found.loc["d", "ci_lb"] < 0 < found.loc["d", "ci_ub"]


def test_no_number_needed_at_zero() -> None:
    found = am.evidence.meaning(0.0)
    assert "r = 0" in found["needed"].reason
    assert found["odds_ratio"] == 1.0
    assert "n/a (r = 0" in str(found)


def test_several_correlations_at_once_are_those_one_by_one() -> None:
    several = am.evidence.meaning([0.1, 0.278, -0.3], ci_lb=[0.0, 0.256, -0.4], ci_ub=[0.2, 0.299, -0.2])
    assert list(several["d"]) == [am.evidence.meaning(r)["d"] for r in (0.1, 0.278, -0.3)]
    assert len(several.tidy()) == 3 * len(CONVERTERS)
    assert several.tidy()["row"].nunique() == 3
    assert not several.r.flags.writeable


def test_a_negative_r_turns_everything_round() -> None:
    up, down = am.evidence.meaning(0.3), am.evidence.meaning(-0.3)
    assert down["d"] == -up["d"]
    assert down["odds_ratio"] == pytest.approx(1 / up["odds_ratio"], rel=CLOSED_FORM)
    assert down["pairs"] == pytest.approx(1 - up["pairs"], rel=CLOSED_FORM)
    assert down["overlap"] == up["overlap"]
    assert down["needed"] == pytest.approx(-up["needed"], rel=CLOSED_FORM)


def test_a_fitted_model_is_read_as_r() -> None:
    fit = am.RandomEffectsModel(am.escalc(am.load_dataset("molloy2014"))).fit()
    row = fit.predict(scale="r").iloc[0]
    found = am.evidence.meaning(fit)
    assert (float(found.r), float(found.ci_lb), float(found.ci_ub)) == (row["pred"], row["ci_lb"], row["ci_ub"])


def test_every_measure_says_what_it_assumes() -> None:
    frame = am.evidence.meaning(0.25).tidy()
    assert list(frame["measure"]) == list(CONVERTERS)
    for column in ("words", "assumption", "formula", "source"):
        assert (frame[column].str.len() > 1).all()
    causal = frame.set_index("measure").loc[["needed", "needed_at_rate"], "assumption"]
    assert causal.str.contains("caused by the alliance, which a correlation does not show").all()
    assert any(note.code == "not-causal" for note in am.evidence.meaning(0.25).notes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"effect": 1.2}, "r holds 1.2; a correlation lies between -1 and 1"),
        ({"effect": "strong"}, "give numbers between -1 and 1"),
        ({"effect": 0.2, "ci_lb": 0.1}, "give both limits"),
        ({"effect": 0.2, "ci_lb": 0.3, "ci_ub": 0.1}, "ci_lb lies above ci_ub"),
        ({"effect": 0.2, "base_rate": 0}, "base_rate is 0"),
    ],
)
def test_what_is_refused(arguments, says) -> None:
    with pytest.raises(InputError, match=says):
        am.evidence.meaning(**arguments)


def test_a_model_with_moderators_is_refused() -> None:
    table = am.load_dataset("molloy2014")
    fit = am.RandomEffectsModel(am.escalc(table), mods="year").fit()
    with pytest.raises(InputError, match="a model with moderators has no single mean effect"):
        am.evidence.meaning(fit)


def test_an_unknown_measure_is_answered_with_the_list() -> None:
    with pytest.raises(InputError, match="there is no measure 'D'; there are r2, d, odds_ratio"):
        am.evidence.meaning(0.2)["D"]


def test_as_a_dictionary() -> None:
    document = am.evidence.meaning([0.0, 0.2]).to_dict()
    assert document["rows"][9]["value"] == {"not_applicable": "r = 0: no number of clients makes a difference"}
    assert document["r"] == [0.0, 0.2]
