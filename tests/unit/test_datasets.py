"""The shipped data sets: what their cards say is true of the files, and bad requests get one clear message."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.effects import datasets
from alliance_meta.errors import CannotRunError, InputError

NAMES = list(am.list_datasets()["name"])
VALIDATION = [name for name in NAMES if am.load_dataset(name).card.kind == "validation"]
MACHINE = re.compile(r"/work|/root|/tmp|/home|pypi|\.library")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    shutil.copytree(datasets.data_root(), root)
    monkeypatch.setattr(datasets, "data_root", lambda: root)
    return root


def test_every_file_is_what_its_card_says() -> None:
    assert datasets.check_datasets() == []


def test_the_list_holds_every_set_once_with_a_caution_and_a_licence() -> None:
    listed = am.list_datasets()
    assert list(listed.columns) == ["name", "title", "k", "kind", "licence", "caution"]
    assert listed["name"].is_unique
    assert len(listed) == 22
    assert (listed[["title", "kind", "licence", "caution"]].map(len) > 0).all(axis=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_loads_with_its_card_and_hands_on_its_cautions(name: str) -> None:
    table = am.load_dataset(name)
    card = table.card
    assert card.k == table.k == len(table.frame)
    assert [field.name for field in card.fields] == list(table.columns)
    assert table.provenance.cautions == card.cautions
    assert table.provenance.sha256 == card.sha256
    assert table.provenance.licence == card.licence
    assert table.provenance.citation == card.citation
    assert card.sources
    assert card.synthetic == table.provenance.synthetic == (name == "synthetic_alliance")
    assert max(map(len, str(card).splitlines())) <= 80
    assert all(caution in unescape(card._repr_html_()) for caution in card.cautions)


@pytest.mark.parametrize("name", NAMES)
def test_columns_have_the_types_of_the_schema(name: str) -> None:
    table = am.load_dataset(name)
    for field in table.card.fields:
        column = table.frame[field.name]
        if field.type == "boolean":
            assert column.dtype == bool
        elif field.type in ("integer", "number"):
            assert column.dtype.kind in "if"
        else:
            assert not (column.dropna() == "").any()
        if field.required:
            assert column.notna().all()


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_are_sentences_and_differ(name: str) -> None:
    card = am.load_dataset(name).card
    texts = [field.description for field in card.fields]
    assert all(text.endswith(".") and len(text.split()) >= 3 for text in texts)
    assert len(set(texts)) == len(texts)


def test_cards_name_no_machine() -> None:
    for path in sorted(datasets.data_root().rglob("datapackage.json")):
        assert not MACHINE.search(path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize("name", VALIDATION)
def test_validation_sets_say_that_they_are_no_evidence(name: str) -> None:
    assert "numeric test material only" in am.load_dataset(name).card.cautions[0]


@pytest.mark.parametrize("name", ["kolden2011_congruence", "farber2011_positive_regard"])
def test_relationship_sets_say_that_they_are_not_alliance_data(name: str) -> None:
    assert "not alliance data" in am.load_dataset(name).card.cautions[0]


def test_kolden_rows_add_up_to_the_participants_the_abstract_prints() -> None:
    table = am.load_dataset("kolden2011_congruence")
    article = next(result for result in table.card.published if result.kind == "published")
    assert table.frame["n"].sum() == int(article.printed["N"])
    assert table.k == int(article.printed["k"])


def test_eight_abstract_rows_are_independent() -> None:
    table = am.load_dataset("alliance_abstracts")
    rows = table.query(table.card.subset).frame
    assert len(rows) == 8
    assert rows["study_id"].is_unique
    assert rows["r"].notna().all()


def test_labels_made_of_two_columns_reach_the_effect_sizes() -> None:
    table = am.load_dataset("molloy2014")
    assert table.defaults["slab"] == ("study", "year")
    assert am.escalc(table).slab[:2] == ("Axelsson et al. 2009", "Axelsson et al. 2011")


def test_na_in_a_file_is_missing() -> None:
    kinds = am.load_dataset("mcdaniel1994").frame["type"]
    assert kinds.isna().sum() == 3
    assert set(kinds.dropna()) == {"j", "p", "s"}


def test_sets_without_a_meaningful_pool_say_so() -> None:
    cards = [am.load_dataset(name).card for name in NAMES]
    assert {card.name for card in cards if not card.poolable} == {
        "alliance_not_poolable",
        "claims",
        "craft2003",
        "oswald2013_ex1",
        "published",
        "tannersmith2016",
    }


def test_a_unique_beginning_of_a_name_is_enough() -> None:
    assert am.load_dataset("kolden2011").card.name == "kolden2011_congruence"


def test_an_ambiguous_beginning_lists_the_candidates() -> None:
    with pytest.raises(InputError, match="alliance_abstracts, alliance_not_poolable"):
        am.load_dataset("alliance")


def test_an_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(InputError, match="did you mean 'molloy2014'") as caught:
        am.load_dataset("moloy2014")
    assert all(name in str(caught.value) for name in NAMES)


def test_a_changed_file_is_named_and_not_read(copied: Path) -> None:
    path = copied / "validation" / "molloy2014" / "molloy2014.csv"
    path.write_bytes(path.read_bytes().replace(b",109,", b",901,"))
    with pytest.raises(InputError, match=r"data/validation/molloy2014/molloy2014\.csv: differs"):
        am.load_dataset("molloy2014")
    assert any("molloy2014.csv: differs" in str(problem) for problem in datasets.check_datasets())
    assert am.load_dataset("cohen1981").k == 20


def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "claims" / "popular_claims.csv").unlink()
    with pytest.raises(InputError, match=r"data/claims/popular_claims\.csv: is missing"):
        am.load_dataset("claims")


def test_a_file_without_a_card_is_found(copied: Path) -> None:
    (copied / "studies" / "stray.csv").write_text("r,n\n0.1,20\n", encoding="utf-8")
    assert [str(problem) for problem in datasets.check_datasets()] == [
        "data/studies/stray.csv: no datapackage.json describes this file"
    ]


def test_the_check_finds_every_kind_of_bad_value_in_one_pass(copied: Path) -> None:
    path = copied / "validation" / "crede2010" / "crede2010.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1].replace("0.886", "1.886")
    lines[2] = lines[2].replace("297", "many")
    lines[3] = lines[3].replace(",gpa,", ",marks,")
    lines[4] = lines[4].replace("4,1989", ",1989", 1)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {(problem.row, problem.column) for problem in datasets.check_datasets() if problem.row is not None}
    assert found == {(2, "r"), (3, "n"), (4, "criterion"), (5, "study")}


def test_a_card_without_a_caution_is_found(copied: Path) -> None:
    path = copied / "claims" / "datapackage.json"
    package = json.loads(path.read_text(encoding="utf-8"))
    package["alliance_meta"]["cautions"] = []
    package["alliance_meta"]["columns"] = {"ri": "rr"}
    path.write_text(json.dumps(package), encoding="utf-8")
    found = [str(problem) for problem in datasets.check_datasets()]
    assert found == [
        "data/claims/datapackage.json: the card states no caution",
        "data/claims/datapackage.json: alliance_meta.columns names 'rr' as ri, which is no column of the file",
    ]


def test_a_folder_of_another_name_than_its_data_is_named(copied: Path) -> None:
    (copied / "validation" / "molloy2014").rename(copied / "validation" / "molloy")
    assert "data/validation/molloy: holds data called 'molloy2014'; folder and data share a name" in [
        str(problem) for problem in datasets.check_datasets()
    ]


def test_a_card_that_is_no_json_is_named(copied: Path) -> None:
    (copied / "claims" / "datapackage.json").write_text("{", encoding="utf-8")
    assert any("is not valid JSON" in str(problem) for problem in datasets.check_datasets())


def test_no_data_at_all_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "alliance_meta" / "effects" / "datasets.py"))
    with pytest.raises(CannotRunError, match="not installed"):
        am.list_datasets()


def test_printed_results_keep_their_digits_and_name_a_route_or_a_reason() -> None:
    results = [result for name in NAMES for result in am.load_dataset(name).card.published]
    assert len({result.id for result in results}) == len(results) == 44
    for result in results:
        assert result.kind in ("published", "recalculated", "documentation")
        assert result.scale in ("z", "r")
        assert all(isinstance(text, str) and np.isfinite(float(text)) for text in result.printed.values())
        assert result.source
        assert result.where
        assert result.route is not None or result.search or "not built" in result.note
    molloy = am.load_dataset("molloy2014").card.published[0]
    assert molloy.printed["se"] == "0.0316"
    assert molloy.route["method"] == "REML"


def test_two_loads_share_nothing_that_can_be_changed() -> None:
    first = am.load_dataset("molloy2014")
    changed = first.frame
    changed.loc[0, "r"] = 0.99
    pd.testing.assert_frame_equal(first.frame, am.load_dataset("molloy2014").frame)


def test_a_row_has_the_one_rater_its_study_had_or_the_codebook_names() -> None:
    frame = am.load_dataset("relationship_dependent_effects").frame
    several = frame["predictor_rater"].str.contains(";", na=False)
    alone = frame[~several]
    assert (alone["rater"].fillna("") == alone["predictor_rater"].fillna("")).all()
    named = frame[several & frame["rater"].notna()].set_index(["study", "effect_id"])
    assert set(named.index) == {(study, i) for study in ("Hansen 1968", "Maramarosh 2009") for i in (1, 2)}
    for _, row in named.iterrows():
        assert row["rater"] in row["predictor_rater"].split(";")
        assert row["outcome"].startswith({"observer": "judge"}.get(row["rater"], row["rater"]) + "-rated")
