"""The ways that CONTRIBUTING gives for adding a thing are gone, step by step, in a copy of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Steps = dict[str, list[tuple[str, str]]]

# File -> what is found there, and what stands there afterwards. A file that is not there yet is found empty.
ESTIMATOR: Steps = {
    "core/univariate/fit.py": [
        (
            "def _mean(df: Array) -> Array:",
            '''def _hartung_makambi(batch: Batch, lowest: float) -> Tau2Fit:
    """Hartung and Makambi (2003), https://doi.org/10.1081/SAC-120023876."""
    w = batch.weights(np.zeros(len(batch.y)))
    total = w.sum(axis=1)
    mean = (w * batch.y).sum(axis=1) / total
    Q = (w * (batch.y - mean[:, None]) ** 2).sum(axis=1)
    tau2 = Q**2 / ((2 * batch.df + Q) * (total - (w**2).sum(axis=1) / total))
    yes = np.ones(tau2.shape, dtype=bool)
    return Tau2Fit(tau2, np.full(tau2.shape, np.nan), tau2, ~yes, yes, np.zeros(tau2.shape, dtype=int))


def _mean(df: Array) -> Array:''',
        ),
        ('    "EE": _equal_effects,\n', '    "EE": _equal_effects,\n    "HM": _hartung_makambi,\n'),
    ],
    "notes.py": [('    "DL2",\n', '    "DL2",\n    "HM",\n')],
    "results/random_effects.py": [('    "SJ": "the', '    "HM": "the Hartung-Makambi estimator",\n    "SJ": "the')],
    "reporting/text/references.py": [
        ('    "SJ": ("sidik2005",),\n', '    "SJ": ("sidik2005",),\n    "HM": ("sidik2005",),\n'),
    ],
}
PLOT: Steps = {
    "plots/weights_plot.py": [
        (
            "",
            '''"""The weight of each effect."""

import pandas as pd

from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.estimate_rows import draw_rows


def weights_data(fit, *, title=None, show_cautions=False):
    """Return one row per effect."""
    rows = [
        {"kind": "study", "label": label, "yi": weight, "ci_lb": weight, "ci_ub": weight}
        for label, weight in zip(fit.effects.slab, fit.weights, strict=True)
    ]
    return chart_frame(
        "weights", "Weights", rows, fit.effects.provenance, notes=fit.notes, title=title,
        show_cautions=show_cautions, said="Weights.", axis_label="Weight, %",
    )


def weights(fit_or_frame, *, ax=None, **data):
    """Draw it."""
    return draw_rows(as_frame(fit_or_frame, "weights", weights_data, data), ax, None)
''',
        )
    ],
    "plots/sheet/chart_frame.py": [
        ('    "profile": ((', '    "weights": (("kind", "label"), ("k", *EFFECT, *AS_R)),\n    "profile": (('),
    ],
    "plots/__init__.py": [
        (
            "if TYPE_CHECKING:\n",
            "if TYPE_CHECKING:\n    from alliance_meta.plots.weights_plot import weights as weights\n"
            "    from alliance_meta.plots.weights_plot import weights_data as weights_data\n",
        )
    ],
}
BIAS: Steps = {
    "bias/largest.py": [
        (
            "",
            '''"""The largest study alone."""

from dataclasses import dataclass

import pandas as pd

from alliance_meta.result import Result
from alliance_meta.results.random_effects import check_fit


@dataclass(frozen=True, repr=False)
class Largest(Result):
    """The largest study alone."""

    estimate: float

    def tidy(self):
        """Return one row."""
        return pd.DataFrame({"estimate": [self.estimate]}, index=["largest"])


def largest(fit):
    """Return the effect with the smallest sampling variance."""
    check_fit(fit, "largest")
    return Largest(float(fit.effects.yi[fit.effects.vi.argmin()]))
''',
        )
    ],
    "bias/__init__.py": [
        (
            "if TYPE_CHECKING:\n",
            "if TYPE_CHECKING:\n    from alliance_meta.bias.largest import Largest as Largest\n"
            "    from alliance_meta.bias.largest import largest as largest\n",
        )
    ],
}
REPORT: Steps = {
    "reporting/spec.py": [('    "levels",\n', '    "levels",\n    "largest",\n')],
    "reporting/tables.py": [
        (
            "def _component(",
            '''def largest(item: Item, fits: Mapping[str, Fitted]) -> Table:
    """Return the largest effect of an analysis."""
    effects = fits[item.of[0]].effects
    row = {"study": effects.slab[effects.yi.argmax()], "yi": float(effects.yi.max())}
    columns = [column("study", "Study"), column("yi", "Effect", "z")]
    return {"caption": "The largest effect.", "columns": columns, "rows": [row]}


def _component(''',
        ),
        ('    "levels": levels,\n', '    "levels": levels,\n    "largest": largest,\n'),
    ],
}

FIT = """
import warnings, alliance_meta as am
from alliance_meta import bias, plots
warnings.simplefilter("ignore")
effects = am.escalc(am.load_dataset("molloy2014"))
"""
ASK_ESTIMATOR = """
from alliance_meta.cli.app import app
fit = am.RandomEffectsModel(effects, method="HM").fit()
w = 1 / effects.vi
Q = (w * (effects.yi - (w * effects.yi).sum() / w.sum()) ** 2).sum()
assert abs(fit.tau2 / (Q**2 / ((2 * (fit.k - 1) + Q) * (w.sum() - (w**2).sum() / w.sum()))) - 1) < 1e-12
assert "HM" in fit.summary() and "Hartung-Makambi" in fit.methods_text() and '"HM"' in fit.r_code()
try:
    am.RandomEffectsModel(effects, method="hm").fit()
except am.InputError as error:
    assert "did you mean 'HM'" in str(error), error
app(["fit", "molloy2014", "--method", "HM"], standalone_mode=False)
"""
ASK_PLOT = """
fit = am.RandomEffectsModel(effects).fit()
figure = plots.weights(fit)
assert plots.weights_data(fit)["yi"].sum().round(6) == 100
assert plots.figure_bytes(figure) == plots.figure_bytes(plots.weights(plots.weights_data(fit)))
assert {"weights", "weights_data"} <= set(plots.__all__)
"""
ASK_BIAS = """
found = bias.largest(am.RandomEffectsModel(effects).fit())
assert found.estimate in effects.yi and "largest" in found.to_markdown() and "largest" in found.to_latex()
assert found.to_dict()["table"]["estimate"] == [found.estimate] and "largest" in bias.__all__
"""
ASK_REPORT = """
from pathlib import Path
from alliance_meta.reporting import build_report
text = 'title = "T"\\n[[analysis]]\\nid = "a"\\nlabel = "A"\\ndata = "molloy2014"\\n'
text += '[[section]]\\nheading = "H"\\ntext = "{a.r}"\\n[[section.item]]\\ntable = "largest"\\nof = ["a"]\\n'
Path("t.toml").write_text(text)
build_report("t.toml", out="made", formats=["html", "tables"])
assert "The largest effect." in Path("made/report.html").read_text()
table = next(Path("made/tables").glob("*largest*.csv")).read_text()
assert repr(float(effects.yi.max()))[:8] in table
"""


def named(heading: str) -> set[str]:
    """Return the files of the package that a section of CONTRIBUTING names."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.split(f"## How to add {heading}\n")[1].split("\n## ")[0]
    return {name for name in re.findall(r"`([\w/<>]+\.py)`", section) if not name.startswith("tests/")}


@pytest.mark.parametrize(
    ("heading", "most", "steps", "ask"),
    [
        ("an estimator", 4, ESTIMATOR, ASK_ESTIMATOR),
        ("a plot", 4, PLOT, ASK_PLOT),
        ("a bias method", 4, BIAS, ASK_BIAS),
        ("a table of a report", 3, REPORT, ASK_REPORT),
    ],
)
def test_the_steps_are_all_it_takes(heading: str, most: int, steps: Steps, ask: str, tmp_path: Path) -> None:
    own = {re.sub(r"\w+(?=\.py)", "<name>", file) if file not in FILES else file for file in steps}
    assert named(heading) == own
    assert len(steps) <= most
    shutil.copytree(ROOT / "alliance_meta", tmp_path / "alliance_meta")
    shutil.copytree(ROOT / "data", tmp_path / "data")
    for file, changes in steps.items():
        path = tmp_path / "alliance_meta" / file
        text = path.read_text("utf-8") if path.exists() else ""
        for found, put in changes:
            assert text.count(found) == 1, found
            text = text.replace(found, put)
        path.write_text(text, "utf-8")
    done = subprocess.run([sys.executable, "-c", FIT + ask], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


FILES = {path.relative_to(ROOT / "alliance_meta").as_posix() for path in (ROOT / "alliance_meta").rglob("*.py")}
