"""A few stored pictures, for what numbers cannot see.

After a wanted change: ``python -m tests.plots.test_baselines`` draws them anew; look at them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
from matplotlib.testing.compare import compare_images

from alliance_meta import che
from alliance_meta.evidence.umbrellas import umbrella
from alliance_meta.plots import forest, forest_data, forest_pages, published_forest_data, save_figure
from alliance_meta.plots.sheet.figures import NotebookFigure
from tests.plots.cases import dependent, extremes, fitted, molloy, quiet
from tests.plots.charts import draw

BASELINE = Path(__file__).parent / "baseline"
DPI = 60
# Root mean square of grey levels; other versions of FreeType move letters by a part of a pixel.
TOLERANCE = 6.0

CASES: dict[str, Callable[[], NotebookFigure]] = {
    "molloy2014": lambda: forest(forest_data(molloy(), columns=["controls", "design"], order="year")),
    "evidence-map": lambda: draw("evidence_map of a fit"),
    "prisma": lambda: draw("prisma of everything"),
    "rob": lambda: draw("rob"),
    "development": lambda: draw("development, every result"),
    "extremes": lambda: forest(extremes(), smallest_effect=0.1),
    "sequential": lambda: draw("sequential"),
    "subgroups-last-page": lambda: forest_pages(quiet(lambda: forest_data(fitted(97), by="modality", rob=["bias"])))[
        -1
    ],
    "bubble-levels": lambda: draw("bubble of levels"),
    "bubble-line": lambda: draw("bubble"),
    "caterpillar": lambda: draw("caterpillar of many"),
    "firepower": lambda: draw("firepower"),
    "funnel-lines": lambda: draw("funnel with lines and filled"),
    "jama": lambda: forest(extremes(), layout="jama", direction=("worse outcome", "better outcome")),
    "means": lambda: draw("means with letters"),
    "nested": lambda: forest(quiet(lambda: che(dependent(24, 8))), columns=["rater"], order="-effect"),
    "drapery": lambda: draw("drapery"),
    "orchard": lambda: draw("orchard"),
    "rainforest": lambda: draw("rainforest"),
    "ranks": lambda: draw("ranks"),
    "timeline": lambda: draw("timeline"),
    "posterior": lambda: draw("posterior of tau"),
    "predictive": lambda: draw("predictive"),
    "priors": lambda: draw("prior"),
    "smooth": lambda: draw("smooth of a rater"),
    "umbrella": lambda: forest(published_forest_data(umbrella().frame)),
}


@pytest.mark.mpl
@pytest.mark.skipif(
    tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11), reason="letters are drawn otherwise since 3.11"
)
@pytest.mark.parametrize("name", sorted(CASES))
def test_looks_as_it_did(name: str, tmp_path: Path) -> None:
    stored = tmp_path / "stored.png"
    stored.write_bytes((BASELINE / f"{name}.png").read_bytes())
    drawn = save_figure(CASES[name](), tmp_path / "drawn.png", dpi=DPI)
    assert compare_images(str(stored), str(drawn), tol=TOLERANCE) is None


def test_every_baseline_has_its_case() -> None:
    assert sorted(path.stem for path in BASELINE.glob("*.png")) == sorted(CASES)


if __name__ == "__main__":
    for case, make in CASES.items():
        save_figure(make(), BASELINE / f"{case}.png", dpi=DPI)
