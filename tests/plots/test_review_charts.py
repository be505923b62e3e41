"""Plots of a whole review: what is judged, found and not found is drawn as it stands, and nothing is made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from alliance_meta import (
    BayesianModel,
    CodingError,
    EffectSizes,
    InputError,
    LocationScaleModel,
    MultilevelModel,
    RandomEffectsModel,
    RVEModel,
    che,
    plots,
)
from alliance_meta.bayes import average
from alliance_meta.effects.contract.vocabulary import ROB_LEVELS
from alliance_meta.plots.forests.parts import judgement
from alliance_meta.plots.review.prisma import diagram
from alliance_meta.plots.sheet.measure import ROB_COLOURS
from tests.plots.cases import dependent, fitted, quiet
from tests.plots.charts import chart, figure
from tests.plots.review_cases import coded, judged
from tests.tolerances import CLOSED_FORM

SHEET = pd.DataFrame(
    {
        "study": ["A", "A", "B", "B", "C", "D", "D"],
        "rob_sample": ["low", "low", "low", "high", "?", "high", None],
        "rob_outcome": ["Low risk", "low", "critical", "critical", None, "moderate", None],
        "rob_overall": ["low", "low", "high", "high", "unclear", "serious", ""],
    }
)


def letters(frame: pd.DataFrame) -> dict[str, str]:
    return {str(label): "".join(own["judgement"]) for label, own in frame.groupby("label", sort=False)}


def notes(frame: pd.DataFrame) -> dict[str, str]:
    return {one["code"]: one["message"] for one in frame.attrs["notes"]}


def test_a_study_is_judged_once_where_its_effects_are_alike_and_else_not() -> None:
    frame = plots.rob_data(SHEET)
    expected = {"A": "LLL", "B (judgement 1 of 2)": "LHH", "B (judgement 2 of 2)": "HHH", "C": "?–?", "D": "HSH"}
    assert letters(frame) == expected
    assert frame["domain"].iloc[:3].tolist() == ["Sample", "Outcome", "Overall"]
    said = notes(frame)
    assert said["rob-differ"].endswith("a row for each judgement: B.")
    assert said["rob-filled"].endswith("taken as judged: D.")
    assert "H stands for high and critical and serious" in said["rob-words"]
    assert frame.attrs["description"].startswith(
        "Risk of bias of 4 studies in 3 domains, 5 rows. Sample: low 2, high 2"
    )


def test_every_word_of_the_vocabulary_is_a_judgement() -> None:
    found = {
        term.value: {judgement(word) for word in (term.value, term.meaning, *term.also)} for term in ROB_LEVELS.terms
    }
    assert found == {"low": {"L"}, "some concerns": {"S"}, "high": {"H"}, "unclear": {"?"}}


def test_what_is_no_judgement_is_said_with_its_place_and_mend() -> None:
    odd = SHEET.assign(rob_sample=[1, 1, 0, 0, "x", 0, None])
    with pytest.raises(CodingError) as caught:
        plots.rob_data(odd)
    assert {(one.row, one.column, one.value) for one in caught.value.problems} >= {(6, "rob_sample", "x")}
    assert "for other words give words={'x': 'low'}" in str(caught.value)
    mended = plots.rob_data(odd, words={1: "low", 0: "high", "X": "unclear"})
    assert [one[0] for one in letters(mended).values()] == ["L", "H", "?", "H"]
    with pytest.raises(InputError, match="words: 'fine' is no judgement; write one of low, some concerns, high"):
        plots.rob_data(odd, words={1: "fine"})


def test_domains_are_those_named_and_an_overall_judgement_is_never_made_up() -> None:
    frame = plots.rob_data(SHEET, domains={"rob_outcome": "Outcome of interest"})
    assert (frame.attrs["domains"], frame.attrs["overall"]) == (["Outcome of interest"], False)
    assert notes(frame)["rob-overall"] == "No column of an overall judgement; none was made up."
    frame = plots.rob_data(SHEET, domains=["rob_outcome"], overall="rob_sample")
    assert (frame.attrs["domains"], frame.attrs["overall"]) == (["Outcome", "Overall"], True)
    with pytest.raises(InputError, match="no column 'rob_outcom'; did you mean 'rob_outcome'"):
        plots.rob_data(SHEET, domains=["rob_outcom"])
    with pytest.raises(InputError, match=r"no column of data frame begins with rob_; .*columns: study"):
        plots.rob_data(SHEET[["study"]])
    with pytest.raises(InputError, match="kind='pie' is not one of"):
        plots.rob_data(SHEET, kind="pie")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"rob needs a table, effects, a fit or a data frame .* not int"):
        plots.rob_data(3)
    with pytest.raises(InputError, match="has no row"):
        plots.rob_data(SHEET.iloc[:0])


def test_bars_share_out_studies_or_the_weights_of_the_model() -> None:
    frame = plots.rob_data(SHEET, kind="bar")
    own = frame[frame["domain"] == "Sample"].set_index("judgement")["share"]
    # Of four studies: A, half of B; half of B, D; C.
    np.testing.assert_allclose(own[["L", "H", "?"]], [37.5, 37.5, 25.0], rtol=CLOSED_FORM)
    assert frame.attrs["x_label"] == "Share of studies, each counted once, %"
    fit = fitted(12)
    frame = plots.rob_data(fit, kind="bar", domains=["bias"])
    words = fit.effects.moderators["bias"].to_numpy()
    expected = [fit.weights[words == word].sum() for word in ("low", "some concerns", "high")]
    np.testing.assert_allclose(frame.set_index("judgement")["share"][["L", "S", "H"]], expected, rtol=CLOSED_FORM)
    np.testing.assert_allclose(frame["share"].sum(), 100.0, rtol=CLOSED_FORM)
    assert frame.attrs["x_label"] == "Share of the weight in the model (REML, HK), %"


FITS: dict[str, Any] = {
    "regression": lambda es: RandomEffectsModel(es, mods="year").fit(),
    "location-scale": lambda es: LocationScaleModel(es, scale="rater").fit(),
    "multilevel": lambda es: MultilevelModel(es).fit(),
    "RVE": lambda es: RVEModel(es).fit(),
    "CHE": che,
    "exact": lambda es: BayesianModel(es).fit(),
    "averaged": lambda es: average(es, candidates=["rater"]),
}


@pytest.mark.parametrize("name", FITS)
def test_every_model_is_answered_with_its_weights_or_with_studies(name: str) -> None:
    single = name in ("regression", "location-scale", "exact", "averaged")
    effects = fitted(12).effects if single else dependent(16, 6)
    fit = quiet(lambda: FITS[name](effects))
    frame = plots.rob_data(fit, kind="bar", domains=["bias"])
    weighted = frame.attrs["x_label"].startswith("Share of the weight")
    assert weighted == (name != "averaged")
    np.testing.assert_allclose(frame["share"].sum(), 100.0, rtol=CLOSED_FORM)
    cells = plots.evidence_map_data(fit, rows="rater", columns="modality")
    assert cells["k"].sum() == fit.effects.k
    assert cells["yi"].isna().all()


def test_the_colours_are_those_of_the_forest_and_each_has_its_letter() -> None:
    frame = chart("rob of 30")
    drawn = figure("rob of 30").axes[0].collections
    for letter, colour in ROB_COLOURS.items():
        own = frame[frame["judgement"] == letter]
        places = own[["column", "position"]].to_numpy()
        dots = [one for one in drawn if to_hex(one.get_facecolor()[0]) == colour]
        assert [one.get_offsets().tolist() for one in dots] == [places.tolist()]
        # The letter stands at the same places.
        assert sum(np.array_equal(one.get_offsets(), places) for one in drawn) == 2


def test_pages_hold_every_row_once() -> None:
    frame = plots.rob_data(judged(40))
    pages = plots.rob_pages(frame)
    assert len(pages) == 2
    # Rows stand as far apart on every page, and a page of A4 holds them.
    assert pages[0].get_size_inches()[1] < 11.0
    steps = [one.get_window_extent().height / np.ptp(one.get_ylim()) for one in (page.axes[0] for page in pages)]
    assert steps[0] == pytest.approx(steps[1], abs=0.1)
    labels = [text.get_text() for page in pages for text in page.axes[0].get_yticklabels()]
    assert [label.replace("\n", " ")[:20] for label in labels] == [
        str(label)[:20] for label in frame.drop_duplicates("position")["label"]
    ]
    assert pages[-1].plot_title.endswith("page 2 of 2")
    assert len(plots.rob_pages(judged(3))) == 1
    many = judged(2).iloc[[0] * 1001].assign(study=range(1001))
    with pytest.raises(InputError, match="1001 rows, a figure holds 1000; kind='bar' draws any number"):
        plots.rob_data(many)
    assert len(plots.rob_data(many, kind="bar"))


@pytest.mark.parametrize("name", ["prisma", "prisma of everything", "prisma of databases", "prisma of long reasons"])
def test_boxes_hold_their_words_and_never_overlap(name: str) -> None:
    drawing, plan = figure(name), diagram(chart(name))
    bounds = [*plan.boxes.values(), *(one[:4] for one in (*plan.titles, *plan.phases))]
    for i, one in enumerate(bounds):
        for other in bounds[:i]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    ax = drawing.axes[0]
    drawn = [patch.get_extents() for patch in ax.patches if isinstance(patch, Rectangle)]
    for text in ax.texts[: sum(map(len, plan.texts.values()))]:
        box = text.get_window_extent()
        assert any(one.x0 <= box.x0 and box.x1 <= one.x1 and one.y0 <= box.y0 and box.y1 <= one.y1 for one in drawn)
    words = " ".join(" ".join(text for text, _ in lines) for lines in plan.texts.values())
    assert words.count("(n = ") == chart(name)["n"].notna().sum()


def test_a_flow_says_every_number_in_words_and_as_text_of_the_file() -> None:
    frame, drawing = chart("prisma of everything"), figure("prisma of everything")
    svg = plots.figure_bytes(drawing, text="text").decode()
    for n in frame["n"].dropna():
        assert f"(n = {n:,.0f})" in drawing.plot_description
        assert f"(n = {n:,.0f})" in svg
    assert "Databases (n = 1,200), of these PsycINFO (n = 700), Embase (n = 500); Registers" in drawing.plot_description
    assert "Reports sought for retrieval (n not reported)." in chart("prisma").attrs["description"]
    with pytest.raises(InputError, match=r"prisma needs a flow from effects\.read_flow, not dict"):
        plots.prisma_data({})  # type: ignore[arg-type]


def test_the_map_counts_effects_and_studies_and_names_what_is_empty() -> None:
    sheet = coded(40)
    frame = plots.evidence_map_data(sheet, rows=["measure", "outcome_type"], columns=["time", "rater"])
    assert frame["k"].sum() == 40
    assert len(frame) == 6 * 8
    many = chart("evidence_map of four columns")
    one = many[(many["label"] == "WAI · symptom") & (many["across"] == "early · client")].iloc[0]
    own = coded(300).query(
        "alliance_measure == 'WAI' and outcome_type == 'symptom' and alliance_time == 'early' and "
        "alliance_rater == 'client'"
    )
    assert (one["k"], one["studies"]) == (len(own), own["study"].nunique())
    assert one["k"] > one["studies"]
    # In the order of the vocabulary, what is missing last.
    across = [text.split(" · ")[0] for text in frame["across"].iloc[:8:2]]
    assert across == ["early", "mid", "late", "not coded"]
    empty = frame[frame["kind"] == "empty"]
    assert f"{len(empty)} of 48 combinations have no study" in frame.attrs["bottom"]
    assert f"{empty['label'].iloc[0]} × {empty['across'].iloc[0]}" in notes(frame)["no-study"]
    assert notes(frame)["no-study"].endswith(f"and {len(empty) - 12} more.")
    assert "not coded in every column" in notes(frame)["not-coded"]


def test_means_of_the_map_are_those_of_the_model_or_there_are_none() -> None:
    fit = fitted(60, mods="rater*modality")
    frame = chart("evidence_map of a fit")
    for row in frame[frame["kind"] == "cell"].iloc[:3].to_dict("records"):
        new = pd.DataFrame({"modality": [row["label"]], "rater": [row["across"]]})
        assert row["r"] == pytest.approx(np.tanh(fit.predict(new)["pred"].iloc[0]), rel=CLOSED_FORM)
    assert plots.evidence_map_data(fit, rows="rater", columns="bias")["yi"].isna().all()
    assert plots.evidence_map_data(fit.effects, rows="modality", columns="rater")["yi"].isna().all()


def test_maps_that_cannot_be_drawn_are_refused() -> None:
    sheet = coded(10).assign(many=range(10))
    with pytest.raises(InputError, match=r"columns: no column 'tmie'\. Columns: study"):
        plots.evidence_map_data(sheet, columns="tmie")
    with pytest.raises(InputError, match="'alliance_time' stands in rows and in columns"):
        plots.evidence_map_data(sheet, rows=["measure", "time"], columns="time")
    with pytest.raises(InputError, match="rows: time, alliance_time names a column twice"):
        plots.evidence_map_data(sheet, rows=["time", "alliance_time"], columns="rater")
    with pytest.raises(InputError, match="rows names no column"):
        plots.evidence_map_data(sheet, rows=[])
    many = coded(70).assign(instrument=[f"M{i}" for i in range(70)])
    with pytest.raises(InputError, match="rows: 70 combinations, a figure holds 60; name fewer columns"):
        plots.evidence_map_data(many, rows="instrument")


def test_one_effect_and_names_of_any_script_are_answered() -> None:
    effects = EffectSizes.from_arrays([0.2], [0.01], mods={"rob_a": ["low"], "measure": ["WAI"], "time": [3.0]})
    named = replace(effects, study_id=("Żółć " * 40,))
    assert plots.rob_data(named)["judgement"].tolist() == ["L"]
    assert plots.rob(named).plot_description.endswith("A: low 1.")
    assert plots.evidence_map_data(named)[["label", "across"]].to_numpy().tolist() == [["WAI", "3"]]
