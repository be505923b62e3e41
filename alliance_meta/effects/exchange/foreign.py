"""`read`: tables of other programs as coding sheets, with a report of what became what."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from alliance_meta.effects.contract.description import Description
from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.exchange.programs import KINDS, PROGRAMS, SHEET, Taken, numbered_columns, squeezed
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.columns import canonical_name
from alliance_meta.effects.sheet.examine import Reading, examine_sheet, read_file
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.ingest import table_of
from alliance_meta.effects.sheet.naming import SheetOptions
from alliance_meta.effects.sheet.reading import Sheet, read_sheet
from alliance_meta.effects.sheet.spreadsheet import ZIP, is_workbook
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.files import sha256
from alliance_meta.notes import Measure, check_option, did_you_mean

MOST_FILES = 12
Kind = Literal["auto", "sheet", "metafor", "cma", "revman", "covidence", "metapsy", "jasp", "psymetadata"]


def read(
    path: str | Path,
    *,
    kind: Kind = "auto",
    columns: Mapping[str, str] | None = None,
    measure: Measure | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    missing: str | Sequence[str | float] = (),
) -> CodedTable:
    r"""Read what another program wrote as a coding sheet, and say what became of every column.

    Comprehensive Meta-Analysis, RevMan, Covidence, Metapsy, metafor, JASP and psymetadata each call things by names of
    their own. Their columns get the names of the coding contract (`codebook` lists them), words are put into its
    vocabulary where they mean the same, and numbers that the program computed from others are left behind. Nothing is
    guessed: a column that is not known keeps its name, and `columns` says what it is.

    Parameters
    ----------
    path : str or Path
        The file: comma-, semicolon- or tab-separated text, or an Excel workbook.
    kind : {"auto", "sheet", "metafor", "cma", "revman", "covidence", "metapsy", "jasp", "psymetadata"}
        The program that wrote it; ``"auto"`` tells by the header, and takes what it does not know for a coding
        sheet (``"sheet"``).

        ``"cma"``: the spreadsheet of Comprehensive Meta-Analysis, saved as text or Excel: r with n, with the sign
        that "Effect direction" says; without them Fisher's z, g or d with the standard error after it.
        ``"revman"``: the data rows of RevMan's data package: "GIV Mean" with "GIV SE", else means of two arms.
        ``"covidence"``: an export of extracted data: the consensus of each study; numbered fields (``r 1``, ``r 2``)
        become rows. ``"metapsy"``: ``.g`` with ``.g_se``, or r where `columns` names it.
    columns : mapping of str to str, optional
        What some columns of the file are in a coding sheet: ``{"Pearson correlation": "r"}``.
    measure : {"ZCOR", "COR", "UCOR"}, optional
        What finished effects are, so that results can be given as r: ``"ZCOR"`` for Fisher's z.
    sheet, encoding, missing
        As for `read_coded`.

    Returns
    -------
    CodedTable
        Its ``mapping`` is a DataFrame with a row for each column of the file: ``column became how``.

    Raises
    ------
    CodingError
        Every error of the table at once, in ``.problems``.
    InputError
        A column in `columns` that the file lacks.
    CannotRunError
        If the file is not there or cannot be opened.

    Warns
    -----
    AdaptedInputWarning
        For all that was renamed, turned, left out or put in another form.
    SuspiciousInputWarning
        Once, if the table holds values that look like mistakes.

    See Also
    --------
    read_coded : a coding sheet of one's own.
    export : the way back.

    Examples
    --------
    >>> import tempfile, warnings
    >>> from pathlib import Path
    >>> import alliance_meta as am
    >>> warnings.simplefilter("ignore")  # what was adapted is in table.notes too
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "cma.csv")
    ...     _ = file.write_text("Study name,Correlation,Sample size,Effect direction\nAda 2001,.31,48,Negative\n")
    ...     table = am.read(file)
    >>> float(table.frame["r"].iloc[0])
    -0.31
    >>> table.mapping.values.tolist()[0]
    ['Study name', 'study', 'renamed']
    """
    check_option("kind", kind, Kind)
    reading = examine_foreign(
        path, kind=kind, columns=columns, measure=measure, sheet=sheet, encoding=encoding, missing=missing
    )
    return table_of(reading, command="read")


def examine_foreign(
    path: str | Path,
    *,
    kind: str = "auto",
    columns: Mapping[str, str] | None = None,
    measure: Measure | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    missing: str | Sequence[str | float] = (),
) -> Reading:
    """Read and check a table of another program in one pass; nothing inside the file raises or warns."""
    codes = (missing,) if isinstance(missing, str) else tuple(map(str, missing))
    options = SheetOptions(measure=measure, sheet=sheet, encoding=encoding, missing=codes)
    data, source = read_file(Path(path))
    found = Findings(departures="suspicion")
    wanted = dict(columns or {})
    known = _known(kind, wanted, options)
    try:
        _refuse_archive(data, source)
        table = read_sheet(data, source, found, known=known, sheet=sheet, encoding=encoding, unique=True)
        _check_wanted(wanted, table)
        program = KINDS[kind] if kind != "auto" else next((one for one in PROGRAMS if one.wrote(table.header)), SHEET)
        found.note("program", f"{source}: read as {program.title}")
        taken = program.take(table, found, wanted, measure)
    except CodingError as error:
        problems = [*error.problems, *(problem for problem in found.sorted if problem not in error.problems)]
        return Reading(source, None, tuple(problems), tuple(found.notes))
    taken, words = _in_our_words(taken, found)
    if taken.left:
        listed = ", ".join(f"{column} ({why})" for column, why in taken.left.items())
        found.note("left", f"{source}: columns that were not taken: {listed}")
    options = replace(options, measure=taken.measure)
    reading = examine_sheet(taken.sheet, sha256(data), found, Description(), options)
    if reading.table is None:
        return reading
    return replace(reading, table=replace(reading.table, taken=_report(table, taken, reading.table, words)))


def _refuse_archive(data: bytes, source: str) -> None:
    """Answer an archive, such as RevMan's data package, with the tables in it."""
    if not data.startswith(ZIP) or is_workbook(data):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith((".csv", ".tsv", ".txt", ".xlsx"))]
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return
    best = next((name for name in names if "data-rows" in name.lower().replace(" ", "-")), None)
    if best is not None:
        mend = f"unpack it and give {best!r}, which holds the data rows"
    elif names:
        mend = f"unpack it and give one of {', '.join(map(repr, names[:MOST_FILES]))}"
    else:
        mend = "it holds no table"
    raise CodingError([Problem(None, None, None, f"an archive of files; {mend}", kind="not-a-table")], source=source)


def _known(kind: str, columns: Mapping[str, str], options: SheetOptions) -> Callable[[str], str | None]:
    """Return what tells the column that a header cell stands for."""
    programs = PROGRAMS if kind == "auto" else (KINDS[kind],)

    def known(cell: str) -> str | None:
        name = columns.get(cell) or options.known_as(cell)
        return name or next((one.columns[squeezed(cell)] for one in programs if squeezed(cell) in one.columns), None)

    return known


def _check_wanted(columns: Mapping[str, str], table: Sheet) -> None:
    there = {*table.columns, *numbered_columns(table.header)}
    for name in columns.values():
        both = [column for column in there if columns.get(column, column) == name]
        if len(both) > 1:
            listed = " and ".join(map(repr, sorted(both)))
            raise InputError(f"columns: {listed} would both be called {name!r}; give one of them another name")
    for column in columns:
        if column not in there:
            hint = did_you_mean(column, list(table.header)) or "."
            raise InputError(
                f"columns: {table.source} has no column {column!r}{hint} Columns: {', '.join(table.header)}"
            )


def _in_our_words(taken: Taken, found: Findings) -> tuple[Taken, dict[str, str]]:
    """Put the words of columns with a vocabulary into that vocabulary, and say which became which."""
    said = {}
    for name in taken.sheet.header:
        column = CONTRACT.column(canonical_name(name) or name)
        if column is None or column.vocabulary is None:
            continue
        cells = taken.sheet.columns[name]
        words = {cell: column.vocabulary.word(cell) for cell in set(cells) if cell}
        spelt = {cell: word for cell, word in words.items() if word is not None and word != cell}
        if spelt:
            taken = taken.set(name, [spelt.get(cell, cell) for cell in cells])
            said[column.name] = ", ".join(f"{cell} is read as {word}" for cell, word in sorted(spelt.items()))
            found.note("words", f"{taken.sheet.source}: {column.name}: {said[column.name]}")
    return taken, said


def _report(table: Sheet, taken: Taken, read: CodedTable, words: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return what became of every column of the file, and the columns that were made."""
    aliases = dict(read.provenance.layout.renamed)
    rows = []
    for column in table.header:
        name = taken.names.get(column, column)
        why = taken.left.get(name, taken.left.get(column))
        if why is not None:
            rows.append((column, "", f"not taken: {why}"))
            continue
        name = aliases.get(name, name)
        how = "renamed" if name != column else "as it is"
        rows.append((column, name, f"{how}; {words[name]}" if name in words else how))
    became = {name for _, name, _ in rows}
    return (*rows, *(("", name, "made of the others") for name in read.columns if name not in became))
