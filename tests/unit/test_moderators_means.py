"""Marginal means and slopes against re-coded models, where they are plain coefficients."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, RandomEffectsModel
from alliance_meta.errors import DesignError, RedundantModeratorWarning
from alliance_meta.moderators import marginal_means, marginal_slopes
from tests.tolerances import CLOSED_FORM, ITERATIVE

K = 60


def moderators(rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rater": rng.choice(["client", "observer", "therapist"], K),
            "setting": rng.choice(["inpatient", "outpatient"], K, p=[0.3, 0.7]),
            "year": rng.integers(1990, 2020, K),
            "quality": rng.integers(1, 4, K),
            "blind": rng.random(K) < 0.5,
        }
    )


@pytest.fixture
def effects(rng) -> EffectSizes:
    mods = moderators(rng)
    y = 0.2 + 0.1 * (mods["rater"] == "client") + 0.01 * (mods["year"] - 2005) + rng.normal(0, 0.2, K)
    return EffectSizes.from_arrays(y, rng.uniform(0.005, 0.05, K), mods=mods, measure="ZCOR")


def fit(effects, mods, **options):
    return RandomEffectsModel(effects, mods=mods, **options).fit()


def recoded(effects, columns):
    """Fit with hand-made columns beside one column per rater."""
    frame = effects.moderators[["rater"]].assign(**columns)
    again = EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    return fit(again, "0 + rater + " + " + ".join(columns))


@pytest.mark.parametrize("test", ["knha", "z", "t"])
@pytest.mark.parametrize("weights", ["equal", "proportional"])
def test_means_are_the_coefficients_of_a_centred_model(effects, weights, test):
    mods = effects.moderators
    out = (mods["setting"] == "outpatient").astype(float)
    middle = 0.5 if weights == "equal" else out.mean()
    by_hand = recoded(effects, {"s": out - middle, "t": mods["year"] - mods["year"].mean()})
    by_hand = fit(by_hand.effects, "0 + rater + s + t", test=test)
    ours = marginal_means(fit(effects, "rater + setting + year", test=test), "rater", weights=weights).tidy()
    for name, values in {
        "estimate": by_hand.beta,
        "se": by_hand.se,
        "ci_lb": by_hand.ci_lb,
        "ci_ub": by_hand.ci_ub,
    }.items():
        np.testing.assert_allclose(ours[name], values[:3], rtol=CLOSED_FORM * 100, err_msg=name)
    assert ours["k"].tolist() == mods["rater"].value_counts().sort_index().tolist()
    assert ours["rater"].tolist() == ["client", "observer", "therapist"]


def test_with_an_interaction_each_cell_counts_alike(effects):
    model = fit(effects, "rater * setting")
    cells = model.predict(
        {"rater": np.repeat(["client", "observer", "therapist"], 2), "setting": ["inpatient", "outpatient"] * 3}
    )
    ours = marginal_means(model, "rater")
    np.testing.assert_allclose(ours.tidy()["estimate"], cells["pred"].to_numpy().reshape(3, 2).mean(axis=1))
    assert [note.code for note in ours.notes] == ["interaction-averaged"]
    assert marginal_means(model, ["rater", "setting"]).notes == ()
    np.testing.assert_allclose(marginal_means(model, ("rater", "setting")).tidy()["estimate"], cells["pred"])


def test_one_cell_is_what_predict_says_on_every_scale(effects):
    model = fit(effects, "rater + setting + poly(year, 2) + C(quality) + blind")
    at = {"setting": "inpatient", "year": 2010, "quality": 2, "blind": True}
    for scale in ("z", "r", "r_mean"):
        expected = model.predict({"rater": "observer", **at}, scale=scale).iloc[0]
        row = marginal_means(model, "rater", at=at, scale=scale).tidy().loc["observer"]
        for name in ("se", "ci_lb", "ci_ub", "pi_lb", "pi_ub"):
            assert row[name] == pytest.approx(expected[name], rel=CLOSED_FORM)
        assert row["estimate"] == pytest.approx(expected["pred"], rel=CLOSED_FORM)


def test_numeric_moderators_are_held_at_their_mean_before_they_are_coded(effects):
    model = fit(effects, "rater + poly(year, 2)")
    mean = effects.moderators["year"].mean()
    expected = model.predict({"rater": ["client", "observer", "therapist"], "year": mean})
    ours = marginal_means(model, "rater")
    assert ours.held == {"year": mean}
    np.testing.assert_allclose(ours.tidy()["estimate"], expected["pred"], rtol=CLOSED_FORM)


def test_without_by_the_average_of_the_whole(effects):
    model = fit(effects, "rater + year")
    weighted = marginal_means(model, weights="proportional").tidy()
    assert weighted.index.tolist() == ["average"]
    assert weighted["estimate"].item() == pytest.approx(model.predict()["pred"].mean(), rel=CLOSED_FORM)
    assert weighted["k"].item() == K


def test_restricted_levels(effects):
    model = fit(effects, "rater * setting + year")
    only = marginal_means(model, "setting", at={"rater": ["client", "observer"]}).tidy()["estimate"]
    each = marginal_means(model, ["setting", "rater"]).tidy()["estimate"].to_numpy().reshape(2, 3)
    np.testing.assert_allclose(only, each[:, :2].mean(axis=1), rtol=CLOSED_FORM)


def test_a_numeric_moderator_in_by(effects):
    model = fit(effects, "rater + year")
    rows = marginal_means(model, "year", at={"year": [2000, 2010]}).tidy()
    assert rows["year"].tolist() == [2000, 2010]
    assert rows["estimate"].diff().iloc[1] == pytest.approx(10 * model.beta[-1], rel=1e-8)


def empty_cell(effects):
    frame = effects.moderators
    rows = ~((frame["rater"] == "observer") & (frame["setting"] == "inpatient")).to_numpy()
    with pytest.warns(RedundantModeratorWarning):
        return fit(effects.take(rows), "rater * setting")


def test_what_no_effect_tells_is_not_invented(effects):
    model = empty_cell(effects)
    ours = marginal_means(model, "rater")
    assert ours.tidy()["estimate"].isna().tolist() == [False, True, False]
    assert "observer" in str(ours.notes[0])
    assert "n/a" in str(ours)
    row = ours.to_dict()["rows"][1]
    assert row["estimate"] == {"not_applicable": "the effects in the model do not determine it"}
    known = marginal_means(model, "rater", at={"setting": "outpatient"}).tidy()["estimate"]
    assert known.notna().all()


@pytest.mark.parametrize(
    ("by", "options", "words"),
    [
        ("ratr", {}, "no moderator 'ratr'; did you mean 'rater'? Moderators: rater, year"),
        ("rater", {"at": {"rater": "clint"}}, "'clint' is not a level of rater; did you mean 'client'?"),
        ("rater", {"at": {"year": "new"}}, "year is numeric; 'new' is not a finite number"),
        ("rater", {"at": {"year": [1, 2]}}, "can be held at one value"),
        ("rater", {"at": {"year": []}}, "empty list"),
        ("rater", {"at": {"rater": []}}, "empty list"),
        ("rater", {"weights": "flat"}, "weights='flat' is not one of"),
        ("rater", {"level": 95}, "write 0.95"),
        ("rater", {"scale": "d"}, "'d'"),
    ],
)
def test_what_cannot_be_is_named(effects, by, options, words):
    with pytest.raises(InputError) as error:
        marginal_means(fit(effects, "rater + year"), by, **options)
    assert words in str(error.value)


def test_a_model_without_moderators(effects):
    with pytest.raises(DesignError, match="no moderators"):
        marginal_means(fit(effects, "1"))
    with pytest.raises(DesignError, match="no moderators"):
        marginal_slopes(fit(effects, "1"), "year")


def test_equal_effects_have_no_prediction_interval(effects):
    ours = marginal_means(fit(effects, "rater", method="EE", test="z"), "rater")
    assert [note.code for note in ours.notes] == ["no-prediction-interval"]
    assert ours.to_dict()["rows"][0]["pi_lb"] == {"not_applicable": "an equal-effects model has no prediction interval"}


def test_as_many_coefficients_as_effects():
    es = EffectSizes.from_arrays([0.1, 0.3], [0.01, 0.02], mods={"g": ["a", "b"]}, measure="ZCOR")
    with pytest.warns(match="nothing to estimate tau2 from"):
        model = RandomEffectsModel(es, mods="g").fit()
    assert marginal_means(model, "g").tidy()["se"].tolist() == pytest.approx([0.1, np.sqrt(0.02)])


def test_a_straight_slope_is_the_coefficient(effects):
    for mods in ("rater + year", "rater + center(year)", "year"):
        model = fit(effects, mods)
        at = next(i for i, name in enumerate(model.names) if "year" in name)
        row = marginal_slopes(model, "year").tidy().iloc[0]
        for name in ("beta", "se", "stat", "pval", "ci_lb", "ci_ub"):
            ours = row["estimate" if name == "beta" else name]
            assert ours == pytest.approx(getattr(model, name)[at], rel=CLOSED_FORM), name


def test_slopes_by_level_are_sums_of_coefficients(effects):
    model = fit(effects, "rater * center(year)")
    b = dict(zip(model.names, model.beta, strict=True))
    expected = [
        b["center(year)"] + b.get(f"rater[T.{r}]:center(year)", 0.0) for r in ("client", "observer", "therapist")
    ]
    ours = marginal_slopes(model, "year", by="rater")
    np.testing.assert_allclose(ours.tidy()["estimate"], expected, rtol=1e-8)
    share = effects.moderators["rater"].value_counts(normalize=True).sort_index()
    overall = marginal_slopes(model, "year").tidy()["estimate"].item()
    assert overall == pytest.approx(float(share @ np.array(expected)), rel=1e-8)


def test_the_slope_of_a_parabola(effects):
    frame = effects.moderators.assign(t=lambda m: m["year"] - 2005.0, t2=lambda m: (m["year"] - 2005.0) ** 2)
    plain = fit(EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR"), "t + t2")
    curved = fit(effects, "poly(year, 2)")
    L = np.array([0.0, 1.0, 2.0 * 5.0])
    row = marginal_slopes(curved, "year", at={"year": 2010}).tidy().iloc[0]
    assert row["estimate"] == pytest.approx(float(L @ plain.beta), rel=1e-7)
    assert row["se"] == pytest.approx(float(np.sqrt(L @ plain.vb @ L)), rel=1e-7)
    mean = np.array([0.0, 1.0, 2.0 * frame["t"].mean()])
    assert marginal_slopes(curved, "year").tidy()["estimate"].item() == pytest.approx(
        float(mean @ plain.beta), rel=1e-7
    )


def test_the_slope_of_a_spline_integrates_to_its_rise(effects):
    model = fit(effects, "bs(year, df=4)")
    low, high = effects.moderators["year"].min(), effects.moderators["year"].max()
    grid, weights = np.polynomial.legendre.leggauss(60)
    years = low + (grid + 1) / 2 * (high - low)
    slopes = [marginal_slopes(model, "year", at={"year": year}).tidy()["estimate"].item() for year in years]
    rise = model.predict({"year": [low, high]})["pred"].diff().iloc[1]
    assert float(weights @ slopes) * (high - low) / 2 == pytest.approx(rise, rel=1e-4)
    for end in (low, high):
        assert np.isfinite(marginal_slopes(model, "year", at={"year": end}).tidy()["se"].item())


def test_the_change_in_r_is_the_derivative_of_tanh(effects):
    model = fit(effects, "center(year)", test="z")
    row = marginal_slopes(model, "year", at={"year": 2000}).tidy().iloc[0]
    r = np.tanh(model.predict({"year": [2000 - 1e-4, 2000 + 1e-4]})["pred"].to_numpy())
    assert row["estimate_r"] == pytest.approx((r[1] - r[0]) / 2e-4, rel=ITERATIVE)

    x = 2000 - effects.moderators["year"].mean()

    def change(beta):
        return beta[1] / np.cosh(beta[0] + beta[1] * x) ** 2

    steps = 1e-5 * np.eye(2)
    gradient = np.array([(change(model.beta + s) - change(model.beta - s)) / 2e-5 for s in steps])
    assert row["se_r"] == pytest.approx(float(np.sqrt(gradient @ model.vb @ gradient)), rel=ITERATIVE)


def test_no_change_in_r_for_other_measures(effects):
    raw = EffectSizes.from_arrays(effects.yi, effects.vi, mods=effects.moderators)
    frame = marginal_slopes(fit(raw, "year"), "year").tidy()
    assert not [name for name in frame if name.endswith("_r")]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("rater", {}, "rater is categorical; compare its levels with pairwise"),
        ("year", {"by": "year"}, "by='year' is numeric"),
        ("year", {"at": {"year": [1, 2]}}, "one value per moderator"),
        ("year", {"by": "rater", "at": {"rater": "client"}}, "in by and in at"),
        ("year", {"at": {"rater": "clint"}}, "is not a level of rater"),
        ("age", {}, "no moderator 'age'"),
    ],
)
def test_slopes_that_cannot_be(effects, name, options, words):
    with pytest.raises(InputError) as error:
        marginal_slopes(fit(effects, "rater * year"), name, **options)
    assert words in str(error.value)


def test_a_spline_is_not_extrapolated(effects):
    with pytest.raises(InputError, match="newdata cannot be coded"):
        marginal_slopes(fit(effects, "bs(year, df=4)"), "year", at={"year": 2050})


def test_a_slope_that_is_not_determined(effects):
    frame = effects.moderators.assign(year2=lambda m: m["year"] * 2)
    with pytest.warns(RedundantModeratorWarning):
        model = fit(EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR"), "year + year2")
    ours = marginal_slopes(model, "year")
    assert ours.tidy()["estimate"].isna().all()
    assert [note.code for note in ours.notes] == ["not-estimable"]
    assert ours.to_dict()["rows"][0]["estimate"] == {"not_applicable": "the effects in the model do not determine it"}


def test_text_fits_a_terminal_and_json_takes_the_numbers(effects):
    model = fit(effects, "rater * center(year) + setting + blind + C(quality)")
    for result in (
        marginal_means(model, ["rater", "setting", "year"], at={"year": [2000, 2010]}, scale="r"),
        marginal_slopes(model, "year", by=["rater", "setting"], at={"quality": 1}),
    ):
        assert max(map(len, str(result).splitlines())) <= 80
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["rows"]
        assert str(result.tidy()["estimate"].dtype) == "float64"
