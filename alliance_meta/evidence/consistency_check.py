"""`consistency`: printed numbers held against one another, allowing for rounding; `check_registry`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from alliance_meta.effects.contract.vocabulary import ALLIANCE_MEASURES, RATERS
from alliance_meta.effects.datasets import data_root
from alliance_meta.errors import CannotRunError, InputError, Problem
from alliance_meta.evidence.checking import Check
from alliance_meta.evidence.printed import PrintedResult, quantity_name, read_result
from alliance_meta.evidence.rules import check_result
from alliance_meta.evidence.scan import MOST_SIGNS, scan, scan_into, too_long
from alliance_meta.notes import Note
from alliance_meta.result import Result
from alliance_meta.tables.document import Document

COLUMNS = ("label", "line", "rule", "given", "printed", "follows", "verdict", "reading")
LABELS = ("label", "id", "study", "slab", "name", "result")
LEVELS = ("ci_level", "level")
REMARKS = ("heterogeneity_as_reported", "notes")

ROUNDING = (
    "Every printed number stands for all that can have been rounded to it: .25 for .245 to .255. A range that follows "
    "is over all of these, so that no disagreement is found where rounding alone could make one."
)
NO_PROOF = (
    "Numbers that agree with each other can still be wrong, and numbers that disagree may come from a way of computing "
    "that was not tried. Look at the paper before saying anything about it."
)
FLOATS = (
    "Some numbers were given as floating-point numbers, which have lost their trailing zeros: .30 was read as .3. "
    "Give them as text, as printed."
)

GET_TEXT = (
    "which is not read here; make text of it with `pdftotext -layout paper.pdf paper.txt` (poppler), or open it, copy "
    "everything and save it as paper.txt"
)
DOCUMENTS = {b"%PDF": "a PDF", b"PK\x03\x04": "a Word or OpenDocument file", b"\xd0\xcf\x11\xe0": "an old Word file"}


@dataclass(frozen=True, eq=False, repr=False)
class ConsistencyReport(Result):
    """What follows from what, and what does not.

    Attributes
    ----------
    checks : tuple of Check
        Every check, in the order of the results; each has ``rule``, ``given``, ``printed``, ``follows``,
        ``verdict`` and ``reading``.
    results : tuple
        What was read as printed, one per result, with its numbers and line.
    alpha : float
        Level at which a decision counts as changed.
    """

    checks: tuple[Check, ...]
    results: tuple[PrintedResult, ...]
    alpha: float = 0.05
    notes: tuple[Note, ...] = ()

    @property
    def problems(self) -> tuple[Check, ...]:
        """The checks whose printed numbers cannot all be right."""
        return tuple(check for check in self.checks if check.wrong)

    def tidy(self) -> pd.DataFrame:
        """Return one row per check: ``label line rule given printed follows verdict reading``."""
        import pandas as pd

        rows = [{name: getattr(check, name) for name in COLUMNS} for check in self.checks]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        frame["line"] = frame["line"].astype("Int64")
        return frame

    def counts(self) -> dict[str, int]:
        """Return how many checks have each verdict."""
        found = [check.verdict for check in self.checks]
        return {verdict: found.count(verdict) for verdict in dict.fromkeys(found)}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "results": len(self.results),
            "checks": [check.to_dict() for check in self.checks],
            "counts": self.counts(),
            "alpha": self.alpha,
            "notes": [note.to_dict() for note in self.notes],
        }

    def _content(self) -> Document:
        counts = [f"  {count:4d} {verdict}" for verdict, count in self.counts().items()]
        blocks = []
        for check in self.problems:
            head = (check.label or "the result") if check.line is None else f"line {check.line}: {check.label}"
            reading = [f"  {check.reading}"] if check.reading else []
            follows = f"  printed {check.printed}, follows {check.follows}: {check.verdict}"
            blocks.append([head, f"  {check.rule}: {check.given}", follows, *reading])
        title = f"{_some(len(self.results), 'result')}, {_some(len(self.checks), 'check')}"
        return self._document(title, *blocks, lines=counts)


def consistency(
    data: Mapping[str, Any] | pd.DataFrame | str | Path | None = None, *, metric: str = "", alpha: float = 0.05
) -> ConsistencyReport:
    """Recompute what follows from the numbers that a paper prints, and say which of them disagree.

    From an estimate and its standard error follows the interval, from Q and its degrees of freedom p and I², from r
    follow d and r², and so on. Every printed number stands for all that can have been rounded to it, and every
    common way to compute is tried: intervals on Fisher's z or on r, with the normal distribution or t with k - 1
    or the number of effects less one. Only what none of them can give is called inconsistent.

    Parameters
    ----------
    data : mapping, DataFrame or path, optional
        One result, such as ``{"r": ".278", "ci_lb": ".256", "ci_ub": ".299", "k": "295"}``; or a table of them,
        one per row, as a data frame or a CSV file. Numbers are text, as printed, because their digits count. By
        default the registry of published results, with the remarks of its entries. Names: ``estimate r d ci_lb
        ci_ub ci_level se z t F chi2 df df2 p k n_effects N mean_n QE QEdf QEp QM QMdf QMp I2 tau2 tau r2
        metric``, and their usual other spellings.
    metric : str
        Of the estimates that do not say theirs: ``"r"``, ``"z"``, ``"d"``, ``"OR"`` and so on.
    alpha : float
        A disagreement that moves p across `alpha`, or moves a limit of the interval across zero, is called
        inconsistent in the decision.

    Returns
    -------
    ConsistencyReport

    Raises
    ------
    InputError
        A number that cannot be read, a table without any column that can be checked, or a metric of no known name.
    CannotRunError
        A file that is not there.

    Notes
    -----
    Each rule is a formula monotone in each of its arguments, so that its range over the rounded inputs is exact.
    The idea of a program that recomputes p-values in articles is that of Nuijten et al. (2016,
    doi:10.3758/s13428-015-0664-2).

    Examples
    --------
    >>> import alliance_meta as am
    >>> print(am.consistency({"id": "A", "r": ".26", "d": ".56", "r2": "6.8%"}))
    1 result, 2 checks
         1 inconsistent
         1 consistent
    <BLANKLINE>
    A
      d from r: r = .26
      printed .56, follows 0.5274 to 0.5497: inconsistent
      this d needs an r of 0.267 to 0.272
    <BLANKLINE>
    Note: Every printed number stands for all that can have been rounded to it: .25
      for .245 to .255. A range that follows is over all of these, so that no
      disagreement is found where rounding alone could make one.
    Note: Numbers that agree with each other can still be wrong, and numbers that
      disagree may come from a way of computing that was not tried. Look at the
      paper before saying anything about it.
    """
    _check_alpha(alpha)
    notes = [Note("rounding", ROUNDING), Note("no-proof", NO_PROOF)]
    if data is None:
        results = list(registry_results())
    elif isinstance(data, str | Path):
        results = _table_results(_read_table(Path(data)), metric)
    elif isinstance(data, Mapping):
        results = [_mapping_result(data, metric)]
        if any(isinstance(value, float) for value in data.values()):
            notes.append(Note("floats", FLOATS))
    else:
        results = _table_results(data, metric)
        if any(kind.kind == "f" for kind in data.dtypes if hasattr(kind, "kind")):
            notes.append(Note("floats", FLOATS))
    return _report(results, alpha, notes)


def scan_text(text: str, *, alpha: float = 0.05) -> ConsistencyReport:
    """Find the statistics that a text prints, and check each for consistency.

    Reads ``t(38) = 2.20, p = .034`` as well as ``r = .278, 95% CI [.256, .299]`` and ``Q(54) = 260.84, p < .001,
    I² = 79.3%``, across line breaks and with the odd signs that the text of a PDF has. A statistic of which nothing
    can be checked, such as a lone ``r = .28``, is passed over.

    Parameters
    ----------
    text : str
        Plain text; that of a PDF by ``pdftotext -layout paper.pdf paper.txt`` or by copying it.
    alpha : float
        As in `consistency`.

    Returns
    -------
    ConsistencyReport
        ``line`` of each check is the line of the text; ``label`` the words found.

    Raises
    ------
    InputError
        An `alpha` that is no probability; more than 20 million signs, or more than 100,000 statistics.

    Examples
    --------
    >>> import alliance_meta as am
    >>> found = am.evidence.scan_text("We found an effect, t(38) = 2.20, p = .34. It was large.")
    >>> found.checks[0].verdict, found.checks[0].follows
    ('inconsistent in the decision', '0.0336 to 0.0343')
    """
    _check_alpha(alpha)
    notes = [Note("rounding", ROUNDING), Note("no-proof", NO_PROOF)]
    report = _report(scan(text), alpha, notes)
    checks = tuple(check for check in report.checks if check.verdict != "not printed")
    used = {(check.line, check.label) for check in checks}
    results = tuple(one for one in report.results if (one.line, one.label) in used)
    return replace(report, checks=checks, results=results)


def read_text(path: Path) -> str:
    """Return the words of a plain text, in UTF-8, UTF-16 with its mark, or Windows' Western European encoding."""
    if not path.is_file():
        raise CannotRunError(f"{path.name}: there is no such file")
    if (size := path.stat().st_size) > MOST_SIGNS:
        raise CannotRunError(f"{path.name} has {size:,} bytes, and {too_long()}")
    data = path.read_bytes()
    for mark, what in DOCUMENTS.items():
        if data.startswith(mark):
            raise CannotRunError(f"{path.name} is {what}, {GET_TEXT}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\0" in data:
        raise CannotRunError(f"{path.name} is no plain text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _report(results: Iterable[PrintedResult], alpha: float, notes: list[Note]) -> ConsistencyReport:
    kept = tuple(results)
    checks = tuple(check for one in kept for check in check_result(one, alpha=alpha))
    return ConsistencyReport(checks, kept, alpha, tuple(notes))


def registry_results() -> Iterable[PrintedResult]:
    """Yield every entry of the registry as printed, with what its remarks print of it."""
    from alliance_meta.evidence.published_results import PRINTED, published

    for row in published().to_dict("records"):
        numbers = {name: row[f"{name}_printed"] for name in PRINTED}
        yield entry_result({str(key): value for key, value in row.items()} | numbers)


def entry_result(row: Mapping[str, Any]) -> PrintedResult:
    """Read one entry of the registry, its numbers as printed, with what its remarks print of it."""
    from alliance_meta.evidence.published_results import PRINTED

    metric = row["metric"] if isinstance(row["metric"], str) else ""
    level = _level(row["ci_level"]) if _given(row["ci_level"]) else 0.95
    result = read_result({name: row[name] for name in PRINTED}, label=row["id"], metric=metric, level=level)
    for name in REMARKS:
        if isinstance(row[name], str):
            result = scan_into(result, row[name])
    return result


def _mapping_result(data: Mapping[str, Any], metric: str) -> PrintedResult:
    """Read one result; a label, a metric and a level may stand among its numbers."""
    plain = {str(key): value for key, value in data.items()}
    label = next((str(plain[name]) for name in LABELS if _given(plain.get(name))), "")
    level = next((_level(plain[name]) for name in LEVELS if _given(plain.get(name))), 0.95)
    own = plain.get("metric")
    numbers = {key: value for key, value in plain.items() if key not in (*LABELS, *LEVELS, "metric")}
    return read_result(numbers, label=label, metric=str(own) if _given(own) else metric, level=level)


def _table_results(frame: pd.DataFrame, metric: str) -> list[PrintedResult]:
    names = {str(column): quantity_name(str(column)) for column in frame.columns}
    known = [column for column, name in names.items() if name is not None]
    if not known:
        raise InputError(
            f"no column of the table can be checked; it has {', '.join(map(repr, names))}. "
            "Name columns as in estimate, ci_lb, ci_ub, se, z, t, p, k, N, Q, df, I2, tau2, d"
        )
    kept = [column for column in (*known, *LABELS, *LEVELS, "metric") if column in names]
    results, problems = [], []
    for number, row in enumerate(frame[kept].to_dict("records"), 2):
        try:
            result = _mapping_result({str(key): value for key, value in row.items()}, metric)
        except InputError as error:
            problems.append(f"row {number}: {error}")
            continue
        results.append(replace(result, label=result.label or f"row {number}", line=number))
    if problems:
        raise InputError("; ".join(problems))
    return results


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise CannotRunError(f"{path.name}: there is no such file")
    separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is no table: {error}") from error


def _given(value: Any) -> bool:
    return value is not None and value == value and str(value).strip() != ""


def _level(value: Any) -> float:
    try:
        level = float(str(value).strip().rstrip("%"))
    except ValueError:
        level = -1.0
    level = level / 100 if level > 1 else level
    if not 0 < level < 1:
        raise InputError(f"{value!r} is no confidence level; write .95 or 95%")
    return level


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}; it is a probability between 0 and 1, such as .05")


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


ID = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
DOI = re.compile(r"10\.\d{4,9}/\S+")
CORRELATIONS = ("r", "z")
SECONDARY = "secondary citation"
# What makes two entries the same result.
SAME = ("population", "format", "relation", "metric", "k", "estimate", "ci_low", "ci_high", "model_as_reported")
Row = Mapping[str, str]


def check_registry(folder: str | Path | None = None) -> list[Problem]:
    """Check the registry of published results for what no schema can see.

    Two entries of one result; a source that nobody could find; an estimate without its metric; limits that cannot be;
    numbers that contradict each other and are not known to be printed so; moderators of no entry; an entry without
    heading and sign; a reliability that is not the printed one. Types, ranges and words are checked by
    ``alliance-meta data check`` too.

    `folder`: folder with ``results.csv``, ``moderators.csv``, ``groups.csv``, ``expected_consistency.csv`` and
      ``reliability.csv``; by default the shipped one. The files are read as they are, whatever their description says.
    Returns no problem if all is well; row numbers are lines of the file that the message begins with.

    Examples
    --------
    >>> from alliance_meta.evidence.consistency_check import check_registry
    >>> check_registry()
    []
    """
    root = data_root() / "published" if folder is None else Path(folder)
    names = ("results", "moderators", "groups", "expected_consistency", "reliability")
    tables = {name: _read(root / f"{name}.csv") for name in names}
    results = tables["results"]
    ids = [row["id"] for row in results]
    problems = [
        *_duplicates(results),
        *(problem for line, row in enumerate(results, 2) for problem in _entry(line, row)),
        *_contradictions(results, {row["id"] for row in tables["expected_consistency"] if row["verdict"] != "ok"}),
        *_moderators(tables["moderators"], ids),
        *_groups(tables["groups"], results),
        *_reliabilities(tables["reliability"]),
    ]
    known = set(ids)
    for line, row in enumerate(tables["expected_consistency"], 2):
        if row["id"] not in known:
            problems.append(_problem("expected_consistency", line, "id", row["id"], "is no entry of results.csv"))
    return problems


def _read(path: Path) -> list[dict[str, str]]:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error
    return [{str(key): str(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _problem(file: str, line: int | None, column: str, value: str, message: str) -> Problem:
    shown = f"{value!r} " if value else ""
    return Problem(line, column, value or None, f"data/published/{file}.csv: {shown}{message}")


def _duplicates(results: list[dict[str, str]]) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], int] = {}
    for line, row in enumerate(results, 2):
        if not row["estimate"]:
            continue
        whose = row["doi"].lower() or f"{row['authors']} {row['year']} {row['title']}"
        key = (whose, *(row[name] for name in SAME))
        if key in seen:
            message = f"repeats line {seen[key]}: same source, population, relation and numbers"
            yield _problem("results", line, "id", row["id"], message)
        seen.setdefault(key, line)


def _entry(line: int, row: Row) -> Iterator[Problem]:
    def wrong(column: str, message: str) -> Problem:
        """Return what is wrong with one cell."""
        return _problem("results", line, column, row[column], message)

    if not ID.fullmatch(row["id"]):
        yield wrong("id", "is no name: small letters, digits and underscores, such as 'horvath2011'")
    if row["doi"] and not DOI.fullmatch(row["doi"]):
        yield wrong("doi", "is no DOI; write it bare, such as 10.1037/a0022186, or leave it empty")
    if not row["doi"] and not row["title"] and not row["authors"]:
        yield wrong("doi", "is missing, and so are title and authors: nobody could find the source")
    if not row["evidence_location"]:
        yield wrong("evidence_location", "is missing: say where in the source the numbers stand")
    if row["evidence_level"] != SECONDARY and row["evidence_location"].lower().startswith("secondary"):
        yield wrong("evidence_level", f"was read in somebody else's text; its level is {SECONDARY!r}")
    if row["estimate"] and not row["metric"]:
        yield wrong("metric", "is missing for a printed estimate")
    if bool(row["ci_low"]) != bool(row["ci_high"]):
        yield wrong("ci_low", "and ci_high belong together: give both limits, or none")
    if bool(row["ci_low"]) != bool(row["ci_level"]):
        yield wrong("ci_level", "and the interval belong together: give both, or none")
    if row["metric"] == "r":
        for column in ("estimate", "ci_low", "ci_high"):
            if _number(row[column]) is not None and abs(_number(row[column]) or 0.0) >= 1:
                yield wrong(column, "is no correlation")
    k, n = _number(row["k"]), _number(row["n_total"])
    if k is not None and n is not None and n < k:
        yield wrong("n_total", f"people in {row['k']} studies: are the columns swapped?")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _contradictions(results: list[dict[str, str]], known: set[str]) -> Iterator[Problem]:
    """Recompute what follows from what; a contradiction that was read again stands in expected_consistency.csv."""
    for line, row in enumerate(results, 2):
        try:
            result = entry_result(row)
        except InputError as error:
            yield _problem("results", line, "estimate", "", str(error))
            continue
        for check in check_result(result):
            if check.wrong and row["id"] not in known:
                said = f"{check.rule}: {check.given}, printed {check.printed}, follows {check.follows}"
                message = f"{said}; read it again, and if it is printed so, say so in expected_consistency.csv"
                yield _problem("results", line, "estimate", row["id"], message)


def _moderators(rows: list[dict[str, str]], ids: list[str]) -> Iterator[Problem]:
    for line, row in enumerate(rows, 2):
        if not any(entry == row["id"] or entry.startswith(f"{row['id']}_") for entry in ids):
            yield _problem("moderators", line, "id", row["id"], "is no entry of results.csv, nor the stem of one")
        low, middle, high = (_number(row[name]) for name in ("ci_low", "estimate", "ci_high"))
        if low is not None and high is not None and middle is not None and not low <= middle <= high:
            yield _problem("moderators", line, "estimate", row["estimate"], "is outside its printed interval")


def _reliabilities(rows: list[dict[str, str]]) -> Iterator[Problem]:
    for line, row in enumerate(rows, 2):
        if row["value"] and _number(row["value"]) != _number(row["printed"]):
            yield _problem("reliability", line, "value", row["value"], f"is not what is printed: {row['printed']}")
        if (row["kind"] == "G") != bool(row["sessions"]):
            yield _problem("reliability", line, "sessions", row["sessions"], "goes with the kind G, and only so")
        if row["doi"] and not DOI.fullmatch(row["doi"]):
            yield _problem("reliability", line, "doi", row["doi"], "is no DOI; write it bare, or leave it empty")
        for column, words in {"measure": ALLIANCE_MEASURES, "rater": RATERS}.items():
            if row[column] and row[column] not in words.values:
                yield _problem("reliability", line, column, row[column], f"is no word of the sheet's {words.name}")


def _groups(rows: list[dict[str, str]], results: list[dict[str, str]]) -> Iterator[Problem]:
    ids = [row["id"] for row in results]
    own = [row["id"] for row in rows]
    for missing in [entry for entry in ids if entry not in own]:
        message = "has no line here: give it heading, sign and role"
        yield _problem("groups", None, "id", missing, message)
    headings: dict[str, str] = {}
    main = {row["id"] for row in rows if row["role"] == "main"}
    known = {row["id"]: row for row in results}
    for line, row in enumerate(rows, 2):
        entry = row["id"]
        if entry not in known:
            yield _problem("groups", line, "id", entry, "is no entry of results.csv")
            continue
        order = headings.setdefault(row["heading"], row["heading_order"])
        if order != row["heading_order"]:
            yield _problem(
                "groups", line, "heading_order", row["heading_order"], f"is {order} for the same heading above"
            )
        if (row["role"] == "main") == bool(row["part_of"]):
            yield _problem("groups", line, "part_of", row["part_of"], "goes with another role than main, and only so")
        elif row["part_of"] and row["part_of"] not in main:
            yield _problem("groups", line, "part_of", row["part_of"], "is no entry with the role main")
        shown = known[entry]["estimate"] and known[entry]["relation"] == "alliance-outcome"
        if shown and known[entry]["metric"] in CORRELATIONS and not row["outcome_sign"]:
            yield _problem("groups", line, "outcome_sign", "", f"is missing for {entry}, which is shown: 1 or -1")
