"""Numbers that papers and package documentation print, from the shipped data."""

from __future__ import annotations

import pandas as pd
import pytest

from alliance_meta import InputError, RandomEffectsModel, escalc, load_dataset
from alliance_meta.evidence import reproduce
from alliance_meta.evidence.printed import agrees, distance, read_printed
from alliance_meta.evidence.reproduction import search
from tests.tolerances import printed

pytestmark = pytest.mark.published


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return reproduce()


def test_molloy_2014_as_metadat_prints_it():
    """metadat, documentation of dat.molloy2014: REML on Fisher z."""
    fit = RandomEffectsModel(escalc(load_dataset("molloy2014")), method="REML", test="z").fit()
    assert float(fit.beta[0]) == printed("0.1499")
    assert float(fit.se[0]) == printed("0.0316")
    assert fit.tau2 == printed("0.0081")
    assert printed("61.73") == fit.I2
    assert printed("38.1595") == fit.QE
    on_r = fit.predict(scale="r").iloc[0]
    assert [on_r.pred, on_r.ci_lb, on_r.ci_ub] == [printed("0.149"), printed("0.088"), printed("0.209")]


def test_kolden_2011_by_two_routes():
    """Maassen et al. (2020): Hedges-Olkin on raw r .25096; DerSimonian-Laird on z gives .250 [.118, .373]."""
    table = load_dataset("kolden2011_congruence")
    on_z = RandomEffectsModel(escalc(table), method="DL", test="z").fit().predict(scale="r").iloc[0]
    assert [on_z.pred, on_z.ci_lb, on_z.ci_ub] == [printed(".250"), printed(".118"), printed(".373")]
    raw = RandomEffectsModel(escalc(table, measure="COR"), method="HE", test="z").fit()
    assert float(raw.beta[0]) == printed(".25096")


def test_every_recalculated_number_agrees(table):
    recalculated = table[table["kind"] == "recalculated"]
    assert recalculated["result"].nunique() >= 16
    assert recalculated["agrees"].all()


def test_what_disagrees_is_known_and_said(table):
    """A new disagreement, or one that vanishes, must be looked at by a person."""
    rows = table[table["agrees"] == False]  # noqa: E712 - None means "not run" here
    assert set(rows["result"]) == {
        "farber2011-article",
        "kolden2011-article",
        "smith2011-article",
        "tillman2011-article",
        "lui2015-text",
        "molloy2014-reml",
        "mcdaniel1994-cor",
        "craft2003-conf-perf",
    }
    assert (rows["note"] != "").all()
    search_for_zvalue = rows[rows["result"].isin(["molloy2014-reml", "mcdaniel1994-cor", "craft2003-conf-perf"])]
    assert {quantity.partition(" ")[0] for quantity in search_for_zvalue["quantity"]} == {"stat"}
    assert search_for_zvalue["note"].str.contains("stops early").all()


def test_farber_is_shown_as_not_reproduced_with_the_nearest_route(table):
    row = table[(table["result"] == "farber2011-article") & (table["quantity"] == "estimate")].iloc[0]
    assert row["agrees"] is False or not row["agrees"]
    assert row["note"].startswith("NOT reproduced: none of the 19 usual routes gives .27")
    assert row["route"] == "Fisher z, HE, Wald z"
    assert "Fisher z, PM" in row["note"]


def test_models_of_dependent_effects_are_followed_too(table):
    rows = table[
        table["result"].isin(["craft2003-conf-perf", "tannersmith2016-mv", "tannersmith2016-cr2", "oswald2013-rve"])
    ]
    assert rows["result"].nunique() == 4
    assert list(rows.loc[rows["agrees"] == False, "quantity"]) == ["stat [pair[conf.perf]]"]  # noqa: E712
    assert table["agrees"].notna().all()


def test_search_tries_what_the_article_could_have_used():
    table = load_dataset("farber2011_positive_regard")
    found = search(table, read_printed({"k": "18", "estimate": ".27"}), scale="r")
    # Two versions of each effect, seven scales, eight estimators; and means weighted by n (1) or by nothing (2).
    assert len(found) == 2 * (7 * 8 + 3)
    assert found.count(usual=True) == 0
    assert [one.route.words for one in found.best(fit="rounded")] == ["Fisher z, PM, Wald z"]
    distances = [one.distance for one in found.best(fit="no")]
    assert distances == sorted(distances)


def test_rounding_is_half_a_unit_of_the_last_digit():
    assert agrees(0.2745, ".27") is True
    assert agrees(0.2751, ".27") is False
    assert agrees(-0.275, "−.27") is True
    assert distance(0.28, ".27") == pytest.approx(2.0)


def test_a_data_set_without_printed_results_is_named():
    with pytest.raises(InputError, match="alliance_not_poolable has no printed result"):
        reproduce("alliance_not_poolable")
