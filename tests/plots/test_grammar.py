"""Every public plot keeps one grammar: a frame, an Axes or a figure, words for who cannot see it, cases of its own."""

from __future__ import annotations

import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alliance_meta import plots, sensitivity
from alliance_meta.plots import figure_bytes
from alliance_meta.plots.forests.parts import check_frame
from alliance_meta.plots.sheet.figures import NotebookFigure
from tests.plots import test_axes, test_baselines
from tests.plots.alt_text import unknown
from tests.plots.cases import FRAMES, made, molloy
from tests.plots.charts import DRAW, FORESTS, PLOTS, chart, charts, first

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).parent / "alt_texts.json"
# Before the star stand the data, and what a plot cannot be drawn without.
BESIDE_DATA = {"bubble": ["by"]}
ATTRS = ("plot", "title", "description", "measure", "level", "bottom", "notes", "cautions", "synthetic")
FOREST_FRAMES = {
    "forest": lambda: plots.forest_data(molloy()),
    "leave_one_out": lambda: plots.leave_one_out_data(sensitivity.leave_one_out(molloy())),
    "cumulative": lambda: plots.cumulative_data(sensitivity.cumulative(molloy())),
}


def frame_of(plot: str) -> pd.DataFrame:
    """Return a frame of the plot."""
    return FOREST_FRAMES[plot]() if plot in FORESTS else chart(first(plot))


@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_has_a_frame_an_axes_and_options_by_name(plot: str) -> None:
    draws, makes = getattr(plots, plot), getattr(plots, f"{plot}_data")
    for function in (draws, makes):
        kinds = {name: one.kind for name, one in inspect.signature(function).parameters.items()}
        data, *others = kinds
        assert kinds[data] is inspect.Parameter.POSITIONAL_OR_KEYWORD
        free = [name for name in others if kinds[name] is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert free == BESIDE_DATA.get(plot, [])
    ax = inspect.signature(draws).parameters["ax"]
    assert (ax.kind, ax.default) == (inspect.Parameter.KEYWORD_ONLY, None)
    assert inspect.Parameter.VAR_KEYWORD in kinds_of(draws)
    title = inspect.signature(makes).parameters["title"]
    assert title.kind is inspect.Parameter.KEYWORD_ONLY


def kinds_of(function: Any) -> list[Any]:
    return [one.kind for one in inspect.signature(function).parameters.values()]


def test_a_plot_is_listed_where_it_must_be() -> None:
    """A new plot fails here until it has a case of geometry, of marks, a stored picture, a line of the gallery."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "tools" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    drawn = {name.partition(",")[0] for name in (*gallery.PLOTS, *gallery.ONCE)}
    cases = {name.replace(",", " ").split()[0] for name in charts()}
    missing = {
        "docs/api.md": {plot for plot in PLOTS if f"plots.{plot}" not in api},
        "tools/gallery.py": {*PLOTS, "forest_pages"} - drawn,
        "tests/plots/charts.py": set(DRAW) - cases,
        "tests/plots/test_axes.py": set(DRAW) - set(test_axes.EXPECTED),
        "tests/plots/test_baselines.py": {*DRAW, *FORESTS} - set(test_baselines.CASES),
        "tests/plots/alt_texts.json": {*DRAW, *FORESTS} - set(json.loads(STORED.read_text(encoding="utf-8"))),
    }
    assert {file: names for file, names in missing.items() if names} == {}


@pytest.mark.parametrize("plot", FORESTS)
def test_a_forest_keeps_the_grammar_of_charts(plot: str) -> None:
    frame, draws = frame_of(plot), getattr(plots, plot)
    check_frame(frame)
    before = dict(matplotlib.rcParams)
    own = draws(frame)
    assert isinstance(own, NotebookFigure)
    assert own.plot_description == frame.attrs["description"]
    data = figure_bytes(own, text="text")
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.facecolor": "red", "text.color": "red"}):
        assert figure_bytes(draws(frame), text="text") == data
    user = Figure(figsize=(12, 8)).subplots()
    assert draws(frame, ax=user) is user
    user.set_xlim(0.0, 0.3)
    assert user.figure is not None
    user.figure.draw_without_rendering()
    assert user.get_xlim() == (0.0, 0.3)
    assert isinstance(user, Axes)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("plot", sorted({*DRAW, *FORESTS}))
def test_a_frame_says_what_the_stored_one_said(plot: str) -> None:
    """After a wanted change: ``python -m tests.plots.test_grammar``."""
    frame = frame_of(plot)
    assert [name for name in ATTRS if name not in frame.attrs] == []
    assert frame.attrs["description"] == json.loads(STORED.read_text(encoding="utf-8"))[plot]


@pytest.mark.parametrize("name", ["five", "groups", "raw r", "plain", "nested", "umbrella"])
def test_numbers_that_a_forest_says_are_those_of_its_frame(name: str) -> None:
    assert name in FRAMES
    assert unknown(made(name)) == []


def test_each_page_of_a_forest_says_what_is_on_it() -> None:
    frame = made("nested, many")
    pages = plots.forest_pages(frame)
    assert len(pages) == 3
    said = [page.plot_description.removeprefix(frame.attrs["description"]) for page in pages]
    results = frame[frame["kind"].isin(("study", "effect"))]
    assert sum(int(one.split(": ")[1].split()[0]) for one in said) == len(results)
    for i, one in enumerate(said, start=1):
        assert one.startswith(f" Page {i} of 3: ")
        shown = frame.copy()
        shown.attrs = {**frame.attrs, "description": one}
        assert unknown(shown) == []
    assert said[1].endswith(".46].")
    assert str(results["label"].iloc[-1]) in said[2]


if __name__ == "__main__":
    told = {plot: frame_of(plot).attrs["description"] for plot in sorted({*DRAW, *FORESTS})}
    STORED.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
