"""``alliance-meta report``: from a declaration to its folder of results, pages and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alliance_meta.cli.output import print_note, shown_path


def report(
    file: Annotated[Path, typer.Argument(help="The declaration, reports/NAME.toml.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write to; build/NAME beside the declaration by default."),
    ] = None,
    formats: Annotated[
        str | None, typer.Option(metavar="LIST", help="html, pdf, figures, tables, methods; all by default.")
    ] = None,
) -> None:
    """Build a declared report.

    Runs the analyses, writes results.json, and from it the pages, figures, tables and the methods text.
    """
    from alliance_meta.reporting.build import build_report

    wanted = None if formats is None else [word for word in formats.replace(",", " ").split() if word]
    built = build_report(file, out=out, formats=wanted)
    for note in built.notes:
        print_note(note.message)
    for path in built:
        typer.echo(shown_path(path))
