"""``alliance-meta check``: every problem of a coding sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from alliance_meta.cli.options import JsonOption, MeasureOption, NiOption, RiOption
from alliance_meta.cli.output import print_json, print_note

if TYPE_CHECKING:
    from alliance_meta.effects.examine import Reading
    from alliance_meta.options import Measure


def check(
    file: Annotated[Path, typer.Argument(help="A coding sheet (CSV, TSV, text).", show_default=False)],
    ri: RiOption = None,
    ni: NiOption = None,
    measure: MeasureOption = "ZCOR",
    json: JsonOption = False,
) -> None:
    """List every problem of a coding sheet.

    Errors must be mended before the sheet can be used; suspicions are possible and look like mistakes.
    """
    from alliance_meta.effects.examine import examine

    reading = examine(file, ri=ri, ni=ni, measure=cast("Measure", measure))
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
        "errors": [problem.to_dict() for problem in reading.errors],
        "suspicions": [problem.to_dict() for problem in reading.suspicions],
        "notes": [note.to_dict() for note in reading.notes],
    }


def _print(reading: Reading) -> None:
    from alliance_meta.errors import problem_lines

    for note in reading.notes:
        print_note(note.message)
    if reading.table is not None:
        columns = ", ".join(reading.table.columns)
        typer.echo(f"{reading.source}: {reading.table.k} rows, {len(reading.table.columns)} columns ({columns})")
    for problems, word in ((reading.errors, "error"), (reading.suspicions, "suspicion")):
        if problems:
            typer.echo(f"{len(problems)} {word}{'s' if len(problems) > 1 else ''}:")
            for line in problem_lines(problems):
                typer.echo(f"  {line}")
    if not reading.problems:
        typer.echo("no problem found")
