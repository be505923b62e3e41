"""A small stored picture of every plot, for what numbers cannot see.

After a wanted change: ``python -m tests.plots.test_baselines`` draws them anew, or those that are named; look at them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from alliance_meta import che, sensitivity
from alliance_meta.evidence.umbrellas import umbrella
from alliance_meta.plots import (
    cumulative,
    figure_bytes,
    forest,
    forest_data,
    forest_pages,
    leave_one_out,
    published_forest_data,
)
from alliance_meta.plots.sheet.figures import NotebookFigure
from tests.plots.cases import dependent, extremes, fitted, molloy, quiet
from tests.plots.charts import DRAW, figure, first

BASELINE = Path(__file__).parent / "baseline"
DPI = 50
COLOURS = 64
# Root mean square of grey levels; other versions of FreeType move letters by a part of a pixel.
TOLERANCE = 4.0

# Where the first case of a plot does not show most of it.
TELLING = {
    "bubble": "bubble of levels",
    "caterpillar": "caterpillar of many",
    "development": "development, every result",
    "evidence_map": "evidence_map of a fit",
    "prisma": "prisma of everything",
    "funnel": "funnel with lines and filled",
    "means": "means with letters",
    "posterior": "posterior of tau",
    "predictive": "predictive of Q",
    "smooth": "smooth of a rater",
}
CASES: dict[str, Callable[[], NotebookFigure]] = {
    **{plot: lambda plot=plot: figure(TELLING.get(plot) or first(plot)) for plot in DRAW},  # type: ignore[misc]
    "bubble-line": lambda: figure("bubble"),
    "cumulative": lambda: cumulative(sensitivity.cumulative(molloy())),
    "extremes": lambda: forest(extremes(), smallest_effect=0.1),
    "forest": lambda: forest(forest_data(molloy(), columns=["controls", "design"], order="year")),
    "forest-nested": lambda: forest(quiet(lambda: che(dependent(24, 8))), columns=["rater"], order="-effect"),
    "forest-published": lambda: forest(published_forest_data(umbrella().frame)),
    "forest-subgroups-last-page": lambda: forest_pages(
        quiet(lambda: forest_data(fitted(97), by="modality", rob=["bias"]))
    )[-1],
    "jama": lambda: forest(extremes(), layout="jama", direction=("worse outcome", "better outcome")),
    "leave_one_out": lambda: leave_one_out(sensitivity.leave_one_out(molloy())),
}


def picture(name: str) -> Any:
    """Draw a case small."""
    drawn = figure_bytes(CASES[name](), format="png", dpi=DPI)
    return Image.open(io.BytesIO(drawn)).convert("RGB")


@pytest.mark.mpl
@pytest.mark.skipif(
    tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11), reason="letters are drawn otherwise since 3.11"
)
@pytest.mark.parametrize("name", sorted(CASES))
def test_looks_as_it_did(name: str) -> None:
    with Image.open(BASELINE / f"{name}.png") as image:
        stored = np.asarray(image.convert("RGB"), dtype=float)
    drawn = np.asarray(picture(name), dtype=float)
    assert drawn.shape == stored.shape
    assert float(np.sqrt(np.mean((drawn - stored) ** 2))) < TOLERANCE


def test_every_baseline_has_its_case_and_all_are_small() -> None:
    files = list(BASELINE.glob("*.png"))
    assert sorted(path.stem for path in files) == sorted(CASES)
    assert sum(path.stat().st_size for path in files) < 1_000_000


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        picture(case).quantize(COLOURS).save(BASELINE / f"{case}.png", optimize=True)
