"""``alliance-meta check``: every problem of a coding sheet."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alliance_meta.cli.options import JsonOption, takes_sheet
from alliance_meta.cli.output import print_json, print_note, print_table

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.contents import Contents
    from alliance_meta.effects.sheet.examine import Reading

WIDTH = 100


@takes_sheet
def check(
    file: Annotated[Path, typer.Argument(help="A coding sheet (Excel, CSV, TSV, text).", show_default=False)],
    *,
    naming: dict[str, Any],
    strict: Annotated[
        bool, typer.Option("--strict", help="Also demand the required columns of the contract, filled in every row.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List every problem of a coding sheet, and what is in it.

    Errors must be mended before the sheet can be used; suspicions are possible and look like mistakes. Columns with
    the names of the coding contract (`alliance-meta codebook`) are held against it; a datapackage.json beside the
    sheet may widen its vocabularies.
    """
    from alliance_meta.effects.sheet.examine import examine

    reading = examine(file, hold="strict" if strict else "check", **naming)
    if json:
        print_json(_document(reading))
    else:
        _print(reading)
    if reading.errors:
        raise typer.Exit(1)


def _document(reading: Reading) -> dict[str, object]:
    return {
        "source": reading.source,
        "rows": None if reading.table is None else reading.table.k,
        "contents": None if reading.contents is None else reading.contents.to_dict(),
        "errors": [problem.to_dict() for problem in reading.errors],
        "suspicions": [problem.to_dict() for problem in reading.suspicions],
        "notes": [note.to_dict() for note in reading.notes],
    }


def _print(reading: Reading) -> None:
    from alliance_meta.errors import problem_lines

    for note in reading.notes:
        print_note(note.message)
    if reading.contents is not None:
        _print_contents(reading.source, reading.contents)
    for problems, word in ((reading.errors, "error"), (reading.suspicions, "suspicion")):
        if problems:
            typer.echo(f"{len(problems)} {word}{'s' if len(problems) > 1 else ''}:")
            for line in problem_lines(problems):
                typer.echo(f"  {line}")
    if not reading.problems:
        typer.echo("no problem found")


def _print_contents(source: str, contents: Contents) -> None:
    typer.echo(f"{source}: {contents.sentence}")
    filled = [column for column in contents.columns if column.filled]
    rows = [(column.name, column.kind, str(column.filled), column.summary) for column in filled]
    print_table(rows, header=("column", "holds", "filled", "values"), indent="  ")
    lists = (
        ("empty", [column.name for column in contents.columns if not column.filled]),
        ("required by the contract and not here", contents.lacks_required),
        ("advised by the contract and not here", contents.lacks_advised),
    )
    for words, names in lists:
        if names:
            text = f"{words}: {', '.join(names)}"
            typer.echo(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    "))
    typer.echo("")
