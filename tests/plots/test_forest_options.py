"""What a forest is drawn with: ticks, directions, layouts, arrows, further summaries, names of effects."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.patches import FancyArrowPatch

from alliance_meta import EffectSizes, MultilevelModel, RandomEffectsModel, bias, escalc
from alliance_meta.errors import InputError
from alliance_meta.plots import figure_bytes, forest, forest_data, forest_pages, frame_from_dict, frame_to_dict
from alliance_meta.plots.forests.layout import make_layout
from alliance_meta.plots.forests.naming import effect_names
from alliance_meta.plots.forests.parts import directions, records
from alliance_meta.plots.sheet.figures import Lettering, simple
from alliance_meta.plots.sheet.measure import to_analysis, value_axis
from tests.plots.cases import extremes, fitted, made, molloy, quiet
from tests.plots.geometry import texts
from tests.tolerances import CLOSED_FORM


def labels(values: tuple[float, float], length: float = 2.4, lim: tuple[float, float] | None = None) -> list[str]:
    axis = value_axis(values, measure="ZCOR", length=length, room=lambda label: 0.08 * len(label) + 0.07, lim=lim)
    return [label for _, label in axis.ticks]


def test_ticks_reach_as_far_as_the_axis_goes() -> None:
    assert labels((-3.0, 3.0)) == ["−.95", "−.8", "−.5", "0", ".5", ".8", ".95"]
    assert labels((0.0, 0.523)) == ["0", ".1", ".2", ".3", ".4", ".5"]
    assert labels((-0.1, 0.4), lim=(-0.2, 0.8)) == ["−.2", "0", ".2", ".4", ".6", ".8"]


@settings(max_examples=40)
@given(st.floats(-2.5, 0.3), st.floats(0.01, 3.0), st.floats(1.0, 6.0))
def test_no_two_ticks_touch_and_none_leaves_the_axis(low: float, width: float, length: float) -> None:
    def room(label: str) -> float:
        return 0.08 * len(label) + 0.07

    axis = value_axis((low, low + width), measure="ZCOR", length=length, room=room)
    assert axis.lo <= max(min(low, 0.0), -to_analysis(0.95, "ZCOR"))
    assert axis.hi >= min(low + width, to_analysis(0.95, "ZCOR"))
    at = [axis.share(place) * length for place, _ in axis.ticks]
    assert min(at) > -1e-6
    assert max(at) < length + 1e-6
    wide = [room(label) for _, label in axis.ticks]
    assert all(at[i + 1] - at[i] > (wide[i] + wide[i + 1]) / 2 - 1e-6 for i in range(len(at) - 1))
    for place, label in axis.ticks:
        assert float(label.replace("−", "-")) == pytest.approx(math.tanh(place), abs=1e-6)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("positive = a better alliance goes with a better outcome", ["worse outcome", "better outcome"]),
        ("positive = a slower life history (higher K) goes with higher g", ["lower g", "higher g"]),
        ("positive = more people are more securely attached (as coded)", ["less securely attached",
                                                                          "more securely attached"]),
        ("positive = sections whose instructor is rated higher achieve more", None),
        ("positive = self- and other-reports agree", None),
        ("as given", None),
    ],
)  # fmt: skip
def test_the_direction_is_read_from_what_the_data_say_of_their_sign(said: str, words: list[str] | None) -> None:
    assert directions(said) == words


def test_directions_stand_under_the_axis_where_they_are_known_or_given() -> None:
    def drawn(**options) -> tuple[list[str], int]:
        figure = forest(frame, **options)
        arrows = [one for one in figure.axes[0].patches if isinstance(one, FancyArrowPatch)]
        return [text.get_text() for text in texts(figure)], len(arrows)

    frame = forest_data(molloy())
    assert frame.attrs["direction"] == ["less faithfully", "more faithfully"]
    words, arrows = drawn()
    assert {"less faithfully", "more faithfully"} < set(words)
    assert arrows == 2
    words, arrows = drawn(direction=("harm", "benefit of the treatment"))
    assert {"harm", "benefit of the treatment"} < set(words)
    words, arrows = drawn(direction=None)
    assert "more faithfully" not in words
    assert arrows == 0
    assert made("five").attrs["direction"] is None
    with pytest.raises(InputError, match="the words for the left and for the right"):
        forest(frame, direction="better")


def test_what_the_axis_cuts_ends_in_an_arrow() -> None:
    frame = extremes()
    figure, plan = forest(frame), make_layout(frame)
    end = plan.panel[1]
    shapes = [path.vertices for one in figure.axes[0].collections if isinstance(one, PolyCollection)
              for path in one.get_paths()]  # fmt: skip
    tips = [shape for shape in shapes if shape[:, 0].max() == pytest.approx(end)]
    # Three intervals, the diamond and the prediction interval, each with one point at the end.
    assert len(tips) == 5
    for shape in tips:
        at_end = shape[np.isclose(shape[:, 0], end)]
        assert np.ptp(at_end[:, 1]) < 1e-9


def test_layouts_differ_in_what_they_are_said_to() -> None:
    fit = fitted(9)
    frame = forest_data(fit, by="rater")

    def drawn(layout: str) -> set[str]:
        return {text.get_text() for text in texts(forest(frame, layout=layout))}

    assert frame.attrs["label_header"] == "Study, by rater"
    assert "Source, by rater" in drawn("jama")
    assert any("τ = " in text for text in drawn("default"))
    assert not any("τ = " in text for text in drawn("jama"))
    heights = {layout: forest(frame, layout=layout).get_size_inches()[1] for layout in ("default", "jama")}
    assert heights["jama"] < heights["default"]
    many = forest_data(fitted(60))
    sizes = [min(text.get_fontsize() for text in texts(forest(many, layout=name))) for name in ("default", "apa")]
    assert sizes == [6.5, 8.0]
    with pytest.raises(InputError, match="layout"):
        forest(frame, layout="lancet")


def test_a_prediction_interval_is_a_bar_a_line_a_curve_or_nothing() -> None:
    frame = forest_data(molloy())
    words = {how: {text.get_text() for text in texts(forest(frame, prediction=how))} for how in ("bar", "line", False)}
    assert "95% prediction interval" in words["bar"] & words["line"]
    assert "95% prediction interval" not in words[False]
    figure = forest(frame, prediction="density")
    (curve,) = [path.vertices for one in figure.axes[0].collections for path in one.get_paths() if len(path) > 60]
    plan = make_layout(frame)
    top = curve[curve[:, 1].argmin()]
    assert top[0] == pytest.approx(plan.x(frame.attrs["pooled"]), abs=0.02)
    # The curve is as high at the limits as a normal density is at its 2.5% quantile.
    new = frame.iloc[-1]
    base = curve[:, 1].max()
    at = np.interp(plan.x(new["pi_ub"]), curve[1:-2, 0], base - curve[1:-2, 1])
    assert at / (base - top[1]) == pytest.approx(math.exp(-(1.959964**2) / 2), rel=0.02)
    skew = frame.copy()
    skew.attrs = dict(frame.attrs)
    skew.loc[skew.index[-1], "pi_ub"] += 0.2
    with pytest.raises(InputError, match="not symmetric"):
        forest(skew, prediction="density")


def test_the_band_says_what_it_is() -> None:
    shown = [text.get_text() for text in texts(forest(made("five"), smallest_effect=0.1))]
    assert "Shaded: correlations within ±.10, too small to matter" in shown


def test_further_summaries_have_the_numbers_of_their_own_tables() -> None:
    fit = molloy()
    equal, pet = molloy(method="EE"), quiet(lambda: bias.pet_peese(fit))
    frame = forest_data(fit, summaries={"Equal effects": equal, "": pet}, shrunken=True)
    first, second = (row for row in records(frame) if row["kind"] == "fitted")
    expected = equal.predict().iloc[0]
    np.testing.assert_array_equal(
        [first["yi"], first["ci_lb"], first["ci_ub"]], expected[["pred", "ci_lb", "ci_ub"]].to_numpy(float)
    )
    assert [second[name] for name in ("r", "r_lb", "r_ub")] == pytest.approx(pet.on_r, rel=CLOSED_FORM)
    assert (first["label"], second["label"]) == ("Equal effects", "PET-PEESE")
    assert "Equal effects: .12 [.07, .18]." in frame.attrs["description"]
    studies = frame[frame["kind"] == "study"]
    own = fit.blup()[["pred", "pi_lb", "pi_ub"]].to_numpy()
    np.testing.assert_array_equal(studies[["fit", "fit_lb", "fit_ub"]], own[studies["position"].astype(int)])
    assert frame_from_dict(frame_to_dict(frame)).equals(frame)
    with pytest.raises(InputError, match="no summary of one mean"):
        forest_data(fit, summaries=[3])
    with pytest.raises(InputError, match="no summary of one mean"):
        forest_data(fit, summaries=[molloy(mods="meanage")])


NEW = {"alliance_rater": ["client", "client", "therapist", "client", "observer"],
       "alliance_measure": ["WAI", "HAq", "WAI", "WAI", "WAI"],
       "session": [3, 3, 3, 8, 8],
       "quality": [0.2, 0.3, 0.1, 0.4, 0.5],
       "note": list("uvwxy")}  # fmt: skip


def named(rows: list[int], slab: list[str] | None = None, **more) -> tuple[list[str], list]:
    from alliance_meta.effects.dependent.groups import Clusters

    moderators = pd.DataFrame({**NEW, **more}).iloc[rows].reset_index(drop=True)
    label = slab or [f"Ada 2001{letter}" for letter in "abcde"[: len(rows)]]
    return effect_names(label, moderators, Clusters("study", np.zeros(len(rows), dtype=np.intp), ("Ada 2001",)))


def test_effects_are_named_by_the_fewest_columns_that_tell_them_apart() -> None:
    assert named([0, 2]) == (["client", "therapist"], [])
    assert named([0, 1]) == (["WAI", "HAq"], [])
    assert named([0, 3]) == (["session 3", "session 8"], [])
    assert named([0, 1, 2])[0] == ["client, WAI", "client, HAq", "therapist, WAI"]
    assert named([0, 1, 2, 3])[0] == ["client, WAI, session 3", "client, HAq, session 3", "therapist, WAI, session 3",
                                      "client, WAI, session 8"]  # fmt: skip


def test_what_a_label_says_itself_comes_first_and_letters_last() -> None:
    assert named([0, 2], ["Ada 2001 [early]", "Ada 2001 [late]"])[0] == ["early", "late"]
    names, notes = named([0, 0, 2])
    assert names == ["client, effect a", "client, effect b", "therapist"]
    assert [note.code for note in notes] == ["forest-letters"]
    assert named([0, 0])[0] == ["effect a", "effect b"]
    assert named([0, 2], ["Bo 2001a", "Bo 2001b"])[0] == ["client", "therapist"]
    assert named([0, 2], alliance_rater=["client", "", None, "", ""])[0] == ["client", "not coded"]


def test_a_mean_sample_size_is_a_whole_number_and_a_line_says_so() -> None:
    es = EffectSizes.from_arrays([0.1, 0.3, 0.5], [0.01, 0.02, 0.01], ni=[40.0, 52.7, 60.5], measure="ZCOR")
    frame = forest_data(quiet(lambda: RandomEffectsModel(es).fit()))
    shown = {text.get_text() for text in texts(forest(frame))}
    assert {"40", "52", "60", "153"} < shown
    assert sum(line.startswith("n: rounded down") for line in frame.attrs["bottom"]) == 1
    assert not any(line.startswith("n:") for line in made("five").attrs["bottom"])


def test_an_svg_has_each_letter_once_as_outline_and_every_text_in_its_place() -> None:
    figure = forest(made("two studies"))
    svg = figure_bytes(figure, id_prefix="f").decode()
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    used = re.findall(r'xlink:href="#([^"]+)"', svg)
    assert set(used) <= set(ids)
    (lettering,) = [one for one in figure.axes[0].get_children() if isinstance(one, Lettering)]
    letters = sum(len(line.text.replace(" ", "")) for line in lettering.lines if simple(line.text))
    assert sum(bool(re.match("f-[gb][0-9a-f]+$", name)) for name in used) == letters
    assert "Pooled effect" in figure_bytes(figure, text="text").decode()
    assert "Pooled effect" not in svg.partition("</desc>")[2]


def test_a_forest_of_many_stays_a_few_artists() -> None:
    frame = forest_data(fitted(200), columns=["rater"], rob=["bias"])
    assert len(forest(frame).axes[0].get_children()) < 60


def test_a_nested_forest_says_which_effects_only_letters_tell_apart() -> None:
    table = pd.DataFrame({"study": ["Ada 2001"] * 3 + ["Bo 2002"] * 2 + ["Cy 2003", "Di 2004"],
                          "r": [0.3, 0.2, 0.4, 0.1, 0.3, 0.2, 0.5], "n": [40] * 3 + [60] * 2 + [50, 45],
                          "rater": ["client", "therapist", "observer", "client", "client", "client", ""]})  # fmt: skip
    frame = forest_data(quiet(lambda: MultilevelModel(escalc(table)).fit()))
    assert frame.loc[frame["kind"] == "effect", "label"].tolist() == ["client", "therapist", "observer",
                                                                      "effect a", "effect b"]  # fmt: skip
    assert "apart of Bo 2002:" in " ".join(note["message"] for note in frame.attrs["notes"])


def test_pages_of_larger_text_are_no_higher() -> None:
    pages = forest_pages(fitted(90), layout="apa")
    assert len(pages) == 3
    assert max(page.get_size_inches()[1] for page in pages) <= 9.7
