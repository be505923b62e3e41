"""The panel of methods: each row is its method's own, what cannot be answered says why, and the others stand."""

import math
import re
import warnings
from functools import cache

import numpy as np
import pytest

import alliance_meta as am
from alliance_meta import bias
from alliance_meta.bias import panels
from alliance_meta.bias.panels import FEW, means
from alliance_meta.effects.table import EffectSizes
from tests.unit.test_every_result import FITS, get

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
NUMBERS = ["estimate", "se", "ci_lb", "ci_ub", "pval"]


def fitted(y, v):
    return am.RandomEffectsModel(EffectSizes.from_arrays(y, v, measure="COR"), test="z").fit()


@cache
def molloy():
    return am.RandomEffectsModel(am.escalc(am.load_dataset("molloy2014"))).fit()


@cache
def crede():
    return am.che(am.escalc(am.load_dataset("crede2010")))


@cache
def shown(name):
    return bias.panel({"molloy": molloy, "crede": crede}[name]())


def quick(source):
    """Return the methods without the slowest two, which see the effects alone, whatever was fitted to them."""
    return {key: one for key, one in means(source).items() if key not in ("copas", "rtma")}


def same(row, result):
    for name in NUMBERS:
        value = getattr(result, name)
        assert row[name] == value or (math.isnan(row[name]) and math.isnan(value)), name


@pytest.mark.parametrize("name", ["molloy", "crede"])
def test_every_row_is_what_its_method_gives(name):
    fit, found = {"molloy": molloy, "crede": crede}[name](), shown(name)
    rows = found.tidy()
    alone = {
        "worst_case": bias.worst_case(fit),
        "selection": bias.selmodel(fit),
        "selection_two": bias.selmodel(fit, steps=(0.025, 0.5)),
        "selection_beta": bias.selmodel(fit, type="beta"),
        "copas": bias.copas(fit),
        "rtma": bias.rtma(fit),
        "puniform": bias.puniform(fit),
        "pet_peese": bias.pet_peese(fit),
        "limitmeta": bias.limitmeta(fit),
        "waap": bias.waap(fit),
        "uwls": bias.uwls3(fit),
        "hc": bias.hc(fit),
        "trimfill": bias.trimfill(fit),
    }
    assert list(rows.index) == ["uncorrected", *alone]
    for name, result in alone.items():
        same(rows.loc[name], result)
        assert rows.loc[name, "assumes"] == result.assumes
        assert rows.loc[name, "r"] == result.on_r[0]
    own = fit.predict().iloc[0]
    assert [rows.loc["uncorrected", one] for one in ("estimate", "ci_lb", "ci_ub")] == [
        own[one] for one in ("pred", "ci_lb", "ci_ub")
    ]
    assert found.tests.loc["regtest", "pval"] == bias.regtest(fit).pval
    assert found.tests.loc["tes", "pval"] == bias.tes(fit).pval
    assert found.tests.loc["svalue", "stat"] == alone["worst_case"].svalue or math.isnan(alone["worst_case"].svalue)
    unsaid = found.tests.index[found.tests["why"] != ""]
    assert not any(rows["why"])
    # Nine significant results are too few for a z-curve.
    assert list(unsaid) == (["zcurve"] if found.k == 16 else [])


def test_selection_is_tested_by_likelihood_where_effects_are_independent_else_by_whole_studies():
    assert shown("molloy").tests.loc["selection_test", "pval"] == bias.selmodel(molloy()).lrt.pval
    assert shown("crede").tests.loc["selection_test", "pval"] == bias.selmodel(crede()).wald.pval


@pytest.mark.parametrize("name", FITS)
def test_every_class_of_fit_is_taken(name, monkeypatch):
    if name == "AveragedResults":
        with pytest.raises(am.errors.InputError, match="without moderators"):
            bias.panel(get(name))
        return
    monkeypatch.setattr(panels, "means", quick)
    found = bias.panel(get(name))
    assert len(found.tidy()) == 12
    assert not math.isnan(found.tidy().loc["uncorrected", "estimate"])


def test_the_spread_names_its_ends_and_counts_the_intervals_without_0():
    found = shown("molloy")
    rows = found.tidy().iloc[1:]
    low, high = rows.loc[rows["r"].astype(float).idxmin()], rows.loc[rows["r"].astype(float).idxmax()]
    away = int(((rows["r_lb"].astype(float) > 0) | (rows["r_ub"].astype(float) < 0)).sum())
    assert f"between {low['r']:.3f} ({low['label']}) and {high['r']:.3f} ({high['label']})" in found.spread()
    assert f"{away} of 13 intervals leave out 0" in found.spread()


V = np.linspace(0.004, 0.06, 12)
RNG = np.random.default_rng(5)
CASES = {
    "one effect": ([0.3], [0.02]),
    "two effects": ([0.3, 0.1], [0.02, 0.01]),
    "three effects": ([0.3, 0.1, 0.5], [0.02, 0.01, 0.05]),
    "all significant": (0.8 + 0.05 * RNG.normal(size=12), V),
    "none significant": (0.05 * RNG.normal(size=12), V),
    "equal errors": (0.2 + 0.1 * RNG.normal(size=12), np.full(12, 0.01)),
    "all the same": (np.full(12, 0.2), V),
    "negative": (-0.3 + 0.2 * RNG.normal(size=12), V),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_answered_says_why_and_the_others_stand(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = bias.panel(fitted(*CASES[case]))
    rows = found.tidy()
    for row in rows.to_dict("records"):
        number = not math.isnan(row["estimate"])
        assert number != bool(row["why"]), row
        assert "r" not in row
    for row in found.tests.to_dict("records"):
        assert bool(row["says"]) != bool(row["why"]), row
        assert not re.search("nan|n/a", row["says"]), row
    assert not math.isnan(rows.loc["uncorrected", "estimate"])
    assert found.to_dict()["spread"] == found.spread()
    assert (not math.isnan(rows.loc["worst_case", "estimate"])) == (case not in ("one effect", "all significant"))


def test_few_effects_are_said_once_and_only_where_there_are_few(monkeypatch):
    monkeypatch.setattr(panels, "means", quick)
    v = np.tile(np.linspace(0.003, 0.05, 40), 10)
    many = bias.panel(fitted(0.15 + np.sqrt(v + 0.02) * RNG.normal(size=400), v))
    assert FEW not in [note.message for note in many.notes]
    few = [note.message for note in bias.panel(fitted(*CASES["negative"])).notes]
    assert few.count(FEW) == 1


def test_each_study_counts_in_the_s_value_of_dependent_effects():
    notes = [note.message for note in shown("crede").notes]
    assert sum("97 effects from 68 studies as independent" in one for one in notes) == 1


def test_moderators_and_what_is_no_fit_are_refused():
    es = am.escalc(am.load_dataset("molloy2014"))
    with pytest.raises(am.errors.InputError, match="without moderators"):
        bias.panel(am.RandomEffectsModel(es, mods="meanage").fit())
    with pytest.raises(am.errors.InputError, match="needs a fitted model"):
        bias.panel(es)


def test_another_level_changes_every_interval():
    narrow, wide = bias.panel(molloy(), level=0.8).tidy(), shown("molloy").tidy()
    for name in narrow.index:
        assert narrow.loc[name, "ci_lb"] > wide.loc[name, "ci_lb"], name
        assert narrow.loc[name, "estimate"] == wide.loc[name, "estimate"] or name == "pet_peese"
