"""The R code of the reports is R, runs as it stands beside the data files, and gives the reports' numbers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reference.running import grammar_faults, missing_packages, run_each
from tests.reports.cases import NAMES, Report

DATA = Path(__file__).parents[2] / "data"
# metafor's searches stop at 1e-5 of the likelihood's slope; standard errors follow tau2.
SEARCHES = 2e-4
RUN = ("metafor", "clubSandwich", "robumeta")
FITTED = ("alliance-abstracts", "relationship-2011", "relationship-bayes", "relationship-raters")


def blocks(report: Report) -> Iterator[dict[str, Any]]:
    def walk(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            if part.get("type") == "code" and str(part["label"]).startswith("R code"):
                yield part
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                yield from walk(inner)

    return walk(report.results["sections"])


def source_of(block: dict[str, Any]) -> str:
    return str(block["label"]).removeprefix("R code for ")


def fitted(report: Report, source: str) -> list[Any]:
    """Return coefficients, standard errors and degrees of freedom of the models of one sheet, in the report's order."""
    found = []
    for analysis in report.results["analyses"].values():
        table = analysis["coefficients"]
        if analysis["provenance"]["source"] == source and "estimate" in table[0]:
            found.append([[row[key] for row in table] for key in ("estimate", "se", "ddf")])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_r(reports: dict[str, Report], name: str) -> None:
    found = [block["text"] for block in blocks(reports[name])]
    assert [fault for text in found for fault in grammar_faults(text)] == []
    assert bool(found) == bool(reports[name].results["analyses"])


@pytest.fixture(scope="module")
def in_r(reports: dict[str, Report], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The models of every report's R code, by one run of R."""
    if why := missing_packages(RUN):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("r")
    found = {(name, i): block for name in FITTED for i, block in enumerate(blocks(reports[name]))}
    for block in found.values():
        shutil.copy(next(DATA.rglob(source_of(block))), folder)
    fits = run_each({key: without_bayes(block["text"]) for key, block in found.items()}, folder)
    return {name: [fit for key, some in fits.items() if key[0] == name for fit in some] for name in FITTED}


@pytest.mark.reference
@pytest.mark.parametrize("name", FITTED)
def test_r_gives_the_numbers_of_the_report(reports: dict[str, Report], in_r: dict[str, list[Any]], name: str) -> None:
    ours = [fit for block in blocks(reports[name]) for fit in fitted(reports[name], source_of(block))]
    assert len(in_r[name]) == len(ours) > 0
    for rows, (estimate, se, ddf) in zip(in_r[name], ours, strict=True):
        b, error, df = np.array(rows, dtype=float).T
        assert b == pytest.approx(np.array(estimate), rel=SEARCHES, abs=1e-6)
        assert error == pytest.approx(np.array(se), rel=SEARCHES)
        said = [np.nan if isinstance(one, dict) else one for one in ddf]
        assert df == pytest.approx(np.array(said), rel=1e-3, nan_ok=True)


def without_bayes(code: str) -> str:
    """Return the models that metafor fits: bayesmeta, which Debian lacks, is held against in tests/reference."""
    parts = [part.replace("library(bayesmeta)\n", "") for part in code.split("\n\n")]
    return "\n\n".join(part for part in parts if "bayesmeta(" not in part)
