"""From a file's bytes to named columns of text; what was adapted is announced, no value is touched."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from alliance_meta.effects.sheet.columns import column_letter, number_of
from alliance_meta.effects.sheet.findings import Findings, refuse, short
from alliance_meta.effects.sheet.spreadsheet import ZIP, is_workbook, read_workbook
from alliance_meta.errors import CodingError, InputError
from alliance_meta.tables.format import thousands

SAVE_AS_CSV = "save the sheet as CSV (UTF-8) and read that"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SIGNATURES = (
    (OLE, f"an old Excel workbook (.xls); {SAVE_AS_CSV}"),
    (b"%PDF", f"a PDF; copy its table into a spreadsheet and {SAVE_AS_CSV}"),
    (b"{\\rtf", f"a word processor's document (RTF); {SAVE_AS_CSV}"),
    (b"\x89PNG", "an image (PNG); type its table into a spreadsheet and save it as CSV"),
    (b"\xff\xd8\xff", "an image (JPEG); type its table into a spreadsheet and save it as CSV"),
    (b"GIF8", "an image (GIF); type its table into a spreadsheet and save it as CSV"),
    (b"\x1f\x8b", "a compressed file (gzip); unpack it and read the CSV inside"),
    (b"7z\xbc\xaf\x27\x1c", "a compressed file (7z); unpack it and read the CSV inside"),
    (b"$FL2", f"an SPSS file (.sav); {SAVE_AS_CSV}"),
    (b"$FL3", f"an SPSS file (.sav); {SAVE_AS_CSV}"),
    (b"PAR1", "a Parquet file; write the table as CSV and read that"),
)
# UTF-32 first: its little-endian mark begins with the one of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
CONTROL = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]")
MOJIBAKE = re.compile("Ã[\u0080-\u00bf\u0192\u201a-\u203a\u0152-\u0178]|â€|Â[\u00a0-\u00bf]|\ufffd")
MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|table|\?xml|svg)\b", flags=re.IGNORECASE)
# Pairs of bytes above 127 follow one another in East Asian encodings; in Western ones such a byte stands alone.
EAST_ASIAN = {"gb18030": "gbk", "shift_jis": "shift_jis", "big5": "big5", "euc_kr": "euc_kr"}
FEWEST_PAIRED, MOST_PAIRED = 4, 0.8
# A share of control characters from which a file is no text; a longer line than any row of a sheet.
MOST_CONTROL, LONGEST_LINE = 0.01, 2_000_000
# Letters of Mac Roman inside a word, as Windows-1252 shows them.
MAC_LETTERS = re.compile(
    "[A-Za-z][\u0160\u017d\u0178\u0152\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030][a-z]"
)


def decode(data: bytes, source: str, found: Findings, encoding: str | None = None) -> str:
    """Return the text of a file, announcing any encoding but UTF-8; `encoding` names the one it was saved in.

    Raises `CodingError`: if the file is empty or holds something else than text; the message says what, when it can be
    seen.
    """
    if not data.strip():
        raise refuse(source, "the file is empty; it needs a header row and one row per effect", "empty")
    _refuse_known_formats(data, source)
    _refuse_long_lines(data, source)
    text = _decode_named(data, encoding, source) if encoding else _decode_marked(data, source, found)
    if text is None:
        text = _decode_wide(data, source, found)
    if text is None:
        text = _decode_narrow(data, source, found)
    _refuse_what_is_no_table(text, source, found)
    _suspect_mojibake(text, found)
    return text


def _refuse_known_formats(data: bytes, source: str) -> None:
    if data.startswith(OLE) and "EncryptedPackage".encode("utf-16-le") in data:
        raise refuse(source, "this is an Excel workbook with a password; save a copy without it", "not-a-table")
    for signature, message in SIGNATURES:
        if data.startswith(signature):
            raise refuse(source, f"this is {message}", "not-a-table")
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet" in data[:200]:
            message = f"this is an OpenDocument spreadsheet: save it as .xlsx, or {SAVE_AS_CSV}"
        else:
            message = "this is a ZIP archive, whatever its name says; unpack it and read the sheet inside"
        raise refuse(source, message, "not-a-table")


def _refuse_long_lines(data: bytes, source: str) -> None:
    if len(data) > LONGEST_LINE:
        lengths = [len(line) for line in data.replace(b"\r", b"\n").split(b"\n")]
        longest = max(lengths)
        if longest > LONGEST_LINE:
            message = (
                f"line {lengths.index(longest) + 1} has {thousands(longest / 1e6)} million bytes: no row of a sheet"
            )
            raise refuse(source, message, "not-a-table")


def _decode_named(data: bytes, encoding: str, source: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        place = getattr(error, "start", 0)
        line = data[:place].count(b"\n") + 1
        message = f"line {line}: this is not {encoding}; name another encoding, or {SAVE_AS_CSV}"
        raise refuse(source, message, "encoding") from None
    except (LookupError, ValueError):
        known = "utf-8, cp1252, mac_roman, latin-1, gbk, big5, shift_jis, euc_kr, utf-16"
        raise InputError(f"encoding={encoding!r} is not known; for example {known}") from None
    return text.removeprefix("\ufeff")


def _name_encoding(name: str) -> str:
    return f"name it: encoding={name!r} (command line: --encoding {name})"


def _decode_marked(data: bytes, source: str, found: Findings) -> str | None:
    for mark, codec, name in BYTE_ORDER_MARKS:
        if not data.startswith(mark):
            continue
        if codec == "utf-8":
            return _decode_narrow(data[len(mark) :], source, found)
        return _decode_as(data[len(mark) :], codec, name, source, found)
    return None


def _decode_wide(data: bytes, source: str, found: Findings) -> str | None:
    """Recognise UTF-16 without a mark by the zero that every second byte then is."""
    sample = data[:4096]
    half = max(1, len(sample) // 2)
    for codec, zeros, others in (("utf-16-le", sample[1::2], sample[0::2]), ("utf-16-be", sample[0::2], sample[1::2])):
        if zeros.count(0) > 0.7 * half and others.count(0) < 0.1 * half:
            return _decode_as(data, codec, "UTF-16", source, found)
    return None


def _decode_as(data: bytes, codec: str, name: str, source: str, found: Findings) -> str:
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(codec, errors="replace").count("\n") + 1
        raise refuse(
            source,
            f"line {line}: the {name} text is damaged or cut off; save the sheet again as CSV (UTF-8)",
            "encoding",
        ) from None
    found.note("encoding", f"{source}: read as {name}")
    return text


def _decode_narrow(data: bytes, source: str, found: Findings) -> str:
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        message = f"line {line} holds a NUL byte: a damaged file, or no text; {SAVE_AS_CSV}"
        raise refuse(source, message, "not-a-table")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_fallback(data, error, source, found)


def _decode_fallback(data: bytes, error: UnicodeDecodeError, source: str, found: Findings) -> str:
    """Read as Windows-1252, unless the rest of the file is clearly UTF-8 and therefore damaged."""
    line = data[: error.start].count(b"\n") + 1
    lenient = data.decode("utf-8", errors="surrogateescape")
    broken = sum("\udc80" <= character <= "\udcff" for character in lenient)
    whole = sum(character > "\x7f" for character in lenient) - broken
    cut_off = error.reason == "unexpected end of data"
    if cut_off or whole >= broken:
        what = "the file ends inside a character" if cut_off else "bytes that are not UTF-8 in a file that otherwise is"
        raise refuse(
            source, f"line {line}: {what}: damaged or cut off; save the sheet again as CSV (UTF-8)", "encoding"
        )
    guess = _east_asian(data)
    if guess is not None:
        message = f"line {line}: the text seems to be in an East Asian encoding; {_name_encoding(guess)}"
        raise refuse(source, f"{message}, or {SAVE_AS_CSV}", "encoding")
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as other:
        line = data[: other.start].count(b"\n") + 1
        message = f"line {line}: byte 0x{data[other.start]:02x} is neither UTF-8 nor Windows-1252"
        mac = f"from a Mac? then {_name_encoding('mac_roman')}"
        raise refuse(source, f"{message}; {mac}, or {SAVE_AS_CSV}", "encoding") from None
    if odd := MAC_LETTERS.search(text):
        word = _word_at(text, odd.start())
        other_word = word.encode("cp1252", errors="replace").decode("mac_roman")
        message = f"{word!r}: saved on a Mac, as {other_word!r}? then {_name_encoding('mac_roman')}"
        found.suspicion(text.count("\n", 0, odd.start()) + 1, None, word, message, kind="mojibake")
    example = _word_at(text, error.start)
    found.note("encoding", f"{source}, line {line}: not UTF-8; read as Windows-1252 (e.g. {example!r})")
    return text


def _east_asian(data: bytes) -> str | None:
    """Return the East Asian encoding that a text is probably in: bytes above 127 mostly in pairs."""
    high = re.findall(rb"[\x80-\xff]+", data)
    total = sum(map(len, high))
    if total < FEWEST_PAIRED:
        return None
    # In Shift-JIS half of the second bytes are plain ones; kana tell it, which other encodings have elsewhere.
    kana = len(re.findall(rb"\x82[\x9f-\xf1]|\x83[\x40-\x96]", data))
    if kana >= FEWEST_PAIRED and 4 * kana > total:
        return "shift_jis"
    if sum(len(run) for run in high if len(run) > 1) < MOST_PAIRED * total:
        return None
    for codec, name in EAST_ASIAN.items():
        try:
            data.decode(codec)
        except UnicodeDecodeError:
            continue
        return name
    return None


def _word_at(text: str, position: int) -> str:
    """Return the word around a position of single-byte text."""
    left = re.search(r"[^\s,;|\"]*\Z", text[max(0, position - 30) : position])
    right = re.match(r"[^\s,;|\"]*", text[position : position + 30])
    return (left.group() if left else "") + (right.group() if right else "")


def _first_control(text: str) -> tuple[int, str]:
    control = CONTROL.search(text)
    assert control is not None
    return text.count("\n", 0, control.start()) + 1, f"the control character 0x{ord(control.group()):02x}"


def _refuse_what_is_no_table(text: str, source: str, found: Findings) -> None:
    if not text.strip("\ufeff \t\r\n\x1a"):
        raise refuse(source, "the file is empty; it needs a header row and one row per effect", "empty")
    if MARKUP.match(text):
        raise refuse(source, f"this is a web page or XML, not a table of text; {SAVE_AS_CSV}", "not-a-table")
    if re.match(r'\s*(\{\s*"|\[\s*[\[{])', text):
        raise refuse(source, "this is JSON, not a table of text; write it as CSV and read that", "not-a-table")
    controls = CONTROL.findall(text)
    if len(controls) > MOST_CONTROL * len(text):
        line, character = _first_control(text)
        message = f"line {line} holds {character}: a damaged file, or no text; {SAVE_AS_CSV}"
        raise refuse(source, message, "not-a-table")
    if controls:
        line, character = _first_control(text)
        found.suspicion(line, None, None, f"holds {character}, as text copied from a PDF may", kind="mojibake")


def _suspect_mojibake(text: str, found: Findings) -> None:
    match = MOJIBAKE.search(text)
    if match:
        line = text.count("\n", 0, match.start()) + 1
        value = re.split(r"[\r\n]", text[max(0, match.start() - 8) : match.end() + 8])[0]
        found.suspicion(
            line,
            None,
            value,
            f"{value!r} looks like text saved in one encoding and opened in another; export it as UTF-8",
            kind="mojibake",
        )


SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SPACE = " "
ROW_NAMES = "row_names"
SAMPLE_CHARACTERS = 65_536
SAMPLE_ROWS = 200
HEADER_SEARCH_ROWS = 12
MOST_LETTERS = 4
# Cells of a table of text; a workbook's are bounded as they are read.
MOST_CELLS = 10_000_000
# What str.strip takes off.
BLANKS = frozenset(character for character in map(chr, range(0x3001)) if character.isspace())
WORKBOOKS = (".xlsx", ".xlsm")
# A header names one of these pairs; the first found decides what the sheet holds.
PAIRS = (("r", "n"), ("yi", "vi"), ("yi", "sei"), ("es_type", "es_value"))
KEYS = frozenset(name for pair in PAIRS for name in pair)


@dataclass(frozen=True)
class Sheet:
    """A sheet as text: every cell keeps its row and what was typed there."""

    source: str  # file name without its folder
    header: tuple[str, ...]  # column names as in the file, each once
    # Row number of each row as a spreadsheet shows it; the header is 1 unless blank rows stand above it.
    lines: tuple[int, ...]
    columns: dict[str, list[str]] = field(repr=False)  # the cells without the spaces around them
    header_line: int = 1  # row number of the header
    separator: str = ","  # what stands between cells

    def renamed(self, names: dict[str, str]) -> Sheet:
        """Return the sheet with columns called by other names, in the same order."""
        return replace(
            self,
            header=tuple(names.get(name, name) for name in self.header),
            columns={names.get(name, name): cells for name, cells in self.columns.items()},
        )


Record = tuple[int, list[str]]


def read_sheet(
    data: bytes,
    source: str,
    found: Findings,
    *,
    known: Callable[[str], str | None],
    sheet: str | None = None,
    encoding: str | None = None,
    unique: bool = False,
) -> Sheet:
    """Turn bytes into a `Sheet`; `known` names the column (``"r"``, ``"n"``) that a header cell stands for.

    With `unique`, a name that stands twice gets a number, as in R: ``Std Err``, ``Std Err.1``.

    Raises `CodingError`: if the file is no table at all; what is wrong inside a table goes into `found`.
    """
    if is_workbook(data) or (data.startswith(ZIP) and source.lower().endswith(WORKBOOKS)):
        if not source.lower().endswith(WORKBOOKS):
            found.note("format", f"{source}: an Excel workbook, whatever its name says")
        records = read_workbook(
            data, source, found, has_columns=lambda rows: _header_place(rows, known) is not None, sheet=sheet
        )
        if not records:
            raise refuse(source, "the sheet is empty; it needs a header row and one row per effect")
        return _assemble(_numbered(records, known) if unique else records, source, found, known, "\t")
    if sheet is not None:
        raise InputError(f"sheet={sheet!r} names a sheet of an Excel workbook; {source} is a file of text")
    text = decode(data, source, found, encoding)
    text, declared = _declared_separator(text)
    separator = declared or _choose_separator(text, source, known)
    expected = "\t" if source.lower().endswith((".tsv", ".tab")) else ","
    if separator != expected:
        found.note("separator", f"{source}: cells are separated by {SEPARATORS.get(separator, 'space')}s")
    rows = _spaced_rows(text) if separator == SPACE else _records(text, separator, found)
    records = _bounded(rows, source)
    if not records:
        raise CodingError(found.errors, source=source)
    return _assemble(_numbered(records, known) if unique else records, source, found, known, separator)


def _numbered(records: Sequence[Record], known: Callable[[str], str | None]) -> list[Record]:
    """Give names that stand twice in the header a number."""
    place = _header_place([cells for _, cells in records[:HEADER_SEARCH_ROWS]], known) or 0
    line, header = records[place]
    seen: dict[str, int] = {}
    names = []
    for cell in (" ".join(cell.split()) for cell in header):
        count = seen[cell] = seen.get(cell, -1) + 1
        names.append(f"{cell}.{count}" if cell and count else cell)
    return [*records[:place], (line, names), *records[place + 1 :]]


def _bounded(rows: Iterator[Record], source: str) -> list[Record]:
    records, cells = [], 0
    for record in rows:
        records.append(record)
        cells += len(record[1])
        if cells > MOST_CELLS:
            raise refuse(source, f"the first {len(records):,} rows hold {cells:,} cells, more than any coding sheet")
    return records


def _declared_separator(text: str) -> tuple[str, str | None]:
    """Take off the first line ``sep=;`` that some spreadsheets write (and do not show as a row)."""
    match = re.match(r'"?sep=([,;|\t])"?[ \t]*(\r\n|\n|\r)', text, flags=re.IGNORECASE)
    return (text[match.end() :], match.group(1)) if match else (text, None)


def _choose_separator(text: str, source: str, known: Callable[[str], str | None]) -> str:
    """Pick the separator whose header names r and n, then whose rows agree in length, then the widest."""
    sample = text[:SAMPLE_CHARACTERS]
    scores: dict[str, tuple[int, int, float, int]] = {}
    for separator in SEPARATORS:
        rows = [row for _, row in zip(range(SAMPLE_ROWS), _plain_rows(sample, separator), strict=False)]
        header = rows[_header_place(rows, known) or 0] if rows else []
        width = len(header)
        if width < 2:
            continue
        names = len({known(cell.strip()) for cell in header} & KEYS)
        agreeing = sum(len(row) == width for row in rows) / len(rows)
        scores[separator] = (names, int(agreeing > 0.5), agreeing, width)
    best = max((one[0] for one in scores.values()), default=0)
    if best < 2 and _is_spaced(sample, known):
        return SPACE
    if not scores:
        raise refuse(source, _one_column_message(sample, known))
    chosen = max(scores, key=lambda separator: scores[separator])
    # Tabs that only line columns up leave rows of different lengths; R reads such files by their blanks.
    aligned = chosen == "\t" and scores[chosen][2] < 1 and _is_spaced(sample, known)
    return SPACE if aligned else chosen


def _header_place(rows: Sequence[list[str]], known: Callable[[str], str | None]) -> int | None:
    """Return which of the first rows names what every sheet needs, or None."""
    for place, cells in enumerate(rows[:HEADER_SEARCH_ROWS]):
        names = {known(" ".join(cell.split())) for cell in cells}
        if any(names.issuperset(pair) for pair in PAIRS):
            return place
    return None


def _plain_rows(sample: str, separator: str) -> Iterator[list[str]]:
    """Split a sample without minding broken quotation marks."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
    try:
        yield from (row for row in reader if any(cell.strip() for cell in row))
    except csv.Error:
        return


def _spaced_rows(text: str) -> Iterator[Record]:
    """Yield the rows of a table whose cells are separated by spaces, as R's ``write.table`` and prints have them."""
    for line, row in enumerate(text.splitlines(), 1):
        cells = row.split()
        if '"' in row:
            found = re.findall(r'"((?:[^"]|"")*)"(?=\s|\Z)|(\S+)', row)
            cells = [plain or quoted.replace('""', '"') for quoted, plain in found]
        if cells:
            yield line, cells


def _is_spaced(sample: str, known: Callable[[str], str | None]) -> bool:
    """Tell whether spaces separate the cells: all rows are of one length, but for a header without the row names."""
    rows = [
        cells for _, cells in _spaced_rows(sample.rpartition("\n")[0] if len(sample) == SAMPLE_CHARACTERS else sample)
    ]
    if len(rows) < 2 or len(rows[0]) < 2:
        return False
    widths = {len(cells) for cells in rows[1:]}
    named = {known(cell) for cell in rows[0]} & KEYS
    return len(widths) == 1 and widths <= {len(rows[0]), len(rows[0]) + 1} and bool(named or len(rows[0]) > 2)


def _one_column_message(sample: str, known: Callable[[str], str | None]) -> str:
    first = next((line for line in sample.splitlines() if line.strip()), "")
    if {known(word) for word in first.split()} >= {"r", "n"}:
        return (
            "the columns are separated by spaces, which study names hold too; "
            "save the sheet as CSV (comma, semicolon or tab between the cells)"
        )
    return (
        f"only one column ({short(first.strip())!r}): no comma, semicolon or tab separates the cells; "
        "save the sheet as CSV with one column for r and one for n"
    )


def _records(text: str, separator: str, found: Findings) -> Iterator[Record]:
    """Yield (row number, cells) for every row that is not blank; broken quotation marks go into `found`."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    row = 0
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row += 1
            found.error(row, None, None, _quote_message(str(error), start, reader.line_num), kind="quotes")
            continue
        row += 1
        if any(cells) and any(cell and not cell.isspace() for cell in cells):
            if reader.line_num - start >= 1:
                _check_swallowed(row, cells, separator, found)
            yield row, cells


def _quote_message(error: str, start: int, end: int) -> str:
    if "unexpected end" in error or "field larger" in error or "field limit" in error:
        swallowed = f" and swallows the text lines {start} to {end}" if end > start else ""
        return f'a quotation mark (") is opened and never closed{swallowed}; close or delete it'
    return 'a quotation mark (") closes inside a cell; double it ("") or delete it'


def _check_swallowed(row: int, cells: list[str], separator: str, found: Findings) -> None:
    """Report a cell that took whole rows into itself because a quotation mark was left open."""
    for cell in cells:
        inner = re.split(r"\r\n|\n|\r", cell)
        if len(inner) > 1 and any(part.count(separator) >= max(1, len(cells) - 1) for part in inner[1:]):
            found.error(
                row,
                None,
                short(cell),
                f"one cell holds {len(inner)} lines of the file ({short(cell)!r}): a quotation mark is "
                "opened here and closed in another row; delete or close it",
                kind="quotes",
            )
            return


def _assemble(
    records: Sequence[Record], source: str, found: Findings, known: Callable[[str], str | None], separator: str
) -> Sheet:
    first = [cells for _, cells in records[:HEADER_SEARCH_ROWS]]
    place = _header_place(first, known)
    later = _later_header(first) if place is None else None
    if later is not None:
        line = records[later][0]
        raise refuse(source, f"the names of the columns seem to stand in row {line}; delete the rows above it")
    header_line, header = records[place or 0][0], [" ".join(cell.split()) for cell in records[place or 0][1]]
    rows = records[(place or 0) + 1 :]
    if place:
        above = f"the {place} rows" if place > 1 else "the row"
        message = f"the column names stand here; delete {above} above, so that the first row names the columns"
        found.error(header_line, None, None, message, kind="title-rows")
    if not rows and not found.errors:
        raise refuse(source, "only a header and no row of data; each effect needs a row below it")
    header = _with_row_names(header, rows, separator)
    if _is_data(header, rows):
        shown = ", ".join(cell for cell in header if number_of(cell) is not None)
        raise refuse(source, f"the first row holds data ({short(shown)}), not names; put a row of names above it")
    rows = _check_lengths(header, rows, found, separator)
    keep = _check_header(header, header_line, rows, found)
    columns = {name: [cells[place].strip() for _, cells in rows] for place, name in keep.items()}
    untidy = [line for line, cells in rows for cell in cells if cell and (cell[0] in BLANKS or cell[-1] in BLANKS)]
    if untidy:
        line, spaced = untidy[0], len(untidy)
        s = "s" if spaced > 1 else ""
        found.note("spaces", f"{source}: spaces around {spaced} cell{s} were left off (first in line {line})")
    return Sheet(source, tuple(keep.values()), tuple(line for line, _ in rows), columns, header_line, separator)


def _later_header(rows: Sequence[list[str]]) -> int | None:
    """Return the row of names where the first row names only few of the columns below it, as titles of groups do."""
    filled = [sum(bool(cell.strip()) for cell in cells) for cells in rows]
    words = [sum(bool(cell.strip()) and number_of(cell.strip()) is None for cell in cells) for cells in rows]
    if len(rows) < 3 or filled[0] < 1:
        return None
    for place in range(1, len(rows) - 1):
        most = max(filled[place + 1 :])
        if words[place] == filled[place] >= max(3, 2 * filled[0], 0.7 * most) and words[place + 1] < filled[place + 1]:
            return place
    return None


def _with_row_names(header: list[str], rows: Sequence[Record], separator: str) -> list[str]:
    """Name the column of row names that R's ``write.table`` leaves without a name."""
    if not rows or any(len(cells) != len(header) + 1 for _, cells in rows):
        return header
    names = [cells[0].strip() for _, cells in rows]
    if names == [str(i) for i in range(1, len(names) + 1)]:
        return ["", *header]
    plain = separator != "," and len(set(names)) == len(names) and ROW_NAMES not in header
    return [ROW_NAMES, *header] if plain else header


def _is_data(header: list[str], rows: Sequence[Record]) -> bool:
    """Tell a row of data that stands where the names should: numbers above columns of numbers."""
    numbers = []
    for place in [place for place, cell in enumerate(header) if number_of(cell) is not None]:
        below = {cells[place] for _, cells in rows if place < len(cells)} - {""}
        if all(number_of(cell.strip()) is not None for cell in below):
            numbers.append(place)
    return 2 * len(numbers) >= sum(map(bool, header)) and (len(numbers) > 1 or len(header) < 3) and bool(numbers)


def _check_lengths(header: list[str], rows: Sequence[Record], found: Findings, separator: str) -> list[Record]:
    """Report rows with too few or too many cells; return the others, cut to the header's width."""
    width = len(header)
    good: list[Record] = []
    bad: list[Record] = []
    for line, cells in rows:
        if len(cells) == width:
            good.append((line, cells))
        elif len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            good.append((line, cells[:width]))
        else:
            bad.append((line, cells))
    if not good and len(bad) > 1 and all(len(cells) == width + 1 for _, cells in bad):
        found.error(
            None,
            None,
            None,
            f"every row has {width + 1} cells and the header {width}; row names without a column name "
            "(R: write.csv(..., row.names = FALSE)), or decimal commas in a file separated by commas?",
            kind="ragged",
        )
        return good
    for line, cells in bad:
        found.error(line, None, None, _length_message(cells, width, separator), kind="ragged")
    return good


def _length_message(cells: list[str], width: int, separator: str) -> str:
    filled = [cell.strip() for cell in cells if cell.strip()]
    count = f"{len(cells)} cell{'s' if len(cells) != 1 else ''} where the header has {width}"
    if len(filled) == 1:
        return f"{count} ({short(filled[0])!r}); a remark below the table? delete it"
    for other, name in SEPARATORS.items():
        if other != separator and len(cells) + sum(cell.count(other) for cell in cells) == width > len(cells):
            return f"{count} (starts {short(filled[0])!r}); {name}s in place of {SEPARATORS[separator]}s in this row?"
    if len(cells) < width:
        return f"{count} (starts {short(filled[0])!r}); fill the row up, leaving missing cells empty"
    mend = "a decimal comma or a comma inside a name? put that cell in quotation marks"
    return f"{count} (starts {short(filled[0])!r}); {mend if separator == ',' else 'one separator too many?'}"


def _check_header(header: list[str], header_line: int, rows: Sequence[Record], found: Findings) -> dict[int, str]:
    """Return the columns to keep as {place: name}; report names that are missing or stand twice."""
    keep: dict[int, str] = {}
    places: dict[str, list[int]] = {}
    for place, name in enumerate(header):
        if name:
            places.setdefault(name, []).append(place)
            if len(places[name]) == 1:
                keep[place] = name
        else:
            _check_unnamed(place, header_line, rows, found)
    for name, where in places.items():
        if len(where) > 1:
            letters = " and ".join(column_letter(place) for place in where[:MOST_LETTERS])
            letters += f" and {len(where) - MOST_LETTERS} more" if len(where) > MOST_LETTERS else ""
            found.error(
                header_line,
                name,
                name,
                f"the name stands {len(where)} times (columns {letters}); give each column its own name",
                kind="duplicate-header",
            )
    return keep


def _check_unnamed(place: int, header_line: int, rows: Sequence[Record], found: Findings) -> None:
    cells = [cells[place].strip() for _, cells in rows]
    filled = [cell for cell in cells if cell]
    if not filled:
        return
    if place == 0 and (
        all(cell == str(i) for i, cell in enumerate(cells, 1)) or all(cell == str(i) for i, cell in enumerate(cells))
    ):
        found.note("row-names", "the first column has no name and only counts the rows; it was left out")
        return
    found.error(
        header_line,
        f"column {column_letter(place)}",
        "",
        f"the column has no name but holds {len(filled)} cell{'s' if len(filled) > 1 else ''} "
        f"(first {short(filled[0])!r}); name it or empty it",
        kind="blank-header",
    )
