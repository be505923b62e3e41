"""The coding contract: one declaration, and everything that comes from it."""

from __future__ import annotations

import csv
import io
import json
import warnings
import zipfile
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import alliance_meta as am
from alliance_meta.effects.contract import template as blank
from alliance_meta.effects.contract.description import fields_of
from alliance_meta.effects.contract.schema import CONTRACT, Column, json_schema, row_model
from alliance_meta.effects.contract.template import as_markdown, as_text, column_as_text, column_of, rows_of
from alliance_meta.effects.contract.vocabulary import Vocabulary, vocabulary
from alliance_meta.effects.converting.rules import RULES
from alliance_meta.effects.datasets import data_root
from alliance_meta.effects.sheet.columns import parse_number
from alliance_meta.effects.sheet.examine import examine, examine_bytes
from alliance_meta.errors import SuspiciousInputWarning
from alliance_meta.reporting.writing import dumps

ROOT = Path(__file__).parents[2]
WITH_WORDS = [column for column in CONTRACT.columns if column.vocabulary is not None]
ROW = {column.name: column.example for column in CONTRACT.columns if column.need == "required"}
MODEL = row_model(CONTRACT)
OTHER = {"study_id": "bo2002", "es_id": "bo2002_1", "study": "Bo", "year": "2002", "r": "-0.1", "n": "60"}

# What `docs/` and the issue of the contract list; a word that vanishes is a broken sheet somewhere.
WORDS = {
    "alliance_measure": "WAI WAI-S WAI-SR CALPAS HAq HAq-II VPPS VTAS TAS TASC-r TAQS SRS CSRS SOFTA GCQ other "
    "SOFTA-s WAI-O WAI-I D-WAI mARM ARM PHAS HAcs HAr TARS CALTARS ITAS CTAS FTAS TSR BLRI TPOCS-A TASCP GQ",
    "outcome_measure": "OQ-45.2 BDI HRSD SCL-90-R BSI CORE-OM PHQ-9 GAD-7 GAF IIP dropout other",
    "alliance_rater": "client therapist observer parent member",
    "outcome_rater": "client therapist observer parent member",
    "alliance_component": "goal task bond total",
    "alliance_type": "individual member-leader group within-family split",
    "alliance_time": "early mid late averaged change",
    "modality": "CBT psychodynamic IPT humanistic/experiential systemic integrative counselling DBT ACT motivational",
    "setting": "outpatient inpatient day_hospital community residential internet telephone video",
    "format": "individual group couple family internet-guided app chat blended self-guided",
    "diagnosis": "depression anxiety PTSD SUD eating psychosis personality dissociative mixed",
    "target": "client-therapist member-member member-leader supervisor",
    "level": "patient therapist total",
    "referral": "clinical recruited mandated",
    "allegiance": "alliance treatment none",
    "outcome_type": "symptom functioning dropout adherence engagement relapse well-being",
    "design": "RCT naturalistic",
    "r_type": "zero-order partial semi-partial beta-converted within-patient",
}


def sheet(*rows: dict[str, str]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def errors(*rows: dict[str, str], hold: str = "strict") -> list[str]:
    return [str(problem) for problem in examine_bytes(sheet(*rows), "sheet.csv", hold=hold).errors]


# --- the declaration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_the_field_are_in_the_vocabularies(name: str) -> None:
    column = CONTRACT.column(name)
    assert column is not None
    assert column.vocabulary is not None
    assert set(WORDS[name].split()) <= set(column.vocabulary.values)


MODERATORS = """
n_therapists country mean_age pct_female pct_minority n_sessions alliance_session allegiance referral focal covariates
quality ns therapist_id level target
"""


def test_what_moderator_analyses_need_has_a_column() -> None:
    assert {column.name for column in CONTRACT.columns} >= set(MODERATORS.split())
    outcomes = CONTRACT.column("outcome_type")
    assert outcomes is not None
    assert outcomes.vocabulary is not None
    assert "medication adherence" in outcomes.vocabulary.values


def test_what_a_sheet_must_have() -> None:
    assert [column.name for column in CONTRACT.named("required")] == ["study_id", "es_id", "study", "year", "r", "n"]
    assert all(column.filled for column in CONTRACT.named("required"))
    assert {"sample_id", "alliance_rater", "rel_alliance", "source"} <= {
        column.name for column in CONTRACT.named("advised")
    }


def test_statistics_are_those_that_can_be_converted() -> None:
    column = CONTRACT.column("es_type")
    assert column is not None
    assert column.vocabulary is not None
    assert set(column.vocabulary.values) == set(RULES)
    calculated = CONTRACT.column("es_calc")
    assert calculated is not None
    assert calculated.vocabulary is not None
    assert {rule.es_calc for rule in RULES.values()} <= set(calculated.vocabulary.values)


@pytest.mark.parametrize("column", CONTRACT.columns, ids=lambda column: column.name)
def test_every_column_says_what_it_is_and_its_example_keeps_its_rules(column: Column) -> None:
    assert column.description.endswith(".")
    assert column.example
    assert errors({**ROW, column.name: column.example}, OTHER) == []


def test_a_word_stands_once() -> None:
    with pytest.raises(ValidationError, match="stands twice"):
        vocabulary("x", ("day_hospital", "a"), ("Day Hospital", "b"))
    with pytest.raises(ValidationError, match="two columns"):
        CONTRACT.changed({"x": Column(name="x", title="x", description="x", also=("r",))})


@pytest.mark.parametrize(
    ("column", "typed", "meant"),
    [
        ("setting", "day clinic", "day_hospital"),
        ("setting", "outpatiant", "outpatient"),
        ("alliance_rater", "patient", "client"),
        ("alliance_measure", "HAQ II", "HAq-II"),
        ("outcome_measure", "Beck Depression Inventory", "BDI"),
        ("modality", "cognitive behavioural therapy", "CBT"),
        ("setting", "xylophone", None),
    ],
)
def test_the_nearest_word_is_found(column: str, typed: str, meant: str | None) -> None:
    words = column_of(column).vocabulary
    assert isinstance(words, Vocabulary)
    assert (words.spelling(typed) or words.nearest(typed)) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [("aliance_rater", "alliance_rater"), ("settings", "setting"), ("rater", None), ("outcome_measure2", None)],
)
def test_a_mistyped_column_is_pointed_out(name: str, meant: str | None) -> None:
    reading = examine_bytes(sheet({**ROW, name: "x"}, {**OTHER, name: "x"}), "sheet.csv")
    found = [problem.message for problem in reading.suspicions if problem.kind == "column-name"]
    assert found == ([] if meant is None else [f"the contract has no column {name!r}; did you mean {meant!r}?"])


# --- checks and JSON Schema agree -----------------------------------------------------------------------

CELLS = st.sampled_from(
    ["", "1", "0", "-1", "0.5", "1.5", "-0.31", "4", "3", "48", "2001", "2001.5", "yes", "no", "maybe", "x"]
    + [word for column in WITH_WORDS for word in column.vocabulary.values[:2]]  # type: ignore[union-attr]
)


@given(st.sampled_from([column for column in CONTRACT.columns if column.name != "es_id"]), CELLS)
@settings(max_examples=90)
def test_the_checker_takes_what_the_pydantic_model_takes(column: Column, cell: str) -> None:
    """But for numbers a sheet writes in a way Python does not, and words that differ in case only."""
    row = {name: text for name, text in {**ROW, column.name: cell}.items() if text != ""}
    try:
        MODEL.model_validate(row)
        allowed = True
    except ValidationError:
        allowed = False
    found = [problem for problem in errors({**ROW, column.name: cell}, OTHER) if "line 2" in problem]
    # Text where a year belongs stops no analysis that does not use it.
    if column.name != "year" or parse_number(cell) is not None:
        assert (found == []) == allowed, (column.name, cell, found)


def test_the_json_schema_says_what_the_contract_says() -> None:
    schema = json_schema(CONTRACT)
    assert list(schema["properties"]) == [column.name for column in CONTRACT.columns]
    assert schema["required"] == [column.name for column in CONTRACT.named("required")]
    r = schema["properties"]["r"]
    assert (r["exclusiveMinimum"], r["exclusiveMaximum"], r["type"]) == (-1, 1, "number")
    for column in WITH_WORDS:
        assert json.dumps(list(column.vocabulary.values)) in json.dumps(schema["properties"][column.name])


# --- codebook, template and page ------------------------------------------------------------------------


def test_the_pages_are_those_of_the_contract() -> None:
    said = "run: alliance-meta codebook --markdown > docs/codebook.md, and --json > docs/coding-sheet.schema.json"
    assert (ROOT / "docs/codebook.md").read_text("utf-8") == as_markdown(CONTRACT), said
    assert (ROOT / "docs/coding-sheet.schema.json").read_text("utf-8") == dumps(json_schema(CONTRACT)), said


def test_the_codebook_is_the_contract() -> None:
    table = am.effects.codebook()
    assert list(table.index) == [column.name for column in CONTRACT.columns]
    assert table.loc["alliance_rater", "values"].split(", ")[-1] == "significant other"
    assert am.effects.codebook("setting").loc["day_hospital", "meaning"] == "days in hospital, nights at home"
    with pytest.raises(am.InputError, match="did you mean 'setting'"):
        am.effects.codebook("settng")
    with pytest.raises(am.InputError, match=r"'r' has no vocabulary; it holds \(-1, 1\)"):
        am.effects.codebook("r")
    text = as_text(CONTRACT)
    assert max(map(len, text.splitlines())) <= 100
    for column in CONTRACT.columns:
        assert f"{column.name} (" in text
    assert column_as_text(column_of("setting")).count("\n  ") >= len(am.effects.codebook("setting"))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return blank.template_files("horvath2011")


def test_the_blank_sheet_has_the_columns_of_the_contract(files: dict[str, bytes]) -> None:
    names = [column.name for column in CONTRACT.columns if column.blank]
    assert {"yi", "vi", "sei"} == {column.name for column in CONTRACT.columns} - set(names)
    assert files["effects.csv"].decode().strip().split(",") == names
    package = json.loads(files["datapackage.json"])
    schema = package["resources"][0]["schema"]
    assert schema["fields"] == fields_of(blank.blank_contract())
    assert [field["name"] for field in schema["fields"]] == names
    by_name = {field["name"]: field for field in schema["fields"]}
    for column in WITH_WORDS:
        assert by_name[column.name]["constraints"]["enum"] == list(column.vocabulary.values)
        assert [one["value"] for one in by_name[column.name]["categories"]] == list(column.vocabulary.values)
    assert files["CODEBOOK.md"].decode() == as_markdown(blank.blank_contract())


def test_the_workbook_has_the_same_columns_words_and_codebook(files: dict[str, bytes]) -> None:
    book = openpyxl.load_workbook(io.BytesIO(files["effects.xlsx"]))
    assert book.sheetnames == ["effects", "codebook", "words"]
    effects, codebook, words = (book[name] for name in book.sheetnames)
    assert [cell.value for cell in effects[1]] == files["effects.csv"].decode().strip().split(",")
    lists = {}
    for rule in effects.data_validations.dataValidation:
        place = str(rule.sqref).split(":")[0]
        name = effects[f"{place.rstrip('0123456789')}1"].value
        if rule.type == "list" and rule.formula1.startswith("words!"):
            first, last = rule.formula1.removeprefix("words!").replace("$", "").split(":")
            lists[name] = [cell[0].value for cell in words[first:last]]
        elif rule.type in ("decimal", "whole"):
            assert CONTRACT.column(name).numeric
    assert lists == {column.name: list(column.vocabulary.values) for column in WITH_WORDS}
    rows = [[cell or "" for cell in row] for row in codebook.iter_rows(min_row=2, values_only=True)]
    expected = rows_of(blank.blank_contract())
    assert [tuple(row) for row in rows[: len(expected)]] == expected
    assert words.sheet_state == "hidden"


def test_a_template_is_the_same_bytes_each_time(files: dict[str, bytes]) -> None:
    assert blank.template_files("horvath2011") == files
    with zipfile.ZipFile(io.BytesIO(files["effects.xlsx"])) as archive:
        assert {part.date_time[0] for part in archive.infolist()} == {2000}
        core = archive.read("docProps/core.xml").decode()
    assert core.count("2000-01-01T00:00:00Z") == 2


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("horvath2011", {"k": "190", "estimate": ".275", "ci_lb": ".25", "ci_ub": ".30"}),
        ("martin2000", {"k": "79", "estimate": ".22"}),
        ("alldredge2021", {"k": "29", "N": "3628", "estimate": ".17"}),
    ],
)
def test_the_printed_result_goes_along_as_printed(name: str, printed: dict[str, str]) -> None:
    package = json.loads(blank.template_files(name)["datapackage.json"])
    (result,) = package["alliance_meta"]["published"]
    assert result["printed"] == printed
    assert package["sources"]


def test_every_published_result_has_a_template_and_only_correlations_a_result() -> None:
    table = am.published()
    for name, metric, estimate in table[["id", "metric", "estimate_printed"]].itertuples(index=False):
        package = blank.blank_package(blank.blank_contract(), blank._entry(name))
        assert bool(package["alliance_meta"]["published"]) == (metric == "r" and estimate != ""), name


@pytest.mark.parametrize(
    ("name", "moderator", "levels", "printed", "others"),
    [
        ("horvath2011", "alliance rater", ["client", "therapist", "observer"], [], 5),
        ("fluckiger2018_f2f", "country", [], ["'relation remains consistent across' (abstract; no values)"], 5),
        ("alldredge2021", "treatment orientation", [], ["significant (no value)"], 1),
        ("lococo2022_3level", "outcome type", [], ["significant (no value in abstract)"], 5),
        (
            "karver2018",
            "study design (RCT vs non-RCT)",
            ["RCT", "non-RCT"],
            ["significant moderator (no values in abstract)"],
            3,
        ),
        (
            "murphy_hutton2018",
            "patient-therapist ratio",
            [],
            ["single-predictor meta-regression, p = .26", "multi-predictor meta-regression, p = .22"],
            0,
        ),
    ],
)
def test_moderators_without_values_go_along_to_be_rebuilt(name, moderator, levels, printed, others) -> None:
    found = json.loads(blank.template_files(name)["datapackage.json"])["alliance_meta"]["to_rebuild"]
    (one,) = [entry for entry in found if entry["moderator"] == moderator]
    assert (one["levels"], one["printed"]) == (levels, printed)
    assert len(found) == others + 1


def test_a_moderator_with_values_is_a_result_and_not_to_be_rebuilt() -> None:
    own = json.loads(blank.template_files("murphy_hutton2018")["datapackage.json"])["alliance_meta"]
    assert "age range: samples within 12-19 only" in [result.get("moderator") for result in own["published"]]
    assert "age range" not in [entry["moderator"] for entry in own["to_rebuild"]]
    (compared,) = [m for m in blank.moderators_to_rebuild("fluckiger2012") if m["moderator"] == "treatment type"]
    assert compared["levels"] == ["CBT", "other"]
    assert json.loads(blank.template_files()["datapackage.json"])["alliance_meta"]["to_rebuild"] == []


def test_typed_rows_are_never_overwritten(tmp_path: Path) -> None:
    paths = am.write_template(tmp_path / "new", "martin2000")
    assert [path.name for path in paths] == ["effects.csv", "effects.xlsx", "datapackage.json", "CODEBOOK.md"]
    paths[0].write_text("typed")
    with pytest.raises(am.CannotRunError, match="may hold typed rows"):
        am.write_template(tmp_path / "new")
    assert paths[0].read_text() == "typed"
    with pytest.raises(am.InputError, match="did you mean 'horvath2011'"):
        am.write_template(tmp_path / "other", "horvat2011")
    assert not (tmp_path / "other").exists()


def test_a_blank_sheet_says_that_it_is_blank(tmp_path: Path) -> None:
    am.write_template(tmp_path)
    for name in ("effects.csv", "effects.xlsx"):
        (problem,) = examine(tmp_path / name).errors
        assert "only a header and no row of data" in problem.message


# --- a sheet's own description --------------------------------------------------------------------------


def describe(folder: Path, *fields: dict[str, object], path: str = "own.csv", **schema: object) -> None:
    package = {"resources": [{"name": "own", "path": path, "schema": {"fields": list(fields), **schema}}]}
    (folder / "datapackage.json").write_text(json.dumps(package))


def test_own_words_widen_a_vocabulary_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(sheet({**ROW, "setting": "prison"}, {**OTHER, "setting": "prisn"}))
    assert len(examine(path).errors) == 2
    describe(tmp_path, {"name": "setting", "constraints": {"enum": ["prison"]}})
    reading = examine(path)
    (problem,) = reading.errors
    assert problem.value == "prisn"
    assert "did you mean 'prison'?" in problem.message
    assert [note.message for note in reading.notes if note.code == "description"] == [
        "own.csv: datapackage.json describes it and adds 1 word to 'setting'"
    ]


def test_own_columns_keep_their_own_rules(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(
        sheet(
            {**ROW, "arm": "a", "dose": "12", "token": "x", "gone": "-99", "must": "1"},
            {**OTHER, "arm": "c", "dose": "120", "token": "x", "gone": "4", "must": ""},
        )
    )
    describe(
        tmp_path,
        {"name": "arm", "categories": [{"value": "a", "label": "first"}, "b"]},
        {"name": "dose", "type": "number", "constraints": {"maximum": 100}},
        {"name": "token", "constraints": {"unique": True}},
        {"name": "gone", "type": "integer", "constraints": {"minimum": 0}},
        {"name": "must", "constraints": {"required": True}},
        missingValues=["", "-99"],
    )
    reading = examine(path)
    assert [(one.row, one.column, one.kind) for one in reading.errors] == [
        (3, "arm", "not-in-vocabulary"),
        (3, "dose", "out-of-range"),
        (3, "token", "not-unique"),
        (3, "must", "required"),
    ]
    assert "cells with '-99' count as missing" in reading.notes[0].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "datapackage.json is not valid JSON"),
        ("[1]", "datapackage.json: "),
        ('{"resources": [{"path": 3}]}', "datapackage.json: resources"),
        ('{"resources": [{"path": "own.csv", "schema": {"fields": [{"type": "x"}]}}]}', "Field required"),
    ],
)
def test_a_description_that_cannot_be_read_is_a_problem_of_its_own(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(sheet(ROW, OTHER))
    (tmp_path / "datapackage.json").write_text(text)
    assert any(message in problem.message for problem in examine(path).errors)
    with pytest.warns(SuspiciousInputWarning, match="a description that cannot be read"):
        assert am.read_coded(path).k == 2


@pytest.mark.parametrize("text", ["{}", '{"resources": [{"path": "else.csv", "schema": {"fields": []}}]}'])
def test_a_description_of_something_else_is_none_of_its_business(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(sheet(ROW, OTHER))
    (tmp_path / "datapackage.json").write_text(text)
    assert examine(path).errors == []
    assert examine(path).notes == ()


@pytest.mark.parametrize("name", ["effects.csv", "effects.xlsx"])
def test_words_outside_a_vocabulary_stop_the_check_and_not_the_reading(tmp_path: Path, name: str) -> None:
    am.write_template(tmp_path)
    rows = [{**ROW, "setting": "day clinic"}, {**OTHER, "setting": "outpatient"}]
    if name.endswith("csv"):
        (tmp_path / name).write_bytes(sheet(*rows))
    else:
        book = openpyxl.load_workbook(tmp_path / name)
        columns = [cell.value for cell in book["effects"][1]]
        for row in rows:
            book["effects"].append([row.get(column) for column in columns])
        book.save(tmp_path / name)
    (problem,) = examine(tmp_path / name).errors
    assert (problem.row, problem.column, problem.value) == (2, "setting", "day clinic")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = am.read_coded(tmp_path / name)
    assert any("words outside the vocabulary" in str(one.message) for one in caught)
    assert table.frame["setting"].tolist() == ["day clinic", "outpatient"]
    with pytest.raises(am.CodingError, match="did you mean 'day_hospital'"):
        am.read_coded(tmp_path / name, strict=True)


# --- Frictionless ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validate():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from frictionless import Package

    def run(path: Path) -> list[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = Package(str(path)).validate()
        found = [error.note for error in report.errors]
        return found + [error.message for task in report.tasks for error in task.errors]

    return run


@pytest.mark.parametrize(
    "path",
    sorted(data_root().rglob("datapackage.json")),
    ids=lambda path: path.parent.relative_to(data_root()).as_posix(),
)
def test_shipped_data_are_valid_for_frictionless(path: Path, validate) -> None:
    assert validate(path) == []


def test_templates_are_valid_for_frictionless_blank_and_typed(tmp_path: Path, validate) -> None:
    am.write_template(tmp_path, "horvath2011")
    assert validate(tmp_path / "datapackage.json") == []
    header = (tmp_path / "effects.csv").read_text().strip().split(",")
    stream = io.StringIO()
    writer = csv.DictWriter(stream, header)
    writer.writeheader()
    writer.writerows([{**ROW, "setting": "outpatient", "published": "yes"}, {**OTHER, "published": "FALSE"}])
    (tmp_path / "effects.csv").write_text(stream.getvalue())
    assert validate(tmp_path / "datapackage.json") == []
    (tmp_path / "effects.csv").write_text(stream.getvalue().replace("outpatient", "day clinic").replace("-0.1", "-10"))
    assert len(validate(tmp_path / "datapackage.json")) == 2
