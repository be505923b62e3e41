from __future__ import annotations

from pathlib import Path

import pytest

from alliance_meta.reporting.build import build_report
from tests.reports.cases import NAMES, REPORTS, Report


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    root = tmp_path_factory.mktemp("reports")
    for name in NAMES:
        build_report(REPORTS / f"{name}.toml", out=root / name)
    return {name: Report(root / name) for name in NAMES}


@pytest.fixture(params=NAMES)
def report(request: pytest.FixtureRequest, reports: dict[str, Report]) -> Report:
    return reports[request.param]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A folder with a small sheet of made-up rows, for reports on somebody's own file."""
    rows = ["study,year,r,n,rater", "A,2001,.20,50,client", "B,2002,.35,80,client", "C,2003,.02,40,therapist"]
    rows += ["D,2005,.21,60,therapist", "E,2006,.48,90,client"]
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path
