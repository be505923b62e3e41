"""`check_registry`: whether the entries of the registry are sound, beyond what their schema says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from alliance_meta.effects.contract.vocabulary import ALLIANCE_MEASURES, RATERS
from alliance_meta.effects.datasets import data_root
from alliance_meta.errors import InputError, Problem
from alliance_meta.evidence.consistency_check import entry_result
from alliance_meta.evidence.rules import check_result

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
    >>> from alliance_meta.evidence.registry import check_registry
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
