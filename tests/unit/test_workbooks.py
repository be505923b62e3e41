"""Excel workbooks: which sheet is read, that every value is the one saved, and what is said of formulas."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from alliance_meta import CodingError, InputError, escalc, read_coded
from alliance_meta.effects.sheet.examine import Reading, examine_bytes
from alliance_meta.errors import AdaptedInputWarning, SuspiciousInputWarning
from alliance_meta.files import sha256

HEADER = ["study", "year", "r", "n", "rater"]
ROWS = [
    ["Ada", 2001, 0.31, 48, "client"],
    ["Björk", 2004, -0.02, 120, "observer"],
    ["Cy", 2007, 0.18, 61, "client"],
    ["Di", 2008, 0.25, 70, "observer"],
]


def workbook(**sheets: list[list[Any]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        page = book.create_sheet(name)
        for row in rows:
            page.append(row)
    return book


def saved(book: openpyxl.Workbook) -> bytes:
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def read(book: openpyxl.Workbook, name: str = "sheet.xlsx", **options: Any) -> Reading:
    return examine_bytes(saved(book), name, **options)


def patched(data: bytes, old: bytes, new: bytes, part: str = "xl/worksheets/sheet1.xml") -> bytes:
    """Change the XML of one part, as another program might have written it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(stream, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == part:
                # Writers differ in how they write an empty element.
                content = content.replace(b"<v></v>", b"<v/>").replace(b"<v />", b"<v/>")
                assert old in content
                content = content.replace(old, new)
            after.writestr(name, content)
    return stream.getvalue()


def test_a_clean_workbook_is_read_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "coding.xlsx"
    path.write_bytes(saved(workbook(Data=[HEADER, *ROWS])))
    table = read_coded(path)
    assert table.frame.reset_index().to_numpy().tolist() == [[line, *row] for line, row in enumerate(ROWS, 2)]
    assert table.notes == ()
    assert table.provenance.sha256 == sha256(path.read_bytes())
    assert escalc(table).ni.tolist() == [48, 120, 61, 70]


def test_the_sheet_with_the_columns_is_found_wherever_it_stands() -> None:
    reading = read(workbook(Notes=[["to do"]], Codebook=[["r", "correlation"], ["n", "people"]], Data=[HEADER, *ROWS]))
    assert reading.table is not None
    assert [note.message for note in reading.notes] == [
        "sheet.xlsx: sheet 'Data' is read (of 'Notes', 'Codebook', 'Data')"
    ]


def test_a_sheet_can_be_named() -> None:
    book = workbook(Old=[HEADER, *ROWS], New=[HEADER, *ROWS[:3]])
    (problem,) = read(book).errors
    assert problem.message == (
        "'Old', 'New' could each be the coding sheet; say which: sheet='Old' (command line: --sheet Old)"
    )
    table = read(book, sheet="New").table
    assert table is not None
    assert table.k == 3
    (problem,) = read(book, sheet="new").errors
    assert "there is no sheet 'new'; did you mean 'New'?" in problem.message
    with pytest.raises(InputError, match="a file of text"):
        examine_bytes(b"study,r,n\nA,.1,50\n", "sheet.csv", sheet="New")


def test_no_sheet_with_the_columns_is_said() -> None:
    (problem,) = read(workbook(A=[["x"]], B=[["study", "effect"], ["Ada", 1]])).errors
    assert problem.message.endswith(
        "Sheets: 'A', 'B'; name one to see what its columns could be: sheet='A' (command line: --sheet A)"
    )
    (problem,) = read(workbook(A=[["study", "es", "n"], ["Ada", 0.1, 50], ["Bo", -0.1, 60]])).errors
    assert "say ri='es'" in problem.message


def test_rows_are_counted_as_the_workbook_shows_them() -> None:
    rows = [[], HEADER, ROWS[0], [], ["Bad", 2001, 45, 50, "client"], *ROWS[1:]]
    (problem,) = read(workbook(A=rows)).errors
    assert str(problem) == "line 5, r: 45 is outside (-1, 1); coded in percent? write 0.45"


def test_every_digit_that_is_saved_is_read() -> None:
    values = [0.1, 0.7, 1 / 3, -0.5, 1e-5]
    rows = [[f"S{i}", 2000 + i, value, 50 + i, "x"] for i, value in enumerate(values)]
    data = patched(saved(workbook(A=[HEADER, *rows])), b"<v>0.7</v>", b"<v>0.30000000000000004</v>")
    table = examine_bytes(data, "sheet.xlsx").table
    assert table is not None
    assert table.frame["r"].tolist() == [0.1, 0.30000000000000004, *values[2:]]


def test_what_a_cell_holds_becomes_its_text() -> None:
    extra = [True, 48.0, date(2001, 2, 3), datetime(2001, 2, 3, 7, 30), time(7, 30), timedelta(hours=30), "x", None]
    names = [f"v{i}" for i in range(len(extra))]
    rows = [[*HEADER, *names], [*ROWS[0], *extra], [*ROWS[1], *extra]]
    table = read(workbook(A=rows)).table
    assert table is not None
    assert table.frame[names].iloc[0].tolist()[:-1] == [
        "TRUE", 48, "2001-02-03", "2001-02-03 07:30:00", "07:30:00", "1 day, 6:00:00", "x",
    ]  # fmt: skip


def test_numbers_typed_as_text_are_read_as_such() -> None:
    rows = [["Ada", "2001", "0.31", "48", "a"], ["Bo", 2002, "-.1", 60, "a"], ["Cy", 2003, "0,2", 70, "b"]]
    (problem,) = read(workbook(A=[HEADER, *rows])).errors
    assert str(problem) == "line 4, r: '0,2' has a decimal comma in a sheet with decimal points; write 0.2"


def test_a_date_that_a_spreadsheet_made_of_a_number_is_named() -> None:
    rows = [*ROWS[:3], ["Di", 2008, date(2008, 1, 31), 70, "observer"]]
    (problem,) = read(workbook(A=[HEADER, *rows])).errors
    assert "'2008-01-31' looks like a date that a spreadsheet made of a number" in problem.message


def test_a_formula_without_a_result_is_an_error_wherever_it_stands() -> None:
    rows = [["=A3", 2001, "=31/100", 48, "a"], ["Bo", 2002, 0.1, 60, "a"], ["=SUM(D2:D3)"]]
    found = read(workbook(A=[HEADER, *rows])).errors
    formulas = [(one.row, one.column, one.value) for one in found if one.kind == "formula"]
    assert formulas == [(2, "study", "=A3"), (2, "r", "=31/100")]
    assert "'=A3' is a formula without a saved result (and 1 more cell of this column)" in str(found)


def test_the_saved_result_of_a_formula_is_read_and_said() -> None:
    data = saved(workbook(A=[HEADER, ["Ada", 2001, "=31/100", 48, "a"], *ROWS[1:]]))
    data = patched(data, b"<f>31/100</f><v/></c>", b"<f>31/100</f><v>0.31</v></c>")
    reading = examine_bytes(data, "sheet.xlsx")
    assert reading.table is not None
    assert reading.table.frame["r"].tolist()[0] == 0.31
    assert "line 2, r: 0.31 is the saved result of the formula =31/100; type the number itself" in [
        str(one) for one in reading.suspicions
    ]


def test_an_error_of_the_spreadsheet_is_named() -> None:
    (problem,) = read(workbook(A=[HEADER, ["Ada", 2001, "#DIV/0!", 48, "a"], *ROWS[1:]])).errors
    assert "'#DIV/0!' is a spreadsheet's error" in problem.message


def test_merged_cells_are_an_error_because_values_lack_in_them() -> None:
    book = workbook(A=[HEADER, *ROWS])
    book["A"].merge_cells("A3:A4")
    found = [one for one in read(book).errors if one.kind == "merged-cells"]
    assert [(one.row, one.message) for one in found] == [
        (3, "the cells A3:A4 are merged, so only the first holds a value; unmerge them and fill each in")
    ]


def test_hidden_rows_are_read_and_announced() -> None:
    book = workbook(A=[HEADER, *ROWS])
    book["A"].row_dimensions[3].hidden = True
    reading = read(book)
    assert reading.table is not None
    assert reading.table.k == 4
    assert [note.message for note in reading.notes] == ["sheet.xlsx: a hidden row is read too"]


def test_a_workbook_with_another_name_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / "coding.csv"
    path.write_bytes(saved(workbook(A=[HEADER, *ROWS])))
    with pytest.warns(AdaptedInputWarning, match="an Excel workbook, whatever its name says"):
        assert read_coded(path).k == 4


def test_a_header_over_two_lines_is_one_name() -> None:
    reading = read(workbook(A=[["study", "r", "sample\nsize"], ["Ada", 0.1, 50], ["Bo", -0.1, 60]]))
    assert reading.table is not None
    assert reading.notes[0].message.endswith("column 'sample size' is read as 'n'")


def test_a_problem_is_one_line_even_where_the_header_has_two() -> None:
    (problem,) = read(
        workbook(A=[["study", "r", "n", "weeks\nopen"], ["Ada", 0.1, 50, "=1+1"], ["Bo", -0.1, 60, 3]])
    ).errors
    assert str(problem) == "line 2, weeks open: '=1+1' is a formula without a saved result; type its result"


def test_a_workbook_that_lies_about_its_size_is_read_all_the_same() -> None:
    data = patched(saved(workbook(A=[HEADER, *ROWS])), b'ref="A1:E5"', b'ref="A1:XFD1048576"')
    table = examine_bytes(data, "sheet.xlsx").table
    assert table is not None
    assert table.k == 4


@pytest.mark.parametrize("number", [b"2", b"99999999999", b"x"])
def test_rows_that_would_be_lost_or_counted_for_ever_are_damage(number: bytes) -> None:
    data = patched(saved(workbook(A=[HEADER, *ROWS])), b'<row r="4"', b'<row r="' + number + b'"')
    (problem,) = examine_bytes(data, "sheet.xlsx").errors
    assert problem.message.startswith("a damaged Excel workbook")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<worksheet", b'<!DOCTYPE w [<!ENTITY a "aaaa">]><worksheet'),
        (b'<c r="B2"', b'<c r="A2"'),
        (b'<c r="B2"', b'<c r="2"'),
        (b"</sheetData>", b""),
    ],
)
def test_xml_that_would_lose_cells_or_unfold_is_damage(old: bytes, new: bytes) -> None:
    (problem,) = examine_bytes(patched(saved(workbook(A=[HEADER, *ROWS])), old, new), "sheet.xlsx").errors
    assert problem.message.startswith("a damaged Excel workbook")


def test_pronunciation_beside_a_word_is_no_part_of_it() -> None:
    data = saved(workbook(A=[HEADER, *ROWS]))
    ruby = b"<is><t>Ada</t><rPh sb='0' eb='1'><t>x</t></rPh></is>"
    table = examine_bytes(patched(data, b"<is><t>Ada</t></is>", ruby), "sheet.xlsx").table
    assert table is not None
    assert table.frame["study"].iloc[0] == "Ada"


def test_an_old_and_a_locked_workbook_are_told_apart() -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    (problem,) = examine_bytes(ole, "sheet.xls").errors
    assert "an old Excel workbook (.xls)" in problem.message
    (problem,) = examine_bytes(ole + "EncryptedPackage".encode("utf-16-le"), "sheet.xlsx").errors
    assert "an Excel workbook with a password" in problem.message


def test_a_workbook_that_unpacks_to_gigabytes_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"<worksheet/>")
        entry = zipfile.ZipInfo("xl/sharedStrings.xml")
        archive.writestr(entry, b"x")
        entry.file_size = 5_000_000_000
    (problem,) = examine_bytes(stream.getvalue(), "sheet.xlsx").errors
    assert "unpacks to 5,000 MB" in problem.message


def test_errors_of_a_workbook_stop_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "coding.xlsx"
    path.write_bytes(saved(workbook(A=[HEADER, ["Ada", 2001, 31, 48, "client"], *ROWS[1:]])))
    with pytest.raises(CodingError, match=r"coded in percent\? write 0\.31"):
        read_coded(path)
    path.write_bytes(saved(workbook(A=[HEADER, ["Ada", 2001, 0.31, 9, "client"], *ROWS[1:]])))
    with pytest.warns(SuspiciousInputWarning, match="n < 10"):
        read_coded(path)
