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


TIMED = ("fit-20", "bootstrap", "step-79", "beta-79", "three-level-300", "che", "selection", "left-out-295")
CELLS = [(contender, case) for contender in ("model", "arrays") for case in TIMED]
PROGRAM = """
import json, sys
import run
cells = json.loads(sys.argv[1])
print(json.dumps([run.measure(contender, run.BY_NAME[case], budget=0) for contender, case in cells]))
"""


@pytest.mark.slow
def test_every_cell_can_be_timed():
    """All in one process, which is no way to compare them, but tells whether they run."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(CELLS)]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    timed = json.loads(done.stdout)
    assert len(timed) == len(CELLS)
    assert all(cell["times"][0] > 0 for cell in timed)


def test_a_cell_is_timed_in_a_process_of_its_own():
    done = run("--cell", "model", "fit-20", "--budget", "0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["times"][0] > 0
