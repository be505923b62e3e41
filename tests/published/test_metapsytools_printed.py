"""The battery that metapsyTools prints for its own example.

Harrer, Kuper, Sprenger & Cuijpers, metapsyTools 1.0.14, vignette "Get started", section "Pooling Effects"
(https://tools.metapsy.org/articles/web/get-started): `depressionPsyCtr`, CBT against waitlist or care as usual. The
rows below are the columns study, multi_arm1, rob, .g and .g_se of that data set, a subset of the Metapsy database.
Copyright (c) 2024 Mathias Harrer, MIT licence.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta import sensitivity
from alliance_meta.effects.table import EffectSizes
from alliance_meta.sensitivity import Case, Scenario
from alliance_meta.sensitivity.batteries.scenarios import outlying
from tests.tolerances import printed

pytestmark = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")
DATA = """\
study;arm;rob;yi;sei
Aagaard, 2017;;3;0;0.231455024943138
Allart van Dam, 2003;;1;-0.569637930381429;0.205908966670104
Ammerman, 2013;;3;-0.943988689018691;0.218830635007238
Ammerman, 2013;;3;-0.881879726267443;0.217409637550158
Ammerman, 2013;;3;-0.781053760453317;0.21529149814921
Ayen, 2004;cbt;1;-3.36;0.694676728828422
Ayen, 2004;cbt;1;-4.00773893133375;0.778376456518759
Beach, 1992;bmt;1;-1.3437896689328;0.40635543983313
Beach, 1992;cbt;1;-1.00327982302452;0.388657253801308
Berger, 2011;guided i-cbt;4;-1.12527472527473;0.302103724754194
Bowman, 1995;cognitive bibliotherapy;1;-0.934478738612959;0.47307509167563
Bowman, 1995;cognitive bibliotherapy;0;-0.96046539010317;0.474491458973082
Brown, 1984;cbt group;1;-0.220049386314167;0.362784414803183
Brown, 1984;cbt group;1;-0.617254963581594;0.369383371018058
Brown, 1984;cbt individual;1;-0.276387362583497;0.411751540501565
Brown, 1984;cbt individual;1;-0.371686304486562;0.413424189072886
Brown, 1984;cbt phone;1;-0.446563977453024;0.408169843138608
Brown, 1984;cbt phone;1;-0.417080057125488;0.40750218849887
Buhrman, 2015;;4;-0.297000435209749;0.279741454378862
Burford, 2021;;4;-0.449692073529712;0.183994949709471
Burford, 2021;;4;-0.0635904448986548;0.173290889514516
Burroughs, 1999;;4;-0.0912273171340747;0.144877115283839
Buchanan, 2010;;4;0.0480721928811036;0.230954616586424
Bzdok, 2001;;4;-0.136696892110791;0.098244824236076
Bzdok, 2001;;4;-0.0700459036735813;0.0945895299353133
Bruckner, 2009;;4;-0.123121495954677;0.12630097031754
"""


def effects() -> EffectSizes:
    d = pd.read_csv(io.StringIO(DATA), sep=";")
    mods = {"arm": d["study"] + " " + d["arm"].fillna(""), "rob": d["rob"]}
    return EffectSizes.from_arrays(d["yi"], d["sei"] ** 2, slab=d["study"], study_id=d["study"], mods=mods)


def by_arm(case: Case):
    """metapsyTools averages within arms of a study, with the weights of least variance."""
    return case.independent(am.aggregate(case.effects, cluster="arm", rho=case.rho, how="CS"))


def smoothed(case: Case):
    """Its sampling covariances rest on the mean sampling variance of each study (clubSandwich's ``smooth_vi``)."""
    groups = case.clusters()
    V = am.impute_V(replace(case.effects, vi=groups.mean(case.effects.vi)[groups.codes]), rho=case.rho)
    return am.che(case.effects, V=V)


def without_outliers(case: Case):
    """It looks for outliers in, and pools anew by, the model of independent effects."""
    return case.independent(case.effects.take(~outlying(case.effects, case.independent())))


def without_influential(case: Case):
    """What its footnote e names: both effects of Ayen (2004), which metafor's influence() flags."""
    return case.independent(case.effects.take(np.array(case.effects.study_id) != "Ayen, 2004"))


def low_risk(case: Case):
    return case.independent(case.effects.take(case.effects.moderators["rob"].to_numpy() > 2))


def misplaced(sign: float):
    """Pick each study's extreme effect as the printed rows did: in alphabetical order, applied to the sheet's order.

    Footnotes b and c of the vignette show it: they leave out Buchanan, Bruckner and Burroughs, which have one effect.
    """

    def run(case: Case):
        ids, y = np.array(case.effects.study_id), sign * case.effects.yi
        kept = np.concatenate([y[ids == label] == y[ids == label].min() for label in sorted(set(ids))])
        return case.independent(case.effects.take(kept))

    return run


OWN = [
    Scenario("combined", "Combined", by_arm, "model"),
    Scenario("printed_lowest", "One ES/study (lowest)", misplaced(1.0), "bound"),
    Scenario("printed_highest", "One ES/study (highest)", misplaced(-1.0), "bound"),
    Scenario("outliers", "Outliers removed", without_outliers),
    Scenario("influence", "Influence Analysis", without_influential),
    Scenario("rob", "Only rob > 2", low_risk),
    Scenario("che_smoothed", "Three-Level Model (CHE)", smoothed, "model"),
]
# k, g, its interval, p (None: < .001) as the vignette prints them.
PRINTED = {
    "independent": (26, "-0.57", "-0.85", "-0.28", None),
    "combined": (17, "-0.54", "-0.89", "-0.18", "0.005"),
    "printed_lowest": (14, "-0.57", "-1.00", "-0.13", "0.015"),
    "printed_highest": (14, "-0.47", "-0.84", "-0.11", "0.015"),
    "outliers": (23, "-0.46", "-0.63", "-0.29", None),
    "influence": (24, "-0.43", "-0.60", "-0.27", None),
    "rob": (13, "-0.34", "-0.58", "-0.11", "0.008"),
    "three_level": (26, "-0.61", "-1.05", "-0.17", "0.011"),
    "che_smoothed": (26, "-0.55", "-0.92", "-0.18", "0.007"),
}
FOUND = sensitivity.battery(effects(), scenarios=["che", "three_level", "lowest", "highest", "independent", *OWN])


@pytest.mark.parametrize("key", PRINTED)
def test_each_row_is_the_printed_one(key):
    row = FOUND.tidy().loc[key]
    k, g, lower, upper, p = PRINTED[key]
    assert row["k"] == k
    assert (row["estimate"], row["ci_lb"], row["ci_ub"]) == (printed(g), printed(lower), printed(upper))
    assert row["pval"] < 0.001 if p is None else row["pval"] == printed(p)


def test_heterogeneity_is_the_printed_one():
    """Its I2 of independent effects is (Q - df) / Q; of the three-level models it is the share of typical variance."""
    table = FOUND.tidy()
    fit = am.RandomEffectsModel(effects()).fit()
    assert 100.0 * (fit.QE - fit.QEdf) / fit.QE == printed("76.39")
    assert table.loc["three_level", "I2"] == printed("92.1")
    assert table.loc["three_level", "tau"] ** 2 == printed("0.536")


def test_the_lowest_and_highest_effects_of_each_study_are_others_than_printed():
    """Of the right choice metafor 3.8-1 gives, rma(test = "knha") on the extremes: -0.5685 and -0.4434."""
    table = FOUND.tidy()
    assert table.loc["lowest", "estimate"] == printed("-0.5685")
    assert table.loc["highest", "estimate"] == printed("-0.4434")
    assert table.loc[["lowest", "highest"], "k"].tolist() == [14, 14]


def test_the_headline_is_clubsandwichs():
    """CHE with each effect's own variance: clubSandwich 0.5.8, conf_int(rma.mv(yi, vcalc(rho = .6)), "CR2")."""
    row = FOUND.tidy().loc["che"]
    assert (row["estimate"], row["ci_lb"], row["ci_ub"]) == (printed("-0.5398"), printed("-0.9001"), printed("-0.1795"))
