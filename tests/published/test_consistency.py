"""The 51 recomputations of data/published/expected_consistency.csv, by the general rules and nothing else."""

from __future__ import annotations

import re

import pytest

import alliance_meta as am
from alliance_meta.effects.datasets import data_root, read_resource_text
from alliance_meta.evidence.consistency_check import registry_results
from alliance_meta.evidence.printed import PrintedResult, read_result
from alliance_meta.evidence.rules import check_result
from alliance_meta.evidence.scan import scan_into

pytestmark = pytest.mark.published

ROWS = read_resource_text(data_root() / "published", "expected_consistency").to_dict("records")
REGISTRY = {result.label: result for result in registry_results()}
REJECTED = "hypothesis rejected (t(nES-1) fits instead)"

# What the file calls each check -> what the rules call it.
RULES = {
    r"CI symmetric": "estimate amid its interval",
    r"d = 2r": "d from r",
    r"I2=": "I² from Q",
    r"p of Q": "p from Q",
    r"Qbetween|QM": "p from QM",
    r"CI = tanh": "interval from SE",
    r"p from t": "p from estimate and SE",
    r"CI implied by z": "interval from z",
    r"\d+/\d+": "average n from N and k",
    r"r\^2": "r² from r",
    r"d inside": "estimate inside its interval",
    r"tau2 >= 0": "possible value",
}


def rule_of(row) -> str:
    return next(rule for pattern, rule in RULES.items() if re.match(pattern, row["check"]))


def as_printed(row) -> PrintedResult:
    """The numbers of the row as a reader meets them: the registry's entry, and what the row prints besides."""
    rule, entry, text = rule_of(row), REGISTRY[row["id"]], row["printed"]
    if rule == "average n from N and k":
        return entry.having(read_result({"mean_n": text.removeprefix("average ")}).numbers)
    if rule == "r² from r":
        return entry.having(read_result({"r2": text.split(" (")[0].strip("'")}).numbers)
    if rule == "p from QM":
        moderators = am.published(moderators=True).query(f"id == '{row['id']}'")
        [statistic] = moderators["test_statistic"].dropna().unique()
        return scan_into(PrintedResult({}), f"{statistic}, p {text.removeprefix('p')}")
    if rule in ("d from r", "I² from Q", "estimate inside its interval", "possible value"):
        return scan_into(PrintedResult({}), text)
    return entry


def check_of(row):
    [check] = [check for check in check_result(as_printed(row)) if check.rule == rule_of(row)]
    return check


def verdict_of(row) -> str:
    check = check_of(row)
    if "normal" in row["check"]:
        fits = {one.words: one.fits for one in check.readings}
        if not fits["Fisher z, normal"]:
            assert re.match(r"Fisher z, t with df = .*number of effects less one", check.reading)
            return REJECTED
    return "INCONSISTENT" if check.wrong else "ok"


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['id']}: {row['check'][:25]}" for row in ROWS])
def test_verdict(row) -> None:
    assert verdict_of(row) == row["verdict"]


def test_the_file_has_51_rows_with_three_printed_errors() -> None:
    verdicts = [row["verdict"] for row in ROWS]
    assert len(verdicts) == 51
    assert {verdict: verdicts.count(verdict) for verdict in set(verdicts)} == {"ok": 46, "INCONSISTENT": 3, REJECTED: 2}


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d*\.?\d+(?:e-\d+)?", text)]


RECOMPUTED = [row for row in ROWS if rule_of(row) not in ("possible value", "estimate inside its interval")]


@pytest.mark.parametrize("row", RECOMPUTED, ids=[f"{row['id']}: {row['check'][:25]}" for row in RECOMPUTED])
def test_what_the_file_recomputes_lies_in_what_follows(row) -> None:
    check = check_of(row)
    text = row["computed"].split("->r ")[-1].split("I2=")[-1]
    if "normal" in row["check"]:
        reading = next(one for one in check.readings if one.words == "Fisher z, normal")
    else:
        reading = next(one for one in check.readings if one.fits or check.verdict != "consistent")
    for value, follows in zip(numbers(text), reading.follows, strict=False):
        decimals = len(str(value).partition(".")[2]) if "e" not in str(value) else 8
        half = 0.5 * 10.0**-decimals * (1 + 1e-9)
        assert follows.low - half <= value <= follows.high + half


def test_the_registry_holds_three_results_that_disagree_with_themselves() -> None:
    wrong = {(check.label, check.rule) for check in am.consistency().problems}
    assert wrong == {
        ("burlingame2018_cohesion", "d from r"),
        ("igra2020", "estimate inside its interval"),
        ("ocd_cbt2022", "possible value"),
    }


def test_the_reading_is_named_that_would_make_the_disagreement_vanish() -> None:
    said = {check.label: check.reading for check in am.consistency().problems}
    assert said["burlingame2018_cohesion"] == "this d needs an r of 0.267 to 0.272"
    assert "the sign of the estimate turned would fit" in said["igra2020"]
    assert "as an effect does and a variance does not" in said["ocd_cbt2022"]
