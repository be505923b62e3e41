"""A report of 10,000 studies: how long it takes, and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reports.test_finished import HEAD, many

ROOT = Path(__file__).parents[2]
RUN = """
import resource, sys, warnings
warnings.simplefilter("ignore")
from alliance_meta.reporting import build_report
build_report("own.toml")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_ten_thousand_studies_take_a_minute_and_a_gigabyte(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(many(10_000), encoding="utf-8")
    items = '[[section.item]]\nforest = "a"\n[[section.item]]\ntable = "studies"\nof = "a"\n'
    analysis = '[[analysis]]\nid = "a"\nlabel = "A"\ndata = "own.csv"\n'
    (tmp_path / "own.toml").write_text(HEAD + items + analysis, encoding="utf-8")
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - start < 60
    assert int(done.stdout) < 1_000_000
    made = {path.name for path in (tmp_path / "build/own").rglob("*") if path.is_file()}
    assert {"report.html", "report.pdf", "forest_a.html", "forest_a.png", "studies_a.csv"} <= made
