"""What plots of results of bias methods hold: the numbers of the result, and what these numbers must fulfil."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from alliance_meta import InputError, bias
from alliance_meta.plots import (
    bias_panel,
    bias_panel_data,
    funnel_data,
    p_curve_data,
    selection_weights,
    selection_weights_data,
    worst_case_data,
    z_curve_data,
)
from tests.plots.bias_cases import clustered
from tests.plots.cases import fitted, molloy, plain, quiet
from tests.tolerances import CLOSED_FORM


def of_kind(frame: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    return frame[frame["kind"].isin(kinds)]


def test_a_regression_line_is_that_of_weighted_least_squares() -> None:
    fit = molloy()
    test = bias.regtest(fit, model="lm")
    frame = funnel_data(fit, lines=[test])
    se = np.sqrt(fit.effects.vi)
    slope, limit = np.polyfit(se, fit.effects.yi, 1, w=1.0 / se)
    line, end = of_kind(frame, "line"), of_kind(frame, "limit").iloc[0]
    np.testing.assert_allclose(line["yi"], limit + slope * line["se"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(line["r"], np.tanh(line["yi"]), rtol=CLOSED_FORM)
    assert line["se"].iloc[[0, -1]].tolist() == [0.0, frame.attrs["deepest"]]
    assert end[["yi", "ci_lb", "ci_ub"]].tolist() == [test.limit_estimate, *test.limit_ci]
    assert end["se"] == 0.0
    squared = of_kind(funnel_data(fit, lines=[bias.regtest(fit, model="lm", predictor="vi")]), "line")
    slope, limit = np.polyfit(se**2, fit.effects.yi, 1, w=1.0 / se)
    np.testing.assert_allclose(squared["yi"], limit + slope * squared["se"] ** 2, rtol=CLOSED_FORM)


def test_pet_and_peese_are_two_lines() -> None:
    fit = clustered()
    found = quiet(lambda: bias.pet_peese(fit))
    frame = funnel_data(fit, lines=[found], by="study")
    ends = of_kind(frame, "limit").set_index("label")
    assert ends.index.tolist() == ["PET", "PEESE"]
    for part, power in ((found.pet, 1), (found.peese, 2)):
        assert ends.loc[part.called, ["yi", "ci_lb", "ci_ub"]].tolist() == [part.estimate, part.ci_lb, part.ci_ub]
        line = frame[(frame["kind"] == "line") & (frame["label"] == part.called)]
        np.testing.assert_allclose(line["yi"], part.estimate + part.slope * line["se"] ** power, rtol=CLOSED_FORM)
    assert [mark for mark, name in frame.attrs["key"] if name.startswith("PE")] == ["dashed", "dashdot"]


@pytest.mark.parametrize("make", [molloy, clustered])
def test_filled_effects_and_their_mean_are_those_of_trim_and_fill(make: Any) -> None:
    fit = make()
    found = quiet(lambda: bias.trimfill(fit))
    frame = funnel_data(fit, by="study", filled=found)
    filled, mean = of_kind(frame, "filled"), of_kind(frame, "adjusted").iloc[0]
    assert len(filled) == found.k0 > 0
    np.testing.assert_array_equal(filled["yi"], found.filled["yi"])
    np.testing.assert_allclose(filled["se"] ** 2, found.filled["vi"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(filled["p"], 2 * stats.norm.sf(abs(filled["yi"] / filled["se"])), rtol=1e-9)
    assert mean[["yi", "ci_lb", "ci_ub"]].tolist() == [found.estimate, found.ci_lb, found.ci_ub]
    points = of_kind(frame, "effect", "study")
    np.testing.assert_array_equal(points["yi"], found.before.effects.yi)
    # What is filled mirrors the most extreme points of the other side around one mean.
    away = 1.0 if found.side == "left" else -1.0
    mirrored = -np.sort(-away * points["yi"])[: found.k0] + np.sort(away * filled["yi"])
    np.testing.assert_allclose(mirrored, mirrored[0], rtol=1e-9)


def test_what_does_not_belong_on_a_funnel_is_refused() -> None:
    fit, many = molloy(), clustered()
    refused: list[tuple[Any, dict[str, Any], str]] = [
        (fit, {"lines": [fit]}, "lines needs results of bias.regtest or bias.pet_peese, not RandomEffectsResults"),
        (fit, {"lines": [bias.regtest(fit, predictor="ni")]}, "regression on ni is no line over standard errors"),
        (fit, {"lines": [bias.pet_peese(fit, predictor="sqrtninv")]}, "regression on sqrtninv is no line"),
        (fit, {"lines": [bias.regtest(fit), bias.pet_peese(fit)]}, "room for 2"),
        (fit, {"lines": [bias.regtest(fitted(20))]}, "not of the effects of this fit"),
        (fit, {"filled": bias.trimfill(fitted(16))}, "not of the effects of this fit"),
        (fit, {"filled": fit}, "filled needs the result of bias.trimfill"),
        (many, {"filled": bias.trimfill(many)}, "by='study'"),
        (fitted(1), {"lines": [quiet(lambda: bias.regtest(fitted(1)))]}, "has no line to draw: "),
    ]
    for source, data, match in refused:
        with pytest.raises(InputError, match=match):
            funnel_data(source, **data)


@pytest.mark.parametrize("make", [molloy, clustered, lambda: fitted(30, mean=-0.4)])
def test_the_worst_case_curve_is_that_of_its_table(make: Any) -> None:
    fit = make()
    found = bias.worst_case(fit)
    frame = worst_case_data(fit)
    drawn = of_kind(frame, "ratio", "worst")
    for new, old in {"yi": "estimate", "ci_lb": "ci_lb", "ci_ub": "ci_ub"}.items():
        np.testing.assert_array_equal(drawn[new], found.curve[old].astype(float))
    np.testing.assert_allclose(drawn["r_lb"], np.tanh(drawn["ci_lb"]), rtol=CLOSED_FORM)
    assert of_kind(frame, "worst")["yi"].tolist() == [found.estimate]
    # At the ratios marked, the mean or the limit is 0.
    for _, mark in of_kind(frame, "svalue").iterrows():
        at = bias.worst_case(fit, ratios=[mark["ratio"]]).curve.iloc[0]
        limit = min(abs(at["ci_lb"]), abs(at["ci_ub"]))
        assert (abs(at["estimate"]) if mark["label"] == "mean" else limit) < 1e-6
    assert {"mean", "limit"} >= set(of_kind(frame, "svalue")["label"])


def test_a_p_curve_counts_significant_results() -> None:
    fit = molloy()
    frame = p_curve_data(fit)
    z = fit.effects.yi / np.sqrt(fit.effects.vi)
    p = 2 * stats.norm.sf(z[z > 0])
    np.testing.assert_array_equal(frame["count"], np.histogram(p, np.linspace(0.0, 0.05, 6))[0])
    np.testing.assert_allclose(frame["observed"], frame["count"] / (p < 0.05).sum(), rtol=CLOSED_FORM)
    np.testing.assert_allclose(frame["none"], 0.2, rtol=CLOSED_FORM)

    def tail(ncp: float, cut: Any) -> Any:
        above = stats.norm.isf(np.asarray(cut) / 2)
        return stats.norm.sf(above - ncp) + stats.norm.cdf(-above - ncp)

    ncp = optimize.brentq(lambda d: tail(d, 0.05) - 1 / 3, 0.0, 5.0, xtol=1e-14)
    expected = np.diff(tail(ncp, np.linspace(1e-300, 0.05, 6))) * 3
    np.testing.assert_allclose(frame["third"], expected, rtol=1e-9)
    assert "one of each study" not in frame.attrs["bottom"][0]
    many = quiet(lambda: p_curve_data(clustered()))
    assert many.attrs["bottom"][0] == "12 of 15 effects, one of each study, are significant and positive."
    assert len(p_curve_data(fitted(30, n=(5, 9)))) == 0


@pytest.mark.parametrize("make", [lambda: fitted(60), clustered])
def test_the_bars_and_the_curve_of_a_z_curve_are_densities_of_significant_results(make: Any) -> None:
    fit = make()
    found = quiet(lambda: bias.zcurve(fit, iterations=20))
    frame = z_curve_data(fit, result=found)
    bars = of_kind(frame, "bin")
    z = abs(fit.effects.yi) / np.sqrt(fit.effects.vi)
    assert bars["count"].sum() == (z <= 6).sum()
    edges = np.append(bars["lb"], bars["ub"].iloc[-1])
    np.testing.assert_array_equal(bars["count"], np.histogram(z, edges)[0])
    assert abs(edges - stats.norm.isf(0.025)).min() < 1e-12
    strong = bars[bars["lb"] >= frame.attrs["critical"]]
    assert ((strong["ub"] - strong["lb"]) * strong["density"]).sum() == pytest.approx(1.0)
    curve = of_kind(frame, "fitted")
    area = np.trapezoid(curve["density"], curve["z"]) + curve["density"].iloc[0] * (
        curve["z"].iloc[0] - frame.attrs["critical"]
    )
    assert area == pytest.approx(1.0, abs=0.005)
    assert of_kind(frame, "expected")["z"].max() < frame.attrs["critical"] <= curve["z"].min()


@pytest.mark.parametrize(
    ("alternative", "p"),
    [("greater", stats.norm.sf), ("less", stats.norm.cdf), ("two.sided", lambda z: 2 * stats.norm.sf(abs(z)))],
)
def test_weights_and_p_values_are_those_of_the_selection_model(alternative: Any, p: Any) -> None:
    fit = fitted(60, mean=0.05)
    found = quiet(lambda: bias.selmodel(fit, steps=[0.1, 0.5], alternative=alternative))
    frame = selection_weights_data(found)
    effects = of_kind(frame, "effect")
    np.testing.assert_allclose(effects["p"], p(fit.effects.yi / np.sqrt(fit.effects.vi)), rtol=1e-9)
    drawn, table = of_kind(frame, "weight"), found.intervals
    assert drawn["p"].tolist() == [0.0, 0.1, 0.1, 0.5, 0.5, 1.0]
    for start in (0, 1):
        np.testing.assert_allclose(drawn["weight"].iloc[start::2], table["delta"].astype(float), rtol=CLOSED_FORM)
        for end in ("ci_lb", "ci_ub"):
            np.testing.assert_allclose(drawn[end].iloc[start::2][1:], table[end].iloc[1:].astype(float), rtol=1e-7)
    assert frame.attrs["bottom"][1] == f"Effects in the intervals: {', '.join(map(str, found.counts))}"


def test_a_weight_beyond_the_axis_is_said() -> None:
    few = quiet(lambda: bias.selmodel(fitted(5)))
    texts = [text.get_text() for text in selection_weights(few).axes[0].texts]
    assert "The interval goes on beyond the axis" in texts
    beta = bias.selmodel(fitted(60), type="beta")
    assert "The interval goes on beyond the axis" not in [t.get_text() for t in selection_weights(beta).axes[0].texts]


def test_a_panel_draws_the_rows_of_its_table_and_names_what_gave_none() -> None:
    found = bias.panel(fitted(5))
    table, frame = found.tidy(), bias_panel_data(found)
    given = table[table["why"] == ""]
    assert 0 < len(given) < len(table)
    assert frame["label"].tolist() == given["label"].tolist()
    assert frame["kind"].tolist() == ["uncorrected"] + ["method"] * (len(given) - 1)
    for new, old in {"yi": "estimate", "ci_lb": "ci_lb", "ci_ub": "ci_ub", "r_ub": "r_ub", "k": "k"}.items():
        np.testing.assert_allclose(frame[new], given[old].astype(float), rtol=CLOSED_FORM)
    first = frame.iloc[0]
    assert frame.attrs["reference"] == first[["yi", "ci_lb", "ci_ub"]].tolist()
    said = "; ".join(frame.attrs["bottom"])
    for _, row in table[table["why"] != ""].iterrows():
        assert f"{row['label']}: {row['why']}" in said
    assert frame.attrs["bottom"][0] == found.spread().replace(" -", " −")
    with pytest.raises(InputError, match=r"needs the result of bias\.panel"):
        bias_panel_data(molloy())  # type: ignore[arg-type]


def test_one_wide_interval_does_not_hide_the_others_of_a_panel() -> None:
    frame = bias_panel_data(bias.panel(molloy()))
    before = bias_panel(frame).axes[0].get_xlim()
    frame.loc[2, ["ci_lb", "ci_ub", "r_lb", "r_ub"]] = [-3.0, 3.0, -0.995, 0.995]
    assert bias_panel(frame).axes[0].get_xlim() == pytest.approx(before, abs=0.05)
    frame.loc[2, ["yi", "r"]] = [0.8, math.tanh(0.8)]
    lo, hi = bias_panel(frame).axes[0].get_xlim()
    assert hi > math.tanh(0.8)
    assert lo == pytest.approx(before[0], abs=0.1)
    assert bias_panel(frame, xlim=(-0.9, 0.9)).axes[0].get_xlim() == pytest.approx((-0.9, 0.9))


def test_results_of_other_effects_are_refused() -> None:
    fit, other = molloy(), quiet(plain)
    refused: list[tuple[Any, Any]] = [
        (worst_case_data, quiet(lambda: bias.worst_case(other))),
        (p_curve_data, bias.pcurve(fitted(16))),
        (z_curve_data, bias.zcurve(fitted(16), iterations=5)),
    ]
    for data, result in refused:
        with pytest.raises(InputError, match="not of the effects of this fit"):
            data(fit, result=result)
        with pytest.raises(InputError, match=r"needs the result of bias\."):
            data(fit, result=fit)
    with pytest.raises(InputError, match=r"needs the result of bias\.selmodel"):
        selection_weights_data(fit)  # type: ignore[arg-type]
