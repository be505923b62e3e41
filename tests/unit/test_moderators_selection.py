"""All-subsets selection and multimodel averages, against single fits and by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, RandomEffectsModel
from alliance_meta.errors import DesignError, DroppedRowsWarning
from alliance_meta.moderators import select_models
from tests.tolerances import CLOSED_FORM, ITERATIVE

K = 50


@pytest.fixture
def effects(rng) -> EffectSizes:
    mods = {
        "rater": rng.choice(["client", "observer", "therapist"], K),
        "setting": rng.choice(["inpatient", "outpatient"], K),
        "year": rng.integers(1990, 2020, K),
        "age": rng.normal(40, 8, K),
    }
    y = 0.2 + 0.02 * (mods["year"] - 2005) + rng.normal(0, 0.15, K)
    return EffectSizes.from_arrays(y, rng.uniform(0.005, 0.03, K), mods=mods, measure="ZCOR")


@pytest.mark.parametrize("method", ["ML", "EE"])
@pytest.mark.parametrize("criterion", ["AICc", "AIC", "BIC"])
def test_every_row_is_the_single_fit(effects, method, criterion):
    candidates = ["rater", "setting", "center(year)", "rater:center(year)"]
    frame = select_models(effects, candidates=candidates, method=method, criterion=criterion).tidy()
    assert len(frame) == 10  # 2^4 less the six with an interaction but not both of its parts
    for formula, row in frame.iterrows():
        single = RandomEffectsModel(effects, mods=str(formula), method=method, test="z").fit()
        one = single.glance().iloc[0]
        assert row["loglik"] == pytest.approx(one["loglik"], rel=ITERATIVE)
        assert row[criterion] == pytest.approx(one[criterion], rel=ITERATIVE)
        assert row["tau2"] == pytest.approx(one["tau2"], rel=ITERATIVE, abs=1e-9)
        assert row["p"] == single.p
        if method == "ML" and single.p > 1:
            assert row["R2"] == pytest.approx(single.R2, rel=1e-5)
    assert frame[criterion].is_monotonic_increasing


@pytest.mark.parametrize("candidates", [["rater:setting", "rater:year", "age"], ["rater:setting", "rater"]])
def test_codings_that_depend_on_the_other_terms(effects, candidates):
    for formula, row in select_models(effects, candidates=candidates).tidy().iterrows():
        single = RandomEffectsModel(effects, mods=str(formula), method="ML", test="z").fit()
        assert row["loglik"] == pytest.approx(single.loglik, rel=ITERATIVE)
        assert row["p"] == single.p


def test_weights_importance_and_averages_by_hand(effects):
    found = select_models(effects, candidates=["setting", "year"])
    frame = found.tidy()
    raw = np.exp(-0.5 * (frame["AICc"] - frame["AICc"].min()))
    np.testing.assert_allclose(frame["weight"], raw / raw.sum(), rtol=CLOSED_FORM)
    np.testing.assert_allclose(frame["delta"], frame["AICc"] - frame["AICc"].min(), atol=1e-12)
    w = frame["weight"]
    assert found.importance["year"] == pytest.approx(w["year"] + w["setting + year"], rel=CLOSED_FORM)

    fits = {f: RandomEffectsModel(effects, mods=f, method="ML", test="z").fit() for f in frame.index}
    held = {
        f: (fit.beta[fit.names.index("year")], fit.se[fit.names.index("year")])
        for f, fit in fits.items()
        if "year" in f
    }
    mean = sum(w[f] * b for f, (b, _) in held.items())
    se = sum(w[f] * np.hypot(s, b - mean) for f, (b, s) in held.items()) + (1 - sum(w[f] for f in held)) * abs(mean)
    row = found.average().loc["year"]
    assert row["estimate"] == pytest.approx(mean, rel=ITERATIVE)
    assert row["se"] == pytest.approx(se, rel=ITERATIVE)
    assert row["ci_ub"] == pytest.approx(mean + 1.959963984540054 * se, rel=ITERATIVE)
    total = sum(w[f] for f in held)
    inside = mean / total
    se_in = sum(w[f] / total * np.hypot(s, b - inside) for f, (b, s) in held.items())
    assert row["estimate_in"] == pytest.approx(inside, rel=ITERATIVE)
    assert row["se_in"] == pytest.approx(se_in, rel=ITERATIVE)
    assert (row["weight"], row["models"]) == (pytest.approx(total, rel=CLOSED_FORM), 2)


def test_a_real_moderator_is_found(effects):
    found = select_models(effects, candidates=["rater", "setting", "year", "age"])
    assert found.importance.index[0] == "year"
    assert found.importance["year"] > 0.95
    assert "year" in found.best
    assert [note.code for note in found.notes] == ["exploratory"]


def test_what_every_model_holds(effects):
    found = select_models(effects, candidates=["rater", "age"], always=["year"])
    assert sorted(found.tidy().index) == ["year", "year + age", "year + rater", "year + rater + age"]
    assert found.importance.index.tolist() == sorted(found.importance.index, key=lambda t: -found.importance[t])


def test_every_model_is_fitted_to_the_same_effects(effects):
    frame = effects.moderators.assign(
        age=lambda m: m["age"].mask(m.index < 5), rater=lambda m: m["rater"].mask(m.index == 7)
    )
    gaps = EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    with pytest.warns(DroppedRowsWarning, match="6 of 50 effects left out of every model"):
        found = select_models(gaps, candidates=["rater", "age", "year"])
    assert found.effects.k == K - 6
    again = select_models(effects.take([i for i in range(K) if i > 4 and i != 7]), candidates=["rater", "age", "year"])
    pd.testing.assert_frame_equal(found.tidy(), again.tidy())


def test_candidates_that_repeat_each_other(effects):
    frame = effects.moderators.assign(decade=lambda m: m["year"] / 10)
    twice = EffectSizes.from_arrays(effects.yi, effects.vi, mods=frame, measure="ZCOR")
    found = select_models(twice, candidates=["year", "decade", "age"])
    assert len(found.tidy()) == 6
    assert "2 models left out: some of their moderators repeat" in str(found.notes[1])


def test_few_effects(effects):
    few = effects.take(range(7))
    found = select_models(few, candidates=["rater", "year", "age", "setting"])
    assert found.tidy()["p"].max() == 4
    codes = {note.code for note in found.notes}
    assert {"models-too-large", "importance-unbalanced"} <= codes
    with pytest.raises(DesignError, match="too few"):
        select_models(effects.take([0, 1]), candidates=["year"])


def test_no_heterogeneity_to_explain(rng):
    es = EffectSizes.from_arrays(
        0.2 + rng.normal(0, 0.01, 20), np.full(20, 0.02), mods={"x": rng.normal(size=20)}, measure="ZCOR"
    )
    found = select_models(es, candidates=["x"])
    assert found.tidy()["R2"].isna().all()
    assert "no heterogeneity to explain" in str(found.notes[-1])
    assert "not_applicable" in found.to_dict()["models"][0]["R2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"candidates": []}, "no candidates; give 1 to 12"),
        ({"candidates": [f"x{i}" for i in range(13)]}, "13 candidates make 8192 models"),
        ({"candidates": "rater"}, "are lists of terms"),
        (
            {"candidates": ["rater * year"]},
            "is not one term: it stands for 'rater', 'year', 'rater:year'",
        ),
        ({"candidates": ["rater", "rater"]}, "'rater' is there twice"),
        ({"candidates": ["rater +"]}, "a candidate='rater +' is not a formula"),
        ({"candidates": ["rater"], "always": ["rater"]}, "'rater' is there twice"),
        ({"candidates": ["ratr"]}, "no column 'ratr'; did you mean 'rater'?"),
        ({"candidates": ["rater"], "method": "REML"}, "method='REML' is not one of 'ML', 'EE'"),
        ({"candidates": ["rater"], "criterion": "AICC"}, "did you mean 'AICc'?"),
    ],
)
def test_what_cannot_be_is_named(effects, options, words):
    with pytest.raises(InputError) as error:
        select_models(effects, **options)
    assert words in str(error.value)


def test_text_fits_a_terminal_and_json_takes_the_numbers(effects):
    found = select_models(effects, candidates=["rater", "setting", "bs(year, df=3)", "age"])
    assert max(map(len, str(found).splitlines())) <= 80
    assert "... and 6 more" in str(found)
    assert len(json.loads(json.dumps(found.to_dict(), allow_nan=False))["models"]) == 16
