"""Coding sheets: what is read, what is refused, and in which words."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alliance_meta import CodingError, check_coded, escalc, read_coded
from alliance_meta.effects.sheet.columns import ALIASES, canonical_name, parse_number
from alliance_meta.effects.sheet.examine import examine
from alliance_meta.effects.sheet.ingest import SUSPICION_WORDS
from alliance_meta.errors import (
    AdaptedInputWarning,
    CannotRunError,
    InputError,
    Problem,
    SuspiciousInputWarning,
    problem_lines,
)
from alliance_meta.files import sha256

GOOD = "study,year,r,n,rater\nAda,2001,.31,48,client\nBo,2004,-.02,120,observer\nCy,2007,.18,61,client\n"
CLEAN = GOOD + "Di,2008,.25,70,observer\n"


@pytest.fixture
def sheet(tmp_path: Path):
    """Return a function that writes a sheet and gives its path."""

    def write(content: str | bytes, name: str = "sheet.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def errors(path: Path, **options: str) -> list[str]:
    return [str(problem) for problem in check_coded(path, **options) if problem.severity == "error"]


def suspicions(path: Path) -> list[str]:
    return [str(problem) for problem in check_coded(path) if problem.severity == "suspicion"]


# --- what is read ---------------------------------------------------------------------------------------


def test_a_clean_sheet_is_read_without_a_word(sheet):
    path = sheet(CLEAN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_coded(path)
    assert check_coded(path) == []
    assert table.columns == ("study", "year", "r", "n", "rater")
    assert table.frame["r"].tolist() == [0.31, -0.02, 0.18, 0.25]
    assert table.frame["n"].dtype == table.frame["year"].dtype == np.int64
    assert table.frame.index.tolist() == [2, 3, 4, 5]
    assert table.notes == ()


def test_provenance_holds_the_name_and_the_hash_but_no_folder(sheet):
    provenance = read_coded(sheet(CLEAN)).provenance
    assert provenance.source == "sheet.csv"
    assert provenance.sha256 == sha256(CLEAN.encode())


@pytest.mark.parametrize(
    ("content", "name", "announced"),
    [
        (CLEAN.encode("utf-8-sig"), "sheet.csv", []),
        (CLEAN.replace("\n", "\r\n"), "sheet.csv", []),
        (CLEAN.replace("\n", "\r"), "sheet.csv", []),
        (CLEAN.replace(",", "\t"), "sheet.tsv", []),
        (CLEAN.replace(",", "\t"), "sheet.csv", ["tabs"]),
        (CLEAN.replace(",", "|"), "sheet.csv", ["vertical bars"]),
        ("sep=;\n" + CLEAN.replace(",", ";"), "sheet.csv", ["semicolons"]),
        (CLEAN.replace(",", ";").replace(".", ","), "sheet.csv", ["semicolons", "decimal commas"]),
        (CLEAN.encode("utf-16"), "sheet.csv", ["UTF-16"]),
        (CLEAN.encode("utf-16-le"), "sheet.csv", ["UTF-16"]),
        (CLEAN.encode("utf-16-be"), "sheet.csv", ["UTF-16"]),
        (CLEAN.encode("utf-32"), "sheet.csv", ["UTF-32"]),
        (CLEAN.replace(",.", ", ."), "sheet.csv", ["spaces around 3 cells"]),
        (CLEAN.replace("study,year", "Study,pub. year"), "sheet.csv", ["'Study'", "'pub. year'"]),
        (
            CLEAN.replace("r,n", "COR,Sample Size"),
            "sheet.csv",
            ["'COR' is read as 'r'", "'Sample Size' is read as 'n'"],
        ),
        (CLEAN.replace("2001", "n/a"), "sheet.csv", ["'n/a' (1) count as missing (first in line 2)"]),
        ('"",study,r,n\n"1",Ada,.1,50\n"2",Bo,-.2,60\n', "sheet.csv", ["counts the rows"]),
    ],
)
def test_only_form_is_adapted_and_each_time_it_is_said(sheet, content, name, announced):
    path = sheet(content, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = read_coded(path)
    said = [str(one.message) for one in caught if one.category is AdaptedInputWarning]
    assert len(said) == len(announced), said
    for text, word in zip(said, announced, strict=True):
        assert word in text
    assert [note.message for note in table.notes] == said
    assert table.frame["r"].tolist()[:2] in ([0.31, -0.02], [0.1, -0.2])


def test_windows_1252_is_read_and_the_line_is_named(sheet):
    path = sheet(CLEAN.replace("Bo,", "Björk,").encode("cp1252"))
    with pytest.warns(AdaptedInputWarning, match=r"line 3: not UTF-8; read as Windows-1252 \(e\.g\. 'Björk'\)"):
        table = read_coded(path)
    assert table.frame.loc[3, "study"] == "Björk"


def test_notes_reach_the_effect_sizes(sheet):
    with pytest.warns(AdaptedInputWarning):
        table = read_coded(sheet(CLEAN.replace("r,n", "ri,ni")))
    assert {note.code for note in escalc(table).notes} == {"column-name"}


def test_rows_are_counted_as_a_spreadsheet_shows_them(sheet):
    content = '\nstudy,r,n\n"A\nB",.1,50\n\nC,2.5,60\n'
    assert errors(sheet(content)) == ["line 5, r: 2.5 is outside (-1, 1); coded in percent? write 0.025"]


def test_quoted_separators_and_quotes_belong_to_the_cell(sheet):
    table = read_coded(sheet('study,r,n\n"Smith, ""Jo"" 2001",.1,50\nBo,-.2,60\n'))
    assert table.frame.loc[2, "study"] == 'Smith, "Jo" 2001'


def test_named_columns_are_used_and_keep_their_names(sheet):
    path = sheet("study,r,n,r_new,n_new\nA,.1,50,.2,51\nB,-.1,60,-.2,61\n")
    table = read_coded(path, ri="r_new", ni="n_new")
    assert table.defaults == {"ri": "r_new", "ni": "n_new"}
    assert escalc(table).ni.tolist() == [51, 61]
    assert errors(path, ri="r_nwe") == [
        "there is no column 'r_nwe'; did you mean 'r_new'? Columns found: 'study', 'r', 'n', 'r_new', 'n_new'"
    ]
    with pytest.raises(InputError, match="both name the column"):
        read_coded(path, ri="r", ni="r")


def test_identifiers_keep_their_digits_and_labels_stay_text(sheet):
    table = read_coded(sheet("study,study_id,pmid,code,r,n\n1,01,12345678901234567890,007,.1,50\n2,02,2,008,-.2,60\n"))
    frame = table.frame
    assert frame.loc[2, ["study", "study_id", "pmid", "code"]].tolist() == ["1", "01", "12345678901234567890", "007"]
    assert table.defaults["study_id"] == "study_id"


def test_missing_cells_are_missing_in_text_and_numbers(sheet):
    with pytest.warns(SuspiciousInputWarning, match="r or n missing"):
        frame = read_coded(sheet(CLEAN + "Ed,,,50,NA\n")).frame
    assert frame.loc[6].isna().tolist() == [False, True, True, False, True]


def test_a_level_called_none_is_a_level(sheet):
    frame = read_coded(sheet("study,r,n,controls\nA,.1,50,none\nB,-.2,60,none\n")).frame
    assert frame["controls"].tolist() == ["none", "none"]


# --- what is refused ------------------------------------------------------------------------------------


def a_zip(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x" * 50)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \r\n\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"\xff\xfe", "the file is empty"),
        (b"study,r,n\n", "only a header"),
        (b"study r n\nAda .3 50\nBo Li .2 60\n", "separated by spaces"),
        (b"hello\nworld\n", "only one column ('hello')"),
        (b"r\n.1\n.2\n", "only one column ('r')"),
        (a_zip("xl/workbook.xml"), "a damaged Excel workbook (cut off, or not wholly copied?)"),
        (a_zip("sheet.csv"), "a ZIP archive, whatever its name says"),
        (a_zip("xl/workbook.xml")[:30], "ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "an old Excel workbook"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\x89PNG\r\n\x1a\n\0\0", "an image (PNG)"),
        (b"<!DOCTYPE html>\n<html><table>", "a web page"),
        (b'{"r": [0.1], "n": [50]}', "JSON"),
        (b"study,r,n\nA,.1,50\nB\0,.2,60\n", "line 3 holds a NUL byte"),
        (b"study,r,n\nA,.1,50\nB\x07,.2,60\n", "line 3 holds the control character 0x07"),
        (bytes(range(256)) * 4, "NUL byte"),
        (CLEAN.encode("utf-16")[:-1], "the UTF-16 text is damaged or cut off"),
        ("study,r,n\nBjörk,.1,50\nØre,.1,5\xe9".encode()[:-1], "line 3: the file ends inside a character"),
        ("study,r,n\nBjörk,.1,50\n".encode() + b"\xd8re,.1,50\n", "line 3: bytes that are not UTF-8"),
        (b"study,r,n\nA\x81,.1,50\n", "line 2: byte 0x81 is neither UTF-8 nor Windows-1252"),
    ],
)
def test_what_is_no_table_is_named(sheet, content, message):
    found = check_coded(sheet(content))
    assert [problem.severity for problem in found] == ["error"], found
    assert message in found[0].message
    with pytest.raises(CodingError, match=r"sheet\.csv: 1 problem"):
        read_coded(sheet(content))


def test_a_file_that_cannot_be_opened_could_not_run(tmp_path):
    (tmp_path / "sheet.csv").write_text(GOOD)
    with pytest.raises(CannotRunError, match=r"no such file: .*shet\.csv; did you mean .*sheet\.csv"):
        read_coded(tmp_path / "shet.csv")
    with pytest.raises(CannotRunError, match="is a folder"):
        check_coded(tmp_path)
    with pytest.raises(CannotRunError, match="cannot read"):
        check_coded(tmp_path / "sheet.csv" / "deeper.csv")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("study,year,n\nA,2001,50\n", ["there is no column 'r' (nor ri, cor, corr); if another column"]),
        ("study,es,n\nA,.3,50\nB,-.1,60\n", ["say ri='es' (command line: --ri es)"]),
        ("study,r,people\nA,.3,50\nB,-.1,60\n", ["say ni='people' (command line: --ni people)"]),
        (
            "study,yi,v\nA,.3,.02\n",
            ["finished effects seem to be there: say yi='yi', vi='v' (command line: --yi yi"],
        ),
        ("study,ri,cor,n\nA,.3,.2,50\n", ["'ri' and 'cor' could each be r; say which: ri='ri'"]),
        ("study,r,n,r\nA,.3,50,.2\n", ["line 1, r: the name stands 2 times (columns B and D)"]),
        (
            "study,,r,n\nA,x,.3,50\nB,,.2,60\n",
            ["line 1, column B: the column has no name but holds 1 cell (first 'x')"],
        ),
        ("Table 1\nstudy,r,n\nA,.3,50\n", ["line 2: the column names stand here; delete the row above"]),
        ("study,r,n\nA,.3\nB,.2,60\n", ["line 2: 2 cells where the header has 3 (starts 'A'); fill the row up"]),
        ("study,r,n\nA,0,3,50\nB,.2,60\n", ["line 2: 4 cells where the header has 3 (starts 'A'); a decimal comma"]),
        ("study,r,n\nA,.3,50\nNote. r is r\n", ["line 3: 1 cell where the header has 3 ('Note. r is r'); a remark"]),
        ("study,r,n\nx,A,.3,50\ny,B,.2,60\n", ["every row has 4 cells and the header 3; row names"]),
        (".3,50\n.2,60\n", ["the first row holds data (.3, 50), not names"]),
        ("A,.3,50\nB,.2,60\n", ["the first row holds data (.3, 50), not names"]),
        ('study,r,n\n"A,.3,50\nB,.2,60\n', ['line 2: a quotation mark (") is opened and never closed']),
        ('study,r,n\n"A" x,.3,50\nB,.2,60\n', ['line 2: a quotation mark (") closes inside a cell']),
        ('study,r,n\n"A,.3,50\nB,.2,60\nC",.2,60\n', ["line 2: one cell holds 3 lines of the file"]),
        ("study,r,n\nA,,50\nB,.3,\n", ["no row has both r and n"]),
    ],
)
def test_a_broken_table_is_described(sheet, content, expected):
    found = errors(sheet(content))
    assert len(found) >= len(expected)
    for text, words in zip(found, expected, strict=False):
        assert words in text


CELLS = [
    ("r", "31%", "'31%' is not a number; write 0.31"),
    ("r", "45", "45 is outside (-1, 1); coded in percent? write 0.45"),
    ("r", "-31", "-31 is outside (-1, 1); coded in percent? write -0.31"),
    ("r", "1.3", "1.3 is outside (-1, 1); a misplaced decimal mark, a Fisher z or a d? check the paper"),
    ("r", "1", "1 is a perfect correlation, whose Fisher z is infinite; check the paper"),
    ("r", "-99", "-99 is outside (-1, 1); a code for a missing value? leave the cell empty"),
    ("r", '"0,31"', "'0,31' has a decimal comma in a sheet with decimal points; write 0.31"),
    ("r", "−.31", "'−.31' has a minus sign that is not the keyboard's '-'; write -0.31"),
    ("r", ".31**", "'.31**' is not a number: a footnote or significance mark? write 0.31"),
    ("r", ".31a", "'.31a' is not a number: a footnote or significance mark? write 0.31"),
    ("r", "r=.31", "'r=.31' is not a number: text beside the number? write 0.31"),
    ("r", "<.10", "'<.10' is a bound, not a number"),
    ("r", "n.s.", "'n.s.' is not a number; write the number or leave the cell empty"),
    ("r", "31. Jan", "'31. Jan' looks like a date that a spreadsheet made of a number"),
    ("r", "=B2/100", "'=B2/100' is a formula; save the sheet with values"),
    ("r", "#DIV/0!", "'#DIV/0!' is a spreadsheet's error"),
    ("r", "1e999", "'1e999' is not a number"),
    ("r", "inf", "'inf' is not a number"),
    ("n", "3", "Fisher z needs n >= 4: its variance is 1/(n-3); 3 people are too few, leave the row out"),
    ("n", "-9", "-9 people are not possible; a code for a missing value? leave the cell empty"),
    ("n", "48.5", "48.5 is not a whole number of people"),
    ("n", '"1,200"', "'1,200' is not a number: a thousands separator? write 1200"),
    ("n", "N = 48", "'N = 48' is not a number: text beside the number? write 48"),
    ("n", "5O", "'5O' is not a number: letters among the digits? write 50"),
    ("year", "2oo1", "'2oo1' is not a number: letters among the digits? write 2001"),
    ("year", "in press", "'in press' is not a number; write the number or leave the cell empty"),
    ("age", "about 30", "'about 30' is not a number: text beside the number? write 30 (5 of 6 cells in this column"),
    ("rater", "#REF!", "'#REF!' is a spreadsheet's error"),
]


@pytest.mark.parametrize(("column", "cell", "message"), CELLS)
def test_a_wrong_cell_gets_row_column_value_and_mend(sheet, column, cell, message):
    row = {"study": "Zoe", "year": "2010", "r": ".2", "n": "80", "age": "31", "rater": "client", column: cell}
    others = "".join(f"S{i},200{i},-.1{i},4{i},3{i},client\n" for i in range(5))
    path = sheet("study,year,r,n,age,rater\n" + others + ",".join(row.values()) + "\n")
    (problem,) = [one for one in check_coded(path) if one.row == 7 and one.kind != "level-once"]
    assert problem.severity == ("error" if column in ("r", "n") else "suspicion")
    assert (problem.row, problem.column, problem.value) == (7, column, cell.strip('"'))
    assert message in problem.message
    assert str(problem).startswith(f"line 7, {column}: ")


def test_cells_of_a_sheet_with_decimal_commas_are_mended_in_its_own_words(sheet):
    content = "study;r;n\nA;0,31;50\nB;-0,1;60\nC;.25;70\nD;45;80\nE;0,1;1.200\n"
    assert errors(sheet(content)) == [
        "line 4, r: '.25' has a decimal point in a sheet with decimal commas; write 0,25",
        "line 5, r: 45 is outside (-1, 1); coded in percent? write 0,45",
        "line 6, n: '1.200' is not a number: a thousands separator? write 1200",
    ]


def test_decimal_commas_are_announced_when_other_columns_decide(sheet):
    path = sheet("study;r;n;dose\nA;0;50;0,72\nB;;60;0,5\n")
    assert [note.message for note in examine(path).notes if note.code == "decimal-mark"] == [
        "sheet.csv: decimal commas are read as such (first in line 2: 0,72)"
    ]


def test_an_id_twice_in_one_study_is_an_error_of_check_and_ids_may_start_again(sheet):
    rows = "A,1,.1,50\nB,2,-.2,60\nA,1,.3,70\n"
    found = errors(sheet("study,es_id,r,n\n" + rows))
    assert found == ["line 4, es_id: '1' is also in line 2; give every effect its own es_id"]
    assert errors(sheet("study,es_id,r,n\nA,1,.1,50\nA,2,-.2,60\nB,1,.3,70\n")) == []


@pytest.mark.parametrize(("measure", "least"), [("ZCOR", 4), ("COR", 2), ("UCOR", 5)])
def test_the_smallest_n_depends_on_the_measure(sheet, measure, least):
    assert errors(sheet(f"study,r,n\nA,.1,{least}\nB,-.1,50\n"), measure=measure) == []
    (text,) = errors(sheet(f"study,r,n\nA,.1,{least - 1}\nB,-.1,50\n"), measure=measure)
    assert f"needs n >= {least}" in text


def test_fourteen_planted_errors_come_in_one_pass(sheet):
    rows = [
        "1,Ada,2001,.31,48,40,client",
        "2,Bo,2oo1,.22,50,41,client",
        "3,Cy,2003,31%,60,42,therapist",
        "4,Di,2004,45,70,43,therapist",
        "5,Ed,2005,1.3,80,44,client",
        "6,Fy,2006,1,90,45,client",
        "7,Gus,2007,-.2,3,46,client",
        "8,Hy,2008,-.1,44.5,47,client",
        '9,It,2009,"0,33",50,48,client',
        "10,Jo,2010,.31*,52,49,client",
        '11,Ka,2011,.12,"1,200",50,client',
        "11,La,2012,.13,N = 50,51,client",
        "13,Ma,2013,.14,55,ca. 30,client",
        "14,Na,2014,.15",
    ]
    path = sheet("es_id,study,year,r,n,age,rater\n" + "\n".join(rows) + "\n")
    with pytest.raises(CodingError) as caught:
        read_coded(path)
    shown = [(p.row, p.column) for p in check_coded(path) if p.kind == "text-among-numbers"]
    assert shown == [(3, "year"), (14, "age")]
    found = caught.value.problems
    assert [(p.row, p.column) for p in found] == [
        (4, "r"), (5, "r"), (6, "r"), (7, "r"), (8, "n"), (9, "n"), (10, "r"), (11, "r"), (12, "n"), (13, "n"),
        (15, None),
    ]  # fmt: skip
    text = str(caught.value)
    assert text.startswith("sheet.csv: 11 problems\n")
    for problem in found:
        assert str(problem) in text


def test_many_problems_of_a_kind_are_printed_in_few_lines(sheet):
    path = sheet("study,r,n\n" + "".join(f"S{i},{i + 2},50\n" for i in range(42)))
    with pytest.raises(CodingError) as caught:
        read_coded(path)
    assert len(caught.value.problems) == 42
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 5 + 1
    assert lines[-1] == "  ... and 37 more rows like this (lines 7, 8, 9, ...)"


def test_problems_without_a_kind_are_never_grouped():
    problems = [Problem(i, "r", None, "bad") for i in range(8)]
    assert len(problem_lines(problems)) == 8


# --- what is suspected ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("study,r,n\nA,.1,9\nB,-.2,60\n", "line 2, n: n < 10"),
        ("study,r,n\nA,.95,50\nB,-.2,60\n", "line 2, r: |r| > 0.9"),
        ("study,r,n\nA,.1,\nB,-.2,60\n", "line 2, n: n is missing, so this row will be left out"),
        ("study,r,n\nA,.1,50\nB,.10,50\n", "line 3: the same r and n (.10, 50) as line 2"),
        ("study,r,n\nA,.1,50\nA,.1,50\n", "line 3: repeats line 2 in every column"),
        ("study,year,r,n\nA,19,.1,50\nB,2001,-.2,60\n", "line 2, year: 19 is no year"),
        ("study,r,n\n" + "".join(f"S{i},.{i + 1},5{i}\n" for i in range(10)), "all 10 correlations are positive"),
        (GOOD, "line 3, rater: 'observer' stands in this row only (a level with k = 1)"),
        (GOOD.replace("observer", "cliemt"), "did you mean 'client'?"),
        (CLEAN.replace("70,observer", "70,Client"), "'Client' and 'client' differ in case, spaces or hyphens only"),
        ("study,sample_id,r,n\nA,1,.1,50\nA,1,-.2,60\n", "sample '1' has n = 60 here and n = 50 in line 2"),
        ("study,r,n\nBjÃ¶rk,.1,50\nB,-.2,60\n", "looks like text saved in one encoding and opened in another"),
        (
            'study,r,n,age\nA,.1,50,"3,5"\nB,-.2,60,"4,5"\n',
            "has decimal commas (e.g. 3,5) in a sheet with decimal points",
        ),
    ],
)
def test_what_looks_like_a_mistake_is_shown_and_does_not_stop(sheet, content, expected):
    path = sheet(content)
    assert errors(path) == []
    assert any(expected in text for text in suspicions(path))
    with pytest.warns(SuspiciousInputWarning, match="possible mistakes"):
        table = read_coded(path)
    assert table.notes[-1].code == "suspicions"


def test_samples_are_told_apart_within_studies(sheet):
    assert suspicions(sheet("study,sample_id,r,n\nA,1,.1,50\nB,1,-.2,60\n")) == []


def test_every_suspicion_has_words(sheet):
    import ast
    from inspect import getsource

    from alliance_meta.effects.contract import description
    from alliance_meta.effects.sheet import checking, examine, reading, spreadsheet, suspicions

    kinds = set()
    for module in (checking, examine, description, reading, examine, spreadsheet, suspicions):
        for node in ast.walk(ast.parse(getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("suspicion", "departure"):
                kinds |= {getattr(word.value, "value", "published") for word in node.keywords if word.arg == "kind"}
    assert kinds == set(SUSPICION_WORDS)


# --- the parts ------------------------------------------------------------------------------------------


def test_aliases_are_written_as_they_are_compared_and_belong_to_one_column():
    everything = [alias for aliases in ALIASES.values() for alias in aliases]
    assert len(everything) == len(set(everything))
    for name, aliases in ALIASES.items():
        assert {canonical_name(alias) for alias in aliases} == {name}
        assert canonical_name(f" {aliases[-1].upper()} ") == name


@pytest.mark.parametrize("text", ["1_000", "٣", "0x10", "nan", "inf", "1e", "--1", ".", "", "1 2", "1,5"])
def test_what_python_takes_for_a_number_is_not_always_one(text):
    assert parse_number(text) is None


def test_the_value_of_a_number_is_the_one_written():
    for text in ("0.1", "-.25", "+3", "1e-3", "0.056367393", "1."):
        assert parse_number(text) == float(text)


def test_reading_agrees_with_pandas_on_a_plain_file(sheet, rng):
    frame = pd.DataFrame({"r": rng.uniform(-0.9, 0.9, 300), "n": rng.integers(10, 500, 300), "x": rng.normal(size=300)})
    table = examine(sheet(frame.to_csv(index=False))).table
    assert table is not None
    pd.testing.assert_frame_equal(table.frame.reset_index(drop=True), frame, check_exact=True)
