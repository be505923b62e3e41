"""``alliance-meta template`` and ``alliance-meta codebook``: blank sheets, and what their columns mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alliance_meta.cli.output import print_json, print_note, shown_path


def template(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A published meta-analysis to rebuild: horvath2011, martin2000, alldredge2021, ...", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to; NAME (or coding) here by default.")
    ] = None,
) -> None:
    """Write a blank coding sheet: CSV, Excel with drop-down lists, datapackage and codebook.

    With the name of a published meta-analysis its printed result goes along, and `alliance-meta reproduce` on the
    typed sheet says whether it comes out.
    """
    from alliance_meta.effects.contract.description import PACKAGE
    from alliance_meta.effects.contract.template import write_template

    folder = out or Path(name or "coding")
    paths = write_template(folder, name)
    for path in paths:
        typer.echo(shown_path(path))
    if name is not None and not _has_result(folder / PACKAGE):
        print_note(f"{name} prints no pooled r to compare with")


def codebook(
    column: Annotated[str | None, typer.Argument(help="One column, with every word.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the JSON Schema of one row.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print what the columns of a coding sheet mean and which words they may hold."""
    from alliance_meta.effects.contract.codebook import as_markdown, as_text, column_as_text, column_of
    from alliance_meta.effects.contract.schema import CONTRACT, json_schema

    if json:
        print_json(json_schema(CONTRACT))
    elif markdown:
        typer.echo(as_markdown(CONTRACT), nl=False)
    elif column is not None:
        typer.echo(column_as_text(column_of(column)))
    else:
        typer.echo(as_text(CONTRACT))


def _has_result(path: Path) -> bool:
    from json import loads

    return bool(loads(path.read_text(encoding="utf-8"))["alliance_meta"]["published"])
