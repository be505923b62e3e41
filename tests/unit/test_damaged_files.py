"""Thirty damaged files and one sheet with fourteen planted errors: each gets the right message, in one pass."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from alliance_meta import CodingError, check_coded, read_coded
from alliance_meta.cli import main
from alliance_meta.effects.sheet.examine import examine, examine_bytes
from alliance_meta.errors import problem_lines

GOOD = (
    "study_id,es_id,study,year,r,n,alliance_rater,setting\n"
    "ada,1,Ada,2001,.31,48,client,outpatient\n"
    "björk,2,Björk,2004,-.02,120,observer,inpatient\n"
    "cy,3,Cy,2007,.18,61,client,inpatient\n"
    "di,4,Di,2008,.25,70,observer,outpatient\n"
)
UTF8 = GOOD.encode()


def workbook(change: Callable[[openpyxl.Workbook], None] = lambda book: None) -> bytes:
    book = openpyxl.Workbook()
    for line in GOOD.splitlines():
        cells = line.split(",")
        book.active.append([float(cell) if place in (3, 4, 5) and cell[0] in "-.0123456789" else cell
                            for place, cell in enumerate(cells)])  # fmt: skip
    change(book)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def with_formula(book: openpyxl.Workbook) -> None:
    book.active["E2"] = "=31/100"


def with_two_tables(book: openpyxl.Workbook) -> None:
    copy = book.copy_worksheet(book.active)
    copy.title = "Second"


def a_zip(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def wide() -> bytes:
    """Return a sheet of 200 columns and a nameless one more in every row."""
    names = ",".join(f"v{i}" for i in range(197))
    rows = "".join(f"{i},S{i},.{i + 1},5{i},{','.join(str(j) for j in range(197))}\n" for i in range(5))
    return f"study,r,n,{names}\n{rows}".encode()


XLSX = workbook()
HOLE = XLSX.index(b"xl/worksheets/sheet1.xml") + 60
FILES: dict[str, tuple[str, bytes, str]] = {
    "0 bytes": ("a.csv", b"", "the file is empty"),
    "only blanks": ("a.csv", b"\r\n  \r\n", "the file is empty"),
    "only a mark": ("a.csv", b"\xef\xbb\xbf", "the file is empty"),
    "only a header": ("a.csv", UTF8.splitlines(keepends=True)[0], "only a header and no row of data"),
    "UTF-16 cut in a character": ("a.csv", GOOD.encode("utf-16")[:-1], "the UTF-16 text is damaged or cut off"),
    "UTF-8 cut in a character": ("a.csv", UTF8[: UTF8.index("ö".encode()) + 1], "the file ends inside a character"),
    "two encodings": ("a.csv", UTF8 + "é,5,É,2001,.1,50,a,b\n".encode("cp1252"), "bytes that are not UTF-8"),
    "mixed separators": ("a.csv", UTF8.replace(b"cy,3,Cy,", b"cy;3;Cy;"), "semicolons in place of commas in this row?"),
    "NUL bytes": ("a.csv", UTF8.replace(b"Cy", b"C\0y"), "line 4 holds a NUL byte"),
    "control characters": ("a.csv", UTF8.replace(b"Cy", b"C\x07\x07\x07y"), "line 4 holds the control character 0x07"),
    "a ZIP called .csv": ("a.csv", a_zip("effects.csv", UTF8), "this is a ZIP archive, whatever its name says"),
    "a ZIP called .xlsx": ("a.xlsx", a_zip("effects.csv", UTF8), "a damaged Excel workbook"),
    "a workbook cut in half": ("a.xlsx", XLSX[: len(XLSX) // 2], "a damaged Excel workbook"),
    "a workbook cut at its end": ("a.xlsx", XLSX[:-30], "a damaged Excel workbook"),
    "a workbook with a hole": ("a.xlsx", XLSX[:HOLE] + b"\0" * 90 + XLSX[HOLE + 90 :], "a damaged Excel workbook"),
    "a workbook without sheets": ("a.xlsx", a_zip("xl/workbook.xml", b"<workbook/>"), "a damaged Excel workbook"),
    "formulas in cells": ("a.xlsx", workbook(with_formula), "line 2, r: '=31/100' is a formula without a saved result"),
    "two sheets that fit": ("a.xlsx", workbook(with_two_tables), "'Sheet', 'Second' could each be the coding sheet"),
    "an old workbook": ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an old Excel workbook (.xls)"),
    "a gzip": ("a.csv", gzip.compress(UTF8, mtime=0), "a compressed file (gzip)"),
    "a PDF": ("a.csv", b"%PDF-1.7\n1 0 obj", "this is a PDF"),
    "a picture": ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "an image (PNG)"),
    "a web page": ("a.csv", b"<!DOCTYPE html><html><table><tr><td>r</td></tr></table>", "a web page or XML"),
    "JSON": ("a.csv", b'[{"r": 0.1, "n": 50}]', "this is JSON"),
    "any bytes": ("a.csv", bytes(range(256)) * 8, "a NUL byte"),
    "200 columns": ("a.csv", wide(), "every row has 201 cells and the header 200; row names"),
    "a quotation mark left open": ("a.csv", UTF8.replace(b"Cy", b'"Cy'), "is opened and never closed"),
    "a header twice": ("a.csv", UTF8.replace(b"year", b"r"), "the name stands 2 times (columns D and E)"),
    "a title above": ("a.csv", b"Table 1. Effects\n" + UTF8, "line 2: the column names stand here"),
    "decimal commas between commas": ("a.csv", UTF8.replace(b",.", b",0,").replace(b"-.", b"-0,"), "or decimal commas"),
    "spaces for separators": ("a.txt", UTF8.replace(b",", b" ").replace(b"Cy", b"Cy Li"), "separated by spaces"),
    "no r": ("a.csv", UTF8.replace(b",r,", b",effect,"), "there is no column 'r'"),
    "no data in r": ("a.csv", UTF8.replace(b",.31,", b",,").replace(b",-.02,", b",,").replace(b",.18,", b",,")
                     .replace(b",.25,", b",,"), "no row has both r and n"),
}  # fmt: skip


def test_there_are_thirty_and_the_sheet_they_came_from_is_sound() -> None:
    assert len(FILES) >= 30
    assert [problem for problem in examine_bytes(UTF8, "a.csv").problems] == []
    assert [problem for problem in examine_bytes(XLSX, "a.xlsx").problems] == []


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gets_the_right_message_and_no_traceback(name: str, tmp_path: Path, capsys) -> None:
    file, data, message = FILES[name]
    path = tmp_path / file
    path.write_bytes(data)
    found = [str(problem) for problem in check_coded(path) if problem.severity == "error"]
    assert any(message in text for text in found), found
    with pytest.raises(CodingError):
        read_coded(path)
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr()
    assert message in said.out
    assert "Traceback" not in said.out + said.err
    assert main(["check", str(path), "--json"]) == 1
    assert any(
        message in problem["message"] or message in found[0]
        for problem in json.loads(capsys.readouterr().out)["errors"]
    )


PLANTED = """study_id,es_id,study,year,r,n,alliance_rater,alliance_time,setting,rel_alliance,published,p
ada,1,Ada,2001,.31,48,client,early,outpatient,.91,yes,.03
ada,1,Ada,2oo1,.22,50,client,early,outpatient,.92,yes,
cy,3,Cy,2003,31%,60,therapist,early,outpatient,.93,yes,
di,4,Di,2004,45,70,therapist,late,outpatient,.94,yes,
ed,5,Ed,2005,1.3,80,client,late,outpatient,.95,no,
fy,6,Fy,2006,-.1,3,client,late,inpatient,.96,no,
gus,7,Gus,2007,-.2,46.5,client,mid,inpatient,.90,no,
hy,7,Hy,2008,.05,88,client,mid,inpatient,.91,yes,
it,9,It,2009,.12,90,patient,mid,inpatient,.92,yes,
jo,10,Jo,2010,.13,91,observer,ealy,inpatient,.93,yes,
ka,11,Ka,2011,.14,92,observer,early,day clinic,.94,yes,
la,12,La,2012,.15,93,observer,early,outpatient,9.1,yes,
ma,13,Ma,2013,"0,16",94,observer,mid,inpatient,.91,maybe,
na,14,Na,2014,.17
"""


def test_fourteen_planted_errors_come_in_one_pass_with_their_mends(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(PLANTED)
    found = examine(path).errors
    assert [(one.row, one.column, one.value) for one in found] == [
        (3, "es_id", "1"),
        (4, "r", "31%"),
        (5, "r", "45"),
        (6, "r", "1.3"),
        (7, "n", "3"),
        (8, "n", "46.5"),
        (9, "es_id", "7"),
        (10, "alliance_rater", "patient"),
        (11, "alliance_time", "ealy"),
        (12, "setting", "day clinic"),
        (13, "rel_alliance", "9.1"),
        (14, "r", "0,16"),
        (14, "published", "maybe"),
        (15, None, None),
    ]
    text = "\n".join(map(str, [*found, *examine(path).suspicions]))
    for mend in (
        "letters among the digits? write 2001",
        "'31%' is not a number; write 0.31",
        "45 is outside (-1, 1); coded in percent? write 0.45",
        "a misplaced decimal mark, a Fisher z or a d?",
        "Fisher z needs n >= 4",
        "not a whole number of people",
        "'1' is also in line 2; give every effect its own es_id",
        "did you mean 'client'?",
        "did you mean 'early'?",
        "'day clinic' is not one of 'outpatient', 'inpatient', 'day_hospital'",
        "did you mean 'day_hospital'?",
        "9.1 is outside (0, 1]; in percent? write 0.091",
        "has a decimal comma in a sheet with decimal points; write 0.16",
        "'maybe' is neither yes nor no",
        "5 cells where the header has 12",
    ):
        assert mend in text


def test_what_is_suspected_stands_apart_and_does_not_stop(tmp_path: Path, capsys) -> None:
    rows = [f"S{i},.{i + 1}1,6{i},{'client' if i % 2 else 'observer'}" for i in range(8)]
    rows += ["S8,.95,50,client", "S9,.18,9,observer", "S10,.31,62,client", "S11,.42,70,therapist"]
    path = tmp_path / "odd.csv"
    path.write_text("study,r,n,alliance_rater\n" + "\n".join(rows) + "\n")
    kinds = {problem.kind for problem in examine(path).suspicions}
    assert kinds == {"n-few", "r-large", "same-r-n", "all-positive", "level-once"}
    assert examine(path).errors == []
    assert main(["check", str(path)]) == 0
    assert "suspicions:" in capsys.readouterr().out


SUSPECT = "study_id,sample_id,study,r,n,p,vi\n"


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        ("a,1,A,.31,48,.03,\nb,2,B,-.2,60,.0001,\n", "r-and-p", "p: r = -.2 and n = 60 give p = 0.13, not '.0001'"),
        ("a,1,A,.31,48,< .001,\nb,2,B,-.2,60,,\n", "r-and-p", "give p = 0.032, not '< .001'"),
        ("a,1,A,.61,148,ns,\nb,2,B,-.2,60,,\n", "r-and-p", "not 'ns'"),
        ("a,1,A,.31,48,,.149\nb,2,B,-.2,60,,.132\nc,3,C,.1,100,,.102\nd,4,D,.2,30,,.19\n", "se-for-variance",
         "vi: 0.149 with n = 48 looks like a standard error, whose square is the variance (0.0222)"),
        ("a,1,A,.31,48,,\na,1,A,.1,50,,\nb,1,B,-.1,60,,\n", "sample-two-n",
         "sample '1' has n = 50 here and n = 48 in line 2"),
    ],
)  # fmt: skip
def test_a_suspicion_says_what_does_not_fit(rows: str, kind: str, words: str) -> None:
    found = examine_bytes((SUSPECT + rows).encode(), "sheet.csv")
    assert found.errors == []
    assert any(one.kind == kind and words in str(one) for one in found.suspicions), [
        str(one) for one in found.suspicions
    ]


@pytest.mark.parametrize(
    "rows",
    [
        "a,1,A,.31,48,.03,.0222\nb,2,B,-.2,60,.13,.0175\nc,3,C,.1,100,ns,.0103\nd,4,D,.2,30,p > .05,.037\n",
        # One-tailed, rounded r, and an r from a model with covariates are no contradictions.
        "a,1,A,.24,48,.05,\nb,2,B,-.2,60,<.15,\nc,3,C,.3,20,.2,\nd,4,D,.36,30,.05,\n",
        "a,1,A,.31,48,see text,\nb,2,B,-.2,60,**,\n",
    ],
)
def test_what_fits_is_not_suspected(rows: str) -> None:
    kinds = {problem.kind for problem in examine_bytes((SUSPECT + rows).encode(), "sheet.csv").suspicions}
    assert not kinds & {"r-and-p", "se-for-variance"}


def test_finished_effects_are_suspected_without_n_too() -> None:
    rows = "".join(f"S{i},0.{i}1,0.{i + 1}5\n" for i in range(5))
    (found,) = [one for one in examine_bytes(f"study,yi,vi\n{rows}".encode(), "s.csv").suspicions if "se" in one.kind]
    assert "half of the variances are above 0.1" in found.message
    finished = examine_bytes(b"study,yi,vi\nA,.3,0\nB,.1,-.1\nC,.2,.02\n", "s.csv")
    assert [str(one) for one in finished.errors] == [
        "line 2, vi: 0 is not > 0; a sampling variance must be positive, check the sheet it was computed in",
        "line 3, vi: -.1 is not > 0; a sampling variance must be positive, check the sheet it was computed in",
    ]


def test_many_rows_with_one_mistake_take_few_lines() -> None:
    raters = ("client", "therapist", "patient")
    settings = ("outpatient", "day clinic", "inpatient")
    rows = (
        f"s{i // 3},{i},Study {i // 3},{1990 + i % 30},{'31%' if i % 97 == 0 else f'.{i % 89 + 10}'},{i % 290},"
        f"{raters[i % 3]},{settings[i % 3]},.{i % 90 + 10}\n"
        for i in range(30_000)
    )
    data = ("study_id,es_id,study,year,r,n,alliance_rater,setting,p\n" + "".join(rows)).encode()
    reading = examine_bytes(data, "big.csv")
    assert len(reading.errors) > 18_000
    for problems in (reading.errors, reading.suspicions):
        lines = problem_lines(problems)
        assert len(lines) <= 6 * len({(one.kind, one.column) for one in problems})
    words = next(line for line in problem_lines(reading.errors) if "line 3, setting: 'day clinic'" in line)
    assert words.endswith("... and 9999 more rows (lines 6, 9, 12, ...)")
