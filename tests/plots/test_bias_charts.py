"""What plots of bias hold: the numbers of the fit, of the tests, and of R."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from scipy import stats

from alliance_meta import (
    BayesianModel,
    EffectSizes,
    InputError,
    LocationScaleModel,
    MultilevelModel,
    RandomEffectsModel,
    RVEModel,
    aggregate,
    escalc,
    load_dataset,
)
from alliance_meta.plots import figure_bytes, firepower_data, funnel, funnel_data, sunset, sunset_data
from tests.plots.bias_cases import clustered, tiny
from tests.plots.cases import dependent, fitted, molloy, plain, quiet
from tests.plots.charts import alike, many
from tests.tolerances import CLOSED_FORM


def codes(frame: Any) -> set[str]:
    return {note["code"] for note in frame.attrs["notes"]}


def test_a_funnel_holds_the_effects_the_mean_and_both_kinds_of_limits() -> None:
    fit = molloy()
    frame = funnel_data(fit, level=0.9)
    points, mean = frame[frame["kind"] == "effect"], frame[frame["kind"] == "mean"].iloc[0]
    np.testing.assert_array_equal(points["yi"], fit.effects.yi)
    np.testing.assert_allclose(points["se"] ** 2, fit.effects.vi, rtol=CLOSED_FORM)
    np.testing.assert_allclose(points["p"], 2 * stats.norm.sf(abs(points["yi"] / points["se"])), rtol=1e-9)
    predicted = fit.predict(level=0.9).iloc[0]
    assert mean[["yi", "ci_lb", "ci_ub"]].tolist() == predicted[["pred", "ci_lb", "ci_ub"]].tolist()
    limits = frame[frame["kind"] == "limits"]
    np.testing.assert_allclose(limits["ci_ub"], mean["yi"] + stats.norm.ppf(0.95) * limits["se"], rtol=CLOSED_FORM)
    contours = frame[frame["kind"] == "contour"]
    z = contours["ci_ub"] / contours["se"].replace(0.0, np.nan)
    np.testing.assert_allclose(2 * stats.norm.sf(z.dropna()), contours.loc[z.notna(), "p"], rtol=1e-9)
    np.testing.assert_array_equal(contours["ci_lb"], -contours["ci_ub"])
    assert sorted(set(contours["p"])) == [0.01, 0.05, 0.1]
    np.testing.assert_allclose(contours["r_ub"], np.tanh(contours["ci_ub"]), rtol=CLOSED_FORM)
    far = (abs(points["yi"] - mean["yi"]) > stats.norm.ppf(0.95) * points["se"]).sum()
    assert frame.attrs["bottom"][0].startswith(f"{far} of 16 points lie outside the dotted limits")


@pytest.mark.parametrize("way", ["V", "RVE", "none", "given"])
def test_means_of_studies_are_those_of_aggregate(way: str) -> None:
    effects = dependent(40, 12)
    fit: Any = {
        "V": lambda: clustered(40, 12),
        "RVE": lambda: quiet(lambda: RVEModel(effects, rho=0.3).fit()),
        "none": lambda: quiet(lambda: MultilevelModel(effects).fit()),
        "given": lambda: quiet(lambda: MultilevelModel(effects).fit()),
    }[way]()
    more = {"rho": 0.8} if way == "given" else {}
    frame = funnel_data(fit, by="study", **more)
    expected = aggregate(effects, rho={"RVE": 0.3, "given": 0.8}.get(way, 0.6))
    points = frame[frame["kind"] == "study"]
    np.testing.assert_allclose(points["yi"], expected.yi, rtol=CLOSED_FORM)
    np.testing.assert_allclose(points["se"] ** 2, expected.vi, rtol=CLOSED_FORM)
    assert points["label"].tolist() == list(expected.slab)
    assert points["k"].sum() == 40
    assert frame.attrs["key"][0] == ["dot", "12 studies, means of 40 effects"]


def test_notes_of_a_funnel_stand_where_they_hold() -> None:
    shape = {"few-points", "equal-standard-errors", "funnel-raw-r", "dependent-points"}
    assert codes(funnel_data(molloy())) & shape == set()
    assert codes(funnel_data(fitted(9))) & shape == {"few-points"}
    assert codes(funnel_data(fitted(10))) & shape == set()
    assert codes(funnel_data(alike())) & shape == {"few-points", "equal-standard-errors"}
    assert codes(funnel_data(fitted(1))) & shape == {"few-points"}
    assert codes(funnel_data(fitted(20, measure="COR"))) & shape == {"funnel-raw-r"}
    assert codes(funnel_data(fitted(20, measure="COR", vtype="AV"))) & shape == set()
    assert codes(funnel_data(clustered())) & shape == {"dependent-points"}
    assert codes(funnel_data(clustered(), by="study")) & shape == set()
    regression = funnel_data(fitted(40, mods="rater"))
    assert set(regression["kind"]) == {"effect", "contour"}
    assert "moderators" in regression.attrs["bottom"][0]


def test_what_has_no_funnel_is_refused() -> None:
    with pytest.raises(InputError, match="funnel needs a fitted model, not EffectSizes"):
        funnel_data(molloy().effects)
    with pytest.raises(InputError, match="by='sample'"):
        funnel_data(molloy(), by="sample")  # type: ignore[arg-type]


def test_twenty_thousand_effects_make_a_funnel_fast_and_all_are_drawn() -> None:
    fit = many(20_000)
    start = time.perf_counter()
    drawing = funnel(fit)
    data = figure_bytes(drawing, text="text")
    assert time.perf_counter() - start < 6
    assert data.count(b"<use ") >= 20_000


def test_shades_grow_darker_as_p_falls() -> None:
    """Compare the grey of four places whose p-values are known."""
    drawing = funnel(fitted(30))
    drawing.set_dpi(100)
    ax = drawing.axes[0]
    ax.collections[-1].set_visible(False)
    drawing.canvas.draw()  # type: ignore[attr-defined]
    pixels = np.asarray(drawing.canvas.buffer_rgba())[..., :3].mean(axis=2)  # type: ignore[attr-defined]
    greys = []
    for p in (0.3, 0.07, 0.03, 0.002):
        se = 0.1
        x, y = ax.transData.transform((math.tanh(-stats.norm.isf(p / 2) * se), se))
        greys.append(pixels[len(pixels) - 1 - round(y), round(x)])
    assert greys == sorted(greys, reverse=True)
    assert len(set(greys)) == 4


# Base R on the effects of metafor's dat.molloy2014: power by pnorm, d33 and d66 by uniroot(tol = 1e-14), as
# viz_sunset of metaviz 0.3.1 defines them; true effect r = .15.
R_SUNSET = {
    "median_power": 0.340672890171,
    "d33": 0.148274559124,
    "d66": 0.231528406567,
    "expected": 0.454567976166,
    "observed": 0.5625,
    "r_index": 0.118845780342,
}
R_MEDIANS = {0.1: 0.177115219281, 0.3: 0.887147082600, 0.5: 0.999877470824}


def test_a_sunset_holds_rs_numbers() -> None:
    frame = sunset_data(molloy(), effect=0.15)
    assert {name: frame.attrs[name] for name in R_SUNSET} == pytest.approx(R_SUNSET, rel=1e-10)
    assert frame.attrs["effect"] == math.atanh(0.15)
    points = frame[frame["kind"] == "effect"]
    assert points["power"].median() == frame.attrs["median_power"]
    for _, band in frame[frame["kind"] == "band"].iterrows():
        ncp = math.atanh(0.15) / band["se"]
        power = stats.norm.sf(stats.norm.isf(0.025) - ncp) + stats.norm.cdf(-stats.norm.isf(0.025) - ncp)
        assert power == pytest.approx(band["power"], rel=1e-9)
    assert frame.loc[frame["kind"] == "band", "se"].max() < frame.attrs["deepest"]


def test_a_sunset_takes_the_mean_unless_told() -> None:
    fit = molloy()
    assert sunset_data(fit).attrs["effect"] == fit.beta[0]
    with pytest.raises(InputError, match="moderators has no single mean"):
        sunset_data(fitted(40, mods="rater"))
    assert sunset_data(fitted(40, mods="rater"), effect=-0.2).attrs["effect"] == math.atanh(-0.2)
    for wrong in (1.0, math.nan, True, "large"):
        with pytest.raises(InputError, match=r"effect=.* must be a number between -1 and 1"):
            sunset_data(fit, effect=wrong)  # type: ignore[arg-type]
    assert sunset_data(quiet(plain), effect=3).attrs["effect"] == 3.0


def test_power_is_even_in_the_effect_and_alpha_without_one() -> None:
    up, down, none = (sunset_data(molloy(), effect=value) for value in (0.2, -0.2, 0.0))
    np.testing.assert_allclose(up["power"], down["power"], rtol=CLOSED_FORM)
    np.testing.assert_allclose(none["power"].dropna(), 0.05, rtol=CLOSED_FORM)
    assert "band" not in set(none["kind"])
    assert sunset(none).plot_description.startswith("16 effects with the power of their studies. Median power 5%")


def test_firepower_holds_rs_medians() -> None:
    frame = firepower_data(molloy(), effects=list(R_MEDIANS))
    medians = frame[frame["kind"] == "median"]
    assert dict(zip(medians["r"], medians["power"], strict=True)) == pytest.approx(R_MEDIANS, rel=1e-10)
    studies = frame[frame["kind"] == "effect"]
    assert len(studies) == 16 * 3
    assert studies["se"].is_monotonic_increasing
    ncp = studies["effect"] / studies["se"]
    np.testing.assert_allclose(studies["power"], stats.norm.sf(1.959963984540054 - ncp)
                               + stats.norm.cdf(-1.959963984540054 - ncp), rtol=1e-9)  # fmt: skip
    np.testing.assert_allclose(studies["effect"], np.arctanh(studies["r"]), rtol=CLOSED_FORM)
    back = molloy().effects.vi[studies["position"].to_numpy(dtype=int)]
    np.testing.assert_allclose(studies["se"] ** 2, back, rtol=CLOSED_FORM)


def test_firepower_on_other_scales_reaches_from_little_to_much_power() -> None:
    for fit in (tiny(), quiet(plain)):
        frame = firepower_data(fit)
        medians = frame[frame["kind"] == "median"]
        assert len(medians) == 10
        assert 0.95 <= medians["power"].iloc[-1] < 1.0
        assert medians["power"].iloc[0] < 0.6
        assert frame["r"].isna().all()


@pytest.mark.parametrize("wrong", [[], [0.0], [0.2, 1.0], [math.nan], [-0.1]])
def test_true_effects_must_be_such(wrong: list[float]) -> None:
    with pytest.raises(InputError, match="must be true effects above 0 and below 1"):
        firepower_data(molloy(), effects=wrong)


def test_plots_of_bias_take_any_fit() -> None:
    effects = escalc(load_dataset("molloy2014"))
    fits: list[Any] = [
        quiet(lambda: BayesianModel(effects).fit()),
        quiet(lambda: LocationScaleModel(effects, scale="design").fit()),
        quiet(lambda: RandomEffectsModel(effects).fit().robust(cluster="study_id")),
        quiet(lambda: RVEModel(dependent(24, 8)).fit()),
    ]
    for fit in fits:
        row = funnel_data(fit).set_index("kind").loc["mean"]
        assert row["yi"] == fit.predict().iloc[0]["pred"]
        assert sunset_data(fit).attrs["effect"] == row["yi"]
        assert len(firepower_data(fit)) == 10 * (1 + fit.effects.k)


def test_extreme_effects_are_drawn() -> None:
    effects = EffectSizes.from_arrays([-4.0, 0.0, 4.0, 25.0], [0.01, 400.0, 1.0, 2.0], measure="ZCOR")
    fit = quiet(lambda: RandomEffectsModel(effects).fit())
    texts = [text.get_text() for text in funnel(fit).axes[0].texts]
    assert "3 effects lie beyond the axis" in texts
    assert figure_bytes(sunset(fit), format="png", dpi=30)
