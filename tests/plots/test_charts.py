"""Every plot with two axes: nothing overlaps or leaves the figure, the same bytes, data that go through JSON."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from alliance_meta import plots
from alliance_meta.errors import InputError
from alliance_meta.plots import figure_bytes, frame_from_dict, frame_to_dict
from tests.plots.alt_text import unknown
from tests.plots.charts import DRAW, chart, charts, draw, figure, first, many
from tests.plots.geometry import boxes, overlapping, texts

NAMES = sorted(charts())
LEAST_POINTS = 6.5


@pytest.mark.parametrize("name", NAMES)
def test_no_two_texts_overlap_and_none_leaves_the_figure(name: str) -> None:
    drawing = figure(name)
    found = boxes(drawing)
    drawn = [text.get_text() for text in texts(drawing)]
    assert [(drawn[i], drawn[j]) for i, j in overlapping(found)] == []
    width, height = drawing.get_size_inches()
    outside = (found[:, :2] < 0).any(axis=1) | (found[:, 2] > width) | (found[:, 3] > height)
    assert [text for text, out in zip(drawn, outside, strict=True) if out] == []
    assert min(text.get_fontsize() for text in texts(drawing)) >= LEAST_POINTS


@pytest.mark.parametrize("name", NAMES)
def test_frames_go_through_json(name: str) -> None:
    frame = chart(name)
    text = json.dumps(frame_to_dict(frame), allow_nan=False)
    again = frame_from_dict(json.loads(text))
    pd.testing.assert_frame_equal(again, frame)
    assert again.attrs == frame.attrs
    # To the letter: 1 is not 1.0.
    assert json.dumps(frame_to_dict(again), allow_nan=False) == text


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_says_what_it_shows(name: str) -> None:
    drawing = figure(name)
    assert drawing.plot_title
    assert drawing.plot_description.endswith((".", ").", ")"))
    frame = chart(name)
    shown = [text.get_text() for text in texts(drawing)]
    assert ("SYNTHETIC DATA" in shown) == frame.attrs["synthetic"]
    assert drawing.plot_description.startswith("SYNTHETIC DATA") == frame.attrs["synthetic"]
    assert any(text.startswith("Caution: ") for text in shown) == frame.attrs["show_cautions"]
    assert unknown(frame) == []
    assert re.search(r"\d", drawing.plot_description)


@pytest.mark.parametrize("plot", sorted(DRAW))
def test_a_frame_that_went_through_json_draws_the_same_whatever_the_users_settings(plot: str) -> None:
    name = first(plot)
    expected = figure_bytes(figure(name), text="text")
    again = frame_from_dict(json.loads(json.dumps(frame_to_dict(chart(name)))))
    settings = {"font.size": 20, "lines.linewidth": 5, "patch.linewidth": 4, "axes.facecolor": "red",
                "scatter.marker": "x", "lines.dash_capstyle": "round", "patch.facecolor": "red"}  # fmt: skip
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert figure_bytes(DRAW[plot](again), text="text") == expected
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("plot", sorted(DRAW))
def test_an_axes_without_room_is_refused(plot: str) -> None:
    name = first(plot)
    with pytest.raises(InputError, match=r"ax is 1\.\d x 0\.\d in; this plot needs at least"):
        draw(name, ax=Figure(figsize=(2, 1)).subplots())


@pytest.mark.parametrize("plot", sorted(DRAW))
def test_frames_of_other_plots_are_refused(plot: str) -> None:
    other = next(name for name in NAMES if not name.startswith(plot))
    with pytest.raises(InputError, match=rf"this is not a frame that {plot}_data made"):
        DRAW[plot](chart(other))
    own = chart(first(plot))
    with pytest.raises(InputError, match=rf"title: give this to {plot}_data"):
        DRAW[plot](own, title="A")
    with pytest.raises(InputError, match="is not a frame"):
        frame_to_dict(own.drop(columns=own.columns[2]))


def test_a_bare_frame_is_refused() -> None:
    own = chart("profile")
    with pytest.raises(InputError, match=r"lost its \.attrs"):
        plots.profile(pd.DataFrame(own.to_dict()))


@pytest.mark.parametrize("name", ["caterpillar of many", "bubble of levels", "means", "bubble, wild"])
def test_ticks_are_correlations_an_equal_step_of_z_being_an_equal_length(name: str) -> None:
    drawing = draw(name)
    drawing.draw_without_rendering()
    ax = drawing.axes[0]
    axis = ax.yaxis if name.startswith("bubble") else ax.xaxis
    lo, hi = axis.get_view_interval()
    ticks = [tick for tick in axis.get_major_ticks() if lo <= tick.get_loc() <= hi]
    shown = [(float(tick.label1.get_text().replace("−", "-")), tick.get_loc()) for tick in ticks]
    assert len(shown) >= 3
    np.testing.assert_allclose(*np.transpose(shown), atol=1e-12)
    assert "0" in [tick.label1.get_text() for tick in ticks]
    places = np.array([[loc, loc] for _, loc in shown])
    at = ax.transData.transform(places)[:, 1 if axis is ax.yaxis else 0]
    steps = np.diff(at) / np.diff(np.arctanh([loc for _, loc in shown]))
    np.testing.assert_allclose(steps, steps[0])


def test_twenty_thousand_effects_draw_fast() -> None:
    frame = plots.caterpillar_data(many(20_000))
    start = time.perf_counter()
    data = figure_bytes(plots.caterpillar(frame))
    assert time.perf_counter() - start < 10
    assert len(data) < 2_000_000


def test_a_caterpillar_is_as_large_for_any_number() -> None:
    sizes: list[Any] = [draw(name).get_size_inches().tolist() for name in NAMES if name.startswith("caterpillar of ")]
    assert sizes == [[7.0, 4.5]] * len(sizes)
