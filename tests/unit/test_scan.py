"""Statistics found in running text: nearly all of those planted, hardly anything else, on the right line."""

from __future__ import annotations

import time

import pytest

import alliance_meta as am
from alliance_meta.errors import CannotRunError
from alliance_meta.evidence.consistency_check import read_text, scan_text
from alliance_meta.evidence.scan import scan
from tests.unit.planted import DISTRACTORS, MINUS, planted_text

FOUND, FALSE = 0.95, 0.02


def plain(text: str) -> str:
    for sign in MINUS[1:]:
        text = text.replace(sign, "-")
    return text


def holds(result, planted) -> bool:
    """Whether every number of the planted statistic was read, under its right name."""
    return all(
        name in result.numbers and result.numbers[name].text == plain(text) for name, text in planted.numbers.items()
    )


@pytest.fixture(scope="module", params=[20110418, 7])
def scanned(request):
    text, planted = planted_text(request.param, 200)
    report = am.evidence.scan_text(text)
    by_line = {result.line: result for result in report.results}
    matches = [
        (one, by_line[line]) if line in by_line and holds(by_line[line], one) else (one, None) for line, one in planted
    ]
    return report, matches


def test_planted_statistics_are_found_on_their_line(scanned) -> None:
    _, matches = scanned
    assert len(matches) == 200
    assert sum(result is not None for _, result in matches) >= FOUND * 200


def test_little_else_is_found(scanned) -> None:
    report, matches = scanned
    wanted = {id(result) for _, result in matches if result is not None}
    others = [result for result in report.results if id(result) not in wanted]
    assert len(others) <= FALSE * len(report.results)


def test_right_statistics_are_not_called_wrong_and_wrong_ones_are(scanned) -> None:
    report, matches = scanned
    wrong = {(check.line, check.label) for check in report.problems}
    verdicts = [(one.wrong, (result.line, result.label) in wrong) for one, result in matches if result is not None]
    alarms = sum(said and not planted for planted, said in verdicts)
    caught = sum(said and planted for planted, said in verdicts)
    assert alarms <= FALSE * len(verdicts)
    assert caught >= FOUND * sum(planted for planted, _ in verdicts)
    assert sum(planted for planted, _ in verdicts) > 30


def test_a_text_without_statistics_gives_nothing() -> None:
    assert am.evidence.scan_text("\n".join(DISTRACTORS)).results == ()
    assert am.evidence.scan_text("").checks == ()


def numbers(text: str) -> list[dict[str, str]]:
    return [{name: one.text for name, one in result.numbers.items()} for result in scan(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "(k = 22, Cohen’s d = −.46, 95% confidence interval = .31–1.1) produced Q = 94.96",
            [{"k": "22", "estimate": "-.46", "ci_lb": ".31", "ci_ub": "1.1", "QE": "94.96"}],
        ),
        (
            "effect [Tau2 = −0.1562 (C.I. 95%: −0.2542 to −0.0582)].",
            [{"tau2": "-0.1562", "tau2_lb": "-0.2542", "tau2_ub": "-0.0582"}],
        ),
        (
            "g= 0.41, 95% confidence interval (CI) [0.28, 0.53], SE= 0.06",
            [{"estimate": "0.41", "ci_lb": "0.28", "ci_ub": "0.53", "se": "0.06"}],
        ),
        ("Q(df = 15) = 38.1595, p-val = 0.0009", [{"QE": "38.1595", "QEdf": "15", "QEp": "0.0009"}]),
        ("F(2, 45) = 3.21, MSE = 4.2, p = .05", [{"F": "3.21", "df": "2", "df2": "45", "p": ".05"}]),
        ("t = 2.10, df = 18, p = .050", [{"t": "2.10", "df": "18", "p": ".050"}]),
        ("(b = 0.12, SE = 0.03, t = 4.00)", [{"estimate": "0.12", "se": "0.03", "t": "4.00"}]),
        ("r = .278, p < .0001; equivalent d = .579", [{"estimate": ".278", "p": "< .0001", "d": ".579"}]),
        (
            "clients (r = .28, p < .001), therapists (r = .20, p = .003)",
            [{"estimate": ".28", "p": "< .001"}, {"estimate": ".20", "p": ".003"}],
        ),
        ("client  109  .28  [.25, .31]", [{"estimate": ".28", "ci_lb": ".25", "ci_ub": ".31"}]),
        ("SMD -0.30 (95% CI -0.67 to 0.07)", [{"estimate": "-0.30", "ci_lb": "-0.67", "ci_ub": "0.07"}]),
        ("t(38)\n= 2.20,\np =\n.034", [{"t": "2.20", "df": "38", "p": ".034"}]),
        ("t(38) ϭ 2.20, p Ͻ .05", [{"t": "2.20", "df": "38", "p": "< .05"}]),
    ],
)
def test_ways_to_print_a_result(text: str, wanted: list[dict[str, str]]) -> None:
    assert numbers(text) == wanted


def test_what_stands_in_another_sentence_or_paragraph_is_another_result() -> None:
    assert len(numbers("We found r = .28. The p of Q was lower, p = .03.")) == 1
    assert numbers("r = .28\n\n95% CI [.20, .36]") == [{"estimate": ".28"}]


def test_an_effect_called_z_is_one_only_with_an_interval_or_by_name() -> None:
    assert numbers("z = .30, 95% CI [.20, .39]") == [{"estimate": ".30", "ci_lb": ".20", "ci_ub": ".39"}]
    assert numbers("z = 3.06, p = .002") == [{"z": "3.06", "p": ".002"}]
    assert scan("Fisher's z = .30, SE = .05")[0].metric == "z"


def test_a_p_value_is_no_estimate_of_the_interval_behind_it() -> None:
    assert numbers("t(17) = 2.31, p = .033, CI [.02, .41]") == [{"t": "2.31", "df": "17", "p": ".033"}]


def test_the_level_of_the_interval_is_read() -> None:
    assert scan("r = .30, 90% CI [.20, .39]")[0].level == 0.90
    assert scan("r = .30, 95% CI [.20, .39]")[0].level == 0.95


def test_lines_are_counted_as_editors_count_them() -> None:
    text = "First.\r\nSecond.\r\n\r\nThen t(38) = 2.20, p = .034.\nAnd z = 1.00, p = .317.\n"
    assert [check.line for check in am.evidence.scan_text(text).checks] == [4, 5]


# --- decimal commas, one-tailed tests, and time ----------------------------------------------------------

GERMAN = """In der Stichprobe hing die Allianz mit dem Ergebnis zusammen, r(48) = .31, p < 0,05.
Kein Unterschied fand sich, t(20) = 2.09, p = 0,80.
Heterogeneity: Q(15) = 53.15, p < .001, I2 = 91,8%.
F(1, 19) = 4,44, p = 0,049.
"""


def test_decimal_commas_are_read_and_judged():
    found = {(one.line, one.rule): one for one in scan_text(GERMAN).checks}
    assert found[1, "p from r"].verdict == "consistent"
    assert found[2, "p from t"].verdict == "inconsistent"
    assert found[2, "p from t"].printed == "0.80"
    assert found[3, "I² from Q"].printed == "91.8%"
    assert found[4, "p from F"].verdict == "consistent"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("r = 0,31 [0,10; 0,50], k = 12", {"estimate": "0.31", "ci_lb": "0.10", "ci_ub": "0.50", "k": "12"}),
        ("r = ,31, 95% CI [,10; ,50]", {"estimate": ".31", "ci_lb": ".10", "ci_ub": ".50"}),
        ("r = 0.31 [0.10,0.50], N = 1,234", {"estimate": "0.31", "ci_lb": "0.10", "ci_ub": "0.50", "N": "1,234"}),
        ("z = 2,31, p = .02", {"z": "2.31", "p": ".02"}),
        ("Q(15) = 1,234, I2 = 91 %", {"I2": "91 %"}),
    ],
)
def test_no_number_ends_before_a_comma_that_digits_follow(text, numbers):
    (found,) = scan(text)
    assert {name: str(number) for name, number in found.numbers.items()} == numbers


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("t(20) = 2.09, p = .025, one-tailed.", "consistent"),
        ("t(20) = 2.09, p (one-tailed) = .025", "consistent"),
        ("t(20) = 2.09, p = .025 (1-tailed)", "consistent"),
        ("einseitig: t(20) = 2,09, p = ,025", "consistent"),
        ("t(20) = 2.09, p = .050, two-tailed", "consistent"),
        ("t(20) = 2.09, p = .025", "inconsistent"),
        ("t(20) = 2.09, p = .050, one-tailed", "inconsistent"),
    ],
)
def test_a_p_that_is_called_one_tailed_is_taken_so(text, verdict):
    (found,) = scan_text(text).checks
    assert found.verdict == verdict


LONG = {
    "blanks": "95 % CI " + " " * 20_000 + "[",
    "digits": "1" * 40_000,
    "letters": "a" * 40_000,
    "numbers": "1.1" * 15_000,
    "openings": "[.1, " * 10_000,
    "words": "nearly " * 8_000,
    "percent": "5 % of " * 8_000,
    "variances": "5 % variance " * 4_000,
    "intervals": "95 % CI " * 6_000,
    "cells": "1 " * 80_000,
    "gaps": ("t(20) = 2.09 " + "ab" * 20 + "! ") * 800,
}


@pytest.mark.parametrize("name", LONG)
def test_the_time_of_the_scanner_is_linear_in_the_text(name):
    text = LONG[name]
    half = min(_seconds(text[: len(text) // 4]) for _ in range(2))
    assert min(_seconds(text) for _ in range(2)) < 12 * half + 0.2


def _seconds(text: str) -> float:
    start = time.perf_counter()
    scan_text(text)
    return time.perf_counter() - start


def test_ten_thousand_results_in_one_line_are_read():
    report = scan_text("".join(f"t({10 + i % 90}) = 2.{i % 100:02d}, p=.03; " for i in range(10_000)))
    assert len(report.checks) == len(report.results) == 10_000


def test_what_no_paper_is_long_enough_for_is_refused(monkeypatch, tmp_path):
    with pytest.raises(am.InputError, match="more than 100,000 statistics, which no paper does"):
        scan_text("k=1 " * 100_001)
    monkeypatch.setattr("alliance_meta.evidence.scan.MOST_SIGNS", 2_000_000)
    with pytest.raises(am.InputError, match="2,000,001 signs, and no paper has more than 2 million"):
        scan_text(" " * 2_000_001)
    assert scan_text(" " * 2_000_000).checks == ()


def test_a_file_that_no_paper_is_long_enough_for_is_not_read(tmp_path):
    with (tmp_path / "long.txt").open("wb") as file:
        file.truncate(20_000_001)
    with pytest.raises(CannotRunError, match="20,000,001 bytes, and no paper has more than 20 million"):
        read_text(tmp_path / "long.txt")
