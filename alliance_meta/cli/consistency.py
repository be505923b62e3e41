"""``alliance-meta consistency``: printed numbers of a paper, a table or the registry held against one another."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alliance_meta.cli.options import JsonOption
from alliance_meta.cli.output import print_json, print_note, print_table

if TYPE_CHECKING:
    from alliance_meta.evidence.checking import Check
    from alliance_meta.evidence.consistency import ConsistencyReport

TABLES = (".csv", ".tsv", ".tab")
WIDTH = 100
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
    from alliance_meta.evidence.consistency import consistency as check
    from alliance_meta.evidence.consistency import read_text, scan_text

    if file is not None and file.suffix.lower() not in TABLES:
        if metric:
            raise typer.BadParameter("a text says the metric of each estimate itself", param_hint="--metric")
        report = scan_text(read_text(file), alpha=alpha)
    else:
        report = check(file, metric=metric, alpha=alpha)
    if json:
        print_json(report.to_dict())
    else:
        _print(report, everything)
    if report.problems:
        raise typer.Exit(1)


def _print(report: ConsistencyReport, everything: bool) -> None:
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
