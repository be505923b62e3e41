"""What refits a multilevel model, against metafor: `refits.json`, from metafor 3.8 and the script beside it.

metafor's own searches stop at a relative tolerance of 1e-10; where they end lower, a larger likelihood is better.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alliance_meta import EffectSizes, MultilevelModel, sensitivity
from alliance_meta.core.mixed.profile import profile
from alliance_meta.effects import SamplingCovariance
from alliance_meta.results.multilevel_quantities import slots
from tests.reference.reading import numbers, reference
from tests.tolerances import OPTIMISER

KNOWN = reference("refits")
# What nlminb leaves in a variance moves quantities that depend on it to first order.
FROM_SIGMA2 = 1e-5


def effects(rows) -> EffectSizes:
    frame = pd.DataFrame(rows)
    columns = {name: frame[name].astype(str) for name in ("district", "school", "year", "study") if name in frame}
    return EffectSizes.from_arrays(frame["yi"], frame["vi"], mods=frame.assign(**columns), measure="ZCOR")


@pytest.fixture(scope="module")
def konst():
    return MultilevelModel(effects(KNOWN["konst"]["data"]), mods="yc", random="district/school", test="z").fit()


@pytest.fixture(scope="module")
def berkey():
    known = KNOWN["berkey"]
    frame = pd.DataFrame(known["data"]).astype({"trial": str})
    V = SamplingCovariance.from_matrix(known["V"])
    es = EffectSizes.from_arrays(frame["yi"], V.vi, mods=frame, measure="GEN")
    return MultilevelModel(es, V=V, mods="0 + outcome", random="outcome | trial", struct="UN", test="z").fit()


def test_likelihood_ratios(konst):
    known = KNOWN["konst"]
    assert konst.loglik == pytest.approx(known["ll"], abs=1e-9)
    found = sensitivity.component_tests(konst).tidy()
    for term, name in (("district", "no_district"), ("district/school", "no_school")):
        expected, row = known[name], found.loc[term]
        assert row["loglik"] == pytest.approx(expected["ll"], abs=1e-9)
        assert row["LRT"] == pytest.approx(expected["LRT"], rel=OPTIMISER)
        assert row["pval_naive"] == pytest.approx(expected["pval"], rel=OPTIMISER)
        assert row["pval"] == pytest.approx(expected["pval"] / 2, rel=OPTIMISER)
    levels = sensitivity.compare_levels(konst.effects, mods="yc", levels="district/school", test="z").tidy()
    assert levels.loc["no heterogeneity", "LRT"] == pytest.approx(known["neither"]["LRT"], rel=OPTIMISER)
    assert levels.loc["no heterogeneity", "loglik"] == pytest.approx(known["neither"]["ll"], rel=1e-12)
    assert levels.loc["district/school", "loglik"] == pytest.approx(known["no_district"]["ll"], abs=1e-9)
    assert levels.loc["district", "loglik"] == pytest.approx(known["no_school"]["ll"], abs=1e-9)


@pytest.mark.parametrize("case", ["konst", "crossed"])
def test_influence_of_clusters(konst, case):
    known = KNOWN[case]["cook"]
    fit = konst
    if case == "crossed":
        es = effects(KNOWN["crossed"]["data"])
        fit = MultilevelModel(es, random=("district", "year", "study"), test="z").fit()
    found = sensitivity.influence(fit, by="district", reestimate=False).tidy().set_index("label").loc[known["district"]]
    np.testing.assert_allclose(found["cook_d"], numbers(known["cook"]), rtol=FROM_SIGMA2)
    for name, values in known["dfbs"].items():
        np.testing.assert_allclose(found[f"dfbs_{name}"], numbers(values), rtol=FROM_SIGMA2, atol=1e-9)


def test_without_each_district(konst):
    found = sensitivity.leave_one_out(konst, by="district")
    frames = {name: found.tidy(term=name).set_index("label") for name in konst.names}
    for known in KNOWN["konst"]["without"]:
        label = str(known["district"])
        for i, name in enumerate(konst.names):
            assert frames[name].loc[label, "estimate"] == pytest.approx(known["b"][i], rel=FROM_SIGMA2)
            assert frames[name].loc[label, "se"] == pytest.approx(known["se"][i], rel=FROM_SIGMA2)
        ours = frames["yc"].loc[label, ["sigma2[district]", "sigma2[district/school]"]].astype(float)
        np.testing.assert_allclose(ours, numbers(known["sigma2"]), rtol=1e-4)


def test_profiles(konst):
    known = KNOWN["konst"]["profile"]
    for slot, name in zip(slots(konst), ("district", "school"), strict=True):
        found = profile(slot.fit, slot.parameter, numbers(known[name]["sigma2"]))
        np.testing.assert_allclose(found, numbers(known[name]["ll"]), atol=1e-8)


def test_profiles_of_an_unstructured_covariance(berkey):
    known = KNOWN["berkey"]
    assert berkey.loglik == pytest.approx(known["ll"], abs=1e-9)
    bounds = berkey.confint()
    ours = {"tau2[outcome | trial: AL]": "tau2_1", "tau2[outcome | trial: PD]": "tau2_2"}
    for slot in slots(berkey):
        name = ours.get(slot.name, "rho_1")
        values = numbers(known[name]["rho" if name == "rho_1" else "tau2"])
        found = profile(slot.fit, slot.parameter, values ** (1 / slot.power))
        expected = numbers(known[name]["ll"])
        assert (found >= expected - 1e-8).all()
        # At tau2 = .002 metafor's inner search ends far below.
        far = expected > -5
        np.testing.assert_allclose(found[far], expected[far], atol=1e-7)
        row = bounds.loc[slot.name].astype(float)
        np.testing.assert_allclose(row, numbers(known["confint"][name]), rtol=5e-3, atol=2e-4)
