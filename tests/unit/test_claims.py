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

NOT_CHECKABLE = "not checkable with what is here"
# Claim -> its verdict, and why.
WHY = {
    "robust_2018": ("supported", "the interval of r lies above 0, and the internet's r within it"),
    "thirty_percent": ("contradicted", "no printed r, squared, comes near 30%, not even at its upper limit"),
    "martin_regardless": ("depends on", "Martin et al. found no moderator, later syntheses did"),
    "rater_group": (NOT_CHECKABLE, "a difference is printed, its direction is not"),
    "group_effect": ("supported", "all three are above 0 once signs are aligned"),
    "internet_equal": ("depends on", "two of four correlations agree with that in person, two are smaller"),
    "video_level": (NOT_CHECKABLE, "every interval includes 0 and passes the margin: nobody can say"),
    "dropout": ("depends on", "true of the odds, not of the chances"),
    "telehealth_12rct": (NOT_CHECKABLE, "not significant, and no interval was read"),
    "smallest_sud_eating": (NOT_CHECKABLE, "no correlation is printed for either disorder"),
    "type_of_therapy": ("supported", "7.7% of variance against at most 1.0%"),
    "four_sessions": ("depends on", "two sessions reach .80, four are needed for .90"),
    "youth": ("supported", "all five are above 0"),
    "family": ("supported", "the level of the alliance: all three above 0; the split is another construct"),
    "any_measure": ("supported", "the synthesis says so, and no later one looked"),
    "irrespective": ("depends on", "in groups the orientation moderates"),
    "feedback": ("contradicted", "d of .15 and .27 are far below .50"),
    "parents": ("supported", "both estimates are above 0"),
    "repair": ("depends on", "repair yes; training is not significant in one of two"),
    "cohesion": ("supported", "the alliance's estimates agree with that of cohesion"),
    "empathy": ("supported", "all six are above 0"),
    "engagement": (NOT_CHECKABLE, "engagement yes, but nothing is held about adherence"),
    "components": ("supported", "every printed component is above 0"),
    "bond_most": ("contradicted", "the bond's is the smaller in both"),
    "every_diagnosis": (NOT_CHECKABLE, "yes for three, no correlation for the other two"),
}
EXPECTED = {claim: verdict for claim, (verdict, _) in WHY.items()}


def changed(entry: str, **numbers: object):
    """The registry with some cells of one entry replaced."""
    registry = am.published(align_signs=True)
    for column, value in numbers.items():
        registry.loc[registry["id"] == entry, column] = value
    return registry


def smd(estimate: float, low: float, high: float) -> dict[str, object]:
    return {"metric": "SMD", "estimate": estimate, "ci_low": low, "ci_high": high}


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
        ("dropout", "sharf2010_dropout", {"estimate": 0.2}, "contradicted"),
        ("dropout", "sharf2010_dropout", {"estimate": math.nan}, "not checkable with what is here"),
        ("youth", "shirk2011", {"ci_low": -0.02}, "depends on"),
        ("family", "welmers2018_level", {"ci_low": -0.02}, "depends on"),
        (
            "telehealth_12rct",
            "greenwood2022",
            {"estimate": 0.0, "ci_low": -0.1, "ci_high": 0.1, "metric": "SMD"},
            "supported",
        ),
        (
            "telehealth_12rct",
            "greenwood2022",
            {"estimate": 0.4, "ci_low": 0.1, "ci_high": 0.7, "metric": "SMD"},
            "contradicted",
        ),
        ("type_of_therapy", "wampold1997_treatments", {"estimate": 0.80}, "contradicted"),
        ("type_of_therapy", "wampold1997_treatments", {"estimate": math.nan}, "not checkable with what is here"),
        ("feedback", "dejong2021_feedback", {"estimate": 0.60, "ci_high": 0.70}, "depends on"),
        ("parents", "roest2023_parent_child", {"estimate": -0.01}, "depends on"),
        ("repair", "eubanks2018_training", {"notes": "p = .02"}, "supported"),
        ("cohesion", "alldredge2021", {"estimate": 0.10}, "depends on"),
        ("empathy", "elliott2018_empathy", {"ci_low": -0.01}, "depends on"),
        ("engagement", "bourke2021_eng_client", {"notes": "p = .30"}, "depends on"),
        ("every_diagnosis", "howard2022_ptsd", {"estimate": -0.34}, "depends on"),
    ],
)
def test_another_number_gives_another_verdict(claim, entry, numbers, becomes) -> None:
    assert verdict(claim, changed(entry, **numbers)) == becomes != EXPECTED[claim]


def test_the_margin_decides_what_counts_as_no_difference() -> None:
    """Of the three, clients' and therapists' intervals lie within .30, Norwood's only within .70."""
    assert [am.claims(margin=margin)["video_level"].verdict for margin in (0.2, 0.3, 0.7)] == [
        NOT_CHECKABLE,
        NOT_CHECKABLE,
        "supported",
    ]
    within = [step.holds for step in am.claims(margin=0.3)["video_level"].findings if step.essential]
    assert within == [True, True, None]
    assert am.claims(margin=0.7)["internet_equal"].verdict == "depends on"


def test_equivalence_difference_and_neither_are_three_answers() -> None:
    registry = changed("norwood2018", ci_high=-0.05)
    registry.loc[registry["id"] == "seuling2023_client", ["ci_low", "ci_high"]] = [-0.15, 0.05]
    client, therapist, norwood = (s for s in am.claims(registry=registry)["video_level"].findings if s.essential)
    assert (client.holds, therapist.holds, norwood.holds) == (True, None, False)
    assert client.calculation.endswith("[-0.15, 0.05], margin ±0.20: equivalent, the interval lies within the margin")
    assert "margin ±0.20: cannot say" in therapist.calculation
    assert norwood.calculation.endswith("a difference, the interval excludes 0 and passes the margin")
    assert verdict("video_level", registry) == "depends on"


def test_a_small_difference_that_is_significant_is_equivalent_all_the_same() -> None:
    registry = changed("seuling2023_client", ci_low=-0.15, ci_high=-0.03)
    assert am.claims(registry=registry)["video_level"].findings[0].holds is True


def test_points_of_a_scale_have_no_margin(audit) -> None:
    shaker = audit["video_level"].findings[-1]
    assert (shaker.essential, shaker.holds) == (False, None)
    assert "MD = 0.95 [-0.47, 2.38]: in points of a scale" in shaker.calculation


@pytest.mark.parametrize("claim", ["dropout", "four_sessions", "family", "type_of_therapy", "thirty_percent"])
def test_what_is_not_independent_cannot_decide(claim) -> None:
    registry = am.published(align_signs=True)
    registry.loc[registry["id"].isin(am.claims()[claim].ids), "independent"] = False
    found = am.claims(registry=registry)[claim]
    assert found.verdict == NOT_CHECKABLE != EXPECTED[claim]
    assert found.reason == "What bears on this claim cannot decide it."
    assert all("was read on a page of the kind that makes such claims" in s.calculation for s in found.findings)


def test_independence_of_one_entry_changes_a_verdict() -> None:
    assert verdict("repair", changed("eubanks2018_training", independent=False)) == "supported"
    assert verdict("cohesion", changed("group_alliance_cohesion_sem", independent=True)) == NOT_CHECKABLE


def test_another_construct_is_told_beside(audit) -> None:
    """A split alliance is not the level of the alliance, nor outcome adherence."""
    split = [step for step in audit["family"].findings if "split" in step.subject]
    assert [step.holds for step in split] == [True, False]
    assert not any(step.essential for step in split)
    registry = changed("welmers2018_level", ci_low=-0.02)
    assert verdict("family", registry) == "depends on"
    registry.loc[registry["id"] == "welmers2018_level", "relation"] = "split alliance-outcome"
    assert verdict("family", registry) == "supported"
    other = next(step for step in audit["engagement"].findings if step.ids == ("psychopharm2018",))
    assert "this is alliance-outcome, another construct" in other.calculation


def test_more_sessions_for_a_lower_dependability_would_support_the_claim(audit) -> None:
    rows = am.published(moderators=True)
    needed = rows["moderator"] == "sessions needed for a generalizability of .80"
    assert list(rows.loc[needed, "level"]) == ["2"]
    rows.loc[needed, "level"] = "5"
    assert verdict("four_sessions", moderators=rows) == "supported"
    assert verdict("four_sessions", moderators=rows[~rows["moderator"].str.startswith("sessions")]) == NOT_CHECKABLE
    from alliance_meta import sensitivity

    formula = sensitivity.dependability([2, 4], single=0.77).tidy()["dependability"]
    assert f"the mean of 2 has {formula[2]:.2f} and that of 4 {formula[4]:.2f}" in audit["four_sessions"].calculation
    assert formula[4] == printed("0.93")


def test_a_later_synthesis_that_disagrees_makes_it_depend() -> None:
    rows = am.published(moderators=True)
    blank = dict.fromkeys(rows.columns)
    later = {
        **blank,
        "id": "lococo2022_3level",
        "moderator": "alliance measure",
        "level": "significant",
        "estimate": math.nan,
    }
    assert verdict("any_measure", moderators=pd.DataFrame([*rows.to_dict("records"), later])) == "depends on"
    found = rows[
        ~((rows["id"].isin(["lococo2022_3level", "alldredge2021"])) & rows["moderator"].str.contains("orientation"))
    ]
    assert verdict("irrespective", moderators=found) == "supported"


def test_a_larger_bond_and_a_component_below_0_change_their_claims() -> None:
    rows = am.published(moderators=True)
    bond = (rows["id"] == "fluckiger2026_internet") & (rows["level"] == "bond")
    rows.loc[bond, "estimate"] = 0.30
    assert verdict("bond_most", moderators=rows) == "depends on"
    rows.loc[bond, "estimate"] = -0.02
    assert verdict("components", moderators=rows) == "depends on"


def test_how_many_were_counted_is_told_beside() -> None:
    audit = am.claims(registry=changed("fluckiger2018_f2f", notes="more than 20,000 patients"))
    clients = audit["robust_2018"].findings[-1]
    assert (clients.holds, clients.essential) == (False, False)
    assert am.claims()["robust_2018"].findings[-1].holds is True


def test_a_correlation_with_adherence_would_have_to_be_read() -> None:
    registry = changed("psychopharm2018", relation="alliance-adherence")
    reason = am.claims(registry=registry)["engagement"].reason
    assert "(pharmacotherapy), to be read by hand" in reason


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
    assert "Horvath et al. 2011 .275² = 7.6%, at the upper limit .30² = 9.0% < 30%" in thirty
    # The odds ratio of d = .55 that the list of claims gives.
    assert float(audit["dropout"].findings[0].calculation.rsplit("= ", 1)[1]) == printed("2.71")
    assert (
        "1.46 times as high; it is 2 times as high only where fewer than 21% complete" in audit["dropout"].calculation
    )
    norwood = audit["internet_equal"].findings[-1]
    assert (norwood.essential, norwood.holds) == (True, None)
    assert "SMD = -0.30 [-0.67, 0.07], margin ±0.20: cannot say" in norwood.calculation
    assert "noninferiority is not shown" in norwood.calculation


def test_two_times_as_likely_only_below_the_rate_given() -> None:
    """Odds of 2.71 to one: from a rate p to 2.71p/(1 - p + 2.71p), twice p where p = .71/3.42."""
    odds = math.exp(0.55 * math.pi / math.sqrt(3))
    rate = (odds - 2) / (2 * (odds - 1))
    assert odds * rate / (1 - rate + odds * rate) == pytest.approx(2 * rate, rel=1e-12)
    assert f"{100 * rate:.0f}" == "21"


def test_the_reason_names_whose_results_it_rests_on(audit) -> None:
    assert audit["dropout"].reason == "2 to 3 times: yes for the odds; no for the chances."
    assert audit["every_diagnosis"].reason.startswith("Above 0: yes for Cameron et al. 2018 (depression, CBT)")
    assert "not told for Graves et al. 2017 (eating disorders)" in audit["every_diagnosis"].reason
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
    assert sum(audit.counts().values()) == len(audit) == len(WHY)
    assert list(audit.counts()) == list(VERDICTS)
    document = audit.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["counts"]["contradicted"] == 3
    assert document["claims"][0]["speaker"] == "clinic or magazine"
    assert "thirty_percent: CONTRADICTED" in str(audit)


def test_what_is_refused(audit) -> None:
    with pytest.raises(InputError, match="there is no claim 'forty'; there are robust_2018"):
        audit["forty"]
    with pytest.raises(InputError, match="the registry lacks estimate; start from a copy of"):
        am.claims(registry=am.published().drop(columns="estimate"))
    twice = am.published(align_signs=True).iloc[[0, 0, 1]]
    with pytest.raises(InputError, match="the registry has an entry twice"):
        am.claims(registry=twice)
    with pytest.raises(InputError, match="the registry lacks independent"):
        am.claims(registry=am.published().drop(columns="independent"))
    with pytest.raises(InputError, match="margin=0 must be above 0"):
        am.claims(margin=0)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "dropout"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("dropout: DEPENDS ON\n  claim: A good alliance lowers dropout")
    assert "[no] where half complete with the lower alliance" in captured.out
    assert "note: A verdict says what the registry's rows give" in captured.err
    assert main(["claims", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["claims"]) == len(WHY)
    assert main(["claims"]) == 0
    assert "not checkable with what is here" in capsys.readouterr().out
    assert main(["claims", "nothing"]) == 1
