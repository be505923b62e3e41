"""Colours that must be told apart: by everyone, on white paper and in grey; what colour alone cannot say has a form."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from alliance_meta._typing import Array
from alliance_meta.plots import sensitivity_plots
from alliance_meta.plots.bias import power
from alliance_meta.plots.forests import plot as forest
from alliance_meta.plots.forests.layout import STYLES
from alliance_meta.plots.posteriors import chains
from alliance_meta.plots.sheet import chart, measure
from alliance_meta.plots.studies import ranks

# Web Content Accessibility Guidelines 2.2, 1.4.3 and 1.4.11.
TEXT, MARK = 4.5, 3.0
# What is told apart in grey by its shade alone.
APART = 1.5
# Machado, Oliveira & Fernandes (2009), doi 10.1109/TVCG.2009.113, severity 1: who sees no red, and who no green.
SEEN = {
    "everyone": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
WHITE = "#ffffff"


def linear(colour: str, seen: str = "everyone") -> Array:
    """Return the light of a colour: red, green and blue, as it is seen."""
    values = np.array(to_rgb(colour))
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.clip(np.asarray(SEEN[seen]) @ light, 0.0, 1.0)


def contrast(first: str, second: str = WHITE, seen: str = "everyone") -> float:
    """Return the ratio of two luminances, 1 to 21."""
    a, b = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(one, seen)) + 0.05 for one in (first, second))
    return b / a


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("black") == pytest.approx(21.0)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.005)
    assert contrast("#ffffff", seen="deuteranopia") == pytest.approx(1.0, abs=1e-4)


def test_marks_stand_out_from_white_paper() -> None:
    marks = {
        **{name: colour for name, (colour, _, _) in chart.STROKES.items()},
        **{name: max(looks[1:], key=contrast) for name, looks in chart.DOTS.items()},
        **{f"edge of {name}": max((fill, chart.EDGES[name]), key=contrast) for name, fill in chart.FILLS.items()},
        **{f"chain {i}": colour for i, colour in enumerate(chains.TRACES)},
        **{f"choice, {grade}": colour for grade, colour in sensitivity_plots.COLOURS.items()},
        "many intervals": ranks.DENSE_GREY,
        "square": STYLES["default"].square,
        "prediction": measure.PREDICTION,
        "fitted": measure.GREY,
    }
    assert {name: contrast(colour) for name, colour in marks.items() if contrast(colour) < MARK} == {}


def test_text_is_read_on_what_lies_under_it() -> None:
    papers = {**chart.FILLS, **dict(enumerate(power.SHADES)), **forest.ROB_COLOURS, "other": forest.ROB_OTHER}
    del papers["tail"]
    low = {name: contrast(measure.INK, paper) for name, paper in papers.items() if contrast(measure.INK, paper) < TEXT}
    assert low == {}
    assert min(contrast(measure.WARNING), contrast(measure.SUMMARY)) >= TEXT


def test_lines_differ_in_shade_width_or_pattern() -> None:
    for one, other in combinations(chart.STROKES.values(), 2):
        by_shade = contrast(one[0], other[0]) >= APART
        by_width = max(one[1], other[1]) / min(one[1], other[1]) >= 1.3
        assert by_shade or by_width or one[2] != other[2], (one, other)


def hues(first: str, second: str, seen: str) -> float:
    """Return the largest difference of red, green or blue."""
    return float(np.abs(linear(first, seen) - linear(second, seen)).max())


@pytest.mark.parametrize("seen", sorted(SEEN))
def test_what_only_colour_tells_apart_is_apart_for_everyone_and_in_grey(seen: str) -> None:
    dots = {name: chart.DOTS[name][1] for name in ("dot", "flagged", "mean", "hollow")}
    pairs = [
        *combinations(dots.values(), 2),
        (chart.FILLS["bar"], chart.FILLS["tail"]),
        *combinations(sensitivity_plots.COLOURS.values(), 2),
    ]
    # In grey there are shades alone.
    least = 0.15 if seen != "everyone" else 1.0
    assert [pair for pair in pairs if contrast(*pair, seen=seen) < APART and hues(*pair, seen) < least] == []
    shades = [contrast(chart.FILLS[name], seen=seen) for name in ("open", "p10", "p05", "p01")]
    assert min(np.diff(shades)) > 0.1
    assert contrast(chart.FILLS["ci"], chart.FILLS["pi"], seen=seen) > 1.3
    powers = [contrast(shade, seen=seen) for shade in power.SHADES]
    assert max(np.diff(powers[:-1])) < -0.1


@pytest.mark.parametrize("seen", sorted(SEEN))
def test_colours_of_judgements_are_apart_and_carry_letters(seen: str) -> None:
    colours = [*forest.ROB_COLOURS.values(), forest.ROB_OTHER]
    assert all(len(letter) == 1 for letter in forest.ROB_COLOURS)
    for one, other in combinations(colours, 2):
        assert hues(one, other, seen) > 0.1


def test_a_report_in_the_dark_keeps_the_white_paper_of_its_figures() -> None:
    from alliance_meta import reporting

    css = (Path(reporting.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    dark = css.partition("prefers-color-scheme: dark")[2].partition("}")[0]
    assert "--figure: #ffffff" in dark
    assert "figure .scroll { background: var(--figure)" in css
