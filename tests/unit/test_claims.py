"""The claims audit: every verdict follows from rows of the registry, and another number gives another verdict."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.cli import main
from alliance_meta.effects.datasets import data_root, read_resource
from alliance_meta.errors import InputError
from alliance_meta.evidence.claim_tests import moderates, short
from alliance_meta.evidence.claims_audit import QUESTIONS, VERDICTS, judge
from tests.tolerances import printed

EXPECTED = {
    "robust_2018": "supported",
    "thirty_percent": "contradicted",
    "martin_regardless": "depends on",
    "rater_group": "not checkable with what is here",
    "group_effect": "supported",
    "internet_equal": "depends on",
    "dropout": "depends on",
    "telehealth_12rct": "not checkable with what is here",
    "smallest_sud_eating": "not checkable with what is here",
    "type_of_therapy": "not checkable with what is here",
    "four_sessions": "not checkable with what is here",
    "youth": "supported",
    "family": "depends on",
}


def changed(entry: str, **numbers: float):
    """The registry with some numbers of one entry replaced."""
    registry = am.published(align_signs=True)
    for column, value in numbers.items():
        registry.loc[registry["id"] == entry, column] = value
    return registry


def verdict(claim: str, registry=None, moderators=None):
    return am.claims(registry=registry, moderators=moderators)[claim].verdict


@pytest.fixture(scope="module")
def audit():
    return am.claims()


def test_the_verdicts(audit) -> None:
    assert {one.claim_id: one.verdict for one in audit.verdicts} == EXPECTED


def test_every_listed_claim_has_questions_and_no_other() -> None:
    listed = read_resource(data_root() / "claims", 0)
    assert set(QUESTIONS) == set(listed["claim_id"]) == set(EXPECTED)


def test_a_verdict_rests_on_the_entries_that_the_list_names(audit) -> None:
    listed = read_resource(data_root() / "claims", 0).set_index("claim_id")["published_ids"].dropna()
    for claim, cell in listed.items():
        assert set(cell.split(";")) & set(audit[claim].ids)
    assert all(set(one.ids) <= set(am.published()["id"]) for one in audit.verdicts)


@pytest.mark.parametrize(
    ("claim", "entry", "numbers", "becomes"),
    [
        ("robust_2018", "fluckiger2018_f2f", {"ci_low": -0.01}, "depends on"),
        ("robust_2018", "fluckiger2018_internet", {"estimate": 0.10}, "depends on"),
        ("robust_2018", "fluckiger2018_f2f", {"estimate": math.nan}, "not checkable with what is here"),
        ("thirty_percent", "horvath2011", {"estimate": 0.55}, "depends on"),
        ("thirty_percent", "horvath2011", {"ci_high": 0.56}, "depends on"),
        ("group_effect", "alldredge2021", {"estimate": -0.17}, "depends on"),
        ("internet_equal", "aafjes2024_tele", {"ci_high": 0.27}, "supported"),
        ("dropout", "sharf2010_dropout", {"estimate": 0.2}, "contradicted"),
        ("dropout", "sharf2010_dropout", {"estimate": math.nan}, "not checkable with what is here"),
        ("youth", "shirk2011", {"ci_low": -0.02}, "depends on"),
        ("family", "welmers2018_split", {"ci_low": 0.02}, "supported"),
    ],
)
def test_another_number_gives_another_verdict(claim, entry, numbers, becomes) -> None:
    assert verdict(claim, changed(entry, **numbers)) == becomes != EXPECTED[claim]


def test_correlations_of_30_percent_would_support_the_claim() -> None:
    registry = am.published(align_signs=True)
    registry["estimate"] = 0.56
    registry["ci_high"] = 0.6
    assert verdict("thirty_percent", registry) == "supported"


def test_values_per_rater_would_decide_what_now_cannot_be_told() -> None:
    rows = am.published(moderators=True)
    levels = [
        ("alliance rater", "group member", 0.25),
        ("alliance rater", "therapist", 0.10),
        ("theoretical orientation", "interpersonal", 0.28),
        ("theoretical orientation", "cognitive-behavioural", 0.12),
    ]
    blank = dict.fromkeys(rows.columns)
    added = [
        {**blank, "id": entry, "moderator": topic, "level": level, "estimate": value}
        for entry in ("alldredge2021", "lococo2022_3level")
        for topic, level, value in levels
    ]
    more = pd.DataFrame([*rows.to_dict("records"), *added])
    assert verdict("rater_group", moderators=more) == "supported"
    more.loc[(more["level"] == "interpersonal"), "estimate"] = 0.05
    assert verdict("rater_group", moderators=more) == "depends on"


def test_later_syntheses_without_moderators_would_support_martin() -> None:
    rows = am.published(moderators=True)
    rows = rows[rows["id"].isin(["martin2000", "fluckiger2018_f2f"])]
    assert verdict("martin_regardless", moderators=rows) == "supported"


def test_a_correlation_for_the_disorders_would_make_their_claim_checkable() -> None:
    registry = changed("graves2017_ed", estimate=0.05, metric="r")
    registry.loc[registry["id"] == "fluckiger2013", "estimate"] = 0.06
    assert verdict("smallest_sud_eating", registry) == "supported"
    registry.loc[registry["id"] == "fluckiger2013", "estimate"] = 0.40
    assert verdict("smallest_sud_eating", registry) == "depends on"


def test_the_calculation_is_shown(audit) -> None:
    thirty = audit["thirty_percent"].calculation
    assert "Horvath et al. 2011 .275² = 7.6 %, at the upper limit .30² = 9.0 % < 30 %" in thirty
    # The odds ratio of d = .55 that the list of claims gives.
    assert float(audit["dropout"].findings[0].calculation.rsplit("= ", 1)[1]) == printed("2.71")
    assert (
        "1.46 times as high; it is 2 times as high only where fewer than 21 % complete" in audit["dropout"].calculation
    )
    norwood = audit["internet_equal"].findings[-1]
    assert (norwood.essential, norwood.holds) == (False, True)
    assert "SMD = -0.30 [-0.67, 0.07]: includes 0" in norwood.calculation


def test_two_times_as_likely_only_below_the_rate_given() -> None:
    """Odds of 2.71 to one: from a rate p to 2.71p/(1 - p + 2.71p), twice p where p = .71/3.42."""
    odds = math.exp(0.55 * math.pi / math.sqrt(3))
    rate = (odds - 2) / (2 * (odds - 1))
    assert odds * rate / (1 - rate + odds * rate) == pytest.approx(2 * rate, rel=1e-12)
    assert f"{100 * rate:.0f}" == "21"


def test_the_reason_names_whose_results_it_rests_on(audit) -> None:
    assert audit["family"].reason == (
        "Above 0: yes for Friedlander et al. 2018, Welmers-van de Poll et al. 2018; "
        "no for Welmers-van de Poll et al. 2018 (split alliance)."
    )
    assert "prints no value and no interval" in audit["telehealth_12rct"].reason


def test_without_questions_a_claim_cannot_be_checked() -> None:
    assert judge(())[0] == "not checkable with what is here"


@pytest.mark.parametrize(
    ("level", "statistic", "p", "estimate", "said"),
    [
        ("not a moderator (abstract)", None, None, math.nan, False),
        ("couple vs family: not different", None, None, math.nan, False),
        ("'relation remains consistent across' (abstract)", None, None, math.nan, False),
        ("significant (no value)", None, None, math.nan, True),
        ("younger: stronger", None, None, math.nan, True),
        ("patient > therapist", "Qbetween = 3.95, df = 1", ".047", math.nan, True),
        ("single-predictor meta-regression", None, ".26", math.nan, False),
        ("task", "QM(3)=26.85", "<0.001", 0.28, True),
        ("client", None, ".003", 0.36, None),
        ("CBT; IPT; Psychodynamic", None, None, math.nan, None),
    ],
)
def test_what_a_moderator_row_says(level, statistic, p, estimate, said) -> None:
    assert moderates({"level": level, "test_statistic": statistic, "p": p, "estimate": estimate}) is said


def test_correlations_are_written_as_papers_write_them() -> None:
    assert [short(value) for value in (0.26, 0.278, -0.004, 0.3, 1.1)] == [".26", ".278", "-.004", ".30", "1.10"]


def test_frames_and_dictionary(audit) -> None:
    frame, steps = audit.tidy(), audit.steps()
    assert list(frame["claim_id"]) == list(EXPECTED)
    assert len(steps) == sum(len(one.findings) for one in audit.verdicts)
    assert sum(audit.counts().values()) == len(audit) == 13
    assert list(audit.counts()) == list(VERDICTS)
    document = audit.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["counts"]["contradicted"] == 1
    assert "thirty_percent: CONTRADICTED" in str(audit)


def test_what_is_refused(audit) -> None:
    with pytest.raises(InputError, match="there is no claim 'forty'; there are robust_2018"):
        audit["forty"]
    with pytest.raises(InputError, match="the registry lacks estimate; start from a copy of"):
        am.claims(registry=am.published().drop(columns="estimate"))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "dropout"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("dropout: DEPENDS ON\n  claim: A good alliance lowers dropout")
    assert "[no] where half complete with the lower alliance" in captured.out
    assert "note: A verdict says what the registry's rows give" in captured.err
    assert main(["claims", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["claims"]) == 13
    assert main(["claims"]) == 0
    assert "not checkable with what is here" in capsys.readouterr().out
    assert main(["claims", "nothing"]) == 1
