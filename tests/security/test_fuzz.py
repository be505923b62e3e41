"""Made-up sheets, options, declarations and descriptions break none of the five properties; see `fuzz`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.security import fuzz


def _told(seed: int, wrong: dict[int, str]) -> str:
    return "\n".join(f"case {number}: {reason}\n{fuzz.made(seed, number)}" for number, reason in wrong.items())


def test_a_hundred_and_fifty_made_up_files_break_nothing() -> None:
    seconds = float(os.environ.get("FUZZ_SECONDS", "25"))
    count, wrong = fuzz.run(seed=13, seconds=seconds, most=150)
    assert count > 5
    assert wrong == {}, _told(13, wrong)


@pytest.mark.slow
def test_ten_minutes_of_made_up_files_break_nothing() -> None:
    count, wrong = fuzz.run(seed=14, seconds=600)
    assert count > 100
    assert wrong == {}, _told(14, wrong)


@pytest.mark.parametrize(
    ("behave", "word"),
    [
        (lambda words: 3, "exit code 3"),
        (lambda words: {}["x"], "KeyError"),
        (lambda words: Path("sheet.csv").write_text("gone") and 0, "written or changed"),
        (lambda words: Path("../outside/canary").write_text("x") and 0, "outside/canary"),
        (lambda words: Path("out.csv").write_text("half") and 1, "and yet there is"),
        (lambda words: print("Traceback (most recent call last)") or 0, "a traceback is printed"),
    ],
)
def test_the_fuzzer_sees_each_property_broken(tmp_path: Path, monkeypatch, behave, word: str) -> None:
    monkeypatch.setattr(fuzz, "command_line", behave)
    assert word in fuzz.broken(fuzz.Case({"sheet.csv": b"r,n\n"}, ["fit"]), tmp_path / "case")


def test_a_case_is_the_same_whenever_its_number_is_given() -> None:
    assert all(str(fuzz.made(1, number)) == str(fuzz.made(1, number)) for number in range(20))
