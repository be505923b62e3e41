"""``alliance-meta match``, ``reproduce``, ``claims`` and ``consistency``: against what was printed."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliance_meta.cli.options import (
    JsonOption,
    check_naming,
    check_shipped,
    held_notes,
    print_json,
    print_note,
    print_table,
    records,
    takes_sheet,
)
from alliance_meta.errors import InputError
from alliance_meta.tables.document import as_text
from alliance_meta.tables.format import fixed

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable
    from alliance_meta.evidence.checking import Check
    from alliance_meta.evidence.claims_audit import ClaimVerdict
    from alliance_meta.evidence.consistency_check import ConsistencyReport

NEEDS_R = ("yi", "vi", "sei", "measure")


@takes_sheet
def match(
    source: Annotated[str, typer.Argument(help="A sheet, or the name of a shipped data set.", show_default=False)],
    printed: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help='The result as printed, e.g. "r=.149 [.087, .209], k=16"; by default those in the data card.',
        ),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="Scale of the estimate, r or z, if the text does not say.")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What says which effects belong to one study or sample.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Rows to keep, e.g. \"criterion == 'grade'\".")
    ] = None,
    *,
    naming: dict[str, Any],
    json: JsonOption = False,
) -> None:
    """Find the choices that give a printed number.

    Follows every usual and many rare routes from the rows to a pooled value, and says which give the printed
    digits, in what they differ, and plainly if none does.

    For example: alliance-meta match sheet.csv --printed "r=.149 [.087, .209]"
    """
    from alliance_meta.sensitivity.matching import match as find

    _check_source(source, naming)
    with held_notes() as warned:
        table = _rows(source, naming)
        options: dict[str, Any] = {"cluster": cluster, "ri": naming.get("ri"), "ni": naming.get("ni")}
        if printed is not None:
            found = [find(printed, table, scale=scale, subset=subset, **options)]
        else:
            found = [
                find(one.printed, table, scale=scale or one.scale, subset=subset or rows, **options)
                for one, rows in _results(source, naming)
            ]
    if json:
        print_json({"matches": [one.to_dict() for one in found]})
        return
    for text in warned:
        print_note(text)
    for one in found:
        typer.echo(f"{as_text(replace(one.document(), notes=()))}\n")
    for message in dict.fromkeys(note.message for one in found for note in one.notes):
        print_note(message)


def _check_source(source: str, naming: dict[str, Any]) -> None:
    from alliance_meta.evidence.reproduction import is_sheet

    if not is_sheet(source):
        check_shipped(source, naming)
    check_naming(naming, NEEDS_R, "match compares correlations, which need r and n")


def _rows(source: str, naming: dict[str, Any]) -> CodedTable:
    """Return the rows of a file or of a shipped data set."""
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.effects.sheet.ingest import read_coded
    from alliance_meta.evidence.reproduction import is_sheet, with_r

    return with_r(read_coded(source, **naming)) if is_sheet(source) else load_dataset(source)


def _results(source: str, naming: dict[str, Any]) -> list[tuple[Any, str | None]]:
    """Return the printed means of a data card or of the datapackage beside a sheet, each with its rows."""
    from alliance_meta.evidence.reproduction import printed_results

    found = [
        (one, one.route.get("subset") if one.route else None)
        for one in printed_results(source, **naming)
        if one.coefficient == "intrcpt" and "estimate" in one.printed and (one.route or {}).get("mods", "1") == "1"
    ]
    if not found:
        raise InputError(f"{source} has no printed mean; name one with --printed 'r = .28 [.26, .30]'")
    return found


WIDTH = 100
SAME = {True: "yes", False: "NO", None: "not run"}


def reproduce(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Data sets, or typed sheets with a datapackage.json beside them; by default every data set with a "
            "printed result.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Hold our results against printed ones.

    For every printed number: ours, whether it is the same to the printed digits, and by which route.
    """
    import pandas as pd

    from alliance_meta.evidence.reproduction import reproduce as compute

    names = list(dict.fromkeys(datasets or []))
    table = pd.concat([compute(name) for name in names]) if names else compute()
    rows = [_with_reason(row) for row in records(table)]
    if json:
        print_json({"rows": rows})
        return
    for _, result in groupby(rows, key=lambda row: (row["dataset"], row["result"])):
        _print_result(list(result))
    numbers = [row for row in rows if not row["quantity"].startswith("moderator")]
    agreed, differs, not_run = (sum(row["agrees"] is verdict for row in numbers) for verdict in (True, False, None))
    typer.echo(
        f"{len(numbers)} printed numbers: {agreed} the same to the printed digits, {differs} not, {not_run} not run"
    )


def _with_reason(row: dict[str, Any]) -> dict[str, Any]:
    """Give a number that was not computed the reason that stands in the row's note."""
    from alliance_meta.notes import NotApplicable

    agrees = row["agrees"] if isinstance(row["agrees"], str) or row["agrees"] is None else bool(row["agrees"])
    ours = row["ours"]
    if not isinstance(ours, NotApplicable) and math.isnan(ours):
        ours = NotApplicable(row["note"])
    return {**row, "ours": ours, "agrees": None if math.isnan(ours) else agrees}


def _print_result(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    typer.echo(f"{first['dataset']} / {first['result']} ({first['kind']}, scale {first['scale']})")
    for text in (f"printed in: {first['source']}", f"route: {first['route']}"):
        typer.echo(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))
    lines = [(row["quantity"], row["printed"], _ours(row), SAME[row["agrees"]]) for row in rows]
    print_table(lines, header=("quantity", "printed", "ours", "same?"), indent="    ")
    for note in dict.fromkeys(filter(None, map(_common_note, rows))):
        typer.echo(textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="  "))
    typer.echo("")


def _common_note(row: dict[str, Any]) -> str:
    """Return the note without the remark on this one quantity, which the table shows."""
    return re.sub(rf"\s*\({re.escape(row['quantity'])}: [^()]*\)\Z", "", row["note"])


def _ours(row: dict[str, Any]) -> str:
    """Write our number with two digits more than the printed one."""
    if math.isnan(row["ours"]):
        return "-"
    digits = len(str(row["printed"]).partition(".")[2])
    return fixed(row["ours"], digits + 2 if digits else 0)


ANSWERS = {True: "yes", False: "no", None: "?"}


def claims(
    names: Annotated[list[str] | None, typer.Argument(help="Claims; all by default.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Hold popular claims about the alliance against the published results.

    For every claim: the verdict, why, and the calculation from rows of the registry.
    """
    from alliance_meta.evidence.claims_audit import claims as audit

    found = audit()
    wanted = [found[name] for name in dict.fromkeys(names or [one.claim_id for one in found.verdicts])]
    if json:
        document = found.to_dict()
        print_json({**document, "claims": [one.to_dict() for one in wanted]})
        return
    for one in wanted:
        _print_claim(one)
    if not names:
        print_table([(str(count), verdict) for verdict, count in found.counts().items()], header=("claims", "verdict"))
    for note in found.notes:
        print_note(note.message)


def _print_claim(one: ClaimVerdict) -> None:
    _wrapped(f"{one.claim_id}: {one.verdict.upper()}", "")
    _wrapped(f"claim: {one.claim}", "  ")
    _wrapped(one.reason, "  ")
    for step in one.findings:
        _wrapped(f"[{ANSWERS[step.holds]}] {step.calculation}{'' if step.essential else ' (beside)'}", "    ")
    _wrapped(f"look at: {one.remark}", "  ")
    typer.echo("")


def _wrapped(text: str, indent: str) -> None:
    typer.echo(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  "))


TABLES = (".csv", ".tsv", ".tab")
QUIET = ("consistent", "not printed")


def consistency(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A paper as plain text, or a table of printed numbers (.csv, .tsv); by default the registry.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(metavar="METRIC", help="Of a table's estimates that do not say theirs: r, z, d, OR, ...")
    ] = "",
    alpha: Annotated[float, typer.Option(help="Level at which a decision counts as changed.")] = 0.05,
    everything: Annotated[bool, typer.Option("--all", help="List the other checks, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Recompute what follows from printed numbers, allowing for their rounding.

    Ends with code 1 if numbers disagree. For example: alliance-meta consistency paper.txt
    """
    from alliance_meta.evidence.consistency_check import consistency as check
    from alliance_meta.evidence.consistency_check import read_text, scan_text

    if file is not None and file.suffix.lower() not in TABLES:
        if metric:
            raise typer.BadParameter("a text says the metric of each estimate itself", param_hint="--metric")
        report = scan_text(read_text(file), alpha=alpha)
    else:
        report = check(file, metric=metric, alpha=alpha)
    if json:
        print_json(report.to_dict())
    else:
        _print_report(report, everything)
    if report.problems:
        raise typer.Exit(1)


def _print_report(report: ConsistencyReport, everything: bool) -> None:
    shown = [check for check in report.checks if everything or check.verdict not in QUIET]
    for check in shown:
        _print_check(check)
    counts = [(str(count), verdict) for verdict, count in report.counts().items()]
    results, checks = len(report.results), len(report.checks)
    typer.echo(f"{results} result{'' if results == 1 else 's'} with {checks} check{'' if checks == 1 else 's'}")
    if counts:
        print_table(counts, header=("checks", "verdict"), indent="  ")
    for note in report.notes:
        print_note(note.message)


def _print_check(check: Check) -> None:
    where = f"line {check.line}: " if check.line is not None else ""
    typer.echo(textwrap.shorten(f"{where}{check.label}", WIDTH, placeholder=" ..."))
    printed = f"printed {check.printed}" if check.printed else "not printed"
    verdict = check.verdict.upper() if check.wrong else check.verdict
    lines = [f"{check.rule}: {check.given}", f"{printed}, follows {check.follows}: {verdict}"]
    if check.reading:
        lines.append(check.reading)
    for line in lines:
        typer.echo(textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="    "))
    typer.echo("")
