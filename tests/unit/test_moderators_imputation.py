"""Multiple imputation: the draws against closed forms, the pooling by hand, and what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats
from statsmodels.tools.numdiff import approx_hess

from alliance_meta import EffectSizes, InputError, RandomEffectsModel
from alliance_meta.core.pooling import pool
from alliance_meta.errors import ConvergenceWarning, DesignError, RedundantModeratorWarning
from alliance_meta.moderators import fit_imputed, impute_moderators
from tests.tolerances import CLOSED_FORM

# Short chains are enough where only the bookkeeping is tested.
short_chains = pytest.mark.filterwarnings("ignore::alliance_meta.errors.ConvergenceWarning")


def effects(y, v, **mods) -> EffectSizes:
    return EffectSizes.from_arrays(y, v, mods=pd.DataFrame(mods), measure="ZCOR")


@pytest.fixture
def gaps(rng) -> EffectSizes:
    k = 40
    age = rng.normal(40, 8, k)
    rater = rng.choice(["client", "observer", "therapist"], k).astype(object)
    year = rng.integers(1990, 2020, k).astype(float)
    y = 0.2 + 0.01 * (age - 40) + rng.normal(0, 0.3, k)
    age[rng.choice(k, 10, replace=False)] = np.nan
    rater[rng.choice(k, 6, replace=False)] = None
    return effects(y, rng.uniform(0.005, 0.03, k), age=age, rater=rater, year=year)


def test_pooling_by_hand():
    beta = np.array([[1.0], [1.2], [1.1]])
    vb = np.array([[[0.04]], [[0.05]], [[0.06]]])
    ours = pool(beta, vb, df=20)
    B, W = 0.01, 0.05
    T = W + 4 / 3 * B
    assert ours.beta[0] == pytest.approx(1.1, rel=CLOSED_FORM)
    assert ours.se[0] == pytest.approx(np.sqrt(T), rel=CLOSED_FORM)
    r, share = 4 / 3 * B / W, 4 / 3 * B / T
    large, observed = 2 / share**2, 21 / 23 * 20 * (1 - share)
    df = large * observed / (large + observed)
    assert ours.riv[0] == pytest.approx(r, rel=CLOSED_FORM)
    assert ours.df[0] == pytest.approx(df, rel=CLOSED_FORM)
    assert ours.fmi[0] == pytest.approx((r + 2 / (df + 3)) / (1 + r), rel=CLOSED_FORM)
    assert ours.mcse[0] == pytest.approx(np.sqrt(B / 3), rel=CLOSED_FORM)
    assert pool(beta, vb, df=None).df[0] == pytest.approx(large, rel=CLOSED_FORM)


@pytest.mark.parametrize("test", ["knha", "z", "t", "adhoc"])
def test_without_gaps_it_is_the_ordinary_fit(rng, test):
    es = effects(rng.normal(0.2, 0.2, 20), rng.uniform(0.01, 0.03, 20), x=rng.normal(size=20), g=list("abcd") * 5)
    imputed = impute_moderators(es, mods="g + x", m=3, seed=1)
    ours, plain = fit_imputed(imputed, test=test), RandomEffectsModel(es, mods="g + x", test=test).fit()
    frame = ours.tidy()
    expected = plain.tidy()
    for name in expected:
        np.testing.assert_allclose(frame[name], expected[name], rtol=CLOSED_FORM, err_msg=name)
    assert frame["fmi"].tolist() == [0.0] * 5
    assert ours.tau2 == pytest.approx(plain.tau2, rel=CLOSED_FORM)
    assert [note.code for note in imputed.notes] == ["nothing-missing"]


@short_chains
def test_observed_values_stay_and_gaps_are_filled(gaps):
    imputed = impute_moderators(gaps, mods="rater + age", m=4, seed=3, sweeps=10)
    before = gaps.moderators
    assert imputed.missing == {"rater": 6, "age": 10}
    for frame in imputed.frames:
        assert frame.notna().all().all()
        assert set(frame["rater"]) == {"client", "observer", "therapist"}
        for name in before:
            there = before[name].notna()
            assert frame[name][there].tolist() == before[name][there].tolist()
    assert not imputed.frames[0]["age"].equals(imputed.frames[1]["age"])


@short_chains
def test_pooled_fit_is_that_of_the_frames(gaps):
    imputed = impute_moderators(gaps, mods="rater + age", m=4, seed=3, sweeps=10)
    fits = [
        RandomEffectsModel(EffectSizes.from_arrays(gaps.yi, gaps.vi, mods=frame), mods="rater + age").fit()
        for frame in imputed.frames
    ]
    by_hand = pool(np.array([fit.beta for fit in fits]), np.array([fit.vb for fit in fits]), df=gaps.k - 4)
    frame = fit_imputed(imputed).tidy()
    np.testing.assert_allclose(frame["estimate"], by_hand.beta, rtol=1e-8)
    np.testing.assert_allclose(frame["se"], by_hand.se, rtol=1e-8)
    np.testing.assert_allclose(frame["ddf"], by_hand.df, rtol=1e-8)
    np.testing.assert_allclose(frame["pval"], 2 * stats.t.sf(abs(frame["stat"]), frame["ddf"]), rtol=1e-8)
    np.testing.assert_allclose(frame["ci_ub"] - frame["estimate"], stats.t.ppf(0.975, frame["ddf"]) * frame["se"])
    assert ((frame["fmi"] > 0) & (frame["fmi"] < 1)).all()


@short_chains
def test_the_same_seed_gives_the_same_values(gaps):
    one, two, other = (impute_moderators(gaps, mods="rater * age", m=3, seed=s, sweeps=8) for s in (5, 5, 6))
    pd.testing.assert_frame_equal(fit_imputed(one).tidy(), fit_imputed(two).tidy())
    assert one.to_dict() == two.to_dict()
    assert one.to_dict()["imputed"] != other.to_dict()["imputed"]


@short_chains
def test_numbers_are_drawn_from_their_posterior_whatever_the_precision(rng):
    # x ~ N(0, 1), y | x ~ N(bx, tau2 + v): E(x | y) = b y / (b^2 + tau2 + v), which differs with v.
    k, b, tau2 = 1000, 0.3, 0.02
    v = np.where(np.arange(k) % 2, 0.002, 0.2)
    x = rng.normal(size=k)
    y = b * x + rng.normal(0, np.sqrt(tau2 + v))
    gap = rng.random(k) < 0.4
    es = effects(y, v, x=np.where(gap, np.nan, x))
    imputed = impute_moderators(es, mods="x", m=4, seed=1, sweeps=40)
    drawn = np.array([frame["x"] for frame in imputed.frames])
    for variance in (0.002, 0.2):
        rows = gap & (v == variance)
        total = b**2 + tau2 + variance
        slope = np.polyfit(np.tile(y[rows], 4), drawn[:, rows].ravel(), 1)[0]
        assert slope == pytest.approx(b / total, rel=0.12)
        spread = drawn[:, rows].var(axis=0, ddof=1).mean()
        assert spread == pytest.approx(1 - b**2 / total, rel=0.25)


@short_chains
def test_levels_are_drawn_from_their_posterior(rng):
    k, tau2, v = 800, 0.02, 0.03
    g = rng.random(k) < 0.3
    y = 0.4 * g + rng.normal(0, np.sqrt(tau2 + v), k)
    gap = rng.random(k) < 0.4
    es = effects(y, np.full(k, v), g=np.where(gap, None, np.where(g, "on", "off")))
    imputed = impute_moderators(es, mods="g", m=4, seed=1, sweeps=40)
    drawn = np.mean([frame["g"] == "on" for frame in imputed.frames], axis=0)
    log_odds = np.log(0.3 / 0.7) + 0.4 * (y - 0.2) / (tau2 + v)
    expected = special.expit(log_odds)
    for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.0)):
        rows = gap & (expected >= low) & (expected <= high)
        assert drawn[rows].mean() == pytest.approx(expected[rows].mean(), abs=0.05)


@pytest.mark.slow
def test_it_is_the_maximum_likelihood_of_what_was_observed(rng):
    k, v = 200, 0.02
    x = rng.normal(size=k)
    y = 0.2 + 0.15 * x + rng.normal(0, np.sqrt(0.03 + v), k)
    gap = rng.random(k) < 1 / (1 + np.exp(1 - 4 * y))
    es = effects(y, np.full(k, v), x=np.where(gap, np.nan, x))

    def deviance(theta):
        a, b, mean, log_sd, log_s2 = theta
        sd, s2 = np.exp(log_sd), np.exp(log_s2)
        seen = stats.norm.logpdf(y[~gap], a + b * x[~gap], np.sqrt(s2)) + stats.norm.logpdf(x[~gap], mean, sd)
        return -seen.sum() - stats.norm.logpdf(y[gap], a + b * mean, np.sqrt(s2 + b**2 * sd**2)).sum()

    best = optimize.minimize(deviance, [0.2, 0.1, 0.0, 0.0, np.log(0.05)], method="BFGS", options={"gtol": 1e-6})
    se = np.sqrt(np.diag(np.linalg.inv(approx_hess(best.x, deviance))))[:2]
    ours = fit_imputed(impute_moderators(es, mods="x", m=20, seed=2, sweeps=40), test="z", method="ML").tidy()
    np.testing.assert_array_less(abs(ours["estimate"] - best.x[:2]), 4 * ours["mcse"] + 0.1 * se)
    np.testing.assert_allclose(ours["se"], se, rtol=0.12)


@short_chains
def test_values_a_formula_cannot_take_are_not_imputed(rng):
    k = 40
    x = rng.uniform(1, 5, k)
    y = 0.1 * np.log(x) + rng.normal(0, 0.1, k)
    es = effects(y, np.full(k, 0.01), x=np.where(np.arange(k) % 4 == 0, np.nan, x))
    for mods in ("np.log(x)", "bs(x, df=3)"):
        drawn = np.array([frame["x"] for frame in impute_moderators(es, mods=mods, m=3, seed=1, sweeps=10).frames])
        assert drawn.min() >= x[np.arange(k) % 4 != 0].min()
        assert drawn.max() <= x[np.arange(k) % 4 != 0].max()


@short_chains
def test_codes_and_truth_values_keep_their_kind(rng):
    k = 40
    quality = np.where(np.arange(k) % 5 == 0, np.nan, rng.integers(1, 4, k))
    blind = pd.Series(rng.random(k) < 0.5).astype(object).mask(np.arange(k) % 7 == 0)
    es = effects(rng.normal(0.2, 0.2, k), np.full(k, 0.02), quality=quality, blind=blind, n=rng.normal(size=k))
    imputed = impute_moderators(es, mods="C(quality) + blind", auxiliary=["n"], m=3, seed=1, sweeps=10)
    assert set(imputed.frames[0]["quality"]) == {1.0, 2.0, 3.0}
    assert set(imputed.frames[0]["blind"]) == {True, False}
    assert fit_imputed(imputed).names == ("intrcpt", "C(quality)[T.2]", "C(quality)[T.3]", "blind[T.True]")


def test_chains_that_did_not_mix_are_reported(gaps):
    with pytest.warns(ConvergenceWarning, match="raise sweeps"):
        imputed = impute_moderators(gaps, mods="rater * age", m=3, seed=4, sweeps=8)
    assert "not-mixed" in {note.code for note in imputed.notes}
    short = impute_moderators(gaps, mods="age", m=2, seed=1, sweeps=3)
    assert "mixing-unknown" in {note.code for note in short.notes}


@short_chains
def test_notes_travel_with_the_fit(gaps):
    fit = fit_imputed(impute_moderators(gaps, mods="rater + age", m=4, seed=3, sweeps=30))
    codes = [note.code for note in fit.notes]
    assert codes[:2] == ["imputed-moderators", "missing-at-random"]
    assert "few-imputations" in codes
    assert "age 10 (25%)" in str(fit)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mods": "1"}, "no moderators to impute"),
        ({"mods": "aeg"}, "no column 'aeg'; did you mean 'age'?"),
        ({"mods": "age", "m": 1}, "m=1 must be a whole number of at least 2"),
        ({"mods": "age", "seed": -1}, "seed=-1"),
        ({"mods": "age", "sweeps": 2.5}, "sweeps=2.5"),
        ({"mods": "age", "auxiliary": "year"}, "list of moderators"),
        ({"mods": "age", "auxiliary": ["yaer"]}, "auxiliary: no column 'yaer'; did you mean 'year'?"),
        ({"mods": "age", "auxiliary": ["empty"]}, "'empty' has no value at all"),
        ({"mods": "age", "auxiliary": ["rare"]}, "'rare' has 4 values; the model that imputes needs at least 6"),
    ],
)
def test_what_cannot_be_is_named(gaps, options, words):
    frame = gaps.moderators.assign(empty=np.nan, rare=[1.0, 2, 3, 4] + [np.nan] * 36)
    es = EffectSizes.from_arrays(gaps.yi, gaps.vi, mods=frame)
    with pytest.raises(InputError) as error:
        impute_moderators(es, **{"m": 2, "seed": 1, "sweeps": 2, **options})
    assert words in str(error.value)


@short_chains
def test_identical_effects(gaps):
    x = gaps.moderators["age"]
    fit = fit_imputed(impute_moderators(effects(np.full(40, 0.2), np.full(40, 0.01), x=x), mods="x", m=3, seed=1))
    frame = fit.tidy()
    np.testing.assert_allclose(frame["estimate"], [0.2, 0.0], atol=1e-12)
    assert frame["pval"].isna().all()
    assert frame["fmi"].tolist() == [0.0, 0.0]
    assert "no-variance" in {note.code for note in fit.notes}
    assert "not_applicable" in fit.to_dict()["coefficients"][0]["pval"]


@short_chains
def test_redundant_columns_are_named(gaps):
    frame = gaps.moderators.assign(decade=lambda m: m["year"] / 10)
    es = EffectSizes.from_arrays(gaps.yi, gaps.vi, mods=frame)
    with pytest.warns(RedundantModeratorWarning, match="'decade' is a combination"):
        imputed = impute_moderators(es, mods="year + decade + age", m=2, seed=1, sweeps=4)
    assert fit_imputed(imputed).names == ("intrcpt", "year", "age")
    assert imputed.notes[0].code == "redundant-moderator"


def test_few_effects(gaps):
    with pytest.raises(DesignError, match="too few for 2 coefficients"):
        impute_moderators(gaps.take(range(3)), mods="age", m=2, seed=1)


@short_chains
def test_estimators_with_their_own_weights_are_not_pooled(gaps):
    with pytest.raises(InputError, match="not pooled"):
        fit_imputed(impute_moderators(gaps, mods="age", m=2, seed=1, sweeps=4), method="GENQ", test="z")


@short_chains
def test_text_fits_a_terminal_and_json_takes_the_numbers(gaps):
    imputed = impute_moderators(gaps, mods="rater + poly(age, 2) + year", m=3, seed=1, sweeps=30)
    for result in (imputed, fit_imputed(imputed)):
        assert max(map(len, str(result).splitlines())) <= 80
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["notes"]
        assert len(result.tidy())
