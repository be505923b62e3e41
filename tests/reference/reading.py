"""Reading the reference files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "R"
DATASETS = ("molloy2014", "mcdaniel1994", "crede2010")
MEASURES = ("ZCOR", "COR", "UCOR")


@cache
def reference(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def numbers(value: Any) -> np.ndarray:
    """Return a JSON value as a flat float array, null as NaN."""
    return np.array(value, dtype=float).ravel()
