"""Influence, leave-one-out and cumulative: what they say where little is left, and what they refuse."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, InputError, MultilevelModel, NotApplicable, RandomEffectsModel, che, sensitivity
from alliance_meta.sensitivity import cumulative, influence, leave_one_out


@pytest.fixture(autouse=True)
def only_ours():
    """NumPy's warnings are errors; what a fit warns of is not asked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        yield


def effects(k, *, same=False, **more):
    rng = np.random.default_rng(k)
    y = np.full(k, 0.3) if same else 0.3 + 0.2 * rng.normal(size=k)
    return EffectSizes.from_arrays(y, 0.01 + 0.01 * rng.random(k), measure="ZCOR", **more)


def said(frame):
    """Every missing number says why."""
    for column in frame:
        for value in frame[column]:
            if isinstance(value, float) and value != value:
                assert isinstance(value, NotApplicable), column
                assert len(value.reason) > 10


@pytest.mark.parametrize("method", ["REML", "DL", "EE"])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_few_effects(k, method):
    fit = RandomEffectsModel(effects(k), method=method).fit()
    for frame in (leave_one_out(fit).tidy(), influence(fit).tidy(), cumulative(fit, order="given").tidy()):
        said(frame)
    left = leave_one_out(fit).tidy()
    assert np.isfinite(left["estimate"].astype(float)).all()
    if k == 2:
        # One effect is left: the other one with its own error, as a fit of it says.
        assert left["estimate"].tolist() == pytest.approx(fit.effects.yi[::-1])
        assert left["ddf"].tolist() == [np.inf, np.inf]
        assert "no effects to spare" in repr(left["I2"][0])


def test_one_effect():
    fit = RandomEffectsModel(effects(1)).fit()
    for ask in (leave_one_out, influence):
        with pytest.raises(InputError, match=r"there is one effect \(Study 1\); nothing is left"):
            ask(fit)
    steps = cumulative(fit, order="given").tidy()
    assert steps["estimate"].tolist() == pytest.approx(fit.beta)


def test_one_study():
    es = effects(6, study_id=["a"] * 6)
    fit = RandomEffectsModel(es).fit()
    with pytest.raises(InputError, match=r"there is one study .* with 6 effects;"):
        leave_one_out(fit)
    assert len(leave_one_out(fit, by="effect").tidy()) == 6


def test_effects_that_are_all_alike():
    for test in ("knha", "z"):
        fit = RandomEffectsModel(effects(50, same=True), test=test).fit()
        frame = influence(fit).tidy()
        said(frame)
        np.testing.assert_allclose(frame["tau2_del"].astype(float), 0.0)


def test_a_level_that_one_effect_alone_tells():
    es = effects(50, mods=pd.DataFrame({"arm": ["b"] + ["a"] * 49}))
    fit = RandomEffectsModel(es, mods="arm").fit()
    for result in (leave_one_out(fit), influence(fit)):
        assert "cannot be fitted without Study 1: a coefficient cannot be estimated" in result.notes[-1].message
        said(result.tidy())
        result.summary()
    assert "coefficient cannot be estimated" in repr(influence(fit).tidy()["cook_d"][0])
    assert np.isfinite(leave_one_out(fit).tidy()["estimate"][1:].astype(float)).all()
    early = cumulative(fit, order="given")
    assert {note.code for note in early.notes} >= {"too-few"}


def test_by_default_studies_are_left_out_where_some_have_several_effects():
    es = effects(12, study_id=[f"s{i // 2}" for i in range(12)])
    fit = MultilevelModel(es).fit()
    assert leave_one_out(fit).by == "study"
    assert len(leave_one_out(fit).labels) == 6
    assert influence(RandomEffectsModel(effects(12)).fit()).by == "effect"
    assert len(influence(che(es), by="effect").labels) == 12


def test_cumulative_by_ties_and_without():
    es = effects(9, mods=pd.DataFrame({"year": [2001, 2000, 2000, 2003, 2001, 2002, 2002, 2002, 2000]}))
    fit = RandomEffectsModel(es).fit()
    found = cumulative(fit)
    assert found.labels == ("2000", "2001", "2002", "2003")
    assert found.tidy()["k"].tolist() == [3, 5, 8, 9]
    assert cumulative(fit, order="-year").labels == ("2003", "2002", "2001", "2000")
    assert len(cumulative(fit, collapse=False).labels) == 9
    assert cumulative(fit, order=np.arange(9)[::-1]).by == "the values given"
    with pytest.raises(InputError, match="order"):
        cumulative(fit, order="month")
    with pytest.raises(InputError, match="collapse='yes'"):
        cumulative(fit, collapse="yes")


def test_an_effect_without_a_year_is_named():
    es = effects(5, mods=pd.DataFrame({"year": [2001, 2000, None, 2003, 2001]}))
    with pytest.raises(InputError, match="Study 3"):
        cumulative(RandomEffectsModel(es).fit())


def test_variances_held():
    es = effects(50, mods=pd.DataFrame({"x": np.linspace(-1, 1, 50)}))
    fit = RandomEffectsModel(es, mods="x").fit()
    held = influence(fit, reestimate=False).tidy()
    np.testing.assert_allclose(held["tau2_del"], fit.tau2)
    np.testing.assert_allclose(held["QE_del"], influence(fit).tidy()["QE_del"], rtol=1e-10)
    with pytest.raises(InputError, match="reestimate=False is for random-effects and multilevel models"):
        influence(sensitivity_model(es), reestimate=False)


def sensitivity_model(es):
    from alliance_meta import RVEModel

    return RVEModel(es).fit()


def test_cut_offs_are_those_of_metafor():
    fit = RandomEffectsModel(effects(20), test="z").fit()
    cut = influence(fit).cutoffs
    assert cut["dffits"] == pytest.approx(3 * np.sqrt(1 / 19))
    assert cut["cook_d"] == pytest.approx(0.45493642311957283)
    assert (cut["hat"], cut["dfbs"]) == (3 / 20, 1.0)


def test_the_old_names_are_gone():
    for name in ("leave_out_clusters", "cluster_influence"):
        assert not hasattr(sensitivity, name)
