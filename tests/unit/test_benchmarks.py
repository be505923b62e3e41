"""The page of times shows the committed run, that run is whole, and the benchmark itself still works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = json.loads((BENCHMARKS / "results.json").read_text("utf-8"))


def run(*options):
    command = [sys.executable, str(BENCHMARKS / "run.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_page_shows_the_committed_run():
    done = run("--check")
    assert done.returncode == 0, done.stderr


def test_every_contender_gave_the_same_number():
    wrong = {
        (case, name)
        for case, row in RESULTS["cells"].items()
        for name, cell in row.items()
        if cell.get("failed") in ("another number", "error")
    }
    assert not wrong


def test_the_run_had_metafor_and_every_peer():
    assert RESULTS["missing"] == []


@pytest.mark.parametrize("contender", ["model", "arrays"])
@pytest.mark.parametrize("case", ["fit-20", "bootstrap", "three-level-300", "che"])
def test_a_cell_can_be_timed(contender, case):
    done = run("--cell", contender, case, "--budget", "0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["times"][0] > 0
