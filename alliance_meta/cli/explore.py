"""``alliance-meta explore``: one page on this computer, on which estimate, forest and funnel follow every choice."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from alliance_meta.cli.options import print_note, takes_sheet

PORT = 8642


@takes_sheet
def explore(
    source: Annotated[
        str | None,
        typer.Argument(help="A coding sheet, or the name of a shipped data set.", show_default=False),
    ] = None,
    *,
    naming: dict[str, Any],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes one that is free.")] = PORT,
) -> None:
    """Serve a page on which a reader leaves out rows and changes the model, and sees the answer move.

    It is reached from this computer only, loads nothing from elsewhere, and ends with Ctrl-C. The data sets that come
    with the package can be chosen beside the sheet.

    For example: alliance-meta explore coding.csv
    """
    from alliance_meta.cli.explorer.answers import Explorer
    from alliance_meta.cli.explorer.server import Server
    from alliance_meta.errors import InputError

    if source is None and naming:
        raise InputError("options that name columns are of a sheet; name the sheet first")
    explorer = Explorer(source, naming)
    if source is not None:
        _, notes = explorer.read(source)
        for note in notes:
            print_note(note)
    with Server(explorer, port) as server:
        try:
            typer.echo(f"Explore at {server.url} (Ctrl-C ends it)")
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")
