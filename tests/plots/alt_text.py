"""What a text alternative says, and whether the frame says so too."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd

# Where p is called small.
CONVENTION = re.compile(r"p < \.\d+")
# What stands for a correlation nearer to 1 than its decimals can say.
NEARLY_ONE = re.compile(r"[<>] [\u2212-]?\.9+\b")
DECIMALS = re.compile(r"(?<![\w.])[\u2212-]?\d*\.\d+(?![\w.]*\d)")


def unknown(frame: pd.DataFrame) -> list[str]:
    """Return the decimal numbers of a frame's text alternative that neither its cells nor its other words hold."""
    said = str(frame.attrs["description"])
    others = {name: value for name, value in frame.attrs.items() if name != "description"}
    words = json.dumps([others, frame.select_dtypes(object).to_numpy().tolist()], ensure_ascii=False, default=str)
    cells = frame.select_dtypes("number").to_numpy(dtype=float).ravel()
    cells = cells[np.isfinite(cells)]
    found = []
    for text in DECIMALS.findall(NEARLY_ONE.sub("", CONVENTION.sub("", said))):
        half = 0.5001 * 10.0 ** -len(text.partition(".")[2])
        value = float(text.replace("\u2212", "-"))
        if text not in words and not (np.abs(cells - value) <= half).any():
            found.append(text)
    return found
