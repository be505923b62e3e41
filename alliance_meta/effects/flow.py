"""The flow of records through a review: read by the keys of PRISMA 2020's template, and whether it adds up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alliance_meta.effects.sheet.coded import Provenance
from alliance_meta.effects.sheet.findings import Findings
from alliance_meta.errors import CannotRunError, CodingError, InputError, Problem, Severity, SuspiciousInputWarning
from alliance_meta.files import read_regular, sha256
from alliance_meta.notes import Note, check_option, did_you_mean, warn_note
from alliance_meta.tables.format import format_count

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.effects.table import EffectSizes

Parts = tuple[tuple[str, int], ...]

# The keys of the template (Haddaway et al. 2022, doi:10.1002/cl2.1230) and the label each has in the diagram.
# `additional_results` is ours: PRISMA 2009 screened "additional records" together with those of the databases.
LABELS = {
    "previous_studies": "Studies included in previous version of review",
    "previous_reports": "Reports of studies included in previous version of review",
    "database_results": "Databases",
    "register_results": "Registers",
    "additional_results": "Additional records",
    "website_results": "Websites",
    "organisation_results": "Organisations",
    "citations_results": "Citation searching",
    "duplicates": "Duplicate records",
    "excluded_automatic": "Records marked as ineligible by automation tools",
    "excluded_other": "Records removed for other reasons",
    "records_screened": "Records screened",
    "records_excluded": "Records excluded",
    "dbr_sought_reports": "Reports sought for retrieval",
    "dbr_notretrieved_reports": "Reports not retrieved",
    "other_sought_reports": "Reports sought for retrieval",
    "other_notretrieved_reports": "Reports not retrieved",
    "dbr_assessed": "Reports assessed for eligibility",
    "other_assessed": "Reports assessed for eligibility",
    "new_studies": "New studies included in review",
    "new_reports": "Reports of new included studies",
    "total_studies": "Total studies included in review",
    "total_reports": "Reports of total included studies",
    "total_studies_ma": "Total studies included in meta-analysis",
    "total_reports_ma": "Reports of total included studies in meta-analysis",
}
# Keys that hold "Reason, n; reason, n".
LISTS = {
    "database_specific_results": "Databases",
    "register_specific_results": "Registers",
    "dbr_excluded": "Reports excluded",
    "other_excluded": "Reports excluded",
}
OTHER = ("website_results", "organisation_results", "citations_results", "other_sought_reports",
         "other_notretrieved_reports", "other_assessed", "other_excluded")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Step:
    """What goes in and what is taken out leave what comes next; all of `needs` must be known for that."""

    start: tuple[str, ...]
    out: tuple[str, ...]
    end: str
    needs: tuple[str, ...]
    # Studies may be more than their reports where one report tells of several; such a step only raises a suspicion.
    of_studies: bool = False


STEPS = (
    _Step(("database_results", "register_results", "additional_results"),
          ("duplicates", "excluded_automatic", "excluded_other"), "records_screened",
          ("database_results", "duplicates")),
    _Step(("records_screened",), ("records_excluded",), "dbr_sought_reports", ("records_excluded",)),
    _Step(("dbr_sought_reports",), ("dbr_notretrieved_reports",), "dbr_assessed", ("dbr_notretrieved_reports",)),
    _Step(("records_screened",), ("records_excluded", "dbr_notretrieved_reports"), "dbr_assessed",
          ("records_excluded", "dbr_notretrieved_reports")),
    # Duplicates among records of other methods have no box, so that fewer reports may be sought than were found.
    _Step(("website_results", "organisation_results", "citations_results"), (), "other_sought_reports", ("never",)),
    _Step(("other_sought_reports",), ("other_notretrieved_reports",), "other_assessed",
          ("other_notretrieved_reports",)),
    _Step(("dbr_assessed", "other_assessed"), ("dbr_excluded", "other_excluded"), "new_reports", ("dbr_excluded",)),
    _Step(("dbr_assessed", "other_assessed"), ("dbr_excluded", "other_excluded"), "new_studies", ("never",), True),
    _Step(("new_reports",), (), "new_studies", ("never",), True),
    _Step(("total_reports",), (), "total_studies", ("never",), True),
    _Step(("previous_studies", "new_studies"), (), "total_studies", ("previous_studies", "new_studies")),
    _Step(("previous_reports", "new_reports"), (), "total_reports", ("previous_reports", "new_reports")),
    _Step(("database_specific_results",), (), "database_results", ()),
    _Step(("register_specific_results",), (), "register_results", ()),
    _Step(("total_studies",), (), "total_studies_ma", ("never",)),
    _Step(("total_reports",), (), "total_reports_ma", ("never",)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Flow:
    """How many records a search found, and what became of them; made by `read_flow`.

    Attributes
    ----------
    counts : mapping of str to int
        Key of PRISMA 2020's template -> number; what was not reported is not in it.
    parts : mapping of str to tuple
        Key of a list, such as ``dbr_excluded`` -> pairs of reason and number.
    labels : mapping of str to str
        Key -> its label, where the file words it otherwise (the template's column ``boxtext``).
    provenance : Provenance
        Where the numbers came from.
    notes : tuple of Note
        What was derived, what is not reported, and contradictions that were let pass.
    """

    counts: Mapping[str, int]
    parts: Mapping[str, Parts] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=lambda: Provenance("flow"))
    notes: tuple[Note, ...] = ()

    def number(self, key: str) -> int | None:
        """Return the number of a key, of a list its sum; None where it was not reported."""
        listed = self.parts.get(key)
        return self.counts.get(key) if listed is None else sum(n for _, n in listed)

    def label(self, key: str) -> str:
        """Return what a box or line of the diagram says."""
        return self.labels.get(key) or {**LABELS, **LISTS}[key]

    @property
    def has_other(self) -> bool:
        """Whether anything was found by other methods than databases and registers."""
        return any(self.number(key) for key in OTHER)

    @property
    def has_previous(self) -> bool:
        """Whether the review brings an earlier version up to date."""
        return bool(self.number("previous_studies") or self.number("previous_reports"))

    @property
    def included(self) -> tuple[str, int] | None:
        """Key and number of the studies in the meta-analysis, else in the review; None where neither is known."""
        keys = ("total_studies_ma", "total_studies", "new_studies")
        return next(((key, n) for key in keys if (n := self.number(key)) is not None), None)


def contradictions(flow: Flow) -> Iterator[Problem]:
    """Yield every place at which the numbers of a flow do not add up, with the number and what may mend it."""
    for step in STEPS:
        start, out = _known(flow, step.start), _known(flow, step.out)
        end = flow.number(step.end)
        if end is None or not start:
            continue
        left = sum(start.values()) - sum(out.values())
        exact = all(flow.number(key) is not None for key in step.needs) and not _unknown_half(flow, step)
        if (left == end) if exact else (left >= end):
            continue
        words = " + ".join(f"{key} {format_count(n)}" for key, n in start.items())
        words += "".join(f" − {key} {format_count(n)}" for key, n in out.items())
        makes = "=" if exact else "allows at most"
        said = f"{format_count(end)} contradicts the rest: {words} {makes} {format_count(left)}"
        mend = f"correct {step.end} or {' or '.join((*start, *out))}"
        kind: Severity = "error"
        if step.of_studies:
            kind, said = "suspicion", f"{format_count(end)} studies of {format_count(left)} reports ({words})"
            mend = f"unless one report tells of several studies, {mend}"
        yield Problem(None, step.end, str(end), f"{said}; {mend}", kind, f"flow-{step.end}-{step.start[0]}")


def _unknown_half(flow: Flow, step: _Step) -> bool:
    """Return whether reports of other methods were assessed without saying how many were excluded."""
    return "other_assessed" in step.start and bool(flow.number("other_assessed")) and "other_excluded" not in flow.parts


def _known(flow: Flow, keys: tuple[str, ...]) -> dict[str, int]:
    return {key: n for key in keys if (n := flow.number(key)) is not None}


Check = Literal["error", "warn"]
MOST_RECORDS = 10**9
# Keys whose label the file may word otherwise.
WORDED = {**LABELS, **{key: LISTS[key] for key in LISTS if key.endswith("excluded")}}
MISSING = ("", "na", "n/a", "nan", "none")
# Rows of the template that are headings and not numbers.
HEADINGS = ("identification", "screening", "included")
# Numbers that the template holds as 0 although they belong to another version of the diagram.
UNUSED = ("total_studies", "total_reports", "total_studies_ma", "total_reports_ma")
METAPSY = {
    "database.hits": "database_results",
    "additional.records": "additional_results",
    "other.sources": "additional_results",
    "database.hits.duplicates.removed": "duplicates",
    "records.screened": "records_screened",
    "full.text.assessed.for.eligibility": "dbr_assessed",
    "full.text.excluded.reasons": "dbr_excluded",
    "included": "new_studies",
}
_WHOLE = re.compile(r"[0-9]+(?:\.0+)?")
# What the template holds where nobody has written anything yet.
_PLACEHOLDER = re.compile(r"[^;]*, *x+(?:; *[^;]*, *x+)*|x+", flags=re.IGNORECASE)
_PART = re.compile(r"(?P<reason>.*\S)\s*,\s*(?P<n>[^,]*)", re.DOTALL)
SYNTAX = 'write "Reason, 12; other reason, 3"'


@dataclass
class _Reader:
    """Collect numbers, lists, labels and problems from pairs of key and value."""

    counts: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Parts] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    contradictions: list[Problem] = field(default_factory=list)
    unfilled: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def take(self, key: str, value: Any, line: int | None = None) -> None:
        """Keep the value of a key, or what is wrong with it."""
        known = [*LABELS, *LISTS]
        if isinstance(value, str) and key in known and _PLACEHOLDER.fullmatch(value.strip()):
            self.unfilled.append(key)
            value = None
        if key not in known:
            self.problem(line, key, value, f"no number of a flow diagram has this key{did_you_mean(key, known)} "
                         f"(known: {', '.join(known)})", "flow-key")  # fmt: skip
        elif key in self.counts or key in self.parts:
            self.problem(line, key, value, "the key stands twice; keep one of the rows", "flow-twice")
        elif key in LISTS:
            self.listed(key, value, line)
        elif (n := self.whole(key, value, line)) is not None:
            self.counts[key] = n
        if line is not None:
            self.lines[key] = line

    def whole(self, key: str, value: Any, line: int | None, reason: str = "") -> int | None:
        """Return a whole number, None where none is given or it is none."""
        if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
            return None
        text = value.strip() if isinstance(value, str) else "" if isinstance(value, bool) else str(value)
        if _WHOLE.fullmatch(text) and len(text) < 12 and int(float(text)) <= MOST_RECORDS:
            return int(float(text))
        what = f"{reason}: " if reason else ""
        mend = "no whole number of at least 0; write digits alone (1697), or NA where it is not known"
        self.problem(line, key, value, f"{what}{value!r} is {mend}", "flow-number")
        return None

    def listed(self, key: str, value: Any, line: int | None) -> None:
        """Keep a list of reasons with their numbers; one number alone is a list of the whole."""
        if isinstance(value, Mapping):
            pairs: Iterable[tuple[str, Any]] = value.items()
        elif isinstance(value, int) or (isinstance(value, str) and _WHOLE.fullmatch(value.strip())):
            pairs = [("", value)] if int(float(value)) or key.endswith("excluded") else []
        elif value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
            return
        elif isinstance(value, str):
            found = [_PART.fullmatch(one.strip()) for one in value.split(";") if one.strip()]
            if None in found:
                self.problem(line, key, value, f"{value!r} lacks a number after a comma; {SYNTAX}", "flow-list")
                return
            pairs = [(one["reason"], one["n"]) for one in found if one is not None]
        else:
            self.problem(line, key, value, f"{value!r} is no list of reasons; {SYNTAX}", "flow-list")
            return
        read = [(" ".join(str(reason).split()), self.whole(key, n, line, str(reason))) for reason, n in pairs]
        unknown = [reason for reason, n in read if n is None]
        if unknown and not any(one.column == key for one in self.problems):
            self.problem(line, key, value, f"{unknown[0]}: no number is given; {SYNTAX}", "flow-list")
        if read:
            self.parts[key] = tuple((reason, n) for reason, n in read if n is not None)

    def problem(self, line: int | None, key: str, value: Any, message: str, kind: str) -> None:
        """Keep a problem."""
        self.problems.append(Problem(line, key, None if value is None else str(value), message, kind=kind))


def read_flow(
    source: str | Path | Mapping[str, Any],
    *,
    check: Check = "error",
    table: CodedTable | EffectSizes | None = None,
) -> Flow:
    """Read how many records a search found and what became of them, and check that the numbers add up.

    Parameters
    ----------
    source : str, Path or mapping
        A CSV with the columns ``data`` and ``n`` and the keys of PRISMA 2020's template, a JSON file of Metapsy
        (``search_flow.json``) or of the same keys, or a mapping of them, such as ``[flow]`` of a declaration. Lists are
        written ``"Reason, n; reason, n"`` or as a mapping. What is not known is left out or NA, and shown as not
        reported; nothing is made up. Where a file of Metapsy gives what was left without duplicates, their number
        follows from that, and a note says so.
    check : {"error", "warn"}
        What contradictions are: problems, or warnings that are printed as notes under the diagram. More studies than
        reports are always a warning, as one report may tell of several studies.
    table : CodedTable or EffectSizes, optional
        The sheet of the review, whose studies are compared with those that the flow includes.

    Returns
    -------
    Flow
        With ``counts``, ``parts`` and ``notes``; `alliance_meta.plots.prisma` draws it.

    Raises
    ------
    CodingError
        With every problem in one message: unknown keys, what is no whole number, and numbers that contradict each
        other, such as more reports assessed than were retrieved.
    CannotRunError
        If the file cannot be opened.

    Examples
    --------
    >>> from alliance_meta.effects import read_flow
    >>> found = {"database_results": 120, "duplicates": 20, "records_screened": 100, "records_excluded": 90}
    >>> flow = read_flow(found | {"dbr_sought_reports": 10, "dbr_excluded": "No outcome, 4", "new_studies": 6})
    >>> flow.number("dbr_excluded"), flow.number("dbr_assessed") is None
    (4, True)
    >>> read_flow(found | {"dbr_sought_reports": 12})
    Traceback (most recent call last):
    alliance_meta.errors.CodingError: flow: 1 problem
      dbr_sought_reports: 12 contradicts the rest: records_screened 100 − records_excluded 90 = 10; correct ...
    """
    check_option("check", check, Check)
    reader, notes = _Reader(), []
    if isinstance(source, Mapping):
        origin = Provenance("flow")
        notes += _take_mapping(reader, source)
    else:
        origin, text = _opened(source)
        notes += _take_file(reader, text, origin.source)
    if reader.unfilled:
        left = f"Left as the template has it and taken for not reported: {', '.join(reader.unfilled)}."
        notes.append(Note("flow-placeholder", left))
    for key in UNUSED:
        if reader.counts.get(key) == 0:
            del reader.counts[key]
    flow = Flow(reader.counts, reader.parts, reader.labels, origin, tuple(notes))
    if not reader.problems and not flow.counts:
        reader.problem(None, "flow", None, f"no number is given; the keys are {', '.join(LABELS)}", "flow-empty")
    found = [replace(one, row=reader.lines.get(str(one.column))) for one in contradictions(flow)]
    found += [*reader.contradictions, *([] if table is None else _compared(flow, table))]
    errors = [one for one in found if one.severity == "error"] if check == "error" else []
    if reader.problems or errors:
        raise CodingError([*reader.problems, *(errors or found)], source=origin.source)
    for one in found:
        notes.append(warn_note(one.kind, f"{one}.", SuspiciousInputWarning))
    return replace(flow, notes=(*notes, *_fewer(flow, table), *_dropped(flow)))


def _opened(source: str | Path) -> tuple[Provenance, bytes]:
    path = Path(source)
    try:
        data = read_regular(path, most=10_000_000)
    except OSError as error:
        raise CannotRunError(f"cannot read {path}: {error.strerror}") from error
    return Provenance(path.name, sha256=sha256(data)), data


def _take_file(reader: _Reader, data: bytes, source: str) -> list[Note]:
    if source.lower().endswith(".json"):
        try:
            found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            if not isinstance(error, json.JSONDecodeError):
                raise InputError(f"{source}: this cannot be read as JSON: {error}") from error
            mend = "a number may be missing, or a comma may stand before a closing brace"
            raise InputError(f"{source}: line {error.lineno}: this is no JSON ({error}); {mend}") from error
        if not isinstance(found, Mapping):
            raise InputError(f"{source}: a flow is an object of keys and numbers, not {type(found).__name__}")
        return _take_mapping(reader, found)
    from alliance_meta.effects.sheet.reading import read_sheet

    findings = Findings()
    names = {"data": "r", "n": "n"}
    sheet = read_sheet(data, source, findings, known=lambda head: names.get(head.strip().lower()))
    columns = {head.strip().lower(): cells for head, cells in sheet.columns.items()}
    lacking = [name for name in names if name not in columns]
    if lacking or findings.errors:
        text = f"no column {' and '.join(lacking)}; PRISMA 2020's template has the columns data and n"
        problems = [Problem(1, None, None, text, kind="flow-columns")] if lacking else []
        raise CodingError([*problems, *findings.errors], source=source)
    worded = columns.get("boxtext", [""] * len(sheet.lines))
    for line, key, value, words in zip(sheet.lines, columns["data"], columns["n"], worded, strict=True):
        if key.lower() in MISSING or key in HEADINGS:
            continue
        reader.take(key, value, line)
        if key in WORDED and words.lower() not in MISSING and words != WORDED[key]:
            reader.labels[key] = words
    return [Note(one.code, one.message) for one in findings.notes]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, none of whose keys may stand twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if [one for one, _ in pairs].count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice; keep one")
    return found


def _take_mapping(reader: _Reader, found: Mapping[str, Any]) -> list[Note]:
    if "database.hits" not in found:
        for key, value in found.items():
            reader.take(str(key), value)
        return []
    wrong = [key for key in found if key not in METAPSY]
    for key in wrong:
        hint = did_you_mean(str(key), list(METAPSY)) or "; leave it out, or call it included if it counts all studies"
        reader.problem(None, str(key), found[key], f"no key of a search_flow.json{hint}", "flow-key")
    for key, name in METAPSY.items():
        if key in found and name != "duplicates":
            reader.take(name, found[key])
    return _take_duplicates(reader, found.get("database.hits.duplicates.removed"))


def _take_duplicates(reader: _Reader, value: Any) -> list[Note]:
    """Keep the duplicates, of which some files give the number and others what was left without them."""
    key = "database.hits.duplicates.removed"
    identified = sum(reader.counts.get(name, 0) for name in ("database_results", "additional_results"))
    given, screened = reader.whole(key, value, None), reader.counts.get("records_screened")
    if given is None or screened is None:
        return []
    if screened == identified - given:
        reader.counts["duplicates"] = given
        return []
    if screened != given:
        message = (
            f"{format_count(given)} is neither what was left, records.screened {format_count(screened)}, nor what was "
            f"removed of {format_count(identified)}; correct one of them"
        )
        reader.contradictions.append(Problem(None, key, str(given), message, kind="flow-duplicates"))
        return []
    reader.counts["duplicates"] = identified - given
    text = (
        f"The duplicates are what the search found ({format_count(identified)}) less what was left without them "
        f"({format_count(given)}); the file does not give their number."
    )
    return [Note("flow-duplicates", text)]


def _studies(table: CodedTable | EffectSizes) -> int:
    from alliance_meta.effects.studies import Named, row_studies
    from alliance_meta.effects.table import EffectSizes

    if isinstance(table, EffectSizes):
        return table.n_studies
    frame = table.frame
    return len(set(row_studies(frame, Named(), list(range(2, len(frame) + 2)), table.provenance.source)[1]))


def _compared(flow: Flow, table: CodedTable | EffectSizes) -> list[Problem]:
    included, there = flow.included, _studies(table)
    if included is None or there <= included[1]:
        return []
    key, n = included
    text = (
        f"{n} included, but {table.provenance.source} has {there} studies; correct {key}, or leave out the studies "
        "that the review does not include"
    )
    return [Problem(None, key, str(n), text, kind="flow-sheet")]


def _fewer(flow: Flow, table: CodedTable | EffectSizes | None) -> list[Note]:
    included = flow.included
    if table is None or included is None or (there := _studies(table)) >= included[1]:
        return []
    text = f"{table.provenance.source} has effects of {there} of the {included[1]} included studies."
    return [Note("flow-studies", text)]


def _dropped(flow: Flow) -> list[Note]:
    keys = ("website_results", "organisation_results", "citations_results")
    identified, sought = sum(flow.number(key) or 0 for key in keys), flow.number("other_sought_reports")
    if not flow.has_other or sought is None or sought >= identified:
        return []
    text = (
        f"Of {format_count(identified)} records found by other methods {format_count(sought)} reports were sought; "
        "what became of the others has no box in PRISMA 2020."
    )
    return [Note("flow-other", text)]
