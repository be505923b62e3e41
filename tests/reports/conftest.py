from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alliance_meta.reporting.build import build_report
from tests.reports.browsing import CHROMIUM
from tests.reports.cases import NAMES, REPORTS, Report, small_sheet

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Built(dict[str, Report]):
    """The reports by name, each built once, when a test of any process of a run first asks for it."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> Report:
        folder, built = self.root / name, self.root / f"{name}.built"
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not built.exists():
                build_report(REPORTS / f"{name}.toml", out=folder)
                built.touch()
        self[name] = Report(folder)
        return self[name]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "reports"
    root.mkdir(exist_ok=True)
    return Built(root)


@pytest.fixture(params=NAMES)
def report(request: pytest.FixtureRequest, reports: dict[str, Report]) -> Report:
    return reports[request.param]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """One page for all tests of a module: another costs a second."""
    return browser.new_page()


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A folder with a small sheet of made-up rows, for reports on somebody's own file."""
    return small_sheet(tmp_path)
