"""From bytes to text: UTF-8, UTF-16, UTF-32 and Windows-1252; anything that is no text is named."""

from __future__ import annotations

import codecs
import re

from alliance_meta.effects.sheet.findings import Findings, refuse
from alliance_meta.errors import InputError
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
