"""docs/choices.md holds the numbers that the shipped data give, and no others."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

CHOICES = runpy.run_path(str(Path(__file__).with_name("choices.py")))
TEXT = CHOICES["PAGE"].read_text(encoding="utf-8")
TABLES = {match["name"]: match["table"] for match in CHOICES["BLOCK"].finditer(TEXT)}


def test_every_table_is_on_the_page_once() -> None:
    assert sorted(re.findall(r"<!-- table: (.+?) -->", TEXT)) == sorted(CHOICES["TABLES"])
    assert set(TABLES) == set(CHOICES["TABLES"])


@pytest.mark.parametrize("name", list(CHOICES["TABLES"]))
def test_the_page_holds_what_is_computed(name: str) -> None:
    assert TABLES[name] == CHOICES["TABLES"][name](), "run: PYTHONPATH=. python tests/docs/choices.py"


def test_no_result_is_typed_into_the_prose() -> None:
    prose = CHOICES["BLOCK"].sub("", TEXT)
    assert re.findall(r"\d*\.\d+", prose) == []


def test_what_the_prose_says_of_the_estimators_is_true() -> None:
    fits = {method: CHOICES["fit"](method=method) for method in ("REML", "ML", "DL", "PM", "HE", "HS", "SJ", "EE")}
    pooled = {method: float(fit.predict(scale="r")["pred"].iloc[0]) for method, fit in fits.items()}
    without = pooled.pop("EE")
    spread = max(pooled.values()) - min(pooled.values())
    tau2 = [fits[method].tau2 for method in pooled]
    assert spread / pooled["REML"] < 0.1 < (max(tau2) - min(tau2)) / fits["REML"].tau2
    assert min(abs(value - without) for value in pooled.values()) > 3 * spread
