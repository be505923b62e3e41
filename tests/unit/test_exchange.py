"""Sheets from other programs and for them: what becomes what, and what comes back."""

from __future__ import annotations

import csv
import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alliance_meta as am
from alliance_meta.cli import main
from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.exchange import deposit as depositing
from alliance_meta.effects.exchange.deposit import Person
from alliance_meta.effects.exchange.foreign import KINDS, PROGRAMS, examine_foreign
from alliance_meta.errors import AllianceMetaWarning, MissingFontWarning
from alliance_meta.files import sha256
from alliance_meta.tables.pdf import typeset

# Made-up tables of the shape that each program writes.
CMA = (
    "Study name\tSubgroup within study\tOutcome\tCorrelation\tSample size\tEffect direction\tStd Err\tFisher's Z"
    "\tStd Err\tRelative weight\n"
    "Ada 2001\ta\tBDI-II\t0.31\t48\tNegative\t.1\t.32\t.15\t3\nBo 2002\t\tattrition\t.2\t60\tAuto\t.1\t.2\t.13\t2\n"
)
CMA_Z = "Study name,Hedges's g,Std err,Fisher's Z,Std err\nAda 2001,.6,.3,.32,.15\nBo 2002,.4,.2,.2,.13\n"
COVIDENCE = (
    "Covidence #,Study ID,Title,Reviewer Name,Outcome rater,r 1,n 1,r 2,n 2\n"
    "#11,Ada 2001,A,Cy,patient,.4,40,.2,41\n#11,Ada 2001,A,Consensus,patient,.3,40,.2,41\n"
    "#12,Bo 2002,B,Cy,self,.1,50,,\n"
)
REVMAN = (
    "Analysis group,Analysis number,Analysis name,Subgroup,Study,Study year,GIV Mean,GIV SE,Experimental cases,"
    "Experimental N,Weight,Mean,CI start\n"
    "1,1,BDI,,Ada,2001,.31,.2,,,30,.3,.1\n1,1,BDI,,Bo,2003,.2,.1,,,50,.2,.0\n1,2,BDI,,Cy,2004,,,3,40,20,.1,.0\n"
)
METAPSY = (
    '"study";"condition_arm1";"condition_arm2";"instrument";"rating";"outcome_type";"year";"rob";".id";".g";".g_se"\n'
    '"Ada, 2001";"cbt";"wl";"PHQ";"self-report";"msd";2001;"Low";"Ada_msd";0,512345678901;0,21\n'
    '"Bo, 2003";"pdt";"wl";"BDI-2";"clinician";"msd";2003;"High";"Bo_msd";-0,1;0,3\n'
)
METAFOR = "slab,yi,vi,ri,ni\nAda 2001,0.32,.02,.31,53\nBo 2002,.2,.0175,.197,60\n"
JASP = "Study labels,Effect size,Standard error\nAda,.3,.1\nBo,.2,.2\n"
PSYMETADATA = '"","es_id","study_id","author","pub_year","n","yi","vi"\n"1",1,1,"Ada",2016,76,.43,.05\n'
TABLES = {
    "cma": CMA,
    "revman": REVMAN,
    "covidence": COVIDENCE,
    "metapsy": METAPSY,
    "metafor": METAFOR,
    "jasp": JASP,
    "psymetadata": PSYMETADATA,
}


def read(folder: Path, text: str, **options) -> am.CodedTable:
    (folder / "theirs.csv").write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return am.read(folder / "theirs.csv", **options)


def became(table: am.CodedTable) -> dict[str, tuple[str, str]]:
    return {row.column: (row.became, row.how) for row in table.mapping.itertuples()}


def quiet(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AllianceMetaWarning)
        return call(*args, **kwargs)


@pytest.mark.parametrize("kind", TABLES)
def test_each_program_is_told_by_its_header(tmp_path: Path, kind: str) -> None:
    (tmp_path / "theirs.csv").write_text(TABLES[kind], encoding="utf-8")
    told, said = (examine_foreign(tmp_path / "theirs.csv", kind=one) for one in ("auto", kind))
    assert f"theirs.csv: read as {KINDS[kind].title}" in [note.message for note in told.notes]
    assert told.table is not None
    assert said.table is not None
    assert told.table.frame.equals(said.table.frame)


def test_every_program_has_a_table_here() -> None:
    assert set(TABLES) == {program.kind for program in PROGRAMS}


def test_every_column_of_a_file_is_answered_for(tmp_path: Path) -> None:
    for kind, text in TABLES.items():
        table = read(tmp_path, text)
        header = next(csv.reader([text.splitlines()[0]], delimiter="\t" if kind == "cma" else ";,"[";" not in text]))
        told = [column for column in table.mapping["column"] if column]
        assert [column.partition(".1")[0] for column in told] == [name for name in header if name], kind
        assert set(table.columns) <= {name for name in table.mapping["became"] if name}, kind


def test_cma_gives_r_with_its_sign_and_leaves_what_follows(tmp_path: Path) -> None:
    table = read(tmp_path, CMA)
    assert table.frame["r"].tolist() == [-0.31, 0.2]
    assert table.frame["outcome_measure"].tolist() == ["BDI", "dropout"]
    assert table.frame["sample_id"].tolist() == ["Ada 2001: a", "Bo 2002"]
    told = became(table)
    assert told["Effect direction"] == ("", "not taken: its sign is in the effect")
    assert told["Std Err.1"] == ("", "not taken: not needed beside r and n")
    assert told["Relative weight"] == ("", "not taken: the program's own")
    assert told["Outcome"] == (
        "outcome_measure",
        "renamed; BDI-II is read as BDI, attrition is read as dropout",
    )
    assert told[""] == ("sample_id", "made of the others")
    with pytest.raises(am.CodingError, match="which is right"):
        read(tmp_path, CMA.replace("0.31\t48\tNegative", "-0.31\t48\tPositive"))


def test_cma_without_r_gives_the_error_that_belongs_to_the_effect(tmp_path: Path) -> None:
    table = read(tmp_path, CMA_Z)
    assert table.frame[["yi", "sei"]].to_numpy().tolist() == [[0.32, 0.15], [0.2, 0.13]]
    assert am.escalc(table).measure == "ZCOR"
    only_g = read(tmp_path, CMA_Z.replace("Fisher's Z", "Other"))
    assert only_g.frame["yi"].tolist() == [0.6, 0.4]
    assert am.escalc(only_g).measure == "GEN"


def test_covidence_gives_one_row_for_each_numbered_effect(tmp_path: Path) -> None:
    table = read(tmp_path, COVIDENCE)
    rows = table.frame[["study_id", "study", "es_id", "outcome_rater", "r", "n"]].to_numpy().tolist()
    assert rows == [
        ["#11", "Ada 2001", "#11_1", "client", 0.3, 40],
        ["#11", "Ada 2001", "#11_2", "client", 0.2, 41],
        ["#12", "Bo 2002", "#12_1", "client", 0.1, 50],
    ]
    assert table.frame.index.tolist() == [3, 3, 4]
    assert table.query("r > .15").k == 2
    effects = am.escalc(table)
    assert (effects.k, effects.n_studies) == (3, 2)
    assert became(table)["Reviewer Name"] == ("", "not taken: who extracted")
    named = read(tmp_path, COVIDENCE.replace("r 1", "Link 1").replace("r 2", "Link 2"), columns={"Link": "r"})
    assert named.frame["r"].tolist() == table.frame["r"].tolist()
    assert became(named)["Link 2"] == ("r", "renamed")
    with pytest.raises(am.CodingError, match=r"line 3, r: 1\.4 is outside") as caught:
        read(tmp_path, COVIDENCE.replace("#12,Bo 2002,B,Cy,self,.1,50,,", "#12,Bo 2002,B,Cy,self,.1,50,1.4,50").replace(
            "#11,Ada 2001,A,Cy,patient,.4,40,.2,41\n", ""
        ))  # fmt: skip
    assert len(caught.value.problems) == 1
    with pytest.raises(am.CodingError, match="no consensus row"):
        read(tmp_path, COVIDENCE.replace("Consensus", "Di"))


def test_revman_asks_what_the_effects_are_only_where_it_is_not_said(tmp_path: Path) -> None:
    table = read(tmp_path, REVMAN)
    assert table.frame[["study", "year", "yi", "sei"]].to_numpy().tolist() == [
        ["Ada", 2001, 0.31, 0.2],
        ["Bo", 2003, 0.2, 0.1],
    ]
    told = became(table)
    assert told["Analysis number"] == ("analysis_number", "renamed")
    assert any("the rows of 2 analyses" in note.message for note in table.notes)
    assert told["Weight"] == ("", "not taken: RevMan's own")
    assert told["Experimental cases"] == ("", "not taken: not needed beside GIV Mean")
    ask = "say measure='ZCOR'"
    assert any(ask in note.message for note in table.notes)
    assert not any(ask in note.message for note in read(tmp_path, REVMAN, measure="ZCOR").notes)
    assert any("because they hold counts of events: 1 (first in line 4)" in note.message for note in table.notes)


def test_revman_writes_0_where_nothing_is_entered(tmp_path: Path) -> None:
    head = "Analysis group,Analysis number,Study,GIV Mean,GIV SE,Experimental SD,Experimental cases,Control SD"
    head += ",Control cases"
    effect, counts, events = "Ada,.31,.2,0,0,0,0", "Bo,0,.1,0,12,0,14", "Cy,0,0,0,3,0,0"
    table = read(tmp_path, f"{head}\n1,1,{effect}\n1,1,{counts}\n1,1,{events}\n1,1,Di,0,.2,0,0,0,0\n")
    assert table.frame["study"].tolist() == ["Ada", "Di"]
    with pytest.raises(am.CodingError, match="no row holds a finished effect") as caught:
        read(tmp_path, f"{head}\n1,1,{counts}\n1,1,{events}\n")
    assert len(caught.value.problems) == 1


def test_revman_gives_means_of_two_arms_where_no_effect_is_finished(tmp_path: Path) -> None:
    arms = [f"{arm} {what}" for arm in ("Experimental", "Control") for what in ("mean", "SD", "cases", "N")]
    text = f"Analysis group,Analysis number,Study,Study year,GIV Mean,GIV SE,{','.join(arms)}\n"
    text += "1,1,Ada,2001,,,10.5,4.2,,30,13.1,4.4,,31\n1,1,Bo,2003,,,9.5,4.0,,50,12.1,4.2,,49\n"
    table = read(tmp_path, text)
    assert not any("analyses" in note.message for note in table.notes)
    assert became(table)["Experimental SD"] == ("sd1", "renamed")
    r = quiet(am.convert, table).frame["r"].tolist()
    assert r[0] == pytest.approx(am.effects.to_r("means", m1=10.5, sd1=4.2, n1=30, m2=13.1, sd2=4.4, n2=31).r)
    assert r[0] < 0


def test_a_data_package_is_answered_with_the_file_to_give(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "review.zip", "w") as archive:
        archive.writestr("CD1/CD1-overall.csv", "a,b\n")
        archive.writestr("CD1/CD1-data-rows.csv", REVMAN)
    with pytest.raises(am.CodingError, match=r"give 'CD1/CD1-data-rows\.csv'"):
        am.read(tmp_path / "review.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "")
        archive.writestr("b.csv", "")
    with pytest.raises(am.CodingError, match=r"give one of 'a\.csv', 'b\.csv'"):
        am.read(tmp_path / "two.zip")


def test_metapsy_keeps_all_digits_and_renames_what_means_something_else(tmp_path: Path) -> None:
    table = read(tmp_path, METAPSY)
    assert table.frame["yi"].tolist() == [0.512345678901, -0.1]
    assert table.frame["outcome_rater"].tolist() == ["client", "therapist"]
    assert table.frame["rob_overall"].tolist() == ["low", "high"]
    assert became(table)["outcome_type"] == ("statistic", "renamed")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        am.read(tmp_path / "theirs.csv")
    assert {Path(one.filename).name for one in caught} == {Path(__file__).name}
    (mistakes,) = [one for one in caught if one.category is am.errors.SuspiciousInputWarning]
    assert "`alliance-meta read theirs.csv` lists them" in str(mistakes.message)


def test_words_are_changed_only_into_words_for_the_same() -> None:
    words = CONTRACT.column("outcome_rater").vocabulary
    assert words is not None
    assert [words.word(text) for text in ("Client", "patient", "the client", "clients", "patiemt")] == [
        "client",
        "client",
        "client",
        None,
        None,
    ]


def test_no_column_takes_the_place_of_another(tmp_path: Path) -> None:
    text = "Effect size,ES,Standard error,SE,Study label,x\n.3,.4,.1,.2,Ada,1\n.2,.1,.1,.2,Bo,2\n"
    table = read(tmp_path, text)
    assert table.frame["yi"].tolist() == [0.3, 0.2]
    assert table.frame["ES"].tolist() == [0.4, 0.1]
    assert table.frame["SE"].tolist() == [0.2, 0.2]
    for columns in ({"x": "ES"}, {"x": "r", "ES": "r"}):
        with pytest.raises(am.InputError, match="would both be called"):
            read(tmp_path, text, columns=columns)
    swapped = read(tmp_path, "study,r,n\nAda,50,.3\nBo,60,.2\n", columns={"r": "n", "n": "r"})
    assert swapped.frame["n"].tolist() == [50, 60]
    assert became(swapped)["r"] == ("n", "renamed")


def test_a_study_without_any_numbered_effect_is_not_lost_in_silence(tmp_path: Path) -> None:
    table = read(tmp_path, COVIDENCE + "#13,Cy 2003,C,Cy,self,,,NA,\n")
    assert table.k == 3
    assert any("line 5 was left out" in note.message for note in table.notes)


@pytest.mark.parametrize("column", ["Corelation", "r 3"])
def test_a_column_that_the_file_lacks_is_named(tmp_path: Path, column: str) -> None:
    with pytest.raises(am.InputError, match=f"no column '{column}'"):
        read(tmp_path, CMA, columns={column: "r"})


# --- the way out ----------------------------------------------------------------------------------------


def coded() -> am.CodedTable:
    return am.load_dataset("synthetic_alliance")


@pytest.mark.parametrize("to", ["metafor", "jasp", "revman", "csvw"])
@pytest.mark.parametrize("measure", ["ZCOR", "COR"])
def test_what_is_exported_is_read_as_the_same_effects(tmp_path: Path, to: str, measure: str) -> None:
    effects = am.escalc(coded(), measure=measure)
    path, *_ = am.effects.export(coded() if to == "csvw" else effects, tmp_path / "out.csv", to=to)
    back = quiet(lambda: am.escalc(am.read(path, measure=measure), measure=measure))
    assert back.measure == measure
    np.testing.assert_allclose(back.yi, effects.yi, rtol=1e-14)
    np.testing.assert_allclose(back.vi, effects.vi, rtol=1e-14)
    assert (back.k, back.n_studies) == (effects.k, effects.n_studies)
    if to != "revman":
        assert back.moderators["setting"].tolist() == effects.moderators["setting"].tolist()


def test_cells_that_a_spreadsheet_would_run_are_exported_as_text(tmp_path: Path) -> None:
    sheet = pd.DataFrame({"study": ["=1+1", "Bo"], "r": [0.1, 0.2], "n": [40, 50], "@x": ["-2+3", "a"]})
    for to in ("metafor", "jasp", "revman"):
        (path,) = am.effects.export(am.escalc(sheet), tmp_path / f"{to}.csv", to=to)
        cells = [cell for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) for cell in row]
        assert not [cell for cell in cells if cell[:1] in "=+@" or cell == "-2+3"]
        assert "'=1+1" in cells


def test_csvw_describes_every_column(tmp_path: Path) -> None:
    path, beside = am.effects.export(coded(), tmp_path / "sheet one.csv", to="csvw")
    assert beside.name == "sheet one.csv-metadata.json"
    said = json.loads(beside.read_text(encoding="utf-8"))
    assert said["@context"][0] == "http://www.w3.org/ns/csvw"
    assert said["url"] == "sheet%20one.csv"
    columns = said["tableSchema"]["columns"]
    assert [column["titles"] for column in columns] == path.read_text(encoding="utf-8").splitlines()[0].split(",")
    (r,) = [column for column in columns if column["name"] == "r"]
    assert r["datatype"] == {"base": "number", "minExclusive": -1.0, "maxExclusive": 1.0}
    assert r["dc:description"] == CONTRACT.column("r").description
    with pytest.raises(am.InputError, match="give the table"):
        am.effects.export(am.escalc(coded()), tmp_path / "x.csv", to="csvw")


# --- deposits -------------------------------------------------------------------------------------------

TEXT = (
    "study_id,es_id,study,year,r,n,outcome_rater,published,own one\n"
    "ada,a1,Ada,2001,.31,48,client,yes,x\nada,a2,Ada,2001,.2,48,therapist,No,y\nbo,b1,Bo,2004,,120,client,,x\n"
)
ADA = "Ada Bo; 0000-0002-1825-0097"


def deposited(folder: Path, name: str = "sheet.csv", **more) -> Path:
    (folder / name).write_text(TEXT, encoding="utf-8")
    am.effects.deposit(folder / name, folder / "out", title="Two trials", creators=[ADA, "Cy"], **more)
    return folder / "out"


def test_frictionless_validates_a_deposit(tmp_path: Path) -> None:
    out = deposited(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from frictionless import Package

        report = Package(str(out / "datapackage.json")).validate()
        assert [error.message for task in report.tasks for error in task.errors] == []
        assert report.errors == []
        sheet = out / "effects.csv"
        sheet.write_text(sheet.read_text().replace("0.31", "31"))
        assert not Package(str(out / "datapackage.json")).validate().valid


def test_a_deposit_reads_as_the_sheet_it_was_made_of(tmp_path: Path) -> None:
    out = deposited(tmp_path)
    old, new = (quiet(am.read_coded, path) for path in (tmp_path / "sheet.csv", out / "effects.csv"))
    assert am.effects.diff(old, new).changes == ()


def test_a_deposit_keeps_the_words_columns_and_results_of_its_description(tmp_path: Path) -> None:
    fields = [{"name": "own one", "type": "string", "description": "What it is."}]
    fields.append({"name": "outcome_rater", "constraints": {"enum": ["nurse"]}})
    result = {"printed": {"estimate": ".275"}, "label": "Table 2"}
    package = {"resources": [{"path": "sheet.csv", "schema": {"fields": fields}}]}
    package["alliance_meta"] = {"published": [result]}
    (tmp_path / "datapackage.json").write_text(json.dumps(package), encoding="utf-8")
    (tmp_path / "sheet.csv").write_text(TEXT.replace("client", "nurse"), encoding="utf-8")
    am.effects.deposit(tmp_path / "sheet.csv", tmp_path / "out", title="T", creators=["Ada"])
    said = json.loads((tmp_path / "out/datapackage.json").read_text(encoding="utf-8"))
    told = {field["name"]: field for field in said["resources"][0]["schema"]["fields"]}
    assert told["own one"]["description"] == "What it is."
    assert "nurse" in told["outcome_rater"]["constraints"]["enum"]
    (kept,) = said["alliance_meta"]["published"]
    assert kept["printed"] == {"estimate": ".275"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problems = am.check_coded(tmp_path / "out/effects.csv")
    assert [problem for problem in problems if problem.severity == "error"] == []


def test_the_crate_has_what_ro_crate_demands(tmp_path: Path) -> None:
    out = deposited(tmp_path, date="2026-11-30", licence="CC-BY-4.0")
    crate = json.loads((out / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    graph = {one["@id"]: one for one in crate["@graph"]}
    assert len(graph) == len(crate["@graph"])
    assert graph["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    root = graph["./"]
    assert root["@type"] == "Dataset"
    assert root["datePublished"] == "2026-11-30"
    assert root["name"]
    assert root["description"]
    assert graph[root["license"]["@id"]]["name"] == "Creative Commons Attribution 4.0 International"
    assert [graph[one["@id"]]["name"] for one in root["author"]] == ["Ada Bo", "Cy"]
    assert root["author"][0]["@id"] == "https://orcid.org/0000-0002-1825-0097"
    parts = {one["@id"] for one in root["hasPart"]}
    assert parts | {"ro-crate-metadata.json"} == {path.name for path in out.iterdir()}
    for name in parts:
        assert graph[name]["@type"] == "File"
        assert graph[name]["sha256"] == sha256((out / name).read_bytes())
        assert graph[name]["encodingFormat"]
    # No term may lack in the context; RO-Crate 1.1 has no sha256 of its own.
    assert crate["@context"][1] == {"sha256": "http://schema.org/sha256"}


def test_made_up_data_are_labelled_everywhere_and_markup_is_text(tmp_path: Path) -> None:
    out = deposited(tmp_path, "synthetic_sheet.csv", description="<script>alert(1)</script>")
    assert quiet(am.read_coded, out / "synthetic_effects.csv").provenance.synthetic
    for name in ("README.md", "datapackage.json", "codebook.html", "ro-crate-metadata.json", "LICENSE.txt"):
        assert "SYNTHETIC" in (out / name).read_text(encoding="utf-8"), name
    for name in ("README.md", "codebook.html"):
        assert "<script" not in (out / name).read_text(encoding="utf-8"), name


def test_the_codebook_is_also_set_in_print_with_every_column_and_word(tmp_path: Path, monkeypatch) -> None:
    shown: list[dict] = []
    monkeypatch.setattr(depositing, "typeset", lambda view, figures: (shown.append(view), typeset(view, figures))[1])
    first = (deposited(tmp_path, "synthetic_sheet.csv") / "codebook.pdf").read_bytes()
    assert (deposited(tmp_path, "synthetic_sheet.csv") / "codebook.pdf").read_bytes() == first
    for mark in (b"%PDF-", b"/StructTreeRoot", b"/DisplayDocTitle true", b"Codebook: SYNTHETIC: Two trials"):
        assert mark in first
    columns, *words = [block for one in shown[0]["sections"] for block in one["blocks"] if block["type"] == "table"]
    rows = {row["cells"][0].replace("\N{ZERO WIDTH SPACE}", ""): row["cells"][1:] for row in columns["rows"]}
    assert list(rows) == TEXT.splitlines()[0].split(",")
    assert rows["r"][1] == "required, number, correlation, (-1, 1)"
    assert rows["published"][1].endswith("yes or no")
    assert rows["outcome_rater"][1].endswith("words below")
    (table,) = words
    terms = CONTRACT.column("outcome_rater").vocabulary.terms
    assert [row["cells"] for row in table["rows"]] == [[term.value, term.meaning] for term in terms]
    assert all(len(row["cells"]) == len(columns["headers"]) == len(columns["widths"]) for row in columns["rows"])


def test_letters_that_no_font_has_are_boxes_in_print(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(TEXT, encoding="utf-8")
    given = {"title": "Two trials \U00012000", "creators": ["Ada"]}
    with pytest.warns(MissingFontWarning, match=r"could not be displayed .*: foreign letters are boxes in the PDF"):
        am.effects.deposit(tmp_path / "sheet.csv", tmp_path / "out", **given)
    pdf = (tmp_path / "out/codebook.pdf").read_bytes()
    assert (
        b"Codebook: Two trials".hex() in pdf.hex() or "Codebook: Two trials \N{WHITE SQUARE}".encode("utf-16-be") in pdf
    )


def test_a_text_that_is_changed_is_told(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(TEXT.replace(",x\n", ",=x\n"), encoding="utf-8")
    am.effects.deposit(tmp_path / "sheet.csv", tmp_path / "out", title="T", creators=["Ada"])
    assert "an apostrophe before them: 2" in (tmp_path / "out/checks.txt").read_text(encoding="utf-8")


def test_a_sheet_with_errors_is_not_deposited(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(TEXT.replace(".31", "31"), encoding="utf-8")
    with pytest.raises(am.CodingError, match="31 is outside"):
        am.effects.deposit(tmp_path / "bad.csv", tmp_path / "out", title="T", creators=["Ada"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"creators": ["Ada; 0000-0002-1825-0098"]}, "no ORCID"),
        ({"creators": "Ada"}, "a list of creators"),
        ({"creators": ["; 0000-0002-1825-0097"]}, "names nobody"),
        ({"title": " "}, "needs a title"),
        ({"date": "30.11.2026"}, "is no date"),
        ({"licence": "GPL"}, "licence"),
    ],
)
def test_what_is_said_of_a_deposit_is_checked(tmp_path: Path, more: dict, why: str) -> None:
    (tmp_path / "sheet.csv").write_text(TEXT, encoding="utf-8")
    with pytest.raises(am.InputError, match=why):
        am.effects.deposit(tmp_path / "sheet.csv", tmp_path / "out", **{"title": "T", "creators": ["Ada"], **more})


def test_an_orcid_ends_with_its_check_digit() -> None:
    assert (
        Person.from_text("Ada; https://orcid.org/0000-0002-9079-593X").orcid == "https://orcid.org/0000-0002-9079-593X"
    )
    with pytest.raises(am.InputError, match="no ORCID"):
        Person.from_text("Ada; 0000-0002-9079-5930")


# --- versions -------------------------------------------------------------------------------------------


def edited(frame: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, set[tuple[str, ...]]]:
    """Return a sheet with random edits, at most one of each row, and what they are."""
    rows = list(rng.permutation(len(frame)))
    planted: set[tuple[str, ...]] = set()
    out = frame.astype(object)
    gone = [rows.pop() for _ in range(rng.integers(0, 4))]
    for _ in range(rng.integers(0, 4)):
        place, column = rows.pop(), rng.choice(["year", "n", "r", "rater", "setting"])
        old = out.iloc[place][column]
        new = old + 1 if column in ("year", "n") else round(old / 2 + 0.001, 4) if column == "r" else f"{old}?"
        out.iloc[place, out.columns.get_loc(column)] = new
        planted.add(("cell changed", str(out.iloc[place]["study"]), column, str(old), str(new)))
    planted |= {("row gone", str(frame.iloc[place]["study"]), "", "", "") for place in gone}
    out = out.drop(index=out.index[gone])
    for number in range(rng.integers(0, 4)):
        row = {**frame.iloc[0].to_dict(), "study": f"Added {number}"}
        at = int(rng.integers(0, len(out) + 1))
        out = pd.concat([out.iloc[:at], pd.DataFrame([row], dtype=object), out.iloc[at:]])
        planted.add(("row added", row["study"], "", "", ""))
    return out.reset_index(drop=True), planted


def test_diff_names_every_planted_change_and_nothing_else(tmp_path: Path) -> None:
    table = coded()
    path, new_path = tmp_path / "old.csv", tmp_path / "new.csv"
    table.frame.to_csv(path, index=False)
    old = quiet(am.read_coded, path)
    several = 0
    for seed in range(70):
        frame, planted = edited(table.frame, np.random.default_rng(seed))
        frame.to_csv(new_path, index=False)
        found = am.effects.diff(old, quiet(am.read_coded, new_path)).tidy()
        named = {tuple(row) for row in found[["what", "row", "column", "old", "new"]].to_numpy().tolist()}
        assert named == planted, seed
        assert len(found) == len(planted), seed
        several += len(planted) > 2
    assert several > 35


def in_versions(old: pd.DataFrame, new: pd.DataFrame) -> am.effects.SheetDiff:
    table = coded()
    return am.effects.diff(replace(table, _frame=old), replace(table, _frame=new))


def several_effects() -> pd.DataFrame:
    return pd.DataFrame(
        {"study": ["Ada", "Ada", "Ada", "Bo"], "r": [0.1, 0.2, 0.3, 0.4], "n": [40, 40, 40, 50], "es_id": list("abcd")}
    )


def test_rows_are_matched_by_es_id_however_they_are_sorted() -> None:
    old = several_effects()
    new = old.iloc[[3, 1, 0, 2]].reset_index(drop=True)
    assert in_versions(old, new).changes == ()
    new.loc[0, "r"] = 0.5
    (change,) = in_versions(old, new).changes
    assert (change.row, change.column, change.old, change.new) == ("d", "r", "0.4", "0.5")


def test_without_es_id_a_row_in_the_middle_of_a_study_is_told_from_the_others() -> None:
    old = several_effects().drop(columns="es_id")
    found = in_versions(old, old.drop(index=0).reset_index(drop=True))
    assert [(one.what, one.row, one.old_place) for one in found.changes] == [("row gone", "Ada (3)", 0)]
    assert "es_id would tell them" in found.notes[0].message
    with pytest.raises(am.InputError, match="neither es_id nor"):
        in_versions(old.drop(columns="study"), old.drop(columns="study"))


def test_columns_that_come_go_or_change_their_names_are_told() -> None:
    old = several_effects().assign(Rater=list("xyxy"), gone=1)
    new = several_effects().assign(rater=["x", "y", "x", "z"], size=old["n"], added=2).drop(columns="n")
    told = [(one.what, one.column, one.old, one.new) for one in in_versions(old, new).changes]
    assert told == [
        ("column renamed", "size", "n", "size"),
        ("column renamed", "rater", "Rater", "rater"),
        ("column gone", "gone", "gone", ""),
        ("column added", "added", "", "added"),
        ("cell changed", "Rater", "y", "z"),
    ]


def test_a_typing_slip_in_a_column_of_numbers_is_one_change() -> None:
    old = several_effects()
    new = old.astype({"n": object})
    new["n"] = ["40", "40.0", "4o", "50"]
    (change,) = in_versions(old, new).changes
    assert (change.row, change.old, change.new) == ("c", "40", "4o")


def test_each_change_is_made_alone() -> None:
    old = coded().frame
    new = old.drop(index=old.index[1]).reset_index(drop=True)
    new.loc[0, "r"] = -0.5
    new.loc[len(new)] = {**old.iloc[0].to_dict(), "study": "Synthetic study 99"}
    found = in_versions(old, new)
    tables = {one.what: table for one, table in found.one_at_a_time()}
    assert tables["row gone"].k == len(old) - 1
    assert tables["cell changed"].frame["r"].tolist() == [-0.5, *old["r"][1:]]
    assert tables["row added"].frame["study"].tolist() == [*old["study"], "Synthetic study 99"]
    assert {am.escalc(table).k for table in tables.values()} == {23, 24, 25}


# --- the command line -----------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Return a function that runs a command and gives (exit code, standard output, error output)."""

    def call(*args: object) -> tuple[int, str, str]:
        code = main(list(map(str, args)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_command_read_writes_a_sheet_that_checks(tmp_path: Path, run) -> None:
    (tmp_path / "theirs.csv").write_text(COVIDENCE.replace("r 1", "Link 1").replace("r 2", "Link 2"))
    out = tmp_path / "sheet.csv"
    code, text, notes = run("read", tmp_path / "theirs.csv", "--columns", "Link=r", "--out", out)
    assert code == 0
    assert "Reviewer Name" in text
    assert "not taken: who extracted" in text
    assert "patient is read as client" in notes
    assert quiet(am.read_coded, out).frame["r"].tolist() == [0.3, 0.2, 0.1]
    assert run("check", out)[0] == 0
    code, text, _ = run("read", tmp_path / "theirs.csv", "--columns", "Link=r", "--json")
    assert json.loads(text)["mapping"][0] == {"column": "Covidence #", "became": "study_id", "how": "renamed"}


def test_the_commands_export_deposit_and_diff(tmp_path: Path, run) -> None:
    old, new = tmp_path / "synthetic_old.csv", tmp_path / "synthetic_new.csv"
    frame = coded().frame
    frame.to_csv(old, index=False)
    frame.assign(r=[-0.6, *frame["r"][1:]]).drop(index=frame.index[3]).to_csv(new, index=False)
    code, text, _ = run("export", old, "--to", "jasp", "--out", tmp_path / "jasp.csv")
    assert code == 0
    assert (tmp_path / "jasp.csv").read_text().startswith("Study label,Effect size,Standard error,n,")
    code, text, notes = run("deposit", old, "--out", tmp_path / "out", "--title", "T", "--creator", ADA)
    assert code == 0
    assert "ro-crate-metadata.json" in text
    assert "no date of publication" in notes
    old.write_text(old.read_text() + "Synthetic study 99,2001,30,31,client,inpatient\n")
    code, _, said = run("deposit", old, "--out", tmp_path / "other", "--title", "T", "--creator", ADA)
    assert code == 1
    assert "31 is outside" in said
    assert not (tmp_path / "other").exists()
    frame.to_csv(old, index=False)
    code, text, _ = run("diff", old, new, "--effect", "--json")
    assert code == 0
    said = json.loads(text)
    assert said["table"]["what"] == ["cell changed", "row gone"]
    whole, *single = said["effect"]
    before, after = (
        am.RandomEffectsModel(am.escalc(quiet(am.read_coded, path))).fit().predict(scale="r")["pred"].iloc[0]
        for path in (old, new)
    )
    assert (whole["change"], whole["before"], whole["after"]) == ("all changes", before, after)
    assert whole["moved"] == after - before
    assert [one["change"] for one in single] == ["cell changed", "row gone"]
    assert single[0]["moved"] < -0.005
    code, text, _ = run("diff", old, new, "--effect")
    assert "1 cell changed, 1 row gone" in text
    assert "random effects, REML, r: " in text
