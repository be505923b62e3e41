"""docs/match.md shows what `match` says, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alliance_meta.evidence.routes import METHODS
from alliance_meta.sensitivity import match

PAGE = (Path(__file__).parents[2] / "docs" / "match.md").read_text("utf-8")
OUTPUTS = re.findall(r"<!-- output: (.+?) \| (\w+) -->\n```\n(.*?)\n```", PAGE, re.S)


@pytest.mark.parametrize(("printed", "name", "shown"), OUTPUTS)
def test_what_is_shown_is_what_match_says(printed: str, name: str, shown: str) -> None:
    said = str(match(printed, name)).splitlines()
    assert said[: len(shown.splitlines())] == shown.splitlines()


def test_the_page_shows_outputs_and_names_every_estimator() -> None:
    assert len(OUTPUTS) == 2
    row = next(line for line in PAGE.splitlines() if line.startswith("| estimator |"))
    assert all(method in row for method in METHODS if method != "EE")


def test_what_is_said_of_two_articles_is_true() -> None:
    for name, printed in (("vaniddekinge2012", "r = .23"), ("berry2012", "r = .32")):
        fits = match(printed, name).fits
        assert any(one.route.model == "mean" and one.route.method == "ni" for one in fits)
        assert not any(one.route.model == "random" and one.route.method == "HS" for one in fits if one.route.usual)
