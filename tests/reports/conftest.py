from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from alliance_meta.reporting.build import build_report
from tests.reports.cases import NAMES, REPORTS, Report, small_sheet


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Build the reports once, whichever process of a run asks first."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "reports"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "built").exists():
            for name in NAMES:
                build_report(REPORTS / f"{name}.toml", out=root / name)
            (root / "built").touch()
    return {name: Report(root / name) for name in NAMES}


@pytest.fixture(params=NAMES)
def report(request: pytest.FixtureRequest, reports: dict[str, Report]) -> Report:
    return reports[request.param]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A folder with a small sheet of made-up rows, for reports on somebody's own file."""
    return small_sheet(tmp_path)
