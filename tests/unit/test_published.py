"""The registry of published results and the umbrella made of it."""

from __future__ import annotations

import math

import pytest

import alliance_meta as am
from alliance_meta.effects.datasets import data_root, read_resource
from alliance_meta.errors import InputError
from alliance_meta.evidence import umbrellas as umbrella_module
from alliance_meta.evidence.published_results import groups
from alliance_meta.evidence.umbrellas import CODES, NO_POOLED_VALUE, umbrella
from tests.tolerances import CLOSED_FORM

TURNED = {"howard2022_ptsd", "lococo2022_uncond", "lococo2022_3level"}


def by_id(frame, entry):
    return frame.set_index("id").loc[entry]


def test_signs_stay_as_printed_unless_asked() -> None:
    row = by_id(am.published(), "lococo2022_uncond")
    assert (row["estimate"], row["ci_low"], row["ci_high"]) == (-0.259, -0.302, -0.214)
    assert not row["sign_flipped"]


def test_aligned_signs_turn_the_interval_too_and_are_marked() -> None:
    row = by_id(am.published(align_signs=True), "lococo2022_uncond")
    assert (row["estimate"], row["ci_low"], row["ci_high"]) == (0.259, 0.214, 0.302)
    assert row["sign_flipped"]
    assert row["estimate_printed"] == "-.259"


def test_alignment_turns_only_what_points_to_a_worse_outcome() -> None:
    frame = am.published(align_signs=True)
    assert set(frame.loc[frame["sign_flipped"], "id"]) == TURNED | {"friedlander2018_split"}


def test_printed_text_is_kept_beside_the_number() -> None:
    row = by_id(am.published(), "welmers2018_level")
    assert (row["ci_low"], row["ci_low_printed"]) == (0.1, ".100")
    missing = by_id(am.published(), "fluckiger2018_internet")
    assert math.isnan(missing["ci_low"])
    assert missing["ci_low_printed"] == ""


def test_the_cautions_travel_with_the_frame() -> None:
    assert any("never pool" in text for text in am.published(year=2011).attrs["cautions"])


def test_text_finds_parts_and_a_list_finds_exact_values() -> None:
    parts = am.published(relation="alliance-outcome")
    exact = am.published(relation=["alliance-outcome"])
    assert set(exact["relation"]) == {"alliance-outcome"}
    assert {"split alliance-outcome", "supervisory alliance-outcome"} < set(parts["relation"])


def test_filters_add_up() -> None:
    found = am.published("adolescent", metric=["r"], year=(2018, 2018), evidence="author")
    assert set(found["id"]) == {"karver2018", "murphy_hutton2018", "murphy_hutton2018_12to19"}
    assert am.published("adolescent", year=1991).empty


def test_capitals_do_not_matter() -> None:
    assert "howard2022_ptsd" in set(am.published("ptsd")["id"])


def test_a_filter_that_fits_nothing_says_what_there_is() -> None:
    with pytest.raises(InputError, match="did you mean 'alliance-dropout'"):
        am.published(relation="aliance-dropout")
    with pytest.raises(InputError, match=r"no published result has the metric 'R'.*'SMD'"):
        am.published(metric=["R"])
    with pytest.raises(InputError, match="no published result is of 1950 to 1960; the registry spans 1991 to"):
        am.published(year=(1950, 1960))


def test_moderators_of_the_entries_asked_for() -> None:
    rows = am.published(["adult group"], moderators=True)
    assert set(rows["id"]) == {"lococo2022_3level"}
    bourke = am.published("psychosis: engagement", moderators=True)
    assert set(bourke["id"]) == {"bourke2021"}


def test_every_moderator_row_belongs_to_an_entry() -> None:
    stored = read_resource(data_root() / "published", "moderators")
    assert len(am.published(moderators=True)) == len(stored) == 153


def test_reliabilities_are_a_table_of_their_own_with_filters_of_their_own() -> None:
    table = am.published("reliability")
    assert set(table["kind"]) == {"alpha", "retest", "G"}
    assert set(am.published("reliability", measure="WAI")["measure"]) == {"WAI", "WAI-S", "WAI-SR"}
    assert set(am.published("reliability", measure=["WAI"], year=2008)["rater"]) == {"client", "therapist"}
    one = table.query("kind == 'G' and sessions == 1").iloc[0]
    assert one["value"] == by_id(am.published(), "critschristoph2011_dependability")["estimate"]
    bound = am.published("reliability", measure="WAI-SR").iloc[0]
    assert (bound["printed"], math.isnan(bound["value"])) == ("> .80", True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"population": "reliability", "measure": "WIA"}, "has the measure 'WIA'.*there are 'CALPAS'"),
        ({"population": "reliability", "metric": "r"}, "metric= belongs to results, not to reliabilities"),
        ({"population": "reliability", "moderators": True}, "moderators= belongs to results"),
        ({"measure": "WAI"}, "measure= belongs to reliabilities"),
    ],
)
def test_filters_of_the_other_table_are_refused(given, message) -> None:
    with pytest.raises(InputError, match=message):
        am.published(**given)


def test_every_entry_has_a_group_and_every_part_its_whole() -> None:
    group = groups()
    registry = am.published()
    assert list(group.index) == list(registry["id"])
    parts = group[group["role"] != "main"]
    assert parts["part_of"].isin(group.index[group["role"] == "main"]).all()
    assert group.loc[group["role"] == "main", "part_of"].isna().all()
    assert group.groupby("heading")["heading_order"].nunique().eq(1).all()
    assert group.groupby("heading_order")["heading"].nunique().eq(1).all()


def test_registry_checks_point_at_entries() -> None:
    ids = set(am.published()["id"])
    assert set(read_resource(data_root() / "published", "expected_consistency")["id"]) <= ids
    claimed = read_resource(data_root() / "claims", 0)["published_ids"].dropna()
    assert {entry for cell in claimed for entry in cell.split(";")} <= ids


@pytest.fixture(scope="module")
def shown():
    return umbrella()


def test_every_entry_is_shown_or_left_out_with_a_reason(shown) -> None:
    assert len(shown.frame) + len(shown.excluded) == len(am.published())
    assert not set(shown.frame["id"]) & set(shown.excluded["id"])
    assert (shown.excluded["reason"].map(len) > 5).all()


def test_the_umbrella_holds_correlations_of_alliance_with_outcome(shown) -> None:
    registry = am.published().set_index("id").loc[shown.frame["id"]]
    assert set(registry["relation"]) == {"alliance-outcome"}
    assert set(registry["metric"]) <= {"r", "z"}
    assert shown.frame["estimate"].between(0, 1).all()


def test_signs_are_aligned_and_marked(shown) -> None:
    marked = shown.frame[shown.frame["codes"].str.split().map(lambda codes: "sign" in codes)]
    assert set(marked["id"]) == TURNED
    row = by_id(shown.frame, "howard2022_ptsd")
    assert row["estimate"] == 0.34
    assert row["estimate_printed"] == "-.34"


def test_what_nobody_can_look_up_is_not_shown_but_keeps_its_row(shown) -> None:
    left = shown.excluded.set_index("id")["reason"]
    unnamed = {"horvath_bedi2002", "psychopharm2018", "fluckiger2026_internet"}
    assert set(left.index[left.str.contains("authors or its title were not read")]) == unnamed
    assert am.published().set_index("id").loc[list(unnamed), "estimate"].notna().all()


def test_fisher_z_is_shown_as_r_and_said(monkeypatch) -> None:
    registry = am.published(align_signs=True)
    registry.loc[registry["id"] == "psychopharm2018", "authors"] = "Somebody"
    monkeypatch.setattr(umbrella_module, "published", lambda **_: registry)
    shown = umbrella()
    row = by_id(shown.frame, "psychopharm2018")
    assert row["estimate"] == pytest.approx(math.tanh(0.30), rel=CLOSED_FORM)
    assert row["ci_lb"] == pytest.approx(math.tanh(0.20), rel=CLOSED_FORM)
    assert "z" in row["codes"].split()
    assert shown.frame["converted"].sum() == 1


def test_intervals_that_were_not_printed_are_missing_and_marked(shown) -> None:
    row = by_id(shown.frame, "fluckiger2018_internet")
    assert math.isnan(row["ci_lb"])
    assert math.isnan(row["ci_ub"])
    assert row["ci_printed"] == ""
    assert row["codes"] == "sub ci"


def test_coaching_and_the_like_are_marked_and_can_be_left_out(shown) -> None:
    marked = set(shown.frame.loc[~shown.frame["psychotherapy"], "id"])
    assert marked == {"grassmann2020_coaching", "milot_lapointe2021_career"}
    without = umbrella(psychotherapy_only=True)
    assert not marked & set(without.frame["id"])
    assert set(without.excluded.loc[without.excluded["reason"] == "not psychotherapy", "id"]) == marked


def test_results_that_repeat_an_article_follow_it(shown) -> None:
    ids = list(shown.frame["id"])
    for _, row in shown.frame[shown.frame["role"] != "main"].iterrows():
        assert ids.index(row["part_of"]) < ids.index(row["id"])
        assert row["codes"].split()[0] in ("sub", "same")
    assert shown.frame["heading_order"].is_monotonic_increasing


def test_labels_are_unique_and_written_out(shown) -> None:
    assert shown.frame["label"].is_unique
    assert not shown.frame["label"].str.contains("nan|None").any()


def test_nothing_is_pooled_and_the_reason_is_said_first(shown) -> None:
    assert shown.notes[0].message == NO_POOLED_VALUE
    assert "same primary studies" in NO_POOLED_VALUE
    assert not [name for name in dir(shown) if "pool" in name]
    assert not shown.frame["label"].str.contains("pooled|overall", case=False).any()
    assert [name for name in vars(umbrella_module) if "pool" in name.lower()] == ["NO_POOLED_VALUE"]


def test_codes_are_those_that_occur_and_all_explained(shown) -> None:
    used = {code for codes in shown.frame["codes"] for code in codes.split()}
    assert set(shown.codes) == used <= set(CODES)


def test_the_umbrella_shows_itself(shown) -> None:
    assert str(shown) == "Umbrella: 32 published results under 8 headings, not pooled"
    assert NO_POOLED_VALUE in shown._repr_html_()
    assert len(shown) == 32


# --- views, development, refusals -----------------------------------------------------------------------


def test_views_count_and_give_the_range_of_what_is_shown(shown) -> None:
    table = shown.by("population", "format").set_index(["population", "format"])
    assert table["results"].sum() == len(shown)
    adults = shown.frame[(shown.frame["population_group"] == "Adults") & (shown.frame["format_group"] == "Individual")]
    row = table.loc[("Adults", "Individual")]
    assert (row["lowest"], row["highest"]) == (adults["estimate"].min(), adults["estimate"].max())
    assert (row["first_year"], row["last_year"]) == (1991, 2018)
    assert row["articles"] < row["results"] == len(adults)
    assert row["ids"].split() == list(adults["id"])
    assert not {"mean", "estimate", "average"} & set(table.columns)


def test_the_rater_is_known_only_where_it_is_printed(shown) -> None:
    table = shown.by("rater").set_index("rater")
    assert set(table.index) == {"client", "therapist", "not stated, or mixed"}
    assert set(table.loc["client", "ids"].split()) == {"bourke2021_global_client", "bourke2021_psy_client"}
    printed = am.published().set_index("id")["population"]
    for entry, rater in groups()["rater"].dropna().items():
        assert f"{rater}-rated" in printed[entry]


def test_an_unknown_view_says_what_there_is(shown) -> None:
    with pytest.raises(InputError, match="choose from 'population', 'format', 'rater', 'evidence', each once; did you"):
        shown.by("populaton")
    with pytest.raises(InputError, match="choose from"):
        shown.by()


def test_the_development_widens_and_never_narrows(shown) -> None:
    table = shown.development()
    assert (table["year"].iloc[0], table["year"].iloc[-1]) == (1991, 2024)
    assert table["year"].is_monotonic_increasing
    for name, sign in (("results", 1), ("articles", 1), ("highest", 1), ("lowest", -1)):
        assert (sign * table[name]).is_monotonic_increasing
    assert table["results"].iloc[-1] == len(table) == (shown.frame["role"] == "main").sum()
    until = table[table["year"] == 2018]
    so_far = shown.frame[(shown.frame["role"] == "main") & (shown.frame["year"] <= 2018)]["estimate"]
    assert set(until["lowest"]) == {so_far.min()}
    assert set(until["highest"]) == {so_far.max()}
    assert len(shown.development(repeats=True)) == len(shown)
    assert set(shown.development(population="Adults")["population_group"]) == {"Adults"}
    with pytest.raises(InputError, match="no result shown is of the population 'Adult'; did you mean 'Adults'"):
        shown.development(population="Adult")


def test_the_overlap_is_said_with_what_is_known_of_it(shown) -> None:
    note = next(note.message for note in shown.notes if note.code == "overlap")
    main = shown.frame[shown.frame["role"] == "main"]
    again = shown.frame[shown.frame["role"] != "main"]
    assert f"add up to {main['k'].sum():,.0f}" in note
    assert f"{int(again['k'].sum()):,} more are counted again, in {again['k'].notna().sum()} results" in note
    assert "no correction for it is possible" in note


def test_a_prediction_from_the_registry_is_refused_with_the_reason(shown) -> None:
    with pytest.raises(InputError, match=r"cannot predict a new study.*study-level data.*RandomEffectsModel"):
        shown.predict({"population": "adult", "setting": "inpatient"})


@pytest.mark.parametrize("relation", [None, ["alliance-outcome"]])
def test_no_model_is_made_of_published_results(relation) -> None:
    frame = am.published(relation=relation)
    for rows in (frame, frame[frame["metric"] == "r"], frame.query("metric == 'r'").dropna(subset=["n_total"])):
        with pytest.raises(InputError, match="published pooled results, not studies"):
            am.escalc(rows, ri="estimate", ni="n_total")


def test_a_word_of_another_column_names_its_argument() -> None:
    with pytest.raises(InputError, match="has the population 'internet'; use format='internet'"):
        am.published("internet")


def test_the_title_of_the_umbrella_has_no_reference_in_it(tmp_path) -> None:
    """A caption speaks of other tables by {ref.name}; a title and a text alternative must not."""
    from alliance_meta.reporting.declaration import read_declaration
    from alliance_meta.reporting.document import make_document

    document = make_document(read_declaration("reports/alliance-evidence.toml"))
    figure = document["figures"]["forest_umbrella"]
    assert "{ref." in figure["caption"]
    for words in (figure["title"], figure["description"], figure["frame"]["meta"]["title"]):
        assert "{" not in words
