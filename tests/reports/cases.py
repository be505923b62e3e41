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


def small_sheet(folder: Path) -> Path:
    """Write a small sheet of made-up rows into the folder, and return the folder."""
    rows = ["study,year,r,n,rater", "A,2001,.20,50,client", "B,2002,.35,80,client", "C,2003,.02,40,therapist"]
    rows += ["D,2005,.21,60,therapist", "E,2006,.48,90,client"]
    (folder / "own.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
