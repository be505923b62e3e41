"""``alliance-meta report`` and ``new-report``: building declared reports, and beginning one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from alliance_meta.cli.options import print_note, shown_path, takes_sheet
from alliance_meta.errors import AllianceMetaError

LOOK_AGAIN = 0.5


def report(
    file: Annotated[Path, typer.Argument(help="The declaration, reports/NAME.toml.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write to; build/NAME beside the declaration by default."),
    ] = None,
    formats: Annotated[
        str | None, typer.Option(metavar="LIST", help="html, pdf, docx, figures, tables, methods; all by default.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Build again whenever the declaration or a sheet changes.")
    ] = False,
) -> None:
    """Build a declared report.

    Runs the analyses, writes results.json, and from it the pages, figures, tables and the methods text.
    """
    wanted = None if formats is None else [word for word in formats.replace(",", " ").split() if word]
    if not watch or not file.is_file():
        _build(file, out, wanted)
        return
    try:
        for _ in _changes(file):
            try:
                _build(file, out, wanted)
            except AllianceMetaError as error:
                print_note(str(error), word="error")
            print_note("watching; Ctrl-C ends it")
    except KeyboardInterrupt:
        return


def _build(file: Path, out: Path | None, formats: list[str] | None) -> None:
    from alliance_meta.reporting.build import build_report

    with _progress() as say:
        built = build_report(file, out=out, formats=formats, say=say)
    for note in built.notes:
        print_note(note.message)
    for path in built:
        typer.echo(shown_path(path))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done; nothing where the output is no terminal."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        yield lambda step: status.update(step)


def _changes(file: Path) -> Iterator[None]:
    """Yield at once, and whenever the declaration or what it reads has changed."""
    seen: object = None
    while True:
        now = _stamps(file)
        if now != seen:
            seen = now
            yield
        time.sleep(LOOK_AGAIN)


def _stamps(file: Path) -> list[tuple[str, int | None]]:
    from alliance_meta.reporting.declaration import inputs, read_declaration

    try:
        others = [file.parent / name for name in inputs(read_declaration(file))]
    except AllianceMetaError:
        others = []
    return [(str(path), _stamp(path)) for path in (file, *others)]


def _stamp(path: Path) -> int | None:
    """Return when a file was changed; None while it is not there, as editors write a new one in its place."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@takes_sheet
def new_report(
    name: Annotated[str, typer.Argument(help="Name of the report.", show_default=False)],
    data: Annotated[
        str, typer.Option(metavar="FILE", help="A coding sheet, or a shipped data set.", show_default=False)
    ],
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the declaration is written.")] = Path("reports"),
    lang: Annotated[str, typer.Option(metavar="TAG", help="Language of the report's own words: en or de.")] = "en",
    *,
    naming: dict[str, Any],
) -> None:
    """Write a first declaration of a report on a sheet, with comments, chosen by what is in it."""
    from alliance_meta.reporting.starter import new_report as begin

    path = shown_path(begin(name, data, folder=folder, lang=lang, **naming))
    typer.echo(path)
    print_note(f"build it with: alliance-meta report {path}")
