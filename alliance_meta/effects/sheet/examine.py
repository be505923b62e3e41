"""One pass over a coding sheet: the table, every problem, what was adapted, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.core.dependent import codes
from alliance_meta.effects.card import PublishedResult
from alliance_meta.effects.contract.description import Description, describe
from alliance_meta.effects.contract.schema import FALSE, TRUE, Column, Contract
from alliance_meta.effects.contract.vocabulary import Vocabulary
from alliance_meta.effects.converting.inputs import COLUMNS as CONVERTED
from alliance_meta.effects.sheet.checking import ParsedSheet, check_sheet
from alliance_meta.effects.sheet.coded import CodedTable, Layout, Provenance
from alliance_meta.effects.sheet.columns import (
    LABEL_NAMES,
    MISSING_USUAL,
    YEAR_PRINTED,
    DecimalMark,
    ParsedColumn,
    canonical_name,
    count_fractions,
    parse_column,
    parse_number,
    year_number,
)
from alliance_meta.effects.sheet.findings import Findings, short, write
from alliance_meta.effects.sheet.naming import Names, SheetOptions, name_columns
from alliance_meta.effects.sheet.reading import Sheet, read_sheet
from alliance_meta.effects.sheet.suspicions import suspect
from alliance_meta.effects.studies import count_people, sample_codes, spaced
from alliance_meta.errors import CannotRunError, CodingError, Problem
from alliance_meta.files import read_regular, sha256
from alliance_meta.notes import Note, did_you_mean
from alliance_meta.tables.format import brief

MOST_LEVELS = 12
SHOWN_LEVELS = 4


@dataclass(frozen=True, slots=True)
class ColumnContents:
    """What one column holds."""

    # name, label: its name in the table and in the file.
    name: str
    label: str
    kind: str  # {"numbers", "words", "labels", "empty"}: numbers; words that group the rows; names or prose
    # filled, different: cells that are filled, and different values among them.
    filled: int
    different: int
    summary: str  # range and mean of numbers, counts of words
    contract: bool  # whether the contract knows the column


@dataclass(frozen=True, slots=True)
class Contents:
    """What a sheet holds."""

    rows: int  # rows below the header
    effects: int  # rows with an effect; only these count for what follows
    # studies, samples: different studies and samples, if there is a column that tells them.
    studies: int | None
    samples: int | None
    most_effects: int | None  # largest number of effects of one study
    # Sum of n over samples, each counted once: within a study, the rows of one sample, or the rows with the same n.
    people: int | None
    columns: tuple[ColumnContents, ...]  # column by column
    # lacks_required, lacks_advised: columns of the contract that are not there.
    lacks_required: tuple[str, ...]
    lacks_advised: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents as a plain dictionary, for ``--json``."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The whole sheet in one line."""
        parts = [_count(self.effects, "effect")]
        if self.samples is not None:
            parts.append(f"from {_count(self.samples, 'sample')}")
        if self.studies is not None:
            parts.append(f"{'in' if self.samples is not None else 'from'} {_count(self.studies, 'study', 'studies')}")
        text = " ".join(parts)
        if self.most_effects is not None and self.most_effects > 1:
            text += f", at most {self.most_effects} from one study"
        if self.studies is None and self.effects > 1:
            text += ", each counted as a study of its own"
        if self.people is not None:
            text += f"; {spaced(self.people)} people"
        if self.rows > self.effects:
            text += f"; {_count(self.rows - self.effects, 'row')} without an effect"
        return text


def contents_of(sheet: ParsedSheet, contract: Contract) -> Contents:
    """Summarise a sheet; effects, studies, samples and people are those that an analysis uses."""
    used = np.flatnonzero(sheet.usable)
    there = {sheet.r: "r", sheet.n: "n"}
    names = {there.get(name, name) for name in sheet.columns}
    if sheet.finished or "es_type" in names:
        names |= {"r", "n"}
    n = sheet.numbers(sheet.n)[used]
    studies = codes([sheet.study_keys[i] for i in used])
    sample = sheet.places.sample
    named = None if sample is None else [sheet.texts(sample)[i] for i in used]
    samples = sample_codes(studies, n, named)
    known = sheet.study_labels is not None
    return Contents(
        rows=len(sheet.lines),
        effects=int(used.size),
        studies=int(studies.max(initial=-1)) + 1 if known else None,
        samples=None if named is None else int(samples.max(initial=-1)) + 1,
        most_effects=int(np.bincount(studies).max(initial=0)) if known else None,
        people=count_people(samples, n),
        columns=tuple(_contents(column, contract) for column in sheet.columns.values()),
        lacks_required=tuple(column.name for column in contract.named("required") if column.name not in names),
        lacks_advised=tuple(column.name for column in contract.named("advised") if column.name not in names),
    )


def _contents(column: ParsedColumn, contract: Contract) -> ColumnContents:
    filled = [cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone]
    counts = Counter(filled)
    kind, summary = "labels", f"{len(counts)} different"
    if not filled:
        kind, summary = "empty", ""
    elif column.values is not None:
        kind, summary = "numbers", _range(column)
    elif column.name not in LABEL_NAMES and len(counts) <= MOST_LEVELS:
        kind, summary = "words", _levels(counts)
    known = contract.column(column.name) is not None
    return ColumnContents(column.name, column.label, kind, len(filled), len(counts), summary, known)


def _range(column: ParsedColumn) -> str:
    values = np.array([value for value in column.values or () if value is not None])
    if not values.size:
        return "no number"
    with np.errstate(over="ignore"):
        low, high, mean = values.min(), values.max(), values.mean()
    span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return span if low == high or column.name == "year" else f"{span}, mean {brief(mean, 3)}"


def _levels(counts: Counter[str]) -> str:
    listed = [f"{short(level, 24)} ({count})" for level, count in counts.most_common(SHOWN_LEVELS)]
    rest = len(counts) - SHOWN_LEVELS
    return ", ".join(listed) + (f" and {rest} more" if rest > 0 else "")


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


MOST_WORDS = 8
SHORTEST_NAME, ALIKE = 6, 0.86
OWN_RULES = ("r", "n", "es_id")


def check_contract(sheet: ParsedSheet, described: Description, found: Findings, *, strict: bool) -> None:
    """Hold every column against the contract; with `strict`, also those that lack."""
    contract = described.contract
    _misnamed(sheet, described, found)
    for name, column in sheet.columns.items():
        rules = contract.column(name)
        # The columns of the effects, whatever they are called, have stricter rules in `checking`.
        if rules is None or name in (sheet.r, sheet.n, *sheet.keys):
            continue
        if rules.vocabulary is not None:
            _words(sheet, column, rules.vocabulary, found)
        elif rules.type == "boolean":
            _truths(sheet, column, found)
        elif rules.numeric:
            _bounds(sheet, column, rules, found)
        if rules.unique and name not in OWN_RULES:
            _unique(sheet, column, found)
    wanted = {column.name for column in contract.named("required")} if strict else set()
    wanted |= described.required
    if sheet.finished:
        wanted -= {"r", "n"}
    for name in [column.name for column in contract.columns if column.name in wanted]:
        _present(sheet, name, found)


def _misnamed(sheet: ParsedSheet, described: Description, found: Findings) -> None:
    """Point out columns whose names nearly are those of the contract: mistyped, they escape its checks."""
    lacking = [column.name for column in described.contract.columns if column.name not in sheet.columns]
    for name, column in sheet.columns.items():
        if described.contract.column(name) is None and len(name) >= SHORTEST_NAME and not name[-1].isdigit():
            close = get_close_matches(name.casefold(), lacking, n=1, cutoff=ALIKE)
            if close:
                message = f"the contract has no column {column.label!r}; did you mean {close[0]!r}?"
                found.suspicion(None, column.label, column.label, message, kind="column-name")


def _cells(sheet: ParsedSheet, column: ParsedColumn) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the cells that are filled."""
    for line, cell, missing in zip(sheet.lines, column.cells, column.missing, strict=True):
        if not missing:
            yield line, cell


def _words(sheet: ParsedSheet, column: ParsedColumn, vocabulary: Vocabulary, found: Findings) -> None:
    known = set(vocabulary.values)
    complaints: dict[str, str] = {}
    spelt: set[str] = set()
    for line, cell in _cells(sheet, column):
        if cell in known:
            continue
        word = vocabulary.spelling(cell)
        if word is None:
            if cell not in complaints:
                complaints[cell] = _no_such_word(cell, column.name, vocabulary)
            found.departure(line, column.label, cell, complaints[cell], kind="not-in-vocabulary")
        elif cell not in spelt:
            spelt.add(cell)
            message = f"{cell!r} is spelt {word!r} in the vocabulary; both are read as they stand"
            found.suspicion(line, column.label, cell, message, kind="vocabulary-spelling")


def _no_such_word(cell: str, name: str, vocabulary: Vocabulary) -> str:
    listed = ", ".join(map(repr, vocabulary.values[:MOST_WORDS]))
    rest = len(vocabulary.values) - MOST_WORDS
    if rest > 0:
        listed += f" and {rest} more (`alliance-meta codebook {name}`)"
    nearest = vocabulary.nearest(cell)
    mend = f"did you mean {nearest!r}?" if nearest else "choose one, or add the word to the sheet's datapackage.json"
    return f"{short(cell)!r} is not one of {listed}; {mend}"


def _truths(sheet: ParsedSheet, column: ParsedColumn, found: Findings) -> None:
    for line, cell in _cells(sheet, column):
        if cell.casefold() not in (*TRUE, *FALSE):
            message = f"{cell!r} is neither yes nor no; write 'yes', 'no' or leave the cell empty"
            found.departure(line, column.label, cell, message, kind="not-yes-or-no")


def _bounds(sheet: ParsedSheet, column: ParsedColumn, rules: Column, found: Findings) -> None:
    for line, cell, value in zip(sheet.lines, column.cells, column.values or (), strict=column.values is not None):
        if value is None or rules.allows(value):
            continue
        if rules.type == "integer" and not value.is_integer():
            found.departure(line, column.label, cell, f"{cell} is not a whole number", kind="not-whole")
            continue
        inside = "outside" if rules.bounds[0] in "([" else "not"
        percent = f"; in percent? write {write(value / 100, sheet.mark)}" if rules.allows(value / 100) else ""
        message = f"{cell} is {inside} {rules.bounds}{percent or '; check the paper'}"
        found.departure(line, column.label, cell, message, kind="out-of-range")


def _unique(sheet: ParsedSheet, column: ParsedColumn, found: Findings) -> None:
    first: dict[str, int] = {}
    for line, cell in _cells(sheet, column):
        if first.setdefault(cell, line) != line:
            message = f"{cell!r} is also in line {first[cell]}; the values of {column.label} must differ"
            found.departure(line, column.label, cell, message, kind="not-unique")


def _present(sheet: ParsedSheet, name: str, found: Findings) -> None:
    column = sheet.columns.get(_name_in(sheet, name))
    # Where another statistic stands, `convert` makes r, and n where it can.
    other = sheet.columns.get("es_type") if name in ("r", "n") else None
    if column is None and other is not None:
        return
    if column is None:
        labels = [one.label for one in sheet.columns.values()]
        hint = did_you_mean(name, labels) or "; add it"
        found.departure(None, None, None, f"the contract requires the column {name!r}{hint}", kind="required")
        return
    for place, (line, cell, missing) in enumerate(zip(sheet.lines, column.cells, column.missing, strict=True)):
        if missing and (other is None or other.missing[place]):
            message = f"{column.label} is empty; the contract requires it in every row"
            found.departure(line, column.label, cell, message, kind="required")


def _name_in(sheet: ParsedSheet, name: str) -> str:
    """Return the name under which the sheet has a required column: r and n may be called otherwise."""
    if name in sheet.columns:
        return name
    return {"r": sheet.r, "n": sheet.n}.get(name, canonical_name(name) or name)


def parse_sheet(
    sheet: Sheet, named: Names, options: SheetOptions, described: Description, found: Findings
) -> ParsedSheet:
    """Read every column as numbers or as text."""
    labels = {named.names[label]: label for label in sheet.header}
    mark = _decimal_mark(sheet, labels.get(named.finished.yi if named.finished else named.r), found)
    used = {named.finished.yi, named.finished.second} if named.finished else {named.r, named.n}
    if named.convertible:
        used |= {"es_value", *CONVERTED}
    declared = described.missing | set(options.missing)
    columns: dict[str, ParsedColumn] = {}
    for name, label in labels.items():
        rules = described.contract.column(name)
        columns[name] = parse_column(
            name,
            label,
            sheet.columns[label],
            mark,
            used=name in used and (rules is None or rules.numeric),
            numeric=rules is not None and rules.numeric,
            names=name == named.study,
            words=None if rules is None else rules.vocabulary,
            codes=declared,
        )
    _keep_letters_of_years(sheet, columns, found)
    _announce_missing(sheet, columns, described.missing, found)
    _suspect_other_mark(columns, mark, found)
    measure = options.measure or "ZCOR"
    return ParsedSheet(sheet.source, sheet.lines, columns, named.r, named.n, mark, measure, named.finished, named.study)


def _keep_letters_of_years(sheet: Sheet, columns: dict[str, ParsedColumn], found: Findings) -> None:
    """Where 2000a is read as the year 2000, keep what was written: its letter tells two publications apart."""
    year = columns.get("year")
    if year is None or year.values is None or not any(year_number(cell) for cell in year.cells):
        return
    if YEAR_PRINTED not in columns:
        columns[YEAR_PRINTED] = ParsedColumn(YEAR_PRINTED, year.label, year.cells, year.missing, None)
    line, cell = next((line, cell) for line, cell in zip(sheet.lines, year.cells, strict=True) if year_number(cell))
    text = f"{sheet.source}: years with a letter are read as the year (first in line {line}: {cell}); "
    found.note("year-letter", f"{text}{YEAR_PRINTED} keeps the letters")


def _decimal_mark(sheet: Sheet, r: str | None, found: Findings) -> DecimalMark:
    """Decide by the r column, then by all others; announce decimal commas with their first line."""
    deciding = [sheet.columns[r]] if r is not None else []
    points, commas = count_fractions(cell for cells in deciding for cell in cells)
    if points == commas == 0:
        deciding = list(sheet.columns.values())
        points, commas = count_fractions(cell for cells in deciding for cell in cells)
    if commas <= points:
        return "."
    first = ((line, cell) for cells in deciding for line, cell in zip(sheet.lines, cells, strict=True))
    line, cell = next((line, cell) for line, cell in first if count_fractions([cell]) == (0, 1))
    found.note("decimal-mark", f"{sheet.source}: decimal commas are read as such (first in line {line}: {cell})")
    return ","


def _announce_missing(
    sheet: Sheet, columns: dict[str, ParsedColumn], declared: frozenset[str], found: Findings
) -> None:
    codes: Counter[str] = Counter()
    first = None
    for column in columns.values():
        for line, cell, missing in zip(sheet.lines, column.cells, column.missing, strict=True):
            if missing and cell not in MISSING_USUAL and cell not in declared:
                codes[cell] += 1
                first = line if first is None else min(first, line)
    if codes:
        listed = ", ".join(f"{code!r} ({count})" for code, count in codes.items())
        found.note("missing-codes", f"{sheet.source}: cells with {listed} count as missing (first in line {first})")


def _suspect_other_mark(columns: dict[str, ParsedColumn], mark: DecimalMark, found: Findings) -> None:
    other: DecimalMark = "," if mark == "." else "."
    for column in columns.values():
        if column.values is not None or not any(other in cell for cell in set(column.cells)):
            continue
        filled = [cell for cell, gone in zip(column.cells, column.missing, strict=True) if not gone]
        if filled and all(parse_number(cell, other) is not None for cell in filled):
            here, sheet = ("commas", "points") if other == "," else ("points", "commas")
            message = f"has decimal {here} (e.g. {filled[0]}) in a sheet with decimal {sheet}; it is read as text"
            found.suspicion(None, column.label, filled[0], message, kind="decimal-mixture")


Hold = Literal["read", "check", "strict"]


@dataclass(frozen=True)
class Reading:
    """All that one pass over a file gave: a table unless there are errors, the problems, the adaptations."""

    source: str  # name of the file
    table: CodedTable | None  # the rows, unless there are errors
    problems: tuple[Problem, ...]  # errors first, then suspicions
    notes: tuple[Note, ...]  # what was adapted
    contents: Contents | None = None  # what is in the sheet, if it is a table at all
    published: tuple[PublishedResult, ...] = ()  # printed results that the sheet's description names

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop the reading."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def suspicions(self) -> list[Problem]:
        """The problems that are only shown."""
        return [problem for problem in self.problems if problem.severity == "suspicion"]


def examine(path: str | Path, *, hold: Hold = "check", **options: Any) -> Reading:
    """Read and check a file in one pass; nothing inside the file raises or warns.

    With ``hold="check"`` what departs from the contract is an error, with ``"strict"`` also what it lacks; with
    ``"read"`` departures are suspicions, since they make no number wrong. `options` are those of `SheetOptions`.
    """
    wanted = SheetOptions(**options)
    data, source = read_file(Path(path))
    found = Findings(departures="suspicion" if hold == "read" else "error")
    return _examine(data, source, found, describe(Path(path), found), wanted, strict=hold == "strict")


def examine_bytes(data: bytes, source: str, *, hold: Hold = "check", **options: Any) -> Reading:
    """Read and check the bytes of a file called `source`."""
    found = Findings(departures="suspicion" if hold == "read" else "error")
    return _examine(data, source, found, Description(), SheetOptions(**options), strict=hold == "strict")


def _examine(
    data: bytes, source: str, found: Findings, described: Description, options: SheetOptions, *, strict: bool
) -> Reading:
    try:
        text = read_sheet(data, source, found, known=options.known_as, sheet=options.sheet, encoding=options.encoding)
    except CodingError as error:
        problems = [*error.problems, *(problem for problem in found.sorted if problem not in error.problems)]
        return Reading(source, None, tuple(problems), tuple(found.notes), published=described.published)
    return examine_sheet(text, sha256(data), found, described, options, strict=strict)


def examine_sheet(
    text: Sheet,
    digest: str,
    found: Findings,
    described: Description,
    options: SheetOptions,
    *,
    strict: bool = False,
) -> Reading:
    """Check the cells of a sheet whose file has this hash."""
    named = name_columns(text, options, found)
    parsed = parse_sheet(text, named, options, described, found)
    if parsed.lines:
        check_sheet(parsed, found)
        check_contract(parsed, described, found, strict=strict)
        suspect(parsed, found)
    table = None if found.errors else _table(parsed, options, digest, found, text.separator)
    contents = contents_of(parsed, described.contract)
    return Reading(text.source, table, tuple(found.sorted), tuple(found.notes), contents, described.published)


def read_file(path: Path) -> tuple[bytes, str]:
    """Return the bytes of a file and its name; what cannot be opened is answered with a file that can."""
    if path.is_dir():
        raise CannotRunError(f"{path} is a folder; name the file with the sheet")
    try:
        return read_regular(path), path.name
    except FileNotFoundError:
        near: list[str] = []
        if path.parent.is_dir():
            near = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1, cutoff=0.75)
        hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
        raise CannotRunError(f"no such file: {path}{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CannotRunError(f"cannot read {path}: {reason}") from error


def _table(sheet: ParsedSheet, options: SheetOptions, digest: str, found: Findings, separator: str) -> CodedTable:
    index = pd.Index(sheet.lines, name="line")
    frame = pd.DataFrame({name: _series(column, index, sheet.keys[0]) for name, column in sheet.columns.items()})
    defaults = {key: name for key, name, usual in (("ri", sheet.r, "r"), ("ni", sheet.n, "n")) if name != usual}
    if sheet.finished:
        defaults |= {"yi": sheet.finished.yi, sheet.finished.kind: sheet.finished.second}
        if options.measure is not None:
            defaults["measure"] = options.measure
    if sheet.study is not None:
        defaults["study"] = sheet.study
    elif "study_id" in sheet.columns and not all(sheet.columns["study_id"].missing):
        defaults["study_id"] = "study_id"
    made_up = sheet.source.lower().startswith("synthetic")
    renamed = tuple((column.label, name) for name, column in sheet.columns.items() if column.label != name)
    layout = Layout(separator, sheet.mark, renamed)
    provenance = Provenance(source=sheet.source, sha256=digest, synthetic=made_up, layout=layout)
    return CodedTable(frame, provenance, notes=tuple(found.notes), defaults=defaults)


def _series(column: ParsedColumn, index: pd.Index[Any], effect: str) -> pd.Series[Any]:
    if column.values is None:
        texts = [None if gone else cell for cell, gone in zip(column.cells, column.missing, strict=True)]
        return pd.Series(texts, index=index, dtype="str")
    values = np.array([np.nan if value is None else value for value in column.values], dtype=float)
    whole = bool(np.isfinite(values).all() and (values == np.round(values)).all() and (np.abs(values) < 2**53).all())
    return pd.Series(values.astype(np.int64) if whole and column.name != effect else values, index=index)
