"""Nothing in a forest plot overlaps, leaves the figure or is too small to read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from alliance_meta.errors import InputError
from alliance_meta.plots import forest, forest_data, forest_pages
from alliance_meta.plots.forests.layout import AIRY, DENSE, NORMAL, LayoutName, choose_density, make_layout, split_pages
from alliance_meta.plots.forests.parts import make_frame
from alliance_meta.plots.sheet.figures import NotebookFigure
from alliance_meta.plots.sheet.measure import make_axis, text_width, wrap
from tests.plots.cases import FRAMES, LONG, extremes, fitted, made, molloy, row
from tests.plots.geometry import boxes, overlapping, texts

LEAST_POINTS = 6.5
A4_TEXT_HEIGHT = 9.6


def all_figures(frame: pd.DataFrame) -> list[NotebookFigure]:
    return [forest(frame), *forest_pages(frame)]


@cache
def figures(name: str) -> list[NotebookFigure]:
    return all_figures(made(name))


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_no_two_texts_overlap_and_none_leaves_the_figure(name: str) -> None:
    stand_apart(figures(name))


@pytest.mark.parametrize("layout", ["apa", "bmj", "jama"])
@pytest.mark.parametrize("name", ["one study", "five", "nested with columns"])
def test_texts_stand_apart_in_every_layout_and_with_directions(name: str, layout: LayoutName) -> None:
    long = ("a much worse outcome at the end of a long treatment, as the client sees it", "better outcome")
    stand_apart([forest(made(name), layout=layout, direction=long, smallest_effect=0.1)])


def stand_apart(figures: Sequence[NotebookFigure]) -> None:
    for figure in figures:
        drawn = [text.get_text() for text in texts(figure)]
        found = boxes(figure)
        assert [(drawn[i], drawn[j]) for i, j in overlapping(found)] == []
        width, height = figure.get_size_inches()
        outside = (found[:, :2] < 0).any(axis=1) | (found[:, 2] > width) | (found[:, 3] > height)
        assert [text for text, out in zip(drawn, outside, strict=True) if out] == []


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_text_of_rows_stays_off_the_panel(name: str) -> None:
    frame = made(name)
    layout = make_layout(frame)
    lo, hi = layout.panel
    for column in layout.left:
        for cell in column.cells:
            ends = [
                column.x + (text_width(line, layout.density.size) if column.align == "left" else 0) for line in cell
            ]
            assert all(end < hi if column.key == "label" else end < lo for end in ends)
    assert all(column.x - column.width > hi for column in layout.right if column.align == "right")


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_no_text_is_too_small(name: str) -> None:
    for figure in figures(name):
        assert min(text.get_fontsize() for text in texts(figure)) >= LEAST_POINTS


def test_measured_widths_are_those_of_the_renderer() -> None:
    figure = forest(made("five"))
    found = boxes(figure)
    for text, box in zip(texts(figure), found, strict=True):
        bold = text.get_fontweight() == "bold"
        measured = text_width(text.get_text(), text.get_fontsize(), bold=bold)
        assert box[2] - box[0] <= measured + 0.03
        assert box[2] - box[0] >= 0.8 * measured


def test_wrapping_breaks_at_spaces_only() -> None:
    lines = wrap(LONG, 9, 2.0)
    assert len(lines) > 2
    assert " ".join(lines) == LONG
    assert all(text_width(line, 9) <= 2.0 or " " not in line for line in lines)
    assert wrap("", 9, 2.0) == ("",)


@pytest.mark.parametrize(
    ("rows", "density"), [(3, AIRY), (16, AIRY), (17, NORMAL), (47, NORMAL), (48, DENSE), (300, DENSE)]
)
def test_density_follows_the_number_of_rows(rows: int, density: object) -> None:
    assert choose_density(rows) is density


def test_the_figure_grows_wider_with_its_text() -> None:
    plain = make_layout(made("five"))
    full = make_layout(forest_data(fitted(5), columns=["rater", "modality", "year"]))
    assert full.width > plain.width
    assert full.panel[1] - full.panel[0] >= 2.4 - 1e-9
    assert make_layout(made("five"), width=12.0).width == pytest.approx(12.0)


def test_labels_stay_whole() -> None:
    figure = forest(extremes())
    drawn = " ".join(text.get_text() for text in texts(figure))
    assert all(word in drawn for word in LONG.split())
    assert "(continued)" not in drawn


def test_dollar_signs_are_no_formulas() -> None:
    assert not any(text.get_parse_math() for text in texts(forest(made("five"))))


def test_squares_have_areas_proportional_to_weights() -> None:
    frame = made("five")
    figure = forest(frame)
    squares = next(c for c in figure.axes[0].collections if len(c.get_paths()) == 5)
    sides = np.array([np.ptp(path.vertices[:, 0]) for path in squares.get_paths()])
    heights = np.array([np.ptp(path.vertices[:, 1]) for path in squares.get_paths()])
    weights = frame.loc[frame["kind"] == "study", "weight"].to_numpy()
    np.testing.assert_allclose(sides, heights)
    np.testing.assert_allclose(sides**2 / sides.max() ** 2, weights / weights.max())
    assert sides.max() == pytest.approx(0.8 * AIRY.pitch)


def test_small_weights_stay_visible() -> None:
    frame = make_frame([row("Big", 0.2, 0.1, weight=99.99), row("Tiny", 0.3, 0.5, weight=0.01)], {"measure": "ZCOR"})
    squares = forest(frame).axes[0].collections[0].get_paths()
    assert np.ptp(squares[1].vertices[:, 0]) == pytest.approx(0.035)


def test_marks_stand_where_the_numbers_say() -> None:
    frame = made("five")
    layout = make_layout(frame)
    squares = next(c for c in forest(frame).axes[0].collections if len(c.get_paths()) == 5)
    centres = [path.vertices[:-1, 0].mean() for path in squares.get_paths()]
    expected = [layout.x(value) for value in frame.loc[frame["kind"] == "study", "yi"]]
    np.testing.assert_allclose(centres, expected)


def test_marks_end_at_the_limits() -> None:
    frame = extremes()
    layout = make_layout(frame)
    lo, hi = layout.panel
    assert layout.axis.hi == pytest.approx(np.arctanh(0.95))
    figure = forest(frame)
    for collection in figure.axes[0].collections:
        for path in collection.get_paths():
            assert path.vertices[:, 0].min() >= lo - AIRY.pitch
            assert path.vertices[:, 0].max() <= hi + AIRY.pitch
    arrows = [
        path.vertices
        for collection in figure.axes[0].collections
        for path in collection.get_paths()
        if len(path.vertices) == 4 and np.isclose(np.ptp(path.vertices[:, 0]), 0.07)
    ]
    tips = sorted(round(float(v[0, 0]), 6) for v in arrows)
    assert tips == sorted(round(value, 6) for value in (lo, hi, hi, hi))
    # The diamond and the bar of the prediction end in heads of their own.
    ends = [path.vertices[:, 0].max() for shapes in figure.axes[0].collections for path in shapes.get_paths()
            if len(path.vertices) > 5]  # fmt: skip
    assert ends == pytest.approx([hi, hi])


def test_a_point_beyond_the_axis_is_still_printed() -> None:
    drawn = [text.get_text() for text in texts(forest(extremes()))]
    assert ".98" in drawn
    assert "[.89, .995]" in drawn


@pytest.mark.parametrize("limits", [(0.3, 0.1), (-2.0, 0.5), (0.1, float("nan"))])
def test_limits_that_make_no_axis_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="xlim="):
        forest(made("five"), xlim=limits)


def test_asked_limits_are_on_the_scale_of_the_labels() -> None:
    axis = make_axis(made("five"), width=3, size=9, xlim=(-0.2, 0.8))
    assert (axis.lo, axis.hi) == pytest.approx((np.arctanh(-0.2), np.arctanh(0.8)))


@pytest.mark.parametrize("width", [1.0, 2.4, 3.15, 6.0])
@pytest.mark.parametrize("name", sorted(FRAMES))
def test_ticks_include_zero_and_do_not_touch(name: str, width: float) -> None:
    axis = make_axis(made(name), width=width, size=8)
    labels = dict(axis.ticks)
    assert labels[0.0] == "0"
    places = [(axis.share(position) * width, text_width(label, 8) / 2) for position, label in axis.ticks]
    assert all(b[0] - b[1] > a[0] + a[1] for a, b in pairwise(places))
    assert all(0 <= axis.share(position) <= 1 for position, _ in axis.ticks)


def test_ticks_are_labelled_in_r_at_positions_in_z() -> None:
    axis = make_axis(made("five"), width=3.15, size=9)
    for position, label in axis.ticks:
        assert np.tanh(position) == pytest.approx(float(label.replace("−", "-")))


def test_the_smallest_effect_must_be_a_correlation() -> None:
    figure = forest(made("five"), smallest_effect=0.1)
    assert len(figure.axes[0].patches) == 1
    with pytest.raises(InputError, match="above 0 and below 1"):
        forest(made("five"), smallest_effect=1.5)


def test_up_to_47_rows_make_one_page() -> None:
    assert len(forest_pages(forest_data(fitted(44)))) == 1
    assert len(forest_pages(forest_data(fitted(45)))) == 1
    assert len(forest_pages(forest_data(fitted(80)))) == 2


def test_pages_share_density_axis_and_columns() -> None:
    frame = made("many")
    pages = forest_pages(frame)
    assert len(pages) == 2
    widths = {float(page.get_size_inches()[0]) for page in pages}
    assert len(widths) == 1
    assert max(page.get_size_inches()[1] for page in pages) <= A4_TEXT_HEIGHT
    ticks = [[t.get_text() for t in texts(page) if t.get_text() in ("0", ".2", ".6", "−.4")] for page in pages]
    assert ticks[0] == ticks[1]
    assert len(ticks[0]) == 4
    for number, page in enumerate(pages, start=1):
        words = [text.get_text() for text in texts(page)]
        assert f"Page {number} of 2" in words
        assert "Study, by modality" in words
        assert ("Pooled effect (REML, HK)" in words) == (number == 2)
        assert any(word.startswith("Heterogeneity") for word in words) == (number == 2)
    assert any(text.get_text().endswith("(continued)") for text in texts(pages[1]))


def test_every_row_is_on_one_page() -> None:
    frame = forest_data(fitted(300), by="rater")
    layout = make_layout(frame)
    pages = split_pages(frame, layout)
    kept = [i for page in pages for i in page]
    blank = set(frame.index[frame["kind"] == "blank"])
    assert sorted({*kept, *blank}) == list(range(len(frame)))
    assert len(kept) == len(set(kept))
    kinds = frame["kind"].tolist()
    for page in pages:
        assert kinds[page[-1]] != "heading"
        assert kinds[page[0]] in ("heading", "study")
        assert sum(layout.heights[i] for i in page) <= 64 * DENSE.pitch + 1e-9


def test_synthetic_data_say_so_on_every_page() -> None:
    frame = made("many").copy()
    frame.attrs["synthetic"] = True
    for figure in all_figures(frame):
        assert "SYNTHETIC DATA" in [text.get_text() for text in texts(figure)]
    assert "SYNTHETIC DATA" not in [text.get_text() for text in texts(forest(made("many")))]


def test_cautions_are_printed_when_asked_for() -> None:
    frame = forest_data(molloy())
    frame.attrs["cautions"] = ["A convenience sample."]
    assert "Caution: A convenience sample." not in [t.get_text() for t in texts(forest(frame))]
    frame.attrs["show_cautions"] = True
    assert "Caution: A convenience sample." in [t.get_text() for t in texts(forest(frame))]


def test_draws_into_a_given_axes() -> None:
    figure = Figure(figsize=(12, 6))
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    assert forest(molloy(), ax=left) is left
    assert not left.axison
    assert right.axison
    assert overlapping(boxes(figure)) == []


def test_an_axes_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match=r"ax is 2\.\d x 1\.\d in; this forest plot needs at least"):
        forest(molloy(), ax=Figure(figsize=(3, 2)).subplots())


def test_options_of_the_data_go_with_a_fit_only() -> None:
    frame = forest_data(molloy())
    with pytest.raises(InputError, match="order: give this to forest_data"):
        forest(frame, order="effect")


def test_wide_columns_first_cost_text_size_then_lines() -> None:
    frame = forest_data(fitted(12), columns=["rater", "modality", "year"], rob=["bias"])
    layout = make_layout(frame)
    assert layout.density is NORMAL
    assert max(layout.heights) > NORMAL.pitch
    assert make_layout(frame, width=14.0).density is AIRY
