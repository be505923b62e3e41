"""Damaged sheets: never a traceback, and never a value that the file does not hold."""

from __future__ import annotations

import csv
import io
import re

import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alliance_meta.effects.sheet.examine import Reading, examine_bytes

GOOD = (
    "study,year,r,n,rater,note\n"
    'Ada,2001,.31,48,client,"a, b"\n'
    "Björk,2004,-.02,120,observer,\n"
    'Cy,2007,.18,61,client,"says ""so"""\n'
    "Di,2008,0.255,70,therapist,x\n"
    "Ed,2011,1e-3,15,client,y\n"
)
FORMS = (
    GOOD.encode(),
    GOOD.replace("\n", "\r\n").encode("utf-8-sig"),
    GOOD.encode("cp1252"),
    GOOD.encode("utf-16"),
    GOOD.replace(",", "\t").encode(),
    re.sub(r"([0-9]*)\.([0-9]+)", r"\1,\2", GOOD.replace(",", ";")).encode(),
)
SPLICES = (
    b"",
    b'"',
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3",
    b"-",
    b".",
    b"%",
    b"=1+1",
    b"1e999",
    b"r",
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a good sheet in some form, with a few cuts, splices and repeats."""
    data = draw(st.sampled_from(FORMS))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 4)))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + draw(st.sampled_from((0, 1, 3, 40))))))
        splice = draw(st.one_of(st.sampled_from(SPLICES), st.binary(max_size=4), st.just(data[start:stop] * 2)))
        data = data[:start] + splice + data[stop:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


def cells_of(data: bytes, reading: Reading) -> tuple[dict[int, list[str]], str]:
    """Read the file again with nothing but the csv module and what the notes announce."""
    notes = {note.code: note.message for note in reading.notes}
    words = notes.get("encoding", "read as UTF-8")
    encoding = next(
        code
        for name, code in (
            ("UTF-8", "utf-8-sig"),
            ("Windows-1252", "cp1252"),
            ("UTF-16", "utf-16"),
            ("UTF-32", "utf-32"),
        )
        if f"read as {name}" in words
    )
    if encoding == "utf-16" and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16-le" if data[1::2].count(0) > data[0::2].count(0) else "utf-16-be"
    text = data.decode(encoding)
    separator = next(
        (
            mark
            for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"))
            if name in notes.get("separator", "")
        ),
        ",",
    )
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return dict(enumerate(rows, 1)), "," if "decimal-mark" in notes else "."


def check(data: bytes) -> None:
    reading = examine_bytes(data, "sheet.csv")
    assert (reading.table is None) == bool(reading.errors)
    for problem in reading.problems:
        assert problem.message
        assert problem.kind
        assert "\n" not in str(problem)
    if reading.table is None:
        return
    rows, mark = cells_of(data, reading)
    frame = reading.table.frame
    header, *body = [row for row in rows.values() if any(cell.strip() for cell in row)]
    # R's write.table leaves the names of rows without a name of their own.
    if body and all(len(row) == len(header) + 1 for row in body):
        header = ["row_names", *header]
    places = [place for place, name in enumerate(header) if name.strip()]
    for line, row in frame.iterrows():
        written = [rows[line][place].strip() for place in places][-len(frame.columns) :]
        for value, text in zip(row, written, strict=True):
            if isinstance(value, str):
                assert value == text
            elif pd.isna(value):
                assert text in {"", "NA", "N/A", "n/a", "na", "NaN", "nan", "#N/A", ".", "-", "–", "—", "--", "?"}
            else:
                assert float(text.replace(mark, ".")) == value
    read = {line for line, row in rows.items() if any(cell.strip() for cell in row)}
    assert len(read) == len(frame) + 1


@given(damaged())
@example(b"r,n\n.1,50\n-.1,60\n")
@example(b"r,n\n1,0,4")
@example(b"year,r,n\nAda,2001,.31,48\nDi,2008,0.255,70\n")
@settings(max_examples=90)
def test_a_damaged_sheet_gives_problems_or_the_values_it_holds(data):
    check(data)


@st.composite
def sheets(draw: st.DrawFn) -> tuple[bytes, pd.DataFrame]:
    """Draw a sound table and the bytes that some program would save it as."""
    separator, mark = draw(st.sampled_from(((",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","))))
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-16-le")))
    letters = st.characters(exclude_categories=("C", "Z"), exclude_characters="\x7f")
    word = st.text(letters, min_size=1, max_size=6).map(lambda text: f'w{text}{separator}"x')
    rows = draw(
        st.lists(
            st.tuples(word, st.floats(-0.999, 0.999).map(lambda x: round(x, 4)), st.integers(4, 9999), word),
            min_size=1,
            max_size=8,
        )
    )
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator=draw(st.sampled_from(("\n", "\r\n", "\r"))))
    writer.writerow(("study", "r", "n", "rater"))
    writer.writerows((study, f"{r:.4f}".replace(".", mark), n, rater) for study, r, n, rater in rows)
    return stream.getvalue().encode(encoding), pd.DataFrame(rows, columns=["study", "r", "n", "rater"])


@given(sheets())
@settings(max_examples=60)
def test_a_sound_sheet_comes_back_as_it_was_however_it_was_saved(drawn):
    data, frame = drawn
    reading = examine_bytes(data, "sheet.csv")
    assert reading.errors == []
    assert reading.table is not None
    pd.testing.assert_frame_equal(
        reading.table.frame.reset_index(drop=True), frame, check_exact=True, check_dtype=False
    )


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_any_bytes_give_a_message(data):
    check(data)


@given(st.text(alphabet='rn,;\t"\n\r .-0123456789%=#é', max_size=80).map(lambda tail: "r,n\n" + tail))
@settings(max_examples=60)
def test_any_text_below_a_header_gives_problems_or_its_values(text):
    check(text.encode())
