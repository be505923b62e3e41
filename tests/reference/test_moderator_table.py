"""`moderator_table` against metafor and clubSandwich; R/make_moderator_table.R wrote the values."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from alliance_meta import EffectSizes, moderator_table
from alliance_meta.moderators import ModeratorTable
from tests.reference.reading import numbers, reference
from tests.tolerances import CLOSED_FORM, OPTIMISER

pytestmark = [
    pytest.mark.reference,
    # The subject of the tests of model="random": what it makes of effects that it takes as independent.
    pytest.mark.filterwarnings("ignore::alliance_meta.errors.DependenceWarning"),
]
KNOWN = reference("moderator_table")
ALL = ["criterion", "source", "year", "class"]
# The likelihood is flat at its peak: standard errors and F feel where nlminb stopped by so much.
NLMINB = 10 * OPTIMISER


@cache
def effects() -> EffectSizes:
    data = {name: [row.get(name) for row in KNOWN["data"]] for name in KNOWN["data"][0]}
    mods = {name: data[name] for name in ALL}
    return EffectSizes.from_arrays(
        data["yi"], data["vi"], ni=data["ni"], mods=mods, study_id=data["studyid"], measure="ZCOR"
    )


@cache
def table(*names: str, **options) -> ModeratorTable:
    return moderator_table(effects(), names, **options)


def rows(found: ModeratorTable, name: str, *columns: str) -> np.ndarray:
    return found.tidy().loc[name][list(columns)].to_numpy(dtype=float)


def assert_tested(test, expected, suffix=""):
    ours = [float(test[name + suffix]) for name in ("stat", "df1", "df2", "pval")]
    assert ours == pytest.approx([expected[name] for name in ("F", "df1", "df2", "p")], rel=NLMINB)


@pytest.mark.parametrize("name", ["criterion", "source", "class"])
def test_means_and_htz_of_che(name):
    found, expected = table(*ALL), KNOWN["che"][name]
    columns = np.array([expected[one] for one in ("b", "se", "df", "lb", "ub")]).T
    assert rows(found, name, "estimate", "se", "ddf", "ci_lb", "ci_ub") == pytest.approx(columns, rel=NLMINB)
    test = found.tests.loc[name]
    assert_tested(test, expected)
    assert float(test["tau"]) ** 2 == pytest.approx(expected["tau2"], rel=NLMINB)
    share = max(0.0, 100 * (1 - expected["tau2"] / expected["tau2_none"]))
    assert float(test["R2"]) == pytest.approx(share, rel=1e-3, abs=1e-9)


def test_slopes_of_che():
    found, expected = table(*ALL), KNOWN["che"]["year"]
    unit, sd = rows(found, "year", "estimate", "se", "ddf", "ci_lb", "ci_ub")
    wanted = np.array([expected[one] for one in ("b", "se", "df", "lb", "ub")])
    assert unit == pytest.approx(wanted, rel=NLMINB)
    assert sd == pytest.approx(
        wanted * np.array([expected["sd"], expected["sd"], 1, expected["sd"], expected["sd"]]), rel=NLMINB
    )
    assert float(found.tests.loc["year", "sd"]) == pytest.approx(expected["sd"], rel=CLOSED_FORM)
    assert_tested(found.tests.loc["year"], expected)


def test_p_values_across_moderators():
    assert table(*ALL).tests["pval_adjusted"].astype(float).tolist() == pytest.approx(KNOWN["holm"], rel=NLMINB)


def test_controlled_for_the_others():
    found, expected = table("criterion", "source", "year"), KNOWN["joint"]
    columns = ("estimate_controlled", "ci_lb_controlled", "ci_ub_controlled")
    ours = np.vstack(
        [rows(found, "criterion", *columns), rows(found, "source", *columns), rows(found, "year", *columns)[:1]]
    )
    assert ours == pytest.approx(np.array([expected[one] for one in ("b", "lb", "ub")]).T, rel=NLMINB)
    for name in ("criterion", "source", "year"):
        assert_tested(found.tests.loc[name], expected[name], "_controlled")


@pytest.mark.parametrize("name", ["criterion", "source"])
def test_every_level_its_own_tau2_in_che(name):
    found, expected = table("criterion", "source", tau2="separate"), KNOWN["sce"][name]
    columns = np.array([expected[one] for one in ("b", "se", "df", "lb", "ub")]).T
    assert rows(found, name, "estimate", "se", "ddf", "ci_lb", "ci_ub") == pytest.approx(columns, rel=NLMINB)
    assert rows(found, name, "tau").ravel() ** 2 == pytest.approx(numbers(expected["tau2"]), rel=NLMINB)
    assert_tested(found.tests.loc[name], expected)


@pytest.mark.parametrize("name", ["criterion", "source", "class"])
def test_independent_effects(name):
    expected = KNOWN["random"][name]
    hk, z, own = (
        table(*ALL, model="random", **more) for more in ({}, {"test": "z"}, {"test": "z", "tau2": "separate"})
    )
    columns = np.array([expected[one] for one in ("b", "lb", "ub", "pi_lb", "pi_ub")]).T
    assert rows(hk, name, "estimate", "ci_lb", "ci_ub", "pi_lb", "pi_ub") == pytest.approx(columns, rel=OPTIMISER)
    test = hk.tests.loc[name]
    assert [float(test[one]) for one in ("stat", "pval", "R2", "tau")] == pytest.approx(
        [expected[one] for one in ("F", "Fp", "R2", "tau")], rel=OPTIMISER, abs=1e-9
    )
    for found, stat, p in ((z, "QM", "QMp"), (own, "Qb", "Qbp")):
        test = found.tests.loc[name]
        assert (test["test"], float(test["stat"]), float(test["pval"])) == (
            "Q",
            pytest.approx(expected[stat], rel=OPTIMISER),
            pytest.approx(expected[p], rel=OPTIMISER),
        )
    columns = np.array(expected["own"])
    ours = rows(own, name, "estimate", "se", "pi_lb", "pi_ub", "tau")
    assert ours == pytest.approx(columns, rel=OPTIMISER)
