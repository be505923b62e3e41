"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alliance_meta import __version__
from alliance_meta.cli import bias, data, evidence, exchange, fit, sensitivity, sheets
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


EPILOG = "Exit codes: 0 done, 1 problems in the input, 2 could not run."

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    epilog=EPILOG,
    help="Meta-analysis of study-level correlations between the therapeutic alliance and outcome.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"alliance-meta {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None: ...


app.add_typer(data.app, name="data")
app.command("bias")(bias.bias)
app.command("check")(sheets.check)
app.command("codebook")(sheets.codebook)
app.command("claims")(evidence.claims)
app.command("consistency")(evidence.consistency)
app.command("convert")(sheets.convert)
app.command("deposit")(exchange.deposit)
app.command("diff")(exchange.diff)
app.command("export")(exchange.export)
app.command("fit")(fit.fit)
app.command("match")(evidence.match)
app.command("read")(exchange.read)
app.command("report")(report)
app.command("reproduce")(evidence.reproduce)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("template")(sheets.template)
