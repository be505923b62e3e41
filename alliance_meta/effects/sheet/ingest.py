"""Reading users' coding sheets: `read_coded` gives a table or every problem, `check_coded` the list."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.examine import Hold, Reading, examine
from alliance_meta.errors import AdaptedInputWarning, CodingError, Problem, SuspiciousInputWarning
from alliance_meta.notes import Measure, shell_words, warn_note

SUSPICION_WORDS = {
    "all-positive": "all r positive",
    "column-name": "a column whose name is nearly one of the contract",
    "decimal-mixture": "a column with another decimal mark",
    "description": "a description that cannot be read",
    "duplicate-id": "an effect id twice in one study",
    "duplicate-row": "a row entered twice",
    "formula": "formulas",
    "level-once": "a level with k = 1",
    "level-spelling": "a level spelt two ways",
    "missing": "r or n missing",
    "mojibake": "damaged letters",
    "no-study": "no column of studies",
    "study-year": "studies told apart by a year that some rows lack",
    "n-few": "n < 10",
    "n-large": "an n far above the others",
    "not-in-vocabulary": "words outside the vocabulary",
    "not-unique": "values that should differ",
    "not-whole": "numbers that should be whole",
    "not-yes-or-no": "neither yes nor no",
    "number-code": "a number that may be a code for missing",
    "out-of-range": "numbers out of range",
    "published": "printed results or a route that cannot be read",
    "r-and-p": "r and p that contradict each other",
    "r-large": "|r| > .9",
    "required": "required cells that are empty",
    "same-r-n": "the same r and n twice",
    "sample-two-n": "a sample with two n",
    "se-for-variance": "standard errors for variances",
    "spreadsheet-error": "a spreadsheet's error",
    "text-among-numbers": "text in a column of numbers",
    "total-row": "a row that sums up others",
    "vocabulary-spelling": "words spelt in another way",
    "year": "an unlikely year",
}


def read_coded(
    path: str | Path,
    *,
    ri: str | None = None,
    ni: str | None = None,
    yi: str | None = None,
    vi: str | None = None,
    sei: str | None = None,
    measure: Measure | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    missing: str | Sequence[str | float] = (),
    strict: bool = False,
    study: str | None = None,
) -> CodedTable:
    r"""Read a coding sheet: one row per effect, one column with r, one with n, and any others.

    The file may be an Excel workbook, or text: comma-, semicolon- or tab-separated, with decimal points or
    decimal commas, in UTF-8, UTF-16 or Windows-1252, as spreadsheets all over the world save it. The reader
    adapts to these and to the usual other names of the columns, says so each time, and never changes a value:
    what cannot be read as it stands is a problem with its row, its column and a way to mend it. Only the columns of
    the effects can stop the reading; text in any other column of numbers is shown, and matters where it is used.

    Columns with the names of the coding contract (`codebook` lists them) are held against it: words outside a
    vocabulary and numbers out of range are shown, and stop nothing, because they make no number wrong. A
    ``datapackage.json`` beside the sheet may widen the vocabularies and describe further columns.

    A sheet without r and n may hold finished effects, as metafor and psymetadata (``yi`` with ``vi`` or ``sei``)
    and Metapsy (``.g`` with ``.g_se``) have them, or other statistics for `convert` (``es_type``, ``es_value``).

    Parameters
    ----------
    path : str or Path
        The file (.xlsx, CSV, TSV or text). Data in a file whose name begins with ``synthetic`` are labelled as
        made up wherever they show.
    ri, ni : str, optional
        Columns with the correlations and the sample sizes, when they are not called ``r`` and ``n`` or one
        of the usual other names (``ri``, ``cor``, ``correlation``, ``ni``, ``sample_size``, ...).
    yi, vi, sei : str, optional
        Columns with finished effects and their sampling variances or standard errors, whatever they are called
        (``TE`` and ``seTE``, ``g`` and ``vg``). With `yi`, ``measure="ZCOR"`` and sample sizes alone the variance is
        1/(n - 3).
    measure : {"ZCOR", "COR", "UCOR"}, optional
        The effect size that will be made of r and n (Fisher z by default); it decides the smallest n that can be
        used. Of finished effects it says what they are, so that results can be given as r.
    sheet : str, optional
        Sheet of an Excel workbook; by default the one that has the columns.
    encoding : str, optional
        How a text file was saved, where it is not UTF-8, UTF-16 or Windows-1252: ``"mac_roman"``, ``"gbk"``,
        ``"shift_jis"``, ...
    missing : str, number or sequence of these
        Further codes for "missing", such as 999; empty cells, ``NA``, ``n.r.``, ``.`` and their like always are.
    strict : bool
        Also stop at what departs from the contract: words outside a vocabulary, numbers out of range, required
        columns that lack and required cells that are empty.
    study : str, optional
        Column with the study labels, when its header is none of the usual ones (``study``, ``author``,
        ``reference``, ``paper``, ``trial``, ``Studie``, ...). Rows with equal labels are one study; a year of
        publication tells equal labels of different years apart.

    Returns
    -------
    CodedTable
        Columns of numbers as numbers, the others as text; the index is the row as a spreadsheet shows it.

    Raises
    ------
    CodingError
        Every error of the sheet at once, in ``.problems``.
    CannotRunError
        If the file is not there or cannot be opened.

    Warns
    -----
    AdaptedInputWarning
        For every encoding, separator, decimal mark, missing-value code, column name and sheet that was adapted
        or chosen.
    SuspiciousInputWarning
        Once, if the sheet holds values that look like mistakes; `check_coded` lists them.

    See Also
    --------
    check_coded : the problems as a list, without an exception.
    codebook : the columns and words of the contract.
    write_template : a blank sheet to type into.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta import escalc, read_coded
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = Path(folder, "sheet.csv")
    ...     _ = sheet.write_text("study,r,n\nAda 2001,.31,48\nBo 2004,-.02,120\n")
    ...     table = read_coded(sheet)
    >>> table.k, table.columns
    (2, ('study', 'r', 'n'))
    >>> escalc(table).k
    2
    """
    hold: Hold = "strict" if strict else "read"
    given = {"ri": ri, "ni": ni, "yi": yi, "vi": vi, "sei": sei, "measure": measure, "sheet": sheet, "study": study}
    reading = examine(path, hold=hold, encoding=encoding, missing=missing, **given)
    return table_of(reading)


def table_of(reading: Reading, *, command: str = "check") -> CodedTable:
    """Return the table, warning of what was adapted and what looks like a mistake, or raise its errors.

    `command` is the one of the command line that lists the suspicions.
    """
    if reading.table is None:
        raise CodingError(reading.errors, source=reading.source)
    for note in reading.notes:
        warnings.warn(note.message, AdaptedInputWarning, stacklevel=3)
    if not reading.suspicions:
        return reading.table
    note = warn_note("suspicions", _suspicion_text(reading, command), SuspiciousInputWarning, stacklevel=4)
    return replace(reading.table, notes=(*reading.table.notes, note))


def check_coded(
    path: str | Path,
    *,
    ri: str | None = None,
    ni: str | None = None,
    yi: str | None = None,
    vi: str | None = None,
    sei: str | None = None,
    measure: Measure | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    missing: str | Sequence[str | float] = (),
    strict: bool = False,
    study: str | None = None,
) -> list[Problem]:
    r"""List every problem of a coding sheet: errors first, then suspicions, each from the top down.

    Parameters
    ----------
    path, ri, ni, yi, vi, sei, measure, sheet, encoding, missing, study
        As for `read_coded`.
    strict : bool
        Also list the required columns of the contract that lack, and their empty cells.

    Returns
    -------
    list of Problem
        Empty for a clean sheet. An error stops `read_coded`, unless it only departs from the contract (a word
        outside a vocabulary, a number out of range); a suspicion (n below 10, r beyond .9, the same r and n
        twice, only positive r, a level that occurs once, r and p that contradict each other, standard errors
        where variances belong, ...) never does.

    Raises
    ------
    CannotRunError
        If the file is not there or cannot be opened; nothing inside it raises.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from alliance_meta import check_coded
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sheet = Path(folder, "sheet.csv")
    ...     _ = sheet.write_text("study,r,n\nAda 2001,45,48\nBo 2004,-.02,3\n")
    ...     for problem in check_coded(sheet):
    ...         print(problem)
    line 2, r: 45 is outside (-1, 1); coded in percent? write 0.45
    line 3, n: Fisher z needs n >= 4: its variance is 1/(n-3); 3 people are too few, leave the row out
    """
    hold: Hold = "strict" if strict else "check"
    given = {"ri": ri, "ni": ni, "yi": yi, "vi": vi, "sei": sei, "measure": measure, "sheet": sheet, "study": study}
    return list(examine(path, hold=hold, encoding=encoding, missing=missing, **given).problems)


def _suspicion_text(reading: Reading, command: str) -> str:
    counts = Counter(SUSPICION_WORDS.get(problem.kind, problem.kind) for problem in reading.suspicions)
    listed = ", ".join(f"{words} ({count})" if count > 1 else words for words, count in counts.items())
    words = shell_words("alliance-meta", command, reading.source)
    return f"{reading.source}: possible mistakes: {listed}; `{words}` lists them"
