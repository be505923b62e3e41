"""The flow of records: read from every form it comes in, and refused where its numbers do not add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from alliance_meta import CannotRunError, CodedTable, CodingError, EffectSizes, InputError
from alliance_meta.effects import Flow, read_flow
from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.errors import SuspiciousInputWarning

# Made up; adds up.
WHOLE: dict[str, Any] = {
    "previous_studies": 12,
    "previous_reports": 14,
    "database_results": 1200,
    "database_specific_results": "PsycINFO, 700; Embase, 500",
    "register_results": 10,
    "duplicates": 200,
    "excluded_automatic": 8,
    "excluded_other": 2,
    "records_screened": 1000,
    "records_excluded": 900,
    "dbr_sought_reports": 100,
    "dbr_notretrieved_reports": 3,
    "dbr_assessed": 97,
    "dbr_excluded": {"No correlation": 40, "No therapy, at all": 27},
    "website_results": 3,
    "citations_results": 8,
    "other_sought_reports": 11,
    "other_notretrieved_reports": 1,
    "other_assessed": 10,
    "other_excluded": "No outcome, 4",
    "new_studies": 30,
    "new_reports": 36,
    "total_studies": 42,
    "total_reports": 50,
    "total_studies_ma": 40,
}
# metapsy-project/data-gad-psyctr, metadata/search_flow.json, commit 71ad218.
GAD = {
    "database.hits": 19487,
    "additional.records": 29,
    "database.hits.duplicates.removed": 13298,
    "records.screened": 13298,
    "full.text.assessed.for.eligibility": 125,
    "full.text.excluded.reasons": {
        "Conflict with the protocol": 2,
        "Lack of data": 3,
        "Preliminary results": 2,
        "Secondary publication": 5,
        "Wrong comparator": 18,
        "Wrong design": 6,
        "Wrong intervention": 13,
        "Wrong outcome": 3,
        "Wrong population": 7,
        "Other comparisons than Psy vs ctr": 16,
    },
    "included": 50,
}
# Rows as in inst/extdata/PRISMA.csv of prisma-flowdiagram/PRISMA2020, commit 0da129b, with some numbers filled in.
TEMPLATE = """data,node,box,description,boxtext,tooltips,url,n
NA,node4,prevstud,Grey title box; Previous studies,Previous studies,x,prevstud.html,0
previous_studies,node5,box1,S,Studies included in previous version of review,S,previous_studies.html,0
database_results,node7,box2,Records identified from: Databases,Databases,x,database_results.html,1697
register_results,NA,box2,Records identified from: Registers,Registers,NA,NA,NA
duplicates,node8,box3,Duplicate records,Duplicate records,Duplicate records,duplicates.html,568
excluded_other,NA,box3,x,Records removed for other reasons,NA,NA,2
records_screened,node9,box4,x,Records screened,x,records_screened.html,1127
records_excluded,node10,box5,x,Records excluded by a machine,x,records_excluded.html,943
dbr_sought_reports,node11,box6,x,Reports sought for retrieval,x,x.html,184
dbr_notretrieved_reports,node12,box7,x,Reports not retrieved,x,x.html,133
dbr_assessed,node13,box8,x,Reports assessed for eligibility,x,x.html,51
dbr_excluded,node14,box9,x,Reports excluded,x,x.html,"Not this, 14; No, not that, 14"
other_excluded,node21,box15,x,Reports excluded,x,x.html,"Reason1, xxx; Reason2, xxx; Reason3, xxx"
new_studies,node15,box10,x,New studies included in review,x,x.html,23
total_studies,node22,box16,x,Total studies included in review,x,total_studies.html,0
identification,node1,identification,Blue identification box,Identification,x,identification.html,0
"""


def problems(numbers: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(CodingError) as caught:
        read_flow(numbers)
    return {str(one.column): one.message for one in caught.value.problems}


def test_every_number_of_a_whole_flow_is_kept() -> None:
    flow = read_flow(WHOLE)
    given = {key: n for key, n in WHOLE.items() if isinstance(n, int)}
    assert flow.counts == given
    assert flow.parts["dbr_excluded"] == (("No correlation", 40), ("No therapy, at all", 27))
    assert flow.number("dbr_excluded") == 67
    assert flow.parts["database_specific_results"] == (("PsycINFO", 700), ("Embase", 500))
    assert (flow.has_other, flow.has_previous, flow.included) == (True, True, ("total_studies_ma", 40))
    assert flow.notes == ()


def test_the_template_is_read_with_its_own_words(tmp_path: Path) -> None:
    path = tmp_path / "flow.csv"
    path.write_text(TEMPLATE, encoding="utf-8")
    flow = read_flow(path)
    assert flow.number("database_results") == 1697
    assert flow.number("register_results") is None
    assert flow.parts == {"dbr_excluded": (("Not this", 14), ("No, not that", 14))}
    assert flow.label("records_excluded") == "Records excluded by a machine"
    assert "total_studies" not in flow.counts
    assert (flow.has_other, flow.has_previous) == (False, False)
    (note,) = flow.notes
    assert note.message == "Left as the template has it and taken for not reported: other_excluded."
    assert flow.provenance.source == "flow.csv"
    # A spreadsheet of another country writes semicolons.
    rows = [[*line.split(",")[:1], line.rsplit(",", 1)[1]] for line in TEMPLATE.splitlines() if '"' not in line]
    path.write_text("\n".join(";".join(row) for row in rows), encoding="utf-8")
    assert read_flow(path).number("records_screened") == 1127


def test_a_file_of_metapsy_is_read_and_its_duplicates_are_what_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "search_flow.json"
    path.write_text(json.dumps(GAD), encoding="utf-8")
    flow = read_flow(path)
    assert flow.number("duplicates") == 19487 + 29 - 13298
    assert flow.number("dbr_excluded") == 75
    assert flow.number("records_excluded") is None
    assert [note.code for note in flow.notes] == ["flow-duplicates"]
    # Published as it is, metapsy-project/data-panic-psyctr lacks the last number.
    path.write_text(json.dumps(GAD).replace(": 50}", ": \n}"), encoding="utf-8")
    with pytest.raises(InputError, match=r"search_flow\.json: line 2: this is no JSON .*a number may be missing"):
        read_flow(path)
    # Others give the number of duplicates under the same key, metapsy-project/data-gambling-psyctr among them.
    flow = read_flow({**GAD, "database.hits.duplicates.removed": 6218})
    assert (flow.number("duplicates"), flow.notes) == (6218, ())
    # metapsy-project/data-ptsd-mdmactr, commit f4151a8, fits neither reading.
    drugs = {"database.hits": 1586, "database.hits.duplicates.removed": 1000, "records.screened": 320}
    with pytest.raises(CodingError, match=r"1,000 is neither what was left, records\.screened 320, nor"):
        read_flow(drugs)
    with pytest.warns(SuspiciousInputWarning, match="neither"):
        assert read_flow(drugs, check="warn").number("duplicates") is None
    # metapsy-project/data-borderline-psyctr, commit 8fd5b59, has keys of its own.
    with pytest.raises(CodingError, match=r"Studies included in total: no key of .*; leave it out, or"):
        read_flow({**GAD, "Studies included in total": 43})


def test_more_studies_than_reports_are_only_a_suspicion() -> None:
    # metapsy-project/data-ptsd-psyctr, commit 18e03cb: 2,138 reports, of which 2,040 were excluded, and 102 studies.
    with pytest.warns(SuspiciousInputWarning, match=r"102 studies of 98 reports .*unless one report tells of several"):
        flow = read_flow({"dbr_assessed": 2138, "dbr_excluded": {"Any reason": 2040}, "new_studies": 102})
    assert flow.notes[0].message.startswith("new_studies: 102 studies of 98 reports (dbr_assessed 2,138 − dbr_excluded")


def test_whatever_is_wrong_is_said_in_one_pass_with_key_value_and_mend() -> None:
    wrong = {
        **WHOLE,
        "duplicate": 3,
        "records_screened": "1,000",
        "dbr_excluded": "No correlation",
        "new_studies": -1,
        "other_assessed": 11,
        "database_specific_results": "PsycINFO, many",
    }
    found = problems(wrong)
    assert "did you mean 'duplicates'?" in found["duplicate"]
    assert found["records_screened"].startswith("'1,000' is no whole number of at least 0; write digits alone")
    assert found["dbr_excluded"].startswith("'No correlation' lacks a number after a comma; write")
    assert found["new_studies"].startswith("-1 is no whole number")
    assert found["database_specific_results"].startswith("PsycINFO: 'many' is no whole number")
    said = "11 contradicts the rest: other_sought_reports 11 − other_notretrieved_reports 1 = 10; correct "
    assert found["other_assessed"] == f"{said}other_assessed or other_sought_reports or other_notretrieved_reports"
    for value in (True, 2.5, [3], 10**12):
        assert "screened" in next(iter(problems({"records_screened": value})))
    assert "no number is given" in problems({})["flow"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("records_screened", 999, "register_results 10 − duplicates 200 − excluded_automatic 8 − excluded_other 2"),
        ("dbr_sought_reports", 101, "records_screened 1,000 − records_excluded 900 = 100"),
        ("dbr_assessed", 96, "dbr_sought_reports 100 − dbr_notretrieved_reports 3 = 97"),
        ("other_sought_reports", 12, "website_results 3 + citations_results 8 allows at most 11"),
        ("new_reports", 35, "dbr_assessed 97 + other_assessed 10 − dbr_excluded 67 − other_excluded 4 = 36"),
        ("total_studies", 43, "previous_studies 12 + new_studies 30 = 42"),
        ("total_reports", 51, "previous_reports 14 + new_reports 36 = 50"),
        ("database_results", 1201, "database_specific_results 1,200 = 1,200"),
        ("total_studies_ma", 43, "total_studies 42 allows at most 42"),
    ],
)
def test_each_step_of_the_arithmetic_is_checked(key: str, value: int, words: str) -> None:
    with pytest.raises(CodingError) as caught:
        read_flow({**WHOLE, key: value})
    own = [one for one in caught.value.problems if one.column == key]
    assert own[0].value == str(value)
    assert any(words in one.message for one in own)
    # Nothing but what the number has a part in.
    assert all(key in one.message for one in caught.value.problems if one.column != key)


def test_what_is_not_reported_leaves_only_limits() -> None:
    known = {"records_screened": 100, "dbr_assessed": 40, "dbr_excluded": 30, "new_studies": 8}
    assert read_flow(known).number("dbr_excluded") == 30
    assert "allows at most 100" in problems({**known, "dbr_assessed": 140})["dbr_assessed"]
    # Whoever does not say how many reports of other methods were excluded may have excluded any.
    read_flow({**known, "other_assessed": 5, "new_reports": 12})


def test_contradictions_may_be_let_pass_and_are_said_then() -> None:
    with pytest.warns(SuspiciousInputWarning, match="101 contradicts the rest"):
        flow = read_flow({"records_screened": 1000, "records_excluded": 900, "dbr_sought_reports": 101}, check="warn")
    assert "= 100; correct" in flow.notes[0].message
    with pytest.raises(CodingError, match="no whole number"):
        read_flow({"records_screened": "many"}, check="warn")
    with pytest.raises(InputError, match="check='no' is not one of"):
        read_flow(WHOLE, check="no")  # type: ignore[arg-type]


def test_included_studies_are_compared_with_those_of_the_sheet() -> None:
    names = [f"Study {i // 2}" for i in range(10)]
    effects = EffectSizes.from_arrays([0.1] * 10, [0.01] * 10, study_id=names)
    sheet = CodedTable(pd.DataFrame({"study": names, "r": 0.1, "n": 30}), Provenance("sheet.csv"))
    for table in (effects, sheet):
        assert read_flow({"new_studies": 5}, table=table).notes == ()
        (note,) = read_flow({"new_studies": 7}, table=table).notes
        assert note.message.endswith("has effects of 5 of the 7 included studies.")
    with pytest.raises(
        CodingError, match=r"new_studies: 4 included, but sheet\.csv has 5 studies; correct new_studies"
    ):
        read_flow({"new_studies": 4}, table=sheet)


def test_files_that_are_no_flow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="cannot read"):
        read_flow(tmp_path / "none.csv")
    path = tmp_path / "flow.csv"
    path.write_text("key,value\nrecords_screened,3\n", encoding="utf-8")
    with pytest.raises(CodingError, match="PRISMA 2020's template has the columns data and n"):
        read_flow(path)
    path.write_text("data,n\nrecords_screened,3\nrecords_screened,4\nrecords_screend,4\n", encoding="utf-8")
    with pytest.raises(CodingError, match=r"line 3, records_screened: the key stands twice(.|\n)*line 4.*did you mean"):
        read_flow(path)
    other = tmp_path / "flow.json"
    other.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(InputError, match="an object of keys and numbers, not list"):
        read_flow(other)
    other.write_text('{"records_screened": 3, "records_screened": 4}', encoding="utf-8")
    with pytest.raises(InputError, match="the key 'records_screened' stands twice; keep one"):
        read_flow(other)
    other.write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"flow\.json: this cannot be read as JSON"):
        read_flow(other)
    with pytest.raises(CodingError, match=r"included\.s: no key of a search_flow"):
        read_flow({**GAD, "included.s": 3})


def test_a_flow_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Flow({}).counts = {}  # type: ignore[misc]
