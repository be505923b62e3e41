"""Mutated sheets by the thousand: text and workbooks, damaged in their bytes, their cells and their XML."""

from __future__ import annotations

import csv
import io
import math
import random
import re
import zipfile
from collections import Counter
from datetime import date
from typing import Any
from xml.etree import ElementTree

import openpyxl

from alliance_meta.effects.sheet.examine import Hold, Reading, examine_bytes
from alliance_meta.errors import problem_lines
from tests.properties.test_ingest_fuzz import FORMS, SPLICES, check

MISSING = {"", "NA", "N/A", "n/a", "na", "NaN", "nan", "#N/A", ".", "-", "–", "—", "--", "?", "NULL", "null", "missing"}
HEADER = ["study_id", "es_id", "study", "year", "r", "n", "alliance_rater", "setting", "rel_alliance", "p", "published"]
RATERS, SETTINGS = ("client", "therapist", "observer"), ("outpatient", "inpatient", "community")
HEADERS = ["", "r", "n", "ri", "Sample Size", "R", "setting", "v", " x ", "a\nb", "yi", "vi", ".g", "es_type", "rob_1"]
CELLS = [
    *("", " ", "NA", "-99", "31%", "45", "1", "-1", "1.3", "0,31", "1,200", ".31*", ".31a", "r=.31", "<.05", "ns"),
    *("=A1", "=1+1", "#REF!", "#N/A", "1e999", "1e-400", "inf", "nan", "0x10", "٣", "1_000", "5O", "007", "1" * 400),
    *("day clinic", "Client", "patient", "yes", "maybe", "a;b", 'say "so"', "a,b", "x\ty", "Björk", "BjÃ¶rk", "−.31"),
    *("31. Jan", "2001-02-03", "3-5", "?", "--", "missing", "\ufeff", "a\u2028b", "é" * 90, "None", "TRUE", "-0"),
    *("0.30000000004", "\u00a0.2"),
]
FORMATS = (
    (",", ".", "utf-8"), (";", ",", "utf-8-sig"), ("\t", ".", "utf-16"), (";", ".", "cp1252"), ("|", ".", "utf-8"),
    ("\t", ",", "utf-16-le"), (",", ".", "utf-8"), (";", ",", "utf-32"),
)  # fmt: skip
SPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
HOLDS: tuple[Hold, ...] = ("read", "read", "read", "check", "strict")


def clean_grid(rng: random.Random) -> list[list[str]]:
    """Return a sound sheet as text, header first."""
    rows = [list(HEADER)]
    for i in range(rng.choice((1, 2, 5, 9))):
        r, n = rng.uniform(-0.4, 0.8), rng.randint(10, 300)
        words = [
            rng.choice(RATERS),
            rng.choice(SETTINGS),
            f"{rng.uniform(0.6, 0.99):.2f}",
            "",
            rng.choice(("yes", "no")),
        ]
        rows.append(
            [f"s{i // 2}", f"e{i}", f"Study {i // 2}", str(rng.randint(1970, 2024)), f"{r:.3f}", str(n), *words]
        )
    return rows


def mutate(grid: list[list[str]], rng: random.Random) -> None:
    """Change a few cells, and now and then the header, a row or a column."""
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        rng.choice(grid[1:])[rng.randrange(len(grid[0]))] = rng.choice(CELLS)
    if rng.random() < 0.15:
        grid[0][rng.randrange(len(grid[0]))] = rng.choice(HEADERS)
    if rng.random() < 0.05:
        place = rng.randrange(len(grid[0]))
        for row in grid:
            row[place] = ""
    if rng.random() < 0.05:
        grid.insert(rng.randrange(len(grid)), [""] * len(grid[0]))
    if rng.random() < 0.05:
        grid.append(list(rng.choice(grid)))


def hold_true(reading: Reading) -> None:
    """Assert what holds of every reading, whatever the file."""
    assert (reading.table is None) == bool(reading.errors)
    for problem in reading.problems:
        assert problem.message
        assert problem.kind
        assert not re.search(r"[\r\n]", str(problem)), str(problem)
    assert len(problem_lines(reading.problems)) <= 6 * len({(one.kind, one.column) for one in reading.problems})
    assert all(note.message and note.code for note in reading.notes)


def same_values(reading: Reading, grid: dict[int, list[str]], mark: str) -> None:
    """Assert that every value of the table is the one that stands in the file, and that no row is lost."""
    if reading.table is None:
        return
    frame = reading.table.frame
    filled = {line: cells for line, cells in grid.items() if any(cell.strip() for cell in cells)}
    header = next(iter(filled.values()))
    assert list(frame.index) == list(filled)[1:]
    places = [place for place, name in enumerate(header) if name.strip()]
    for line, row in zip(frame.index, frame.itertuples(index=False), strict=True):
        cells = filled[line] + [""] * (len(header) - len(filled[line]))
        for value, text in zip(row, (cells[place].strip() for place in places), strict=True):
            if isinstance(value, str):
                assert value == text
            elif isinstance(value, float) and math.isnan(value):
                assert text in MISSING, text
            else:
                assert float(text.replace(mark, ".")) == value, (text, value)


def text_sheet(rng: random.Random) -> Reading:
    """Mutate the cells of a sheet of text whose cells are known."""
    grid = clean_grid(rng)
    mutate(grid, rng)
    separator, mark, encoding = rng.choice(FORMATS)
    if mark == ",":
        grid = [[re.sub(r"^(-?[0-9]*)\.([0-9]+)$", r"\1,\2", cell) for cell in row] for row in grid]
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, lineterminator=rng.choice(("\n", "\r\n"))).writerows(grid)
    data = stream.getvalue().encode(encoding, errors="replace")
    if encoding == "cp1252":
        # Mojibake saved so is the UTF-8 it once was, byte by byte.
        actual = "utf-8" if _is_utf8(data) else encoding
        grid = [[cell.encode(encoding, errors="replace").decode(actual) for cell in row] for row in grid]
    reading = examine_bytes(data, rng.choice(("sheet.csv", "sheet.tsv", "sheet")), hold=rng.choice(HOLDS))
    decimal = "," if any(note.code == "decimal-mark" for note in reading.notes) else "."
    # Blank rows of the file are rows to a spreadsheet, so lines are counted with them.
    same_values(reading, dict(enumerate(grid, 1)), decimal)
    return reading


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def as_value(text: str, rng: random.Random) -> Any:
    """Return what a spreadsheet would save for a typed cell, or the text as it is."""
    if re.fullmatch(r"-?[0-9]{0,12}\.?[0-9]{1,12}", text) and rng.random() < 0.9:
        return float(text) if "." in text else int(text)
    if text == "2001-02-03":
        return date(2001, 2, 3)
    return {"TRUE": True, "": None}.get(text, text)


def workbook(rng: random.Random) -> tuple[bytes, dict[int, list[str]]]:
    """Return a workbook with mutated cells, and the text of the values saved in it."""
    grid = clean_grid(rng)
    mutate(grid, rng)
    book = openpyxl.Workbook()
    page = book.active
    saved: dict[int, list[str]] = {}
    for line, row in enumerate(grid, 1):
        values = [as_value(cell, rng) if line > 1 else cell or None for cell in row]
        for place, value in enumerate(values, 1):
            page.cell(line, place, value)
        saved[line] = ["" if value is None else str(value).upper() if value is True else str(value) for value in values]
    if rng.random() < 0.3:
        book.create_sheet("Notes").append(["r", "is a correlation"])
    stream = io.BytesIO()
    book.save(stream)
    data = stream.getvalue()
    return (_with_shared_strings(data) if rng.random() < 0.5 else data), saved


def _with_shared_strings(data: bytes) -> bytes:
    """Return the workbook with its words in a table of their own, as Excel saves them."""
    stream, words = io.BytesIO(), []

    def share(match: re.Match[bytes]) -> bytes:
        words.append(match[2])
        return b'%b t="s"><v>%d</v></c>' % (match[1], len(words) - 1)

    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name.startswith("xl/worksheets/"):
                part = re.sub(rb'(<c r="[A-Z]+[0-9]+") t="inlineStr"><is>(.*?)</is></c>', share, part, flags=re.S)
            elif name == "[Content_Types].xml":
                kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
                entry = b'<Override PartName="/xl/sharedStrings.xml" ContentType="%b"/></Types>' % kind
                part = part.replace(b"</Types>", entry)
            new.writestr(name, part)
        items = b"".join(b"<si>%b</si>" % word for word in words)
        new.writestr("xl/sharedStrings.xml", b'<sst xmlns="%b">%b</sst>' % (SPACE.encode(), items))
    return stream.getvalue()


def workbook_sheet(rng: random.Random) -> Reading:
    """Mutate the cells of a workbook whose cells are known."""
    data, grid = workbook(rng)
    reading = examine_bytes(data, "sheet.xlsx", hold=rng.choice(HOLDS))
    decimal = "," if any(note.code == "decimal-mark" for note in reading.notes) else "."
    same_values(reading, grid, decimal)
    return reading


def damaged_text(rng: random.Random) -> Reading:
    """Cut, splice and repeat the bytes of a sheet of text."""
    data = rng.choice(FORMS)
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randint(0, len(data))
        stop = min(len(data), start + rng.choice((0, 1, 3, 40)))
        splice = rng.choice((rng.choice(SPLICES), rng.randbytes(rng.randint(0, 4)), data[start:stop] * 2))
        data = data[:start] + splice + data[stop:]
    check(data)
    return examine_bytes(data, "sheet.csv", hold=rng.choice(HOLDS))


def damaged_workbook(rng: random.Random) -> Reading:
    """Damage the bytes of a workbook, or the XML inside it."""
    data, _ = workbook(rng)
    if rng.random() < 0.4:
        start = rng.randrange(len(data))
        cut = rng.choice((data[:start], data[:start] + rng.randbytes(3) + data[start + 3 :]))
        return examine_bytes(cut, "sheet.xlsx")
    data = _with_damaged_xml(data, rng)
    reading = examine_bytes(data, "sheet.xlsx")
    if reading.table is not None:
        decimal = "," if any(note.code == "decimal-mark" for note in reading.notes) else "."
        same_values(reading, _cells_of(data), decimal)
    return reading


def _with_damaged_xml(data: bytes, rng: random.Random) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        parts = {name: old.read(name) for name in old.namelist()}
        target = rng.choice(["xl/worksheets/sheet1.xml"] * 4 + list(parts))
        part = parts[target]
        start = rng.randrange(len(part) + 1)
        splice = rng.choice((b"", b"<", b"9", b'r="2"', b"</c>", b"<f>1</f>", part[start : start + 9] * 2))
        parts[target] = part[:start] + splice + part[start + rng.choice((0, 1, 2, 9)) :]
        for name, part in parts.items():
            new.writestr(name, part)
    return stream.getvalue()


def _cells_of(data: bytes) -> dict[int, list[str]]:
    """Read a workbook's first sheet with nothing but an XML parser."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
        has_table = "xl/sharedStrings.xml" in archive.namelist()
        table = ElementTree.fromstring(archive.read("xl/sharedStrings.xml")) if has_table else []
    shared = [_text(item) for item in table]
    rows: dict[int, list[str]] = {}
    for row in root.iter(f"{{{SPACE}}}row"):
        cells: dict[int, str] = {}
        place = 0
        for cell in row:
            match = re.fullmatch("([A-Z]+)[0-9]+", cell.get("r", ""))
            place = openpyxl.utils.column_index_from_string(match[1]) if match else place + 1
            cells[place] = _plain(cell, shared)
        rows[int(row.get("r", len(rows) + 1))] = [cells.get(place, "") for place in range(1, max(cells, default=0) + 1)]
    return rows


def _plain(cell: ElementTree.Element, shared: list[str]) -> str:
    kind, text = cell.get("t", "n"), cell.findtext(f"{{{SPACE}}}v") or ""
    if kind == "inlineStr":
        return _text(cell)
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(text, text)
    return shared[int(text)] if kind == "s" and text else text


def _text(element: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{{{SPACE}}}t"))


KINDS = (text_sheet,) * 9 + (damaged_text,) * 7 + (workbook_sheet,) * 2 + (damaged_workbook,) * 2


def run(count: int, seed: int) -> Counter[str]:
    """Read `count` mutated sheets, assert what must hold of each, and count how they ended."""
    ends: Counter[str] = Counter()
    for turn in range(count):
        rng = random.Random(seed * 1_000_003 + turn)
        kind = rng.choice(KINDS)
        try:
            reading = kind(rng)
            hold_true(reading)
        except Exception as error:
            raise AssertionError(f"sheet {turn} of seed {seed} ({kind.__name__})") from error
        ends["read" if reading.table is not None else "refused"] += 1
        ends[kind.__name__] += 1
    return ends
