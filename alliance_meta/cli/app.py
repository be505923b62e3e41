"""The commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from alliance_meta import __version__
from alliance_meta.cli import data, evidence, explore, fit, reports, sheets

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
app.command("bias")(fit.bias)
app.command("check")(sheets.check)
app.command("codebook")(sheets.codebook)
app.command("claims")(evidence.claims)
app.command("consistency")(evidence.consistency)
app.command("convert")(sheets.convert)
app.command("deposit")(sheets.deposit)
app.command("diff")(sheets.diff)
app.command("explore")(explore.explore)
app.command("export")(sheets.export)
app.command("fit")(fit.fit)
app.command("match")(evidence.match)
app.command("new-report")(reports.new_report)
app.command("read")(sheets.read)
app.command("report")(reports.report)
app.command("reproduce")(evidence.reproduce)
app.command("sensitivity")(fit.sensitivity)
app.command("template")(sheets.template)
