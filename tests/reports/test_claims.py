"""The claims audit and the consistency check in reports: every verdict printed is the one computed."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.errors import InputError
from alliance_meta.evidence import published_results as registry
from alliance_meta.plots import frame_from_dict
from alliance_meta.reporting import build_report
from tests.reports.cases import REPORTS, Report
from tests.tolerances import CLOSED_FORM, printed

CLAIMS = REPORTS / "alliance-claims.toml"
DECLARED = """
title = "T"
[claims]
only = ["dropout", "thirty_percent"]
[consistency]
[[section]]
heading = "H"
text = "{claims.count} {consistency.checks}"
[[section.item]]
"""


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def declared(folder: Path, item: str) -> Path:
    path = folder / "own.toml"
    path.write_text(DECLARED + item, encoding="utf-8")
    return path


def with_numbers(monkeypatch: pytest.MonkeyPatch, entry: str, **numbers: Any) -> None:
    """Let the registry print other numbers for one entry."""
    original = registry.published

    def changed(*arguments: Any, **options: Any) -> pd.DataFrame:
        frame = original(*arguments, **options)
        for column, value in numbers.items():
            if column in frame and not options.get("moderators"):
                frame.loc[frame["id"] == entry, column] = value
        return frame

    monkeypatch.setattr(registry, "published", changed)


def test_every_verdict_printed_is_the_one_computed(reports: dict[str, Report]) -> None:
    report = reports["alliance-claims"]
    audit = am.claims()
    rows = {row["claim_id"]: row for row in report.results["tables"]["claims"]["rows"]}
    assert list(rows) == [one.claim_id for one in audit.verdicts]
    for one in audit.verdicts:
        assert rows[one.claim_id]["verdict"] == one.verdict
        assert report.results["quantities"]["claims"][one.claim_id]["value"] == one.verdict
        assert f"{one.claim}: {one.verdict}" in words(report.page)
        essential = [step.holds for step in one.findings if step.essential]
        counts = [essential.count(answer) for answer in (True, False, None)]
        assert [rows[one.claim_id][name] for name in ("yes", "no", "untold")] == counts


def test_every_step_is_shown_once_with_its_calculation(reports: dict[str, Report]) -> None:
    tables = reports["alliance-claims"].results["tables"]
    shown = [row for name, table in tables.items() if name.startswith("steps") for row in table["rows"]]
    shown = [row for row in shown if "group" not in row]
    expected = am.claims().steps()

    def plain(text: str) -> str:
        return text.casefold().replace("−", "-").replace("\u00a0", " ")

    found = [(row["claim_id"], plain(row["calculation"])) for row in shown]
    wanted = list(zip(expected["claim_id"], map(plain, expected["calculation"]), strict=True))
    assert sorted(found) == sorted(wanted)
    beside = expected[~expected["essential"]]
    assert sum(row["answer"].startswith("(") for row in shown) == len(beside)


@pytest.mark.parametrize(
    ("claim", "entry", "numbers", "becomes"),
    [
        ("thirty_percent", "horvath2011", {"estimate": 0.56, "ci_high": 0.60}, "depends on"),
        ("family", "welmers2018_level", {"ci_low": -0.02}, "depends on"),
        ("dropout", "sharf2010_dropout", {"estimate": 0.2}, "contradicted"),
    ],
)
def test_another_number_in_the_registry_gives_another_verdict_in_print(
    reports: dict[str, Report],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    claim: str,
    entry: str,
    numbers: dict[str, float],
    becomes: str,
) -> None:
    text = am.claims()[claim].claim
    assert f"{text}: {becomes}" not in words(reports["alliance-claims"].page)
    with_numbers(monkeypatch, entry, **numbers)
    build_report(CLAIMS, out=tmp_path, formats=["html"])
    assert f"{text}: {becomes}" in words((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_shares_are_squares_of_what_is_printed(reports: dict[str, Report]) -> None:
    results = reports["alliance-claims"].results
    frame = frame_from_dict(results["figures"]["share"]["frame"]).set_index("label")
    assert frame.loc["Horvath et al. 2011", "yi"] == pytest.approx(100 * 0.275**2, rel=CLOSED_FORM)
    ends = frame.loc["Flückiger et al. 2018", ["ci_lb", "ci_ub"]].tolist()
    assert ends == pytest.approx([100 * 0.256**2, 100 * 0.299**2], rel=CLOSED_FORM)
    assert pd.isna(frame.loc["Martin et al. 2000", "ci_lb"])
    assert frame.loc["What is claimed", "yi"] == pytest.approx(30, rel=CLOSED_FORM)
    found = results["quantities"]["claims"]
    assert found["share_r_needed"]["value"] == printed(".548")
    assert found["share_lowest"]["value"] == frame["yi"].min()
    assert found["share_highest"]["value"] == frame["yi"].drop("What is claimed").max()
    assert found["share_highest_limit"]["value"] == frame["ci_ub"].max()
    corrected = found["share_highest"]["value"] / found["share_reliability"]["value"]
    assert corrected == pytest.approx(found["share_claimed"]["value"], rel=CLOSED_FORM)


def test_no_reference_is_given_that_nobody_can_look_up(reports: dict[str, Report]) -> None:
    page = words(reports["alliance-claims"].page)
    assert "Crits-Christoph, Connolly Gibbons" in page
    assert "not named where it was read" not in page
    assert "Title not read" not in page


def test_the_claims_report_pools_nothing(reports: dict[str, Report]) -> None:
    results = reports["alliance-claims"].results
    assert results["analyses"] == {}
    assert [origin["source"] for origin in results["data"]] == ["popular_claims.csv", "results.csv", "moderators.csv"]
    assert any("never pool" in text for group in results["cautions"] for text in group["texts"])


def test_the_evidence_report_shows_every_disagreement_and_counts_all_checks(reports: dict[str, Report]) -> None:
    report = reports["alliance-evidence"]
    checked = am.consistency()
    rows = report.results["tables"]["consistency"]["rows"]
    assert [row["id"] for row in rows] == [check.label for check in checked.problems]
    assert {row["id"] for row in rows} >= {"burlingame2018_cohesion", "ocd_cbt2022"}
    counts = report.results["tables"]["consistency_counts"]["rows"]
    found = report.results["quantities"]["consistency"]
    done = [check for check in checked.checks if check.verdict != "not printed"]
    assert sum(row["checks"] for row in counts) == len(done) == found["checks"]["value"]
    assert sum(row["inconsistent"] for row in counts) == len(rows) == found["wrong"]["value"]
    assert sum(row["consistent"] for row in counts) == found["consistent"]["value"]
    for row in rows:
        assert row["reading"] in words(report.page)


def test_another_printed_number_is_another_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = declared(tmp_path, 'table = "consistency"')
    with_numbers(monkeypatch, "fluckiger2018_f2f", ci_printed="[.290, .299]", ci_low_printed=".290")
    build_report(path, out=tmp_path / "out", formats=["html"])
    page = words((tmp_path / "out/report.html").read_text(encoding="utf-8"))
    assert "Flückiger et al. 2018 Estimate inside its interval" in page


def test_some_claims_only(tmp_path: Path) -> None:
    build_report(declared(tmp_path, 'table = "claims"'), out=tmp_path / "out", formats=["tables"])
    lines = (tmp_path / "out/tables/claims.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "claim,verdict,yes,no,untold"
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ('table = "claim_steps"\nof = "dropuot"', "'dropuot'; did you mean 'dropout'"),
        ('table = "claim_steps"\nof = "youth"', "'youth' is no claim here"),
        ('figure = "shares"\nof = "dropout"', "figure='shares' shows of = 'claims', not 'dropout'"),
        ('table = "umbrella"', r"\[umbrella\] is not declared"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, item: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_report(declared(tmp_path, item))


def test_an_unknown_claim_and_an_impossible_level(tmp_path: Path) -> None:
    path = declared(tmp_path, 'table = "claims"')
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"dropout"', '"drop"'), encoding="utf-8")
    with pytest.raises(InputError, match="there is no claim 'drop'"):
        build_report(path)
    path.write_text(text.replace("[consistency]", "[consistency]\nalpha = 2"), encoding="utf-8")
    with pytest.raises(InputError, match="alpha is 2"):
        build_report(path)
