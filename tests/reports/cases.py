from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parents[2] / "reports"
NAMES = (
    "alliance-abstracts",
    "alliance-claims",
    "alliance-evidence",
    "relationship-2011",
    "relationship-bayes",
    "relationship-raters",
)


class Report:
    """One built report: its folder, its results and its page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: Mapping[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        self.page = (folder / "report.html").read_text(encoding="utf-8")
        self.pdf = (folder / "report.pdf").read_bytes()
