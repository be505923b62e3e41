"""`read`: tables of other programs as coding sheets, with a report of what became what."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from alliance_meta.effects.contract.description import Description
from alliance_meta.effects.contract.schema import CONTRACT
from alliance_meta.effects.sheet.coded import CodedTable
from alliance_meta.effects.sheet.columns import canonical_name, is_missing, number_of
from alliance_meta.effects.sheet.examine import Reading, examine_sheet, read_file
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.effects.sheet.ingest import table_of
from alliance_meta.effects.sheet.naming import SheetOptions
from alliance_meta.effects.sheet.reading import Sheet, read_sheet
from alliance_meta.effects.sheet.spreadsheet import ZIP, is_workbook
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.files import sha256
from alliance_meta.notes import Measure, check_option, did_you_mean

FOLLOWS = "follows from what was taken"
BESIDE = "not needed beside"
CONSENSUS = "consensus"
# "r 1", "Sample size 2": one study's effects side by side, as forms write them.
NUMBERED = re.compile(r"(.*\D)[ _]?([0-9]{1,2})")


def squeezed(header: str) -> str:
    """Return a header without what programs change in it: case, spaces, dots and signs.

    >>> squeezed("Std diff in means"), squeezed("Std.diff.in.means"), squeezed("Covidence #")
    ('stddiffinmeans', 'stddiffinmeans', 'covidence')
    """
    return re.sub(r"[^0-9a-z]", "", header.casefold())


@dataclass(frozen=True)
class Taken:
    """A table on its way into a coding sheet."""

    sheet: Sheet
    # What each column of the file is called now; columns that are not here keep their names.
    names: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # columns that are left behind, and why
    measure: Measure | None = None  # what finished effects are, as the user or the program says

    def drop(self, columns: Iterable[str], why: str) -> Taken:
        """Leave columns behind."""
        gone = [name for name in columns if name in self.sheet.columns]
        kept = tuple(name for name in self.sheet.header if name not in gone)
        sheet = replace(self.sheet, header=kept, columns={name: self.sheet.columns[name] for name in kept})
        return replace(self, sheet=sheet, left=self.left | dict.fromkeys(gone, why))

    def rename(self, names: Mapping[str, str]) -> Taken:
        """Call columns by their names in a coding sheet; a name that another column has already is not given again."""
        there: dict[str, str] = {}
        for old, new in names.items():
            others = {there.get(name, name) for name in self.sheet.header if name != old and name not in names}
            if old in self.sheet.columns and new not in {*others, *there.values()}:
                there[old] = new
        passed = {old: there.get(new, new) for old, new in self.names.items()}
        first = {old: new for old, new in there.items() if old not in self.names.values()}
        return replace(self, sheet=self.sheet.renamed(there), names=passed | first)

    def add(self, name: str, cells: list[str]) -> Taken:
        """Add a column, unless there is one of this name."""
        if name in self.sheet.columns:
            return self
        sheet = replace(self.sheet, header=(*self.sheet.header, name), columns={**self.sheet.columns, name: cells})
        return replace(self, sheet=sheet)

    def set(self, name: str, cells: list[str]) -> Taken:
        """Put other cells into a column."""
        return replace(self, sheet=replace(self.sheet, columns={**self.sheet.columns, name: cells}))

    def rows(self, places: list[int]) -> Taken:
        """Keep the rows at these places."""
        columns = {name: [cells[place] for place in places] for name, cells in self.sheet.columns.items()}
        lines = tuple(self.sheet.lines[place] for place in places)
        return replace(self, sheet=replace(self.sheet, lines=lines, columns=columns))

    def named(self, plain: str) -> str | None:
        """Return the column whose header is this one, however it is written."""
        return next((name for name in self.sheet.header if squeezed(name) == plain), None)


@dataclass(frozen=True)
class Program:
    """A program whose tables can be read."""

    # kind, title: its short name, and its name.
    kind: str
    title: str
    # Sets of headers, written as `squeezed` does, one of which each of its tables has.
    marks: tuple[frozenset[str], ...] = ()
    # What a coding sheet calls its columns, by the squeezed header.
    columns: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)  # why columns are left behind, by the squeezed header
    prepare: Callable[[Taken, Findings], Taken] = lambda taken, _: taken  # what else has to be done with its tables

    def wrote(self, header: Iterable[str]) -> bool:
        """Say whether a header is one of this program's."""
        there = {squeezed(name) for name in header}
        return any(mark <= there for mark in self.marks)

    def take(self, sheet: Sheet, found: Findings, columns: Mapping[str, str], measure: Measure | None) -> Taken:
        """Make a coding sheet of a table; `columns` are names that the user gives to some of its columns."""
        taken = Taken(sheet, measure=measure).rename(columns)
        # Of numbered columns the user names what stands before the number.
        taken = self.prepare(taken, found)
        taken = taken.rename({old: new for old, new in columns.items() if old not in sheet.columns})
        there = set(taken.sheet.header)
        ours = {name: self.columns[squeezed(name)] for name in taken.sheet.header if squeezed(name) in self.columns}
        taken = taken.rename(
            {old: new for old, new in ours.items() if new not in there and old not in columns.values()}
        )
        for name in taken.sheet.header:
            if squeezed(name) in self.left and name not in columns.values():
                taken = taken.drop([name], self.left[squeezed(name)])
        return taken


def comprehensive(taken: Taken, found: Findings) -> Taken:
    """Prepare a table of Comprehensive Meta-Analysis: r with n, else the first effect with the error after it."""
    r, n = taken.named("correlation"), taken.named("samplesize")
    header = taken.sheet.header
    effects = [place for place, name in enumerate(header) if squeezed(name) in CMA_EFFECTS]
    errors = [place for place, name in enumerate(header) if re.fullmatch(r"std(err|error)\d*", squeezed(name))]
    if r is not None and n is not None:
        taken = _turned(taken, r, found)
        taken = taken.drop([header[place] for place in (*effects, *errors) if header[place] != r], f"{BESIDE} r and n")
    else:
        best = sorted(effects, key=lambda place: CMA_EFFECTS.index(squeezed(header[place])))
        pairs = [(place, error) for place in best for error in errors if error > place][:1]
        for place, error in pairs:
            rest = [header[other] for other in (*effects, *errors) if other not in (place, error)]
            what = header[place]
            taken = taken.drop(rest, f"{BESIDE} {what}").rename({what: "yi", header[error]: "sei"})
            taken = replace(taken, measure=taken.measure or CMA_MEASURES.get(squeezed(what)))
            found.note("effects", f"{taken.sheet.source}: the effects are {what!r}, with {header[error]!r}")
    group, study = taken.named("subgroupwithinstudy"), taken.named("studyname")
    if group is not None and study is not None and any(taken.sheet.columns[group]):
        cells = zip(taken.sheet.columns[study], taken.sheet.columns[group], strict=True)
        taken = taken.add("sample_id", [f"{name}: {part}" if part else name for name, part in cells])
    return taken


def _turned(taken: Taken, r: str, found: Findings) -> Taken:
    """Give every r the sign that the column "Effect direction" says; what contradicts it is a problem."""
    column = taken.named("effectdirection")
    if column is None:
        return taken
    cells, turned = list(taken.sheet.columns[r]), 0
    for place, (line, word) in enumerate(zip(taken.sheet.lines, taken.sheet.columns[column], strict=True)):
        value = number_of(cells[place])
        if value is None or squeezed(word) not in ("negative", "positive"):
            continue
        if squeezed(word) == "negative" and value > 0:
            cells[place], turned = f"-{cells[place].lstrip('+')}", turned + 1
        elif squeezed(word) == "positive" and value < 0:
            message = f"r is {cells[place]} and {column!r} says {word}; which is right? mend one of the two"
            found.error(line, r, cells[place], message, kind="direction")
    if turned:
        text = f"{taken.sheet.source}: r that were given the minus sign that {column!r} says: {turned}"
        found.note("direction", text)
    return taken.set(r, cells)


CMA_MEASURES: dict[str, Measure] = {"fishersz": "ZCOR", "correlation": "COR"}
CMA_EFFECTS = ("fishersz", "correlation", "hedgessg", "stddiffinmeans", "logoddsratio", "oddsratio")


def revman(taken: Taken, found: Findings) -> Taken:
    """Prepare the data rows of RevMan: effects with standard errors, else means of two arms."""
    sheet = taken.sheet
    _tell_analyses(sheet, found)
    kinds = [_kind_of_row(*numbers) for numbers in zip(*(_numbers(taken, name) for name in REVMAN_READ), strict=True)]
    kind = next((one for one in ("finished effects", "means of two arms") if one in kinds), None)
    if kind is None:
        message = (
            "no row holds a finished effect (GIV Mean with GIV SE) or means of two arms; counts of events are not read"
        )
        raise CodingError([*found.errors, Problem(None, None, None, message, kind="no-effect")], source=sheet.source)
    used = [place for place, one in enumerate(kinds) if one == kind]
    for other, count in Counter(kinds).items():
        if other != kind:
            line = sheet.lines[kinds.index(other)]
            text = f"{sheet.source}: rows that were left out because they hold {other}: {count} (first in line {line})"
            found.note("dropped-rows", text)
    arms = {name: REVMAN_ARMS[squeezed(name)] for name in sheet.header if squeezed(name) in REVMAN_ARMS}
    if kind == "finished effects":
        ask = "" if taken.measure else "; say measure='ZCOR' (command line: --measure ZCOR) if they are Fisher's z"
        found.note("effects", f"{sheet.source}: GIV Mean and GIV SE are the effects{ask}")
        return taken.drop(arms, f"{BESIDE} GIV Mean").rows(used)
    taken = taken.drop([name for name in sheet.header if squeezed(name) in ("givmean", "givse")], "not filled")
    taken = taken.drop([name for name, ours in arms.items() if not ours], f"{BESIDE} the means")
    return taken.add("es_type", ["means"] * len(sheet.lines)).rename(arms).rows(used)


def _tell_analyses(sheet: Sheet, found: Findings) -> None:
    analysis = [sheet.columns[name] for name in sheet.header if squeezed(name) in ("analysisgroup", "analysisnumber")]
    several = len(set(zip(*analysis, strict=True)))
    if several > 1:
        one = "choose one by analysis_group and analysis_number (query) before rows are pooled"
        found.note("analyses", f"{sheet.source}: the rows of {several} analyses; {one}")


def _numbers(taken: Taken, plain: str) -> list[float]:
    """Return a column's numbers; what is not filled is 0, as RevMan writes it."""
    name = taken.named(plain)
    return [
        0.0 if name is None else number_of(taken.sheet.columns[name][i]) or 0 for i in range(len(taken.sheet.lines))
    ]


def _kind_of_row(mean: float, se: float, sd1: float, sd2: float, cases1: float, cases2: float) -> str:
    """Return what a row holds; of counts RevMan writes a standard error without its mean."""
    counts = cases1 > 0 or cases2 > 0
    if se > 0 and (mean != 0 or not counts):
        return "finished effects"
    if sd1 > 0 and sd2 > 0:
        return "means of two arms"
    return "counts of events" if counts else "no effect"


REVMAN_READ = ("givmean", "givse", "experimentalsd", "controlsd", "experimentalcases", "controlcases")
REVMAN_ARMS = {
    "experimentalmean": "m1",
    "experimentalsd": "sd1",
    "experimentaln": "n1",
    "controlmean": "m2",
    "controlsd": "sd2",
    "controln": "n2",
    "experimentalcases": "",
    "controlcases": "",
}


def covidence(taken: Taken, found: Findings) -> Taken:
    """Prepare an export of Covidence: the consensus of each study, one row for each of its numbered effects."""
    reviewer, number = taken.named("reviewername"), taken.named("covidence")
    if reviewer is not None:
        taken = _agreed(taken, reviewer, number or taken.sheet.header[0], found).drop([reviewer], "who extracted")
    return in_long_form(taken, found)


def _agreed(taken: Taken, reviewer: str, study: str, found: Findings) -> Taken:
    """Keep one row of each study: the consensus, or what all reviewers typed alike."""
    sheet = taken.sheet
    rows: dict[str, list[int]] = {}
    for place, key in enumerate(sheet.columns[study]):
        rows.setdefault(key, []).append(place)
    kept = []
    for key, places in rows.items():
        agreed = [place for place in places if CONSENSUS in sheet.columns[reviewer][place].casefold()]
        kept.append((agreed or places)[0])
        if agreed or len(places) == 1:
            continue
        for name in sheet.header:
            cells = {sheet.columns[name][place] for place in places}
            if name != reviewer and len(cells) > 1:
                message = f"the reviewers of study {key} wrote {' and '.join(map(repr, sorted(cells)))}, and there is "
                message += "no consensus row; settle it and export again"
                found.error(sheet.lines[places[1]], name, sheet.columns[name][places[1]], message, kind="consensus")
    if len(kept) < len(sheet.lines):
        found.note(
            "consensus", f"{sheet.source}: {len(kept)} of {len(sheet.lines)} rows were taken, one for each study"
        )
    return taken.rows(sorted(kept))


def in_long_form(taken: Taken, found: Findings) -> Taken:
    """Give each numbered effect of a study (``r 1``, ``n 1``, ``r 2``, ...) a row of its own."""
    sheet = taken.sheet
    numbered = numbered_columns(sheet.header)
    if not numbered:
        return taken
    single = [name for name in sheet.header if not any(name in places.values() for places in numbered.values())]
    key = taken.named("covidence") or single[0]
    made = () if any(canonical_name(name) == "es_id" for name in (*single, *numbered)) else ("es_id",)
    columns: dict[str, list[str]] = {name: [] for name in (*single, *made, *numbered)}
    lines: list[int] = []
    for place, line in enumerate(sheet.lines):
        for number in sorted({number for places in numbered.values() for number in places}):
            cells = {
                stem: sheet.columns[places[number]][place] if number in places else ""
                for stem, places in numbered.items()
            }
            if all(map(is_missing, cells.values())):
                continue
            lines.append(line)
            for name in single:
                columns[name].append(sheet.columns[name][place])
            for name in made:
                columns[name].append(f"{sheet.columns[key][place]}_{number}")
            for stem, cell in cells.items():
                columns[stem].append(cell)
    for line in sheet.lines:
        if line not in lines:
            found.note("dropped-row", f"{sheet.source}: line {line} was left out: none of its numbered cells is filled")
    found.note("long-form", f"{sheet.source}: {', '.join(numbered)}: numbered columns were put below one another")
    names = {name: stem for stem, places in numbered.items() for name in places.values()}
    long = replace(sheet, header=tuple(columns), lines=tuple(lines), columns=columns)
    return replace(taken, sheet=long, names=taken.names | names)


def numbered_columns(header: tuple[str, ...]) -> dict[str, dict[int, str]]:
    """Return the columns that stand in a header several times with a number, by what stands before the number."""
    numbered: dict[str, dict[int, str]] = {}
    for name in header:
        match = NUMBERED.fullmatch(name)
        if match:
            numbered.setdefault(match[1].strip(" _#"), {})[int(match[2])] = name
    return {stem: places for stem, places in numbered.items() if len(places) > 1 and stem not in header}


PROGRAMS = (
    Program(
        "covidence",
        "Covidence",
        (frozenset({"covidence", "studyid"}),),
        {"studyid": "study", "covidence": "study_id"},
        prepare=covidence,
    ),
    Program(
        "revman",
        "RevMan (data rows of its data package)",
        (frozenset({"study", "givmean", "givse"}), frozenset({"analysisnumber", "study", "experimentalmean"})),
        {
            "givmean": "yi",
            "givse": "sei",
            "studyyear": "year",
            "analysisgroup": "analysis_group",
            "analysisnumber": "analysis_number",
            "analysisname": "outcome_measure",
            "footnotes": "note",
            "subgroup": "subgroup",
        },
        {
            **dict.fromkeys(("mean", "cistart", "ciend", "oe", "variance"), FOLLOWS),
            **dict.fromkeys(("weight", "applicability"), "RevMan's own"),
        },
        prepare=revman,
    ),
    Program(
        "cma",
        "Comprehensive Meta-Analysis",
        (
            frozenset({"studyname", "effectdirection"}),
            frozenset({"studyname", "correlation", "samplesize"}),
            frozenset({"studyname", "stderr"}),
        ),
        {
            "studyname": "study",
            "correlation": "r",
            "samplesize": "n",
            "subgroupwithinstudy": "subgroup",
            "outcome": "outcome_measure",
            "timepoint": "outcome_time",
        },
        {
            **dict.fromkeys(("variance", "zvalue", "pvalue", "lowerlimit", "upperlimit"), FOLLOWS),
            "relativeweight": "the program's own",
            "effectdirection": "its sign is in the effect",
        },
        prepare=comprehensive,
    ),
    Program(
        "metapsy",
        "Metapsy",
        (frozenset({"conditionarm1", "conditionarm2"}), frozenset({"g", "gse"})),
        {
            "g": "yi",
            "gse": "sei",
            "id": "es_id",
            "rating": "outcome_rater",
            "rob": "rob_overall",
            # What .g was computed from (msd, change, precalc), no kind of outcome.
            "outcometype": "statistic",
            "instrument": "outcome_measure",
            "time": "outcome_time",
        },
    ),
    Program("psymetadata", "psymetadata", (frozenset({"studyid", "esid", "yi", "vi"}),)),
    Program("metafor", "metafor", (frozenset({"yi", "vi"}), frozenset({"yi", "sei"})), {"slab": "study"}),
    Program(
        "jasp",
        "JASP",
        (frozenset({"effectsize", "effectsizestandarderror"}), frozenset({"effectsize", "standarderror"})),
        {
            "effectsize": "yi",
            "es": "yi",
            "standarderror": "sei",
            "effectsizestandarderror": "sei",
            "se": "sei",
            "studylabel": "study",
            "studylabels": "study",
        },
    ),
)
# A coding sheet of one's own.
SHEET = Program("sheet", "a coding sheet")
KINDS = {program.kind: program for program in (*PROGRAMS, SHEET)}


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
